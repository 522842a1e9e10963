import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Sink } from '../../src/stores/store.ts';
import store from '../../src/stores/store_postgres.ts';
import { datasetOf } from '../support/dataset.ts';
import { killOverAndOver } from '../support/killed.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import { storeSuite } from './suite.ts';

let server: PostgresServer;
let reader: pg.Pool;
let folder: string;
const opened: Sink[] = [];

beforeAll(async () => {
  server = await startPostgres();
  const { host, port, user, password, database } = server;
  reader = new pg.Pool({ host, port, user, password, database });
  reader.on('error', () => undefined); // the server stops before every connection has closed
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-spool-'));
});

afterAll(async () => {
  for (const sink of opened) await sink.close?.();
  await reader?.end();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function open(env: Record<string, string> = {}, warnings: string[] = []): Promise<Sink> {
  const settings = z.object(store.env).parse({
    STORE_POSTGRES_HOST: server.host,
    STORE_POSTGRES_PORT: String(server.port),
    STORE_POSTGRES_USER: server.user,
    STORE_POSTGRES_PASSWORD: server.password,
    STORE_POSTGRES_DBNAME: server.database,
    ...env,
  });
  const sink = await store.open(settings, { tenancy: 'acme', at: new Date(), warn: (said) => warnings.push(said) });
  opened.push(sink);
  return sink;
}

async function rows(sql: string): Promise<readonly Record<string, unknown>[]> {
  return (await reader.query(sql)).rows;
}

storeSuite(
  'postgres',
  async () => ({
    open: (warnings) => open({ STORE_POSTGRES_SCHEMA: 'Suite "1"' }, warnings),
    read: async (tag) => {
      const found = await rows(`SELECT json_data::text AS record FROM "Suite ""1"""."${tag}_latest"`);
      return found.map((row) => String(row.record).replace(/([:,]) /g, '$1'));
    },
    exact: false,
    nul: 'replaced',
    loneSurrogate: 'replaced',
    openWrong: () => open({ STORE_POSTGRES_PASSWORD: 'not-the-password-9Zk' }),
    secrets: [server.password, 'not-the-password-9Zk'],
  }),
  { login: true, checksJson: true, remembers: true },
);

describe('the postgres store', () => {
  test('killed at any moment holds the old whole or the new whole, which a reader sees throughout', async () => {
    const env = {
      STORE_POSTGRES_HOST: server.host,
      STORE_POSTGRES_PORT: String(server.port),
      STORE_POSTGRES_USER: server.user,
      STORE_POSTGRES_PASSWORD: server.password,
      STORE_POSTGRES_DBNAME: server.database,
      STORE_POSTGRES_SCHEMA: 'killed',
    };
    const read = async () => {
      const found = await rows('SELECT json_data::text AS record FROM killed.okta_killed_latest').catch((error) => {
        if ((error as { code?: string }).code === '42P01') return undefined;
        throw error;
      });
      return found?.map((row) => String(row.record));
    };
    const seen = await killOverAndOver({ store: 'postgres', env, folder, read, kills: 8 });
    expect(seen.wrong).toEqual([]);
    expect(seen.generations).toBeGreaterThan(1);
  }, 120_000);

  test('append keeps every upload and lists it; the view shows the newest of each tenancy', async () => {
    const sink = await open();
    await sink.write(await datasetOf(folder, ['{"n":1}', '{"n":2}'], { tag: 'appended' }));
    await sink.write(await datasetOf(folder, ['{"n":9}'], { tag: 'appended', metadata: { tenancy: 'other' } }));
    await sink.write(await datasetOf(folder, ['{"n":3}'], { tag: 'appended' }));
    expect(await rows('SELECT tenancy, json_data FROM appended_latest ORDER BY tenancy')).toEqual([
      { tenancy: 'acme', json_data: { n: 3 } },
      { tenancy: 'other', json_data: { n: 9 } },
    ]);
    expect(await rows('SELECT count(*)::int AS n FROM appended')).toEqual([{ n: 4 }]);
    expect(
      await rows(`SELECT records::int AS n, metadata->>'collector' AS collector FROM cyber_collect_uploads
        WHERE tag = 'appended' ORDER BY upload_timestamp`),
    ).toEqual([2, 1, 1].map((n) => ({ n, collector: 'okta' })));
  });

  test('replace deletes the tenancy alone, and never events', async () => {
    const sink = await open({ STORE_POSTGRES_MODE: 'replace' });
    for (const kind of ['snapshot', 'events'] as const) {
      const tag = `replaced_${kind}`;
      await sink.write(await datasetOf(folder, ['{"n":1}', '{"n":2}'], { tag, kind }));
      await sink.write(await datasetOf(folder, ['{"n":9}'], { tag, kind, metadata: { tenancy: 'other' } }));
      await sink.write(await datasetOf(folder, ['{"n":3}'], { tag, kind }));
    }
    const all = "SELECT json_data->>'n' AS n FROM";
    expect((await rows(`${all} replaced_snapshot ORDER BY 1`)).map((row) => row.n)).toEqual(['3', '9']);
    expect((await rows(`${all} replaced_events ORDER BY 1`)).map((row) => row.n)).toEqual(['1', '2', '3', '9']);
  });

  test('a column for each key has the narrowest type that keeps every value, grows, and says what became jsonb', async () => {
    for (const layout of ['typed', 'both']) {
      const tag = `columns_${layout}`;
      const table = layout === 'typed' ? tag : `${tag}_typed`;
      const warnings: string[] = [];
      const sink = await open({ STORE_POSTGRES_LAYOUT: layout }, warnings);
      const long = 'k'.repeat(80);
      const first = await datasetOf(
        folder,
        [
          `{"id":1,"utc":"2026-01-02T03:04:05.6Z","offset":"2026-01-02T03:04:05+02:00","local":"2026-01-02T03:04:05",` +
            `"seven":"2026-01-02T03:04:05.1234567Z","day":"2028-02-29","odd":"2026-02-29","code":"007",` +
            `"huge":123456789012345678901234,"half":9007199254740993,"truth":true,"o":{"b":[1,null]},"mixed":"null",` +
            `"uuid":"0b6cf5cb-32c7-4b4e-9f64-6f7a9d4b8a11","nothing":null,"tenancy":"theirs","Id":"other",` +
            `"it's \\"q\\"":"nul \\u0000","${long}":1,"${long}2":2}`,
          '{"id":2,"half":0.12345678901234567890123,"code":"8","mixed":17}',
        ],
        { tag },
      );
      await sink.write(first);
      await sink.write(first);
      const [found, ...others] = await rows(`SELECT * FROM ${table}_latest ORDER BY id`);
      expect(others).toHaveLength(1);
      expect(found).toMatchObject({
        upload_id: first.metadata.upload_id,
        tenancy: 'acme',
        id: '1',
        utc: new Date('2026-01-02T03:04:05.600Z'),
        offset: new Date('2026-01-02T01:04:05Z'),
        seven: '2026-01-02T03:04:05.1234567Z',
        odd: '2026-02-29',
        code: '007',
        huge: '123456789012345678901234',
        half: '9007199254740993',
        truth: true,
        o: { b: [1, null] },
        mixed: 'null',
        nothing: null,
        _tenancy: 'theirs',
        Id: 'other',
        'it\'s "q"': 'nul \ufffd',
      });
      expect(others[0]).toMatchObject({ half: '0.12345678901234567890123', mixed: 17, day: null });
      expect(Object.keys(found ?? {}).filter((name) => name.startsWith('kkk'))).toEqual([
        expect.stringMatching(/^k{54}_[0-9a-f]{8}$/),
        expect.stringMatching(/^k{54}_[0-9a-f]{8}$/),
      ]);
      const types = await rows(`SELECT attname AS n, format_type(atttypid, NULL) AS t FROM pg_attribute
        WHERE attrelid = '${table}'::regclass AND attnum > 3`);
      expect(Object.fromEntries(types.map(({ n, t }) => [n, t]))).toMatchObject({
        id: 'bigint',
        utc: 'timestamp with time zone',
        local: 'timestamp without time zone',
        day: 'date',
        huge: 'numeric',
        half: 'numeric',
        mixed: 'jsonb',
        uuid: 'uuid',
        Id: 'text',
      });
      expect(warnings).toEqual([expect.stringContaining('1 escapes')]);
      await sink.write(await datasetOf(folder, ['{"id":1.5,"day":7,"fresh":[]}'], { tag }));
      expect(warnings.slice(1)).toEqual([
        expect.stringContaining('column day was date, is bigint in this upload, and became jsonb'),
      ]);
      expect(await rows(`SELECT id, day, fresh, code FROM ${table}_latest`)).toEqual([
        { id: '1.5', day: 7, fresh: [], code: null },
      ]);
      expect(await rows(`SELECT day FROM ${table} WHERE code = '007'`)).toEqual([{ day: '2028-02-29' }]);
      await sink.write(await datasetOf(folder, ['[1]', '"x"'], { tag }));
      expect(await rows(`SELECT json FROM ${table}_latest ORDER BY json::text`)).toEqual([
        { json: 'x' },
        { json: [1] },
      ]);
      await sink.write(await datasetOf(folder, [], { tag }));
      expect(await rows(`SELECT id FROM ${table}_latest`)).toEqual([]);
      if (layout === 'both') expect(await rows(`SELECT count(*)::int AS n FROM ${tag}`)).toEqual([{ n: 5 }]);
    }
  });

  test('typed columns are refused where they cannot be, and nothing changes', async () => {
    const raw = await open();
    await raw.write(await datasetOf(folder, ['{"id":1}'], { tag: 'refused' }));
    const typed = await open({ STORE_POSTGRES_LAYOUT: 'typed' });
    const refused = typed.write(await datasetOf(folder, ['{"id":2}'], { tag: 'refused' }));
    await expect(refused).rejects.toMatchObject({ message: expect.stringMatching(/holds raw records/) });
    const both = await open({ STORE_POSTGRES_LAYOUT: 'both', STORE_POSTGRES_MODE: 'replace' });
    await both.write(await datasetOf(folder, ['{"id":3}'], { tag: 'refused' }));
    const many = `{${Array.from({ length: 1501 }, (_, n) => `"k${n}":1`).join(',')}}`;
    for (const [record, message] of [
      [many, /more than 1500 keys/],
      ['{"":1}', /key without a name/],
      ['{"tenancy":1,"_tenancy":2}', /two keys would be the column _tenancy/],
    ] as const) {
      const clash = both.write(await datasetOf(folder, [record], { tag: 'refused' }));
      await expect(clash).rejects.toMatchObject({ message: expect.stringMatching(message), mend: expect.any(String) });
    }
    await rows('CREATE VIEW rests AS SELECT id FROM refused_typed_latest');
    const rested = both.write(await datasetOf(folder, ['{"id":4,"fresh":1}'], { tag: 'refused' }));
    await expect(rested).rejects.toMatchObject({ message: expect.stringMatching(/rests on a view/) });
    expect(await rows('SELECT id FROM rests')).toEqual([{ id: '3' }]);
    expect(await rows('SELECT json_data FROM refused')).toEqual([{ json_data: { id: 3 } }]);
    await rows('DROP VIEW rests');
    await both.write(await datasetOf(folder, ['{"id":4,"fresh":1}'], { tag: 'refused' }));
    expect(await rows('SELECT id, fresh FROM refused_typed')).toEqual([{ id: '4', fresh: '1' }]);
  });

  test('both layouts work beside an older table', async () => {
    await rows('CREATE TABLE elder (upload_timestamp timestamp, tenancy varchar(20), json_data json)');
    const sink = await open({ STORE_POSTGRES_LAYOUT: 'both' });
    await sink.write(await datasetOf(folder, ['{"id":1}'], { tag: 'elder' }));
    await sink.write(await datasetOf(folder, ['{"id":2}', '{"id":3}'], { tag: 'elder' }));
    expect(await rows('SELECT id FROM elder_typed_latest ORDER BY id')).toEqual([{ id: '2' }, { id: '3' }]);
  });

  test('the same upload written by four at once is stored once', async () => {
    const sinks = await Promise.all([open(), open(), open(), open()]);
    const dataset = await datasetOf(folder, ['{"n":1}', '{"n":2}'], { tag: 'together' });
    await Promise.all(sinks.map((sink) => sink.write(dataset)));
    expect(await rows('SELECT count(*)::int AS n FROM together')).toEqual([{ n: 2 }]);
  });

  test('an older table keeps its columns, and an empty upload is the newest one there too', async () => {
    await rows(`CREATE TABLE older (upload_timestamp timestamp, tenancy varchar(20), json_data json);
      INSERT INTO older VALUES ('2020-01-01', 'acme', '{"old":1}')`);
    const sink = await open();
    await sink.write(await datasetOf(folder, ['{"z":"\\u0000","a":1}'], { tag: 'older' }));
    expect(await rows('SELECT json_data::text AS record FROM older_latest')).toEqual([
      { record: '{"z":"\\u0000","a":1}' },
    ]);
    const again = await datasetOf(folder, [], { tag: 'older' });
    await sink.write(again);
    expect(await rows('SELECT * FROM older_latest')).toEqual([]);
    expect(await rows('SELECT count(*)::int AS n FROM older')).toEqual([{ n: 2 }]);
    expect(
      (
        await rows(`SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute
      WHERE attrelid = 'older'::regclass AND attnum > 0 ORDER BY attnum`)
      ).map((row) => row.type),
    ).toEqual(['timestamp without time zone', 'character varying(20)', 'json']);
    expect(await sink.latest?.('older')).toMatchObject({ upload_id: again.metadata.upload_id });
  });

  test('a table with other columns is a sentence', async () => {
    await rows('CREATE TABLE foreign_one (id int)');
    const sink = await open();
    const dataset = await datasetOf(folder, ['1'], { tag: 'foreign_one' });
    await expect(sink.write(dataset)).rejects.toThrow(/foreign_one has no column upload_timestamp/);
  });

  test('invalid UTF-8 and raw control characters name the record', async () => {
    const sink = await open();
    for (const [tag, bad] of Object.entries({ bad_utf8: [0x22, 0xff, 0x22], bad_nul: [0x22, 0, 0x22] })) {
      const dataset = await datasetOf(folder, ['1', '"-"', '3'], { tag });
      await writeFile(dataset.spool.path, Buffer.from([0x31, 10, ...bad, 10, 0x33, 10]));
      await expect(sink.write(dataset)).rejects.toMatchObject({
        code: 'store',
        message: expect.stringMatching(/record 2: it is no valid UTF-8/),
      });
    }
  });

  test('carriage returns between tokens are no rows', async () => {
    const sink = await open();
    await sink.write(await datasetOf(folder, ['{"a":1}\r', '{"a":\r2}', '{"a":3}'], { tag: 'windows' }));
    expect(await rows('SELECT count(*)::int AS n FROM windows')).toEqual([{ n: 3 }]);
  });

  test('a long tag gets a view of its own; a too long one is refused', async () => {
    const sink = await open();
    const tag = 'a'.repeat(63);
    await sink.write(await datasetOf(folder, ['1'], { tag }));
    expect(await rows(`SELECT viewname FROM pg_views WHERE viewname LIKE 'aaaa%latest'`)).toHaveLength(1);
    await expect(sink.write(await datasetOf(folder, ['1'], { tag: `${tag}a` }))).rejects.toMatchObject({
      code: 'config',
    });
  });

  test('what stands in the way is said in one sentence each', async () => {
    await rows(`CREATE ROLE weak LOGIN PASSWORD 'weak-password-3Pm'; CREATE SCHEMA locked_up`);
    const weak = { STORE_POSTGRES_USER: 'weak', STORE_POSTGRES_PASSWORD: 'weak-password-3Pm' };
    const cases = [
      [{ STORE_POSTGRES_DBNAME: 'nowhere' }, 'config', /no such database/],
      [{ ...weak, STORE_POSTGRES_SCHEMA: 'locked_up' }, 'denied', /privilege/],
      [{ ...weak, STORE_POSTGRES_SCHEMA: 'not_there' }, 'denied', /privilege/],
      [{ STORE_POSTGRES_PORT: '1' }, 'network', /refused/],
      [{ STORE_POSTGRES_SSLMODE: 'require' }, 'config', /no TLS/],
      [{ STORE_POSTGRES_SSLMODE: 'verify-ca', STORE_POSTGRES_SSLROOTCERT: '/nowhere.pem' }, 'config', /cannot be read/],
      [{ STORE_POSTGRES_HOST: join(folder, 'no-socket') }, 'network', /socket/],
    ] as const;
    for (const [env, code, message] of cases) {
      const sink = await open(env);
      const dataset = await datasetOf(folder, ['1'], { tag: 'hindered' });
      await expect(sink.write(dataset), inspectable(env)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
      await expect(sink.check?.(), inspectable(env)).rejects.toMatchObject({ code, mend: expect.any(String) });
    }
  });

  test('a connection lost in the middle is made again, once', async () => {
    const sink = await open({ STORE_POSTGRES_SCHEMA: 'cut' });
    await sink.write(await datasetOf(folder, ['1'], { tag: 'cut_off' }));
    const blocker = await reader.connect();
    await blocker.query('BEGIN; LOCK TABLE cut.cut_off IN EXCLUSIVE MODE');
    const write = sink.write(await datasetOf(folder, ['2', '3'], { tag: 'cut_off' }));
    const waiting = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE application_name = 'cyber-collect' AND wait_event_type = 'Lock'`;
    while ((await rows(waiting)).length === 0);
    await blocker.query('COMMIT');
    blocker.release();
    await expect(write).resolves.toMatchObject({ records: 2 });
    expect(await rows('SELECT count(*)::int AS n FROM cut.cut_off')).toEqual([{ n: 3 }]);
  });

  test('targets tell tables apart and hold no credentials', () => {
    const settings = z.object(store.env).parse({
      STORE_POSTGRES_HOST: 'db.example.com',
      STORE_POSTGRES_USER: 'loader',
      STORE_POSTGRES_PASSWORD: 'weak-password-3Pm',
    });
    const names = { uuid: 'u', tag: 'okta_users', tenancy: 'acme', at: new Date() };
    expect(store.targets(settings, 'snapshot', names)).toEqual([
      'postgres://db.example.com:5432/loader public.okta_users',
    ]);
  });
});

function inspectable(env: Readonly<Record<string, string>>): string {
  return Object.keys(env).join(', ');
}
