import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { Pool, PoolClient, PoolConfig } from 'pg';
import { choice, integer, optional, secret, setting, text, type Values } from '../config/setting.ts';
import { CollectError, type ErrorCode } from '../errors.ts';
import { assertSafe } from '../templating/template.ts';
import { mendEscapes, type Tally } from './_escapes.ts';
import { damaged, latestOf, quoted, tableOf, UPLOADS, wholeSpool } from './_rows.ts';
import { type Dataset, defineStore, type Held } from './store.ts';

const ENV = {
  STORE_POSTGRES_HOST: setting('Host name, address, or folder of the Unix socket; switches the store on'),
  STORE_POSTGRES_PORT: setting('Port', integer(5432, 1, 65535)),
  STORE_POSTGRES_USER: setting('Login; unset = the name of the OS user', optional()),
  STORE_POSTGRES_PASSWORD: secret('Password', optional()),
  STORE_POSTGRES_DBNAME: setting('Database; unset = the name of the user', optional()),
  STORE_POSTGRES_SCHEMA: setting('Schema, created when missing', text('public')),
  STORE_POSTGRES_MODE: setting(
    'What a snapshot does to earlier ones: append keeps them, replace deletes those of its tenancy',
    choice(['append', 'replace'], 'append'),
  ),
  STORE_POSTGRES_SSLMODE: setting(
    'TLS: disable, prefer (if the server has it), require (unchecked), verify-ca, verify-full',
    choice(['disable', 'prefer', 'require', 'verify-ca', 'verify-full'], 'prefer'),
  ),
  STORE_POSTGRES_SSLROOTCERT: setting('Path of the PEM file of the certificate authority', optional()),
  STORE_POSTGRES_BATCH_SIZE: setting(
    'Without effect, as a dataset is one COPY; older settings stay valid',
    integer(5000, 1),
  ),
};

type Settings = Values<typeof ENV>;

export default defineStore({
  name: 'postgres',
  title: 'PostgreSQL',
  docs: 'https://www.postgresql.org/docs/current/sql-copy.html',
  env: ENV,
  targets(settings, _kind, { tag }) {
    return [placeOf(settings, tag).target];
  },
  async open(settings, context) {
    const server = serverOf(settings);
    return {
      async write(dataset) {
        const place = placeOf(settings, dataset.tag);
        const replaced = await server.repeat(place, (client) => store(client, place, dataset));
        if (replaced > 0) {
          context.warn(
            `${place.target}: ${replaced} escapes of NUL or lone surrogates became U+FFFD, as jsonb refuses them`,
          );
        }
        return { at: place.target, records: dataset.spool.records };
      },
      async latest(tag) {
        const place = placeOf(settings, tag);
        return server.repeat(place, (client) => newest(client, place, context.tenancy));
      },
      async check() {
        const place = placeOf(settings, 'cyber_collect_probe');
        await server.repeat(place, (client) => probe(client, place));
      },
      close: () => server.close(),
    };
  },
});

/** Where a tag lives, with the SQL names of it. */
interface Place {
  readonly target: string;
  readonly schema: string;
  readonly tag: string;
  readonly table: string;
  readonly uploads: string;
  readonly view: string;
  readonly replaces: boolean;
}

function placeOf(settings: Settings, tag: string): Place {
  const schema = settings.STORE_POSTGRES_SCHEMA;
  if (schema === '' || Buffer.byteLength(schema) > 63) {
    throw new CollectError('config', 'STORE_POSTGRES_SCHEMA is empty or longer than 63 bytes', {
      mend: 'set a shorter name',
    });
  }
  const host = settings.STORE_POSTGRES_HOST;
  const inSchema = (name: string) => `${quoted(schema)}.${quoted(name)}`;
  const server = `postgres://${host}:${settings.STORE_POSTGRES_PORT}/${loginOf(settings).database}`;
  return {
    target: `${server} ${schema}.${tableOf(tag)}`,
    schema,
    tag,
    table: inSchema(tag),
    uploads: inSchema(UPLOADS),
    view: inSchema(latestOf(tag)),
    replaces: settings.STORE_POSTGRES_MODE === 'replace',
  };
}

function loginOf(settings: Settings): { readonly user: string; readonly database: string } {
  const user = settings.STORE_POSTGRES_USER ?? userInfo().username;
  return { user, database: settings.STORE_POSTGRES_DBNAME ?? user };
}

// The connection

const CONNECTIONS = 4;

interface Server {
  /** Runs work on a connection of its own, again where that can help; work asks first what an earlier try has done. */
  repeat<T>(place: Place, work: (client: PoolClient) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

function serverOf(settings: Settings): Server {
  const enter = gate(CONNECTIONS);
  let pool: Promise<Pool> | undefined;
  async function use<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    pool ??= poolOf(settings);
    const opened = pool;
    const client = await opened.then(
      (ready) => ready.connect(),
      (error) => {
        if (pool === opened) pool = undefined;
        throw error;
      },
    );
    return borrow(client, work);
  }
  return {
    async repeat(place, work) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await enter(() => use(work));
        } catch (cause) {
          const wait = patience(cause, attempt);
          if (wait === undefined) throw storeError(settings, place, cause);
          await pause(wait);
        }
      }
    },
    async close() {
      const closing = pool;
      pool = undefined;
      await closing?.then((ready) => ready.end()).catch(() => undefined);
    },
  };
}

/** Lets so many in at once; the pool's own queue would count waiting as part of the time to connect. */
function gate(places: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let free = places;
  return async (work) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resume) => waiting.push(resume));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  };
}

async function borrow<T>(client: PoolClient, work: (client: PoolClient) => Promise<T>): Promise<T> {
  let broken = true;
  try {
    const result = await work(client);
    broken = false;
    return result;
  } finally {
    client.release(broken);
  }
}

async function poolOf(settings: Settings): Promise<Pool> {
  const { default: pg } = await import('pg');
  const { user, database } = loginOf(settings);
  const config: PoolConfig = {
    host: settings.STORE_POSTGRES_HOST,
    port: settings.STORE_POSTGRES_PORT,
    user,
    database,
    ...(settings.STORE_POSTGRES_PASSWORD === undefined ? {} : { password: settings.STORE_POSTGRES_PASSWORD }),
    application_name: 'cyber-collect',
    connectionTimeoutMillis: 30_000,
    keepAlive: true,
    max: CONNECTIONS,
  };
  async function start(ssl: PoolConfig['ssl']): Promise<Pool> {
    const pool = new pg.Pool({ ...config, ssl: ssl ?? false });
    // A lost connection fails the query under way as well; without these an idle one would end the process.
    pool.on('error', () => undefined);
    pool.on('connect', (client) => client.on('error', () => undefined));
    try {
      (await pool.connect()).release();
      return pool;
    } catch (cause) {
      await pool.end();
      throw cause;
    }
  }
  const ssl = await tlsOf(settings);
  if (settings.STORE_POSTGRES_SSLMODE !== 'prefer') return start(ssl);
  return start(ssl).catch((cause: unknown) => {
    if (isWithoutTls(cause)) return start(false);
    throw cause;
  });
}

async function tlsOf(settings: Settings): Promise<PoolConfig['ssl']> {
  const mode = settings.STORE_POSTGRES_SSLMODE;
  if (mode === 'disable' || settings.STORE_POSTGRES_HOST.startsWith('/')) return false;
  const path = settings.STORE_POSTGRES_SSLROOTCERT;
  if (mode === 'prefer' || (mode === 'require' && path === undefined)) return { rejectUnauthorized: false };
  const authority = path === undefined ? {} : { ca: await certificate(path) };
  if (mode === 'verify-full') return { ...authority, rejectUnauthorized: true };
  return { ...authority, rejectUnauthorized: true, checkServerIdentity: () => undefined };
}

async function certificate(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CollectError('config', `STORE_POSTGRES_SSLROOTCERT: ${path} cannot be read (${cause.code})`, {
      mend: 'set it to the PEM file of the authority that signed the server certificate',
    });
  });
}

function isWithoutTls(cause: unknown): boolean {
  return cause instanceof Error && cause.message.includes('does not support SSL');
}

// The data

/** What a table's columns are; the older tool's lack the upload and may be of other types. */
interface Layout {
  readonly upload: boolean;
  readonly zone: boolean;
  readonly jsonb: boolean;
}

const COLUMNS: Readonly<Record<string, readonly string[]>> = {
  upload_timestamp: ['timestamp with time zone', 'timestamp without time zone'],
  tenancy: ['text', 'character varying'],
  json_data: ['jsonb', 'json', 'text'],
};

interface Found {
  readonly schema: boolean;
  readonly uploads: boolean;
  readonly view: boolean;
  readonly columns: Readonly<Record<string, string>> | null;
}

/** Stores a dataset in one transaction; returns how many escapes were replaced. */
async function store(client: PoolClient, place: Place, dataset: Dataset): Promise<number> {
  const layout = await prepared(client, place);
  return transaction(client, async () => {
    const { tenancy, upload_id, timestamp } = dataset.metadata;
    await client.query('SELECT pg_advisory_xact_lock(hashtext($1), hashtext($2))', [place.schema, place.tag]);
    const known = await client.query(`SELECT FROM ${place.uploads} WHERE tag = $1 AND upload_id = $2`, [
      place.tag,
      upload_id,
    ]);
    if (known.rowCount !== 0) return 0;
    if (place.replaces && dataset.kind === 'snapshot') {
      await client.query(`DELETE FROM ${place.table} WHERE tenancy = $1`, [tenancy]);
      await client.query(`DELETE FROM ${place.uploads} WHERE tag = $1 AND tenancy = $2`, [place.tag, tenancy]);
    }
    const replaced = dataset.spool.records === 0 ? 0 : await copy(client, place, dataset, layout);
    await client.query(
      `INSERT INTO ${place.uploads} (tenancy, tag, upload_id, upload_timestamp, records, metadata)
       VALUES ($1, $2, $3, $4, $5, $6)`,
      [tenancy, place.tag, upload_id, timestamp, dataset.spool.records, JSON.stringify(dataset.metadata)],
    );
    return replaced;
  });
}

/**
 * COPY of the spool's bytes as they are: with control characters for quote and delimiter JSON needs no escaping, as it
 * holds none. The run's columns are a constant in front of each line.
 */
async function copy(client: PoolClient, place: Place, dataset: Dataset, layout: Layout): Promise<number> {
  const { from } = await import('pg-copy-streams');
  const { tenancy, upload_id, timestamp } = dataset.metadata;
  assertSafe('TENANCY', tenancy);
  const prefix = `${timestamp}\x02\x01${tenancy}\x01\x02${layout.upload ? `${upload_id}\x02` : ''}`;
  const columns = ['upload_timestamp', 'tenancy', ...(layout.upload ? ['upload_id'] : []), 'json_data'].join(', ');
  const sql = `COPY ${place.table} (${columns}) FROM STDIN
    WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02', ENCODING 'UTF8')`;
  const tally: Tally = { replaced: 0 };
  const lines = layout.jsonb ? mendEscapes(wholeSpool(dataset), true, tally) : wholeSpool(dataset);
  const stream = client.query(from(sql));
  await pipeline(framed(lines, Buffer.from(prefix)), stream);
  if (stream.rowCount !== dataset.spool.records) {
    throw damaged(dataset.tag, `${stream.rowCount} of ${dataset.spool.records} records`);
  }
  return tally.replaced;
}

const LF = 10;
const CR = 13;
const SPACE = 32;

async function* framed(chunks: AsyncIterable<Buffer>, prefix: Buffer): AsyncGenerator<Buffer> {
  let fresh = true;
  for await (const chunk of chunks) {
    // A bare carriage return would end a row of csv; JSON has it only between tokens.
    for (let at = chunk.indexOf(CR); at >= 0; at = chunk.indexOf(CR, at + 1)) chunk[at] = SPACE;
    yield frame(chunk, prefix, fresh);
    fresh = chunk[chunk.length - 1] === LF;
  }
}

function frame(chunk: Buffer, prefix: Buffer, fresh: boolean): Buffer {
  const starts = fresh ? [0] : [];
  for (let at = chunk.indexOf(LF); at >= 0 && at + 1 < chunk.length; at = chunk.indexOf(LF, at + 1))
    starts.push(at + 1);
  const out = Buffer.allocUnsafe(chunk.length + starts.length * prefix.length);
  let read = 0;
  let written = 0;
  for (const start of starts) {
    written += chunk.copy(out, written, read, start);
    written += prefix.copy(out, written);
    read = start;
  }
  chunk.copy(out, written, read);
  return out;
}

async function transaction<T>(client: PoolClient, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN');
  try {
    const result = await work();
    await client.query('COMMIT');
    return result;
  } catch (cause) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw cause;
  }
}

/** Makes what is missing of schema, tables and view, and tells how the dataset's table is laid out. */
async function prepared(client: PoolClient, place: Place): Promise<Layout> {
  const found = await look(client, place);
  if (found.columns !== null && found.uploads && found.view) return layoutOf(place, found.columns);
  return transaction(client, async () => {
    await client.query('SELECT pg_advisory_xact_lock(hashtext($1), hashtext($2))', [place.schema, '']);
    const { schema, uploads, columns, view } = await look(client, place);
    if (!schema) await client.query(`CREATE SCHEMA ${quoted(place.schema)}`);
    if (!uploads) await client.query(uploadsSql(place));
    if (columns === null) await client.query(tableSql(place));
    const layout = columns === null ? { upload: true, zone: true, jsonb: true } : layoutOf(place, columns);
    if (!view) await client.query(viewSql(place, layout));
    return layout;
  });
}

async function look(client: PoolClient, { schema, table, uploads, view }: Place): Promise<Found> {
  const { rows } = await client.query<Found>(
    `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS schema,
       to_regclass($2) IS NOT NULL AS uploads, to_regclass($3) IS NOT NULL AS view,
       (SELECT json_object_agg(attname, format_type(atttypid, NULL)) FROM pg_attribute
        WHERE attrelid = to_regclass($4) AND attnum > 0 AND NOT attisdropped) AS columns`,
    [schema, uploads, view, table],
  );
  return rows[0] ?? { schema: false, uploads: false, view: false, columns: null };
}

function layoutOf(place: Place, columns: Readonly<Record<string, string>>): Layout {
  for (const [name, types] of Object.entries(COLUMNS)) {
    const type = columns[name];
    if (type !== undefined && types.includes(type)) continue;
    const is = type === undefined ? `has no column ${name}` : `has a column ${name} of type ${type}`;
    throw new CollectError('store', `${place.target} ${is}, which does not fit`, {
      mend: `rename that table, or give it ${name} as ${types.join(' or ')}`,
    });
  }
  return {
    upload: columns.upload_id === 'uuid',
    zone: columns.upload_timestamp === 'timestamp with time zone',
    jsonb: columns.json_data === 'jsonb',
  };
}

function uploadsSql({ uploads }: Place): string {
  return `CREATE TABLE ${uploads} (tenancy text NOT NULL, tag text NOT NULL, upload_id uuid NOT NULL,
    upload_timestamp timestamptz NOT NULL, records bigint NOT NULL, metadata jsonb NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (tag, upload_id))`;
}

function tableSql({ table }: Place): string {
  return `CREATE TABLE ${table} (upload_timestamp timestamptz NOT NULL, tenancy text NOT NULL, upload_id uuid NOT NULL,
    json_data jsonb NOT NULL); CREATE INDEX ON ${table} (tenancy, upload_timestamp)`;
}

/** Rows of each tenancy's newest upload: by the list of uploads, or by time where rows do not name their upload. */
function viewSql({ view, table, uploads, tag }: Place, layout: Layout): string {
  if (layout.upload) {
    return `CREATE VIEW ${view} AS SELECT t.* FROM ${table} t JOIN (SELECT DISTINCT ON (tenancy) tenancy,
      upload_timestamp, upload_id FROM ${uploads} WHERE tag = '${tag}'
      ORDER BY tenancy, upload_timestamp DESC, stored_at DESC) u ON t.tenancy = u.tenancy
      AND t.upload_timestamp = u.upload_timestamp${layout.zone ? '' : " AT TIME ZONE 'UTC'"}
      AND t.upload_id = u.upload_id`;
  }
  return `CREATE VIEW ${view} AS SELECT t.* FROM ${table} t JOIN (SELECT tenancy, max(upload_timestamp) AS newest
    FROM (SELECT tenancy::text, upload_timestamp FROM ${table} UNION ALL
      SELECT tenancy, upload_timestamp${layout.zone ? '' : " AT TIME ZONE 'UTC'"}
      FROM ${uploads} WHERE tag = '${tag}') a
    GROUP BY tenancy) u ON t.tenancy::text = u.tenancy AND t.upload_timestamp = u.newest`;
}

async function newest(client: PoolClient, place: Place, tenancy: string): Promise<Held | undefined> {
  if (!(await look(client, place)).uploads) return undefined;
  const { rows } = await client.query<Held>(
    `SELECT upload_id, to_char(upload_timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS timestamp
     FROM ${place.uploads} WHERE tag = $1 AND tenancy = $2 ORDER BY upload_timestamp DESC, stored_at DESC LIMIT 1`,
    [place.tag, tenancy],
  );
  return rows[0];
}

async function probe(client: PoolClient, place: Place): Promise<void> {
  await client.query('BEGIN');
  try {
    if (!(await look(client, place)).schema) await client.query(`CREATE SCHEMA ${quoted(place.schema)}`);
    await client.query(tableSql(place));
    await client.query(`INSERT INTO ${place.table} SELECT now(), 'probe', '${NO_UPLOAD}', '{}'`);
    await client.query(`ALTER TABLE ${place.table} RENAME TO cyber_collect_probed`);
    await client.query(`DROP TABLE ${quoted(place.schema)}.cyber_collect_probed`);
  } finally {
    await client.query('ROLLBACK');
  }
}

const NO_UPLOAD = '00000000-0000-0000-0000-000000000000';

// What can go wrong

const TRANSIENT = /^(53000|53200|53300|53400|57P03|40001|40P01|55P03)$/;
const LOST = /^(08...|57P01|57P02|ECONNRESET|EPIPE)$/;

function codeOf(cause: unknown): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : '';
}

function isLost(cause: unknown): boolean {
  return (
    LOST.test(codeOf(cause)) || (cause instanceof Error && /Connection terminated|not queryable/.test(cause.message))
  );
}

/** How long to wait before the work is tried again; undefined when that would not help. */
function patience(cause: unknown, attempt: number): number | undefined {
  if (cause instanceof CollectError) return undefined;
  if (TRANSIENT.test(codeOf(cause))) return attempt <= 5 ? 125 * 2 ** attempt : undefined;
  return isLost(cause) && attempt === 1 ? 250 : undefined;
}

type Sentence = readonly [code: ErrorCode, what: string, mend: string];

const SENTENCES: Readonly<Record<string, Sentence>> = {
  '28P01': ['credentials', 'refuses the password', 'set STORE_POSTGRES_USER and STORE_POSTGRES_PASSWORD'],
  '28000': ['credentials', 'refuses the login', 'check STORE_POSTGRES_USER and the lines of pg_hba.conf'],
  '3D000': ['config', 'has no such database', 'create it or set STORE_POSTGRES_DBNAME'],
  '42501': [
    'denied',
    'lacks a privilege of this user',
    'grant CREATE on the database or schema, SELECT, INSERT and DELETE on its tables',
  ],
  '42P01': ['store', 'lost a table meanwhile', 'run again'],
  '42703': ['store', 'has a table with other columns', 'rename that table'],
  '42P07': ['store', 'has something else of that name', 'rename it'],
  '42809': ['store', 'has something of that name that is no table', 'rename it'],
  '23502': ['store', 'has a table with further columns that must be set', 'rename that table or give them defaults'],
  '53100': ['store', 'has no space left', 'free space on the disk of the server'],
  '57014': ['store', 'cancelled the statement', 'raise statement_timeout for this user'],
  '25006': ['store', 'is read-only', 'set STORE_POSTGRES_HOST to the primary server'],
  ECONNREFUSED: [
    'network',
    'does not answer: connection refused',
    'check STORE_POSTGRES_HOST, STORE_POSTGRES_PORT and that the server runs',
  ],
  ENOTFOUND: ['network', 'is an unknown host', 'check STORE_POSTGRES_HOST'],
  EAI_AGAIN: ['network', 'is a host whose name cannot be resolved now', 'check STORE_POSTGRES_HOST and the DNS'],
  EHOSTUNREACH: ['network', 'cannot be reached', 'check the route and firewall'],
  ENETUNREACH: ['network', 'cannot be reached', 'check the route and firewall'],
  ETIMEDOUT: ['timeout', 'does not answer', 'check the route and firewall'],
  ENOENT: ['network', 'has no socket there', 'check STORE_POSTGRES_HOST and that the server runs'],
  EACCES: ['network', 'has a socket this user may not open', 'check the rights on STORE_POSTGRES_HOST'],
};

/** A sentence for what the server or the connection said, without its words where they may quote data. */
function storeError(settings: Settings, place: Place, cause: unknown): unknown {
  if (cause instanceof CollectError || !(cause instanceof Error)) return cause;
  const code = codeOf(cause);
  if (/^22|^54|^2200/.test(code)) return refusedRecord(place, cause, code);
  const known = SENTENCES[code] ?? sentenceOf(settings, cause);
  if (known !== undefined)
    return new CollectError(known[0], `${place.target}: the server ${known[1]}`, { mend: known[2] });
  if (/^[0-9A-Z]{5}$/.test(code)) {
    const mend = 'look the SQLSTATE up in the manual of PostgreSQL';
    return new CollectError('store', `${place.target}: the server refused the upload (SQLSTATE ${code})`, { mend });
  }
  return cause;
}

function sentenceOf(settings: Settings, cause: Error): Sentence | undefined {
  const code = codeOf(cause);
  if (isLost(cause)) return ['network', 'broke the connection twice', 'check its log and the network'];
  if (TRANSIENT.test(code))
    return ['store', `stayed busy (SQLSTATE ${code})`, 'run again later or raise max_connections'];
  if (/SASL|password must be a string/.test(cause.message)) return SENTENCES['28P01'];
  if (/timeout/i.test(cause.message)) return SENTENCES.ETIMEDOUT;
  if (isWithoutTls(cause))
    return ['config', 'has no TLS', 'set STORE_POSTGRES_SSLMODE=prefer where the network is trusted'];
  if (/CERT|SIGNATURE|SELF_SIGNED|^ERR_TLS|^ERR_SSL|^EPROTO/.test(code)) {
    const mode = settings.STORE_POSTGRES_SSLMODE;
    return ['network', `has a certificate that ${mode} does not accept (${code})`, 'set STORE_POSTGRES_SSLROOTCERT'];
  }
  return undefined;
}

const REFUSED: Readonly<Record<string, string>> = {
  '22021': 'it is no valid UTF-8',
  '22P02': 'it is no valid JSON',
  '22P04': 'it holds raw control characters',
  '22P05': 'the encoding of the database cannot hold it; create the database with UTF8',
  '22003': 'it holds a number that is too large',
  '22001': 'a column is too short',
  '54000': 'it is too large for jsonb',
  '54001': 'it is nested too deep',
};

function refusedRecord(place: Place, cause: Error, code: string): CollectError {
  const line = 'where' in cause ? /^COPY .*?, line (\d+)/m.exec(String(cause.where))?.[1] : undefined;
  const which = line === undefined ? 'a value' : `record ${line}`;
  const why = REFUSED[code] ?? 'its value does not fit';
  return new CollectError('store', `${place.target}: PostgreSQL refuses ${which}: ${why} (SQLSTATE ${code})`, {
    mend: 'nothing of this upload was stored; report the record to the vendor or exclude the resource',
  });
}
