import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { inspect } from 'node:util';
import snowflake from 'snowflake-sdk';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Sink } from '../../src/stores/store.ts';
import room from '../../src/stores/store_snowflake.ts';
import { storeSuite } from '../stores/suite.ts';
import { datasetOf, recordsOfSize } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { type Fakesnow, startFakesnow } from '../support/fakesnow.ts';
import { killOverAndOver } from '../support/killed.ts';
import { growthOf } from '../support/memory.ts';
import { openSink, targetsOf } from '../support/open.ts';
import { freePort } from '../support/server.ts';

type Variables = Readonly<Record<string, string>>;

let server: Fakesnow;
let reader: snowflake.Connection;
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-snowflake-'));
  server = await startFakesnow();
  snowflake.configure({ logLevel: 'OFF', additionalLogToConsole: false });
  reader = snowflake.createConnection({ account: 'acme', username: 'reader', password: 'p', accessUrl: server.url });
  await reader.connectAsync();
  await query('CREATE DATABASE IF NOT EXISTS SECURITY');
}, 600_000);

afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

function query(sqlText: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
  return new Promise((resolve, reject) => {
    reader.execute({ sqlText, complete: (error, _, rows) => (error ? reject(error) : resolve(rows ?? [])) });
  });
}

async function variants(tag: string): Promise<readonly string[]> {
  const rows = await query(`SELECT TO_JSON(json_data) AS R FROM SECURITY.METRICS."${tag.toUpperCase()}"`);
  return rows.map(({ R }) => String(R));
}

async function records(tag: string): Promise<readonly string[]> {
  const rows = await query(`SELECT json_data AS R FROM SECURITY.METRICS."${tag.toUpperCase()}"`);
  return rows.map(({ R }) => String(R));
}

function variables(more: Variables = {}): Variables {
  return {
    STORE_SNOWFLAKE_ACCOUNT: 'acme',
    STORE_SNOWFLAKE_USERNAME: 'cyber_collect',
    STORE_SNOWFLAKE_PASSWORD: 'hunter2-hunter2',
    STORE_SNOWFLAKE_DATABASE: 'security',
    STORE_SNOWFLAKE_SCHEMA: 'metrics',
    STORE_SNOWFLAKE_ACCESS_URL: server.url,
    ...more,
  };
}

function open(more: Variables = {}, warnings: string[] = [], tenancy = 'acme'): Promise<Sink> {
  return openSink(room, variables(more), warnings, tenancy);
}

function newTag(): string {
  return `t_${randomUUID().slice(0, 8)}`;
}

storeSuite(
  'snowflake (text)',
  async () => ({
    open: (warnings) => open({ STORE_SNOWFLAKE_RECORD: 'text' }, warnings),
    openWrong: () => open({ STORE_SNOWFLAKE_PASSWORD: 'wrong-hunter2' }),
    read: records,
    exact: true,
    nul: 'kept',
    loneSurrogate: 'kept',
    secrets: ['hunter2'],
  }),
  { login: true, remembers: true },
);

describe('the snowflake store', () => {
  test('replaces snapshots of its own tenancy, adds events, and keeps the upload beside the record', async () => {
    const tag = newTag();
    const sink = await open();
    const other = await open({}, [], 'globex');
    await other.write(await datasetOf(folder, ['{"of":"globex"}'], { tag, metadata: { tenancy: 'globex' } }));
    await sink.write(await datasetOf(folder, ['{"n":1}'], { tag }));
    const last = await datasetOf(folder, ['{"n":2}'], { tag });
    const { at } = await sink.write(last);
    expect(at).toBe(`snowflake://acme/SECURITY.METRICS.${tag}`);
    expect((await variants(tag)).toSorted()).toEqual(['{"n":2}', '{"of":"globex"}']);
    const rows = await query(
      `SELECT upload_id AS U FROM SECURITY.METRICS."${tag.toUpperCase()}" WHERE tenancy = 'acme'`,
    );
    expect(rows).toEqual([{ U: last.metadata.upload_id }]);
    const events = newTag();
    const first = await datasetOf(folder, ['{"e":1}'], { tag: events, kind: 'events' });
    await sink.write(first);
    await sink.write(await datasetOf(folder, ['{"e":2}'], { tag: events, kind: 'events' }));
    await sink.write(first);
    expect((await variants(events)).toSorted()).toEqual(['{"e":1}', '{"e":2}']);
  });

  test('keeps a record as VARIANT, where long integers stay and lone surrogates do not', async () => {
    const tag = newTag();
    const warnings: string[] = [];
    const sink = await open({}, warnings);
    const lines = ['{"id":123456789012345678901234567890}', '{"s":"\\ud83d"}', '"text"', 'null', '[1,"é"]'];
    await sink.write(await datasetOf(folder, lines, { tag }));
    const wanted = lines.map((line) => (line.includes('ud83d') ? '{"s":"\ufffd"}' : line));
    expect((await variants(tag)).map((text) => text.replace('\\ufffd', '\ufffd')).toSorted()).toEqual(
      wanted.toSorted(),
    );
    expect(warnings).toEqual([expect.stringMatching(/: 1 escapes of lone surrogates/)]);
    const text = await open({ STORE_SNOWFLAKE_RECORD: 'text' }, warnings);
    await text.write(await datasetOf(folder, ['{"n":1}'], { tag }));
    expect(await variants(tag)).toEqual(['{"n":1}']);
  });

  test('names no record that is no JSON, and the old data stays', async () => {
    const tag = newTag();
    const sink = await open();
    await sink.write(await datasetOf(folder, ['{"n":1}'], { tag }));
    const error = await failureOf(sink.write(await datasetOf(folder, ['{}', '{"token":"hush-hush-0001",'], { tag })));
    expect(inspect(error, { depth: 10 })).not.toContain('hush-hush');
    expect(await variants(tag)).toEqual(['{"n":1}']);
  });

  test('sends a large dataset in parts, and leaves no file beside the spool', async () => {
    const own = await mkdtemp(join(folder, 'large-'));
    const data = await datasetOf(own, recordsOfSize(300 * 2 ** 20), { tag: newTag() });
    const sink = await open();
    const growth = await growthOf('300 MB', () => sink.write(data));
    const [row] = await query(`SELECT COUNT(*) AS N FROM SECURITY.METRICS."${data.tag.toUpperCase()}"`);
    expect(Number(row?.N)).toBe(data.spool.records);
    expect(await readdir(own)).toEqual([basename(data.spool.path)]);
    expect(growth).toBeLessThan(200);
  });

  test('refuses a table that is someone else’s', async () => {
    const tag = newTag();
    const sink = await open();
    await sink.write(await datasetOf(folder, ['{}'], { tag: newTag() }));
    await query(`CREATE TABLE SECURITY.METRICS."${tag.toUpperCase()}" (x VARCHAR)`);
    const error = await failureOf(sink.write(await datasetOf(folder, ['{}'], { tag })));
    expect(error.message).toMatch(/has no column UPLOAD_TIMESTAMP/);
  });

  test('names a tenancy with a quote as it is', async () => {
    const tag = newTag();
    const sink = await open({}, [], "o'brien");
    await sink.write(await datasetOf(folder, ['{"n":1}'], { tag, metadata: { tenancy: "o'brien" } }));
    expect(await variants(tag)).toEqual(['{"n":1}']);
  });

  test('to connect names the account', async () => {
    const sink = await open({ STORE_SNOWFLAKE_ACCESS_URL: `http://127.0.0.1:${await freePort()}` });
    const error = await failureOf(sink.write(await datasetOf(folder, ['{}'], { tag: newTag() })));
    expect(error.code).toBe('network');
    expect(error.message).toContain('snowflake://acme/security: Snowflake does not answer');
  }, 300_000);

  test('killed at any moment leaves the old whole or the new whole, which a reader sees throughout', async () => {
    const read = () =>
      variants('okta_killed').catch((error: Error) => {
        if (/does not exist/.test(error.message)) return undefined;
        throw error;
      });
    const env = variables({ STORE_SNOWFLAKE_USERNAME: 'killed' });
    const seen = await killOverAndOver({ store: 'snowflake', env, folder, read, kills: 6 });
    expect(seen.wrong).toEqual([]);
    expect(seen.generations).toBeGreaterThan(1);
  }, 120_000);

  test.each<[string, Variables, string]>([
    ['no way to log in', { STORE_SNOWFLAKE_PASSWORD: '' }, 'STORE_SNOWFLAKE_PRIVATE_KEY'],
    ['plain http to elsewhere', { STORE_SNOWFLAKE_ACCESS_URL: 'http://snow.example' }, 'CYBER_COLLECT_ALLOW_HTTP'],
  ])('refuses %s', async (_, more, mend) => {
    expect(targetsOf(room, variables())).toEqual(['snowflake://acme/SECURITY.METRICS.okta_users']);
    const error = await failureOf(() => targetsOf(room, variables(more)));
    expect(error.mend).toContain(mend);
  });
});
