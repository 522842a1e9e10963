import { mkdtemp, rm } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import { CollectError } from '../../src/errors.ts';
import type { Sink, Store } from '../../src/stores/store.ts';
import elasticsearch from '../../src/stores/store_elasticsearch.ts';
import opensearch from '../../src/stores/store_opensearch.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { json, type Received, reset, type ScriptedServer, serve } from '../support/server.ts';

type Variables = Readonly<Record<string, string>>;

let folder = '';
let certificates: Certificates;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-spool-'));
  certificates = await makeCertificates();
});

afterAll(async () => {
  await certificates?.remove();
  await rm(folder, { recursive: true, force: true });
});

const PRODUCT = { 'x-elastic-product': 'Elasticsearch' };

/** What is said to one bulk request; undefined stores all of it. */
type Turn = (response: ServerResponse, numbers: readonly number[]) => unknown;

/** The numbers of a bulk request's records. */
function numbersIn(body: string): readonly number[] {
  return [...body.matchAll(/"record":(\d+)\}/g)].map(([, n]) => Number(n));
}

function items(response: ServerResponse, results: readonly unknown[], headers: Variables = {}): void {
  json(response, { errors: true, items: results.map((result) => ({ index: result })) }, 200, {
    ...PRODUCT,
    ...headers,
  });
}

const STORED = { status: 201 };

function refused(response: ServerResponse, status: number, type: string, headers: Variables = {}): void {
  const reason = 'failed to parse hush-hush-0003';
  json(response, { error: { type, reason }, status }, status, { ...PRODUCT, ...headers });
}

/** An engine that has an index for events and says to each bulk request what its turn says; then it stores all. */
async function engine(...turns: readonly Turn[]): Promise<ScriptedServer & { bulks(): readonly Received[] }> {
  let nth = 0;
  const server = await serve(({ url, body }, response) => {
    if (!url.pathname.endsWith('/_bulk')) return json(response, {}, 200, PRODUCT);
    const numbers = numbersIn(body);
    const turn = turns[nth];
    nth += 1;
    if (turn !== undefined) return turn(response, numbers);
    return items(
      response,
      numbers.map(() => STORED),
    );
  });
  return { ...server, bulks: () => server.received.filter(({ url }) => url.pathname.endsWith('/_bulk')) };
}

function bulkOrNothing(response: ServerResponse, body: string): void {
  items(
    response,
    numbersIn(body).map(() => STORED),
  );
}

async function open(server: ScriptedServer, env: Variables = {}, store: Store = elasticsearch): Promise<Sink> {
  const address = { [`STORE_${store.name.toUpperCase()}_URL`]: server.origin.href };
  const { values, problems } = resolveShape(
    environmentOf({ ...address, ...env }),
    store.name,
    store.env,
    store.aliases,
  );
  if (values === undefined) throw new Error(JSON.stringify(problems));
  const sink = await store.open(values, { tenancy: 'acme', at: new Date(), warn: () => undefined });
  onTestFinished(() => sink.close?.());
  return sink;
}

function events(count: number, choice: { readonly large?: number } = {}) {
  const lines = Array.from({ length: count }, (_, n) => `{"id":${n},"pad":"${'x'.repeat(choice.large ?? 1)}"}`);
  return datasetOf(folder, lines, { tag: 'okta_logs', kind: 'events' });
}

const AT_ONCE = { 'retry-after': '0' };

/** The records of each bulk request. */
function sent(server: { bulks(): readonly Received[] }): readonly (readonly number[])[] {
  return server.bulks().map(({ body }) => numbersIn(body));
}

describe('what is busy is sent again', () => {
  test('of a batch those alone that were not taken, with the same ids', async () => {
    const busy = { status: 429, error: { type: 'es_rejected_execution_exception' } };
    const gone = { status: 503, error: { type: 'unavailable_shards_exception' } };
    const server = await engine(
      (response) => items(response, [STORED, busy, { status: 409 }, gone], AT_ONCE),
      (response) => items(response, [busy, STORED], AT_ONCE),
    );
    expect(await (await open(server)).write(await events(4))).toMatchObject({ records: 4 });
    expect(sent(server)).toEqual([[1, 2, 3, 4], [2, 4], [2]]);
    const ids = server.bulks().map(({ body }) => body.match(/"_id":"[^"]+"/g));
    expect(ids[1]).toEqual([ids[0]?.[1], ids[0]?.[3]]);
    expect(ids[2]).toEqual([ids[0]?.[1]]);
  });

  test.each([
    ['429', 429],
    ['502', 502],
    ['503', 503],
  ])('a whole request that is answered with %s', async (_, status) => {
    const server = await engine((response) => refused(response, status, 'circuit_breaking_exception', AT_ONCE));
    await (await open(server)).write(await events(2));
    expect(sent(server)).toEqual([
      [1, 2],
      [1, 2],
    ]);
  });

  test('in halves, when it is refused time and again', async () => {
    const full: Turn = (response) => refused(response, 429, 'circuit_breaking_exception', AT_ONCE);
    const server = await engine(full, full);
    await (await open(server)).write(await events(4));
    expect(sent(server)).toEqual([
      [1, 2, 3, 4],
      [1, 2, 3, 4],
      [1, 2],
      [3, 4],
    ]);
  });

  test('after the time it tells', async () => {
    const times: number[] = [];
    const server = await engine(
      (response) => {
        times.push(Date.now());
        refused(response, 429, 'es_rejected_execution_exception', { 'retry-after': '2' });
      },
      (response, numbers) => {
        times.push(Date.now());
        items(
          response,
          numbers.map(() => STORED),
        );
      },
    );
    await (await open(server)).write(await events(1));
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(1990);
  });

  test('when the connection broke before or in the answer', async () => {
    const server = await engine(
      (response) => reset(response),
      (response) => reset(response, '{"errors":false,"items":['),
    );
    await (await open(server)).write(await events(2));
    expect(sent(server)).toEqual([
      [1, 2],
      [1, 2],
      [1, 2],
    ]);
  });

  test('but not for ever, and not past an hour', async () => {
    const full: Turn = (response) => refused(response, 429, 'es_rejected_execution_exception', AT_ONCE);
    const server = await engine(...Array.from({ length: 20 }, () => full));
    expect((await failureOf((await open(server)).write(await events(1)))).code).toBe('throttled');
    expect(server.bulks()).toHaveLength(8);
    const closed = await engine((response) => refused(response, 503, 'x', { 'retry-after': '3600' }));
    expect((await failureOf((await open(closed)).write(await events(1)))).code).toBe('store');
    expect(closed.bulks()).toHaveLength(1);
  });
});

describe('what cannot be taken', () => {
  test('a batch that is too large is sent in halves, a record that is named', async () => {
    const large: Turn = (response) => refused(response, 413, 'x');
    const server = await engine(large);
    await (await open(server)).write(await events(3));
    expect(sent(server)).toEqual([[1, 2, 3], [1, 2], [3]]);
    const small = await engine(large, large);
    const error = await failureOf((await open(small)).write(await events(2)));
    expect(error.message).toMatch(/record 1 is larger/);
  });

  test('a record that is refused is sent as text; one refused as text too fails the upload', async () => {
    const bad = { status: 400, error: { type: 'document_parsing_exception', reason: 'hush-hush-0003' } };
    const server = await engine((response) => items(response, [STORED, bad]));
    await (await open(server)).write(await events(2));
    expect(sent(server)).toEqual([[1, 2], [2]]);
    expect(server.bulks()[1]?.body).toContain('{"_record":"{\\"id\\":1,\\"pad\\":\\"x\\"}"');
    const strict = await engine(
      (response) => items(response, [STORED, bad]),
      (response) => items(response, [bad]),
    );
    const error = await failureOf((await open(strict)).write(await events(2)));
    expect(error.message).toMatch(/record 2 cannot be stored \(document_parsing_exception\)/);
    expect(inspect(error, { depth: 10 })).not.toContain('hush-hush');
  });

  test('an answer that does not tell of every document is not believed', async () => {
    const server = await engine((response) => items(response, [STORED]));
    expect((await failureOf((await open(server)).write(await events(2)))).message).toMatch(/does not tell/);
    const proxy = await engine((response) => json(response, { ok: true }, 200, PRODUCT));
    expect((await failureOf((await open(proxy)).write(await events(2)))).message).toMatch(/does not tell/);
  });
});

describe('requests', () => {
  test('hold no more documents and bytes than is set, and follow each other where there is to be a pause', async () => {
    const server = await engine();
    await (await open(server, { STORE_ELASTICSEARCH_THRESHOLD: '3' })).write(await events(7));
    expect(
      sent(server)
        .map(({ length }) => length)
        .toSorted(),
    ).toEqual([1, 3, 3]);
    const bytes = await engine();
    const calm = { STORE_ELASTICSEARCH_BATCH_BYTES: '2048', STORE_ELASTICSEARCH_SLEEP: '0.01' };
    await (await open(bytes, calm)).write(await events(5, { large: 600 }));
    expect(sent(bytes)).toEqual([[1, 2], [3, 4], [5]]);
    expect(bytes.peak()).toBe(1);
  });

  test('go through the pipeline that is set', async () => {
    const server = await engine();
    await (await open(server, { STORE_ELASTICSEARCH_PIPELINE: 'geo' })).write(await events(1));
    expect(server.bulks()[0]?.url.searchParams.get('pipeline')).toBe('geo');
    expect(server.bulks()[0]?.url.pathname).toBe('/okta_logs/_bulk');
  });

  const encoded = Buffer.from('kid:ksecret-7Hq').toString('base64');
  test.each<[string, Variables, string]>([
    ['an API key', { ES_API_KEY: encoded }, `ApiKey ${encoded}`],
    ['an API key that is not encoded', { ES_API_KEY: 'kid:ksecret-7Hq' }, `ApiKey ${encoded}`],
    [
      'a user',
      { ES_USERNAME: 'loader', ES_PASSWORD: 'p-4Ws' },
      `Basic ${Buffer.from('loader:p-4Ws').toString('base64')}`,
    ],
  ])('carry %s', async (_, env, header) => {
    const server = await engine();
    await (await open(server, env)).write(await events(1));
    expect(new Set(server.received.map(({ headers }) => headers.authorization))).toEqual(new Set([header]));
  });

  test('to OpenSearch carry its user', async () => {
    const server = await engine();
    const env = { STORE_OPENSEARCH_USERNAME: 'loader', STORE_OPENSEARCH_PASSWORD: 'p-4Ws' };
    await (await open(server, env, opensearch)).write(await events(1));
    const header = `Basic ${Buffer.from('loader:p-4Ws').toString('base64')}`;
    expect(new Set(server.received.map(({ headers }) => headers.authorization))).toEqual(new Set([header]));
  });
});

describe('what stands in the way is one sentence', () => {
  test.each<[string, number, string, string, RegExp]>([
    ['a wrong key', 401, 'security_exception', 'credentials', /does not accept the credentials/],
    ['a missing privilege', 403, 'security_exception', 'denied', /refuses this/],
    ['a full disk', 429, 'cluster_block_exception', 'store', /disk is full/],
    ['a cluster full of shards', 400, 'validation_exception', 'store', /as many shards/],
    ['something else', 501, 'x', 'config', /does not know this request/],
  ])('%s', async (_, status, type, code, message) => {
    for (const store of [elasticsearch, opensearch] as readonly Store[]) {
      const server = await serve((_request, response) => refused(response, status, type));
      const key: Variables = store === elasticsearch ? { ES_API_KEY: 'key-sx-0042' } : {};
      const sink = await open(server, key, store);
      const error = await failureOf(sink.check?.() ?? Promise.resolve());
      expect(error).toMatchObject({ code, message: expect.stringMatching(message), mend: expect.any(String) });
      expect(inspect(error, { depth: 10 })).not.toMatch(/hush-hush|key-sx-0042/);
    }
  });

  test('a server that is no Elasticsearch', async () => {
    const server = await serve((_request, response) => json(response, { version: { number: '3.6.0' } }));
    const error = await failureOf((await open(server)).check?.() ?? Promise.resolve());
    expect(error).toMatchObject({ code: 'config', mend: expect.stringContaining('OpenSearch') });
  });

  test('a page where JSON should be', async () => {
    const server = await serve((_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json', ...PRODUCT });
      response.end('<html>sign in</html>');
    });
    for (const store of [elasticsearch, opensearch] as readonly Store[]) {
      const error = await failureOf((await open(server, {}, store)).check?.() ?? Promise.resolve());
      expect(error).toMatchObject({ code: 'config', message: expect.stringMatching(/no JSON/) });
    }
  });

  test('a certificate of another authority than the one that is named', async () => {
    for (const store of [elasticsearch, opensearch] as readonly Store[]) {
      const server = await serve(({ body }, response) => bulkOrNothing(response, body), certificates);
      const bundle = `STORE_${store.name.toUpperCase()}_CA_BUNDLE`;
      const trusting = await open(server, { [bundle]: certificates.caFile }, store);
      expect(await trusting.write(await events(2))).toMatchObject({ records: 2 });
      for (const env of [{}, { [bundle]: certificates.strangerFile }]) {
        const error = await failureOf((await open(server, env, store)).check?.() ?? Promise.resolve());
        expect(error).toMatchObject({ code: 'network', message: expect.stringMatching(/certificate is not trusted/) });
      }
    }
  });

  test('a certificate authority that cannot be read', async () => {
    const server = await engine();
    const opening = open(server, { STORE_ELASTICSEARCH_CA_BUNDLE: join(folder, 'nowhere.pem') });
    expect((await failureOf(opening)).message).toMatch(/STORE_ELASTICSEARCH_CA_BUNDLE: .* cannot be read/);
  });
});

describe('settings', () => {
  const names = { uuid: '7d1f', tag: 'okta_users', tenancy: 'Acme', at: new Date('2026-03-04T05:06:07Z') };
  const cloud = `prod:${Buffer.from('eu.example.com:9243$a1b2c3$d4e5').toString('base64')}`;

  function targets(env: Variables): readonly string[] | undefined {
    const { aliases } = elasticsearch;
    const { values, problems } = resolveShape(environmentOf(env), 'elasticsearch', elasticsearch.env, aliases);
    if (values === undefined) throw new Error(JSON.stringify(problems));
    return elasticsearch.targets(values, 'snapshot', names);
  }

  test('say where a dataset goes, and switch the store on', () => {
    expect(targets({})).toBeUndefined();
    expect(targets({ ES_CLOUD: cloud, ES_API_KEY: 'k' })).toEqual(['https://a1b2c3.eu.example.com:9243/okta_users']);
    expect(targets({ ES_CLOUD: 'https://es.example.com', ES_API_KEY: 'k' })).toEqual([
      'https://es.example.com/okta_users',
    ]);
    expect(targets({ ES_NODE: 'https://es.example.com/path/', ES_CLOUD: cloud })).toEqual([
      'https://es.example.com/path/okta_users',
    ]);
    const index = { ES_NODE: 'https://es.example.com', STORE_ELASTICSEARCH_INDEX: '_Sec %TENANCY,%TAG-%YYYY.%MM' };
    expect(targets(index)).toEqual(['https://es.example.com/sec_acme_okta_users-2026.03']);
  });

  test.each<[string, Variables, string]>([
    ['a key without a place', { ES_API_KEY: 'k' }, 'set ES_CLOUD or STORE_ELASTICSEARCH_URL'],
    ['a deployment without a key', { ES_CLOUD: cloud }, 'set ES_API_KEY'],
    ['half a login', { ES_NODE: 'https://es.example.com', ES_USERNAME: 'u' }, 'set STORE_ELASTICSEARCH_PASSWORD'],
    ['what is no Cloud ID', { ES_CLOUD: 'prod:AAAA', ES_API_KEY: 'k' }, 'copy it'],
    ['plain http to elsewhere', { ES_NODE: 'http://es.example.com' }, 'CYBER_COLLECT_ALLOW_HTTP'],
    ['a name of nothing', { ES_NODE: 'https://es.example.com', STORE_ELASTICSEARCH_INDEX: '--' }, '%TAG'],
    ['a name too long', { ES_NODE: 'https://e.example.com', STORE_ELASTICSEARCH_INDEX: 'a'.repeat(200) }, 'short'],
  ])('refuse %s', (_, env, mend) => {
    let error: unknown;
    try {
      targets(env);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(CollectError);
    expect((error as CollectError).mend).toContain(mend);
  });

  test.each(['-1', 'soon', '4000', '0.1234'])('refuse a pause of %s', (pause) => {
    expect(() => targets({ ES_NODE: 'https://e.example.com', STORE_ELASTICSEARCH_SLEEP: pause })).toThrow(/0\.8/);
  });
});
