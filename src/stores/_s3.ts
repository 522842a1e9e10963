import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { GetObjectCommand, PutObjectCommandInput, S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { type AwsIdentity, awsIdentity, awsShape } from '../config/aws.ts';
import { programShape } from '../config/program.ts';
import { assertEncrypted, baseUrl, flag, matching, optional, setting, text, type Values } from '../config/setting.ts';
import { compressionOf } from '../envelope/encoding.ts';
import { CollectError } from '../errors.ts';
import { type Bucket, type Content, fed, opened, wholeChunks } from './_objects.ts';
import { type Attempt, explained, isMissing, mayPass, placeOf, refusesAcl, regionOf, statusOf } from './_s3_errors.ts';

/** The variables of a bucket and of who uses it. */
export const bucketShape = {
  STORE_AWS_S3_BUCKET: setting(
    'Bucket; switches the store on',
    matching(/^(arn:.+|[^/\s]+)$/, 'must be the name of a bucket alone, without s3:// and without a prefix'),
  ),
  STORE_AWS_S3_ACL: setting("Canned ACL of each object; 'none' sends none", text('bucket-owner-full-control')),
  STORE_AWS_S3_ENDPOINT: setting('Base URL of an S3-compatible store; unset = AWS', optional()),
  STORE_AWS_S3_FORCE_PATH_STYLE: setting('Name the bucket in the path, as many compatible stores want it', flag()),
  STORE_AWS_S3_SSE: setting(
    'Encryption at rest: AES256, aws:kms or aws:kms:<key id>; unset = as the bucket is set up',
    matching(/^(AES256|aws:kms(:.+)?)$/, 'must be AES256, aws:kms or aws:kms:<key id>').optional(),
  ),
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
  ...awsShape,
} as const;

/** The values of a bucket's variables. */
export type BucketSettings = Values<typeof bucketShape>;

/** A small object as it lies there. */
export interface SmallObject {
  readonly text: string;
  /** Its ETag: changes when it is written. */
  readonly version: string;
  /** Milliseconds since it was written, by the server's clock. */
  readonly age: number;
}

/** Small texts in a bucket. */
export interface SmallObjects {
  read(key: string): Promise<SmallObject | undefined>;
  write(key: string, text: string): Promise<void>;
  /** Writes over this version, or where nothing is; the new version, or undefined when that is no longer what is there. */
  swap(key: string, text: string, over: string | undefined): Promise<string | undefined>;
  remove(key: string): Promise<void>;
  close(): void;
}

/** A bucket of S3. */
export interface S3Bucket extends Bucket {
  /** Whether the bucket may be listed. */
  listable(): Promise<boolean>;
}

type Commands = typeof import('@aws-sdk/client-s3');
type Sdk = Commands & Pick<typeof import('@aws-sdk/lib-storage'), 'Upload'>;
type Params = Omit<PutObjectCommandInput, 'Body' | 'ContentLength'>;
type Explain = (thrown: unknown) => unknown;

/** Does something with a client; again in the bucket's region when that is another one; errors become sentences. */
type Run = <T>(
  attempt: Pick<Attempt, 'key' | 'done' | 'needs' | 'otherwise'>,
  work: (client: S3Client, explain: Explain) => Promise<T>,
) => Promise<T>;

const MIB = 2 ** 20;
const LEAST_PART = 8 * MIB;
const MOST_SINGLE = 64 * MIB;
const MOST_PARTS = 9_900; // S3 takes 10,000; compressed data may come out a little longer than it was
const PARTS_AT_ONCE = 2;
const TRIES = 5;
const CONNECT_MS = 10_000;
const SILENCE_MS = 120_000;
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }; // else the SDK writes to the console
// Compatible stores refuse the trailing checksums that the SDK sends otherwise, or store them as data.
const PLAIN = { requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED' } as const;
const READING = {
  needs: ['s3:GetObject'],
  otherwise: ', or it does not exist yet, which S3 tells only those who have s3:ListBucket',
};

/**
 * How the bucket's server is reached, and as whom.
 * @throws {CollectError} config, refused
 */
export function connectionOf(settings: BucketSettings): { readonly identity: AwsIdentity; readonly endpoint?: URL } {
  const identity = awsIdentity(settings);
  if (settings.STORE_AWS_S3_ENDPOINT === undefined) return { identity };
  return {
    identity,
    endpoint: assertEncrypted(baseUrl(settings.STORE_AWS_S3_ENDPOINT), settings.CYBER_COLLECT_ALLOW_HTTP),
  };
}

/** Opens a bucket; nothing is sent yet. */
export async function openBucket(settings: BucketSettings, warn: (message: string) => void): Promise<S3Bucket> {
  const [{ Upload }, s3] = await Promise.all([import('@aws-sdk/lib-storage'), import('@aws-sdk/client-s3')]);
  const { run, close } = connect(s3, settings);
  const bucket = settings.STORE_AWS_S3_BUCKET;
  return {
    close,
    put: putter({ ...s3, Upload }, settings, run, warn),
    get(key) {
      return run({ key, done: 'read', ...READING }, async (client, explain) => {
        const found = await client.send(new s3.GetObjectCommand({ Bucket: bucket, Key: key })).catch(unlessMissing);
        if (found === undefined) return undefined;
        return opened(found.Body as Readable, placeOf(bucket, key), explain);
      });
    },
    head(key) {
      return run({ key, done: 'looked up', ...READING }, async (client) => {
        const found = await client.send(new s3.HeadObjectCommand({ Bucket: bucket, Key: key })).catch(unlessMissing);
        return found === undefined ? undefined : (found.Metadata ?? {});
      });
    },
    delete(key) {
      return run({ key, done: 'deleted', needs: ['s3:DeleteObject'] }, async (client) => {
        await client.send(new s3.DeleteObjectCommand({ Bucket: bucket, Key: key }));
      });
    },
    listable: () => run({ done: 'listed', needs: ['s3:ListBucket'] }, (client) => mayList(s3, client, bucket)),
  };
}

/** Opens a bucket for small texts; nothing is sent yet. */
export async function openSmallObjects(settings: BucketSettings): Promise<SmallObjects> {
  const s3 = await import('@aws-sdk/client-s3');
  const { run, close } = connect(s3, settings);
  const Bucket = settings.STORE_AWS_S3_BUCKET;
  const put = (Key: string, Body: string, condition: Partial<PutObjectCommandInput>) =>
    run({ key: Key, done: 'written', needs: ['s3:PutObject'] }, (client) =>
      client.send(new s3.PutObjectCommand({ Bucket, Key, Body, ContentType: 'application/json', ...condition })),
    );
  return {
    close,
    read(key) {
      return run({ key, done: 'read', ...READING }, async (client) => {
        const { command, date } = dated(new s3.GetObjectCommand({ Bucket, Key: key }));
        const found = await client.send(command).catch(unlessMissing);
        if (found === undefined) return undefined;
        const text = (await found.Body?.transformToString()) ?? '';
        return { text, version: found.ETag ?? '', age: date() - (found.LastModified?.getTime() ?? 0) };
      });
    },
    async write(key, text) {
      await put(key, text, {});
    },
    async swap(key, text, over) {
      const condition = over === undefined ? { IfNoneMatch: '*' } : { IfMatch: over };
      const swapped = await put(key, text, condition).catch(unlessChanged);
      return swapped?.ETag;
    },
    remove(key) {
      return run({ key, done: 'deleted', needs: ['s3:DeleteObject'] }, async (client) => {
        await client.send(new s3.DeleteObjectCommand({ Bucket, Key: key }));
      });
    },
  };
}

/** A command that tells the server's time of its answer, in epoch milliseconds. */
function dated(command: GetObjectCommand): { readonly command: GetObjectCommand; readonly date: () => number } {
  let at = Number.NaN;
  command.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      at = Date.parse((result.response as { headers?: Record<string, string> }).headers?.date ?? '');
      return result;
    },
    { step: 'deserialize', priority: 'high' },
  );
  return { command, date: () => (Number.isNaN(at) ? Date.now() : at) };
}

/** Someone else was faster: the condition did not hold, or two tried at once, or what was there is gone. */
function unlessChanged(thrown: unknown): undefined {
  const status = thrown instanceof CollectError ? thrown.status : undefined;
  if (status !== 412 && status !== 409 && status !== 404) throw thrown;
}

async function mayList({ HeadBucketCommand }: Commands, client: S3Client, bucket: string): Promise<boolean> {
  try {
    await client.send(new HeadBucketCommand({ Bucket: bucket }));
    return true;
  } catch (error) {
    // A HEAD has no body that says why; what comes next will.
    const status = statusOf(error);
    if (status === 403 || (status === 400 && regionOf(error) === undefined)) return false;
    throw error;
  }
}

function unlessMissing(thrown: unknown): undefined {
  if (!isMissing(thrown)) throw thrown;
}

function connect(sdk: Commands, settings: BucketSettings): { run: Run; close(): void } {
  const { identity, endpoint } = connectionOf(settings);
  const clients: S3Client[] = [];
  let current = open(identity.region);
  return {
    async run(attempt, work) {
      const used = current;
      const explain: Explain = (thrown) =>
        explained(thrown, {
          ...attempt,
          bucket: settings.STORE_AWS_S3_BUCKET,
          region: current.region,
          ...(endpoint === undefined ? {} : { host: endpoint.host }),
        });
      try {
        return await work(used.client, explain);
      } catch (error) {
        const region = regionOf(error);
        if (region === undefined || region === used.region) throw explain(error);
        if (current === used) current = open(region);
      }
      return work(current.client, explain).catch((error: unknown) => Promise.reject(explain(error)));
    },
    close() {
      for (const client of clients) client.destroy();
    },
  };

  function open(region: string): { readonly client: S3Client; readonly region: string } {
    const client = new sdk.S3Client(configOf(settings, { ...identity, region }, endpoint));
    clients.push(client);
    return { client, region };
  }
}

function configOf(settings: BucketSettings, identity: AwsIdentity, endpoint: URL | undefined): S3ClientConfig {
  return {
    ...identity,
    forcePathStyle: settings.STORE_AWS_S3_FORCE_PATH_STYLE,
    retryMode: 'adaptive',
    maxAttempts: TRIES,
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: SILENCE_MS },
    logger: SILENT,
    ...(endpoint === undefined ? {} : { endpoint: endpoint.href, ...PLAIN }),
  };
}

function putter(sdk: Sdk, settings: BucketSettings, run: Run, warn: (message: string) => void): Bucket['put'] {
  let acl = /^none$/i.test(settings.STORE_AWS_S3_ACL) ? undefined : settings.STORE_AWS_S3_ACL;
  return async (content, confirm) => {
    await confirm(); // an upload whose length is known ends with its last byte
    const needs = ['s3:PutObject', ...(acl === undefined ? [] : ['s3:PutObjectAcl'])];
    return run({ key: content.key, done: 'written', needs }, async (client) => {
      const params = paramsOf(settings, content);
      if (acl === undefined) return send(sdk, client, content, params);
      try {
        await send(sdk, client, content, { ...params, ACL: acl as NonNullable<Params['ACL']> });
      } catch (error) {
        if (!refusesAcl(error)) throw error;
        if (acl !== undefined) warn(`${params.Bucket} takes no ACLs, so none is sent: set STORE_AWS_S3_ACL=none`);
        acl = undefined;
        await send(sdk, client, content, params);
      }
    });
  };
}

function paramsOf(settings: BucketSettings, { key, type, metadata }: Content): Params {
  const sse = settings.STORE_AWS_S3_SSE;
  const keyId = sse?.startsWith('aws:kms:') ? sse.slice('aws:kms:'.length) : undefined;
  return {
    Bucket: settings.STORE_AWS_S3_BUCKET,
    Key: key,
    ContentType: type,
    Metadata: { ...metadata },
    ...(sse === undefined ? {} : { ServerSideEncryption: sse === 'AES256' ? sse : 'aws:kms' }),
    ...(keyId === undefined ? {} : { SSEKMSKeyId: keyId }),
  };
}

/**
 * One PUT that streams, where the length is known and a part would not hold it; parts otherwise. The SDK cannot send a
 * stream twice, but parts it can: so what may pass is tried again in parts. The stream's checksum goes ahead of it, as
 * some compatible stores keep what has come when a connection breaks; parts have one each.
 */
async function send(sdk: Sdk, client: S3Client, content: Content, params: Params): Promise<void> {
  const { key, length } = content;
  if (compressionOf(key) === 'none' && length > LEAST_PART && length <= MOST_SINGLE) {
    try {
      const whole = { ...params, ContentLength: length, ChecksumSHA256: await checksumOf(content) };
      return await fed(content, async (body, abortSignal) => {
        await client.send(new sdk.PutObjectCommand({ ...whole, Body: body }), { abortSignal });
      });
    } catch (error) {
      if (!mayPass(error)) throw error;
    }
  }
  await fed(content, async (body) => {
    const partSize = Math.max(LEAST_PART, Math.ceil(length / MOST_PARTS / MIB) * MIB);
    await new sdk.Upload({ client, params: { ...params, Body: body }, partSize, queueSize: PARTS_AT_ONCE }).done();
  });
}

async function checksumOf(content: Content): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of wholeChunks(content.chunks(), content)) hash.update(chunk);
  return hash.digest('base64');
}
