import { expect, test } from 'vitest';
import { openSecretSession } from '../../src/commands/session.ts';
import { environmentOf } from '../../src/config/environment.ts';
import { needed } from '../support/needed.ts';

test('a secret that is set by reference is looked up in AWS Secrets Manager', async () => {
  const aws = {
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_REGION: 'eu-west-1',
    SECRETS_AWS_ENDPOINT: needed('TEST_AWS_ENDPOINT'),
  };
  const { CreateSecretCommand, SecretsManagerClient } = await import('@aws-sdk/client-secrets-manager');
  const client = new SecretsManagerClient({
    region: aws.AWS_REGION,
    endpoint: aws.SECRETS_AWS_ENDPOINT,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  });
  const name = `cyber-collect/${Date.now()}`;
  const SecretString = JSON.stringify({ token: 'canary' });
  const { ARN = '' } = await client.send(new CreateSecretCommand({ Name: name, SecretString }));
  client.destroy();
  const flags = { envFile: [], logFormat: 'text', quiet: true } as const;
  for (const id of [name, ARN]) {
    const opened = await openSecretSession(flags, environmentOf({ ...aws, OKTA_TOKEN: `aws-sm://${id}#token` }));
    expect(opened.environment.get('OKTA_TOKEN')?.value).toBe('canary');
  }
  const missing = openSecretSession(flags, environmentOf({ ...aws, OKTA_TOKEN: 'aws-sm://not/there' }));
  await expect(missing).rejects.toThrow(/OKTA_TOKEN: .*ResourceNotFoundException/);
});
