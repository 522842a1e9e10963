import { setMaxListeners } from 'node:events';
import type { Dispatcher } from 'undici';
import { CollectError } from '../errors.ts';
import { at, type Json, numberAt, textAt } from '../json.ts';
import type { Answer, Auth } from './auth.ts';
import { readAnswer, readPage } from './body.ts';
import { Caller } from './call.ts';
import { type Asked, type Place, readList } from './list.ts';
import type { Clock, Headers, Pace } from './pace.ts';
import { type Page, PageBuffer } from './page.ts';
import type { Next, Paginator, Query } from './paginate.ts';
import type { Split } from './records.ts';
import type { Rule } from './retry.ts';

/** What a collector tells of its vendor's API. */
export interface HttpOptions {
  readonly baseUrl: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly auth?: Auth;
  /** The paging of its lists, unless a list has another. */
  readonly paginate?: Paginator;
  readonly pace?: Pace | readonly Pace[];
  /** Requests at once, where the vendor allows fewer than the program. */
  readonly concurrency?: number;
  /** Hosts (with their subdomains) that redirects and next links may lead to with credentials. */
  readonly trusted?: readonly string[];
  /** Further base URLs of the vendor, which calls may name in full. */
  readonly others?: readonly URL[];
  /** Rules that depend on the settings; they come before the collector's. */
  readonly errors?: readonly Rule[];
  /** Seconds to the headers of an answer, where a setting of the collector says so. */
  readonly timeout?: number;
}

/** What the program decides for every vendor. */
export interface ClientSettings {
  readonly dispatcher: Dispatcher;
  /** Folder for pages too large for memory. */
  readonly scratch: string;
  readonly userAgent: string;
  readonly concurrency: number;
  /** 0 to 0.9 */
  readonly headroom: number;
  /** Bytes. */
  readonly maxBody: number;
  readonly maxRecord: number;
  readonly maxPages: number;
  /** Whether plain http to other hosts than loopback is allowed. */
  readonly allowHttp: boolean;
  /** Epoch milliseconds. */
  readonly deadline?: number;
  readonly clock?: Clock;
  /** Sees the headers of every answer. */
  readonly observe?: (headers: Headers) => void;
}

/** One call. */
export interface Request {
  /** Path under the base URL, or a URL of the same origin. */
  readonly path: string;
  readonly method?: 'GET' | 'POST' | 'PUT';
  readonly query?: Query;
  readonly headers?: Readonly<Record<string, string>>;
  /** JSON body. */
  readonly body?: Json;
  readonly form?: Readonly<Record<string, string>>;
  /** Whether a call that is no GET may be sent again when its answer did not arrive. */
  readonly repeatable?: boolean;
  /** Statuses beside 2xx that `json` hands back as answers. */
  readonly accept?: readonly number[];
  /** Rules that come before the collector's. */
  readonly errors?: readonly Rule[];
}

/** A call whose answer holds records. */
export interface ListRequest extends Request {
  /** Dotted path of the records; '' when the body is the list. */
  readonly records: string;
  readonly paginate?: Paginator;
  /** A body without the list means no records; otherwise it is an error. */
  readonly absent?: 'empty';
  /** The body is one record. */
  readonly single?: true;
  /** Takes the records out of a body that is no JSON. */
  readonly split?: Split;
  /** Goes on behind a page of an earlier reading: that page's `next`. */
  readonly from?: Json;
  readonly edit?: (record: Uint8Array) => Uint8Array;
}

/** Counts what a dataset costs, as it happens. */
export interface Meter {
  requests: number;
  retries: number;
  waited_ms: number;
  bytes: number;
  /** Epoch milliseconds until which the vendor makes us wait. */
  waitingUntil?: number;
}

/** A vendor's API as a collector sees it. */
export interface Http {
  readonly concurrency: number;
  /** A small answer, parsed. */
  json(request: Request): Promise<Answer>;
  /** One page of records. */
  page(request: ListRequest): Promise<Page>;
  /** A whole list, page by page. */
  pages(request: ListRequest): AsyncGenerator<Page>;
}

/** The one client of a collector: its requests share a pace, credentials and the vendor's rules. */
export class Client {
  readonly concurrency: number;
  readonly #options: HttpOptions;
  readonly #settings: ClientSettings;
  readonly #caller: Caller;

  constructor(options: HttpOptions, settings: ClientSettings, rules: readonly Rule[]) {
    this.concurrency = Math.min(options.concurrency ?? settings.concurrency, settings.concurrency);
    this.#options = options;
    this.#settings = settings;
    this.#caller = new Caller(options, settings, rules, this.concurrency);
  }

  /** The API as one dataset uses it. */
  http(meter: Meter, signal: AbortSignal): Http {
    setMaxListeners(0, signal); // every request that waits or is under way listens
    return {
      concurrency: this.concurrency,
      json: async (request) => {
        const answer = await this.#caller.call({ request, url: this.#url(request), meter, signal, read: readAnswer });
        return answer ?? { status: 404, headers: {}, body: null };
      },
      page: (request) => this.#page({ request, url: this.#url(request) }, meter, signal),
      pages: (request) => this.#pages(request, meter, signal),
    };
  }

  /** `heard` is told the headers of an answer; what it returns comes before the body. */
  async #page(
    { request, url }: Asked,
    meter: Meter,
    signal: AbortSignal,
    heard?: (headers: Headers) => Promise<void> | undefined,
  ): Promise<Page> {
    const page = await this.#caller.call({
      request,
      url,
      meter,
      signal,
      read: async (incoming) => {
        await heard?.(incoming.headers);
        return readPage(incoming, request, this.#settings);
      },
    });
    return (
      page ?? (await new PageBuffer('').finish({ records: 0, found: true, url, status: 404, headers: {}, body: null }))
    );
  }

  async *#pages(request: ListRequest, meter: Meter, signal: AbortSignal): AsyncGenerator<Page> {
    const own = new AbortController();
    const both = AbortSignal.any([signal, own.signal]);
    setMaxListeners(0, both);
    const early = new Set<Page>(); // asked for ahead, and not handed on yet
    const page = async (asked: Asked, heard: (headers: Headers) => Promise<void> | undefined) => {
      const read = await this.#page(asked, meter, both, heard);
      if (both.aborted) {
        await read.discard();
        throw both.reason; // a page without its records must come to nobody
      }
      early.add(read);
      return read;
    };
    try {
      const source = {
        paginate: request.paginate ?? this.#options.paginate,
        concurrency: this.concurrency,
        maxPages: this.#settings.maxPages,
        page,
        follow: (asked: Asked, next: Next) => this.#follow(asked, next),
      };
      const from = request.from === undefined ? undefined : resumed(request.from);
      const url = from === undefined ? this.#url(request) : new URL(from.url);
      this.#caller.assertOurs(url, 'the place to go on from');
      const body = from?.body === undefined ? {} : { body: from.body };
      for await (const read of readList(source, { request: { ...request, ...body }, url }, from?.records ?? 0)) {
        early.delete(read);
        yield read;
      }
    } finally {
      own.abort(new CollectError('aborted', 'the list is no longer wanted'));
      for (const read of early) await read.discard();
    }
  }

  #follow({ request, url }: Asked, next: Next): Asked {
    if ('body' in next) return { request: { ...request, body: next.body }, url };
    const to = new URL('url' in next ? next.url : url, url);
    if ('query' in next) setQuery(to, next.query);
    this.#caller.assertOurs(to, 'the next link');
    return { request, url: to };
  }

  #url(request: Request): URL {
    const url = this.#caller.resolve(request.path);
    this.#caller.assertOurs(url, 'the request');
    setQuery(url, request.query ?? {});
    return url;
  }
}

/** @throws {CollectError} expired when it is no place that a page named, or an old one */
function resumed(from: Json): Place {
  const url = textAt(from, 'url');
  const until = numberAt(from, 'until') ?? 0;
  if (url === undefined || Date.now() > until) {
    throw new CollectError('expired', 'the vendor no longer knows where the interrupted reading stopped');
  }
  return { url, body: at(from, 'body'), records: numberAt(from, 'records') ?? 0, until };
}

function setQuery(url: URL, query: Query): void {
  for (const [name, value] of Object.entries(query)) {
    url.searchParams.delete(name);
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== undefined) url.searchParams.append(name, String(item));
    }
  }
}
