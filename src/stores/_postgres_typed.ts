import { createHash } from 'node:crypto';
import type { PoolClient } from 'pg';
import { CollectError } from '../errors.ts';
import { quoted } from './_rows.ts';
import type { Dataset } from './store.ts';

/** A table that has a column for each key, and the view of its newest uploads. */
export interface TypedTable {
  /** What errors name. */
  readonly target: string;
  /** As SQL, and so is the view. */
  readonly table: string;
  readonly view: string;
}

/** A table with columns, and where the records to come lie whole. */
export interface Expansion extends TypedTable {
  /** A query of the records of this upload as one jsonb column `r`, and its parameters. */
  readonly records: string;
  readonly values: readonly unknown[];
}

/** A key of the records, its column, and what its values are. */
interface Found {
  readonly key: string | null;
  readonly name: string;
  readonly kinds: number;
}

const KIND = {
  text: 1,
  date: 2,
  zoned: 4,
  local: 8,
  uuid: 16,
  boolean: 32,
  nested: 64,
  whole: 128,
  number: 256,
} as const;
const STRINGS = 31;
const MOST_COLUMNS = 1500;
const OURS = ['upload_timestamp', 'tenancy', 'upload_id', 'json_data'];

const DAY = '(?!0000)\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])';
const CLOCK = '([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?';
const ZONE = '(Z|[+-](0\\d|1[0-4]):?[0-5]\\d)';

// A date that passes the pattern but is none, such as a 30th of February, would fail the whole upload.
const IS_DAY = `substr(s, 9, 2)::int <= CASE WHEN substr(s, 6, 2) IN ('04', '06', '09', '11') THEN 30
  WHEN substr(s, 6, 2) <> '02' THEN 31
  WHEN substr(s, 1, 4)::int % 4 = 0 AND (substr(s, 1, 4)::int % 100 <> 0 OR substr(s, 1, 4)::int % 400 = 0) THEN 29
  ELSE 28 END`;

const KIND_OF = `CASE jsonb_typeof(value)
  WHEN 'null' THEN 0
  WHEN 'boolean' THEN ${KIND.boolean}
  WHEN 'number' THEN CASE WHEN s ~ '^-?\\d+$' AND s::numeric BETWEEN -9223372036854775808 AND 9223372036854775807
    THEN ${KIND.whole} ELSE ${KIND.number} END
  WHEN 'string' THEN CASE
    WHEN char_length(s) NOT BETWEEN 10 AND 36 THEN ${KIND.text}
    WHEN s ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN ${KIND.uuid}
    WHEN s !~ '^${DAY}([T ]${CLOCK}${ZONE}?)?$' THEN ${KIND.text}
    WHEN NOT (${IS_DAY}) THEN ${KIND.text}
    WHEN char_length(s) = 10 THEN ${KIND.date}
    WHEN s ~ '${ZONE}$' THEN ${KIND.zoned}
    ELSE ${KIND.local} END
  ELSE ${KIND.nested} END`;

/** Makes the table and its view where they are missing; `view` tells the view's query. */
export async function prepareTyped(client: PoolClient, typed: TypedTable, view: () => string): Promise<void> {
  const { rows } = await client.query<{ readonly table: boolean; readonly raw: boolean; readonly view: boolean }>(
    `SELECT to_regclass($1) IS NOT NULL AS table, to_regclass($2) IS NOT NULL AS view,
       EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'json_data'
         AND NOT attisdropped) AS raw`,
    [typed.table, typed.view],
  );
  const [found] = rows;
  if (found?.raw === true) {
    throw new CollectError('store', `${typed.target} holds raw records, which typed columns cannot join`, {
      mend: 'rename that table, or set STORE_POSTGRES_LAYOUT=raw or both',
    });
  }
  if (found?.table !== true) {
    await client.query(`CREATE TABLE ${typed.table} (upload_timestamp timestamptz NOT NULL, tenancy text NOT NULL,
      upload_id uuid NOT NULL); CREATE INDEX ON ${typed.table} (tenancy, upload_timestamp)`);
  }
  if (found?.view !== true) await client.query(view());
}

/**
 * Fits the table to the records' keys and adds the records: a new key becomes a column of the narrowest type that takes
 * all its values, nested values are jsonb, and a column whose old and new types clash becomes jsonb.
 * @returns what the operator should know
 */
export async function expand(
  client: PoolClient,
  expansion: Expansion,
  { metadata, spool }: Dataset,
  view: () => string,
): Promise<readonly string[]> {
  const found = await find(client, expansion);
  const { columns, notes } = await widen(client, expansion, found, view);
  const names = ['upload_timestamp', 'tenancy', 'upload_id', ...columns.map(({ name }) => quoted(name))];
  const next = expansion.values.length;
  const values = [`$${next + 1}::timestamptz`, `$${next + 2}`, `$${next + 3}::uuid`, ...columns.map(valueOfColumn)];
  const { rowCount } = await client.query(
    `INSERT INTO ${expansion.table} (${names.join(', ')})
     SELECT ${values.join(', ')} FROM (${expansion.records}) records`,
    [...expansion.values, metadata.timestamp, metadata.tenancy, metadata.upload_id],
  );
  if (rowCount === spool.records) return notes;
  throw new CollectError('store', `${expansion.target} took ${rowCount} of ${spool.records} records`, {
    mend: 'nothing of this upload was stored; run again',
  });
}

/** Every key and what its values are; one column of all where records are no objects. */
async function find(client: PoolClient, { target, records, values }: Expansion): Promise<readonly Found[]> {
  const { rows } = await client.query<{ readonly key: string | null; readonly kinds: number }>(
    `SELECT key, bit_or(${KIND_OF})::int AS kinds FROM (
       SELECT key, value, CASE WHEN jsonb_typeof(value) IN ('string', 'number') THEN value #>> '{}' END AS s
       FROM (${records}) records, LATERAL (
         SELECT key, value, ordinality FROM jsonb_each(CASE jsonb_typeof(r) WHEN 'object' THEN r ELSE '{}' END)
           WITH ORDINALITY
         UNION ALL SELECT NULL, r, 0 WHERE jsonb_typeof(r) <> 'object') each
     ) cells GROUP BY key ORDER BY key LIMIT ${MOST_COLUMNS + 1}`,
    [...values],
  );
  if (rows.some(({ key }) => key === null)) return [{ key: null, name: 'json', kinds: KIND.nested }];
  const mend = 'set STORE_POSTGRES_LAYOUT=raw';
  if (rows.length > MOST_COLUMNS) {
    throw new CollectError('store', `${target}: more than ${MOST_COLUMNS} keys are too many for columns`, { mend });
  }
  const found = rows.map(({ key, kinds }) => ({ key, name: columnOf(key ?? ''), kinds }));
  if (found.some(({ key }) => key === '')) {
    throw new CollectError('store', `${target}: a key without a name cannot be a column`, { mend });
  }
  const twin = found.find(({ name }, n) => found.findIndex((other) => other.name === name) !== n);
  if (twin === undefined) return found;
  throw new CollectError('store', `${target}: two keys would be the column ${twin.name}`, { mend });
}

/** A key as a name: clear of the run's own columns, and of at most 63 bytes, as PostgreSQL cuts what is longer. */
function columnOf(key: string): string {
  const name = OURS.includes(key) ? `_${key}` : key;
  if (Buffer.byteLength(name) <= 63) return name;
  const hash = createHash('sha256').update(key).digest('hex').slice(0, 8);
  let head = name.slice(0, 54);
  while (Buffer.byteLength(head) > 54) head = head.slice(0, -1);
  return `${head}_${hash}`;
}

/** A column that takes a key's values. */
interface Column extends Found {
  readonly type: string;
}

async function widen(client: PoolClient, { table, view }: Expansion, found: readonly Found[], viewSql: () => string) {
  const { rows } = await client.query<{ readonly name: string; readonly type: string }>(
    `SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped`,
    [table],
  );
  const types = new Map(rows.map(({ name, type }) => [name, type]));
  const notes: string[] = [];
  const changes: string[] = [];
  const columns = found.map((column): Column => {
    const name = quoted(column.name);
    const old = types.get(column.name);
    const is = typeOf(column.kinds);
    const type = old === undefined ? is : merged(old, column.kinds);
    if (old === undefined) changes.push(`ADD COLUMN ${name} ${type}`);
    else if (type !== old) {
      const using = type === 'jsonb' ? `to_jsonb(${name})` : `${name}::${type}`;
      changes.push(`ALTER COLUMN ${name} TYPE ${type} USING ${using}`);
      if (type === 'jsonb') notes.push(`column ${column.name} was ${old}, is ${is} in this upload, and became jsonb`);
    }
    return { ...column, type };
  });
  if (changes.length > 0) {
    // The view has the columns that there were when it was made, and keeps them from changing.
    await client.query(`DROP VIEW ${view}`);
    await client.query(`ALTER TABLE ${table} ${changes.join(', ')}`);
    await client.query(viewSql());
  }
  return { columns, notes };
}

function typeOf(kinds: number): string {
  const strings = kinds & STRINGS;
  if (strings !== 0) return strings === kinds ? textual(kinds) : 'jsonb';
  if (kinds === KIND.boolean) return 'boolean';
  if (kinds === 0 || (kinds & (KIND.boolean | KIND.nested)) !== 0) return 'jsonb';
  return kinds === KIND.whole ? 'bigint' : 'numeric';
}

function textual(kinds: number): string {
  if (kinds === KIND.date) return 'date';
  if (kinds === KIND.zoned) return 'timestamp with time zone';
  if (kinds === KIND.local) return 'timestamp without time zone';
  return kinds === KIND.uuid ? 'uuid' : 'text';
}

/** The type that holds both what a column was and what was found, without changing either; jsonb where there is none. */
function merged(old: string, kinds: number): string {
  const found = typeOf(kinds);
  if (kinds === 0 || old === found || (old === 'text' && (kinds & STRINGS) === kinds)) return old;
  if (old === 'numeric' && found === 'bigint') return old;
  return old === 'bigint' && found === 'numeric' ? found : 'jsonb';
}

function valueOfColumn({ key, type }: Column): string {
  if (key === null) return 'r';
  const name = literal(key);
  if (type === 'jsonb') return `nullif(r -> ${name}, 'null')`;
  return type === 'text' ? `r ->> ${name}` : `(r ->> ${name})::${type}`;
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
