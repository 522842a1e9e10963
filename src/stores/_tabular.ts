import { rm, stat } from 'node:fs/promises';
import type { DuckDBConnection } from '@duckdb/node-api';
import { choice, setting } from '../config/setting.ts';
import { type Compression, compressionOf } from '../envelope/encoding.ts';
import { assertWhole } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { engineError, fromSpool, literal, openEngine, rowsOf, type Source } from './_duckdb.ts';
import {
  type Column,
  type Found,
  findColumns,
  fromOf,
  isWhole,
  keysOf,
  merged,
  OURS,
  readAs,
  type Search,
  type Style,
  typeOf,
} from './_duckdb_columns.ts';
import { damaged, quoted } from './_rows.ts';
import type { Dataset, Held } from './store.ts';

/** A file whose records lie in columns. */
export type TabularFormat = 'parquet' | 'csv' | 'sqlite';

/** How a tabular file is to be. */
export interface TabularPlan {
  readonly format: TabularFormat;
  readonly compression: Compression;
  readonly layout: 'typed' | 'raw';
  /** The variable of the layout, for what the operator may do. */
  readonly variable: string;
  /** Where readers will find it; columns that its folders name, as in `tenancy=acme`, are left out of the file. */
  readonly target: string;
  /** The file that it takes the place of, whose columns it keeps. */
  readonly before?: string;
}

/** The setting of a tabular file's layout. */
export function layoutSetting() {
  return setting(
    'Tabular files: typed, a column for each key; raw, the record whole in json_data',
    choice(['typed', 'raw'], 'typed'),
  );
}

/**
 * The tabular format that the end of a path or key asks for.
 * @throws {CollectError} config for one that is compressed twice
 */
export function tabularOf(path: string): TabularFormat | undefined {
  const found = /\.(parquet|csv|sqlite|db)(\.gz|\.zst)?$/.exec(path);
  if (found === null) return undefined;
  const format = found[1] === 'db' ? 'sqlite' : (found[1] as TabularFormat);
  if (format === 'csv' || found[2] === undefined) return format;
  throw new CollectError('config', `'${path}' asks for ${format} in ${found[2]}, which nothing reads`, {
    mend: format === 'parquet' ? 'end it in .parquet, which is compressed in itself' : `end it in .${found[1]}`,
  });
}

/** Parquet as engines of other makers read it: they know neither UUID nor TIME nor whole numbers without a sign. */
const STYLE: Style = {
  utc: 'TIMESTAMP WITH TIME ZONE',
  offset: 'TIMESTAMP WITH TIME ZONE',
  time: 'VARCHAR',
  uuid: 'VARCHAR',
  unsigned: 'DECIMAL(20,0)',
};

const MEMORY = 320; // MB
// Rows are kept until so many bytes are together, by each thread.
const ROW_GROUP = '32MB';

/**
 * Writes a dataset into a tabular file that nobody reads yet.
 * @returns what the operator should know
 */
export async function writeTabular(dataset: Dataset, plan: TabularPlan, out: string): Promise<readonly string[]> {
  if (plan.format === 'sqlite' && plan.layout === 'raw') {
    await assertWhole(dataset.spool);
    const written = await (await import('./_sqlite.ts')).writeSqlite(dataset, dataset.spool.path, RAW, out);
    assertAll(dataset, written);
    return [];
  }
  const overflow = `${dataset.spool.path}.${dataset.metadata.upload_id}.overflow`;
  try {
    const { connection, close } = await openEngine(MEMORY, overflow);
    try {
      const { result, notes } = await fromSpool(
        { connection, memory: MEMORY },
        dataset,
        plan.target,
        async (source) => {
          await rm(out, { force: true });
          return fill({ connection, dataset, plan, source, out });
        },
      );
      return [...result, ...notes];
    } finally {
      close();
    }
  } catch (cause) {
    throw engineError(plan.target, cause, [], 'check the disk');
  } finally {
    await rm(overflow, { recursive: true, force: true });
  }
}

/** One try to write one file. */
interface Filling {
  readonly connection: DuckDBConnection;
  readonly dataset: Dataset;
  readonly plan: TabularPlan;
  readonly source: Source;
  readonly out: string;
}

async function fill(filling: Filling): Promise<readonly string[]> {
  const { connection, dataset, plan, out } = filling;
  const { columns, notes } = plan.layout === 'raw' ? { columns: RAW, notes: [] } : await columnsOf(filling);
  const written =
    plan.format === 'sqlite'
      ? await (await import('./_sqlite.ts')).writeSqlite(dataset, filling.source.path, columns, out)
      : await copy(connection, selectionOf(filling, columns), out, optionsOf(filling));
  assertAll(dataset, written);
  return notes;
}

function assertAll({ tag, spool: { records } }: Dataset, written: number): void {
  if (written !== records) throw damaged(tag, `${written} of ${records} records`);
}

/** A column of the file; one without a key is not in this upload. */
export interface FileColumn {
  readonly key: string | undefined;
  readonly name: string;
  readonly type: string;
}

/** The columns of a file whose records are whole. */
const RAW: readonly FileColumn[] = [{ key: '', name: 'json_data', type: 'JSON' }];

/** What the file before had, widened by what is new: readers of a dataset lose no column from one run to the next. */
async function columnsOf({ connection, dataset, plan, source }: Filling) {
  const taken = [...OURS, ...foldersOf(plan.target).map((name) => name.toLowerCase())];
  const mend = `set ${plan.variable}=raw`;
  const search: Search = { connection, tag: dataset.tag, spool: dataset.spool, source, taken, mend };
  const plain = plan.format === 'csv'; // which has no types
  const found: readonly Found[] = plain
    ? (await keysOf(search)).map((column) => ({ ...column, kinds: 0, length: 0 }))
    : await findColumns(search);
  const notes: string[] = [];
  const fresh = new Map(found.map((column) => [column.name.toLowerCase(), column]));
  const columns: FileColumn[] = [];
  for (const old of await columnsBefore(connection, plan, notes)) {
    if (taken.includes(old.name.toLowerCase())) continue;
    const now = fresh.get(old.name.toLowerCase());
    fresh.delete(old.name.toLowerCase());
    const type = now === undefined || plain ? old.type : merged(old.type, now.kinds, STYLE);
    if (type === 'JSON' && old.type !== 'JSON') {
      const is = typeOf(now?.kinds ?? 0, STYLE);
      notes.push(`column ${old.name} was ${old.type}, is ${is} in this upload, and became JSON`);
    }
    columns.push({ key: now?.key, name: now?.name ?? old.name, type });
  }
  for (const { key, name, kinds } of fresh.values()) columns.push({ key, name, type: typeOf(kinds, STYLE) });
  return { columns, notes };
}

/** The names of folders such as `tenancy=acme`, which engines show as columns. */
function foldersOf(target: string): readonly string[] {
  const folders = target.split(/[/\\]/).slice(0, -1);
  return folders.flatMap((folder) => /^([^=]+)=/.exec(folder)?.[1] ?? []);
}

async function columnsBefore(
  connection: DuckDBConnection,
  { format, before }: TabularPlan,
  notes: string[],
): Promise<readonly Omit<FileColumn, 'key'>[]> {
  if (before === undefined || (await stat(before).catch(() => undefined)) === undefined) return [];
  try {
    if (format === 'sqlite') return await (await import('./_sqlite.ts')).columnsOfSqlite(before);
    const options = format === 'csv' ? ", all_varchar = true, header = true, quote = '\"', delim = ','" : '';
    const rows = await rowsOf(
      connection,
      `DESCRIBE SELECT * FROM read_${format}(${literal(before)}, hive_partitioning = false${options})`,
    );
    return rows.map((row) => ({ name: String(row.column_name), type: String(row.column_type) }));
  } catch {
    notes.push(`the file before cannot be read as ${format}: its columns are not kept`);
    return [];
  }
}

/** The run's own columns, as SQL. */
function oursOf({ dataset: { metadata }, plan }: Filling): readonly string[] {
  const stamp = plan.format === 'csv' ? '' : '::TIMESTAMPTZ';
  const values: Readonly<Record<string, string>> = {
    upload_timestamp: `${literal(metadata.timestamp)}${stamp}`,
    tenancy: literal(metadata.tenancy),
    upload_id: literal(metadata.upload_id),
  };
  const shown = foldersOf(plan.target).map((name) => name.toLowerCase());
  return Object.entries(values)
    .filter(([name]) => !shown.includes(name))
    .map(([name, value]) => `${value} AS ${name}`);
}

function selectionOf(filling: Filling, columns: readonly FileColumn[]): string {
  const { plan, source } = filling;
  const plain = plan.format === 'csv';
  const here = columns.filter((column): column is Column => column.key !== undefined);
  const read = plain ? here.map((column) => ({ ...column, type: 'JSON' })) : here;
  const values = columns.map(({ key, name, type }) => {
    if (key === undefined) return `NULL::${plain ? 'VARCHAR' : type} AS ${quoted(name)}`;
    const value = key === '' ? 'json' : readAs({ key, name, type });
    if (!plain || plan.layout === 'raw') return `${value} AS ${quoted(name)}`;
    // The text of what is text, and JSON of all else.
    const inside = `CASE WHEN left(${value}::VARCHAR, 1) = '"' THEN ${value}->>'$' ELSE ${value}::VARCHAR END`;
    return `${inside} AS ${quoted(name)}`;
  });
  const whole = plan.layout === 'raw' || isWhole(here);
  return `SELECT ${[...oursOf(filling), ...values].join(', ')} FROM ${fromOf(whole ? [] : read, source)}`;
}

function optionsOf({ dataset: { metadata }, plan }: Filling): string {
  if (plan.format === 'csv') {
    const compression = plan.compression === 'none' ? '' : `, COMPRESSION ${plan.compression}`;
    return `FORMAT csv, HEADER true, USE_TMP_FILE false${compression}`;
  }
  const facts = Object.entries(metadata).map(([name, value]) => `${quoted(name)}: ${literal(String(value))}`);
  return `FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES '${ROW_GROUP}', USE_TMP_FILE false,
    KV_METADATA {${facts.join(', ')}}`;
}

async function copy(connection: DuckDBConnection, select: string, out: string, options: string): Promise<number> {
  return (await connection.run(`COPY (${select}) TO ${literal(out)} (${options})`)).rowsChanged;
}

/** The upload that a tabular file says it holds; CSV says none. */
export async function tabularHeld(path: string, format: TabularFormat): Promise<Held | undefined> {
  if (format === 'csv' || compressionOf(path) !== 'none') return undefined;
  if ((await stat(path).catch(() => undefined)) === undefined) return undefined;
  if (format === 'sqlite') return (await import('./_sqlite.ts')).heldBySqlite(path);
  const { connection, close } = await openEngine(MEMORY, `${path}.overflow`);
  try {
    const rows = await rowsOf(
      connection,
      `SELECT decode(key) AS key, decode(value) AS value FROM parquet_kv_metadata(${literal(path)})`,
    );
    const facts = Object.fromEntries(rows.map(({ key, value }) => [String(key), String(value)]));
    const { upload_id, timestamp } = facts;
    return upload_id === undefined || timestamp === undefined ? undefined : { upload_id, timestamp };
  } catch {
    return undefined;
  } finally {
    close();
  }
}
