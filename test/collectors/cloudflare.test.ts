import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_cloudflare.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, serve } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 60, pageSize: 5 });

/** Answers by path; what is not there is an empty list. */
async function scripted(answers: Readonly<Record<string, unknown>>) {
  const server = await serve(({ url }, response) => {
    url.searchParams.sort();
    const answer = answers[url.pathname + url.search] ?? answers[url.pathname];
    json(response, answer ?? { success: true, result: [], errors: [] });
  });
  return { ...server, env: { CLOUDFLARE_API_URL: server.origin.href, CLOUDFLARE_API_TOKEN: 't' } };
}

const zones = (...ids: readonly string[]) => ({
  success: true,
  result: ids.map((id) => ({
    id,
    name: `${id}.example`,
    verification_key: '284344499-1',
    account: { id: `of-${id}` },
  })),
  result_info: { page: 1, total_pages: 1, total_count: ids.length },
});

test('every resource comes whole and byte for byte, children with their parent’s id and name behind', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['cloudflare'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(6);
  for (const { resource } of summary.datasets) {
    const lines = (await storedLines(folder, `cloudflare_${resource}`)) ?? [];
    const stripped = lines.map((line) => line.replace(/,"_(zone|account)_id":"[^"]+","_\1_name":"[^"]+"}$/, '}'));
    expect(stripped).toEqual(running.truth(resource));
  }
});

test('success: false with status 200 is a failure of that dataset alone', async () => {
  const { env } = await scripted({
    '/zones': zones('z1'),
    '/zones/z1/dns_records': {
      success: false,
      result: null,
      errors: [{ code: 10000, message: 'Authentication error' }],
    },
  });
  const { summary } = await collectOnce({ env, only: ['cloudflare.zones', 'cloudflare.dns_records'] });
  expect(summary.exit_code).toBe(3);
  expect(resultOf(summary, 'cloudflare_zones').verdict).toBe('complete');
  expect(resultOf(summary, 'cloudflare_dns_records')).toMatchObject({
    verdict: 'failed',
    reason: expect.stringContaining('success: false'),
  });
});

test('a list without total_pages has one page, unless its total says more', async () => {
  const { env, received } = await scripted({
    '/zones': { success: true, result: [{ id: 'z1', name: 'a' }], result_info: { total_count: 2 } },
    '/zones?page=2&per_page=50': { success: true, result: [{ id: 'z2', name: 'b' }], result_info: { total_count: 2 } },
    '/zones/z1/dns_records': { success: true, result: [{ id: 'r1' }] },
  });
  const { summary } = await collectOnce({ env, only: ['cloudflare.zones', 'cloudflare.dns_records'] });
  expect(summary.exit_code).toBe(0);
  expect(resultOf(summary, 'cloudflare_zones').records).toBe(2);
  expect(received.filter(({ url }) => url.pathname.endsWith('dns_records'))).toHaveLength(2);
});

test('projects are listed without a size; a list that tells nothing of pages is asked for one more', async () => {
  const refused = { success: false, errors: [{ code: 8000024, message: 'Invalid list options provided.' }] };
  const { origin, received } = await serve(({ url }, response) => {
    if (url.pathname === '/zones') return json(response, zones());
    if (url.pathname === '/accounts') return json(response, { success: true, result: [{ id: 'a1', name: 'A' }] });
    if (url.searchParams.has('page')) return json(response, refused, 400);
    return json(response, { success: true, result: [{ id: 'p1' }] });
  });
  const env = { CLOUDFLARE_API_URL: origin.href, CLOUDFLARE_API_TOKEN: 't' };
  const { summary, folder } = await collectOnce({ env, only: ['cloudflare.pages_projects'] });
  expect(summary.exit_code).toBe(0);
  expect(await storedLines(folder, 'cloudflare_pages_projects')).toEqual([
    '{"id":"p1","_account_id":"a1","_account_name":"A"}',
  ]);
  const asked = received.filter(({ url }) => url.pathname.endsWith('/projects')).map(({ url }) => url.search);
  expect(asked).toEqual(['', '?page=2']);
});

test('keys and values of variables are not stored', async () => {
  const env_vars = { PLAIN: { type: 'plain_text', value: 'hunter2' }, KEY: { type: 'secret_text', value: '' } };
  const { env } = await scripted({
    '/zones': zones('z1'),
    '/accounts': { success: true, result: [{ id: 'of-z1', name: 'A' }] },
    '/accounts/of-z1/pages/projects': {
      success: true,
      result: [
        {
          id: 'p1',
          build_config: { web_analytics_token: 'hunter2' },
          deployment_configs: { preview: { env_vars }, production: { env_vars } },
          latest_deployment: { env_vars },
          canonical_deployment: null,
        },
      ],
      result_info: { page: 1, total_pages: 1, total_count: 1 },
    },
  });
  const { summary, folder } = await collectOnce({ env, only: ['cloudflare.zones', 'cloudflare.pages_projects'] });
  expect(summary.exit_code).toBe(0);
  const stored = [
    ...((await storedLines(folder, 'cloudflare_zones')) ?? []),
    ...((await storedLines(folder, 'cloudflare_pages_projects')) ?? []),
  ].join('\n');
  expect(stored).not.toMatch(/hunter2|284344499|"value"/);
  expect(stored).toContain('"PLAIN":{"type":"plain_text"}');
});

test('a token that sees zones but none of their accounts may not read accounts', async () => {
  const { env } = await scripted({ '/zones': zones('z1') });
  const { summary } = await collectOnce({ env, only: ['cloudflare.accounts', 'cloudflare.workers_scripts'] });
  expect(resultOf(summary, 'cloudflare_accounts')).toMatchObject({
    verdict: 'denied',
    mend: expect.stringContaining('Account Settings: Read'),
  });
  expect(resultOf(summary, 'cloudflare_workers_scripts').verdict).toBe('failed');
});

test('a missing scope fails its dataset and no other', async () => {
  const running = await start({ faults: [{ name: '403', resource: 'workers_routes' }] });
  const only = ['cloudflare.zones', 'cloudflare.workers_routes'];
  const { summary } = await collectOnce({ env: running.env, only });
  expect(resultOf(summary, 'cloudflare_workers_routes')).toMatchObject({ verdict: 'denied' });
  expect(resultOf(summary, 'cloudflare_zones').verdict).toBe('complete');
});

test('a block without Retry-After lasts five minutes; a run that has less says so', async () => {
  const running = await start({ faults: [{ name: '429-bare', resource: 'zones' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['cloudflare.zones'], deadline: 60 });
  expect(resultOf(summary, 'cloudflare_zones')).toMatchObject({
    verdict: 'failed',
    reason: expect.stringMatching(/wait 30[01] s/),
  });
});

test('a token that is not well-formed is a matter of credentials', async () => {
  const errors = [{ code: 6003, message: 'Invalid request headers' }];
  const { origin } = await serve((_, response) => json(response, { success: false, errors }, 400));
  const env = { CLOUDFLARE_API_URL: origin.href, CLOUDFLARE_API_TOKEN: 't' };
  const { summary } = await collectOnce({ env, only: ['cloudflare.zones'] });
  expect(summary.exit_code).toBe(4);
});

test('an account without anything is empty', async () => {
  const { env } = await scripted({});
  const { summary } = await collectOnce({ env, only: ['cloudflare'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets.every(({ verdict }) => verdict === 'empty')).toBe(true);
});
