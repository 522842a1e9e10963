import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { rootCertificates } from 'node:tls';
import { CollectError, type ErrorCode } from '../errors.ts';
import { at, textAt } from '../json.ts';

/** A request to a search engine. */
export interface Call {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** JSON, or the bytes of lines. */
  readonly body?: Readonly<Record<string, unknown>> | Buffer;
}

/** What the engine said, whatever its status. */
export interface Said {
  readonly status: number;
  readonly body: unknown;
  readonly retryAfter: string | undefined;
}

/** Elasticsearch or what has grown out of it, through its own client. */
export interface Engine {
  readonly title: string;
  /** Origin and path, without credentials. */
  readonly url: string;
  /** Variables to look at when the address is wrong, and when the login is. */
  readonly address: string;
  readonly login: string;
  /** One try; throws only where no answer came. */
  call(call: Call): Promise<Said>;
  close(): Promise<void>;
}

/** Milliseconds that the clients wait for an answer. */
export const SILENCE_MS = 120_000;

/** One try through a client of either engine; both throw an answer of 400 or more as a ResponseError. */
export async function saidBy(
  sent: Promise<{ readonly statusCode: number | null; readonly body?: unknown; readonly headers?: unknown }>,
): Promise<Said> {
  const answer = await sent.catch((thrown: unknown) => {
    const meta = at(thrown, 'meta');
    const status = at(meta, 'statusCode');
    if (!(thrown instanceof Error) || thrown.name !== 'ResponseError' || typeof status !== 'number') throw thrown;
    return { statusCode: status, body: at(meta, 'body'), headers: at(meta, 'headers') };
  });
  return { status: answer.statusCode ?? 0, body: answer.body, retryAfter: textAt(answer.headers, 'retry-after') };
}

/**
 * The authorities to trust: Node's own and those of a file.
 * @throws {CollectError} config
 */
export async function authorities(variable: string, path: string | undefined): Promise<readonly string[] | undefined> {
  if (path === undefined) return undefined;
  const pem = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CollectError('config', `${variable}: ${path} cannot be read (${cause.code})`, {
      mend: 'set it to the PEM file of the authority that signed the server certificate',
    });
  });
  return [...rootCertificates, pem];
}

// Again, or not

const ANSWERED_TRIES = 8;
const UNANSWERED_TRIES = 5;
const FIRST_WAIT = 500;
const MOST_WAIT = 60_000;
const MOST_TOLD = 600_000;

/** Counts the tries of one thing, waiting between them. */
export interface Patience {
  /**
   * Waits until the next try.
   * @throws the error, when there is to be none
   */
  again(error: CollectError, answered: boolean, retryAfter?: string): Promise<void>;
  readonly tries: number;
}

/** Waits twice as long before each try, or as long as told. */
export function patience(): Patience {
  let tries = 1;
  return {
    get tries() {
      return tries;
    },
    async again(error, answered, retryAfter) {
      if (tries >= (answered ? ANSWERED_TRIES : UNANSWERED_TRIES)) throw error;
      const told = told_ms(retryAfter);
      if (told !== undefined && told > MOST_TOLD) throw error;
      await pause(told ?? Math.min(MOST_WAIT, FIRST_WAIT * 2 ** (tries - 1)) * (1 + Math.random() / 4));
      tries += 1;
    },
  };
}

function told_ms(retryAfter: string | undefined): number | undefined {
  if (retryAfter === undefined) return undefined;
  const seconds = /^\d+(\.\d+)?$/.test(retryAfter.trim()) ? Number(retryAfter) * 1000 : undefined;
  const wait = seconds ?? Date.parse(retryAfter) - Date.now();
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}

/** Whether the same request may be taken later. */
export function mayPass(status: number, type: string | undefined): boolean {
  // A full disk also says 429, and stays full.
  if (type === 'cluster_block_exception') return false;
  return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

/** Asks until there is an answer that stands; statuses of 400 and more only where they are named. */
export async function ask(engine: Engine, call: Call, accept: readonly number[] = []): Promise<Said> {
  for (const wait = patience(); ; ) {
    const said = await heard(engine, call, wait);
    if (said === undefined) continue;
    if (said.status < 300 || accept.includes(said.status)) return said;
    const type = typeOf(said.body);
    const error = refusal(engine, said.status, type);
    if (!mayPass(said.status, type)) throw error;
    await wait.again(error, true, said.retryAfter);
  }
}

/** One try, undefined when the connection broke and another try is due. */
export async function heard(engine: Engine, call: Call, wait: Patience): Promise<Said | undefined> {
  try {
    return await engine.call(call);
  } catch (cause) {
    const { error, passing } = unanswered(engine, cause);
    if (!passing) throw error;
    await wait.again(error, false);
    return undefined;
  }
}

// What went wrong

/** The engine's word for an error; its sentences may quote the data. */
export function typeOf(body: unknown): string | undefined {
  const type = textAt(body, 'error.type') ?? textAt(body, 'type');
  return type !== undefined && /^[a-z_]{1,80}$/.test(type) ? type : undefined;
}

type Sentence = readonly [code: ErrorCode, what: string, mend: string];

/** A sentence for an answer that is an error. */
export function refusal(engine: Engine, status: number, type: string | undefined): CollectError {
  const [code, what, mend] = sentenceOf(engine, status, type);
  const named = type === undefined ? String(status) : `${status}, ${type}`;
  return new CollectError(code, `${engine.url}: ${engine.title} ${what} (${named})`, { status, mend });
}

function sentenceOf(engine: Engine, status: number, type: string | undefined): Sentence {
  if (type === 'cluster_block_exception')
    return ['store', 'blocks writing, as it does when its disk is full', 'free space on its disks'];
  if (type === 'index_not_found_exception')
    return ['store', 'lost the index meanwhile', 'run again, and check who else deletes indices'];
  if (type === 'validation_exception')
    return ['store', 'has as many shards as it may have', 'delete old indices or raise cluster.max_shards_per_node'];
  if (type === 'invalid_index_name_exception')
    return ['config', 'does not take the name of the index', 'set another name for indices'];
  switch (status) {
    case 401:
      return ['credentials', 'does not accept the credentials', `check ${engine.login}`];
    case 403:
      return ['denied', 'refuses this', 'grant manage, read and write on these indices'];
    case 404:
    case 405:
    case 501:
      return ['config', 'does not know this request', `check ${engine.address}, which must lead to its API`];
    case 413:
      return ['store', 'takes no request of this size', 'raise http.max_content_length or lower the bytes of a batch'];
    case 429:
      return ['throttled', 'stayed busy', 'run again later, or set longer pauses and smaller batches'];
    default:
      return ['store', status >= 500 ? 'stayed out of order' : 'refused a request', 'look at its log'];
  }
}

const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|TLS|SSL|EPROTO/i;

/** What it means that no answer came, and whether another may. */
function unanswered(engine: Engine, cause: unknown): { readonly error: CollectError; readonly passing: boolean } {
  if (cause instanceof CollectError) return { error: cause, passing: false };
  const name = cause instanceof Error ? cause.name : '';
  const text = `${codeIn(cause)} ${cause instanceof Error ? cause.message : ''}`;
  const fail = (code: ErrorCode, what: string, mend: string, passing: boolean) => ({
    error: new CollectError(code, `${engine.url}: ${what}`, { mend }),
    passing,
  });
  if (name === 'ProductNotSupportedError')
    return fail(
      'config',
      `this is no ${engine.title}`,
      `check ${engine.address}; OpenSearch has a store of its own`,
      false,
    );
  if (name === 'DeserializationError')
    return fail('config', 'the answer is no JSON', `check ${engine.address}, which must lead to its API`, false);
  if (name === 'TimeoutError') return fail('timeout', `no answer in ${SILENCE_MS / 1000} s`, 'look at its log', true);
  if (/ENOTFOUND/.test(text)) return fail('network', 'the host is unknown', `check ${engine.address}`, false);
  if (CERTIFICATE.test(text))
    return fail('network', 'the certificate is not trusted', 'name the authority in the variable of CA bundles', false);
  const refused = /ECONNREFUSED/.test(text);
  const mend = `check ${engine.address}, the network and that it runs`;
  return fail('network', `the connection ${refused ? 'is refused' : 'broke'}`, mend, true);
}

function codeIn(cause: unknown): string {
  const codes = ['code', 'cause.code', 'meta.meta.connection.cause.code'].map((path) => textAt(cause, path));
  return codes.find((code) => code !== undefined) ?? '';
}
