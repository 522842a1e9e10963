import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { uploadIdOf } from '../../src/run/slot.ts';
import { type Fleet, makeFleet } from '../support/fleet.ts';
import { needed } from '../support/needed.ts';
import { temporaryFolder } from '../support/run.ts';

const redisUrl = `${needed('TEST_REDIS_URL')}/9`;
const postgresUrl = needed('TEST_POSTGRES_URL');

/** All that lies in a queue's storage, as text. */
const storages = {
  redis: {
    url: redisUrl,
    clear: () => overRedis((redis) => redis.flushdb()),
    dump: () =>
      overRedis(async (redis) => {
        const keys = await redis.keys('*');
        const values = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
        return [...keys, ...values.map((value) => value?.toString('latin1'))].join('\n');
      }),
  },
  postgres: {
    url: postgresUrl,
    clear: () => overPostgres((client) => client.query('DROP SCHEMA IF EXISTS bullmq CASCADE')),
    dump: () =>
      overPostgres(async (client) => {
        const { rows } = await client.query(`SELECT tablename FROM pg_tables WHERE schemaname = 'bullmq'`);
        const texts = [];
        for (const { tablename } of rows) {
          const found = await client.query(`SELECT t::text AS row FROM bullmq."${tablename}" t`);
          texts.push(...found.rows.map(({ row }) => row));
        }
        return texts.join('\n');
      }),
  },
};

async function overRedis<T>(work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(redisUrl);
  return work(redis).finally(() => redis.disconnect());
}

async function overPostgres<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(postgresUrl);
  await client.connect();
  return work(client).finally(() => client.end());
}

const SLOT = '2026-11-21T03';
const DATASETS = 12; // of both

describe.each(['redis', 'postgres'] as const)('a fleet on %s', (kind) => {
  const storage = storages[kind];
  let fleet: Fleet;

  beforeEach(async () => {
    await storage.clear();
    fleet = await makeFleet(await temporaryFolder(), storage.url, 6, { OKTA_CANARY: 'hush-fleet-canary-1' });
  });

  afterEach(async () => {
    await Promise.all(fleet.vendors.map((vendor) => vendor.close()));
  });

  const submit = (...args: readonly string[]) =>
    fleet.program('fleet', 'submit', 'tenants/*.env', '--slot', SLOT, '--spread', '0', '-o', 'json', ...args);
  const status = async () => JSON.parse((await fleet.program('fleet', 'status', '-o', 'json')).stdout);
  const drained = async () => {
    for (const { waiting, delayed, active } of await status()) expect(waiting + delayed + active).toBe(0);
  };

  /** Every dataset of every tenancy under the id of the slot. */
  async function expectWhole(): Promise<void> {
    const stored = await fleet.stored();
    expect(stored.size).toBe(fleet.tenants.length * DATASETS);
    for (const [name, upload] of stored) {
      const [tenancy = '', tag = ''] = name.split(' ');
      expect(upload).toBe(uploadIdOf(SLOT, tenancy, tag));
    }
  }

  test('runs are submitted once, stored once, and nothing secret lies in the queue', async () => {
    const first = await submit();
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(first.stdout).collectors).toEqual([
      { collector: 'crowdstrike', asked: 6, added: 6 },
      { collector: 'okta', asked: 6, added: 6 },
    ]);
    expect(JSON.parse((await submit()).stdout).collectors).toMatchObject([{ added: 0 }, { added: 0 }]);
    const [code] = await once(fleet.worker('--jobs', '3', '--idle-exit', '2s'), 'exit');
    expect(code).toBe(0);
    await expectWhole();
    expect(await status()).toMatchObject([
      { completed: 6, failed: 0 },
      { completed: 6, failed: 0 },
    ]);
    expect(JSON.parse((await submit()).stdout).collectors).toMatchObject([{ added: 0 }, { added: 0 }]);
    const lying = await storage.dump();
    expect(lying).toContain('tenant-3');
    const secrets = fleet.vendors.flatMap(({ env }) => Object.values(env)).filter((value) => !value.startsWith('http'));
    for (const secret of [...secrets, 'hush-fleet-canary-1']) expect(lying).not.toContain(secret);
  });

  test('workers that are killed lose nothing', async () => {
    await submit();
    const workers = [0, 1].map(() => fleet.worker('--jobs', '3'));
    for (let kill = 0; kill < 3; kill += 1) {
      const before = fleet.vendors.reduce((sum, { requests }) => sum + requests.length, 0);
      await vi.waitFor(
        () =>
          expect(fleet.vendors.reduce((sum, { requests }) => sum + requests.length, 0)).toBeGreaterThan(before + 20),
        { timeout: 40_000 },
      );
      workers[kill % 2]?.kill('SIGKILL');
      workers[kill % 2] = fleet.worker('--jobs', '3');
    }
    await vi.waitFor(drained, { timeout: 110_000, interval: 1000 });
    for (const worker of workers) worker.kill('SIGTERM');
    await Promise.all(workers.map((worker) => once(worker, 'exit')));
    await expectWhole();
    for (const { completed, failed } of await status()) expect([completed, failed]).toEqual([6, 0]);
  }, 200_000);

  test('a worker that is told to stop lets its runs end', async () => {
    await submit();
    const worker = fleet.worker('--jobs', '2');
    await vi.waitFor(() => expect(fleet.vendors[0]?.requests.length).toBeGreaterThan(3), { timeout: 40_000 });
    worker.kill('SIGTERM');
    const [code] = await once(worker, 'exit');
    expect(code).toBe(0);
    for (const { active, completed } of await status()) expect([active, completed > 0]).toEqual([0, true]);
  });

  test('what a person has to mend waits for one, is listed, and is tried again when asked', async () => {
    const good = fleet.vendors.map(({ env }) =>
      Object.entries(env)
        .map(([name, value]) => `${name}='${value}'\n`)
        .join(''),
    );
    const path = join(fleet.folder, 'tenants', 'tenant-2.env');
    await writeFile(path, `${good[1]}OKTA_DOMAIN='${fleet.vendors[0]?.env.OKTA_DOMAIN}'\nOKTA_TOKEN='wrong'\n`);
    await submit('--only', 'okta');
    await once(fleet.worker('--jobs', '3', '--idle-exit', '2s'), 'exit');
    const { stdout } = await fleet.program('fleet', 'failed', '-o', 'json');
    expect(JSON.parse(stdout)).toMatchObject([
      {
        collector: 'okta',
        tenancy: 'tenant-2',
        slot: SLOT,
        attempts: 1,
        reason: expect.stringMatching(/^exit 4: okta_/),
      },
    ]);
    await writeFile(path, good.join(''));
    expect(JSON.parse((await fleet.program('fleet', 'retry', '-o', 'json')).stdout)).toEqual([
      { collector: 'okta', runs: 1 },
    ]);
    await once(fleet.worker('--jobs', '3', '--idle-exit', '2s'), 'exit');
    expect(await status()).toMatchObject([{ collector: 'okta', completed: 6, failed: 0 }]);
  });

  test('limits hold over all workers, and a collector can be paused', async () => {
    await writeFile(join(fleet.folder, 'limits.json'), '{"okta":{"starts":{"most":1,"seconds":1}}}');
    await submit('--only', 'okta', '--limits', 'limits.json');
    expect((await fleet.program('fleet', 'pause', 'okta')).code).toBe(0);
    await once(fleet.worker('--jobs', '3', '--idle-exit', '2s'), 'exit');
    expect(await status()).toMatchObject([{ collector: 'okta', waiting: 6, paused: true }]);
    await fleet.program('fleet', 'resume', 'okta');
    const begun = Date.now();
    await Promise.all([0, 1].map(() => once(fleet.worker('--jobs', '6', '--idle-exit', '3s'), 'exit')));
    expect(await status()).toMatchObject([{ collector: 'okta', completed: 6 }]);
    expect(Date.now() - begun).toBeGreaterThan(5000);
  });

  test('a collector that nobody knows, and limits that are none, are one sentence', async () => {
    const pause = await fleet.program('fleet', 'pause', 'octa');
    expect(pause).toMatchObject({ code: 2, stderr: expect.stringContaining("no collector is called 'octa'") });
    await writeFile(join(fleet.folder, 'limits.json'), '{"okta":{"starts":{"most":0,"seconds":1}}}');
    const limits = await submit('--limits', 'limits.json');
    expect(limits).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/limits\.json holds no limits: okta\.starts\.most/),
    });
    await writeFile(join(fleet.folder, 'tenants', 'empty.env'), 'X=1\n');
    expect(await submit()).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/empty\.env: it switches on no collector/),
    });
  });
});

test('jobs of another version, or that are no runs, are left or set aside', async () => {
  await storages.redis.clear();
  const fleet = await makeFleet(await temporaryFolder(), redisUrl, 1);
  const queue = new Queue('cyber-collect-okta', { connection: { url: redisUrl } });
  await queue.add('run-99', { tenancy: 'tenant-0', collector: 'okta', slot: 's' });
  await queue.add('run-1', { tenancy: '../etc', collector: 'okta', slot: 's', command: 'rm' });
  await once(fleet.worker('--jobs', '2', '--idle-exit', '2s', '--only', 'okta'), 'exit');
  expect(await queue.getJobCounts('delayed', 'failed', 'completed')).toEqual({ delayed: 1, failed: 1, completed: 0 });
  expect((await queue.getFailed())[0]?.failedReason).toBe('it is no run');
  await queue.close();
  expect((await fleet.stored()).size).toBe(0);
  await Promise.all(fleet.vendors.map((vendor) => vendor.close()));
});

test('a queue that goes away and comes back changes nothing', async () => {
  await storages.redis.clear();
  const fleet = await makeFleet(await temporaryFolder(), redisUrl, 4);
  await fleet.program('fleet', 'submit', 'tenants/*.env', '--slot', SLOT, '--spread', '0');
  const worker = fleet.worker('--jobs', '2', '--idle-exit', '6s');
  await vi.waitFor(() => expect(fleet.vendors[0]?.requests.length).toBeGreaterThan(3), { timeout: 40_000 });
  for (let cut = 0; cut < 3; cut += 1) {
    await overRedis((redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'));
    await sleep(300);
  }
  await once(worker, 'exit');
  expect((await fleet.stored()).size).toBe(4 * DATASETS);
  await Promise.all(fleet.vendors.map((vendor) => vendor.close()));
});

/** A Redis that keeps what it was told, in a folder. */
async function ownRedis(folder: string): Promise<{ url: string; start(): Promise<void>; kill(): Promise<void> }> {
  const port = await freePort();
  const url = `redis://127.0.0.1:${port}`;
  const told = {
    port: String(port),
    bind: '127.0.0.1',
    dir: folder,
    appendonly: 'yes',
    'maxmemory-policy': 'noeviction',
  };
  let server: ChildProcess;
  return {
    url,
    async start() {
      server = spawn(
        'redis-server',
        Object.entries(told).flatMap(([name, value]) => [`--${name}`, value]),
      );
      const redis = new Redis(url, { maxRetriesPerRequest: null });
      redis.on('error', () => undefined); // until it answers
      await redis.ping().finally(() => redis.disconnect());
    },
    async kill() {
      server.kill('SIGKILL');
      await once(server, 'exit');
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return port;
}

test('a Redis with AOF that is killed loses no run', async () => {
  const folder = await temporaryFolder();
  const redis = await ownRedis(await temporaryFolder());
  await redis.start();
  const fleet = await makeFleet(folder, redis.url, 4);
  await fleet.program('fleet', 'submit', 'tenants/*.env', '--slot', SLOT, '--spread', '0');
  const worker = fleet.worker('--jobs', '2');
  for (const requests of [5, 60]) {
    await vi.waitFor(() => expect(fleet.vendors[0]?.requests.length).toBeGreaterThan(requests), { timeout: 40_000 });
    await sleep(1000); // what appendfsync everysec leaves open
    await redis.kill();
    await redis.start();
  }
  await vi.waitFor(
    async () => {
      const { stdout } = await fleet.program('fleet', 'status', '-o', 'json');
      expect(JSON.parse(stdout)).toMatchObject([{ completed: 4 }, { completed: 4 }]);
    },
    { timeout: 120_000, interval: 1000 },
  );
  worker.kill('SIGTERM');
  await once(worker, 'exit');
  await redis.kill();
  const stored = await fleet.stored();
  expect(stored.size).toBe(4 * DATASETS);
  for (const [name, upload] of stored) {
    const [tenancy = '', tag = ''] = name.split(' ');
    expect(upload).toBe(uploadIdOf(SLOT, tenancy, tag));
  }
  await Promise.all(fleet.vendors.map((vendor) => vendor.close()));
}, 240_000);

test('a worker that is frozen with its runs, replaced, and thawed changes nothing', async () => {
  await storages.redis.clear();
  const fleet = await makeFleet(await temporaryFolder(), redisUrl, 2);
  await fleet.program('fleet', 'submit', 'tenants/*.env', '--slot', SLOT, '--spread', '0', '--only', 'okta');
  const frozen = fleet.worker('--jobs', '2');
  await vi.waitFor(() => expect(fleet.vendors[0]?.requests.length).toBeGreaterThan(3), { timeout: 40_000 });
  const processes = [frozen.pid ?? 0, ...(await childrenOf(frozen.pid ?? 0))];
  expect(processes.length).toBeGreaterThan(1);
  for (const pid of processes) process.kill(pid, 'SIGSTOP');
  const other = fleet.worker('--jobs', '2', '--idle-exit', '150s');
  await vi.waitFor(
    async () => {
      const { stdout } = await fleet.program('fleet', 'status', '-o', 'json');
      expect(JSON.parse(stdout)).toMatchObject([{ collector: 'okta', completed: 2 }]);
    },
    { timeout: 180_000, interval: 2000 },
  );
  const before = await fleet.stored();
  for (const pid of processes) process.kill(pid, 'SIGCONT');
  for (const worker of [frozen, other]) worker.kill('SIGTERM');
  await Promise.all([frozen, other].map((worker) => worker.exitCode ?? once(worker, 'exit')));
  expect(await fleet.stored()).toEqual(before);
  expect(before.size).toBe(16);
  for (const [name, upload] of before) {
    const [tenancy = '', tag = ''] = name.split(' ');
    expect(upload).toBe(uploadIdOf(SLOT, tenancy, tag));
  }
  await Promise.all(fleet.vendors.map((vendor) => vendor.close()));
}, 300_000);

async function childrenOf(pid: number): Promise<readonly number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.trim().split(' ').map(Number);
}
