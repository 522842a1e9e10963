import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Vendor } from '../../src/simulator/vendor.ts';
import vendor from '../../src/simulator/vendor_google_workspace.ts';
import { collectOnce, resultOf, storedEvents, storedLines, temporaryFolder } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const PAGED = ['users', 'groups', 'roles', 'role_assignments', 'mobile_devices', 'chromeos_devices'];
const SNAPSHOTS = [...PAGED, 'group_members', 'org_units'];
const LOGS = ['login_activities', 'admin_activities', 'token_activities'];
const KEY = 'GOOGLE_WORKSPACE_SERVICE_ACCOUNT_JSON_PATH';

const start = starter(vendor);

/** The vendor with another answer to the first so many requests of a resource. */
function answering(resource: string, status: number, body: object, times = Number.POSITIVE_INFINITY): Vendor {
  let said = 0;
  const routes = vendor.routes.map((route) => {
    if (route.resource !== resource) return route;
    const { paging } = route;
    const answer: typeof paging.answer = (ask) => {
      said += 1;
      return said > times ? paging.answer(ask) : { status, body: JSON.stringify(body) };
    };
    return { ...route, paging: { ...paging, answer } };
  });
  return { ...vendor, routes };
}

function failure(code: number, reason: string): object {
  return { error: { code, message: 'oops', errors: [{ domain: 'usageLimits', reason, message: 'oops' }] } };
}

/** The fields of each line without the one that is ours. */
function vendors(lines: readonly string[] | undefined): readonly string[] | undefined {
  return lines?.map((line) => line.replace(/,"_group_id":"[^"]*"\}$/, '}'));
}

test('every list comes whole and byte for byte, by page token', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['google_workspace'] });
  expect(summary.exit_code).toBe(0);
  for (const resource of SNAPSHOTS) {
    const lines = await storedLines(folder, `google_workspace_${resource}`);
    expect([...(vendors(lines) ?? [])].sort()).toEqual(running.truth(resource).sort());
  }
  for (const resource of LOGS) {
    expect(await storedEvents(folder, `google_workspace_${resource}`)).toEqual(running.truth(resource));
  }
  for (const resource of PAGED) expect(resultOf(summary, `google_workspace_${resource}`).pages).toBe(3);
});

test('lists that are left out of the answer are empty', async () => {
  const running = await start({ scale: 0 });
  const { summary } = await collectOnce({ env: running.env, only: ['google_workspace'] });
  expect(summary.exit_code).toBe(0);
  expect(new Set(summary.datasets.map(({ verdict }) => verdict))).toEqual(new Set(['empty']));
});

test('members tell their group', async () => {
  const running = await start();
  const { folder } = await collectOnce({ env: running.env, only: ['google_workspace.group_members'] });
  const lines = (await storedLines(folder, 'google_workspace_group_members')) ?? [];
  const groups = new Set(lines.map((line) => (JSON.parse(line) as { _group_id: string })._group_id));
  expect(groups.size).toBe(45);
});

test('the key is read from its file too', async () => {
  const running = await start();
  const path = join(await temporaryFolder(), 'key.json');
  await writeFile(path, running.env[KEY] ?? '');
  const { summary } = await collectOnce({ env: { ...running.env, [KEY]: path }, only: ['google_workspace.roles'] });
  expect(summary.exit_code).toBe(0);
});

test.each([
  ['/no/such/key.json', /cannot be read \(ENOENT\)/],
  ['{"client_email":"a"}', /no client_email or no private_key/],
])('a key that is none is told before anything is sent', async (key, message) => {
  const running = await start();
  const { summary } = await collectOnce({ env: { ...running.env, [KEY]: key }, only: ['google_workspace'] });
  expect(summary.exit_code).toBe(2);
  expect(JSON.stringify(summary.problems)).toMatch(message);
  expect(running.requests).toEqual([]);
});

test('a scope that is not authorised denies what needs it alone, and is named', async () => {
  const running = await start({ settings: { unauthorised: 'admin.directory.rolemanagement.readonly' } });
  const { summary } = await collectOnce({ env: running.env, only: ['google_workspace'] });
  expect(summary.exit_code).toBe(3);
  const denied = summary.datasets.filter(({ verdict }) => verdict === 'denied').map(({ tag }) => tag);
  expect(denied.sort()).toEqual(['google_workspace_role_assignments', 'google_workspace_roles']);
  const { reason, mend } = resultOf(summary, 'google_workspace_roles');
  expect(reason).toContain('admin.directory.rolemanagement.readonly');
  expect(mend).toContain('admin.directory.rolemanagement.readonly');
  expect(resultOf(summary, 'google_workspace_users').verdict).toBe('complete');
});

test('an administrator who is not accepted is a matter of credentials', async () => {
  const running = await start();
  const env = { ...running.env, GOOGLE_WORKSPACE_ADMIN_EMAIL: 'nobody@acme.example' };
  const { summary, unredacted } = await collectOnce({ env, only: ['google_workspace.users'] });
  expect(summary.exit_code).toBe(4);
  expect(unredacted.join()).not.toContain('PRIVATE KEY');
});

test('tokens are asked for once a scope, and again when they are refused', async () => {
  const running = await start({ tokenLife: 4 });
  const only = ['google_workspace.users', 'google_workspace.roles', 'google_workspace.role_assignments'];
  const { summary } = await collectOnce({ env: running.env, only });
  expect(summary.exit_code).toBe(0);
  const exchanges = running.requests.filter(({ path }) => path === '/token');
  expect(exchanges.length).toBeGreaterThan(2);
  expect(exchanges.length).toBeLessThan(6);
});

test.each([
  [403, 'rateLimitExceeded'],
  [403, 'userRateLimitExceeded'],
  [403, 'quotaExceeded'],
  [429, 'rateLimitExceeded'],
])('%i %s is waited for', async (status, reason) => {
  const running = await start({}, answering('roles', status, failure(status, reason), 1));
  const { summary } = await collectOnce({ env: running.env, only: ['google_workspace.roles'] });
  expect(resultOf(summary, 'google_workspace_roles')).toMatchObject({ verdict: 'complete', records: 60, retries: 1 });
});

test.each([
  [403, 'forbidden', 'denied', /403/],
  [403, 'accessNotConfigured', 'denied', /not enabled in the project/],
  [403, 'dailyLimitExceeded', 'failed', /quota of the day/],
  [412, 'conditionNotMet', 'denied', /policy of the domain/],
  [200, 'backendError', 'failed', /is an error/],
])('%i %s is not repeated', async (status, reason, verdict, message) => {
  const running = await start({}, answering('mobile_devices', status, failure(status, reason)));
  const { summary } = await collectOnce({
    env: running.env,
    only: ['google_workspace.mobile_devices', 'google_workspace.roles'],
  });
  const result = resultOf(summary, 'google_workspace_mobile_devices');
  expect(result.verdict).toBe(verdict);
  expect(result.reason).toMatch(message);
  expect(running.requests.filter(({ path }) => path.includes('/devices/mobile'))).toHaveLength(1);
  expect(resultOf(summary, 'google_workspace_roles').verdict).toBe('complete');
});

test('a group that was deleted since it was listed has no members', async () => {
  const gone = vendor.routes.map((route) => (route.resource === 'groups' ? { ...route, records: phantom } : route));
  const running = await start({ scale: 4 }, { ...vendor, routes: gone });
  const { summary } = await collectOnce({ env: running.env, only: ['google_workspace.group_members'] });
  expect(resultOf(summary, 'google_workspace_group_members')).toMatchObject({ verdict: 'empty', records: 0 });
});

function phantom() {
  return { count: 1, at: () => '{"id":"00000000000999"}' };
}

test('logs go on where the last run ended', async () => {
  const running = await start();
  const choice = { env: running.env, only: ['google_workspace.login_activities'] };
  const first = await collectOnce(choice);
  expect(resultOf(first.summary, 'google_workspace_login_activities').records).toBe(60);
  const second = await collectOnce({ ...choice, folder: first.folder });
  expect(second.summary.exit_code).toBe(0);
  expect(resultOf(second.summary, 'google_workspace_login_activities').records).toBe(0);
  const again = await collectOnce({ ...choice, folder: first.folder, full: true });
  expect(resultOf(again.summary, 'google_workspace_login_activities').records).toBe(60);
});

test('passwords are not stored', async () => {
  const record = '{"id":"1","password":"canary-a","hashFunction":"SHA-1","primaryEmail":"a@acme.example"}';
  const routes = vendor.routes.map((route) =>
    route.resource === 'users' ? { ...route, records: () => ({ count: 1, at: () => record }) } : route,
  );
  const running = await start({}, { ...vendor, routes });
  const { folder } = await collectOnce({ env: running.env, only: ['google_workspace.users'] });
  expect(await storedLines(folder, 'google_workspace_users')).toEqual(['{"id":"1","primaryEmail":"a@acme.example"}']);
});
