import { CollectError } from '../errors.ts';
import {
  type CassandraSettings,
  type Cluster,
  cassandraShape,
  clusterOf,
  keyspaceOf,
  nameOf,
  placeOf,
} from './_cassandra.ts';
import { storeRows } from './_cassandra_rows.ts';
import {
  assertTables,
  missingTables,
  olderTable,
  ourTables,
  RECORDS,
  rowsTable,
  UNFINISHED,
} from './_cassandra_tables.ts';
import { newest, storeUpload } from './_cassandra_upload.ts';
import { defineStore } from './store.ts';

export default defineStore({
  name: 'cassandra',
  title: 'Apache Cassandra and Astra DB (CQL)',
  docs: 'https://docs.datastax.com/en/developer/nodejs-driver/4.8/',
  env: cassandraShape,
  example: {
    STORE_CASSANDRA_CONTACT_POINTS: '10.0.0.11,10.0.0.12',
    STORE_CASSANDRA_LOCAL_DC: 'datacenter1',
    STORE_CASSANDRA_USERNAME: 'collector',
  },
  packages: () => ['cassandra-driver'],
  targets(settings, _kind, { tag }) {
    const place = placeOf(settings);
    return place === undefined ? undefined : [targetOf(settings, place, tag)];
  },
  async open(settings, context) {
    const place = placeOf(settings);
    if (place === undefined) throw new CollectError('config', 'STORE_CASSANDRA_CONTACT_POINTS is not set');
    const cluster = await clusterOf(settings, place);
    const { STORE_CASSANDRA_TTL: ttl, STORE_CASSANDRA_KEEP: keep, STORE_CASSANDRA_CREATE: create } = settings;
    const ours = ourTables(cluster.keyspace);
    return {
      async write(dataset) {
        const at = targetOf(settings, place, dataset.tag);
        const { records } = dataset.spool;
        const older = olderTable(dataset.tag, eventsTable(settings));
        if (older !== undefined) {
          await assertTables(cluster, { [older.table]: rowsTable(cluster.keyspace, older.table, older) }, create);
          await storeRows(cluster, dataset, { ...older, ttl });
          return { at, records };
        }
        await assertTables(cluster, ours, create);
        const left = await storeUpload(cluster, dataset, { ttl, keep });
        if (left !== undefined) {
          const why = left instanceof Error ? left.message : 'for no reason that was told';
          context.warn(`${at} is up to date, but earlier uploads were not all removed: ${why}`);
        }
        return { at, records };
      },
      async latest(tag) {
        if (olderTable(tag, eventsTable(settings)) !== undefined) return undefined;
        if ((await missingTables(cluster, Object.keys(ours))).length > 0) return undefined;
        return newest(cluster, context.tenancy, tag);
      },
      check: () => probe(cluster, settings, context.tenancy),
      close: () => cluster.close(),
    };
  },
});

function eventsTable(settings: CassandraSettings): string {
  return nameOf('STORE_CASSANDRA_TABLE', settings.STORE_CASSANDRA_TABLE);
}

function targetOf(settings: CassandraSettings, place: string, tag: string): string {
  const table = olderTable(tag, eventsTable(settings))?.table ?? RECORDS;
  return `${place} ${keyspaceOf(settings)}.${table} (${tag})`;
}

/** Writes and deletes a row of what was begun; who has only the older tool's tables is asked for no more. */
async function probe(cluster: Cluster, settings: CassandraSettings, tenancy: string): Promise<void> {
  const ours = ourTables(cluster.keyspace);
  const absent = await missingTables(cluster, [...Object.keys(ours), eventsTable(settings)]);
  if (!settings.STORE_CASSANDRA_CREATE && absent.length > 0 && !absent.includes(eventsTable(settings))) return;
  await assertTables(cluster, ours, settings.STORE_CASSANDRA_CREATE);
  const table = `${cluster.keyspace}.${UNFINISHED}`;
  const key = [tenancy, 'cyber_collect_probe', '00000000-0000-4000-8000-000000000000'];
  const { rows } = await cluster
    .run(`INSERT INTO ${table} (tenancy, tag, upload_id, buckets) VALUES (?, ?, ?, 0)`, key)
    .then(() => cluster.run(`SELECT buckets FROM ${table} WHERE tenancy = ? AND tag = ? AND upload_id = ?`, key));
  await cluster.run(`DELETE FROM ${table} WHERE tenancy = ? AND tag = ? AND upload_id = ?`, key);
  if (rows.length === 1) return;
  throw new CollectError('store', `${cluster.place}: a row that was written is not there`, {
    mend: 'set STORE_CASSANDRA_CONSISTENCY=localQuorum',
  });
}
