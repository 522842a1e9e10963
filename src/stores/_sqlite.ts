import { randomUUID } from 'node:crypto';
import { copyFile, link, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Database } from 'node-sqlite3-wasm';
import { spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { literal } from './_duckdb.ts';
import { quoted, UPLOADS } from './_rows.ts';
import type { FileColumn } from './_tabular.ts';
import type { Dataset, Held } from './store.ts';

type Client = typeof import('node-sqlite3-wasm');

/** How a type is declared, and the value that a record has for it; JSON comes as text, which its name says first. */
const DECLARED: Readonly<Record<string, string>> = {
  BIGINT: 'INTEGER',
  DOUBLE: 'REAL',
  BOOLEAN: 'BOOLEAN',
  JSON: 'JSON TEXT',
  'DECIMAL(20,0)': 'DECIMAL TEXT',
};

/**
 * The client.
 * @throws {CollectError} config when it is not installed
 */
export async function loadSqlite(): Promise<Client> {
  try {
    const loaded: Client & { readonly default?: Client } = await import('node-sqlite3-wasm');
    return loaded.default ?? loaded; // CommonJS whose names Node does not see
  } catch (cause) {
    throw new CollectError('config', 'SQLite files need node-sqlite3-wasm, which is not installed', {
      mend: 'npm install node-sqlite3-wasm',
      cause,
    });
  }
}

/** Writes the records into a new file, in one transaction; returns how many. */
export async function writeSqlite(
  dataset: Dataset,
  spool: string,
  columns: readonly FileColumn[],
  out: string,
): Promise<number> {
  const { Database } = await loadSqlite();
  await removeBeside(out);
  const database = new Database(out);
  try {
    // Nobody sees the file before it is whole, so nothing has to be undone.
    database.exec('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; BEGIN');
    describe(database, dataset, columns);
    const written = await insert(database, dataset, spool, columns);
    database.exec('COMMIT');
    return written;
  } catch (cause) {
    throw sqliteError(cause);
  } finally {
    database.close();
    await removeBeside(out);
  }
}

/** The client locks by a folder, which a killed process leaves. */
async function removeBeside(path: string): Promise<void> {
  await rm(`${path}.lock`, { recursive: true, force: true });
}

function describe(database: Database, { tag, metadata }: Dataset, columns: readonly FileColumn[]): void {
  const own = columns.map(({ name, type }) => `${quoted(name)} ${DECLARED[type] ?? 'TEXT'}`);
  database.exec(`CREATE TABLE ${quoted(tag)}
    (${['upload_timestamp TEXT', 'tenancy TEXT', 'upload_id TEXT', ...own].join(', ')})`);
  database.exec(`CREATE TABLE ${UPLOADS} (tenancy TEXT, tag TEXT, upload_id TEXT PRIMARY KEY, upload_timestamp TEXT,
    records INTEGER, metadata TEXT)`);
  const { tenancy, upload_id, timestamp, records } = metadata;
  database.run(`INSERT INTO ${UPLOADS} VALUES (?, ?, ?, ?, ?, ?)`, [
    tenancy,
    tag,
    upload_id,
    timestamp,
    records,
    JSON.stringify(metadata),
  ]);
}

async function insert(
  database: Database,
  { tag, spool, metadata }: Dataset,
  path: string,
  columns: readonly FileColumn[],
): Promise<number> {
  const ours = [metadata.timestamp, metadata.tenancy, metadata.upload_id].map(literal);
  const statement = database.prepare(
    `INSERT INTO ${quoted(tag)} VALUES (${[...ours, ...columns.map(valueOfColumn)].join(', ')})`,
  );
  let written = 0;
  try {
    for await (const record of spoolRecords({ ...spool, path })) {
      statement.run([record.toString()]);
      written += 1;
    }
  } finally {
    statement.finalize();
  }
  return written;
}

const JSON_OF_VALUE = `CASE WHEN type = 'text' THEN json_quote(value) WHEN type IN ('true', 'false') THEN type
  WHEN type <> 'null' THEN value END`;

/** A column's value of the record that is the parameter. */
function valueOfColumn({ key, type }: FileColumn): string {
  if (key === undefined) return 'NULL';
  if (key === '') return '?1';
  const asText = type === 'JSON' || type === 'DECIMAL(20,0)';
  // A path cannot name such a key.
  if (/["\\\p{Cc}]/u.test(key)) {
    const value = asText ? JSON_OF_VALUE : 'value';
    return `(SELECT ${value} FROM json_each(?1) WHERE key = ${literal(key)})`;
  }
  const path = literal(`$."${key}"`);
  return asText ? `nullif(?1 -> ${path}, 'null')` : `json_extract(?1, ${path})`;
}

function sqliteError(cause: unknown): unknown {
  if (!(cause instanceof Error) || cause instanceof CollectError || 'code' in cause) return cause;
  if (/full|I\/O error/.test(cause.message)) {
    return new CollectError('store', 'the SQLite file cannot be written: no space left', { mend: 'free space', cause });
  }
  if (/malformed JSON/.test(cause.message)) {
    return new CollectError('store', 'SQLite refuses a record: it is nested too deep', {
      mend: 'write another format, or exclude the resource',
    });
  }
  return new CollectError('store', 'SQLite refuses the upload', { mend: 'write another format and report it', cause });
}

const DECLARED_TYPES = new Map(Object.entries(DECLARED).map(([type, declared]) => [declared, type]));

/** The columns of the one table of records in a file. */
export async function columnsOfSqlite(path: string): Promise<readonly Omit<FileColumn, 'key'>[]> {
  return inspected(path, (database) => {
    const rows = database.all(
      `SELECT c.name AS name, c.type AS type FROM sqlite_schema s JOIN pragma_table_info(s.name) c
       WHERE s.type = 'table' AND s.name <> '${UPLOADS}' ORDER BY c.cid`,
    );
    return rows.map(({ name, type }) => ({
      name: String(name),
      type: DECLARED_TYPES.get(String(type)) ?? 'VARCHAR',
    }));
  });
}

/** The upload that a file says it holds. */
export async function heldBySqlite(path: string): Promise<Held | undefined> {
  return inspected(path, (database) => {
    const row = database.get(`SELECT upload_id, upload_timestamp AS timestamp FROM ${UPLOADS}`);
    return row === null ? undefined : { upload_id: String(row.upload_id), timestamp: String(row.timestamp) };
  }).catch(() => undefined);
}

/** Looks into a file by another name, as the client makes a folder beside the one that it opens. */
async function inspected<T>(path: string, look: (database: Database) => T): Promise<T> {
  const { Database } = await loadSqlite();
  const other = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`);
  await link(path, other).catch(() => copyFile(path, other));
  try {
    const database = new Database(other, { readOnly: true });
    try {
      return look(database);
    } finally {
      database.close();
    }
  } finally {
    await rm(other, { force: true });
    await removeBeside(other);
  }
}
