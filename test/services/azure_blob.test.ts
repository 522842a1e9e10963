import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Sink } from '../../src/stores/store.ts';
import azureBlob from '../../src/stores/store_azure_blob.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import { root } from '../support/build.ts';
import { makeCertificates } from '../support/certificates.ts';
import { datasetOf, recordsOfSize } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { type Call, type Fault, frontOf, type Refusal } from '../support/front.ts';
import { killOverAndOver } from '../support/killed.ts';
import { growthOf } from '../support/memory.ts';
import { bytesOf, MIB, newTag, objectStoreSuite } from '../support/object_store.ts';
import { openStore, targetsOf } from '../support/open.ts';
import { temporaryFolder } from '../support/run.ts';
import { json, serve } from '../support/server.ts';

type Variables = Readonly<Record<string, string>>;

const run = promisify(execFile);
const container = `cc-${randomUUID()}`;
const wrongKey = Buffer.from('hunter2-hunter2').toString('base64');
let azurite: Azurite;
let admin: ContainerClient;
let folder = '';

beforeAll(async () => {
  folder = await temporaryFolder();
  azurite = await startAzurite();
  const credential = new StorageSharedKeyCredential(azurite.account, azurite.key);
  admin = new BlobServiceClient(azurite.endpoint, credential).getContainerClient(container);
  await admin.create();
});

afterAll(() => azurite?.stop());

function variables(more: Variables = {}): Variables {
  return {
    STORE_AZURE_BLOB_CONTAINER: container,
    STORE_AZURE_BLOB_ACCOUNT: azurite.account,
    STORE_AZURE_BLOB_ENDPOINT: azurite.endpoint,
    STORE_AZURE_BLOB_ACCOUNT_KEY: azurite.key,
    ...more,
  };
}

/** The variables with which the account is at another origin. */
function through(origin: string): Variables {
  return variables({ STORE_AZURE_BLOB_ENDPOINT: `${origin}/${azurite.account}` });
}

/** A sink that puts lines. */
function open(how = variables()): Promise<Sink> {
  return openStore(azureBlob, { ...how, STORE_AZURE_BLOB_KEY: 'data/%TAG.ndjson' });
}

function dataset(records: Iterable<string>, tag = newTag()) {
  return datasetOf(folder, records, { tag });
}

/** One request: `downloadToBuffer` asks for the length first, and may then read another blob of the name. */
async function blob(key: string): Promise<Buffer> {
  const { readableStreamBody } = await admin.getBlobClient(key).download();
  return bytesOf(readableStreamBody as AsyncIterable<Buffer> | undefined);
}

async function names(prefix: string): Promise<readonly string[]> {
  const found: string[] = [];
  for await (const { name } of admin.listBlobsFlat({ prefix })) found.push(name);
  return found;
}

/** A door in front of the emulator. */
function front(faults?: (call: Call) => Fault) {
  const kindOf = ({ method, url }: Pick<Call, 'method' | 'url'>) =>
    `${method} ${url.searchParams.get('comp') ?? 'blob'}`;
  return frontOf(azurite.endpoint, kindOf, faults);
}

function refusal(status: number, code: string, headers: Variables = {}): Refusal {
  return { status, headers: { 'x-ms-error-code': code, ...headers } };
}

test('100 MB go in blocks, in bounded memory', async () => {
  const data = await dataset(recordsOfSize(100 * MIB));
  const sink = await open();
  await sink.write(await dataset(['{}']));
  expect(await growthOf('100 MB', () => sink.write(data))).toBeLessThan(150);
  const found = await admin.getBlockBlobClient(`data/${data.tag}.ndjson`).getBlockList('committed');
  expect(found.committedBlocks).toHaveLength(13);
  expect(found.blobContentLength).toBe(data.spool.bytes);
});

objectStoreSuite({
  store: azureBlob,
  prefix: 'STORE_AZURE_BLOB',
  bucket: 'STORE_AZURE_BLOB_CONTAINER',
  uploadId: 'upload_id',
  deleting: 'the right to delete blobs',
  begins: 'PUT block',
  tellsBucket: true,
  refusals: [
    [
      'lack of a right',
      refusal(403, 'AuthorizationPermissionMismatch'),
      'denied',
      /./,
      /Storage Blob Data Contributor/,
    ],
    ['keys that are off', refusal(403, 'KeyBasedAuthenticationNotPermitted'), 'denied', /./, /managed identity/],
    ['an immutable blob', refusal(409, 'BlobImmutableDueToPolicy'), 'denied', /./, /%UUID/],
    ['a feature Azure lacks', refusal(400, 'FeatureVersionMismatch'), 'store', /./, /STORE_AZURE_BLOB_/],
  ],
  denied: refusal(403, 'AuthorizationPermissionMismatch'),
  mistakes: [
    ['no account', { STORE_AZURE_BLOB_ACCOUNT: '', STORE_AZURE_BLOB_ENDPOINT: '' }, 'STORE_AZURE_BLOB_ACCOUNT'],
    ['half an app', { STORE_AZURE_BLOB_ACCOUNT_KEY: '', STORE_AZURE_BLOB_TENANT_ID: 't' }, 'all three'],
  ],
  variables: (origin) => (origin === undefined ? variables() : through(origin)),
  // The emulator calls a wrong key AuthorizationFailure, which to Azure is a firewall.
  wrong: async () => {
    const { origin } = await front(() => refusal(403, 'AuthenticationFailed'));
    return { ...through(origin), STORE_AZURE_BLOB_ACCOUNT_KEY: wrongKey };
  },
  secrets: () => [azurite.key, wrongKey],
  place: () => `${azurite.endpoint}/${container}`,
  front,
  object: blob,
  names,
  metadata: async (key) => (await admin.getBlobClient(key).getProperties()).metadata,
  type: async (key) => (await admin.getBlobClient(key).getProperties()).contentType,
});

test('killed at any moment a blob is the old whole or the new whole, which a reader sees throughout', async () => {
  const env = variables({ STORE_AZURE_BLOB_KEY: 'killed/%TAG.json' });
  const read = async () => {
    const found = await blob('killed/okta_killed.json').catch((error: { statusCode?: number }) => {
      if (error.statusCode === 404) return undefined;
      throw error;
    });
    if (found === undefined) return undefined;
    const { data } = JSON.parse(found.toString()) as { data: unknown[] };
    return data.map((record) => JSON.stringify(record));
  };
  const seen = await killOverAndOver({ store: 'azure_blob', env, folder, read, kills: 6 });
  expect(seen.wrong).toEqual([]);
  expect(seen.generations).toBeGreaterThan(1);
}, 120_000);

describe('failure', () => {
  test('of a block, throttling and lost answers are made good', async () => {
    const door = await front(({ kind, nth }) => {
      if (kind === 'PUT block' && nth === 1) return refusal(503, 'ServerBusy', { 'retry-after': '1' });
      return (kind === 'PUT block' && nth === 3) || (kind === 'PUT blocklist' && nth === 1) ? 'lost' : undefined;
    });
    const data = await dataset(recordsOfSize(20 * MIB));
    const sink = await open(through(door.origin));
    const from = performance.now();
    await sink.write(data);
    expect(performance.now() - from).toBeGreaterThan(1000);
    expect(door.kinds().filter((kind) => kind === 'PUT block')).toHaveLength(5);
    expect(door.kinds().filter((kind) => kind === 'PUT blocklist')).toHaveLength(2);
    expect((await blob(`data/${data.tag}.ndjson`)).length).toBe(data.spool.bytes);
  });

  test('a longer wait than a run may take is an answer', async () => {
    const door = await front(({ kind }) =>
      kind === 'PUT block' ? refusal(503, 'ServerBusy', { 'retry-after': '3600' }) : undefined,
    );
    const sink = await open(through(door.origin));
    const error = await failureOf(async () => sink.write(await dataset(['{}'])));
    expect(error.code).toBe('throttled');
    expect(door.kinds().filter((kind) => kind === 'PUT block')).toHaveLength(1);
  });

  test('who wrote meanwhile is not overwritten', async () => {
    const tag = newTag();
    const sink = await open();
    await sink.write(await dataset(['{"id":"old"}'], tag));
    const newer = await dataset(['{"id":"newer"}'], tag);
    const late = await dataset(['{"id":"late"}'], tag);
    const error = await failureOf(() =>
      sink.write({
        ...late,
        confirm: async () => {
          await sink.write(newer);
        },
      }),
    );
    expect(error.code).toBe('locked');
    expect(error.message).toContain('written it meanwhile');
    expect((await blob(`data/${tag}.ndjson`)).toString()).toBe('{"id":"newer"}\n');
  });
});

describe('credentials', () => {
  test('of a connection string and of a SAS work too', async () => {
    const { account, key, endpoint } = azurite;
    const string = `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${key};BlobEndpoint=${endpoint};`;
    const sas = await admin.generateSasUrl({
      permissions: (await import('@azure/storage-blob')).ContainerSASPermissions.parse('racwd'),
      expiresOn: new Date(Date.now() + 600_000),
    });
    const common = { STORE_AZURE_BLOB_CONTAINER: container };
    for (const more of [
      { ...common, AZURE_STORAGE_CONNECTION_STRING: string },
      { ...common, STORE_AZURE_BLOB_ENDPOINT: endpoint, AZURE_STORAGE_SAS_TOKEN: new URL(sas).search },
    ]) {
      const sink = await open(more);
      const data = await dataset(['{"id":1}']);
      const { at: place } = await sink.write(data);
      expect(place).toBe(`${endpoint}/${container}/data/${data.tag}.ndjson`);
      expect((await blob(`data/${data.tag}.ndjson`)).toString()).toBe('{"id":1}\n');
      await sink.check?.();
    }
  });
});

const CREATE = `
const { BlobServiceClient, StorageSharedKeyCredential } = require('@azure/storage-blob');
const [endpoint, account, key] = process.argv.slice(1);
new BlobServiceClient(endpoint, new StorageSharedKeyCredential(account, key)).createContainer('tokens');
`;

/** Writes a dataset in a process of its own, which trusts the authority of the certificates. */
const WRITER = `
const { root, env, dataset } = JSON.parse(process.argv[1]);
const { default: room } = await import(root + '/dist/stores/store_azure_blob.js');
const { environmentOf, resolveShape } = await import(root + '/dist/config/environment.js');
const { values } = resolveShape(environmentOf(env), 'azure_blob', room.env, room.aliases);
const sink = await room.open(values, { tenancy: 'acme', at: new Date(), warn() {} });
const done = sink.write({ ...dataset, confirm: async () => undefined });
console.log(JSON.stringify(await done.catch(({ code, message }) => ({ code, message }))));
`;

test('an app of Entra gets a token and writes, and one that gets none is told so', async () => {
  const certificates = await makeCertificates();
  const file = join(folder, 'tls');
  await writeFile(`${file}.pem`, certificates.cert);
  await writeFile(`${file}.key`, certificates.key);
  const secure = await startAzurite({ cert: `${file}.pem`, key: `${file}.key` });
  const asked: string[] = [];
  const entra = await serve(({ url, body }, response) => {
    asked.push(`${url.pathname} ${body}`);
    const base = `${entra.origin.origin}/contoso`;
    if (url.pathname.endsWith('openid-configuration')) {
      const [token_endpoint, jwks_uri] = [`${base}/oauth2/v2.0/token`, `${base}/keys`];
      const authorization_endpoint = `${base}/authorize`;
      return json(response, { token_endpoint, issuer: `${base}/v2.0`, authorization_endpoint, jwks_uri });
    }
    if (!body.includes('client_secret=right')) return json(response, { error: 'invalid_client' }, 401);
    const now = Math.floor(Date.now() / 1000);
    const iss = 'https://sts.windows.net/7d1f1a52-0f8f-4b5a-8a52-1f1b7c1d9d11/';
    const claims = { aud: 'https://storage.azure.com', iss, iat: now, nbf: now - 60, exp: now + 3600 };
    const parts = [{ alg: 'RS256', typ: 'JWT' }, claims].map((part) => btoa(JSON.stringify(part)));
    return json(response, {
      token_type: 'Bearer',
      expires_in: 3600,
      access_token: [...parts, btoa('signed')].join('.'),
    });
  }, certificates);
  async function write(secret: string): Promise<unknown> {
    const env = {
      STORE_AZURE_BLOB_CONTAINER: 'tokens',
      STORE_AZURE_BLOB_KEY: 'data/%TAG.ndjson',
      STORE_AZURE_BLOB_ENDPOINT: secure.endpoint,
      STORE_AZURE_BLOB_TENANT_ID: 'contoso',
      STORE_AZURE_BLOB_CLIENT_ID: 'robot',
      STORE_AZURE_BLOB_CLIENT_SECRET: secret,
      STORE_AZURE_BLOB_AUTHORITY: entra.origin.origin,
    };
    const argument = JSON.stringify({ root, env, dataset: await dataset(['{"id":1}']) });
    const trusting = { env: { ...process.env, NODE_EXTRA_CA_CERTS: certificates.caFile } };
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', WRITER, argument], trusting);
    return JSON.parse(stdout);
  }
  await run(process.execPath, ['-e', CREATE, secure.endpoint, secure.account, secure.key], {
    cwd: root,
    env: { ...process.env, NODE_EXTRA_CA_CERTS: certificates.caFile },
  });
  try {
    expect(await write('right')).toMatchObject({ records: 1 });
    expect(await write('wrong')).toEqual({
      code: 'credentials',
      message: expect.stringContaining('Entra gives the app no token (invalid_client)'),
    });
    expect(asked.some((one) => one.includes('scope=https%3A%2F%2Fstorage.azure.com%2F.default'))).toBe(true);
  } finally {
    await secure.stop();
    await certificates.remove();
  }
});

test('an account is at Azure unless an endpoint is told', () => {
  const own = { STORE_AZURE_BLOB_CONTAINER: 'security', STORE_AZURE_BLOB_ACCOUNT: 'acmedata' };
  const backup = 'https://acmedata.blob.core.windows.net/security/backup/okta_users/acme.json';
  expect(targetsOf(azureBlob, own)).toEqual([backup]);
});
