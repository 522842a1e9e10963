import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, expect, test } from 'vitest';
import { z } from 'zod';
import store from '../../src/stores/store_file.ts';
import { killOverAndOver } from '../support/killed.ts';
import { storeSuite } from './suite.ts';

const folders: string[] = [];

async function setUp(extension: string, parse: (text: string) => readonly string[]) {
  const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-file-'));
  folders.push(folder);
  const settings = z.object(store.env).parse({ STORE_FILE: join(folder, `%TAG/%TENANCY.${extension}`) });
  return {
    open: (warnings: string[]) =>
      store.open(settings, { tenancy: 'acme', at: new Date(), warn: (message) => warnings.push(message) }),
    read: async (tag: string) => parse(await readFile(join(folder, tag, `acme.${extension}`), 'utf8')),
    exact: true,
    nul: 'kept',
    loneSurrogate: 'kept',
    secrets: [],
  } as const;
}

afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

storeSuite('file (ndjson)', () => setUp('ndjson', (text) => text.split('\n').slice(0, -1)), {});

storeSuite(
  'file (envelope)',
  () =>
    setUp('json', (text) => {
      const { data, metadata } = JSON.parse(text) as { data: unknown[]; metadata: { records: number } };
      if (data.length !== metadata.records)
        throw new Error(`${data.length} records, but ${metadata.records} in metadata`);
      return elementsOf(text.slice('{"data":['.length, text.lastIndexOf('],"metadata":{')));
    }),
  { remembers: true },
);

/** The texts of an array's elements, told apart by depth outside strings. */
function elementsOf(inside: string): string[] {
  const out: string[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at < inside.length; at += 1) {
    const token = inside[at];
    if (token === '"') at = endOfString(inside, at);
    else if (token === '{' || token === '[') depth += 1;
    else if (token === '}' || token === ']') depth -= 1;
    else if (token === ',' && depth === 0) {
      out.push(inside.slice(start, at));
      start = at + 1;
    }
  }
  return inside === '' ? out : [...out, inside.slice(start)];
}

function endOfString(text: string, from: number): number {
  let at = from + 1;
  while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at;
}

test.each([
  ['ndjson', (bytes: Buffer) => bytes.toString().split('\n').slice(0, -1)],
  ['json', (bytes: Buffer) => recordsIn(bytes)],
  ['json.gz', (bytes: Buffer) => recordsIn(gunzipSync(bytes))],
])(
  'killed at any moment a file of %s is the old whole or the new whole, which a reader sees throughout',
  async (extension, parse) => {
    const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-file-'));
    folders.push(folder);
    const path = join(folder, `okta_killed.${extension}`);
    const read = async () => {
      const bytes = await readFile(path).catch(() => undefined);
      return bytes === undefined ? undefined : parse(bytes);
    };
    const seen = await killOverAndOver({ store: 'file', env: { STORE_FILE: path }, folder, read, kills: 12 });
    expect(seen.wrong).toEqual([]);
    expect(seen.generations).toBeGreaterThan(1);
  },
  120_000,
);

function recordsIn(bytes: Buffer): readonly string[] {
  const { data } = JSON.parse(bytes.toString()) as { data: unknown[] };
  return data.map((record) => JSON.stringify(record));
}
