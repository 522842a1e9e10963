import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import build, { root } from '../support/build.ts';
import { bridge, namespaceOf, readTopic, recordsIn, service } from '../support/pulsar.ts';
import { temporaryFolder } from '../support/run.ts';

const children: ChildProcess[] = [];
let namespace = '';

beforeAll(async () => {
  await build();
  namespace = await namespaceOf(true);
});

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

/** Follows a log into the topic `syslog_events`, by way of a URL. */
function follow(folder: string, topic: string, url: string) {
  const args = [join(root, 'bin', 'cyber-collect.js'), 'run', '--only', 'syslog', '--follow', '0.1'];
  const child = spawn(process.execPath, args, {
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      SYSLOG_PATHS: join(folder, 'logs', '*.log'),
      STORE_FILE: 'none',
      STORE_PULSAR_URL: url,
      STORE_PULSAR_TOPIC: `${namespace}/${topic}`,
      STORE_PULSAR_SHAPE: 'event',
      CYBER_COLLECT_STATE: join(folder, 'state'),
    },
    stdio: 'ignore',
  });
  children.push(child);
  return { child, ended: once(child, 'close') };
}

async function logFolder(): Promise<{ folder: string; log: string }> {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'logs'));
  const log = join(folder, 'logs', 'app.log');
  await writeFile(log, '');
  return { folder, log };
}

const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, n) => `Oct 11 22:14:15 host app[1]: message ${from + n}`);
const grow = (log: string, from: number, to: number) => appendFile(log, `${lines(from, to).join('\n')}\n`);

async function shipped(topic: string): Promise<string[]> {
  const events = recordsIn(await readTopic(namespace, topic)).map((text) => JSON.parse(text) as { data: string });
  return events.map(({ data }) => data);
}

test('a broker that is away for longer than it is waited for, and a kill meanwhile, lose and double no line', async () => {
  const { folder, log } = await logFolder();
  const way = await bridge();
  await grow(log, 0, 500);
  const first = follow(folder, 'lines', way.url);
  await vi.waitFor(async () => expect(await shipped('lines')).toHaveLength(500), 30_000);
  way.cut();
  await grow(log, 500, 3000);
  const waiting = () => readdir(join(folder, 'state', 'outbox', 'default', 'pulsar'));
  await vi.waitFor(async () => expect((await waiting()).length).toBeGreaterThan(0), 90_000);
  await grow(log, 3000, 3500);
  first.child.kill('SIGKILL');
  await first.ended;
  await grow(log, 3500, 4000);
  way.mend();
  const second = follow(folder, 'lines', way.url);
  await vi.waitFor(async () => expect((await shipped('lines')).length).toBeGreaterThanOrEqual(4000), 60_000);
  second.child.kill('SIGTERM');
  await second.ended;
  expect(await shipped('lines')).toEqual(lines(0, 4000));
  await way.close();
}, 240_000);

test('connections that break, and kills, at any moment lose and double no line', async () => {
  const { folder, log } = await logFolder();
  const way = await bridge();
  let written = 0;
  for (let round = 0; round < 6; round += 1) {
    const { child, ended } = follow(folder, 'broken', way.url);
    const before = (await shipped('broken')).length;
    for (let n = 0; n < 5; n += 1) {
      const passed = way.passed(); // before they can be under way
      await grow(log, written, written + 400);
      written += 400;
      await vi.waitFor(() => expect(way.passed()).toBeGreaterThan(passed + 20_000), { timeout: 30_000, interval: 1 });
      way.cut();
      way.mend();
    }
    await vi.waitFor(async () => expect((await shipped('broken')).length).toBeGreaterThan(before), 30_000);
    child.kill('SIGKILL');
    await ended;
  }
  const { child, ended } = follow(folder, 'broken', service);
  await vi.waitFor(async () => expect((await shipped('broken')).length).toBeGreaterThanOrEqual(written), 60_000);
  child.kill('SIGTERM');
  await ended;
  expect(await shipped('broken')).toEqual(lines(0, written));
  await way.close();
}, 240_000);
