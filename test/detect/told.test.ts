import { createHash } from 'node:crypto';
import { appendFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openTold } from '../../src/detect/told.ts';
import { newTally, together, withWindow } from '../../src/report/detected.ts';
import { temporaryFolder } from '../support/run.ts';

const idOf = (n: number) => createHash('sha256').update(String(n)).digest('hex').slice(0, 32);

async function* ids(from: number, to: number): AsyncGenerator<string> {
  for (let n = from; n < to; n += 1) yield idOf(n);
}

test('what was told is known to the next one, also behind a piece that a kill has left', async () => {
  const path = join(await temporaryFolder(), 'told');
  const first = await openTold(path);
  expect(first.has(idOf(1))).toBe(false);
  expect(first.has(idOf(1))).toBe(true);
  await first.keep(ids(1, 20_001));
  await first.keep(ids(1, 101)); // as whoever goes on after a kill does
  const second = await openTold(path);
  for (let n = 1; n <= 20_000; n += 97) expect(second.has(idOf(n))).toBe(true);
  expect(second.has(idOf(0))).toBe(false);
  await appendFile(path, Buffer.from([1, 2, 3]));
  await (await openTold(path)).keep(ids(30_000, 30_001));
  expect((await stat(path)).size % 8).toBe(0);
});

test('the oldest are forgotten beyond two million', async () => {
  const path = join(await temporaryFolder(), 'told');
  await writeFile(path, Buffer.concat([Buffer.from(idOf(1).slice(0, 16), 'hex'), Buffer.alloc(8 * 2_000_000, 7)]));
  await (await openTold(path)).keep(ids(2, 3));
  expect((await stat(path)).size).toBe(8 * 1_000_000);
  const told = await openTold(path);
  expect(told.has(idOf(2))).toBe(true);
  expect(told.has(idOf(1))).toBe(false);
});

test('a window that is added twice counts once, and texts are short', () => {
  const at = '2026-03-01T10:00:00Z';
  const tally = newTally(at);
  const alert = { indicator: 'evil.example', kind: 'domain', list: 'a.txt', date: at, device_name: 'web1' };
  for (let n = 0; n < 500; n += 1) tally.add({ ...alert, data: `${n} ${'x'.repeat(1000)}` });
  const window = {
    id: 'one',
    at,
    events: 900,
    alerts: 500,
    counts: { cpu: 3 },
    by: tally.by(),
    newest: tally.newest(),
  };
  const once = withWindow(undefined, window);
  expect(withWindow(once, window)).toEqual(once);
  const twice = withWindow(once, { ...window, id: 'two' });
  expect(twice.days).toEqual([{ day: '2026-03-01', events: 1800, alerts: 1000, counts: { cpu: 6 } }]);
  expect(twice.by).toMatchObject([{ indicator: 'evil.example', alerts: 1000 }]);
  expect(twice.newest).toHaveLength(50);
  expect(twice.newest[0]?.text).toMatch(/^499 x{196}$/);
  expect(together([once, twice]).days).toMatchObject([{ alerts: 1500 }]);
});
