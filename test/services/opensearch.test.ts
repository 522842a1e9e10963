import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Sink } from '../../src/stores/store.ts';
import store from '../../src/stores/store_opensearch.ts';
import { storeSuite } from '../stores/suite.ts';
import { datasetOf } from '../support/dataset.ts';
import { type OpenSearchServer, startOpenSearch } from '../support/opensearch.ts';
import { searchReader } from '../support/search.ts';

const stem = `t${randomUUID().slice(0, 8)}`;
const opened: Sink[] = [];
let server: OpenSearchServer;
let folder = '';

beforeAll(async () => {
  server = await startOpenSearch();
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-spool-'));
}, 300_000);

afterAll(async () => {
  try {
    for (const sink of opened) await sink.close?.();
    await searchReader(server.url).wipe(stem);
  } finally {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  }
});

async function open(env: Readonly<Record<string, string>> = {}, warnings: string[] = []): Promise<Sink> {
  const variables = { STORE_OPENSEARCH_URL: server.url, STORE_OPENSEARCH_INDEX: `${stem}-%TAG`, ...env };
  const { values, problems } = resolveShape(environmentOf(variables), store.name, store.env, store.aliases);
  if (values === undefined) throw new Error(JSON.stringify(problems));
  const sink = await store.open(values, { tenancy: 'acme', at: new Date(), warn: (said) => warnings.push(said) });
  opened.push(sink);
  return sink;
}

storeSuite(
  'opensearch',
  async () => ({
    open: (warnings) => open({}, warnings),
    read: (tag) => searchReader(server.url).records(`${stem}-${tag}`),
    exact: true,
    nul: 'kept',
    loneSurrogate: 'kept',
    secrets: [],
  }),
  { checksJson: true, remembers: true },
);

test('records of very many fields are taken, those of more than an index may have as text', async () => {
  const warnings: string[] = [];
  const sink = await open({}, warnings);
  const wide = (count: number) =>
    JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, n) => [`f${n}`, n])));
  await sink.write(await datasetOf(folder, [wide(3000), wide(6000)], { tag: 'wide' }));
  expect(await searchReader(server.url).records(`${stem}-wide`)).toEqual([wide(3000), wide(6000)]);
  expect(warnings).toEqual([expect.stringMatching(/_record, .*: 1 \(first: record 2, \w+\)/)]);
});

describe('data streams', () => {
  const event = (n: number) => `{"id":"e${n}","n":${n}}`;

  test('take events, each once, however often they are collected', async () => {
    const reader = searchReader(server.url);
    const sink = await open({ STORE_OPENSEARCH_DATA_STREAMS: 'true' });
    const name = `${stem}-okta_logs`;
    const choice = { tag: 'okta_logs', kind: 'events' } as const;
    const own = '2025-01-01T00:00:00Z';
    const nested = '{"o":{"@timestamp":"not at the top"}}';
    const first = await datasetOf(folder, [event(1), event(2), `{"id":"e3","@timestamp":"${own}"}`], choice);
    const next = await datasetOf(folder, [event(2), event(4), nested], choice);
    for (const dataset of [first, first, next]) await sink.write(dataset);
    const runs = [first, next].map(({ metadata }) => metadata.timestamp);
    const found = (await reader.documents(name)).map(({ source }) => source as Record<string, unknown>);
    expect(found.map((doc) => doc.id ?? doc._record).sort()).toEqual(['e1', 'e2', 'e3', 'e4', nested].sort());
    expect(new Set(found.map((doc) => doc['@timestamp']))).toEqual(new Set([own, ...runs]));
    const { data_streams } = (await reader.ask('GET', `/_data_stream/${name}`)) as { data_streams: unknown[] };
    expect(data_streams).toHaveLength(1);
    await reader.ask('DELETE', `/_data_stream/${name}`);
    await reader.ask('DELETE', `/_index_template/cyber-collect-${name}`);
  });
});
