import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import sqlite from 'node-sqlite3-wasm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import store from '../../src/stores/store_file.ts';
import { datasetOf } from '../support/dataset.ts';
import { killOverAndOver } from '../support/killed.ts';
import { storeSuite } from './suite.ts';

type Row = Readonly<Record<string, unknown>>;

let folder: string;
let reader: DuckDBConnection;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-tabular-'));
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  reader = await instance.connect();
  await reader.run('SET enable_external_file_cache = false');
});

afterAll(async () => {
  reader.closeSync();
  await rm(folder, { recursive: true, force: true });
});

/** What any reader of the format gets. */
async function rowsOf(path: string): Promise<readonly Row[]> {
  if (/\.(sqlite|db)$/.test(path)) return stat(path).then(() => sqliteRows(path));
  const sql = /\.csv/.test(path)
    ? `SELECT * FROM read_csv('${path}', all_varchar = true, header = true, quote = '"', delim = ',', max_line_size = 50000000)`
    : `SELECT * FROM read_parquet('${path}', hive_partitioning = false)`;
  return (await reader.runAndReadAll(sql)).getRowObjectsJson();
}

function sqliteRows(path: string): readonly Row[] {
  const database = new sqlite.Database(path, { readOnly: true });
  try {
    const tables = database.all("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'cyber%'");
    return database.all(`SELECT * FROM "${String(tables[0]?.name)}"`) as readonly Row[];
  } finally {
    database.close();
  }
}

/** The same while it may be replaced: DuckDB opens a file by its name more than once in one query, so it gets a copy. */
async function rowsSeen(path: string): Promise<readonly Row[] | undefined> {
  const copy = join(folder, `seen.${basename(path)}`);
  const there = await copyFile(path, copy).then(
    () => true,
    () => false,
  );
  if (!there) return undefined;
  const rows = await rowsOf(copy);
  await rm(copy);
  return rows;
}

async function typesOf(path: string): Promise<Row> {
  const sql = `SELECT column_name AS n, column_type AS t
    FROM (DESCRIBE SELECT * FROM read_parquet('${path}', hive_partitioning = false))`;
  const rows = (await reader.runAndReadAll(sql)).getRowObjectsJson();
  return Object.fromEntries(rows.map(({ n, t }) => [n, t]));
}

async function open(env: Readonly<Record<string, string>>, warnings: string[] = []) {
  const settings = z.object(store.env).parse(env);
  return store.open(settings, { tenancy: 'acme', at: new Date(), warn: (said) => warnings.push(said) });
}

describe.each([
  ['parquet', { checksJson: true, remembers: true }, 'replaced'],
  ['csv', { checksJson: true }, 'replaced'],
  ['csv.gz', { checksJson: true }, 'replaced'],
  ['sqlite', { remembers: true }, 'kept'],
] as const)('whole records in .%s', (extension, traits, loneSurrogate) => {
  storeSuite(
    `file (${extension})`,
    async () => {
      const own = await mkdtemp(join(folder, 'suite-'));
      const path = join(own, `%TAG/%TENANCY.${extension}`);
      return {
        open: (warnings) => open({ STORE_FILE: path, STORE_FILE_LAYOUT: 'raw' }, warnings),
        read: async (tag) =>
          ((await rowsSeen(join(own, tag, `acme.${extension}`))) ?? []).map((row) => String(row.json_data)),
        exact: true,
        nul: 'kept',
        loneSurrogate,
        secrets: [],
      };
    },
    traits,
  );
});

test.each(['parquet', 'csv', 'sqlite'])(
  'killed at any moment a file of %s is the old whole or the new whole, which a reader sees throughout',
  async (extension) => {
    const own = await mkdtemp(join(folder, 'killed-'));
    const path = join(own, `okta_killed.${extension}`);
    const read = async () => (await rowsSeen(path))?.map((row) => String(row.json_data));
    const env = { STORE_FILE: path, STORE_FILE_LAYOUT: 'raw' };
    const seen = await killOverAndOver({ store: 'file', env, folder: own, read, kills: 5 });
    expect(seen.wrong).toEqual([]);
    expect(seen.generations).toBeGreaterThan(1);
  },
  120_000,
);

const ODD =
  '{"id":1,"utc":"2026-01-02T03:04:05.6Z","offset":"2026-01-02T03:04:05+02:00","local":"2026-01-02T03:04:05",' +
  '"seven":"2026-01-02T03:04:05.1234567Z","day":"2026-02-28","odd":"2026-02-30","code":"007",' +
  '"unsigned":18446744073709551615,"huge":123456789012345678901234,"half":9007199254740993,"truth":true,' +
  '"uuid":"0b6cf5cb-32c7-4b4e-9f64-6f7a9d4b8a11","text":"a,\\"b\\"\\nZoë 🦊","o":{"b":[1,null]},"mixed":"null",' +
  '"nothing":null,"empty":"","tenancy":"theirs","a.b":"dot","q\\"k":{"x":1},"back\\\\slash":"s","\\u00e9":"accent"}';
const MORE = '{"id":2,"half":0.5,"code":"8","mixed":17,"truth":false,"score":1.5}';

describe('a column for each key', () => {
  test('in Parquet has the narrowest type that keeps every value as it was sent', async () => {
    const path = join(folder, 'typed.parquet');
    const sink = await open({ STORE_FILE: path });
    const dataset = await datasetOf(folder, [ODD, MORE]);
    const written = await sink.write(dataset);
    expect(written).toMatchObject({ at: path, records: 2, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(await typesOf(path)).toEqual({
      upload_timestamp: 'TIMESTAMP WITH TIME ZONE',
      tenancy: 'VARCHAR',
      upload_id: 'VARCHAR',
      id: 'BIGINT',
      utc: 'TIMESTAMP WITH TIME ZONE',
      offset: 'TIMESTAMP WITH TIME ZONE',
      local: 'TIMESTAMP',
      seven: 'VARCHAR',
      day: 'DATE',
      odd: 'VARCHAR',
      code: 'VARCHAR',
      unsigned: 'DECIMAL(20,0)',
      huge: 'JSON',
      half: 'JSON',
      truth: 'BOOLEAN',
      uuid: 'VARCHAR',
      text: 'VARCHAR',
      o: 'JSON',
      mixed: 'JSON',
      nothing: 'JSON',
      empty: 'VARCHAR',
      _tenancy: 'VARCHAR',
      'a.b': 'VARCHAR',
      'q"k': 'JSON',
      'back\\slash': 'VARCHAR',
      é: 'VARCHAR',
      score: 'DOUBLE',
    });
    const [first, second] = (await rowsOf(path)).toSorted((a, b) => Number(a.id) - Number(b.id));
    expect(first).toMatchObject({
      tenancy: 'acme',
      upload_id: dataset.metadata.upload_id,
      utc: '2026-01-02 03:04:05.6+00',
      offset: '2026-01-02 01:04:05+00',
      local: '2026-01-02 03:04:05',
      seven: '2026-01-02T03:04:05.1234567Z',
      odd: '2026-02-30',
      code: '007',
      unsigned: '18446744073709551615',
      huge: '123456789012345678901234',
      half: '9007199254740993',
      text: 'a,"b"\nZoë 🦊',
      o: '{"b":[1,null]}',
      mixed: '"null"',
      nothing: null,
      empty: '',
      _tenancy: 'theirs',
    });
    expect(second).toMatchObject({ half: '0.5', mixed: '17', truth: false, score: 1.5, empty: null });
  });

  test('in SQLite holds the same', async () => {
    const path = join(folder, 'typed.sqlite');
    await (await open({ STORE_FILE: path })).write(await datasetOf(folder, [ODD, MORE]));
    const [first, second] = await rowsOf(path);
    expect(first).toMatchObject({
      id: 1,
      utc: '2026-01-02T03:04:05.6Z',
      offset: '2026-01-02T03:04:05+02:00',
      code: '007',
      unsigned: '18446744073709551615',
      huge: '123456789012345678901234',
      half: '9007199254740993',
      truth: 1,
      text: 'a,"b"\nZoë 🦊',
      o: '{"b":[1,null]}',
      mixed: '"null"',
      nothing: null,
      empty: '',
      _tenancy: 'theirs',
      'a.b': 'dot',
      'q"k': '{"x":1}',
      'back\\slash': 's',
      é: 'accent',
    });
    expect(second).toMatchObject({ id: 2, half: '0.5', mixed: '17', truth: 0, score: 1.5, empty: null });
  });

  test('in CSV is the text of texts and JSON of all else; nothing is null, "" is empty', async () => {
    const path = join(folder, 'typed.csv');
    await (await open({ STORE_FILE: path })).write(await datasetOf(folder, [ODD]));
    expect((await rowsOf(path))[0]).toMatchObject({
      id: '1',
      utc: '2026-01-02T03:04:05.6Z',
      code: '007',
      unsigned: '18446744073709551615',
      huge: '123456789012345678901234',
      truth: 'true',
      text: 'a,"b"\nZoë 🦊',
      o: '{"b":[1,null]}',
      mixed: 'null',
      'q"k': '{"x":1}',
    });
    const lines = (await readFile(path, 'utf8')).split('\n');
    expect(lines[0]).toMatch(/^upload_timestamp,tenancy,upload_id,id,utc,/);
    expect(lines.slice(1).join('\n')).toMatch(/,null,,"",theirs,dot,/);
  });

  test.each(['parquet', 'csv', 'sqlite'])('in .%s stays from one run to the next', async (extension) => {
    const path = join(folder, `kept.${extension}`);
    const warnings: string[] = [];
    const sink = await open({ STORE_FILE: path }, warnings);
    const names = ['upload_timestamp', 'tenancy', 'upload_id', 'id', 'gone', 'n', 'fresh'];
    await sink.write(await datasetOf(folder, ['{"id":1,"gone":"x","n":1}']));
    await sink.write(await datasetOf(folder, ['{"id":2,"n":1.5,"fresh":{"a":1}}']));
    const [row] = await rowsOf(path);
    expect(Object.keys(row ?? {})).toEqual(names);
    expect(row).toMatchObject({ gone: null, fresh: '{"a":1}' });
    await sink.write(await datasetOf(folder, []));
    expect(await rowsOf(path)).toEqual([]);
    expect(warnings).toEqual([]);
    await sink.write(await datasetOf(folder, ['{"id":"three"}', '{"id":4}']));
    const ids = (await rowsOf(path)).map((found) => found.id).toSorted();
    expect(ids).toEqual(extension === 'csv' ? ['4', 'three'] : ['"three"', '4']);
    expect(Object.keys((await rowsOf(path))[0] ?? {})).toEqual(names);
    const clash = `${path}: column id was BIGINT, is JSON in this upload, and became JSON`;
    expect(warnings).toEqual(extension === 'csv' ? [] : [clash]);
  });

  test('is not there twice when a folder names it', async () => {
    const path = join(folder, 'hive', 'tag=%TAG/tenancy=%TENANCY/year=%YYYY/data.parquet');
    const sink = await open({ STORE_FILE: path });
    const { at } = await sink.write(await datasetOf(folder, ['{"id":1,"tenancy":"x","year":"y","tag":"z"}']));
    const names = ['upload_timestamp', 'upload_id', 'id', '_tenancy', '_year', '_tag'];
    expect(Object.keys(await typesOf(at))).toEqual(names);
    expect(await readdir(dirname(at))).toEqual(['data.parquet']);
  });

  test('takes records that are no objects as one', async () => {
    for (const extension of ['parquet', 'csv', 'sqlite']) {
      const path = join(folder, `scalars.${extension}`);
      await (await open({ STORE_FILE: path })).write(await datasetOf(folder, ['1', '"two"', '[3]', '{"a":4}']));
      const found = (await rowsOf(path)).map((row) => row.json);
      expect(found.toSorted()).toEqual(['[3]', '{"a":4}', '1', extension === 'csv' ? 'two' : '"two"'].toSorted());
    }
  });

  test.each(['parquet', 'csv', 'sqlite'])(
    'in .%s refuses what it cannot tell apart, and the old stays',
    async (end) => {
      const path = join(folder, `twins.${end}`);
      const sink = await open({ STORE_FILE: path });
      await sink.write(await datasetOf(folder, ['{"id":1}']));
      for (const [record, message] of [
        ['{"Name":1,"name":2}', /one name to DuckDB: Name, name/],
        ['{"":1}', /a key without a name/],
        [`{${Array.from({ length: 1501 }, (_, n) => `"k${n}":1`).join(',')}}`, /more than 1500 keys/],
      ] as const) {
        const dataset = await datasetOf(folder, [record]);
        await expect(sink.write(dataset)).rejects.toMatchObject({
          code: 'store',
          message: expect.stringMatching(message),
          mend: expect.stringContaining('STORE_FILE_LAYOUT=raw'),
        });
        expect(await readdir(dirname(dataset.spool.path))).not.toContainEqual(expect.stringMatching(/overflow|mended/));
      }
      expect(await rowsOf(path)).toHaveLength(1);
    },
  );
});

test('a file before that is something else loses nothing but its columns, and that is said', async () => {
  for (const extension of ['parquet', 'sqlite']) {
    const path = join(folder, `damaged.${extension}`);
    await writeFile(path, 'no such file'.repeat(100));
    const warnings: string[] = [];
    const sink = await open({ STORE_FILE: path }, warnings);
    expect(await sink.latest?.('okta_users')).toBeUndefined();
    await sink.write(await datasetOf(folder, ['{"id":1}']));
    expect(await rowsOf(path)).toHaveLength(1);
    expect(warnings).toEqual([expect.stringContaining('cannot be read as')]);
  }
});

test('what stands in the way is said in one sentence each', async () => {
  await mkdir(join(folder, 'directory.parquet'));
  await symlink('elsewhere', join(folder, 'link.parquet'));
  for (const [name, message] of [
    ['directory.parquet', /cannot be written \(EISDIR\)/],
    ['link.parquet', /is a symbolic link/],
  ] as const) {
    const sink = await open({ STORE_FILE: join(folder, name) });
    await expect(sink.write(await datasetOf(folder, ['{"id":1}'])), name).rejects.toMatchObject({
      message: expect.stringMatching(message),
      mend: expect.any(String),
    });
  }
  const names = { uuid: 'u', tag: 'okta_users', tenancy: 'acme', at: new Date() };
  const settings = z.object(store.env).parse({ STORE_FILE: '%TAG.parquet.gz' });
  expect(() => store.targets(settings, 'snapshot', names)).toThrow(/asks for parquet in .gz, which nothing reads/);
});
