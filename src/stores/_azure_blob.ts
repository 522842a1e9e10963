import { createHash, randomUUID } from 'node:crypto';
import type { BlockBlobClient, ContainerClient } from '@azure/storage-blob';
import { programShape } from '../config/program.ts';
import { assertEncrypted, baseUrl, matching, optional, secret, setting, text, type Values } from '../config/setting.ts';
import { CollectError, type ErrorCode } from '../errors.ts';
import { type Bucket, blocksOf, bodyOf, type Content, opened } from './_objects.ts';
import { isBroken, type Outlook, passes, patiently } from './_patience.ts';

/** The variables of a container and of who uses it. */
export const blobShape = {
  STORE_AZURE_BLOB_CONTAINER: setting(
    'Container; switches the store on',
    matching(/^(\$root|[a-z0-9](-?[a-z0-9]){2,62})$/, 'must be the name of a container alone'),
  ),
  STORE_AZURE_BLOB_ACCOUNT: setting(
    'Storage account',
    matching(/^[a-z0-9]{3,24}$/, 'must be the name of a storage account alone').optional(),
  ),
  STORE_AZURE_BLOB_ENDPOINT: setting(
    'Base URL, for other clouds and private endpoints; unset = https://<account>.blob.core.windows.net',
    optional(),
  ),
  STORE_AZURE_BLOB_CONNECTION_STRING: secret('Connection string: account and key or SAS in one', optional()),
  STORE_AZURE_BLOB_ACCOUNT_KEY: secret('Access key of the account', optional()),
  STORE_AZURE_BLOB_SAS_TOKEN: secret('Shared access signature with read, create, write and delete', optional()),
  STORE_AZURE_BLOB_TENANT_ID: setting('Entra tenant of an app with Storage Blob Data Contributor', optional()),
  STORE_AZURE_BLOB_CLIENT_ID: setting(
    'Its client id; alone, the managed identity of this machine with that client id',
    optional(),
  ),
  STORE_AZURE_BLOB_CLIENT_SECRET: secret('Its client secret; no key, SAS or app = managed identity', optional()),
  STORE_AZURE_BLOB_AUTHORITY: setting('Sign-in service, for other clouds', text('https://login.microsoftonline.com')),
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
} as const;

/** The values of a container's variables. */
export type BlobSettings = Values<typeof blobShape>;

/** How a container is reached, and as whom. */
export interface Connection {
  readonly endpoint: URL;
  readonly identity: Identity;
  /** The URL of a blob, without any credential. */
  place(key: string): string;
}

type Identity =
  | { readonly account: string; readonly key: string }
  | { readonly sas: string }
  | { readonly tenant: string; readonly client: string; readonly secret: string; readonly authority: URL }
  | { readonly managed: string | undefined };

/**
 * How the container is reached, and as whom: connection string, account key, SAS, app, else managed identity.
 * @throws {CollectError} config, refused
 */
export function connectionOf(settings: BlobSettings): Connection {
  const parts = partsOf(settings.STORE_AZURE_BLOB_CONNECTION_STRING ?? '');
  const account = settings.STORE_AZURE_BLOB_ACCOUNT ?? parts.get('accountname');
  const suffix = parts.get('endpointsuffix') ?? 'core.windows.net';
  const found = settings.STORE_AZURE_BLOB_ENDPOINT ?? parts.get('blobendpoint');
  if (found === undefined && account === undefined) {
    throw new CollectError('config', 'STORE_AZURE_BLOB_CONTAINER is set, but no account', {
      mend: 'set STORE_AZURE_BLOB_ACCOUNT, STORE_AZURE_BLOB_CONNECTION_STRING or STORE_AZURE_BLOB_ENDPOINT',
    });
  }
  const endpoint = assertEncrypted(
    baseUrl(found ?? `https://${account}.blob.${suffix}`),
    settings.CYBER_COLLECT_ALLOW_HTTP,
  );
  const container = settings.STORE_AZURE_BLOB_CONTAINER;
  const base = endpoint.href.replace(/\/$/, '');
  return {
    endpoint,
    identity: identityOf(settings, parts, account ?? endpoint.hostname.split('.')[0] ?? ''),
    place: (key) => `${base}/${container}/${key}`,
  };
}

function partsOf(connection: string): ReadonlyMap<string, string> {
  return new Map(
    connection
      .split(';')
      .map(
        (part) => [part.split('=', 1).join('').trim().toLowerCase(), part.slice(part.indexOf('=') + 1).trim()] as const,
      )
      .filter(([name]) => name !== ''),
  );
}

function identityOf(settings: BlobSettings, parts: ReadonlyMap<string, string>, account: string): Identity {
  const key = settings.STORE_AZURE_BLOB_ACCOUNT_KEY ?? parts.get('accountkey');
  if (key !== undefined) return { account, key };
  const sas = settings.STORE_AZURE_BLOB_SAS_TOKEN ?? parts.get('sharedaccesssignature');
  if (sas !== undefined) return { sas: sas.replace(/^\?/, '') };
  const tenant = settings.STORE_AZURE_BLOB_TENANT_ID;
  const client = settings.STORE_AZURE_BLOB_CLIENT_ID;
  const clientSecret = settings.STORE_AZURE_BLOB_CLIENT_SECRET;
  if (clientSecret === undefined && tenant === undefined) return { managed: client };
  if (clientSecret === undefined || tenant === undefined || client === undefined) {
    const names = ['STORE_AZURE_BLOB_TENANT_ID', 'STORE_AZURE_BLOB_CLIENT_ID', 'STORE_AZURE_BLOB_CLIENT_SECRET'];
    throw new CollectError('config', `of ${names.join(', ')} only some are set`, { mend: 'set all three' });
  }
  const authority = assertEncrypted(baseUrl(settings.STORE_AZURE_BLOB_AUTHORITY), false);
  return { tenant, client, secret: clientSecret, authority };
}

// The container

type Explain = (thrown: unknown) => unknown;

const MIB = 2 ** 20;
const LEAST_BLOCK = 8 * MIB;
const MOST_BLOCKS = 49_000; // Azure takes 50,000; compressed data may come out a little longer than it was
const BLOCKS_AT_ONCE = 3;
const SILENCE_MS = 120_000;

/** Opens a container; nothing is sent yet. */
export async function openContainer(settings: BlobSettings): Promise<Bucket> {
  const connection = connectionOf(settings);
  const container = await clientOf(settings, connection);
  const say = (key: string, done: string): Explain => {
    return (thrown) =>
      explained(thrown, { place: connection.place(key), done, settings, host: connection.endpoint.host });
  };
  async function run<T>(key: string, done: string, work: (blob: BlockBlobClient) => Promise<T>): Promise<T> {
    return work(container.getBlockBlobClient(key)).catch((thrown: unknown) => Promise.reject(say(key, done)(thrown)));
  }
  return {
    put: (content, confirm) => run(content.key, 'written', (blob) => put(blob, content, confirm)),
    get: (key) =>
      run(key, 'read', async (blob) => {
        const found = await patiently(() => blob.download(0, undefined, { maxRetryRequests: 5 }), outlookOf).catch(
          unlessMissing,
        );
        const body = found?.readableStreamBody as AsyncIterable<Uint8Array> | undefined;
        return body === undefined ? undefined : opened(body, connection.place(key), say(key, 'read'));
      }),
    head: (key) => run(key, 'looked up', async (blob) => (await headOf(blob))?.metadata),
    delete: (key) =>
      run(key, 'deleted', async (blob) => {
        await patiently(() => blob.deleteIfExists(), outlookOf);
      }),
    close() {},
  };
}

async function clientOf(
  { STORE_AZURE_BLOB_CONTAINER }: BlobSettings,
  { endpoint, identity }: Connection,
): Promise<ContainerClient> {
  const sdk = await import('@azure/storage-blob').catch((cause: unknown) => {
    throw new CollectError('config', 'the Azure Blob store needs @azure/storage-blob, which is not installed', {
      mend: 'npm install @azure/storage-blob',
      cause,
    });
  });
  // What may pass is tried again here, where Retry-After is heard.
  const options = { retryOptions: { maxTries: 1, tryTimeoutInMs: SILENCE_MS } };
  const url = endpoint.href.replace(/\/$/, '');
  if ('sas' in identity) {
    return new sdk.BlobServiceClient(`${url}?${identity.sas}`, undefined, options).getContainerClient(
      STORE_AZURE_BLOB_CONTAINER,
    );
  }
  const credential =
    'key' in identity
      ? new sdk.StorageSharedKeyCredential(identity.account, identity.key)
      : { getToken: await tokens(identity) };
  return new sdk.BlobServiceClient(url, credential, options).getContainerClient(STORE_AZURE_BLOB_CONTAINER);
}

const RESOURCE = 'https://storage.azure.com';

type GetToken = () => Promise<{ token: string; expiresOnTimestamp: number }>;

/** Tokens of Entra, kept until they end by its own library. */
async function tokens(
  identity: Exclude<Identity, { readonly key: string } | { readonly sas: string }>,
): Promise<GetToken> {
  const { ConfidentialClientApplication, ManagedIdentityApplication } = await import('@azure/msal-node');
  const ask =
    'managed' in identity
      ? () =>
          new ManagedIdentityApplication(
            identity.managed === undefined
              ? {}
              : { managedIdentityIdParams: { userAssignedClientId: identity.managed } },
          ).acquireToken({ resource: RESOURCE })
      : appOf(ConfidentialClientApplication, identity);
  return async () => {
    const got = await ask().catch((thrown: unknown) => Promise.reject(refusedToken(identity, thrown)));
    return { token: got?.accessToken ?? '', expiresOnTimestamp: got?.expiresOn?.getTime() ?? Date.now() + 300_000 };
  };
}

function appOf(
  Application: typeof import('@azure/msal-node').ConfidentialClientApplication,
  { tenant, client, secret: clientSecret, authority }: Extract<Identity, { readonly tenant: string }>,
) {
  const app = new Application({
    auth: {
      clientId: client,
      clientSecret,
      authority: new URL(`/${tenant}`, authority).href,
      knownAuthorities: [authority.host],
    },
  });
  return () => app.acquireTokenByClientCredential({ scopes: [`${RESOURCE}/.default`] });
}

function refusedToken(identity: Identity, thrown: unknown): CollectError {
  const code = String((thrown as { errorCode?: unknown }).errorCode ?? (thrown as Error).name);
  if ('managed' in identity) {
    return new CollectError('credentials', `Azure gives this machine no managed identity (${code})`, {
      mend: 'set STORE_AZURE_BLOB_ACCOUNT_KEY, STORE_AZURE_BLOB_SAS_TOKEN or an app, or assign an identity',
    });
  }
  const known = /invalid_client|unauthorized_client|invalid_request|invalid_grant/.test(code);
  return new CollectError(known ? 'credentials' : 'network', `Entra gives the app no token (${code})`, {
    mend: 'check STORE_AZURE_BLOB_TENANT_ID, STORE_AZURE_BLOB_CLIENT_ID and STORE_AZURE_BLOB_CLIENT_SECRET',
  });
}

interface Head {
  readonly metadata: Readonly<Record<string, string>>;
  readonly etag: string | undefined;
}

async function headOf(blob: BlockBlobClient): Promise<Head | undefined> {
  const found = await patiently(() => blob.getProperties(), outlookOf).catch(unlessMissing);
  return found === undefined ? undefined : { metadata: named(found.metadata ?? {}, '_', '-'), etag: found.etag };
}

/** Azure's names of metadata are identifiers, which have no dash. */
function named(metadata: Readonly<Record<string, string>>, from: string, to: string): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name.replaceAll(from, to), value]));
}

/**
 * Stages the blocks, which nobody sees, then commits their list over what was there at the start: who else wrote
 * meanwhile is not overwritten. Azure throws away what is never committed after a week.
 */
async function put(blob: BlockBlobClient, content: Content, confirm: () => Promise<void>): Promise<void> {
  const over = (await headOf(blob))?.etag;
  const prefix = randomUUID(); // two that write at once must not stage one block
  const blocks: string[] = [];
  const staging: Promise<void>[] = [];
  try {
    for await (const block of blocksOf(bodyOf(content), blockSize(content.length))) {
      const id = Buffer.from(`${prefix}-${String(blocks.length).padStart(6, '0')}`).toString('base64');
      blocks.push(id);
      const staged = stage(blob, id, block);
      staged.catch(() => undefined); // heard below; it may fail before that
      staging.push(staged);
      if (staging.length === BLOCKS_AT_ONCE) await staging.shift();
    }
    await Promise.all(staging);
  } finally {
    await Promise.allSettled(staging);
  }
  await confirm();
  await commit(blob, content, blocks, over);
}

function blockSize(length: number): number {
  return Math.max(LEAST_BLOCK, Math.ceil(length / MOST_BLOCKS / MIB) * MIB);
}

async function stage(blob: BlockBlobClient, id: string, block: Buffer): Promise<void> {
  const transactionalContentMD5 = createHash('md5').update(block).digest();
  await patiently(() => blob.stageBlock(id, block, block.length, { transactionalContentMD5 }), outlookOf);
}

async function commit(
  blob: BlockBlobClient,
  { metadata, type }: Content,
  blocks: string[],
  over: string | undefined,
): Promise<void> {
  const options = {
    blobHTTPHeaders: { blobContentType: type },
    metadata: named(metadata, '-', '_'),
    conditions: over === undefined ? { ifNoneMatch: '*' } : { ifMatch: over },
  };
  try {
    await patiently(() => blob.commitBlockList(blocks, options), outlookOf);
  } catch (thrown) {
    const { statusCode } = thrown as AzureError;
    if (statusCode !== 412 && statusCode !== 409 && statusCode !== 404) throw thrown;
    // A commit whose answer was lost meets itself when it is tried again.
    const held = (await headOf(blob))?.metadata;
    const ours = metadata['upload-id'];
    if (ours !== undefined && held?.['upload-id'] === ours && held.sha256 === metadata.sha256) return;
    throw thrown;
  }
}

// What can go wrong

/** What the SDK's errors say beside their message, which may quote the request and is never passed on. */
interface AzureError extends Error {
  readonly statusCode?: number;
  readonly code?: string;
  readonly details?: { readonly errorCode?: string };
  readonly response?: { readonly headers?: { get(name: string): string | undefined } };
}

function outlookOf(thrown: unknown): Outlook {
  const { statusCode, code, response, name } = thrown as AzureError;
  if (thrown instanceof CollectError) return { mayPass: false };
  if (statusCode === undefined) return { mayPass: isBroken(code) || name === 'AbortError' };
  const mayPass = passes(statusCode) || codeOf(thrown as AzureError) === 'Md5Mismatch';
  return { mayPass, retryAfter: response?.headers?.get('retry-after') };
}

/** Azure's own word for what went wrong, such as BlobNotFound. */
function codeOf({ code, details, response }: AzureError): string {
  return details?.errorCode ?? code ?? response?.headers?.get('x-ms-error-code') ?? '';
}

function unlessMissing(thrown: unknown): undefined {
  const error = thrown as AzureError;
  if (error.statusCode !== 404 || codeOf(error) === 'ContainerNotFound') throw thrown;
}

interface Attempt {
  readonly place: string;
  readonly done: string;
  readonly host: string;
  readonly settings: BlobSettings;
}

type Sentence = readonly [code: ErrorCode, what: string, mend: string];

const CONTRIBUTOR = 'give it Storage Blob Data Contributor on the container, or a SAS with read, create, write, delete';

const SENTENCES: Readonly<Record<string, Sentence>> = {
  AuthenticationFailed: [
    'credentials',
    'the key, SAS or token is not accepted, or this machine’s clock is off',
    'correct STORE_AZURE_BLOB_ACCOUNT and STORE_AZURE_BLOB_ACCOUNT_KEY or STORE_AZURE_BLOB_SAS_TOKEN',
  ],
  InvalidAuthenticationInfo: ['credentials', 'the token is not accepted', 'check the app and its tenant'],
  NoAuthenticationInformation: ['credentials', 'no credentials came along', 'set STORE_AZURE_BLOB_ACCOUNT_KEY'],
  KeyBasedAuthenticationNotPermitted: [
    'denied',
    'the account takes no account keys',
    'use an app or a managed identity: set STORE_AZURE_BLOB_TENANT_ID, _CLIENT_ID and _CLIENT_SECRET',
  ],
  AuthorizationFailure: ['denied', 'the account’s firewall or the SAS does not allow it', CONTRIBUTOR],
  AuthorizationPermissionMismatch: ['denied', 'this identity may not do that', CONTRIBUTOR],
  InsufficientAccountPermissions: ['denied', 'this identity may not do that', CONTRIBUTOR],
  AuthorizationResourceTypeMismatch: ['denied', 'the SAS is not for objects', CONTRIBUTOR],
  AuthorizationProtocolMismatch: ['denied', 'the SAS wants https', 'write https://'],
  AccountIsDisabled: ['denied', 'the account is disabled', 'enable it'],
  ConditionNotMet: ['locked', 'someone else has written it meanwhile', 'find out which other run writes there'],
  BlobAlreadyExists: ['locked', 'someone else has written it meanwhile', 'find out which other run writes there'],
  InvalidBlockList: ['locked', 'someone else has written it meanwhile', 'find out which other run writes there'],
  BlobImmutableDueToPolicy: ['denied', 'an immutability policy keeps what is there', 'use names with %UUID'],
  InvalidBlobType: ['store', 'it is no block blob', 'choose another name'],
};

/** An SDK error as a sentence with what to do about it; what is none of the SDK's stays what it is. */
function explained(thrown: unknown, attempt: Attempt): unknown {
  if (thrown instanceof CollectError || !(thrown instanceof Error)) return thrown;
  const error = thrown as AzureError;
  const found = sentenceOf(error, attempt);
  if (found === undefined) return thrown;
  const [code, what, mend] = found;
  const { statusCode } = error;
  return new CollectError(code, `${attempt.place} cannot be ${attempt.done}: ${what}`, {
    mend,
    ...(statusCode === undefined ? {} : { status: statusCode }),
  });
}

function sentenceOf(error: AzureError, { host, settings }: Attempt): Sentence | undefined {
  const code = codeOf(error);
  const status = error.statusCode;
  const known = SENTENCES[code];
  if (known !== undefined) return known;
  if (code === 'ContainerNotFound' || code === 'ContainerBeingDeleted') {
    const name = settings.STORE_AZURE_BLOB_CONTAINER;
    return ['store', `the container '${name}' does not exist`, 'create it, or correct STORE_AZURE_BLOB_CONTAINER'];
  }
  if (status === 412 || status === 409) return SENTENCES.ConditionNotMet;
  if (status === 403) return ['denied', `this identity may not do that (${code})`, CONTRIBUTOR];
  if (status === 401) return SENTENCES.InvalidAuthenticationInfo;
  if (status === 429 || status === 503) {
    return ['throttled', `${host} keeps asking to slow down (${status})`, 'run again later'];
  }
  if (status !== undefined) {
    const mend = status >= 500 ? 'run again later' : 'check the STORE_AZURE_BLOB_* settings';
    return ['store', `${host} answered ${status} ${code}`, mend];
  }
  if (error.name === 'AbortError') return ['timeout', `${host} does not answer`, 'check the network'];
  if (/CERT|UNABLE_TO_/.test(code)) {
    const mend = 'name a file with the certificate of its authority in NODE_EXTRA_CA_CERTS';
    return ['network', `${host} has a certificate that is not trusted (${code})`, mend];
  }
  if (error.name !== 'RestError') return undefined;
  const mend = 'check the network, STORE_AZURE_BLOB_ACCOUNT and STORE_AZURE_BLOB_ENDPOINT';
  return ['network', `no connection to ${host} (${code})`, mend];
}
