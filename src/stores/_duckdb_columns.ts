import type { DuckDBConnection } from '@duckdb/node-api';
import { type Spool, spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { literal, reading, rowsOf, type Source } from './_duckdb.ts';
import { quoted } from './_rows.ts';

/** A key of the records: the column it goes to, and what its values are, as the sum of `KIND`s. */
export interface Found {
  readonly key: string;
  readonly name: string;
  readonly kinds: number;
  /** Mean length of the values as JSON, in bytes. */
  readonly length: number;
}

/** A key of the records and the column it goes to. */
export type Key = Pick<Found, 'key' | 'name'>;

/** A key of the records, the column it goes to and the type it is read as. */
export interface Column {
  readonly key: string;
  readonly name: string;
  readonly type: string;
}

/** What values can be; one that is null or missing is none of these. */
const KIND = {
  text: 1,
  date: 2,
  time: 4,
  /** A time that ends in Z, with at most six digits behind the second; likewise the next two. */
  utc: 8,
  offset: 16,
  local: 32,
  uuid: 64,
  boolean: 128,
  nested: 256,
  whole: 512,
  /** A whole number that a double would round; comes together with `whole`. */
  exact: 1024,
  /** A whole number that needs 64 bits without a sign. */
  unsigned: 2048,
  decimal: 4096,
  /** A number that no column takes. */
  long: 8192,
} as const;

const STRINGS = 127;
const MOST_COLUMNS = 1500;
/** The one column of records that are no objects. */
const WHOLE_RECORD = 'json';

// The sum of the kinds of a value, given as JSON text.
const KIND_OF = `CREATE OR REPLACE TEMP MACRO cyber_collect_kind(s) AS CASE
  WHEN s IS NULL OR s = 'null' THEN 0
  WHEN left(s, 1) = '"' THEN CASE
    WHEN strlen(s) > 40 OR strlen(s) < 10 THEN ${KIND.text}
    WHEN substr(s, 6, 1) = '-' AND substr(s, 9, 1) = '-' THEN CASE
      WHEN regexp_full_match(s, '"\\d{4}-\\d\\d-\\d\\d"') AND TRY_CAST(substr(s, 2, 10) AS DATE) IS NOT NULL
        THEN ${KIND.date}
      WHEN NOT regexp_full_match(s, '"\\d{4}-\\d\\d-\\d\\d[T ]\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,6})?(Z|[+-]\\d\\d:?\\d\\d)?"')
        OR TRY_CAST(substr(s, 2, strlen(s) - 2) AS TIMESTAMPTZ) IS NULL THEN ${KIND.text}
      WHEN suffix(s, 'Z"') THEN ${KIND.utc}
      WHEN regexp_matches(s, '[+-]\\d\\d:?\\d\\d"$') THEN ${KIND.offset}
      ELSE ${KIND.local} END
    WHEN substr(s, 4, 1) = ':' AND regexp_full_match(s, '"\\d\\d:\\d\\d:\\d\\d"')
      AND TRY_CAST(substr(s, 2, 8) AS TIME) IS NOT NULL THEN ${KIND.time}
    WHEN strlen(s) = 38 AND regexp_full_match(s, '"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"') THEN ${KIND.uuid}
    ELSE ${KIND.text} END
  WHEN left(s, 1) IN ('{', '[') THEN ${KIND.nested}
  WHEN s IN ('true', 'false') THEN ${KIND.boolean}
  WHEN regexp_full_match(s, '-?\\d{1,15}') THEN ${KIND.whole}
  WHEN regexp_full_match(s, '-?\\d+') THEN CASE
    WHEN TRY_CAST(s AS BIGINT) IS NOT NULL
      THEN ${KIND.whole} + CASE WHEN abs(s::HUGEINT) > 9007199254740992 THEN ${KIND.exact} ELSE 0 END
    WHEN TRY_CAST(s AS UBIGINT) IS NOT NULL THEN ${KIND.unsigned}
    ELSE ${KIND.long} END
  WHEN isfinite(TRY_CAST(s AS DOUBLE)) THEN ${KIND.decimal}
  ELSE ${KIND.long} END`;

/** The names a store's own columns have, for records' keys to stay clear of. */
export const OURS = ['upload_timestamp', 'tenancy', 'upload_id', 'json_data'] as const;

/** What the keys of a dataset are looked up with. */
export interface Search {
  readonly connection: DuckDBConnection;
  readonly tag: string;
  readonly spool: Spool;
  readonly source: Source;
  /** Names that are taken, in lower case. */
  readonly taken: readonly string[];
  /** How the operator leaves columns alone. */
  readonly mend: string;
}

/**
 * Every key of the whole spool, in the order of the first records; one column of all where records are no objects.
 * @throws {CollectError} store for keys that cannot be columns side by side
 */
export async function keysOf(search: Search): Promise<readonly Key[]> {
  const { connection, source, spool } = search;
  const rows = await rowsOf(
    connection,
    // The first character tells an object: json_type() would read each record once more, and hold it.
    `SELECT DISTINCT unnest(CASE WHEN left(ltrim(json::VARCHAR, E' \\t\\r'), 1) = '{' THEN json_keys(json) ELSE [NULL] END)
       AS key FROM read_ndjson_objects(${reading(source)}) LIMIT ${MOST_COLUMNS + 1}`,
  );
  if (rows.some(({ key }) => key === null)) return [{ key: '', name: WHOLE_RECORD }];
  const order = await firstKeys(spool);
  const place = (key: string) => order.get(key) ?? Number.MAX_SAFE_INTEGER;
  const keys = rows.map(({ key }) => String(key)).sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
  const columns = keys.map((key) => ({ key, name: search.taken.includes(key.toLowerCase()) ? `_${key}` : key }));
  refuse(search, columns);
  return columns;
}

/** Every key and what its values are. */
export async function findColumns(search: Search): Promise<readonly Found[]> {
  const columns = await keysOf(search);
  if (columns.length === 0 || isWhole(columns))
    return columns.map((column) => ({ ...column, kinds: KIND.nested, length: 0 }));
  const { connection, source } = search;
  await connection.run(KIND_OF);
  const kinds = columns.map(
    ({ key }, n) => `coalesce(bit_or(cyber_collect_kind(${quoted(key)}::VARCHAR)), 0)::INTEGER AS k${n},
      coalesce(avg(strlen(${quoted(key)}::VARCHAR)), 0)::INTEGER AS l${n}`,
  );
  const from = fromOf(
    columns.map((column) => ({ ...column, type: 'JSON' })),
    source,
  );
  const [row] = await rowsOf(connection, `SELECT ${kinds.join(', ')} FROM ${from}`);
  return columns.map((column, n) => ({ ...column, kinds: Number(row?.[`k${n}`]), length: Number(row?.[`l${n}`]) }));
}

const HEAD_RECORDS = 200;
const HEAD_BYTES = 2 ** 20;

/** The keys of the first records, each with its place. */
async function firstKeys(spool: Spool): Promise<ReadonlyMap<string, number>> {
  const places = new Map<string, number>();
  let records = 0;
  let bytes = 0;
  for await (const record of spoolRecords(spool)) {
    const value: unknown = JSON.parse(record.toString());
    for (const key of Object.keys(Object(value))) if (!places.has(key)) places.set(key, places.size);
    records += 1;
    bytes += record.length;
    if (records >= HEAD_RECORDS || bytes >= HEAD_BYTES) break;
  }
  return places;
}

/** Columns know no case: keys that are one name would take each other's place. */
function refuse({ tag, mend }: Search, columns: readonly Key[]): void {
  if (columns.length > MOST_COLUMNS) {
    throw new CollectError('store', `${tag} has more than ${MOST_COLUMNS} keys, too many for columns`, { mend });
  }
  if (columns.some(({ key }) => key === '')) {
    throw new CollectError('store', `${tag} has a key without a name, which cannot be a column`, { mend });
  }
  const seen = new Map<string, string>();
  for (const { key, name } of columns) {
    const other = seen.get(name.toLowerCase());
    if (other !== undefined) {
      throw new CollectError('store', `${tag} has keys that are one name to DuckDB: ${other}, ${key}`, { mend });
    }
    seen.set(name.toLowerCase(), key);
  }
}

/** Whether the one column is the record itself. */
export function isWhole(columns: readonly { readonly key: string; readonly name: string }[]): boolean {
  return columns.length === 1 && columns[0]?.key === '' && columns[0].name === WHOLE_RECORD;
}

/** What columns are read from, under their keys; the record itself as `json`. */
export function fromOf(columns: readonly Column[], source: Source): string {
  if (columns.length === 0 || isWhole(columns)) return `read_ndjson_objects(${reading(source)})`;
  const shape = columns.map(({ key, type }) => `${literal(key)}: ${literal(type)}`).join(', ');
  return `read_json(${reading(source)}, format = 'newline_delimited', columns = {${shape}})`;
}

/** What a column is called where it is read. */
export function readAs({ key, name }: Column): string {
  return quoted(key === '' ? name : key);
}

/** What a store makes of kinds that not every reader knows. */
export interface Style {
  readonly utc: string;
  readonly offset: string;
  readonly time: string;
  readonly uuid: string;
  readonly unsigned: string;
}

/** The narrowest type that takes every value as it is; JSON where there is none. */
export function typeOf(kinds: number, style: Style): string {
  const strings = kinds & STRINGS;
  if (strings !== 0) return strings === kinds ? textual(kinds, style) : 'JSON';
  if (kinds === KIND.boolean) return 'BOOLEAN';
  if (kinds === 0 || (kinds & (KIND.boolean | KIND.nested | KIND.long)) !== 0) return 'JSON';
  if ((kinds & KIND.decimal) === 0) return (kinds & KIND.unsigned) === 0 ? 'BIGINT' : style.unsigned;
  return (kinds & (KIND.exact | KIND.unsigned)) === 0 ? 'DOUBLE' : 'JSON';
}

function textual(kinds: number, { utc, offset, time, uuid }: Style): string {
  if (kinds === KIND.date) return 'DATE';
  if (kinds === KIND.time) return time;
  if (kinds === KIND.uuid) return uuid;
  if (kinds === KIND.local) return 'TIMESTAMP';
  if (kinds === KIND.utc) return utc;
  return (kinds & ~(KIND.utc | KIND.offset)) === 0 ? offset : 'VARCHAR';
}

const WRITTEN = ['DATE', 'TIME', 'TIMESTAMP', 'TIMESTAMP WITH TIME ZONE', 'UUID'];
const WIDER: Readonly<Record<string, readonly string[]>> = {
  BIGINT: ['UBIGINT', 'HUGEINT', 'DECIMAL(20,0)'],
  UBIGINT: ['HUGEINT', 'DECIMAL(20,0)'],
};

/** The type that holds both what a column was and what was found, without changing either; JSON where there is none. */
export function merged(old: string, kinds: number, style: Style): string {
  const found = typeOf(kinds, style);
  if (kinds === 0 || old === found || (old === 'VARCHAR' && WRITTEN.includes(found))) return old;
  if (old === 'VARCHAR' && (kinds & STRINGS) === kinds) return old;
  if (WIDER[found]?.includes(old)) return old;
  if (WIDER[old]?.includes(found)) return found;
  if (old === 'DOUBLE' && found === 'BIGINT' && (kinds & KIND.exact) === 0) return old;
  return old === 'BIGINT' && found === 'DOUBLE' ? found : 'JSON';
}
