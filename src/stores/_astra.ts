import type { Dispatcher } from 'undici';
import { astraShape } from '../config/astra.ts';
import { programShape } from '../config/program.ts';
import {
  assertEncrypted,
  baseUrl,
  choice,
  flag,
  integer,
  optional,
  setting,
  text,
  type Values,
} from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { Client } from '../http/client.ts';
import { createDispatcher } from '../http/dispatcher.ts';
import type { Rule } from '../http/retry.ts';
import { at, isObject, type Json, type JsonObject, textAt } from '../json.ts';

/** The store's variables. */
export const dataApiShape = {
  ASTRA_DB_ID: setting('Id of the database, a UUID'),
  ASTRA_DB_REGION: setting('Region of the database, such as us-east1'),
  STORE_ASTRA_TABLE: setting('Table of syslog events, or the collection; knows %TAG', text('events')),
  STORE_ASTRA_ENDPOINT: setting('Base URL of the Data API; unset = made of the id and the region', optional()),
  STORE_ASTRA_KIND: setting(
    'Where records go: tables, which the cassandra store writes too, or one collection',
    choice(['table', 'collection'], 'table'),
  ),
  STORE_ASTRA_BATCH_SIZE: setting('Records in one request', integer(50, 1, 100)),
  STORE_ASTRA_CONCURRENCY: setting('Requests under way at once', integer(8, 1, 64)),
  STORE_ASTRA_KEEP: setting('Earlier uploads of a snapshot to keep, for readers that are at them', integer(1)),
  STORE_ASTRA_CREATE: setting('Make tables or collection where they are missing', flag()),
  ...astraShape,
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
  CYBER_COLLECT_CA_FILE: programShape.CYBER_COLLECT_CA_FILE,
  CYBER_COLLECT_CLIENT_CERT: programShape.CYBER_COLLECT_CLIENT_CERT,
  CYBER_COLLECT_CLIENT_KEY: programShape.CYBER_COLLECT_CLIENT_KEY,
  CYBER_COLLECT_HEADERS_TIMEOUT: programShape.CYBER_COLLECT_HEADERS_TIMEOUT,
  HTTP_PROXY: programShape.HTTP_PROXY,
  HTTPS_PROXY: programShape.HTTPS_PROXY,
  NO_PROXY: programShape.NO_PROXY,
} as const;

/** Their values. */
export type DataApiSettings = Values<typeof dataApiShape>;

/** The Data API of a keyspace. */
export interface DataApi {
  readonly place: string;
  /** A command on a table or collection, or without a target on the keyspace; what it answers. */
  command(name: string, body: JsonObject, target?: string): Promise<JsonObject>;
  /** Inserts documents; those that are there already count as inserted. `what` names them in errors. */
  insert(target: string, documents: readonly JsonObject[], what: string): Promise<void>;
  /** Everything that a filter finds. */
  find(target: string, filter: JsonObject, more?: JsonObject): Promise<readonly JsonObject[]>;
  close(): Promise<void>;
}

/**
 * The endpoint.
 * @throws {CollectError} config
 */
export function endpointOf(settings: DataApiSettings): URL {
  const { ASTRA_DB_ID: id, ASTRA_DB_REGION: region, STORE_ASTRA_ENDPOINT: endpoint } = settings;
  if (settings.ASTRA_DB_APPLICATION_TOKEN === undefined) {
    throw new CollectError('config', 'ASTRA_DB_ID is set, ASTRA_DB_APPLICATION_TOKEN is not', {
      mend: 'set ASTRA_DB_APPLICATION_TOKEN',
    });
  }
  if (!/^[\w-]+$/.test(id) || !/^[\w-]+$/.test(region)) {
    throw new CollectError('config', 'ASTRA_DB_ID or ASTRA_DB_REGION is no single word', {
      mend: 'copy both from the portal of Astra',
    });
  }
  const url = baseUrl(endpoint ?? `https://${id}-${region}.apps.astra.datastax.com`);
  return assertEncrypted(url, settings.CYBER_COLLECT_ALLOW_HTTP);
}

/** What an answer says by the code of an error in it, mostly with status 200. The codes are those of its source. */
function coded(codes: string): RegExp {
  return new RegExp(`"errorCode":"(?:${codes})"`);
}

const PASSING =
  'FAILED_\\w+|TIMEOUT_\\w+|UNAVAILABLE_DATABASE|INTERNAL_SERVER_ERROR|UNEXPECTED_(?:SERVER|DRIVER)_ERROR';
const MISSING =
  /^(COLLECTION_NOT_EXIST|UNKNOWN_(TABLE|COLLECTION|COLLECTION_OR_TABLE)|UNKNOWN_KEYSPACE|INVALID_KEYSPACE)$/;
const RULES: readonly Rule[] = [
  { body: coded('UNAUTHENTICATED\\w*|INVALID_TOKEN'), as: 'credentials', because: 'the token is not accepted' },
  { body: coded('UNAUTHORIZED\\w*'), as: 'denied', because: 'the role of the token may not do this' },
  { body: coded('RATE_LIMIT\\w*|TOO_MANY_REQUESTS|\\w*OVERLOAD'), as: 'throttled' },
  { status: [200, 207], body: coded(`${PASSING}|CONCURRENCY_FAILURE|SERVER_\\w+`), as: 'retry' },
  { status: 404, as: 'failed', because: 'no such database is there: wrong region, deleted, or hibernated for long' },
];

/** A wait that is told may not be longer, in milliseconds. */
const PATIENCE = 3_600_000;
const MOST_ANSWER = 64 * 2 ** 20;

/** Opens the Data API; nothing is sent yet. */
export function dataApiOf(settings: DataApiSettings): DataApi {
  const { place, ask, close } = doorTo(settings);
  const nameOf = (target = '') => `${settings.ASTRA_DB_KEYSPACE}.${target}`;
  async function command(name: string, body: JsonObject, target?: string): Promise<JsonObject> {
    const answer = await ask(name, body, target);
    const [code] = codesOf(answer);
    if (code !== undefined) throw refused(place, `the command ${name}`, code, nameOf(target));
    return answer;
  }
  return {
    place,
    command,
    close,
    async insert(target, documents, what) {
      const inserting = { documents: [...documents], options: { ordered: false, returnDocumentResponses: true } };
      const answer = await ask('insertMany', inserting, target);
      const code = notInserted(place, answer, documents.length);
      if (code !== undefined) throw refused(place, what, code, nameOf(target));
    },
    async find(target, filter, more = {}) {
      const found: JsonObject[] = [];
      for (let state: Json | undefined; ; ) {
        const paging = state === undefined ? {} : { options: { pageState: state } };
        const answer = await command('find', { filter, ...more, ...paging }, target);
        const page = at(answer, 'data.documents');
        if (!Array.isArray(page)) throw new CollectError('vendor', `${place}: the answer to find holds no documents`);
        found.push(...page.filter(isObject));
        state = at(answer, 'data.nextPageState') ?? undefined;
        if (state === undefined || 'sort' in more) return found;
      }
    },
  };
}

/** The one way to the database: commands to the keyspace or to something in it. */
function doorTo(settings: DataApiSettings) {
  const endpoint = endpointOf(settings);
  const place = `astra ${endpoint.host}`;
  const { STORE_ASTRA_CONCURRENCY: concurrency, CYBER_COLLECT_ALLOW_HTTP: allowHttp } = settings;
  const dispatcher = dispatcherOf(settings);
  const meter = { requests: 0, retries: 0, waited_ms: 0, bytes: 0 };
  const closing = new AbortController();
  const headers = { token: settings.ASTRA_DB_APPLICATION_TOKEN ?? '' };
  const bounds = { headroom: 0, maxBody: MOST_ANSWER, maxRecord: MOST_ANSWER, maxPages: 1, scratch: '', allowHttp };
  const common = { ...bounds, dispatcher, concurrency, userAgent: 'cyber-collect' };
  let client: Client | undefined;
  let renew = 0;
  return {
    place,
    async ask(name: string, body: JsonObject, target?: string): Promise<JsonObject> {
      const path = `/api/json/v1/${settings.ASTRA_DB_KEYSPACE}${target === undefined ? '' : `/${target}`}`;
      if (client === undefined || Date.now() > renew) {
        renew = Date.now() + PATIENCE / 2;
        const deadline = Date.now() + PATIENCE;
        client = new Client({ baseUrl: endpoint, headers, concurrency }, { ...common, deadline }, RULES);
      }
      const request = { path, method: 'POST', body: { [name]: body }, repeatable: true } as const;
      const asked = client.http(meter, closing.signal).json(request);
      const answer = await asked.catch((cause) => {
        throw told(place, cause);
      });
      if (isObject(answer.body)) return answer.body;
      throw new CollectError('vendor', `${place}: the answer to ${name} is no JSON object`);
    },
    async close(): Promise<void> {
      closing.abort(new CollectError('aborted', 'the store was closed'));
      await dispatcher.destroy();
    },
  };
}

/**
 * The code of the first document that was not inserted and was not there before.
 * @throws {CollectError} vendor where the answer leaves open what became of each
 */
function notInserted(place: string, answer: JsonObject, count: number): string | undefined {
  const errors = codesOf(answer);
  const responses = at(answer, 'status.documentResponses');
  if (!Array.isArray(responses) || responses.length !== count) {
    if (errors[0] !== undefined) return errors[0];
    throw new CollectError('vendor', `${place}: the answer does not say what became of each document`);
  }
  for (const response of responses) {
    if (textAt(response, 'status') === 'OK') continue;
    const code = errors[Number(at(response, 'errorsIdx'))] ?? 'no code';
    if (code !== 'DOCUMENT_ALREADY_EXISTS') return code;
  }
  return undefined;
}

function codesOf(answer: JsonObject): readonly string[] {
  const errors = at(answer, 'errors');
  return Array.isArray(errors) ? errors.map((error) => textAt(error, 'errorCode') ?? 'no code') : [];
}

/** The texts of errors may quote what was sent, so their codes have to do. */
function refused(place: string, what: string, code: string, target: string): CollectError {
  if (MISSING.test(code)) {
    return new CollectError('config', `${place}: ${target} is not there (${code})`, {
      mend: 'make the keyspace in the portal and the tables with STORE_ASTRA_CREATE=true or in its CQL console',
    });
  }
  const mends: Readonly<Record<string, string>> = {
    SHRED_DOC_LIMIT_VIOLATION: 'let STORE_ASTRA_CREATE=true make the collection, which then does not index json_data',
    UNSUPPORTED_COLUMN_TYPES: 'write that table with STORE_ASTRA_BUNDLE, over CQL',
    TOO_MANY_COLLECTIONS: 'drop a collection, or set STORE_ASTRA_KIND=table',
  };
  return new CollectError('store', `${place}: ${target} refuses ${what} (${code})`, {
    mend: mends[code] ?? 'compare the table or collection with the one in the documentation',
  });
}

/** Errors of the HTTP kit in the words of this store. */
function told(place: string, cause: unknown): unknown {
  if (!(cause instanceof CollectError)) return cause;
  const mends: Partial<Record<CollectError['code'], string>> = {
    credentials: 'set ASTRA_DB_APPLICATION_TOKEN to a token that has not expired',
    denied: 'give the role of the token the rights to read and write tables',
    throttled: 'lower STORE_ASTRA_CONCURRENCY, or run again later',
  };
  const mend = cause.status === 404 ? 'check ASTRA_DB_ID and ASTRA_DB_REGION' : (mends[cause.code] ?? cause.mend);
  const code = cause.code === 'vendor' ? 'store' : cause.code;
  return new CollectError(code, `${place}: ${cause.message}`, { cause, ...(mend === undefined ? {} : { mend }) });
}

function dispatcherOf(settings: DataApiSettings): Dispatcher {
  return createDispatcher({
    httpProxy: settings.HTTP_PROXY,
    httpsProxy: settings.HTTPS_PROXY,
    noProxy: settings.NO_PROXY,
    caFile: settings.CYBER_COLLECT_CA_FILE,
    clientCert: settings.CYBER_COLLECT_CLIENT_CERT,
    clientKey: settings.CYBER_COLLECT_CLIENT_KEY,
    headersTimeout: settings.CYBER_COLLECT_HEADERS_TIMEOUT,
    bodyTimeout: settings.CYBER_COLLECT_HEADERS_TIMEOUT,
    connections: settings.STORE_ASTRA_CONCURRENCY,
  });
}
