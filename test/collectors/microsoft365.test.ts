import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_microsoft365.ts';
import { tenantOf } from '../support/entra.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, type Received, type Route } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 90, pageSize: 40 });

/** The records without what was added behind. */
function stripped(lines: readonly string[] | undefined): string[] {
  return (lines ?? []).map((line) => line.replace(/,"_(licenses|device)":.*$/s, '}')).sort();
}

const tenant = (route: Route) => tenantOf('MICROSOFT365', route);

interface Asked {
  readonly id: string;
  readonly url: string;
}

const requestsOf = ({ body }: Received) => (JSON.parse(body) as { requests: Asked[] }).requests;
const idIn = (url: string) => url.split('/')[3] ?? '';

test('every resource comes whole and byte for byte', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['microsoft365'] });
  expect(summary.exit_code).toBe(0);
  for (const { resource } of summary.datasets) {
    const lines = await storedLines(folder, `microsoft365_${resource}`);
    expect(stripped(lines)).toEqual(running.truth(resource).sort());
  }
  expect(resultOf(summary, 'microsoft365_users').expected).toBe(90);
});

test('the variables of the older system’s .env are understood', async () => {
  const running = await start();
  const { MICROSOFT365_TENANT_ID, MICROSOFT365_CLIENT_ID, MICROSOFT365_CLIENT_SECRET, ...rest } = running.env;
  const env = {
    ...rest,
    MS_TENANT_ID: MICROSOFT365_TENANT_ID ?? '',
    MS_CLIENT_ID: MICROSOFT365_CLIENT_ID ?? '',
    MS_CLIENT_SECRET: MICROSOFT365_CLIENT_SECRET ?? '',
  };
  const { summary } = await collectOnce({ env, only: ['microsoft365.subscribed_skus'] });
  expect(summary.exit_code).toBe(0);
});

const E3 = '05e9a617-0261-4cee-bb44-138d3ef5d965';

test.each([`${E3}=E3,x=y`, `{"${E3.toUpperCase()}": "E3", "x": "y"}`])('licences have labels: %s', async (labels) => {
  const { env } = await tenant(({ url }, response) => {
    if (url.pathname === '/v1.0/subscribedSkus')
      return json(response, { value: [{ skuId: 'b', skuPartNumber: 'POWER_BI' }] });
    const assignedLicenses = [{ skuId: E3 }, { skuId: 'b' }, { skuId: 'unknown' }];
    return json(response, { '@odata.count': 1, value: [{ id: 'u', assignedLicenses }] });
  });
  const run = await collectOnce({ env: { ...env, MICROSOFT365_LICENSES: labels }, only: ['microsoft365.users'] });
  const lines = await storedLines(run.folder, 'microsoft365_users');
  expect(lines?.[0]).toMatch(/,"_licenses":\["E3","POWER_BI","unknown"\]\}$/);
});

test('labels that are none are told before anything is asked', async () => {
  const { env, received } = await tenant((_, response) => json(response, { value: [] }));
  const { summary } = await collectOnce({ env: { ...env, MICROSOFT365_LICENSES: 'E3' }, only: ['microsoft365.users'] });
  expect(summary.exit_code).toBe(2);
  expect(JSON.stringify(summary.problems)).toContain('MICROSOFT365_LICENSES');
  expect(received).toEqual([]);
});

test('users come without names of licences where those may not be read, and that is said', async () => {
  const running = await start({ faults: [{ name: '403', resource: 'subscribed_skus' }] });
  const { summary, folder, said } = await collectOnce({ env: running.env, only: ['microsoft365.users'] });
  expect(summary.exit_code).toBe(0);
  expect(stripped(await storedLines(folder, 'microsoft365_users'))).toEqual(running.truth('users').sort());
  expect(said.join('\n')).toContain('keep their ids');
});

test('a tenant that cannot count its users is read all the same', async () => {
  const { env, received } = await tenant(({ url }, response) => {
    if (url.pathname === '/v1.0/subscribedSkus') return json(response, { value: [] });
    if (!url.searchParams.has('$count')) return json(response, { value: [{ id: 'u', assignedLicenses: [] }] });
    return json(response, { error: { code: 'Request_UnsupportedQuery', message: 'no' } }, 400);
  });
  const { summary } = await collectOnce({ env, only: ['microsoft365.users'] });
  expect(resultOf(summary, 'microsoft365_users')).toMatchObject({ verdict: 'complete', records: 1 });
  expect(received.at(-1)?.headers.consistencylevel).toBeUndefined();
});

test('fewer users than declared are incomplete', async () => {
  const { env } = await tenant(({ url }, response) => {
    if (url.pathname === '/v1.0/subscribedSkus') return json(response, { value: [] });
    return json(response, { '@odata.count': 2, value: [{ id: 'u' }] });
  });
  const { summary } = await collectOnce({ env, only: ['microsoft365.users'] });
  expect(resultOf(summary, 'microsoft365_users')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
});

test('apps keep the chosen fields of their device, and no bypass code is stored', async () => {
  const { env, received } = await tenant((request, response) => {
    if (request.method === 'GET') {
      const device = { id: 'd', model: 'M', activationLockBypassCode: 'ABCD-1234', osVersion: '1' };
      return json(response, { value: [device] });
    }
    const body = { value: [{ id: 'a' }, { id: 'b' }] };
    return json(response, { responses: [{ id: '0', status: 200, headers: {}, body }] });
  });
  const fields = 'model;activationLockBypassCode';
  const { folder } = await collectOnce({
    env: { ...env, MICROSOFT365_DEVICE_FIELDS: fields },
    only: ['microsoft365.managed_devices', 'microsoft365.device_apps'],
  });
  expect(received[1]?.url.searchParams.get('$select')).toBe('id,model,activationLockBypassCode');
  expect(await storedLines(folder, 'microsoft365_device_apps')).toEqual([
    '{"id":"a","_device":{"id":"d","model":"M"}}',
    '{"id":"b","_device":{"id":"d","model":"M"}}',
  ]);
  expect((await storedLines(folder, 'microsoft365_managed_devices'))?.join()).not.toContain('ABCD');
});

test('twenty devices go into a call, and no more are open at a time than told', async () => {
  const devices = Array.from({ length: 45 }, (_, index) => ({ id: `d${index}` }));
  const { env, received } = await tenant((request, response) => {
    if (request.method === 'GET') return json(response, { value: devices });
    const responses = requestsOf(request).map(({ id }) => ({ id, status: 200, body: { value: [{ id: 'a' }] } }));
    return json(response, { responses });
  });
  const { summary } = await collectOnce({
    env: { ...env, MICROSOFT365_URL_SLICING: '30' },
    only: ['microsoft365.device_apps'],
  });
  expect(resultOf(summary, 'microsoft365_device_apps').records).toBe(45);
  const batches = received.filter(({ url }) => url.pathname === '/beta/$batch').map(requestsOf);
  expect(batches.map(({ length }) => length).sort()).toEqual([10, 15, 20]);
});

test('only parts that are throttled are asked for again, not before their own Retry-After', async () => {
  const devices = ['d0', 'd1', 'd2'].map((id) => ({ id }));
  const times: number[] = [];
  const { env, received } = await tenant((request, response, nth) => {
    if (request.method === 'GET') return json(response, { value: devices });
    times.push(performance.now());
    const responses = requestsOf(request).map(({ id, url }) =>
      idIn(url) === 'd1' && nth < 4
        ? { id, status: 429, headers: { 'retry-after': '1' }, body: { error: { code: 'TooManyRequests' } } }
        : { id, status: 200, body: { value: [{ id: `app of ${idIn(url)}` }] } },
    );
    return json(response, { responses });
  });
  const { summary } = await collectOnce({ env, only: ['microsoft365.device_apps'] });
  expect(resultOf(summary, 'microsoft365_device_apps')).toMatchObject({ verdict: 'complete', records: 3 });
  const batches = received.filter(({ url }) => url.pathname === '/beta/$batch').map(requestsOf);
  expect(batches.map((batch) => batch.map(({ url }) => idIn(url)))).toEqual([['d0', 'd1', 'd2'], ['d1']]);
  expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(995);
});

test('many throttled parts and parts with several pages come whole', async () => {
  const running = await start({ settings: { parts: 'throttled' } });
  const { summary, folder } = await collectOnce({ env: running.env, only: ['microsoft365.device_apps'] });
  expect(summary.exit_code).toBe(0);
  expect(stripped(await storedLines(folder, 'microsoft365_device_apps'))).toEqual(running.truth('device_apps').sort());
});

/** What becomes of the apps when the second of two devices is answered like this. */
async function partAnswered(part: object | undefined, again?: object) {
  let calls = 0;
  const { env, received, origin } = await tenant((request, response) => {
    if (request.method === 'GET') return json(response, { value: [{ id: 'd0' }, { id: 'd1' }] });
    calls += 1;
    const answer = calls > 1 && again !== undefined ? again : part;
    const responses = requestsOf(request).flatMap(({ id, url }) => {
      if (idIn(url) === 'd0') return { id, status: 200, body: { value: [{ id: 'a' }] } };
      return answer === undefined ? [] : { id, ...answer };
    });
    return json(response, { responses });
  });
  const { summary } = await collectOnce({ env, only: ['microsoft365.device_apps'], deadline: 20 });
  return { result: resultOf(summary, 'microsoft365_device_apps'), received, origin, summary };
}

const good = { status: 200, body: { value: [{ id: 'b' }] } };

test('a device that is gone has no apps', async () => {
  const { result } = await partAnswered({ status: 404, body: { error: { code: 'ResourceNotFound' } } });
  expect(result).toMatchObject({ verdict: 'complete', records: 1 });
});

test.each([
  ['a 403', { status: 403, body: { error: { code: 'Forbidden' } } }, 'denied'],
  ['a 400', { status: 400, body: { error: { code: 'BadRequest' } } }, 'failed'],
  ['no list', { status: 200, body: { error: { code: 'UnknownError' } } }, 'failed'],
  ['no body', { status: 200 }, 'failed'],
  ['a permission’s 401', { status: 401, body: { error: { message: '{"ErrorCode":"Forbidden"}' } } }, 'denied'],
  ['a lasting 401', { status: 401, body: { error: { code: 'InvalidAuthenticationToken' } } }, 'failed'],
])('a part with %s fails them all', async (_, part, verdict) => {
  expect((await partAnswered(part)).result.verdict).toBe(verdict);
});

test.each([
  ['a 503', { status: 503, headers: { 'Retry-After': '1' }, body: {} }],
  ['no answer', undefined],
])('a part with %s is asked for once more', async (_, part) => {
  const { result } = await partAnswered(part, good);
  expect(result).toMatchObject({ verdict: 'complete', records: 2 });
});

test('a part whose token is over is asked for with a new one', async () => {
  const { result, received } = await partAnswered({ status: 401, body: { error: { code: 'TokenExpired' } } }, good);
  expect(result).toMatchObject({ verdict: 'complete', records: 2 });
  const shown = received.filter(({ method, url }) => method === 'POST' && url.pathname === '/beta/$batch');
  expect(new Set(shown.map(({ headers }) => headers.authorization)).size).toBe(2);
});

test('a part’s next link to another host is refused, one that never moves on is found out', async () => {
  const foreign = { 'https://attacker.invalid/beta/x': 'Refused for safety' };
  for (const [next, title] of Object.entries(foreign)) {
    const { result } = await partAnswered({ status: 200, body: { '@odata.nextLink': next, value: [{ id: 'b' }] } });
    expect(result).toMatchObject({ verdict: 'failed', title });
  }
  const { origin, env } = await tenant((request, response) => {
    if (request.method === 'GET') return json(response, { value: [{ id: 'd' }] });
    const body = { '@odata.nextLink': `${origin.origin}/beta/same`, value: [{ id: 'b' }] };
    return json(response, { responses: requestsOf(request).map(({ id }) => ({ id, status: 200, body })) });
  });
  const { summary } = await collectOnce({ env, only: ['microsoft365.device_apps'] });
  expect(resultOf(summary, 'microsoft365_device_apps')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
});

test.each([
  ['no licence for Intune', 400, 'Request not applicable to target tenant.', 'Not licensed'],
  ['no permission for Intune', 401, '{"ErrorCode":"Forbidden"}', 'Permission denied'],
])('%s is told as that, and the other resources come', async (_, status, message, title) => {
  const { env } = await tenant(({ url }, response) => {
    if (url.pathname === '/v1.0/subscribedSkus') return json(response, { value: [{ skuId: 's' }] });
    return json(response, { error: { code: 'BadRequest', message } }, status);
  });
  const only = ['microsoft365.managed_devices', 'microsoft365.subscribed_skus'];
  const { summary } = await collectOnce({ env, only });
  expect(resultOf(summary, 'microsoft365_managed_devices')).toMatchObject({ verdict: 'denied', title });
  expect(resultOf(summary, 'microsoft365_subscribed_skus').verdict).toBe('complete');
});

test('an empty tenant is empty', async () => {
  const { env } = await tenant((_, response) => json(response, { '@odata.count': 0, value: [] }));
  const { summary } = await collectOnce({ env, only: ['microsoft365'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets.map(({ verdict }) => verdict)).toEqual(['empty', 'empty', 'empty', 'empty']);
});

test('an answer that does not begin in the time set is given up', async () => {
  const { env, received } = await tenant(({ url }, response) => {
    const asked = received.filter((one) => one.url.pathname === url.pathname).length;
    if (asked > 1) json(response, { value: [] });
  });
  const { summary } = await collectOnce({
    env: { ...env, MICROSOFT365_TIMEOUT: '1' },
    only: ['microsoft365.subscribed_skus'],
  });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets[0]?.retries).toBe(1);
});

test('requests begin no closer together than told', async () => {
  const times: number[] = [];
  const devices = Array.from({ length: 45 }, (_, index) => ({ id: `d${index}` }));
  const { env } = await tenant((request, response) => {
    times.push(performance.now());
    if (request.method === 'GET') return json(response, { value: devices });
    const responses = requestsOf(request).map(({ id }) => ({ id, status: 200, body: { value: [{ id: 'a' }] } }));
    return json(response, { responses });
  });
  const settings = { ...env, MICROSOFT365_SLEEP: '0.15' };
  const { summary } = await collectOnce({ env: settings, only: ['microsoft365.device_apps'] });
  expect(summary.exit_code).toBe(0);
  expect(times).toHaveLength(4);
  for (const [n, time] of times.slice(1).entries()) expect(time - (times[n] ?? 0)).toBeGreaterThan(140);
});
