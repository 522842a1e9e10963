import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand, GetObjectCommand, S3Client } from '@aws-sdk/client-s3';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Shape } from '../../src/config/setting.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import crowdstrike from '../../src/simulator/vendor_crowdstrike.ts';
import type { Store } from '../../src/stores/store.ts';
import elasticsearch from '../../src/stores/store_elasticsearch.ts';
import postgres from '../../src/stores/store_postgres.ts';
import s3 from '../../src/stores/store_s3.ts';
import { datasetOf } from '../support/dataset.ts';
import { needed } from '../support/needed.ts';
import { openStore } from '../support/open.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { searchReader } from '../support/search.ts';

const toxiproxy = needed('TEST_TOXIPROXY_URL');
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-network-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** A fault of the network, as Toxiproxy names it. */
interface Toxic {
  readonly type: 'latency' | 'bandwidth' | 'slow_close' | 'timeout' | 'reset_peer' | 'limit_data' | 'slicer';
  readonly attributes: Readonly<Record<string, number>>;
  readonly stream?: 'upstream' | 'downstream';
}

async function call(method: string, path: string, body?: unknown): Promise<unknown> {
  const answer = await fetch(`${toxiproxy}${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`Toxiproxy: ${answer.status} ${await answer.text()}`);
  return answer.status === 204 ? undefined : answer.json();
}

/** A proxy before a server; the same faults for everything that passes, until `heal`. */
async function proxied(upstream: string, toxic?: Toxic) {
  const name = randomUUID();
  const proxy = (await call('POST', '/proxies', { name, listen: '127.0.0.1:0', upstream, enabled: true })) as {
    listen: string;
  };
  onTestFinished(async () => {
    await call('DELETE', `/proxies/${name}`);
  });
  const poison = (one: Toxic) => call('POST', `/proxies/${name}/toxics`, { name: 'it', stream: 'downstream', ...one });
  if (toxic !== undefined) await poison(toxic);
  return {
    host: proxy.listen.split(':')[0] ?? '',
    port: proxy.listen.split(':')[1] ?? '',
    poison,
    heal: () => call('DELETE', `/proxies/${name}/toxics/it`),
  };
}

function lines(count: number): readonly string[] {
  return Array.from({ length: count }, (_, n) => `{"id":${n},"pad":"${'x'.repeat(300)}"}`);
}

function numbers(count: number): readonly number[] {
  return Array.from({ length: count }, (_, n) => n);
}

/** Slow but whole: everything must arrive, once. */
const SLOW: readonly (readonly [string, Toxic])[] = [
  ['50 ms more each way', { type: 'latency', attributes: { latency: 50, jitter: 20 } }],
  ['a slow close', { type: 'slow_close', attributes: { delay: 500 } }],
  ['bytes in small slices', { type: 'slicer', attributes: { average_size: 400, size_variation: 300, delay: 50 } }],
  ['2 MB a second up', { type: 'bandwidth', attributes: { rate: 2048 }, stream: 'upstream' }],
];

/** Cut: what was there stays, and once it is mended everything arrives, once. */
const CUT: readonly (readonly [string, Toxic])[] = [
  ['connections reset at once', { type: 'reset_peer', attributes: { timeout: 0 } }],
  ['connections reset after 30 ms', { type: 'reset_peer', attributes: { timeout: 30 } }],
  ['connections cut after 100 kB up', { type: 'limit_data', attributes: { bytes: 100_000 }, stream: 'upstream' }],
];

/** A store on a real server. */
interface Served<S extends Shape> {
  readonly store: Store<S>;
  /** Host and port of the server. */
  readonly server: string;
  /** A name for what one test stores. */
  name(): string;
  env(host: string, port: string, name: string): Readonly<Record<string, string>>;
  /** The ids of what is stored, in order. */
  stored(name: string): Promise<readonly number[]>;
  /** An answer that was cut off does not tell whether the upload was taken. */
  readonly unsure?: true;
}

function arrives<S extends Shape>({ store, server, name, env, stored, unsure }: Served<S>): void {
  test.each(SLOW)('%s: everything arrives, once', async (_name, toxic) => {
    const place = name();
    const proxy = await proxied(server, toxic);
    const sink = await openStore(store, env(proxy.host, proxy.port, place));
    await sink.write(await datasetOf(folder, lines(3000)));
    expect(await stored(place)).toEqual(numbers(3000));
  });

  test.each(CUT)('%s: the old stands, then the same upload arrives, once', async (_name, toxic) => {
    const place = name();
    const proxy = await proxied(server);
    const sink = await openStore(store, env(proxy.host, proxy.port, place));
    await sink.write(await datasetOf(folder, lines(10)));
    await proxy.poison(toxic);
    const next = await datasetOf(folder, lines(3000));
    const lost = await sink.write(next).then(
      () => false,
      () => true,
    );
    if (lost) expect([numbers(10), ...(unsure ? [numbers(3000)] : [])]).toContainEqual(await stored(place));
    await proxy.heal();
    await sink.write(next);
    expect(await stored(place)).toEqual(numbers(3000));
  });
}

describe('between the program and a vendor', () => {
  test.each([...SLOW, ['connections cut after 40 kB', { type: 'limit_data', attributes: { bytes: 40_000 } }] as const])(
    '%s: everything arrives, once',
    async (_name, toxic) => {
      const vendor = await startVendor(crowdstrike, { scale: 300, pageSize: 10 });
      onTestFinished(() => vendor.close());
      const proxy = await proxied(new URL(vendor.origin).host, toxic);
      const { summary, folder: at } = await collectOnce({
        env: { ...vendor.env, FALCON_BASE_URL: `http://${proxy.host}:${proxy.port}` },
        only: ['crowdstrike.vulnerabilities'],
      });
      expect(resultOf(summary, 'crowdstrike_vulnerabilities')).toMatchObject({ verdict: 'complete', records: 300 });
      expect(await storedLines(at, 'crowdstrike_vulnerabilities')).toEqual(vendor.truth('vulnerabilities'));
    },
    60_000,
  );
});

describe('between the program and PostgreSQL', () => {
  const real = new URL(needed('TEST_POSTGRES_URL'));
  const env = (host: string, port: string, schema: string) => ({
    STORE_POSTGRES_HOST: host,
    STORE_POSTGRES_PORT: port,
    STORE_POSTGRES_USER: decodeURIComponent(real.username),
    STORE_POSTGRES_DBNAME: real.pathname.slice(1),
    STORE_POSTGRES_SCHEMA: schema,
    ...(real.password === '' ? {} : { STORE_POSTGRES_PASSWORD: decodeURIComponent(real.password) }),
  });

  async function stored(schema: string): Promise<readonly number[]> {
    const client = new pg.Client({ connectionString: real.href });
    await client.connect();
    try {
      const { rows } = await client.query<{ n: number }>(
        `SELECT (json_data->>'id')::int AS n FROM ${schema}.okta_users_latest ORDER BY 1`,
      );
      return rows.map(({ n }) => n);
    } finally {
      await client.end();
    }
  }

  arrives({
    store: postgres,
    server: real.host,
    name: () => `net_${randomUUID().slice(0, 8)}`,
    env,
    stored,
  });
});

describe('between the program and S3', () => {
  const endpoint = new URL(needed('TEST_S3_ENDPOINT'));
  const bucket = `cc-net-${randomUUID()}`;
  const identity = {
    AWS_ACCESS_KEY_ID: needed('TEST_S3_ACCESS_KEY_ID'),
    AWS_SECRET_ACCESS_KEY: needed('TEST_S3_SECRET_ACCESS_KEY'),
    AWS_REGION: needed('TEST_S3_REGION'),
  };
  const admin = new S3Client({
    endpoint: endpoint.href,
    region: identity.AWS_REGION,
    forcePathStyle: true,
    credentials: { accessKeyId: identity.AWS_ACCESS_KEY_ID, secretAccessKey: identity.AWS_SECRET_ACCESS_KEY },
  });

  beforeAll(async () => {
    await admin.send(new CreateBucketCommand({ Bucket: bucket }));
  });
  afterAll(() => admin.destroy());

  const env = (host: string, port: string, key: string) => ({
    ...identity,
    STORE_AWS_S3_BUCKET: bucket,
    STORE_AWS_S3_ENDPOINT: `http://${host}:${port}`,
    STORE_AWS_S3_FORCE_PATH_STYLE: 'true',
    STORE_AWS_S3_ACL: 'none',
    STORE_AWS_S3_KEY: `${key}/%TAG.json`,
  });

  async function stored(key: string): Promise<readonly number[]> {
    const found = await admin.send(new GetObjectCommand({ Bucket: bucket, Key: `${key}/okta_users.json` }));
    const { data } = JSON.parse((await found.Body?.transformToString()) ?? '') as { data: { id: number }[] };
    return data.map(({ id }) => id);
  }

  arrives({ store: s3, server: endpoint.host, name: randomUUID, env, stored, unsure: true });
});

describe('between the program and Elasticsearch', () => {
  const real = new URL(needed('TEST_ELASTICSEARCH_URL'));
  const reader = searchReader(real.origin);
  const stem = `net${randomUUID().slice(0, 8)}`;

  afterAll(() => reader.wipe(stem));

  const env = (host: string, port: string, prefix: string) => ({
    STORE_ELASTICSEARCH_URL: `http://${host}:${port}`,
    STORE_ELASTICSEARCH_INDEX: `${prefix}-%TAG`,
  });

  async function stored(prefix: string, tag = 'okta_users'): Promise<readonly number[]> {
    const texts = await reader.records(`${prefix}-${tag}`);
    return texts.map((text) => (JSON.parse(text) as { id: number }).id).sort((a, b) => a - b);
  }

  const name = () => `${stem}-${randomUUID().slice(0, 8)}`;
  arrives({ store: elasticsearch, server: real.host, name, env, stored });

  test.each(CUT)('%s: events that were partly added are all there in the end, once', async (_name, toxic) => {
    const prefix = name();
    const proxy = await proxied(real.host);
    const sink = await openStore(elasticsearch, env(proxy.host, proxy.port, prefix));
    const choice = { tag: 'okta_logs', kind: 'events' } as const;
    await sink.write(await datasetOf(folder, lines(10), choice));
    await proxy.poison(toxic);
    const next = await datasetOf(folder, lines(3000), choice);
    await sink.write(next).catch(() => undefined);
    await proxy.heal();
    await sink.write(next);
    expect(await stored(prefix, 'okta_logs')).toEqual(numbers(3000));
  });
});
