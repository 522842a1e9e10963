import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { zstd } from '../../src/envelope/encoding.ts';
import { mergedChunks } from '../../src/stores/_merge.ts';
import store from '../../src/stores/store_file.ts';
import { type DatasetChoice, datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { temporaryFolder } from '../support/run.ts';

type Variables = Readonly<Record<string, string>>;

const settingsOf = (variables: Variables) => z.object(store.env).parse({ STORE_FILE_MERGE: 'true', ...variables });

/** A file that uploads are merged into. */
async function merging(extension = 'json', variables: Variables = {}) {
  const folder = await temporaryFolder();
  const path = join(folder, `okta_users.${extension}`);
  const settings = settingsOf({ STORE_FILE: join(folder, `%TAG.${extension}`), ...variables });
  const sink = await store.open(settings, { tenancy: 'acme', at: new Date(), warn: () => undefined });
  const put = async (records: readonly string[], choice: DatasetChoice & { readonly id?: readonly string[] } = {}) => {
    const { id = ['id'], ...rest } = choice;
    return sink.write({ ...(await datasetOf(folder, records, rest)), id });
  };
  return { folder, path, put };
}

const user = (id: string | number, n: number) => `{"id":${JSON.stringify(id)},"n":${n}}`;

interface Envelope {
  readonly data: readonly unknown[];
  readonly metadata: { readonly records: number; readonly merged?: number; readonly upload_id: string };
}

/** The records of a file, however it is written. */
async function stored(path: string): Promise<readonly string[]> {
  const bytes = await readFile(path);
  const { decompress } = await zstd();
  const plain = path.endsWith('.gz')
    ? gunzipSync(bytes)
    : path.endsWith('.zst')
      ? Buffer.from(decompress(bytes))
      : bytes;
  const text = plain.toString('utf8');
  if (/\.ndjson/.test(path)) return text.split('\n').slice(0, -1);
  const parsed = JSON.parse(text) as Envelope | readonly unknown[];
  if (Array.isArray(parsed)) return parsed.map((record) => JSON.stringify(record));
  const { data, metadata } = parsed as Envelope;
  expect(metadata.records).toBe(data.length);
  return data.map((record) => JSON.stringify(record));
}

test.each([
  ['json', {}],
  ['json.gz', {}],
  ['json.zst', {}],
  ['ndjson', {}],
  ['ndjson.gz', {}],
  ['json', { STORE_FILE_FORMAT: 'array' }],
])('.%s %j: records come again instead of those of their key, the others stay', async (extension, variables) => {
  const { path, put } = await merging(extension, variables);
  await put([user('a', 1), user('b', 1), user('c', 1)]);
  expect(await stored(path)).toEqual([user('a', 1), user('b', 1), user('c', 1)]);
  await put([user('b', 2), user('d', 2)]);
  expect(await stored(path)).toEqual([user('a', 1), user('c', 1), user('b', 2), user('d', 2)]);
  await put([]);
  expect(await stored(path)).toHaveLength(4);
});

test('the metadata tells how many records are of earlier uploads', async () => {
  const { path, put } = await merging();
  const metadata = async () => (JSON.parse(await readFile(path, 'utf8')) as Envelope).metadata;
  await put([user(1, 1), user(2, 1)]);
  expect(await metadata()).toMatchObject({ records: 2, merged: 0 });
  const written = await put([user(2, 2)]);
  expect(await metadata()).toMatchObject({ records: 2, merged: 1 });
  expect(written.records).toBe(1);
});

test('any uploads leave what a map by key would hold, and the last of them again changes nothing', async () => {
  const key = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 3 }), fc.constantFrom('a"b', 'é', '\u0000', '日'));
  const uploads = fc.array(fc.uniqueArray(key, { maxLength: 8 }), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(uploads, fc.constantFrom('json', 'ndjson', 'json.gz'), async (runs, extension) => {
      const { path, put } = await merging(extension);
      const model = new Map<string, string>();
      let last: readonly string[] = [];
      for (const [n, keys] of runs.entries()) {
        last = keys.map((id) => user(id, n));
        for (const [at, id] of keys.entries()) model.set(id, last[at] ?? '');
        await put(last);
      }
      const found = await stored(path);
      expect([...found].sort()).toEqual([...model.values()].sort());
      await put(last);
      expect(await stored(path)).toEqual(found);
    }),
    { numRuns: 60 },
  );
});

test('the same upload twice leaves the same bytes', async () => {
  const { path, put, folder } = await merging();
  await put([user(1, 1), user(2, 1)]);
  const dataset = await datasetOf(folder, [user(2, 2), user(3, 2)]);
  const settings = settingsOf({ STORE_FILE: join(folder, '%TAG.json') });
  const sink = await store.open(settings, { tenancy: 'acme', at: new Date(), warn: () => undefined });
  const first = await sink.write(dataset);
  const bytes = await readFile(path);
  expect(await sink.write(dataset)).toEqual(first);
  expect(await readFile(path)).toEqual(bytes);
});

test('a key of several parts, of big integers, or with other escapes is one key', async () => {
  const parts = await merging();
  const app = (device: string, id: string, n: number) => `{"id":"${id}","_device":{"id":"${device}"},"n":${n}}`;
  const id = ['_device.id', 'id'];
  await parts.put([app('d1', 'a', 1), app('d1', 'b', 1), app('d2', 'a', 1)], { id });
  await parts.put([app('d1', 'a', 2)], { id });
  expect(await stored(parts.path)).toEqual([app('d1', 'b', 1), app('d2', 'a', 1), app('d1', 'a', 2)]);
  const { path, put } = await merging('ndjson');
  await put([
    '{"id":9007199254740993}',
    '{"id":9007199254740992}',
    '{"id":"caf\\u00e9"}',
    '{ "n":0 , "id" : "x\\/y" }',
  ]);
  await put(['{"id":9007199254740993,"n":2}', '{"id":"café","n":2}', '{"id":"x/y","n":2}']);
  expect(await stored(path)).toEqual([
    '{"id":9007199254740992}',
    '{"id":9007199254740993,"n":2}',
    '{"id":"café","n":2}',
    '{"id":"x/y","n":2}',
  ]);
});

test('what the older system wrote is merged into: a list of records, laid out for people', async () => {
  const { path, put } = await merging();
  await writeFile(path, '[\n    {\n        "id": "a",\n        "n": 1\n    },\n    {"id": "b", "n": 1}\n]\n');
  await put([user('b', 2)]);
  expect(await stored(path)).toEqual([user('a', 1), user('b', 2)]);
  expect(JSON.parse(await readFile(path, 'utf8'))).toHaveProperty('metadata.tag', 'okta_users');
});

test.each([
  ['json', '', /neither \{"data":\[\.\.\.\]\} nor a list/],
  ['json', '{"users":[]}', /neither/],
  ['json', '{"data":[{"id":1', /ends in the middle/],
  ['json', 'canary', /no JSON/],
  ['json.gz', '{"data":[]}', /cannot be read/],
  ['ndjson', '{"id":1}\n{"id":2', /last line is not ended/],
])('a file of .%s that holds %j is left as it is', async (extension, content, why) => {
  const { path, put } = await merging(extension);
  await writeFile(path, content);
  const { message } = await failureOf(put([user(1, 1)]));
  expect(message).toMatch(why);
  expect(message).toContain(path);
  expect(message).not.toContain('canary');
  expect(await readFile(path, 'utf8')).toBe(content);
});

test('records without a key are refused, and nothing is changed', async () => {
  const { path, put } = await merging();
  await put([user(1, 1)]);
  const bytes = await readFile(path);
  expect((await failureOf(put([user(2, 2), '{"n":"canary"}']))).message).toBe(
    'record 2 of okta_users has no key, so it cannot be merged',
  );
  expect((await failureOf(put([user(2, 2)], { id: [] }))).message).toMatch(
    /nothing tells the records of okta_users apart/,
  );
  expect(await readFile(path)).toEqual(bytes);
});

const names = { uuid: 'u', tag: 'okta_users', tenancy: 'acme', at: new Date() };

test.each([
  [{ STORE_FILE: './%TAG.parquet' }, ['id'], /records are not merged into parquet/],
  [{ STORE_FILE: './%TAG/%UUID.json' }, ['id'], /another file for each upload/],
  [{ STORE_FILE: './%TAG.json' }, [], /nothing tells the records of okta_users apart/],
])('%j with the id %j is refused before anything is asked', (variables, id, why) => {
  expect(() => store.targets(settingsOf(variables), 'snapshot', names, id)).toThrow(why);
});

test('events are not merged: each run has a file of its own', () => {
  const [target] = store.targets(settingsOf({ STORE_FILE: './%TAG.json' }), 'events', names, []) ?? [];
  expect(target).toContain('u.json');
});

test('it pauses behind each so many records', async () => {
  const { path, put } = await merging('json', { STORE_FILE_THRESHOLD: '2', STORE_FILE_SLEEP: '0.1' });
  const began = performance.now();
  await put([1, 2, 3, 4, 5].map((id) => user(id, 1)));
  expect(performance.now() - began).toBeGreaterThan(195);
  expect(await stored(path)).toHaveLength(5);
});

test('more keys than are held at once are merged in passes, which changes nothing', async () => {
  const { path, put, folder } = await merging('ndjson');
  const many = (from: number, to: number, n: number) =>
    Array.from({ length: to - from }, (_, at) => user(`user ${from + at}`, n));
  await put(many(0, 900, 1));
  const dataset = await datasetOf(folder, many(150, 950, 2));
  const how = { format: 'ndjson', compression: 'none', path, threshold: 1, sleep: 0 } as const;
  const merged = async (keys?: number) => {
    const parts: Uint8Array[] = [];
    for await (const part of mergedChunks(dataset, { ...how, ...(keys === undefined ? {} : { keys }) }))
      parts.push(part);
    return Buffer.concat(parts).toString().split('\n').slice(0, -1);
  };
  const whole = await merged();
  expect(whole).toEqual([...many(0, 150, 1), ...many(150, 950, 2)]);
  for (const keys of [799, 100, 7]) expect((await merged(keys)).toSorted()).toEqual(whole.toSorted());
});
