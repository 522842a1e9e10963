import { type Fault, type FaultName, FOREIGN, type PagingKind, type Reply } from './faults.ts';

/** A request, read. */
export interface Request {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
  /** Values of the path's `{names}`. */
  readonly params: Readonly<Record<string, string>>;
}

/** Records that are computed when asked for. */
export interface Records {
  readonly count: number;
  /** The JSON text of one. */
  at(index: number): string;
  /** The index of an id. */
  find?(id: string): number | undefined;
}

/** What a vendor's answer may tell beside the records. */
export interface Page {
  readonly request: Request;
  /** Where the page starts, and how many were asked for. */
  readonly start: number;
  readonly limit: number;
  /** Records of the whole list, as declared. */
  readonly total: number;
  /** The cursor or URL of the next page. */
  readonly next: string | undefined;
  /** Ids that are not known. */
  readonly missing: readonly string[];
}

/** An export that was asked for. */
export interface Job {
  readonly id: string;
  readonly path: string;
  /** Records of a chunk. */
  readonly size: number;
  polls: number;
  state: 'QUEUED' | 'PROCESSING' | 'FINISHED' | 'CANCELLED' | 'ERROR';
  /** What went wrong with it for good. */
  fault: Fault | undefined;
}

/** What a running vendor remembers from request to request. */
export interface Session {
  readonly origin: string;
  readonly scale: number;
  /** Most records on a page, whatever is asked for. */
  readonly pageSize: number;
  /** Variants of this vendor, by name. */
  readonly settings: Readonly<Record<string, string>>;
  /** Lists that are being paged through, each with where its scroll stands. */
  readonly passes: Map<string, number>;
  readonly jobs: Map<string, Job>;
  /** A new number each time. */
  serial(): number;
  /** A new token of this vendor. */
  issue(): string;
  /** The vendor's own error. */
  fail(status: number, what: string): Reply;
}

/** One request to answer. */
export interface Ask {
  readonly request: Request;
  readonly session: Session;
  readonly route: Pick<Route, 'wrap' | 'expired'>;
  readonly records: Records;
  readonly fault: Fault | undefined;
}

/** A way to hand out records. */
export interface Paging {
  readonly kind: PagingKind;
  /** Which page (from 1) a request asks for. */
  page(request: Request, session: Session): number;
  answer(ask: Ask): Reply;
}

/** What a vendor answers on a path. */
export interface Route {
  /** With `{name}` for a parameter. */
  readonly path: string;
  readonly method?: 'GET' | 'POST';
  /** The dataset it serves; `token` for the token endpoint. */
  readonly resource: string;
  readonly paging: Paging;
  /** Undefined when the path's parent is not known: 404. */
  records?(scale: number, request: Request): Records | undefined;
  /** Whether it declares a total. */
  readonly total?: boolean;
  /** Tells routes of one path apart. */
  when?(request: Request): boolean;
  /** Serves what leads to the records, not the records: no truth. */
  readonly leads?: true;
  /** Path parameters of every parent. */
  parents?(scale: number): Iterable<Readonly<Record<string, string>>>;
  /** The query that asks for whole records, for the truth. */
  readonly whole?: string;
  /** The body around the records' array. */
  wrap?(records: string, page: Page): string;
  /** The answer to a cursor that has died; without it 400. */
  expired?(request: Request): Reply;
}

/** Options of every paging kind with pages. */
export interface PageOptions {
  /** Most records a page may be asked for. */
  readonly max: number;
  /** Records of a page when nothing is asked for. */
  readonly fallback?: number;
  /** Name of the parameter that asks for a size. */
  readonly limit?: string;
  /** Whether more than `max` is refused rather than cut. */
  readonly strict?: boolean;
}

interface Place {
  readonly start: number;
  readonly pass?: string;
}

/** How a kind finds its place and leads on. */
interface Steps {
  readonly kind: PagingKind;
  readonly options: PageOptions;
  place(request: Request, session: Session, limit: number): Place | undefined;
  next?(ask: Ask, place: Place, to: number): { readonly next: string; readonly sent?: () => void };
  headers?(ask: Ask, next: string | undefined): Readonly<Record<string, string | readonly string[]>>;
}

function limitOf(request: Request, session: Session, options: PageOptions): number {
  const asked = Number(request.query.get(options.limit ?? 'limit') ?? options.fallback ?? options.max);
  return Math.min(Number.isInteger(asked) && asked > 0 ? asked : options.max, options.max, session.pageSize);
}

function paged(steps: Steps): Paging {
  const { kind, options, place } = steps;
  return {
    kind,
    page(request, session) {
      const limit = limitOf(request, session, options);
      return Math.floor((place(request, session, limit)?.start ?? 0) / limit) + 1;
    },
    answer(ask) {
      const { request, session } = ask;
      if (options.strict === true && Number(request.query.get(options.limit ?? 'limit') ?? 0) > options.max) {
        return session.fail(400, `limit is more than ${options.max}`);
      }
      const limit = limitOf(request, session, options);
      const found = place(request, session, limit);
      if (found !== undefined && ask.fault?.name === 'expired-cursor') session.passes.delete(found.pass ?? '');
      else if (found !== undefined) return pageReply(steps, ask, found, limit);
      return ask.route.expired?.(request) ?? session.fail(400, 'the after cursor is not valid or has expired');
    },
  };
}

/** Positions that a fault puts in place of the right ones. */
type Turns = Partial<Readonly<Record<FaultName, number>>>;

function pageReply(steps: Steps, ask: Ask, place: Place, limit: number): Reply {
  const { records, route, fault, request } = ask;
  const { start } = place;
  const end = Math.min(start + limit, records.count);
  const name = fault?.name ?? 'slow';
  const turns: Turns = {
    'empty-page': start,
    'same-page': start,
    'dropped-page': end + limit,
    'empty-list': records.count,
  };
  const shifts: Turns = {
    'repeated-page': Math.max(0, start - limit),
    'same-page': steps.next === undefined ? 0 : start,
  };
  const leadsTo = turns[name] ?? end;
  const shown = shifts[name] ?? start;
  const on = leadsTo < records.count && steps.next !== undefined ? steps.next(ask, place, leadsTo) : undefined;
  const next = name === 'foreign-next' ? on?.next.replace(/^http:\/\/[^/]+/, FOREIGN) : on?.next;
  const total = name === 'empty-list' ? 0 : records.count + (name === 'wrong-total' ? 7 : 0);
  const array = arrayOf(records, span(shown, Math.min(shown + limit, records.count)), fault);
  const page = { request, start, limit, total, next, missing: [] };
  return {
    status: 200,
    headers: steps.headers?.(ask, next) ?? {},
    body: route.wrap?.(array, page) ?? array,
    ...(on?.sent === undefined ? {} : { sent: on.sent }),
  };
}

/** The whole numbers from one to before another. */
export function span(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index);
}

/** Some records as an array's text, short or empty where a fault says so. */
export function arrayOf(records: Records, indexes: number[], fault: Fault | undefined): string {
  if (fault?.name === 'empty-page' || fault?.name === 'empty-list') return '[]';
  if (fault?.name === 'short-page')
    indexes.splice(Math.floor(indexes.length / 2), Math.max(1, Math.floor(indexes.length / 10)));
  return `[${indexes.map((index) => records.at(index)).join(',')}]`;
}

/** Finds a place by a cursor that holds its pass and its start; a pass that is not known any more is dead. */
function byCursor(name: string): Pick<Steps, 'place' | 'next'> {
  return {
    place(request, session) {
      const token = request.query.get(name) ?? '';
      if (token === '') return { start: 0 };
      const [pass = '', start = ''] = Buffer.from(token, 'base64url').toString().split(':');
      return session.passes.has(pass) && /^\d+$/.test(start) ? { start: Number(start), pass } : undefined;
    },
    next({ session }, { pass = `pass${session.serial()}` }, to) {
      session.passes.set(pass, to);
      return { next: Buffer.from(`${pass}:${to}`).toString('base64url') };
    },
  };
}

/** A cursor as the URL that leads on: everything that was asked, and the cursor. */
function asUrl(name: string): Pick<Steps, 'place' | 'next'> {
  const { place, next } = byCursor(name);
  return {
    place,
    next(ask, at, to) {
      const query = new URLSearchParams(ask.request.query);
      query.set(name, next?.(ask, at, to).next ?? '');
      return { next: `${ask.session.origin}${ask.request.path}?${query}` };
    },
  };
}

/** RFC 8288 links, self and next: in one header, or in two when the page is an even one. */
export function linkHeader(options: PageOptions & { readonly as?: string }): Paging {
  const steps = asUrl(options.as ?? 'after');
  const paging = paged({
    ...steps,
    kind: 'link',
    options,
    headers({ request, session }, next) {
      const query = request.query.size === 0 ? '' : `?${request.query}`;
      const self = `<${session.origin}${request.path}${query}>; rel="self"`;
      if (next === undefined) return { link: self };
      const links = [self, `<${next}>; rel="next"`];
      return { link: paging.page(request, session) % 2 === 0 ? links : links.join(', ') };
    },
  });
  return paging;
}

/** The next page's whole URL in the body: `page.next`. */
export function nextUrl(options: PageOptions & { readonly as?: string }): Paging {
  return paged({ ...asUrl(options.as ?? 'cursor'), kind: 'next-url', options });
}

/** An opaque cursor in the body, `page.next`, sent back as a parameter. */
export function cursor(options: PageOptions & { readonly as: string }): Paging {
  return paged({ ...byCursor(options.as), kind: 'cursor', options });
}

/** GraphQL relay: `first` and `after` stand among the variables of the JSON body, `page.next` is the end cursor. */
export function relay(options: PageOptions): Paging {
  const paging = cursor({ ...options, as: 'after', limit: 'first' });
  return {
    kind: 'cursor',
    page: (request, session) => paging.page(ofVariables(request), session),
    answer: (ask) => paging.answer({ ...ask, request: ofVariables(ask.request) }),
  };
}

/** A request with the plain variables of its GraphQL body as its query. */
function ofVariables(request: Request): Request {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(graphqlOf(request).variables)) {
    if (typeof value === 'string' || typeof value === 'number') query.set(name, String(value));
  }
  return { ...request, query };
}

/** What a GraphQL request asks. */
export function graphqlOf({ body }: Request): { readonly query: string; readonly variables: object } {
  try {
    const { query, variables } = JSON.parse(body) as { query?: unknown; variables?: unknown };
    const given = typeof variables === 'object' && variables !== null ? variables : {};
    return { query: typeof query === 'string' ? query : '', variables: given };
  } catch {
    return { query: '', variables: {} };
  }
}

/** A cursor that stays the same: the vendor remembers where its reader is. An answer that was cut off does not count. */
export function scroll(options: PageOptions & { readonly as: string }): Paging {
  return paged({
    kind: 'scroll',
    options,
    place({ query }, { passes }) {
      const pass = query.get(options.as) ?? '';
      if (pass === '') return { start: 0 };
      const start = passes.get(pass);
      return start === undefined ? undefined : { start, pass };
    },
    next({ session }, { start, pass = Buffer.from(`scroll-${session.serial()}`).toString('base64url') }, to) {
      if (!session.passes.has(pass)) session.passes.set(pass, start);
      return { next: pass, sent: () => session.passes.set(pass, to) };
    },
  });
}

/** So many records are skipped. */
export function offset(options: PageOptions & { readonly as: string }): Paging {
  return paged({ kind: 'offset', options, place: ({ query }) => skipped(Number(query.get(options.as) ?? 0)) });
}

/** Pages by number. */
export function pageNumber(options: PageOptions & { readonly as: string; readonly first?: number }): Paging {
  const { as, first = 1 } = options;
  return paged({
    kind: 'page',
    options,
    place: ({ query }, _, limit) => skipped((Number(query.get(as) ?? first) - first) * limit),
  });
}

function skipped(start: number): Place | undefined {
  return Number.isInteger(start) && start >= 0 ? { start } : undefined;
}

/** Everything in one answer. */
export function none(): Paging {
  return single('none', ({ records, route, request, fault }) => {
    const array = arrayOf(records, span(0, records.count), fault);
    const page = { request, start: 0, limit: records.count, total: records.count, next: undefined, missing: [] };
    return { status: 200, body: route.wrap?.(array, page) ?? array };
  });
}

/** An answer of a route's own making. */
export function single(kind: PagingKind, answer: (ask: Ask) => Reply): Paging {
  return { kind, page: () => 1, answer };
}

/** The records of the ids asked for, in a JSON body's `ids` or repeated in the query. Ids that are not known make it a 404. */
export function ids({ max }: { readonly max: number }): Paging {
  return single('ids', ({ request, session, records, route, fault }) => {
    const asked = request.method === 'POST' ? idsIn(request.body) : request.query.getAll('ids');
    if (asked === undefined || asked.length === 0) return session.fail(400, 'ids are mandatory');
    if (asked.length > max) return session.fail(400, `more than ${max} ids`);
    const found = asked.map((id) => records.find?.(id));
    const missing = asked.filter((_, index) => found[index] === undefined);
    const array = arrayOf(records, found.filter((index) => index !== undefined && index >= 0) as number[], fault);
    const page = { request, start: 0, limit: asked.length, total: asked.length, next: undefined, missing };
    return { status: missing.length > 0 ? 404 : 200, body: route.wrap?.(array, page) ?? array };
  });
}

function idsIn(body: string): string[] | undefined {
  try {
    const { ids: list } = JSON.parse(body) as { ids?: unknown };
    return Array.isArray(list) ? list.map(String) : undefined;
  } catch {
    return undefined;
  }
}
