import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { access, mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type Collector, defineCollector } from '../../src/collectors/collector.ts';
import okta from '../../src/collectors/src_okta.ts';
import { run } from '../../src/commands/run.ts';
import { secret, setting } from '../../src/config/setting.ts';
import { CollectError, ConfigError } from '../../src/errors.ts';
import { type DatasetResult, type Ending, exitCode, type RunSummary } from '../../src/run/summary.ts';
import { type RunningVendor, startVendor, type VendorOptions } from '../../src/simulator/vendor.ts';
import vendor from '../../src/simulator/vendor_okta.ts';
import { collectOnce, filesBelow, resultOf, sessionOf, stateOf, storedLines, temporaryFolder } from '../support/run.ts';

/** Okta by another name, so that a run has two collectors. */
const twin = defineCollector({
  name: 'twin',
  title: 'Another org',
  docs: 'https://example.com/',
  env: { TWIN_DOMAIN: setting('Its domain'), TWIN_TOKEN: secret('Its token') },
  http: ({ TWIN_DOMAIN, TWIN_TOKEN }) =>
    okta.http?.({ OKTA_DOMAIN: TWIN_DOMAIN, OKTA_TOKEN: TWIN_TOKEN, OKTA_CONCURRENCY: 5 }) as never,
  resources: {
    users: { about: 'Accounts', path: '/api/v1/users', query: { limit: 200 }, id: 'id' },
    groups: { about: 'Groups', path: '/api/v1/groups', query: { limit: 200 }, id: 'id' },
  },
});

const both = [okta, twin] as unknown as readonly Collector[];
const started: { close(): Promise<void> }[] = [];

afterEach(async () => {
  await Promise.all(started.splice(0).map((one) => one.close()));
});

async function start(options: VendorOptions = {}): Promise<RunningVendor> {
  const running = await startVendor(vendor, { scale: 20, pageSize: 10, ...options });
  started.push(running);
  return running;
}

function twinEnv({ origin, env }: RunningVendor): Record<string, string> {
  return { TWIN_DOMAIN: origin, TWIN_TOKEN: env.OKTA_TOKEN ?? '' };
}

async function problemsOf(
  outcome: Promise<unknown>,
): Promise<readonly { where: string; message: string; mend: string }[]> {
  const error = await outcome.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ConfigError)) throw new Error(`no configuration problem: ${error}`);
  return error.problems;
}

/** A server that is posted to, such as a webhook. */
async function startListener(status = 200) {
  const heard: string[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    heard.push((JSON.parse(body) as { text: string }).text);
    response.writeHead(status).end();
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  started.push({ close: () => new Promise((closed) => void server.close(() => closed()).closeAllConnections()) });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook-canary-5Kq`, heard };
}

const FLAGS = {
  envFile: [],
  logFormat: 'text',
  exclude: [],
  concurrency: 4,
  deadline: 60,
  acceptShrink: [],
  output: 'json',
} as const;

/** The `run` command itself, in this process. */
async function runCommand(env: Readonly<Record<string, string>>, only: readonly string[] = []) {
  const folder = await temporaryFolder();
  const { session, said, printed } = await sessionOf(folder, { env });
  const code = await run({ ...FLAGS, only }, session);
  return { code, folder, said, summary: JSON.parse(printed.join('')) as RunSummary };
}

describe('configuration', () => {
  test('half-set credentials: that collector does not run, the others do, exit 2', async () => {
    const org = await start();
    const { summary, folder } = await collectOnce({
      env: { ...org.env, TWIN_DOMAIN: org.origin },
      collectors: both,
      exclude: ['okta_*_*', 'okta_d*'],
    });
    expect(summary.exit_code).toBe(2);
    expect(summary.problems).toMatchObject([{ where: 'twin', message: 'TWIN_TOKEN is missing, the rest is set' }]);
    expect(summary.datasets.map(({ tag, verdict }) => [tag, verdict])).toEqual([
      ['okta_users', 'complete'],
      ['okta_groups', 'complete'],
    ]);
    expect(await storedLines(folder, 'okta_users')).toEqual(org.truth('users'));
  });

  test('an unknown name is refused with a suggestion', async () => {
    const org = await start();
    const problems = await problemsOf(collectOnce({ env: org.env, only: ['okta.user'] }));
    expect(problems).toMatchObject([
      { where: '--only', message: "nothing is called 'okta.user'", mend: 'did you mean okta.users?' },
    ]);
    expect(org.requests).toEqual([]);
  });

  test('named but not configured: the variables it needs', async () => {
    const [problem] = await problemsOf(collectOnce({ env: {}, only: ['okta'] }));
    expect(problem).toMatchObject({ where: 'okta', mend: 'set OKTA_DOMAIN, OKTA_TOKEN' });
  });

  test('two datasets that would share a target are refused', async () => {
    const org = await start();
    const folder = await temporaryFolder();
    const env = { ...org.env, STORE_FILE: join(folder, '%TENANCY.json') };
    const [problem] = await problemsOf(collectOnce({ env, only: ['okta.users', 'okta.groups'] }));
    expect(problem).toMatchObject({ where: 'store file', mend: 'add %TAG to the template' });
    const { summary } = await collectOnce({ env, only: ['okta.users'] });
    expect(summary.exit_code).toBe(0);
  });

  test('$TAG is refused and %TAG named', async () => {
    const org = await start();
    const [problem] = await problemsOf(collectOnce({ env: { ...org.env, STORE_FILE: './data/$TAG.json' } }));
    expect(problem?.mend).toBe('write %TAG');
  });

  test('every problem is listed at once, and no vendor is called', async () => {
    const org = await start();
    const env = {
      ...org.env,
      TWIN_TOKEN: 'half-of-it',
      TENANCY: 'a/b',
      STORE_FILE: './data/%NOPE.json',
      CYBER_COLLECT_REQUESTS: 'many',
      STORE_FILE_FORMAT: 'xml',
    };
    const wheres = (await problemsOf(collectOnce({ env, only: ['okta', 'twin', 'nothing'], collectors: both }))).map(
      ({ where }) => where,
    );
    expect(wheres).toEqual(
      expect.arrayContaining(['TENANCY', '--only', 'CYBER_COLLECT_REQUESTS', 'STORE_FILE_FORMAT', 'twin']),
    );
    const template = await problemsOf(
      collectOnce({ env: { ...org.env, STORE_FILE: './data/%NOPE.json', TENANCY: '..' }, only: ['nothing'] }),
    );
    expect(template.map(({ where }) => where)).toEqual(expect.arrayContaining(['TENANCY', '--only', 'store file']));
    expect(org.requests).toEqual([]);
  });

  test('nothing configured is exit 5', async () => {
    expect((await collectOnce({ env: {} })).summary).toMatchObject({ exit_code: 5, datasets: [], problems: [] });
  });
});

describe('parents and children', () => {
  test('a parent that fails fails its children, with the reason', async () => {
    const org = await start({ faults: [{ name: '404', resource: 'groups' }] });
    const { summary, folder } = await collectOnce({
      env: org.env,
      only: ['okta.groups', 'okta.group_members', 'okta.users'],
    });
    expect(summary.exit_code).toBe(3);
    expect(resultOf(summary, 'okta_groups').verdict).toBe('failed');
    const child = resultOf(summary, 'okta_group_members');
    expect(child).toMatchObject({ verdict: 'failed', requests: 0 });
    expect(child.reason).toMatch(
      /^okta_group_members needs groups, which is failed: GET \/api\/v1\/groups was answered with 404/,
    );
    expect(resultOf(summary, 'okta_users').verdict).toBe('complete');
    expect(await storedLines(folder, 'okta_group_members')).toBeUndefined();
  });

  test('a parent that is not selected is read, not stored', async () => {
    const org = await start();
    const { summary, folder } = await collectOnce({ env: org.env, only: ['okta.group_members'] });
    expect(summary.exit_code).toBe(0);
    expect(summary.datasets.map(({ tag }) => tag)).toEqual(['okta_group_members']);
    expect(await filesBelow(join(folder, 'data'))).toEqual([join(folder, 'data', 'okta_group_members.ndjson')]);
  });

  test('each child keeps the id of its own parent', async () => {
    const org = await start();
    const { folder } = await collectOnce({ env: org.env, only: ['okta.group_members'] });
    const lines = (await storedLines(folder, 'okta_group_members')) ?? [];
    const groups = org.truth('groups').map((group) => (JSON.parse(group) as { id: string }).id);
    const expected = groups.flatMap((id) =>
      org.truth('group_members', { id }).map((member) => `${member.slice(0, -1)},"_group_id":"${id}"}`),
    );
    expect(lines).toEqual(expected);
  });

  test('a child that fails leaves no file of its parent open', async () => {
    const org = await start({ scale: 200, faults: [{ name: '403', resource: 'group_members' }] });
    const { summary, folder } = await collectOnce({ env: org.env, only: ['okta.group_members'] });
    expect(resultOf(summary, 'okta_group_members').verdict).toBe('denied');
    const handles = await readdir('/proc/self/fd').catch(() => []);
    const open = await Promise.all(handles.map((handle) => readlink(`/proc/self/fd/${handle}`).catch(() => '')));
    expect(open.filter((path) => path.startsWith(folder))).toEqual([]);
  });
});

describe('the shrink guard', () => {
  async function twice(before: number, after: number, acceptShrink: readonly string[] = []) {
    const folder = await temporaryFolder();
    const first = await start({ scale: before, pageSize: 200 });
    expect((await collectOnce({ env: first.env, only: ['okta.users'], folder })).summary.exit_code).toBe(0);
    const second = await start({ scale: after, pageSize: 200 });
    const { summary } = await collectOnce({ env: second.env, only: ['okta.users'], folder, acceptShrink });
    const lines = await storedLines(folder, 'okta_users');
    return { summary, dataset: resultOf(summary, 'okta_users'), kept: lines?.length, folder };
  }

  test.each([
    [5, 0],
    [100, 70],
    [20, 15],
  ])('%i records and then %i are held back, the last good copy stands', async (before, after) => {
    const { summary, dataset, kept, folder } = await twice(before, after);
    expect(summary.exit_code).toBe(3);
    expect(dataset).toMatchObject({ verdict: 'quarantined', records: after, stores: [], title: 'Dataset shrank' });
    expect(dataset.mend).toContain('--accept-shrink');
    expect(kept).toBe(before);
    const aside = await readFile(join(stateOf(folder), 'quarantine', 'default', 'okta_users.ndjson'), 'utf8');
    expect(aside.split('\n').length - 1).toBe(after);
  });

  test.each([
    [100, 97],
    [4, 0],
    [100, 81],
  ])('%i records and then %i pass', async (before, after) => {
    const { summary, kept } = await twice(before, after);
    expect(summary.exit_code).toBe(0);
    expect(kept).toBe(after);
  });

  test('--accept-shrink lets the named dataset pass, and it is the new baseline', async () => {
    const { summary, kept, folder } = await twice(100, 50, ['okta.users']);
    expect(summary.exit_code).toBe(0);
    expect(kept).toBe(50);
    const third = await start({ scale: 50, pageSize: 200 });
    expect((await collectOnce({ env: third.env, only: ['okta.users'], folder })).summary.exit_code).toBe(0);
  });

  test('a dataset that is held back stays held back in the next run', async () => {
    const { folder } = await twice(100, 50);
    const third = await start({ scale: 50, pageSize: 200 });
    expect((await collectOnce({ env: third.env, only: ['okta.users'], folder })).summary.exit_code).toBe(3);
  });
});

test('children of a parent that is held back have failed, for it may lack the very parents that are gone', async () => {
  const only = ['okta.groups', 'okta.group_members'];
  const before = await start({ scale: 200 });
  const { folder } = await collectOnce({ env: before.env, only });
  const members = await storedLines(folder, 'okta_group_members');
  const after = await start({ scale: 100 });
  const { summary } = await collectOnce({ env: after.env, only, folder });
  expect(summary.exit_code).toBe(3);
  expect(resultOf(summary, 'okta_groups').verdict).toBe('quarantined');
  expect(resultOf(summary, 'okta_group_members')).toMatchObject({
    verdict: 'failed',
    reason: expect.stringContaining('quarantined'),
  });
  expect(await storedLines(folder, 'okta_group_members')).toEqual(members);
});

describe('what a vendor refuses', () => {
  test('403 on one resource: denied with the permission it needs, exit 3, the others are stored', async () => {
    const org = await start({ faults: [{ name: '403', resource: 'groups' }] });
    const { summary, folder } = await collectOnce({ env: org.env, only: ['okta.users', 'okta.groups'] });
    expect(summary.exit_code).toBe(3);
    const denied = resultOf(summary, 'okta_groups');
    expect(denied).toMatchObject({ verdict: 'denied', title: 'Permission denied' });
    expect(`${denied.reason} ${denied.mend}`).toContain('okta.groups.read');
    expect(await storedLines(folder, 'okta_users')).toEqual(org.truth('users'));
    expect(await storedLines(folder, 'okta_groups')).toBeUndefined();
  });

  test('credentials that are refused everywhere are exit 4', async () => {
    const org = await start();
    const env = { ...org.env, OKTA_TOKEN: 'canary-of-another-org' };
    const { summary, said } = await collectOnce({ env, only: ['okta.users', 'okta.groups', 'okta.group_members'] });
    expect(summary.exit_code).toBe(4);
    expect(said.join('') + JSON.stringify(summary)).not.toContain('canary-of');
  });

  test('credentials that one collector of two has refused are exit 3', async () => {
    const org = await start();
    const env = { ...org.env, ...twinEnv(org), TWIN_TOKEN: 'another' };
    const { summary } = await collectOnce({ env, only: ['okta.users', 'twin'], collectors: both });
    expect(summary.exit_code).toBe(3);
  });
});

describe('stores', () => {
  test('one that cannot be written is exit 6, and the other has everything', async () => {
    const org = await start();
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'taken'), '');
    const path = join(folder, 'all.duckdb');
    const env = { ...org.env, STORE_FILE: join(folder, 'taken', '%TAG.ndjson'), STORE_DUCKDB: path };
    const { summary } = await collectOnce({ env, only: ['okta.users'] });
    expect(summary.exit_code).toBe(6);
    const { stores, verdict } = resultOf(summary, 'okta_users');
    expect(verdict).toBe('complete');
    expect(stores.find(({ store }) => store === 'file')?.error).toMatch(/cannot be written \((ENOTDIR|EEXIST)\)/);
    expect(stores.find(({ store }) => store === 'duckdb')).toMatchObject({ records: 20 });
    const instance = await DuckDBInstance.create(path);
    const connection = await instance.connect();
    const rows = await connection.runAndReadAll('select count(*)::int as n from okta_users');
    expect(rows.getRowObjects()).toEqual([{ n: 20 }]);
    connection.closeSync();
    instance.closeSync();
  });

  test('an upload that no store took is no baseline', async () => {
    const org = await start();
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'taken'), '');
    await collectOnce({
      env: { ...org.env, STORE_FILE: join(folder, 'taken', '%TAG.ndjson') },
      only: ['okta.users'],
      folder,
    });
    await expect(access(join(stateOf(folder), 'baselines'))).rejects.toThrow('ENOENT');
  });

  test('an empty dataset is stored as an empty envelope', async () => {
    const org = await start({ scale: 0 });
    const folder = await temporaryFolder();
    const { summary } = await collectOnce({
      env: { ...org.env, STORE_FILE: join(folder, '%TAG.json') },
      only: ['okta.users'],
    });
    expect(summary.exit_code).toBe(0);
    expect(resultOf(summary, 'okta_users')).toMatchObject({ verdict: 'empty', records: 0 });
    const envelope = JSON.parse(await readFile(join(folder, 'okta_users.json'), 'utf8')) as {
      data: unknown;
      metadata: object;
    };
    expect(envelope.data).toEqual([]);
    expect(envelope.metadata).toMatchObject({ tag: 'okta_users', records: 0, tenancy: 'default' });
    expect(Object.keys(envelope.metadata).slice(0, 5)).toEqual(['tenancy', 'upload_id', 'timestamp', 'tag', 'records']);
  });
});

describe('the lock', () => {
  async function lockedBy(pid: number) {
    const folder = await temporaryFolder();
    const path = join(stateOf(folder), 'locks', 'default', 'okta.lock');
    await mkdir(join(stateOf(folder), 'locks', 'default'), { recursive: true });
    await writeFile(path, JSON.stringify({ pid, host: hostname(), since: '2026-01-01T00:00:00Z' }));
    return { folder, path };
  }

  test('held by a process that lives: exit 8, nothing is asked, the lock stays, other collectors run', async () => {
    const org = await start();
    const { folder, path } = await lockedBy(process.ppid);
    const env = { ...org.env, ...twinEnv(org) };
    const { summary } = await collectOnce({ env, folder, collectors: both, only: ['okta.users', 'twin.groups'] });
    expect(summary.exit_code).toBe(8);
    expect(summary.datasets.map(({ tag, verdict }) => [tag, verdict])).toEqual([['twin_groups', 'complete']]);
    expect(summary.problems[0]?.message).toContain(`process ${process.ppid} on ${hostname()}`);
    expect(org.requests.filter((seen) => seen.path.includes('users'))).toEqual([]);
    await access(path);
  });

  test('left by a process that is gone: taken over, then let go', async () => {
    const org = await start();
    const gone = Number(execFileSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }));
    const { folder, path } = await lockedBy(gone);
    const { summary } = await collectOnce({ env: org.env, folder, only: ['okta.users'] });
    expect(summary.exit_code).toBe(0);
    await expect(access(path)).rejects.toThrow('ENOENT');
  });
});

describe('time', () => {
  test('a vendor that does not answer before the deadline: exit 124', async () => {
    const org = await start({ latencyMs: 60_000 });
    const { summary, folder } = await collectOnce({
      env: org.env,
      only: ['okta.users', 'okta.group_members'],
      deadline: 1,
    });
    expect(summary.exit_code).toBe(124);
    expect(summary.datasets.map(({ verdict }) => verdict)).toEqual(['failed', 'failed']);
    expect(resultOf(summary, 'okta_users').reason).toContain('deadline of 1 s');
    expect((await filesBelow(folder)).filter((path) => !/[/](locks|work|runs|chain|standing)[/]/.test(path))).toEqual(
      [],
    );
  });

  test('a wait that the vendor asks for past the deadline fails the dataset at once', async () => {
    const org = await start({ limit: { requests: 1, seconds: 600 } });
    const { summary } = await collectOnce({ env: org.env, only: ['okta.users'], deadline: 300 });
    expect(summary.exit_code).toBe(3);
    const { reason, verdict, duration_ms } = resultOf(summary, 'okta_users');
    expect(verdict).toBe('failed');
    expect(reason).toContain('past the deadline');
    expect(duration_ms).toBeLessThan(20_000);
  });

  test('a signal in the middle leaves the old copy whole and nothing half written', async () => {
    const folder = await temporaryFolder();
    const before = await start();
    await collectOnce({ env: before.env, only: ['okta.users', 'okta.group_members'], folder });
    const slow = await start({ scale: 2000, latencyMs: 20 });
    const interruption = new AbortController();
    const outcome = collectOnce({
      env: slow.env,
      only: ['okta.users', 'okta.group_members'],
      folder,
      signal: interruption.signal,
      signalCode: () => 143,
    });
    await vi.waitFor(() => expect(slow.requests.length).toBeGreaterThan(3), { timeout: 10_000, interval: 5 });
    interruption.abort(new CollectError('aborted', 'the run was interrupted by SIGTERM'));
    const { summary } = await outcome;
    expect(summary.exit_code).toBe(143);
    expect(await storedLines(folder, 'okta_users')).toEqual(before.truth('users'));
    const files = (await filesBelow(folder)).map((path) => path.slice(folder.length + 1)).sort();
    expect(files.filter((path) => !/^state\/(work|runs|chain|standing)\//.test(path))).toEqual([
      'data/okta_group_members.ndjson',
      'data/okta_users.ndjson',
      'state/baselines/default/okta_group_members.json',
      'state/baselines/default/okta_users.json',
      'state/fields/default/okta_group_members.json',
      'state/fields/default/okta_users.json',
    ]);
    expect(await readdir(join(stateOf(folder), 'spool'))).toEqual([]);
  });
});

describe('the exit code', () => {
  const dataset = (verdict: DatasetResult['verdict'], error?: string): DatasetResult => ({
    tag: 'okta_users',
    collector: 'okta',
    resource: 'users',
    verdict,
    records: 0,
    pages: 0,
    requests: 0,
    retries: 0,
    waited_ms: 0,
    bytes: 0,
    duration_ms: 0,
    upload_id: randomUUID(),
    stores: [{ store: 'file', at: '', records: 0, ...(error === undefined ? {} : { error }) }],
  });
  const calm: Ending = {
    deadline: false,
    defect: false,
    locked: false,
    misconfigured: false,
    behind: false,
    active: 1,
    refused: 0,
  };

  test('the first that applies of 130/143, 1, 8, 2, 124, 4, 3, 6, 5, 0', () => {
    const both3and6 = [dataset('failed'), dataset('complete', 'disk full')];
    const all: Ending = {
      signal: 130,
      defect: true,
      locked: true,
      misconfigured: true,
      behind: true,
      deadline: true,
      active: 2,
      refused: 2,
    };
    const { signal: _, ...unsignalled } = all;
    const steps: readonly (readonly [number, Ending, readonly DatasetResult[]])[] = [
      [130, all, both3and6],
      [143, { ...all, signal: 143 }, both3and6],
      [1, unsignalled, both3and6],
      [8, { ...unsignalled, defect: false }, both3and6],
      [2, { ...unsignalled, defect: false, locked: false }, both3and6],
      [124, { ...calm, deadline: true, active: 2, refused: 2 }, both3and6],
      [4, { ...calm, active: 2, refused: 2 }, both3and6],
      [3, { ...calm, active: 2, refused: 1 }, both3and6],
      [6, calm, [dataset('complete', 'disk full'), dataset('empty')]],
      [5, { ...calm, active: 0 }, []],
      [0, calm, [dataset('complete'), dataset('empty')]],
    ];
    for (const [code, ending, datasets] of steps) expect(exitCode(ending, datasets)).toBe(code);
  });

  test.each(['failed', 'denied', 'restored', 'quarantined'] as const)('%s is 3', (verdict) => {
    expect(exitCode(calm, [dataset('complete'), dataset(verdict)])).toBe(3);
  });
});

describe('what is told', () => {
  test('the run record is kept and equals the summary', async () => {
    const org = await start({ faults: [{ name: '404', resource: 'groups' }] });
    const { summary, folder, code } = await runCommand(org.env, ['okta.users', 'okta.groups']);
    expect(code).toBe(3);
    const [record, ...others] = await readdir(join(stateOf(folder), 'runs', 'default'));
    expect(others).toEqual([]);
    const { head, ...told } = summary;
    expect(head?.sequence).toBe(1);
    expect(JSON.parse(await readFile(join(stateOf(folder), 'runs', 'default', record ?? ''), 'utf8'))).toMatchObject(
      told,
    );
    expect(summary.exit_code).toBe(3);
  });

  test('Slack hears of start, failure and completion, and no secret', async () => {
    const org = await start({ faults: [{ name: '404', resource: 'groups' }] });
    const { url, heard } = await startListener();
    const { code, summary, said } = await runCommand({ ...org.env, SLACK_WEBHOOK_URL: url }, [
      'okta.users',
      'okta.groups',
    ]);
    expect(code).toBe(3);
    expect(heard).toHaveLength(2);
    expect(heard[0]).toBe('cyber-collect starts for default: okta');
    expect(heard[1]).toContain('exit code 3: 1 of 2 datasets complete');
    expect(heard[1]).toContain('okta_groups: failed: GET /api/v1/groups was answered with 404');
    const everything = [...heard, ...said, JSON.stringify(summary)].join('\n');
    expect(everything).not.toContain('canary');
  });

  test.each([
    ['that is down', async () => 'http://127.0.0.1:1/hook-canary-5Kq'],
    ['that answers 500', async () => (await startListener(500)).url],
    ['that is no URL', async () => 'hook-canary-5Kq'],
  ])('a webhook %s does not change the exit code', async (_, hook) => {
    const org = await start();
    const { code, said } = await runCommand({ ...org.env, SLACK_WEBHOOK_URL: await hook() }, ['okta.users']);
    expect(code).toBe(0);
    expect(said.join('\n')).toContain('Slack was not told');
    expect(said.join('\n')).not.toContain('hook-canary');
  });
});
