import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Values } from '../../src/config/setting.ts';
import { SpoolWriter } from '../../src/envelope/spool.ts';
import { CollectError } from '../../src/errors.ts';
import type { Sink } from '../../src/stores/store.ts';
import astra from '../../src/stores/store_astra.ts';
import { dataApi, errors, type FakeDataApi, type Interference } from '../support/data_api.ts';
import { datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { json } from '../support/server.ts';
import { storeSuite } from './suite.ts';

type Variables = Readonly<Record<string, string>>;

const ID = '7a1e2c30-5d2b-4b0e-9f61-0c9a4a1d8b77';
const EVENTS = {
  events: { keys: ['device_name', 'date', 'event_id'], columns: ['device_name', 'date', 'event_id', 'data'] },
};
let folder = '';
let warnings: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-astra-'));
});

afterEach(() => {
  warnings = [];
});

afterAll(() => rm(folder, { recursive: true, force: true }));

function settings(api: FakeDataApi, more: Variables = {}): Values<typeof astra.env> {
  const variables = {
    ASTRA_DB_ID: ID,
    ASTRA_DB_REGION: 'us-east1',
    ASTRA_DB_APPLICATION_TOKEN: api.token,
    STORE_ASTRA_ENDPOINT: api.server.origin.href,
    STORE_ASTRA_CREATE: 'true',
    ...more,
  };
  const resolved = resolveShape(environmentOf(variables), 'astra', astra.env, astra.aliases);
  if (resolved.values === undefined) throw new Error(inspect(resolved));
  return resolved.values;
}

async function open(api: FakeDataApi, more: Variables = {}, told: string[] = warnings): Promise<Sink> {
  const context = { tenancy: 'acme', at: new Date(), warn: (said: string) => told.push(said) };
  return astra.open(settings(api, more), context);
}

/** An API, and a sink on it that is closed when the test is over. */
async function opened(more: Variables = {}, interfere?: Interference, existing?: typeof EVENTS) {
  const api = await dataApi(interfere, existing);
  const sink = await open(api, more);
  onTestFinished(async () => {
    await sink.close?.();
    await api.close();
  });
  return { api, sink };
}

async function failure(work: Promise<unknown> | undefined): Promise<CollectError> {
  const error = await failureOf(work);
  expect(inspect(error, { depth: 10 })).not.toMatch(/hush-hush/);
  return error;
}

function numbered(count: number, generation = 1): string[] {
  return Array.from({ length: count }, (_, n) => `{"n":${n},"generation":${generation}}`);
}

/** The newest upload as a reader finds it. */
function newest(api: FakeDataApi, tag: string, kind: 'table' | 'collection'): readonly string[] {
  const rows = (target: string, word: string) =>
    kind === 'table' ? api.documents(target) : api.documents('events').filter((document) => document.kind === word);
  const [upload] = rows('cyber_collect_uploads', 'upload')
    .filter((row) => row.tag === tag && row.tenancy === 'acme')
    .toSorted((a, b) => (String(a.upload_timestamp) < String(b.upload_timestamp) ? 1 : -1));
  const parts = rows('cyber_collect_records', 'record')
    .filter((row) => upload !== undefined && row.upload_id === upload.upload_id)
    .toSorted((a, b) => Number(a.seq) - Number(b.seq) || Number(a.part) - Number(b.part));
  const records: string[] = [];
  for (const { part, json_data } of parts) {
    records.push(part === 0 ? String(json_data) : `${records.pop()}${json_data}`);
  }
  return records;
}

describe.each(['table', 'collection'] as const)('%s', (kind) => {
  let api: FakeDataApi;
  afterAll(() => api.close());

  storeSuite(
    `astra (${kind})`,
    async () => {
      api = await dataApi();
      return {
        open: (told) => open(api, { STORE_ASTRA_KIND: kind }, told),
        read: async (tag) => {
          await setImmediate(); // a reader that never waits would keep the writer from its turn
          return newest(api, tag, kind);
        },
        exact: true,
        nul: 'kept',
        loneSurrogate: 'kept',
        openWrong: () => open(api, { STORE_ASTRA_KIND: kind, ASTRA_DB_APPLICATION_TOKEN: 'AstraCS:wrong-hush-0008' }),
        secrets: ['wrong-hush-0008', 'hush-hush-0007'],
      };
    },
    { remembers: true, login: true },
  );

  test('keeps the upload before and removes older ones, with all they had', async () => {
    const { api, sink } = await opened({ STORE_ASTRA_KIND: kind });
    const uploads: string[] = [];
    for (const count of [60, 50, 40]) {
      const dataset = await datasetOf(folder, numbered(count), { tag: 'okta_kept' });
      await sink.write(dataset);
      uploads.push(dataset.metadata.upload_id);
    }
    const held = kind === 'table' ? api.documents('cyber_collect_records') : api.documents('events');
    expect(new Set(held.map((row) => row.upload_id))).toEqual(new Set(uploads.slice(1)));
    expect(newest(api, 'okta_kept', kind)).toHaveLength(40);
    expect(warnings).toEqual([]);
  });

  test('of events all stay', async () => {
    const { api, sink } = await opened({ STORE_ASTRA_KIND: kind });
    for (const count of [3, 2, 1])
      await sink.write(await datasetOf(folder, numbered(count), { tag: 'okta_logs', kind: 'events' }));
    const held = kind === 'table' ? api.documents('cyber_collect_uploads') : api.documents('events');
    expect(new Set(held.map((row) => row.upload_id)).size).toBe(3);
  });

  test('what a failed write has left goes with the next', async () => {
    const { api, sink } = await opened({ STORE_ASTRA_KIND: kind });
    const lost = new CollectError('locked', 'another run has taken over');
    const confirm = () => Promise.reject(lost);
    await failure(sink.write(await datasetOf(folder, numbered(70), { tag: 'okta_left', confirm })));
    const next = await datasetOf(folder, numbered(2), { tag: 'okta_left' });
    await sink.write(next);
    const held = kind === 'table' ? api.documents('cyber_collect_records') : api.documents('events');
    expect(new Set(held.map((row) => row.upload_id))).toEqual(new Set([next.metadata.upload_id]));
  });

  test('a request whose answer is lost is made again and counts once', async () => {
    const { api, sink } = await opened({ STORE_ASTRA_KIND: kind }, lose('insertMany', 2));
    await sink.write(await datasetOf(folder, numbered(200), { tag: 'okta_lost' }));
    expect([...newest(api, 'okta_lost', kind)]).toEqual(numbered(200));
  });

  test('requests stay within the limits', async () => {
    const { api, sink } = await opened({ STORE_ASTRA_KIND: kind, STORE_ASTRA_CONCURRENCY: '3' });
    const quotes = JSON.stringify({ text: '"'.repeat(90_000) });
    await sink.write(await datasetOf(folder, [...numbered(500), ...Array(20).fill(quotes)], { tag: 'okta_bounds' }));
    expect(newest(api, 'okta_bounds', kind)).toHaveLength(520);
    expect(Math.max(...api.commands('insertMany').map(({ body }) => body.documents?.length ?? 0))).toBe(50);
    expect(api.server.peak()).toBeLessThanOrEqual(3);
  });
});

/** Stores what it is given and breaks the connection before it says so, once. */
function lose(name: string, at: number): Interference {
  let lost = false;
  return (command, response) => {
    if (command.name !== name || command.before !== at || lost) return false;
    lost = true;
    response.end = () => {
      response.socket?.destroy();
      return response;
    };
    return false;
  };
}

describe('syslog events', () => {
  const line = (n: number) =>
    JSON.stringify({
      device_name: `web${n % 3}`,
      date: '2026-03-04T05:06:07Z',
      event_id: `${(0x10000000 + n).toString(16)}-5b1e-11f1-8000-01a2b3c4d5e6`,
      data: `Failed password 🦊 ${n}`,
      message: 'is not a column',
    });

  test('go to the table of the older tool, the same ones once', async () => {
    const { api, sink } = await opened({ STORE_ASTRA_CREATE: 'false' }, undefined, EVENTS);
    const lines = Array.from({ length: 120 }, (_, n) => line(n));
    const dataset = await datasetOf(folder, lines, { tag: 'syslog_events', kind: 'events' });
    const { at } = await sink.write(dataset);
    expect(at).toBe(`astra ${api.server.origin.host} logs.events (syslog_events)`);
    await sink.write({ ...dataset, metadata: { ...dataset.metadata, upload_id: randomUUID() } });
    expect(api.documents('events')).toHaveLength(120);
    expect(api.documents('events')[0]).toEqual({ ...JSON.parse(line(0)), message: undefined });
    await sink.check?.();
  });

  test('say how to make the table where it is not there', async () => {
    const { sink } = await opened();
    const error = await failure(
      sink.write(await datasetOf(folder, [line(1)], { tag: 'syslog_events', kind: 'events' })),
    );
    expect(error.code).toBe('config');
    expect(error.mend).toContain(
      'CREATE TABLE IF NOT EXISTS logs.events (device_name text, date text, event_id timeuuid',
    );
  });
});

describe('answers', () => {
  function once(status: number, body: unknown, headers: Variables = {}): Interference {
    return ({ name, before }, response) => {
      if (name !== 'insertMany' || before > 0) return false;
      json(response, body, status, headers);
      return true;
    };
  }

  test.each<[string, Interference]>([
    ['a limit', once(429, {}, { 'retry-after': '0' })],
    ['a limit in words', once(200, errors('RATE_LIMITED'), { 'retry-after': '0' })],
    ['a database that wakes up', once(503, {}, { 'retry-after': '0' })],
    ['a timeout of the database', once(200, errors('TIMEOUT_WRITING_DATA'))],
    ['too few replicas', once(200, errors('UNAVAILABLE_DATABASE'))],
  ])('%s is waited for', async (_, interfere) => {
    const { api, sink } = await opened({}, interfere);
    await sink.write(await datasetOf(folder, numbered(60), { tag: 'okta_slow' }));
    expect(newest(api, 'okta_slow', 'table')).toEqual(numbered(60));
  });

  /** Answers each insertion of records. */
  function always(body: unknown, status = 200): Interference {
    return ({ name, body: { documents = [] } }, response) => {
      if (name !== 'insertMany' || documents[0]?.json_data === undefined) return false;
      json(response, body, status);
      return true;
    };
  }
  const some = (...statuses: readonly string[]) => ({
    status: {
      documentResponses: statuses.map((status) => ({ status, ...(status === 'ERROR' ? { errorsIdx: 0 } : {}) })),
    },
    ...(statuses.includes('ERROR') ? (errors('SHRED_DOC_LIMIT_VIOLATION') as object) : {}),
  });

  test.each<[string, Interference, string, RegExp, RegExp]>([
    ['a document that is refused', always(some('OK', 'ERROR')), 'store', /records 1 to 2 .SHRED_DOC_/, /json_data/],
    ['a document that was passed over', always(some('OK', 'SKIPPED')), 'store', /records 1 to 2/, /compare/],
    ['fewer documents than were sent', always(some('OK')), 'vendor', /does not say what became/, /.?/],
    ['no word about documents', always({ status: {} }), 'vendor', /does not say what became/, /.?/],
    ['an unknown column', always(errors('UNKNOWN_TABLE_COLUMNS')), 'store', /UNKNOWN_TABLE_COLUMNS/, /compare/],
    ['a role that may not', always(errors('UNAUTHORIZED_ACCESS')), 'denied', /may not/, /role of the token/],
    ['a refused token', always(errors('UNAUTHENTICATED_REQUEST'), 200), 'credentials', /token/, /ASTRA_DB_APP/],
    ['no database', always({}, 404), 'store', /no such database/, /ASTRA_DB_REGION/],
    ['no JSON object', always([]), 'vendor', /no JSON object/, /.?/],
  ])('%s is an error, and the old upload stays the newest', async (_, interfere, code, message, mend) => {
    let bad = false;
    const { api, sink } = await opened({}, (command, response) => bad && interfere(command, response));
    await sink.write(await datasetOf(folder, numbered(5), { tag: 'okta_refused' }));
    bad = true;
    const error = await failure(sink.write(await datasetOf(folder, numbered(2, 2), { tag: 'okta_refused' })));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.mend ?? '').toMatch(mend);
    expect(newest(api, 'okta_refused', 'table')).toEqual(numbered(5));
  });

  test('tables that are missing', async () => {
    const { sink } = await opened({ STORE_ASTRA_CREATE: 'false' });
    const error = await failure(sink.write(await datasetOf(folder, ['1'])));
    expect(error.code).toBe('config');
    expect(error.mend).toContain('STORE_ASTRA_CREATE=true');
    expect((await failure(sink.check?.())).code).toBe('config');
    expect(await sink.latest?.('okta_users')).toBeUndefined();
  });

  test('removing that fails is a warning, and made good later', async () => {
    let broken = true;
    const { api, sink } = await opened({ STORE_ASTRA_KEEP: '0' }, ({ name }, response) => {
      if (name !== 'deleteMany' || !broken) return false;
      json(response, errors('UNSUPPORTED_DATABASE_QUERY'));
      return true;
    });
    for (const generation of [1, 2]) {
      await sink.write(await datasetOf(folder, numbered(3, generation), { tag: 'okta_removed' }));
    }
    expect(warnings).toEqual([expect.stringMatching(/okta_removed.* is up to date, but .*UNSUPPORTED_DATABASE_QUERY/)]);
    expect(newest(api, 'okta_removed', 'table')).toEqual(numbered(3, 2));
    expect(api.documents('cyber_collect_records')).toHaveLength(6);
    broken = false;
    await sink.write(await datasetOf(folder, numbered(3, 3), { tag: 'okta_removed' }));
    expect(api.documents('cyber_collect_records')).toHaveLength(3);
    expect(api.documents('cyber_collect_unfinished')).toEqual([]);
  });

  test('bytes that are no text are refused by their record', async () => {
    const { api, sink } = await opened();
    const good = await datasetOf(folder, ['1'], { tag: 'okta_bytes' });
    const writer = await SpoolWriter.create(join(folder, 'bytes.ndjson'));
    await writer.write([Buffer.from('1\n"'), Buffer.from([0xff, 0xfe]), Buffer.from('"\n')]);
    const error = await failure(sink.write({ ...good, spool: await writer.finish(2) }));
    expect(error.message).toMatch(/record 2 is no valid UTF-8/);
    expect(newest(api, 'okta_bytes', 'table')).toEqual([]);
  });
});

describe('settings', () => {
  const names = { uuid: randomUUID(), tag: 'okta_users', tenancy: 'acme', at: new Date() };
  function targets(more: Variables, tag = 'okta_users') {
    const variables = {
      ASTRA_DB_ID: ID,
      ASTRA_DB_REGION: 'us-east1',
      ASTRA_DB_APPLICATION_TOKEN: 'AstraCS:x',
      ...more,
    };
    const { values } = resolveShape(environmentOf(variables), 'astra', astra.env, astra.aliases);
    if (values === undefined) throw new Error('not valid');
    return astra.targets(values, 'snapshot', { ...names, tag });
  }

  test('say where a dataset goes', () => {
    const at = `astra ${ID}-us-east1.apps.astra.datastax.com`;
    expect(targets({})).toEqual([`${at} logs.cyber_collect_records (okta_users)`]);
    expect(targets({}, 'syslog_events')).toEqual([`${at} logs.events (syslog_events)`]);
    const collection = { STORE_ASTRA_KIND: 'collection', STORE_ASTRA_TABLE: 'c_%TAG', ASTRA_DB_KEYSPACE: 'security' };
    expect(targets(collection)).toEqual([`${at} security.c_okta_users (okta_users)`]);
    expect(targets(collection, 'syslog_events')).toEqual([`${at} security.c_syslog_events (syslog_events)`]);
  });

  test.each<[string, Variables]>([
    ['no token', { ASTRA_DB_APPLICATION_TOKEN: '' }],
    ['an id that is none', { ASTRA_DB_ID: 'https://x' }],
    ['a table that is no name', { STORE_ASTRA_TABLE: 'a-b', STORE_ASTRA_KIND: 'collection' }],
    ['plain http to elsewhere', { STORE_ASTRA_ENDPOINT: 'http://data.example' }],
  ])('refuse %s', (_, more) => {
    expect(() => targets(more)).toThrow(CollectError);
  });
});
