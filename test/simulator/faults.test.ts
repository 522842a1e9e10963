import { afterEach, describe, expect, test } from 'vitest';
import { applies, type Fault, type FaultName, faultNames } from '../../src/simulator/faults.ts';
import { type RunningVendor, startVendor, type VendorOptions } from '../../src/simulator/vendor.ts';
import crowdstrike from '../../src/simulator/vendor_crowdstrike.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { ask, byLinks } from './reader.ts';

const open: RunningVendor[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((vendor) => vendor.close()));
});

async function startOkta(
  options: VendorOptions = {},
): Promise<RunningVendor & { readonly headers: Record<string, string> }> {
  const vendor = await startVendor(okta, options);
  open.push(vendor);
  return { ...vendor, headers: { authorization: `SSWS ${vendor.env.OKTA_TOKEN}` } };
}

async function statuses(fault: Fault, times = 3): Promise<{ got: (number | string)[]; vendor: RunningVendor }> {
  const vendor = await startOkta({ faults: [fault] });
  const got: (number | string)[] = [];
  for (let i = 0; i < times; i += 1) {
    const answer = await ask(vendor, '/api/v1/users', { headers: vendor.headers }).catch(() => 'broken' as const);
    got.push(answer === 'broken' ? answer : answer.status);
  }
  return { got, vendor };
}

describe('faults of any request', () => {
  test.each<[FaultName, (number | string)[]]>([
    ['429', [429, 200, 200]],
    ['429-bare', [429, 200, 200]],
    ['429-forever', [429, 429, 429]],
    ['500', [500, 200, 200]],
    ['503', [503, 200, 200]],
    ['reset', ['broken', 200, 200]],
    ['expired-token', [401, 200, 200]],
    ['401-forever', [401, 401, 401]],
    ['403', [403, 403, 403]],
    ['404', [404, 200, 200]],
    ['redirect-foreign', [302, 200, 200]],
  ])('%s', async (name, expected) => {
    const { got, vendor } = await statuses({ name, resource: 'users' });
    expect(got).toEqual(expected);
    expect(vendor.requests[0]?.fault).toBe(name);
    expect(vendor.count429()).toBe(expected.filter((status) => status === 429).length);
  });

  test('times, resources and paths choose the requests', async () => {
    expect((await statuses({ name: '500', times: 2 }, 4)).got).toEqual([500, 500, 200, 200]);
    expect((await statuses({ name: '500', resource: 'groups', times: 'always' })).got).toEqual([200, 200, 200]);
    expect((await statuses({ name: '500', path: '/api/v1/users', times: 'always' })).got).toEqual([500, 500, 500]);
  });

  test('429 says when to come back, 429-bare does not', async () => {
    const first = async (name: FaultName) => {
      const vendor = await startOkta({ faults: [{ name }] });
      return ask(vendor, '/api/v1/users', { headers: vendor.headers });
    };
    expect((await first('429')).headers.get('retry-after')).toBe('1');
    expect((await first('429-bare')).headers.get('retry-after')).toBeNull();
    expect(JSON.parse((await first('429')).text)).toMatchObject({ errorCode: 'E0000047' });
    expect((await first('redirect-foreign')).headers.get('location')).toBe('http://attacker.invalid/api/v1/users');
    const html = await first('html');
    expect([html.status, html.headers.get('content-type'), html.text]).toEqual([
      200,
      expect.stringContaining('text/html'),
      expect.stringContaining('Sign in'),
    ]);
    expect(JSON.parse((await first('error-200')).text)).toMatchObject({ errorCode: 'E0000009' });
  });

  test('truncated sends half the JSON as if it were whole', async () => {
    const vendor = await startOkta({ faults: [{ name: 'truncated' }] });
    const cut = await ask(vendor, '/api/v1/users', { headers: vendor.headers });
    const whole = await ask(vendor, '/api/v1/users', { headers: vendor.headers });
    expect(Number(cut.headers.get('content-length'))).toBe(Buffer.byteLength(cut.text));
    expect(whole.text.startsWith(cut.text)).toBe(true);
    expect(() => JSON.parse(cut.text)).toThrow();
  });

  test('slow dribbles, and loses nothing', async () => {
    const vendor = await startOkta({ faults: [{ name: 'slow' }] });
    const started = Date.now();
    expect(await byLinks(vendor, '/api/v1/users', vendor.headers)).toEqual(vendor.truth('users'));
    expect(Date.now() - started).toBeGreaterThan(800);
  });

  test('apply everywhere but to the token endpoint, which is asked for by name', () => {
    const [token, scroll] = crowdstrike.routes;
    expect(faultNames.filter((name) => token !== undefined && applies({ name }, token))).toEqual([]);
    expect(token !== undefined && applies({ name: '500', resource: 'token' }, token)).toBe(true);
    expect(scroll !== undefined && applies({ name: 'foreign-next' }, scroll)).toBe(false);
    expect(scroll !== undefined && applies({ name: 'wrong-total', resource: 'hosts' }, scroll)).toBe(true);
  });
});

async function startCrowdstrike(options: VendorOptions = {}) {
  const vendor = await startVendor(crowdstrike, options);
  open.push(vendor);
  async function token(): Promise<Record<string, string>> {
    const body = new URLSearchParams({
      client_id: vendor.env.FALCON_CLIENT_ID ?? '',
      client_secret: vendor.env.FALCON_SECRET ?? '',
    });
    const answer = await ask(vendor, '/oauth2/token', { method: 'POST', body });
    expect(answer.status).toBe(201);
    return { authorization: `Bearer ${(JSON.parse(answer.text) as { access_token: string }).access_token}` };
  }
  return {
    vendor,
    token,
    groups: async (headers: Record<string, string>) =>
      (await ask(vendor, '/devices/combined/host-groups/v1', { headers })).status,
  };
}

describe('tokens', () => {
  test('live for so many requests', async () => {
    const { token, groups } = await startCrowdstrike({ tokenLife: 2 });
    const first = await token();
    expect([await groups(first), await groups(first), await groups(first), await groups(await token())]).toEqual([
      200, 200, 401, 200,
    ]);
    expect(await groups({})).toBe(401);
  });

  test('that expired once are dead for good', async () => {
    const { token, groups } = await startCrowdstrike({ faults: [{ name: 'expired-token' }] });
    const first = await token();
    expect([await groups(first), await groups(first), await groups(await token())]).toEqual([401, 401, 200]);
  });
});

describe('limits', () => {
  test('are told by headers, and count what they let through', async () => {
    const vendor = await startOkta({ limit: { requests: 3, seconds: 60 } });
    const seen = [];
    for (let i = 0; i < 5; i += 1) seen.push(await ask(vendor, '/api/v1/groups', { headers: vendor.headers }));
    expect(seen.map(({ status }) => status)).toEqual([200, 200, 200, 429, 429]);
    expect(seen.map(({ headers }) => headers.get('x-rate-limit-remaining'))).toEqual(['2', '1', '0', '0', '0']);
    const [first] = seen;
    const wait = Number(first?.headers.get('x-rate-limit-reset')) * 1000 - Date.parse(first?.headers.get('date') ?? '');
    expect(wait).toBeGreaterThanOrEqual(60_000);
    expect(wait).toBeLessThanOrEqual(62_000);
    expect(vendor.count429()).toBe(2);
  });

  test('are whole again when the header says', async () => {
    const vendor = await startOkta({ limit: { requests: 1, seconds: 0 } });
    const once = () => ask(vendor, '/api/v1/groups', { headers: vendor.headers });
    const reset = Number((await once()).headers.get('x-rate-limit-reset')) * 1000;
    while ((await once()).status === 429);
    const early = vendor.requests.slice(1).filter(({ at }) => at < reset);
    expect(early.every(({ status }) => status === 429)).toBe(true);
    expect(vendor.requests.at(-1)?.at).toBeGreaterThanOrEqual(reset);
  });

  test('speak each vendor’s own way', async () => {
    const { vendor, token } = await startCrowdstrike({ limit: { requests: 2, seconds: 30 } });
    const headers = await token();
    await ask(vendor, '/devices/combined/host-groups/v1', { headers });
    const over = await ask(vendor, '/devices/combined/host-groups/v1', { headers });
    expect([over.status, over.headers.get('x-ratelimit-limit'), over.headers.get('x-ratelimit-remaining')]).toEqual([
      429,
      '2',
      '0',
    ]);
    expect(Number(over.headers.get('x-ratelimit-retryafter'))).toBeGreaterThan(Date.now() / 1000);
  });
});
