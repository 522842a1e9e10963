import { createHash, generateKeyPairSync, verify } from 'node:crypto';
import { expect, test } from 'vitest';
import { type App, entra } from '../../src/collectors/_entra.ts';
import { openClient } from '../support/client.ts';
import { failureOf } from '../support/failure.ts';
import { collectOnce, resultOf } from '../support/run.ts';
import { json, type Received, type Route, serve } from '../support/server.ts';

const TOKEN_PATH = '/directory/oauth2/v2.0/token';
const SCOPE = 'https://api.acme.example/.default';
const REFUSED = { error: 'invalid_client', error_description: 'AADSTS7000215: Invalid client secret provided.' };

/** Gives `token-1`, `token-2` and so on. */
const giving =
  (expires_in = 3599): Route =>
  (_, response, nth) =>
    json(response, { token_type: 'Bearer', expires_in, access_token: `token-${nth}` });

/** An API that takes some tokens, an authority, and a client between them. */
async function open(issue: Route, accepts: (token: string) => boolean = () => true, proof: Partial<App> = {}) {
  const authority = await serve(issue);
  const api = await serve(({ headers }, response) => {
    const taken = accepts(String(headers.authorization).replace('Bearer ', ''));
    json(response, { taken }, taken ? 200 : 401);
  });
  const secret = proof.certificate === undefined ? { secret: 'canary-secret&=é' } : {};
  const app = { tenant: 'directory', client: 'app', authority: authority.origin, scope: SCOPE, ...secret, ...proof };
  return { authority, api, ...(await openClient(api.origin, { http: { auth: entra(app) } })) };
}

const formOf = ({ body }: Received) => Object.fromEntries(new URLSearchParams(body));
const authorizations = (received: readonly Received[]) => received.map(({ headers }) => headers.authorization);

test('a secret is sent to the authority, once for many calls, with nothing of this machine', async () => {
  const { http, authority, api } = await open(giving());
  await Promise.all([1, 2, 3].map((n) => http.json({ path: `/things/${n}` })));
  expect(authorizations(api.received)).toEqual(['Bearer token-1', 'Bearer token-1', 'Bearer token-1']);
  expect(authority.received).toHaveLength(1);
  const [asked] = authority.received;
  expect(asked?.url.pathname).toBe(TOKEN_PATH);
  expect(asked?.headers.authorization).toBeUndefined();
  const form = asked === undefined ? {} : formOf(asked);
  expect(form).toMatchObject({
    grant_type: 'client_credentials',
    client_id: 'app',
    client_secret: 'canary-secret&=é',
  });
  expect(form.scope?.split(' ')).toContain(SCOPE);
  expect(Object.keys(form).filter((name) => name.startsWith('x-'))).toEqual([]);
});

test('a certificate signs an assertion, and its key stays here', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key = String(privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const thumbprint = createHash('sha256').update('certificate').digest('hex');
  const { http, authority } = await open(giving(), undefined, { certificate: { thumbprint, key } });
  expect((await http.json({ path: '/things' })).body).toEqual({ taken: true });
  const form = formOf(authority.received[0] as Received);
  expect(form.client_secret).toBeUndefined();
  expect(form.client_assertion_type).toBe('urn:ietf:params:oauth:client-assertion-type:jwt-bearer');
  const [head = '', claims = '', signature = ''] = (form.client_assertion ?? '').split('.');
  const header = JSON.parse(Buffer.from(head, 'base64url').toString());
  expect(header).toMatchObject({ alg: 'PS256', 'x5t#S256': Buffer.from(thumbprint, 'hex').toString('base64url') });
  expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).toMatchObject({ iss: 'app', sub: 'app' });
  const padded = { key: publicKey, padding: 6, saltLength: 32 };
  expect(verify('sha256', Buffer.from(`${head}.${claims}`), padded, Buffer.from(signature, 'base64url'))).toBe(true);
});

test('a token that is over is renewed before the next call', async () => {
  const { http, api } = await open(giving(-1));
  await http.json({ path: '/things' });
  await http.json({ path: '/things' });
  expect(authorizations(api.received)).toEqual(['Bearer token-1', 'Bearer token-2']);
});

test('a token that is refused is renewed once', async () => {
  const { http, authority } = await open(giving(), (token) => token === 'token-2');
  expect((await http.json({ path: '/things' })).body).toEqual({ taken: true });
  expect(authority.received).toHaveLength(2);
});

test('an API that takes no token at all is told, after one renewal', async () => {
  const { http, authority } = await open(giving(), () => false);
  expect((await failureOf(http.json({ path: '/things' }))).code).toBe('credentials');
  expect(authority.received).toHaveLength(2);
});

test.each([400, 401])('a secret that is refused with %i is a matter of credentials, asked once', async (status) => {
  const { http, authority, api } = await open((_, response) => json(response, REFUSED, status));
  const error = await failureOf(http.json({ path: '/things' }));
  expect(error.code).toBe('credentials');
  expect(error.message).toContain(`POST ${TOKEN_PATH} was answered with ${status}`);
  expect(`${error.message} ${error.mend}`).not.toContain('canary');
  expect(authority.received).toHaveLength(1);
  expect(api.received).toEqual([]);
});

test('a refused secret ends a run with exit code 4', async () => {
  const { origin } = await serve((_, response) => json(response, REFUSED, 401));
  const env = {
    MICROSOFT365_BASE_URL: origin.href,
    MICROSOFT365_AUTHORITY: origin.href,
    MICROSOFT365_TENANT_ID: 'directory',
    MICROSOFT365_CLIENT_ID: 'app',
    MICROSOFT365_CLIENT_SECRET: 'canary-secret',
  };
  const { summary, unredacted } = await collectOnce({ env, only: ['microsoft365.subscribed_skus'] });
  expect(summary.exit_code).toBe(4);
  expect(resultOf(summary, 'microsoft365_subscribed_skus').reason).toContain('the credentials are not accepted');
  expect(unredacted.join('\n')).not.toContain('canary');
});

test('a busy authority is waited for as long as it asks', async () => {
  const { http, clock, meter } = await open((request, response, nth) => {
    if (nth > 1) return giving()(request, response, nth);
    return json(response, { error: 'temporarily_unavailable' }, 429, { 'retry-after': '17' });
  });
  const before = clock.now();
  expect((await http.json({ path: '/things' })).body).toEqual({ taken: true });
  expect(clock.now() - before).toBeGreaterThanOrEqual(17_000);
  expect(meter).toMatchObject({ requests: 3, retries: 1 });
});

test('an authority that is down for a moment is asked again', async () => {
  const { http } = await open((request, response, nth) =>
    nth < 3 ? json(response, {}, 503) : giving()(request, response, nth),
  );
  expect((await http.json({ path: '/things' })).body).toEqual({ taken: true });
});

test('an answer without a token is no token', async () => {
  const { http, api } = await open((_, response) => json(response, { token_type: 'Bearer', expires_in: 3599 }));
  await failureOf(http.json({ path: '/things' }));
  expect(api.received).toEqual([]);
});

test('a secret is sent over plain http to this machine only', async () => {
  const { http, api } = await open(giving(), undefined, { authority: new URL('http://login.acme.example') });
  expect((await failureOf(http.json({ path: '/things' }))).code).toBe('refused');
  expect(api.received).toEqual([]);
});

test('a secret does not follow a redirect to another host', async () => {
  const elsewhere = await serve(giving());
  const location = new URL(TOKEN_PATH, elsewhere.origin).href;
  const { http } = await open((_, response) => response.writeHead(307, { location }).end());
  expect((await failureOf(http.json({ path: '/things' }))).code).toBe('refused');
  expect(elsewhere.received).toEqual([]);
});

test('an app that can prove itself in no way is told so', async () => {
  const { http } = await open(giving(), undefined, { secret: undefined });
  expect((await failureOf(http.json({ path: '/things' }))).code).toBe('config');
});
