import { generateKeyPairSync, verify } from 'node:crypto';
import { expect, test } from 'vitest';
import { googleAccount } from '../../src/http/google.ts';

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const file = {
  client_email: 'reader@acme.example',
  private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  token_uri: 'https://token.acme.example/token',
};
const outgoing = { method: 'GET', url: new URL('https://acme.example/'), body: undefined };

test('an assertion names the account, whom it acts for and the scopes, and its signature is right', async () => {
  const auth = googleAccount(
    { key: JSON.stringify(file), scopes: ['a', 'b'], subject: 'admin@acme.example' },
    () => 1_000_000_500,
  );
  let assertion = '';
  const headers = await auth.headers(outgoing, async ({ path, form }) => {
    expect(path).toBe(file.token_uri);
    expect(form?.grant_type).toBe('urn:ietf:params:oauth:grant-type:jwt-bearer');
    assertion = form?.assertion ?? '';
    return { status: 200, headers: {}, body: { access_token: 't', expires_in: 3599 } };
  });
  expect(headers).toEqual({ authorization: 'Bearer t' });
  const [head = '', claims = '', signature = ''] = assertion.split('.');
  expect(verify('sha256', Buffer.from(`${head}.${claims}`), publicKey, Buffer.from(signature, 'base64url'))).toBe(true);
  expect(JSON.parse(Buffer.from(head, 'base64url').toString())).toEqual({ alg: 'RS256', typ: 'JWT' });
  expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).toEqual({
    iss: file.client_email,
    sub: 'admin@acme.example',
    scope: 'a b',
    aud: file.token_uri,
    iat: 1_000_000,
    exp: 1_003_600,
  });
});

test.each([
  ['not json', /no JSON/],
  ['{}', /no client_email/],
  [JSON.stringify({ ...file, private_key: 'canary' }), /cannot be read/],
])('a key file that is none is told without its content', (key, message) => {
  expect(() => googleAccount({ key, scopes: ['a'] })).toThrow(message);
  expect(() => googleAccount({ key, scopes: ['a'] })).not.toThrow(/canary/);
});
