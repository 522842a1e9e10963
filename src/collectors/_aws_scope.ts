import type { AwsIdentity } from '../config/aws.ts';
import { CollectError } from '../errors.ts';
import type { Json, JsonObject } from '../json.ts';
import { explained, isUnreadable, NOT_ENABLED, nameOf, placeOf } from './_aws_errors.ts';
import { type AwsSettings, endpointOf } from './_aws_settings.ts';

/** Temporary credentials, or those of an access key. */
export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly expiration?: Date;
}

/** What every client of the SDK is made with. */
export interface ClientConfig {
  readonly region: string;
  readonly credentials?: Credentials | (() => Promise<Credentials>);
  readonly profile?: string;
  readonly endpoint?: string;
  readonly forcePathStyle?: true;
  readonly followRegionRedirects?: true;
  readonly retryMode: 'adaptive';
  readonly maxAttempts: number;
  readonly requestHandler: { readonly connectionTimeout: number; readonly socketTimeout: number };
  readonly logger: typeof SILENT;
  readonly customUserAgent: string;
}

/** What goes with a call. */
export interface Options {
  readonly abortSignal: AbortSignal;
}

/** A list that AWS hands out in pages. */
export interface List<O extends object> {
  /** As IAM calls the permission, such as `iam:ListUsers`. */
  readonly action: string;
  send(token: string | undefined, options: Options): Promise<O>;
  /** Where it goes on; nothing at its end. */
  next(answer: O): string | undefined;
  /** Errors that say that the service is not enabled here. */
  readonly off?: readonly string[];
}

/** A region of an account. */
export interface Scope {
  /** Undefined until it is known who we are. */
  readonly account: string | undefined;
  readonly region: string;
  /** A client, here or in another region. */
  open<C extends Client>(make: new (config: ClientConfig) => C, region?: string): C;
  /** Asks; what goes wrong becomes a sentence. */
  ask<O extends object>(action: string, send: (options: Options) => Promise<O>): Promise<O>;
  /** Asks; the error's name where AWS answers with one of these. */
  askUnless<O extends object>(
    errors: readonly string[],
    action: string,
    send: (options: Options) => Promise<O>,
  ): Promise<O | string>;
  /** The answers of a list, page by page. */
  pages<O extends object>(list: List<O>): AsyncGenerator<O>;
  /** The error of an answer that lacks what it is about. */
  lacking(action: string, field: string): CollectError;
}

interface Client {
  destroy(): void;
}

/** What a scope is made of. */
export interface ScopeOptions {
  readonly settings: AwsSettings;
  readonly identity: Omit<AwsIdentity, 'region' | 'credentials'> & Pick<ClientConfig, 'credentials'>;
  readonly account: string | undefined;
  readonly region: string;
  readonly signal: AbortSignal;
  /** Takes clients in, which are to be destroyed. */
  readonly opened: Client[];
}

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }; // else the SDK writes to the console
const CONNECT_MS = 10_000;
const SILENCE_MS = 120_000;
/** Times that an answer is asked for which comes cut off: the SDK tries again only what has failed before. */
const READINGS = 3;

/** A region of an account; nothing is sent yet. */
export function scopeOf(options: ScopeOptions): Scope {
  const { account, region, signal, opened } = options;
  const known = account === undefined ? {} : { account };
  const asked = (action: string) => ({ action, region, ...known });
  const askUnless: Scope['askUnless'] = async (errors, action, send) => {
    for (let reading = 1; ; reading += 1) {
      try {
        return await send({ abortSignal: signal });
      } catch (error) {
        signal.throwIfAborted();
        if (errors.includes(nameOf(error))) return nameOf(error);
        if (!isUnreadable(error) || reading === READINGS) throw explained(error, asked(action));
      }
    }
  };
  const ask: Scope['ask'] = async (action, send) => {
    const answer = await askUnless([], action, send);
    if (typeof answer === 'string') throw new CollectError('defect', `${action} has no errors to wait for`);
    return answer;
  };
  return {
    account,
    region,
    ask,
    askUnless,
    open(make, where = region) {
      const client = new make(configOf(options, where));
      opened.push(client);
      return client;
    },
    async *pages({ action, send, next, off = [] }) {
      const known = new Set<string>();
      for (let token: string | undefined; ; ) {
        const answer = await askUnless(token === undefined ? off : [], action, (given) => send(token, given));
        if (typeof answer === 'string') throw notEnabled(`${placeOf(asked(action))}: not enabled (${answer})`);
        yield answer;
        // Some lists end with an empty token.
        token = next(answer) || undefined;
        if (token === undefined) return;
        if (known.has(token)) {
          throw new CollectError('incomplete', `${placeOf(asked(action))}: the same page token comes again and again`);
        }
        known.add(token);
      }
    },
    lacking: (action, field) =>
      new CollectError('vendor', `${placeOf(asked(action))}: the answer has no ${field}`, {
        mend: 'check AWS_ENDPOINT_URL and any proxy between',
      }),
  };
}

/** The error of a service that is not enabled. */
export function notEnabled(message: string): CollectError {
  return new CollectError('denied', message, {
    title: NOT_ENABLED,
    mend: 'enable it, or leave it out with --exclude or AWS_SERVICES',
  });
}

function configOf({ settings, identity }: ScopeOptions, region: string): ClientConfig {
  return {
    ...identity,
    region,
    retryMode: 'adaptive',
    maxAttempts: settings.AWS_MAX_ATTEMPTS,
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: SILENCE_MS },
    logger: SILENT,
    customUserAgent: 'cyber-collect',
    followRegionRedirects: true,
    ...(settings.AWS_ENDPOINT_URL === undefined ? {} : { endpoint: endpointOf(settings).href, forcePathStyle: true }),
  };
}

/** What the SDK has parsed as JSON again, with fields of ours behind. */
export function recordOf(answer: object, added: JsonObject): JsonObject {
  return { ...(jsonOf(answer) as JsonObject), ...added };
}

/** A parsed answer as JSON: moments in ISO, bytes in base64. */
export function jsonOf(value: unknown): Json {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (Array.isArray(value)) return value.map(jsonOf);
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (typeof value !== 'object' || value === null) return (value ?? null) as Json;
  const fields = Object.entries(value).filter(([key, inner]) => inner !== undefined && key !== '$metadata');
  return Object.fromEntries(fields.map(([key, inner]) => [key, jsonOf(inner)]));
}
