import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect, promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Values } from '../../src/config/setting.ts';
import { unzstd } from '../../src/envelope/encoding.ts';
import { SpoolWriter } from '../../src/envelope/spool.ts';
import { CollectError } from '../../src/errors.ts';
import type { Dataset, Kind, Sink } from '../../src/stores/store.ts';
import azureBlob from '../../src/stores/store_azure_blob.ts';
import { storeSuite } from '../stores/suite.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import { root } from '../support/build.ts';
import { makeCertificates } from '../support/certificates.ts';
import { datasetOf } from '../support/dataset.ts';
import { killOverAndOver } from '../support/killed.ts';
import { json, serve } from '../support/server.ts';

type Variables = Readonly<Record<string, string>>;

const run = promisify(execFile);
const MIB = 2 ** 20;
const container = `cc-${randomUUID()}`;
const at = new Date('2026-03-04T05:06:07.890Z');
const opened: Sink[] = [];
const servers: Server[] = [];
let warnings: string[] = [];
let azurite: Azurite;
let admin: ContainerClient;
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-azure-'));
  azurite = await startAzurite();
  const credential = new StorageSharedKeyCredential(azurite.account, azurite.key);
  admin = new BlobServiceClient(azurite.endpoint, credential).getContainerClient(container);
  await admin.create();
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
  await azurite?.stop();
  await rm(folder, { recursive: true, force: true });
});

function variables(more: Variables = {}): Variables {
  return {
    STORE_AZURE_BLOB_CONTAINER: container,
    STORE_AZURE_BLOB_ACCOUNT: azurite.account,
    STORE_AZURE_BLOB_ENDPOINT: azurite.endpoint,
    STORE_AZURE_BLOB_ACCOUNT_KEY: azurite.key,
    ...more,
  };
}

function parsed(all: Variables): Values<typeof azureBlob.env> {
  const resolved = resolveShape(environmentOf(all), 'azure_blob', azureBlob.env, azureBlob.aliases);
  if (resolved.values === undefined) throw new Error(inspect(resolved));
  return resolved.values;
}

async function open(more: Variables = {}): Promise<Sink> {
  const context = { tenancy: 'acme', at, warn: (message: string) => warnings.push(message) };
  const sink = await azureBlob.open(parsed(variables(more)), context);
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
type Fault = 'lost' | { readonly status: number; readonly code: string; readonly headers?: Variables } | undefined;

/** A door in front of the emulator, which breaks or answers some calls itself. */
async function front(faults: (call: string, nth: number) => Fault) {
  const calls: string[] = [];
  const server = createServer((incoming, answer) => {
    const url = new URL(incoming.url ?? '/', azurite.endpoint);
    const call = `${incoming.method} ${url.searchParams.get('comp') ?? 'blob'}`;
    calls.push(call);
    const fault = faults(call, calls.filter((one) => one === call).length);
    if (fault !== undefined && fault !== 'lost') {
      incoming.resume().once('end', () => {
        answer.writeHead(fault.status, { 'x-ms-error-code': fault.code, ...fault.headers }).end();
      });
      return;
    }
    const outgoing = request(url, { method: incoming.method, headers: incoming.headers }, (response) => {
      if (fault === 'lost') response.resume().once('end', () => incoming.socket.destroy());
      else response.pipe(answer.writeHead(response.statusCode ?? 500, response.headers));
    });
    outgoing.on('error', () => answer.destroy());
    incoming.pipe(outgoing);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  servers.push(server);
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/${azurite.account}`, calls };
}

storeSuite(
  'azure_blob (ndjson)',
  async () => {
    const suite = (more: Variables, warned: string[]) =>
      azureBlob.open(parsed(variables({ STORE_AZURE_BLOB_KEY: 'suite/%TAG/%TENANCY.ndjson', ...more })), {
        tenancy: 'acme',
        at: new Date(),
        warn: (message) => warned.push(message),
      });
    return {
      open: (warned) => suite({}, warned),
      // The emulator calls a wrong key AuthorizationFailure, which to Azure is a firewall.
      openWrong: async () => {
        const { url } = await front(() => ({ status: 403, code: 'AuthenticationFailed' }));
        const STORE_AZURE_BLOB_ACCOUNT_KEY = Buffer.from('hunter2-hunter2').toString('base64');
        return suite({ STORE_AZURE_BLOB_ENDPOINT: url, STORE_AZURE_BLOB_ACCOUNT_KEY }, []);
      },
      read: async (tag) => (await blob(`suite/${tag}/acme.ndjson`)).toString().split('\n').slice(0, -1),
      exact: true,
      nul: 'kept',
      loneSurrogate: 'kept',
      secrets: [azurite.key, Buffer.from('hunter2-hunter2').toString('base64')],
    };
  },
  { login: true, remembers: true },
);

describe('write', () => {
  test('puts the envelope at the main name and again at the backup’s', async () => {
    const lines = ['{"id":1}', '{"id":2,"a":[1,2]}'];
    const data = await dataset(lines);
    const sink = await open({ STORE_AZURE_BLOB_KEY: 'data/%TAG/%TENANCY-%YYYY%MM%DD-%UUID.json' });
    const main = `data/${data.tag}/acme-20260304-${data.metadata.upload_id}.json`;
    const backup = `backup/${data.tag}/acme.json`;
    const place = `${azurite.endpoint}/${container}`;
    expect(await sink.write(data)).toEqual({ at: `${place}/${main}`, records: 2 });
    expect(await names(`backup/${data.tag}`)).toEqual([]);
    expect(await sink.backup?.save(data)).toEqual({ at: `${place}/${backup}`, records: 2 });
    for (const key of [main, backup]) {
      expect((await blob(key)).toString()).toBe(envelope(lines, data));
      const { contentType, metadata } = await admin.getBlobClient(key).getProperties();
      expect(contentType).toBe('application/json');
      expect(metadata).toEqual({
        upload_id: data.metadata.upload_id,
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
    const sink = await open({ STORE_AZURE_BLOB_KEY: `data/%TAG.${end}` });
    await sink.write(data);
    const key = `data/${data.tag}.${end}`;
    const wanted = end.startsWith('json.') ? envelope(lines, data) : lines.map((line) => `${line}\n`).join('');
    expect((await inflate(await blob(key))).toString()).toBe(wanted);
    expect((await admin.getBlobClient(key).getProperties()).contentType).toBe(type);
  });

  test('sends 100 MB in blocks, in bounded memory', async () => {
    const data = await bigDataset(100 * MIB);
    const sink = await open({ STORE_AZURE_BLOB_KEY: 'data/%TAG.ndjson' });
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
    expect(growth).toBeLessThan(150);
    const found = await admin.getBlockBlobClient(`data/${data.tag}.ndjson`).getBlockList('committed');
    expect(found.committedBlocks).toHaveLength(13);
    expect(found.blobContentLength).toBe(data.spool.bytes);
  });

  test('puts events at a name of their own, or nowhere', async () => {
    const data = await dataset(['{"id":1}'], 'events');
    const sink = await open({ STORE_AZURE_BLOB_KEY_EVENTS: 'log/%TAG/%UUID.ndjson' });
    await sink.write(data);
    expect((await blob(`log/${data.tag}/${data.metadata.upload_id}.ndjson`)).toString()).toBe('{"id":1}\n');
    const none = await open({ STORE_AZURE_BLOB_KEY: 'data/%TAG.json' });
    expect(await none.write(data)).toEqual({
      at: '(not uploaded: STORE_AZURE_BLOB_KEY_EVENTS is not set)',
      records: 0,
    });
    expect(await names(`data/${data.tag}`)).toEqual([]);
  });

  test.each(['json', 'json.gz', 'json.zst'])('the backup comes back from .%s as it was saved', async (end) => {
    const lines = Array.from({ length: 30_000 }, (_, n) => `{"id":${n},"x":"${randomUUID()}"}`);
    const data = await dataset(lines);
    const sink = await open({ STORE_AZURE_BLOB_BACKUP: `keep/%TAG/%TENANCY.${end}` });
    const values = { uuid: randomUUID(), tag: data.tag, tenancy: 'acme', at };
    expect(await sink.backup?.load(values)).toBeUndefined();
    await sink.backup?.save(data);
    const copy = await sink.backup?.load(values);
    expect(copy?.at).toBe(`${azurite.endpoint}/${container}/keep/${data.tag}/acme.${end}`);
    expect((await bytesOf(copy?.body)).toString()).toBe(envelope(lines, data));
  });
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
  test.each([
    ['in blocks', 'json', 40 * MIB],
    ['compressed', 'json.gz', 20 * MIB],
    ['compressed with zstd', 'json.zst', 20 * MIB],
  ])('half-way %s leaves the old blob', async (_, end, size) => {
    const old = await dataset(['{"id":"old"}']);
    const data = await bigDataset(size, old.tag);
    const sink = await open({ STORE_AZURE_BLOB_KEY: `data/%TAG.${end}` });
    await sink.write(old);
    const before = await blob(`data/${old.tag}.${end}`);
    await truncate(data.spool.path, Math.round(data.spool.bytes * 0.7));
    expect((await failure(sink.write(data))).message).toMatch(/the spool .* damaged/);
    expect((await blob(`data/${old.tag}.${end}`)).equals(before)).toBe(true);
  });

  test('of a block, throttling and lost answers are made good', async () => {
    const door = await front((call, nth) => {
      if (call === 'PUT block' && nth === 1)
        return { status: 503, code: 'ServerBusy', headers: { 'retry-after': '1' } };
      return (call === 'PUT block' && nth === 3) || (call === 'PUT blocklist' && nth === 1) ? 'lost' : undefined;
    });
    const data = await bigDataset(20 * MIB);
    const sink = await open({ STORE_AZURE_BLOB_KEY: 'data/%TAG.ndjson', STORE_AZURE_BLOB_ENDPOINT: door.url });
    const from = performance.now();
    await sink.write(data);
    expect(performance.now() - from).toBeGreaterThan(1000);
    expect(door.calls.filter((call) => call === 'PUT block')).toHaveLength(5);
    expect(door.calls.filter((call) => call === 'PUT blocklist')).toHaveLength(2);
    expect((await blob(`data/${data.tag}.ndjson`)).length).toBe(data.spool.bytes);
  });

  test('a longer wait than a run may take is an answer', async () => {
    const door = await front((call) =>
      call === 'PUT block' ? { status: 503, code: 'ServerBusy', headers: { 'retry-after': '3600' } } : undefined,
    );
    const sink = await open({ STORE_AZURE_BLOB_KEY: 'data/%TAG.ndjson', STORE_AZURE_BLOB_ENDPOINT: door.url });
    const error = await failure(sink.write(await dataset(['{}'])));
    expect(error.code).toBe('throttled');
    expect(door.calls.filter((call) => call === 'PUT block')).toHaveLength(1);
  });

  test('who wrote meanwhile is not overwritten', async () => {
    const tag = `t_${randomUUID().slice(0, 8)}`;
    const sink = await open({ STORE_AZURE_BLOB_KEY: 'data/%TAG.ndjson' });
    await sink.write(await dataset(['{"id":"old"}'], 'snapshot', tag));
    const newer = await dataset(['{"id":"newer"}'], 'snapshot', tag);
    const late = await dataset(['{"id":"late"}'], 'snapshot', tag);
    const error = await failure(
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

  test('for a missing container names it, in every call', async () => {
    const sink = await open({ STORE_AZURE_BLOB_CONTAINER: 'not-there', STORE_AZURE_BLOB_KEY: 'data/%TAG.json' });
    const data = await dataset(['{}']);
    const values = { uuid: 'u', tag: 'tag', tenancy: 'acme', at };
    for (const work of [
      () => sink.write(data),
      () => sink.backup?.save(data),
      () => sink.backup?.load(values),
      () => sink.check?.(),
    ]) {
      const error = await failure(Promise.resolve(work()));
      expect(error.message).toContain("the container 'not-there' does not exist");
      expect(error.mend).toContain('STORE_AZURE_BLOB_CONTAINER');
    }
  });

  test.each<[string, { status: number; code: string }, string, RegExp]>([
    ['no right', { status: 403, code: 'AuthorizationPermissionMismatch' }, 'denied', /Storage Blob Data Contributor/],
    ['keys that are off', { status: 403, code: 'KeyBasedAuthenticationNotPermitted' }, 'denied', /managed identity/],
    ['an immutable blob', { status: 409, code: 'BlobImmutableDueToPolicy' }, 'denied', /%UUID/],
    ['a feature it lacks', { status: 400, code: 'FeatureVersionMismatch' }, 'store', /STORE_AZURE_BLOB_/],
  ])('for %s says so', async (_, fault, code, mend) => {
    const door = await front((call) => (call === 'PUT block' ? fault : undefined));
    const sink = await open({ STORE_AZURE_BLOB_KEY: 'data/%TAG.json', STORE_AZURE_BLOB_ENDPOINT: door.url });
    const error = await failure(sink.write(await dataset(['{}'])));
    expect(error.code).toBe(code);
    expect(error.mend).toMatch(mend);
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain(azurite.key);
  });

  test('to connect names the host', async () => {
    const door = await front(() => undefined);
    const server = servers.pop();
    await new Promise((done) => server?.close(done));
    const sink = await open({ STORE_AZURE_BLOB_KEY: 'data/%TAG.json', STORE_AZURE_BLOB_ENDPOINT: door.url });
    const error = await failure(sink.write(await dataset(['{}'])));
    expect(error.code).toBe('network');
    expect(error.message).toContain(`no connection to ${new URL(door.url).host} (ECONNREFUSED)`);
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
    const common = { STORE_AZURE_BLOB_CONTAINER: container, STORE_AZURE_BLOB_KEY: 'data/%TAG.ndjson' };
    for (const more of [
      { ...common, AZURE_STORAGE_CONNECTION_STRING: string },
      { ...common, STORE_AZURE_BLOB_ENDPOINT: endpoint, AZURE_STORAGE_SAS_TOKEN: new URL(sas).search },
    ]) {
      const sink = await azureBlob.open(parsed(more), { tenancy: 'acme', at, warn: () => undefined });
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

describe('check', () => {
  test('passes and leaves nothing behind', async () => {
    const sink = await open({ STORE_AZURE_BLOB_BACKUP: 'probed/%TAG/%TENANCY.json' });
    await sink.check?.();
    expect(await names('probed/')).toEqual([]);
    expect(warnings).toEqual([]);
  });

  test('only warns where deleting is not allowed', async () => {
    const door = await front((call) =>
      call === 'DELETE blob' ? { status: 403, code: 'AuthorizationPermissionMismatch' } : undefined,
    );
    const sink = await open({ STORE_AZURE_BLOB_ENDPOINT: door.url });
    await sink.check?.();
    expect(warnings).toEqual([expect.stringContaining('the right to delete blobs')]);
  });
});

describe('settings', () => {
  const values = { uuid: '7d1f', tag: 'okta_users', tenancy: 'acme', at };
  const least = { STORE_AZURE_BLOB_CONTAINER: 'security', STORE_AZURE_BLOB_ACCOUNT: 'acmedata' };

  test('say where a dataset goes', () => {
    const base = 'https://acmedata.blob.core.windows.net/security';
    expect(azureBlob.targets(parsed({ ...least, STORE_AZURE_BLOB_KEY: 'a/%TAG.json' }), 'snapshot', values)).toEqual([
      `${base}/a/okta_users.json`,
      `${base}/backup/okta_users/acme.json`,
    ]);
    expect(azureBlob.targets(parsed(least), 'events', values)).toEqual([]);
  });

  test.each<[string, Variables, string]>([
    ['no account', { STORE_AZURE_BLOB_CONTAINER: 'security' }, 'STORE_AZURE_BLOB_ACCOUNT'],
    ['half an app', { ...least, STORE_AZURE_BLOB_TENANT_ID: 't' }, 'all three'],
    [
      'plain http to elsewhere',
      { ...least, STORE_AZURE_BLOB_ENDPOINT: 'http://blob.example' },
      'CYBER_COLLECT_ALLOW_HTTP',
    ],
    [
      'the backup as main name',
      { ...least, STORE_AZURE_BLOB_KEY: 'backup/%TAG/%TENANCY.json' },
      'STORE_AZURE_BLOB_KEY',
    ],
    ['a backup that moves', { ...least, STORE_AZURE_BLOB_BACKUP: 'b/%UUID.json' }, '%UUID'],
  ])('refuse %s', (_, more, mend) => {
    let error: unknown;
    try {
      azureBlob.targets(parsed(more), 'snapshot', values);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(CollectError);
    expect((error as CollectError).mend).toContain(mend);
  });
});
