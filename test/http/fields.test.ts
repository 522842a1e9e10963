import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dropping, keeping, rawValue, withoutMember } from '../../src/http/fields.ts';

const key = fc.constantFrom('a', 'b', 'secret', 'nested', 'ä', '', 'a.b', '_x');
const tree = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.jsonValue({ maxDepth: 1 }),
    tie('object'),
    fc.array(tie('value'), { maxLength: 3 }),
  ),
  object: fc.dictionary(key, tie('value'), { maxKeys: 6 }),
}));
const object = tree.object as fc.Arbitrary<Record<string, unknown>>;
const indent = fc.constantFrom(0, 2, '\t');
const path = fc.array(key, { minLength: 1, maxLength: 3 });

function bytes(value: unknown, space: string | number = 0): Buffer {
  return Buffer.from(JSON.stringify(value, null, space));
}

function parsed(record: Uint8Array): unknown {
  return JSON.parse(Buffer.from(record).toString());
}

/** What stands at a path, the slow way. */
function valueAt(value: unknown, path: readonly string[]): { readonly found: unknown } | undefined {
  let found: unknown = value;
  for (const step of path) {
    if (typeof found !== 'object' || found === null || Array.isArray(found) || !Object.hasOwn(found, step))
      return undefined;
    found = (found as Record<string, unknown>)[step];
  }
  return { found };
}

function without(value: unknown, path: readonly string[]): unknown {
  const copy = structuredClone(value);
  const parent = valueAt(copy, path.slice(0, -1))?.found;
  if (typeof parent === 'object' && parent !== null && !Array.isArray(parent)) {
    delete (parent as Record<string, unknown>)[path.at(-1) ?? ''];
  }
  return copy;
}

describe('the raw value at a path', () => {
  it('is what a parser finds there, or nothing', () => {
    fc.assert(
      fc.property(object, path, indent, (record, path, space) => {
        const raw = rawValue(bytes(record, space), path);
        const expected = valueAt(parsed(bytes(record)), path);
        if (expected === undefined) expect(raw).toBeUndefined();
        else expect(parsed(raw ?? Buffer.of())).toEqual(expected.found);
      }),
      { numRuns: 500 },
    );
  });

  it('keeps its digits', () => {
    const raw = rawValue(Buffer.from('{"x":{"n" : 12345678901234567890.10 }}'), ['x', 'n']);
    expect(
      Buffer.from(raw ?? [])
        .toString()
        .trim(),
    ).toBe('12345678901234567890.10');
  });

  it('is the same identity however a record is printed', () => {
    for (const text of ['{"id":7}', '{"id": 7}', '{ "id" : 7 }', '{"id":7 ,"b":1}', '{"id":\t7\t}']) {
      expect(Buffer.from(rawValue(Buffer.from(text), ['id']) ?? []).toString()).toBe('7');
    }
  });

  it.each(['"text"', '7', 'null', '[{"id":1}]', '{}'])('of %s is nothing', (record) => {
    expect(rawValue(Buffer.from(record), ['id'])).toBeUndefined();
  });
});

describe('a record without a member', () => {
  it('is the record without it, and nothing else changed', () => {
    fc.assert(
      fc.property(object, path, indent, (record, path, space) => {
        const before = bytes(record, space);
        const copy = Buffer.from(before);
        const after = withoutMember(before, path);
        expect(parsed(after)).toEqual(without(parsed(bytes(record)), path));
        expect(before.equals(copy)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it('loses several secrets, nested ones too', () => {
    const edit = dropping(['secret', 'keys.private', 'not.there']);
    const record = '{"id":1,"secret":"s","keys":{"private":"p","public":"q"},"n":12345678901234567890}';
    expect(Buffer.from(edit(Buffer.from(record))).toString()).toBe(
      '{"id":1,"keys":{"public":"q"},"n":12345678901234567890}',
    );
  });

  it('loses what stands under any key and in any element', () => {
    const edit = dropping(['*.secret', 'list.*.x', 'all.*']);
    const record = '{"a":{"secret":1,"b":2},"list":[{"x":1}, {"y":2,"x":3} ,4],"all":[1,{"z":2}],"secret":"stays"}';
    expect(JSON.parse(Buffer.from(edit(Buffer.from(record))).toString())).toEqual({
      a: { b: 2 },
      list: [{}, { y: 2 }, 4],
      all: [],
      secret: 'stays',
    });
  });

  it('loses keys that hold a word, in any case and however they are escaped', () => {
    const record =
      '{"key":1,"in":{"apiKey":"a","TOKEN":"b","to\\u006ben":"c","deep":{"key_id":"d","n":2},"n":3},"list":[{"aKey":4}]}';
    const edit = dropping(['in.*key*', 'in.*.*key*', 'in.*token*', 'list.*.*key*']);
    expect(Buffer.from(edit(Buffer.from(record))).toString()).toBe('{"key":1,"in":{"deep":{"n":2},"n":3},"list":[{}]}');
  });

  it('holds no copy of a secret that stands there twice', () => {
    const edit = dropping(['secret']);
    const out = Buffer.from(edit(Buffer.from('{"secret":"one","id":1,"secret":"two"}'))).toString();
    expect(JSON.parse(out)).toEqual({ id: 1 });
  });
});

describe('what is added', () => {
  it('stands last, and the vendor’s bytes before it are kept', () => {
    fc.assert(
      fc.property(
        object,
        fc.dictionary(fc.constantFrom('_a', '_b_c'), fc.jsonValue(), { maxKeys: 2 }),
        indent,
        (record, more, space) => {
          const own = Object.fromEntries(Object.entries(record).filter(([name]) => !Object.hasOwn(more, name)));
          const before = bytes(own, space);
          const after = Buffer.from(keeping(more as never)(before));
          expect(parsed(after)).toEqual({ ...(parsed(bytes(own)) as object), ...(parsed(bytes(more)) as object) });
          expect(after.subarray(0, before.length - 1).equals(before.subarray(0, -1))).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });

  it.each(['[1]', '"x"', '5', 'null'])('cannot be added to %s', (record) => {
    expect(() => keeping({ _a: 1 })(Buffer.from(record))).toThrow('no object');
  });
});
