import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import { nameOf, positionOf, topicOf } from '../../src/stores/_pulsar.ts';
import type { Sink } from '../../src/stores/store.ts';
import store from '../../src/stores/store_pulsar.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { failureOf } from '../support/failure.ts';
import { serve } from '../support/server.ts';

type Variables = Readonly<Record<string, string>>;

const TOKEN = 'not-a-token-4Zt';
const names = { uuid: 'a-b', tag: 'okta_users', tenancy: 'acme', at: new Date('2026-03-04T05:06:07Z') };

function settings(more: Variables) {
  const variables = { STORE_PULSAR_URL: 'wss://broker.acme.com', STORE_PULSAR_TOPIC: 'security', ...more };
  const { values, problems } = resolveShape(environmentOf(variables), 'pulsar', store.env, store.aliases);
  if (values === undefined) throw new Error(JSON.stringify(problems));
  return values;
}

async function open(more: Variables): Promise<Sink> {
  const values = settings({ STORE_PULSAR_TOKEN: TOKEN, ...more });
  const sink = await store.open(values, { tenancy: 'acme', at: names.at, warn: () => undefined });
  onTestFinished(() => sink.close?.());
  return sink;
}

describe('settings', () => {
  const targets = (more: Variables) => store.targets(settings(more), 'snapshot', names);

  test.each([
    ['security', 'persistent://public/default/security'],
    ['acme/logs/%TAG', 'persistent://acme/logs/okta_users'],
    ['non-persistent://acme/logs/%TENANCY-%YYYY', 'non-persistent://acme/logs/acme-2026'],
  ])('the topic %s is %s', (topic, full) => {
    expect(targets({ STORE_PULSAR_TOPIC: topic })).toEqual([`${full} (okta_users)`]);
    expect(nameOf(topicOf(full))).toBe(full);
  });

  test.each([
    [{ STORE_PULSAR_TOPIC: 'acme/logs' }, /no topic/],
    [{ STORE_PULSAR_TOPIC: 'kafka://acme/logs/x' }, /no topic/],
    [{ STORE_PULSAR_TOPIC: '$TAG' }, /not replaced/],
    [{ STORE_PULSAR_URL: 'pulsar+ssl://broker.acme.com:6651' }, /binary protocol/],
    [{ STORE_PULSAR_URL: 'wss://me:secret@broker.acme.com' }, /more than a host/],
    [{ STORE_PULSAR_URL: 'ws://broker.acme.com' }, /unencrypted/],
  ])('%j is refused before anything is collected', (more, message) => {
    expect(() => targets(more)).toThrow(message);
  });

  test('plain ws is for loopback, or where it is allowed', () => {
    expect(targets({ STORE_PULSAR_URL: 'ws://127.0.0.1:8080' })).toHaveLength(1);
    expect(targets({ STORE_PULSAR_URL: 'ws://broker', CYBER_COLLECT_ALLOW_HTTP: 'true' })).toHaveLength(1);
  });

  test('a file of authorities that is not there is named', async () => {
    await expect(open({ STORE_PULSAR_CA_BUNDLE: '/not/there.pem' })).rejects.toThrow(/not\/there\.pem .*ENOENT/);
  });
});

describe('a service that refuses', () => {
  test.each([
    [401, 'credentials'],
    [403, 'denied'],
    [404, 'config'],
    [409, 'store'],
    [500, 'store'],
    [503, 'store'],
  ])('with %i is told as %s, and the token went in a header alone', async (status, code) => {
    const server = await serve((_, response) => response.writeHead(status, { 'content-length': '0' }).end());
    const sink = await open({ STORE_PULSAR_URL: server.origin.href.replace('http', 'ws') });
    const error = await failureOf(sink.check?.());
    expect(error).toMatchObject({ code, status, mend: expect.any(String) });
    expect(inspect(error, { depth: 9 })).not.toContain(TOKEN);
    const sent = new Set(server.received.map(({ headers }) => headers.authorization));
    expect(sent).toEqual(new Set([`Bearer ${TOKEN}`]));
    expect(server.received[0]?.url.pathname).toBe('/ws/v2/producer/persistent/public/default/security');
    expect(server.received[0]?.url.search).toBe('');
  });
});

describe('TLS', () => {
  let certificates: Certificates;
  beforeAll(async () => {
    certificates = await makeCertificates();
  });
  afterAll(() => certificates.remove());

  test('a certificate that is not trusted ends it, one of the named authority does not', async () => {
    const server = await serve((_, response) => response.writeHead(403, { 'content-length': '0' }).end(), certificates);
    const url = { STORE_PULSAR_URL: server.origin.href.replace('http', 'ws') };
    const stranger = await failureOf(
      (await open({ ...url, STORE_PULSAR_CA_BUNDLE: certificates.strangerFile })).check?.(),
    );
    expect(stranger).toMatchObject({ code: 'refused', message: expect.stringMatching(/certificate/) });
    expect(server.received).toEqual([]);
    const known = await failureOf((await open({ ...url, STORE_PULSAR_CA_BUNDLE: certificates.caFile })).check?.());
    expect(known.code).toBe('denied');
  });
});

test.each([
  ['CAUQADAA', { ledger: 5n, entry: 0n, partition: undefined, index: -1, batch: 0 }],
  ['CAkQACACMAo=', { ledger: 9n, entry: 0n, partition: undefined, index: 2, batch: 10 }],
  ['CP///////////wEQ////////////ASACMAA=', { ledger: -1n, entry: -1n, partition: undefined, index: 2, batch: 0 }],
  ['CAwQABgCIAAwAA==', { ledger: 12n, entry: 0n, partition: 2, index: 0, batch: 0 }],
])('the message id %s is read', (id, position) => {
  expect(positionOf(id)).toEqual(position);
});
