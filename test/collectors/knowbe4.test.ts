import { describe, expect, test } from 'vitest';
import knowbe4 from '../../src/collectors/src_knowbe4.ts';
import vendor from '../../src/simulator/vendor_knowbe4.ts';
import { openClient } from '../support/client.ts';
import { fakeClock } from '../support/clock.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, serve } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 36, pageSize: 30 });

describe('the API', () => {
  const base = (env: { KNOWBE4_REGION?: 'us' | 'eu' | 'ca' | 'uk' | 'de'; KNOWBE4_ENDPOINT?: string }) =>
    knowbe4.http?.({ KNOWBE4_TOKEN: 't', KNOWBE4_REGION: 'us', KNOWBE4_ENDPOINT: undefined, ...env }).baseUrl.href;

  test('is that of the region', () => {
    expect(base({ KNOWBE4_REGION: 'eu' })).toBe('https://eu.api.knowbe4.com/');
  });

  test('is that of the URL of one of its calls, where that is set', () => {
    const KNOWBE4_ENDPOINT = 'https://uk.api.knowbe4.com/v1/training/enrollments?per_page=500';
    expect(base({ KNOWBE4_ENDPOINT })).toBe('https://uk.api.knowbe4.com/');
  });
});

test.each(['cursors', 'numbers'])('every resource comes whole and byte for byte, paged by %s', async (paging) => {
  const running = await start({ settings: { paging } });
  const { summary, folder } = await collectOnce({ env: running.env, only: ['knowbe4'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(5);
  for (const { resource } of summary.datasets) {
    const lines = (await storedLines(folder, `knowbe4_${resource}`)) ?? [];
    const stripped = lines.map((line) => line.replace(/,"_pst_id":\d+}$/, '}'));
    expect(stripped).toEqual(running.truth(resource));
  }
});

test.each([
  ['bare lists', (users: readonly object[]) => users],
  ['envelopes without a word of pagination', (data: readonly object[]) => ({ data })],
])('%s end on an empty page alone, and are asked for by number', async (_, wrap) => {
  const users = [[{ id: 1 }, { id: 2 }], [{ id: 3 }], [{ id: 4 }], []];
  const { origin, received } = await serve(({ url }, response) => {
    json(response, wrap(users[Number(url.searchParams.get('page') ?? 1) - 1] ?? []));
  });
  const env = { KNOWBE4_ENDPOINT: origin.href, KNOWBE4_TOKEN: 't' };
  const { summary } = await collectOnce({ env, only: ['knowbe4.users'] });
  expect(resultOf(summary, 'knowbe4_users')).toMatchObject({ verdict: 'complete', records: 4 });
  const asked = received.map(({ url }) => [url.searchParams.get('cursor'), url.searchParams.get('page')]);
  expect(asked).toEqual([
    ['0', null],
    [null, '2'],
    [null, '3'],
    [null, '4'],
  ]);
});

test('no second has more than 4 requests, no minute more than 50', async () => {
  const clock = fakeClock();
  const at: number[] = [];
  const { origin } = await serve((_, response) => {
    at.push(clock.now());
    json(response, []);
  });
  const settings = { KNOWBE4_TOKEN: 't', KNOWBE4_REGION: 'us', KNOWBE4_ENDPOINT: origin.href } as const;
  const { http } = await openClient(origin, { http: knowbe4.http?.(settings) ?? {}, clock });
  for (let nth = 0; nth < 120; nth += 1) await http.json({ path: '/v1/users' });
  const most = (milliseconds: number) =>
    Math.max(...at.map((from) => at.filter((one) => one >= from && one < from + milliseconds).length));
  expect(at).toHaveLength(120);
  expect(most(1000)).toBe(4);
  expect(most(60_000)).toBe(50);
});

test('an object without data is no empty list', async () => {
  const { origin } = await serve((_, response) => json(response, { message: 'maintenance' }));
  const env = { KNOWBE4_ENDPOINT: origin.href, KNOWBE4_TOKEN: 't' };
  const { summary } = await collectOnce({ env, only: ['knowbe4.users'] });
  expect(resultOf(summary, 'knowbe4_users').verdict).toBe('failed');
});

test('a test deleted since it was listed has no recipients; the others’ come', async () => {
  const running = await start({ faults: [{ name: '404', resource: 'pst_recipients' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['knowbe4.pst_recipients'] });
  expect(summary.exit_code).toBe(0);
});

test('a plan without the API is denied', async () => {
  const running = await start({ faults: [{ name: '403', resource: 'users' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['knowbe4.users'] });
  expect(resultOf(summary, 'knowbe4_users')).toMatchObject({
    verdict: 'denied',
    reason: expect.stringContaining('plan'),
  });
});

test('an account without anything is empty', async () => {
  const { origin } = await serve((_, response) => json(response, { data: [], pagination: { nextCursor: null } }));
  const env = { KNOWBE4_ENDPOINT: origin.href, KNOWBE4_TOKEN: 't' };
  const { summary } = await collectOnce({ env, only: ['knowbe4'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets.every(({ verdict }) => verdict === 'empty')).toBe(true);
});
