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
