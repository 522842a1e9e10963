import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip, gzipSync } from 'node:zlib';
import { type Spool, spoolChunks } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { mendEscapes, type Tally } from './_escapes.ts';
import { framedLines } from './_lines.ts';
import { damaged, tableOf, UPLOADS } from './_rows.ts';
import {
  connectionOf,
  openAccount,
  type Row,
  type Session,
  type SnowflakeSettings,
  snowflakeShape,
} from './_snowflake.ts';
import { type Dataset, defineStore, type Held } from './store.ts';

/**
 * A table for each tag, with the upload's columns before the record (VARIANT): parts of the spool are PUT to a stage
 * and copied into a table that both end with the session, and one transaction puts the new rows in place of the old.
 * Tried against fakesnow, a Snowflake of DuckDB, and not against the real one.
 */
export default defineStore({
  name: 'snowflake',
  title: 'Snowflake',
  docs: 'https://docs.snowflake.com/en/sql-reference/sql/copy-into-table',
  env: snowflakeShape,
  example: {
    STORE_SNOWFLAKE_ACCOUNT: 'acme-eu1',
    STORE_SNOWFLAKE_USERNAME: 'CYBER_COLLECT',
    STORE_SNOWFLAKE_DATABASE: 'SECURITY',
    STORE_SNOWFLAKE_WAREHOUSE: 'LOAD_XS',
  },
  packages: () => ['snowflake-sdk'],
  targets(settings, _kind, { tag }) {
    connectionOf(settings);
    return [placeOf(settings, tag).target];
  },
  async open(settings, context) {
    const account = await openAccount(settings);
    return {
      async write(dataset) {
        const place = placeOf(settings, dataset.tag);
        const replaced = await account.session((session) => store(session, place, dataset));
        if (replaced > 0) {
          context.warn(
            `${place.target}: ${replaced} escapes of lone surrogates became U+FFFD, which VARIANT cannot hold`,
          );
        }
        return { at: place.target, records: dataset.spool.records };
      },
      latest: (tag) => account.session((session) => newest(session, placeOf(settings, tag), context.tenancy)),
      check: () => account.session((session) => probe(session, placeOf(settings, 'cyber_collect_probe'))),
    };
  },
});

/** Where a tag lives, with the SQL names of it; names are in capitals, as Snowflake has those that are not quoted. */
interface Place {
  readonly target: string;
  readonly tag: string;
  readonly database: string;
  readonly schema: string;
  /** Database and schema. */
  readonly within: string;
  readonly name: string;
  readonly table: string;
  readonly uploads: string;
  /** Whether records are text in tables that are new. */
  readonly asText: boolean;
}

const LISTED = UPLOADS.toUpperCase();

function placeOf(settings: SnowflakeSettings, tag: string): Place {
  const database = settings.STORE_SNOWFLAKE_DATABASE.toUpperCase();
  const schema = settings.STORE_SNOWFLAKE_SCHEMA.toUpperCase();
  const within = `${database}.${schema}`;
  const name = tableOf(tag).toUpperCase();
  return {
    target: `snowflake://${settings.STORE_SNOWFLAKE_ACCOUNT}/${within}.${tag}`,
    tag,
    database,
    schema,
    name,
    within,
    table: `${within}."${name}"`,
    uploads: `${within}."${LISTED}"`,
    asText: settings.STORE_SNOWFLAKE_RECORD === 'text',
  };
}

/**
 * Stores a dataset; returns how many escapes were replaced. The load comes first, into a table of the session, so that
 * the transaction is short: of a client that dies in one, Snowflake keeps the locks for hours.
 */
async function store(session: Session, place: Place, dataset: Dataset): Promise<number> {
  const asText = await prepared(session, place);
  await session.run(`USE SCHEMA ${place.within}`);
  if (await isHeld(session, place, dataset)) return 0;
  const tally: Tally = { replaced: 0 };
  const loaded = dataset.spool.records === 0 ? undefined : await load(session, dataset, asText, tally);
  await session.run(`ALTER SESSION SET LOCK_TIMEOUT = ${LOCK_SECONDS}`);
  await dataset.confirm();
  await session.run('BEGIN');
  try {
    await replace(session, place, dataset, loaded);
    await session.run('COMMIT');
  } catch (cause) {
    await session.run('ROLLBACK').catch(() => undefined);
    throw cause;
  }
  return tally.replaced;
}

const LOCK_SECONDS = 1800;

/** Loads the records into a table that ends with the session, and counts them; its name. */
async function load(
  session: Session,
  { tag, metadata, spool }: Dataset,
  asText: boolean,
  tally: Tally,
): Promise<string> {
  const { tenancy, upload_id, timestamp } = metadata;
  const id = randomUUID().replaceAll('-', '').toUpperCase();
  const [table, stage] = [`"LOAD_${id}"`, `"STAGE_${id}"`];
  await session.run(`CREATE TEMPORARY TABLE ${table} ${columnsSql(asText)}`);
  await session.run(`CREATE TEMPORARY STAGE ${stage}`);
  const chunks = spoolChunks(spool);
  const lines = asText ? framedLines(chunks, { head: '', tail: '', asText }) : mendEscapes(chunks, false, tally);
  await putParts(session, stage, spool, lines);
  const columns = [`${literal(timestamp)}::TIMESTAMP_TZ`, literal(tenancy), literal(upload_id)];
  const rows = await session.run(
    `COPY INTO ${table} (${COLUMNS.join(', ')})
      FROM (SELECT ${columns.join(', ')}, ${asText ? '$1::VARCHAR' : '$1'} FROM @${stage})
      FILE_FORMAT = (TYPE = JSON COMPRESSION = GZIP ALLOW_DUPLICATE = TRUE) ON_ERROR = ABORT_STATEMENT FORCE = TRUE`,
  );
  const count = rows.reduce((sum, row) => sum + Number(row.rows_loaded ?? 0), 0);
  if (count !== spool.records) throw damaged(tag, `${count} of ${spool.records} records`);
  return table;
}

async function replace(session: Session, place: Place, dataset: Dataset, loaded: string | undefined): Promise<void> {
  const { tenancy, upload_id, timestamp } = dataset.metadata;
  const names = COLUMNS.join(', ');
  if (dataset.kind === 'snapshot') await session.run(`DELETE FROM ${place.table} WHERE tenancy = ?`, [tenancy]);
  if (loaded !== undefined) {
    await session.run(`INSERT INTO ${place.table} (${names}) SELECT ${names} FROM ${loaded}`);
  }
  await session.run(
    `INSERT INTO ${place.uploads} (tenancy, tag, upload_id, upload_timestamp, records, metadata, stored_at)
      SELECT ?, ?, ?, CAST(? AS TIMESTAMP_TZ), CAST(? AS NUMBER), PARSE_JSON(?), CURRENT_TIMESTAMP()`,
    [tenancy, place.tag, upload_id, timestamp, String(dataset.spool.records), JSON.stringify(dataset.metadata)],
  );
}

function literal(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}

const COLUMNS = ['UPLOAD_TIMESTAMP', 'TENANCY', 'UPLOAD_ID', 'JSON_DATA'];

/** Makes what is missing of schema and tables; whether the records of this one are text. */
async function prepared(session: Session, place: Place): Promise<boolean> {
  const found = await columnsOf(session, place);
  const columns = found.get(place.name);
  if (found.size === 0) await session.run(`CREATE SCHEMA IF NOT EXISTS ${place.within}`);
  if (columns === undefined) {
    await session.run(`CREATE TABLE IF NOT EXISTS ${place.table} ${columnsSql(place.asText)}`);
  }
  const missing = COLUMNS.find((name) => columns?.has(name) === false);
  if (missing !== undefined) {
    throw new CollectError('store', `${place.target} has no column ${missing}`, {
      mend: 'rename that table, or set another STORE_SNOWFLAKE_SCHEMA',
    });
  }
  if (!found.has(LISTED)) await session.run(uploadsSql(place));
  return columns === undefined ? place.asText : columns.get('JSON_DATA') !== 'VARIANT';
}

function columnsSql(asText: boolean): string {
  return `(upload_timestamp TIMESTAMP_TZ NOT NULL, tenancy VARCHAR NOT NULL, upload_id VARCHAR NOT NULL,
    json_data ${asText ? 'VARCHAR' : 'VARIANT'})`;
}

function uploadsSql({ uploads }: Place): string {
  return `CREATE TABLE IF NOT EXISTS ${uploads} (tenancy VARCHAR NOT NULL, tag VARCHAR NOT NULL,
    upload_id VARCHAR NOT NULL, upload_timestamp TIMESTAMP_TZ NOT NULL, records NUMBER NOT NULL,
    metadata VARIANT NOT NULL, stored_at TIMESTAMP_TZ NOT NULL)`;
}

/** The columns' types by name, of the tables that are there. */
async function columnsOf(session: Session, place: Place): Promise<ReadonlyMap<string, ReadonlyMap<string, string>>> {
  const rows = await session.run(
    `SELECT table_name AS T, column_name AS C, data_type AS D FROM ${place.database}.INFORMATION_SCHEMA.COLUMNS
      WHERE table_schema = ? AND table_name IN (?, ?)`,
    [place.schema, place.name, LISTED],
  );
  const found = new Map<string, Map<string, string>>();
  for (const { T, C, D } of rows) {
    const columns = found.get(String(T)) ?? new Map<string, string>();
    found.set(String(T), columns.set(String(C), String(D)));
  }
  return found;
}

async function isHeld(session: Session, place: Place, { tag, metadata }: Dataset): Promise<boolean> {
  const rows = await session.run(`SELECT upload_id AS U FROM ${place.uploads} WHERE tag = ? AND upload_id = ?`, [
    tag,
    metadata.upload_id,
  ]);
  return rows.length > 0;
}

async function newest(session: Session, place: Place, tenancy: string): Promise<Held | undefined> {
  if (!(await columnsOf(session, place)).has(LISTED)) return undefined;
  const rows = await session.run(
    `SELECT upload_id AS U, metadata:timestamp::VARCHAR AS T FROM ${place.uploads}
      WHERE tag = ? AND tenancy = ? ORDER BY upload_timestamp DESC, stored_at DESC LIMIT 1`,
    [place.tag, tenancy],
  );
  const row: Row | undefined = rows[0];
  return row === undefined ? undefined : { upload_id: String(row.U), timestamp: String(row.T) };
}

// Parts

// Snowflake likes files of 100 MB and more, compressed; the library reads each whole into memory.
const PART_BYTES = 128 * 2 ** 20;
const LF = 10;

/** Compresses the lines of a spool in parts that end where a line ends, beside it, and puts each on the stage. */
async function putParts(session: Session, stage: string, spool: Spool, lines: AsyncIterable<Buffer>): Promise<void> {
  const folder = await mkdtemp(join(dirname(spool.path), 'snowflake-'));
  try {
    let part = newPart(folder, 0);
    let count = 1;
    for await (const chunk of lines) {
      const end = part.bytes() + chunk.length < PART_BYTES ? -1 : chunk.lastIndexOf(LF);
      if (end < 0) {
        await part.write(chunk);
        continue;
      }
      await part.write(chunk.subarray(0, end + 1));
      await put(session, stage, await part.end());
      part = newPart(folder, count);
      count += 1;
      if (end + 1 < chunk.length) await part.write(chunk.subarray(end + 1));
    }
    const path = await part.end();
    if (part.bytes() > 0) await put(session, stage, path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function put(session: Session, stage: string, path: string): Promise<void> {
  const rows = await session.run(
    `PUT ${literal(`file://${path}`)} @${stage} AUTO_COMPRESS = FALSE SOURCE_COMPRESSION = GZIP OVERWRITE = TRUE`,
  );
  const status = String(rows[0]?.status);
  if (status !== 'UPLOADED') {
    throw new CollectError('store', `a part of the upload did not get to Snowflake's stage`, { mend: 'run again' });
  }
  await rm(path);
}

interface Part {
  bytes(): number;
  write(chunk: Uint8Array): Promise<void>;
  /** The path of the file, once it is all there. */
  end(): Promise<string>;
}

function newPart(folder: string, n: number): Part {
  const path = join(folder, `part-${String(n).padStart(6, '0')}.ndjson.gz`);
  const gzip = createGzip({ level: 6, chunkSize: 128 * 1024 });
  const done = pipeline(gzip, createWriteStream(path, { mode: 0o600 }));
  done.catch(() => undefined); // heard below
  let bytes = 0;
  return {
    bytes: () => bytes,
    async write(chunk) {
      bytes += chunk.length;
      if (!gzip.write(chunk)) await Promise.race([once(gzip, 'drain'), done]);
    },
    async end() {
      gzip.end();
      await done.catch((cause: NodeJS.ErrnoException) => {
        throw new CollectError('store', `${folder} cannot be written (${cause.code})`, {
          mend: 'free space there',
          cause,
        });
      });
      return path;
    },
  };
}

/** Does all that a write does, in tables and on a stage that end with the session. */
async function probe(session: Session, place: Place): Promise<void> {
  if ((await columnsOf(session, place)).size === 0) await session.run(`CREATE SCHEMA IF NOT EXISTS ${place.within}`);
  await session.run(`USE SCHEMA ${place.within}`);
  const id = randomUUID().replaceAll('-', '').toUpperCase();
  const [table, stage] = [`"PROBE_${id}"`, `"STAGE_${id}"`];
  const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-probe-'));
  try {
    await writeFile(join(folder, 'probe.ndjson.gz'), gzipSync('{}\n'));
    await session.run(`CREATE TEMPORARY TABLE ${table} (json_data VARIANT)`);
    await session.run(`CREATE TEMPORARY STAGE ${stage}`);
    await put(session, stage, join(folder, 'probe.ndjson.gz'));
    const rows = await session.run(
      `COPY INTO ${table} (json_data) FROM (SELECT $1 FROM @${stage}) FILE_FORMAT = (TYPE = JSON) FORCE = TRUE`,
    );
    if (Number(rows[0]?.rows_loaded) === 1) return;
    throw new CollectError('store', `${place.target} takes no rows`, {
      mend: 'look at the query history of Snowflake',
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
