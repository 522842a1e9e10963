import { expect, test } from 'vitest';
import { audienceOf } from '../../src/collectors/_wiz.ts';
import { graphqlOf, type Paging, type Request } from '../../src/simulator/paging.ts';
import vendor from '../../src/simulator/vendor_wiz.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const RESOURCES = ['cloud_security_issues', 'inventory', 'vulnerabilities'];

const start = starter(vendor);

/** The vendor with a say in how the lists are answered. */
function answering(instead: (request: Request, usual: ReturnType<Paging['answer']>) => ReturnType<Paging['answer']>) {
  const routes = vendor.routes.map((route) =>
    route.resource === 'token'
      ? route
      : {
          ...route,
          paging: {
            ...route.paging,
            answer: (ask: Parameters<Paging['answer']>[0]) => instead(ask.request, route.paging.answer(ask)),
          },
        },
  );
  return { ...vendor, routes };
}

function errors(code: string, more: object = {}, data: object | null = null): string {
  return JSON.stringify({ errors: [{ message: 'oops', extensions: { code, ...more } }], data });
}

test('every list comes whole and byte for byte, cursor by cursor, held against its total', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['wiz'] });
  expect(summary.exit_code).toBe(0);
  for (const resource of RESOURCES) {
    expect(await storedLines(folder, `wiz_${resource}`)).toEqual(running.truth(resource));
    expect(resultOf(summary, `wiz_${resource}`)).toMatchObject({ expected: 60, pages: 3 });
  }
});

test('a tenant without anything is empty', async () => {
  const running = await start({ scale: 0 });
  const { summary } = await collectOnce({ env: running.env, only: ['wiz'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets.map(({ verdict }) => verdict)).toEqual(['empty', 'empty', 'empty']);
});

test('filter and page size go with every page', async () => {
  const asked: object[] = [];
  const running = await start(
    {},
    answering((request, usual) => {
      asked.push(graphqlOf(request).variables);
      return usual;
    }),
  );
  const env = {
    ...running.env,
    WIZ_PAGE_SIZE: '30',
    WIZ_FILTER: '{"status":["OPEN"]}',
    WIZ_FILTER_VULNERABILITIES: '{"severity":["CRITICAL"]}',
  };
  await collectOnce({ env, only: ['wiz.vulnerabilities'] });
  const filterBy = { severity: ['CRITICAL'] };
  const after = expect.any(String);
  expect(asked).toEqual([
    { first: 30, filterBy },
    { first: 30, filterBy, after },
    { first: 30, filterBy, after },
  ]);
  asked.length = 0;
  await collectOnce({ env, only: ['wiz.inventory'] });
  expect(asked[0]).toEqual({ first: 30, filterBy: { status: ['OPEN'] } });
});

test('a filter that is no JSON object is told before anything is sent', async () => {
  const running = await start();
  const env = { ...running.env, WIZ_FILTER_INVENTORY: '["OPEN"]' };
  const { summary } = await collectOnce({ env, only: ['wiz'] });
  expect(summary.exit_code).toBe(2);
  expect(JSON.stringify(summary.problems)).toContain('WIZ_FILTER_INVENTORY is no JSON object');
  expect(running.requests).toEqual([]);
});

test('a limit told in a 200 is waited for as long as it says', async () => {
  let said = 0;
  const running = await start(
    {},
    answering((_, usual) => {
      said += 1;
      return said === 2 ? { status: 200, body: errors('RATE_LIMIT_EXCEEDED', { retryAfter: 1.5 }) } : usual;
    }),
  );
  const { summary } = await collectOnce({ env: running.env, only: ['wiz.inventory'] });
  expect(resultOf(summary, 'wiz_inventory')).toMatchObject({ verdict: 'complete', records: 60, retries: 1 });
  expect(resultOf(summary, 'wiz_inventory').waited_ms).toBeGreaterThanOrEqual(1490);
});

test('data beside errors is not taken for the whole', async () => {
  const partial = {
    issues: { nodes: [{ id: 'a' }], pageInfo: { hasNextPage: false, endCursor: null }, totalCount: 1 },
  };
  const running = await start(
    {},
    answering(() => ({ status: 200, body: errors('SOME_CODE', {}, partial) })),
  );
  const { summary, folder } = await collectOnce({ env: running.env, only: ['wiz.cloud_security_issues'] });
  expect(summary.exit_code).toBe(3);
  expect(await storedLines(folder, 'wiz_cloud_security_issues')).toBeUndefined();
});

test('a scope that is missing denies its list alone, and is named', async () => {
  const running = await start(
    {},
    answering((request, usual) =>
      graphqlOf(request).query.includes('cloudResources') ? { status: 200, body: errors('UNAUTHORIZED') } : usual,
    ),
  );
  const { summary } = await collectOnce({ env: running.env, only: ['wiz'] });
  expect(resultOf(summary, 'wiz_inventory')).toMatchObject({ verdict: 'denied', title: 'Permission denied' });
  expect(resultOf(summary, 'wiz_inventory').mend).toContain('read:resources');
  expect(resultOf(summary, 'wiz_vulnerabilities').verdict).toBe('complete');
  expect(summary.exit_code).toBe(3);
});

test('a token that is refused in a 200 is renewed once', async () => {
  let said = 0;
  const running = await start(
    {},
    answering((_, usual) => {
      said += 1;
      return said === 2 ? { status: 200, body: errors('UNAUTHENTICATED') } : usual;
    }),
  );
  const { summary } = await collectOnce({ env: running.env, only: ['wiz.inventory'] });
  expect(summary.exit_code).toBe(0);
  expect(running.requests.filter(({ path }) => path === '/oauth/token')).toHaveLength(2);
});

test('an error inside Wiz passes', async () => {
  let said = 0;
  const running = await start(
    {},
    answering((_, usual) => {
      said += 1;
      return said === 1 ? { status: 200, body: errors('INTERNAL') } : usual;
    }),
  );
  const { summary } = await collectOnce({ env: running.env, only: ['wiz.vulnerabilities'] });
  expect(resultOf(summary, 'wiz_vulnerabilities')).toMatchObject({ verdict: 'complete', records: 60 });
});

test('more is promised without a cursor: the list is not whole', async () => {
  const body =
    '{"data":{"cloudResources":{"nodes":[],"pageInfo":{"hasNextPage":true,"endCursor":null},"totalCount":0}}}';
  const running = await start(
    {},
    answering(() => ({ status: 200, body })),
  );
  const { summary } = await collectOnce({ env: running.env, only: ['wiz.inventory'] });
  expect(resultOf(summary, 'wiz_inventory').verdict).toBe('failed');
});

test('properties that are named as secrets are not stored', async () => {
  const properties = {
    apiKey: 'canary-a',
    DB_PASSWORD: 'canary-b',
    region: 'eu',
    environment: { GITHUB_TOKEN: 'canary-c', clientSecret: 'canary-d', LOG_LEVEL: 'info' },
  };
  const record = JSON.stringify({ id: 'r', graphEntity: { id: 'g', properties } });
  const routes = vendor.routes.map((route) =>
    route.resource === 'inventory' ? { ...route, records: () => ({ count: 1, at: () => record }) } : route,
  );
  const running = await start({}, { ...vendor, routes });
  const { folder } = await collectOnce({ env: running.env, only: ['wiz.inventory'] });
  expect(await storedLines(folder, 'wiz_inventory')).toEqual([
    '{"id":"r","graphEntity":{"id":"g","properties":{"region":"eu","environment":{"LOG_LEVEL":"info"}}}}',
  ]);
});

test('the audience belongs to the token URL, unless it is set', async () => {
  const audiences = ['auth.app', 'auth.gov', 'auth', 'auth0.gov'].map((host) =>
    audienceOf(new URL(`https://${host}.wiz.io/oauth/token`)),
  );
  expect(audiences).toEqual(['wiz-api', 'wiz-api', 'beyond-api', 'beyond-api']);
  const running = await start({ settings: { audience: 'beyond-api' } });
  const refused = await collectOnce({ env: running.env, only: ['wiz.inventory'] });
  expect(refused.summary.exit_code).toBe(4);
  const { summary } = await collectOnce({
    env: { ...running.env, WIZ_AUDIENCE: 'beyond-api' },
    only: ['wiz.inventory'],
  });
  expect(summary.exit_code).toBe(0);
});
