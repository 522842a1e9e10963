import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { SpoolWriter } from '../../src/envelope/spool.ts';
import { type Drift, driftText, observeFields } from '../../src/report/drift.ts';
import { openState } from '../../src/run/state.ts';
import { temporaryFolder } from '../support/run.ts';

type Shape = (n: number) => unknown;

/** What runs over these records, one after another, tell of the dataset's fields. */
async function driftsOf(
  runs: readonly (readonly [records: number, shape: Shape])[],
  kind: 'snapshot' | 'events' = 'snapshot',
): Promise<readonly (Drift | undefined)[]> {
  const folder = await temporaryFolder();
  const state = await openState(`${folder}/state`);
  const told: (Drift | undefined)[] = [];
  for (const [run, [records, shape]] of runs.entries()) {
    const writer = await SpoolWriter.create(`${folder}/${run}.ndjson`);
    for (let n = 0; n < records; n += 1) await writer.write([Buffer.from(`${JSON.stringify(shape(n))}\n`)]);
    const spool = await writer.finish(records);
    told.push(await observeFields(state, { tenancy: 'acme', tag: 'okta_users', kind }, spool));
  }
  return told;
}

/** A number below 1 that looks like chance, the same for the same numbers. */
function chance(seed: number, n: number): number {
  const x = Math.sin(seed * 1000 + n * 12.9898) * 43758.5453;
  return x - Math.floor(x);
}

const user = (n: number) => ({ id: `u${n}`, name: `User ${n}`, age: n, profile: { mail: 'a@b.example', tags: ['x'] } });

describe.each([30, 30_000])('of %i records', (count) => {
  it('the first run has nothing to be held against, and the same again is no change', async () => {
    expect(
      await driftsOf([
        [count, user],
        [count, user],
      ]),
    ).toEqual([undefined, undefined]);
  });

  it('tells a field that is new, one that vanished and one of another type, once', async () => {
    const other = (n: number) => ({
      id: `u${n}`,
      name: n,
      age: n,
      profile: { mail: 'a@b.example' },
      mfa: { on: true },
    });
    const drift = {
      new: ['mfa'],
      vanished: ['profile.tags'],
      retyped: [{ field: 'name', from: ['string'], to: ['number'] }],
    };
    expect(
      await driftsOf([
        [count, user],
        [count, other],
        [count, other],
      ]),
    ).toEqual([undefined, drift, undefined]);
  });

  it('tells again what goes back', async () => {
    const other = (n: number) => ({ ...user(n), age: `${n}` });
    const [, there, back] = await driftsOf([
      [count, user],
      [count, other],
      [count, user],
    ]);
    expect(there?.retyped).toEqual([{ field: 'age', from: ['number'], to: ['string'] }]);
    expect(back?.retyped).toEqual([{ field: 'age', from: ['string'], to: ['number'] }]);
  });

  it('takes null for no type: values that come and go are no change', async () => {
    const nulls = (n: number) => ({ ...user(n), age: null });
    expect(
      await driftsOf([
        [count, nulls],
        [count, user],
        [count, nulls],
      ]),
    ).toEqual([undefined, undefined, undefined]);
  });

  it('tells an object that became text without its fields', async () => {
    const flat = (n: number) => ({ ...user(n), profile: 'a@b.example' });
    const [, drift] = await driftsOf([
      [count, user],
      [count, flat],
    ]);
    expect(drift).toEqual({ new: [], vanished: [], retyped: [{ field: 'profile', from: ['object'], to: ['string'] }] });
  });
});

it('what few records have comes and goes unsaid, whatever the sample happens to hold', async () => {
  const rare = (seed: number) => (n: number) => ({
    ...user(n),
    ...(chance(seed, n) < 0.0005 ? { rare: true } : {}),
    ...(chance(seed + 1, n) < 0.001 ? { odd: 1 } : {}),
    score: chance(seed + 2, n) < 0.0005 ? 'none' : n,
  });
  const runs = Array.from({ length: 12 }, (_, run): [number, Shape] => [20_000, rare(run * 7 + 1)]);
  const drifts = await driftsOf(runs);
  expect(drifts.filter((drift) => drift !== undefined)).toEqual([]);
});

it('what spreads over the records is told once it is common', async () => {
  const spreading = (percent: number) => (n: number) => ({
    ...user(n),
    ...(n % 100 < percent ? { passkey: true } : {}),
  });
  const drifts = await driftsOf([0, 5, 50, 100].map((percent): [number, Shape] => [20_000, spreading(percent)]));
  expect(drifts.map((drift) => drift?.new)).toEqual([undefined, ['passkey'], undefined, undefined]);
});

it('keys that are data are one field, and never told by name', async () => {
  const labelled = (from: number) => (n: number) => ({
    ...user(n),
    labels: { [`team${'abcdefghij'[n % 10]}${'klmnopqrst'[((n / 10 + from) % 10) | 0]}${from + (n % 7)}`]: 1 },
    owners: { [`person${n}@acme.example`]: { since: from } },
    ids: { [`0a1b2c3d${n}`]: true, [`${n}`]: 2 },
  });
  expect(
    await driftsOf([
      [5000, labelled(0)],
      [5000, labelled(3)],
    ]),
  ).toEqual([undefined, undefined]);
});

it('events may lack any field; what is new among many is told', async () => {
  const event = (kind: string) => (n: number) => ({ id: n, [kind]: { at: n } });
  const runs: [number, Shape][] = [
    [3, event('login')],
    [5, event('logout')],
    ...Array<[number, Shape]>(4).fill([1500, event('login')]),
    [40, event('logout')],
    [10, event('export')],
    [10, event('export')],
  ];
  const drifts = await driftsOf(runs, 'events');
  const none = undefined;
  expect(drifts.filter((drift) => drift !== none)).toEqual([{ new: ['export'], vanished: [], retyped: [] }]);
  expect(drifts.at(-2)).toBeDefined();
});

it('what one cannot make fields of does no harm', async () => {
  const deep = (n: number) => JSON.parse(`${'{"a":'.repeat(500)}${n}${'}'.repeat(500)}`) as unknown;
  const proto = (n: number) => JSON.parse(`{"__proto__":{"constructor":${n}},"id":${n},"":1}`) as unknown;
  const wide = (n: number) =>
    Object.fromEntries(Array.from({ length: 3000 }, (_, f) => [`field_${'x'.repeat(f % 50)}${f}`, n]));
  const large = (n: number) => ({ id: n, blob: 'x'.repeat(n % 2 === 0 ? 5_000_000 : 10) });
  const text = (n: number) => `only text ${n}`;
  for (const shape of [deep, proto, wide, text]) {
    expect(
      await driftsOf([
        [20, shape],
        [20, shape],
      ]),
    ).toEqual([undefined, undefined]);
  }
  expect(
    await driftsOf([
      [6, large],
      [6, large],
      [0, large],
    ]),
  ).toEqual([undefined, undefined, undefined]);
});

it('the same records are never a change, whatever they are', async () => {
  const record = fc.dictionary(fc.string({ maxLength: 6 }), fc.jsonValue({ maxDepth: 4 }), { maxKeys: 8 });
  await fc.assert(
    fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 30 }), async (records) => {
      const shape = (n: number) => records[n];
      expect(
        await driftsOf([
          [records.length, shape],
          [records.length, shape],
        ]),
      ).toEqual([undefined, undefined]);
    }),
    { numRuns: 60 },
  );
});

test('a clause names a few and counts the rest', () => {
  const drift = {
    new: Array.from({ length: 10 }, (_, n) => `f${n}`),
    vanished: ['a.b'],
    retyped: [{ field: 'c', from: ['string'], to: ['number', 'string'] }],
    more: 3,
  };
  expect(driftText(drift)).toBe(
    'new f0, f1, f2, f3, f4, f5, f6, f7 and 2 more; vanished a.b; retyped c (string -> number|string); 3 more',
  );
});
