import { entra } from '../collectors/_entra.ts';
import { awsAliases, awsIdentity } from '../config/aws.ts';
import { type Environment, lookUp, resolveShape } from '../config/environment.ts';
import { managersShape, REFERENCE } from '../config/managers.ts';
import { baseUrl, isRequired, type Shape, type Values } from '../config/setting.ts';
import { asCollectError, CollectError, ConfigError, configProblem, type Problem } from '../errors.ts';
import { staticHeaders } from '../http/auth.ts';
import { Client, type ClientSettings, type HttpOptions } from '../http/client.ts';
import { googleAccount } from '../http/google.ts';
import { textAt } from '../json.ts';
import { newTally } from './collect.ts';

type Managers = Values<typeof managersShape>;

/** What a reference names. */
interface Named {
  readonly path: string;
  /** Dotted path of the value in a secret that is JSON. */
  readonly field: string | undefined;
}

/** What looking a secret up needs. */
interface Means {
  readonly managers: Managers;
  readonly client: ClientSettings;
}

const WAIT_MS = 60_000;

/**
 * The environment with the secrets that are set by reference (`vault://secret/data/okta#token`) looked up.
 * @param names of variables that hold secrets
 * @throws {ConfigError} naming each one that cannot be had
 */
export async function withSecrets(
  environment: Environment,
  names: ReadonlyMap<string, Readonly<Record<string, string>>>,
  open: () => Promise<ClientSettings>,
): Promise<Environment> {
  const references = [...names].flatMap(([name, aliases]) => {
    const match = REFERENCE.exec(lookUp(environment, name, aliases)?.value ?? '');
    return match === null ? [] : [{ name, match }];
  });
  if (references.length === 0) return environment;
  const { values, problems } = resolveShape(environment, 'secrets', managersShape, awsAliases);
  if (values === undefined) throw new ConfigError(problems);
  const client = await open();
  const found = new Map<string, string>();
  const missing = await Promise.all(
    references.map(async ({ name, match: [reference, manager = '', path = '', field] }) => {
      try {
        const look = MANAGERS[manager] as (typeof MANAGERS)[string];
        found.set(name, valueIn(await look({ path, field }, { managers: values, client }), field));
        return undefined;
      } catch (thrown) {
        const { message, mend = 'check the reference' } = asCollectError(thrown);
        return configProblem(name, `${reference} cannot be looked up: ${message}`, mend);
      }
    }),
  ).finally(() => client.dispatcher.close());
  const all = missing.filter((problem) => problem !== undefined);
  if (all.length > 0) throw new ConfigError(all);
  return {
    get(name) {
      const value = found.get(name);
      return value === undefined ? environment.get(name) : { value, from: 'a secret manager' };
    },
  };
}

/** The variables without which a manager cannot be asked. */
const NEEDS: Readonly<Record<string, readonly (keyof Managers)[]>> = {
  'aws-sm': [],
  'azure-kv': ['SECRETS_AZURE_TENANT_ID', 'SECRETS_AZURE_CLIENT_ID', 'SECRETS_AZURE_CLIENT_SECRET'],
  'gcp-sm': ['SECRETS_GCP_KEY'],
  vault: ['VAULT_ADDR', 'VAULT_TOKEN'],
};

/** What can be said of references to secrets without looking them up. */
export interface ReferenceFindings {
  readonly problems: readonly Problem[];
  readonly packages: readonly string[];
}

/** Checks the references to secrets; calls nobody. */
export function checkReferences(
  environment: Environment,
  names: ReadonlyMap<string, Readonly<Record<string, string>>>,
): ReferenceFindings {
  const { values: managers, problems } = resolveShape(environment, 'secrets', managersShape, awsAliases);
  const references = [...names].flatMap(([name, aliases]) => {
    const match = REFERENCE.exec(lookUp(environment, name, aliases)?.value ?? '');
    return match === null ? [] : [{ name, manager: match[1] ?? '', field: match[3] }];
  });
  if (references.length === 0) return { problems: [], packages: [] };
  const missing = references.flatMap(({ name, manager, field }) => {
    const unset = (NEEDS[manager] ?? []).filter(
      (variable) => managers !== undefined && managers[variable] === undefined,
    );
    const why = unset.map((variable) => configProblem(name, `its reference needs ${variable}`, `set ${variable}`));
    if (manager !== 'vault' || field !== undefined) return why;
    return [
      ...why,
      configProblem(name, 'a secret of Vault is read by its field', 'write vault://mount/data/name#field'),
    ];
  });
  const packages = references.some(({ manager }) => manager === 'aws-sm') ? ['@aws-sdk/client-secrets-manager'] : [];
  return { problems: [...problems, ...missing], packages };
}

/**
 * The environment for a plan, in which references stand for what they lead to. What is checked closely, such as a URL,
 * and may be left out, is left out.
 */
export function withoutReferences(
  environment: Environment,
  names: ReadonlyMap<string, Readonly<Record<string, string>>>,
  types: Shape,
): Environment {
  const left = new Set<string>();
  for (const [name, aliases] of names) {
    const { value } = lookUp(environment, name, aliases) ?? { value: '' };
    const type = types[name];
    if (!REFERENCE.test(value) || type === undefined || isRequired(type) || type.safeParse(value).success) continue;
    for (const one of [name, ...Object.keys(aliases).filter((alias) => aliases[alias] === name)]) left.add(one);
  }
  return { ...environment, get: (name) => (left.has(name.replace(/_FILE$/, '')) ? undefined : environment.get(name)) };
}

const MANAGERS: Readonly<Record<string, (named: Named, means: Means) => Promise<string>>> = {
  'aws-sm': fromAws,
  'azure-kv': fromAzure,
  'gcp-sm': fromGoogle,
  vault: fromVault,
};

/** @throws {CollectError} config when the secret has no such field */
function valueIn(secret: string, field: string | undefined): string {
  if (field === undefined) return secret;
  const value = textAt(parsed(secret), field);
  if (value !== undefined) return value;
  throw new CollectError('config', `the secret has no field '${field}'`, { mend: 'correct what stands behind #' });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the parser's own error quotes the secret
  }
}

async function fromAws({ path }: Named, { managers }: Means): Promise<string> {
  const { GetSecretValueCommand, SecretsManagerClient } = await import('@aws-sdk/client-secrets-manager').catch(() => {
    throw new CollectError('config', 'the client of AWS Secrets Manager is not installed', {
      mend: 'npm install @aws-sdk/client-secrets-manager',
    });
  });
  const endpoint = managers.SECRETS_AWS_ENDPOINT;
  const client = new SecretsManagerClient({
    ...awsIdentity(managers),
    ...(endpoint === undefined ? {} : { endpoint }),
  });
  try {
    const { SecretString: value } = await client.send(new GetSecretValueCommand({ SecretId: path }));
    if (value !== undefined) return value;
  } catch (error) {
    // The SDK's message may quote the request.
    throw new CollectError('denied', `AWS Secrets Manager says ${(error as Error).name}`, {
      mend: 'grant secretsmanager:GetSecretValue on it, or correct its name and region',
    });
  } finally {
    client.destroy();
  }
  throw new CollectError('config', 'the secret is binary', { mend: 'store it as text' });
}

async function fromAzure({ path }: Named, { managers, client }: Means): Promise<string> {
  const [vault = '', name = '', version = ''] = path.split('/');
  const body = await ask(client, `/secrets/${name}/${version}?api-version=7.4`, {
    baseUrl: baseUrl(managers.SECRETS_AZURE_URL ?? `https://${vault}.vault.azure.net`),
    auth: entra({
      tenant: needed(managers, 'SECRETS_AZURE_TENANT_ID'),
      client: needed(managers, 'SECRETS_AZURE_CLIENT_ID'),
      secret: needed(managers, 'SECRETS_AZURE_CLIENT_SECRET'),
      authority: baseUrl(managers.SECRETS_AZURE_AUTHORITY),
      scope: 'https://vault.azure.net/.default',
    }),
    others: [baseUrl(managers.SECRETS_AZURE_AUTHORITY)],
  });
  return textOf(body, 'value');
}

async function fromGoogle({ path }: Named, { managers, client }: Means): Promise<string> {
  const key = needed(managers, 'SECRETS_GCP_KEY');
  const version = /\/versions\//.test(path) ? path : `${path}/versions/latest`;
  const body = await ask(client, `/v1/${version}:access`, {
    baseUrl: baseUrl(managers.SECRETS_GCP_URL),
    auth: googleAccount({ key, scopes: ['https://www.googleapis.com/auth/cloud-platform'] }),
    others: [new URL(textAt(parsed(key), 'token_uri') ?? 'https://oauth2.googleapis.com/token')],
  });
  return Buffer.from(textOf(body, 'payload.data'), 'base64').toString('utf8');
}

async function fromVault({ path, field }: Named, { managers, client }: Means): Promise<string> {
  const namespace = managers.VAULT_NAMESPACE;
  const body = await ask(client, `/v1/${path}`, {
    baseUrl: baseUrl(needed(managers, 'VAULT_ADDR')),
    auth: staticHeaders({
      'x-vault-token': needed(managers, 'VAULT_TOKEN'),
      ...(namespace === undefined ? {} : { 'x-vault-namespace': namespace }),
    }),
  });
  // The second version of the engine holds its fields one deeper than the first.
  const value = [`data.data.${field}`, `data.${field}`]
    .map((at) => textAt(body, at))
    .find((found) => found !== undefined);
  if (field === undefined || value === undefined) {
    throw new CollectError('config', 'a secret of Vault is read by its field', {
      mend: 'write vault://mount/data/name#field',
    });
  }
  return JSON.stringify({ [field]: value });
}

function needed(managers: Managers, name: keyof Managers): string {
  const value = managers[name];
  if (value !== undefined) return value;
  throw new CollectError('config', `${name} is not set`, { mend: `set ${name}` });
}

async function ask(settings: ClientSettings, path: string, options: HttpOptions): Promise<unknown> {
  const http = new Client(options, settings, []).http(newTally(), AbortSignal.timeout(WAIT_MS));
  return (await http.json({ path })).body;
}

function textOf(body: unknown, path: string): string {
  const value = textAt(body, path);
  if (value !== undefined) return value;
  throw new CollectError('vendor', 'the answer holds no secret');
}
