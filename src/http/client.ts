import { type Dispatcher, request as send } from 'undici';
import { gunzip, limited } from '../envelope/encoding.ts';
import { CollectError } from '../errors.ts';
import type { Json } from '../json.ts';
import type { Answer, Auth, Exchange } from './auth.ts';
import { networkError } from './dispatcher.ts';
import { type Clock, type Headers, header, type Pace, Pacer, systemClock } from './pace.ts';
import { type Page, PageBuffer } from './page.ts';
import type { Next, Paginator, Query } from './paginate.ts';
import { RecordSplitter } from './records.ts';
import { backoff, classify, isPassing, type Rule, resetAt, retryAfter, type Verdict } from './retry.ts';

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

/** An answer whose body is still to come. */
interface Incoming {
  readonly status: number;
  readonly headers: Headers;
  readonly url: URL;
  readonly body: AsyncIterable<Uint8Array>;
}

/** What a reader makes of a good answer, and the JSON that rules look at. */
interface Read<T> {
  readonly value: T;
  readonly body: Json;
}

type Tried<T> =
  | { readonly value: T }
  | {
      readonly verdict: Verdict;
      readonly error: CollectError;
      readonly lasting?: boolean;
      readonly at?: number | undefined;
    };

const MAX_TRIES = 8;
const LASTING_TRIES = 3;
const ERROR_TEXT = 64 * 1024;
const JSON_TEXT = 64 * 2 ** 20;
const MAX_REDIRECTS = 5;

/** The one client of a collector: its requests share a pace, credentials and the vendor's rules. */
export class Client {
  #successes = 0;
  readonly #options: HttpOptions;
  readonly #settings: ClientSettings;
  readonly #rules: readonly Rule[];
  readonly #pacer: Pacer;
  readonly #paces: readonly Pace[];
  readonly #clock: Clock;

  constructor(options: HttpOptions, settings: ClientSettings, rules: readonly Rule[]) {
    this.#options = options;
    this.#settings = settings;
    this.#rules = rules;
    this.#clock = settings.clock ?? systemClock;
    this.#paces = options.pace === undefined ? [] : 'length' in options.pace ? options.pace : [options.pace];
    this.#pacer = new Pacer(this.#paces, {
      concurrency: this.concurrency,
      headroom: settings.headroom,
      clock: this.#clock,
      ...(settings.deadline === undefined ? {} : { deadline: settings.deadline }),
    });
  }

  get concurrency(): number {
    return Math.min(this.#options.concurrency ?? this.#settings.concurrency, this.#settings.concurrency);
  }

  /** The API as one dataset uses it. */
  http(meter: Meter, signal: AbortSignal): Http {
    return {
      concurrency: this.concurrency,
      json: (request) => this.#json(request, meter, signal),
      page: (request) => this.#page(request, this.#url(request), meter, signal),
      pages: (request) => this.#pages(request, meter, signal),
    };
  }

  async #json(request: Request, meter: Meter, signal: AbortSignal): Promise<Answer> {
    const url = this.#url(request);
    const answer = await this.#call(request, url, meter, signal, readAnswer);
    return answer ?? { status: 404, headers: {}, body: null };
  }

  /** `early` hears of the headers of the answer that is being read. */
  async #page(
    request: ListRequest,
    url: URL,
    meter: Meter,
    signal: AbortSignal,
    early?: (headers: Headers) => void,
  ): Promise<Page> {
    const page = await this.#call(request, url, meter, signal, async (incoming): Promise<Read<Page>> => {
      early?.(incoming.headers);
      const value = await readPage(incoming, request, this.#settings);
      return { value, body: value.body };
    });
    return page ?? (await new PageBuffer('').finish({ records: 0, url, status: 404, headers: {}, body: null }));
  }

  async *#pages(request: ListRequest, meter: Meter, outer: AbortSignal): AsyncGenerator<Page> {
    const paginate = request.paginate ?? this.#options.paginate;
    const own = new AbortController();
    const signal = AbortSignal.any([outer, own.signal]);
    const seen = new Set<string>();
    let total = 0;
    let count = 0;
    const arrived = (page: Page, asked: Asked): void => {
      count += 1;
      total += page.records;
      const key = `${page.fingerprint} ${asked.url.href} ${asked.request.body === undefined ? '' : JSON.stringify(asked.request.body)}`;
      if (seen.has(key))
        throw new CollectError('incomplete', `${place(asked.request, asked.url)}: the same page comes again and again`);
      seen.add(key);
      if (count >= this.#settings.maxPages) {
        throw new CollectError('refused', `the list has more than ${this.#settings.maxPages} pages`, {
          mend: 'raise CYBER_COLLECT_MAX_PAGES',
        });
      }
    };
    const nextOf = (asked: Asked, page: Pick<Page, 'headers' | 'body' | 'records'>): Asked | undefined =>
      this.#follow(asked, paginate?.({ ...page, total, url: asked.url, sent: asked.request.body }));
    const ask = (asked: Asked): Flight => {
      let heard: (headers: Headers) => void = () => undefined;
      const headers = new Promise<Headers>((resolve) => {
        heard = resolve;
      });
      const page = this.#page(asked.request, asked.url, meter, signal, heard);
      page.then((whole) => heard(whole.headers)).catch(() => undefined);
      return { asked, page, headers };
    };
    /** The page behind, asked for as soon as this one's headers tell of it. */
    const guess = async ({ asked, headers }: Flight): Promise<Flight | undefined> => {
      const next = nextOf(asked, { headers: await headers, body: null, records: 1 });
      return next === undefined ? undefined : ask(next);
    };
    try {
      for (let flight = ask({ request, url: this.#url(request) }); ; ) {
        const guessing = paginate?.fromHeaders === true ? guess(flight) : undefined;
        guessing?.catch(() => undefined);
        const page = await flight.page;
        arrived(page, flight.asked);
        const next = nextOf(flight.asked, page);
        const ahead =
          count === 1
            ? paginate?.ahead?.({ ...page, total, url: flight.asked.url, sent: flight.asked.request.body })
            : undefined;
        // The headers that led ahead may be those of a try that failed later: only the page that came decides.
        const guessed = await guessing;
        const following =
          next === undefined || ahead !== undefined
            ? undefined
            : guessed?.asked.url.href === next.url.href
              ? guessed
              : ask(next);
        yield page;
        if (ahead !== undefined) return yield* this.#ahead(flight.asked, ahead, ask, arrived);
        if (following === undefined) return;
        flight = following;
      }
    } finally {
      own.abort(new CollectError('aborted', 'the list is no longer wanted'));
    }
  }

  /** Pages that may be asked for at once, handed on in order. */
  async *#ahead(
    first: Asked,
    nexts: readonly Next[],
    ask: (asked: Asked) => Flight,
    arrived: (page: Page, asked: Asked) => void,
  ): AsyncGenerator<Page> {
    const flights: Flight[] = [];
    let started = 0;
    const start = () => {
      const asked = this.#follow(first, nexts[started]);
      started += 1;
      if (asked !== undefined) flights.push(ask(asked));
    };
    while (started < Math.min(nexts.length, this.concurrency)) start();
    for (let flight = flights.shift(); flight !== undefined; flight = flights.shift()) {
      const page = await flight.page;
      arrived(page, flight.asked);
      if (started < nexts.length) start();
      yield page;
    }
  }

  /** The request behind a paginator's answer; a URL of another origin is refused, for the credentials would go with it. */
  #follow(asked: Asked, next: Next | undefined): Asked | undefined {
    if (next === undefined) return undefined;
    if ('body' in next) return { request: { ...asked.request, body: next.body }, url: asked.url };
    if ('url' in next) {
      const url = new URL(next.url, asked.url);
      this.#assertOurs(url, 'the next link');
      return { request: asked.request, url };
    }
    const url = new URL(asked.url);
    setQuery(url, next.query);
    return { request: asked.request, url };
  }

  #base(): URL {
    const moved = this.#options.auth?.base?.();
    return moved === undefined ? this.#options.baseUrl : new URL(moved);
  }

  #url(request: Request): URL {
    const base = this.#base();
    const url = /^https?:\/\//.test(request.path)
      ? new URL(request.path)
      : new URL(base.pathname.replace(/\/$/, '') + request.path, base);
    this.#assertOurs(url, 'the request');
    setQuery(url, request.query ?? {});
    return url;
  }

  #assertOurs(url: URL, what: string): void {
    if (url.origin === this.#base().origin || url.origin === this.#options.baseUrl.origin || this.#isTrusted(url))
      return;
    throw new CollectError('refused', `${what} leads to another host, ${url.host}`, {
      mend: 'nothing was sent there; tell the vendor, or check a proxy between',
    });
  }

  #isTrusted(url: URL): boolean {
    if (url.protocol !== 'https:') return false;
    return (this.#options.trusted ?? []).some((host) => url.hostname === host || url.hostname.endsWith(`.${host}`));
  }

  /** A call with retries; undefined when a rule says that nothing there is fine. */
  async #call<T>(
    request: Request,
    url: URL,
    meter: Meter,
    signal: AbortSignal,
    read: (incoming: Incoming) => Promise<Read<T>>,
    open = false,
  ): Promise<T | undefined> {
    const wait = (milliseconds: number) => {
      meter.waited_ms += milliseconds;
    };
    let renewed = false;
    let tries = 0;
    let successes = this.#successes;
    for (;;) {
      const release = await this.#waitTurn(meter, signal, wait);
      let tried: Tried<T>;
      try {
        signal.throwIfAborted();
        meter.requests += 1;
        tried = await this.#try(request, url, meter, signal, read, open);
      } finally {
        release();
      }
      if ('value' in tried) {
        this.#successes += 1;
        return tried.value;
      }
      const { outcome } = tried.verdict;
      if (outcome === 'empty') return undefined;
      if (outcome === 'credentials' && !renewed) renewed = true;
      else if (outcome !== 'retry' && outcome !== 'throttled') throw tried.error;
      const stillOpen = outcome === 'throttled' && this.#successes > successes;
      tries = stillOpen ? 1 : tries + 1;
      successes = this.#successes;
      if (tries >= (tried.lasting === true ? LASTING_TRIES : MAX_TRIES)) throw tried.error;
      meter.retries += 1;
      await this.#waitFor(tried, tries, meter, signal, wait);
    }
  }

  async #waitTurn(meter: Meter, signal: AbortSignal, wait: (milliseconds: number) => void): Promise<() => void> {
    const pause = this.#pacer.pausedFor();
    if (pause > 0) meter.waitingUntil = this.#clock.now() + pause;
    return this.#pacer.turn(signal, wait);
  }

  async #waitFor<T>(
    tried: Exclude<Tried<T>, { value: T }>,
    tries: number,
    meter: Meter,
    signal: AbortSignal,
    wait: (milliseconds: number) => void,
  ): Promise<void> {
    const now = this.#clock.now();
    // Never before the told moment: jitter is only added.
    const at = tried.at === undefined ? now + backoff(tries) : Math.max(tried.at, now) + Math.random() * 250;
    if (tried.verdict.outcome === 'throttled') this.#pacer.pauseUntil(at);
    meter.waitingUntil = at;
    await this.#pacer.sleepUntil(at, signal, wait);
  }

  async #try<T>(
    request: Request,
    url: URL,
    meter: Meter,
    signal: AbortSignal,
    read: (incoming: Incoming) => Promise<Read<T>>,
    open: boolean,
  ): Promise<Tried<T>> {
    const repeatable = request.repeatable === true || (request.method ?? 'GET') === 'GET';
    const rules = [...(request.errors ?? []), ...this.#rules];
    const where = place(request, url);
    let sent: Readonly<Record<string, string>> = {};
    let incoming: Incoming | undefined;
    try {
      const body =
        request.form === undefined
          ? request.body === undefined
            ? undefined
            : JSON.stringify(request.body)
          : new URLSearchParams(request.form).toString();
      if (!open)
        sent =
          (await this.#options.auth?.headers(
            { method: request.method ?? 'GET', url, body },
            this.#exchange(meter, signal),
          )) ?? {};
      incoming = await this.#send(request, url, body, open ? {} : sent, meter, signal, open);
      this.#pacer.observe(incoming.headers);
      this.#settings.observe?.(incoming.headers);
      if (incoming.status < 300) {
        const { value, body: outside } = await read(incoming);
        const verdict = rules.length === 0 ? OK : classify(incoming.status, JSON.stringify(outside), rules);
        if (verdict.outcome === 'ok') return { value };
        return { verdict, error: verdictError(verdict, where, incoming.status), at: this.#toldWait(incoming) };
      }
      const said = classify(incoming.status, await readText(incoming.body, ERROR_TEXT, true), rules);
      const verdict = said.outcome === 'retry' && !repeatable ? { ...said, outcome: 'failed' as const } : said;
      if (verdict.outcome === 'credentials') this.#options.auth?.renew?.(sent);
      return { verdict, error: verdictError(verdict, where, incoming.status), at: this.#toldWait(incoming) };
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const { error, lasting } = networkError(cause, where);
      const again = isPassing(error) && (repeatable || (incoming === undefined && lasting));
      const message = error.message.startsWith(where)
        ? error
        : new CollectError(error.code, `${where}: ${error.message}`, {
            ...(error.mend === undefined ? {} : { mend: error.mend }),
            cause,
          });
      return {
        verdict: { outcome: again ? 'retry' : 'failed' },
        error: message,
        lasting: lasting || error.code === 'vendor',
      };
    }
  }

  #exchange(meter: Meter, signal: AbortSignal): Exchange {
    return async ({ path, form, body, headers }) => {
      const request: Request = {
        path,
        method: 'POST',
        repeatable: true,
        ...(form === undefined ? {} : { form }),
        ...(body === undefined ? {} : { body }),
        ...(headers === undefined ? {} : { headers }),
        errors: [{ status: [400, 401, 403], as: 'credentials', because: 'the credentials are not accepted' }],
      };
      const base = this.#options.baseUrl;
      const url = /^https?:\/\//.test(path) ? new URL(path) : new URL(base.pathname.replace(/\/$/, '') + path, base);
      const tried = await this.#retryExchange(request, url, meter, signal);
      return tried;
    };
  }

  async #retryExchange(request: Request, url: URL, meter: Meter, signal: AbortSignal): Promise<Answer> {
    for (let tries = 1; ; tries += 1) {
      meter.requests += 1;
      const tried = await this.#try(request, url, meter, signal, readAnswer, true);
      if ('value' in tried) return tried.value;
      const { outcome } = tried.verdict;
      if (
        (outcome !== 'retry' && outcome !== 'throttled') ||
        tries >= (tried.lasting === true ? LASTING_TRIES : MAX_TRIES)
      )
        throw tried.error;
      meter.retries += 1;
      await this.#waitFor(tried, tries, meter, signal, (milliseconds) => {
        meter.waited_ms += milliseconds;
      });
    }
  }

  /** Sends, following redirects: with credentials only where the vendor's own hosts are, without any elsewhere. */
  async #send(
    request: Request,
    url: URL,
    body: string | undefined,
    auth: Readonly<Record<string, string>>,
    meter: Meter,
    signal: AbortSignal,
    open: boolean,
  ): Promise<Incoming> {
    let target = url;
    let method = request.method ?? 'GET';
    let credentials: Readonly<Record<string, string>> = { ...this.#options.headers, ...auth, ...request.headers };
    for (let redirects = 0; ; redirects += 1) {
      const response = await send(target, {
        method,
        dispatcher: this.#settings.dispatcher,
        signal,
        headers: {
          accept: 'application/json',
          'accept-encoding': 'gzip',
          'user-agent': this.#settings.userAgent,
          ...(body === undefined
            ? {}
            : {
                'content-type': request.form === undefined ? 'application/json' : 'application/x-www-form-urlencoded',
              }),
          ...credentials,
        },
        ...(body === undefined || method === 'GET' ? {} : { body }),
      });
      const location = header(response.headers, 'location');
      if (response.statusCode < 300 || response.statusCode > 399 || location === undefined) {
        return {
          status: response.statusCode,
          headers: response.headers,
          url: target,
          body: this.#content(response, meter),
        };
      }
      response.body.on('error', () => undefined).destroy();
      const next = new URL(location, target);
      if (redirects === MAX_REDIRECTS) throw new CollectError('refused', `more than ${MAX_REDIRECTS} redirects`);
      if (next.origin !== target.origin && (open || !this.#isTrusted(next))) {
        if (method !== 'GET' || open || next.protocol !== 'https:')
          throw new CollectError('refused', `a redirect leads to another host, ${next.host}`, {
            mend: 'nothing was sent there',
          });
        credentials = {};
      }
      if (response.statusCode === 303) method = 'GET';
      target = next;
    }
  }

  #content(response: Dispatcher.ResponseData, meter: Meter): AsyncIterable<Uint8Array> {
    const counted = count(response.body, meter);
    const encoding = (header(response.headers, 'content-encoding') ?? 'identity').toLowerCase();
    return encoding === 'gzip' || encoding === 'x-gzip'
      ? limited(gunzip(counted), this.#settings.maxBody, 'the answer')
      : limited(counted, this.#settings.maxBody, 'the answer');
  }

  /** When the vendor says to come back, if it does. */
  #toldWait(incoming: Incoming): number | undefined {
    if (incoming.status !== 429 && incoming.status !== 503 && incoming.status !== 403) return undefined;
    const now = this.#clock.now();
    const told = retryAfter(header(incoming.headers, 'retry-after'), now);
    if (told !== undefined) return told;
    for (const pace of this.#paces) {
      if (!('remaining' in pace) || pace.reset === undefined) continue;
      const remaining = Number(header(incoming.headers, pace.remaining) ?? 0);
      const total = Number(header(incoming.headers, pace.limit ?? '') ?? 1);
      // Limit 0 is Okta's way to say that too many requests are under way at once: that passes in a second.
      const reset =
        total === 0 ? undefined : resetAt(header(incoming.headers, pace.reset), now, header(incoming.headers, 'date'));
      if (reset !== undefined && remaining <= 0) return reset;
    }
    return undefined;
  }
}

const OK: Verdict = { outcome: 'ok' };

interface Asked {
  readonly request: ListRequest;
  readonly url: URL;
}

/** A page under way; its headers come first. */
interface Flight {
  readonly asked: Asked;
  readonly page: Promise<Page>;
  readonly headers: Promise<Headers>;
}

async function readAnswer(incoming: Incoming): Promise<Read<Answer>> {
  const body = parseJson(await readText(incoming.body, JSON_TEXT), incoming.headers);
  return { value: { status: incoming.status, headers: incoming.headers, body }, body };
}

async function readPage(incoming: Incoming, request: ListRequest, settings: ClientSettings): Promise<Page> {
  const splitter = new RecordSplitter({
    path: request.records,
    maxRecord: settings.maxRecord,
    ...(request.edit === undefined ? {} : { edit: request.edit }),
  });
  const buffer = new PageBuffer(settings.scratch);
  try {
    for await (const chunk of incoming.body) {
      const full = buffer.add(splitter.write(chunk));
      if (full !== undefined) await full;
    }
    const { records, body, found } = splitter.end();
    if (!found && request.absent !== 'empty') {
      throw new CollectError(
        'vendor',
        `the answer holds no list ${request.records === '' ? 'of records' : `'${request.records}'`}`,
      );
    }
    return await buffer.finish({
      records,
      body,
      url: incoming.url,
      status: incoming.status,
      headers: incoming.headers,
    });
  } catch (error) {
    await buffer.discard();
    throw error;
  }
}

async function* count(body: AsyncIterable<Uint8Array>, meter: Meter): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    meter.bytes += chunk.length;
    yield chunk;
  }
}

/** `cut`: what is past the limit is left unread instead of refused. */
async function readText(body: AsyncIterable<Uint8Array>, most: number, cut = false): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    parts.push(chunk);
    size += chunk.length;
    if (size <= most) continue;
    if (cut) break;
    throw new CollectError('refused', `the answer is larger than ${Math.round(most / 2 ** 20)} MiB`);
  }
  return Buffer.concat(parts).toString('utf8');
}

function parseJson(text: string, headers: Headers): Json {
  if (text.trim() === '') return null;
  try {
    return JSON.parse(text) as Json;
  } catch (cause) {
    const html = /html/i.test(header(headers, 'content-type') ?? '') || text.trimStart().startsWith('<');
    throw new CollectError('vendor', html ? 'the answer is HTML, not JSON' : 'the answer is no JSON', { cause });
  }
}

function setQuery(url: URL, query: Query): void {
  for (const [name, value] of Object.entries(query)) {
    url.searchParams.delete(name);
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== undefined) url.searchParams.append(name, String(item));
    }
  }
}

/** Method and path of a call, without its query: what errors may say. */
function place(request: Request, url: URL): string {
  return `${request.method ?? 'GET'} ${url.pathname}`;
}

function verdictError(verdict: Verdict, where: string, status: number): CollectError {
  const because = verdict.because === undefined ? '' : `: ${verdict.because}`;
  const said = `${where} was answered with ${status}${because}`;
  switch (verdict.outcome) {
    case 'credentials':
      return new CollectError('credentials', said, {
        status,
        mend: 'check that the key or secret is right and has not expired',
      });
    case 'denied':
      return new CollectError('denied', said, { status, mend: 'give the credentials the missing permission' });
    case 'unlicensed':
      return new CollectError('denied', said, {
        status,
        title: 'Not licensed',
        mend: 'leave it out with --exclude if the product is not licensed',
      });
    case 'throttled':
      return new CollectError('throttled', said, { status, mend: 'run again later, or lower CYBER_COLLECT_REQUESTS' });
    case 'expired':
      return new CollectError('expired', said, { status });
    default:
      return new CollectError('vendor', said, {
        status,
        mend: 'run again; if it stays, the vendor’s API has changed or is down',
      });
  }
}
