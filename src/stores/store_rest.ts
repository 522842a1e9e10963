import {
  assertEncrypted,
  baseUrl,
  choice,
  flag,
  integer,
  optional,
  secret,
  setting,
  such,
  type Values,
} from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { type Auth, clientCredentials, staticHeaders } from '../http/auth.ts';
import { rawMembers } from '../http/fields.ts';
import { isObject } from '../json.ts';
import { parseTemplate, type TemplateValues } from '../templating/template.ts';
import { assertIntact, type Batch, batchesOf, bodyOf, sendAll, withFacts } from './_batches.ts';
import { isPassing, type Judged, networkAliases, networkShape, refused, type Sender, senderOf } from './_send.ts';
import { type Dataset, defineStore, namesOf, type OpenContext } from './store.ts';

const ENV = {
  STORE_REST_URL: setting('URL that records are sent to, a template such as https://host/in/%TAG'),
  STORE_REST_HTTP_FORMAT: setting('Format of the body', choice(['json', 'ndjson', 'form-data'], 'json')),
  STORE_REST_HTTP_METHOD: setting('Method', choice(['post', 'put'], 'post')),
  STORE_REST_TOKEN: secret('Bearer token', optional()),
  STORE_REST_HEADER_AUTHORIZATION: secret('The Authorization header, where it is no bearer token', optional()),
  STORE_REST_HEADER_X_API_KEY: secret('The X-API-Key header', optional()),
  STORE_REST_HEADERS: secret(
    'Further headers as a JSON object of texts',
    such(isHeaders, 'must be a JSON object of header names and texts').optional(),
  ),
  STORE_REST_OAUTH_TOKEN_URL: setting('Token endpoint of OAuth 2 client credentials', optional()),
  STORE_REST_OAUTH_CLIENT_ID: setting('Client ID', optional()),
  STORE_REST_OAUTH_CLIENT_SECRET: secret('Client secret', optional()),
  STORE_REST_OAUTH_SCOPE: setting('Scope, where the token endpoint wants one', optional()),
  STORE_REST_BATCH_SIZE: setting(
    'Records of a request; 1 sends each as itself, more as an array',
    integer(1, 1, 100_000),
  ),
  STORE_REST_BATCH_BYTES: setting('Bytes of a request before compression, at most', integer(1_048_576, 1024)),
  STORE_REST_CONCURRENCY: setting('Requests at once', integer(4, 1, 64)),
  STORE_REST_TIMEOUT: setting('Seconds to wait for an answer', integer(30, 1, 3600)),
  STORE_REST_RETRIES: setting('Tries after the first', integer(5, 0, 20)),
  STORE_REST_GZIP: setting('Compress requests', flag()),
  STORE_REST_RAW: setting('Send records as they are, without the upload they are part of', flag()),
  ...networkShape,
} as const;

type Settings = Values<typeof ENV>;

const OPEN_OBJECT = 0x7b;
const HELD = 32 * 2 ** 20;
const TYPES = {
  json: 'application/json',
  ndjson: 'application/x-ndjson',
  'form-data': 'application/x-www-form-urlencoded',
};

export default defineStore({
  name: 'rest',
  title: 'Any HTTP endpoint',
  docs: 'https://www.rfc-editor.org/rfc/rfc9110.html#name-post',
  env: ENV,
  aliases: networkAliases,
  example: { STORE_REST_URL: 'https://ingest.example.com/%TAG', STORE_REST_BATCH_SIZE: '500' },
  targets(settings, _kind, names) {
    authOf(settings);
    assertFormat(settings);
    return [placeOf(urlOf(settings, names), names)];
  },
  async open(settings, context) {
    const auth = authOf(settings);
    const sender = await senderOf({
      network: settings,
      gzip: settings.STORE_REST_GZIP,
      concurrency: settings.STORE_REST_CONCURRENCY,
      tries: settings.STORE_REST_RETRIES + 1,
      timeout: settings.STORE_REST_TIMEOUT,
      ...(auth === undefined ? {} : { auth }),
    });
    return {
      write: (dataset) => write(sender, settings, dataset, context),
      check: () => probe(sender, settings, context),
      close: () => sender.close(),
    };
  },
});

/** Values are encoded, so that none leaves its place in the URL. */
function urlOf(settings: Settings, names: TemplateValues): URL {
  const { tag, tenancy, ...rest } = names;
  const text = parseTemplate(settings.STORE_REST_URL).render({
    ...rest,
    tag: encodeURIComponent(tag),
    tenancy: encodeURIComponent(tenancy),
  });
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.username !== '' || url.password !== '' || !/^https?:$/.test(url.protocol)) {
    throw new CollectError('config', 'STORE_REST_URL is no web address, or holds a user and password', {
      mend: 'write https://host/path and set credentials in their own variables',
    });
  }
  return assertEncrypted(url, settings.CYBER_COLLECT_ALLOW_HTTP);
}

/** A query may hold a key, so it is not shown. */
function placeOf(url: URL, { tag, tenancy }: TemplateValues): string {
  return `${url.origin}${url.pathname} (${tag} of ${tenancy})`;
}

function assertFormat(settings: Settings): void {
  if (settings.STORE_REST_HTTP_FORMAT !== 'form-data' || settings.STORE_REST_BATCH_SIZE === 1) return;
  throw new CollectError('config', 'a form holds one record, and STORE_REST_BATCH_SIZE asks for more', {
    mend: 'unset STORE_REST_BATCH_SIZE, or set STORE_REST_HTTP_FORMAT=ndjson',
  });
}

function authOf(settings: Settings): Auth | undefined {
  const { STORE_REST_OAUTH_CLIENT_ID: client, STORE_REST_OAUTH_CLIENT_SECRET: key } = settings;
  const { STORE_REST_OAUTH_TOKEN_URL: tokens, STORE_REST_OAUTH_SCOPE: scope, STORE_REST_TOKEN: token } = settings;
  const given = [client, key, tokens].filter((value) => value !== undefined).length;
  if (given > 0 && (given < 3 || token !== undefined)) {
    const fault = given < 3 ? 'STORE_REST_OAUTH_... are not all set' : 'both a token and a client are set';
    throw new CollectError('config', fault, {
      mend: 'set STORE_REST_TOKEN alone, or STORE_REST_OAUTH_TOKEN_URL, _CLIENT_ID and _CLIENT_SECRET',
    });
  }
  if (token !== undefined) return staticHeaders({ authorization: `Bearer ${token}` });
  if (tokens === undefined || client === undefined || key === undefined) return undefined;
  const { href } = assertEncrypted(baseUrl(tokens), settings.CYBER_COLLECT_ALLOW_HTTP);
  const form = { grant_type: 'client_credentials', client_id: client, client_secret: key };
  return clientCredentials({ path: href, form: scope === undefined ? form : { ...form, scope } });
}

function isHeaders(text: string): boolean {
  const named = headersIn(text);
  return named !== undefined && Object.entries(named).every(([name, value]) => isHeader(name, value));
}

function isHeader(name: string, value: unknown): boolean {
  return /^[!#$%&'*+.^_`|~0-9a-z-]+$/i.test(name) && typeof value === 'string' && /^[\t\x20-\x7e]*$/.test(value);
}

function headersIn(text: string): Readonly<Record<string, string>> | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return isObject(value) ? (value as Readonly<Record<string, string>>) : undefined;
  } catch {
    return undefined;
  }
}

function headersOf(settings: Settings): Readonly<Record<string, string>> {
  const { STORE_REST_HEADER_AUTHORIZATION: authorization, STORE_REST_HEADER_X_API_KEY: key } = settings;
  const more = Object.entries(headersIn(settings.STORE_REST_HEADERS ?? '{}') ?? {});
  return {
    'content-type': TYPES[settings.STORE_REST_HTTP_FORMAT],
    ...(authorization === undefined ? {} : { authorization }),
    ...(key === undefined ? {} : { 'x-api-key': key }),
    ...Object.fromEntries(more.map(([name, value]) => [name.toLowerCase(), value])),
  };
}

async function write(sender: Sender, settings: Settings, dataset: Dataset, context: OpenContext) {
  const names = namesOf(dataset, context);
  const url = urlOf(settings, names);
  const method = settings.STORE_REST_HTTP_METHOD === 'put' ? 'PUT' : 'POST';
  const headers = headersOf(settings);
  await assertIntact(dataset);
  await dataset.confirm();
  const bounds = { count: settings.STORE_REST_BATCH_SIZE, bytes: settings.STORE_REST_BATCH_BYTES };
  const batches = batchesOf(dataset, bounds, settings.STORE_REST_RAW ? (record) => record : withFacts(dataset));
  const width = { batches: settings.STORE_REST_CONCURRENCY, bytes: HELD };
  await sendAll(batches, width, async (batch, signal) => {
    const key = `${dataset.metadata.upload_id}-${batch[0]?.number}-${batch.at(-1)?.number}`;
    const message = {
      url,
      method,
      headers: { 'idempotency-key': key, ...headers },
      body: contentOf(batch, settings),
      judge: ({ status }: { readonly status: number }) => judged(status, `${method} ${url.pathname}`, batch),
    } as const;
    return (await sender.send(message, signal)).judged;
  });
  return { at: placeOf(url, names), records: dataset.metadata.records };
}

function contentOf(batch: Batch, settings: Settings): Buffer {
  const [first] = batch;
  switch (settings.STORE_REST_HTTP_FORMAT) {
    case 'ndjson':
      return bodyOf(batch, '\n', '', '\n');
    case 'form-data':
      return first === undefined ? Buffer.alloc(0) : formOf(first.bytes, first.number);
    default:
      return settings.STORE_REST_BATCH_SIZE === 1 ? bodyOf(batch, '') : bodyOf(batch, ',', '[', ']');
  }
}

/** Texts as they are, null as nothing, all else as JSON. */
function formOf(record: Buffer, number: number): Buffer {
  const form = new URLSearchParams();
  if (record[0] !== OPEN_OBJECT) {
    throw new CollectError('store', `record ${number} is no object, which a form cannot hold`, {
      mend: 'unset STORE_REST_RAW, or set STORE_REST_HTTP_FORMAT=json',
    });
  }
  for (const { key, value } of rawMembers(record)) {
    const json = Buffer.from(value).toString('utf8');
    form.append(key, json === 'null' ? '' : json.startsWith('"') ? String(JSON.parse(json)) : json);
  }
  return Buffer.from(form.toString());
}

function judged(status: number, what: string, batch: Batch): Judged {
  if ((status >= 200 && status < 300) || status === 409) return 'taken'; // 409: known by its Idempotency-Key
  if (status === 413) return 'halve';
  if (status === 401) return 'credentials';
  if (status === 403)
    return new CollectError('denied', `${what} was answered with 403`, { status, mend: 'allow it there' });
  if (isPassing(status)) return 'again';
  if (status === 404 || status === 405) {
    return refused(what, status, undefined, 'check STORE_REST_URL and STORE_REST_HTTP_METHOD');
  }
  const [first, last] = [batch[0]?.number, batch.at(-1)?.number];
  const which = first === last ? `record ${first} was refused` : `one of the records ${first} to ${last} was refused`;
  return refused(
    what,
    status,
    which,
    'earlier records are there, known by upload_id; ask the server’s log what is wrong',
  );
}

/** Any answer but a refusal will do, as an endpoint for records need not know another method. */
async function probe(sender: Sender, settings: Settings, { tenancy, at }: OpenContext): Promise<void> {
  const uuid = '00000000-0000-4000-8000-000000000000';
  const url = urlOf(settings, { uuid, tag: 'cyber_collect_probe', tenancy, at });
  const judge = ({ status }: { readonly status: number }) => {
    const verdict = judged(status, `HEAD ${url.pathname}`, []);
    return verdict instanceof CollectError && verdict.code === 'store' ? 'taken' : verdict;
  };
  const { 'content-type': _, ...headers } = headersOf(settings);
  await sender.send({ url, method: 'HEAD', headers, body: Buffer.alloc(0), judge });
}
