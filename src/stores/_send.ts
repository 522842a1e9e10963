import { setMaxListeners } from 'node:events';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import pLimit from 'p-limit';
import type { Dispatcher } from 'undici';
import { programShape } from '../config/program.ts';
import { assertEncrypted, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { Auth, Exchange } from '../http/auth.ts';
import { readText } from '../http/body.ts';
import { type Headers, header, systemClock } from '../http/pace.ts';
import { backoff, retryAfter } from '../http/retry.ts';
import type { Json } from '../json.ts';

/** How the network is reached: variables of the program that stores over HTTP read too. */
export const networkShape = {
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
  CYBER_COLLECT_CA_FILE: programShape.CYBER_COLLECT_CA_FILE,
  CYBER_COLLECT_CLIENT_CERT: programShape.CYBER_COLLECT_CLIENT_CERT,
  CYBER_COLLECT_CLIENT_KEY: programShape.CYBER_COLLECT_CLIENT_KEY,
  HTTP_PROXY: programShape.HTTP_PROXY,
  HTTPS_PROXY: programShape.HTTPS_PROXY,
  NO_PROXY: programShape.NO_PROXY,
} as const;

/** Other names of them. */
export const networkAliases = { http_proxy: 'HTTP_PROXY', https_proxy: 'HTTPS_PROXY', no_proxy: 'NO_PROXY' } as const;

/** Their values. */
export type Network = Values<typeof networkShape>;

/** An answer, its body cut where it is long. */
export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Json | undefined;
}

/** What an answer means: `halve` asks for smaller requests, `slow` is taken and asks for patience. */
export type Judged = 'taken' | 'slow' | 'halve' | 'again' | 'credentials' | CollectError;

/** One request to make until it is answered for good. */
export interface Message {
  readonly url: URL;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT';
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  judge(reply: Reply): Judged;
}

/** How requests are made. */
export interface Sending {
  readonly network: Network;
  readonly auth?: Auth;
  readonly gzip: boolean;
  /** Requests at once. */
  readonly concurrency: number;
  /** Tries of one request in all. */
  readonly tries: number;
  /** Seconds to the headers of an answer. */
  readonly timeout: number;
  /** PEM file of further authorities, and the variable that names it. */
  readonly ca?: { readonly variable: string; readonly path: string | undefined };
}

/** Makes requests; those of one sender share tokens, pauses and connections. */
export interface Sender {
  /** @throws {CollectError} what stands in the way, once further tries are no use */
  send(message: Message, signal?: AbortSignal): Promise<{ readonly judged: 'taken' | 'halve'; readonly reply: Reply }>;
  close(): Promise<void>;
}

type Tried =
  | { readonly judged: Judged; readonly reply: Reply; readonly sent: Readonly<Record<string, string>> }
  | { readonly judged: 'again' | CollectError; readonly error: CollectError; readonly lasting: boolean };

const LASTING_TRIES = 3;
const ANSWER_TEXT = 256 * 1024;
const MOST_WAIT = 900_000;
const SLOW = 2000;
const MOST_REDIRECTS = 5;
const squeeze = promisify(gzip);

/** What sends, which only those who write should wait for. */
type Wire = Pick<typeof import('undici'), 'request'> &
  Pick<typeof import('../http/dispatcher.ts'), 'createDispatcher' | 'networkError'>;

/** What the requests of a sender share. */
interface Open {
  readonly wire: Wire;
  readonly sending: Sending;
  readonly dispatcher: Dispatcher;
  readonly turn: <T>(work: () => Promise<T>) => Promise<T>;
  /** Epoch milliseconds. */
  pausedUntil: number;
}

/** Opens a sender; nothing is sent yet. */
export async function senderOf(sending: Sending): Promise<Sender> {
  const [{ request }, { createDispatcher, networkError }] = await Promise.all([
    import('undici'),
    import('../http/dispatcher.ts'),
  ]);
  const wire = { request, createDispatcher, networkError };
  const limit = pLimit(sending.concurrency);
  const dispatcher = dispatcherOf(wire, sending);
  const open: Open = { wire, sending, dispatcher, turn: (work) => limit(work), pausedUntil: 0 };
  const closing = new AbortController();
  const ends = new WeakMap<AbortSignal, AbortSignal>();

  /** One signal for all requests of a write. */
  function joined(signal: AbortSignal): AbortSignal {
    const known = ends.get(signal) ?? AbortSignal.any([signal, closing.signal]);
    setMaxListeners(0, known);
    ends.set(signal, known);
    return known;
  }

  return {
    async send(message, signal) {
      const both = signal === undefined ? closing.signal : joined(signal);
      const body = sending.gzip && message.body.length > 0 ? await squeeze(message.body, { level: 4 }) : message.body;
      const headers = body === message.body ? message.headers : { ...message.headers, 'content-encoding': 'gzip' };
      return answered(open, { ...message, body, headers }, sending.auth, both);
    },
    async close() {
      closing.abort(new CollectError('aborted', 'the store was closed'));
      await dispatcher.destroy();
    },
  };
}

/** Makes a request until it is answered for good. Tokens are asked for without a turn: who waits for one holds a turn. */
async function answered(open: Open, message: Message, auth: Auth | undefined, signal: AbortSignal) {
  const where = `${message.method} ${message.url.pathname}`;
  const enter: Open['turn'] = message.judge === tokenJudge ? (work) => work() : open.turn;
  const exchange = exchangeOf((asked) => answered(open, asked, undefined, signal));
  let renewed = false;
  for (let tries = 1; ; tries += 1) {
    const tried = await enter(async () => {
      await wait(() => open.pausedUntil, signal);
      return attempt(message, { ...open, auth, exchange, where, signal });
    });
    const { judged } = tried;
    if (judged === 'slow') open.pausedUntil = Math.max(open.pausedUntil, Date.now() + SLOW);
    if ('reply' in tried && (judged === 'taken' || judged === 'slow' || judged === 'halve'))
      return { judged: judged === 'halve' ? judged : ('taken' as const), reply: tried.reply };
    if (judged instanceof CollectError) throw judged;
    if ('reply' in tried && judged === 'credentials') {
      if (renewed || auth?.renew?.(tried.sent) !== true) throw notKnown(where, tried.reply.status);
      renewed = true;
      continue;
    }
    await patience(open, tried, tries, where, signal);
  }
}

/** Waits before the next try, or gives up. */
async function patience(open: Open, tried: Tried, tries: number, where: string, signal: AbortSignal): Promise<void> {
  const reply = 'reply' in tried ? tried.reply : undefined;
  const most = 'lasting' in tried && tried.lasting ? Math.min(LASTING_TRIES, open.sending.tries) : open.sending.tries;
  if (tries >= most) throw 'error' in tried ? tried.error : givenUp(where, tried.reply.status, tries);
  const told = reply === undefined ? undefined : toldBy(reply);
  const at = told ?? Date.now() + backoff(tries);
  if (at - Date.now() > MOST_WAIT) throw tooLong(where, at - Date.now());
  // What the server says holds for every request.
  if (told !== undefined || reply?.status === 429) open.pausedUntil = Math.max(open.pausedUntil, at);
  await wait(() => at, signal);
}

/** Waits for a moment that may move while it is waited for. */
async function wait(until: () => number, signal: AbortSignal): Promise<void> {
  for (let left = until() - Date.now(); left > 0; left = until() - Date.now()) await systemClock.sleep(left, signal);
}

function dispatcherOf(wire: Wire, { network, ca, timeout, concurrency }: Sending): Dispatcher {
  return wire.createDispatcher({
    httpProxy: network.HTTP_PROXY,
    httpsProxy: network.HTTPS_PROXY,
    noProxy: network.NO_PROXY,
    caFile: network.CYBER_COLLECT_CA_FILE,
    clientCert: network.CYBER_COLLECT_CLIENT_CERT,
    clientKey: network.CYBER_COLLECT_CLIENT_KEY,
    headersTimeout: timeout,
    bodyTimeout: timeout,
    connections: concurrency,
    ...(ca?.path === undefined ? {} : { moreAuthorities: { variable: ca.variable, path: ca.path } }),
  });
}

interface Around {
  readonly wire: Wire;
  readonly dispatcher: Dispatcher;
  readonly sending: Sending;
  readonly auth: Auth | undefined;
  readonly exchange: Exchange;
  readonly where: string;
  readonly signal: AbortSignal;
}

async function attempt(message: Message, around: Around): Promise<Tried> {
  const { wire, auth, exchange, where, signal } = around;
  signal.throwIfAborted();
  const outgoing = { method: message.method, url: message.url, body: undefined };
  const sent = auth === undefined ? {} : await auth.headers(outgoing, exchange);
  try {
    const reply = await exchanged(message, sent, around);
    return { judged: message.judge(reply), reply, sent };
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    const { error, lasting } = wire.networkError(cause, where);
    const passing = error.code === 'network' || error.code === 'timeout';
    return { judged: passing ? 'again' : error, error, lasting };
  }
}

/** Sends once; a 307 or 308 on the same host is followed, as the body may be sent there again. */
async function exchanged(
  { url, method, headers, body }: Message,
  sent: Readonly<Record<string, string>>,
  { wire, dispatcher, sending, where }: Around,
): Promise<Reply> {
  let target = url;
  for (let redirects = 0; ; redirects += 1) {
    assertEncrypted(target, sending.network.CYBER_COLLECT_ALLOW_HTTP);
    const response = await wire.request(target, {
      method,
      dispatcher,
      headers: { accept: 'application/json', 'user-agent': 'cyber-collect', ...headers, ...sent },
      ...(method === 'GET' || method === 'HEAD' ? {} : { body }),
    });
    const { statusCode: status, headers: got } = response;
    const location = header(got, 'location');
    if (status < 300 || status > 399 || location === undefined) {
      const text = await readText(response.body, ANSWER_TEXT, true);
      return { status, headers: got, text, json: parsed(text) };
    }
    response.body.on('error', () => undefined).destroy();
    const next = URL.canParse(location, target.href) ? new URL(location, target) : undefined;
    const same = (status === 307 || status === 308) && next?.origin === target.origin;
    if (next === undefined || !same || redirects === MOST_REDIRECTS) {
      throw new CollectError('refused', `${where} was answered with ${status}, a redirect that is not followed`, {
        status,
        mend: 'set the URL to where the endpoint is',
      });
    }
    target = next;
  }
}

/** An auth's own way out: a form or JSON to a whole URL, without credentials. */
function exchangeOf(send: (message: Message) => Promise<{ readonly reply: Reply }>): Exchange {
  return async ({ path, method = 'POST', form, body, headers }) => {
    const text = form === undefined ? JSON.stringify(body ?? null) : new URLSearchParams(form).toString();
    const type = form === undefined ? 'application/json' : 'application/x-www-form-urlencoded';
    const { reply } = await send({
      url: new URL(path),
      method,
      headers: { 'content-type': type, ...headers },
      body: Buffer.from(text),
      judge: tokenJudge,
    });
    return { status: reply.status, headers: reply.headers, body: reply.json };
  };
}

function tokenJudge({ status }: Reply): Judged {
  if (status >= 200 && status < 300) return 'taken';
  if (status === 400 || status === 401 || status === 403) return 'credentials';
  return isPassing(status) ? 'again' : refused('the request for a token', status);
}

/** Whether a status may be another one soon. */
export function isPassing(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

/** The error for an answer that no further try would change. */
export function refused(what: string, status: number, because?: string, mend?: string): CollectError {
  const said = `${what} was answered with ${status}${because === undefined ? '' : `: ${because}`}`;
  return new CollectError('store', said, { status, mend: mend ?? 'check the URL and what the server says in its log' });
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

function toldBy({ status, headers }: Reply): number | undefined {
  if (status !== 429 && status !== 503 && status !== 408) return undefined;
  return retryAfter(header(headers, 'retry-after'), Date.now(), header(headers, 'date'));
}

function notKnown(where: string, status: number): CollectError {
  return new CollectError('credentials', `${where} was answered with ${status}: the credentials are not accepted`, {
    status,
    mend: 'check that the token or secret is right, enabled and not expired',
  });
}

function givenUp(where: string, status: number, tries: number): CollectError {
  const said = `${where} was answered with ${status}, ${tries} times`;
  return new CollectError(status === 429 ? 'throttled' : 'store', said, {
    status,
    mend: 'what was collected waits; run again when the server has recovered',
  });
}

function tooLong(where: string, wait: number): CollectError {
  return new CollectError('throttled', `${where}: the server asks to wait ${Math.round(wait / 1000)} seconds`, {
    mend: 'what was collected waits; run again later',
  });
}
