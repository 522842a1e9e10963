import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { kernelScan } from '../../src/http/kernel.ts';
import { RecordSplitter } from '../../src/http/records.ts';
import { PlainScan, type Scan } from '../../src/http/scan.ts';

const SCANS = {
  plain: () => new PlainScan(),
  kernel: () => kernelScan() ?? expect.unreachable('WebAssembly SIMD is missing'),
} as const;

/** What a splitter makes of a body cut at these places: its lines and facts, or what it refuses it for. */
function outcome(scan: () => Scan, body: Uint8Array, cuts: readonly number[] = [], edit = false) {
  const places = [0, ...cuts.map((cut) => cut % (body.length + 1)).sort((a, b) => a - b), body.length];
  const splitter = new RecordSplitter({
    path: '',
    maxRecord: 4000,
    scan,
    ...(edit ? { edit: (record) => record } : {}),
  });
  const out: Buffer[] = [];
  try {
    for (let n = 1; n < places.length; n += 1) {
      for (const part of splitter.write(Uint8Array.from(body.subarray(places[n - 1], places[n]))))
        out.push(Buffer.from(part));
    }
    return { ...splitter.end(), text: Buffer.concat(out).toString('latin1') };
  } catch (error) {
    return { refused: (error as Error).message };
  }
}

/** Both scans must make the same of it, however it is cut. */
function alike(body: Uint8Array, cuts: readonly number[], edit = false): ReturnType<typeof outcome> {
  const plain = outcome(SCANS.plain, body, cuts, edit);
  expect(outcome(SCANS.kernel, body, cuts, edit)).toEqual(plain);
  return plain;
}

const cuts = fc.array(fc.nat(4000), { maxLength: 8 });
// What matters to a scan, in the mixture that brings it from one state to the next.
const tokens = fc
  .array(
    fc.constantFrom(
      ...['{', '}', '[', ']', '"', ',', ':', '\\', '\\"', '\\\\', ' ', '\n', '\r', '\t', '\u0001', '1', 'null', 'é'],
      ...['"key":', '"a b c d e f g h i j k l m n"', '{"a":[1,{"b":"}]"}]}', '},{', '   \n        '],
    ),
    { maxLength: 60, size: 'max' },
  )
  .map((parts) => parts.join(''));

describe('both scans', () => {
  it('find the same records in what is JSON', () => {
    fc.assert(
      fc.property(
        fc.array(fc.jsonValue({ maxDepth: 5 }), { maxLength: 20 }),
        fc.constantFrom(0, 1, 3),
        cuts,
        fc.boolean(),
        (records, indent, places, edit) => {
          const result = alike(Buffer.from(JSON.stringify(records, null, indent)), places, edit);
          expect(result).toMatchObject({ records: records.length, found: true, body: [] });
          const lines = Buffer.from((result as { text: string }).text, 'latin1')
            .toString()
            .split('\n')
            .slice(0, -1);
          expect(lines.map((line) => JSON.parse(line))).toEqual(JSON.parse(JSON.stringify(records)));
        },
      ),
      { numRuns: 500 },
    );
  });

  it('make the same of what is nearly JSON', () => {
    fc.assert(
      fc.property(tokens, cuts, fc.boolean(), (text, places, edit) => {
        alike(Buffer.from(`[${text}]`), places, edit);
        alike(Buffer.from(`[{"a":"${text}"}]`), places, edit);
      }),
      { numRuns: 3000 },
    );
  });

  it('make the same of JSON with one byte changed', () => {
    fc.assert(
      fc.property(
        fc.array(fc.jsonValue({ maxDepth: 5 }), { minLength: 1 }),
        fc.nat(5000),
        fc.nat(255),
        cuts,
        (records, at, byte, places) => {
          const body = Buffer.from(JSON.stringify(records));
          body[at % body.length] = byte;
          alike(body, places);
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('hand on no line with a line feed or another raw control character in it', () => {
    fc.assert(
      fc.property(tokens, cuts, (text, places) => {
        const result = alike(Buffer.from(`[{"first":1},${text}]`), places);
        if ('refused' in result) return;
        expect(result.text.match(/\n/g)).toHaveLength(result.records);
        expect(/[^\P{Cc}\t\n\x7f-\x9f]/u.test(result.text)).toBe(false);
      }),
      { numRuns: 2000 },
    );
  });

  it('read bodies larger than a piece, and records across its border', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3000 }),
        fc.nat(40),
        fc.constantFrom('x', '\\"', '\u2028'),
        (size, n, fill) => {
          const record = { [fill.repeat(n)]: fill.repeat(size / fill.length / 2), list: [{ n }] };
          const records = Array.from({ length: Math.ceil(200_000 / size) }, () => record);
          const body = Buffer.from(JSON.stringify(records));
          const one = JSON.stringify(record);
          for (const scan of Object.values(SCANS)) {
            const splitter = new RecordSplitter({ path: '', scan });
            const text = Buffer.concat(splitter.write(Uint8Array.from(body))).toString();
            expect(splitter.end().records).toBe(records.length);
            expect(text === `${one}\n`.repeat(records.length)).toBe(true);
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it('keep bodies apart that are read in turn', () => {
    const bodies = ['[{"a":"x\\', '[[[[{"b":[', '["text \\', '[12', '[{"a":1},'];
    const ends = ['""}]', ']}]]]]', '" end"]', '34]', '2]'];
    const splitters = bodies.map(() => new RecordSplitter({ path: '', scan: SCANS.kernel }));
    const lines = splitters.map((splitter, n) => [...splitter.write(Buffer.from(bodies[n] as string))]);
    splitters.forEach((splitter, n) => {
      lines[n]?.push(...splitter.write(Buffer.from(ends[n] as string)));
      splitter.end();
    });
    expect(lines.map((parts) => Buffer.concat(parts).toString())).toEqual([
      '{"a":"x\\""}\n',
      '[[[{"b":[]}]]]\n',
      '"text \\" end"\n',
      '1234\n',
      '{"a":1}\n2\n',
    ]);
  });

  it('let an edit take records apart', () => {
    for (const scan of Object.values(SCANS)) {
      const edit = (record: Uint8Array) => {
        const inner = new RecordSplitter({ path: 'list', scan });
        return Buffer.concat([Buffer.from('['), ...inner.write(Uint8Array.from(record)), Buffer.from(']')]);
      };
      const splitter = new RecordSplitter({ path: '', scan, edit });
      const text = Buffer.concat(splitter.write(Buffer.from('[{"list":[1]},{"list":[2]},{"list":[3]}]'))).toString();
      expect(text).toBe('[1\n]\n[2\n]\n[3\n]\n');
    }
  });

  const deep = (depth: number) => `[${'['.repeat(depth)}${']'.repeat(depth)}]`;
  const wide = '{"a":"a string that is longer than sixteen bytes","b":"and another one, as long"}';
  it.each([
    [`[${wide},${wide.slice(0, -2)}]`, 'middle'],
    [`[${wide},${wide.slice(0, -1)}]`, 'bracket does not match'],
    [`[${wide}`, 'middle'],
    [`[${wide},`, 'middle'],
    [`[${wide},]`, 'missing behind a comma'],
    [`[,${wide}]`, 'a record is missing'],
    [`[${wide},,${wide}]`, 'a record is missing'],
    [`[${wide}${wide}]`, 'comma is missing'],
    [`[${wide}]]`, 'bracket does not match'],
    [`[${wide}]}`, 'bracket does not match'],
    [`[${wide}] and more`, 'no JSON'],
    [`[${wide}],[]`, 'no JSON'],
    [`[{"a":{"b":[1,2,3,4,5,6,7,8,9,10,11,12}]}]`, 'bracket does not match'],
    [`[{"a":[1,2,3,4,5,6,7,8,9,10,11,12]]}]`, 'bracket does not match'],
    ['[{"a":"a string with a raw\nline feed in it"}]', 'raw control character'],
    ['[{"a":"a string with an escaped raw \\\nline feed"}]', 'raw control character'],
    ['[{"a":"a string with a raw \u0000 byte"}]', 'raw control character'],
    ['["a record that is a string with a raw \\\u0001"]', 'raw control character'],
    ['[{"a":1,\u0001"b":"xxxxxxxxxxxxxxxxxxx"}]', 'between values'],
    [`[${wide},\u0000${wide}]`, 'between values'],
    ['[1,2{"a":1}]', 'not separated'],
    ['[1,tr"ue"]', 'not separated'],
    ['[1:2]', 'not separated'],
    [`[${wide}:1]`, 'comma is missing'],
    ['[nil]', 'first record is no JSON'],
    [deep(1001), 'nested too deep'],
    [`[{"a":"${'x'.repeat(5000)}"}]`, 'larger than'],
    ['"text"]', 'bracket does not match'],
    ['{', 'middle'],
    ['', 'empty'],
    ['   ', 'empty'],
    ['nonsense', 'no JSON'],
  ])('refuse %j', (text, because) => {
    const body = Buffer.from(text);
    for (let cut = 0; cut <= Math.min(body.length, 200); cut += 1) {
      expect(alike(body, [cut])).toMatchObject({ refused: expect.stringContaining(because) });
    }
  });

  it.each([
    ['[]', 0],
    [' \ufeff [ ] '.trim(), 0],
    ['[\n\t\r ]\n', 0],
    [deep(1000), 1],
    ['["\\\\","\\"","","\\\\\\""]', 4],
    ['[1,-2.5e+3 , null,true\n,false]', 5],
    ['[{"}":"{","]":"["},[["}"],{}]]', 2],
    [`[\r\n  ${wide} ,\r\n  {\r\n    "c": [\r\n\t1\r\n]}\r\n]\r\n`, 2],
  ])('accept %j', (text, records) => {
    const body = Buffer.from(text);
    for (let cut = 0; cut <= Math.min(body.length, 200); cut += 1) {
      expect(alike(body, [cut])).toMatchObject({ records, found: true });
    }
  });
});
