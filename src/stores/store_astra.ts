import { assertWhole, spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';
import type { TemplateValues } from '../templating/template.ts';
import { parseTemplate } from '../templating/template.ts';
import { type DataApi, type DataApiSettings, dataApiOf, dataApiShape, endpointOf } from './_astra.ts';
import { collection, type Layout, tables, type Upload } from './_astra_layout.ts';
import { nameOf } from './_cassandra.ts';
import { valuesOf } from './_cassandra_rows.ts';
import { olderTable, type Rows, rowsTable } from './_cassandra_tables.ts';
import { packsOf } from './_packs.ts';
import { damaged } from './_rows.ts';
import { type Dataset, defineStore, namesOf, type OpenContext } from './store.ts';

export default defineStore({
  name: 'astra',
  title: 'DataStax Astra DB (Data API)',
  docs: 'https://docs.datastax.com/en/astra-db-serverless/api-reference/dataapiclient.html',
  env: dataApiShape,
  aliases: { http_proxy: 'HTTP_PROXY', https_proxy: 'HTTPS_PROXY', no_proxy: 'NO_PROXY' },
  example: { ASTRA_DB_ID: '7a1e2c30-5d2b-4b0e-9f61-0c9a4a1d8b77', ASTRA_DB_REGION: 'us-east1' },
  targets(settings, _kind, names) {
    return [targetOf(settings, names)];
  },
  async open(settings, context) {
    const api = dataApiOf(settings);
    return {
      async write(dataset) {
        const names = namesOf(dataset, context);
        const at = targetOf(settings, names);
        const older = olderOf(settings, names);
        await assertWhole(dataset.spool);
        if (older !== undefined) await storeRows(api, settings, dataset, older);
        else await storeUpload(layoutOf(api, settings, names), settings, dataset, context);
        return { at, records: dataset.spool.records };
      },
      async latest(tag) {
        const names = probeNames(context, tag);
        if (olderOf(settings, names) !== undefined) return undefined;
        const held = await layoutOf(api, settings, names)
          .newest(context.tenancy, tag)
          .catch((error) => {
            if (error instanceof CollectError && error.code === 'config') return undefined; // no table yet
            throw error;
          });
        return held === undefined ? undefined : { upload_id: held.upload_id, timestamp: held.upload_timestamp };
      },
      check: () => probe(api, settings, context),
      close: () => api.close(),
    };
  },
});

function probeNames({ tenancy, at }: OpenContext, tag: string): TemplateValues {
  return { uuid: NO_UPLOAD, tag, tenancy, at };
}

const NO_UPLOAD = '00000000-0000-4000-8000-000000000000';

function tableOf(settings: DataApiSettings, names: TemplateValues): string {
  return nameOf('STORE_ASTRA_TABLE', parseTemplate(settings.STORE_ASTRA_TABLE).render(names));
}

/** The table of the older tool's that a tag goes to. */
function olderOf(settings: DataApiSettings, names: TemplateValues): (Rows & { readonly table: string }) | undefined {
  return settings.STORE_ASTRA_KIND === 'table' ? olderTable(names.tag, tableOf(settings, names)) : undefined;
}

function layoutOf(api: DataApi, settings: DataApiSettings, names: TemplateValues): Layout {
  return settings.STORE_ASTRA_KIND === 'table' ? tables(api) : collection(api, tableOf(settings, names));
}

function targetOf(settings: DataApiSettings, names: TemplateValues): string {
  const { host } = endpointOf(settings);
  const keyspace = nameOf('ASTRA_DB_KEYSPACE', settings.ASTRA_DB_KEYSPACE);
  const whole = settings.STORE_ASTRA_KIND === 'table' ? 'cyber_collect_records' : tableOf(settings, names);
  return `astra ${host} ${keyspace}.${olderOf(settings, names)?.table ?? whole} (${names.tag})`;
}

/** Records as documents of the Data API; JSON within JSON can take twice the room, and a request is best below 1 MB. */
const TEXT = 400 * 1024;
const BUCKETS_AHEAD = 64;

async function storeUpload(
  layout: Layout,
  settings: DataApiSettings,
  dataset: Dataset,
  context: OpenContext,
): Promise<void> {
  const { tag, metadata, spool } = dataset;
  const { tenancy, upload_id, timestamp } = metadata;
  const upload: Upload = { tenancy, tag, upload_id, upload_timestamp: timestamp, buckets: 0 };
  if (settings.STORE_ASTRA_CREATE) await layout.create();
  if (await layout.isListed(upload)) return;
  const most = { rows: settings.STORE_ASTRA_BATCH_SIZE, bytes: TEXT, part: TEXT };
  const lane = laneOf(settings.STORE_ASTRA_CONCURRENCY);
  let seen = 0;
  let buckets = 0;
  let announced = 0;
  for await (const pack of packsOf(spool, most)) {
    if (pack.bucket >= announced) {
      announced = pack.bucket + BUCKETS_AHEAD;
      await layout.announce({ ...upload, buckets: announced });
    }
    await lane.push(() => layout.add(upload, pack));
    if (lane.failed()) break;
    seen = pack.seen;
    buckets = pack.bucket + 1;
  }
  await lane.settled();
  if (seen !== spool.records) throw damaged(tag, `${seen} of ${spool.records} records`);
  const old = dataset.kind === 'snapshot' ? (await layout.listed(tenancy, tag)).slice(settings.STORE_ASTRA_KEEP) : [];
  for (const replaced of old) await layout.announce(replaced);
  await dataset.confirm();
  await layout.list({ ...upload, buckets }, { records: spool.records, metadata: JSON.stringify(metadata) });
  await tidy(layout, upload, old).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : 'for no reason that was told';
    context.warn(`${layout.records} (${tag}) is up to date, but earlier uploads were not all removed: ${why}`);
  });
}

/** Removes uploads that were replaced, and what runs that were killed have left: all were announced. */
async function tidy(layout: Layout, upload: Upload, old: readonly Upload[]): Promise<void> {
  for (const replaced of old) await layout.unlist(replaced);
  for (const left of await layout.unfinished(upload.tenancy, upload.tag)) {
    if (!(await layout.isListed(left))) await layout.remove(left);
    await layout.ended(left);
  }
}

/** Rows of the older tool's tables; one that is there already is written over by itself. */
async function storeRows(
  api: DataApi,
  settings: DataApiSettings,
  dataset: Dataset,
  older: Rows & { readonly table: string },
): Promise<void> {
  const names = Object.keys(older.columns);
  const lane = laneOf(settings.STORE_ASTRA_CONCURRENCY);
  let rows: JsonObject[] = [];
  let bytes = 0;
  let seen = 0;
  const flush = async () => {
    const [sent, upTo] = [rows, seen];
    rows = [];
    bytes = 0;
    await lane.push(() => api.insert(older.table, sent, `records ${upTo - sent.length + 1} to ${upTo}`));
  };
  await dataset.confirm();
  try {
    for await (const record of spoolRecords(dataset.spool)) {
      seen += 1;
      const values = valuesOf(record, older.columns, `${dataset.tag}: record ${seen}`);
      rows.push(Object.fromEntries(names.map((name, n) => [name, values[n] as string])));
      bytes += record.length;
      if (rows.length >= settings.STORE_ASTRA_BATCH_SIZE || bytes >= TEXT) await flush();
      if (lane.failed()) break;
    }
    if (rows.length > 0) await flush();
  } finally {
    await lane.settled().catch((cause: unknown) => {
      throw withDdl(cause, rowsTable(settings.ASTRA_DB_KEYSPACE, older.table, older));
    });
  }
  if (seen !== dataset.spool.records) throw damaged(dataset.tag, `${seen} of ${dataset.spool.records} records`);
}

/** The Data API makes no table with a timeuuid, so such a table comes from the CQL console. */
function withDdl(cause: unknown, cql: string): unknown {
  if (!(cause instanceof CollectError) || cause.code !== 'config') return cause;
  return new CollectError('config', cause.message, { cause, mend: `run in the CQL console of Astra: ${cql}` });
}

/** Work of which so much is under way at once. */
interface Lane {
  push(work: () => Promise<void>): Promise<void>;
  failed(): boolean;
  /** @throws what the first failure was */
  settled(): Promise<void>;
}

function laneOf(most: number): Lane {
  const running = new Set<Promise<void>>();
  let failure: { readonly cause: unknown } | undefined;
  return {
    async push(work) {
      while (running.size >= most) await Promise.race(running);
      if (failure !== undefined) return;
      const one: Promise<void> = work()
        .catch((cause: unknown) => {
          failure ??= { cause };
        })
        .finally(() => running.delete(one));
      running.add(one);
    },
    failed: () => failure !== undefined,
    async settled() {
      while (running.size > 0) await Promise.all(running);
      if (failure !== undefined) throw failure.cause;
    },
  };
}

/** Notes an upload as begun, and takes that back; whoever has only the older tool's table is asked for no more. */
async function probe(api: DataApi, settings: DataApiSettings, context: OpenContext): Promise<void> {
  const { tenancy, at } = context;
  const names = probeNames(context, 'cyber_collect_probe');
  const layout = layoutOf(api, settings, names);
  if (settings.STORE_ASTRA_CREATE) await layout.create();
  const timestamp = at.toISOString().replace(/\.\d+Z$/, 'Z');
  const upload = { tenancy, tag: names.tag, upload_id: NO_UPLOAD, upload_timestamp: timestamp, buckets: 0 };
  try {
    await layout.announce(upload);
  } catch (cause) {
    if (!(cause instanceof CollectError) || cause.code !== 'config' || settings.STORE_ASTRA_KIND !== 'table')
      throw cause;
    await api.find(tableOf(settings, names), { device_name: names.tag }).catch(() => {
      throw cause;
    });
    return;
  }
  const found = await layout.unfinished(tenancy, names.tag);
  await layout.ended(upload);
  if (found.length === 1) return;
  throw new CollectError('store', `${api.place}: what was written is not there`, { mend: 'run doctor again' });
}
