/** What a piece of work is told by, beside its name. */
export type Attributes = Readonly<Record<string, string | number | boolean>>;

/** A piece of work under way, for whoever follows where a run spends its time. */
export interface Span {
  /** A piece of it. */
  begin(name: string, attributes: Attributes): Span;
  /** Its end; an error says that it failed, never with what a vendor sent. */
  end(attributes?: Attributes, error?: string): void;
}

/** Work that nobody follows. */
export const unfollowed: Span = { begin: () => unfollowed, end: () => undefined };
