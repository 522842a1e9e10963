import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { WebSocket } from 'undici';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { positionOf } from '../../src/stores/_pulsar.ts';
import { type Broker, brokerIn } from '../support/broker.ts';
import build from '../support/build.ts';
import { admin, dropKeyspace, login, variablesOf } from '../support/cassandra.ts';
import { program } from '../support/program.ts';
import { commandOf, type Rsyslog, rsyslogInto } from '../support/rsyslog.ts';
import { filesBelow, temporaryFolder } from '../support/run.ts';

const keyspace = `pipeline_${randomUUID().replaceAll('-', '').slice(0, 12)}`;
const client = admin();

beforeAll(() => build());

afterAll(() => dropKeyspace(client, keyspace));

const NAMESPACE = 'public/pipeline';
const TOPIC = 'syslog_events';
/** Of a network that is nobody's, RFC 5737. */
const INDICATOR = '203.0.113.77';
const LONG = { timeout: 120_000, interval: 100 };

/** What the test runs, and where. */
interface Scene {
  readonly folder: string;
  readonly logs: string;
  readonly broker: Broker;
  readonly rsyslog: Rsyslog;
  readonly socket: Socket;
  sent: number;
}

async function sceneOf(): Promise<Scene> {
  const folder = await temporaryFolder();
  const [logs, state] = [join(folder, 'logs'), join(folder, 'rsyslog')];
  for (const path of [logs, state]) await mkdir(path);
  const broker = await brokerIn(join(folder, 'pulsar'));
  await broker.start();
  await broker.administer('PUT', `namespaces/${NAMESPACE}`);
  await broker.administer('POST', `namespaces/${NAMESPACE}/deduplication`, true);
  // What is acknowledged stays, so that it can be counted.
  const retention = { retentionTimeInMinutes: -1, retentionSizeInMB: -1 };
  await broker.administer('POST', `namespaces/${NAMESPACE}/retention`, retention);
  const rsyslog = await rsyslogInto(logs, state);
  return { folder, logs, broker, rsyslog, socket: await rsyslog.connect(), sent: 0 };
}

function ship({ folder, logs, broker }: Scene) {
  return program(folder, ['run', '--only', 'syslog', '--follow', '0.2', '--log-format', 'json'], {
    SYSLOG_PATHS: join(logs, '*.log'),
    STORE_FILE: 'none',
    STORE_PULSAR_URL: broker.url,
    STORE_PULSAR_TOPIC: `${NAMESPACE}/${TOPIC}`,
    STORE_PULSAR_SHAPE: 'event',
    CYBER_COLLECT_STATE: join(folder, 'ship'),
  });
}

const [host = '', port = ''] = login.point.split(':');
const CASSANDRA = {
  ...variablesOf(keyspace),
  STORE_CASSANDRA_CONTACT_POINTS: host,
  STORE_CASSANDRA_PORT: port,
};

/** Into Cassandra, where the same row twice is one, and into files, where it would show. */
function drain({ folder, broker }: Scene) {
  const flags = ['--topic', `${NAMESPACE}/${TOPIC}`, '--batch', '500', '--every', '1', '--log-format', 'json'];
  return program(folder, ['drain', 'pulsar', ...flags], {
    ...CASSANDRA,
    STORE_FILE: join(folder, 'data', '%TAG.ndjson'),
    STORE_FILE_EVENTS: join(folder, 'events', '%TAG', '%UUID.ndjson'),
    STORE_PULSAR_URL: broker.url,
    CYBER_COLLECT_STATE: join(folder, 'drain'),
  });
}

/** Sends lines to rsyslog by TCP, for both files in turn. */
async function send(scene: Scene, count: number): Promise<void> {
  const stamp = new Date().toUTCString().replace(/^\w+, (\d+) (\w+) \d+ ([\d:]+) .*$/, '$2 $1 $3');
  for (let n = 0; n < count; n += 1) {
    scene.sent += 1;
    const name = scene.sent % 2 === 0 ? 'newapp' : 'oldapp';
    const line = `<13>${stamp.replace(/ (\d) /, '  $1 ')} web01 ${name}[${scene.sent % 100}]: message ${scene.sent}\n`;
    if (!scene.socket.write(line)) await once(scene.socket, 'drain');
  }
}

/** Sends one line as people do. */
async function logged(scene: Scene, text: string): Promise<void> {
  const logger = await commandOf('logger', 'apt-get install bsdutils');
  await promisify(execFile)(logger, ['-n', '127.0.0.1', '-P', String(scene.rsyslog.port), '-T', '-t', 'sshd', text]);
  scene.sent += 1;
}

async function rows(): Promise<{ event_id: string; data: string }[]> {
  const found = [];
  try {
    const all = await client.execute(`SELECT event_id, data FROM ${keyspace}.events`);
    for await (const { event_id, data } of all) found.push({ event_id: String(event_id), data: String(data) });
  } catch (cause) {
    if (!/does not exist|unconfigured table/.test((cause as Error).message)) throw cause;
  }
  return found;
}

const moreThan = (count: number) => vi.waitFor(async () => expect((await rows()).length).toBeGreaterThan(count), LONG);

async function written({ logs }: Scene): Promise<string[]> {
  const files = await readdir(logs);
  const texts = await Promise.all(files.map((name) => readFile(join(logs, name), 'utf8')));
  return texts.flatMap((text) => text.split('\n').slice(0, -1));
}

/** The events of the topic, acknowledged or not, up to its last message. */
async function shipped({ broker }: Scene): Promise<{ event_id: string }[]> {
  const told = await broker.administer('GET', `persistent/${NAMESPACE}/${TOPIC}/lastMessageId`);
  const last = (await told.json()) as { ledgerId: number; entryId: number };
  const path = `${broker.url}/ws/v2/reader/persistent/${NAMESPACE}/${TOPIC}?messageId=earliest`;
  const socket = new WebSocket(path);
  const events: { event_id: string }[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener('close', ({ code }) => reject(new Error(`the reader was closed: ${code}`)));
    socket.addEventListener('message', ({ data }) => {
      const { messageId, payload } = JSON.parse(String(data)) as { messageId: string; payload: string };
      socket.send(JSON.stringify({ messageId }));
      events.push(JSON.parse(Buffer.from(payload, 'base64').toString()) as { event_id: string });
      const { ledger, entry, index, batch } = positionOf(messageId);
      if (ledger === BigInt(last.ledgerId) && entry === BigInt(last.entryId) && index >= batch - 1) resolve();
    });
  });
  socket.close();
  return events;
}

interface Stats {
  readonly subscriptions: Readonly<Record<string, { readonly msgBacklog: number } | undefined>>;
}

async function backlog({ broker }: Scene): Promise<number> {
  const stats = (await (await broker.administer('GET', `persistent/${NAMESPACE}/${TOPIC}/stats`)).json()) as Stats;
  return stats.subscriptions['cyber-collect']?.msgBacklog ?? Number.NaN;
}

async function filed({ folder }: Scene): Promise<string[]> {
  const files = await filesBelow(join(folder, 'events', 'syslog_events'));
  const texts = await Promise.all(files.map((path) => readFile(path, 'utf8')));
  const lines = texts.flatMap((text) => text.split('\n').slice(0, -1));
  return lines.map((line) => String((JSON.parse(line) as { event_id: string }).event_id));
}

/** Looks for the planted indicator in what has arrived. */
async function assertAlert({ folder }: Scene): Promise<void> {
  const list = join(folder, 'indicators.txt');
  await writeFile(list, `${INDICATOR}\n`);
  const args = ['detect', '--from', 'cassandra', '--indicators', list, '--output', 'json'];
  const env = { ...CASSANDRA, STORE_FILE: 'none', CYBER_COLLECT_STATE: join(folder, 'detect') };
  const { code, stdout } = await program(folder, args, env).ended;
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ alerts: 1, by: [{ indicator: INDICATOR, alerts: 1 }] });
}

test('kills of shipper, drain and broker, and a rotation: both ends have every line once', async () => {
  const scene = await sceneOf();
  const { broker, logs, rsyslog, socket } = scene;
  let shipper = ship(scene);
  let drainer = drain(scene);
  try {
    await send(scene, 1500);
    await moreThan(0);

    await send(scene, 1500);
    shipper.child.kill('SIGKILL');
    await shipper.ended;
    await send(scene, 500);
    shipper = ship(scene);

    await logged(scene, `Failed password for root from ${INDICATOR} port 4711 ssh2`);
    for (const name of ['old', 'new']) await rename(join(logs, `${name}.log`), join(logs, `${name}.log.1`));
    await send(scene, 500);
    rsyslog.reopen();
    await send(scene, 1000);

    await moreThan(2000);
    drainer.child.kill('SIGKILL');
    await drainer.ended;
    await send(scene, 500);
    drainer = drain(scene);

    await moreThan(3500);
    await send(scene, 1000);
    await broker.kill();
    await send(scene, 1000);
    await broker.start();
    await send(scene, 500);

    await vi.waitFor(async () => expect((await written(scene)).length).toBe(scene.sent), LONG);
    await vi.waitFor(async () => expect((await rows()).length).toBe(scene.sent), LONG);
    await vi.waitFor(async () => expect(await backlog(scene)).toBe(0), LONG);
    for (const { child } of [shipper, drainer]) child.kill('SIGTERM');
    expect([0, 143]).toContain((await shipper.ended).code);
    expect((await drainer.ended).code).toBe(0);

    const arrived = await rows();
    const lines = (await written(scene)).toSorted();
    expect(arrived.map(({ data }) => data).toSorted()).toEqual(lines);
    const ids = arrived.map(({ event_id }) => event_id).toSorted();
    expect(new Set(ids).size).toBe(scene.sent);
    expect((await shipped(scene)).map(({ event_id }) => event_id).toSorted()).toEqual(ids);
    expect((await filed(scene)).toSorted()).toEqual(ids);
    await assertAlert(scene);
  } catch (cause) {
    for (const { child } of [shipper, drainer]) child.kill('SIGKILL');
    const said = (await Promise.all([shipper.ended, drainer.ended])).map(({ stderr }) => stderr.slice(-4000));
    throw new Error(`${(cause as Error).message}\n${said.join('\n')}`, { cause });
  } finally {
    socket.destroy();
    await rsyslog.close();
    await broker.kill();
  }
}, 420_000);
