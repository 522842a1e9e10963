import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Sink } from '../../src/stores/store.ts';
import rest from '../../src/stores/store_rest.ts';
import { datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { openStore, targetsOf } from '../support/open.ts';
import { gate, json, type Received, reset, type ScriptedServer, serve } from '../support/server.ts';
import { storeSuite } from './suite.ts';

type Variables = Readonly<Record<string, string>>;

const TOKEN = 'hunter2-hunter2';
let folder = '';

/** What an endpoint was sent: the facts of each record and its text. */
interface Kept {
  readonly facts: {
    readonly tag: string;
    readonly upload_id: string;
    readonly timestamp: string;
    readonly record: number;
  };
  readonly record: string;
}

const kept: Kept[] = [];
const endpoint = createServer(async (incoming, answer) => {
  const body = await whole(incoming);
  const known = incoming.headers.authorization === `Bearer ${TOKEN}`;
  if (known && incoming.method === 'POST') for (const line of linesOf(gunzipSync(body))) kept.push(keptOf(line));
  answer.writeHead(known ? 204 : 401).end();
});
let origin = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-rest-'));
  await new Promise<void>((done) => endpoint.listen(0, '127.0.0.1', done));
  origin = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}`;
});

afterAll(async () => {
  endpoint.closeAllConnections();
  await new Promise((done) => endpoint.close(done));
  await rm(folder, { recursive: true, force: true });
});

async function whole(incoming: IncomingMessage): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of incoming) parts.push(part);
  return Buffer.concat(parts);
}

function linesOf(body: Buffer): readonly string[] {
  return body.toString('utf8').split('\n').slice(0, -1);
}

/** The facts stand last, behind the record's own text. */
function keptOf(line: string): Kept {
  const at = line.lastIndexOf('"_cyber_collect":');
  const facts = JSON.parse(line.slice(at + '"_cyber_collect":'.length, -1)) as Kept['facts'];
  const own = `${line.slice(0, at).replace(/,$/, '')}}`;
  return { facts, record: own.startsWith('{"_record":') ? own.slice('{"_record":'.length, -1) : own };
}

function newest(tag: string): readonly string[] {
  const ours = kept.filter(({ facts }) => facts.tag === tag);
  const last = ours
    .map(({ facts }) => facts)
    .sort((a, b) => (a.timestamp < b.timestamp ? -1 : 1))
    .at(-1)?.upload_id;
  const records = ours
    .filter(({ facts }) => facts.upload_id === last)
    .map(({ facts, record }) => [facts.record, record]);
  return [...new Map(records as [number, string][]).values()];
}

function suiteSink(token: string, warnings: string[]): Promise<Sink> {
  const variables = {
    STORE_REST_URL: `${origin}/in/%TAG`,
    STORE_REST_TOKEN: token,
    STORE_REST_HTTP_FORMAT: 'ndjson',
    STORE_REST_BATCH_SIZE: '500',
    STORE_REST_GZIP: 'true',
  };
  const { values } = resolveShape(environmentOf(variables), 'rest', rest.env, rest.aliases);
  if (values === undefined) throw new Error('the variables do not resolve');
  return rest.open(values, { tenancy: 'acme', at: new Date(), warn: (said) => warnings.push(said) });
}

storeSuite(
  'rest',
  async () => ({
    open: (warnings) => suiteSink(TOKEN, warnings),
    openWrong: () => suiteSink('hunter3-hunter3', []),
    read: async (tag) => newest(tag),
    exact: true,
    nul: 'kept',
    loneSurrogate: 'kept',
    secrets: [TOKEN, 'hunter3'],
  }),
  { gradual: true, login: true },
);

function open(server: ScriptedServer, more: Variables = {}): Promise<Sink> {
  return openStore(rest, { STORE_REST_URL: `${server.origin.href}in`, ...more });
}

function dataset(count: number) {
  return datasetOf(
    folder,
    Array.from({ length: count }, (_, n) => `{"n":${n + 1}}`),
  );
}

const OK = (_: Received, response: Parameters<typeof json>[0]) => json(response, {});

describe('a request', () => {
  test('holds one record as itself, with the upload it is part of', async () => {
    const server = await serve(OK);
    const data = await datasetOf(folder, ['{"id":12345678901234567890}', '{}', '[1]'], { tag: 'okta_users' });
    await (await open(server, { STORE_REST_CONCURRENCY: '1' })).write(data);
    const { upload_id, timestamp } = data.metadata;
    const facts = (record: number) =>
      `"_cyber_collect":${JSON.stringify({ tenancy: 'acme', tag: 'okta_users', upload_id, timestamp, records: 3, record })}`;
    expect(server.received.map(({ body }) => body)).toEqual([
      `{"id":12345678901234567890,${facts(1)}}`,
      `{${facts(2)}}`,
      `{"_record":[1],${facts(3)}}`,
    ]);
    const [first] = server.received;
    expect([first?.method, first?.headers['content-type']]).toEqual(['POST', 'application/json']);
    expect(server.received.map(({ headers }) => headers['idempotency-key'])).toEqual(
      [1, 2, 3].map((n) => `${upload_id}-${n}-${n}`),
    );
  });

  test('holds records as they are where that is asked for', async () => {
    const server = await serve(OK);
    const more = { STORE_REST_RAW: 'true', STORE_REST_CONCURRENCY: '1', STORE_REST_HTTP_METHOD: 'put' };
    await (await open(server, more)).write(await dataset(2));
    expect(server.received.map(({ method, body }) => [method, body])).toEqual([
      ['PUT', '{"n":1}'],
      ['PUT', '{"n":2}'],
    ]);
  });

  test.each([
    ['json', '[{"n":1},{"n":2},{"n":3}]', '[{"n":4}]', 'application/json'],
    ['ndjson', '{"n":1}\n{"n":2}\n{"n":3}\n', '{"n":4}\n', 'application/x-ndjson'],
  ])('holds several as %s', async (format, first, second, type) => {
    const server = await serve(OK);
    const more = { STORE_REST_RAW: 'true', STORE_REST_HTTP_FORMAT: format, STORE_REST_BATCH_SIZE: '3' };
    await (await open(server, { ...more, STORE_REST_CONCURRENCY: '1' })).write(await dataset(4));
    expect(server.received.map(({ body }) => body)).toEqual([first, second]);
    expect(server.received[0]?.headers['content-type']).toBe(type);
  });

  test('holds a form', async () => {
    const server = await serve(OK);
    const more = { STORE_REST_RAW: 'true', STORE_REST_HTTP_FORMAT: 'form-data' };
    const data = await datasetOf(folder, ['{"a":"é &","b":null,"c":12345678901234567890,"d":{"e":[1]},"f":true}']);
    await (await open(server, more)).write(data);
    expect([...new URLSearchParams(server.received[0]?.body)]).toEqual([
      ['a', 'é &'],
      ['b', ''],
      ['c', '12345678901234567890'],
      ['d', '{"e":[1]}'],
      ['f', 'true'],
    ]);
    const scalar = failureOf(async () => (await open(server, more)).write(await datasetOf(folder, ['17'])));
    expect((await scalar).message).toMatch(/record 1 is no object/);
  });

  test('goes to the URL of its dataset, whose names are encoded, with the headers that are set', async () => {
    const server = await serve(OK);
    const variables = {
      STORE_REST_URL: `${server.origin.href}in/%TENANCY/%TAG?on=%YYYY-%MM-%DD&key=abc`,
      STORE_REST_HEADERS: '{"X-Team":"blue","Content-Type":"application/vnd.acme+json"}',
      STORE_REST_HEADER_X_API_KEY: TOKEN,
    };
    const sink = await openStore(rest, variables);
    const data = await datasetOf(folder, ['{}'], { metadata: { timestamp: '2026-03-04T05:06:07Z' } });
    const { at } = await sink.write(data);
    const [got] = server.received;
    expect(`${got?.url.pathname}${got?.url.search}`).toBe('/in/acme/okta_users?on=2026-03-04&key=abc');
    expect(got?.headers['x-team']).toBe('blue');
    expect(got?.headers['x-api-key']).toBe(TOKEN);
    expect(got?.headers['content-type']).toBe('application/vnd.acme+json');
    expect(at).toBe(`${server.origin.href}in/acme/okta_users (okta_users of acme)`);
    const odd = { STORE_REST_URL: 'https://h.example/%TENANCY' };
    expect(targetsOf(rest, odd)).toEqual(['https://h.example/acme (okta_users of acme)']);
  });

  test('carries a token of client credentials, which is renewed once when it is refused', async () => {
    let tokens = 0;
    const server = await serve(({ url, headers, body }, response) => {
      if (url.pathname === '/token') {
        tokens += 1;
        expect(Object.fromEntries(new URLSearchParams(body))).toEqual({
          grant_type: 'client_credentials',
          client_id: 'me',
          client_secret: TOKEN,
          scope: 'write',
        });
        return json(response, { access_token: `token-${tokens}`, expires_in: 3600 });
      }
      json(response, {}, headers.authorization === 'Bearer token-2' ? 200 : 401);
    });
    const oauth = {
      STORE_REST_OAUTH_TOKEN_URL: `${server.origin.href}token`,
      STORE_REST_OAUTH_CLIENT_ID: 'me',
      STORE_REST_OAUTH_CLIENT_SECRET: TOKEN,
      STORE_REST_OAUTH_SCOPE: 'write',
      STORE_REST_CONCURRENCY: '3',
    };
    expect((await (await open(server, oauth)).write(await dataset(7))).records).toBe(7);
    expect(tokens).toBe(2);
  });
});

describe('an answer', () => {
  test.each([408, 429, 500, 502, 503, 504])(
    'of %i has the same request made again, not before told',
    async (status) => {
      const server = await serve((_, response, nth) =>
        nth === 1 ? json(response, {}, status, { 'retry-after': '0' }) : json(response, {}),
      );
      await (await open(server, { STORE_REST_CONCURRENCY: '1' })).write(await dataset(1));
      const [first, second] = server.received;
      expect(server.received).toHaveLength(2);
      expect(second?.body).toBe(first?.body);
      expect(second?.headers['idempotency-key']).toBe(first?.headers['idempotency-key']);
    },
  );

  test('of 429 holds every request back', async () => {
    const throttled = gate();
    const times: number[] = [];
    const server = await serve(async (_, response, nth) => {
      times.push(performance.now());
      if (nth === 1) {
        json(response, {}, 429, { 'retry-after': '0.5' });
        response.on('finish', throttled.open);
        return;
      }
      await throttled.opened;
      json(response, {});
    });
    await (await open(server, { STORE_REST_CONCURRENCY: '2' })).write(await dataset(6));
    const [start = 0, , ...others] = times;
    expect(Math.min(...others) - start).toBeGreaterThanOrEqual(499);
  });

  test('of 409 to a repeated request is as good as taken', async () => {
    const server = await serve((_, response, nth) => (nth === 1 ? reset(response) : json(response, {}, 409)));
    expect((await (await open(server)).write(await dataset(1))).records).toBe(1);
  });

  test('of 413 has the request halved', async () => {
    const server = await serve(({ body }, response) => json(response, {}, body.split('\n').length > 4 ? 413 : 200));
    const more = { STORE_REST_HTTP_FORMAT: 'ndjson', STORE_REST_BATCH_SIZE: '100', STORE_REST_RAW: 'true' };
    await (await open(server, more)).write(await dataset(10));
    const taken = server.received.map(({ body }) => body).filter((body) => body.split('\n').length <= 4);
    expect(taken.join('')).toBe(Array.from({ length: 10 }, (_, n) => `{"n":${n + 1}}\n`).join(''));
  });

  test.each([
    [400, 'store', /record 1 was refused/],
    [422, 'store', /record 1 was refused/],
    [401, 'credentials', /not accepted/],
    [403, 'denied', /403/],
    [404, 'store', /404/],
    [302, 'refused', /redirect/],
  ])('of %i fails the write at once', async (status, code, message) => {
    const server = await serve((_, response) => json(response, { told: TOKEN }, status, { location: '/other' }));
    const sink = await open(server, { STORE_REST_TOKEN: TOKEN, STORE_REST_CONCURRENCY: '1' });
    const error = await failureOf(async () => sink.write(await dataset(20)));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(server.received).toHaveLength(1);
    expect(inspect(error, { depth: 9 })).not.toContain(TOKEN);
  });

  test('that stays 500 fails the write after as many tries as are set', async () => {
    const server = await serve((_, response) => json(response, {}, 500));
    const sink = await open(server, { STORE_REST_RETRIES: '1' });
    expect((await failureOf(async () => sink.write(await dataset(1)))).message).toMatch(/500, 2 times/);
    expect(server.received).toHaveLength(2);
  });

  test('that does not come in time fails the write', async () => {
    const server = await serve(() => undefined);
    const sink = await open(server, { STORE_REST_RETRIES: '0', STORE_REST_TIMEOUT: '1' });
    expect((await failureOf(async () => sink.write(await dataset(1)))).code).toBe('timeout');
  });

  test('of 308 on the same host is followed', async () => {
    const server = await serve(({ url }, response) =>
      url.pathname === '/in' ? json(response, {}, 308, { location: '/there' }) : json(response, {}),
    );
    await (await open(server)).write(await dataset(1));
    expect(server.received.map(({ url, body }) => [url.pathname, body.slice(0, 6)])).toEqual([
      ['/in', '{"n":1'],
      ['/there', '{"n":1'],
    ]);
  });
});

test('settings that cannot work are told before anything is sent', async () => {
  const url = 'https://rest.example/in';
  const wrong: readonly Variables[] = [
    { STORE_REST_URL: 'http://rest.example/in' },
    { STORE_REST_URL: 'rest.example' },
    { STORE_REST_URL: 'https://me:pass@rest.example' },
    { STORE_REST_URL: `${url}/%NAME` },
    { STORE_REST_URL: url, STORE_REST_HTTP_FORMAT: 'form-data', STORE_REST_BATCH_SIZE: '2' },
    { STORE_REST_URL: url, STORE_REST_OAUTH_CLIENT_ID: 'me' },
  ];
  for (const variables of wrong) {
    const error = await failureOf(() => targetsOf(rest, variables));
    expect(['config', 'refused']).toContain(error.code);
    expect(error.mend).toBeDefined();
  }
  const headers = environmentOf({ STORE_REST_URL: url, STORE_REST_HEADERS: `X-Key: ${TOKEN}` });
  const { problems } = resolveShape(headers, 'rest', rest.env);
  expect(problems[0]?.message).toMatch(/must be a JSON object/);
  expect(inspect(problems)).not.toContain(TOKEN);
});
