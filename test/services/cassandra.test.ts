import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { SpoolWriter } from '../../src/envelope/spool.ts';
import { CollectError } from '../../src/errors.ts';
import type { Dataset, Sink } from '../../src/stores/store.ts';
import cassandra from '../../src/stores/store_cassandra.ts';
import { storeSuite } from '../stores/suite.ts';
import { admin, bundleFor, doorTo, dropKeyspace, login, newestUpload, variablesOf } from '../support/cassandra.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { killOverAndOver } from '../support/killed.ts';
import { openSink, openStore } from '../support/open.ts';

type Variables = Readonly<Record<string, string>>;

const keyspace = `suite_${randomUUID().slice(0, 8)}`;
const reader = admin();
let folder = '';
let warnings: string[] = [];
let certificates: Certificates;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-cassandra-'));
  certificates = await makeCertificates('127.0.0.1');
  await reader.connect();
});

beforeEach(() => {
  warnings = [];
});

afterAll(async () => {
  await dropKeyspace(reader, keyspace);
  await certificates.remove();
  await rm(folder, { recursive: true, force: true });
});

function variables(more: Variables = {}): Variables {
  return { ...variablesOf(keyspace), ...more };
}

function open(more: Variables = {}): Promise<Sink> {
  return openStore(cassandra, variables(more), warnings);
}

async function rows(cql: string, params: readonly unknown[] = []) {
  const found = [];
  for await (const row of await reader.execute(cql, [...params])) found.push(row);
  return found;
}

function numbered(count: number, generation = 1): string[] {
  return Array.from({ length: count }, (_, n) => `{"n":${n},"generation":${generation}}`);
}

storeSuite(
  'cassandra',
  async () => ({
    open: (told) => openSink(cassandra, variables(), told),
    read: async (tag) => (await newestUpload(reader, keyspace, tag)) ?? [],
    exact: true,
    nul: 'kept',
    loneSurrogate: 'kept',
    openWrong: () => openSink(cassandra, variables({ STORE_CASSANDRA_PASSWORD: 'wrong-hush-0002' })),
    secrets: ['wrong-hush-0002'],
  }),
  { remembers: true, login: true },
);

test('killed at any moment it leaves the old whole or the new whole', async () => {
  const sink = await open();
  await sink.write(await datasetOf(folder, numbered(1), { tag: 'okta_made' })); // makes the tables, which takes long
  const env = variables();
  const read = () => newestUpload(reader, keyspace, 'okta_killed').catch(() => undefined);
  const seen = await killOverAndOver({ store: 'cassandra', env, folder, read, kills: 8 });
  expect(seen.wrong).toEqual([]);
  expect(seen.generations).toBeGreaterThan(1);
  await sink.write(await datasetOf(folder, numbered(1), { tag: 'okta_killed' }));
  const unfinished = await rows(`SELECT tag FROM ${keyspace}.cyber_collect_unfinished`);
  expect(unfinished.filter((row) => row.tag === 'okta_killed')).toEqual([]);
  const kept = await rows(
    `SELECT upload_id FROM ${keyspace}.cyber_collect_uploads WHERE tenancy = 'acme' AND tag = ?`,
    ['okta_killed'],
  );
  expect(new Set(kept.map((row) => String(row.upload_id)))).toEqual(await uploadsOf('okta_killed'));
}, 240_000);

/** Uploads that have any record. */
async function uploadsOf(tag: string): Promise<ReadonlySet<string>> {
  const found = await rows(`SELECT DISTINCT tenancy, tag, upload_id, bucket FROM ${keyspace}.cyber_collect_records`);
  return new Set(found.filter((row) => row.tag === tag).map((row) => String(row.upload_id)));
}

describe('uploads', () => {
  test('a snapshot keeps the one before and removes older ones', async () => {
    const sink = await open();
    const tag = 'okta_kept';
    const made: Dataset[] = [];
    for (const count of [3, 2, 1]) {
      const dataset = await datasetOf(folder, numbered(count), { tag });
      await sink.write(dataset);
      made.push(dataset);
    }
    const [, before, last] = made.map(({ metadata }) => metadata.upload_id);
    expect(await uploadsOf(tag)).toEqual(new Set([before, last]));
    expect(await newestUpload(reader, keyspace, tag)).toHaveLength(1);
    expect(warnings).toEqual([]);
  });

  test('of events all stay', async () => {
    const sink = await open();
    const tag = 'okta_logs';
    for (const count of [3, 2, 1]) await sink.write(await datasetOf(folder, numbered(count), { tag, kind: 'events' }));
    expect(await uploadsOf(tag)).toHaveProperty('size', 3);
  });

  test('of two tenancies do not meet', async () => {
    const tag = 'okta_tenants';
    const sink = await open({ STORE_CASSANDRA_KEEP: '0' });
    await sink.write(await datasetOf(folder, numbered(3), { tag, metadata: { tenancy: 'other' } }));
    await sink.write(await datasetOf(folder, numbered(2), { tag }));
    await sink.write(await datasetOf(folder, numbered(4), { tag }));
    expect(await newestUpload(reader, keyspace, tag, 'other')).toHaveLength(3);
    expect(await newestUpload(reader, keyspace, tag)).toHaveLength(4);
    expect(await uploadsOf(tag)).toHaveProperty('size', 2);
  });

  test('what a failed one has left goes with the next', async () => {
    const sink = await open();
    const tag = 'okta_halved';
    const records = Array.from({ length: 40_000 }, (_, n) => `{"n":${n},"pad":"${'x'.repeat(60)}"}`);
    const dataset = await datasetOf(folder, records, { tag });
    const lost = new CollectError('locked', 'another run has taken over');
    await failureOf(sink.write({ ...dataset, confirm: () => Promise.reject(lost) }));
    expect(await uploadsOf(tag)).toEqual(new Set([dataset.metadata.upload_id]));
    const next = await datasetOf(folder, numbered(1), { tag });
    await sink.write(next);
    expect(await uploadsOf(tag)).toEqual(new Set([next.metadata.upload_id]));
    await sink.write(dataset);
    expect([...(await uploadsOf(tag))].sort()).toEqual([dataset.metadata.upload_id, next.metadata.upload_id].sort());
  });

  test('take as many partitions as they need, each record in its place', async () => {
    const sink = await open({ STORE_CASSANDRA_CONCURRENCY: '3' });
    const tag = 'okta_partitions';
    const records = numbered(12_001);
    await sink.write(await datasetOf(folder, records, { tag }));
    expect(await newestUpload(reader, keyspace, tag)).toEqual(records);
    const [listed] = await rows(`SELECT buckets FROM ${keyspace}.cyber_collect_uploads WHERE tenancy = ? AND tag = ?`, [
      ...['acme', tag],
    ]);
    expect(listed?.buckets).toBe(3);
  });

  test('a record of many pieces breaks no character', async () => {
    const sink = await open();
    const record = `{"text":"${'x'.repeat(2 ** 20 - 10)}${'日本🦊'.repeat(400_000)}"}`;
    await sink.write(await datasetOf(folder, [record, '1'], { tag: 'okta_pieces' }));
    const found = await newestUpload(reader, keyspace, 'okta_pieces');
    expect(found?.map((text) => text === record)).toEqual([true, false]);
  });

  test('bytes that are no text are named by their records', async () => {
    const sink = await open();
    const good = await datasetOf(folder, ['1'], { tag: 'okta_bytes' });
    const writer = await SpoolWriter.create(join(folder, 'bytes.ndjson'));
    await writer.write([Buffer.from('1\n2\n"'), Buffer.from([0xff, 0xfe]), Buffer.from('"\n')]);
    const error = await failureOf(sink.write({ ...good, spool: await writer.finish(3) }));
    expect(error.code).toBe('store');
    expect(error.message).toMatch(/records 1 to 3 .*0x2200/);
    expect(await newestUpload(reader, keyspace, 'okta_bytes')).toBeUndefined();
  });

  test('expire, and are off the list before their first record is gone', async () => {
    const sink = await open({ STORE_CASSANDRA_TTL: '5000' });
    const tag = 'okta_expiring';
    await sink.write(await datasetOf(folder, numbered(3000), { tag }));
    const [listed] = await rows(
      `SELECT TTL(records) AS ttl, upload_id FROM ${keyspace}.cyber_collect_uploads WHERE tenancy = ? AND tag = ?`,
      ['acme', tag],
    );
    const records = await rows(
      `SELECT TTL(json_data) AS ttl FROM ${keyspace}.cyber_collect_records
       WHERE tenancy = ? AND tag = ? AND upload_id = ? AND bucket = 0`,
      ['acme', tag, listed?.upload_id],
    );
    const least = Math.min(...records.map((row) => row.ttl));
    expect(least).toBeGreaterThan(4000);
    expect(listed?.ttl).toBeLessThan(least);
  });
});

describe('the older tables', () => {
  function line(n: number, more: Readonly<Record<string, unknown>> = {}): string {
    const event = `${(0x10000000 + n).toString(16)}-5b1e-11f1-8000-01a2b3c4d5e6`;
    return JSON.stringify({
      device_name: `web${n % 3}`,
      date: `2026-03-04T05:06:${String(n % 60).padStart(2, '0')}Z`,
      event_id: event,
      data: `<34>Mar  4 05:06:07 web${n % 3} sshd[1]: Failed password \u0000 🦊 ${n}`,
      message: 'is not a column',
      ...more,
    });
  }

  test('take syslog events, the same ones once, in the order of their dates', async () => {
    const sink = await open();
    const lines = Array.from({ length: 2500 }, (_, n) => line(n));
    const dataset = await datasetOf(folder, lines, { tag: 'syslog_events', kind: 'events' });
    const written = await sink.write(dataset);
    expect(written).toEqual({ at: `cassandra://${login.point} ${keyspace}.events (syslog_events)`, records: 2500 });
    await sink.write({ ...dataset, metadata: { ...dataset.metadata, upload_id: randomUUID() } });
    const found = await rows(`SELECT * FROM ${keyspace}.events`);
    expect(found).toHaveLength(2500);
    const web1 = await rows(`SELECT date, event_id, data FROM ${keyspace}.events WHERE device_name = 'web1'`);
    expect(web1.map((row) => row.date)).toEqual(web1.map((row) => row.date).toSorted());
    const one = JSON.parse(line(7));
    expect(web1.find((row) => String(row.event_id) === one.event_id)?.data).toBe(one.data);
  });

  test('are as the older tool made them', async () => {
    const sink = await open();
    await sink.write(await datasetOf(folder, [line(1)], { tag: 'syslog_events', kind: 'events' }));
    await sink.write(await datasetOf(folder, [line(1)], { tag: 'syslog_alerts', kind: 'events' }));
    const metric = '{"id":"web1","memory":1,"cpu":2,"priviledge_escalation":3}';
    await sink.write(await datasetOf(folder, [metric], { tag: 'syslog_metrics' }));
    const columns = await rows('SELECT * FROM system_schema.columns WHERE keyspace_name = ?', [keyspace]);
    const shapeOf = (table: string) =>
      columns
        .filter((row) => row.table_name === table)
        .map((row) => `${row.column_name} ${row.type} ${row.kind} ${row.position} ${row.clustering_order}`)
        .sort();
    const lines = [
      'data text regular -1 none',
      'date text clustering 0 asc',
      'device_name text partition_key 0 none',
      'event_id timeuuid clustering 1 asc',
    ];
    expect(shapeOf('events')).toEqual(lines);
    expect(shapeOf('alerts')).toEqual(lines);
    expect(shapeOf('metrics')).toEqual([
      'cpu int regular -1 none',
      'id text partition_key 0 none',
      'memory int regular -1 none',
      'priviledge_escalation int regular -1 none',
    ]);
    const [stored] = await rows(`SELECT * FROM ${keyspace}.metrics`);
    expect({ ...stored }).toEqual(JSON.parse(metric));
  });

  test('may be all there is', async () => {
    const own = `${keyspace}_older`;
    await reader.execute(
      `CREATE KEYSPACE ${own} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`,
    );
    try {
      await reader.execute(`CREATE TABLE ${own}.lines (device_name text, date text, event_id timeuuid, data text,
        PRIMARY KEY ((device_name), date, event_id)) WITH CLUSTERING ORDER BY (date ASC, event_id ASC)`);
      const sink = await open({
        STORE_CASSANDRA_CREATE: 'false',
        STORE_CASSANDRA_TABLE: 'LINES',
        STORE_CASSANDRA_KEYSPACE: '',
        ASTRA_DB_KEYSPACE: own,
        STORE_CASSANDRA_TTL: '1000',
      });
      await sink.check?.();
      await sink.write(await datasetOf(folder, [line(1)], { tag: 'syslog_events', kind: 'events' }));
      const [found] = await rows(`SELECT TTL(data) AS ttl FROM ${own}.lines`);
      expect(found?.ttl).toBeGreaterThan(900);
      const error = await failureOf(sink.write(await datasetOf(folder, ['1'])));
      expect(error.code).toBe('config');
      expect(error.mend).toContain(`CREATE TABLE IF NOT EXISTS ${own}.cyber_collect_records (tenancy text, tag text`);
    } finally {
      await reader.execute(`DROP KEYSPACE ${own}`, [], { prepare: false, readTimeout: 60_000 });
    }
  });

  test.each([
    ['no device', { device_name: null }, 'device_name'],
    ['a random event_id', { event_id: randomUUID() }, 'event_id'],
    ['no data', { data: 17 }, 'data'],
  ])('refuse a record with %s by its number', async (_, more, column) => {
    const sink = await open();
    const lines = [line(1), line(2), line(3, { ...more, data_secret: 'hush-0003' })];
    const error = await failureOf(sink.write(await datasetOf(folder, lines, { tag: 'syslog_events', kind: 'events' })));
    expect(error.message).toBe(
      `syslog_events: record 3 has no ${column} that fits a column of type ${column === 'event_id' ? 'timeuuid' : 'text'}`,
    );
  });

  test('take nothing of a spool that was cut', async () => {
    const sink = await open({ STORE_CASSANDRA_TABLE: 'cut_lines' });
    await sink.write(await datasetOf(folder, [], { tag: 'syslog_events', kind: 'events' }));
    const dataset = await datasetOf(folder, [line(1), line(2)], { tag: 'syslog_events', kind: 'events' });
    await truncate(dataset.spool.path, dataset.spool.bytes - 5);
    expect((await failureOf(sink.write(dataset))).message).toMatch(/spool/);
    expect(await rows(`SELECT * FROM ${keyspace}.cut_lines`)).toEqual([]);
  });
});

describe('the connection', () => {
  test('that breaks in the middle is made anew', async () => {
    const door = await doorTo(login.point, { breakAfter: [300_000, 700_000] });
    const sink = await open({ STORE_CASSANDRA_CONTACT_POINTS: door.point });
    const records = numbered(40_000);
    await sink.write(await datasetOf(folder, records, { tag: 'okta_broken' }));
    expect(door.broken()).toBe(2);
    expect(await newestUpload(reader, keyspace, 'okta_broken')).toEqual(records);
  });

  test('is made over TLS with an authority of one’s own', async () => {
    const door = await doorTo(login.point, { tls: certificates });
    const more = { STORE_CASSANDRA_CONTACT_POINTS: door.point, STORE_CASSANDRA_TLS: 'on' };
    const sink = await open({ ...more, STORE_CASSANDRA_TLS_CA: certificates.caFile });
    await sink.write(await datasetOf(folder, numbered(10), { tag: 'okta_tls' }));
    expect(await newestUpload(reader, keyspace, 'okta_tls')).toHaveLength(10);
    const unknown = await failureOf(open(more).then((opened) => opened.check?.()));
    expect(unknown.message).toMatch(/certificate .* is not accepted/);
    const stranger = { ...more, STORE_CASSANDRA_TLS_CA: certificates.strangerFile };
    expect((await failureOf(open(stranger).then((opened) => opened.check?.()))).code).toBe('network');
    const none = { ...more, STORE_CASSANDRA_TLS_CA: '/no/ca.pem' };
    expect((await failureOf(open(none).then((opened) => opened.check?.()))).message).toContain('/no/ca.pem');
    await (await open({ ...more, STORE_CASSANDRA_TLS: 'unchecked' })).check?.();
  });

  test('is made with the secure connect bundle of Astra', async () => {
    const bundle = await bundleFor(login, certificates, folder);
    const token = 'AstraCS:hush-0006';
    await reader.execute(`CREATE ROLE 'token' WITH PASSWORD = '${token}' AND LOGIN = true AND SUPERUSER = true`, [], {
      prepare: false,
    });
    onTestFinished(async () => {
      await reader.execute("DROP ROLE 'token'", [], { prepare: false });
    });
    const astra = {
      STORE_CASSANDRA_USERNAME: '',
      STORE_CASSANDRA_CONTACT_POINTS: '',
      STORE_CASSANDRA_LOCAL_DC: '',
      STORE_CASSANDRA_PASSWORD: '',
      STORE_CASSANDRA_KEYSPACE: '',
      ASTRA_DB_KEYSPACE: keyspace,
      STORE_ASTRA_BUNDLE: bundle,
      ASTRA_DB_APPLICATION_TOKEN: token,
    };
    const sink = await open(astra);
    const { at } = await sink.write(await datasetOf(folder, numbered(10), { tag: 'okta_astra' }));
    expect(at).toBe(`astra secure-connect-db.zip ${keyspace}.cyber_collect_records (okta_astra)`);
    expect(await newestUpload(reader, keyspace, 'okta_astra')).toHaveLength(10);
    const refused = await open({ ...astra, ASTRA_DB_APPLICATION_TOKEN: 'AstraCS:hush-0005' });
    const error = await failureOf(refused.check?.());
    expect(error.code).toBe('credentials');
    expect(error.mend).toContain('ASTRA_DB_APPLICATION_TOKEN');
    const away = await failureOf((await open({ ...astra, ASTRA_DB_KEYSPACE: 'not_there' })).check?.());
    expect(away.mend).toContain('portal');
    const gone = await open({ ...astra, STORE_ASTRA_BUNDLE: join(folder, 'gone.zip') });
    expect((await failureOf(gone.check?.())).message).toMatch(/gone.zip cannot be read \(ENOENT\)/);
    await writeFile(join(folder, 'broken.zip'), 'no zip');
    const broken = await open({ ...astra, STORE_ASTRA_BUNDLE: join(folder, 'broken.zip') });
    expect((await failureOf(broken.check?.())).message).toMatch(/broken.zip .*secure connect bundle/);
  });
});

describe('errors', () => {
  test.each<[string, Variables, string, RegExp]>([
    ['a port nobody listens on', { STORE_CASSANDRA_CONTACT_POINTS: '127.0.0.1:1' }, 'network', /connection refused/],
    [
      'an unknown host',
      { STORE_CASSANDRA_CONTACT_POINTS: 'cassandra.invalid' },
      'network',
      /no node of the cluster answers/,
    ],
    ['another data center', { STORE_CASSANDRA_LOCAL_DC: 'mars' }, 'config', /no data center of that name/],
    ['no login', { STORE_CASSANDRA_USERNAME: '' }, 'credentials', /refuses the login/],
    ['a server without TLS', { STORE_CASSANDRA_TLS: 'on' }, 'network', /TLS/],
    ['a bundle that is not there', { STORE_ASTRA_BUNDLE: '/no/bundle.zip' }, 'config', /both set/],
  ])('%s', async (_, more, code, message) => {
    const error = await failureOf(open(more).then((sink) => sink.check?.()));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.mend).toBeDefined();
  });

  test('a role that may only look', async () => {
    const role = `looker_${randomUUID().slice(0, 8)}`;
    await (await open()).check?.();
    await reader.execute(`CREATE ROLE ${role} WITH PASSWORD = 'hush-0004' AND LOGIN = true`, [], { prepare: false });
    try {
      const sink = await open({ STORE_CASSANDRA_USERNAME: role, STORE_CASSANDRA_PASSWORD: 'hush-0004' });
      const error = await failureOf(sink.write(await datasetOf(folder, ['1'])));
      expect(error.code).toBe('denied');
      expect(error.mend).toContain('MODIFY');
    } finally {
      await reader.execute(`DROP ROLE ${role}`, [], { prepare: false });
    }
  });
});
