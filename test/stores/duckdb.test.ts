import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Sink } from '../../src/stores/store.ts';
import store from '../../src/stores/store_duckdb.ts';
import { datasetOf } from '../support/dataset.ts';
import { killOverAndOver } from '../support/killed.ts';
import { storeSuite } from './suite.ts';

/** Another process that opens the file, runs a statement and closes it; `hold` keeps it open until `free`. */
const READER = `
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { DuckDBInstance } from '@duckdb/node-api';
async function open(path) {
  for (;;) {
    try { return await DuckDBInstance.create(path, { threads: '1' }); }
    catch (error) { if (!error.message.includes('lock')) throw error; await setTimeout(5); }
  }
}
let held;
for await (const line of createInterface({ input: process.stdin })) {
  const { path, sql, hold } = JSON.parse(line);
  let answer;
  try {
    const instance = held ?? await open(path);
    held = undefined;
    const connection = await instance.connect();
    answer = { rows: (await connection.runAndReadAll(sql)).getRowObjectsJson() };
    connection.closeSync();
    if (hold) held = instance; else instance.closeSync();
  } catch (error) { answer = { error: error.message }; }
  // Newer Nodes take U+2028 and U+2029 for the end of a line.
  process.stdout.write(JSON.stringify(answer).replace(/[\\u2028\\u2029]/g, (end) => end === '\\u2028' ? '\\\\u2028' : '\\\\u2029') + '\\n');
}`;

let folder: string;
let reader: ChildProcess;
let answers: Interface;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-duckdb-'));
  reader = spawn(process.execPath, ['--input-type=module', '-e', READER], { stdio: ['pipe', 'pipe', 'inherit'] });
  if (reader.stdout === null) throw new Error('the reader has no output');
  answers = createInterface({ input: reader.stdout });
});

afterAll(async () => {
  reader.stdin?.end();
  await rm(folder, { recursive: true, force: true });
});

async function rows(path: string, sql: string, hold = false): Promise<readonly Record<string, unknown>[]> {
  const line = once(answers, 'line');
  reader.stdin?.write(`${JSON.stringify({ path, sql, hold })}\n`);
  const answer = JSON.parse(String((await line)[0])) as { rows?: Record<string, unknown>[]; error?: string };
  if (answer.rows === undefined) throw new Error(answer.error);
  return answer.rows;
}

async function open(env: Record<string, string>, warnings: string[] = [], tenancy = 'acme'): Promise<Sink> {
  const settings = z.object(store.env).parse(env);
  return store.open(settings, { tenancy, at: new Date(), warn: (said) => warnings.push(said) });
}

storeSuite(
  'duckdb',
  async () => ({
    open: (warnings) => open({ STORE_DUCKDB: join(folder, 'made/on/demand/%TENANCY.duckdb') }, warnings),
    read: async (tag) => {
      const path = join(folder, 'made/on/demand/acme.duckdb');
      return (await rows(path, `SELECT json_data::VARCHAR AS record FROM ${tag}_latest`)).map((row) =>
        String(row.record),
      );
    },
    exact: true,
    nul: 'kept',
    loneSurrogate: 'replaced',
    secrets: [],
  }),
  { checksJson: true, remembers: true },
);

describe('the duckdb store', () => {
  test('killed at any moment holds the old whole or the new whole', async () => {
    const path = join(folder, 'killed.duckdb');
    const read = async () => {
      const sql = 'SELECT json_data::VARCHAR AS record FROM okta_killed_latest';
      const found = await rows(path, sql).catch((error: Error) => {
        if (/does not exist/.test(error.message)) return undefined;
        throw error;
      });
      return found?.map((row) => String(row.record));
    };
    const seen = await killOverAndOver({
      store: 'duckdb',
      env: { STORE_DUCKDB: path },
      folder,
      read,
      kills: 8,
      alone: true,
    });
    expect(seen.wrong).toEqual([]);
    expect(seen.generations).toBeGreaterThan(1);
  }, 120_000);

  test('append keeps every upload and lists it; the view shows the newest of each tenancy', async () => {
    const path = join(folder, 'append.duckdb');
    const sink = await open({ STORE_DUCKDB: path });
    await sink.write(await datasetOf(folder, ['{"n":1}', '{"n":2}']));
    await sink.write(await datasetOf(folder, ['{"n":9}'], { metadata: { tenancy: 'other' } }));
    await sink.write(await datasetOf(folder, ['{"n":3}']));
    expect(await rows(path, 'SELECT tenancy, json_data FROM okta_users_latest ORDER BY tenancy')).toEqual([
      { tenancy: 'acme', json_data: '{"n":3}' },
      { tenancy: 'other', json_data: '{"n":9}' },
    ]);
    expect(await rows(path, 'SELECT count(*)::INT AS n FROM okta_users')).toEqual([{ n: 4 }]);
    expect(await rows(path, 'SELECT records::INT AS n FROM cyber_collect_uploads ORDER BY upload_timestamp')).toEqual([
      { n: 2 },
      { n: 1 },
      { n: 1 },
    ]);
  });

  test('replace deletes the tenancy alone, and never events', async () => {
    const path = join(folder, 'replace.duckdb');
    const sink = await open({ STORE_DUCKDB: path, STORE_DUCKDB_MODE: 'replace' });
    for (const kind of ['snapshot', 'events'] as const) {
      await sink.write(await datasetOf(folder, ['{"n":1}', '{"n":2}'], { tag: kind, kind }));
      await sink.write(await datasetOf(folder, ['{"n":9}'], { tag: kind, kind, metadata: { tenancy: 'other' } }));
      await sink.write(await datasetOf(folder, ['{"n":3}'], { tag: kind, kind }));
    }
    const all = "SELECT json_data->>'n' AS n FROM";
    expect((await rows(path, `${all} snapshot ORDER BY 1`)).map((row) => row.n)).toEqual(['3', '9']);
    expect((await rows(path, `${all} events ORDER BY 1`)).map((row) => row.n)).toEqual(['1', '2', '3', '9']);
  });

  test('an older table keeps its columns, and an empty upload is the newest one there too', async () => {
    const path = join(folder, 'older.duckdb');
    for (const type of ['TIMESTAMP', 'TIMESTAMPTZ', 'VARCHAR']) {
      const tag = `older_${type.toLowerCase()}`;
      await rows(path, `CREATE TABLE ${tag} (upload_timestamp ${type}, tenancy VARCHAR, json_data TEXT)`);
      await rows(path, `INSERT INTO ${tag} VALUES ('2020-01-01 00:00:00', 'acme', '{"old":1}')`);
      const sink = await open({ STORE_DUCKDB: path });
      await sink.write(await datasetOf(folder, ['{"z":1,"a":1}'], { tag }));
      expect(await rows(path, `SELECT json_data FROM ${tag}_latest`)).toEqual([{ json_data: '{"z":1,"a":1}' }]);
      await sink.write(await datasetOf(folder, [], { tag }));
      expect(await rows(path, `SELECT json_data FROM ${tag}_latest`)).toEqual([]);
      expect(await rows(path, `SELECT count(*)::INT AS n FROM ${tag}`)).toEqual([{ n: 2 }]);
    }
  });

  test('waits for another process to let go of the file', async () => {
    const path = join(folder, 'held.duckdb');
    await rows(path, 'SELECT 1', true);
    const impatient = await open({ STORE_DUCKDB: path, STORE_DUCKDB_LOCK_TIMEOUT: '0' });
    await expect(impatient.write(await datasetOf(folder, ['1']))).rejects.toMatchObject({
      message: expect.stringMatching(new RegExp(`held by process ${reader.pid}`)),
      mend: expect.stringContaining('STORE_DUCKDB_LOCK_TIMEOUT'),
    });
    const sink = await open({ STORE_DUCKDB: path });
    const write = sink.write(await datasetOf(folder, ['1']));
    await rows(path, 'SELECT 1');
    await expect(write).resolves.toMatchObject({ records: 1 });
  });

  test('what stands in the way is said in one sentence each', async () => {
    await mkdir(join(folder, 'directory'));
    await writeFile(join(folder, 'text.duckdb'), 'no database'.repeat(2000));
    await rows(join(folder, 'foreign.duckdb'), 'CREATE TABLE okta_users (id INT)');
    for (const [name, message] of [
      ['directory', /is a folder/],
      ['text.duckdb', /is no DuckDB file/],
      ['text.duckdb/below.duckdb', /cannot be written \((ENOTDIR|EEXIST)\)/],
      ['foreign.duckdb', /has no column upload_timestamp/],
    ] as const) {
      const sink = await open({ STORE_DUCKDB: join(folder, name) });
      await expect(sink.write(await datasetOf(folder, ['1'])), name).rejects.toMatchObject({
        code: 'store',
        message: expect.stringMatching(message),
        mend: expect.any(String),
      });
    }
    await truncate(join(folder, 'text.duckdb'));
  });

  test('a check makes no file, and a target names file and table', async () => {
    const path = join(folder, 'checked.duckdb');
    const sink = await open({ STORE_DUCKDB: path });
    await sink.check?.();
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
    const names = { uuid: 'u', tag: 'okta_users', tenancy: 'acme', at: new Date() };
    const settings = z.object(store.env).parse({ STORE_DUCKDB: path });
    expect(store.targets(settings, 'snapshot', names)).toEqual([`${path} okta_users`]);
  });

  test('typed columns grow with the keys, and a clash becomes JSON and is said', async () => {
    const path = join(folder, "typed 'columns'.duckdb");
    const warnings: string[] = [];
    const sink = await open({ STORE_DUCKDB: path, STORE_DUCKDB_LAYOUT: 'typed' }, warnings);
    const first = [
      '{"id":1,"name":"a","seen":"2026-01-01T00:00:00Z","score":1,"nothing":null,"tenancy":"x",' +
        '"o":{"b":12345678901234567890}}',
      '{"id":9007199254740993,"name":"b","seen":null,"score":2,"mixed":1}',
      '{"id":3,"mixed":"one"}',
    ];
    await sink.write(await datasetOf(folder, first));
    const columns = 'SELECT column_name AS n, column_type AS t FROM (DESCRIBE okta_users)';
    expect((await rows(path, columns)).map((row) => `${row.n} ${row.t}`)).toEqual([
      'upload_timestamp TIMESTAMP WITH TIME ZONE',
      'tenancy VARCHAR',
      'upload_id UUID',
      'id BIGINT',
      'name VARCHAR',
      'seen TIMESTAMP',
      'score BIGINT',
      'nothing JSON',
      '_tenancy VARCHAR',
      'o JSON',
      'mixed JSON',
    ]);
    expect(
      await rows(path, 'SELECT tenancy, id, o FROM okta_users_latest WHERE o IS NOT NULL OR id > 3 ORDER BY id'),
    ).toEqual([
      { tenancy: 'acme', id: '1', o: '{"b":12345678901234567890}' },
      { tenancy: 'acme', id: '9007199254740993', o: null },
    ]);
    expect(warnings).toEqual([]);

    await sink.write(await datasetOf(folder, ['{"id":4,"name":17,"seen":null,"score":2.5,"fresh":true}']));
    expect(warnings).toEqual([
      expect.stringContaining('column name was VARCHAR, is BIGINT in this upload, and became JSON'),
    ]);
    expect(await rows(path, 'SELECT id, name, score, fresh FROM okta_users_latest')).toEqual([
      { id: '4', name: '17', score: 2.5, fresh: true },
    ]);
    expect(await rows(path, 'SELECT name, seen FROM okta_users WHERE id = 1')).toEqual([
      { name: '"a"', seen: '2026-01-01 00:00:00' },
    ]);
    await sink.write(await datasetOf(folder, []));
    expect(await rows(path, 'SELECT id FROM okta_users_latest')).toEqual([]);
    expect(await rows(path, 'SELECT count(*)::INT AS n FROM okta_users')).toEqual([{ n: 4 }]);
  });

  test('typed columns hold what was sent: times, long numbers and texts that only look like others', async () => {
    const path = join(folder, 'exact.duckdb');
    const warnings: string[] = [];
    const sink = await open({ STORE_DUCKDB: path, STORE_DUCKDB_LAYOUT: 'typed' }, warnings);
    const records = [
      '{"utc":"2026-01-02T03:04:05.6Z","offset":"2026-01-02T03:04:05+02:00","seven":"2026-01-02T03:04:05.1234567Z",' +
        '"day":"2026-02-28","odd":"2026-02-30","code":"007","unsigned":18446744073709551615,"huge":123456789012345678901234,' +
        '"half":9007199254740993,"uuid":"0b6cf5cb-32c7-4b4e-9f64-6f7a9d4b8a11","nul":"a\\u0000b","truth":true}',
      '{"half":0.5,"code":"8"}',
    ];
    await sink.write(await datasetOf(folder, records, { tag: 'exact' }));
    const types = await rows(path, 'SELECT column_name AS n, column_type AS t FROM (DESCRIBE exact) OFFSET 3');
    expect(Object.fromEntries(types.map(({ n, t }) => [n, t]))).toEqual({
      utc: 'TIMESTAMP',
      offset: 'VARCHAR',
      seven: 'VARCHAR',
      day: 'DATE',
      odd: 'VARCHAR',
      code: 'VARCHAR',
      unsigned: 'HUGEINT',
      huge: 'JSON',
      half: 'JSON',
      uuid: 'UUID',
      nul: 'VARCHAR',
      truth: 'BOOLEAN',
    });
    const read = 'SELECT COLUMNS(*)::VARCHAR FROM exact WHERE day IS NOT NULL';
    expect((await rows(path, read))[0]).toMatchObject({
      utc: '2026-01-02 03:04:05.6',
      offset: '2026-01-02T03:04:05+02:00',
      seven: '2026-01-02T03:04:05.1234567Z',
      odd: '2026-02-30',
      code: '007',
      unsigned: '18446744073709551615',
      huge: '123456789012345678901234',
      half: '9007199254740993',
      nul: 'a\u0000b',
    });
    await sink.write(await datasetOf(folder, ['{"unsigned":1,"utc":"2026-01-02T03:04:05+02:00"}'], { tag: 'exact' }));
    expect(await rows(path, 'SELECT unsigned, utc::VARCHAR AS utc FROM exact_latest')).toEqual([
      { unsigned: '1', utc: '"2026-01-02T03:04:05+02:00"' },
    ]);
    expect(warnings).toEqual([expect.stringContaining('column utc was TIMESTAMP, is VARCHAR in this upload')]);
  });

  test('both layouts stand side by side, and come and go together', async () => {
    const path = join(folder, 'both.duckdb');
    const settings = { STORE_DUCKDB: path, STORE_DUCKDB_LAYOUT: 'both', STORE_DUCKDB_MODE: 'replace' };
    const sink = await open(settings);
    const names = { uuid: 'u', tag: 'okta_users', tenancy: 'acme', at: new Date() };
    expect(store.targets(z.object(store.env).parse(settings), 'snapshot', names)).toEqual([
      `${path} okta_users`,
      `${path} okta_users_typed`,
    ]);
    await sink.write(await datasetOf(folder, ['{"id":1,"o":{"a":1.50}}', '{"id":2}']));
    await sink.write(await datasetOf(folder, ['{"id":3,"o":{"a":1.50}}']));
    expect(await rows(path, 'SELECT json_data FROM okta_users')).toEqual([{ json_data: '{"id":3,"o":{"a":1.50}}' }]);
    expect(await rows(path, 'SELECT id, o FROM okta_users_typed')).toEqual([{ id: '3', o: '{"a":1.5}' }]);
    expect(await rows(path, 'SELECT id FROM okta_users_typed_latest')).toEqual([{ id: '3' }]);
    const clash = await datasetOf(folder, ['{"Id":1,"id":2}']);
    await expect(sink.write(clash)).rejects.toThrow(/one name to DuckDB: Id, id/);
    expect(await rows(path, 'SELECT json_data FROM okta_users_latest')).toHaveLength(1);
    expect(await rows(path, 'SELECT count(*)::INT AS n FROM cyber_collect_uploads')).toEqual([{ n: 1 }]);
  });

  test('the older name of the layout still counts', () => {
    const variables = environmentOf({ STORE_DUCKDB: 'x.duckdb', STORE_DUCKDB_COLUMNS: 'typed' });
    expect(resolveShape(variables, 'duckdb', store.env, store.aliases).values).toMatchObject({
      STORE_DUCKDB_LAYOUT: 'typed',
    });
  });

  test('typed columns take records that are no objects, and refuse what they cannot tell apart', async () => {
    const path = join(folder, 'odd.duckdb');
    const sink = await open({ STORE_DUCKDB: path, STORE_DUCKDB_LAYOUT: 'typed' });
    await sink.write(await datasetOf(folder, ['1', '"two"', '[3]'], { tag: 'scalars' }));
    expect((await rows(path, 'SELECT json::VARCHAR AS j FROM scalars_latest')).map((row) => row.j).toSorted()).toEqual([
      '"two"',
      '1',
      '[3]',
    ]);
    await sink.write(await datasetOf(folder, ['{"a":1,"a_1":2}'], { tag: 'numbered' }));
    const twins = sink.write(await datasetOf(folder, ['{"Name":1,"name":2}'], { tag: 'twins' }));
    await expect(twins).rejects.toThrow(/one name to DuckDB: Name, name/);
    const raw = await open({ STORE_DUCKDB: path });
    await expect(raw.write(await datasetOf(folder, ['{}'], { tag: 'numbered' }))).rejects.toThrow(
      /no column json_data/,
    );
  });
});
