import { describe, expect, test } from 'vitest';
import { exportLines, isTransforming, MESSAGES, searchOf } from '../../src/collectors/_splunk.ts';
import { classify } from '../../src/http/retry.ts';
import type { Request } from '../../src/simulator/paging.ts';
import type { VendorOptions } from '../../src/simulator/vendor.ts';
import vendor from '../../src/simulator/vendor_splunk.ts';
import { collectOnce, interruptedRun, resultOf, storedEvents } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const none = { SPLUNK_QUERY: '', SPLUNK_INDEX: '', SPLUNK_SOURCETYPE: '', SPLUNK_SEARCH_FILTER: '' };

function read(text: string, size: number) {
  const splitter = exportLines({});
  const bytes = Buffer.from(text);
  const out: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; from += size) {
    out.push(...splitter.write(Uint8Array.from(bytes.subarray(from, from + size))).map((part) => Buffer.from(part)));
  }
  return { ...splitter.end(), text: Buffer.concat(out).toString() };
}

const RESULTS = [
  '{"_raw":"a \\"q\\" | b","_time":"2026-01-01T00:00:00.000+00:00"}',
  '{"n":9007199254740993,"ü":["x","y"]}',
];
const STREAM = [
  '{"preview":true,"offset":0,"lastrow":true,"result":{"_raw":"not yet"}}',
  `{"preview":false,"offset":0,"result":${RESULTS[0]}}`,
  '',
  '{"messages":[{"type":"WARN","text":"slow"}]}',
  `{"preview":false,"offset":1,"lastrow":true,"result":${RESULTS[1]}}`,
  '',
].join('\n');

test.each([1, 2, 7, 64, 4096])('results leave an export byte for byte, in pieces of %i bytes', (size) => {
  expect(read(STREAM, size)).toEqual({
    records: 2,
    found: true,
    body: { warnings: ['slow'] },
    text: `${RESULTS.join('\n')}\n`,
  });
});

test('a stream that was cut anywhere is no whole one', () => {
  const bytes = Buffer.from(STREAM);
  for (let end = 0; end < bytes.length; end += 1) expect(() => read(bytes.subarray(0, end).toString(), 99)).toThrow();
});

test.each([
  ['FATAL', 'Unknown search command', 'failed'],
  ['ERROR', 'The maximum number of concurrent historical searches has been reached', 'throttled'],
])('a message of level %s makes good results partial ones', (type, text, outcome) => {
  const { body } = read(`${JSON.stringify({ preview: false, messages: [{ type, text }] })}\n${STREAM}`, 50);
  expect(classify(200, JSON.stringify(body), MESSAGES).outcome).toBe(outcome);
});

test.each([
  ['WARN', 'Search results might be incomplete!', 'failed'],
  ['INFO', 'Search auto-finalized after time limit (60 seconds) reached.', 'failed'],
  ['INFO', 'Your timerange was substituted based on your search string', 'failed'],
  ['DEBUG', 'Results truncated in the log', 'ok'],
  ['WARN', 'A lookup is old', 'ok'],
])('a message of level %s is judged by what it says: %s', (type, text, outcome) => {
  const { body } = read(`${JSON.stringify({ messages: [{ type, text }] })}\n${STREAM}`, 50);
  expect(classify(200, JSON.stringify(body), MESSAGES).outcome).toBe(outcome);
});

test('a search is built of a query or of an index', () => {
  expect(searchOf({ ...none, SPLUNK_QUERY: 'index=main' })).toBe('search index=main');
  expect(searchOf({ ...none, SPLUNK_QUERY: '| tstats count' })).toBe('| tstats count');
  const narrowed = { SPLUNK_INDEX: 'main', SPLUNK_SOURCETYPE: 'aws:cloudtrail', SPLUNK_SEARCH_FILTER: 'status=5*' };
  expect(searchOf({ ...none, ...narrowed })).toBe('search index="main" sourcetype="aws:cloudtrail" status=5*');
});

test.each([
  ['SPLUNK_INDEX', ''],
  ['SPLUNK_INDEX', 'main" | delete'],
  ['SPLUNK_INDEX', 'a|b'],
  ['SPLUNK_SOURCETYPE', 'x"'],
  ['SPLUNK_SEARCH_FILTER', '[search index=secret]'],
  ['SPLUNK_SEARCH_FILTER', 'a | outputlookup b'],
  ['SPLUNK_SEARCH_FILTER', '`macro`'],
  ['SPLUNK_SEARCH_FILTER', 'a earliest=-1h'],
  ['SPLUNK_QUERY', 'search index=main _index_earliest=-1h'],
])('what does not belong into %s is refused: %s', (name, value) => {
  expect(() => searchOf({ ...none, SPLUNK_INDEX: 'main', [name]: value })).toThrow(
    expect.objectContaining({ code: 'config' }),
  );
});

test('times in strings and in subsearches are no times of the search', () => {
  const query = 'search index=main "earliest=\\"now" [search index=b [search latest=5] earliest=-1h]';
  expect(searchOf({ ...none, SPLUNK_QUERY: query })).toBe(query);
});

test.each([
  ['search index=main | stats count', true],
  ['| inputlookup assets', true],
  ['search index=main | eval x="| stats count"', false],
  ['search index=main [search index=b | stats values(id) as id]', false],
])('%s: its results belong to all events: %s', (query, expected) => {
  expect(isTransforming(query)).toBe(expected);
});

const startOf = starter(vendor, { scale: 60 });

/** A vendor, and the forms that it is sent. */
async function start(options: VendorOptions = {}) {
  const forms: URLSearchParams[] = [];
  const noting = (request: Request) => forms.push(new URLSearchParams(request.body)) > 0;
  const routes = vendor.routes.map((route) => ({ ...route, when: noting }));
  const running = await startOf(options, { ...vendor, routes });
  return { running, forms };
}

const only = ['splunk'];
const stored = async (folder: string) => [...((await storedEvents(folder, 'splunk_events')) ?? [])].sort();

test('events come whole and byte for byte, in slices of index time that share their boundaries', async () => {
  const { running, forms } = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only });
  expect(summary.exit_code).toBe(0);
  expect(await stored(folder)).toEqual(running.truth('events').sort());
  const bounds = forms.map((form) => [form.get('index_earliest'), form.get('index_latest')]);
  bounds.sort();
  expect(bounds).toHaveLength(3);
  for (const [nth, [from]] of bounds.slice(1).entries()) expect(from).toBe(bounds[nth]?.[1]);
  for (const form of forms) {
    expect(form.get('earliest_time')).toBe('0');
    expect(form.get('search')).toBe('search index="main"');
  }
});

test('the next run begins exactly where the last one ended; another search begins anew', async () => {
  const { running, forms } = await start();
  const env = { ...running.env, SPLUNK_NUM_PARTITIONS: '1' };
  const { folder } = await collectOnce({ env, only });
  const [first] = forms.splice(0);
  await collectOnce({ env: { ...env, SPLUNK_SAFETY_LAG_SECONDS: '0', SPLUNK_LOOKBACK_DAYS: '2' }, only, folder });
  const [second] = forms.splice(0);
  expect(second?.get('index_earliest')).toBe(first?.get('index_latest'));
  expect(Number(second?.get('index_earliest')) - Number(second?.get('earliest_time'))).toBe(2 * 86_400);
  const again = await collectOnce({ env: { ...env, SPLUNK_INDEX: 'other' }, only, folder });
  expect(again.said.join()).toContain('begins anew');
  expect(Number(forms[0]?.get('index_earliest'))).toBeLessThan(Number(first?.get('index_earliest')) + 60);
});

test('a window that ends goes by the events’ own time, and is read once', async () => {
  const { running, forms } = await start();
  const window = { SPLUNK_START_TIME: '2026-01-01', SPLUNK_END_TIME: '2026-01-02T00:00:00.500+01:00' };
  const env = { ...running.env, ...window };
  const { summary, folder } = await collectOnce({ env, only });
  expect(resultOf(summary, 'splunk_events').verdict).toBe('empty');
  expect(forms).toHaveLength(3);
  const bounds = forms.map((form) => [form.get('earliest_time') ?? '', form.get('latest_time') ?? '']).sort();
  expect(bounds[0]?.[0]).toBe('1767225600.000');
  expect(bounds.at(-1)?.[1]).toBe('1767308400.500');
  expect(forms.some((form) => form.has('index_latest'))).toBe(false);
  await collectOnce({ env, only, folder });
  expect(forms).toHaveLength(3);
});

test.each(['Splunk', 'Bearer', 'Basic'])('the token is sent as %s', async (scheme) => {
  const { running } = await start();
  const token = running.env.SPLUNK_AUTH_TOKEN ?? '';
  const shown = { SPLUNK_AUTH_SCHEME: scheme, SPLUNK_AUTH_TOKEN: scheme === 'Basic' ? `reader:${token}` : token };
  const { summary } = await collectOnce({ env: { ...running.env, ...shown }, only });
  expect(summary.exit_code).toBe(0);
});

test('an older Splunk is asked at its own place, once it is known', async () => {
  const { running } = await start({
    faults: [{ name: '404', times: 'always', path: '/services/search/v2/jobs/export' }],
  });
  const { summary, folder } = await collectOnce({ env: { ...running.env, SPLUNK_CONCURRENCY: '1' }, only });
  expect(summary.exit_code).toBe(0);
  expect(await stored(folder)).toEqual(running.truth('events').sort());
  expect(running.requests.map(({ status }) => status)).toEqual([404, 200, 200, 200]);
});

test('a quota that is used up is waited for', async () => {
  const { running } = await start({ settings: { messages: 'quota' } });
  const env = { ...running.env, SPLUNK_CONCURRENCY: '1' };
  const { summary, folder } = await collectOnce({ env, only });
  expect(resultOf(summary, 'splunk_events')).toMatchObject({ verdict: 'complete', retries: 1 });
  expect(await stored(folder)).toEqual(running.truth('events').sort());
});

test.each(['fatal', 'peer', 'finalized', 'times'])('partial results (%s) are none', async (messages) => {
  const { running } = await start({ settings: { messages } });
  const { summary, folder } = await collectOnce({ env: running.env, only });
  expect(summary.exit_code).toBe(3);
  expect(await stored(folder)).toEqual([]);
});

test('a warning that costs nothing is handed on', async () => {
  const { running } = await start({ settings: { messages: 'slow' } });
  const { summary, said } = await collectOnce({ env: running.env, only });
  expect(summary.exit_code).toBe(0);
  expect(said.join('\n')).toContain('Splunk says: The search was slow  today');
});

describe('settings', () => {
  test.each([
    ['nothing to search', { SPLUNK_INDEX: '' }],
    ['an injection', { SPLUNK_SEARCH_FILTER: 'x | delete' }],
    ['slices of a statistic', { SPLUNK_INDEX: '', SPLUNK_QUERY: 'index=main | stats count by host' }],
    ['a timespan in months', { SPLUNK_TIMESPAN: 'P1M' }],
    ['a moment without zone', { SPLUNK_START_TIME: '2026-01-01T00:00' }],
    ['Basic without user', { SPLUNK_AUTH_SCHEME: 'Basic' }],
  ])('%s: refused before anything is asked', async (_, wrong) => {
    const { running } = await start();
    await expect(collectOnce({ env: { ...running.env, ...wrong }, only })).resolves.toMatchObject({
      summary: { exit_code: 2 },
    });
    expect(running.requests).toEqual([]);
  });

  test('a statistic is computed over all that is new at once', async () => {
    const { running, forms } = await start();
    const env = { ...running.env, SPLUNK_QUERY: 'index=main | stats count by host', SPLUNK_NUM_PARTITIONS: '1' };
    const { summary } = await collectOnce({ env, only });
    expect(summary.exit_code).toBe(0);
    expect(forms).toHaveLength(1);
  });
});

test('a role that may not search is told which capability it lacks', async () => {
  const { running } = await start({ faults: [{ name: '403', resource: 'events' }] });
  const { summary } = await collectOnce({ env: running.env, only });
  const { verdict, mend } = resultOf(summary, 'splunk_events');
  expect(verdict).toBe('denied');
  expect(mend).toContain('search, with the index');
});

test('a run that was interrupted goes on behind its last slice', async () => {
  const { running, forms } = await start({ latencyMs: 30 });
  const env = { ...running.env, SPLUNK_NUM_PARTITIONS: '20', SPLUNK_CONCURRENCY: '1' };
  const { folder } = await interruptedRun({ env, only }, () => forms.length >= 4);
  const before = forms.splice(0).map((form) => Number(form.get('index_earliest')));
  const { summary } = await collectOnce({ env, only, folder });
  expect(summary.datasets).toMatchObject([{ verdict: 'complete', resumed: true }]);
  expect(await stored(folder)).toEqual(running.truth('events').sort());
  const after = forms.map((form) => Number(form.get('index_earliest')));
  expect(before).toContain(Math.min(...after));
  expect(Math.min(...after)).toBeGreaterThan(Math.min(...before));
});
