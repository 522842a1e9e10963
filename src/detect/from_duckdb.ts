import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { DuckDBConnection } from '@duckdb/node-api';
import { CollectError } from '../errors.ts';
import { engineError, literal, messageOf, openEngine, rowsOf } from '../stores/_duckdb.ts';
import { quoted, tableOf, UPLOADS } from '../stores/_rows.ts';
import { parseTemplate } from '../templating/template.ts';
import { absent, type Uploads } from './from_uploads.ts';

/** What of the store's settings it takes to read. */
export interface DuckdbSettings {
  readonly STORE_DUCKDB: string;
  readonly STORE_DUCKDB_LOCK_TIMEOUT: number;
}

const MEMORY = 128; // MB
const NO_UPLOAD = '00000000-0000-0000-0000-000000000000';
const LOCKED = /Could not set lock|being used by another process/;

/** The uploads of a tag in a DuckDB file, as its store writes them. The file is open no longer than it is read. */
export function duckdbUploads(settings: DuckdbSettings, tenancy: string, tag: string, at: Date): Uploads {
  const template = parseTemplate(settings.STORE_DUCKDB);
  const path = resolve(template.render({ uuid: NO_UPLOAD, tag: tableOf(tag), tenancy, at }));
  const place = `${path} ${tag}`;
  const patience = settings.STORE_DUCKDB_LOCK_TIMEOUT * 1000;
  return {
    place,
    async since(moment) {
      if ((await stat(path).catch(() => undefined)) === undefined) throw absent(place);
      return reading(path, patience, async (connection) => {
        const columns = await rowsOf(
          connection,
          `SELECT 1 FROM duckdb_columns() WHERE database_name = 'store' AND column_name IN ('json_data', 'upload_id')
           AND table_name = $tag AND NOT internal`,
          { tag },
        );
        if (columns.length < 2) throw absent(place);
        const rows = await rowsOf(
          connection,
          `SELECT upload_id::VARCHAR AS upload_id, epoch_ms(stored_at)::DOUBLE AS stored,
             strftime(upload_timestamp AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ') AS stamp
           FROM ${UPLOADS} WHERE tag = $tag AND tenancy = $tenancy AND epoch_ms(stored_at) >= $moment::DOUBLE
           ORDER BY stored_at`,
          { tag, tenancy, moment: Math.max(0, moment) },
        );
        return rows.map(({ upload_id, stored, stamp }) => ({
          upload_id: String(upload_id),
          upload_timestamp: String(stamp),
          stored: Number(stored),
        }));
      });
    },
    async copy({ upload_id }, to) {
      await reading(path, patience, async (connection) => {
        // JSON holds no raw control characters, so that a row of csv is the JSON itself.
        await connection.run(
          `COPY (SELECT json_data FROM ${quoted(tableOf(tag))} WHERE upload_id = ${literal(upload_id)}::UUID)
           TO ${literal(to)} (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\u0002')`,
        );
      });
    },
    close: async () => undefined,
  };
}

async function reading<T>(
  path: string,
  patience: number,
  work: (connection: DuckDBConnection) => Promise<T>,
): Promise<T> {
  const until = performance.now() + patience;
  for (let wait = 25; ; wait = Math.min(wait * 2, 400)) {
    const engine = await openEngine(MEMORY, `${path}.tmp`);
    try {
      await engine.connection.run(`ATTACH ${literal(path)} AS store (TYPE duckdb, READ_ONLY)`);
      await engine.connection.run('USE store');
      return await work(engine.connection);
    } catch (cause) {
      const isLocked = LOCKED.test(messageOf(cause));
      if (isLocked && performance.now() + wait > until) {
        throw new CollectError('store', `${path} is held by another process`, {
          mend: 'close that program or raise STORE_DUCKDB_LOCK_TIMEOUT',
        });
      }
      if (!isLocked) throw engineError(path, cause, [], 'open it with the duckdb program and check it');
    } finally {
      engine.close();
    }
    await pause(wait);
  }
}
