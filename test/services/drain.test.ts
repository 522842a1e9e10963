import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import pg from 'pg';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { pulsarOf } from '../../src/stores/_pulsar.ts';
import type { Outgoing } from '../../src/stores/_pulsar_producer.ts';
import { publish } from '../../src/stores/_pulsar_producer.ts';
import { parts } from '../../src/stores/_pulsar_records.ts';
import build from '../support/build.ts';
import { needed } from '../support/needed.ts';
import { program } from '../support/program.ts';
import { administer, bridge, namespaceOf, readTopic, recordsIn, type Seen, service } from '../support/pulsar.ts';
import { filesBelow, temporaryFolder } from '../support/run.ts';

let namespace = '';
let topics = 0;

beforeAll(async () => {
  await build();
  namespace = await namespaceOf(true);
});

function newTopic(): string {
  topics += 1;
  return `topic-${topics}`;
}

interface Given {
  readonly payload: string;
  readonly properties?: Readonly<Record<string, string>>;
}

/** Puts messages into a topic. */
async function ship(topic: string, messages: Iterable<Given>): Promise<void> {
  const [tenant = '', inner = ''] = namespace.split('/');
  const pulsar = pulsarOf({
    STORE_PULSAR_URL: service,
    STORE_PULSAR_SEND_TIMEOUT_MS: 30_000,
    CYBER_COLLECT_ALLOW_HTTP: false,
  });
  const to = { domain: 'persistent', tenant, namespace: inner, name: topic } as const;
  const all = async function* (): AsyncGenerator<Outgoing> {
    for (const { payload, properties = {} } of messages) yield* parts(Buffer.from(payload), properties, undefined);
  };
  const how = { topic: to, series: `test-${topic}-${Date.now()}`, batch: 100, pending: 500, warn: () => undefined };
  await publish(pulsar, how, all());
  await pulsar.close();
}

const numbered = (from: number, to: number): Given[] =>
  Array.from({ length: to - from }, (_, n) => ({
    payload: `{"n":${from + n},"pad":"${'x'.repeat(200)}"}`,
    properties: { tag: 'okta_logs' },
  }));

const upTo = (count: number) => Array.from({ length: count }, (_, n) => n);

/** Runs the command in a folder. */
function launch(folder: string, topic: string, flags: readonly string[], more: Readonly<Record<string, string>> = {}) {
  const args = ['drain', 'pulsar', '--output', 'json', '--topic', `${namespace}/${topic}`, ...flags];
  return program(folder, args, {
    STORE_PULSAR_URL: service,
    STORE_PULSAR_TOPIC: '%TAG',
    STORE_FILE: join(folder, 'data', '%TAG.ndjson'),
    STORE_FILE_EVENTS: join(folder, 'events', '%TENANCY', '%TAG', '%UUID.ndjson'),
    CYBER_COLLECT_STATE: join(folder, 'state'),
    ...more,
  });
}

/** The records that the file store holds of a dataset. */
async function filed(folder: string, tag: string, tenancy = 'default'): Promise<Record<string, unknown>[]> {
  const files = await filesBelow(join(folder, 'events', tenancy, tag)).catch(() => []);
  const texts = await Promise.all(
    files.filter((path) => path.endsWith('.ndjson')).map((path) => readFile(path, 'utf8')),
  );
  return texts.flatMap((text) => text.split('\n').slice(0, -1)).map((line) => JSON.parse(line));
}

const numbersOf = (records: readonly Record<string, unknown>[]) =>
  records.map(({ n }) => Number(n)).toSorted((a, b) => a - b);

async function inDuckdb(path: string, tag: string): Promise<number[]> {
  const instance = await DuckDBInstance.create(path, { access_mode: 'READ_ONLY' });
  const connection = await instance.connect();
  const rows = (await connection.runAndReadAll(`SELECT (json_data->>'n')::INT FROM ${tag} ORDER BY 1`)).getRows();
  connection.closeSync();
  instance.closeSync();
  return rows.map(([n]) => Number(n));
}

/** Messages of a subscription that are not acknowledged. */
async function backlog(topic: string): Promise<number> {
  const stats = (await (await administer('GET', `persistent/${namespace}/${topic}/stats`)).json()) as {
    subscriptions: Record<string, { msgBacklog: number } | undefined>;
  };
  return stats.subscriptions['cyber-collect']?.msgBacklog ?? Number.NaN;
}

/** Messages that were handed to a subscription and are not acknowledged. */
async function unacknowledged(topic: string): Promise<number> {
  const stats = (await (await administer('GET', `persistent/${namespace}/${topic}/stats`)).json()) as {
    subscriptions: Record<string, { unackedMessages: number } | undefined>;
  };
  return stats.subscriptions['cyber-collect']?.unackedMessages ?? 0;
}

const reasonsIn = (messages: readonly Seen[]) => messages.map(({ properties }) => properties.dead_letter_reason);

test('records go to their datasets in every store, and nothing is left in the topic', async () => {
  const [folder, topic] = [await temporaryFolder(), newTopic()];
  await ship(topic, [
    { payload: '{"id":9007199254740993,"t":1.50}', properties: { tag: 'okta_logs', tenancy: 'acme' } },
    { payload: '{\n  "n": 1\n}' },
    { payload: '{}' },
    { payload: '[1,"two"]', properties: { tag: '../etc' } },
    ...numbered(0, 3000),
  ]);
  const { code, stdout, stderr } = await launch(folder, topic, ['--once', '--tag', 'queue_events']).ended;
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ messages: 3004, records: 3004, dead_letters: 0, backlog: 0 });
  expect(stderr).toMatch(
    /[1-9]\d* entries, each a message or a batch, wait in persistent:\/\/\S+, the oldest for \d+ s/,
  );
  expect(numbersOf(await filed(folder, 'okta_logs'))).toEqual(upTo(3000));
  const [path = ''] = await filesBelow(join(folder, 'events', 'acme', 'okta_logs'));
  expect(await readFile(path, 'utf8')).toMatch(
    /^\{"id":9007199254740993,"t":1\.50,"_message_id":"\d+:\d+:-1:-?\d+"\}\n$/,
  );
  const plain = await filed(folder, 'queue_events');
  expect(plain).toEqual([{ n: 1, _message_id: expect.any(String) }, { _message_id: expect.any(String) }, [1, 'two']]);
  expect(await backlog(topic)).toBe(0);
  expect(await readdir(join(folder, 'state', 'drain', 'default')).then((all) => all.length)).toBe(1);
  const again = await launch(folder, topic, ['--once']).ended;
  expect(JSON.parse(again.stdout)).toMatchObject({ messages: 0, batches: 0 });
});

test('the backlog of a topic with partitions is that of all of them', async () => {
  const [folder, topic] = [await temporaryFolder(), newTopic()];
  expect((await administer('PUT', `persistent/${namespace}/${topic}/partitions`, 3)).status).toBe(204);
  await ship(topic, numbered(0, 300));
  const { code, stdout, stderr } = await launch(folder, topic, ['--once']).ended;
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ messages: 300, backlog: 0 });
  expect(stderr).toMatch(/[1-9]\d* entries, each a message or a batch, wait in /);
});

test('what the service sends again over one connection, as its own to the broker was lost, is stored once', async () => {
  const [folder, topic] = [await temporaryFolder(), newTopic()];
  await ship(topic, numbered(0, 6000));
  const { child, ended } = launch(folder, topic, ['--batch', '100000', '--every', '8']);
  const path = `persistent/${namespace}/${topic}`;
  await vi.waitFor(async () => expect(await unacknowledged(topic)).toBeGreaterThan(1000), { timeout: 60_000 });
  expect((await administer('PUT', `${path}/unload`)).status).toBe(204);
  await vi.waitFor(async () => expect((await filed(folder, 'okta_logs')).length).toBeGreaterThanOrEqual(6000), 60_000);
  await vi.waitFor(async () => expect(await backlog(topic)).toBe(0), 60_000);
  child.kill('SIGTERM');
  expect((await ended).code).toBe(0);
  expect(numbersOf(await filed(folder, 'okta_logs'))).toEqual(upTo(6000));
});

test('silence is no empty topic while the broker tells that something waits', async () => {
  const [folder, topic] = [await temporaryFolder(), newTopic()];
  await ship(topic, numbered(0, 6000));
  const way = await bridge();
  const { ended } = launch(folder, topic, ['--once', '--every', '1'], { STORE_PULSAR_URL: way.url });
  await vi.waitFor(async () => expect(await unacknowledged(topic)).toBeGreaterThan(0), {
    timeout: 60_000,
    interval: 5,
  });
  way.mute();
  const quiet = way.passed();
  // What is asked meanwhile passes over connections of its own.
  await vi.waitFor(() => expect(way.passed()).toBeGreaterThan(quiet + 1000), 90_000);
  way.cut();
  way.mend();
  const { code, stdout } = await ended;
  await way.close();
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ backlog: 0 });
  expect(numbersOf(await filed(folder, 'okta_logs'))).toEqual(upTo(6000));
});

test('a kill at any moment loses and doubles nothing, in files and in a database', async () => {
  const [folder, topic] = [await temporaryFolder(), newTopic()];
  const database = { STORE_DUCKDB: join(folder, 'all.duckdb') };
  const total = 8000;
  await ship(topic, numbered(0, total));
  let kills = 0;
  for (; (await filed(folder, 'okta_logs')).length < total && kills < 25; kills += 1) {
    const { child, ended } = launch(folder, topic, ['--batch', '400', '--every', '1'], database);
    const before = (await filed(folder, 'okta_logs')).length;
    await vi.waitFor(async () => expect((await filed(folder, 'okta_logs')).length).toBeGreaterThan(before), {
      timeout: 30_000,
      interval: 5 + kills,
    });
    child.kill('SIGKILL');
    await ended;
  }
  expect(kills).toBeGreaterThan(3);
  const { code, stderr } = await launch(folder, topic, ['--once'], database).ended;
  expect(stderr).not.toMatch(/WARNING|ERROR/);
  expect(code).toBe(0);
  expect(numbersOf(await filed(folder, 'okta_logs'))).toEqual(upTo(total));
  expect(await inDuckdb(database.STORE_DUCKDB, 'okta_logs')).toEqual(upTo(total));
  expect(await backlog(topic)).toBe(0);
}, 240_000);

test('several drains share the work, and go on with what a killed one has left', async () => {
  const [folder, topic] = [await temporaryFolder(), newTopic()];
  const total = 20_000;
  await ship(topic, numbered(0, total));
  const flags = ['--batch', '500', '--every', '1'];
  const drains = [1, 2, 3].map(() => launch(folder, topic, flags));
  await vi.waitFor(async () => expect((await filed(folder, 'okta_logs')).length).toBeGreaterThan(1500), 30_000);
  drains[0]?.child.kill('SIGKILL');
  await drains[0]?.ended;
  await vi.waitFor(async () => expect((await filed(folder, 'okta_logs')).length).toBe(total), 60_000);
  await vi.waitFor(async () => expect(await backlog(topic)).toBe(0), 30_000);
  for (const { child } of drains.slice(1)) child.kill('SIGTERM');
  const ends = await Promise.all(drains.slice(1).map(({ ended }) => ended));
  expect(ends.map(({ code }) => code)).toEqual([0, 0]);
  const shares = ends.map(({ stdout }) => (JSON.parse(stdout) as { messages: number }).messages);
  expect(Math.min(...shares)).toBeGreaterThan(0);
  expect(numbersOf(await filed(folder, 'okta_logs'))).toEqual(upTo(total));
}, 180_000);

test('connections of several drains that break again and again lose and double nothing', async () => {
  const [folder, topic] = [await temporaryFolder(), newTopic()];
  const total = 20_000;
  await ship(topic, numbered(0, total));
  const way = await bridge();
  const url = { STORE_PULSAR_URL: way.url };
  const drains = [1, 2].map(() => launch(folder, topic, ['--batch', '300', '--every', '1'], url));
  const count = async () => (await filed(folder, 'okta_logs')).length;
  let cuts = 0;
  for (let before = 0; before < total; cuts += 1) {
    await vi.waitFor(async () => expect(await count()).toBeGreaterThan(before), { timeout: 60_000, interval: 20 });
    before = Math.min((await count()) + 1500, total - 1);
    way.cut();
    way.mend();
    if (before === total - 1) break;
  }
  expect(cuts).toBeGreaterThan(3);
  await vi.waitFor(async () => expect(await backlog(topic)).toBe(0), 60_000);
  for (const { child } of drains) child.kill('SIGTERM');
  const ends = await Promise.all(drains.map(({ ended }) => ended));
  await way.close();
  expect(ends.map(({ code }) => code)).toEqual([0, 0]);
  expect(numbersOf(await filed(folder, 'okta_logs'))).toEqual(upTo(total));
}, 240_000);

test.each(['Shared', 'Key_Shared'])(
  'the parts of a large record find together, whoever of several drains gets them (%s)',
  async (type) => {
    const [folder, topic] = [await temporaryFolder(), newTopic()];
    const large = (n: number) => `{"n":${n},"text":"${'y'.repeat(4_000_000)}"}`;
    const properties = (n: number) => ({ tag: 'okta_logs', upload_id: 'one', record: String(n) });
    await ship(
      topic,
      upTo(5).map((n) => ({ payload: large(n), properties: properties(n) })),
    );
    const drains = [1, 2].map(() => launch(folder, topic, ['--idle-exit', '4', '--type', type]));
    for (const { ended } of drains) expect((await ended).code).toBe(0);
    const records = await filed(folder, 'okta_logs');
    expect(numbersOf(records)).toEqual(upTo(5));
    expect(records.map(({ text }) => String(text).length)).toEqual(upTo(5).map(() => 4_000_000));
    expect(await backlog(topic)).toBe(0);
  },
  60_000,
);

describe('what cannot be stored', () => {
  test('is a dead letter at once where it is no JSON, or names a tenancy that is no name', async () => {
    const [folder, topic] = [await temporaryFolder(), newTopic()];
    const bad = [
      { payload: 'not json', properties: { colour: 'red' } },
      { payload: '{}', properties: { tenancy: '../x' } },
    ];
    await ship(topic, [...numbered(0, 10), ...bad, ...numbered(10, 20)]);
    const { code, stdout } = await launch(folder, topic, ['--once']).ended;
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ messages: 22, records: 20, dead_letters: 2 });
    expect(numbersOf(await filed(folder, 'okta_logs'))).toEqual(upTo(20));
    const dead = await readTopic(namespace, `${topic}-dlq`);
    expect(recordsIn(dead)).toEqual(['not json', '{}']);
    expect(reasonsIn(dead)).toEqual(['it is no JSON', 'its tenancy is no name']);
    expect(dead[0]?.properties).toMatchObject({
      colour: 'red',
      dead_letter_topic: `persistent://${namespace}/${topic}`,
    });
    expect(await backlog(topic)).toBe(0);
  });

  test('is found among many where one store refuses it, and the others keep it', async () => {
    const url = new URL(needed('TEST_POSTGRES_URL'));
    const [folder, topic] = [await temporaryFolder(), newTopic()];
    const schema = `drain_${Date.now()}`;
    const postgres = {
      STORE_POSTGRES_HOST: url.hostname,
      STORE_POSTGRES_PORT: url.port,
      STORE_POSTGRES_USER: decodeURIComponent(url.username),
      ...(url.password === '' ? {} : { STORE_POSTGRES_PASSWORD: decodeURIComponent(url.password) }),
      STORE_POSTGRES_DBNAME: url.pathname.slice(1),
      STORE_POSTGRES_SCHEMA: schema,
    };
    const huge = { payload: '{"n":1e200000}', properties: { tag: 'okta_logs' } }; // no numeric of PostgreSQL
    await ship(topic, [...numbered(0, 300), huge, ...numbered(300, 600)]);
    const { code, stderr } = await launch(folder, topic, ['--once', '--redeliveries', '2'], postgres).ended;
    const client = new pg.Client({ connectionString: url.href });
    await client.connect();
    const { rows } = await client.query(`SELECT (json_data->>'n')::int AS n FROM ${schema}.okta_logs ORDER BY 1`);
    await client.query(`DROP SCHEMA ${schema} CASCADE`);
    await client.end();
    expect(rows.map(({ n }) => n)).toEqual(upTo(600));
    expect(await filed(folder, 'okta_logs')).toHaveLength(601);
    expect(code).toBe(0);
    expect(stderr).toMatch(/1 messages went to .*-dlq/);
    const dead = await readTopic(namespace, `${topic}-dlq`);
    expect(recordsIn(dead)).toEqual([expect.stringMatching(/^\{"n":1e200000,/)]);
    expect(reasonsIn(dead)[0]).toMatch(/22003/);
    expect(await backlog(topic)).toBe(0);
  });
});

test('a store that takes nothing gets no dead letters made: the messages stay', async () => {
  const [folder, topic] = [await temporaryFolder(), newTopic()];
  await ship(topic, numbered(0, 50));
  await writeFile(join(folder, 'file'), '');
  const nowhere = { STORE_FILE_EVENTS: join(folder, 'file', '%UUID.ndjson') };
  const { code, stdout, stderr } = await launch(folder, topic, ['--once', '--redeliveries', '1'], nowhere).ended;
  expect([code, stdout]).toEqual([6, '']);
  expect(stderr).toMatch(/file.*ENOTDIR|EEXIST/);
  expect(await readTopic(namespace, `${topic}-dlq`)).toEqual([]);
  const { code: later } = await launch(folder, topic, ['--once']).ended;
  expect(later).toBe(0);
  expect(numbersOf(await filed(folder, 'okta_logs'))).toEqual(upTo(50));
});

test.each([
  [['--topic', '%TAG'], /which topic/],
  [['--tag', 'No!'], /no tag/],
  [['--dead-letter', 'x', '--topic', 'x'], /topic that is drained/],
])('%j is refused', async (flags, message) => {
  const { code, stderr } = await launch(await temporaryFolder(), 'any', flags).ended;
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
});
