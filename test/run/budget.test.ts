import { afterEach, describe, expect, test } from 'vitest';
import { headroomOf } from '../../src/config/program.ts';
import { ConfigError } from '../../src/errors.ts';
import { type RunningVendor, startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { collectOnce, resultOf } from '../support/run.ts';

const started: RunningVendor[] = [];

afterEach(async () => {
  for (const running of started.splice(0)) await running.close();
});

/** Another program of the customer's: a request every so many milliseconds. */
function competitor({ origin }: RunningVendor, every: number) {
  const statuses: Promise<number>[] = [];
  const ask = async () => {
    const answer = await fetch(`${origin}/api/v1/users?limit=1`, { headers: { authorization: `SSWS ${okta.key}` } });
    await answer.text();
    return answer.status;
  };
  const timer = setInterval(() => statuses.push(ask()), every);
  return async () => {
    clearInterval(timer);
    return Promise.all(statuses);
  };
}

/** Requests of everyone in each of the vendor's windows, which last until the second after the next full one. */
function windowsOf({ requests }: RunningVendor): readonly number[] {
  const counts: number[] = [];
  let until = 0;
  for (const { at } of requests) {
    if (at >= until) {
      until = Math.ceil(at / 1000) * 1000 + 1000;
      counts.push(0);
    }
    counts.push((counts.pop() ?? 0) + 1);
  }
  return counts;
}

test('what is left to others suffices them: neither they nor the run see a 429, and the rest is used', async () => {
  const limit = { requests: 60, seconds: 1 };
  const vendor = await startVendor(okta, { scale: 4000, pageSize: 20, limit });
  started.push(vendor);
  const stop = competitor(vendor, 180); // in a window of up to two seconds less than a fifth of the limit
  const { summary } = await collectOnce({
    env: { ...vendor.env, CYBER_COLLECT_HEADROOM: '10,okta=25' },
    only: ['okta.users'],
  });
  const others = await stop();
  expect(resultOf(summary, 'okta_users')).toMatchObject({ verdict: 'complete', retries: 0, requests: 200 });
  expect(others.every((status) => status === 200)).toBe(true);
  expect(vendor.count429()).toBe(0);
  const full = windowsOf(vendor).slice(1, -1);
  expect(full.length).toBeGreaterThan(2);
  expect(Math.min(...full)).toBeGreaterThanOrEqual(0.95 * 0.75 * limit.requests);
});

describe('the share that is left to others', () => {
  test.each([
    ['10', 'okta', 0.1],
    ['10,okta=30', 'okta', 0.3],
    ['10,okta=30', 'crowdstrike', 0.1],
    ['okta=30', 'crowdstrike', 0],
    ['10,okta=30,20', 'crowdstrike', 0.2],
    ['10,okta=30,okta=0', 'okta', 0],
  ])('%s, for %s', (shares, collector, share) => expect(headroomOf(collector, shares)).toBe(share));

  test.each(['all', '95', '10;20', 'okta=', '=5'])('%s is refused in one sentence', async (headroom) => {
    const refused = collectOnce({ env: { CYBER_COLLECT_HEADROOM: headroom }, only: ['okta'] });
    await expect(refused).rejects.toThrow(ConfigError);
    await expect(refused).rejects.toThrow(/CYBER_COLLECT_HEADROOM: must be a percentage of 90 at most/);
  });
});
