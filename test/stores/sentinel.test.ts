import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CollectError } from '../../src/errors.ts';
import type { Sink } from '../../src/stores/store.ts';
import sentinel from '../../src/stores/store_sentinel.ts';
import { type DatasetChoice, datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { openSink, openStore, targetsOf } from '../support/open.ts';
import { json, type Received, type Route, reset, type ScriptedServer, serve, serveOn } from '../support/server.ts';
import { storeSuite } from './suite.ts';

type Variables = Readonly<Record<string, string>>;

const SECRET = 'hunter2-hunter2';
const RULE = `dcr-${'0a'.repeat(16)}`;
const CALL = `/dataCollectionRules/${RULE}/streams/Custom-Inventory`;
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-sentinel-'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

function variables(origin: string, more: Variables = {}): Variables {
  return {
    STORE_SENTINEL_DCE: origin,
    STORE_SENTINEL_AUTHORITY: origin,
    STORE_SENTINEL_DCR_ID: RULE,
    STORE_SENTINEL_DCS: 'Inventory',
    STORE_SENTINEL_TENANT_ID: 'tenant-1',
    STORE_SENTINEL_CLIENT_ID: 'client-1',
    STORE_SENTINEL_CLIENT_SECRET: SECRET,
    STORE_SENTINEL_GZIP: 'false',
    ...more,
  };
}

function open(server: ScriptedServer, more: Variables = {}, warnings?: string[]): Promise<Sink> {
  return openStore(sentinel, variables(server.origin.href, more), warnings);
}

/** A login service that gives token after token, and an endpoint that answers as told. */
async function azure(route: Route, serving: (route: Route) => Promise<ScriptedServer> = serve) {
  let tokens = 0;
  let calls = 0;
  const server = await serving((request, response) => {
    if (request.url.pathname === '/tenant-1/oauth2/v2.0/token') {
      tokens += 1;
      return json(response, { access_token: `token-${tokens}`, expires_in: 3600 });
    }
    calls += 1;
    return route(request, response, calls);
  });
  const sent = () => server.received.filter(({ url }) => !url.pathname.endsWith('/token'));
  return { server, sent, tokens: () => tokens };
}

function taken(_: Received, response: Parameters<Route>[1]): void {
  response.writeHead(204).end();
}

type RowOf = Readonly<Record<string, unknown>>;

function rowsOf({ body }: Received): readonly RowOf[] {
  return JSON.parse(body) as readonly RowOf[];
}

function numbersOf(request: Received): readonly unknown[] {
  return rowsOf(request).map(({ UploadRecord }) => UploadRecord);
}

function dataset(lines: readonly string[], choice: DatasetChoice = {}) {
  return datasetOf(folder, lines, { tag: 'okta_users', ...choice });
}

function numbered(count: number): readonly string[] {
  return Array.from({ length: count }, (_, n) => `{"n":${n + 1}}`);
}

const ending: (() => Promise<void>)[] = [];

afterAll(() => Promise.all(ending.map((end) => end())));

/** Serves until all tests are over. */
async function lasting(route: Route): Promise<ScriptedServer> {
  const server = await serveOn(route);
  ending.push(() => server.close());
  return server;
}

/** What the table would show of a dataset's newest upload; a row that came twice is one by its number. */
function newest(server: ScriptedServer, tag: string): readonly string[] {
  const rows = server.received
    .filter(({ url }) => !url.pathname.endsWith('/token'))
    .flatMap(({ body }) => body.slice(1, -1).split(/,(?=\{"TimeGenerated":")/))
    .filter((row) => row.includes(`"UploadTag":"${tag}"`))
    .map((row) => {
      const at = row.indexOf(',"Record":');
      const facts = JSON.parse(`${row.slice(0, at)}}`) as Readonly<Record<string, string>>;
      return { facts, record: row.slice(at + ',"Record":'.length, -1) };
    });
  const last = rows.toSorted((a, b) => ((a.facts.UploadTime ?? '') < (b.facts.UploadTime ?? '') ? -1 : 1)).at(-1);
  const own = rows.filter(({ facts }) => facts.UploadId === last?.facts.UploadId);
  return [...new Map(own.map(({ facts, record }) => [facts.UploadRecord, record])).values()];
}

storeSuite(
  'sentinel (scripted)',
  async () => {
    const { server } = await azure(taken, lasting);
    const refusing = await lasting((_, response) => json(response, { error: 'invalid_client' }, 401));
    const more = { STORE_SENTINEL_WRAP: 'true', STORE_SENTINEL_DCS: '%TAG', STORE_SENTINEL_BATCH_SIZE: '500' };
    return {
      open: (warnings) => openSink(sentinel, variables(server.origin.href, more), warnings),
      openWrong: () => openSink(sentinel, variables(refusing.origin.href, more)),
      read: async (tag) => newest(server, tag),
      exact: true,
      nul: 'kept',
      loneSurrogate: 'kept',
      secrets: [SECRET, 'token-1'],
    };
  },
  { gradual: true, login: true, most: 65_536 },
);

describe('a call', () => {
  test('goes to the stream of the rule with a token for Azure Monitor', async () => {
    const { server, sent } = await azure(taken);
    const written = await (await open(server)).write(await dataset(numbered(2)));
    expect(written).toEqual({ at: `${server.origin.origin}${CALL} (okta_users of acme)`, records: 2 });
    const [token] = server.received;
    expect(Object.fromEntries(new URLSearchParams(token?.body))).toEqual({
      grant_type: 'client_credentials',
      client_id: 'client-1',
      client_secret: SECRET,
      scope: 'https://monitor.azure.com/.default',
    });
    const [call] = sent();
    expect(`${call?.method} ${call?.url.pathname}${call?.url.search}`).toBe(`POST ${CALL}?api-version=2023-01-01`);
    expect(call?.headers.authorization).toBe('Bearer token-1');
    expect(call?.headers['x-ms-client-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('holds rows whose columns are the members, by names that columns may have', async () => {
    const { server, sent } = await azure(taken);
    const record =
      '{"id":12345678901234567890,"Type":"a","@odata.type":null,"_group_id":[1],"7th":{"a":1.50},"é":"ü","TimeGenerated":"2026-01-02T03:04:05Z"}';
    const data = await dataset([record, '{}', '17']);
    await (await open(server)).write(data);
    const { upload_id, timestamp } = data.metadata;
    const upload = { UploadTenancy: 'acme', UploadTag: 'okta_users', UploadId: upload_id, UploadTime: timestamp };
    const facts = (n: number) => `${JSON.stringify(upload).slice(1, -1)},"UploadRecords":3,"UploadRecord":${n}`;
    expect(sent()[0]?.body).toBe(
      `[{${facts(1)},"id_":12345678901234567890,"Type_":"a","x_odata_type":null,"x_group_id":[1],"x_7th":{"a":1.50},"x_":"ü","TimeGenerated":"2026-01-02T03:04:05Z"},` +
        `{"TimeGenerated":"${timestamp}",${facts(2)}},{"TimeGenerated":"${timestamp}",${facts(3)},"Record":17}]`,
    );
  });

  test('holds whole records in one column where that is asked for, and the time of a field', async () => {
    const { server, sent } = await azure(taken);
    const more = { STORE_SENTINEL_WRAP: 'true', STORE_SENTINEL_TIME_COLUMN: 'seen.at' };
    const records = ['{"seen":{"at":1700000000.25},"id":9007199254740993}', '{"seen":{"at":"2026-02-03 04:05:06"}}'];
    await (await open(server, more)).write(await dataset(records));
    expect(sent()[0]?.body).toContain(`"Record":${records[0]}}`);
    expect(rowsOf(sent()[0] as Received).map(({ TimeGenerated }) => TimeGenerated)).toEqual([
      '2023-11-14T22:13:20.250Z',
      '2026-02-03T04:05:06.000Z',
    ]);
  });

  test('stays below a megabyte and below the records it may hold', async () => {
    const { server, sent } = await azure(taken);
    const sink = await open(server, { STORE_SENTINEL_BATCH_SIZE: '1000', STORE_SENTINEL_CONCURRENCY: '1' });
    const large = Array.from({ length: 90 }, () => `{"pad":"${'x'.repeat(40_000)}"}`);
    await sink.write(await dataset([...large, ...numbered(1500)]));
    for (const { body } of sent()) expect(body.length).toBeLessThanOrEqual(972_800);
    for (const call of sent()) expect(numbersOf(call).length).toBeLessThanOrEqual(1000);
    expect(sent().flatMap(numbersOf)).toEqual(Array.from({ length: 1590 }, (_, n) => n + 1));
    expect(sent().length).toBeLessThanOrEqual(7);
  });

  test('is compressed unless told', async () => {
    const { server, sent } = await azure(taken);
    await (await open(server, { STORE_SENTINEL_GZIP: 'true' })).write(await dataset(numbered(50)));
    expect(sent()[0]?.headers['content-encoding']).toBe('gzip');
  });
});

describe('an answer', () => {
  test('of 413 has the call halved', async () => {
    const { server, sent } = await azure((request, response) =>
      numbersOf(request).length > 2
        ? json(response, { error: { code: 'ContentLengthLimitExceeded' } }, 413)
        : taken(request, response),
    );
    await (await open(server)).write(await dataset(numbered(7)));
    const small = sent().filter((call) => numbersOf(call).length <= 2);
    expect(small.flatMap(numbersOf)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  test('of 429 has it made again, not before it says', async () => {
    const times: number[] = [];
    const { server, sent } = await azure((request, response, nth) => {
      times.push(performance.now());
      return nth === 1 ? json(response, {}, 429, { 'retry-after': '0.4' }) : taken(request, response);
    });
    await (await open(server)).write(await dataset(numbered(3)));
    expect(sent().map(numbersOf)).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(399);
  });

  test('of 401 has the token renewed, once', async () => {
    const { server, tokens } = await azure((request, response) =>
      request.headers.authorization === 'Bearer token-2' ? taken(request, response) : json(response, {}, 401),
    );
    const sink = await open(server, { STORE_SENTINEL_BATCH_SIZE: '1', STORE_SENTINEL_CONCURRENCY: '2' });
    await sink.write(await dataset(numbered(6)));
    expect(tokens()).toBe(2);
    const refusing = await azure((_, response) => json(response, {}, 401));
    const error = await failureOf(async () => (await open(refusing.server)).write(await dataset(numbered(1))));
    expect(error.code).toBe('credentials');
    expect(refusing.tokens()).toBe(2);
  });

  test('that never comes has the call made again', async () => {
    const { server, sent } = await azure((request, response, nth) =>
      nth === 1 ? reset(response) : taken(request, response),
    );
    await (await open(server)).write(await dataset(numbered(1)));
    expect(sent()).toHaveLength(2);
  });

  test.each([
    [400, { error: { code: 'InvalidPayload' } }, 'store', /records 1 to 3 was refused \(InvalidPayload\)/],
    [403, { error: { code: 'OperationFailed' } }, 'denied', /403/],
    [404, {}, 'store', /404/],
  ])('of %i fails the write at once', async (status, body, code, message) => {
    const { server, sent } = await azure((_, response) => json(response, body, status));
    const error = await failureOf(async () => (await open(server)).write(await dataset(numbered(3))));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.mend).toBeDefined();
    expect(sent()).toHaveLength(1);
  });

  test('of the login service that refuses the secret fails the check', async () => {
    const server = await serve((_, response) => json(response, { error: 'invalid_client', told: SECRET }, 401));
    const sink = await open(server);
    const error = await failureOf(() => sink.check?.());
    expect(error.code).toBe('credentials');
    expect(inspect(error, { depth: 9 })).not.toContain(SECRET);
  });
});

describe('nothing is sent', () => {
  test.each([
    [`{"blob":"${'x'.repeat(980_000)}"}`, /record 2 is larger than the 1 MB/],
    [`{"blob":"${'x'.repeat(70_000)}"}`, /record 2 holds a value of more than 64 KB/],
    ['{"a-b":1,"a_b":2}', /record 2 has two fields/],
    ['{"UploadId":1}', /record 2 has two fields/],
  ])('of a dataset with a record that cannot be stored whole', async (record, message) => {
    const { server, sent } = await azure(taken);
    const error = await failureOf(async () => (await open(server)).write(await dataset(['{"n":1}', record])));
    expect(error.message).toMatch(message);
    expect(sent()).toHaveLength(0);
  });

  test('of a damaged spool, of a run that lost its lock, and of an empty dataset', async () => {
    const { server, sent } = await azure(taken);
    const sink = await open(server);
    const damaged = await dataset(numbered(100));
    await truncate(damaged.spool.path, 500);
    expect((await failureOf(() => sink.write(damaged))).code).toBe('store');
    const lost = new CollectError('locked', 'another run has taken over');
    const late = await dataset(numbered(1), { confirm: () => Promise.reject(lost) });
    expect((await failureOf(() => sink.write(late))).code).toBe('locked');
    expect((await sink.write(await dataset([]))).records).toBe(0);
    expect(sent()).toHaveLength(0);
  });

  test('but a value of more than 64 KB where cutting it is allowed, with a warning', async () => {
    const { server, sent } = await azure(taken);
    const warnings: string[] = [];
    const sink = await open(server, { STORE_SENTINEL_CUT: 'true' }, warnings);
    await sink.write(await dataset(['{"n":1}', `{"blob":"${'x'.repeat(70_000)}"}`]));
    expect(sent().flatMap(numbersOf)).toEqual([1, 2]);
    expect(warnings).toEqual(['okta_users: records with a value over 64 KB, which Azure Monitor cuts: 1']);
  });
});

test('check makes a call without records', async () => {
  const { server, sent } = await azure(taken);
  await (await open(server)).check?.();
  expect(sent().map(({ body }) => body)).toEqual(['[]']);
});

test.each([
  ['government', 'https://monitor.azure.us/.default'],
  ['china', 'https://monitor.azure.cn/.default'],
])('the %s cloud has a scope of its own', async (cloud, scope) => {
  const { server } = await azure(taken);
  await (await open(server, { STORE_SENTINEL_CLOUD: cloud })).check?.();
  expect(new URLSearchParams(server.received[0]?.body).get('scope')).toBe(scope);
});

test('settings that cannot work are told before anything is sent', async () => {
  const dce = 'https://acme.westeurope-1.ingest.monitor.azure.com';
  const login = { STORE_SENTINEL_AUTHORITY: 'https://login.example' };
  const target = (more: Variables) => targetsOf(sentinel, variables(dce, { ...login, ...more }));
  const at = (stream: string) => [`${dce}/dataCollectionRules/${RULE}/streams/${stream} (okta_users of acme)`];
  expect(target({ STORE_SENTINEL_DCS: 'Microsoft-Syslog' })).toEqual(at('Microsoft-Syslog'));
  expect(target({ STORE_SENTINEL_DCS: '%TAG' })).toEqual(at('Custom-okta_users'));
  const wrong: readonly Variables[] = [
    { STORE_SENTINEL_DCR_ID: '/subscriptions/1/resourceGroups/2' },
    { STORE_SENTINEL_DCE: 'http://acme.example' },
    { STORE_SENTINEL_DCS: '%TAGS' },
  ];
  for (const more of wrong) expect((await failureOf(() => target(more))).mend).toBeDefined();
});
