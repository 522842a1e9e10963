import type { DuckDBConnection } from '@duckdb/node-api';
import type { Spool } from '../envelope/spool.ts';
import { rowsOf, type Source } from './_duckdb.ts';
import { type Column, findColumns, fromOf, merged, OURS, readAs, type Style, typeOf } from './_duckdb_columns.ts';
import { quoted } from './_rows.ts';

/** Types by column, names as the table spells them. */
export type Types = Readonly<Record<string, string>>;

/** What typed columns take of the spool: the columns, their values, and what they are read from. */
export interface Selection {
  readonly names: readonly string[];
  readonly values: readonly string[];
  readonly from: string;
  /** What the operator should know. */
  readonly notes: readonly string[];
}

/** A table with a column for each key, and what it is to take. */
export interface Filling {
  readonly tag: string;
  readonly table: string;
  readonly types: Types;
  readonly spool: Spool;
  readonly source: Source;
}

// DuckDB reads a time with an offset into a TIMESTAMP as if it had none.
const STYLE: Style = { utc: 'TIMESTAMP', offset: 'VARCHAR', time: 'TIME', uuid: 'UUID', unsigned: 'HUGEINT' };

/**
 * Fits the table to the spool's keys: a new key becomes a column of the narrowest type that takes all its values,
 * nested values are JSON, and a column whose old and new types clash becomes JSON.
 */
export async function typedColumns(connection: DuckDBConnection, filling: Filling): Promise<Selection> {
  const { tag, table, types, spool, source } = filling;
  const mend = 'set STORE_DUCKDB_LAYOUT=raw';
  const found = await findColumns({ connection, tag, spool, source, taken: OURS, mend });
  const notes: string[] = [];
  const known = new Map(Object.entries(types).map(([name, type]) => [name.toLowerCase(), { name, type }]));
  const columns: Column[] = [];
  for (const { key, name, kinds, length } of found) {
    const old = known.get(name.toLowerCase());
    if (old === undefined) {
      const type = typeOf(kinds, STYLE);
      await connection.run(
        `ALTER TABLE ${quoted(table)} ADD COLUMN ${quoted(name)} ${type}${compression(type, length)}`,
      );
      columns.push({ key, name, type });
      continue;
    }
    const type = await kept(connection, table, old, merged(old.type, kinds, STYLE));
    if (type !== old.type) await retype(connection, table, old.name, type);
    if (type === 'JSON' && old.type !== 'JSON') {
      notes.push(`column ${old.name} was ${old.type}, is ${typeOf(kinds, STYLE)} in this upload, and became JSON`);
    }
    columns.push({ key, name: old.name, type });
  }
  return {
    names: columns.map(({ name }) => quoted(name)),
    values: columns.map(readAs),
    from: fromOf(columns, source),
    notes,
  };
}

const LONG = 128;

/** Trying every compression on long texts takes a tenth of the time, and ends with this one. */
function compression(type: string, length: number): string {
  return length > LONG && (type === 'JSON' || type === 'VARCHAR') ? ' USING COMPRESSION fsst' : '';
}

/** JSON instead of DOUBLE where the column holds whole numbers that a double would round. */
async function kept(
  connection: DuckDBConnection,
  table: string,
  old: { readonly name: string; readonly type: string },
  type: string,
): Promise<string> {
  if (type !== 'DOUBLE' || old.type === 'DOUBLE') return type;
  const long = `SELECT 1 FROM ${quoted(table)} WHERE abs(${quoted(old.name)}::HUGEINT) > 9007199254740992 LIMIT 1`;
  return (await rowsOf(connection, long)).length === 0 ? type : 'JSON';
}

async function retype(connection: DuckDBConnection, table: string, name: string, type: string): Promise<void> {
  const column = quoted(name);
  const using = type === 'JSON' ? `to_json(${column})` : `${column}::${type}`;
  await connection.run(`ALTER TABLE ${quoted(table)} ALTER COLUMN ${column} TYPE ${type} USING ${using}`);
}
