import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { gunzipSync } from 'node:zlib';
import {
  CreateBucketCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Values } from '../../src/config/setting.ts';
import { unzstd } from '../../src/envelope/encoding.ts';
import { SpoolWriter } from '../../src/envelope/spool.ts';
import { CollectError } from '../../src/errors.ts';
import type { Dataset, Kind, Sink } from '../../src/stores/store.ts';
import s3 from '../../src/stores/store_s3.ts';
import { storeSuite } from '../stores/suite.ts';
import { datasetOf } from '../support/dataset.ts';
import { killOverAndOver } from '../support/killed.ts';
import { needed } from '../support/needed.ts';

type Variables = Readonly<Record<string, string>>;

const endpoint = needed('TEST_S3_ENDPOINT');
const accessKeyId = needed('TEST_S3_ACCESS_KEY_ID');
const secretAccessKey = needed('TEST_S3_SECRET_ACCESS_KEY');
const region = needed('TEST_S3_REGION');
const bucket = `cc-s3-${randomUUID()}`;
const at = new Date('2026-03-04T05:06:07.890Z');
const MIB = 2 ** 20;

const admin = new S3Client({
  endpoint,
  region,
  credentials: { accessKeyId, secretAccessKey },
  forcePathStyle: true,
  responseChecksumValidation: 'WHEN_REQUIRED',
});
const opened: Sink[] = [];
const servers: Server[] = [];
let folder = '';
let warnings: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-s3-'));
  await admin.send(new CreateBucketCommand({ Bucket: bucket }));
});

afterEach(async () => {
  for (const sink of opened.splice(0)) await sink.close?.();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
  warnings = [];
});

afterAll(async () => {
  admin.destroy();
  await rm(folder, { recursive: true, force: true });
});

function settings(more: Variables = {}): Values<typeof s3.env> {
  const variables = {
    STORE_AWS_S3_BUCKET: bucket,
    STORE_AWS_S3_ENDPOINT: endpoint,
    STORE_AWS_S3_FORCE_PATH_STYLE: 'true',
    STORE_AWS_S3_ACL: 'none',
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_REGION: region,
    ...more,
  };
  const resolved = resolveShape(environmentOf(variables), 's3', s3.env, s3.aliases);
  if (resolved.values === undefined) throw new Error(inspect(resolved));
  return resolved.values;
}

async function open(more: Variables = {}): Promise<Sink> {
  const sink = await s3.open(settings(more), { tenancy: 'acme', at, warn: (message) => warnings.push(message) });
  opened.push(sink);
  return sink;
}

function newTag(): string {
  return `t_${randomUUID().slice(0, 8)}`;
}

/** A dataset of these lines, under a tag of its own. */
function dataset(lines: Iterable<string>, kind: Kind = 'snapshot', tag = newTag()): Promise<Dataset> {
  return datasetOf(folder, lines, { tag, kind, metadata: { timestamp: '2026-03-04T05:06:07Z' } });
}

/** A dataset that is on disk only. */
async function bigDataset(bytes: number, tag?: string): Promise<Dataset> {
  const empty = await dataset([], 'snapshot', tag);
  const writer = await SpoolWriter.create(join(folder, `${randomUUID()}.ndjson`));
  let records = 0;
  for (const line of bigLines(bytes)) {
    await writer.write([Buffer.from(`${line}\n`)]);
    records += 1;
  }
  const spool = await writer.finish(records);
  return { ...empty, spool, metadata: { ...empty.metadata, records, sha256: spool.sha256 } };
}

function* bigLines(bytes: number): Generator<string> {
  const filler = 'x'.repeat(2000);
  for (let made = 0, n = 0; made < bytes; n += 1) {
    const line = `{"id":${n},"noise":"${createHash('sha256').update(String(n)).digest('hex')}","text":"${filler}"}`;
    made += line.length + 1;
    yield line;
  }
}

function envelope(lines: readonly string[], { metadata }: Dataset): string {
  return `{"data":[${lines.join(',')}],"metadata":${JSON.stringify(metadata)}}\n`;
}

async function object(key: string): Promise<Buffer> {
  const { Body } = await admin.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  return Buffer.from((await Body?.transformToByteArray()) ?? []);
}

function head(key: string) {
  return admin.send(new HeadObjectCommand({ Bucket: bucket, Key: key }));
}

async function objects(prefix: string): Promise<readonly string[]> {
  const { Contents } = await admin.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }));
  return (Contents ?? []).map(({ Key }) => Key ?? '');
}

async function unfinished(): Promise<number> {
  const { Uploads } = await admin.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  return Uploads?.length ?? 0;
}

async function bytesOf(source: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  if (source !== undefined) for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += 50_000) yield bytes.subarray(start, start + 50_000);
}

async function failure(work: Promise<unknown>): Promise<CollectError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof CollectError) return error;
  throw new Error(`no CollectError but ${inspect(error)}`);
}

interface Call {
  readonly method: string;
  readonly path: string;
  /** How many such calls came before. */
  readonly before: number;
  readonly signedFor: string | undefined;
  readonly headers: IncomingMessage['headers'];
}

interface Fault {
  readonly status: number;
  readonly code?: string;
  readonly message?: string;
  readonly headers?: Variables;
}

type Faults = (call: Call) => Fault | 'reset' | undefined;

/** A door in front of the real server that answers some calls itself, or breaks off in the middle of a body. */
async function front(faults: Faults): Promise<{ readonly url: string; readonly calls: readonly string[] }> {
  const calls: string[] = [];
  const server = createServer((incoming, answer) => {
    const method = incoming.method ?? '';
    const path = incoming.url ?? '';
    const kind = `${method} ${/uploadId|uploads/.test(path) ? 'part' : 'object'}`;
    const signedFor = /Credential=[^/]+\/\d+\/([^/]+)\//.exec(incoming.headers.authorization ?? '')?.[1];
    const fault = faults({
      method,
      path,
      signedFor,
      headers: incoming.headers,
      before: calls.filter((call) => call === kind).length,
    });
    calls.push(kind);
    if (fault === undefined || fault === 'reset') forward(incoming, answer, fault === 'reset' ? 6 * MIB : Infinity);
    else refuse(incoming, answer, fault);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  servers.push(server);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls };
}

function forward(incoming: IncomingMessage, answer: ServerResponse, most: number): void {
  const { expect: _, ...headers } = incoming.headers;
  const { hostname, port } = new URL(endpoint);
  const outgoing = request({ hostname, port, method: incoming.method, path: incoming.url, headers }, (response) => {
    answer.writeHead(response.statusCode ?? 500, response.headers);
    response.pipe(answer);
  });
  outgoing.on('error', () => answer.destroy());
  incoming.on('error', () => outgoing.destroy());
  let passed = 0;
  incoming.on('data', (chunk: Buffer) => {
    passed += chunk.length;
    if (passed < most) return;
    outgoing.end();
    incoming.socket.resetAndDestroy();
  });
  incoming.pipe(outgoing);
}

function refuse(
  incoming: IncomingMessage,
  answer: ServerResponse,
  { status, code = '', message = '', headers = {} }: Fault,
): void {
  incoming.resume();
  incoming.once('end', () => {
    answer.writeHead(status, { 'content-type': 'application/xml', ...headers });
    answer.end(
      incoming.method === 'HEAD'
        ? ''
        : `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`,
    );
  });
}

storeSuite(
  's3 (ndjson)',
  async () => {
    const suite = (more: Variables, warned: string[]) =>
      s3.open(settings({ STORE_AWS_S3_KEY: 'suite/%TAG/%TENANCY.ndjson', ...more }), {
        tenancy: 'acme',
        at: new Date(),
        warn: (message) => warned.push(message),
      });
    return {
      open: (warned) => suite({}, warned),
      openWrong: () => suite({ AWS_SECRET_ACCESS_KEY: 'hunter2-hunter2' }, []),
      read: async (tag) => (await object(`suite/${tag}/acme.ndjson`)).toString().split('\n').slice(0, -1),
      exact: true,
      nul: 'kept',
      loneSurrogate: 'kept',
      secrets: [secretAccessKey, 'hunter2'],
    };
  },
  { login: true, remembers: true },
);

describe('write', () => {
  test('puts the envelope at the main key and again at the backup key', async () => {
    const lines = ['{"id":1}', '{"id":2,"a":[1,2]}'];
    const data = await dataset(lines);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG/%TENANCY-%YYYY%MM%DD-%UUID.json' });
    const main = `data/${data.tag}/acme-20260304-${data.metadata.upload_id}.json`;
    const backup = `backup/${data.tag}/acme.json`;
    expect(await sink.write(data)).toEqual({ at: `s3://${bucket}/${main}`, records: 2 });
    expect(await objects(`backup/${data.tag}`)).toEqual([]);
    expect(await sink.backup?.save(data)).toEqual({ at: `s3://${bucket}/${backup}`, records: 2 });
    for (const key of [main, backup]) {
      expect((await object(key)).toString()).toBe(envelope(lines, data));
      const { ContentType, ContentEncoding, Metadata } = await head(key);
      expect(ContentType).toBe('application/json');
      expect(ContentEncoding).toBeUndefined();
      expect(Metadata).toMatchObject({ 'upload-id': data.metadata.upload_id, sha256: data.spool.sha256, records: '2' });
    }
  });

  test('keeps an empty dataset as an envelope without records', async () => {
    const data = await dataset([]);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json' });
    await sink.write(data);
    expect((await object(`data/${data.tag}.json`)).toString()).toBe(envelope([], data));
  });

  test('keeps 10,000 records byte for byte, Unicode and integers above 2^53 too', async () => {
    const odd = ['"😀 \\u0000 \\ud800 ﷽ é"', '9007199254740993123', '-1e999', '{"a":{"b":[[[]]]}}', '" "'];
    const lines = Array.from({ length: 10_000 }, (_, n) => `{"id":${n},  "v":${odd[n % odd.length]}}`);
    const data = await dataset(lines);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json' });
    await sink.write(data);
    expect((await object(`data/${data.tag}.json`)).equals(Buffer.from(envelope(lines, data)))).toBe(true);
  });

  test('streams up to 64 MiB as one PUT', async () => {
    const lines = [...bigLines(20 * MIB)];
    const data = await dataset(lines);
    const door = await front(() => undefined);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json', STORE_AWS_S3_ENDPOINT: door.url });
    await sink.write(data);
    expect(door.calls).toEqual(['PUT object']);
    expect((await object(`data/${data.tag}.json`)).equals(Buffer.from(envelope(lines, data)))).toBe(true);
  });

  test('sends 100 MB in parts, in bounded memory', async () => {
    const data = await bigDataset(100 * MIB);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson' });
    await sink.write(await dataset(['{}']));
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
    expect(growth).toBeLessThan(120);
    const { ETag, ContentLength } = await head(`data/${data.tag}.ndjson`);
    expect(ETag).toMatch(/-13"$/);
    expect(ContentLength).toBe(data.spool.bytes);
    const hash = createHash('sha256');
    const { Body } = await admin.send(new GetObjectCommand({ Bucket: bucket, Key: `data/${data.tag}.ndjson` }));
    for await (const chunk of Body as AsyncIterable<Uint8Array>) hash.update(chunk);
    expect(hash.digest('hex')).toBe(data.spool.sha256);
  });

  test.each([
    ['parquet', 'application/vnd.apache.parquet', "read_parquet('?')"],
    ['csv', 'text/csv', "read_csv('?')"],
    ['csv.gz', 'application/gzip', "read_csv('?', compression = 'gzip')"],
  ])('writes .%s with a column for each key', async (end, type, from) => {
    const data = await dataset(Array.from({ length: 3000 }, (_, n) => `{"id":${n},"name":"n ${n}","o":{"n":${n}}}`));
    const sink = await open({ STORE_AWS_S3_KEY: `data/tag=%TAG/tenancy=%TENANCY/%UUID.${end}` });
    const key = `data/tag=${data.tag}/tenancy=acme/${data.metadata.upload_id}.${end}`;
    expect(await sink.write(data)).toEqual({ at: `s3://${bucket}/${key}`, records: 3000 });
    const { ContentType, Metadata } = await head(key);
    expect(ContentType).toBe(type);
    expect(Metadata).toMatchObject({ 'upload-id': data.metadata.upload_id, records: '3000' });
    const path = join(folder, `read.${end}`);
    await writeFile(path, await object(key));
    const instance = await DuckDBInstance.create(':memory:');
    const connection = await instance.connect();
    const reader = await connection.runAndReadAll(
      `SELECT count(*)::INTEGER AS n, sum(id)::INTEGER AS ids, min(o)::VARCHAR AS o, count(DISTINCT upload_id)::INTEGER AS u
       FROM ${from.replace('?', path)}`,
    );
    connection.closeSync();
    instance.closeSync();
    expect(reader.getRowObjectsJson()).toEqual([{ n: 3000, ids: 4_498_500, o: '{"n":0}', u: 1 }]);
    expect(
      (await readdir(folder)).filter((name) => /\.(parquet|csv|overflow)$/.test(name) && name !== `read.${end}`),
    ).toEqual([]);
    await rm(path);
  });

  test('puts no tabular object of a run that has lost its lock', async () => {
    const lost = new CollectError('locked', 'another run has taken over');
    const data = { ...(await dataset(['{"id":1}'])), confirm: () => Promise.reject(lost) };
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.parquet' });
    expect((await failure(sink.write(data))).code).toBe('locked');
    expect(await objects(`data/${data.tag}`)).toEqual([]);
    expect(() =>
      s3.targets(settings({ STORE_AWS_S3_BACKUP: 'b/%TAG.parquet' }), 'snapshot', {
        uuid: 'u',
        tag: 't',
        tenancy: 'acme',
        at,
      }),
    ).toThrow(/ends like a table, but the backup is an envelope/);
  });

  test.each([
    ['ndjson.gz', 'application/gzip', (bytes: Buffer) => gunzipSync(bytes)],
    ['json.gz', 'application/gzip', (bytes: Buffer) => gunzipSync(bytes)],
    ['jsonl.zst', 'application/zstd', (bytes: Buffer) => bytesOf(unzstd(one(bytes), 'it'))],
    ['json.zst', 'application/zstd', (bytes: Buffer) => bytesOf(unzstd(one(bytes), 'it'))],
    ['jsonl', 'application/x-ndjson', (bytes: Buffer) => bytes],
  ])('writes .%s as %s', async (end, type, inflate) => {
    const lines = [...bigLines(5 * MIB)];
    const data = await dataset(lines);
    const sink = await open({ STORE_AWS_S3_KEY: `data/%TAG.${end}` });
    await sink.write(data);
    const key = `data/${data.tag}.${end}`;
    const wanted = end.startsWith('json.') ? envelope(lines, data) : lines.map((line) => `${line}\n`).join('');
    expect((await inflate(await object(key))).equals(Buffer.from(wanted))).toBe(true);
    expect((await head(key)).ContentType).toBe(type);
  });

  test('replaces the object at the same key, and knows which upload it holds', async () => {
    const first = await dataset(['{"id":1}']);
    const second = await dataset(['{"id":2}'], 'snapshot', first.tag);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json' });
    expect(await sink.latest?.(first.tag)).toBeUndefined();
    await sink.write(first);
    await sink.write(second);
    await sink.write(second);
    expect((await object(`data/${first.tag}.json`)).toString()).toBe(envelope(['{"id":2}'], second));
    expect(await sink.latest?.(first.tag)).toEqual({
      upload_id: second.metadata.upload_id,
      timestamp: '2026-03-04T05:06:07Z',
    });
  });

  test('says that there is only the backup when no main key is set', async () => {
    const data = await dataset(['{"id":1}']);
    const sink = await open();
    expect(await sink.write(data)).toEqual({
      at: `(backup only) s3://${bucket}/backup/${data.tag}/acme.json`,
      records: 1,
    });
    expect(await objects(`backup/${data.tag}`)).toEqual([]);
    expect(await sink.latest?.(data.tag)).toBeUndefined();
  });

  test('puts events at a key of their own, or nowhere', async () => {
    const data = await dataset(['{"id":1}'], 'events');
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json', STORE_AWS_S3_KEY_EVENTS: 'log/%TAG/%UUID.ndjson' });
    const key = `log/${data.tag}/${data.metadata.upload_id}.ndjson`;
    expect(await sink.write(data)).toEqual({ at: `s3://${bucket}/${key}`, records: 1 });
    expect((await object(key)).toString()).toBe('{"id":1}\n');
    const none = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json' });
    expect(await none.write(data)).toEqual({ at: '(not uploaded: STORE_AWS_S3_KEY_EVENTS is not set)', records: 0 });
    expect(await objects(`data/${data.tag}`)).toEqual([]);
  });

  test.each([
    ['AES256', { 'x-amz-server-side-encryption': 'AES256' }],
    [
      'aws:kms:arn:aws:kms:eu-west-1:1:key/2',
      {
        'x-amz-server-side-encryption': 'aws:kms',
        'x-amz-server-side-encryption-aws-kms-key-id': 'arn:aws:kms:eu-west-1:1:key/2',
      },
    ],
  ])('asks for %s at rest and the ACL', async (STORE_AWS_S3_SSE, headers) => {
    const seen: unknown[] = [];
    const door = await front((call) => {
      seen.push(call.headers);
      return { status: 400, code: 'InvalidEncryptionAlgorithmError' };
    });
    const STORE_AWS_S3_ACL = 'bucket-owner-full-control';
    const STORE_AWS_S3_ENDPOINT = door.url;
    const sink = await open({
      STORE_AWS_S3_KEY: '%TAG.json',
      STORE_AWS_S3_SSE,
      STORE_AWS_S3_ACL,
      STORE_AWS_S3_ENDPOINT,
    });
    const error = await failure(sink.write(await dataset(['{}'])));
    expect(seen).toEqual([expect.objectContaining({ ...headers, 'x-amz-acl': STORE_AWS_S3_ACL })]);
    expect(seen[0]).not.toHaveProperty('x-amz-sdk-checksum-algorithm');
    expect(error.message).toContain('answered 400 InvalidEncryptionAlgorithmError');
    expect(error.mend).toContain('STORE_AWS_S3_');
  });
});

describe('backup', () => {
  test.each(['json', 'json.gz', 'json.zst'])('comes back from .%s as it was saved', async (end) => {
    const lines = [...bigLines(3 * MIB)];
    const data = await dataset(lines);
    const sink = await open({ STORE_AWS_S3_BACKUP: `keep/%TAG/%TENANCY.${end}` });
    const names = { uuid: randomUUID(), tag: data.tag, tenancy: 'acme', at };
    expect(await sink.backup?.load(names)).toBeUndefined();
    await sink.backup?.save(data);
    const copy = await sink.backup?.load(names);
    expect(copy?.at).toBe(`s3://${bucket}/keep/${data.tag}/acme.${end}`);
    expect((await bytesOf(copy?.body)).toString()).toBe(envelope(lines, data));
  });

  test('that may not be read says what a refusal can mean', async () => {
    const door = await front(() => ({ status: 403, code: 'AccessDenied', message: 'Access Denied' }));
    const sink = await open({ STORE_AWS_S3_ENDPOINT: door.url });
    const error = await failure(
      sink.backup?.load({ uuid: 'u', tag: 'gone', tenancy: 'acme', at }) ?? Promise.resolve(),
    );
    expect(error.code).toBe('denied');
    expect(error.message).toMatch(
      /backup\/gone\/acme.json cannot be read.*s3:GetObject.*does not exist yet.*s3:ListBucket/,
    );
  });

  test('that breaks off or is cut short is an error, not a short copy', async () => {
    const data = await dataset([...bigLines(3 * MIB)]);
    const sink = await open({ STORE_AWS_S3_BACKUP: 'cut/%TAG.json.zst', STORE_AWS_S3_KEY: 'data/%TAG.json.zst' });
    await sink.backup?.save(data);
    const whole = await object(`cut/${data.tag}.json.zst`);
    expect((await failure(bytesOf(unzstd(one(whole.subarray(0, -9)), 'the copy')))).message).toBe(
      'the copy ends in the middle',
    );
    expect((await failure(bytesOf(unzstd(one(Buffer.from('{"data":[]}')), 'the copy')))).message).toContain(
      'not compressed with zstd',
    );
  });
});

test('killed at any moment an object is the old whole or the new whole, which a reader sees throughout', async () => {
  const env = {
    STORE_AWS_S3_BUCKET: bucket,
    STORE_AWS_S3_ENDPOINT: endpoint,
    STORE_AWS_S3_FORCE_PATH_STYLE: 'true',
    STORE_AWS_S3_ACL: 'none',
    STORE_AWS_S3_KEY: 'killed/%TAG.json',
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_REGION: region,
  };
  const read = async () => {
    const command = new GetObjectCommand({ Bucket: bucket, Key: 'killed/okta_killed.json' });
    const found = await admin.send(command).catch((error: Error) => {
      if (error.name === 'NoSuchKey') return undefined;
      throw error;
    });
    if (found === undefined) return undefined;
    const { data } = JSON.parse((await found.Body?.transformToString()) ?? '') as { data: unknown[] };
    return data.map((record) => JSON.stringify(record));
  };
  const seen = await killOverAndOver({ store: 's3', env, folder, read, kills: 10 });
  expect(seen.wrong).toEqual([]);
  expect(seen.generations).toBeGreaterThan(1);
}, 120_000);

describe('failure', () => {
  test.each([
    ['in parts', 'json', 100 * MIB],
    ['as one stream', 'json', 20 * MIB],
    ['compressed', 'json.gz', 20 * MIB],
    ['compressed with zstd', 'json.zst', 20 * MIB],
  ])('half-way %s leaves the old object and no parts', async (_, end, size) => {
    const old = await dataset(['{"id":"old"}']);
    const data = await bigDataset(size, old.tag);
    const sink = await open({ STORE_AWS_S3_KEY: `data/%TAG.${end}`, STORE_AWS_S3_BACKUP: 'keep/%TAG.json' });
    await sink.write(old);
    const before = await object(`data/${old.tag}.${end}`);
    await truncate(data.spool.path, Math.round(data.spool.bytes * 0.7));
    const error = await failure(sink.write(data));
    expect(error.message).toMatch(/the spool .* damaged/);
    await rm(data.spool.path);
    expect((await failure(sink.write(data))).message).toMatch(/the spool .* gone/);
    expect((await object(`data/${old.tag}.${end}`)).equals(before)).toBe(true);
    expect(await unfinished()).toBe(0);
  });

  test.each([
    [
      'a part',
      70 * MIB,
      (call: Call) => call.method === 'PUT' && call.path.includes('partNumber=2') && call.before < 3,
    ],
    ['the stream', 20 * MIB, (call: Call) => call.method === 'PUT' && call.before === 0],
  ])('of the connection during %s is made good', async (_, size, breaks) => {
    let left = 1;
    const door = await front((call) => {
      if (left === 0 || !breaks(call)) return undefined;
      left -= 1;
      return 'reset';
    });
    const data = await bigDataset(size);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson', STORE_AWS_S3_ENDPOINT: door.url });
    await sink.write(data);
    expect(left).toBe(0);
    expect(
      createHash('sha256')
        .update(await object(`data/${data.tag}.ndjson`))
        .digest('hex'),
    ).toBe(data.spool.sha256);
    expect(await unfinished()).toBe(0);
  });

  test.each([
    ['one stream', 20 * MIB],
    ['a small object', 7 * MIB],
  ])('of every connection in the middle of %s leaves the old object', async (_, size) => {
    const old = await dataset(['{"id":"old"}']);
    const data = await bigDataset(size, old.tag);
    const door = await front(({ path }) => (path.includes('uploads') ? { status: 500 } : 'reset'));
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson', STORE_AWS_S3_ENDPOINT: door.url });
    await sink.write(old);
    expect((await failure(sink.write(data))).message).toMatch(/cannot be written/);
    expect((await object(`data/${old.tag}.ndjson`)).toString()).toBe('{"id":"old"}\n');
  });

  test('of every try of one part aborts the upload', async () => {
    const old = await dataset(['{"id":"old"}']);
    const data = await bigDataset(70 * MIB, old.tag);
    const door = await front((call) =>
      call.path.includes('partNumber=3') ? { status: 500, code: 'InternalError' } : undefined,
    );
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson', STORE_AWS_S3_ENDPOINT: door.url });
    await sink.write(old);
    const error = await failure(sink.write(data));
    expect(error.message).toContain('answered 500 InternalError');
    expect((await object(`data/${old.tag}.ndjson`)).toString()).toBe('{"id":"old"}\n');
    expect(await unfinished()).toBe(0);
  });

  test('for a missing bucket names it, in every call', async () => {
    const sink = await open({ STORE_AWS_S3_BUCKET: `${bucket}-no`, STORE_AWS_S3_KEY: 'data/%TAG.json' });
    const data = await dataset(['{}']);
    const names = { uuid: 'u', tag: 'tag', tenancy: 'acme', at };
    const save = sink.backup?.save;
    for (const work of [sink.write, save, () => sink.backup?.load(names), sink.check]) {
      const error = await failure(Promise.resolve(work?.(data)));
      expect(error.message).toBe(`the bucket '${bucket}-no' does not exist`);
      expect(error.mend).toContain('STORE_AWS_S3_BUCKET');
    }
  });

  test('for a wrong secret names the variables and shows no secret', async () => {
    const AWS_SECRET_ACCESS_KEY = 'hunter2-hunter2-hunter2';
    const AWS_SESSION_TOKEN = 'session-hunter2';
    const data = await bigDataset(9 * MIB);
    for (const more of [{ AWS_SECRET_ACCESS_KEY }, { AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN }]) {
      const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json', ...more });
      for (const work of [sink.write, sink.backup?.save, sink.check]) {
        const error = await failure(Promise.resolve(work?.(data)));
        expect(error.code).toBe('credentials');
        expect(error.mend).toMatch(/AWS_SECRET_ACCESS_KEY.*clock/);
        expect(inspect(error, { depth: 20, showHidden: true })).not.toContain('hunter2');
      }
    }
  });

  test('to connect names the host', async () => {
    const door = await front(() => undefined);
    const server = servers.pop();
    await new Promise((done) => server?.close(done));
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json', STORE_AWS_S3_ENDPOINT: door.url });
    const error = await failure(sink.write(await dataset(['{}'])));
    expect(error.code).toBe('network');
    expect(error.message).toContain(`no connection to ${new URL(door.url).host} (ECONNREFUSED)`);
  });

  test.each<[string, Fault, string, RegExp, RegExp]>([
    ['no permission', { status: 403, code: 'AccessDenied' }, 'denied', /lack s3:PutObject$/, /allow s3:PutObject$/],
    [
      'no use of the KMS key',
      {
        status: 403,
        code: 'AccessDenied',
        message: 'User: arn is not authorized to perform: kms:GenerateDataKey on resource: arn',
      },
      'denied',
      /lack kms:GenerateDataKey/,
      /allow kms:GenerateDataKey/,
    ],
    ['an expired token', { status: 400, code: 'ExpiredToken' }, 'credentials', /expired/, /AWS_SESSION_TOKEN/],
    ['a clock that is off', { status: 403, code: 'RequestTimeTooSkewed' }, 'store', /clock/, /NTP/],
    ['too many requests', { status: 503, code: 'SlowDown' }, 'throttled', /slow down/, /later/],
    [
      'another region that is not told',
      { status: 301, code: 'PermanentRedirect' },
      'store',
      /another region than us-east-1/,
      /AWS_REGION/,
    ],
  ])('for %s says so', async (_, fault, code, message, mend) => {
    const door = await front(() => fault);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json', STORE_AWS_S3_ENDPOINT: door.url });
    const error = await failure(sink.write(await dataset(['{}'])));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.mend).toMatch(mend);
  });
});

describe('second try', () => {
  test.each([1, 20 * MIB, 70 * MIB])('goes to the region the bucket names (%i bytes)', async (size) => {
    const told = { 'x-amz-bucket-region': region };
    const door = await front(({ signedFor }) =>
      signedFor === region ? undefined : { status: 301, code: 'PermanentRedirect', headers: told },
    );
    const data = await bigDataset(size);
    const sink = await open({
      STORE_AWS_S3_KEY: 'data/%TAG.ndjson',
      STORE_AWS_S3_ENDPOINT: door.url,
      AWS_REGION: 'eu-west-3',
    });
    await sink.write(data);
    expect((await head(`data/${data.tag}.ndjson`)).ContentLength).toBe(data.spool.bytes);
    await sink.backup?.save(data);
  });

  test.each([
    { status: 400, code: 'AccessControlListNotSupported' },
    { status: 501, code: 'NotImplemented', message: 'Header x-amz-acl is not implemented' },
  ])('goes without an ACL where $code, and warns once', async (fault) => {
    const door = await front(({ before, method }) => (before === 0 && method === 'PUT' ? fault : undefined));
    const data = await bigDataset(9 * MIB);
    const sink = await open({
      STORE_AWS_S3_KEY: 'data/%TAG.ndjson',
      STORE_AWS_S3_ENDPOINT: door.url,
      STORE_AWS_S3_ACL: 'bucket-owner-full-control',
    });
    await sink.write(data);
    await sink.backup?.save(data);
    expect((await head(`data/${data.tag}.ndjson`)).ContentLength).toBe(data.spool.bytes);
    expect(warnings).toEqual([expect.stringContaining('STORE_AWS_S3_ACL=none')]);
  });

  test.each([1, 20 * MIB])('follows a request to slow down (%i bytes)', async (size) => {
    const door = await front(({ before }) => (before === 0 ? { status: 503, code: 'SlowDown' } : undefined));
    const data = await bigDataset(size);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson', STORE_AWS_S3_ENDPOINT: door.url });
    await sink.write(data);
    expect((await head(`data/${data.tag}.ndjson`)).ContentLength).toBe(data.spool.bytes);
  });
});

describe('check', () => {
  test('passes and leaves nothing behind', async () => {
    const sink = await open({ STORE_AWS_S3_BACKUP: 'probed/%TAG/%TENANCY.json' });
    await sink.check?.();
    expect(await objects('probed/')).toEqual([]);
    expect(warnings).toEqual([]);
    await sink.close?.();
    await sink.close?.();
  });

  test('only warns where listing or deleting is not allowed', async () => {
    const door = await front(({ method, path }) =>
      method === 'DELETE' || (method === 'HEAD' && !path.includes('probe'))
        ? { status: 403, code: 'AccessDenied' }
        : undefined,
    );
    const sink = await open({ STORE_AWS_S3_ENDPOINT: door.url });
    await sink.check?.();
    expect(warnings).toEqual([expect.stringContaining('s3:DeleteObject'), expect.stringContaining('s3:ListBucket')]);
  });

  test('fails where writing is not allowed', async () => {
    const door = await front(({ method }) => (method === 'PUT' ? { status: 403, code: 'AccessDenied' } : undefined));
    const sink = await open({ STORE_AWS_S3_ENDPOINT: door.url });
    expect((await failure(sink.check?.() ?? Promise.resolve())).message).toContain('lack s3:PutObject');
  });
});

describe('settings', () => {
  const names = { uuid: '7d1f', tag: 'okta_users', tenancy: 'acme', at };
  const targets = (more: Variables, kind: Kind = 'snapshot') => s3.targets(settings(more), kind, names);

  test('say where a dataset goes', () => {
    const backup = `s3://${bucket}/backup/okta_users/acme.json`;
    expect(targets({})).toEqual([backup]);
    expect(targets({}, 'events')).toEqual([]);
    expect(targets({ STORE_AWS_S3_KEY: 'a/%TAG.json' })).toEqual([`s3://${bucket}/a/okta_users.json`, backup]);
    expect(targets({ STORE_AWS_S3_KEY: 'a/%TAG.json' }, 'events')).toEqual([]);
    expect(targets({ STORE_AWS_S3_KEY: 'a/%UUID.json' }, 'events')).toEqual([`s3://${bucket}/a/7d1f.json`]);
  });

  test.each<[string, Variables, Kind, string]>([
    [
      'the backup key as main key',
      { STORE_AWS_S3_KEY: 'backup/okta_users/%TENANCY.json' },
      'snapshot',
      'STORE_AWS_S3_KEY',
    ],
    ['one key for all events', { STORE_AWS_S3_KEY_EVENTS: 'log/%TAG.json' }, 'events', '%UUID'],
    ['a backup that moves', { STORE_AWS_S3_BACKUP: 'b/%TAG/%UUID.json' }, 'snapshot', '%UUID'],
    ['a backup of lines', { STORE_AWS_S3_BACKUP: 'b/%TAG.ndjson.gz' }, 'snapshot', '.json.gz'],
    ['an unknown name', { STORE_AWS_S3_KEY: 'a/%tag.json' }, 'snapshot', '%TAG'],
    ['a shell name', { STORE_AWS_S3_KEY: 'a/$TAG.json' }, 'snapshot', '%TAG'],
    ['a key that is too long', { STORE_AWS_S3_KEY: `${'a'.repeat(1020)}%TAG` }, 'snapshot', 'shorter'],
    ['half an access key', { AWS_SECRET_ACCESS_KEY: '' }, 'snapshot', 'AWS_SECRET_ACCESS_KEY'],
    [
      'plain http to elsewhere',
      { STORE_AWS_S3_ENDPOINT: 'http://minio.example:9000' },
      'snapshot',
      'CYBER_COLLECT_ALLOW_HTTP',
    ],
  ])('refuse %s', (_, more, kind, mend) => {
    let error: unknown;
    try {
      targets(more, kind);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(CollectError);
    expect((error as CollectError).mend).toContain(mend);
  });

  test('go by other names too', () => {
    const variables = {
      STORE_AWS_S3_BUCKET: 'b',
      AWS_DEFAULT_REGION: 'eu-north-1',
      AWS_ENDPOINT_URL_S3: 'https://s3.example',
    };
    const { values } = resolveShape(environmentOf(variables), 's3', s3.env, s3.aliases);
    expect(values).toMatchObject({ AWS_REGION: 'eu-north-1', STORE_AWS_S3_ENDPOINT: 'https://s3.example' });
    expect(resolveShape(environmentOf({ AWS_REGION: 'x' }), 's3', s3.env, s3.aliases).state).toBe('idle');
    for (const wrong of [{ STORE_AWS_S3_SSE: 'DES' }, { STORE_AWS_S3_BUCKET: 's3://b/prefix' }]) {
      const environment = environmentOf({ STORE_AWS_S3_BUCKET: 'b', ...wrong });
      expect(resolveShape(environment, 's3', s3.env).state).toBe('invalid');
    }
  });
});
