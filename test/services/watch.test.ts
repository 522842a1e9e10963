import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { tenantOf } from '../support/entra.ts';
import { needed } from '../support/needed.ts';
import { OLDER_CONFIG } from '../support/older.ts';
import { program } from '../support/program.ts';
import { temporaryFolder } from '../support/run.ts';
import { searchReader } from '../support/search.ts';
import { json, type Route } from '../support/server.ts';

const url = needed('TEST_ELASTICSEARCH_URL');
const stem = `t${randomUUID().slice(0, 8)}`;
const reader = searchReader(url);

afterAll(() => reader.wipe(stem));

const E3 = '05e9a617-0261-4cee-bb44-138d3ef5d965';
const user = (id: string, department: string) => ({ id, department, assignedLicenses: [{ skuId: E3 }] });
const device = { id: 'd1', deviceName: 'laptop', model: 'M', osVersion: '10' };

/** A directory that changes as told, and the older system's .env that leads to it. */
async function directory() {
  const state = { users: [user('u1', 'one'), user('u2', 'one')], apps: ['a1', 'a2'], broken: false };
  const route: Route = ({ url: { pathname }, body }, response) => {
    if (pathname === '/v1.0/subscribedSkus') return json(response, { value: [{ skuId: E3, skuPartNumber: 'SPE_E3' }] });
    if (pathname === '/v1.0/deviceManagement/managedDevices') return json(response, { value: [device] });
    if (pathname === '/v1.0/users') {
      const error = { code: 'Authorization_RequestDenied', message: 'no' };
      if (state.broken) return json(response, { error }, 403);
      return json(response, { '@odata.count': state.users.length, value: state.users });
    }
    const { requests } = JSON.parse(body) as { requests: readonly { id: string }[] };
    const value = state.apps.map((id) => ({ id, displayName: id }));
    return json(response, { responses: requests.map(({ id }) => ({ id, status: 200, body: { value } })) });
  };
  const { origin, received } = await tenantOf('MICROSOFT365', route);
  const env = {
    MS_CLIENT_ID: 'c',
    MS_CLIENT_SECRET: 'canary-client-secret',
    MS_TENANT_ID: 't',
    ES_CLOUD: url,
    ES_API_KEY: 'Y2FuYXJ5OmFwaS1rZXk=',
    MICROSOFT365_BASE_URL: origin.href,
    MICROSOFT365_AUTHORITY: origin.href,
    STORE_ELASTICSEARCH_INDEX: `${stem}-%TAG`,
  };
  return { state, env, received };
}

interface Kept {
  readonly id: string;
  readonly department?: string;
  readonly _licenses?: readonly string[];
  readonly _device?: object;
}

async function archived(folder: string, tag: string): Promise<readonly Kept[]> {
  const text = await readFile(join(folder, 'archived', `${tag}.json`), 'utf8');
  return (JSON.parse(text) as { data: readonly Kept[] }).data;
}

const searched = async (tag: string) =>
  (await reader.records(`${stem}-${tag}`)).map((record) => JSON.parse(record) as Kept);

async function watching(folder: string, config: string, env: Readonly<Record<string, string>>) {
  await writeFile(join(folder, 'config.json'), config);
  const { child, ended } = program(folder, ['watch', '--config', 'config.json'], env);
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const times = (what: RegExp) => stderr.match(what)?.length ?? 0;
  return {
    until: (what: RegExp, least = 1) =>
      vi.waitFor(() => expect(times(what)).toBeGreaterThanOrEqual(least), { timeout: 60_000, interval: 20 }),
    times,
    stop() {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

test('the older system’s .env and config.json, as they are, fill Elasticsearch and merged files', async () => {
  const { env, received } = await directory();
  const folder = await temporaryFolder();
  const watch = await watching(folder, OLDER_CONFIG, env);
  await watch.until(/ms_users: complete, next run at/g);
  await watch.until(/ms_device_apps: complete, next run at/g);
  const { code, stdout, stderr } = await watch.stop();
  expect(code).toBe(0);
  expect(stdout + stderr).not.toMatch(/canary|Y2FuYXJ5/);
  const users = await archived(folder, 'microsoft365_users');
  expect(users.map(({ id, _licenses }) => [id, _licenses])).toEqual([
    ['u1', ['E3']],
    ['u2', ['E3']],
  ]);
  expect(await searched('microsoft365_users')).toEqual(users);
  const apps = await archived(folder, 'microsoft365_device_apps');
  const chosen = { id: 'd1', deviceName: 'laptop', osVersion: '10' };
  expect(apps.map(({ id, _device }) => [id, _device])).toEqual([
    ['a1', chosen],
    ['a2', chosen],
  ]);
  expect(await searched('microsoft365_device_apps')).toEqual(apps);
  const select = received.find(({ url: asked }) => asked.pathname.endsWith('managedDevices'))?.url.searchParams;
  expect(select?.get('$select')).toBe(
    'id,deviceName,userId,userDisplayName,emailAddress,operatingSystem,osVersion,lastSyncDateTime',
  );
});

test('rounds that fail are tried again after fail_sleep, and files remember what the directory has forgotten', async () => {
  const { state, env } = await directory();
  const folder = await temporaryFolder();
  const watch = await watching(folder, OLDER_CONFIG.replaceAll('"sleep": 3600', '"sleep": 1'), env);
  await watch.until(/microsoft365_users: complete, 2 records/g);
  await watch.until(/microsoft365_device_apps: complete, 2 records/g);
  state.broken = true;
  await watch.until(/microsoft365_users: denied/g, 2);
  await watch.until(/ms_users: not complete \(exit code 3\), next run at/g);
  const apps = watch.times(/microsoft365_device_apps: complete/g);
  await watch.until(/microsoft365_device_apps: complete/g, apps + 1);
  state.users = [user('u1', 'two'), user('u3', 'two')];
  state.apps = ['a2', 'a3'];
  state.broken = false;
  await watch.until(/ms_users: complete, next run at/g, 2);
  const later = watch.times(/microsoft365_device_apps: complete/g);
  await watch.until(/microsoft365_device_apps: complete/g, later + 2);
  const { code } = await watch.stop();
  expect([0, 143]).toContain(code);
  const users = await archived(folder, 'microsoft365_users');
  expect(Object.fromEntries(users.map(({ id, department }) => [id, department]))).toEqual({
    u1: 'two',
    u2: 'one',
    u3: 'two',
  });
  const ids = (records: readonly Kept[]) => records.map(({ id }) => id).sort();
  expect(ids(await archived(folder, 'microsoft365_device_apps'))).toEqual(['a1', 'a2', 'a3']);
  expect(ids(await searched('microsoft365_users'))).toEqual(['u1', 'u3']);
  expect(ids(await searched('microsoft365_device_apps'))).toEqual(['a2', 'a3']);
});
