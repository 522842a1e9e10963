import type { Dispatcher } from 'undici';
import { assertEncrypted } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { Answer, Exchange } from './auth.ts';
import { contentOf, type Incoming, type Read, readAnswer, readText } from './body.ts';
import type { ClientSettings, HttpOptions, Meter, Request } from './client.ts';
import { networkError } from './dispatcher.ts';
import { type Clock, header, type Pace, Pacer, systemClock } from './pace.ts';
import type { Page } from './page.ts';
import { backoff, classify, isPassing, type Rule, resetAt, retryAfter, type Verdict } from './retry.ts';
import { send } from './send.ts';

/** One call to make, for a dataset. */
export interface Errand<T> {
  readonly request: Request;
  readonly url: URL;
  readonly meter: Meter;
  readonly signal: AbortSignal;
  /** Reads a good answer. */
  readonly read: (incoming: Incoming) => Promise<Read<T>>;
}

/** What became of a try. */
type Tried<T> =
  | { readonly value: T }
  | {
      readonly verdict: Verdict;
      readonly error: CollectError;
      /** More tries will hardly help. */
      readonly lasting: boolean;
      /** Epoch milliseconds at which the vendor says to come back. */
      readonly at?: number | undefined;
    };

type Failed = Exclude<Tried<unknown>, { readonly value: unknown }>;

const MAX_TRIES = 8;
const LASTING_TRIES = 3;
const ERROR_TEXT = 64 * 1024;
const MAX_REDIRECTS = 5;
const FINE: Verdict = { outcome: 'ok' };

/** Makes a collector's calls: paced, with credentials, read by the vendor's rules, tried again where that can help. */
export class Caller {
  #successes = 0;
  readonly #options: HttpOptions;
  readonly #settings: ClientSettings;
  readonly #rules: readonly Rule[];
  readonly #paces: readonly Pace[];
  readonly #pacer: Pacer;
  readonly #clock: Clock;

  constructor(options: HttpOptions, settings: ClientSettings, rules: readonly Rule[], concurrency: number) {
    this.#options = options;
    this.#settings = settings;
    this.#rules = [...(options.errors ?? []), ...rules];
    this.#clock = settings.clock ?? systemClock;
    this.#paces = options.pace === undefined ? [] : 'length' in options.pace ? options.pace : [options.pace];
    this.#pacer = new Pacer(this.#paces, {
      concurrency,
      headroom: settings.headroom,
      clock: this.#clock,
      ...(settings.deadline === undefined ? {} : { deadline: settings.deadline }),
    });
  }

  /** Where the API is: the vendor may have moved us when it gave the token. */
  base(): URL {
    const moved = this.#options.auth?.base?.();
    return moved === undefined ? this.#options.baseUrl : new URL(moved);
  }

  /** The URL of a path under the base, or of a whole URL. */
  resolve(path: string): URL {
    if (/^https?:\/\//.test(path)) return new URL(path);
    const base = this.base();
    return new URL(base.pathname.replace(/\/$/, '') + path, base);
  }

  /**
   * Refuses a URL that is not the vendor's: the credentials would go with it.
   * @throws {CollectError} refused
   */
  assertOurs(url: URL, what: string): void {
    const ours = [this.base(), this.#options.baseUrl, ...(this.#options.others ?? [])];
    if (ours.some(({ origin }) => origin === url.origin) || this.#isTrusted(url)) return;
    throw new CollectError('refused', `${what} leads to another host, ${url.host}`, {
      mend: 'nothing was sent there; tell the vendor, or check a proxy between',
    });
  }

  #isTrusted(url: URL): boolean {
    if (url.protocol !== 'https:') return false;
    return (this.#options.trusted ?? []).some((host) => url.hostname === host || url.hostname.endsWith(`.${host}`));
  }

  /**
   * Makes a call, again where that can help; undefined when a rule says that nothing there is fine.
   * @throws {CollectError} what stands in the way, by what the operator has to do
   */
  async call<T>(errand: Errand<T>): Promise<T | undefined> {
    let renewed = false;
    let tries = 0;
    let successes = this.#successes;
    for (;;) {
      const tried = await this.#take(errand);
      if ('value' in tried) {
        this.#successes += 1;
        return tried.value;
      }
      const { outcome } = tried.verdict;
      if (outcome === 'empty') return undefined;
      if (outcome === 'credentials' && !renewed) {
        renewed = true;
        errand.meter.retries += 1;
        continue; // at once: a new token is there, and may be over again when we come late
      }
      if (outcome !== 'retry' && outcome !== 'throttled') throw tried.error;
      // While others get through, a throttled call is only waiting for its turn.
      tries = outcome === 'throttled' && this.#successes > successes ? 1 : tries + 1;
      successes = this.#successes;
      await this.#wait(errand, tried, tries);
    }
  }

  /** One try, in its turn. */
  async #take<T>(errand: Errand<T>): Promise<Tried<T>> {
    const { meter, signal, url } = errand;
    const pause = this.#pacer.pausedFor(url.href);
    if (pause > 0) meter.waitingUntil = this.#clock.now() + pause;
    const waited = (milliseconds: number) => {
      meter.waited_ms += milliseconds;
    };
    const turn = await this.#pacer.turn(signal, waited, url.href);
    try {
      signal.throwIfAborted();
      return await this.#try(errand, turn);
    } finally {
      turn();
    }
  }

  /** Waits before the next try, or gives up. */
  async #wait({ meter, signal, url }: Errand<unknown>, failed: Failed, tries: number): Promise<void> {
    if (tries >= (failed.lasting ? LASTING_TRIES : MAX_TRIES)) throw failed.error;
    meter.retries += 1;
    const now = this.#clock.now();
    // Never before the told moment: jitter is only added.
    const at = failed.at === undefined ? now + backoff(tries) : Math.max(failed.at, now) + Math.random() * 250;
    if (failed.verdict.outcome === 'throttled') this.#pacer.pauseUntil(at, url.href);
    meter.waitingUntil = at;
    await this.#pacer.sleepUntil(at, signal, (milliseconds) => {
      meter.waited_ms += milliseconds;
    });
  }

  /** Without a turn: auth's own way, without credentials. */
  async #try<T>(errand: Errand<T>, turn?: () => void): Promise<Tried<T>> {
    const { request, url, meter, signal } = errand;
    const where = `${request.method ?? 'GET'} ${url.pathname}`;
    const repeatable = request.repeatable === true || (request.method ?? 'GET') === 'GET';
    const body = bodyOf(request);
    let auth: Readonly<Record<string, string>> = {};
    let incoming: Incoming | undefined;
    try {
      if (turn !== undefined && this.#options.auth !== undefined) {
        const outgoing = { method: request.method ?? 'GET', url, body };
        auth = await this.#options.auth.headers(outgoing, this.#exchange(errand));
      }
      meter.requests += 1;
      incoming = await this.#send(errand, this.#moved(url), body, turn === undefined ? undefined : auth);
      this.#pacer.observe(incoming.headers, turn);
      this.#settings.observe?.(incoming.headers);
      return await this.#judge(errand, incoming, where, repeatable, auth);
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const { error, lasting } = networkError(cause, where);
      const again = isPassing(error) && (repeatable || (incoming === undefined && lasting));
      return {
        verdict: { outcome: again ? 'retry' : 'failed' },
        error: located(error, where),
        lasting: lasting || error.code === 'vendor',
      };
    }
  }

  async #judge<T>(
    { request, read }: Errand<T>,
    incoming: Incoming,
    where: string,
    repeatable: boolean,
    auth: Readonly<Record<string, string>>,
  ): Promise<Tried<T>> {
    const rules = [...(request.errors ?? []), ...this.#rules];
    const failed = (verdict: Verdict): Failed => ({
      verdict,
      error: verdictError(verdict, where, incoming.status),
      lasting: false,
      at:
        this.#toldWait(incoming, verdict) ??
        (verdict.wait === undefined ? undefined : this.#clock.now() + verdict.wait * 1000),
    });
    const accepted = request.accept?.includes(incoming.status) === true;
    if (incoming.status < 300 || accepted) {
      const { value, body } = await read(incoming);
      const verdict = accepted || rules.length === 0 ? FINE : classify(incoming.status, JSON.stringify(body), rules);
      if (verdict.outcome !== 'ok') {
        await (value as Partial<Pick<Page, 'discard'>>).discard?.();
        if (verdict.outcome === 'credentials') this.#options.auth?.renew?.(auth);
        return failed(verdict);
      }
      assertFound(request, value);
      return { value };
    }
    const verdict = classify(incoming.status, await readText(incoming.body, ERROR_TEXT, true), rules);
    if (verdict.outcome === 'credentials') this.#options.auth?.renew?.(auth);
    return failed(verdict.outcome === 'retry' && !repeatable ? { ...verdict, outcome: 'failed' } : verdict);
  }

  /** The auth's own way to the vendor: tried again like any call, but without credentials and outside the pace. */
  #exchange({ meter, signal }: Errand<unknown>): Exchange {
    return async ({ path, method = 'POST', form, body, headers }) => {
      const request: Request = {
        path,
        method,
        repeatable: true,
        errors: [{ status: [400, 401, 403], as: 'credentials', because: 'the credentials are not accepted' }],
        ...(form === undefined ? {} : { form }),
        ...(body === undefined ? {} : { body }),
        ...(headers === undefined ? {} : { headers }),
      };
      const errand: Errand<Answer> = { request, url: this.resolve(path), meter, signal, read: readAnswer };
      for (let tries = 1; ; tries += 1) {
        const tried = await this.#try(errand);
        if ('value' in tried) return tried.value;
        const { outcome } = tried.verdict;
        if (outcome !== 'retry' && outcome !== 'throttled') throw tried.error;
        await this.#wait(errand, tried, tries);
      }
    };
  }

  /** A URL of the first base, once the vendor has moved us to another. */
  #moved(url: URL): URL {
    const base = this.base();
    if (url.origin !== this.#options.baseUrl.origin || url.origin === base.origin) return url;
    return new URL(url.pathname + url.search, base);
  }

  /**
   * Sends, following redirects: with credentials to the vendor's own hosts, without any elsewhere.
   * @param auth undefined for a call that carries secrets in its body, which no redirect may take along
   */
  async #send(
    { request, meter, signal }: Errand<unknown>,
    url: URL,
    body: string | undefined,
    auth: Readonly<Record<string, string>> | undefined,
  ): Promise<Incoming> {
    let target = url;
    let method = request.method ?? 'GET';
    let credentials: Readonly<Record<string, string>> = { ...this.#options.headers, ...auth, ...request.headers };
    for (let redirects = 0; ; redirects += 1) {
      assertEncrypted(target, this.#settings.allowHttp);
      const options: Dispatcher.DispatchOptions = {
        origin: target.origin,
        path: target.pathname + target.search,
        method,
        ...(this.#options.timeout === undefined ? {} : { headersTimeout: this.#options.timeout * 1000 }),
        headers: {
          accept: 'application/json',
          'accept-encoding': 'gzip',
          'user-agent': this.#settings.userAgent,
          ...(body === undefined ? {} : { 'content-type': typeOf(request) }),
          ...credentials,
        },
        ...(body === undefined || method === 'GET' ? {} : { body }),
      };
      const { status, headers, body: content } = await send(this.#settings.dispatcher, options, signal);
      const location = header(headers, 'location');
      if (status < 300 || status > 399 || location === undefined) {
        return { status, headers, url: target, body: contentOf(content, headers, meter, this.#settings.maxBody) };
      }
      content.discard();
      const next = new URL(location, target);
      if (redirects === MAX_REDIRECTS) throw new CollectError('refused', `more than ${MAX_REDIRECTS} redirects`);
      if (next.origin !== target.origin && (auth === undefined || !this.#isTrusted(next))) {
        if (method !== 'GET' || auth === undefined || next.protocol !== 'https:') {
          throw new CollectError('refused', `a redirect leads to another host, ${next.host}`, {
            mend: 'nothing was sent there',
          });
        }
        credentials = {};
      }
      if (status === 303) method = 'GET';
      target = next;
    }
  }

  /** When the vendor says to come back, if it does. */
  #toldWait({ status, headers }: Incoming, { outcome }: Verdict): number | undefined {
    if (status !== 429 && status !== 503 && status !== 403 && outcome !== 'throttled') return undefined;
    const now = this.#clock.now();
    const told = retryAfter(header(headers, 'retry-after'), now, header(headers, 'date'));
    if (told !== undefined) return told;
    for (const pace of this.#paces) {
      if (!('remaining' in pace) || pace.reset === undefined) continue;
      // A limit of 0 is Okta's way to say that too many requests are under way at once: that passes in a second.
      if (header(headers, pace.limit ?? '') === '0' || Number(header(headers, pace.remaining) ?? 0) > 0) continue;
      const reset = resetAt(header(headers, pace.reset), now, header(headers, 'date'));
      if (reset !== undefined) return reset;
    }
    return undefined;
  }
}

function bodyOf({ form, body }: Request): string | undefined {
  if (form !== undefined) return new URLSearchParams(form).toString();
  return body === undefined ? undefined : JSON.stringify(body);
}

function typeOf({ form }: Request): string {
  return form === undefined ? 'application/json' : 'application/x-www-form-urlencoded';
}

/** An answer without the list it should hold may be an error that no rule knew. */
function assertFound(request: Request, value: unknown): void {
  if (!('records' in request) || ('absent' in request && request.absent === 'empty')) return;
  if ('single' in request && (value as Page).records === 0) throw new CollectError('vendor', 'the answer is empty');
  if ((value as { found?: boolean }).found !== false) return;
  const list = request.records === '' ? 'list of records' : `list '${request.records}'`;
  throw new CollectError('vendor', `the answer holds no ${list}`);
}

function located(error: CollectError, where: string): CollectError {
  if (error.message.startsWith(where)) return error;
  const { code, message, mend, title, cause } = error;
  return new CollectError(code, `${where}: ${message}`, { title, cause, ...(mend === undefined ? {} : { mend }) });
}

/** What stands in the way, by what the operator has to do. */
export function verdictError(verdict: Verdict, where: string, status: number): CollectError {
  const because = verdict.because === undefined ? '' : `: ${verdict.because}`;
  const said = `${where} was answered with ${status}${because}`;
  switch (verdict.outcome) {
    case 'credentials':
      return new CollectError('credentials', said, {
        status,
        mend: 'check that the key or secret is right and not expired',
      });
    case 'denied':
      return new CollectError('denied', said, { status, mend: 'give the credentials the missing permission' });
    case 'unlicensed':
      return new CollectError('denied', said, { status, title: 'Not licensed', mend: 'leave it out with --exclude' });
    case 'throttled':
      return new CollectError('throttled', said, { status, mend: 'run again later, or lower CYBER_COLLECT_REQUESTS' });
    case 'expired':
      return new CollectError('expired', said, { status });
    default:
      return new CollectError('vendor', said, {
        status,
        mend: 'run again; if it stays, the API has changed or is down',
      });
  }
}
