import { Readable } from 'node:stream';
import type { HeadObjectCommandOutput, PutObjectCommandInput, S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { z } from 'zod';
import { type AwsIdentity, awsIdentity, awsShape } from '../config/aws.ts';
import { programShape } from '../config/program.ts';
import { baseUrl, flag, optional, setting, text, type Values } from '../config/setting.ts';
import { compress, compressionOf, gunzip } from '../envelope/encoding.ts';
import { CollectError } from '../errors.ts';
import { type Attempt, explained, isMissing, mayPass, placeOf, refusesAcl, regionOf } from './_s3_errors.ts';
import { unzstd } from './_zstd.ts';

/** The variables of a bucket and of who uses it. */
export const bucketShape = {
  STORE_AWS_S3_BUCKET: setting('Bucket; switches the store on'),
  STORE_AWS_S3_ACL: setting("Canned ACL of each object; 'none' sends none", text('bucket-owner-full-control')),
  STORE_AWS_S3_ENDPOINT: setting('Base URL of an S3-compatible store; unset = AWS', optional()),
  STORE_AWS_S3_FORCE_PATH_STYLE: setting('Name the bucket in the path, as many compatible stores want it', flag()),
  STORE_AWS_S3_SSE: setting(
    'Encryption at rest: AES256, aws:kms or aws:kms:<key id>; unset = as the bucket is set up',
    z
      .string()
      .regex(/^(AES256|aws:kms(:.+)?)$/, 'must be AES256, aws:kms or aws:kms:<key id>')
      .optional(),
  ),
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
  ...awsShape,
} as const;

/** The values of a bucket's variables. */
export type BucketSettings = Values<typeof bucketShape>;

/** An object to put, whose content can be produced any number of times. */
export interface Content {
  readonly key: string;
  readonly type: string;
  /** User metadata: ASCII names and values. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Exact length before compression. */
  readonly length: number;
  chunks(): AsyncGenerator<Uint8Array>;
}

/** A bucket one may use; every error is a sentence. */
export interface Bucket {
  /** Puts an object whole or leaves what was there; compressed as the key's end says. */
  put(content: Content): Promise<void>;
  /** The bytes of an object, inflated as the key's end says; undefined when it is not there. */
  get(key: string): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** The user metadata of an object; undefined when it is not there. */
  head(key: string): Promise<Readonly<Record<string, string>> | undefined>;
  delete(key: string): Promise<void>;
  /** Whether the bucket may be listed. */
  listable(): Promise<boolean>;
  close(): void;
}

type Sdk = typeof import('@aws-sdk/client-s3') & Pick<typeof import('@aws-sdk/lib-storage'), 'Upload'>;
type Params = Omit<PutObjectCommandInput, 'Body' | 'ContentLength'>;

interface Connection {
  readonly client: S3Client;
  readonly region: string;
}

const MIB = 2 ** 20;
const LEAST_PART = 8 * MIB;
const MOST_SINGLE = 64 * MIB;
const MOST_PARTS = 9_900; // S3 takes 10,000; compressed data may come out a little longer than it was
const PARTS_AT_ONCE = 2;
const TRIES = 5;
const CONNECT_MS = 10_000;
const SILENCE_MS = 120_000;
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }; // the SDK would write to the console

/**
 * How the bucket's server is reached.
 * @throws {CollectError} config, refused
 */
export function connectionOf(settings: BucketSettings): { readonly identity: AwsIdentity; readonly endpoint?: URL } {
  const identity = awsIdentity(settings);
  if (settings.STORE_AWS_S3_ENDPOINT === undefined) return { identity };
  return { identity, endpoint: baseUrl(settings.STORE_AWS_S3_ENDPOINT, settings.CYBER_COLLECT_ALLOW_HTTP) };
}

/** Opens a bucket; nothing is sent yet. */
export async function openBucket(settings: BucketSettings, warn: (message: string) => void): Promise<Bucket> {
  const [{ Upload }, s3] = await Promise.all([import('@aws-sdk/lib-storage'), import('@aws-sdk/client-s3')]);
  const sdk: Sdk = { ...s3, Upload };
  const bucket = settings.STORE_AWS_S3_BUCKET;
  const { run, close } = connect(sdk, settings);
  let acl = /^none$/i.test(settings.STORE_AWS_S3_ACL) ? undefined : settings.STORE_AWS_S3_ACL;
  return {
    close,
    put(content) {
      const needs = ['s3:PutObject', ...(acl === undefined ? [] : ['s3:PutObjectAcl'])];
      return run({ key: content.key, done: 'written', needs }, async (client) => {
        const params = paramsOf(settings, content);
        const sent = acl;
        if (sent === undefined) return send(sdk, client, content, params);
        try {
          await send(sdk, client, content, { ...params, ACL: sent as NonNullable<Params['ACL']> });
        } catch (error) {
          if (!refusesAcl(error)) throw error;
          if (acl !== undefined) warn(`the bucket '${bucket}' takes no ACLs, so none is sent: set STORE_AWS_S3_ACL=none`);
          acl = undefined;
          await send(sdk, client, content, params);
        }
      });
    },
    get(key) {
      const attempt = { key, done: 'read', needs: READ_NEEDS };
      return run(attempt, async (client, explain) => {
        const { Body } = await client.send(new sdk.GetObjectCommand({ Bucket: bucket, Key: key }));
        const body = translated(Body as Readable, explain);
        return inflated(body, placeOf(bucket, key));
      }).catch(unlessMissing);
    },
    head(key) {
      return run({ key, done: 'looked up', needs: READ_NEEDS }, async (client) => {
        const found: HeadObjectCommandOutput = await client.send(new sdk.HeadObjectCommand({ Bucket: bucket, Key: key }));
        return found.Metadata ?? {};
      }).catch(unlessMissing);
    },
    delete(key) {
      return run({ key, done: 'deleted', needs: ['s3:DeleteObject'] }, async (client) => {
        await client.send(new sdk.DeleteObjectCommand({ Bucket: bucket, Key: key }));
      });
    },
    listable() {
      return run({ done: 'listed', needs: ['s3:ListBucket'] }, async (client) => {
        await client.send(new sdk.HeadBucketCommand({ Bucket: bucket }));
        return true;
      }).catch((error: unknown) => {
        if (error instanceof CollectError && error.status === 403) return false;
        throw error;
      });
    },
  };
}
