import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import crowdstrike from '../../src/simulator/vendor_crowdstrike.ts';
import type { Kind, Sink } from '../../src/stores/store.ts';
import store from '../../src/stores/store_elasticsearch.ts';
import { storeSuite } from '../stores/suite.ts';
import { datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { killOverAndOver } from '../support/killed.ts';
import { needed } from '../support/needed.ts';
import { collectOnce, resultOf } from '../support/run.ts';
import { searchReader } from '../support/search.ts';

type Variables = Readonly<Record<string, string>>;

const url = needed('TEST_ELASTICSEARCH_URL');
const stem = `t${randomUUID().slice(0, 8)}`;
const reader = searchReader(url);
const opened: Sink[] = [];
let folder = '';
let tags = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-spool-'));
});

afterAll(async () => {
  for (const sink of opened) await sink.close?.();
  await reader.wipe(stem);
  await rm(folder, { recursive: true, force: true });
});

async function open(env: Variables = {}, warnings: string[] = [], tenancy = 'acme'): Promise<Sink> {
  const variables = { STORE_ELASTICSEARCH_URL: url, STORE_ELASTICSEARCH_INDEX: `${stem}-%TAG`, ...env };
  const { values, problems } = resolveShape(environmentOf(variables), store.name, store.env, store.aliases);
  if (values === undefined) throw new Error(JSON.stringify(problems));
  const sink = await store.open(values, { tenancy, at: new Date(), warn: (said) => warnings.push(said) });
  opened.push(sink);
  return sink;
}

/** A tag of its own, the alias or index it is found by, and datasets of it. */
function fresh(kind: Kind = 'snapshot') {
  tags += 1;
  const tag = `okta_own_${tags}`;
  const dataset = (records: readonly string[], tenancy = 'acme') =>
    datasetOf(folder, records, { tag, kind, metadata: { tenancy } });
  return { tag, name: `${stem}-${tag}`, dataset };
}

storeSuite(
  'elasticsearch',
  async () => ({
    open: (warnings) => open({}, warnings),
    read: (tag) => reader.records(`${stem}-${tag}`),
    exact: true,
    nul: 'kept',
    loneSurrogate: 'kept',
    secrets: [],
  }),
  { checksJson: true, remembers: true },
);

test('killed at any moment shows the old whole or the new whole, which a reader sees throughout', async () => {
  const env = { STORE_ELASTICSEARCH_URL: url, STORE_ELASTICSEARCH_INDEX: `${stem}-killed-%TAG` };
  const read = () => reader.records(`${stem}-killed-okta_killed`);
  const seen = await killOverAndOver({ store: 'elasticsearch', env, folder, read, kills: 5 });
  expect(seen.wrong).toEqual([]);
  expect(seen.generations).toBeGreaterThan(1);
}, 120_000);

describe('a snapshot', () => {
  test('is found by one alias for all tenancies, and replaces that of its own alone', async () => {
    const { name, dataset } = fresh();
    const [acme, other] = [await open(), await open({}, [], 'Bärs & Co')];
    await acme.write(await dataset(['{"id":1}', '{"id":2}']));
    await other.write(await dataset(['{"id":9}'], 'Bärs & Co'));
    await acme.write(await dataset(['{"id":3}']));
    expect((await reader.records(name)).toSorted()).toEqual(['{"id":3}', '{"id":9}']);
    const [document] = await reader.documents(name);
    expect(document?.source).toMatchObject({ _cyber_collect: { record: 1, upload_id: expect.any(String) } });
  });

  test('that was replaced stays out of sight until the next one, or not at all', async () => {
    const { name, dataset } = fresh();
    const sink = await open();
    for (const n of [1, 2, 3, 4]) await sink.write(await dataset([`{"id":${n}}`]));
    expect(await reader.indices(`${name}-`)).toHaveLength(2);
    await (await open({ STORE_ELASTICSEARCH_KEEP: '0' })).write(await dataset(['{"id":5}']));
    expect(await reader.indices(`${name}-`)).toHaveLength(1);
    expect(await reader.records(name)).toEqual(['{"id":5}']);
  });

  test('that was replaced is not deleted while another alias leads to it, nor is what is not ours', async () => {
    const { name, dataset } = fresh();
    const sink = await open({ STORE_ELASTICSEARCH_KEEP: '0' });
    await sink.write(await dataset(['{"id":1}']));
    const [kept] = await reader.indices(`${name}-`);
    const add = { index: kept, alias: `${stem}-audit-2026` };
    await reader.ask('POST', '/_aliases', { actions: [{ add }] });
    await reader.ask('PUT', `/${name}-acme-by-hand`);
    await sink.write(await dataset(['{"id":2}']));
    await sink.write(await dataset(['{"id":3}']));
    expect(await reader.records(`${stem}-audit-2026`)).toEqual(['{"id":1}']);
    expect(await reader.indices(`${name}-`)).toHaveLength(3);
  });

  test('goes by its records’ own keys; records of one key stand beside each other', async () => {
    const { name, dataset } = fresh();
    const sink = await open();
    const records = ['{"id":"a"}', '{"id":"b"}', '{"id":"a","x":1}', '{"id":"a","x":2}', '{"id":{}}', '{"n":1}'];
    const written = await dataset([...records, `{"id":"${'k'.repeat(600)}"}`]);
    await sink.write(written);
    const upload = written.metadata.upload_id;
    const ids = (await reader.documents(name)).map(({ id }) => id);
    expect(ids.slice(0, -1).toSorted()).toEqual(['a', 'b', ...[3, 4, 5, 6].map((n) => `${upload}-${n}`)].toSorted());
    expect(ids.at(-1)).toMatch(/^[\w-]{43}$/);
    expect((await reader.records(name)).slice(0, 6)).toEqual(records);
    await (await open({ STORE_ELASTICSEARCH_THRESHOLD: '1' })).write(await dataset(records));
    expect(await reader.records(name)).toEqual(records);
  });

  test('goes by the keys that are set', async () => {
    const { name, dataset } = fresh();
    const sink = await open({ STORE_ELASTICSEARCH_ID: 'host.name,port' });
    await sink.write(await dataset(['{"id":1,"host":{"name":"a"},"port":22}', '{"id":2,"port":22}']));
    const [first, second] = await reader.documents(name);
    expect(first?.id).toBe('["a",22]');
    expect(second?.id).toMatch(/-2$/);
  });

  test('keeps as text what the index cannot take as fields, and says so without its words', async () => {
    const { name, dataset } = fresh();
    const warnings: string[] = [];
    const sink = await open({}, warnings);
    const odd = [
      '{"id":3,"state":{"name":"hush-hush-0002"}}',
      '{"_id":"reserved"}',
      '{"_cyber_collect":1}',
      '{"":1}',
      '{"list":[1,{"a":1}]}',
    ];
    const records = ['{"id":1,"state":"on"}', '{"id":2,"state":"off"}', ...odd];
    await sink.write(await dataset(records));
    expect(await reader.records(name)).toEqual(records);
    const texts = (await reader.documents(name)).map(({ source }) => (source as { _record?: string })._record);
    expect(texts.filter((text) => text !== undefined)).toEqual(odd);
    expect(warnings).toEqual([expect.stringMatching(/_record, .*: 5 \(first: record \d, \w+\)/)]);
    expect(warnings[0]).not.toContain('hush-hush');
  });

  test('of thousands of fields and of values of every type is taken as it is', async () => {
    const { name, dataset } = fresh();
    const warnings: string[] = [];
    const sink = await open({}, warnings);
    const wide = JSON.stringify(Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`f${n}`, n])));
    const mixed = ['{"v":1}', '{"v":"one"}', '{"v":true}', '{"v":[1.5,"x"]}', '{"at":"2026-01-01"}', '{"at":"never"}'];
    await sink.write(await dataset([wide, ...mixed]));
    expect(await reader.records(name)).toEqual([wide, ...mixed]);
    expect(warnings).toEqual([]);
  });

  test('that is whole but was never shown is shown without being written again', async () => {
    const { name, dataset } = fresh();
    const sink = await open();
    const upload = await dataset(['{"id":1}']);
    await sink.write(upload);
    const [index] = await reader.indices(`${name}-`);
    await reader.ask('POST', '/_aliases', { actions: [{ remove: { index, alias: name } }] });
    const { _seq_no: before } = (await reader.ask('GET', `/${index}/_doc/1`)) as { _seq_no: number };
    const created = await createdAt(index);
    await sink.write(upload);
    expect(await reader.records(name)).toEqual(['{"id":1}']);
    expect(await createdAt(index)).toBe(created);
    expect(await reader.ask('GET', `/${index}/_doc/1`)).toMatchObject({ _seq_no: before });
  });

  test('that a run left half-written is written anew', async () => {
    const { name, tag, dataset } = fresh();
    const upload = await dataset(['{"id":1}', '{"id":2}']);
    const index = `${name}-acme-${upload.metadata.upload_id}`;
    const meta = { ...upload.metadata, tag, state: 'writing', begun: 0 };
    await reader.ask('PUT', `/${index}`, { mappings: { _meta: { cyber_collect: meta } } });
    await reader.ask('PUT', `/${index}/_doc/7?refresh=true`, { id: 7 });
    const dead = `${name}-acme-${randomUUID()}`;
    await reader.ask('PUT', `/${dead}`, { mappings: { _meta: { cyber_collect: { ...meta, upload_id: 'x' } } } });
    await (await open()).write(upload);
    expect(await reader.records(name)).toEqual(['{"id":1}', '{"id":2}']);
    expect(await reader.indices(`${name}-`)).toEqual([index]);
  });

  test('does not take the name of an index that is there', async () => {
    const { name, dataset } = fresh();
    await reader.ask('PUT', `/${name}/_doc/1?refresh=true`, { old: true });
    const error = await failureOf((await open()).write(await dataset(['{"id":1}'])));
    expect(error.code).toBe('config');
    expect(error.message).toContain(`${name} is an index`);
    expect(await reader.ask('GET', `/${name}/_count`)).toMatchObject({ count: 1 });
  });
});

async function createdAt(index: string | undefined): Promise<unknown> {
  const settings = (await reader.ask('GET', `/${index}/_settings/index.creation_date?flat_settings=true`)) as Record<
    string,
    { settings: Record<string, string> }
  >;
  return settings[index ?? '']?.settings['index.creation_date'];
}

describe('events', () => {
  test('are added to one index; one that is collected again counts once, one that has changed is another', async () => {
    const { name, dataset } = fresh('events');
    const sink = await open({ STORE_ELASTICSEARCH_THRESHOLD: '2' });
    const first = await dataset(['{"id":"a","n":1}', '{"id":"b","n":1}', '{"keyless":true}', '{"keyless":true}']);
    await sink.write(first);
    await sink.write(first);
    await sink.write(await dataset(['{"id":"b","n":1}', '{"id":"b","n":2}', '{"id":"c"}']));
    await sink.write(await dataset(['{"id":"a","n":1}'], 'other'));
    const b = ['{"id":"b","n":1}', '{"id":"b","n":2}'];
    const expected = ['{"id":"a","n":1}', '{"id":"a","n":1}', ...b, '{"id":"c"}', '{"keyless":true}'];
    expect((await reader.records(name)).toSorted()).toEqual([...expected, '{"keyless":true}']);
    expect(await reader.indices(name)).toEqual([name]);
  });

  test.each([
    ['index', 2],
    ['create', 1],
  ])('that are there already carry the upload that %s says', async (op, upload) => {
    const { name, dataset } = fresh('events');
    const sink = await open({ STORE_ELASTICSEARCH_OP: op });
    const uploads = [await dataset(['{"id":"a"}']), await dataset(['{"id":"a"}'])];
    for (const one of uploads) await sink.write(one);
    const [document, ...more] = await reader.documents(name);
    expect(more).toEqual([]);
    expect(document?.source).toMatchObject({
      _cyber_collect: { upload_id: uploads[upload - 1]?.metadata.upload_id },
    });
  });

  test('a damaged spool adds none', async () => {
    const { name, dataset } = fresh('events');
    const good = await dataset(['{"id":"a"}', '{"id":"b"}']);
    const error = await failureOf((await open()).write({ ...good, spool: { ...good.spool, sha256: '0'.repeat(64) } }));
    expect(error.message).toMatch(/spool/);
    expect(await reader.indices(name)).toEqual([]);
  });

  test('an index that is blocked, as when a disk is full, is a sentence at once', async () => {
    const { name, dataset } = fresh('events');
    const sink = await open();
    await sink.write(await dataset(['{"id":"a"}']));
    await reader.ask('PUT', `/${name}/_settings`, { 'index.blocks.read_only_allow_delete': true });
    const error = await failureOf(sink.write(await dataset(['{"id":"b"}'])));
    expect(error).toMatchObject({ code: 'store', mend: expect.stringContaining('space') });
    expect(error.message).toMatch(/blocks writing/);
  });
});

test('a run stores what the vendor has, each record by its key', async () => {
  const vendor = await startVendor(crowdstrike, { scale: 250, pageSize: 50 });
  try {
    const index = `${stem}-run-%TAG`;
    const { summary } = await collectOnce({
      env: { ...vendor.env, ES_NODE: url, STORE_ELASTICSEARCH_INDEX: index, STORE_FILE: 'none' },
      only: ['crowdstrike.vulnerabilities'],
    });
    const result = resultOf(summary, 'crowdstrike_vulnerabilities');
    expect(result).toMatchObject({ verdict: 'complete', stores: [{ store: 'elasticsearch', records: 250 }] });
    const documents = await reader.documents(`${stem}-run-crowdstrike_vulnerabilities`);
    expect(documents.map(({ text }) => text)).toEqual(vendor.truth('vulnerabilities'));
    expect(documents.map(({ id }) => id)).toEqual(documents.map(({ source }) => (source as { id: string }).id));
  } finally {
    await vendor.close();
  }
});

test('check leaves no index behind', async () => {
  const sink = await open();
  await sink.check?.();
  expect((await reader.indices(stem)).filter((name) => name.includes('probe'))).toEqual([]);
});

test('a server that is not there is a sentence', async () => {
  const sink = await open({ STORE_ELASTICSEARCH_URL: 'http://127.0.0.1:1' });
  const error = await failureOf(sink.check?.() ?? Promise.resolve());
  expect(error).toMatchObject({ code: 'network', mend: expect.stringContaining('STORE_ELASTICSEARCH_URL') });
  expect(error.message, inspect(error)).toMatch(/refused/);
}, 60_000);
