import type { ClientOptions } from '@elastic/elasticsearch';
import { programShape } from '../config/program.ts';
import { assertEncrypted, baseUrl, optional, secret, setting, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { authorities, type Engine, SILENCE_MS, saidBy } from './_search.ts';
import { indexName } from './_search_index.ts';
import { type Filling, fillingWords, searchSink } from './_search_sink.ts';
import { defineStore } from './store.ts';

const words = fillingWords();

const ENV = {
  ES_CLOUD: setting('Cloud ID of the deployment; this or STORE_ELASTICSEARCH_URL switches the store on', optional()),
  STORE_ELASTICSEARCH_URL: setting('Base URL of a server that is not on Elastic Cloud', optional()),
  ES_API_KEY: secret('API key, encoded or as id:key', optional()),
  STORE_ELASTICSEARCH_USERNAME: setting('User, where there is no API key', optional()),
  STORE_ELASTICSEARCH_PASSWORD: secret('Password of the user', optional()),
  STORE_ELASTICSEARCH_INDEX: words.index,
  STORE_ELASTICSEARCH_ID: words.id,
  STORE_ELASTICSEARCH_OP: words.op,
  STORE_ELASTICSEARCH_THRESHOLD: words.threshold,
  STORE_ELASTICSEARCH_SLEEP: words.sleep,
  STORE_ELASTICSEARCH_BATCH_BYTES: words.bytes,
  STORE_ELASTICSEARCH_PIPELINE: words.pipeline,
  STORE_ELASTICSEARCH_KEEP: words.keep,
  STORE_ELASTICSEARCH_DATA_STREAMS: words.streams,
  STORE_ELASTICSEARCH_CA_BUNDLE: words.authority,
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
} as const;

type Settings = Values<typeof ENV>;

export default defineStore({
  name: 'elasticsearch',
  title: 'Elasticsearch and Elastic Cloud',
  docs: 'https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk',
  env: ENV,
  aliases: {
    ES_NODE: 'STORE_ELASTICSEARCH_URL',
    ES_USERNAME: 'STORE_ELASTICSEARCH_USERNAME',
    ES_PASSWORD: 'STORE_ELASTICSEARCH_PASSWORD',
  },
  example: { STORE_ELASTICSEARCH_URL: 'https://elasticsearch.example.com:9200' },
  targets(settings, _kind, names) {
    const url = addressOf(settings);
    return url === undefined ? undefined : [`${url}/${indexName(settings.STORE_ELASTICSEARCH_INDEX, names)}`];
  },
  async open(settings, context) {
    return searchSink(await engineOf(settings), fillingOf(settings), context);
  },
});

/** Where the server is, and that we know who to be; undefined when nothing is set. */
function addressOf(settings: Settings): string | undefined {
  const { ES_CLOUD: cloud, ES_API_KEY: key, STORE_ELASTICSEARCH_URL: url } = settings;
  const { STORE_ELASTICSEARCH_USERNAME: user, STORE_ELASTICSEARCH_PASSWORD: password } = settings;
  if ((user === undefined) !== (password === undefined))
    throw unset(user === undefined ? 'STORE_ELASTICSEARCH_USERNAME' : 'STORE_ELASTICSEARCH_PASSWORD');
  const known = key !== undefined || user !== undefined;
  if (url === undefined && cloud === undefined) {
    if (known) throw unset('ES_CLOUD or STORE_ELASTICSEARCH_URL');
    return undefined;
  }
  if (url === undefined && !known) throw unset('ES_API_KEY');
  const address = url ?? (/^https?:/.test(cloud ?? '') ? cloud : undefined);
  const parsed = address === undefined ? deployment(cloud ?? '') : baseUrl(address);
  return assertEncrypted(parsed, settings.CYBER_COLLECT_ALLOW_HTTP).href.replace(/\/$/, '');
}

function unset(name: string): CollectError {
  return new CollectError('config', `${name} is missing, the rest is set`, { mend: `set ${name}` });
}

/** `name:base64`, which says `host[:port]$deployment$kibana`. */
function deployment(cloud: string): URL {
  const [host, id] = Buffer.from(cloud.slice(cloud.indexOf(':') + 1), 'base64')
    .toString()
    .split('$');
  const url = `https://${id}.${host}`;
  if (cloud.includes(':') && /^[\w.-]+(:\d+)?$/.test(host ?? '') && /^[\w-]+$/.test(id ?? '') && URL.canParse(url))
    return new URL(url);
  throw new CollectError('config', 'ES_CLOUD is no Cloud ID', { mend: 'copy it from the page of the deployment' });
}

async function engineOf(settings: Settings): Promise<Engine> {
  const url = addressOf(settings) ?? '';
  const ca = await authorities('STORE_ELASTICSEARCH_CA_BUNDLE', settings.STORE_ELASTICSEARCH_CA_BUNDLE);
  const auth = authOf(settings);
  const { Client } = await import('@elastic/elasticsearch');
  const client = new Client({
    node: url,
    maxRetries: 0,
    requestTimeout: SILENCE_MS,
    compression: settings.ES_CLOUD !== undefined,
    ...(ca === undefined ? {} : { tls: { ca: [...ca] } }),
    ...(auth === undefined ? {} : { auth }),
  });
  return {
    title: 'Elasticsearch',
    url,
    address: settings.STORE_ELASTICSEARCH_URL === undefined ? 'ES_CLOUD' : 'STORE_ELASTICSEARCH_URL',
    login: 'ES_API_KEY, or STORE_ELASTICSEARCH_USERNAME and STORE_ELASTICSEARCH_PASSWORD',
    call({ method, path, query = {}, body }) {
      const sent = body === undefined ? {} : Buffer.isBuffer(body) ? { bulkBody: body } : { body };
      return saidBy(client.transport.request({ method, path, querystring: query, ...sent }, { meta: true }));
    },
    close: () => client.close(),
  };
}

function authOf(settings: Settings): NonNullable<ClientOptions['auth']> | undefined {
  const { ES_API_KEY: key, STORE_ELASTICSEARCH_USERNAME: username } = settings;
  if (key !== undefined) return { apiKey: key.includes(':') ? Buffer.from(key).toString('base64') : key };
  if (username === undefined) return undefined;
  return { username, password: settings.STORE_ELASTICSEARCH_PASSWORD ?? '' };
}

function fillingOf(settings: Settings): Filling {
  return {
    index: settings.STORE_ELASTICSEARCH_INDEX,
    id: settings.STORE_ELASTICSEARCH_ID,
    op: settings.STORE_ELASTICSEARCH_OP,
    threshold: settings.STORE_ELASTICSEARCH_THRESHOLD,
    sleep: settings.STORE_ELASTICSEARCH_SLEEP,
    bytes: settings.STORE_ELASTICSEARCH_BATCH_BYTES,
    pipeline: settings.STORE_ELASTICSEARCH_PIPELINE,
    keep: settings.STORE_ELASTICSEARCH_KEEP,
    streams: settings.STORE_ELASTICSEARCH_DATA_STREAMS,
  };
}
