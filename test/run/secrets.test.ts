import { generateKeyPairSync } from 'node:crypto';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openSecretSession } from '../../src/commands/session.ts';
import { environmentOf, loadEnvironment } from '../../src/config/environment.ts';
import { ConfigError } from '../../src/errors.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { temporaryFolder } from '../support/run.ts';
import { json, type Route, serve } from '../support/server.ts';

const FLAGS = { envFile: [], logFormat: 'text', quiet: true } as const;

/** What the program takes for OKTA_TOKEN. */
async function tokenWith(env: Readonly<Record<string, string>>): Promise<string | undefined> {
  const { environment } = await openSecretSession(FLAGS, environmentOf(env));
  return environment.get('OKTA_TOKEN')?.value;
}

async function refusal(env: Readonly<Record<string, string>>): Promise<string> {
  const error = await tokenWith(env).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConfigError);
  return JSON.stringify((error as ConfigError).problems);
}

const KEY = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' });

describe('a secret that is set by reference is looked up', () => {
  test('in Vault, by its field, in either version of its engine', async () => {
    const server = await serve(({ url, headers }, response) => {
      expect(headers['x-vault-token']).toBe('hvs.canary');
      expect(headers['x-vault-namespace']).toBe('team');
      if (url.pathname === '/v1/secret/data/okta') json(response, { data: { data: { token: 'canary-two' } } });
      else json(response, { data: { token: 'canary-one' } });
    });
    const env = { VAULT_ADDR: server.origin.href, VAULT_TOKEN: 'hvs.canary', VAULT_NAMESPACE: 'team' };
    expect(await tokenWith({ ...env, OKTA_TOKEN: 'vault://secret/data/okta#token' })).toBe('canary-two');
    expect(await tokenWith({ ...env, OKTA_TOKEN: 'vault://kv/okta#token' })).toBe('canary-one');
  });

  test('in Azure Key Vault', async () => {
    const route: Route = ({ url, headers, method, body }, response) => {
      if (method === 'POST') {
        expect(url.pathname).toBe('/directory/oauth2/v2.0/token');
        expect(body).toContain('client_secret=canary-app');
        return json(response, { access_token: 'bearer-canary', expires_in: 3600, token_type: 'Bearer' });
      }
      expect(headers.authorization).toBe('Bearer bearer-canary');
      expect(url.pathname + url.search).toBe('/secrets/okta/?api-version=7.4');
      json(response, { value: 'canary-azure', id: 'x' });
    };
    const server = await serve(route);
    const env = {
      SECRETS_AZURE_TENANT_ID: 'directory',
      SECRETS_AZURE_CLIENT_ID: 'app',
      SECRETS_AZURE_CLIENT_SECRET: 'canary-app',
      SECRETS_AZURE_AUTHORITY: server.origin.href,
      SECRETS_AZURE_URL: server.origin.href,
      OKTA_TOKEN: 'azure-kv://acme/okta',
    };
    expect(await tokenWith(env)).toBe('canary-azure');
  });

  test('in GCP Secret Manager', async () => {
    const data = Buffer.from(JSON.stringify({ okta: { token: 'canary-gcp' } })).toString('base64');
    const server = await serve(({ url, headers }, response) => {
      if (url.pathname === '/token') return json(response, { access_token: 'bearer-canary', expires_in: 3600 });
      expect(headers.authorization).toBe('Bearer bearer-canary');
      expect(url.pathname).toBe('/v1/projects/acme/secrets/okta/versions/latest:access');
      json(response, { name: 'x', payload: { data } });
    });
    const token_uri = new URL('/token', server.origin).href;
    const env = {
      SECRETS_GCP_KEY: JSON.stringify({ client_email: 'a@acme.example', private_key: KEY, token_uri }),
      SECRETS_GCP_URL: server.origin.href,
      OKTA_TOKEN: 'gcp-sm://projects/acme/secrets/okta#okta.token',
    };
    expect(await tokenWith(env)).toBe('canary-gcp');
  });

  test('in AWS Secrets Manager', async () => {
    const server = await serve(({ headers, body }, response) => {
      expect(headers['x-amz-target']).toBe('secretsmanager.GetSecretValue');
      expect(JSON.parse(body)).toEqual({ SecretId: 'prod/okta' });
      json(response, { Name: 'prod/okta', SecretString: '{"token":"canary-aws"}' });
    });
    const aws = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', SECRETS_AWS_ENDPOINT: server.origin.href };
    expect(await tokenWith({ ...aws, OKTA_TOKEN: 'aws-sm://prod/okta#token' })).toBe('canary-aws');
  });

  test('and never shown, once it is known', async () => {
    const server = await serve((_request, response) => json(response, { data: { token: 'canary-of-vault' } }));
    const env = { VAULT_ADDR: server.origin.href, VAULT_TOKEN: 'x', OKTA_TOKEN: 'vault://kv/okta#token' };
    const { redactor } = await openSecretSession(FLAGS, environmentOf(env));
    expect(redactor.redact('a canary-of-vault b')).not.toContain('canary-of-vault');
  });
});

describe('a reference that leads nowhere is a sentence that names the variable', () => {
  test.each([
    ['a manager that is not set up', { OKTA_TOKEN: 'vault://kv/okta#token' }, 'VAULT_ADDR is not set'],
    ['a field that is not there', { OKTA_TOKEN: 'vault://kv/okta#other' }, '#field'],
    ['no field', { OKTA_TOKEN: 'vault://kv/okta' }, 'is read by its field'],
  ])('%s', async (_name, env, says) => {
    const server = await serve((_request, response) => json(response, { data: { token: 'canary' } }));
    const vault = says.startsWith('VAULT') ? {} : { VAULT_ADDR: server.origin.href, VAULT_TOKEN: 'x' };
    const text = await refusal({ ...vault, ...env });
    expect(text).toContain('OKTA_TOKEN');
    expect(text).toContain(says);
    expect(text).not.toContain('canary');
  });

  test('one that is denied', async () => {
    const server = await serve((_request, response) => json(response, { errors: ['permission denied'] }, 403));
    const env = { VAULT_ADDR: server.origin.href, VAULT_TOKEN: 'x', OKTA_TOKEN: 'vault://kv/okta#token' };
    expect(await refusal(env)).toContain('403');
  });
});

describe('files of secrets', () => {
  async function envFile(mode: number): Promise<string> {
    const vendor = await startVendor(okta, { scale: 1 });
    onTestFinished(() => vendor.close());
    const path = join(await temporaryFolder(), 'acme.env');
    await writeFile(
      path,
      Object.entries(vendor.env)
        .map(([name, value]) => `${name}=${value}`)
        .join('\n'),
    );
    await chmod(path, mode);
    return path;
  }

  test('that everyone can read are refused, with what to do', async () => {
    const path = await envFile(0o644);
    const opened = openSecretSession(FLAGS, loadEnvironment([path]));
    await expect(opened).rejects.toThrow(/everyone on this machine can read it/);
    await chmod(path, 0o600);
    await openSecretSession(FLAGS, loadEnvironment([path]));
  });

  test('named by NAME_FILE likewise; where the platform says so they are taken', async () => {
    const path = join(await temporaryFolder(), 'token');
    await writeFile(path, 'canary');
    await chmod(path, 0o644);
    expect(await refusal({ OKTA_TOKEN_FILE: path })).toContain(`chmod 600 ${path}`);
    await openSecretSession(
      FLAGS,
      environmentOf({ OKTA_TOKEN_FILE: path, CYBER_COLLECT_ALLOW_READABLE_SECRETS: 'true' }),
    );
  });

  test('without a secret in them may be read by anyone', async () => {
    const path = join(await temporaryFolder(), 'open.env');
    await writeFile(path, 'TENANCY=acme\nOKTA_TOKEN=\n');
    await chmod(path, 0o644);
    await openSecretSession(FLAGS, loadEnvironment([path]));
  });
});
