import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CollectError } from '../../src/errors.ts';
import type { Sink } from '../../src/stores/store.ts';
import { type DatasetChoice, datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';

/** What becomes of an escape that some databases cannot hold. */
type Fate = 'kept' | 'replaced';

/** How the suite reaches a store under test. */
export interface StoreUnderTest {
  /** A new sink of tenancy `acme` on the same destination; warnings are appended to the list. */
  open(warnings: string[]): Promise<Sink>;
  /** The records of the newest upload as any reader sees them now, as JSON text without spaces. */
  read(tag: string): Promise<readonly string[]>;
  /** Whether texts come back byte for byte. */
  readonly exact: boolean;
  readonly nul: Fate;
  readonly loneSurrogate: Fate;
  /** A sink whose login is wrong, for stores that have one. */
  readonly openWrong?: () => Promise<Sink>;
  /** What must show up nowhere. */
  readonly secrets: readonly string[];
}

/** What not every store has. */
export interface Traits {
  /** It asks who we are: `openWrong` is there. */
  readonly login?: true;
  /** It refuses a record that is no JSON. */
  readonly checksJson?: true;
  /** It knows the newest upload it holds. */
  readonly remembers?: true;
  /** It only adds, record by record as readers look on; they tell uploads by what each record carries. */
  readonly gradual?: true;
  /** The vendor takes no value of more bytes. */
  readonly most?: number;
}

/** What every store has to do. `setUp` runs once, before all. */
export function storeSuite(name: string, setUp: () => Promise<StoreUnderTest>, traits: Traits): void {
  describe(`the ${name} store`, () => {
    const heard: unknown[] = [];
    const warnings: string[] = [];
    let folder: string;
    let store: StoreUnderTest;
    let sink: Sink;
    let tags = 0;

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'cyber-collect-[spool]-'));
      store = await setUp();
      sink = await store.open(warnings);
    });

    afterAll(async () => {
      await sink?.close?.();
      await rm(folder, { recursive: true, force: true });
    });

    function newTag(): string {
      tags += 1;
      return `okta_case_${tags}`;
    }

    async function put(records: Iterable<string>, choice: DatasetChoice) {
      return sink.write(await datasetOf(folder, records, choice));
    }

    async function stored(records: Iterable<string>): Promise<readonly string[]> {
      const tag = newTag();
      await put(records, { tag });
      return store.read(tag);
    }

    async function failure(work: Promise<unknown>): Promise<CollectError> {
      const error = await failureOf(work);
      heard.push(error);
      return error;
    }

    function numbered(count: number, generation = 1): string[] {
      return Array.from({ length: count }, (_, n) => `{"n":${n},"generation":${generation}}`);
    }

    test('says where and how many', async () => {
      const tag = newTag();
      const written = await put(['{"id":1}', '{"id":2}'], { tag });
      expect(written.records).toBe(2);
      expect(written.at).toContain(tag);
      expect(await store.read(tag)).toHaveLength(2);
    });

    test('an empty dataset after a full one reads as empty', async () => {
      const tag = newTag();
      await put(numbered(3), { tag });
      const { records } = await put([], { tag });
      if (traits.gradual) expect(records).toBe(0);
      else expect(await store.read(tag)).toEqual([]);
    });

    test('10,000 records', async () => {
      const records = numbered(10_000);
      expect([...(await stored(records))].sort()).toEqual(records.sort());
    });

    test('Unicode, scalars and arrays as records', async () => {
      const name = '{"name":"Zoë 🦊 日本\u2028 \\"x\\" \\\\u0000"}';
      const records = [name, '"text"', '17', 'true', 'null', '[1,"é"]'];
      expect((await stored(records)).toSorted()).toEqual(records.toSorted());
    });

    test('integers above 2^53 and long decimals keep their digits', async () => {
      const records = [
        '{"id":9007199254740993}',
        '{"id":123456789012345678901234567890}',
        '{"id":0.1234567890123456789012}',
      ];
      expect((await stored(records)).toSorted()).toEqual(records.toSorted());
    });

    test('key order, repeated keys and escapes, where texts are kept', async () => {
      const record = '{"zeta":1,"a":1.50,"a":1e2,"escaped":"\\u00e9\\/"}';
      const [found] = await stored([record]);
      if (store.exact) expect(found).toBe(record);
      else expect(JSON.parse(found ?? '')).toEqual(JSON.parse(record));
    });

    test('a NUL escape', async () => {
      const [found] = await stored(['{"s":"a\\u0000b","t":"\\\\u0000"}']);
      expect(JSON.parse(found ?? '')).toEqual({ s: store.nul === 'kept' ? 'a\u0000b' : 'a\ufffdb', t: '\\u0000' });
      if (store.nul === 'replaced') expect(warnings.at(-1)).toMatch(/: 1 escape/);
    });

    test('lone surrogate escapes', async () => {
      const tag = newTag();
      const filler = '{"pad":"'.padEnd(Math.min(256 * 1024, traits.most ?? Number.POSITIVE_INFINITY) - 60, 'x'); // puts the escapes on a border of chunks
      await put([`${filler}\\ud83d\\ude00\\uD83D\\uDE00\\ud83d"}`, '{"s":"\\ude00\\ud83d\\ud83d\\ude00"}'], { tag });
      const texts = (await store.read(tag)).map((text) => Object.values(JSON.parse(text))[0] as string);
      const lone = (kept: string) => (store.loneSurrogate === 'kept' ? kept : '\ufffd');
      expect(texts.map((found) => found.replace(/^x+/, '')).toSorted()).toEqual(
        [`😀😀${lone('\ud83d')}`, `${lone('\ude00')}${lone('\ud83d')}😀`].toSorted(),
      );
      if (store.loneSurrogate === 'replaced') expect(warnings.at(-1)).toMatch(/: 3 escapes/);
    });

    test('nesting 500 deep', async () => {
      const record = `${'{"a":['.repeat(250)}1${']}'.repeat(250)}`;
      expect(await stored([record])).toEqual([record]);
    });

    if (traits.most === undefined) {
      test('a record of 20 MB between small ones', async () => {
        const records = ['{"n":1}', `{"blob":"${'x'.repeat(20e6)}"}`, '{"n":2}'];
        const lengths = (await stored(records)).map((text) => text.length).toSorted((a, b) => a - b);
        expect(lengths).toEqual([7, 7, 20_000_011]);
      });
    } else {
      test('a record that is too large for the vendor is named', async () => {
        const records = ['{"n":1}', `{"blob":"${'x'.repeat(20e6)}"}`, '{"n":2}'];
        expect((await failure(stored(records))).message).toMatch(/\b1 record|record 2\b/);
      });
    }

    test('the same upload twice counts once', async () => {
      const tag = newTag();
      const dataset = await datasetOf(folder, numbered(5), { tag });
      const first = await sink.write(dataset);
      const second = await sink.write(dataset);
      expect(second).toEqual(first);
      expect(await store.read(tag)).toHaveLength(5);
    });

    test('a spool that was shortened or is gone leaves the old data', async () => {
      const tag = newTag();
      await put(numbered(4), { tag });
      const shortened = await datasetOf(folder, numbered(20_000, 2), { tag });
      await truncate(shortened.spool.path, Math.floor(shortened.spool.bytes / 2));
      expect((await failure(sink.write(shortened))).message).toMatch(/spool/);
      await rm(shortened.spool.path);
      await failure(sink.write(shortened));
      expect((await store.read(tag)).toSorted()).toEqual(numbered(4));
    });

    if (traits.checksJson) {
      test('a record that is no JSON is named, and the old data stays', async () => {
        const tag = newTag();
        await put(numbered(4), { tag });
        const bad = [...numbered(1999, 2), '{"token":"hush-hush-0001",', ...numbered(500, 2)];
        expect((await failure(put(bad, { tag }))).message).toMatch(/record 2000\b/);
        expect((await store.read(tag)).toSorted()).toEqual(numbered(4));
      });
    }

    test('a run that has lost its lock changes nothing', async () => {
      const tag = newTag();
      await put(numbered(3), { tag });
      const lost = new CollectError('locked', 'another run has taken over');
      const error = await failure(put(numbered(2, 2), { tag, confirm: () => Promise.reject(lost) }));
      expect(error.code).toBe('locked');
      expect([...(await store.read(tag))].sort()).toEqual(numbered(3).sort());
    });

    if (!traits.gradual) {
      test('a reader sees the old whole or the new whole', async () => {
        const tag = newTag();
        const [older, newer] = [numbered(300, 1), numbered(5000, 2)];
        await put(older, { tag });
        let writing = true;
        const write = put(newer, { tag }).finally(() => {
          writing = false;
        });
        const sizes = new Set<number>();
        while (writing) sizes.add((await store.read(tag)).length);
        await write;
        expect(await store.read(tag)).toHaveLength(5000);
        expect([...sizes].filter((size) => size !== 300 && size !== 5000)).toEqual([]);
      });
    }

    test('a second open store writes beside the first', async () => {
      const second = await store.open(warnings);
      const made = [newTag(), newTag(), newTag(), newTag(), newTag(), newTag()];
      const datasets = await Promise.all(made.map((tag) => datasetOf(folder, numbered(50), { tag })));
      await Promise.all(datasets.map((dataset, n) => (n % 2 === 0 ? sink : second).write(dataset)));
      for (const tag of made) expect(await store.read(tag)).toHaveLength(50);
      await second.close?.();
      await second.close?.();
    });

    if (traits.remembers) {
      test('latest names the newest upload', async () => {
        const tag = newTag();
        expect(await sink.latest?.(tag)).toBeUndefined();
        await put(numbered(2), { tag });
        const newest = await datasetOf(folder, [], { tag });
        await sink.write(newest);
        const { upload_id, timestamp } = newest.metadata;
        expect(await sink.latest?.(tag)).toEqual({ upload_id, timestamp });
      });
    }

    test('check leaves nothing behind', async () => {
      await sink.check?.();
      await sink.check?.();
    });

    if (traits.login) {
      test('a wrong password is a sentence', async () => {
        const wrong = await store.openWrong?.();
        const error = await failure(wrong?.check?.() ?? Promise.resolve());
        expect(error.code).toBe('credentials');
        expect(error.mend).toBeDefined();
        await wrong?.close?.();
      });
    }

    test('secrets and records show up in no error or warning', () => {
      expect(heard.length).toBeGreaterThan(0);
      const said = inspect([heard, warnings], { depth: 10 });
      for (const hidden of [...store.secrets, 'hush-hush-0001']) expect(said).not.toContain(hidden);
    });
  });
}
