import { describe, expect, test } from 'vitest';
import okta from '../../src/collectors/src_okta.ts';
import vendor from '../../src/simulator/vendor_okta.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor);

describe('the org', () => {
  const settings = { OKTA_TOKEN: 't', OKTA_CONCURRENCY: 5 };

  test.each([
    ['acme.okta.com', 'https://acme.okta.com/'],
    ['https://acme.oktapreview.com/', 'https://acme.oktapreview.com/'],
    ['https://login.acme.example', 'https://login.acme.example/'],
  ])('%s', (domain, url) => {
    expect(okta.http?.({ ...settings, OKTA_DOMAIN: domain }).baseUrl.href).toBe(url);
  });

  test('is not the admin console', () => {
    expect(() => okta.http?.({ ...settings, OKTA_DOMAIN: 'acme-admin.okta.com' })).toThrow(/admin console/);
  });
});

test('every resource comes whole and byte for byte, children with their parent’s id behind', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['okta'] });
  expect(summary.exit_code).toBe(0);
  for (const resource of ['users', 'deprovisioned_users', 'groups', 'devices']) {
    expect(await storedLines(folder, `okta_${resource}`)).toEqual(running.truth(resource));
  }
  for (const [resource, added] of [
    ['group_members', '_group_id'],
    ['device_users', '_device_id'],
    ['user_factors', '_user_id'],
    ['user_roles', '_user_id'],
  ] as const) {
    const lines = (await storedLines(folder, `okta_${resource}`)) ?? [];
    const stripped = lines.map((line) => line.replace(new RegExp(`,"${added}":"[^"]+"}$`), '}'));
    expect(stripped).toEqual(running.truth(resource));
    expect(lines.every((line) => line.includes(`"${added}":`))).toBe(true);
  }
});

test('the pages of a list are asked for by its Link header, and each as soon as the header tells', async () => {
  const running = await start({ scale: 100 });
  await collectOnce({ env: running.env, only: ['okta.users'] });
  const asked = running.requests.map(({ path }) => new URL(path, running.origin).searchParams.get('after'));
  expect(asked).toHaveLength(4);
  expect(new Set(asked).size).toBe(4);
});

test('devices of a classic org are not licensed rather than forbidden', async () => {
  const running = await start({ faults: [{ name: '403', resource: 'devices' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['okta.devices', 'okta.device_users'] });
  expect(resultOf(summary, 'okta_devices')).toMatchObject({ verdict: 'denied', title: 'Not licensed' });
  expect(resultOf(summary, 'okta_device_users')).toMatchObject({ verdict: 'failed', title: 'Not licensed' });
});

test('a group deleted since it was listed has no members; the others’ come', async () => {
  const running = await start({ faults: [{ name: '404', resource: 'group_members' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['okta.group_members'] });
  expect(summary.exit_code).toBe(0);
  expect(resultOf(summary, 'okta_group_members').verdict).toBe('complete');
});
