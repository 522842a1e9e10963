import { expect, test } from 'vitest';
import { tableRows } from '../../src/http/tables.ts';

const split = tableRows((body) => body);

function read(text: string, size: number, edit?: (record: Uint8Array) => Uint8Array) {
  const splitter = split(edit === undefined ? {} : { edit });
  const bytes = Buffer.from(text);
  const out: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; from += size) {
    out.push(...splitter.write(Uint8Array.from(bytes.subarray(from, from + size))).map((part) => Buffer.from(part)));
  }
  return { ...splitter.end(), lines: Buffer.concat(out).toString().split('\n').slice(0, -1) };
}

const COLUMNS =
  '[{"name":"Time","type":"datetime"},{"name":"Größe \\"x\\"","type":"long"},{"name":"D","type":"dynamic"}]';
const table = (rows: string, columns = COLUMNS) => `{"name":"PrimaryResult","columns":${columns},"rows":${rows}}`;
const ROWS = '[["2026-01-01T00:00:00Z",9007199254740993,"{\\"a\\":[1,2]}"],\n [ null , 1.50 , {"rows":[[1],[2]]} ]]';

test.each([1, 3, 16, 4096])(
  'rows become objects with their values as they were written, in pieces of %i bytes',
  (size) => {
    const { lines, records, found, body } = read(`{"tables":[${table(ROWS)}],"statistics":{"rows":[7]}}`, size);
    expect(lines).toEqual([
      '{"Time":"2026-01-01T00:00:00Z","Größe \\"x\\"":9007199254740993,"D":"{\\"a\\":[1,2]}"}',
      '{"Time":null,"Größe \\"x\\"":1.50,"D":{"rows":[[1],[2]]}}',
    ]);
    expect({ records, found }).toEqual({ records: 2, found: true });
    expect(body).toMatchObject({ tables: [{ name: 'PrimaryResult', rows: [] }], statistics: { rows: [7] } });
  },
);

test('a further table stays outside, for whoever judges the answer', () => {
  const { lines, body } = read(`{"tables":[${table('[]')},${table(ROWS)}]}`, 64);
  expect(lines).toEqual([]);
  expect(body).toMatchObject({
    tables: [{ rows: [] }, { rows: [[expect.any(String), expect.any(Number), expect.any(String)], expect.anything()] }],
  });
});

test('fields are taken out of the objects', () => {
  const edit = (record: Uint8Array) =>
    Buffer.from(
      Buffer.from(record)
        .toString()
        .replace(/"Time":[^,]*,/, ''),
    );
  expect(read(`{"tables":[${table('[[1,2,3]]')}]}`, 9, edit).lines).toEqual(['{"Größe \\"x\\"":2,"D":3}']);
});

test.each([
  ['a row with too few values', `{"tables":[${table('[[1,2]]')}]}`],
  ['a row with too many values', `{"tables":[${table('[[1,2,3,4]]')}]}`],
  ['a row without any', `{"tables":[${table('[[]]')}]}`],
  ['columns behind the rows', '{"tables":[{"rows":[[1]],"columns":[{"name":"a"}]}]}'],
  ['columns without a name', `{"tables":[${table('[[1]]', '[{"type":"int"}]')}]}`],
  ['an end in the middle', `{"tables":[${table('[[1,2,3]]')}`],
])('%s is no answer', (_, text) => {
  expect(() => read(text, 16)).toThrow(expect.objectContaining({ code: 'vendor' }));
});

test('an answer without tables has no list', () => {
  expect(read('{"error":{"code":"X","rows":[1]}}', 16)).toMatchObject({ found: false, records: 0 });
});
