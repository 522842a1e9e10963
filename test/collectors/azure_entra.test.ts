import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_azure_entra.ts';
import { tenantOf } from '../support/entra.ts';
import { collectOnce, resultOf, storedEvents, storedLines } from '../support/run.ts';
import { json, type Route } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 300, pageSize: 60 });

async function tenant(route: Route) {
  const { received, env } = await tenantOf('AZURE', route, { url: 'GRAPH_URL', authority: 'AUTHORITY_HOST' });
  const filters = () => received.flatMap(({ url }) => url.searchParams.get('$filter') ?? []);
  return { received, env, filters };
}

test('every resource comes whole and byte for byte, logs of the days asked for', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['azure_entra'] });
  expect(summary.exit_code).toBe(0);
  expect(await storedLines(folder, 'azure_entra_users')).toEqual(running.truth('users'));
  for (const resource of ['signins', 'audit_logs']) {
    const events = (await storedEvents(folder, `azure_entra_${resource}`)) ?? [];
    expect([...events].sort()).toEqual(running.truth(resource).sort());
  }
});

test('a second run reads on where the first stopped: no gap, nothing twice', async () => {
  const { env, filters } = await tenant((_, response) => json(response, { value: [] }));
  const choice = { env: { ...env, AZURE_SIGNIN_DAYS: '2', AZURE_LOG_DELAY: '0' }, only: ['azure_entra.signins'] };
  const { folder } = await collectOnce({ ...choice, env: { ...choice.env, AZURE_LOG_DELAY: '60' } });
  await collectOnce({ ...choice, folder });
  const spans = filters().map((filter) => /ge (\S+) and createdDateTime le (\S+)$/.exec(filter) ?? []);
  expect(spans.length).toBe(3);
  for (const [n, [, from = '']] of spans.slice(1).entries()) {
    const [, , to = ''] = spans[n] ?? [];
    expect(to).toMatch(/\.\d{3}9999Z$/);
    expect(Date.parse(from) - Date.parse(`${to.slice(0, -5)}Z`)).toBe(1);
  }
  await collectOnce({ ...choice, folder, full: true });
  expect(filters().length).toBe(5);
});

test('the end of the span stays behind now as told', async () => {
  const { env, filters } = await tenant((_, response) => json(response, { value: [] }));
  const before = Date.now();
  await collectOnce({
    env: { ...env, AZURE_SIGNIN_DAYS: '1', AZURE_LOG_DELAY: '60' },
    only: ['azure_entra.audit_logs'],
  });
  const [, end = ''] = /le (\S+)$/.exec(filters()[0] ?? '') ?? [];
  const behind = before - Date.parse(`${end.slice(0, -5)}Z`);
  expect(Math.abs(behind - 3_600_000)).toBeLessThan(60_000);
});

test('the cursor stays where it is when a day cannot be read', async () => {
  const { env, filters } = await tenant((_, response, nth) => {
    if (nth === 3) return json(response, { error: { code: 'BadRequest', message: 'no' } }, 400);
    return json(response, { value: [{ id: `e${nth}` }] });
  });
  const choice = { env: { ...env, AZURE_SIGNIN_DAYS: '2' }, only: ['azure_entra.signins'] };
  const { summary, folder } = await collectOnce(choice);
  expect(resultOf(summary, 'azure_entra_signins').verdict).toBe('failed');
  expect(await storedEvents(folder, 'azure_entra_signins')).toBeUndefined();
  await collectOnce({ ...choice, folder });
  const from = (filter = '') => Date.parse(/ge (\S+)/.exec(filter)?.[1] ?? '');
  expect(Math.abs(from(filters()[2]) - from(filters()[0]))).toBeLessThan(60_000);
});

test('a tenant without Entra ID P1 has no sign-ins, the other resources come', async () => {
  const code = 'Authentication_RequestFromNonPremiumTenantOrB2CTenant';
  const { env } = await tenant(({ url }, response) => {
    if (!url.pathname.endsWith('/signIns')) return json(response, { value: [{ id: 'a' }] });
    return json(response, { error: { code, message: 'Neither tenant is B2C or tenant has premium license' } }, 403);
  });
  const { summary } = await collectOnce({ env, only: ['azure_entra.signins', 'azure_entra.users'] });
  const denied = resultOf(summary, 'azure_entra_signins');
  expect(denied).toMatchObject({ verdict: 'denied', title: 'Not licensed' });
  expect(resultOf(summary, 'azure_entra_users').verdict).toBe('complete');
});

test('a permission that is missing is named', async () => {
  const running = await start({ faults: [{ name: '403', resource: 'audit_logs' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['azure_entra.audit_logs'] });
  expect(resultOf(summary, 'azure_entra_audit_logs').verdict).toBe('denied');
  expect(resultOf(summary, 'azure_entra_audit_logs').mend).toContain('AuditLog.Read.All');
});

test('a secret that is refused is told with exit code 4, and Entra’s code with it', async () => {
  const running = await start();
  const env = { ...running.env, AZURE_CLIENT_SECRET: 'wrong' };
  const { summary } = await collectOnce({ env, only: ['azure_entra.users'] });
  expect(summary.exit_code).toBe(4);
});

test('users are counted, and a directory that declares more is read twice and then incomplete', async () => {
  const { env, received } = await tenant((_, response) => json(response, { '@odata.count': 9, value: [{ id: 'u' }] }));
  const { summary } = await collectOnce({ env, only: ['azure_entra.users'] });
  expect(resultOf(summary, 'azure_entra_users')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
  const users = received.filter(({ url }) => url.pathname === '/v1.0/users');
  expect(users).toHaveLength(2);
  expect(users[0]?.headers.consistencylevel).toBe('eventual');
});
