import { randomUUID } from 'node:crypto';
import { spoolChunks } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { bigqueryShape, type Column, connectionOf, openWarehouse, type Warehouse } from './_bigquery.ts';
import { mendEscapes, type Tally } from './_escapes.ts';
import { framedLines } from './_lines.ts';
import { damaged, tableOf, UPLOADS } from './_rows.ts';
import { type Dataset, defineStore, type Held, type OpenContext } from './store.ts';

/**
 * A table for each tag, with the upload's columns before the record: loaded into a table of its own, counted, and put
 * into place by one transaction. Tried against a scripted server only: there is no BigQuery that runs on one machine.
 */
export default defineStore({
  name: 'bigquery',
  title: 'Google BigQuery',
  docs: 'https://cloud.google.com/bigquery/docs/batch-loading-data',
  env: bigqueryShape,
  example: { STORE_BIGQUERY_PROJECT_ID: 'acme-security', STORE_BIGQUERY_DATASET: 'security_metrics' },
  packages: () => ['@google-cloud/bigquery'],
  targets(settings, _kind, { tag }) {
    connectionOf(settings);
    return [`bigquery://${settings.STORE_BIGQUERY_PROJECT_ID}/${settings.STORE_BIGQUERY_DATASET}.${tableOf(tag)}`];
  },
  async open(settings, context) {
    const warehouse = await openWarehouse(settings);
    const target = (tag: string) =>
      `bigquery://${settings.STORE_BIGQUERY_PROJECT_ID}/${settings.STORE_BIGQUERY_DATASET}.${tableOf(tag)}`;
    const fresh = settings.STORE_BIGQUERY_RECORD === 'json' ? 'JSON' : 'STRING';
    return {
      async write(dataset) {
        await store(warehouse, dataset, { at: target(dataset.tag), fresh, context });
        return { at: target(dataset.tag), records: dataset.spool.records };
      },
      latest: (tag) => newest(warehouse, tableOf(tag), context.tenancy),
      check: () => probe(warehouse),
    };
  },
});

/** What a write knows of its store. */
interface Place {
  readonly at: string;
  /** The type of a record in tables that are new. */
  readonly fresh: string;
  readonly context: OpenContext;
}

const STAGED_HOURS = 24;
const UPLOAD_COLUMNS: readonly Column[] = [
  { name: 'upload_timestamp', type: 'TIMESTAMP' },
  { name: 'tenancy', type: 'STRING' },
  { name: 'upload_id', type: 'STRING' },
];
const LISTED_COLUMNS: readonly Column[] = [
  ...UPLOAD_COLUMNS,
  { name: 'tag', type: 'STRING' },
  { name: 'records', type: 'INTEGER' },
  { name: 'metadata', type: 'JSON' },
  { name: 'stored_at', type: 'TIMESTAMP' },
];

function columnsOf(type: string): readonly Column[] {
  return [...UPLOAD_COLUMNS, { name: 'json_data', type }];
}

async function store(warehouse: Warehouse, dataset: Dataset, place: Place): Promise<void> {
  const { tag, metadata, spool } = dataset;
  const type = await prepared(warehouse, tag, place);
  if (await isHeld(warehouse, dataset)) return;
  const staging = `cyber_collect_${metadata.upload_id.replaceAll('-', '')}`;
  if (spool.records > 0) await stage(warehouse, dataset, { staging, type, place });
  await dataset.confirm();
  await warehouse.query({
    sql: transactionOf(dataset, staging),
    values: {
      tenancy: metadata.tenancy,
      tag,
      upload_id: metadata.upload_id,
      upload_timestamp: metadata.timestamp,
      records: String(spool.records),
      metadata: JSON.stringify(metadata),
    },
    once: staging,
  });
  // One that stays is gone tomorrow.
  if (spool.records > 0) await warehouse.drop(staging).catch(() => undefined);
}

/** Makes what is missing of tables, and tells which type the records of this one have. */
async function prepared(warehouse: Warehouse, tag: string, { at, fresh }: Place): Promise<string> {
  const table = tableOf(tag);
  const [columns, uploads] = await Promise.all([warehouse.columns(table), warehouse.columns(UPLOADS)]);
  if (uploads === undefined) await warehouse.create(UPLOADS, LISTED_COLUMNS);
  if (columns === undefined) await warehouse.create(table, columnsOf(fresh));
  const type = columns === undefined ? fresh : columns.find(({ name }) => name === 'json_data')?.type;
  const missing = UPLOAD_COLUMNS.find(({ name }) => columns?.every((column) => column.name !== name));
  if (missing === undefined && (type === 'JSON' || type === 'STRING')) return type;
  throw new CollectError('store', `${at} has no column ${missing?.name ?? 'json_data'} of a type that fits`, {
    mend: 'rename that table, or set another STORE_BIGQUERY_DATASET',
  });
}

async function isHeld(warehouse: Warehouse, { tag, metadata }: Dataset): Promise<boolean> {
  const rows = await warehouse.query({
    sql: `SELECT upload_id FROM ${UPLOADS} WHERE tag = @tag AND upload_id = @upload_id LIMIT 1`,
    values: { tag, upload_id: metadata.upload_id },
  });
  return rows.length > 0;
}

/** Loads the records into a table of their own, and counts them: nobody reads it before that. */
async function stage(
  warehouse: Warehouse,
  { tag, metadata, spool }: Dataset,
  { staging, type, place }: { readonly staging: string; readonly type: string; readonly place: Place },
): Promise<void> {
  const { timestamp, tenancy, upload_id } = metadata;
  const head = JSON.stringify({ upload_timestamp: timestamp, tenancy, upload_id }).slice(0, -1);
  const tally: Tally = { replaced: 0 };
  const asText = type === 'STRING';
  const chunks = asText ? spoolChunks(spool) : mendEscapes(spoolChunks(spool), false, tally);
  const lines = framedLines(chunks, { head: `${head},"json_data":`, tail: '}', asText });
  await warehouse.create(staging, columnsOf(type), { hours: STAGED_HOURS });
  const loaded = await warehouse.load(staging, columnsOf(type), lines);
  if (loaded !== spool.records) throw damaged(tag, `${loaded} of ${spool.records} records`);
  if (tally.replaced > 0) {
    place.context.warn(
      `${place.at}: ${tally.replaced} escapes of lone surrogates became U+FFFD, which JSON cannot hold`,
    );
  }
}

/** All or nothing: the old rows of this tenancy go, the new ones come, the upload is listed. */
function transactionOf({ tag, kind, spool }: Dataset, staging: string): string {
  const names = columnsOf('JSON').map(({ name }) => name);
  const listed = LISTED_COLUMNS.map(({ name }) => name);
  const into = `INSERT INTO \`${tableOf(tag)}\` (${names.join(', ')}) SELECT ${names.join(', ')} FROM \`${staging}\``;
  return [
    'BEGIN TRANSACTION',
    ...(kind === 'snapshot' ? [`DELETE FROM \`${tableOf(tag)}\` WHERE tenancy = @tenancy`] : []),
    ...(spool.records === 0 ? [] : [into]),
    `INSERT INTO ${UPLOADS} (${listed.join(', ')}) VALUES (TIMESTAMP(@upload_timestamp), @tenancy, @upload_id, @tag,
      CAST(@records AS INT64), PARSE_JSON(@metadata), CURRENT_TIMESTAMP())`,
    'COMMIT TRANSACTION;',
  ].join(';\n');
}

async function newest(warehouse: Warehouse, tag: string, tenancy: string): Promise<Held | undefined> {
  if ((await warehouse.columns(UPLOADS)) === undefined) return undefined;
  const [row] = await warehouse.query({
    sql: `SELECT upload_id, FORMAT_TIMESTAMP('%FT%TZ', upload_timestamp) FROM ${UPLOADS}
      WHERE tag = @tag AND tenancy = @tenancy ORDER BY upload_timestamp DESC, stored_at DESC LIMIT 1`,
    values: { tag, tenancy },
  });
  const [upload_id, timestamp] = row ?? [];
  return upload_id == null || timestamp == null ? undefined : { upload_id, timestamp };
}

/** Makes, fills, reads and drops a table. */
async function probe(warehouse: Warehouse): Promise<void> {
  const table = `cyber_collect_probe_${randomUUID().replaceAll('-', '')}`;
  const columns = [{ name: 'n', type: 'INTEGER' }];
  await warehouse.create(table, columns, { hours: 1 });
  try {
    const loaded = await warehouse.load(table, columns, one('{"n":1}\n'));
    const rows = await warehouse.query({ sql: `SELECT n FROM \`${table}\`` });
    if (loaded === 1 && rows.length === 1) return;
    throw new CollectError('store', `${table} was loaded, but its row is not there`, {
      mend: 'look at it in BigQuery',
    });
  } finally {
    await warehouse.drop(table);
  }
}

async function* one(line: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(line);
}
