import { createPublicKey, createVerify, generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_github.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, type Route, serve } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 40, pageSize: 20 });

/** A vendor that answers these paths; what it does not know is 404. */
async function scripted(answers: Readonly<Record<string, Route>>) {
  const { origin, received } = await serve((request, response, nth) => {
    const answer = answers[`${request.url.pathname}`];
    return answer === undefined
      ? json(response, { message: 'Not Found', status: '404' }, 404)
      : answer(request, response, nth);
  });
  const env = { GITHUB_ENDPOINT: origin.href, GITHUB_TOKEN: 'ghp_t' };
  return { env, received, origin, paths: () => received.map(({ url }) => url.pathname) };
}

const of =
  (body: unknown, status = 200, headers = {}): Route =>
  (_, response) =>
    json(response, body, status, headers);
const acme = { id: 1, login: 'acme' };
const orgs = { '/user/orgs': of([acme]) };
const repository = { id: 7, name: 'depot', owner: { login: 'acme' } };
const one = { ...orgs, '/orgs/acme/repos': of([repository]) };
const CODE = '/repos/acme/depot/code-scanning/alerts';

test('every resource comes whole and byte for byte, children with where they belong behind', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['github'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(9);
  for (const { resource } of summary.datasets) {
    const lines = (await storedLines(folder, `github_${resource}`)) ?? [];
    const stripped = lines.map((line) =>
      line.replace(/,"_org":"[^"]+"(,"_repo":"[^"]+")?(,"_branch":"[^"]+")?}$/, '}'),
    );
    expect(stripped, resource).toEqual(running.truth(resource));
    expect(lines.length).toBeGreaterThan(0);
    if (resource !== 'organizations') expect(lines.every((line) => line.includes(',"_org":"acme-'))).toBe(true);
  }
});

test('the text of a found secret is asked for by no one and stored nowhere', async () => {
  const running = await start();
  const { folder } = await collectOnce({ env: running.env, only: ['github.secret_scanning_alerts'] });
  const lines = (await storedLines(folder, 'github_secret_scanning_alerts')) ?? [];
  expect(lines.length).toBeGreaterThan(60);
  expect(lines.join('\n')).not.toContain('plain-secret');
});

test('a repository keeps everything but its clone token', async () => {
  const { env } = await scripted({ ...orgs, '/orgs/acme/repos': of([{ ...repository, temp_clone_token: 'ABC' }]) });
  const { folder } = await collectOnce({ env, only: ['github.repositories'] });
  expect(await storedLines(folder, 'github_repositories')).toEqual([
    `${JSON.stringify(repository).slice(0, -1)},"_org":"acme"}`,
  ]);
});

test('Enterprise Server is spoken to below /api/v3, its links too', async () => {
  const first: Route = ({ url }, response) =>
    url.searchParams.has('page')
      ? json(response, [{ id: 2, login: 'other' }])
      : json(response, [acme], 200, { link: `<${url.origin}/api/v3/user/orgs?per_page=100&page=2>; rel="next"` });
  const { env, received } = await scripted({ '/api/v3/user/orgs': first });
  const settings = { ...env, GITHUB_ENDPOINT: `${env.GITHUB_ENDPOINT}api/v3/` };
  const { summary } = await collectOnce({ env: settings, only: ['github.organizations'] });
  expect(resultOf(summary, 'github_organizations').records).toBe(2);
  expect(received[0]?.headers).toMatchObject({
    authorization: 'Bearer ghp_t',
    accept: 'application/vnd.github+json',
    'x-github-api-version': '2022-11-28',
    'user-agent': expect.stringContaining('cyber-collect'),
  });
});

describe('limits', () => {
  const over = 'API rate limit exceeded for user ID 1.';

  test.each([
    ['403', 403, over, { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(Math.floor(Date.now() / 1000)) }],
    ['429', 429, over, { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(Math.floor(Date.now() / 1000)) }],
    ['403 of the secondary limit', 403, 'You have exceeded a secondary rate limit.', { 'retry-after': '1' }],
  ])('a %s is waited for as told', async (_, status, message, headers) => {
    const { env, received } = await scripted({
      '/user/orgs': (__, response, nth) =>
        nth === 1 ? json(response, { message }, status, headers) : json(response, [acme]),
    });
    const { summary } = await collectOnce({ env, only: ['github.organizations'] });
    expect(resultOf(summary, 'github_organizations')).toMatchObject({ verdict: 'complete', retries: 1 });
    expect(received).toHaveLength(2);
  });

  test('a secondary limit that tells no time asks for a minute', async () => {
    const message = 'You have exceeded a secondary rate limit.';
    const { env } = await scripted({ '/user/orgs': of({ message }, 403, { 'x-ratelimit-remaining': '4711' }) });
    const { summary } = await collectOnce({ env, only: ['github.organizations'], deadline: 30 });
    expect(resultOf(summary, 'github_organizations')).toMatchObject({ reason: expect.stringMatching(/wait 6[01] s/) });
  });

  test('the vendor’s own count slows requests down before they are refused', async () => {
    const running = await start({ limit: { requests: 4, seconds: 1 } });
    const { summary } = await collectOnce({ env: running.env, only: ['github.members'] });
    expect(summary.exit_code).toBe(0);
    expect(running.count429()).toBeLessThan(3);
  });
});

describe('which organizations', () => {
  test('GITHUB_ORGS names are read with all that is told of them', async () => {
    const { env, paths } = await scripted({
      '/orgs/acme': of({ ...acme, two_factor_requirement_enabled: true }),
      '/orgs/acme/repos': of([repository]),
    });
    const only = ['github.organizations', 'github.repositories'];
    const { summary, folder } = await collectOnce({ env: { ...env, GITHUB_ORGS: 'acme' }, only });
    expect(summary.exit_code).toBe(0);
    expect(await storedLines(folder, 'github_organizations')).toEqual([
      '{"id":1,"login":"acme","two_factor_requirement_enabled":true}',
    ]);
    expect(paths()).toEqual(['/orgs/acme', '/orgs/acme/repos']);
  });

  test('one of GITHUB_ORGS that is not there is told', async () => {
    const { env } = await scripted({});
    const { summary } = await collectOnce({ env: { ...env, GITHUB_ORGS: 'acme,gone' }, only: ['github.members'] });
    expect(summary.exit_code).toBe(3);
    expect(resultOf(summary, 'github_members')).toMatchObject({ reason: expect.stringContaining('/orgs/acme') });
  });

  test('a fine-grained token is told none, which is not taken for an answer', async () => {
    const { env } = await scripted({ '/user/orgs': of([]) });
    const settings = { ...env, GITHUB_TOKEN: 'github_pat_x' };
    const { summary } = await collectOnce({ env: settings, only: ['github.organizations'] });
    expect(summary.exit_code).not.toBe(0);
    expect(resultOf(summary, 'github_organizations').reason).toMatch(/fine-grained/);
  });

  test('a classic token of somebody without any has an empty list', async () => {
    const { env } = await scripted({ '/user/orgs': of([]) });
    const { summary } = await collectOnce({ env, only: ['github'] });
    expect(summary.exit_code).toBe(0);
    expect(new Set(summary.datasets.map(({ verdict }) => verdict))).toEqual(new Set(['empty']));
  });

  test('those left out for their single sign-on are told', async () => {
    const sso = { 'x-github-sso': 'partial-results; organizations=21955855,20582480' };
    const { env } = await scripted({ '/user/orgs': of([acme], 200, sso) });
    const { summary } = await collectOnce({ env, only: ['github.organizations'] });
    expect(summary.exit_code).toBe(3);
    expect(resultOf(summary, 'github_organizations').reason).toContain('21955855,20582480');
  });
});

describe('less than there is', () => {
  const counted = { ...acme, public_repos: 1, total_private_repos: 4 };
  const short = { '/orgs/acme': of(counted), '/orgs/acme/repos': of([repository]) };

  test('repositories are held against the number that the organization tells', async () => {
    const { env } = await scripted(short);
    const { summary } = await collectOnce({ env: { ...env, GITHUB_ORGS: 'acme' }, only: ['github.repositories'] });
    expect(summary.exit_code).toBe(3);
    expect(resultOf(summary, 'github_repositories').reason).toContain('1 repositories came of 5');
  });

  test('a token that may be limited to some is told instead', async () => {
    const { env } = await scripted(short);
    const settings = { ...env, GITHUB_ORGS: 'acme', GITHUB_TOKEN: 'github_pat_x' };
    const { summary, said } = await collectOnce({ env: settings, only: ['github.repositories'] });
    expect(summary.exit_code).toBe(0);
    expect(said.join('\n')).toContain('1 repositories came of 5');
  });

  test('public members are not taken for all', async () => {
    const { env } = await scripted({
      ...orgs,
      '/orgs/acme/members': of('', 302, { location: '/organizations/1/public_members?per_page=100' }),
      '/organizations/1/public_members': of([{ id: 5, login: 'a' }]),
    });
    const { summary } = await collectOnce({ env, only: ['github.members'] });
    expect(resultOf(summary, 'github_members')).toMatchObject({
      verdict: 'denied',
      reason: expect.stringContaining('public members'),
    });
  });
});

describe('a repository without the feature', () => {
  test.each([
    [404, 'no analysis found'],
    [403, 'Advanced Security must be enabled for this repository to use code scanning.'],
    [403, 'Code scanning is not enabled for this repository. Please enable code scanning.'],
    [451, 'Repository access blocked'],
  ])('has none: %i %s', async (status, message) => {
    const { env, paths } = await scripted({ ...one, [CODE]: of({ message }, status) });
    const { summary } = await collectOnce({ env, only: ['github.code_scanning_alerts'] });
    expect(resultOf(summary, 'github_code_scanning_alerts').verdict).toBe('empty');
    expect(paths()).not.toContain('/repos/acme/depot');
  });

  test('has no rules where the plan has no rulesets', async () => {
    const { env } = await scripted({
      ...one,
      '/repos/acme/depot/branches': of([{ name: 'fix/a b' }]),
      '/repos/acme/depot/rules/branches/fix%2Fa%20b': of({ message: 'Upgrade to GitHub Pro or make …' }, 403),
    });
    const { summary } = await collectOnce({ env, only: ['github.branch_protection_rules'] });
    expect(resultOf(summary, 'github_branch_protection_rules').verdict).toBe('empty');
  });

  test('has no secrets found where scanning is off for the organization', async () => {
    const message = 'Secret scanning is disabled on this organization.';
    const { env } = await scripted({ ...orgs, '/orgs/acme/secret-scanning/alerts': of({ message }, 404) });
    const { summary } = await collectOnce({ env, only: ['github.secret_scanning_alerts'] });
    expect(resultOf(summary, 'github_secret_scanning_alerts').verdict).toBe('empty');
  });
});

describe('what may not be read', () => {
  test('a 404 without a word is none only when the repository is gone as well', async () => {
    const gone = await scripted(one);
    const first = await collectOnce({ env: gone.env, only: ['github.code_scanning_alerts'] });
    expect(resultOf(first.summary, 'github_code_scanning_alerts').verdict).toBe('empty');
    const hidden = await scripted({ ...one, '/repos/acme/depot': of(repository) });
    const second = await collectOnce({ env: hidden.env, only: ['github.code_scanning_alerts'] });
    expect(resultOf(second.summary, 'github_code_scanning_alerts').verdict).toBe('denied');
  });

  test('one resource without permission is denied, and the others come', async () => {
    const message = 'Resource not accessible by personal access token';
    const { env } = await scripted({
      ...one,
      '/orgs/acme/members': of([{ id: 5 }]),
      '/orgs/acme/secret-scanning/alerts': of({ message }, 403),
    });
    const only = ['github.members', 'github.secret_scanning_alerts'];
    const { summary } = await collectOnce({ env, only });
    expect(summary.exit_code).toBe(3);
    expect(resultOf(summary, 'github_members').verdict).toBe('complete');
    expect(resultOf(summary, 'github_secret_scanning_alerts')).toMatchObject({
      verdict: 'denied',
      mend: expect.stringContaining('Secret scanning alerts: read'),
    });
  });

  test('an organization behind single sign-on says so', async () => {
    const message = 'Resource protected by organization SAML enforcement. You must grant your token access.';
    const { env } = await scripted({ ...orgs, '/orgs/acme/repos': of({ message }, 403) });
    const { summary } = await collectOnce({ env, only: ['github.repositories'] });
    expect(resultOf(summary, 'github_repositories')).toMatchObject({
      verdict: 'denied',
      reason: expect.stringContaining('single sign-on'),
    });
  });
});

describe('an app', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = privateKey.export({ type: 'pkcs1', format: 'pem' }).toString();
  const app = { GITHUB_APP_ID: 'Iv1.canary', GITHUB_APP_INSTALLATION_ID: '42' };

  function isSigned(authorization: string | undefined): boolean {
    const [head = '', body = '', signature = ''] = (authorization ?? '').replace(/^Bearer /, '').split('.');
    const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as { iss: string; iat: number; exp: number };
    expect(claims.iss).toBe('Iv1.canary');
    expect(claims.exp - claims.iat).toBeLessThanOrEqual(600);
    const key = createPublicKey(publicKey.export({ type: 'spki', format: 'pem' }));
    return createVerify('RSA-SHA256').update(`${head}.${body}`).verify(key, Buffer.from(signature, 'base64url'));
  }

  const answers: Readonly<Record<string, Route>> = {
    '/app/installations/42': of({ id: 42, account: { login: 'acme', type: 'Organization' } }),
    '/orgs/acme': of(acme),
    '/app/installations/42/access_tokens': ({ method, headers }, response) =>
      method === 'POST' && isSigned(headers.authorization)
        ? json(response, { token: 'ghs_1', expires_at: new Date(Date.now() + 3_600_000).toISOString() }, 201)
        : json(response, { message: 'A JSON web token could not be decoded' }, 401),
  };

  test.each([
    ['as it is', pem],
    ['in one line', pem.replaceAll('\n', '\\n')],
  ])('signs with its key %s, and reads its organization with the token it gets', async (_, key) => {
    const { env, received } = await scripted(answers);
    const { GITHUB_TOKEN: __, ...rest } = env;
    const settings = { ...rest, ...app, GITHUB_APP_PRIVATE_KEY: key };
    const { summary, said } = await collectOnce({ env: settings, only: ['github.organizations'] });
    expect(resultOf(summary, 'github_organizations')).toMatchObject({ verdict: 'complete', records: 1 });
    const asked = received.find(({ url }) => url.pathname === '/app/installations/42');
    expect(isSigned(asked?.headers.authorization)).toBe(true);
    expect(received.at(-1)?.headers.authorization).toBe('Bearer ghs_1');
    expect(received.filter(({ method }) => method === 'POST')).toHaveLength(1);
    expect(said.join('\n')).not.toContain('PRIVATE KEY');
  });

  test('whose key is refused exits 4', async () => {
    const refused = of({ message: 'A JSON web token could not be decoded' }, 401);
    const { env } = await scripted({ '/app/installations/42/access_tokens': refused });
    const { summary } = await collectOnce({
      env: { ...env, ...app, GITHUB_TOKEN: pem },
      only: ['github.organizations'],
    });
    expect(summary.exit_code).toBe(4);
  });

  test.each([
    ['without its number', { GITHUB_TOKEN: pem }, /GITHUB_APP_ID/],
    ['without its installation', { GITHUB_TOKEN: pem, GITHUB_APP_ID: '1' }, /GITHUB_APP_INSTALLATION_ID/],
    ['with another token than its key', { ...app, GITHUB_TOKEN: 'ghp_t' }, /private key/],
  ])('%s is a matter of configuration', async (_, settings, said) => {
    const { summary } = await collectOnce({ env: settings, only: ['github.organizations'] });
    expect(summary.exit_code).toBe(2);
    expect(JSON.stringify(summary.problems)).toMatch(said);
  });
});
