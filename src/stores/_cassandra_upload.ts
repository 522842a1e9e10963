import type { types } from 'cassandra-driver';
import { assertWhole, type Spool, spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { type Cluster, type Statement, settled, type Tally } from './_cassandra.ts';
import { RECORDS, UNFINISHED, UPLOADS } from './_cassandra_tables.ts';
import { damaged } from './_rows.ts';
import type { Dataset, Held } from './store.ts';

/** What the settings say of uploads. */
export interface Keeping {
  /** Seconds; 0 = for ever. */
  readonly ttl: number;
  /** Earlier uploads of a snapshot that stay. */
  readonly keep: number;
}

/** A row of the list of uploads. */
interface Listed {
  readonly upload_id: types.Uuid;
  readonly upload_timestamp: Date;
  readonly buckets: number;
}

/** Rows of a partition, and bytes: partitions stay small, and their load goes round the cluster. */
const BUCKET_ROWS = 5000;
const BUCKET_BYTES = 8 * 2 ** 20;
/** Bytes and statements of a batch; a batch of one partition has no limit of its own, ScyllaDB warns all the same. */
const BATCH_BYTES = 40 * 1024;
const BATCH_ROWS = 500;
/** A cell is best below a mebibyte, and a mutation of more than 16 is refused. */
const PART = 2 ** 20;
const BUCKETS_AHEAD = 64;
const ROW_BYTES = 80;

/**
 * Stores a dataset in rows nobody looks at, then lists it: from that moment on it is the newest upload.
 * @returns what of earlier uploads could not be removed, if anything
 */
export async function storeUpload(cluster: Cluster, dataset: Dataset, keeping: Keeping): Promise<unknown> {
  const started = Date.now();
  const { tenancy, upload_id, timestamp } = dataset.metadata;
  if (await isListed(cluster, dataset, upload_id, new Date(timestamp))) return undefined;
  const buckets = await storeRecords(cluster, dataset, keeping.ttl);
  // The list must forget an upload before its first row expires.
  const left = keeping.ttl === 0 ? 0 : keeping.ttl - Math.ceil((Date.now() - started) / 1000) - 1;
  if (keeping.ttl > 0 && left < 1) {
    throw new CollectError('config', 'the first rows expired before the last were stored', {
      mend: 'raise STORE_CASSANDRA_TTL',
    });
  }
  await dataset.confirm();
  const old = await list(cluster, dataset, { buckets, left, keep: keeping.keep });
  try {
    await run(cluster, `DELETE FROM ${UNFINISHED} WHERE tenancy = ? AND tag = ? AND upload_id = ?`, [
      ...[tenancy, dataset.tag, upload_id],
    ]);
    for (const upload of old) await removeRecords(cluster, dataset, upload);
    await removeUnfinished(cluster, dataset);
    return undefined;
  } catch (cause) {
    return cause;
  }
}

/** The newest upload of a tag. */
export async function newest(cluster: Cluster, tenancy: string, tag: string): Promise<Held | undefined> {
  const { rows } = await run(
    cluster,
    `SELECT upload_id, upload_timestamp FROM ${UPLOADS} WHERE tenancy = ? AND tag = ? LIMIT 1`,
    [tenancy, tag],
  );
  const [row] = rows as unknown as readonly Listed[];
  if (row === undefined) return undefined;
  const timestamp = row.upload_timestamp.toISOString().replace(/\.000Z$/, 'Z');
  return { upload_id: row.upload_id.toString(), timestamp };
}

/** A statement on one of our tables. */
function run(cluster: Cluster, query: string, params: readonly unknown[]): Promise<types.ResultSet> {
  return cluster.run(inKeyspace(cluster, query), params);
}

function inKeyspace({ keyspace }: Cluster, query: string): string {
  return query.replace(/\bcyber_collect_/, `${keyspace}.cyber_collect_`);
}

async function isListed(cluster: Cluster, { metadata, tag }: Dataset, upload: unknown, at: Date): Promise<boolean> {
  const { rows } = await run(
    cluster,
    `SELECT buckets FROM ${UPLOADS} WHERE tenancy = ? AND tag = ? AND upload_timestamp = ? AND upload_id = ?`,
    [metadata.tenancy, tag, at, upload],
  );
  return rows.length > 0;
}

/** One batch of one partition: an upload takes the place of older ones at once. Returns those that it replaced. */
async function list(
  cluster: Cluster,
  dataset: Dataset,
  { buckets, left, keep }: { readonly buckets: number; readonly left: number; readonly keep: number },
): Promise<readonly Listed[]> {
  const { metadata, tag } = dataset;
  const { tenancy, upload_id, timestamp, records } = metadata;
  const old = dataset.kind === 'snapshot' ? (await listed(cluster, tenancy, tag)).slice(keep) : [];
  await cluster.together([
    {
      query: inKeyspace(
        cluster,
        `INSERT INTO ${UPLOADS} (tenancy, tag, upload_timestamp, upload_id, records, buckets, metadata)
         VALUES (?, ?, ?, ?, ?, ?, ?)${left > 0 ? ` USING TTL ${left}` : ''}`,
      ),
      params: [tenancy, tag, new Date(timestamp), upload_id, records, buckets, JSON.stringify(metadata)],
    },
    ...old.map(
      (upload): Statement => ({
        query: inKeyspace(
          cluster,
          `DELETE FROM ${UPLOADS} WHERE tenancy = ? AND tag = ? AND upload_timestamp = ? AND upload_id = ?`,
        ),
        params: [tenancy, tag, upload.upload_timestamp, upload.upload_id],
      }),
    ),
  ]);
  return old;
}

async function listed(cluster: Cluster, tenancy: string, tag: string): Promise<readonly Listed[]> {
  const { rows } = await run(
    cluster,
    `SELECT upload_id, upload_timestamp, buckets FROM ${UPLOADS} WHERE tenancy = ? AND tag = ?`,
    [tenancy, tag],
  );
  return rows as unknown as readonly Listed[];
}

async function removeRecords(cluster: Cluster, { metadata, tag }: Dataset, upload: Listed): Promise<void> {
  const query = `DELETE FROM ${RECORDS} WHERE tenancy = ? AND tag = ? AND upload_id = ? AND bucket = ?`;
  const tally: Tally = { running: new Set() };
  for (let bucket = 0; bucket < upload.buckets; bucket += 1) {
    const params = [metadata.tenancy, tag, upload.upload_id, bucket];
    await cluster.push(tally, [{ query: inKeyspace(cluster, query), params }], 100, 'to delete');
  }
  await settled(tally);
}

/** What runs that were killed have left of this dataset. */
async function removeUnfinished(cluster: Cluster, dataset: Dataset): Promise<void> {
  const { tenancy } = dataset.metadata;
  const { rows } = await run(
    cluster,
    `SELECT upload_id, upload_timestamp, buckets FROM ${UNFINISHED} WHERE tenancy = ? AND tag = ?`,
    [tenancy, dataset.tag],
  );
  for (const left of rows as unknown as readonly Listed[]) {
    const whole = await isListed(cluster, dataset, left.upload_id, left.upload_timestamp);
    if (!whole) await removeRecords(cluster, dataset, left);
    await run(cluster, `DELETE FROM ${UNFINISHED} WHERE tenancy = ? AND tag = ? AND upload_id = ?`, [
      ...[tenancy, dataset.tag, left.upload_id],
    ]);
  }
}

/** Stores the records of an upload; returns how many buckets they take. */
async function storeRecords(cluster: Cluster, { tag, metadata, spool }: Dataset, ttl: number): Promise<number> {
  const query = inKeyspace(
    cluster,
    `INSERT INTO ${RECORDS} (tenancy, tag, upload_id, bucket, seq, part, upload_timestamp, json_data)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)${ttl > 0 ? ` USING TTL ${ttl}` : ''}`,
  );
  // Encoded once: the driver takes a Buffer for a value as it goes over the wire.
  const upload = Buffer.from(metadata.upload_id.replaceAll('-', ''), 'hex');
  const ids = [Buffer.from(metadata.tenancy), Buffer.from(tag), upload];
  const at = Buffer.alloc(8);
  at.writeBigInt64BE(BigInt(Date.parse(metadata.timestamp)));
  const tally: Tally = { running: new Set() };
  let announced = 0;
  let last: Pack | undefined;
  try {
    await assertWhole(spool);
    for await (const pack of packsOf(spool)) {
      if (pack.bucket >= announced) {
        announced = pack.bucket + BUCKETS_AHEAD;
        await announce(cluster, metadata, tag, announced);
      }
      const bucket = int(pack.bucket);
      const statements = pack.rows.map(({ seq, part, bytes }) => ({
        query,
        params: [...ids, bucket, int(seq), int(part), at, bytes],
      }));
      await cluster.push(tally, statements, pack.bytes, `records ${(pack.rows[0]?.seq ?? 0) + 1} to ${pack.seen}`);
      if (tally.failure !== undefined) break;
      last = pack;
    }
  } finally {
    await settled(tally);
  }
  const records = last?.seen ?? 0;
  if (records !== spool.records) throw damaged(tag, `${records} of ${spool.records} records`);
  return last === undefined ? 0 : last.bucket + 1;
}

/** Rows of one bucket that go together. */
interface Pack {
  readonly bucket: number;
  readonly rows: { readonly seq: number; readonly part: number; readonly bytes: Buffer }[];
  bytes: number;
  /** Records so far, these included. */
  seen: number;
}

/** The rows of a spool: the same ones in the same buckets each time it is read. */
async function* packsOf(spool: Spool): AsyncGenerator<Pack> {
  let pack: Pack = { bucket: 0, rows: [], bytes: 0, seen: 0 };
  let bucketRows = 0;
  let bucketBytes = 0;
  for await (const record of spoolRecords(spool)) {
    const seq = pack.seen;
    for (const [part, bytes] of partsOf(record).entries()) {
      if (pack.rows.length >= BATCH_ROWS || (pack.rows.length > 0 && pack.bytes + bytes.length > BATCH_BYTES)) {
        yield pack;
        pack = { bucket: pack.bucket, rows: [], bytes: 0, seen: seq };
      }
      pack.rows.push({ seq, part, bytes });
      pack.bytes += bytes.length + ROW_BYTES;
    }
    pack.seen = seq + 1;
    bucketRows += 1;
    bucketBytes += record.length;
    if (bucketRows < BUCKET_ROWS && bucketBytes < BUCKET_BYTES) continue;
    yield pack;
    pack = { bucket: pack.bucket + 1, rows: [], bytes: 0, seen: seq + 1 };
    bucketRows = 0;
    bucketBytes = 0;
  }
  if (pack.rows.length > 0) yield pack;
}

/** Says which partitions a run that is killed may leave behind. */
async function announce(cluster: Cluster, metadata: Dataset['metadata'], tag: string, buckets: number): Promise<void> {
  await run(
    cluster,
    `INSERT INTO ${UNFINISHED} (tenancy, tag, upload_id, upload_timestamp, buckets) VALUES (?, ?, ?, ?, ?)`,
    [metadata.tenancy, tag, metadata.upload_id, new Date(metadata.timestamp), buckets],
  );
}

function int(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
}

/** Pieces of a record that do not break a character. */
function partsOf(record: Buffer): Buffer[] {
  if (record.length <= PART) return [record];
  const parts: Buffer[] = [];
  for (let start = 0; start < record.length; ) {
    let end = Math.min(record.length, start + PART);
    const least = end - 3;
    while (end > least && ((record[end] ?? 0) & 0xc0) === 0x80) end -= 1;
    parts.push(record.subarray(start, end));
    start = end;
  }
  return parts;
}
