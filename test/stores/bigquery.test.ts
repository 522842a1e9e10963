import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Sink } from '../../src/stores/store.ts';
import bigquery from '../../src/stores/store_bigquery.ts';
import { type ScriptedBigQuery, startBigQuery } from '../support/bigquery.ts';
import { datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { killOverAndOver } from '../support/killed.ts';
import { openSink, targetsOf } from '../support/open.ts';
import { storeSuite } from './suite.ts';

type Variables = Readonly<Record<string, string>>;

let server: ScriptedBigQuery;
let folder = '';
let warnings: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-bigquery-'));
  server = await startBigQuery();
});

beforeEach(() => {
  server.faults = () => undefined;
  warnings = [];
});

afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

function variables(more: Variables = {}): Variables {
  return {
    STORE_BIGQUERY_PROJECT_ID: 'acme-security',
    STORE_BIGQUERY_DATASET: 'metrics',
    STORE_BIGQUERY_API_ENDPOINT: server.endpoint,
    ...more,
  };
}

function open(more: Variables = {}, warned = warnings, tenancy = 'acme'): Promise<Sink> {
  return openSink(bigquery, variables(more), warned, tenancy);
}

function records(tag: string): readonly string[] {
  return (server.tables.get(tag)?.rows ?? []).map(({ json_data = '' }) => json_data);
}

function newTag(): string {
  return `t_${randomUUID().slice(0, 8)}`;
}

storeSuite(
  'bigquery (text)',
  async () => ({
    open: (warned) => open({ STORE_BIGQUERY_RECORD: 'text' }, warned),
    openWrong: async () => {
      server.faults = () => ({ status: 401, reason: 'authError' });
      return open({ STORE_BIGQUERY_RECORD: 'text' });
    },
    read: async (tag) => {
      await turn();
      return records(tag);
    },
    exact: true,
    nul: 'kept',
    loneSurrogate: 'kept',
    secrets: [],
  }),
  { login: true, remembers: true },
);

describe('the bigquery store', () => {
  test('keeps a record as JSON, with its upload beside it', async () => {
    const tag = newTag();
    const sink = await open({ STORE_BIGQUERY_DATASET: 'fresh', STORE_BIGQUERY_LOCATION: 'EU' });
    const data = await datasetOf(folder, ['{"id":9007199254740993,"s":"\\ud83d\\u0000"}', 'null'], { tag });
    const { at } = await sink.write(data);
    expect(at).toBe(`bigquery://acme-security/fresh.${tag}`);
    expect(server.datasets.get('fresh')).toEqual({ location: 'EU' });
    expect(server.tables.get(tag)?.fields.at(-1)).toEqual({ name: 'json_data', type: 'JSON' });
    const { timestamp, upload_id } = data.metadata;
    const columns = { upload_timestamp: timestamp, tenancy: 'acme', upload_id };
    expect(server.tables.get(tag)?.rows).toEqual([
      { ...columns, json_data: '{"id":9007199254740993,"s":"\\ufffd\\u0000"}' },
      { ...columns, json_data: 'null' },
    ]);
    expect(warnings).toEqual([expect.stringMatching(/: 1 escapes of lone surrogates/)]);
  });

  test('leaves no table behind, and lets one that it cannot drop end by itself', async () => {
    const sink = await open();
    server.faults = ({ what }) => (what.startsWith('DELETE') ? { status: 403, reason: 'accessDenied' } : undefined);
    const data = await datasetOf(folder, ['{}'], { tag: newTag() });
    await sink.write(data);
    expect(server.tables.get(`cyber_collect_${data.metadata.upload_id.replaceAll('-', '')}`)?.expires).toBe(true);
    server.faults = () => undefined;
    const next = await datasetOf(folder, ['{}'], { tag: newTag() });
    await sink.write(next);
    expect(server.tables.has(`cyber_collect_${next.metadata.upload_id.replaceAll('-', '')}`)).toBe(false);
  });

  test('replaces snapshots of its own tenancy, and adds events', async () => {
    const tag = newTag();
    const sink = await open();
    const other = await open({}, [], 'globex');
    await other.write(await datasetOf(folder, ['{"of":"globex"}'], { tag, metadata: { tenancy: 'globex' } }));
    await sink.write(await datasetOf(folder, ['{"n":1}'], { tag }));
    await sink.write(await datasetOf(folder, ['{"n":2}'], { tag }));
    expect(records(tag)).toEqual(['{"of":"globex"}', '{"n":2}']);
    const events = newTag();
    const first = await datasetOf(folder, ['{"e":1}'], { tag: events, kind: 'events' });
    await sink.write(first);
    await sink.write(await datasetOf(folder, ['{"e":2}'], { tag: events, kind: 'events' }));
    await sink.write(first);
    expect(records(events)).toEqual(['{"e":1}', '{"e":2}']);
  });

  test('counts an upload once when the answer to the last step is lost', async () => {
    const tag = newTag();
    const sink = await open();
    let lost = 1;
    server.faults = ({ what, sql }) => {
      if (what !== 'POST jobs' || !sql.startsWith('BEGIN') || lost === 0) return undefined;
      lost -= 1;
      return 'lost';
    };
    await sink.write(await datasetOf(folder, ['{"e":1}'], { tag, kind: 'events' }));
    expect(records(tag)).toEqual(['{"e":1}']);
  });

  test('tries again where two change one table, and where Google is busy', async () => {
    const tag = newTag();
    const sink = await open();
    let [busy, clashes] = [1, 2];
    server.faults = ({ what, sql }) => {
      if (what === 'PUT upload' && busy > 0) {
        busy -= 1;
        return { status: 503, reason: 'backendError', headers: { 'retry-after': '0' } };
      }
      if (what !== 'POST jobs' || !sql.startsWith('BEGIN') || clashes === 0) return undefined;
      clashes -= 1;
      return { job: { reason: 'invalidQuery', message: 'Transaction is aborted due to concurrent update' } };
    };
    await sink.write(await datasetOf(folder, ['{"e":1}'], { tag, kind: 'events' }));
    expect([busy, clashes]).toEqual([0, 0]);
    expect(records(tag)).toEqual(['{"e":1}']);
  });

  test('names the record that BigQuery refuses, and shows none', async () => {
    const tag = newTag();
    const sink = await open();
    await sink.write(await datasetOf(folder, ['{"n":1}'], { tag }));
    const bad = await failureOf(sink.write(await datasetOf(folder, ['{}', '{"token":"hush-hush-0001",'], { tag })));
    expect(bad.message).toMatch(/refuses record 2: it is no JSON/);
    const long = ['{}', '{}', '{"token":"hush-hush-0001","n":123456789012345678901234567890}'];
    const wide = await failureOf(sink.write(await datasetOf(folder, long, { tag })));
    expect(wide.message).toMatch(/refuses record 3: a number is too long/);
    expect(wide.mend).toContain('STORE_BIGQUERY_RECORD=text');
    expect(inspect([bad, wide], { depth: 10 })).not.toContain('hush-hush');
    expect(records(tag)).toEqual(['{"n":1}']);
  });

  test('goes by the type that a table has', async () => {
    const tag = newTag();
    const text = await open({ STORE_BIGQUERY_RECORD: 'text' });
    await text.write(await datasetOf(folder, ['{}'], { tag }));
    const json = await open();
    const record = '{"a":"\\\\ \\"\\t", \t"n":123456789012345678901234567890}';
    await json.write(await datasetOf(folder, [record], { tag }));
    expect(records(tag)).toEqual([record]);
  });

  test('refuses a table that is someone else’s', async () => {
    const tag = newTag();
    const sink = await open();
    await sink.check?.();
    const { tableReference, schema } = {
      tableReference: { tableId: tag },
      schema: { fields: [{ name: 'x', type: 'JSON' }] },
    };
    await fetch(`${server.endpoint}/bigquery/v2/projects/acme-security/datasets/metrics/tables`, {
      method: 'POST',
      body: JSON.stringify({ tableReference, schema }),
    });
    const error = await failureOf(sink.write(await datasetOf(folder, ['{}'], { tag })));
    expect(error.message).toMatch(/no column upload_timestamp/);
  });

  test.each<[string, { status: number; reason: string }, string, RegExp]>([
    ['no right', { status: 403, reason: 'accessDenied' }, 'denied', /BigQuery Data Editor/],
    ['a quota', { status: 403, reason: 'quotaExceeded' }, 'throttled', /raise it/],
    ['a bad request', { status: 400, reason: 'invalidQuery' }, 'store', /settings/],
  ])('says so for %s', async (_, fault, code, mend) => {
    const sink = await open();
    server.faults = ({ what }) => (what === 'POST upload' ? fault : undefined);
    const error = await failureOf(sink.write(await datasetOf(folder, ['{}'], { tag: newTag() })));
    expect(error.code).toBe(code);
    expect(error.mend).toMatch(mend);
  });

  test('killed at any moment leaves the old whole or the new whole, which a reader sees throughout', async () => {
    const read = async () => {
      await turn();
      return server.tables.has('okta_killed') ? records('okta_killed') : undefined;
    };
    const seen = await killOverAndOver({ store: 'bigquery', env: variables(), folder, read, kills: 5 });
    expect(seen.wrong).toEqual([]);
    expect(seen.generations).toBeGreaterThan(1);
  }, 120_000);

  test.each<[string, Variables, string]>([
    ['what is no key', { STORE_BIGQUERY_CREDENTIALS: 'hunter2' }, 'STORE_BIGQUERY_CREDENTIALS_FILE'],
    ['plain http to elsewhere', { STORE_BIGQUERY_API_ENDPOINT: 'http://bq.example' }, 'CYBER_COLLECT_ALLOW_HTTP'],
  ])('refuses %s', async (_, more, mend) => {
    expect(targetsOf(bigquery, variables())).toEqual(['bigquery://acme-security/metrics.okta_users']);
    const error = await failureOf(() => targetsOf(bigquery, variables(more)));
    expect(error.mend).toContain(mend);
    expect(inspect(error, { depth: 10 })).not.toContain('hunter2');
  });

  test('says so for a key that does not work', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const private_key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const key = JSON.stringify({ client_email: 'robot@acme.example', private_key: private_key.slice(0, 300) });
    const sink = await open({ STORE_BIGQUERY_CREDENTIALS: key });
    const error = await failureOf(sink.check?.() ?? Promise.resolve());
    expect(error.code).toBe('credentials');
    expect(error.mend).toContain('STORE_BIGQUERY_CREDENTIALS');
    expect(inspect(error, { depth: 10 })).not.toContain(private_key.slice(100, 140));
  });
});
