import { assertWhole, spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { isObject, type JsonObject } from '../json.ts';
import { type Cluster, type Statement, settled, type Tally } from './_cassandra.ts';
import type { Rows } from './_cassandra_tables.ts';
import { damaged } from './_rows.ts';
import type { Dataset } from './store.ts';

const BATCH_BYTES = 40 * 1024;
const BATCH_ROWS = 500;
/** Partitions that rows are gathered for at once, and their bytes. */
const PARTITIONS = 1000;
const GATHERED = 8 * 2 ** 20;
/** Half a segment of the commit log is the most a node takes. */
const MOST = 15 * 2 ** 20;

interface Batch {
  readonly statements: Statement[];
  bytes: number;
}

/** Stores records as rows of the older tool's tables; a row that is there already is written over by itself. */
export async function storeRows(
  cluster: Cluster,
  dataset: Dataset,
  { table, columns, ttl }: Pick<Rows, 'columns'> & { readonly table: string; readonly ttl: number },
): Promise<void> {
  const names = Object.keys(columns);
  const query = `INSERT INTO ${cluster.keyspace}.${table} (${names.join(', ')})
    VALUES (${names.map(() => '?').join(', ')})${ttl > 0 ? ` USING TTL ${ttl}` : ''}`;
  const tally: Tally = { running: new Set() };
  const gathered = new Map<unknown, Batch>();
  let size = 0;
  let seen = 0;
  async function flush(key: unknown, { statements, bytes }: Batch): Promise<void> {
    gathered.delete(key);
    size -= bytes;
    await cluster.push(tally, statements, bytes, `one of the records up to ${seen}`);
    if (tally.failure !== undefined) throw tally.failure.cause;
  }
  await assertWhole(dataset.spool);
  await dataset.confirm();
  try {
    for await (const record of spoolRecords(dataset.spool)) {
      seen += 1;
      const params = valuesOf(record, columns, `${dataset.tag}: record ${seen}`);
      const batch = gathered.get(params[0]) ?? { statements: [], bytes: 0 };
      gathered.set(params[0], batch);
      batch.statements.push({ query, params });
      batch.bytes += record.length;
      size += record.length;
      const full = batch.bytes >= BATCH_BYTES || batch.statements.length >= BATCH_ROWS;
      if (full) await flush(params[0], batch);
      else if (gathered.size > PARTITIONS || size > GATHERED) for (const entry of gathered) await flush(...entry);
    }
    for (const entry of gathered) await flush(...entry);
  } finally {
    await settled(tally);
  }
  if (seen !== dataset.spool.records) throw damaged(dataset.tag, `${seen} of ${dataset.spool.records} records`);
}

/**
 * The fields of a record in the order of the columns.
 * @throws {CollectError} store, naming the record by `which`
 */
export function valuesOf(record: Buffer, columns: Rows['columns'], which: string): readonly unknown[] {
  const fields = parsed(record);
  return Object.entries(columns).map(([name, type]) => {
    const value = fields[name];
    const fits = type === 'int' ? Number.isInteger(value) : typeof value === 'string' && value !== '';
    const shaped =
      type !== 'timeuuid' || /^[\da-f]{8}-[\da-f]{4}-1[\da-f]{3}-[\da-f]{4}-[\da-f]{12}$/i.test(`${value}`);
    if ((fits && shaped && record.length <= MOST) || (value === '' && name === 'data')) return value;
    const why = fits && shaped ? 'is larger than 15 MiB' : `has no ${name} that fits a column of type ${type}`;
    throw new CollectError('store', `${which} ${why}`, {
      mend: 'leave the dataset out of this store, or mend what writes such records',
    });
  });
}

function parsed(record: Buffer): JsonObject {
  try {
    const value: unknown = JSON.parse(record.toString());
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}
