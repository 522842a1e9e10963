import { expect, test } from 'vitest';
import { type Page, PageBuffer } from '../../src/http/page.ts';
import { type Slices, slicedPages, type Window } from '../../src/http/slices.ts';
import { gate } from '../support/server.ts';

const facts = { found: true, url: new URL('http://127.0.0.1/'), status: 200, headers: {}, body: null };

async function pageOf(times: readonly number[]): Promise<Page> {
  const buffer = new PageBuffer('');
  await buffer.add(times.map((time) => Buffer.from(`${time}\n`)));
  return buffer.finish({ ...facts, records: times.length });
}

/** Events at these times, of which one answer holds so many. */
function log(times: readonly number[], most: number, asked: Window[] = []) {
  return async (window: Window) => {
    asked.push(window);
    const found = times.filter((time) => time >= window.from && time < window.to);
    return found.length > most ? undefined : await pageOf(found);
  };
}

async function timesOf(slices: Pick<Slices, 'window' | 'read'> & Partial<Slices>): Promise<number[]> {
  const out: number[] = [];
  for await (const page of slicedPages({ size: 100, least: 1, concurrency: 4, setting: 'ACME_SLICE', ...slices })) {
    for await (const lines of page.lines()) out.push(...lines.map((line) => Number(Buffer.from(line).toString())));
  }
  return out;
}

test.each([1, 2, 3, 7, 50])('every event comes once and in order, with %i to an answer', async (most) => {
  // One at every boundary, at both ends, and many close together.
  const times = [...Array(1000).keys()].filter((time) => time % 25 === 0 || (time > 340 && time < 420) || time === 999);
  const window = { from: 0, to: 1000 };
  for (const size of [1, 99, 100, 1000, 5000]) {
    expect(await timesOf({ window, size, read: log(times, most) })).toEqual(times);
  }
});

test('neighbours share their boundaries from end to end', async () => {
  const asked: Window[] = [];
  const read = log([5, 6, 7, 8, 205], 1, asked);
  expect(await timesOf({ window: { from: 3, to: 250 }, concurrency: 1, read })).toEqual([5, 6, 7, 8, 205]);
  const whole = asked.filter(
    ({ from, to }) => [5, 6, 7, 8, 205].filter((time) => time >= from && time < to).length < 2,
  );
  expect(whole[0]?.from).toBe(3);
  expect(whole.at(-1)?.to).toBe(250);
  for (const [nth, { from }] of whole.slice(1).entries()) expect(from).toBe(whole[nth]?.to);
});

test('a window that is empty is not asked for', async () => {
  const asked: Window[] = [];
  expect(await timesOf({ window: { from: 7, to: 7 }, read: log([7], 1, asked) })).toEqual([]);
  expect(asked).toEqual([]);
});

test('slices are read at once, and handed on in order whichever comes first', async () => {
  const last = gate();
  const read = async (window: Window) => {
    if (window.from === 0) await last.opened;
    if (window.from === 300) last.open();
    return pageOf([window.from]);
  };
  expect(await timesOf({ window: { from: 0, to: 500 }, read })).toEqual([0, 100, 200, 300, 400]);
});

test('no more are under way than allowed, however often slices are halved', async () => {
  const window = { from: 0, to: 400 };
  const times = [...Array(400).keys()];
  let active = 0;
  let peak = 0;
  const answer = log(times, 3);
  const read = async (slice: Window) => {
    active += 1;
    peak = Math.max(peak, active);
    const page = await answer(slice);
    active -= 1;
    return page;
  };
  expect(await timesOf({ window, concurrency: 2, read })).toEqual(times);
  expect(peak).toBe(2);
});

test('a slice that is too large and cannot be halved is an error that names it', async () => {
  const reading = timesOf({ window: { from: 0, to: 4000 }, size: 4000, least: 1000, read: log([1001, 1002], 1) });
  await expect(reading).rejects.toMatchObject({
    code: 'vendor',
    message: expect.stringContaining('1970-01-01T00:00:01.000Z to 1970-01-01T00:00:02.000Z'),
    mend: expect.stringContaining('ACME_SLICE'),
  });
});

test('a slice that fails fails the reading, behind the slices before it', async () => {
  const handed: number[] = [];
  const read = async ({ from }: Window) => {
    if (from === 200) throw new Error('broken');
    return pageOf([from]);
  };
  const reading = async () => {
    const slices = { window: { from: 0, to: 500 }, size: 100, least: 1, concurrency: 4, setting: 'X', read };
    for await (const page of slicedPages(slices)) handed.push(page.records);
  };
  await expect(reading()).rejects.toThrow('broken');
  expect(handed).toEqual([1, 1]);
});
