import { describe, expect, test } from 'vitest';
import { type AzureMonitorSettings, queryApi, queryOf } from '../../src/collectors/_azure_monitor.ts';
import type { Request } from '../../src/simulator/paging.ts';
import type { VendorOptions } from '../../src/simulator/vendor.ts';
import vendor from '../../src/simulator/vendor_azure_monitor.ts';
import { collectOnce, interruptedRun, resultOf, storedEvents } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

interface Sent {
  readonly query: string;
  readonly timespan?: string;
}

const startOf = starter(vendor, { scale: 60 });

/** A vendor, and what it is asked. */
async function start(options: VendorOptions = {}) {
  const sent: Sent[] = [];
  const noting = (request: Request) => sent.push(JSON.parse(request.body) as Sent) > 0;
  const routes = vendor.routes.map((route) => (route.resource === 'token' ? route : { ...route, when: noting }));
  const running = await startOf(options, { ...vendor, routes });
  return { running, sent };
}

const only = ['azure_monitor'];
const tag = 'azure_monitor_logs';
const stored = async (folder: string) => [...((await storedEvents(folder, tag)) ?? [])].sort();

const BOUNDS = /where (.+) >= datetime\((\S+)\) and \1 < datetime\((\S+)\)/;
const boundsOf = ({ query }: Sent) => (BOUNDS.exec(query) ?? []).slice(2);

test('rows come whole, as objects of the bytes they were written in', async () => {
  const { running, sent } = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only });
  expect(summary.exit_code).toBe(0);
  expect(await stored(folder)).toEqual(running.truth('logs').sort());
  expect(sent).toHaveLength(1);
});

test.each([
  ['with a partial error', { pageSize: 7 }],
  ['with a timeout', { settings: { answer: 'timeout' } }],
])('a result that is too large is read in halves until it fits, %s', async (_, options) => {
  const { running, sent } = await start(options);
  const { summary, folder } = await collectOnce({ env: running.env, only });
  expect(summary.exit_code).toBe(0);
  expect(await stored(folder)).toEqual(running.truth('logs').sort());
  expect(sent.length).toBeGreaterThan(3);
});

test('a result that is too large in the least window fails, and says what to do', async () => {
  const { running } = await start({ pageSize: 7 });
  const env = { ...running.env, AZURE_MONITOR_MIN_PARTITION_SECONDS: '2592000' };
  const { summary, folder } = await collectOnce({ env, only });
  expect(summary.exit_code).toBe(3);
  expect(resultOf(summary, tag).mend).toContain('AZURE_MONITOR_MIN_PARTITION_SECONDS');
  expect(await stored(folder)).toEqual([]);
});

test.each([
  ['partial', 'partial'],
  ['tables', 'several results'],
])('200 with what is no whole result (%s) is none', async (answer, reason) => {
  const { running, sent } = await start({ settings: { answer } });
  const { summary, folder } = await collectOnce({ env: running.env, only });
  expect(resultOf(summary, tag)).toMatchObject({ verdict: 'failed', reason: expect.stringContaining(reason) });
  expect(await stored(folder)).toEqual([]);
  expect(sent).toHaveLength(1);
});

test('slices share their boundaries, and the next run begins exactly where the last one ended', async () => {
  const { running, sent } = await start();
  const env = { ...running.env, AZURE_MONITOR_NUM_PARTITIONS: '5' };
  const { folder } = await collectOnce({ env, only });
  const bounds = sent.splice(0).map(boundsOf).sort();
  expect(bounds).toHaveLength(5);
  for (const [nth, [from]] of bounds.slice(1).entries()) expect(from).toBe(bounds[nth]?.[1]);
  await collectOnce({ env: { ...env, AZURE_MONITOR_SAFETY_LAG_SECONDS: '0' }, only, folder });
  expect(sent.map((one) => boundsOf(one)[0])).toEqual([bounds.at(-1)?.[1]]);
  expect(await stored(folder)).toEqual(running.truth('logs').sort());
});

test('rows that come late are in the run after they came, though their own time is over', async () => {
  const { running, sent } = await start();
  await collectOnce({ env: running.env, only });
  const [from = '', to = ''] = sent.map(boundsOf)[0] ?? [];
  expect(sent[0]?.query).toContain('SecurityEvent\n| where coalesce(ingestion_time(), TimeGenerated) >=');
  const [least = '', most = ''] = sent[0]?.timespan?.split('/') ?? [];
  expect(Date.parse(from) - Date.parse(least)).toBeGreaterThan(2 * 86_400_000);
  expect(Date.parse(most) - Date.parse(to)).toBeGreaterThan(86_400_000);
});

test('a window that ends goes by TimeGenerated, and its span leaves the end out', async () => {
  const { running, sent } = await start();
  const window = { AZURE_MONITOR_START_TIME: '2026-01-01', AZURE_MONITOR_END_TIME: '2026-01-02T00:00:00Z' };
  const { summary, folder } = await collectOnce({ env: { ...running.env, ...window }, only });
  expect(resultOf(summary, tag).verdict).toBe('empty');
  expect(sent[0]?.query).toContain('| where TimeGenerated >= datetime(');
  expect(sent.map(boundsOf)).toEqual([['2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z']]);
  expect(sent[0]?.timespan).toBe('2026-01-01T00:00:00.000Z/2026-01-01T23:59:59.9999999Z');
  await collectOnce({ env: { ...running.env, ...window }, only, folder });
  expect(sent).toHaveLength(1);
});

test('logs of a resource are asked for at its path', async () => {
  const { running } = await start();
  const place = { AZURE_MONITOR_WORKSPACE_ID: '', AZURE_MONITOR_RESOURCE_ID: '/subscriptions/5/resourceGroups/acme' };
  const { summary, folder } = await collectOnce({ env: { ...running.env, ...place }, only });
  expect(summary.exit_code).toBe(0);
  expect(await stored(folder)).toEqual(running.truth('logs').sort());
});

test('a token that is refused in the middle is renewed', async () => {
  const { running } = await start({ pageSize: 7, tokenLife: 5 });
  const { summary, folder } = await collectOnce({ env: running.env, only });
  expect(summary.exit_code).toBe(0);
  expect(await stored(folder)).toEqual(running.truth('logs').sort());
});

test('an app without a role is told which one', async () => {
  const { running } = await start({ faults: [{ name: '403', resource: 'logs' }] });
  const { summary } = await collectOnce({ env: running.env, only });
  expect(resultOf(summary, tag)).toMatchObject({ verdict: 'denied', mend: expect.stringContaining('Reader') });
});

test('a run that was interrupted goes on behind its last slice', async () => {
  const { running, sent } = await start({ latencyMs: 30 });
  const env = { ...running.env, AZURE_MONITOR_NUM_PARTITIONS: '20', AZURE_MONITOR_CONCURRENCY: '1' };
  const { folder } = await interruptedRun({ env, only }, () => sent.length >= 4);
  const before = sent.splice(0).map(boundsOf);
  const { summary } = await collectOnce({ env, only, folder });
  expect(summary.datasets).toMatchObject([{ verdict: 'complete', resumed: true }]);
  expect(await stored(folder)).toEqual(running.truth('logs').sort());
  expect(before.slice(1).map(([from]) => from)).toContain(sent.map(boundsOf)[0]?.[0]);
});

const settings: AzureMonitorSettings = {
  AZURE_MONITOR_QUERY: 'T',
  AZURE_MONITOR_WORKSPACE_ID: '3c0de000-0000-4000-a000-0000000c0de3',
  AZURE_MONITOR_RESOURCE_ID: '',
  AZURE_MONITOR_TENANT_ID: 'tenant',
  AZURE_MONITOR_CLIENT_ID: 'client',
  AZURE_MONITOR_CLIENT_SECRET: 'secret',
  AZURE_MONITOR_TIMESPAN: 'P1D',
  AZURE_MONITOR_TIMESTAMP_COLUMN: 'Stamp',
  AZURE_MONITOR_SAFETY_LAG_SECONDS: 0,
  AZURE_MONITOR_NUM_PARTITIONS: 1,
  AZURE_MONITOR_PARTITION_DURATION: 0,
  AZURE_MONITOR_MIN_PARTITION_SECONDS: 60,
  AZURE_MONITOR_CONCURRENCY: 4,
  AZURE_MONITOR_CLOUD: 'public',
};
const withQuery = (query: string, more: Partial<AzureMonitorSettings> = {}) =>
  queryOf({ ...settings, AZURE_MONITOR_QUERY: query, ...more });
const WINDOW = { from: 0, to: 60_000 };
const COND = 'Stamp >= datetime(1970-01-01T00:00:00.000Z) and Stamp < datetime(1970-01-01T00:01:00.000Z)';

describe('where a slice goes', () => {
  test.each([
    ['T', `T\n| where ${COND}\n`],
    ['// all of it\n  T\n| where a == "| union b"', `// all of it\n  T\n| where ${COND}\n\n| where a == "| union b"`],
    ['let a = 1; T | where {{window}} | count', `let a = 1; T | where ${COND} | count`],
  ])('%j', (query, expected) => {
    const { text, whole } = withQuery(query);
    expect(text(WINDOW)).toBe(expected);
    expect(whole).toBe(false);
  });

  test.each([
    'union A, B',
    'search "x"',
    'search | where a',
    'let T = A; T | where b',
    'workspace("w").T | where a',
    'A | union B',
  ])('nowhere in what does not begin with one table: %s', (query) => {
    const { text, whole, clock } = withQuery(query);
    expect([text(WINDOW), whole, clock]).toEqual([query, true, 'TimeGenerated']);
  });

  test('behind the table of what computes over all rows, but never in parts', () => {
    const { text, whole } = withQuery('T | summarize count() by a');
    expect(text(WINDOW)).toContain(COND);
    expect(whole).toBe(true);
    expect(withQuery('T | where a == @"\\" and b == "| summarize"').whole).toBe(false);
    expect(withQuery('T | where a == @"\\" | summarize count() by "b"').whole).toBe(true);
  });

  test.each([
    ['union A, B', { AZURE_MONITOR_NUM_PARTITIONS: 2 }],
    ['T | count', { AZURE_MONITOR_PARTITION_DURATION: 3600 }],
  ])('slices that would falsify %s are refused', (query, more) => {
    expect(() => withQuery(query, more)).toThrow(expect.objectContaining({ code: 'config' }));
  });
});

test.each([
  ['public', 'https://api.loganalytics.azure.com/'],
  ['government', 'https://api.loganalytics.us/'],
  ['china', 'https://api.loganalytics.azure.cn/'],
] as const)('the cloud %s is at %s', (cloud, url) => {
  expect(queryApi({ ...settings, AZURE_MONITOR_CLOUD: cloud }).baseUrl.href).toBe(url);
});

test.each([
  ['', ''],
  ['my-workspace', ''],
  ['', 'subscriptions/1'],
  ['', '/subscriptions/1/../../x'],
])('workspace %j and resource %j are no place to query', (workspace, resource) => {
  const place = { AZURE_MONITOR_WORKSPACE_ID: workspace, AZURE_MONITOR_RESOURCE_ID: resource };
  expect(() => queryApi({ ...settings, ...place })).toThrow(expect.objectContaining({ code: 'config' }));
});
