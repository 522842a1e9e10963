import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_intune.ts';
import { tenantOf } from '../support/entra.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, type Received, type Route } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 90, pageSize: 40 });

const tenant = (route: Route) => tenantOf('INTUNE', route);

const partsOf = ({ body }: Received) => (JSON.parse(body) as { requests: { id: string; url: string }[] }).requests;

test('every resource comes whole and byte for byte', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['intune'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(8);
  for (const { resource } of summary.datasets) {
    const lines = (await storedLines(folder, `intune_${resource}`)) ?? [];
    const stripped = lines.map((line) => line.replace(/,"_simulation_id":"[^"]+"}$/, '}')).sort();
    expect(stripped).toEqual(running.truth(resource).sort());
  }
});

test('what configurations keep secret is not stored, what they demand is', async () => {
  const profile = {
    id: 'p',
    passwordRequired: true,
    wifiPassword: 'hunter2',
    payload: 'aHVudGVyMg==',
    omaSettings: [{ omaUri: './a', value: 'hunter2' }],
  };
  const { env } = await tenant((request, response) => {
    if (request.method === 'GET') return json(response, { value: [profile] });
    return json(response, { responses: partsOf(request).map(({ id }) => ({ id, status: 200, body: profile })) });
  });
  const only = ['intune.device_configurations', 'intune.device_configuration_detail'];
  const { folder } = await collectOnce({ env, only });
  for (const tag of ['intune_device_configurations', 'intune_device_configuration_detail']) {
    const lines = await storedLines(folder, tag);
    expect(lines).toEqual(['{"id":"p","passwordRequired":true,"omaSettings":[{"omaUri":"./a"}]}']);
  }
});

test('details of a device that is gone are left out; an error in place of details fails', async () => {
  let answer: object = { status: 404, body: { error: { code: 'ResourceNotFound' } } };
  const { env } = await tenant((request, response) => {
    if (request.method === 'GET') return json(response, { value: [{ id: 'a' }, { id: 'b' }] });
    const responses = partsOf(request).map(({ id, url }) =>
      url.includes('/a?') ? { id, status: 200, body: { id: 'a' } } : { id, ...answer },
    );
    return json(response, { responses });
  });
  const only = ['intune.managed_device_detail'];
  const first = await collectOnce({ env, only });
  expect(resultOf(first.summary, 'intune_managed_device_detail')).toMatchObject({ verdict: 'complete', records: 1 });
  answer = { status: 200, body: { error: { code: 'UnknownError' } } };
  const second = await collectOnce({ env, only });
  expect(resultOf(second.summary, 'intune_managed_device_detail').verdict).toBe('failed');
});

test.each([
  [403, 'Tenant is not licensed.', 'Not licensed'],
  [404, 'Resource not found.', 'Not licensed'],
  [403, 'Required scopes are missing in the token.', 'Permission denied'],
])('attack simulations answered with %s %s', async (status, message, title) => {
  const { env } = await tenant(({ url }, response) => {
    if (!url.pathname.startsWith('/v1.0/security/')) return json(response, { value: [{ id: 'd' }] });
    return json(response, { error: { code: 'Error', message } }, status);
  });
  const { summary } = await collectOnce({ env, only: ['intune.attack_simulations', 'intune.managed_devices'] });
  expect(resultOf(summary, 'intune_attack_simulations')).toMatchObject({ verdict: 'denied', title });
  expect(resultOf(summary, 'intune_managed_devices').verdict).toBe('complete');
});

test('a permission that is missing for one resource is named, the others come', async () => {
  const running = await start({ faults: [{ name: '403', resource: 'device_compliance_policies' }] });
  const only = ['intune.device_compliance_policies', 'intune.users'];
  const { summary } = await collectOnce({ env: running.env, only });
  const denied = resultOf(summary, 'intune_device_compliance_policies');
  expect(denied.verdict).toBe('denied');
  expect(denied.mend).toContain('DeviceManagementConfiguration.Read.All');
  expect(resultOf(summary, 'intune_users').verdict).toBe('complete');
});

test('an empty tenant is empty', async () => {
  const { env } = await tenant((_, response) => json(response, { '@odata.count': 0, value: [] }));
  const { summary } = await collectOnce({ env, only: ['intune'] });
  expect(summary.exit_code).toBe(0);
  expect(new Set(summary.datasets.map(({ verdict }) => verdict))).toEqual(new Set(['empty']));
});
