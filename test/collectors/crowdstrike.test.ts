import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Fault } from '../../src/simulator/faults.ts';
import type { Records, Route } from '../../src/simulator/paging.ts';
import { type RunningVendor, startVendor, type Vendor, type VendorOptions } from '../../src/simulator/vendor.ts';
import vendor from '../../src/simulator/vendor_crowdstrike.ts';
import { collectOnce, type RunResult, resultOf, storedLines, temporaryFolder } from '../support/run.ts';

const DEVICES = '/devices/entities/devices/v2';
const ASSESSMENTS = '/zero-trust-assessment/entities/assessments/v1';
const SCROLL = '/devices/queries/devices-scroll/v1';
const SPOTLIGHT = '/spotlight/combined/vulnerabilities/v1';
const ALL = ['hosts', 'host_groups', 'vulnerabilities', 'zero_trust_assessment'];

async function start(options: VendorOptions = {}, of: Vendor = vendor): Promise<RunningVendor> {
  const running = await startVendor(of, options);
  onTestFinished(() => running.close());
  return running;
}

/** The vendor with one of its routes changed. */
function withRoute(path: string, change: (route: Route) => Partial<Route>): Vendor {
  return {
    ...vendor,
    routes: vendor.routes.map((route) => (route.path === path ? { ...route, ...change(route) } : route)),
  };
}

/** The vendor that answers to some ids (by their place) as if it did not know them, or as if they had no record. */
function without(path: string, indexes: readonly number[], as: 'unknown' | 'silent'): Vendor {
  return withRoute(path, ({ records }) => ({
    records(scale, request): Records | undefined {
      const all = records?.(scale, request);
      const find = (id: string) => {
        const index = all?.find?.(id);
        if (index === undefined || !indexes.includes(index)) return index;
        return as === 'silent' ? -1 : undefined;
      };
      return all === undefined ? undefined : { ...all, find };
    },
  }));
}

function collect(running: RunningVendor, only: readonly string[] = ALL, env = {}, folder?: string): Promise<RunResult> {
  return collectOnce({
    env: { ...running.env, ...env },
    only: only.map((resource) => `crowdstrike.${resource}`),
    ...(folder === undefined ? {} : { folder }),
  });
}

function asked(running: RunningVendor, path: string) {
  return running.requests.filter((seen) => seen.path.startsWith(path));
}

async function expectTruth({ folder }: RunResult, running: RunningVendor, resource: string): Promise<void> {
  expect(await storedLines(folder, `crowdstrike_${resource}`)).toEqual(running.truth(resource));
}

describe('every dataset', () => {
  test('is stored byte for byte, in the order it is listed', async () => {
    const running = await start({ scale: 450, pageSize: 100, gzip: true });
    const result = await collect(running);
    expect(result.summary.exit_code).toBe(0);
    for (const resource of ALL) {
      const truth = running.truth(resource);
      const { verdict, records, expected } = resultOf(result.summary, `crowdstrike_${resource}`);
      expect({ verdict, records, expected }).toEqual({
        verdict: 'complete',
        records: truth.length,
        expected: truth.length,
      });
      await expectTruth(result, running, resource);
    }
    expect(running.unexpected).toEqual([]);
  });

  test('survives tokens that end after a few requests', async () => {
    const running = await start({ scale: 300, pageSize: 25, tokenLife: 20 });
    const result = await collect(running);
    expect(result.summary.exit_code).toBe(0);
    for (const resource of ALL) await expectTruth(result, running, resource);
    expect(asked(running, '/oauth2/token').length).toBeGreaterThan(2);
  });

  test('that is forbidden is denied, and its scope is named', async () => {
    const running = await start({ scale: 20, faults: [{ name: '403', resource: 'vulnerabilities' }] });
    const { summary } = await collect(running, ['vulnerabilities', 'host_groups']);
    expect(resultOf(summary, 'crowdstrike_vulnerabilities')).toMatchObject({
      verdict: 'denied',
      mend: 'give the credentials the permission Vulnerabilities: read',
    });
    expect(resultOf(summary, 'crowdstrike_host_groups').verdict).toBe('complete');
    expect(summary.exit_code).toBe(3);
  });

  test('that answers 200 with errors beside its records is failed', async () => {
    const beside = withRoute(SPOTLIGHT, () => ({
      wrap: (records) =>
        `{"meta":{"pagination":{"total":2,"after":""}},"errors":[{"code":500,"message":"no"}],"resources":${records}}`,
    }));
    const { summary } = await collect(await start({ scale: 2 }, beside), ['vulnerabilities']);
    const { verdict, reason } = resultOf(summary, 'crowdstrike_vulnerabilities');
    expect(verdict).toBe('failed');
    expect(reason).toContain('errors stand beside the records');
  });

  test('that holds nothing is empty, though its list is null', async () => {
    const none = withRoute('/devices/combined/host-groups/v1', () => ({
      wrap: () => '{"meta":{"pagination":{"offset":0,"limit":500,"total":0}},"errors":null,"resources":null}',
    }));
    const { summary } = await collect(await start({}, none), ['host_groups']);
    expect(resultOf(summary, 'crowdstrike_host_groups')).toMatchObject({ verdict: 'empty', records: 0 });
    expect(summary.exit_code).toBe(0);
  });
});

describe('hosts', () => {
  test('are asked for by a thousand ids, before the scroll goes on', async () => {
    const running = await start({ scale: 5200, pageSize: 2500 });
    const result = await collect(running, ['hosts']);
    await expectTruth(result, running, 'hosts');
    const paths = running.requests.map(({ method, path }) => `${method} ${path.split('?')[0]}`);
    expect(paths.filter((path) => path === `POST ${DEVICES}`)).toHaveLength(3 + 3 + 1);
    // The next page of ids is asked for at once; the one behind it waits for the details.
    const third = paths.map((path, n) => (path === `GET ${SCROLL}` ? n : -1)).filter((n) => n >= 0)[2] ?? 0;
    expect(paths.slice(0, third).filter((path) => path === `POST ${DEVICES}`).length).toBeGreaterThanOrEqual(3);
  });

  test.each<[string, Fault, RegExp]>([
    ['declares more than it lists', { name: 'wrong-total', resource: 'hosts', path: SCROLL }, /150 ids came of 157/],
    [
      'loses its place each time',
      { name: 'expired-cursor', resource: 'hosts', path: SCROLL, times: 'always' },
      /50 ids came of 150/,
    ],
    [
      'leaves a page out each time',
      { name: 'dropped-page', resource: 'hosts', path: SCROLL, times: 'always' },
      /100 ids came of 150/,
    ],
  ])('are failed when the scroll %s, and the old copy stands', async (_, fault, reason) => {
    const folder = await temporaryFolder();
    const before = await start({ scale: 150, pageSize: 50 });
    await collect(before, ['hosts'], {}, folder);
    const running = await start({ scale: 150, pageSize: 50, faults: [fault] });
    const result = await collect(running, ['hosts'], {}, folder);
    const dataset = resultOf(result.summary, 'crowdstrike_hosts');
    expect(dataset.verdict).toBe('failed');
    expect(dataset.reason).toMatch(reason);
    expect(result.summary.exit_code).toBe(3);
    await expectTruth(result, before, 'hosts');
  });

  test('are read once more when the scroll loses its place once', async () => {
    const faults: Fault[] = [{ name: 'expired-cursor', resource: 'hosts', path: SCROLL }];
    const running = await start({ scale: 150, pageSize: 50, faults });
    const result = await collect(running, ['hosts']);
    expect(resultOf(result.summary, 'crowdstrike_hosts').verdict).toBe('complete');
    await expectTruth(result, running, 'hosts');
  });

  test('are failed when one comes twice', async () => {
    const twice = withRoute(SCROLL, ({ records }) => ({
      records(scale, request): Records | undefined {
        const all = records?.(scale, request);
        return all === undefined ? undefined : { ...all, at: (index) => all.at(index === 120 ? 20 : index) };
      },
    }));
    const { summary } = await collect(await start({ scale: 150, pageSize: 50 }, twice), ['hosts']);
    expect(resultOf(summary, 'crowdstrike_hosts').reason).toContain('came twice');
  });
});

describe('records asked for by id', () => {
  const cases = [
    ['hosts', DEVICES, 'unknown'],
    ['hosts', DEVICES, 'silent'],
    ['zero_trust_assessment', ASSESSMENTS, 'unknown'],
    ['zero_trust_assessment', ASSESSMENTS, 'silent'],
  ] as const;

  test.each(cases)('%s at %s: few that are gone are left out (%s), and told', async (resource, path, as) => {
    const running = await start({ scale: 450, pageSize: 1000 }, without(path, [7, 130], as));
    const result = await collect(running, [resource]);
    const truth = running.truth(resource).filter((_, index) => index !== 7 && index !== 130);
    expect(await storedLines(result.folder, `crowdstrike_${resource}`)).toEqual(truth);
    expect(result.summary.exit_code).toBe(0);
    expect(result.said.join('\n')).toContain('2 of');
  });

  test.each(cases)('%s at %s: many that are gone make it failed (%s)', async (resource, path, as) => {
    const gone = Array.from({ length: 12 }, (_, n) => n * 9);
    const running = await start({ scale: 450, pageSize: 1000 }, without(path, gone, as));
    const { summary } = await collect(running, [resource]);
    const { verdict, reason } = resultOf(summary, `crowdstrike_${resource}`);
    expect(verdict).toBe('failed');
    expect(reason).toContain('do not come when asked for');
    expect(running.requests.length).toBeLessThan(200);
  });

  test('an error of another kind beside some of them makes it failed', async () => {
    const other = withRoute(ASSESSMENTS, () => ({
      wrap: (records) => `{"meta":{},"errors":[{"code":404},{"code":500,"message":"no"}],"resources":${records}}`,
    }));
    const { summary } = await collect(await start({ scale: 50 }, other), ['zero_trust_assessment']);
    const { verdict, reason } = resultOf(summary, 'crowdstrike_zero_trust_assessment');
    expect(verdict).toBe('failed');
    expect(reason).toContain(`${ASSESSMENTS} was answered with an error (500) beside the records`);
  });

  test('a passing 404 of the whole call is waited out', async () => {
    const faults: Fault[] = [{ name: '404', resource: 'hosts', path: DEVICES }];
    const running = await start({ scale: 60, faults });
    await expectTruth(await collect(running, ['hosts']), running, 'hosts');
  });

  test('assessments come by a hundred ids a call', async () => {
    const running = await start({ scale: 300, pageSize: 1000 });
    await expectTruth(await collect(running, ['zero_trust_assessment']), running, 'zero_trust_assessment');
    const sizes = asked(running, ASSESSMENTS).map(
      ({ path }) => new URL(path, 'http://x').searchParams.getAll('ids').length,
    );
    expect(sizes.sort()).toEqual([100, 100, 40]);
  });
});

describe('vulnerabilities', () => {
  test('are asked for with every parameter on every page', async () => {
    const running = await start({ scale: 450, pageSize: 100 });
    await expectTruth(await collect(running, ['vulnerabilities']), running, 'vulnerabilities');
    const queries = asked(running, SPOTLIGHT).map(({ path }) => new URL(path, 'http://x').searchParams);
    expect(queries).toHaveLength(5);
    for (const query of queries) {
      expect(query.get('filter')).toBe("cve.id:!['']+last_seen_within:'14'");
      expect(query.getAll('facet')).toEqual(['cve', 'host_info', 'remediation']);
      expect(query.get('sort')).toBe('updated_timestamp|asc');
      expect(query.get('limit')).toBe('400');
    }
  });

  test('are those of FALCON_VULN_FILTER', async () => {
    const running = await start({ scale: 10 });
    await collect(running, ['vulnerabilities'], { FALCON_VULN_FILTER: "status:['open']" });
    expect(new URL(asked(running, SPOTLIGHT)[0]?.path ?? '', 'http://x').searchParams.get('filter')).toBe(
      "status:['open']",
    );
  });

  test('are read once more when the search context expires, and failed when it does again', async () => {
    const expired = (times: number): Fault => ({ name: 'expired-cursor', resource: 'vulnerabilities', times });
    const once = await start({ scale: 150, pageSize: 50, faults: [expired(1)] });
    await expectTruth(await collect(once, ['vulnerabilities']), once, 'vulnerabilities');
    const twice = await start({ scale: 150, pageSize: 50, faults: [expired(2)] });
    const { summary } = await collect(twice, ['vulnerabilities']);
    const { verdict, reason } = resultOf(summary, 'crowdstrike_vulnerabilities');
    expect(verdict).toBe('failed');
    expect(reason).toContain('the cursor has expired');
  });
});

describe('settings', () => {
  test('go by their other names too', async () => {
    const running = await start({ scale: 10 });
    const { FALCON_BASE_URL = '', FALCON_CLIENT_ID = '', FALCON_SECRET = '' } = running.env;
    const env = { FALCON_BASE_URL, CROWDSTRIKE_CLIENT_ID: FALCON_CLIENT_ID, CROWDSTRIKE_CLIENT_SECRET: FALCON_SECRET };
    const { summary } = await collectOnce({ env, only: ['crowdstrike.host_groups'] });
    expect(summary.exit_code).toBe(0);
  });

  test('that are wrong end in exit 4', async () => {
    const running = await start({ scale: 10 });
    const { summary } = await collect(running, ['hosts', 'host_groups'], { FALCON_SECRET: 'not-the-secret' });
    expect(summary.exit_code).toBe(4);
    expect(resultOf(summary, 'crowdstrike_hosts').reason).toContain('the credentials are not accepted');
  });
});

/** A region's hosts behind a proxy that speaks TLS for them, and the vendor behind all of them. */
interface Falcon {
  readonly env: Readonly<Record<string, string>>;
  /** `<host> <method> <path>` of each request, without its query. */
  readonly seen: readonly string[];
  readonly running: RunningVendor;
}

type Answerer = (host: string, request: IncomingMessage, response: ServerResponse) => boolean;

/** `instead` answers what the vendor is not to answer. */
async function startFalcon(region: string, instead: Answerer): Promise<Falcon> {
  const running = await start({ scale: 60, pageSize: 20, settings: { region } });
  const { key, cert, caFile } = await certificate();
  const seen: string[] = [];
  const inside = createServer(async (request, response) => {
    const host = request.headers.host ?? '';
    seen.push(`${host} ${request.method} ${request.url?.split('?')[0]}`);
    if (instead(host, request, response)) return;
    await forward(running.origin, request, response);
  });
  const proxy = createServer().on('connect', (_, socket) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    inside.emit(
      'connection',
      new TLSSocket(socket, { isServer: true, key, cert }).on('error', () => undefined),
    );
  });
  await new Promise<void>((listening) => proxy.listen(0, '127.0.0.1', listening));
  onTestFinished(() => new Promise<void>((closed) => void proxy.close(() => closed()).closeAllConnections()));
  const { FALCON_CLIENT_ID = '', FALCON_SECRET = '' } = running.env;
  const HTTPS_PROXY = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  return { env: { FALCON_CLIENT_ID, FALCON_SECRET, HTTPS_PROXY, CYBER_COLLECT_CA_FILE: caFile }, seen, running };
}

async function certificate() {
  const folder = await temporaryFolder();
  const [keyFile, caFile] = [join(folder, 'key.pem'), join(folder, 'ca.pem')];
  const names = ['*.crowdstrike.com', '*.us-2.crowdstrike.com', '*.eu-1.crowdstrike.com', '*.us-gov-2.crowdstrike.mil'];
  const what = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const named = ['-subj', '/CN=test', '-addext', `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`];
  execFileSync('openssl', ['req', ...what, ...named, '-keyout', keyFile, '-out', caFile], { stdio: 'ignore' });
  return { key: readFileSync(keyFile), cert: readFileSync(caFile), caFile };
}

async function forward(origin: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const { authorization = '', 'content-type': type = '' } = request.headers;
  const answer = await fetch(origin + request.url, {
    method: request.method ?? 'GET',
    headers: { authorization, 'content-type': type },
    ...(request.method === 'POST' ? { body: Buffer.concat(parts) } : {}),
  });
  const region = answer.headers.get('x-cs-region') ?? '';
  response.writeHead(answer.status, { 'content-type': 'application/json', 'x-cs-region': region });
  response.end(await answer.text());
}

/** No cloud but the tenant's accepts the token, though each one issues it. */
function onlyIn(home: string): Answerer {
  return (host, request, response) => {
    if (host === home || request.url === '/oauth2/token') return false;
    response.writeHead(401, { 'content-type': 'application/json' });
    response.end('{"errors":[{"code":401,"message":"access denied, invalid bearer token"}]}');
    return true;
  };
}

/** Clouds redirect the token call to the tenant's. */
function redirectingTo(home: string): Answerer {
  return (host, request, response) => {
    if (host === home) return false;
    response.writeHead(308, { location: `https://${home}${request.url}` });
    response.end();
    return true;
  };
}

function hostsOf({ seen }: Falcon): ReadonlySet<string> {
  return new Set(seen.map((line) => line.split(' ')[0] ?? ''));
}

const US1 = 'api.crowdstrike.com';
const US2 = 'api.us-2.crowdstrike.com';
const EU1 = 'api.eu-1.crowdstrike.com';

describe('the cloud', () => {
  async function collectAll(falcon: Falcon, env: Readonly<Record<string, string>> = {}): Promise<RunResult> {
    return collectOnce({ env: { ...falcon.env, ...env }, only: ['crowdstrike'] });
  }

  test('is found by the region that comes with the token; nothing else is asked elsewhere', async () => {
    const falcon = await startFalcon('eu-1', onlyIn(EU1));
    const result = await collectAll(falcon);
    expect(result.summary.exit_code).toBe(0);
    for (const resource of ALL) await expectTruth(result, falcon.running, resource);
    expect(falcon.seen.filter((line) => !line.startsWith(EU1))).toEqual([`${US1} POST /oauth2/token`]);
  });

  test('is found when the others redirect instead', async () => {
    const falcon = await startFalcon('eu-1', redirectingTo(EU1));
    const result = await collectAll(falcon);
    expect(result.summary.exit_code).toBe(0);
    for (const resource of ALL) await expectTruth(result, falcon.running, resource);
    expect(falcon.seen.filter((line) => !line.startsWith(EU1))).toEqual([
      `${US1} POST /oauth2/token`,
      `${US2} POST /oauth2/token`,
    ]);
  });

  test.each(['evil.example', 'api.evil.example', '', 'constructor', 'us-9'])(
    'stays where it is when the region is %j',
    async (region) => {
      const falcon = await startFalcon(region, () => false);
      const result = await collectAll(falcon);
      expect(result.summary.exit_code).toBe(0);
      expect(hostsOf(falcon)).toEqual(new Set([US1]));
    },
  );

  test.each([
    ['us-2', US2],
    ['us-gov-2', 'api.us-gov-2.crowdstrike.mil'],
  ])('is %s when that is set, whatever the region says', async (FALCON_CLOUD, host) => {
    const falcon = await startFalcon('eu-1', () => false);
    const result = await collectAll(falcon, { FALCON_CLOUD });
    expect(result.summary.exit_code).toBe(0);
    expect(hostsOf(falcon)).toEqual(new Set([host]));
  });

  test('is where FALCON_BASE_URL says, whatever the region says', async () => {
    const falcon = await startFalcon('eu-1', () => false);
    const result = await collectAll(falcon, { FALCON_BASE_URL: falcon.running.origin, NO_PROXY: '127.0.0.1' });
    expect(result.summary.exit_code).toBe(0);
    expect(falcon.seen).toEqual([]);
    for (const resource of ALL) await expectTruth(result, falcon.running, resource);
  });

  test('may not redirect a token call with its secret to a stranger', async () => {
    const falcon = await startFalcon('us-1', redirectingTo('falcon.attacker.invalid'));
    const { summary } = await collectAll(falcon);
    expect(resultOf(summary, 'crowdstrike_hosts').reason).toContain('a redirect leads to another host');
    expect(hostsOf(falcon)).toEqual(new Set([US1, US2, EU1]));
  });
});
