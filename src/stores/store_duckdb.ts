import { createWriteStream } from 'node:fs';
import { mkdir, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { DuckDBConnection, DuckDBValue } from '@duckdb/node-api';
import { choice, integer, setting, type Values } from '../config/setting.ts';
import { assertWhole, spoolChunks, spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { parseTemplate, type TemplateValues } from '../templating/template.ts';
import { literal, reading, type Source, type Types, typedColumns } from './_duckdb_columns.ts';
import { mendEscapes, type Tally } from './_escapes.ts';
import { damaged, latestOf, quoted, tableOf, UPLOADS } from './_rows.ts';
import { type Dataset, defineStore, type Held, namesOf, type OpenContext } from './store.ts';

const ENV = {
  STORE_DUCKDB: setting('Path template of the database file, such as data/%TENANCY.duckdb; switches the store on'),
  STORE_DUCKDB_MODE: setting(
    'What a snapshot does to earlier ones: append keeps them, replace deletes those of its tenancy',
    choice(['append', 'replace'], 'append'),
  ),
  STORE_DUCKDB_COLUMNS: setting(
    'raw: records whole in json_data; typed: a column for each key (numbers too long for a double lose digits)',
    choice(['raw', 'typed'], 'raw'),
  ),
  STORE_DUCKDB_LOCK_TIMEOUT: setting('Seconds to wait for another process to let go of the file', integer(60)),
  STORE_DUCKDB_BATCH_SIZE: setting(
    'Without effect, as a dataset is one INSERT; older settings stay valid',
    integer(10_000, 1),
  ),
};

type Settings = Values<typeof ENV>;

export default defineStore({
  name: 'duckdb',
  title: 'DuckDB file',
  docs: 'https://duckdb.org/docs/stable/data/json/loading_json',
  env: ENV,
  example: { STORE_DUCKDB: './data/security.duckdb' },
  targets(settings, _kind, names) {
    return [`${pathOf(settings, names)} ${tableOf(names.tag)}`];
  },
  async open(settings, context) {
    const patience = settings.STORE_DUCKDB_LOCK_TIMEOUT * 1000;
    return {
      async write(dataset) {
        const path = pathOf(settings, namesOf(dataset, context));
        const at = `${path} ${tableOf(dataset.tag)}`;
        await inTurn(path, () => store(path, settings, dataset, context));
        return { at, records: dataset.spool.records };
      },
      async latest(tag) {
        const path = pathOf(settings, { uuid: NO_UPLOAD, tag: tableOf(tag), tenancy: context.tenancy, at: context.at });
        if (!(await exists(path))) return undefined;
        return inTurn(path, () =>
          withFile(path, patience, (connection) => newest(connection, tag, context.tenancy), true),
        );
      },
      async check() {
        const path = pathOf(settings, { uuid: NO_UPLOAD, tag: 'probe', tenancy: context.tenancy, at: context.at });
        const kept = await exists(path);
        await inTurn(path, () => withFile(path, patience, probe));
        if (!kept) await rm(path, { force: true });
      },
    };
  },
});

const NO_UPLOAD = '00000000-0000-0000-0000-000000000000';

function pathOf(settings: Settings, names: TemplateValues): string {
  return resolve(parseTemplate(settings.STORE_DUCKDB).render(names));
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

// The file: one process at a time, and within this one, one open database at a time

const turns = new Map<string, Promise<unknown>>();

async function inTurn<T>(path: string, work: () => Promise<T>): Promise<T> {
  const mine = (turns.get(path) ?? Promise.resolve()).then(work, work);
  const settled = mine.catch(() => undefined);
  turns.set(path, settled);
  try {
    return await mine;
  } finally {
    if (turns.get(path) === settled) turns.delete(path);
  }
}

const MEMORY = 256; // MB
const THREADS = 2;
// Each thread holds a row group until it is full: the default of 122,880 rows takes no notice of the memory limit.
const ROW_GROUP = 8192;

type Work<T> = (connection: DuckDBConnection) => Promise<T>;

/** Opens the file late and closes it early: while it is open no other process can even read it. */
async function withFile<T>(path: string, patience: number, work: Work<T>, readOnly = false): Promise<T> {
  try {
    const { instance, connection } = await opened(path, patience, readOnly);
    try {
      const result = await work(connection);
      // Off the main thread, where closing would do it. What is committed stays in the log if this fails.
      if (!readOnly) await connection.run('CHECKPOINT store').catch(() => undefined);
      return result;
    } finally {
      connection.closeSync();
      instance.closeSync();
    }
  } catch (cause) {
    throw storeError(path, cause);
  }
}

async function opened(path: string, patience: number, readOnly: boolean) {
  const { DuckDBInstance } = await import('@duckdb/node-api');
  await mkdir(dirname(path), { recursive: true });
  const instance = await DuckDBInstance.create(':memory:', {
    memory_limit: `${MEMORY}MB`,
    threads: String(THREADS),
    preserve_insertion_order: 'false',
    autoinstall_known_extensions: 'false',
    temp_directory: `${path}.tmp`,
  });
  try {
    const connection = await instance.connect();
    await attach(connection, path, patience, readOnly ? 'READ_ONLY' : `ROW_GROUP_SIZE ${ROW_GROUP}`);
    return { instance, connection };
  } catch (cause) {
    instance.closeSync();
    throw cause;
  }
}

async function attach(connection: DuckDBConnection, path: string, patience: number, option: string): Promise<void> {
  const until = performance.now() + patience;
  for (let wait = 25; ; wait = Math.min(wait * 2, 400)) {
    try {
      await connection.run(`ATTACH ${literal(path)} AS store (TYPE duckdb, ${option})`);
      await connection.run('USE store');
      return;
    } catch (cause) {
      if (!LOCKED.test(messageOf(cause)) || performance.now() + wait > until) throw cause;
      await pause(wait);
    }
  }
}

async function transaction<T>(connection: DuckDBConnection, work: () => Promise<T>): Promise<T> {
  await connection.run('BEGIN');
  try {
    const result = await work();
    await connection.run('COMMIT');
    return result;
  } catch (cause) {
    await connection.run('ROLLBACK').catch(() => undefined);
    throw cause;
  }
}

async function rowsOf(connection: DuckDBConnection, sql: string, values: Record<string, DuckDBValue> = {}) {
  return (await connection.runAndReadAll(sql, values)).getRowObjectsJson();
}

// The data

const USUAL = 8 * 2 ** 20;

async function store(path: string, settings: Settings, dataset: Dataset, context: OpenContext): Promise<void> {
  await assertWhole(dataset.spool);
  const mended = `${dataset.spool.path}.${dataset.metadata.upload_id}.mended`;
  const tally: Tally = { replaced: 0 };
  let notes: readonly string[] = [];
  let source: Source = { path: dataset.spool.path, largest: Math.min(dataset.spool.bytes, USUAL) };
  await withFile(path, settings.STORE_DUCKDB_LOCK_TIMEOUT * 1000, async (connection) => {
    try {
      for (let attempt = 1; ; attempt += 1) {
        try {
          notes = await load(connection, settings, dataset, source);
          return;
        } catch (cause) {
          const message = messageOf(cause);
          if (attempt > 2) throw cause;
          if (message.includes('maximum_object_size')) source = await widened(connection, dataset, source);
          else if (message.includes('surrogate')) source = { ...source, path: await mend(dataset, mended, tally) };
          else if (message.includes('Out of Memory'))
            await connection.run(`SET threads = 1; SET memory_limit = '${4 * MEMORY}MB'`);
          else throw message.includes('Malformed JSON') ? await refusedRecord(path, dataset) : cause;
        }
      }
    } finally {
      await rm(mended, { force: true });
    }
  });
  for (const note of notes) context.warn(`${path} ${dataset.tag}: ${note}`);
  if (tally.replaced > 0) {
    context.warn(
      `${path} ${dataset.tag}: ${tally.replaced} escapes of lone surrogates became U+FFFD, as DuckDB refuses them`,
    );
  }
}

/** Room for the longest record, read by one thread. */
async function widened(connection: DuckDBConnection, { spool }: Dataset, source: Source): Promise<Source> {
  let largest = source.largest;
  for await (const record of spoolRecords(spool)) largest = Math.max(largest, record.length + 1);
  await connection.run(`SET threads = 1; SET memory_limit = '${MEMORY + Math.ceil((largest * 6) / 1e6)}MB'`);
  return { ...source, largest };
}

async function mend({ spool }: Dataset, path: string, tally: Tally): Promise<string> {
  await pipeline(mendEscapes(spoolChunks(spool), false, tally), createWriteStream(path, { mode: 0o600 }));
  return path;
}

/** Stores the dataset in one transaction; returns what the operator should know. */
async function load(
  connection: DuckDBConnection,
  settings: Settings,
  dataset: Dataset,
  source: Source,
): Promise<readonly string[]> {
  const { tag, kind, spool, metadata } = dataset;
  return transaction(connection, async () => {
    const typed = settings.STORE_DUCKDB_COLUMNS === 'typed';
    const types = await prepared(connection, tag, typed);
    const key = { tag, upload: metadata.upload_id };
    const known = await rowsOf(
      connection,
      `SELECT 1 FROM ${UPLOADS} WHERE tag = $tag AND upload_id = $upload::UUID`,
      key,
    );
    if (known.length > 0) return [];
    if (settings.STORE_DUCKDB_MODE === 'replace' && kind === 'snapshot') {
      await connection.run(`DELETE FROM ${quoted(tag)} WHERE tenancy = $tenancy`, { tenancy: metadata.tenancy });
      const where = { tag, tenancy: metadata.tenancy };
      await connection.run(`DELETE FROM ${UPLOADS} WHERE tag = $tag AND tenancy = $tenancy`, where);
    }
    const notes = spool.records === 0 ? [] : await insert(connection, dataset, types, source, typed);
    await connection.run(
      `INSERT INTO ${UPLOADS} (tenancy, tag, upload_id, upload_timestamp, records, metadata)
       VALUES ($tenancy, $tag, $upload::UUID, $stamp::TIMESTAMPTZ, $records::BIGINT, $metadata::JSON)`,
      {
        ...key,
        tenancy: metadata.tenancy,
        stamp: metadata.timestamp,
        records: spool.records,
        metadata: JSON.stringify(metadata),
      },
    );
    await connection.run(viewSql(tag, types)); // a view's columns are fixed when it is made
    await dataset.confirm();
    return notes;
  });
}

async function insert(connection: DuckDBConnection, dataset: Dataset, types: Types, source: Source, typed: boolean) {
  const { tag, spool, metadata } = dataset;
  const { names, values, from, notes } = typed
    ? await typedColumns(connection, tag, types, source)
    : { names: 'json_data', values: 'json', from: `read_ndjson_objects(${reading(source)})`, notes: [] };
  const [uploadName, uploadValue] = types.upload_id === undefined ? ['', ''] : ['upload_id, ', '$upload::UUID, '];
  const result = await connection.run(
    `INSERT INTO ${quoted(tag)} (upload_timestamp, tenancy, ${uploadName}${names})
     SELECT $stamp::${types.upload_timestamp}, $tenancy, ${uploadValue}${values} FROM ${from}`,
    {
      stamp: metadata.timestamp,
      tenancy: metadata.tenancy,
      ...(types.upload_id === undefined ? {} : { upload: metadata.upload_id }),
    },
  );
  if (result.rowsChanged !== spool.records) throw damaged(tag, `${result.rowsChanged} of ${spool.records} records`);
  return notes;
}

const FITTING: Readonly<Record<string, readonly string[]>> = {
  upload_timestamp: ['TIMESTAMP WITH TIME ZONE', 'TIMESTAMP', 'VARCHAR'],
  tenancy: ['VARCHAR'],
  json_data: ['JSON', 'VARCHAR'],
};

/** Makes what is missing of tables, and tells the types of the dataset's table. */
async function prepared(connection: DuckDBConnection, tag: string, typed: boolean): Promise<Types> {
  const table = quoted(tag);
  await connection.run(`CREATE TABLE IF NOT EXISTS ${UPLOADS} (tenancy VARCHAR NOT NULL, tag VARCHAR NOT NULL,
    upload_id UUID NOT NULL, upload_timestamp TIMESTAMPTZ NOT NULL, records BIGINT NOT NULL, metadata JSON NOT NULL,
    stored_at TIMESTAMPTZ NOT NULL DEFAULT now(), PRIMARY KEY (tag, upload_id))`);
  await connection.run(`CREATE TABLE IF NOT EXISTS ${table}
    (upload_timestamp TIMESTAMPTZ, tenancy VARCHAR, upload_id UUID${typed ? '' : ', json_data JSON'})`);
  const rows = await rowsOf(connection, `SELECT column_name, column_type FROM (DESCRIBE ${table})`);
  const types = Object.fromEntries(rows.map((row) => [String(row.column_name), String(row.column_type)]));
  if (typed && types.json_data !== undefined) {
    throw new CollectError('store', `the table ${tag} holds raw records, which typed columns cannot join`, {
      mend: 'rename that table or set STORE_DUCKDB_COLUMNS=raw',
    });
  }
  for (const [name, fitting] of Object.entries(FITTING)) {
    if (typed && name === 'json_data') continue;
    const type = types[name];
    if (type !== undefined && fitting.includes(type)) continue;
    const is = type === undefined ? `has no column ${name}` : `has a column ${name} of type ${type}`;
    throw new CollectError('store', `the table ${tag} ${is}, which does not fit`, {
      mend: `rename that table, or give it ${name} as ${fitting.join(' or ')}`,
    });
  }
  return types;
}

/** Rows of each tenancy's newest upload: by the list of uploads, or by time where rows do not name their upload. */
function viewSql(tag: string, types: Types): string {
  const table = quoted(tag);
  const head = `CREATE OR REPLACE VIEW ${quoted(latestOf(tag))} AS SELECT t.* FROM ${table} t JOIN`;
  if (types.upload_id !== undefined) {
    return `${head} (SELECT tenancy, arg_max(upload_id, (upload_timestamp, stored_at)) AS newest FROM ${UPLOADS}
      WHERE tag = '${tag}' GROUP BY tenancy) u ON t.tenancy = u.tenancy AND t.upload_id = u.newest`;
  }
  const isZoned = types.upload_timestamp === 'TIMESTAMP WITH TIME ZONE';
  const stamp = isZoned ? 'upload_timestamp' : "(TRY_CAST(upload_timestamp AS TIMESTAMP) AT TIME ZONE 'UTC')";
  return `${head} (SELECT tenancy, max(stamp) AS newest FROM (SELECT tenancy, ${stamp} AS stamp FROM ${table} UNION ALL
      SELECT tenancy, upload_timestamp FROM ${UPLOADS} WHERE tag = '${tag}') GROUP BY tenancy) u
    ON t.tenancy = u.tenancy AND ${stamp.replace('upload_timestamp', 't.upload_timestamp')} = u.newest`;
}

async function newest(connection: DuckDBConnection, tag: string, tenancy: string): Promise<Held | undefined> {
  const tables = await rowsOf(connection, `SELECT 1 FROM duckdb_tables() WHERE table_name = '${UPLOADS}'`);
  if (tables.length === 0) return undefined;
  const [row] = await rowsOf(
    connection,
    `SELECT upload_id::VARCHAR AS upload_id,
       strftime(upload_timestamp AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ') AS stamp
     FROM ${UPLOADS} WHERE tag = $tag AND tenancy = $tenancy ORDER BY upload_timestamp DESC, stored_at DESC LIMIT 1`,
    { tag, tenancy },
  );
  return row === undefined ? undefined : { upload_id: String(row.upload_id), timestamp: String(row.stamp) };
}

async function probe(connection: DuckDBConnection): Promise<void> {
  await connection.run('BEGIN');
  await connection.run('CREATE TABLE cyber_collect_probe AS SELECT 1 AS probe');
  await connection.run('ALTER TABLE cyber_collect_probe RENAME TO cyber_collect_probed');
  await connection.run('DROP TABLE cyber_collect_probed');
  await connection.run('COMMIT');
}

// What can go wrong

const LOCKED = /Could not set lock|being used by another process/;

const SENTENCES: readonly (readonly [pattern: RegExp, what: string, mend: string])[] = [
  [/No space left|disk full/i, 'cannot be written: no space left', 'free space on that disk'],
  [/Permission denied/i, 'cannot be opened: permission denied', 'give this user the right to write there'],
  [/Is a directory/i, 'is a folder', 'set STORE_DUCKDB to the path of a file'],
  [/not a valid DuckDB/i, 'is no DuckDB file', 'set STORE_DUCKDB to another path'],
  [
    /with version number|newer version/i,
    'was written by another version of DuckDB',
    'update cyber-collect or set another path',
  ],
  [/Out of Memory/i, 'cannot take the upload: DuckDB ran out of memory', 'exclude the resource with the huge records'],
];

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** A sentence for what DuckDB said, without its words, as they may quote data. */
function storeError(path: string, cause: unknown): unknown {
  const message = messageOf(cause);
  if (cause instanceof CollectError) return cause;
  if (LOCKED.test(message)) {
    const holder = /PID (\d+)/.exec(message)?.[1];
    return new CollectError(
      'store',
      `${path} is held by ${holder === undefined ? 'another process' : `process ${holder}`}`,
      {
        mend: 'close that program or raise STORE_DUCKDB_LOCK_TIMEOUT',
      },
    );
  }
  for (const [pattern, what, mend] of SENTENCES) {
    if (pattern.test(message)) return new CollectError('store', `${path} ${what}`, { mend });
  }
  const code = (cause as NodeJS.ErrnoException).code;
  const kind = code ?? /^([A-Z]\w+( \w+)? Error):/.exec(message)?.[1];
  if (kind === undefined) return cause;
  return new CollectError('store', `${path} cannot be written (${kind})`, {
    mend: 'open it with the duckdb program and check it',
  });
}

/** Names the record that is no JSON. */
async function refusedRecord(path: string, { tag, spool }: Dataset): Promise<CollectError> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let which = 'a record';
  let number = 0;
  for await (const record of spoolRecords(spool)) {
    number += 1;
    try {
      JSON.parse(decoder.decode(record));
    } catch {
      which = `record ${number}`;
      break;
    }
  }
  return new CollectError('store', `${path} ${tag}: DuckDB refuses ${which}: it is no valid JSON in UTF-8`, {
    mend: 'nothing of this upload was stored; report the record to the vendor or exclude the resource',
  });
}
