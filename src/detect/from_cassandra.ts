import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { types } from 'cassandra-driver';
import { CollectError } from '../errors.ts';
import type { Json, JsonObject } from '../json.ts';
import { type CassandraSettings, type Cluster, clusterOf, nameOf, placeOf } from '../stores/_cassandra.ts';
import { cassandraError } from '../stores/_cassandra_errors.ts';
import { missingTables, RECORDS, UPLOADS } from '../stores/_cassandra_tables.ts';
import { gatherer } from './from_records.ts';
import { absent, type Upload, type Uploads } from './from_uploads.ts';
import type { Piece, Source } from './source.ts';

/** Microseconds before the last event that are looked at again: what was under way when it was read. */
const OVERLAP = 600_000_000n;

/** The cluster that the store writes to. */
export async function clusterFor(settings: CassandraSettings): Promise<Cluster> {
  const place = placeOf(settings);
  if (place !== undefined) return clusterOf(settings, place);
  throw new CollectError('config', 'no Cassandra is configured', {
    mend: 'set STORE_CASSANDRA_CONTACT_POINTS, or for Astra STORE_ASTRA_BUNDLE and ASTRA_DB_APPLICATION_TOKEN',
  });
}

/**
 * The older tool's table of log lines. Lines come late and with dates of all kinds, so what is new is told by when the
 * database was written, and the whole table is read for it.
 */
export function eventsSource(cluster: Cluster, settings: CassandraSettings): Source {
  const events = nameOf('STORE_CASSANDRA_TABLE', settings.STORE_CASSANDRA_TABLE);
  const table = `${cluster.keyspace}.${events}`;
  return {
    place: `${cluster.place} ${table}`,
    live: false,
    close: () => cluster.close(),
    async *read(position, { signal }) {
      if ((await missingTables(cluster, [events])).length > 0) throw absent(`${cluster.place} ${table}`);
      const since = BigInt(String((position as JsonObject | undefined)?.written ?? 0));
      const now = BigInt(Date.now()) * 1000n;
      let written = since;
      for await (const { device_name } of paged(cluster, `SELECT DISTINCT device_name FROM ${table}`, [])) {
        const query = `SELECT device_name, date, event_id, data, WRITETIME(data) AS written FROM ${table}
          WHERE device_name = ?`;
        const fresh = gatherer({ tag: 'syslog_events', at: new Date().toISOString() });
        const known = gatherer({ tag: 'syslog_events', at: new Date().toISOString() });
        for await (const row of paged(cluster, query, [device_name])) {
          signal.throwIfAborted();
          const at = BigInt(String(row.written ?? 0));
          if (typeof row.data !== 'string' || at <= since - OVERLAP) continue;
          if (at > written && at <= now) written = at;
          const record = {
            device_name: row.device_name,
            date: row.date,
            event_id: String(row.event_id),
            data: row.data,
          };
          if (at > since) {
            if (fresh.add(record, '')) yield* pieceOf(fresh.take());
          } else if (known.add(record, '')) yield* pieceOf(known.take(), true);
        }
        yield* pieceOf(fresh.take());
        yield* pieceOf(known.take(), true);
      }
      return { written: String(written) };
    },
  };
}

/** One cannot stop in the middle: what is new may stand anywhere in the table. */
function* pieceOf(piece: Omit<Piece, 'position'> | undefined, again = false): Generator<Piece> {
  const position = async (): Promise<Json | undefined> => undefined;
  if (piece !== undefined) yield { ...piece, position, ...(again ? { again } : {}) };
}

async function* paged(cluster: Cluster, query: string, params: readonly unknown[]): AsyncGenerator<types.Row> {
  const rows = await cluster.run(query, params);
  try {
    for await (const row of rows) yield row;
  } catch (cause) {
    throw cassandraError(cluster.place, cause, 'reading');
  }
}

/** The uploads of a tag in our tables. */
export function cassandraUploads(cluster: Cluster, tenancy: string, tag: string): Uploads {
  const { keyspace, place } = cluster;
  const buckets = new Map<string, { readonly buckets: number; readonly records: number }>();
  return {
    place: `${place} ${keyspace}.${RECORDS}`,
    close: () => cluster.close(),
    async since(moment) {
      if ((await missingTables(cluster, [UPLOADS])).length > 0) throw absent(`${place} ${keyspace}.${UPLOADS}`);
      const query = `SELECT upload_id, upload_timestamp, buckets, records, WRITETIME(records) AS written
        FROM ${keyspace}.${UPLOADS} WHERE tenancy = ? AND tag = ?`;
      const uploads: Upload[] = [];
      for await (const row of paged(cluster, query, [tenancy, tag])) {
        const upload_id = String(row.upload_id);
        const stored = Number(String(row.written)) / 1000;
        buckets.set(upload_id, { buckets: Number(row.buckets), records: Number(row.records) });
        const upload_timestamp = (row.upload_timestamp as Date).toISOString();
        if (stored >= moment) uploads.push({ upload_id, upload_timestamp, stored });
      }
      return uploads.sort((a, b) => a.stored - b.stored);
    },
    async copy({ upload_id }, path) {
      const listed = buckets.get(upload_id) ?? { buckets: 0, records: 0 };
      const query = `SELECT part, json_data FROM ${keyspace}.${RECORDS}
        WHERE tenancy = ? AND tag = ? AND upload_id = ? AND bucket = ?`;
      let records = 0;
      async function* lines() {
        for (let bucket = 0; bucket < listed.buckets; bucket += 1) {
          for await (const { part, json_data } of paged(cluster, query, [tenancy, tag, upload_id, bucket])) {
            if (part === 0 && records > 0) yield '\n';
            if (part === 0) records += 1;
            yield String(json_data);
          }
        }
      }
      await pipeline(lines, createWriteStream(path, { mode: 0o600 }));
      if (records === listed.records) return;
      throw new CollectError('incomplete', `${place}: the upload ${upload_id} was replaced while it was read`, {
        mend: 'run again',
      });
    },
  };
}
