import type { Readable } from 'node:stream';
import type { File, Bucket as GcsBucket, StorageOptions } from '@google-cloud/storage';
import { programShape } from '../config/program.ts';
import { assertEncrypted, baseUrl, matching, optional, secret, setting, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { credentialsOf, faultOf, googleError, googleOutlook, sendAll } from './_google.ts';
import { type Bucket, bodyOf, type Content, opened } from './_objects.ts';
import { patiently } from './_patience.ts';

/** The variables of a bucket and of who uses it. */
export const gcsShape = {
  STORE_GCS_BUCKET: setting(
    'Bucket; switches the store on',
    matching(/^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/, 'must be the name of a bucket alone, without gs://'),
  ),
  STORE_GCS_CREDENTIALS: secret(
    'JSON key of a service account; unset = GOOGLE_APPLICATION_CREDENTIALS, gcloud, or the machine’s own',
    optional(),
  ),
  STORE_GCS_API_ENDPOINT: setting('Base URL; unset = Google; plain http on loopback asks without a login', optional()),
  STORE_GCS_KMS_KEY_NAME: setting('Cloud KMS key of new objects; unset = as the bucket is set up', optional()),
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
} as const;

/** The values of a bucket's variables. */
export type GcsSettings = Values<typeof gcsShape>;

/** The name of an object as a person would look for it. */
export function placeOf(bucket: string, key: string): string {
  return `gs://${bucket}/${key}`;
}

/**
 * How the service is reached, and as whom.
 * @throws {CollectError} config, refused
 */
export function connectionOf(settings: GcsSettings): StorageOptions {
  const credentials = credentialsOf('STORE_GCS_CREDENTIALS', settings.STORE_GCS_CREDENTIALS);
  const base = {
    retryOptions: { autoRetry: false, maxRetries: 0 },
    ...(credentials === undefined ? {} : { credentials }),
  };
  if (settings.STORE_GCS_API_ENDPOINT === undefined) return base;
  const endpoint = assertEncrypted(baseUrl(settings.STORE_GCS_API_ENDPOINT), settings.CYBER_COLLECT_ALLOW_HTTP);
  return {
    ...base,
    apiEndpoint: endpoint.href.replace(/\/$/, ''),
    useAuthWithCustomEndpoint: endpoint.protocol === 'https:' || credentials !== undefined,
  };
}

type Explain = (thrown: unknown) => unknown;

/** Opens a bucket; nothing is sent yet. */
export async function openGcs(settings: GcsSettings): Promise<Bucket> {
  const options = connectionOf(settings);
  const { Storage } = await import('@google-cloud/storage').catch((cause: unknown) => {
    throw new CollectError(
      'config',
      'the Google Cloud Storage store needs @google-cloud/storage, which is not installed',
      {
        mend: 'npm install @google-cloud/storage',
        cause,
      },
    );
  });
  const bucket = new Storage(options).bucket(settings.STORE_GCS_BUCKET);
  const host = options.apiEndpoint === undefined ? 'storage.googleapis.com' : new URL(options.apiEndpoint).host;
  const say = (key: string, done: string): Explain => {
    return (thrown) => explained(thrown, settings, key, done, host);
  };
  async function run<T>(key: string, done: string, work: () => Promise<T>): Promise<T> {
    return work().catch((thrown: unknown) => Promise.reject(say(key, done)(thrown)));
  }
  return {
    put: (content, confirm) => run(content.key, 'written', () => put(bucket, settings, content, confirm)),
    get: (key) =>
      run(key, 'read', async () => {
        const found = await headOf(bucket.file(key));
        if (found === undefined) return undefined;
        // Of that generation, whatever comes after it; compressed bytes as they lie there.
        const pinned = bucket.file(key, { generation: found.generation });
        const body: Readable = pinned.createReadStream({ decompress: false });
        return opened(body, placeOf(settings.STORE_GCS_BUCKET, key), say(key, 'read'));
      }),
    head: (key) => run(key, 'looked up', async () => (await headOf(bucket.file(key)))?.metadata),
    delete: (key) =>
      run(key, 'deleted', async () => {
        await patiently(() => bucket.file(key).delete({ ignoreNotFound: true }), googleOutlook);
      }),
    close() {},
  };
}

interface Head {
  readonly metadata: Readonly<Record<string, string>>;
  readonly generation: number;
}

async function headOf(file: File): Promise<Head | undefined> {
  try {
    const [found] = await patiently(() => file.getMetadata(), googleOutlook);
    const metadata = Object.entries(found.metadata ?? {}).map(([name, value]) => [name, String(value)] as const);
    return { metadata: Object.fromEntries(metadata), generation: Number(found.generation) };
  } catch (thrown) {
    if (faultOf(thrown).status !== 404 || isWithoutBucket(thrown)) throw thrown;
    return undefined;
  }
}

/** A missing bucket answers as a missing object does; only the words differ. */
function isWithoutBucket(thrown: unknown): boolean {
  return thrown instanceof Error && /bucket does not exist|bucket.*not found/i.test(thrown.message);
}

/** Puts an object over what was there at the start: who else wrote meanwhile is not overwritten. */
async function put(
  bucket: GcsBucket,
  settings: GcsSettings,
  content: Content,
  confirm: () => Promise<void>,
): Promise<void> {
  const { STORE_GCS_KMS_KEY_NAME: kmsKeyName } = settings;
  const { key, type } = content;
  const file = bucket.file(key, kmsKeyName === undefined ? {} : { kmsKeyName });
  const ifGenerationMatch = (await headOf(bucket.file(key)))?.generation ?? 0;
  const metadata = { contentType: type, metadata: { ...content.metadata } };
  const begin = () => file.createResumableUpload({ metadata, preconditionOpts: { ifGenerationMatch } });
  const [session] = await patiently(begin, googleOutlook);
  try {
    await sendAll(session, bodyOf(content), confirm);
  } catch (thrown) {
    if (faultOf(thrown).status !== 412) throw thrown;
    // What was put, but whose answer was lost, is met again.
    const held = (await headOf(bucket.file(key)))?.metadata;
    const ours = content.metadata['upload-id'];
    if (ours !== undefined && held?.['upload-id'] === ours && held.sha256 === content.metadata.sha256) return;
    throw thrown;
  }
}

const ROLE = 'Storage Object User (roles/storage.objectUser) on the bucket';

function explained(thrown: unknown, settings: GcsSettings, key: string, done: string, host: string): unknown {
  const name = settings.STORE_GCS_BUCKET;
  const place = placeOf(name, key);
  const { status } = thrown instanceof CollectError ? { status: undefined } : faultOf(thrown);
  if (status === 404) {
    return new CollectError('store', `${place} cannot be ${done}: the bucket '${name}' does not exist`, {
      mend: 'create it, or correct STORE_GCS_BUCKET',
      status,
    });
  }
  if (status === 412) {
    return new CollectError('locked', `${place} cannot be ${done}: someone else has written it meanwhile`, {
      mend: 'find out which other run writes there',
      status,
    });
  }
  return googleError(thrown, {
    place,
    done,
    host,
    role: ROLE,
    credentials: 'STORE_GCS_CREDENTIALS',
    endpoint: 'STORE_GCS_API_ENDPOINT',
  });
}
