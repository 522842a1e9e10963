import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Dataset, Sink } from '../../src/stores/store.ts';
import store from '../../src/stores/store_pulsar.ts';
import { storeSuite } from '../stores/suite.ts';
import { root } from '../support/build.ts';
import { datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { administer, bridge, lastOf, namespaceOf, readTopic, recordsIn, service } from '../support/pulsar.ts';

type Variables = Readonly<Record<string, string>>;

const TOKEN = 'not-a-token-9Qw';

function variablesOf(topic: string, more: Variables = {}): Variables {
  return { STORE_PULSAR_URL: service, STORE_PULSAR_TOPIC: topic, STORE_PULSAR_TOKEN: TOKEN, ...more };
}

async function open(topic: string, more: Variables = {}, warnings: string[] = []): Promise<Sink> {
  const environment = environmentOf(variablesOf(topic, more));
  const { values, problems } = resolveShape(environment, 'pulsar', store.env, store.aliases);
  if (values === undefined) throw new Error(JSON.stringify(problems));
  return store.open(values, { tenancy: 'acme', at: new Date(), warn: (said) => warnings.push(said) });
}

storeSuite(
  'pulsar',
  async () => {
    const namespace = await namespaceOf(true);
    return {
      open: (warnings) => open(`persistent://${namespace}/%TAG`, {}, warnings),
      read: async (tag) => {
        const messages = await readTopic(namespace, tag);
        const stamps = messages.map(({ properties }) => properties.timestamp ?? '');
        const newest = stamps.toSorted().at(-1);
        return recordsIn(messages.filter(({ properties }) => properties.timestamp === newest));
      },
      exact: true,
      nul: 'kept',
      loneSurrogate: 'kept',
      secrets: [TOKEN],
    };
  },
  { gradual: true },
);

describe('in detail', () => {
  const records = (count: number) => Array.from({ length: count }, (_, n) => `{"n":${n},"pad":"${'x'.repeat(300)}"}`);
  let folder = '';
  let knowing = '';
  let forgetful = '';
  let topics = 0;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cc-pulsar-'));
    knowing = await namespaceOf(true);
    forgetful = await namespaceOf(false);
  });

  afterAll(() => rm(folder, { recursive: true, force: true }));

  function newTopic(): string {
    topics += 1;
    return `topic-${topics}`;
  }

  async function sinkOn(namespace: string, topic: string, more: Variables = {}, warnings: string[] = []) {
    const sink = await open(`persistent://${namespace}/${topic}`, more, warnings);
    onTestFinished(() => sink.close?.());
    return sink;
  }

  const numbersIn = (messages: Awaited<ReturnType<typeof readTopic>>) =>
    recordsIn(messages).map((text) => (JSON.parse(text) as { n: number }).n);
  const upTo = (count: number) => Array.from({ length: count }, (_, n) => n);

  test('each message says of which upload it is, and which record', async () => {
    const topic = newTopic();
    const dataset = await datasetOf(folder, records(3));
    const { at } = await (await sinkOn(knowing, topic)).write(dataset);
    expect(at).toBe(`${new URL(service).host} persistent://${knowing}/${topic} (okta_users)`);
    const { upload_id, run_id, timestamp } = dataset.metadata;
    const told = (record: string) => ({
      ...{ upload_id, run_id, timestamp, tag: 'okta_users', tenancy: 'acme', collector: 'okta', resource: 'users' },
      ...{ records: '3', record },
    });
    const messages = await readTopic(knowing, topic);
    expect(messages.map(({ properties }) => properties)).toEqual([told('1'), told('2'), told('3')]);
    expect(messages.map(({ key }) => key)).toEqual([undefined, undefined, undefined]);
  });

  test('many messages share an entry', async () => {
    const topic = newTopic();
    await (await sinkOn(knowing, topic)).write(await datasetOf(folder, records(5000)));
    const messages = await readTopic(knowing, topic);
    expect(new Set(messages.map(({ ledger, entry }) => `${ledger}:${entry}`)).size).toBeLessThan(2500);
    expect(numbersIn(messages)).toEqual(upTo(5000));
  });

  test('a field is the key', async () => {
    const topic = newTopic();
    const sink = await sinkOn(knowing, topic, { STORE_PULSAR_KEY: 'host.name' });
    await sink.write(
      await datasetOf(folder, ['{"host":{"name":"a\\"b"}}', '{"host":{"name":7}}', '{"host":{}}', '[]']),
    );
    expect((await readTopic(knowing, topic)).map(({ key }) => key)).toEqual(['a"b', '7', undefined, undefined]);
  });

  test('what is too large for a frame comes in parts with one key', async () => {
    const topic = newTopic();
    const large = `{"n":1,"text":"${'é'.repeat(1_000_000)}"}`;
    await (await sinkOn(knowing, topic)).write(await datasetOf(folder, ['{"n":0}', large, '{"n":2}']));
    const messages = await readTopic(knowing, topic);
    expect(recordsIn(messages)).toEqual(['{"n":0}', large, '{"n":2}']);
    const parts = messages.filter(({ properties }) => properties.parts !== undefined);
    expect(parts.map(({ properties }) => `${properties.part} of ${properties.parts}`)).toEqual([
      '1 of 3',
      '2 of 3',
      '3 of 3',
    ]);
    expect(new Set(parts.map(({ key, properties }) => `${key} ${properties.record}`)).size).toBe(1);
    expect(parts[0]?.key).toBeDefined();
  });

  test('events are four texts', async () => {
    const topic = newTopic();
    const line = {
      device_name: 'web1',
      date: '2026-03-04T05:06:07Z',
      event_id: 'c0ffee00-1111-11f0-8000-010203040506',
    };
    const sink = await sinkOn(knowing, topic, { STORE_PULSAR_SHAPE: 'event' });
    const dataset = await datasetOf(folder, [
      JSON.stringify({ ...line, data: 'a line', offset: 7 }),
      '{"id":12345678901234567890}',
    ]);
    await sink.write(dataset);
    await sink.write(dataset);
    const [first, second, ...more] = recordsIn(await readTopic(knowing, topic)).map((text) => JSON.parse(text));
    expect(first).toEqual({ ...line, data: 'a line' });
    const { event_id, ...plain } = second;
    expect(plain).toEqual({
      device_name: 'okta',
      date: dataset.metadata.timestamp,
      data: '{"id":12345678901234567890}',
    });
    expect(event_id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(more).toEqual([]);
  });

  /** Writes through a bridge that is broken again and again as the upload goes on. */
  async function writeOverCuts(
    namespace: string,
    topic: string,
    dataset: Dataset,
    breaks: 'cut' | 'mute',
    most: number,
  ) {
    const way = await bridge();
    const sink = await sinkOn(namespace, topic, { STORE_PULSAR_URL: way.url, STORE_PULSAR_SEND_TIMEOUT_MS: '1000' });
    let done = false;
    const written = sink.write(dataset).finally(() => {
      done = true;
    });
    written.catch(() => undefined);
    let cuts = 0;
    for (let last = way.passed(); !done; ) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      if (cuts >= most || way.passed() - last < 1_500_000) continue;
      cuts += 1;
      last = way.passed();
      way[breaks]();
      way.mend();
    }
    await way.close();
    expect(cuts).toBeGreaterThan(2);
    return written;
  }

  test('a connection that breaks again and again loses and doubles nothing where brokers de-duplicate', async () => {
    const topic = newTopic();
    const dataset = await datasetOf(folder, records(20_000));
    await writeOverCuts(knowing, topic, dataset, 'cut', 12);
    expect(numbersIn(await readTopic(knowing, topic))).toEqual(upTo(20_000));
  });

  test('a service that falls silent is left for another connection', async () => {
    const topic = newTopic();
    await writeOverCuts(knowing, topic, await datasetOf(folder, records(20_000)), 'mute', 3);
    expect(numbersIn(await readTopic(knowing, topic))).toEqual(upTo(20_000));
  });

  test('where brokers do not, what comes twice has the number of its record', async () => {
    const topic = newTopic();
    await writeOverCuts(forgetful, topic, await datasetOf(folder, records(20_000)), 'cut', 12);
    const messages = await readTopic(forgetful, topic);
    const byRecord = new Map(messages.map((message) => [Number(message.properties.record), message]));
    expect(
      numbersIn([...byRecord.values()].sort((a, b) => Number(a.properties.record) - Number(b.properties.record))),
    ).toEqual(upTo(20_000));
  });

  test('a writer that is killed again and again, and an upload that is then written once more, count once', async () => {
    const topic = newTopic();
    const dataset = await datasetOf(folder, records(10_000));
    const { confirm: _, ...facts } = dataset;
    const writer = `
      const { root, env, facts } = JSON.parse(process.argv[1]);
      const { default: room } = await import(root + '/dist/stores/store_pulsar.js');
      const { environmentOf, resolveShape } = await import(root + '/dist/config/environment.js');
      const { values } = resolveShape(environmentOf(env), 'pulsar', room.env, room.aliases);
      const sink = await room.open(values, { tenancy: 'acme', at: new Date(), warn() {} });
      await sink.write({ ...facts, confirm: async () => undefined });
      process.stdout.write('whole');`;
    let seen = 0;
    for (let kill = 0; kill < 6; kill += 1) {
      const given = JSON.stringify({ root, env: variablesOf(`persistent://${knowing}/${topic}`), facts });
      const child = spawn(process.execPath, ['--input-type=module', '-e', writer, given], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const ended = once(child, 'exit');
      const before = await lastOf(knowing, topic);
      while ((await lastOf(knowing, topic)) === before && child.exitCode === null);
      child.kill('SIGKILL');
      await ended;
      const messages = await readTopic(knowing, topic);
      seen = messages.length;
      // What is there is always the beginning of the upload.
      expect(numbersIn(messages)).toEqual(upTo(seen));
    }
    expect(seen).toBeGreaterThan(0);
    await (await sinkOn(knowing, topic)).write(dataset);
    expect(numbersIn(await readTopic(knowing, topic))).toEqual(upTo(10_000));
  });

  describe('a topic with partitions', () => {
    async function partitioned(count: number): Promise<string> {
      const topic = newTopic();
      expect((await administer('PUT', `persistent/${knowing}/${topic}/partitions`, count)).status).toBe(204);
      return topic;
    }

    async function readPartitions(topic: string, count: number) {
      const names = Array.from({ length: count }, (_, n) => `${topic}-partition-${n}`);
      return Promise.all(names.map((name) => readTopic(knowing, name)));
    }

    test('gets an upload into one of them, once', async () => {
      const topic = await partitioned(4);
      const dataset = await datasetOf(folder, records(2000));
      for (let n = 0; n < 3; n += 1) await (await sinkOn(knowing, topic)).write(dataset);
      const all = await readPartitions(topic, 4);
      expect(all.filter((messages) => messages.length > 0).map(numbersIn)).toEqual([upTo(2000)]);
    });

    test('gets messages of one key into one of them, and loses none over cuts', async () => {
      const topic = await partitioned(4);
      const keyed = Array.from(
        { length: 10_000 },
        (_, n) => `{"n":${n},"host":"h${n % 50}","pad":"${'x'.repeat(300)}"}`,
      );
      const way = await bridge();
      const sink = await sinkOn(knowing, topic, { STORE_PULSAR_URL: way.url, STORE_PULSAR_KEY: 'host' });
      let done = false;
      const written = sink.write(await datasetOf(folder, keyed)).finally(() => {
        done = true;
      });
      for (let last = 0; !done; ) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        if (way.passed() - last < 1_000_000) continue;
        last = way.passed();
        way.cut();
        way.mend();
      }
      await written;
      await way.close();
      const all = await readPartitions(topic, 4);
      expect(all.filter((messages) => messages.length > 0).length).toBeGreaterThan(1);
      const homes = all.map((messages) => new Set(messages.map(({ key }) => key)));
      expect(homes.reduce((sum, { size }) => sum + size, 0)).toBe(50);
      expect([...new Set(all.flatMap(numbersIn))].toSorted((a, b) => a - b)).toEqual(upTo(10_000));
    });
  });

  test('a cluster that takes no sequence ids gets everything all the same, and that is said', async () => {
    const topic = newTopic();
    const { hostname, port } = new URL(service);
    const old = createServer((_, response) => response.writeHead(404).end('{}'));
    old.on('upgrade', (request, near) => {
      near.on('error', () => undefined);
      if (request.url?.includes('initialSequenceId')) {
        near.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n');
        return;
      }
      const far = connect(Number(port), hostname);
      far.on('error', () => undefined);
      const headers = request.rawHeaders.map((text, n) => (n % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join('');
      far.write(`GET ${request.url} HTTP/1.1\r\n${headers}\r\n`);
      near.pipe(far).pipe(near);
    });
    await new Promise<void>((resolve) => old.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void old.close());
    const warnings: string[] = [];
    const url = `ws://127.0.0.1:${(old.address() as AddressInfo).port}`;
    const sink = await sinkOn(knowing, topic, { STORE_PULSAR_URL: url }, warnings);
    await sink.write(await datasetOf(folder, records(500)));
    expect(numbersIn(await readTopic(knowing, topic))).toEqual(upTo(500));
    expect(warnings).toEqual([expect.stringMatching(/takes no sequence ids/)]);
  });

  test('a namespace that is not there, and a service that does not run, are sentences', async () => {
    const nowhere = await open('persistent://public/not-there/%TAG');
    expect(await failureOf(nowhere.check?.() ?? Promise.resolve())).toMatchObject({ code: 'config', status: 404 });
    const way = await bridge();
    await way.close();
    const down = await open('okta', { STORE_PULSAR_URL: way.url });
    const error = await failureOf(down.check?.() ?? Promise.resolve());
    expect(error).toMatchObject({ code: 'network', message: expect.stringContaining('ECONNREFUSED') });
    await nowhere.close?.();
    await down.close?.();
  });
});
