import type { Shape, Values } from '../config/setting.ts';
import type { Metadata } from '../envelope/metadata.ts';
import type { Spool } from '../envelope/spool.ts';
import type { TemplateValues } from '../templating/template.ts';

/** Whether a dataset is the whole set, replaced by each run, or what is new since the last one. */
export type Kind = 'snapshot' | 'events';

/** One dataset of one run: whole, on disk, readable any number of times and by several stores at once. */
export interface Dataset {
  /** `<collector>_<resource>`: the word in files, tables, keys and logs; matches `^[a-z][a-z0-9_]{0,62}$`. */
  readonly tag: string;
  readonly kind: Kind;
  readonly metadata: Metadata;
  readonly spool: Spool;
  /** Dotted paths that together identify a record, where the vendor has such. */
  readonly id: readonly string[];
  /**
   * To be called right before the dataset becomes what readers see.
   * @throws {CollectError} locked when this run may no longer change anything
   */
  confirm(): Promise<void>;
}

/** Where a dataset was put. */
export interface Written {
  /** The target as a person would look for it: a path, `s3://bucket/key`, `schema.table`. Never a credential. */
  readonly at: string;
  readonly records: number;
  /** SHA-256 of what was written, in hex, where it is one file or object. */
  readonly sha256?: string;
}

/** The upload a store holds of a dataset. */
export interface Held {
  readonly upload_id: string;
  readonly timestamp: string;
}

/** A copy kept for a bad day. */
export interface Backup {
  /** Replaces the copy of this dataset; called last, with complete data only. */
  save(dataset: Dataset): Promise<Written>;
  /** Keeps a small text beside the copies. */
  note(name: string, text: string): Promise<void>;
  /** The copy as the bytes of an envelope (not compressed), or undefined when there is none yet. */
  load(names: TemplateValues): Promise<{ readonly at: string; readonly body: AsyncIterable<Uint8Array> } | undefined>;
}

/** An open store. */
export interface Sink {
  /** Stores the dataset whole or throws, leaving what was there; the same upload twice counts once. */
  write(dataset: Dataset): Promise<Written>;
  /** The newest upload held of a tag in this run's tenancy: a restored copy is never put over a newer one. */
  latest?(tag: string): Promise<Held | undefined>;
  /** Connects, writes, renames and deletes a probe; throws what stands in the way. */
  check?(): Promise<void>;
  close?(): Promise<void>;
  readonly backup?: Backup;
}

/** What a store may know of the run. */
export interface OpenContext {
  readonly tenancy: string;
  /** The run's start: the clock of templates. */
  readonly at: Date;
  /** Says something to the operator. */
  warn(message: string): void;
}

/** A destination. */
export interface Store<S extends Shape = Shape> {
  readonly name: string;
  readonly title: string;
  readonly docs: string;
  /** Its variables; the required ones switch it on. */
  readonly env: S;
  /** Other names of its variables, alias -> name. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** Variables of a worked example for the docs; no secrets. */
  readonly example?: Readonly<Record<string, string>>;
  /** The optional packages that it needs with these settings; a plan names those that are not installed. */
  packages?(settings: Values<S>): readonly string[];
  /**
   * Every place a dataset would be written to; two datasets with one target are refused before any vendor is called.
   * Undefined when the settings switch the store off. `id` is the dataset's, where a dataset is meant.
   * @throws {CollectError} config for a template that is not valid, or a dataset that cannot be stored so
   */
  targets(
    settings: Values<S>,
    kind: Kind,
    names: TemplateValues,
    id?: readonly string[],
  ): readonly string[] | undefined;
  open(settings: Values<S>, context: OpenContext): Promise<Sink>;
}

/** Checks a store's types; returns it. */
export function defineStore<S extends Shape>(store: Store<S>): Store<S> {
  return store;
}

/** The names a template may use for a dataset. A dataset of an interrupted run goes where that run would have put it. */
export function namesOf({ tag, metadata }: Dataset, context: OpenContext): TemplateValues {
  const at = metadata.stale === true ? context.at : new Date(metadata.timestamp);
  return { uuid: metadata.upload_id, tag, tenancy: context.tenancy, at };
}
