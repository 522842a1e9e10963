import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { environmentOf } from '../../src/config/environment.ts';
import type { RunSummary } from '../../src/run/summary.ts';
import { isOfShard, shardFrom, tenantFinder } from '../../src/run/tenants.ts';
import { type RunningVendor, startVendor, type VendorOptions } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { program } from '../support/program.ts';
import { filesBelow, temporaryFolder } from '../support/run.ts';

const ending: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ending.splice(0)) await end();
});

async function start(options: VendorOptions = {}): Promise<RunningVendor> {
  const running = await startVendor(okta, { scale: 40, pageSize: 20, ...options });
  ending.push(() => running.close());
  return running;
}

async function folderOf(tenants: Readonly<Record<string, Readonly<Record<string, string>>>>): Promise<string> {
  const folder = await temporaryFolder();
  for (const [path, variables] of Object.entries(tenants)) {
    await mkdir(join(folder, path, '..'), { recursive: true });
    const lines = Object.entries(variables).map(([name, value]) => `${name}='${value}'\n`);
    await writeFile(join(folder, path), lines.join(''), { mode: 0o600 });
  }
  return folder;
}

function launch(folder: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return program(folder, ['run', ...args], {
    STORE_FILE: join(folder, 'data', '%TENANCY', '%TAG.ndjson'),
    CYBER_COLLECT_STATE: join(folder, 'state'),
    ...env,
  });
}

const run = (folder: string, args: readonly string[], env?: Readonly<Record<string, string>>) =>
  launch(folder, args, env).ended;

const summaries = (stdout: string) =>
  stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as RunSummary)
    .sort((a, b) => (a.tenancy < b.tenancy ? -1 : 1));

async function outputOf(folder: string, tenancy: string): Promise<Readonly<Record<string, string>>> {
  const files = await filesBelow(join(folder, 'data', tenancy));
  const texts = await Promise.all(files.map(async (path) => [path.slice(folder.length), await readFile(path, 'utf8')]));
  return Object.fromEntries(texts.sort());
}

const ONLY = ['--only', 'okta.users,okta.groups'];
const ALL = ['--tenants', 'tenants/*.env', ...ONLY, '--jobs', '3'];

test('each tenant has its own data, and one that fails changes no byte of the others', async () => {
  const [one, two] = [await start(), await start({ scale: 60 })];
  const tenants = { 'tenants/one.env': one.env, 'tenants/two.env': two.env };
  const with3 = await folderOf({ ...tenants, 'tenants/bad.env': { ...two.env, OKTA_TOKEN: 'not-a-token' } });
  const failing = await run(with3, [...ALL, '--output', 'json', '--slot', 's1']);
  expect(failing.code).toBe(4);
  expect(summaries(failing.stdout).map(({ tenancy, exit_code }) => [tenancy, exit_code])).toEqual([
    ['bad', 4],
    ['one', 0],
    ['two', 0],
  ]);
  const alone = await folderOf(tenants);
  const good = await run(alone, [...ALL, '--slot', 's1']);
  expect(good.code).toBe(0);
  expect(good.stdout).toContain('2 of 2 tenants complete');
  for (const tenancy of ['one', 'two']) {
    expect(await outputOf(with3, tenancy)).toEqual(await outputOf(alone, tenancy));
    expect(Object.keys(await outputOf(alone, tenancy))).toHaveLength(2);
  }
  expect((await outputOf(alone, 'two'))['/data/two/okta_users.ndjson']?.trimEnd().split('\n')).toEqual(
    two.truth('users'),
  );
});

test('the credentials of whoever starts it reach no tenant', async () => {
  const vendor = await start();
  const folder = await folderOf({
    'tenants/half.env': { OKTA_DOMAIN: vendor.env.OKTA_DOMAIN ?? '' },
    'tenants/none.env': {},
  });
  const { code, stderr } = await run(folder, ['--tenants', 'tenants/*.env'], { ...vendor.env, TENANCY: 'mine' });
  expect(code).toBe(2);
  expect(stderr).toMatch(/half: .*OKTA_TOKEN is missing/);
  expect(vendor.requests).toEqual([]);
});

test('a slot gives every attempt the same upload ids, each tenant and dataset its own', async () => {
  const vendor = await start();
  const folder = await folderOf({ 'tenants/a.env': vendor.env, 'tenants/b.env': vendor.env });
  const ids = async (slot: string) => {
    const { stdout } = await run(folder, [...ALL, '--output', 'json', '--slot', slot]);
    return summaries(stdout).flatMap(({ datasets }) => datasets.map(({ upload_id }) => upload_id));
  };
  const first = await ids('2026-11-21T03');
  expect(new Set(first).size).toBe(4);
  expect(await ids('2026-11-21T03')).toEqual(first);
  expect((await ids('2026-11-21T04')).filter((id) => first.includes(id))).toEqual([]);
  for (const id of first) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('shards are all tenants, each once', async () => {
  const vendor = await start();
  const names = ['a', 'b', 'c', 'd', 'e'];
  const folder = await folderOf(Object.fromEntries(names.map((name) => [`tenants/${name}.env`, vendor.env])));
  await run(folder, [...ALL, '--shard', '0/2']);
  const first = await readdir(join(folder, 'data'));
  await run(folder, [...ALL, '--shard', '2'], { JOB_COMPLETION_INDEX: '1' });
  expect(first.length).toBeLessThan(5);
  expect((await readdir(join(folder, 'data'))).sort()).toEqual(names);
  const tenancies = Array.from({ length: 1000 }, (_, n) => `tenant-${n}`);
  for (const of of [1, 3, 20]) {
    const sizes = Array.from(
      { length: of },
      (_, index) => tenancies.filter((name) => isOfShard(name, { index, of })).length,
    );
    expect(sizes.reduce((a, b) => a + b)).toBe(1000);
    expect(Math.min(...sizes)).toBeGreaterThan(400 / of);
  }
});

test.each(['4/4', '1/0', 'x', '5', '-1/4', ''])('a shard %j is refused', (text) => {
  expect(() => shardFrom(text, environmentOf({}))).toThrow(/is no part of a whole/);
});

test.each([
  [
    'two files of one tenancy',
    { 'tenants/a.env': {}, 'tenants/more/a.env': {} },
    ['--tenants', 'tenants/**/*.env'],
    /both of tenancy a\b/,
  ],
  ['no file', {}, ['--tenants', 'tenants/*.env'], /no file matches tenants\/\*\.env/],
  [
    'a file of another tenancy',
    { 'a.env': { TENANCY: 'b' } },
    ['--tenant', 'a.env'],
    /TENANCY is b, but the file is called a/,
  ],
  ['a name that leads elsewhere', { 'tenants/..env': {} }, ['--tenant', 'tenants/..env'], /tenancy is empty or holds/],
  ['a file that is not there', {}, ['--tenant', 'a.env'], /a\.env: the env file cannot be read \(ENOENT\)/],
  ['a plan of many', { 'tenants/a.env': {} }, ['--tenants', 'tenants/*.env', '--dry-run'], /goes with neither/],
  ['a slot that is no name', {}, ['--slot', '../x'], /write letters, digits/],
])('%s is one sentence', async (_what, files, args, said) => {
  const { code, stderr } = await run(await folderOf(files), args);
  expect(stderr).toMatch(said);
  expect(code).toBe(2);
});

test('a signal ends every tenant cleanly, and no process stays', async () => {
  const vendor = await start({ scale: 4000, latencyMs: 50 });
  const folder = await folderOf({ 'tenants/a.env': vendor.env, 'tenants/b.env': vendor.env });
  const { child, ended } = launch(folder, ALL);
  await vi.waitFor(() => expect(vendor.requests.length).toBeGreaterThan(6), { timeout: 20_000 });
  child.kill('SIGTERM');
  expect((await ended).code).toBe(143);
  expect(await locksIn(folder)).toEqual([]);
});

test('runs end when whoever began them is killed', async () => {
  const vendor = await start({ scale: 4000, latencyMs: 50 });
  const folder = await folderOf({ 'tenants/a.env': vendor.env, 'tenants/b.env': vendor.env });
  const { child } = launch(folder, ALL);
  await vi.waitFor(() => expect(vendor.requests.length).toBeGreaterThan(6), { timeout: 20_000 });
  child.kill('SIGKILL');
  await vi.waitFor(async () => expect(await locksIn(folder)).toEqual([]), { timeout: 15_000 });
});

async function locksIn(folder: string): Promise<readonly string[]> {
  return (await filesBelow(join(folder, 'state', 'locks')).catch(() => [])).filter((path) => path.endsWith('.lock'));
}

test('a tenant is found as soon as its file is there, and not once it is gone', async () => {
  const folder = await folderOf({ 'tenants/acme.env': { OKTA_TOKEN: 'a' } });
  const find = tenantFinder([join(folder, 'tenants', '*.env')]);
  const file = (name: string) => join(folder, 'tenants', name);
  expect(await find('acme')).toEqual({ tenancy: 'acme', file: file('acme.env') });
  expect(await find('globex')).toBeUndefined();
  await rename(file('acme.env'), file('globex.env'));
  expect(await find('globex')).toEqual({ tenancy: 'globex', file: file('globex.env') });
  expect(await find('acme')).toBeUndefined();
});
