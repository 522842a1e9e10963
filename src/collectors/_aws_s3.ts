import type { Bucket, S3Client } from '@aws-sdk/client-s3';
import { CollectError } from '../errors.ts';
import { isObject, type Json, type JsonObject } from '../json.ts';
import type { Reading, Records } from './_aws.ts';
import { inTurns } from './_aws_accounts.ts';
import { jsonOf, type Options, recordOf, type Scope } from './_aws_scope.ts';

type Commands = typeof import('@aws-sdk/client-s3');

/** A setting of a bucket that its own call tells. */
interface Aspect {
  readonly field: string;
  /** The permission that it takes. */
  readonly action: string;
  /** The error that says it is not set. */
  readonly absent?: string;
  /** What of the answer it is; without one, all. */
  readonly of?: string;
  send(sdk: Commands, client: S3Client, Bucket: string, given: Options): Promise<object>;
}

const ASPECTS: readonly Aspect[] = [
  {
    field: '_public_access_block',
    action: 's3:GetBucketPublicAccessBlock',
    absent: 'NoSuchPublicAccessBlockConfiguration',
    of: 'PublicAccessBlockConfiguration',
    send: (sdk, client, Bucket, given) => client.send(new sdk.GetPublicAccessBlockCommand({ Bucket }), given),
  },
  {
    field: '_policy_status',
    action: 's3:GetBucketPolicyStatus',
    absent: 'NoSuchBucketPolicy',
    of: 'PolicyStatus',
    send: (sdk, client, Bucket, given) => client.send(new sdk.GetBucketPolicyStatusCommand({ Bucket }), given),
  },
  {
    field: '_encryption',
    action: 's3:GetEncryptionConfiguration',
    absent: 'ServerSideEncryptionConfigurationNotFoundError',
    of: 'ServerSideEncryptionConfiguration',
    send: (sdk, client, Bucket, given) => client.send(new sdk.GetBucketEncryptionCommand({ Bucket }), given),
  },
  {
    field: '_versioning',
    action: 's3:GetBucketVersioning',
    send: (sdk, client, Bucket, given) => client.send(new sdk.GetBucketVersioningCommand({ Bucket }), given),
  },
  {
    field: '_logging',
    action: 's3:GetBucketLogging',
    send: (sdk, client, Bucket, given) => client.send(new sdk.GetBucketLoggingCommand({ Bucket }), given),
  },
];

/** An answer before the SDK reads it. */
interface Raw {
  readonly statusCode: number;
  body: AsyncIterable<Uint8Array> | Uint8Array;
}

/** Refuses what is none of S3's answers: the SDK would read a gateway's page, or nothing, as settings that are not set. */
function wary(client: S3Client): S3Client {
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const raw = result.response as Raw;
      if (!(raw.body instanceof Uint8Array)) {
        const parts: Uint8Array[] = [];
        for await (const part of raw.body) parts.push(part);
        raw.body = Buffer.concat(parts);
      }
      const start = Buffer.from(raw.body.subarray(0, 100)).toString('latin1').trim();
      if (raw.statusCode < 300 && !/^<(?!html|!doctype)/i.test(start)) throw new SyntaxError('no answer of S3');
      return result;
    },
    { step: 'deserialize', priority: 'low' },
  );
  return client;
}

/** Fields that are added to a bucket, and what they are. */
export const BUCKET_FIELDS = {
  _region: 'the region it lies in',
  _public_access_block: 'its public access block, null where it has none',
  _policy_status: 'whether its policy makes it public, null where it has none',
  _encryption: 'its default encryption, null where it has none',
  _versioning: 'its versioning',
  _logging: 'where its accesses are logged',
  _errors: 'what could not be read of it, and why',
} as const;

const BUCKETS_AT_ONCE = 8;
const REFUSALS = ['AccessDenied', 'AllAccessDisabled', 'MethodNotAllowed'];
const GONE = 'NoSuchBucket';

/** Buckets with their settings. What a bucket's own policy hides is told in `_errors`; what is hidden of all is an error. */
export async function* buckets(scope: Scope, { warn }: Reading): AsyncGenerator<Records> {
  const action = 's3:ListAllMyBuckets';
  const sdk = await import('@aws-sdk/client-s3');
  const client = wary(scope.open(sdk.S3Client));
  const list = scope.pages({
    action,
    send: (ContinuationToken, given) =>
      client.send(new sdk.ListBucketsCommand({ ContinuationToken, MaxBuckets: 1000 }), given),
    next: ({ ContinuationToken }) => ContinuationToken,
  });
  const refused = new Map<string, number>();
  let count = 0;
  const look = lookInto(sdk, scope, (what) => refused.set(what, (refused.get(what) ?? 0) + 1));
  for await (const { Buckets } of list) {
    if (Buckets === undefined) throw scope.lacking(action, 'Buckets');
    const records = await inTurns(Buckets, BUCKETS_AT_ONCE, look);
    const there = records.filter((record) => record !== undefined);
    count += there.length;
    yield there;
  }
  for (const [what, times] of refused) {
    if (times < count) warn(`${what} is refused for ${times} of ${count} buckets: see _errors`);
    else throw denied(what, scope);
  }
}

function denied(what: string, { account }: Scope): CollectError {
  const mend = `allow ${what}`;
  return new CollectError('denied', `${what} is refused for every bucket of account ${account}`, { mend });
}

/** Finds out all there is to know of a bucket; undefined when it is not there any more. */
function lookInto(sdk: Commands, scope: Scope, refuse: (action: string) => void) {
  const clients = new Map<string, S3Client>();
  const clientIn = (region: string) => {
    const client = clients.get(region) ?? wary(scope.open(sdk.S3Client, region));
    clients.set(region, client);
    return client;
  };
  return async (bucket: Bucket): Promise<JsonObject | undefined> => {
    const Name = bucket.Name;
    if (Name === undefined) throw scope.lacking('s3:ListAllMyBuckets', 'Name');
    const errors: JsonObject = {};
    const read = async (action: string, absent: string | undefined, send: (given: Options) => Promise<object>) => {
      const expected = [...REFUSALS, GONE, ...(absent === undefined ? [] : [absent])];
      const answer = await scope.askUnless(expected, action, send);
      if (typeof answer !== 'string' || answer === absent || answer === GONE) return answer;
      errors[action] = answer;
      refuse(action);
      return answer;
    };
    const told = bucket.BucketRegion ?? (await locationOf(sdk, clientIn(scope.region), Name, read));
    if (told === GONE) return undefined;
    const client = clientIn(told ?? scope.region);
    const found: JsonObject = { _region: told ?? null };
    for (const { field, action, absent, of, send } of ASPECTS) {
      const answer = await read(action, absent, (given) => send(sdk, client, Name, given));
      if (answer === GONE) return undefined;
      const value = typeof answer === 'string' ? null : of === undefined ? answer : answer[of as keyof typeof answer];
      found[field] = jsonOf(value ?? null);
      const isLacking = isObject(found[field]) && of !== undefined && Object.keys(found[field]).length === 0;
      if (value === undefined || isLacking) throw scope.lacking(action, of ?? 'content');
    }
    return recordOf(bucket, { ...found, _errors: errors });
  };
}

type ReadAspect = (
  action: string,
  absent: string | undefined,
  send: (given: Options) => Promise<object>,
) => Promise<object | string>;

/** The region of a bucket, `NoSuchBucket`, or undefined where that is not told. */
async function locationOf(
  sdk: Commands,
  client: S3Client,
  Bucket: string,
  read: ReadAspect,
): Promise<string | undefined> {
  const answer = await read('s3:GetBucketLocation', undefined, (given) =>
    client.send(new sdk.GetBucketLocationCommand({ Bucket }), given),
  );
  if (typeof answer === 'string') return answer === GONE ? GONE : undefined;
  const constraint: Json = jsonOf((answer as { readonly LocationConstraint?: string }).LocationConstraint ?? '');
  // The oldest two regions go by other names here.
  return constraint === '' ? 'us-east-1' : constraint === 'EU' ? 'eu-west-1' : String(constraint);
}
