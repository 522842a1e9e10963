import { CollectError } from '../errors.ts';
import { at, type Json, textAt } from '../json.ts';
import { valueEnd } from './fields.ts';
import { RecordSplitter, type Split } from './records.ts';

const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const COMMA = 0x2c;
const CLOSE_ARRAY = 0x5d;

/**
 * Takes the rows of the first table out of `{"tables":[{"columns":[{"name":...}],"rows":[[...]]}]}` and makes an object
 * of each, its values as they were written. What stands around the rows is handed to `judge`, which says what rules see.
 */
export function tableRows(judge: (body: Json) => Json): Split {
  return ({ edit, maxRecord }) => {
    let columns: readonly Uint8Array[] = [];
    const splitter = new RecordSplitter({
      path: 'tables.*.rows',
      begun: (before) => {
        columns = columnsOf(before);
      },
      edit: (row) => {
        const record = withNames(row, columns);
        return edit?.(record) ?? record;
      },
      ...(maxRecord === undefined ? {} : { maxRecord }),
    });
    return {
      write: (chunk) => splitter.write(chunk),
      end() {
        const facts = splitter.end();
        return { ...facts, body: judge(facts.body) };
      },
    };
  };
}

/** The columns' names as keys of an object, told by what stands before the first table's rows. */
function columnsOf(before: string): readonly Uint8Array[] {
  let columns: Json | undefined;
  try {
    const tables = at(JSON.parse(`${before}]}]}`), 'tables');
    columns = Array.isArray(tables) ? at(tables.at(-1), 'columns') : undefined;
  } catch {
    // The parser's own error quotes the answer.
  }
  const names = Array.isArray(columns) ? columns.map((column) => textAt(column, 'name')) : [];
  if (names.length === 0 || names.includes(undefined)) {
    throw new CollectError('vendor', 'a table does not tell its columns before its rows');
  }
  return names.map((name) => Buffer.from(`${JSON.stringify(name)}:`));
}

/** A row as an object; its bytes are kept. */
function withNames(row: Uint8Array, columns: readonly Uint8Array[]): Uint8Array {
  const size = columns.reduce((sum, { length }) => sum + length, row.length);
  const out = Buffer.allocUnsafe(size);
  let length = 0;
  let i = skipSpace(row, 1);
  for (const [nth, column] of columns.entries()) {
    out[length] = nth === 0 ? OPEN_OBJECT : COMMA;
    out.set(column, length + 1);
    length += column.length + 1;
    const end = valueEnd(row, i);
    if (end === i) throw otherColumns();
    out.set(row.subarray(i, end), length);
    length += end - i;
    i = skipSpace(row, end);
    const last = nth === columns.length - 1;
    if (row[i] !== (last ? CLOSE_ARRAY : COMMA)) throw otherColumns();
    i = skipSpace(row, i + 1);
  }
  out[length] = CLOSE_OBJECT;
  return out.subarray(0, length + 1);
}

function otherColumns(): CollectError {
  return new CollectError('vendor', 'a row has another number of values than its table has columns');
}

function skipSpace(row: Uint8Array, from: number): number {
  let i = from;
  while (row[i] === 0x20 || row[i] === 0x09 || row[i] === 0x0a || row[i] === 0x0d) i += 1;
  return i;
}
