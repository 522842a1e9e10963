import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_servicenow.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, serve } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor);

const basic = (origin: URL, more: Readonly<Record<string, string>> = {}) => ({
  SERVICENOW_INSTANCE: origin.href,
  SERVICENOW_USERNAME: 'u',
  SERVICENOW_PASSWORD: 'p',
  SERVICENOW_AUTH_TYPE: 'basic',
  ...more,
});

test('every table comes whole and byte for byte, further ones with their table’s name behind', async () => {
  const running = await start({ tokenLife: 5 });
  const { summary, folder } = await collectOnce({ env: running.env, only: ['servicenow'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(4);
  for (const { resource, expected } of summary.datasets) {
    const lines = (await storedLines(folder, `servicenow_${resource}`)) ?? [];
    const plain = lines.map((line) => line.replace(/,"_table":"\w+"}$/, '}'));
    expect(plain).toEqual(running.truth(resource));
    expect(expected).toBe(60);
  }
});

test('rows that access rules hide make short pages, not an end; what is missing of the total is told', async () => {
  const { origin, received } = await serve(({ url }, response) => {
    const start = Number(url.searchParams.get('sysparm_offset'));
    const shown = start === 2 ? [] : [{ sys_id: `a${start}` }, { sys_id: `b${start}` }];
    json(response, { result: shown }, 200, { 'x-total-count': '6' });
  });
  const env = basic(origin, { SERVICENOW_PAGE_SIZE: '2', SERVICENOW_QUERY: 'active=true' });
  const { summary } = await collectOnce({ env, only: ['servicenow.cmdb_ci'] });
  expect(resultOf(summary, 'servicenow_cmdb_ci')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
  expect(received.map(({ url }) => url.searchParams.get('sysparm_offset')).slice(0, 3)).toEqual(['0', '2', '4']);
  const [first] = received;
  expect(first?.url.searchParams.get('sysparm_query')).toBe('active=true^ORDERBYsys_id');
  expect(first?.headers.authorization).toBe(`Basic ${Buffer.from('u:p').toString('base64')}`);
});

test('a next link to another host is refused', async () => {
  const { origin } = await serve((_, response) =>
    json(response, { result: [{ sys_id: 'a' }] }, 200, { link: '<https://attacker.invalid/x>;rel="next"' }),
  );
  const { summary } = await collectOnce({ env: basic(origin), only: ['servicenow.cmdb_ci'] });
  expect(resultOf(summary, 'servicenow_cmdb_ci')).toMatchObject({ verdict: 'failed', title: 'Refused for safety' });
});

test('a transaction that was cancelled behind its first records is asked for again', async () => {
  const { origin, received } = await serve((_, response, nth) => {
    const error = { message: 'Transaction cancelled: maximum execution time exceeded', detail: '' };
    if (nth === 1) return json(response, { result: [{ sys_id: 'a' }], error, status: 'failure' });
    return json(response, { result: [{ sys_id: 'a' }, { sys_id: 'b' }] }, 200, { 'x-total-count': '2' });
  });
  const { summary, folder } = await collectOnce({ env: basic(origin), only: ['servicenow.cmdb_ci'] });
  expect(summary.exit_code).toBe(0);
  expect(received.length).toBeGreaterThan(1);
  expect(await storedLines(folder, 'servicenow_cmdb_ci')).toHaveLength(2);
});

test('a table that is refused does not stop the others', async () => {
  const running = await start({ faults: [{ name: '403', resource: 'cmdb_rel_ci', times: 'always' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['servicenow'] });
  expect(resultOf(summary, 'servicenow_cmdb_rel_ci').verdict).toBe('denied');
  expect(resultOf(summary, 'servicenow_cmdb_ci').verdict).toBe('complete');
});

test('an old release says 404 of an empty table; of an unknown one it is an error', async () => {
  const { origin } = await serve(({ url }, response) => {
    const message = url.pathname.endsWith('_ci') ? 'No Record found' : 'Invalid table';
    json(response, { error: { message, detail: 'Records' }, status: 'failure' }, 404);
  });
  const only = ['servicenow.cmdb_ci', 'servicenow.cmdb_ci_service'];
  const { summary } = await collectOnce({ env: basic(origin), only });
  expect(resultOf(summary, 'servicenow_cmdb_ci').verdict).toBe('empty');
  expect(resultOf(summary, 'servicenow_cmdb_ci_service').verdict).toBe('failed');
});

test('columns named like credentials are not stored', async () => {
  const { origin } = await serve((_, response) =>
    json(response, { result: [{ sys_id: 'a', u_root_password: 'hunter2', user_password: 'x' }] }, 200, {
      'x-total-count': '1',
    }),
  );
  const env = basic(origin, { SERVICENOW_TABLES: 'u_accounts' });
  const { folder } = await collectOnce({ env, only: ['servicenow.records'] });
  expect(await storedLines(folder, 'servicenow_records')).toEqual(['{"sys_id":"a","_table":"u_accounts"}']);
});

test('OAuth without a client says what to set', async () => {
  const { origin, received } = await serve((_, response) => json(response, { result: [] }));
  const { SERVICENOW_AUTH_TYPE: _, ...env } = basic(origin);
  const { summary } = await collectOnce({ env, only: ['servicenow.cmdb_ci'] });
  expect(summary.exit_code).toBe(2);
  expect(JSON.stringify(summary)).toContain('SERVICENOW_AUTH_TYPE=basic');
  expect(received).toEqual([]);
});
