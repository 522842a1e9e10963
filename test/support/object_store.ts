import { randomUUID } from 'node:crypto';
import { rm, truncate } from 'node:fs/promises';
import { inspect } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Shape } from '../../src/config/setting.ts';
import { unzstd } from '../../src/envelope/encoding.ts';
import type { Dataset, Kind, Store } from '../../src/stores/store.ts';
import { storeSuite } from '../stores/suite.ts';
import { type DatasetChoice, datasetOf, recordsOfSize } from './dataset.ts';
import { failureOf } from './failure.ts';
import type { Call, Fault, Front } from './front.ts';
import { openSink, openStore, targetsOf } from './open.ts';
import { temporaryFolder } from './run.ts';
import { freePort } from './server.ts';

type Variables = Readonly<Record<string, string>>;

export const MIB = 2 ** 20;

/** How the suite reaches an object store. What is not there before the tests is a function. */
export interface ObjectStore<S extends Shape> {
  readonly store: Store<S>;
  /** What its variables begin with: `STORE_GCS` of `STORE_GCS_KEY`. */
  readonly prefix: string;
  /** The variable that names the bucket, whose last word is what the vendor calls one. */
  readonly bucket: string;
  /** What the metadata of an object call its upload. */
  readonly uploadId: string;
  /** The right that deleting takes, as a warning names it. */
  readonly deleting: string;
  /** The kind of call with which an object is begun. */
  readonly begins: string;
  /** Whether a read tells a bucket that is not there from an object that is not. */
  readonly tellsBucket: boolean;
  /** What comes of a vendor's refusals: what for, the answer, the error's code, message and mend. */
  readonly refusals: readonly (readonly [string, Fault, string, RegExp, RegExp])[];
  /** The answer for lack of a right. */
  readonly denied: Fault;
  /** Settings of its own that it refuses, and what the mend says. */
  readonly mistakes: readonly (readonly [string, Variables, string])[];
  /** Variables that reach it, through another origin if one is told. */
  variables(origin?: string): Variables;
  /** Variables of a login that is wrong. */
  wrong(): Promise<Variables>;
  secrets(): readonly string[];
  /** Where its objects are said to be. */
  place(): string;
  front(faults?: (call: Call) => Fault): Promise<Front>;
  object(key: string): Promise<Buffer>;
  names(prefix: string): Promise<readonly string[]>;
  metadata(key: string): Promise<Variables | undefined>;
  /** The content type of an object that has come by these calls. */
  type(key: string, calls: readonly Call[]): Promise<unknown>;
  /** How many uploads were begun and are neither ended nor given up. */
  unfinished?(): Promise<number>;
}

/** The text of a dataset's envelope. */
export function envelopeOf(records: readonly string[], { metadata }: Dataset): string {
  return `{"data":[${records.join(',')}],"metadata":${JSON.stringify(metadata)}}\n`;
}

/** All that comes. */
export async function bytesOf(source: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  if (source !== undefined) for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

/** Inflates what comes in pieces. */
export function inflated(bytes: Uint8Array): Promise<Buffer> {
  return bytesOf(unzstd(piecesOf(bytes), 'the copy'));
}

async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += 50_000) yield bytes.subarray(start, start + 50_000);
}

/** A tag that no other test has. */
export function newTag(): string {
  return `t_${randomUUID().slice(0, 8)}`;
}

/** What every object store has to do beside what every store has to. */
export function objectStoreSuite<S extends Shape>(under: ObjectStore<S>): void {
  const bench = benchOf(under);
  storeSuite(
    `${under.store.name} (ndjson)`,
    async () => {
      const variables = bench.with({ KEY: 'suite/%TAG/%TENANCY.ndjson' });
      return {
        open: (warnings) => openSink(under.store, variables, warnings),
        openWrong: async () => openSink(under.store, { ...variables, ...(await under.wrong()) }),
        read: async (tag) => (await under.object(`suite/${tag}/acme.ndjson`)).toString().split('\n').slice(0, -1),
        exact: true,
        nul: 'kept',
        loneSurrogate: 'kept',
        secrets: under.secrets(),
      };
    },
    { login: true, remembers: true },
  );
  describe('an object', () => {
    writing(under, bench);
    failing(under, bench);
  });
  describe('settings', () => settings(under, bench));
}

type Bench = ReturnType<typeof benchOf>;

function benchOf<S extends Shape>(under: ObjectStore<S>) {
  let folder = '';
  beforeAll(async () => {
    folder = await temporaryFolder();
  });
  const own = (more: Variables) =>
    Object.fromEntries(Object.entries(more).map(([name, value]) => [`${under.prefix}_${name}`, value]));
  const all = (more: Variables, origin?: string) => ({ ...under.variables(origin), ...own(more) });
  return {
    with: all,
    open: (more: Variables, { origin, warnings }: { readonly origin?: string; readonly warnings?: string[] } = {}) =>
      openStore(under.store, all(more, origin), warnings),
    dataset: (records: Iterable<string>, choice: DatasetChoice = {}) =>
      datasetOf(folder, records, { tag: newTag(), ...choice }),
  };
}

function writing<S extends Shape>(under: ObjectStore<S>, { open, dataset }: Bench): void {
  test('is the envelope, at the main name and again at the backup’s', async () => {
    const records = ['{"id":1}', '{"id":2,"a":[1,2]}'];
    const data = await dataset(records, { metadata: { timestamp: '2026-03-04T05:06:07Z' } });
    const sink = await open({ KEY: 'data/%TAG/%TENANCY-%YYYY%MM%DD-%UUID.json' });
    const main = `data/${data.tag}/acme-20260304-${data.metadata.upload_id}.json`;
    const backup = `backup/${data.tag}/acme.json`;
    expect(await sink.write(data)).toEqual({ at: `${under.place()}/${main}`, records: 2 });
    expect(await under.names(`backup/${data.tag}`)).toEqual([]);
    expect(await sink.backup?.save(data)).toEqual({ at: `${under.place()}/${backup}`, records: 2 });
    for (const key of [main, backup]) {
      expect((await under.object(key)).toString()).toBe(envelopeOf(records, data));
      expect(await under.metadata(key)).toEqual({
        [under.uploadId]: data.metadata.upload_id,
        timestamp: '2026-03-04T05:06:07Z',
        sha256: data.spool.sha256,
        records: '2',
      });
    }
  });

  test.each([
    ['json', 'application/json', (bytes: Buffer) => bytes],
    ['jsonl', 'application/x-ndjson', (bytes: Buffer) => bytes],
    ['ndjson.gz', 'application/gzip', (bytes: Buffer) => gunzipSync(bytes)],
    ['json.gz', 'application/gzip', (bytes: Buffer) => gunzipSync(bytes)],
    ['jsonl.zst', 'application/zstd', inflated],
    ['json.zst', 'application/zstd', inflated],
  ])('.%s is of type %s', async (end, type, inflate) => {
    const records = [...recordsOfSize(5 * MIB)];
    const data = await dataset(records);
    const front = await under.front();
    const sink = await open({ KEY: `data/%TAG.${end}` }, front);
    await sink.write(data);
    const key = `data/${data.tag}.${end}`;
    const lines = records.map((record) => `${record}\n`).join('');
    const wanted = /^json(\.|$)/.test(end) ? envelopeOf(records, data) : lines;
    expect((await inflate(await under.object(key))).equals(Buffer.from(wanted))).toBe(true);
    expect(await under.type(key, front.calls)).toBe(type);
  });

  test('of events has a name of its own, or there is none', async () => {
    const data = await dataset(['{"id":1}'], { kind: 'events' });
    const sink = await open({ KEY: 'data/%TAG.json', KEY_EVENTS: 'log/%TAG/%UUID.ndjson' });
    const key = `log/${data.tag}/${data.metadata.upload_id}.ndjson`;
    expect(await sink.write(data)).toEqual({ at: `${under.place()}/${key}`, records: 1 });
    expect((await under.object(key)).toString()).toBe('{"id":1}\n');
    const none = await open({ KEY: 'data/%TAG.json' });
    expect(await none.write(data)).toEqual({ at: `(not uploaded: ${under.prefix}_KEY_EVENTS is not set)`, records: 0 });
    expect(await under.names(`data/${data.tag}`)).toEqual([]);
  });

  test.each(['json', 'json.gz', 'json.zst'])('that is a backup comes back from .%s as it was saved', async (end) => {
    const records = [...recordsOfSize(3 * MIB)];
    const data = await dataset(records);
    const sink = await open({ BACKUP: `keep/%TAG/%TENANCY.${end}` });
    const names = { uuid: randomUUID(), tag: data.tag, tenancy: 'acme', at: new Date() };
    expect(await sink.backup?.load(names)).toBeUndefined();
    await sink.backup?.save(data);
    const copy = await sink.backup?.load(names);
    expect(copy?.at).toBe(`${under.place()}/keep/${data.tag}/acme.${end}`);
    expect((await bytesOf(copy?.body)).toString()).toBe(envelopeOf(records, data));
  });

  test('of a check stays nowhere', async () => {
    const warnings: string[] = [];
    const sink = await open({ BACKUP: 'probed/%TAG/%TENANCY.json' }, { warnings });
    await sink.check?.();
    expect(await under.names('probed/')).toEqual([]);
    expect(warnings).toEqual([]);
    await sink.close?.();
    await sink.close?.();
  });

  test('of a check may stay where deleting is not allowed', async () => {
    const warnings: string[] = [];
    const { origin } = await under.front(({ method }) => (method === 'DELETE' ? under.denied : undefined));
    const sink = await open({}, { origin, warnings });
    await sink.check?.();
    expect(warnings).toEqual([expect.stringContaining(under.deleting)]);
  });
}

function failing<S extends Shape>(under: ObjectStore<S>, { open, dataset }: Bench): void {
  test.each([
    ['in blocks', 'json', 100 * MIB],
    ['of one block or two', 'json', 20 * MIB],
    ['compressed', 'json.gz', 20 * MIB],
    ['compressed with zstd', 'json.zst', 20 * MIB],
  ])('%s that fails half-way leaves the old one', async (_, end, size) => {
    const old = await dataset(['{"id":"old"}']);
    const data = await dataset(recordsOfSize(size), { tag: old.tag });
    const sink = await open({ KEY: `data/%TAG.${end}`, BACKUP: 'keep/%TAG.json' });
    await sink.write(old);
    const before = await under.object(`data/${old.tag}.${end}`);
    await truncate(data.spool.path, Math.round(data.spool.bytes * 0.7));
    expect((await failureOf(() => sink.write(data))).message).toMatch(/the spool .* damaged/);
    await rm(data.spool.path);
    expect((await failureOf(() => sink.write(data))).message).toMatch(/the spool .* gone/);
    expect((await under.object(`data/${old.tag}.${end}`)).equals(before)).toBe(true);
    expect((await under.unfinished?.()) ?? 0).toBe(0);
  });

  test('in a bucket that is not there fails by its name, in every call', async () => {
    const word = under.bucket.slice(under.prefix.length + 1);
    const sink = await open({ [word]: 'not-there', KEY: 'data/%TAG.json' });
    const data = await dataset(['{}']);
    const names = { uuid: 'u', tag: 'tag', tenancy: 'acme', at: new Date() };
    const { backup } = sink;
    const works: (() => unknown)[] = [() => sink.write(data), () => backup?.save(data), () => sink.check?.()];
    if (under.tellsBucket) works.push(() => backup?.load(names));
    for (const work of works) {
      const error = await failureOf(work);
      expect(error.message).toContain(`the ${word.toLowerCase()} 'not-there' does not exist`);
      expect(error.mend).toContain(under.bucket);
    }
  });

  test('at a host that does not answer fails by its name', async () => {
    const origin = `http://127.0.0.1:${await freePort()}`;
    const sink = await open({ KEY: 'data/%TAG.json' }, { origin });
    const data = await dataset(['{}']);
    const error = await failureOf(() => sink.write(data));
    expect(error.code).toBe('network');
    expect(error.message).toContain(`no connection to ${new URL(origin).host} (ECONNREFUSED)`);
  });

  test.each(under.refusals)('that is refused for %s says so', async (_, fault, code, message, mend) => {
    const { origin } = await under.front(({ kind }) => (kind === under.begins ? fault : undefined));
    const sink = await open({ KEY: 'data/%TAG.json' }, { origin });
    const data = await dataset(['{}']);
    const error = await failureOf(() => sink.write(data));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.mend).toMatch(mend);
    for (const secret of under.secrets()) {
      expect(inspect(error, { depth: 20, showHidden: true })).not.toContain(secret);
    }
  });
}

function settings<S extends Shape>(under: ObjectStore<S>, bench: Bench): void {
  const targets = (more: Variables, kind?: Kind) => targetsOf(under.store, bench.with(more), 'okta_users', kind);

  test('say where a dataset goes', () => {
    const backup = `${under.place()}/backup/okta_users/acme.json`;
    expect(targets({})).toEqual([backup]);
    expect(targets({}, 'events')).toEqual([]);
    expect(targets({ KEY: 'a/%TAG.json' })).toEqual([`${under.place()}/a/okta_users.json`, backup]);
    expect(targets({ KEY: 'a/%TAG.json' }, 'events')).toEqual([]);
    const [uploaded, ...more] = targets({ KEY: 'a/%UUID.json' }, 'events') ?? [];
    expect(uploaded).toMatch(/\/a\/[0-9a-f-]{36}\.json$/);
    expect(more).toEqual([]);
  });

  test.each<[string, Variables, Kind, string]>([
    ['the backup’s name as main name', { KEY: 'backup/okta_users/%TENANCY.json' }, 'snapshot', `${under.prefix}_KEY`],
    ['one name for all events', { KEY_EVENTS: 'log/%TAG.json' }, 'events', '%UUID'],
    ['a backup that moves', { BACKUP: 'b/%TAG/%UUID.json' }, 'snapshot', '%UUID'],
    ['a backup of lines', { BACKUP: 'b/%TAG.ndjson.gz' }, 'snapshot', '.json.gz'],
    ['an unknown name', { KEY: 'a/%tag.json' }, 'snapshot', '%TAG'],
    ['a shell name', { KEY: 'a/$TAG.json' }, 'snapshot', '%TAG'],
    ['a name that is too long', { KEY: `${'a'.repeat(1020)}%TAG` }, 'snapshot', 'shorter'],
  ])('refuse %s', async (_, more, kind, mend) => {
    expect((await failureOf(() => targets(more, kind))).mend).toContain(mend);
  });

  test('refuse plain http to elsewhere', async () => {
    const elsewhere = under.variables('http://objects.example:9000');
    const error = await failureOf(() => targetsOf(under.store, elsewhere));
    expect(error.mend).toContain('CYBER_COLLECT_ALLOW_HTTP');
  });

  test.each(under.mistakes)('refuse %s', async (_, more, mend) => {
    const error = await failureOf(() => targetsOf(under.store, { ...under.variables(), ...more }));
    expect(error.mend).toContain(mend);
    expect(inspect(error, { depth: 10 })).not.toContain('hunter2');
  });
}
