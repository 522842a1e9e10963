import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Identities } from '../../src/run/identities.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-identities-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function lines(records: readonly unknown[]): Buffer {
  return Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
}

/** Repeats and missing identities of NDJSON that comes in these pieces. */
async function count(paths: readonly string[], pieces: Iterable<Uint8Array>) {
  const identities = new Identities(paths, folder);
  try {
    for (const piece of pieces) {
      identities.add([piece]);
      await identities.flush();
    }
    return { repeats: await identities.repeats(), missing: identities.missing };
  } finally {
    await identities.close();
  }
}

describe('repeats', () => {
  const id = fc.oneof(fc.nat(30), fc.constantFrom('a', 'b', '7', ''), fc.constant(null));
  const record = fc.record({ id, part: fc.nat(2), other: fc.string() });

  it('are counted as a set would, however the lines come in pieces', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(record), fc.array(fc.nat(5000)), async (records, cuts) => {
        const text = lines(records);
        const places = [0, ...cuts.map((at) => at % (text.length + 1)).sort((a, b) => a - b), text.length];
        const pieces = places.slice(1).map((end, n) => text.subarray(places[n], end));
        const one = new Set(records.map((each) => JSON.stringify(each.id)));
        expect(await count(['id'], pieces)).toEqual({ repeats: records.length - one.size, missing: 0 });
        const two = new Set(records.map((each) => JSON.stringify([each.id, each.part])));
        expect(await count(['id', 'part'], pieces)).toEqual({ repeats: records.length - two.size, missing: 0 });
      }),
    );
  });

  it('values that only together look alike are told apart', async () => {
    const records = [
      { a: 'xy', b: 'z' },
      { a: 'x', b: 'yz' },
      { a: 'xyz', b: '' },
    ];
    expect(await count(['a', 'b'], [lines(records)])).toEqual({ repeats: 0, missing: 0 });
  });

  it('records without any identity are counted apart', async () => {
    const records = [{ id: 1 }, { name: 'x' }, { name: 'x' }, { user: { id: 2 } }, 'text'];
    expect(await count(['id', 'user.id'], [lines(records)])).toEqual({ repeats: 0, missing: 3 });
  });

  it('there are none among none', async () => {
    expect(await count(['id'], [])).toEqual({ repeats: 0, missing: 0 });
  });
});

describe('many identities', () => {
  /** NDJSON in pieces of a thousand records. */
  function* ndjson(total: number, idOf: (n: number) => string): Generator<Buffer> {
    for (let from = 0; from < total; from += 1000) {
      let text = '';
      for (let n = from; n < Math.min(total, from + 1000); n += 1) text += `{"id":"${idOf(n)}"}\n`;
      yield Buffer.from(text);
    }
  }

  it.each([
    ['counted up', (n: number) => `00u${String(n).padStart(17, '0')}`],
    ['in hexadecimal', (n: number) => n.toString(16).padStart(32, '0')],
    ['spread', (n: number) => `${(n * 2654435761) % 2 ** 32}-${n}`],
  ])('%s are none the same', async (_name, idOf) => {
    expect(await count(['id'], ndjson(400_000, idOf))).toEqual({ repeats: 0, missing: 0 });
  });

  it('beyond a mebibyte and beyond one pass lie on disk, and every repeat is found', async () => {
    const total = 2_300_000;
    const identities = new Identities(['id'], folder);
    let most = 0;
    let added = 0;
    for (const piece of ndjson(total, (n) => (n % 100_000 === 99_999 ? 'twin' : String(n)))) {
      identities.add([piece]);
      added += 1;
      if (added % 100 === 0) await identities.flush();
      if (added % 500 === 0) most = Math.max(most, (await readdir(folder)).length);
    }
    expect(await identities.repeats()).toBe(total / 100_000 - 1);
    expect(most).toBe(1);
    await identities.close();
    await identities.close();
    expect(await readdir(folder)).toEqual([]);
  });
});
