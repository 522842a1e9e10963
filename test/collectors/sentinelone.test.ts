import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_sentinelone.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const RESOURCES = ['agents', 'threats', 'alerts', 'sites', 'groups', 'installed_applications'];

const start = starter(vendor);

test('every list comes whole and byte for byte, by cursor', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['sentinelone'] });
  expect(summary.exit_code).toBe(0);
  for (const resource of RESOURCES) {
    expect(await storedLines(folder, `sentinelone_${resource}`)).toEqual(running.truth(resource));
    expect(resultOf(summary, `sentinelone_${resource}`).expected).toBe(60);
  }
});

test('sites and accounts narrow every page of a list', async () => {
  const running = await start();
  const env = { ...running.env, SENTINELONE_SITE_IDS: '1,2', SENTINELONE_ACCOUNT_IDS: '3' };
  await collectOnce({ env, only: ['sentinelone.threats'] });
  const asked = running.requests.map(({ path }) => new URL(path, running.origin).searchParams);
  expect(asked.map((query) => [query.get('siteIds'), query.get('accountIds')])).toEqual(Array(3).fill(['1,2', '3']));
});

test('keys and registration tokens are not stored', async () => {
  const secrets = { licenseKey: 'canary-a', registrationToken: 'canary-b' };
  const routes = vendor.routes.map((route) => ({
    ...route,
    records: () => ({ count: 2, at: (index: number) => JSON.stringify({ id: `${index}`, ...secrets, name: 'n' }) }),
  }));
  const running = await start({}, { ...vendor, routes });
  const only = ['sentinelone.sites', 'sentinelone.groups', 'sentinelone.agents'];
  const { folder } = await collectOnce({ env: running.env, only });
  for (const [resource, secret] of [
    ['sites', 'canary-b'],
    ['groups', 'canary-b'],
    ['agents', 'canary-a'],
  ] as const) {
    const lines = await storedLines(folder, `sentinelone_${resource}`);
    expect(lines).toHaveLength(2);
    expect(lines?.join()).not.toContain(secret);
  }
});

test('a total that is not reached is a failure', async () => {
  const running = await start({ faults: [{ name: 'dropped-page', resource: 'agents', times: 'always' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['sentinelone.agents'] });
  expect(summary.exit_code).toBe(3);
});

test('a module that is not there fails alone', async () => {
  const running = await start({ faults: [{ name: '404', resource: 'alerts', times: 'always' }] });
  const { summary } = await collectOnce({
    env: running.env,
    only: ['sentinelone.alerts', 'sentinelone.sites'],
  });
  expect(resultOf(summary, 'sentinelone_alerts').verdict).not.toBe('complete');
  expect(resultOf(summary, 'sentinelone_sites').verdict).toBe('complete');
});
