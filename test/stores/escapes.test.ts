import fc from 'fast-check';
import { expect, test } from 'vitest';
import { mendEscapes } from '../../src/stores/_escapes.ts';

const PIECES = [
  '\\\\',
  '\\"',
  '\\n',
  '\\u0000',
  '\\u00e9',
  '\\ud83d',
  '\\uDBFF',
  '\\ude00',
  '\\uDC00',
  'u0000',
  'ud83d',
  'x',
  '\n',
];

/** The same, slowly: escapes one after the other, over the whole text. */
function mended(text: string, nul: boolean): { readonly text: string; readonly replaced: number } {
  let replaced = 0;
  const pattern = /\\u(d[89ab]..)\\u(d[c-f]..)|\\u(d[89a-f]..|0000)|\\./gi;
  const out = text.replace(pattern, (found, _high, _low, single: string | undefined) => {
    if (single === undefined || (single === '0000' && !nul)) return found;
    replaced += 1;
    return '\\ufffd';
  });
  return { text: out, replaced };
}

async function* inChunks(text: string, sizes: readonly number[]): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text);
  let from = 0;
  for (let n = 0; from < bytes.length; n += 1) {
    const size = sizes[n % sizes.length] ?? 1;
    yield Buffer.from(bytes.subarray(from, from + size));
    from += size;
  }
}

test('escapes are mended the same wherever chunks end', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom(...PIECES), { maxLength: 60 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }),
      fc.boolean(),
      async (pieces, sizes, nul) => {
        const text = pieces.join('');
        const tally = { replaced: 0 };
        const out: Buffer[] = [];
        for await (const chunk of mendEscapes(inChunks(text, sizes), nul, tally)) out.push(chunk);
        expect({ text: Buffer.concat(out).toString(), ...tally }).toEqual(mended(text, nul));
      },
    ),
    { numRuns: 2000 },
  );
});
