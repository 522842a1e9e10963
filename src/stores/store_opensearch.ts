import type { ClientOptions } from '@opensearch-project/opensearch';
import { programShape } from '../config/program.ts';
import { assertEncrypted, baseUrl, optional, secret, setting, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { authorities, type Engine, SILENCE_MS, saidBy } from './_search.ts';
import { indexName } from './_search_index.ts';
import { type Filling, fillingWords, searchSink } from './_search_sink.ts';
import { defineStore } from './store.ts';

const words = fillingWords();

const ENV = {
  STORE_OPENSEARCH_URL: setting('Base URL of the server; switches the store on'),
  STORE_OPENSEARCH_USERNAME: setting('User', optional()),
  STORE_OPENSEARCH_PASSWORD: secret('Password of the user', optional()),
  STORE_OPENSEARCH_INDEX: words.index,
  STORE_OPENSEARCH_ID: words.id,
  STORE_OPENSEARCH_OP: words.op,
  STORE_OPENSEARCH_THRESHOLD: words.threshold,
  STORE_OPENSEARCH_SLEEP: words.sleep,
  STORE_OPENSEARCH_BATCH_BYTES: words.bytes,
  STORE_OPENSEARCH_PIPELINE: words.pipeline,
  STORE_OPENSEARCH_KEEP: words.keep,
  STORE_OPENSEARCH_DATA_STREAMS: words.streams,
  STORE_OPENSEARCH_CA_BUNDLE: words.authority,
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
} as const;

type Settings = Values<typeof ENV>;

export default defineStore({
  name: 'opensearch',
  title: 'OpenSearch',
  docs: 'https://docs.opensearch.org/latest/api-reference/document-apis/bulk/',
  env: ENV,
  example: {
    STORE_OPENSEARCH_URL: 'https://opensearch.example.com:9200',
    STORE_OPENSEARCH_USERNAME: 'collector',
  },
  packages: () => ['@opensearch-project/opensearch'],
  targets(settings, _kind, names) {
    return [`${addressOf(settings)}/${indexName(settings.STORE_OPENSEARCH_INDEX, names)}`];
  },
  async open(settings, context) {
    return searchSink(await engineOf(settings), fillingOf(settings), context);
  },
});

function addressOf(settings: Settings): string {
  const url = assertEncrypted(baseUrl(settings.STORE_OPENSEARCH_URL), settings.CYBER_COLLECT_ALLOW_HTTP);
  return url.href.replace(/\/$/, '');
}

async function engineOf(settings: Settings): Promise<Engine> {
  const url = addressOf(settings);
  const ca = await authorities('STORE_OPENSEARCH_CA_BUNDLE', settings.STORE_OPENSEARCH_CA_BUNDLE);
  const auth = authOf(settings);
  const { Client } = await loaded();
  const client = new Client({
    node: url,
    maxRetries: 0,
    requestTimeout: SILENCE_MS,
    ...(ca === undefined ? {} : { ssl: { ca: [...ca] } }),
    ...(auth === undefined ? {} : { auth }),
  });
  return {
    title: 'OpenSearch',
    url,
    address: 'STORE_OPENSEARCH_URL',
    login: 'STORE_OPENSEARCH_USERNAME and STORE_OPENSEARCH_PASSWORD',
    call({ method, path, query = {}, body }) {
      const sent = body === undefined ? {} : Buffer.isBuffer(body) ? { bulkBody: body } : { body };
      return saidBy(client.transport.request({ method, path, querystring: query, ...sent }));
    },
    close: () => client.close(),
  };
}

async function loaded(): Promise<typeof import('@opensearch-project/opensearch')> {
  return import('@opensearch-project/opensearch').catch((cause: unknown) => {
    throw new CollectError('config', 'OpenSearch needs @opensearch-project/opensearch, which is not installed', {
      mend: 'npm install @opensearch-project/opensearch',
      cause,
    });
  });
}

function authOf(settings: Settings): NonNullable<ClientOptions['auth']> | undefined {
  const { STORE_OPENSEARCH_USERNAME: username, STORE_OPENSEARCH_PASSWORD: password } = settings;
  if (username === undefined && password === undefined) return undefined;
  if (username !== undefined && password !== undefined) return { username, password };
  const missing = username === undefined ? 'STORE_OPENSEARCH_USERNAME' : 'STORE_OPENSEARCH_PASSWORD';
  throw new CollectError('config', `${missing} is missing, the rest is set`, { mend: `set ${missing}` });
}

function fillingOf(settings: Settings): Filling {
  return {
    index: settings.STORE_OPENSEARCH_INDEX,
    id: settings.STORE_OPENSEARCH_ID,
    op: settings.STORE_OPENSEARCH_OP,
    threshold: settings.STORE_OPENSEARCH_THRESHOLD,
    sleep: settings.STORE_OPENSEARCH_SLEEP,
    bytes: settings.STORE_OPENSEARCH_BATCH_BYTES,
    pipeline: settings.STORE_OPENSEARCH_PIPELINE,
    keep: settings.STORE_OPENSEARCH_KEEP,
    streams: settings.STORE_OPENSEARCH_DATA_STREAMS,
  };
}
