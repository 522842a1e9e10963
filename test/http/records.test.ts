import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RecordSplitter } from '../../src/http/records.ts';

interface Split {
  readonly lines: string[];
  readonly records: number;
  readonly body: unknown;
  readonly found: boolean;
}

function split(
  text: string | Uint8Array,
  path: string,
  cuts: readonly number[] = [],
  edit?: (r: Uint8Array) => Uint8Array,
): Split {
  const splitter = new RecordSplitter({ path, ...(edit === undefined ? {} : { edit }) });
  const bytes = Buffer.from(text as string);
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  const out: Buffer[] = [];
  for (let n = 1; n < places.length; n += 1) {
    for (const part of splitter.write(Buffer.from(bytes.subarray(places[n - 1], places[n]))))
      out.push(Buffer.from(part));
  }
  const facts = splitter.end();
  const lines = Buffer.concat(out).toString().split('\n');
  expect(lines.pop()).toBe('');
  return { lines, ...facts };
}

const json = fc.jsonValue({ maxDepth: 4 });

describe('RecordSplitter', () => {
  it('hands on the bytes of every record, however the body is cut and printed', () => {
    fc.assert(
      fc.property(
        fc.array(json),
        fc.constantFrom('', 'data', 'meta.list'),
        fc.constantFrom(0, 1, 4),
        fc.array(fc.nat(5000), { maxLength: 12 }),
        (records, path, indent, cuts) => {
          const body =
            path === ''
              ? records
              : path === 'data'
                ? { n: '[1]', data: records, z: { data: [7] } }
                : { meta: { a: [1], list: records }, x: 1 };
          const result = split(JSON.stringify(body, null, indent), path, cuts);
          expect(result.found).toBe(true);
          expect(result.records).toBe(records.length);
          expect(result.lines.map((line) => JSON.parse(line))).toEqual(JSON.parse(JSON.stringify(records)));
          if (indent === 0) expect(result.lines).toEqual(records.map((record) => JSON.stringify(record)));
          const outside = JSON.parse(JSON.stringify(body));
          if (path === '') expect(result.body).toEqual([]);
          else if (path === 'data') expect(result.body).toEqual({ ...outside, data: [] });
          else expect(result.body).toEqual({ ...outside, meta: { a: [1], list: [] } });
        },
      ),
      { numRuns: 500 },
    );
  });

  it('keeps integers beyond 2^53, key order, escapes and lone surrogates digit for digit', () => {
    const record = '{"b":12345678901234567890,"a":1.10,"s":"\\u0041\\ud800\\"\\\\","a":2}';
    expect(split(`[${record}]`, '').lines).toEqual([record]);
  });

  it('edits each record into other bytes', () => {
    const edit = (record: Uint8Array) => Buffer.from(`${Buffer.from(record).toString().slice(0, -1)},"_x":1}`);
    expect(split('{"d":[{"a":1}, {"a":2}]}', 'd', [9, 12], edit).lines).toEqual(['{"a":1,"_x":1}', '{"a":2,"_x":1}']);
  });

  it('says that the records are absent or null', () => {
    expect(split('{"errors":[]}', 'resources').found).toBe(false);
    expect(split('{"resources":null}', 'resources')).toMatchObject({ found: false, records: 0 });
    expect(split('null', '').found).toBe(false);
  });

  it.each([
    ['', 'empty'],
    ['[', 'middle'],
    ['[{"a":1}', 'middle'],
    ['[{"a":1},]', 'behind a comma'],
    ['[{"a":1}{"a":2}]', 'comma is missing'],
    ['[{"a":[1}]]', 'bracket'],
    ['[{"a":"x\ny"}]', 'control character'],
    ['[{"a" 1}]', 'first record'],
    ['[,{"a":1}]', 'record is missing'],
    ['[{"a":1}] x', 'no JSON'],
    ['[{"a":1}]]', 'bracket'],
    ['<!DOCTYPE html><html></html>', 'HTML'],
    ['[{"a":"1', 'middle'],
  ])('refuses %j', (text, message) => {
    for (let cut = 0; cut < text.length; cut += 1) expect(() => split(text, '', [cut])).toThrow(message);
  });

  it('refuses a record over the limit before it is whole', () => {
    const splitter = new RecordSplitter({ path: '', maxRecord: 100 });
    splitter.write(Buffer.from('[{"a":"'));
    expect(() => splitter.write(Buffer.alloc(101, 'x'))).toThrow('larger than');
  });

  it('cuts every byte of a body apart', () => {
    const text = JSON.stringify({ resources: [{ a: '\\"]}' }, 'id', 5, null, [[]]], meta: { after: 'x' } });
    const every = Array.from({ length: text.length }, (_, n) => n);
    expect(split(text, 'resources', every).lines).toEqual(['{"a":"\\\\\\"]}"}', '"id"', '5', 'null', '[[]]']);
  });
});
