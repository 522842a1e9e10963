import type { DuckDBConnection } from '@duckdb/node-api';
import { CollectError } from '../errors.ts';
import { quoted } from './_rows.ts';

/** Types by column, names as the table spells them. */
export type Types = Readonly<Record<string, string>>;

/** How the spool is read: DuckDB's readers hold twice the largest object each. */
export interface Source {
  readonly path: string;
  readonly largest: number;
}

/** A key of the records, the column it goes to and the type it is read as. */
interface Column {
  readonly key: string;
  readonly name: string;
  readonly type: string;
}

/** What typed columns take of the spool: the list of columns, their values, and what they are read from. */
export interface Selection {
  readonly names: string;
  readonly values: string;
  readonly from: string;
  /** What the operator should know. */
  readonly notes: readonly string[];
}

const OURS = ['upload_timestamp', 'tenancy', 'upload_id', 'json_data'];

/** An SQL text. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** The options every reader of the spool takes. */
export function reading({ path, largest }: Source): string {
  return `${literal(path)}, maximum_object_size = ${largest}, compression = 'uncompressed'`;
}

/**
 * Fits the table to the spool's keys: types are inferred over the whole spool, a new key becomes a column, nested
 * values are JSON, and a column whose old and new types clash becomes JSON.
 */
export async function typedColumns(
  connection: DuckDBConnection,
  tag: string,
  types: Types,
  source: Source,
): Promise<Selection> {
  const inferred = await infer(connection, tag, source);
  const notes: string[] = [];
  const nulls = await nullOnly(connection, source, inferred);
  const known = new Map(Object.entries(types).map(([name, type]) => [name.toLowerCase(), { name, type }]));
  const columns: Column[] = [];
  for (const column of inferred) {
    const old = known.get(column.name.toLowerCase());
    if (old === undefined) {
      await connection.run(`ALTER TABLE ${quoted(tag)} ADD COLUMN ${quoted(column.name)} ${column.type}`);
      columns.push(column);
      continue;
    }
    const type = nulls.has(column.key) ? old.type : merged(old.type, column.type);
    if (type !== old.type) await retype(connection, tag, old.name, type);
    if (type === 'JSON' && old.type !== 'JSON') {
      notes.push(`column ${old.name} was ${old.type}, is ${column.type} in this upload, and became JSON`);
    }
    columns.push({ ...column, name: old.name, type });
  }
  return { ...selection(columns, source), notes };
}

function selection(columns: readonly Column[], source: Source): Omit<Selection, 'notes'> {
  const [only] = columns;
  const names = columns.map((column) => quoted(column.name)).join(', ');
  if (columns.length === 1 && only?.key === 'json' && only.type === 'JSON') {
    return { names, values: 'json', from: `read_ndjson_objects(${reading(source)})` }; // records that are no objects
  }
  return {
    names,
    values: columns.map((column) => quoted(column.key)).join(', '),
    from: `read_json(${reading(source)}, format = 'newline_delimited', columns = ${shapeOf(columns)})`,
  };
}

function shapeOf(columns: readonly Column[]): string {
  return `{${columns.map(({ key, type }) => `${literal(key)}: ${literal(type)}`).join(', ')}}`;
}

async function infer(connection: DuckDBConnection, tag: string, source: Source): Promise<readonly Column[]> {
  const reader = await connection.runAndReadAll(`SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM
    read_json(${reading(source)}, format = 'newline_delimited', sample_size = -1, field_appearance_threshold = 0,
      map_inference_threshold = -1))`);
  const columns = reader.getRowObjectsJson().map((row) => {
    const key = String(row.column_name);
    const type = String(row.column_type);
    const name = OURS.includes(key.toLowerCase()) ? `_${key}` : key;
    return { key, name, type: /^[A-Z ]+$/.test(type) ? type : 'JSON' };
  });
  await refuseTwins(connection, tag, source, columns);
  return columns;
}

/** Column names know no case: DuckDB reads `Name` and `name` as `Name` and `name_1`, but cannot be told to. */
async function refuseTwins(connection: DuckDBConnection, tag: string, source: Source, columns: readonly Column[]) {
  const names = new Set(columns.map((column) => column.name.toLowerCase()));
  const suspects = columns.filter(({ key }) => names.has(key.replace(/_\d+$/, '').toLowerCase()) && /_\d+$/.test(key));
  if (suspects.length === 0 && names.size === columns.length) return;
  const reader = await connection.runAndReadAll(
    `SELECT DISTINCT unnest(json_keys(json)) AS key FROM read_ndjson_objects(${reading(source)})`,
  );
  const keys = reader.getRowObjectsJson().map((row) => String(row.key));
  if (names.size === columns.length && suspects.every(({ key }) => keys.includes(key))) return;
  const twins = keys.filter((key) => keys.some((other) => other !== key && other.toLowerCase() === key.toLowerCase()));
  throw new CollectError('store', `${tag} has keys that are one name to DuckDB: ${twins.join(', ')}`, {
    mend: 'set STORE_DUCKDB_COLUMNS=raw',
  });
}

/** Keys that hold nothing but null, which fit every type. */
async function nullOnly(
  connection: DuckDBConnection,
  source: Source,
  columns: readonly Column[],
): Promise<Set<string>> {
  const asked = columns.filter((column) => column.type === 'JSON');
  if (asked.length === 0) return new Set();
  const counts = asked.map(({ key }, n) => `count(${quoted(key)}) AS c${n}`).join(', ');
  const reader = await connection.runAndReadAll(
    `SELECT ${counts} FROM read_json(${reading(source)}, format = 'newline_delimited', columns = ${shapeOf(asked)})`,
  );
  const [row] = reader.getRowObjectsJson();
  return new Set(asked.filter((_, n) => row?.[`c${n}`] === '0').map((column) => column.key));
}

const WHOLE = ['BIGINT', 'UBIGINT'];
const WRITTEN = ['DATE', 'TIME', 'TIMESTAMP', 'TIMESTAMP WITH TIME ZONE', 'UUID'];

/** The type that holds both without changing what was read; JSON where there is none. */
function merged(old: string, found: string): string {
  if (old === found || (old === 'VARCHAR' && WRITTEN.includes(found))) return old;
  if ((old === 'DOUBLE' && WHOLE.includes(found)) || (found === 'DOUBLE' && WHOLE.includes(old))) return 'DOUBLE';
  return 'JSON';
}

async function retype(connection: DuckDBConnection, tag: string, name: string, type: string): Promise<void> {
  const column = quoted(name);
  const using = type === 'JSON' ? `to_json(${column})` : `${column}::${type}`;
  await connection.run(`ALTER TABLE ${quoted(tag)} ALTER COLUMN ${column} TYPE ${type} USING ${using}`);
}
