import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_cve_db.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const stops: (() => void)[] = [];

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

const start = starter(vendor, {});

test('the three feeds come whole and byte for byte, page by page', async () => {
  const running = await start({ scale: 450, pageSize: 200 });
  const { summary, folder } = await collectOnce({ env: running.env, only: ['cve_db'] });
  expect(summary.exit_code).toBe(0);
  for (const resource of ['cves', 'known_exploited', 'epss_scores']) {
    expect(await storedLines(folder, `cve_db_${resource}`)).toEqual(running.truth(resource));
  }
  expect(running.requests.map(({ path }) => path).filter((path) => path.startsWith('/nvd'))).toEqual([
    '/nvd/rest/json/cves/2.0?resultsPerPage=2000&startIndex=0',
    '/nvd/rest/json/cves/2.0?resultsPerPage=2000&startIndex=200',
    '/nvd/rest/json/cves/2.0?resultsPerPage=2000&startIndex=400',
  ]);
});

test('no feed is asked unless it is named, and no key is needed', async () => {
  const running = await start({ scale: 5 });
  const { NVD_API_KEY: _, ...env } = running.env;
  expect((await collectOnce({ env })).summary.exit_code).toBe(5);
  expect(running.requests).toEqual([]);
  const { summary } = await collectOnce({ env, only: ['cve_db.cves'] });
  expect(summary.exit_code).toBe(0);
  expect(running.requests).toHaveLength(1);
});

test('the key goes to the NVD alone', async () => {
  const seen: { path: string; key: unknown }[] = [];
  const server = createServer(({ url = '', headers }, response) => {
    seen.push({ path: url.split('?')[0] ?? '', key: headers.apikey });
    const records = '[{"cve":{"id":"CVE-2026-1"},"cveID":"CVE-2026-1"}]';
    response.end(`{"totalResults":1,"count":1,"vulnerabilities":${records}}`);
  });
  await new Promise<void>((listening) => void server.listen(0, '127.0.0.1', listening));
  stops.push(
    () => server.closeAllConnections(),
    () => void server.close(),
  );
  const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const others = await start({ scale: 5 });
  const env = {
    NVD_API_KEY: 'canary-key',
    NVD_BASE_URL: at,
    KEV_BASE_URL: at,
    EPSS_BASE_URL: `${others.origin}/first`,
  };
  const { summary } = await collectOnce({ env, only: ['cve_db'] });
  expect(summary.exit_code).toBe(0);
  expect(seen.toSorted((a, b) => a.path.localeCompare(b.path))).toEqual([
    { path: '/rest/json/cves/2.0', key: 'canary-key' },
    { path: '/sites/default/files/feeds/known_exploited_vulnerabilities.json', key: undefined },
  ]);
});

test('a key that the NVD does not know is told as one', async () => {
  const running = await start({ scale: 5, faults: [{ name: '404', resource: 'cves', times: 'always' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['cve_db'] });
  expect(resultOf(summary, 'cve_db_cves').reason).toContain('NVD_API_KEY');
  expect(resultOf(summary, 'cve_db_known_exploited').verdict).toBe('complete');
  expect(summary.exit_code).toBe(3);
});

test('the firewall of the NVD is waited for', async () => {
  const running = await start({ scale: 5, faults: [{ name: '403', resource: 'cves' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['cve_db.cves'], deadline: 20 });
  expect(resultOf(summary, 'cve_db_cves')).toMatchObject({
    verdict: 'failed',
    reason: expect.stringMatching(/asks to wait 3\d s/),
  });
});

test('a feed that is suddenly empty is not stored as such', async () => {
  const running = await start({ scale: 5, faults: [{ name: 'empty-list' }] });
  const { summary, folder } = await collectOnce({ env: running.env, only: ['cve_db'] });
  expect(summary.exit_code).toBe(3);
  expect(summary.datasets.map(({ verdict }) => verdict)).toEqual(['failed', 'failed', 'failed']);
  expect(await storedLines(folder, 'cve_db_cves')).toBeUndefined();
});
