import { expect, test } from 'vitest';
import type { RunningVendor } from '../../src/simulator/vendor.ts';
import vendor from '../../src/simulator/vendor_mde.ts';
import { tenantOf } from '../support/entra.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, type Route } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 90, pageSize: 40 });

const tenant = (route: Route) => tenantOf('MDE', route);

const rows = (from: number, count: number) => Array.from({ length: count }, (_, n) => ({ id: `row-${from + n}` }));
const pathsOf = (running: RunningVendor) => running.requests.map(({ path }) => path);

test('every resource comes whole and byte for byte', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['mde'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(4);
  for (const { resource } of summary.datasets)
    expect((await storedLines(folder, `mde_${resource}`))?.toSorted()).toEqual(running.truth(resource).sort());
});

test('pages that the server cuts short are gone through until an empty one', async () => {
  const running = await start();
  await collectOnce({ env: running.env, only: ['mde.machines'] });
  const skipped = pathsOf(running).flatMap((path) => /\$skip=(\d+)|%24skip=(\d+)/.exec(path)?.slice(1) ?? []);
  expect(skipped.filter((skip) => skip !== undefined)).toEqual(['0', '40', '80', '90']);
});

test('a next link goes before counting, and its absence behind one ends the list', async () => {
  const { env, origin, received } = await tenant(({ url }, response) => {
    if (url.searchParams.has('$skiptoken')) return json(response, { value: rows(3, 2) });
    return json(response, { value: rows(0, 3), '@odata.nextLink': `${origin}api/machines?$skiptoken=abc` });
  });
  const { summary } = await collectOnce({ env, only: ['mde.machines'] });
  expect(resultOf(summary, 'mde_machines')).toMatchObject({ verdict: 'complete', records: 5 });
  expect(received).toHaveLength(3);
});

test('antivirus health without next links is counted while its pages are full', async () => {
  const { env, received } = await tenant(({ url }, response) => {
    const skip = Number(url.searchParams.get('$skip') ?? 0);
    return json(response, { value: rows(skip, skip === 0 ? 10_000 : 7) });
  });
  const { summary } = await collectOnce({ env, only: ['mde.device_av_info'] });
  expect(resultOf(summary, 'mde_device_av_info')).toMatchObject({ verdict: 'complete', records: 10_007 });
  expect(received.map(({ url }) => url.searchParams.get('$top'))).toEqual([null, '10000', '10000']);
});

test('findings are asked for by pageSize, never by $top', async () => {
  const running = await start();
  await collectOnce({ env: running.env, only: ['mde.machine_vulnerabilities'] });
  const asked = pathsOf(running).filter((path) => path.includes('ByMachine'));
  expect(asked).toHaveLength(3);
  for (const path of asked) expect(path).toContain('pageSize=10000');
});

test('a tenant without machines says so with 404, and that is an empty list', async () => {
  const error = { code: 'ResourceNotFound', message: 'No machines were found' };
  const { env } = await tenant((_, response) => json(response, { error }, 404));
  const { summary } = await collectOnce({ env, only: ['mde'] });
  expect(summary.exit_code).toBe(0);
  for (const { verdict, records } of summary.datasets)
    expect({ verdict, records }).toEqual({ verdict: 'empty', records: 0 });
});

test('a 404 that a proxy wrote is none', async () => {
  const { env } = await tenant((_, response) => response.writeHead(404).end('<html>not here</html>'));
  const { summary } = await collectOnce({ env, only: ['mde.machines'] });
  expect(summary.exit_code).not.toBe(0);
});

test.each(['machines', 'device_av_info', 'machine_vulnerabilities'])(
  'a 404 where the next link of %s led is a loss',
  async (resource) => {
    const { env, origin } = await tenant(({ url }, response) => {
      if (url.searchParams.has('$skiptoken')) return json(response, { error: { code: 'NotFound' } }, 404);
      return json(response, { value: rows(0, 3), '@odata.nextLink': `${origin}${url.pathname.slice(1)}?$skiptoken=a` });
    });
    const { summary, folder } = await collectOnce({ env, only: [`mde.${resource}`] });
    expect(summary.exit_code).not.toBe(0);
    expect(await storedLines(folder, `mde_${resource}`)).toBeUndefined();
  },
);

test('a snapshot that was renewed meanwhile is read from its start', async () => {
  const running = await start({ faults: [{ name: 'expired-cursor', resource: 'machine_vulnerabilities' }] });
  const { summary, folder } = await collectOnce({ env: running.env, only: ['mde.machine_vulnerabilities'] });
  expect(summary.exit_code).toBe(0);
  expect((await storedLines(folder, 'mde_machine_vulnerabilities'))?.toSorted()).toEqual(
    running.truth('machine_vulnerabilities').sort(),
  );
});

test('a permission that is missing is told for what needs it, and the rest comes', async () => {
  const running = await start({
    faults: [
      { name: '403', resource: 'vulnerabilities' },
      { name: '403', resource: 'machine_vulnerabilities' },
    ],
  });
  const { summary } = await collectOnce({ env: running.env, only: ['mde'] });
  expect(summary.exit_code).toBe(3);
  expect(resultOf(summary, 'mde_vulnerabilities')).toMatchObject({ verdict: 'denied' });
  expect(JSON.stringify(resultOf(summary, 'mde_vulnerabilities'))).toContain('Vulnerability.Read.All');
  expect(resultOf(summary, 'mde_machines')).toMatchObject({ verdict: 'complete', records: 90 });
});

test('throttling and a front end that is down are waited for', async () => {
  const running = await start({
    faults: [
      { name: '429', resource: 'machines' },
      { name: '503', resource: 'machines' },
    ],
  });
  const { summary } = await collectOnce({ env: running.env, only: ['mde.machines'] });
  expect(resultOf(summary, 'mde_machines')).toMatchObject({ verdict: 'complete', records: 90, retries: 2 });
});

test('a wrong secret is a matter of credentials', async () => {
  const running = await start();
  const env = { ...running.env, MDE_CLIENT_SECRET: 'wrong' };
  const { summary } = await collectOnce({ env, only: ['mde'] });
  expect(summary.exit_code).toBe(4);
});
