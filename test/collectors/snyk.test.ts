import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_snyk.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, serve } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 60, pageSize: 20 });

const orgs = (...ids: readonly string[]) => ({ data: ids.map((id) => ({ id, type: 'org' })), links: {} });

test('every resource comes whole and byte for byte, children with their parents’ ids behind', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['snyk'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(6);
  for (const { resource } of summary.datasets) {
    const lines = (await storedLines(folder, `snyk_${resource}`)) ?? [];
    const stripped = lines.map((line) => line.replace(/,"_org_id":"[^"]+"(,"_project_id":"[^"]+")?}$/, '}'));
    expect(stripped).toEqual(running.truth(resource));
  }
});

test.each([
  ['a path', '', '/rest/orgs?version=2024-08-25&starting_after=v1.x'],
  ['a path without /rest', '', '/orgs?version=2024-08-25&starting_after=v1.x'],
  ['a path without a version', '', '/rest/orgs?starting_after=v1.x'],
  ['a path behind a gateway', '/gateway', '/rest/orgs?starting_after=v1.x'],
  ['a path of the gateway', '/gateway', '/gateway/rest/orgs?starting_after=v1.x'],
  ['an object', '', { href: '/rest/orgs?starting_after=v1.x' }],
])('the next link may be %s', async (_, gateway, next) => {
  const { origin, received } = await serve(({ url }, response) =>
    json(response, url.searchParams.has('starting_after') ? orgs('o2') : { ...orgs('o1'), links: { next } }),
  );
  const env = { SNYK_ENDPOINT: `${origin.origin}${gateway}/rest`, SNYK_TOKEN: 't' };
  const { summary } = await collectOnce({ env, only: ['snyk.organizations'] });
  expect(resultOf(summary, 'snyk_organizations').records).toBe(2);
  expect(received.map(({ url }) => url.pathname)).toEqual([`${gateway}/rest/orgs`, `${gateway}/rest/orgs`]);
  expect(received.every(({ url }) => url.searchParams.get('version') === '2024-08-25')).toBe(true);
  expect(received[0]?.headers.authorization).toBe('token t');
});

test('SNYK_ORG_IDS limits what is asked of organizations', async () => {
  const running = await start();
  const [, , third = ''] = running.truth('organizations').map((line) => (JSON.parse(line) as { id: string }).id);
  const env = { ...running.env, SNYK_ORG_IDS: third };
  const only = ['snyk.organizations', 'snyk.targets', 'snyk.members'];
  const { summary, folder } = await collectOnce({ env, only });
  expect(summary.exit_code).toBe(0);
  expect(resultOf(summary, 'snyk_organizations').records).toBe(running.truth('organizations').length);
  for (const resource of ['targets', 'members']) {
    const lines = (await storedLines(folder, `snyk_${resource}`)) ?? [];
    expect(lines).toHaveLength(running.truth(resource, { id: third }).length);
    expect(lines.every((line) => line.includes(`"_org_id":"${third}"`))).toBe(true);
  }
});

test('an organization of SNYK_ORG_IDS that is not there is told', async () => {
  const running = await start();
  const env = { ...running.env, SNYK_ORG_IDS: 'no-such-org' };
  const { summary } = await collectOnce({ env, only: ['snyk.targets'] });
  expect(summary.exit_code).toBe(3);
  expect(resultOf(summary, 'snyk_targets')).toMatchObject({ reason: expect.stringContaining('no-such-org') });
});

test.each([403, 404])('members that may not be read (%i) are left out and told; the others’ come', async (status) => {
  const { origin } = await serve(({ url }, response) => {
    if (url.pathname === '/rest/orgs') return json(response, orgs('o1', 'o2'));
    if (url.pathname === '/v1/org/o1/members') return json(response, { code: status }, status);
    return json(response, [{ id: 'm1' }]);
  });
  const env = { SNYK_ENDPOINT: origin.href, SNYK_TOKEN: 't' };
  const { summary, folder, said } = await collectOnce({ env, only: ['snyk.members'] });
  expect(summary.exit_code).toBe(0);
  expect(await storedLines(folder, 'snyk_members')).toEqual(['{"id":"m1","_org_id":"o2"}']);
  expect(said.join('\n')).toContain('may not be read: o1');
});

test('members that may be read nowhere are denied', async () => {
  const running = await start({ faults: [{ name: '403', resource: 'members' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['snyk.members'] });
  expect(resultOf(summary, 'snyk_members')).toMatchObject({ verdict: 'denied' });
});

test('over the limit everything waits for a minute, told or not', async () => {
  const running = await start({ faults: [{ name: '429-bare', resource: 'organizations' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['snyk.organizations'], deadline: 30 });
  expect(resultOf(summary, 'snyk_organizations')).toMatchObject({ reason: expect.stringMatching(/wait 6[01] s/) });
});

test('a version that is gone names its variable', async () => {
  const { origin } = await serve((_, response) => json(response, { errors: [{ status: '410' }] }, 410));
  const env = { SNYK_ENDPOINT: origin.href, SNYK_TOKEN: 't', SNYK_VERSION: '2021-06-04' };
  const { summary } = await collectOnce({ env, only: ['snyk.organizations'] });
  expect(resultOf(summary, 'snyk_organizations')).toMatchObject({ reason: expect.stringContaining('SNYK_VERSION') });
});
