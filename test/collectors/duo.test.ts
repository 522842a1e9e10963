import { expect, test } from 'vitest';
import { signed } from '../../src/collectors/_duo.ts';
import vendor from '../../src/simulator/vendor_duo.ts';
import { collectOnce, resultOf, storedEvents, storedLines } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor);

const RESOURCES = ['users', 'groups', 'phones', 'endpoints', 'admins', 'integrations', 'authentications'];

test.each(['2', '5'])('every resource comes whole and byte for byte, with signature version %s', async (version) => {
  const running = await start();
  const { summary, folder } = await collectOnce({
    env: { ...running.env, DUO_SIG_VERSION: version },
    only: RESOURCES.slice(0, -1).map((name) => `duo.${name}`),
  });
  expect(summary.exit_code).toBe(0);
  for (const resource of RESOURCES.slice(0, -1)) {
    expect(await storedLines(folder, `duo_${resource}`)).toEqual(running.truth(resource));
  }
});

test('the signature is that of the vendor’s own client', async () => {
  const keys = { integration: 'DITESTTESTTESTTEST00', secret: 'abcdefghijklmnopqrstuvwxyz0123456789ABCD' };
  const url = new URL('https://api-00000000.duosecurity.com/admin/v1/users?offset=0&limit=300');
  const now = () => Date.UTC(2012, 7, 21, 17, 29, 18);
  const sign = async (version: '2' | '5') => {
    const auth = signed({ ...keys, version }, now);
    const sent = await auth.headers({ method: 'GET', url, body: undefined }, () => Promise.reject(new Error('asked')));
    expect(sent.date).toBe('Tue, 21 Aug 2012 17:29:18 -0000');
    return Buffer.from(String(sent.authorization).slice(6), 'base64').toString().split(':')[1];
  };
  expect(await sign('2')).toBe('9011b709a63512da9678052c461bfd82aa70a719');
  expect(await sign('5')).toMatch(/^97a09eb43cf9232c6cca2e6f[0-9a-f]+2b992ebd71c3d19ef$/);
});

test('authentications go on where the last run ended', async () => {
  const running = await start();
  const choice = { env: running.env, only: ['duo.authentications'] };
  const first = await collectOnce(choice);
  expect(first.summary.exit_code).toBe(0);
  expect(await storedEvents(first.folder, 'duo_authentications')).toEqual(running.truth('authentications'));
  const second = await collectOnce({ ...choice, folder: first.folder });
  expect(resultOf(second.summary, 'duo_authentications').records).toBe(0);
  const again = await collectOnce({ ...choice, folder: first.folder, full: true });
  expect(resultOf(again.summary, 'duo_authentications').records).toBe(60);
});

test('the log’s offset goes back as two values joined by a comma', async () => {
  const running = await start();
  await collectOnce({ env: running.env, only: ['duo.authentications'] });
  const offsets = running.requests.map(({ path }) =>
    new URL(path, running.origin).searchParams.get('next_offset')?.split(','),
  );
  expect(offsets.map((offset) => offset?.length)).toEqual([undefined, 2, 2]);
});

test('a missing grant denies its own dataset only', async () => {
  const running = await start({ faults: [{ name: '403', resource: 'admins' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['duo.admins', 'duo.groups'] });
  expect(resultOf(summary, 'duo_admins')).toMatchObject({ verdict: 'denied' });
  expect(resultOf(summary, 'duo_groups').verdict).toBe('complete');
});

test('endpoints that the edition does not have are not licensed', async () => {
  const running = await start({ faults: [{ name: '404', resource: 'endpoints', times: 'always' }] });
  const { summary } = await collectOnce({ env: running.env, only: ['duo.endpoints'] });
  expect(resultOf(summary, 'duo_endpoints')).toMatchObject({ verdict: 'denied', title: 'Not licensed' });
});

test('an empty tenant is empty, not failed', async () => {
  const running = await start({ scale: 0 });
  const { summary } = await collectOnce({ env: running.env, only: ['duo.users'] });
  expect(resultOf(summary, 'duo_users').verdict).toBe('empty');
});

test('secret keys of applications are never stored', async () => {
  const listed = vendor.routes.find(({ resource }) => resource === 'integrations');
  if (listed === undefined) throw new Error('no route');
  const leaking = { ...listed, records: () => ({ count: 1, at: () => '{"integration_key":"DI1","secret_key":"s3"}' }) };
  const running = await start({}, { ...vendor, routes: [leaking] });
  const { folder } = await collectOnce({ env: running.env, only: ['duo.integrations'] });
  expect(await storedLines(folder, 'duo_integrations')).toEqual(['{"integration_key":"DI1"}']);
});
