import type { Shape, Values } from '../config/setting.ts';
import type { Http, HttpOptions, ListRequest, Request } from '../http/client.ts';
import type { Page } from '../http/page.ts';
import { type Paginator, paginator, type Query } from '../http/paginate.ts';
import type { Split } from '../http/records.ts';
import type { Rule } from '../http/retry.ts';
import type { Json, JsonObject } from '../json.ts';

/** What every resource tells of itself. */
export interface ResourceFacts {
  /** One clause: what its records are. */
  readonly about: string;
  /** Dotted path, or paths, whose values together tell records apart. */
  readonly id?: string | readonly string[];
  /** The least permission that reads it. */
  readonly needs?: string;
  /** `snapshot` (the default): the whole set. `events`: what is new since the last run. */
  readonly kind?: 'snapshot' | 'events';
  /** Dotted paths of fields that are secrets and never stored; `*` is any key and any element, `*token*` any key with the word. */
  readonly secrets?: readonly string[];
  /** Several records may share an id, so repeats are no sign of a repeated page. */
  readonly repeats?: true;
  /** Rules that come before the collector's. */
  readonly errors?: readonly Rule[];
}

/** A list at an endpoint. */
export interface Listing<V> extends ResourceFacts {
  /** Path under the base URL. */
  readonly path: string;
  readonly method?: 'GET' | 'POST';
  readonly query?: Query | ((settings: V) => Query);
  readonly body?: Json | ((settings: V) => Json);
  readonly headers?: Readonly<Record<string, string>>;
  /** Dotted path of the records in the body; absent: the body is the list. */
  readonly records?: string;
  /** The whole body is one record. */
  readonly single?: true;
  /** Takes the records out of a body that is no JSON. */
  readonly split?: Split;
  /** A body without the list means no records. */
  readonly absent?: 'empty';
  /** Paging, where it is not the collector's usual one; `null` for a list that has one page. */
  readonly paginate?: Paginator | null;
  /** Path of the number of records the vendor declares, or the header that holds it; of children per parent. */
  readonly total?: string | { readonly header: string };
  /** Share by which the declared total may move while the list is read. */
  readonly drift?: number;
}

/** A list per record of another resource: `{name}` in the path is that record's field. */
export interface Children<V> extends Listing<V> {
  readonly each: string;
  /** What each record keeps of its parent: new field -> dotted path in the parent. */
  readonly keep?: Readonly<Record<string, string>>;
  /** Parents that have none. */
  readonly where?: (parent: JsonObject, settings: V) => boolean;
}

/** What is no table: a generator of pages, or of records made here. */
export interface Custom<V> extends ResourceFacts {
  /** The endpoint, for `explain` and the plan. */
  readonly path: string;
  readonly method?: 'GET' | 'POST';
  /** Another resource it reads through `parents`. */
  readonly each?: string;
  /** Whether the settings want it; without it, always. */
  readonly when?: (settings: V) => boolean;
  /** Fields it adds to the vendor's records, `_name` -> what it is. */
  readonly adds?: Readonly<Record<string, string>>;
  /** It goes on from `context.from` when the run before was killed; each of its pages says where in `next`. */
  readonly resumes?: true;
  /** A cheap call that needs the same permission: what `doctor` tries instead of an export. */
  readonly probe?: Request;
  collect(context: Context<V>): AsyncIterable<Page | readonly JsonObject[]>;
}

/** One dataset a collector can bring. */
export type Resource<V> = Listing<V> | Children<V> | Custom<V>;

/** Where reading events has come to: kept per tenancy and dataset, moved once every store has the data. */
export interface Cursor {
  /** What the last run saved; undefined at first and with `--full`. */
  read(): Promise<Json | undefined>;
  save(value: Json): void;
}

/** How far behind what was written reading is. */
export interface Lag {
  readonly bytes: number;
  /** Where they were counted. */
  readonly lines?: number;
  /** Between the last reading and the newest of them, where that is known. */
  readonly seconds?: number;
}

/** What a generator works with. */
export interface Context<V> {
  readonly settings: V;
  readonly http: Http;
  readonly signal: AbortSignal;
  /** The run's start. */
  readonly at: Date;
  /** The `next` of the last page that an interrupted run has kept; undefined to begin at the start. */
  readonly from: Json | undefined;
  /** The records of the resource named in `each`. */
  parents(): AsyncIterable<JsonObject>;
  /** Tells how many records the vendor declared; fewer is incomplete. */
  expect(records: number): void;
  readonly cursor: Cursor;
  /** Tells of records that the settings leave out. */
  leaveOut(records: number): void;
  /** Tells how to measure how far behind reading is, once it is known whether the cursor has moved. */
  behind(measure: (moved: boolean) => Promise<Lag>): void;
  /** Waits, for an export's poll. */
  sleep(seconds: number): Promise<void>;
  warn(message: string): void;
}

/** A vendor's room. */
export interface Collector<S extends Shape = Shape> {
  readonly name: string;
  readonly title: string;
  readonly docs: string;
  readonly env: S;
  /** Other names of its variables, alias -> name. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** How its API is spoken to; a collector without one reads something else. */
  readonly http?: (settings: Values<S>) => HttpOptions;
  readonly errors?: readonly Rule[];
  readonly resources: Readonly<Record<string, Resource<Values<S>>>>;
}

/** Checks a collector's types; returns it. */
export function defineCollector<const S extends Shape>(collector: Collector<S>): Collector<S> {
  return collector;
}

/** Whether a resource is a generator. */
export function isCustom<V>(resource: Resource<V>): resource is Custom<V> {
  return 'collect' in resource;
}

/** The resource whose records this one needs, if any. */
export function parentOf<V>(resource: Resource<V>): string | undefined {
  return 'each' in resource ? resource.each : undefined;
}

/** The name of a dataset in files, tables, keys, logs and docs. */
export function tagOf(collector: string, resource: string): string {
  return resource === collector ? collector : `${collector}_${resource}`;
}

/** The identity paths of a resource. */
export function idOf<V>(resource: Resource<V>): readonly string[] {
  if (resource.id === undefined) return [];
  return typeof resource.id === 'string' ? [resource.id] : resource.id;
}

const onePage = paginator('one page', () => undefined);

/** A listing's call. */
export function requestOf<V>(listing: Listing<V>, settings: V): ListRequest {
  const query = typeof listing.query === 'function' ? listing.query(settings) : listing.query;
  const body = typeof listing.body === 'function' ? listing.body(settings) : listing.body;
  return {
    path: listing.path,
    method: listing.method ?? 'GET',
    repeatable: true,
    records: listing.records ?? '',
    ...(query === undefined ? {} : { query }),
    ...(body === undefined ? {} : { body }),
    ...(listing.errors === undefined ? {} : { errors: listing.errors }),
    ...(listing.headers === undefined ? {} : { headers: listing.headers }),
    ...(listing.absent === undefined ? {} : { absent: listing.absent }),
    ...(listing.single === undefined ? {} : { single: listing.single }),
    ...(listing.split === undefined ? {} : { split: listing.split }),
    ...(listing.paginate === undefined ? {} : { paginate: listing.paginate ?? onePage }),
  };
}
