import { CollectError } from '../errors.ts';
import type { Cluster } from './_cassandra.ts';

/** The tables of any dataset: records, the list of whole uploads, and what was begun and not ended. */
export const RECORDS = 'cyber_collect_records';
/** See RECORDS. */
export const UPLOADS = 'cyber_collect_uploads';
/** See RECORDS. */
export const UNFINISHED = 'cyber_collect_unfinished';

/** The columns of a table whose rows the records themselves are, and the key, in the older tool's words. */
export interface Rows {
  readonly columns: Readonly<Record<string, 'text' | 'timeuuid' | 'int'>>;
  readonly key: string;
}

/** A log line, or an alert about one. */
const LINES: Rows = {
  columns: { device_name: 'text', date: 'text', event_id: 'timeuuid', data: 'text' },
  key: 'PRIMARY KEY ((device_name), date, event_id)) WITH CLUSTERING ORDER BY (date ASC, event_id ASC)',
};
const METRICS: Rows = {
  columns: { id: 'text', memory: 'int', cpu: 'int', priviledge_escalation: 'int' },
  key: 'PRIMARY KEY (id))',
};

/** A table of the older tool's, by the tag that goes there. */
export function olderTable(tag: string, events: string): (Rows & { readonly table: string }) | undefined {
  if (tag === 'syslog_events') return { table: events, ...LINES };
  if (tag === 'syslog_alerts') return { table: 'alerts', ...LINES };
  return tag === 'syslog_metrics' ? { table: 'metrics', ...METRICS } : undefined;
}

/** Makes the tables of any dataset. */
export function ourTables(keyspace: string): Readonly<Record<string, string>> {
  return {
    [RECORDS]: `CREATE TABLE IF NOT EXISTS ${keyspace}.${RECORDS} (tenancy text, tag text, upload_id uuid, bucket int,
      seq int, part int, upload_timestamp timestamp, json_data text,
      PRIMARY KEY ((tenancy, tag, upload_id, bucket), seq, part))`,
    [UPLOADS]: `CREATE TABLE IF NOT EXISTS ${keyspace}.${UPLOADS} (tenancy text, tag text, upload_timestamp timestamp,
      upload_id uuid, records bigint, buckets int, metadata text, PRIMARY KEY ((tenancy, tag), upload_timestamp,
      upload_id)) WITH CLUSTERING ORDER BY (upload_timestamp DESC, upload_id ASC)`,
    [UNFINISHED]: `CREATE TABLE IF NOT EXISTS ${keyspace}.${UNFINISHED} (tenancy text, tag text, upload_id uuid,
      upload_timestamp timestamp, buckets int, PRIMARY KEY ((tenancy, tag), upload_id))`,
  };
}

/** Makes a table whose rows the records are. */
export function rowsTable(keyspace: string, table: string, { columns, key }: Rows): string {
  const defined = Object.entries(columns).map(([name, type]) => `${name} ${type}`);
  return `CREATE TABLE IF NOT EXISTS ${keyspace}.${table} (${defined.join(', ')}, ${key}`;
}

/** Which of some tables are not there. */
export async function missingTables(cluster: Cluster, tables: readonly string[]): Promise<readonly string[]> {
  const { rows } = await cluster.run('SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?', [
    cluster.keyspace,
  ]);
  const found = new Set(rows.map((row) => row.table_name as string));
  return tables.filter((table) => !found.has(table));
}

// Two makers of one table at once leave nodes with two ideas of it, so one process makes one after the other.
let making: Promise<unknown> = Promise.resolve();

/**
 * Sees to it that tables are there.
 * @param definitions table -> how to make it
 * @throws {CollectError} config where they are missing and may not be made
 */
export async function assertTables(
  cluster: Cluster,
  definitions: Readonly<Record<string, string>>,
  create: boolean,
): Promise<void> {
  const turn = making.catch(() => undefined).then(() => prepare(cluster, definitions, create));
  making = turn;
  return turn;
}

async function prepare(
  cluster: Cluster,
  definitions: Readonly<Record<string, string>>,
  create: boolean,
): Promise<void> {
  const missing = await missingTables(cluster, Object.keys(definitions));
  if (missing.length === 0) return;
  const statements = missing.flatMap((table) => definitions[table] ?? []);
  if (!create) {
    const cql = statements.map((statement) => `${statement.replace(/\s+/g, ' ')};`).join(' ');
    throw new CollectError('config', `${cluster.place}: ${cluster.keyspace} has no table ${missing.join(', ')}`, {
      mend: `set STORE_CASSANDRA_CREATE=true, or run in cqlsh: ${cql}`,
    });
  }
  await assertKeyspace(cluster);
  for (const statement of statements) await cluster.run(statement);
}

/** A keyspace of Astra is made in its portal; elsewhere one copy suits one node, and who has more alters it. */
async function assertKeyspace({ run, keyspace, place }: Cluster): Promise<void> {
  const { rows } = await run('SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?', [keyspace]);
  if (rows.length > 0) return;
  if (place.startsWith('astra ')) {
    throw new CollectError('config', `${place} has no keyspace ${keyspace}`, {
      mend: 'make it in the portal of Astra, or set ASTRA_DB_KEYSPACE',
    });
  }
  const peers = await run('SELECT peer FROM system.peers');
  const copies = Math.min(3, peers.rows.length + 1);
  const { rows: local } = await run('SELECT data_center FROM system.local');
  const center = String(local[0]?.data_center).replaceAll("'", "''");
  await run(`CREATE KEYSPACE IF NOT EXISTS ${keyspace}
    WITH replication = {'class': 'NetworkTopologyStrategy', '${center}': ${copies}}`);
}
