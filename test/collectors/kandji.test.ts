import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_kandji.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, serve } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor);

test('every resource comes whole and byte for byte, children with their device’s id behind', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['kandji'] });
  expect(summary.exit_code).toBe(0);
  for (const { resource } of summary.datasets) {
    const lines = (await storedLines(folder, `kandji_${resource}`)) ?? [];
    const stripped = lines.map((line) => line.replace(/,"_device_id":"[^"]+"}$/, '}'));
    expect(stripped).toEqual(running.truth(resource));
    if (resource.startsWith('device_')) expect(lines.every((line) => line.includes('"_device_id":'))).toBe(true);
  }
});

test('devices end on an empty page alone: a short one is no end', async () => {
  const devices = Array.from({ length: 7 }, (_, index) => ({ device_id: `d${index}` }));
  const { origin, received } = await serve(({ url }, response) => {
    const offset = Number(url.searchParams.get('offset'));
    json(response, devices.slice(offset, offset + 3));
  });
  const env = { KANDJI_API_URL: origin.href, KANDJI_API_TOKEN: 't' };
  const { summary, folder } = await collectOnce({ env, only: ['kandji.devices'] });
  expect(summary.exit_code).toBe(0);
  expect(await storedLines(folder, 'kandji_devices')).toHaveLength(7);
  expect(received.map(({ url }) => url.searchParams.get('offset'))).toEqual(['0', '3', '6', '7']);
  expect(received.every(({ url }) => url.searchParams.get('ordering') === 'serial_number')).toBe(true);
});

test('a vendor that ignores the offset is found out', async () => {
  const { origin, received } = await serve((_, response) => json(response, [{ device_id: 'd1' }, { device_id: 'd2' }]));
  const env = { KANDJI_API_URL: origin.href, KANDJI_API_TOKEN: 't' };
  const { summary } = await collectOnce({ env, only: ['kandji.devices'] });
  expect(resultOf(summary, 'kandji_devices')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
  expect(received.length).toBeLessThan(10);
});

test('codes that enrol or unlock a device are not stored', async () => {
  const { origin } = await serve(({ url }, response) => {
    if (url.pathname === '/api/v1/blueprints') {
      const results = [{ id: 'b1', enrollment_code: { code: '222760', is_active: true } }];
      return json(response, { count: 1, next: null, previous: null, results });
    }
    if (url.pathname.endsWith('/details')) {
      const activation_lock = { user_based_albc: 'AAAA-222760', device_based_albc: null, bypass_code_failed: false };
      return json(response, { general: { device_id: 'd1' }, activation_lock });
    }
    return json(response, url.searchParams.get('offset') === '0' ? [{ device_id: 'd1' }] : []);
  });
  const env = { KANDJI_API_URL: `${origin.href}api/v1/`, KANDJI_API_TOKEN: 't' };
  const { folder } = await collectOnce({ env, only: ['kandji.blueprints', 'kandji.device_details'] });
  expect(await storedLines(folder, 'kandji_blueprints')).toEqual(['{"id":"b1","enrollment_code":{"is_active":true}}']);
  expect(await storedLines(folder, 'kandji_device_details')).toEqual([
    '{"general":{"device_id":"d1"},"activation_lock":{"bypass_code_failed":false},"_device_id":"d1"}',
  ]);
});

test('a device deleted since it was listed has no details; the others’ come', async () => {
  const running = await start({ faults: [{ name: '404', resource: 'device_details' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['kandji.device_details'] });
  expect(summary.exit_code).toBe(0);
  expect(resultOf(summary, 'kandji_device_details').records).toBe(59);
});

test.each(['403', '404'] as const)('vulnerabilities answered with %s are not licensed', async (name) => {
  const running = await start({ faults: [{ name, resource: 'vulnerabilities', times: 'always' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['kandji.vulnerabilities', 'kandji.devices'] });
  expect(resultOf(summary, 'kandji_vulnerabilities')).toMatchObject({ verdict: 'denied', title: 'Not licensed' });
  expect(resultOf(summary, 'kandji_devices').verdict).toBe('complete');
});

test('a tenant without devices is empty, and so are their details', async () => {
  const { origin } = await serve((_, response) => json(response, []));
  const env = { KANDJI_API_URL: origin.href, KANDJI_API_TOKEN: 't' };
  const { summary } = await collectOnce({ env, only: ['kandji.devices', 'kandji.device_details'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets.map(({ verdict }) => verdict)).toEqual(['empty', 'empty']);
});
