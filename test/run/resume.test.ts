import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { RunSummary } from '../../src/run/summary.ts';
import { type RunningVendor, startVendor, type Vendor, type VendorOptions } from '../../src/simulator/vendor.ts';
import crowdstrike from '../../src/simulator/vendor_crowdstrike.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import tenableio from '../../src/simulator/vendor_tenableio.ts';
import { root } from '../support/build.ts';
import { storedLines, temporaryFolder } from '../support/run.ts';

const ending: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ending.splice(0)) await end();
});

async function start(vendor: Vendor, options: VendorOptions = {}): Promise<RunningVendor> {
  const running = await startVendor(vendor, { scale: 600, pageSize: 25, latencyMs: 5, ...options });
  ending.push(() => running.close());
  return running;
}

interface Place {
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
}

/** The program itself, in a process of its own, with nothing but this environment. */
function spawnRun({ folder, env }: Place, ...flags: readonly string[]): { child: ChildProcess; text: Promise<string> } {
  const args = ['--', join(root, 'bin', 'cyber-collect.js'), 'run', '--output', 'json', '--quiet', ...flags];
  const child = spawn(process.execPath, args, {
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      STORE_FILE: join(folder, 'data', '%TAG.ndjson'),
      CYBER_COLLECT_STATE: join(folder, 'state'),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  ending.push(() => child.kill('SIGKILL'));
  const text = (async () => {
    let out = '';
    for await (const chunk of child.stdout ?? []) out += chunk;
    return out;
  })();
  return { child, text };
}

async function runToItsEnd(place: Place, ...flags: readonly string[]): Promise<RunSummary> {
  const { child, text } = spawnRun(place, ...flags);
  const [code] = (await once(child, 'exit')) as [number];
  const summary = JSON.parse(await text) as RunSummary;
  expect(code).toBe(summary.exit_code);
  return summary;
}

/** Kills a run once the vendor has been asked so often, and a page of its is kept. */
async function killAt(vendor: RunningVendor, place: Place, requests: number, ...flags: readonly string[]) {
  const { child } = spawnRun(place, ...flags);
  await vi.waitFor(() => expect(vendor.requests.length).toBeGreaterThanOrEqual(requests), {
    timeout: 20_000,
    interval: 1,
  });
  await vi.waitFor(
    async () => {
      const journals = (await below(join(place.folder, 'state'))).filter((path) => path.endsWith('.journal'));
      const texts = await Promise.all(journals.map((path) => readFile(path, 'utf8')));
      expect(texts.join()).toContain('"mark"');
    },
    { timeout: 20_000, interval: 1 },
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** Data requests that were asked more than once. */
function askedTwice({ requests }: RunningVendor): number {
  const paths = requests.map(({ method, path }) => `${method} ${path}`).filter((path) => !path.includes('token'));
  return paths.length - new Set(paths).size;
}

async function below(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
}

describe('a run that was killed', () => {
  test('goes on from its last page, and what was stored is not asked for again', async () => {
    const vendor = await start(okta);
    const place = { folder: await temporaryFolder(), env: vendor.env };
    const only = ['--only', 'okta.users,okta.groups,okta.group_members'];
    await killAt(vendor, place, 12, ...only);
    await killAt(vendor, place, 20, ...only);
    const summary = await runToItsEnd(place, ...only);
    expect(summary.exit_code).toBe(0);
    expect(summary.datasets.some(({ resumed }) => resumed === true)).toBe(true);
    expect(await storedLines(place.folder, 'okta_users')).toEqual(vendor.truth('users'));
    expect(await storedLines(place.folder, 'okta_groups')).toEqual(vendor.truth('groups'));
    const members = (await storedLines(place.folder, 'okta_group_members')) ?? [];
    expect(members.map((line) => line.replace(/,"_group_id":"[^"]+"}$/, '}'))).toEqual(vendor.truth('group_members'));
    // What was under way when it was killed: 2 pages of each list, 8 of the children.
    expect(askedTwice(vendor)).toBeLessThanOrEqual(2 * 12);
    expect((await below(join(place.folder, 'state'))).filter((path) => /work|spool/.test(path))).toEqual([]);
  });

  test.each([
    ['ids with details, a cursor each', crowdstrike, 'crowdstrike_zero_trust_assessment', 'zero_trust_assessment', 14],
    ['a cursor in the body', crowdstrike, 'crowdstrike_vulnerabilities', 'vulnerabilities', 10],
    ['an export by chunks', tenableio, 'tenableio_assets', 'assets', 8],
  ])('%s', async (_name, vendorOf, tag, resource, requests) => {
    const vendor = await start(vendorOf, { latencyMs: 15 });
    const place = { folder: await temporaryFolder(), env: vendor.env };
    const env = { ...vendor.env, TIO_POLL_SECONDS: '1' };
    await killAt(vendor, { ...place, env }, requests, '--only', tag);
    const before = vendor.requests.length;
    const summary = await runToItsEnd({ ...place, env }, '--only', tag);
    expect(summary.datasets).toMatchObject([{ verdict: 'complete', resumed: true }]);
    expect([...((await storedLines(place.folder, tag)) ?? [])].sort()).toEqual([...vendor.truth(resource)].sort());
    expect(vendor.requests.length).toBeGreaterThan(before);
  });

  test('starts again where the cursor has died', async () => {
    const vendor = await start(okta);
    const place = { folder: await temporaryFolder(), env: vendor.env };
    await killAt(vendor, place, 8, '--only', 'okta.users');
    const [journal = ''] = (await below(join(place.folder, 'state', 'work'))).filter((path) =>
      path.endsWith('.journal'),
    );
    await writeFile(journal, (await readFile(journal, 'utf8')).replaceAll(/after=[^"&]+/g, 'after=dead'));
    const summary = await runToItsEnd(place, '--only', 'okta.users');
    expect(summary.exit_code).toBe(0);
    expect(await storedLines(place.folder, 'okta_users')).toEqual(vendor.truth('users'));
  });

  test.each([
    ['--fresh', ['--fresh'], {}],
    ['CYBER_COLLECT_RESUME_HOURS=0', [], { CYBER_COLLECT_RESUME_HOURS: '0' }],
    ['another setting of the collector', [], { OKTA_CONCURRENCY: '3' }],
  ])('starts again with %s', async (_name, flags, env) => {
    const vendor = await start(okta);
    const place = { folder: await temporaryFolder(), env: vendor.env };
    await killAt(vendor, place, 8, '--only', 'okta.users');
    const again = { ...place, env: { ...vendor.env, ...env } };
    const summary = await runToItsEnd(again, '--only', 'okta.users', ...flags);
    expect(summary.datasets[0]?.resumed).toBeUndefined();
    expect(summary.datasets[0]?.requests).toBe(24);
    expect(await storedLines(place.folder, 'okta_users')).toEqual(vendor.truth('users'));
  });

  test('whose spool was damaged starts again', async () => {
    const vendor = await start(okta);
    const place = { folder: await temporaryFolder(), env: vendor.env };
    await killAt(vendor, place, 8, '--only', 'okta.users');
    const [spool = ''] = (await below(join(place.folder, 'state', 'work'))).filter((path) => path.endsWith('.tmp'));
    await rm(spool);
    const summary = await runToItsEnd(place, '--only', 'okta.users');
    expect(summary.exit_code).toBe(0);
    expect(await storedLines(place.folder, 'okta_users')).toEqual(vendor.truth('users'));
  });

  test('keeps its time and upload: what it had stored is stored once', async () => {
    const vendor = await start(okta);
    const folder = await temporaryFolder();
    const env = { ...vendor.env, STORE_FILE: join(folder, 'data', '%TAG-%UUID.json') };
    await killAt(vendor, { folder, env }, 14, '--only', 'okta.users,okta.groups');
    const summary = await runToItsEnd({ folder, env }, '--only', 'okta.users,okta.groups');
    expect(summary.exit_code).toBe(0);
    expect((await readdir(join(folder, 'data'))).filter((name) => !name.startsWith('.'))).toHaveLength(2);
  });
});

test('twenty runs that overlap and are stopped at random store the whole or nothing, each says why', async () => {
  const vendor = await start(okta, { latencyMs: 3 });
  const place = { folder: await temporaryFolder(), env: vendor.env };
  const codes: (number | string)[] = [];
  const seen = new Set<number>();
  const truth = vendor.truth('users');
  const runs = Array.from({ length: 20 }, async (_, n) => {
    await sleep(n * 150 + Math.random() * 300);
    const { child } = spawnRun(place, '--only', 'okta.users');
    const ended = once(child, 'exit') as Promise<[number | null, string | null]>;
    if (n % 3 !== 0) {
      await Promise.race([sleep(200 + Math.random() * 900), ended]);
      child.kill(n % 3 === 1 ? 'SIGTERM' : 'SIGKILL');
    }
    const [code, signal] = await ended;
    codes.push(code ?? signal ?? '');
    const stored = await storedLines(place.folder, 'okta_users');
    if (stored !== undefined) seen.add(stored.length);
  });
  await Promise.all(runs);
  // Whoever is killed before Node listens to signals ends by the signal itself.
  for (const code of codes) expect([0, 8, 143, 'SIGTERM', 'SIGKILL']).toContain(code);
  expect([...seen].every((count) => count === truth.length)).toBe(true);
  expect((await runToItsEnd(place, '--only', 'okta.users')).exit_code).toBe(0);
  expect(await storedLines(place.folder, 'okta_users')).toEqual(truth);
  expect((await below(join(place.folder, 'state'))).filter((path) => /work|spool|locks/.test(path))).toEqual([]);
}, 90_000);

describe('a run that is told to stop', () => {
  test('stops within five seconds, tells so, and leaves what the next one goes on with', async () => {
    const vendor = await start(okta, { latencyMs: 30 });
    const place = { folder: await temporaryFolder(), env: vendor.env };
    const { child, text } = spawnRun(place, '--only', 'okta.users');
    await vi.waitFor(() => expect(vendor.requests.length).toBeGreaterThan(6), { timeout: 20_000, interval: 1 });
    const at = Date.now();
    child.kill('SIGTERM');
    const [code] = (await once(child, 'exit')) as [number];
    expect(code).toBe(143);
    expect(Date.now() - at).toBeLessThan(5000);
    expect((JSON.parse(await text) as RunSummary).exit_code).toBe(143);
    const summary = await runToItsEnd(place, '--only', 'okta.users');
    expect(summary.datasets).toMatchObject([{ verdict: 'complete', resumed: true }]);
    expect(askedTwice(vendor)).toBeLessThanOrEqual(2);
    expect(await storedLines(place.folder, 'okta_users')).toEqual(vendor.truth('users'));
  });

  test('stops within five seconds though a store does not answer; the next one delivers without the vendor', async () => {
    const vendor = await start(okta);
    const silent = createServer();
    const held = new Set<Socket>();
    silent.on('connection', (socket) => held.add(socket));
    await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening));
    ending.push(() => {
      for (const socket of held) socket.destroy();
      silent.close();
    });
    const place = { folder: await temporaryFolder(), env: vendor.env };
    const stuck = {
      STORE_POSTGRES_HOST: '127.0.0.1',
      STORE_POSTGRES_PORT: String((silent.address() as AddressInfo).port),
      STORE_POSTGRES_PASSWORD: 'invented',
      STORE_POSTGRES_SSLMODE: 'disable',
    };
    const { child } = spawnRun({ ...place, env: { ...vendor.env, ...stuck } }, '--only', 'okta.users');
    await vi.waitFor(() => expect(held.size).toBeGreaterThan(0), { timeout: 20_000, interval: 5 });
    const at = Date.now();
    child.kill('SIGTERM');
    expect(((await once(child, 'exit')) as [number])[0]).toBe(143);
    expect(Date.now() - at).toBeLessThan(5000);
    const asked = vendor.requests.length;
    const summary = await runToItsEnd(place, '--only', 'okta.users');
    expect(summary.datasets).toMatchObject([{ verdict: 'complete', resumed: true }]);
    expect(vendor.requests.length).toBe(asked);
    expect(await storedLines(place.folder, 'okta_users')).toEqual(vendor.truth('users'));
  }, 60_000);

  test('at its deadline, likewise', async () => {
    const vendor = await start(okta, { latencyMs: 60 });
    const place = { folder: await temporaryFolder(), env: vendor.env };
    await mkdir(join(place.folder, 'data'));
    expect((await runToItsEnd(place, '--only', 'okta.users', '--deadline', '1')).exit_code).toBe(124);
    const summary = await runToItsEnd(place, '--only', 'okta.users');
    expect(summary.datasets).toMatchObject([{ verdict: 'complete', resumed: true }]);
    expect(await storedLines(place.folder, 'okta_users')).toEqual(vendor.truth('users'));
  });
});
