import { describe, expect, it } from 'vitest';
import { awsAliases, awsIdentity, awsShape } from '../../src/config/aws.ts';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';

function identity(variables: Record<string, string>) {
  const { values } = resolveShape(environmentOf(variables), 'aws', awsShape, awsAliases);
  if (values === undefined) throw new Error('the shape needs something');
  return awsIdentity(values);
}

const key = { AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE', AWS_SECRET_ACCESS_KEY: 'hunter2' };

describe('who to be for AWS', () => {
  it('an access key, temporary or not', () => {
    const credentials = { accessKeyId: 'AKIAEXAMPLE', secretAccessKey: 'hunter2' };
    expect(identity(key)).toEqual({ region: 'us-east-1', credentials });
    expect(identity({ ...key, AWS_SESSION_TOKEN: 's', AWS_REGION: 'eu-west-1', AWS_PROFILE: 'not used' })).toEqual({
      region: 'eu-west-1',
      credentials: { ...credentials, sessionToken: 's' },
    });
  });

  it('without one what the SDK finds, by profile or not', () => {
    expect(identity({})).toEqual({ region: 'us-east-1' });
    expect(identity({ AWS_PROFILE: 'audit', AWS_DEFAULT_REGION: 'eu-central-1' })).toEqual({
      region: 'eu-central-1',
      profile: 'audit',
    });
  });

  it.each(['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'])('half a key is an error that names %s', (missing) => {
    const half = Object.fromEntries(Object.entries(key).filter(([name]) => name !== missing));
    expect(() => identity(half)).toThrow(`${missing} is missing`);
    expect(() => identity(half)).not.toThrow('hunter2');
  });
});
