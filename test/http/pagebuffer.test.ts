import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Page, PageBuffer } from '../../src/http/page.ts';
import { textOf } from '../support/client.ts';

const FACTS = {
  records: 1,
  found: true,
  url: new URL('https://vendor.example/list'),
  status: 200,
  headers: {},
  body: [],
} as const;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-page-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function paged(parts: readonly Uint8Array[], records = 1): Promise<Page> {
  const buffer = new PageBuffer(folder);
  for (const part of parts) await buffer.add([part]);
  return buffer.finish({ ...FACTS, body: [], records });
}

function cut(text: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [0, ...cuts.map((at) => at % (text.length + 1)).sort((a, b) => a - b), text.length];
  return places.slice(1).map((end, n) => text.subarray(places[n], end));
}

describe('a page', () => {
  it('holds what it was given, in order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.string()), async (lines) => {
        const page = await paged(lines.map((line) => Buffer.from(`${line}\n`)));
        expect(await textOf(page)).toBe(lines.map((line) => `${line}\n`).join(''));
      }),
    );
    expect(await readdir(folder)).toEqual([]);
  });

  it('goes to a private file beyond 8 MiB, and the file goes when it is read or not wanted', async () => {
    const parts = Array.from({ length: 20 }, (_, n) => Buffer.alloc(2 ** 20, 65 + n));
    const whole = Buffer.concat(parts);
    for (const end of ['read', 'discarded'] as const) {
      const page = await paged(parts);
      const [file] = await readdir(folder);
      const { mode, size } = await stat(join(folder, file ?? ''));
      expect([mode & 0o077, size]).toEqual([0, whole.length]);
      if (end === 'read') expect(Buffer.from(await textOf(page)).equals(whole)).toBe(true);
      else await page.discard();
      expect(await readdir(folder)).toEqual([]);
    }
  });

  it('leaves no file when it is given up half way', async () => {
    const buffer = new PageBuffer(folder);
    await buffer.add([Buffer.alloc(9 * 2 ** 20)]);
    expect((await readdir(folder)).length).toBe(1);
    await buffer.discard();
    await buffer.discard();
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('a fingerprint', () => {
  const text = fc.uint8Array({ minLength: 1, maxLength: 20_000, size: 'max' });
  const cuts = fc.array(fc.nat(20_000), { maxLength: 6 });

  it('is the same for the same page, however its body came in pieces', async () => {
    await fc.assert(
      fc.asyncProperty(text, cuts, cuts, async (bytes, one, other) => {
        const [a, b] = await Promise.all([paged(cut(bytes, one)), paged(cut(bytes, other))]);
        expect(a.fingerprint).toBe(b.fingerprint);
      }),
    );
  });

  it('is the same beyond 8 MiB too', async () => {
    const bytes = Buffer.alloc(9 * 2 ** 20, 'abcdefg');
    const pages = await Promise.all([paged([bytes]), paged(cut(bytes, [10, 5000, 8_388_700, bytes.length - 3]))]);
    expect(pages[0].fingerprint).toBe(pages[1].fingerprint);
    await Promise.all(pages.map((page) => page.discard()));
  });

  it('tells pages apart by their beginning, their end, their length and their records', async () => {
    const base = Buffer.alloc(10_000, 'x');
    const changed = (at: number) => {
      const copy = Buffer.from(base);
      copy[at] = 0x79;
      return copy;
    };
    const pages = await Promise.all([
      paged([base]),
      paged([base], 2),
      paged([changed(0)]),
      paged([changed(4000)]),
      paged([changed(6000)]),
      paged([changed(9999)]),
      paged([base, Buffer.from('x')]),
      paged([]),
    ]);
    expect(new Set(pages.map(({ fingerprint }) => fingerprint)).size).toBe(pages.length);
  });

  it('that was thrown away cannot be read as if it had no records', async () => {
    const page = await paged([Buffer.from('{}\n')]);
    await page.discard();
    expect(() => page.lines()).toThrow('after it was thrown away');
  });
});
