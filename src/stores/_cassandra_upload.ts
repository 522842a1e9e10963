import type { types } from 'cassandra-driver';
import { assertWhole } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { type Cluster, type Statement, settled, type Tally } from './_cassandra.ts';
import { RECORDS, UNFINISHED, UPLOADS } from './_cassandra_tables.ts';
import { type Pack, packsOf } from './_packs.ts';
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
  readonly upload_id: types.Uuid | string;
  readonly upload_timestamp: Date;
  readonly buckets: number;
}

/**
 * A batch of one partition has no limit of its own, ScyllaDB warns all the same. A cell is best below a mebibyte, and a
 * mutation of more than 16 is refused.
 */
const BATCH = { rows: 500, bytes: 40 * 1024, part: 2 ** 20 };
const BUCKETS_AHEAD = 64;

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
  const old = dataset.kind === 'snapshot' ? (await listed(cluster, tenancy, dataset.tag)).slice(keeping.keep) : [];
  for (const upload of old) await announce(cluster, dataset, upload);
  await dataset.confirm();
  await list(cluster, dataset, { buckets, left, old });
  return removeUnfinished(cluster, dataset).then(
    () => undefined,
    (cause: unknown) => cause,
  );
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

/** One batch of one partition: an upload takes the place of older ones at once. */
async function list(
  cluster: Cluster,
  { metadata, tag }: Dataset,
  { buckets, left, old }: { readonly buckets: number; readonly left: number; readonly old: readonly Listed[] },
): Promise<void> {
  const { tenancy, upload_id, timestamp, records } = metadata;
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

/** What was replaced, and what runs that were killed have left of this dataset. */
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
async function storeRecords(cluster: Cluster, dataset: Dataset, ttl: number): Promise<number> {
  const { tag, metadata, spool } = dataset;
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
    for await (const pack of packsOf(spool, BATCH)) {
      if (pack.bucket >= announced) {
        announced = pack.bucket + BUCKETS_AHEAD;
        await announce(cluster, dataset, { ...listedAs(dataset), buckets: announced });
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

function listedAs({ metadata }: Dataset): Omit<Listed, 'buckets'> {
  return { upload_id: metadata.upload_id, upload_timestamp: new Date(metadata.timestamp) };
}

/** Says which partitions are to be removed unless their upload is listed, should this run be killed. */
async function announce(cluster: Cluster, { metadata, tag }: Dataset, upload: Listed): Promise<void> {
  await run(
    cluster,
    `INSERT INTO ${UNFINISHED} (tenancy, tag, upload_id, upload_timestamp, buckets) VALUES (?, ?, ?, ?, ?)`,
    [metadata.tenancy, tag, upload.upload_id, upload.upload_timestamp, upload.buckets],
  );
}

function int(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
}
