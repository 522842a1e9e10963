import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_defender_for_cloud.ts';
import { tenantOf } from '../support/entra.ts';
import { collectOnce, interruptedRun, resultOf, storedLines } from '../support/run.ts';
import { json, type Route } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 90, pageSize: 40 });

/** Subscriptions `one` and `two` of one's own. */
async function tenant(route: Route) {
  const { env, ...rest } = await tenantOf('DEFENDER_FOR_CLOUD', route);
  return { ...rest, env: { ...env, DEFENDER_FOR_CLOUD_SUBSCRIPTION_ID: 'one,two' } };
}

const only = (resource: string) => ({ only: [`defender_for_cloud.${resource}`] });
const stored = (folder: string, resource: string) => storedLines(folder, `defender_for_cloud_${resource}`);
const fails = (code: string, message: string) => ({ error: { code, message } });

/** The records without what was added behind. */
function stripped(lines: readonly string[] | undefined): string[] {
  return (lines ?? []).map((line) => line.replace(/,"_metadata":.*$/s, '}')).sort();
}

test('every resource of every subscription comes whole and byte for byte', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['defender_for_cloud'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(6);
  for (const { resource, records } of summary.datasets) {
    expect(records).toBe(90 + 23);
    expect(stripped(await stored(folder, resource))).toEqual(running.truth(resource).sort());
  }
});

test('assessments that the list brings bare get their metadata, the others stay as they are', async () => {
  const running = await start();
  const { folder } = await collectOnce({ env: running.env, ...only('assessments') });
  const records = (await stored(folder, 'assessments'))?.map((line) => JSON.parse(line)) ?? [];
  expect(records.filter(({ _metadata }) => _metadata !== undefined)).toHaveLength(30 + 8);
  for (const { properties, _metadata } of records) {
    expect((properties.metadata === undefined) !== (_metadata === undefined)).toBe(true);
    expect((properties.metadata ?? _metadata).severity).toMatch(/^(Low|Medium|High)$/);
  }
});

test('the list of metadata is not asked for where it is not needed', async () => {
  const { env, received } = await tenant(({ url }, response) =>
    json(response, { value: [{ id: url.pathname, name: 'a', properties: { metadata: { severity: 'Low' } } }] }),
  );
  const { summary } = await collectOnce({ env, ...only('assessments') });
  expect(resultOf(summary, 'defender_for_cloud_assessments').records).toBe(2);
  expect(received).toHaveLength(3);
});

test('bare assessments on a later page take nothing twice', async () => {
  const { env, origin, received } = await tenant(({ url }, response) => {
    if (url.pathname.endsWith('assessmentMetadata'))
      return json(response, { value: [{ name: 'b', properties: { x: 1 } }] });
    const first = !url.searchParams.has('$skipToken');
    const on = new URL(`${url.pathname}?api-version=2021-06-01&$skipToken=2`, origin).href;
    if (first)
      return json(response, { value: [{ id: `${url.pathname}/1`, properties: { metadata: {} } }], nextLink: on });
    return json(response, { value: [{ id: `${url.pathname}/2`, name: 'b', properties: {} }], nextLink: '' });
  });
  const { summary, folder } = await collectOnce({ env, ...only('assessments') });
  expect(summary.exit_code).toBe(0);
  const lines = (await stored(folder, 'assessments')) ?? [];
  expect(lines).toHaveLength(4);
  expect(lines.filter((line) => line.endsWith(',"_metadata":{"x":1}}'))).toHaveLength(2);
  expect(
    received.filter(({ url }) => url.pathname.endsWith('/one/providers/Microsoft.Security/assessments')),
  ).toHaveLength(3);
});

test('assessments come without metadata where there is no list of it, and that is said', async () => {
  const { env } = await tenant(({ url }, response) => {
    if (url.pathname.endsWith('assessmentMetadata')) return json(response, fails('NotFound', 'no'), 404);
    return json(response, { value: [{ id: url.pathname, name: 'b', properties: {} }] });
  });
  const { summary, said } = await collectOnce({ env, ...only('assessments') });
  expect(summary.exit_code).toBe(0);
  expect(said.join('\n')).toContain('without metadata');
});

test('secrets of partners are dropped, in the metadata too', async () => {
  const { env } = await tenant(({ url }, response) => {
    const partnerData = { partnerName: 'p', secret: 'canary-partner' };
    if (url.pathname.endsWith('assessmentMetadata'))
      return json(response, { value: [{ name: 'b', properties: { partnerData } }] });
    const whole = {
      id: `${url.pathname}/1`,
      name: 'a',
      properties: { metadata: { partnerData }, partnersData: partnerData },
    };
    return json(response, { value: [whole, { id: `${url.pathname}/2`, name: 'b', properties: {} }] });
  });
  const { folder } = await collectOnce({ env, ...only('assessments') });
  const text = (await stored(folder, 'assessments'))?.join('\n') ?? '';
  expect(text).toContain('"_metadata":{"partnerData":{"partnerName":"p"}}');
  expect(text).not.toContain('canary');
});

const FREE = fails('Subscription with no standard pricing bundle', 'it has no standard pricing bundle');

test('a subscription without a paid plan has no standards while another has', async () => {
  const { env } = await tenant(({ url }, response) => {
    if (url.pathname.includes('/one/')) return json(response, FREE, 400);
    return json(response, { value: [{ id: 'standard' }] });
  });
  const { summary, said } = await collectOnce({ env, ...only('regulatory_compliance_standards') });
  const tag = 'defender_for_cloud_regulatory_compliance_standards';
  expect(resultOf(summary, tag)).toMatchObject({ verdict: 'complete', records: 1 });
  expect(said.join('\n')).toContain('subscription one has none of it');
});

test('where no subscription has a paid plan, that is told', async () => {
  const { env } = await tenant((_, response) => json(response, FREE, 400));
  const { summary } = await collectOnce({ env, ...only('regulatory_compliance_standards') });
  expect(summary.exit_code).toBe(3);
  expect(summary.datasets[0]).toMatchObject({ verdict: 'denied', title: 'Not licensed' });
});

test.each([
  ['one that is not there', 404, 'SubscriptionNotFound'],
  ['one without a role', 403, 'AuthorizationFailed'],
])('of two subscriptions, %s leaves nothing half done', async (_name, status, code) => {
  const { env } = await tenant(({ url }, response) => {
    if (url.pathname.includes('/two/')) return json(response, fails(code, 'no'), status);
    return json(response, { value: [{ id: 'score' }] });
  });
  const { summary, folder } = await collectOnce({ env, ...only('secure_scores') });
  expect(summary.exit_code).toBe(3);
  expect(summary.datasets[0]).toMatchObject({ verdict: 'denied' });
  expect(await stored(folder, 'secure_scores')).toBeUndefined();
});

test('subscriptions without alerts are an empty list', async () => {
  const { env } = await tenant((_, response) => json(response, { value: [] }));
  const { summary } = await collectOnce({ env, ...only('alerts') });
  expect(resultOf(summary, 'defender_for_cloud_alerts')).toMatchObject({ verdict: 'empty', records: 0 });
  expect(summary.exit_code).toBe(0);
});

test('when the bucket of reads is empty, the next read waits for it', async () => {
  const running = await start({ limit: { requests: 3, seconds: 1 }, pageSize: 20 });
  const { summary } = await collectOnce({ env: running.env, ...only('alerts') });
  expect(resultOf(summary, 'defender_for_cloud_alerts')).toMatchObject({ verdict: 'complete', records: 113 });
});

test.each(['', ' , ', 'https://portal.azure.com'])('subscriptions written as "%s" are none', async (value) => {
  const running = await start();
  const env = { ...running.env, DEFENDER_FOR_CLOUD_SUBSCRIPTION_ID: value };
  const { summary } = await collectOnce({ env, ...only('alerts') });
  expect(summary.exit_code).toBe(2);
});

test('standards that end in the middle are not taken for a missing plan', async () => {
  const { env, origin } = await tenant(({ url }, response) => {
    if (url.searchParams.has('$skipToken')) return json(response, fails('NotFound', 'no'), 404);
    const nextLink = new URL(`${url.pathname}?$skipToken=2`, origin).href;
    return json(response, { value: [{ id: `${url.pathname}/1` }], nextLink });
  });
  const { summary, folder } = await collectOnce({ env, ...only('regulatory_compliance_standards') });
  expect(summary.exit_code).toBe(3);
  expect(await stored(folder, 'regulatory_compliance_standards')).toBeUndefined();
});

test.each([
  ['sub_assessments', 'ab50', 4],
  ['sub_assessments', 'ab51', 2],
  ['assessments', 'ab50', 5],
  ['assessments', 'ab51', 2],
])('%s of which a run was interrupted in a subscription (%s) go on there', async (resource, subscription, pages) => {
  const running = await start({ pageSize: 10, latencyMs: 30 });
  const list = new RegExp(`${subscription}/.*/(sub)?assessments\\?`, 'i');
  const asked = () => running.requests.filter(({ path }) => list.test(path)).length;
  const { folder } = await interruptedRun({ env: running.env, ...only(resource) }, () => asked() >= pages);
  const { summary } = await collectOnce({ env: running.env, ...only(resource), folder });
  expect(summary.datasets).toMatchObject([{ verdict: 'complete', resumed: true }]);
  expect(stripped(await stored(folder, resource))).toEqual(running.truth(resource).sort());
});
