import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openState } from '../../src/run/state.ts';
import { readBaseline, shrinkage, writeBaseline } from '../../src/run/verify.ts';

const GUARD = { records: 5, percent: 20 };

function baseline(records: number) {
  return { upload_id: 'u1', records, timestamp: '2026-01-01T00:00:00Z' };
}

describe('the shrink guard', () => {
  it.each([
    [100, 100, false],
    [100, 120, false],
    [100, 81, false],
    [100, 80, true],
    [100, 0, true],
    [10, 6, false], // 40 %, but only 4 records
    [10, 5, true],
    [25, 20, true],
    [26, 21, false], // 5 records, but less than 20 %
    [4, 0, false],
    [5, 0, true],
    [0, 0, false],
  ])('from %i to %i: held back %s', (before, now, held) => {
    expect(shrinkage(now, baseline(before), GUARD) !== undefined).toBe(held);
  });

  it('has nothing to hold a first upload against', () => expect(shrinkage(0, undefined, GUARD)).toBeUndefined());

  it('says both counts, since when, and how to accept it', () => {
    const error = shrinkage(3, baseline(1000), GUARD);
    expect(error).toMatchObject({ code: 'incomplete', title: 'Dataset shrank' });
    for (const part of ['3', '1000', '2026-01-01T00:00:00Z']) expect(error?.message).toContain(part);
    expect(error?.mend).toContain('--accept-shrink');
  });

  it('holds back exactly what lost both so many records and such a share', () => {
    const count = fc.nat(10 ** 9);
    fc.assert(
      fc.property(
        count,
        count,
        fc.integer({ min: 1, max: 1000 }),
        fc.integer({ min: 1, max: 100 }),
        (before, now, records, percent) => {
          const lost = before - now;
          const held = lost >= records && lost / before >= percent / 100;
          expect(shrinkage(now, baseline(before), { records, percent }) !== undefined).toBe(held);
        },
      ),
    );
  });
});

it('a baseline is kept per tenancy and dataset', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-verify-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const state = await openState(folder);
  expect(await readBaseline(state, 'acme', 'okta_users')).toBeUndefined();
  await writeBaseline(state, 'acme', 'okta_users', baseline(7));
  await writeBaseline(state, 'other', 'okta_users', baseline(8));
  await writeBaseline(state, 'acme', 'okta_users', baseline(9));
  expect(await readBaseline(await openState(folder), 'acme', 'okta_users')).toEqual(baseline(9));
  expect(await readBaseline(state, 'other', 'okta_users')).toEqual(baseline(8));
  expect(await readBaseline(state, 'acme', 'okta_groups')).toBeUndefined();
});
