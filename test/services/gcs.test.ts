import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { type Bucket, Storage } from '@google-cloud/storage';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Values } from '../../src/config/setting.ts';
import { unzstd } from '../../src/envelope/encoding.ts';
import { SpoolWriter } from '../../src/envelope/spool.ts';
import { CollectError } from '../../src/errors.ts';
import type { Dataset, Kind, Sink } from '../../src/stores/store.ts';
import gcs from '../../src/stores/store_gcs.ts';
import { storeSuite } from '../stores/suite.ts';
import { datasetOf } from '../support/dataset.ts';
import { type FakeGcs, startFakeGcs } from '../support/fake_gcs.ts';
import { killOverAndOver } from '../support/killed.ts';

type Variables = Readonly<Record<string, string>>;

const MIB = 2 ** 20;
const name = `cc-${randomUUID()}`;
const at = new Date('2026-03-04T05:06:07.890Z');
const opened: Sink[] = [];
const servers: Server[] = [];
let warnings: string[] = [];
let emulator: FakeGcs;
let bucket: Bucket;
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-gcs-'));
  emulator = await startFakeGcs();
  [bucket] = await new Storage({ apiEndpoint: emulator.endpoint, projectId: 'acme' }).createBucket(name);
}, 600_000);

afterEach(async () => {
  for (const sink of opened.splice(0)) await sink.close?.();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
  warnings = [];
});

afterAll(async () => {
  await emulator?.stop();
  await rm(folder, { recursive: true, force: true });
});

function parsed(all: Variables): Values<typeof gcs.env> {
  const resolved = resolveShape(environmentOf(all), 'gcs', gcs.env, gcs.aliases);
  if (resolved.values === undefined) throw new Error(inspect(resolved));
  return resolved.values;
}

function variables(more: Variables = {}): Variables {
  return { STORE_GCS_BUCKET: name, STORE_GCS_API_ENDPOINT: emulator.endpoint, ...more };
}

async function open(more: Variables = {}): Promise<Sink> {
  const context = { tenancy: 'acme', at, warn: (message: string) => warnings.push(message) };
  const sink = await gcs.open(parsed(variables(more)), context);
  opened.push(sink);
  return sink;
}

function dataset(lines: Iterable<string>, kind: Kind = 'snapshot', tag = `t_${randomUUID().slice(0, 8)}`) {
  return datasetOf(folder, lines, { tag, kind, metadata: { timestamp: '2026-03-04T05:06:07Z' } });
}

/** A dataset that is on disk only. */
async function bigDataset(bytes: number, tag?: string): Promise<Dataset> {
  const empty = await dataset([], 'snapshot', tag);
  const writer = await SpoolWriter.create(join(folder, `${randomUUID()}.ndjson`));
  const line = Buffer.from(`{"noise":"${'x'.repeat(2000)}"}\n`);
  const records = Math.ceil(bytes / line.length);
  for (let n = 0; n < records; n += 1) await writer.write([line]);
  const spool = await writer.finish(records);
  return { ...empty, spool, metadata: { ...empty.metadata, records, sha256: spool.sha256 } };
}

function envelope(lines: readonly string[], { metadata }: Dataset): string {
  return `{"data":[${lines.join(',')}],"metadata":${JSON.stringify(metadata)}}\n`;
}

async function object(key: string): Promise<Buffer> {
  return (await bucket.file(key).download({ decompress: false }))[0];
}

async function names(prefix: string): Promise<readonly string[]> {
  const [files] = await bucket.getFiles({ prefix });
  return files.map((file) => file.name);
}

async function bytesOf(source: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  if (source !== undefined) for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function failure(work: Promise<unknown>): Promise<CollectError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof CollectError) return error;
  throw new Error(`no CollectError but ${inspect(error)}`);
}

/** What a door does with a call: `lost` lets it through and breaks the connection instead of the answer. */
type Fault = 'lost' | { readonly status: number; readonly body?: unknown; readonly headers?: Variables } | undefined;

interface Call {
  /** `begin`, `send`, `ask`, or the method of any other. */
  readonly kind: string;
  /** How many of its kind there were, with this one. */
  readonly nth: number;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

function kindOf(method: string, url: URL, range: unknown): string {
  if (!url.pathname.startsWith('/upload/')) return method;
  if (method === 'POST') return 'begin';
  return range === 'bytes */*' ? 'ask' : 'send';
}

/** A door in front of the emulator, which breaks or answers some calls itself. */
async function front(faults: (call: Call) => Fault) {
  const calls: Call[] = [];
  const server = createServer((incoming, answer) => {
    const url = new URL(incoming.url ?? '/', emulator.endpoint);
    const kind = kindOf(incoming.method ?? '', url, incoming.headers['content-range']);
    const nth = calls.filter((one) => one.kind === kind).length + 1;
    const call = { kind, nth, query: url.searchParams, headers: incoming.headers };
    calls.push(call);
    const fault = faults(call);
    if (fault !== undefined && fault !== 'lost') {
      incoming.resume().once('end', () => {
        answer.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers });
        answer.end(JSON.stringify(fault.body ?? {}));
      });
      return;
    }
    const headers = { ...incoming.headers, host: url.host };
    const outgoing = request(url, { method: incoming.method, headers }, (response) => {
      const { location } = response.headers;
      const own = location === undefined ? {} : { location: location.replace(emulator.endpoint, origin()) };
      if (fault === 'lost') response.resume().once('end', () => incoming.socket.destroy());
      else response.pipe(answer.writeHead(response.statusCode ?? 500, { ...response.headers, ...own }));
    });
    outgoing.on('error', () => answer.destroy());
    incoming.pipe(outgoing);
  });
  const origin = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  servers.push(server);
  return { url: origin(), calls, kinds: () => calls.map(({ kind }) => kind) };
}

function refusal(status: number, reason: string): Fault {
  return { status, body: { error: { code: status, message: 'no', errors: [{ reason, message: 'no' }] } } };
}

/** The key of a service account that nobody knows. */
function unknownKey(): string {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const private_key = privateKey.export({ type: 'pkcs8', format: 'pem' });
  return JSON.stringify({ type: 'service_account', client_email: 'robot@acme.example', private_key });
}

storeSuite(
  'gcs (ndjson)',
  async () => {
    const suite = (more: Variables, warned: string[]) =>
      gcs.open(parsed(variables({ STORE_GCS_KEY: 'suite/%TAG/%TENANCY.ndjson', ...more })), {
        tenancy: 'acme',
        at: new Date(),
        warn: (message) => warned.push(message),
      });
    return {
      open: (warned) => suite({}, warned),
      // The emulator lets everyone in.
      openWrong: async () => {
        const { url } = await front(() => refusal(401, 'authError'));
        return suite({ STORE_GCS_API_ENDPOINT: url }, []);
      },
      read: async (tag) => (await object(`suite/${tag}/acme.ndjson`)).toString().split('\n').slice(0, -1),
      exact: true,
      nul: 'kept',
      loneSurrogate: 'kept',
      secrets: [],
    };
  },
  { login: true, remembers: true },
);

describe('write', () => {
  test('puts the envelope at the main name and again at the backup’s', async () => {
    const lines = ['{"id":1}', '{"id":2,"a":[1,2]}'];
    const data = await dataset(lines);
    const sink = await open({ STORE_GCS_KEY: 'data/%TAG/%TENANCY-%YYYY%MM%DD-%UUID.json' });
    const main = `data/${data.tag}/acme-20260304-${data.metadata.upload_id}.json`;
    const backup = `backup/${data.tag}/acme.json`;
    expect(await sink.write(data)).toEqual({ at: `gs://${name}/${main}`, records: 2 });
    expect(await names(`backup/${data.tag}`)).toEqual([]);
    expect(await sink.backup?.save(data)).toEqual({ at: `gs://${name}/${backup}`, records: 2 });
    for (const key of [main, backup]) {
      expect((await object(key)).toString()).toBe(envelope(lines, data));
      const [{ metadata }] = await bucket.file(key).getMetadata();
      expect(metadata).toEqual({
        'upload-id': data.metadata.upload_id,
        timestamp: '2026-03-04T05:06:07Z',
        sha256: data.spool.sha256,
        records: '2',
      });
    }
  });

  test.each([
    ['ndjson.gz', 'application/gzip', (bytes: Buffer) => gunzipSync(bytes)],
    ['json.gz', 'application/gzip', (bytes: Buffer) => gunzipSync(bytes)],
    ['json.zst', 'application/zstd', (bytes: Buffer) => bytesOf(unzstd(one(bytes), 'it'))],
    ['jsonl', 'application/x-ndjson', (bytes: Buffer) => bytes],
  ])('writes .%s as %s', async (end, type, inflate) => {
    const lines = Array.from({ length: 5000 }, (_, n) => `{"id":${n},"x":"${randomUUID()}"}`);
    const data = await dataset(lines);
    const door = await front(() => undefined);
    const sink = await open({ STORE_GCS_KEY: `data/%TAG.${end}`, STORE_GCS_API_ENDPOINT: door.url });
    await sink.write(data);
    const key = `data/${data.tag}.${end}`;
    const wanted = end.startsWith('json.') ? envelope(lines, data) : lines.map((line) => `${line}\n`).join('');
    expect((await inflate(await object(key))).toString()).toBe(wanted);
    // The emulator does not keep it.
    expect(door.calls.find(({ kind }) => kind === 'begin')?.headers['x-upload-content-type']).toBe(type);
  });

  test('sends 100 MB in blocks with the hash at the end, in bounded memory', async () => {
    const data = await bigDataset(100 * MIB);
    const door = await front(() => undefined);
    const sink = await open({ STORE_GCS_KEY: 'data/%TAG.ndjson', STORE_GCS_API_ENDPOINT: door.url });
    const before = process.memoryUsage.rss();
    let most = before;
    const sampler = setInterval(() => {
      most = Math.max(most, process.memoryUsage.rss());
    }, 20);
    const started = performance.now();
    await sink.write(data);
    clearInterval(sampler);
    const growth = Math.round((most - before) / MIB);
    process.stderr.write(`100 MB: ${Math.round(performance.now() - started)} ms, RSS grew by ${growth} MiB\n`);
    expect(growth).toBeLessThan(200);
    const sent = door.calls.filter(({ kind }) => kind === 'send');
    expect(sent).toHaveLength(7);
    const stored = await object(`data/${data.tag}.ndjson`);
    expect(createHash('sha256').update(stored).digest('hex')).toBe(data.spool.sha256);
    const md5 = createHash('md5').update(stored).digest('base64');
    expect(sent.map(({ headers }) => headers['x-goog-hash'])).toEqual([...Array(6).fill(undefined), `md5=${md5}`]);
  });

  test('puts events at a name of their own, or nowhere', async () => {
    const data = await dataset(['{"id":1}'], 'events');
    const sink = await open({ STORE_GCS_KEY_EVENTS: 'log/%TAG/%UUID.ndjson' });
    await sink.write(data);
    expect((await object(`log/${data.tag}/${data.metadata.upload_id}.ndjson`)).toString()).toBe('{"id":1}\n');
    const none = await open({ STORE_GCS_KEY: 'data/%TAG.json' });
    expect(await none.write(data)).toEqual({ at: '(not uploaded: STORE_GCS_KEY_EVENTS is not set)', records: 0 });
    expect(await names(`data/${data.tag}`)).toEqual([]);
  });

  test.each(['json', 'json.gz', 'json.zst'])('the backup comes back from .%s as it was saved', async (end) => {
    const lines = Array.from({ length: 30_000 }, (_, n) => `{"id":${n},"x":"${randomUUID()}"}`);
    const data = await dataset(lines);
    const sink = await open({ STORE_GCS_BACKUP: `keep/%TAG/%TENANCY.${end}` });
    const values = { uuid: randomUUID(), tag: data.tag, tenancy: 'acme', at };
    expect(await sink.backup?.load(values)).toBeUndefined();
    await sink.backup?.save(data);
    const copy = await sink.backup?.load(values);
    expect(copy?.at).toBe(`gs://${name}/keep/${data.tag}/acme.${end}`);
    expect((await bytesOf(copy?.body)).toString()).toBe(envelope(lines, data));
  });
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
  test.each([
    ['in blocks', 'json', 40 * MIB],
    ['compressed', 'json.gz', 20 * MIB],
    ['compressed with zstd', 'json.zst', 20 * MIB],
  ])('half-way %s leaves the old object', async (_, end, size) => {
    const old = await dataset(['{"id":"old"}']);
    const data = await bigDataset(size, old.tag);
    const sink = await open({ STORE_GCS_KEY: `data/%TAG.${end}` });
    await sink.write(old);
    const before = await object(`data/${old.tag}.${end}`);
    await truncate(data.spool.path, Math.round(data.spool.bytes * 0.7));
    expect((await failure(sink.write(data))).message).toMatch(/the spool .* damaged/);
    expect((await object(`data/${old.tag}.${end}`)).equals(before)).toBe(true);
  });

  test('of a block is made good, and a wait that is asked for is kept', async () => {
    const door = await front(({ kind, nth }) => {
      if (kind === 'send' && nth === 1)
        return { ...Object(refusal(503, 'backendError')), headers: { 'retry-after': '1' } };
      if (kind === 'ask' && nth === 1) return { status: 308 };
      return undefined;
    });
    const data = await bigDataset(20 * MIB);
    const sink = await open({ STORE_GCS_KEY: 'data/%TAG.ndjson', STORE_GCS_API_ENDPOINT: door.url });
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
    const sink = await open({ STORE_GCS_KEY: 'data/%TAG.ndjson', STORE_GCS_API_ENDPOINT: door.url });
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
    const sink = await open({ STORE_GCS_KEY: 'data/%TAG.ndjson', STORE_GCS_API_ENDPOINT: door.url });
    const error = await failure(sink.write(await bigDataset(20 * MIB)));
    expect(ranges).toEqual([`bytes 0-${16 * MIB - 1}/*`, `bytes ${5 * MIB}-${16 * MIB - 1}/*`]);
    expect(error.message).toContain('answered 410 gone');
  });

  test('a longer wait than a run may take is an answer', async () => {
    const door = await front(({ kind }) =>
      kind === 'send'
        ? { ...Object(refusal(429, 'rateLimitExceeded')), headers: { 'retry-after': '3600' } }
        : undefined,
    );
    const sink = await open({ STORE_GCS_KEY: 'data/%TAG.ndjson', STORE_GCS_API_ENDPOINT: door.url });
    const error = await failure(sink.write(await dataset(['{}'])));
    expect(error.code).toBe('throttled');
    expect(door.kinds()).toEqual(['GET', 'begin', 'send']);
  });

  test('who wrote meanwhile is not overwritten', async () => {
    const tag = `t_${randomUUID().slice(0, 8)}`;
    const old = await open({ STORE_GCS_KEY: 'data/%TAG.ndjson' });
    await old.write(await dataset(['{"id":"newer"}'], 'snapshot', tag));
    const [{ generation }] = await bucket.file(`data/${tag}.ndjson`).getMetadata();
    // Google looks at the generation when the upload ends, the emulator when it begins.
    const door = await front(({ kind }) => (kind === 'send' ? refusal(412, 'conditionNotMet') : undefined));
    const sink = await open({ STORE_GCS_KEY: 'data/%TAG.ndjson', STORE_GCS_API_ENDPOINT: door.url });
    const error = await failure(sink.write(await dataset(['{"id":"late"}'], 'snapshot', tag)));
    expect(door.calls.find(({ kind }) => kind === 'begin')?.query.get('ifGenerationMatch')).toBe(String(generation));
    expect(error.code).toBe('locked');
    expect(error.message).toContain('written it meanwhile');
    expect((await object(`data/${tag}.ndjson`)).toString()).toBe('{"id":"newer"}\n');
  });

  test('for a missing bucket names it', async () => {
    const sink = await open({ STORE_GCS_BUCKET: 'not-there', STORE_GCS_KEY: 'data/%TAG.json' });
    const data = await dataset(['{}']);
    for (const work of [() => sink.write(data), () => sink.backup?.save(data), () => sink.check?.()]) {
      const error = await failure(Promise.resolve(work()));
      expect(error.message).toContain("the bucket 'not-there' does not exist");
      expect(error.mend).toContain('STORE_GCS_BUCKET');
    }
  });

  test.each<[string, Fault, string, RegExp]>([
    ['no right', refusal(403, 'forbidden'), 'denied', /roles\/storage.objectUser/],
    ['a quota', refusal(403, 'quotaExceeded'), 'throttled', /raise it/],
    ['what it does not know', refusal(400, 'invalid'), 'store', /settings/],
  ])('for %s says so', async (_, fault, code, mend) => {
    const door = await front(({ kind }) => (kind === 'begin' ? fault : undefined));
    const sink = await open({ STORE_GCS_KEY: 'data/%TAG.json', STORE_GCS_API_ENDPOINT: door.url });
    const error = await failure(sink.write(await dataset(['{}'])));
    expect(error.code).toBe(code);
    expect(error.mend).toMatch(mend);
  });

  test('to connect names the host', async () => {
    const door = await front(() => undefined);
    const server = servers.pop();
    await new Promise((done) => server?.close(done));
    const sink = await open({ STORE_GCS_KEY: 'data/%TAG.json', STORE_GCS_API_ENDPOINT: door.url });
    const error = await failure(sink.write(await dataset(['{}'])));
    expect(error.code).toBe('network');
    expect(error.message).toContain(`no connection to ${new URL(door.url).host} (ECONNREFUSED)`);
  });
});

describe('check', () => {
  test('passes and leaves nothing behind', async () => {
    const sink = await open({ STORE_GCS_BACKUP: 'probed/%TAG/%TENANCY.json' });
    await sink.check?.();
    expect(await names('probed/')).toEqual([]);
    expect(warnings).toEqual([]);
  });

  test('only warns where deleting is not allowed', async () => {
    const door = await front(({ kind }) => (kind === 'DELETE' ? refusal(403, 'forbidden') : undefined));
    const sink = await open({ STORE_GCS_API_ENDPOINT: door.url });
    await sink.check?.();
    expect(warnings).toEqual([expect.stringContaining('storage.objects.delete')]);
  });
});

describe('settings', () => {
  const values = { uuid: '7d1f', tag: 'okta_users', tenancy: 'acme', at };
  const least = { STORE_GCS_BUCKET: 'acme-security' };

  test('say where a dataset goes', () => {
    expect(gcs.targets(parsed({ ...least, STORE_GCS_KEY: 'a/%TAG.json' }), 'snapshot', values)).toEqual([
      'gs://acme-security/a/okta_users.json',
      'gs://acme-security/backup/okta_users/acme.json',
    ]);
    expect(gcs.targets(parsed({ ...least, STORE_GCS_CREDENTIALS: unknownKey() }), 'events', values)).toEqual([]);
  });

  test.each<[string, Variables, string]>([
    ['what is no key', { STORE_GCS_CREDENTIALS: 'hunter2' }, 'STORE_GCS_CREDENTIALS_FILE'],
    ['half a key', { STORE_GCS_CREDENTIALS: '{"client_email":"hunter2"}' }, 'STORE_GCS_CREDENTIALS_FILE'],
    ['plain http to elsewhere', { STORE_GCS_API_ENDPOINT: 'http://gcs.example' }, 'CYBER_COLLECT_ALLOW_HTTP'],
    ['the backup as main name', { STORE_GCS_KEY: 'backup/%TAG/%TENANCY.json' }, 'STORE_GCS_KEY'],
    ['a backup that moves', { STORE_GCS_BACKUP: 'b/%UUID.json' }, '%UUID'],
  ])('refuse %s', (_, more, mend) => {
    let error: unknown;
    try {
      gcs.targets(parsed({ ...least, ...more }), 'snapshot', values);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(CollectError);
    expect((error as CollectError).mend).toContain(mend);
    expect(inspect(error, { depth: 10 })).not.toContain('hunter2');
  });
});
