import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import { type Bucket, Storage } from '@google-cloud/storage';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Sink } from '../../src/stores/store.ts';
import gcs from '../../src/stores/store_gcs.ts';
import { datasetOf, recordsOfSize } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { type FakeGcs, startFakeGcs } from '../support/fake_gcs.ts';
import { type Call, type Fault, frontOf, type Refusal } from '../support/front.ts';
import { killOverAndOver } from '../support/killed.ts';
import { growthOf } from '../support/memory.ts';
import { MIB, newTag, objectStoreSuite } from '../support/object_store.ts';
import { openStore, targetsOf } from '../support/open.ts';
import { temporaryFolder } from '../support/run.ts';

type Variables = Readonly<Record<string, string>>;

const name = `cc-${randomUUID()}`;
let emulator: FakeGcs;
let bucket: Bucket;
let folder = '';

beforeAll(async () => {
  folder = await temporaryFolder();
  emulator = await startFakeGcs();
  [bucket] = await new Storage({ apiEndpoint: emulator.endpoint, projectId: 'acme' }).createBucket(name);
}, 600_000);

afterAll(() => emulator?.stop());

function variables(more: Variables = {}): Variables {
  return { STORE_GCS_BUCKET: name, STORE_GCS_API_ENDPOINT: emulator.endpoint, ...more };
}

/** A sink that puts lines, through a door if there is one. */
function open(origin = emulator.endpoint): Promise<Sink> {
  return openStore(gcs, variables({ STORE_GCS_KEY: 'data/%TAG.ndjson', STORE_GCS_API_ENDPOINT: origin }));
}

function dataset(records: Iterable<string>, tag = newTag()) {
  return datasetOf(folder, records, { tag });
}

async function object(key: string): Promise<Buffer> {
  return (await bucket.file(key).download({ decompress: false }))[0];
}

/** A door in front of the emulator, which tells an upload's calls apart: `begin`, `send`, `ask`. */
function front(faults?: (call: Call) => Fault) {
  return frontOf(
    emulator.endpoint,
    ({ method, url, headers }) => {
      if (!url.pathname.startsWith('/upload/')) return method;
      if (method === 'POST') return 'begin';
      return headers['content-range'] === 'bytes */*' ? 'ask' : 'send';
    },
    faults,
  );
}

function refusal(status: number, reason: string, headers: Variables = {}): Refusal {
  const body = JSON.stringify({ error: { code: status, message: 'no', errors: [{ reason, message: 'no' }] } });
  return { status, body, headers: { 'content-type': 'application/json', ...headers } };
}

/** The key of a service account that nobody knows. */
function unknownKey(): string {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const private_key = privateKey.export({ type: 'pkcs8', format: 'pem' });
  return JSON.stringify({ type: 'service_account', client_email: 'robot@acme.example', private_key });
}

test('100 MB go in blocks with the hash at the end, in bounded memory', async () => {
  const data = await dataset(recordsOfSize(100 * MIB));
  const door = await front();
  const sink = await open(door.origin);
  expect(await growthOf('100 MB', () => sink.write(data))).toBeLessThan(200);
  const sent = door.calls.filter(({ kind }) => kind === 'send');
  expect(sent).toHaveLength(7);
  const stored = await object(`data/${data.tag}.ndjson`);
  expect(createHash('sha256').update(stored).digest('hex')).toBe(data.spool.sha256);
  const md5 = createHash('md5').update(stored).digest('base64');
  expect(sent.map(({ headers }) => headers['x-goog-hash'])).toEqual([...Array(6).fill(undefined), `md5=${md5}`]);
});

objectStoreSuite({
  store: gcs,
  prefix: 'STORE_GCS',
  bucket: 'STORE_GCS_BUCKET',
  uploadId: 'upload-id',
  deleting: 'storage.objects.delete',
  begins: 'begin',
  tellsBucket: false, // the emulator answers both alike
  refusals: [
    ['lack of a right', refusal(403, 'forbidden'), 'denied', /./, /roles\/storage.objectUser/],
    ['a quota', refusal(403, 'quotaExceeded'), 'throttled', /./, /raise it/],
    ['what Google does not know', refusal(400, 'invalid'), 'store', /./, /settings/],
  ],
  denied: refusal(403, 'forbidden'),
  mistakes: [
    ['what is no key', { STORE_GCS_CREDENTIALS: 'hunter2' }, 'STORE_GCS_CREDENTIALS_FILE'],
    ['half a key', { STORE_GCS_CREDENTIALS: '{"client_email":"hunter2"}' }, 'STORE_GCS_CREDENTIALS_FILE'],
  ],
  variables: (origin) => variables(origin === undefined ? {} : { STORE_GCS_API_ENDPOINT: origin }),
  // The emulator lets everyone in.
  wrong: async () => ({ STORE_GCS_API_ENDPOINT: (await front(() => refusal(401, 'authError'))).origin }),
  secrets: () => [],
  place: () => `gs://${name}`,
  front,
  object,
  names: async (prefix) => (await bucket.getFiles({ prefix }))[0].map((file) => file.name),
  metadata: async (key) => (await bucket.file(key).getMetadata())[0].metadata as Variables,
  // The emulator does not keep it.
  type: async (_, calls) => calls.find(({ kind }) => kind === 'begin')?.headers['x-upload-content-type'],
});

test('killed at any moment an object is the old whole or the new whole, which a reader sees throughout', async () => {
  const env = variables({ STORE_GCS_KEY: 'killed/%TAG.json' });
  const url = `${emulator.endpoint}/storage/v1/b/${name}/o/${encodeURIComponent('killed/okta_killed.json')}?alt=media`;
  const read = async () => {
    const answer = await fetch(url);
    const text = await answer.text();
    if (answer.status === 404) return undefined;
    const { data } = JSON.parse(text) as { data: unknown[] };
    return data.map((record) => JSON.stringify(record));
  };
  const seen = await killOverAndOver({ store: 'gcs', env, folder, read, kills: 6 });
  expect(seen.wrong).toEqual([]);
  expect(seen.generations).toBeGreaterThan(1);
}, 120_000);

describe('failure', () => {
  test('of a block is made good, and a wait that is asked for is kept', async () => {
    const door = await front(({ kind, nth }) => {
      if (kind === 'send' && nth === 1) return refusal(503, 'backendError', { 'retry-after': '1' });
      if (kind === 'ask' && nth === 1) return { status: 308 };
      return undefined;
    });
    const data = await dataset(recordsOfSize(20 * MIB));
    const sink = await open(door.origin);
    const from = performance.now();
    await sink.write(data);
    expect(performance.now() - from).toBeGreaterThan(1000);
    expect(door.kinds()).toEqual(['GET', 'begin', 'send', 'ask', 'send', 'send']);
    expect(
      createHash('sha256')
        .update(await object(`data/${data.tag}.ndjson`))
        .digest('hex'),
    ).toBe(data.spool.sha256);
  });

  test('of the last answer is no failure where the object is there', async () => {
    const door = await front(({ kind, nth }) => {
      if (kind === 'send' && nth === 1) return 'lost';
      return kind === 'ask' ? refusal(412, 'conditionNotMet') : undefined;
    });
    const data = await dataset(['{"id":1}']);
    const sink = await open(door.origin);
    await sink.write(data);
    expect(door.kinds()).toEqual(['GET', 'begin', 'send', 'ask', 'GET']);
    expect((await object(`data/${data.tag}.ndjson`)).toString()).toBe('{"id":1}\n');
  });

  test('what Google has taken of a block is not sent again', async () => {
    const ranges: unknown[] = [];
    const door = await front(({ kind, nth, headers }) => {
      if (kind === 'send') ranges.push(headers['content-range']);
      if (kind === 'send' && nth === 1) return { status: 308, headers: { range: `bytes=0-${5 * MIB - 1}` } };
      return kind === 'send' ? refusal(410, 'gone') : undefined;
    });
    const sink = await open(door.origin);
    const error = await failureOf(async () => sink.write(await dataset(recordsOfSize(20 * MIB))));
    expect(ranges).toEqual([`bytes 0-${16 * MIB - 1}/*`, `bytes ${5 * MIB}-${16 * MIB - 1}/*`]);
    expect(error.message).toContain('answered 410 gone');
  });

  test('a longer wait than a run may take is an answer', async () => {
    const door = await front(({ kind }) =>
      kind === 'send' ? refusal(429, 'rateLimitExceeded', { 'retry-after': '3600' }) : undefined,
    );
    const sink = await open(door.origin);
    const error = await failureOf(async () => sink.write(await dataset(['{}'])));
    expect(error.code).toBe('throttled');
    expect(door.kinds()).toEqual(['GET', 'begin', 'send']);
  });

  test('who wrote meanwhile is not overwritten', async () => {
    const tag = newTag();
    const old = await open();
    await old.write(await dataset(['{"id":"newer"}'], tag));
    const [{ generation }] = await bucket.file(`data/${tag}.ndjson`).getMetadata();
    // Google looks at the generation when the upload ends, the emulator when it begins.
    const door = await front(({ kind }) => (kind === 'send' ? refusal(412, 'conditionNotMet') : undefined));
    const sink = await open(door.origin);
    const error = await failureOf(async () => sink.write(await dataset(['{"id":"late"}'], tag)));
    expect(door.calls.find(({ kind }) => kind === 'begin')?.url.searchParams.get('ifGenerationMatch')).toBe(
      String(generation),
    );
    expect(error.code).toBe('locked');
    expect(error.message).toContain('written it meanwhile');
    expect((await object(`data/${tag}.ndjson`)).toString()).toBe('{"id":"newer"}\n');
  });
});

test('the key of a service account is taken', () => {
  const own = { STORE_GCS_BUCKET: 'acme-security', STORE_GCS_CREDENTIALS: unknownKey() };
  expect(targetsOf(gcs, own)).toEqual(['gs://acme-security/backup/okta_users/acme.json']);
});
