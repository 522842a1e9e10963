import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { CollectError } from '../errors.ts';
import { loginOf, type PostgresSettings, serverOf } from '../stores/_postgres.ts';
import { quoted, tableOf, UPLOADS } from '../stores/_rows.ts';
import { absent, type Upload, type Uploads } from './from_uploads.ts';

/** The uploads of a tag in PostgreSQL, as its store writes them. */
export function postgresUploads(settings: PostgresSettings, tenancy: string, tag: string): Uploads {
  const server = serverOf(settings);
  const schema = settings.STORE_POSTGRES_SCHEMA;
  const table = `${quoted(schema)}.${quoted(tableOf(tag))}`;
  const uploads = `${quoted(schema)}.${quoted(UPLOADS)}`;
  const host = `postgres://${settings.STORE_POSTGRES_HOST}:${settings.STORE_POSTGRES_PORT}`;
  const place = `${host}/${loginOf(settings).database} ${schema}.${tag}`;
  return {
    place,
    async since(moment) {
      return server.repeat(place, async (client) => {
        const found = await client.query(
          `SELECT to_regclass($1) IS NOT NULL AS uploads, (SELECT count(*) FROM pg_attribute
           WHERE attrelid = to_regclass($2) AND attname IN ('json_data', 'upload_id') AND NOT attisdropped) AS columns`,
          [uploads, table],
        );
        const { uploads: isThere, columns } = found.rows[0] ?? {};
        if (isThere !== true || Number(columns) < 2) throw absent(place);
        const { rows } = await client.query(
          `SELECT upload_id::text, upload_timestamp::text, (extract(epoch FROM stored_at) * 1000)::float8 AS stored
           FROM ${uploads} WHERE tag = $1 AND tenancy = $2 AND stored_at >= to_timestamp($3::float8 / 1000)
           ORDER BY stored_at`,
          [tag, tenancy, Math.max(0, moment)],
        );
        return rows as readonly Upload[];
      });
    },
    async copy({ upload_id }, path) {
      const { to } = await import('pg-copy-streams');
      await server.repeat(place, async (client) => {
        // JSON holds no raw control characters, so that a row of csv is the JSON itself.
        const sql = `COPY (SELECT json_data::jsonb FROM ${table} WHERE upload_id = ${literal(upload_id)}) TO STDOUT
          WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02', ENCODING 'UTF8')`;
        await pipeline(client.query(to(sql)), createWriteStream(path, { mode: 0o600 }));
      });
    },
    close: () => server.close(),
  };
}

function literal(uuid: string): string {
  if (/^[\da-f-]{36}$/i.test(uuid)) return `'${uuid}'::uuid`;
  throw new CollectError('defect', 'an upload id is no UUID');
}
