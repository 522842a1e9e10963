import { createHash } from 'node:crypto';
import { EnvHttpProxyAgent, request } from 'undici';
import { CollectError, type ErrorCode } from '../errors.ts';
import { isObject, textAt } from '../json.ts';
import { blocksOf } from './_objects.ts';
import { isBroken, type Outlook, passes, patiently } from './_patience.ts';

/**
 * The key of a service account; undefined = whoever the surroundings say, as Google's own tools do.
 * @throws {CollectError} config
 */
export function credentialsOf(variable: string, value: string | undefined) {
  if (value === undefined) return undefined;
  const key = parsed(value);
  const client_email = textAt(key, 'client_email');
  const private_key = textAt(key, 'private_key');
  if (client_email !== undefined && private_key !== undefined) return { client_email, private_key };
  throw new CollectError('config', `${variable} is no key of a service account`, {
    mend: `set it to the JSON text of the key, or name its file in ${variable}_FILE`,
  });
}

function parsed(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return undefined;
  }
}

// Resumable uploads

const BLOCK = 16 * 2 ** 20; // Google wants multiples of 256 KiB, and each block costs a round trip
const SILENCE_MS = 120_000;
const INCOMPLETE = 308;

interface Answer {
  readonly status: number;
  readonly range: string | undefined;
  readonly body: unknown;
}

/**
 * Sends the bytes to a session that was begun, whose address is its own proof of identity. Nothing shows before the
 * last block, which goes with the hash of all: Google refuses what is not that.
 * @param confirm called right before the last block
 * @returns what Google answers to it
 */
export async function sendAll(
  session: string,
  source: AsyncIterable<Uint8Array>,
  confirm: () => Promise<void>,
): Promise<unknown> {
  const dispatcher = new EnvHttpProxyAgent();
  const hash = createHash('md5');
  const send = sender(session, dispatcher);
  try {
    let at = 0;
    let held: Buffer | undefined;
    for await (const block of blocksOf(source, BLOCK)) {
      if (held !== undefined) {
        await send(held, at);
        at += held.length;
      }
      hash.update(block);
      held = block;
    }
    await confirm();
    return await send(held ?? Buffer.alloc(0), at, hash.digest('base64'));
  } finally {
    await dispatcher.destroy();
  }
}

type Send = (block: Buffer, at: number, md5?: string) => Promise<unknown>;

/** Sends blocks; after a fault it asks how much has come. With a hash the block is the last. */
function sender(session: string, dispatcher: EnvHttpProxyAgent): Send {
  return (block, at, md5) => {
    const end = at + block.length;
    const total = md5 === undefined ? '*' : String(end);
    let stored = at;
    let doubt = false;
    return patiently(async () => {
      if (doubt) {
        const answer = await call(session, dispatcher, Buffer.alloc(0), { 'content-range': 'bytes */*' });
        if (answer.status !== INCOMPLETE) return answer.body;
        stored = storedOf(answer, at, end);
      }
      doubt = true;
      for (;;) {
        const part = block.subarray(stored - at);
        const range = part.length === 0 ? `bytes */${total}` : `bytes ${stored}-${end - 1}/${total}`;
        const headers = { 'content-range': range, ...(md5 === undefined ? {} : { 'x-goog-hash': `md5=${md5}` }) };
        const answer = await call(session, dispatcher, part, headers);
        if (answer.status !== INCOMPLETE) return answer.body;
        stored = storedOf(answer, at, end);
        if (stored === end && md5 === undefined) return undefined;
      }
    }, googleOutlook);
  };
}

function storedOf({ range }: Answer, at: number, end: number): number {
  const last = /-(\d+)$/.exec(range ?? '')?.[1];
  const stored = last === undefined ? 0 : Number(last) + 1;
  if (stored >= at && stored <= end) return stored;
  throw new CollectError('store', 'Google lost a part of the upload', { mend: 'run again' });
}

async function call(
  session: string,
  dispatcher: EnvHttpProxyAgent,
  body: Buffer,
  headers: Readonly<Record<string, string>>,
): Promise<Answer> {
  const answer = await request(session, {
    method: 'PUT',
    headers: { ...headers, 'content-length': String(body.length) },
    body: body.length === 0 ? null : body,
    dispatcher,
    headersTimeout: SILENCE_MS,
    bodyTimeout: SILENCE_MS,
  });
  const found = parsed(await answer.body.text());
  const { statusCode: status } = answer;
  const told = (name: string) => [answer.headers[name]].flat()[0];
  if (status === INCOMPLETE || status < 300) return { status, range: told('range'), body: found };
  throw Object.assign(new Error(`upload: ${status}`), {
    status,
    reason: reasonIn(found),
    retryAfter: told('retry-after'),
  });
}

// What can go wrong

/** What is known of a fault, whichever of Google's libraries threw it; never its message, which may quote data. */
export interface Fault {
  readonly status: number | undefined;
  /** Google's word, such as notFound. */
  readonly reason: string;
  /** Node's word for what happened to the connection. */
  readonly code: string;
  readonly retryAfter: string | undefined;
}

interface Thrown {
  readonly status?: unknown;
  readonly reason?: unknown;
  readonly retryAfter?: unknown;
  readonly code?: unknown;
  readonly errors?: readonly { readonly reason?: unknown }[];
  readonly response?: {
    readonly status?: unknown;
    readonly statusCode?: unknown;
    readonly headers?: unknown;
    readonly data?: unknown;
  };
  readonly cause?: unknown;
}

/** Reads a fault off what was thrown. */
export function faultOf(thrown: unknown): Fault {
  const { status, reason, retryAfter, code, errors, response, cause } = thrown as Thrown;
  const numbers = [status, response?.status, response?.statusCode, code].map(Number);
  const inner = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
  return {
    status: numbers.find((value) => value >= 300 && value < 600),
    reason: String(reason ?? errors?.[0]?.reason ?? reasonIn(response?.data)),
    code: typeof code === 'string' && !/^\d+$/.test(code) ? code : (inner ?? ''),
    retryAfter: typeof retryAfter === 'string' ? retryAfter : headerOf(response?.headers),
  };
}

function headerOf(headers: unknown): string | undefined {
  if (headers instanceof Headers) return headers.get('retry-after') ?? undefined;
  return textAt(headers, 'retry-after');
}

function reasonIn(body: unknown): string {
  const error = isObject(body) ? body.error : undefined;
  const list = isObject(error) ? error.errors : undefined;
  return (Array.isArray(list) ? textAt(list[0], 'reason') : undefined) ?? textAt(error, 'status') ?? '';
}

const PASSING =
  /^(rateLimitExceeded|userRateLimitExceeded|backendError|internalError|jobBackendError|jobInternalError)$/;

/** Whether the same request may succeed when it is sent again. */
export function googleOutlook(thrown: unknown): Outlook {
  if (thrown instanceof CollectError) return { mayPass: false };
  const { status, reason, code, retryAfter } = faultOf(thrown);
  const mayPass = PASSING.test(reason) || (status === undefined ? isBroken(code) : passes(status));
  return { mayPass, retryAfter };
}

/** What was tried, for the sentence about why it failed. */
export interface Attempt {
  /** As a person would look for it. */
  readonly place: string;
  /** Past participle: written, read, deleted. */
  readonly done: string;
  readonly host: string;
  /** The role that allows it. */
  readonly role: string;
  /** The variable that names who we are. */
  readonly credentials: string;
  /** The variable of the base URL. */
  readonly endpoint: string;
}

/** A fault of Google's as a sentence with what to do about it; what is none stays what it is. */
export function googleError(thrown: unknown, attempt: Attempt): unknown {
  if (thrown instanceof CollectError || !(thrown instanceof Error)) return thrown;
  const fault = faultOf(thrown);
  const found = sentenceOf(fault, thrown, attempt);
  if (found === undefined) return thrown;
  const [code, what, mend] = found;
  return new CollectError(code, `${attempt.place} cannot be ${attempt.done}: ${what}`, {
    mend,
    ...(fault.status === undefined ? {} : { status: fault.status }),
  });
}

type Sentence = readonly [code: ErrorCode, what: string, mend: string];

function sentenceOf({ status, reason, code }: Fault, thrown: Error, attempt: Attempt): Sentence | undefined {
  const { host } = attempt;
  if (status === 401 || /invalid_grant|invalid_client|unauthorized_client/.test(thrown.message)) {
    return ['credentials', 'the key or token is not accepted', `correct ${attempt.credentials}`];
  }
  if (/Could not load the default credentials|DECODER|asymmetric key|PEM/.test(thrown.message)) {
    const mend = `set ${attempt.credentials} to the key of a service account, or GOOGLE_APPLICATION_CREDENTIALS`;
    return ['credentials', 'no usable Google credentials were found', mend];
  }
  if (status === 403 && reason === 'quotaExceeded') return ['throttled', 'a quota is used up', 'raise it or wait'];
  if (status === 429 || status === 503 || /[rR]ateLimitExceeded/.test(reason)) {
    return ['throttled', `${host} keeps asking to slow down (${status ?? reason})`, 'run again later'];
  }
  if (status === 403) return ['denied', 'these credentials may not do that', `grant ${attempt.role}`];
  if (status !== undefined) {
    const mend = status >= 500 ? 'run again later' : 'check the settings of this store';
    return ['store', `${host} answered ${status} ${reason}`.trim(), mend];
  }
  if (/CERT|UNABLE_TO_/.test(code)) {
    const mend = 'name a file with the certificate of its authority in NODE_EXTRA_CA_CERTS';
    return ['network', `${host} has a certificate that is not trusted (${code})`, mend];
  }
  if (isBroken(code) || code === 'ENOTFOUND') {
    return ['network', `no connection to ${host} (${code})`, `check the network and ${attempt.endpoint}`];
  }
  return undefined;
}
