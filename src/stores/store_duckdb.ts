import { existsSync } from 'node:fs';
import { chmod, mkdir, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { DuckDBConnection } from '@duckdb/node-api';
import { choice, integer, setting, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { parseTemplate, type TemplateValues } from '../templating/template.ts';
import {
  type Engine,
  engineError,
  fromSpool,
  literal,
  messageOf,
  openEngine,
  reading,
  rowsOf,
  type Sentence,
  type Source,
} from './_duckdb.ts';
import { type Types, typedColumns } from './_duckdb_table.ts';
import { damaged, LAYOUTS, latestOf, quoted, tableOf, typedOf, UPLOADS } from './_rows.ts';
import { type Dataset, defineStore, type Held, namesOf, type OpenContext } from './store.ts';

const ENV = {
  STORE_DUCKDB: setting('Path template of the database file, such as data/%TENANCY.duckdb; switches the store on'),
  STORE_DUCKDB_MODE: setting(
    'What a snapshot does to earlier ones: append keeps them, replace deletes those of its tenancy',
    choice(['append', 'replace'], 'append'),
  ),
  STORE_DUCKDB_LAYOUT: setting(
    'raw: records whole in json_data; typed: a column for each key (long decimals are rounded to doubles); ' +
      'both: raw, and typed in <tag>_typed',
    choice(LAYOUTS, 'raw'),
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
  aliases: { STORE_DUCKDB_COLUMNS: 'STORE_DUCKDB_LAYOUT' },
  example: { STORE_DUCKDB: './data/security.duckdb' },
  targets(settings, _kind, names) {
    const path = pathOf(settings, names);
    return tablesOf(settings, tableOf(names.tag)).map(({ table }) => `${path} ${table}`);
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

const MEMORY = 224; // MB; with much less the search for keys fails
// Each thread holds a row group until it is full: the default of 122,880 rows takes no notice of the memory limit.
const ROW_GROUP = 8192;

type Work<T> = (connection: DuckDBConnection) => Promise<T>;

/** Opens the file late and closes it early: while it is open no other process can even read it. */
async function withFile<T>(path: string, patience: number, work: Work<T>, readOnly = false): Promise<T> {
  try {
    const engine = await opened(path, patience, readOnly);
    try {
      const result = await work(engine.connection);
      // Off the main thread, where closing would do it. What is committed stays in the log if this fails.
      if (!readOnly) await engine.connection.run('CHECKPOINT store').catch(() => undefined);
      return result;
    } finally {
      engine.close();
    }
  } catch (cause) {
    throw storeError(path, cause);
  }
}

async function opened(path: string, patience: number, readOnly: boolean): Promise<Engine> {
  await mkdir(dirname(path), { recursive: true });
  const isNew = !readOnly && !existsSync(path);
  const engine = await openEngine(MEMORY, `${path}.tmp`);
  try {
    await attach(engine.connection, path, patience, readOnly ? 'READ_ONLY' : `ROW_GROUP_SIZE ${ROW_GROUP}`);
    if (isNew) await chmod(path, 0o600);
    return engine;
  } catch (cause) {
    engine.close();
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

// The data

async function store(path: string, settings: Settings, dataset: Dataset, context: OpenContext): Promise<void> {
  const at = `${path} ${dataset.tag}`;
  const notes = await withFile(path, settings.STORE_DUCKDB_LOCK_TIMEOUT * 1000, async (connection) => {
    const done = await fromSpool({ connection, memory: MEMORY }, dataset, at, (source) =>
      load(connection, settings, dataset, source),
    );
    return [...done.result, ...done.notes];
  });
  for (const note of notes) context.warn(`${at}: ${note}`);
}

/** A table of a dataset, and whether it has a column for each key. */
interface Table {
  readonly table: string;
  readonly typed: boolean;
}

function tablesOf({ STORE_DUCKDB_LAYOUT: layout }: Settings, tag: string): readonly Table[] {
  const own = { table: tag, typed: layout === 'typed' };
  return layout === 'both' ? [own, { table: typedOf(tag), typed: true }] : [own];
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
    const tables = tablesOf(settings, tag);
    const prepare = async (table: Table) => ({ ...table, types: await prepared(connection, table) });
    const ready = [];
    for (const table of tables) ready.push(await prepare(table));
    const key = { tag, upload: metadata.upload_id };
    const known = await rowsOf(
      connection,
      `SELECT 1 FROM ${UPLOADS} WHERE tag = $tag AND upload_id = $upload::UUID`,
      key,
    );
    if (known.length > 0) return [];
    if (settings.STORE_DUCKDB_MODE === 'replace' && kind === 'snapshot') {
      const { tenancy } = metadata;
      for (const { table } of tables) {
        await connection.run(`DELETE FROM ${quoted(table)} WHERE tenancy = $tenancy`, { tenancy });
      }
      await connection.run(`DELETE FROM ${UPLOADS} WHERE tag = $tag AND tenancy = $tenancy`, { tag, tenancy });
    }
    const notes: string[] = [];
    for (const table of ready) {
      if (spool.records > 0) notes.push(...(await insert(connection, dataset, table, source)));
    }
    await list(connection, dataset);
    // A view's columns are fixed when it is made.
    for (const { table, types } of ready) await connection.run(viewSql(tag, table, types));
    await dataset.confirm();
    return notes;
  });
}

async function list(connection: DuckDBConnection, { tag, spool, metadata }: Dataset): Promise<void> {
  await connection.run(
    `INSERT INTO ${UPLOADS} (tenancy, tag, upload_id, upload_timestamp, records, metadata)
     VALUES ($tenancy, $tag, $upload::UUID, $stamp::TIMESTAMPTZ, $records::BIGINT, $metadata::JSON)`,
    {
      tag,
      upload: metadata.upload_id,
      tenancy: metadata.tenancy,
      stamp: metadata.timestamp,
      records: spool.records,
      metadata: JSON.stringify(metadata),
    },
  );
}

async function insert(
  connection: DuckDBConnection,
  { tag, spool, metadata }: Dataset,
  { table, typed, types }: Table & { readonly types: Types },
  source: Source,
): Promise<readonly string[]> {
  const { names, values, from, notes } = typed
    ? await typedColumns(connection, { tag, table, types, spool, source })
    : { names: ['json_data'], values: ['json'], from: `read_ndjson_objects(${reading(source)})`, notes: [] };
  const upload = types.upload_id === undefined ? [] : [['upload_id', '$upload::UUID'] as const];
  const result = await connection.run(
    `INSERT INTO ${quoted(table)}
       (${['upload_timestamp', 'tenancy', ...upload.map(([name]) => name), ...names].join(', ')})
     SELECT ${[`$stamp::${types.upload_timestamp}`, '$tenancy', ...upload.map(([, value]) => value), ...values].join(', ')}
     FROM ${from}`,
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

// Trying every compression on each row group would take a fifth of the time, and ends with this one.
const RAW_COLUMN = ', json_data JSON USING COMPRESSION fsst';

/** Makes what is missing of tables, and tells the types of the dataset's table. */
async function prepared(connection: DuckDBConnection, { table: name, typed }: Table): Promise<Types> {
  const table = quoted(name);
  await connection.run(`CREATE TABLE IF NOT EXISTS ${UPLOADS} (tenancy VARCHAR NOT NULL, tag VARCHAR NOT NULL,
    upload_id UUID NOT NULL, upload_timestamp TIMESTAMPTZ NOT NULL, records BIGINT NOT NULL, metadata JSON NOT NULL,
    stored_at TIMESTAMPTZ NOT NULL DEFAULT now(), PRIMARY KEY (tag, upload_id))`);
  await connection.run(`CREATE TABLE IF NOT EXISTS ${table}
    (upload_timestamp TIMESTAMPTZ, tenancy VARCHAR, upload_id UUID${typed ? '' : RAW_COLUMN})`);
  const rows = await rowsOf(connection, `SELECT column_name, column_type FROM (DESCRIBE ${table})`);
  const types = Object.fromEntries(rows.map((row) => [String(row.column_name), String(row.column_type)]));
  if (typed && types.json_data !== undefined) {
    throw new CollectError('store', `the table ${name} holds raw records, which typed columns cannot join`, {
      mend: 'rename that table, or set STORE_DUCKDB_LAYOUT=raw or both',
    });
  }
  for (const [column, fitting] of Object.entries(FITTING)) {
    if (typed && column === 'json_data') continue;
    const type = types[column];
    if (type !== undefined && fitting.includes(type)) continue;
    const is = type === undefined ? `has no column ${column}` : `has a column ${column} of type ${type}`;
    throw new CollectError('store', `the table ${name} ${is}, which does not fit`, {
      mend: `rename that table, or give it ${column} as ${fitting.join(' or ')}`,
    });
  }
  return types;
}

/** Rows of each tenancy's newest upload: by the list of uploads, or by time where rows do not name their upload. */
function viewSql(tag: string, name: string, types: Types): string {
  const table = quoted(name);
  const head = `CREATE OR REPLACE VIEW ${quoted(latestOf(name))} AS SELECT t.* FROM ${table} t JOIN`;
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

const SENTENCES: readonly Sentence[] = [
  [/Is a directory/i, 'is a folder', 'set STORE_DUCKDB to the path of a file'],
  [/not a valid DuckDB/i, 'is no DuckDB file', 'set STORE_DUCKDB to another path'],
  [
    /with version number|newer version/i,
    'was written by another version of DuckDB',
    'update cyber-collect or set another path',
  ],
];

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
  return engineError(path, cause, SENTENCES, 'open it with the duckdb program and check it');
}
