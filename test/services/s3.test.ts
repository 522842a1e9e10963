import { createHash, randomUUID } from 'node:crypto';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from 'node:util';
import {
  CreateBucketCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import { CollectError } from '../../src/errors.ts';
import type { Dataset, Sink } from '../../src/stores/store.ts';
import s3 from '../../src/stores/store_s3.ts';
import { datasetOf, recordsOfSize } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { type Call, type Fault, frontOf, type Refusal } from '../support/front.ts';
import { killOverAndOver } from '../support/killed.ts';
import { growthOf } from '../support/memory.ts';
import { needed } from '../support/needed.ts';
import { envelopeOf, inflated, MIB, newTag, objectStoreSuite } from '../support/object_store.ts';
import { openStore, targetsOf } from '../support/open.ts';
import { temporaryFolder } from '../support/run.ts';

type Variables = Readonly<Record<string, string>>;

const endpoint = needed('TEST_S3_ENDPOINT');
const accessKeyId = needed('TEST_S3_ACCESS_KEY_ID');
const secretAccessKey = needed('TEST_S3_SECRET_ACCESS_KEY');
const region = needed('TEST_S3_REGION');
const bucket = `cc-s3-${randomUUID()}`;

const admin = new S3Client({
  endpoint,
  region,
  credentials: { accessKeyId, secretAccessKey },
  forcePathStyle: true,
  responseChecksumValidation: 'WHEN_REQUIRED',
});
let folder = '';
let warnings: string[] = [];

beforeAll(async () => {
  folder = await temporaryFolder();
  await admin.send(new CreateBucketCommand({ Bucket: bucket }));
});

beforeEach(() => {
  warnings = [];
});

afterAll(() => admin.destroy());

function variables(more: Variables = {}): Variables {
  return {
    STORE_AWS_S3_BUCKET: bucket,
    STORE_AWS_S3_ENDPOINT: endpoint,
    STORE_AWS_S3_FORCE_PATH_STYLE: 'true',
    STORE_AWS_S3_ACL: 'none',
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_REGION: region,
    ...more,
  };
}

function open(more: Variables = {}): Promise<Sink> {
  return openStore(s3, variables(more), warnings);
}

function dataset(records: Iterable<string>, tag = newTag()): Promise<Dataset> {
  return datasetOf(folder, records, { tag });
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

/** A door in front of the real server, which tells calls for parts from those for whole objects. */
function front(faults?: (call: Call) => Fault) {
  const kindOf = ({ method, url }: Pick<Call, 'method' | 'url'>) =>
    `${method} ${/uploadId|uploads/.test(url.search) ? 'part' : 'object'}`;
  return frontOf(endpoint, kindOf, faults);
}

function refusal(status: number, code: string, message = '', headers: Variables = {}): Refusal {
  const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  return { status, body, headers: { 'content-type': 'application/xml', ...headers } };
}

function signedFor({ headers }: Call): string | undefined {
  return /Credential=[^/]+\/\d+\/([^/]+)\//.exec(headers.authorization ?? '')?.[1];
}

const unkeyed = 'User: arn is not authorized to perform: kms:GenerateDataKey on resource: arn';

test('100 MB go in parts, in bounded memory', async () => {
  const data = await dataset(recordsOfSize(100 * MIB));
  const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson' });
  await sink.write(await dataset(['{}']));
  expect(await growthOf('100 MB', () => sink.write(data))).toBeLessThan(120);
  const { ETag, ContentLength } = await head(`data/${data.tag}.ndjson`);
  expect(ETag).toMatch(/-13"$/);
  expect(ContentLength).toBe(data.spool.bytes);
  const hash = createHash('sha256');
  const { Body } = await admin.send(new GetObjectCommand({ Bucket: bucket, Key: `data/${data.tag}.ndjson` }));
  for await (const chunk of Body as AsyncIterable<Uint8Array>) hash.update(chunk);
  expect(hash.digest('hex')).toBe(data.spool.sha256);
});

objectStoreSuite({
  store: s3,
  prefix: 'STORE_AWS_S3',
  bucket: 'STORE_AWS_S3_BUCKET',
  uploadId: 'upload-id',
  deleting: 's3:DeleteObject',
  begins: 'PUT object',
  tellsBucket: true,
  refusals: [
    ['lack of a right', refusal(403, 'AccessDenied'), 'denied', /lack s3:PutObject$/, /allow s3:PutObject$/],
    [
      'lack of the KMS key',
      refusal(403, 'AccessDenied', unkeyed),
      'denied',
      /lack kms:GenerateDataKey/,
      /allow kms:GenerateDataKey/,
    ],
    ['an expired token', refusal(400, 'ExpiredToken'), 'credentials', /expired/, /AWS_SESSION_TOKEN/],
    ['a clock that is off', refusal(403, 'RequestTimeTooSkewed'), 'store', /clock/, /NTP/],
    ['too many requests', refusal(503, 'SlowDown'), 'throttled', /slow down/, /later/],
    [
      'a region that is not told',
      refusal(301, 'PermanentRedirect'),
      'store',
      /another region than us-east-1/,
      /AWS_REGION/,
    ],
  ],
  denied: refusal(403, 'AccessDenied'),
  mistakes: [['half an access key', { AWS_SECRET_ACCESS_KEY: '' }, 'AWS_SECRET_ACCESS_KEY']],
  variables: (origin) => variables(origin === undefined ? {} : { STORE_AWS_S3_ENDPOINT: origin }),
  wrong: async () => ({ AWS_SECRET_ACCESS_KEY: 'hunter2-hunter2' }),
  secrets: () => [secretAccessKey, 'hunter2'],
  place: () => `s3://${bucket}`,
  front,
  object,
  names: objects,
  metadata: async (key) => (await head(key)).Metadata,
  type: async (key) => (await head(key)).ContentType,
  unfinished,
});

describe('write', () => {
  test('keeps an empty dataset as an envelope without records', async () => {
    const data = await dataset([]);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json' });
    await sink.write(data);
    expect((await object(`data/${data.tag}.json`)).toString()).toBe(envelopeOf([], data));
    expect((await head(`data/${data.tag}.json`)).ContentEncoding).toBeUndefined();
  });

  test('keeps 10,000 records byte for byte, Unicode and integers above 2^53 too', async () => {
    const odd = ['"😀 \\u0000 \\ud800 ﷽ é"', '9007199254740993123', '-1e999', '{"a":{"b":[[[]]]}}', '" "'];
    const lines = Array.from({ length: 10_000 }, (_, n) => `{"id":${n},  "v":${odd[n % odd.length]}}`);
    const data = await dataset(lines);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json' });
    await sink.write(data);
    expect((await object(`data/${data.tag}.json`)).equals(Buffer.from(envelopeOf(lines, data)))).toBe(true);
  });

  test('streams up to 64 MiB as one PUT', async () => {
    const lines = [...recordsOfSize(20 * MIB)];
    const data = await dataset(lines);
    const door = await front();
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json', STORE_AWS_S3_ENDPOINT: door.origin });
    await sink.write(data);
    expect(door.kinds()).toEqual(['PUT object']);
    expect((await object(`data/${data.tag}.json`)).equals(Buffer.from(envelopeOf(lines, data)))).toBe(true);
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
    expect((await failureOf(() => sink.write(data))).code).toBe('locked');
    expect(await objects(`data/${data.tag}`)).toEqual([]);
    expect(() => targetsOf(s3, variables({ STORE_AWS_S3_BACKUP: 'b/%TAG.parquet' }))).toThrow(
      /ends like a table, but the backup is an envelope/,
    );
  });

  test('replaces the object at the same key, and knows which upload it holds', async () => {
    const first = await dataset(['{"id":1}']);
    const second = await dataset(['{"id":2}'], first.tag);
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json' });
    expect(await sink.latest?.(first.tag)).toBeUndefined();
    await sink.write(first);
    await sink.write(second);
    await sink.write(second);
    expect((await object(`data/${first.tag}.json`)).toString()).toBe(envelopeOf(['{"id":2}'], second));
    expect(await sink.latest?.(first.tag)).toEqual({
      upload_id: second.metadata.upload_id,
      timestamp: second.metadata.timestamp,
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
      return refusal(400, 'InvalidEncryptionAlgorithmError');
    });
    const STORE_AWS_S3_ACL = 'bucket-owner-full-control';
    const STORE_AWS_S3_ENDPOINT = door.origin;
    const sink = await open({
      STORE_AWS_S3_KEY: '%TAG.json',
      STORE_AWS_S3_SSE,
      STORE_AWS_S3_ACL,
      STORE_AWS_S3_ENDPOINT,
    });
    const error = await failureOf(async () => sink.write(await dataset(['{}'])));
    expect(seen).toEqual([expect.objectContaining({ ...headers, 'x-amz-acl': STORE_AWS_S3_ACL })]);
    expect(seen[0]).not.toHaveProperty('x-amz-sdk-checksum-algorithm');
    expect(error.message).toContain('answered 400 InvalidEncryptionAlgorithmError');
    expect(error.mend).toContain('STORE_AWS_S3_');
  });
});

describe('backup', () => {
  test('that may not be read says what a refusal can mean', async () => {
    const door = await front(() => refusal(403, 'AccessDenied', 'Access Denied'));
    const sink = await open({ STORE_AWS_S3_ENDPOINT: door.origin });
    const error = await failureOf(() => sink.backup?.load({ uuid: 'u', tag: 'gone', tenancy: 'acme', at: new Date() }));
    expect(error.code).toBe('denied');
    expect(error.message).toMatch(
      /backup\/gone\/acme.json cannot be read.*s3:GetObject.*does not exist yet.*s3:ListBucket/,
    );
  });

  test('that breaks off or is cut short is an error, not a short copy', async () => {
    const data = await dataset(recordsOfSize(3 * MIB));
    const sink = await open({ STORE_AWS_S3_BACKUP: 'cut/%TAG.json.zst', STORE_AWS_S3_KEY: 'data/%TAG.json.zst' });
    await sink.backup?.save(data);
    const whole = await object(`cut/${data.tag}.json.zst`);
    expect((await failureOf(() => inflated(whole.subarray(0, -9)))).message).toBe('the copy ends in the middle');
    expect((await failureOf(() => inflated(Buffer.from('{"data":[]}')))).message).toContain('not compressed with zstd');
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
    [
      'a part',
      70 * MIB,
      (call: Call) => call.method === 'PUT' && call.url.search.includes('partNumber=2') && call.nth < 4,
    ],
    ['the stream', 20 * MIB, (call: Call) => call.method === 'PUT' && call.nth === 1],
  ])('of the connection during %s is made good', async (_, size, breaks) => {
    let left = 1;
    const door = await front((call) => {
      if (left === 0 || !breaks(call)) return undefined;
      left -= 1;
      return 'cut';
    });
    const data = await dataset(recordsOfSize(size));
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson', STORE_AWS_S3_ENDPOINT: door.origin });
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
    const data = await dataset(recordsOfSize(size), old.tag);
    const door = await front(({ url }) => (url.search.includes('uploads') ? { status: 500 } : 'cut'));
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson', STORE_AWS_S3_ENDPOINT: door.origin });
    await sink.write(old);
    expect((await failureOf(() => sink.write(data))).message).toMatch(/cannot be written/);
    expect((await object(`data/${old.tag}.ndjson`)).toString()).toBe('{"id":"old"}\n');
  });

  test('of every try of one part aborts the upload', async () => {
    const old = await dataset(['{"id":"old"}']);
    const data = await dataset(recordsOfSize(70 * MIB), old.tag);
    const door = await front((call) =>
      call.url.search.includes('partNumber=3') ? refusal(500, 'InternalError') : undefined,
    );
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson', STORE_AWS_S3_ENDPOINT: door.origin });
    await sink.write(old);
    const error = await failureOf(() => sink.write(data));
    expect(error.message).toContain('answered 500 InternalError');
    expect((await object(`data/${old.tag}.ndjson`)).toString()).toBe('{"id":"old"}\n');
    expect(await unfinished()).toBe(0);
  });

  test('for a wrong secret names the variables and shows no secret', async () => {
    const AWS_SECRET_ACCESS_KEY = 'hunter2-hunter2-hunter2';
    const AWS_SESSION_TOKEN = 'session-hunter2';
    const data = await dataset(recordsOfSize(9 * MIB));
    for (const more of [{ AWS_SECRET_ACCESS_KEY }, { AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN }]) {
      const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.json', ...more });
      for (const work of [sink.write, sink.backup?.save, sink.check]) {
        const error = await failureOf(() => work?.(data));
        expect(error.code).toBe('credentials');
        expect(error.mend).toMatch(/AWS_SECRET_ACCESS_KEY.*clock/);
        expect(inspect(error, { depth: 20, showHidden: true })).not.toContain('hunter2');
      }
    }
  });
});

describe('second try', () => {
  test.each([1, 20 * MIB, 70 * MIB])('goes to the region the bucket names (%i bytes)', async (size) => {
    const told = { 'x-amz-bucket-region': region };
    const door = await front((call) =>
      signedFor(call) === region ? undefined : refusal(301, 'PermanentRedirect', '', told),
    );
    const data = await dataset(recordsOfSize(size));
    const sink = await open({
      STORE_AWS_S3_KEY: 'data/%TAG.ndjson',
      STORE_AWS_S3_ENDPOINT: door.origin,
      AWS_REGION: 'eu-west-3',
    });
    await sink.write(data);
    expect((await head(`data/${data.tag}.ndjson`)).ContentLength).toBe(data.spool.bytes);
    await sink.backup?.save(data);
  });

  test.each([
    [400, 'AccessControlListNotSupported', ''],
    [501, 'NotImplemented', 'Header x-amz-acl is not implemented'],
  ])('goes without an ACL where the answer is %i %s, and warns once', async (...fault) => {
    const door = await front(({ nth, method }) => (nth === 1 && method === 'PUT' ? refusal(...fault) : undefined));
    const data = await dataset(recordsOfSize(9 * MIB));
    const sink = await open({
      STORE_AWS_S3_KEY: 'data/%TAG.ndjson',
      STORE_AWS_S3_ENDPOINT: door.origin,
      STORE_AWS_S3_ACL: 'bucket-owner-full-control',
    });
    await sink.write(data);
    await sink.backup?.save(data);
    expect((await head(`data/${data.tag}.ndjson`)).ContentLength).toBe(data.spool.bytes);
    expect(warnings).toEqual([expect.stringContaining('STORE_AWS_S3_ACL=none')]);
  });

  test.each([1, 20 * MIB])('follows a request to slow down (%i bytes)', async (size) => {
    const door = await front(({ nth }) => (nth === 1 ? refusal(503, 'SlowDown') : undefined));
    const data = await dataset(recordsOfSize(size));
    const sink = await open({ STORE_AWS_S3_KEY: 'data/%TAG.ndjson', STORE_AWS_S3_ENDPOINT: door.origin });
    await sink.write(data);
    expect((await head(`data/${data.tag}.ndjson`)).ContentLength).toBe(data.spool.bytes);
  });
});

describe('check', () => {
  test('only warns where listing is not allowed', async () => {
    const { origin } = await front(({ method, url }) =>
      method === 'HEAD' && !url.pathname.includes('probe') ? refusal(403, 'AccessDenied') : undefined,
    );
    const sink = await open({ STORE_AWS_S3_ENDPOINT: origin });
    await sink.check?.();
    expect(warnings).toEqual([expect.stringContaining('s3:ListBucket')]);
  });

  test('fails where writing is not allowed', async () => {
    const door = await front(({ method }) => (method === 'PUT' ? refusal(403, 'AccessDenied') : undefined));
    const sink = await open({ STORE_AWS_S3_ENDPOINT: door.origin });
    expect((await failureOf(() => sink.check?.())).message).toContain('lack s3:PutObject');
  });
});

describe('settings', () => {
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
