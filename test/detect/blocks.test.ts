import fc from 'fast-check';
import { expect, test } from 'vitest';
import { blocksOf } from '../../src/detect/blocks.ts';

async function* chunksOf(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  for (let at = 0, n = 0; at < bytes.length; n += 1) {
    const size = sizes[n % sizes.length] ?? 1;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

async function read(text: Buffer, sizes: readonly number[], half: boolean, most?: number) {
  let cuts = 0;
  const cut = () => {
    cuts += 1;
  };
  const blocks = [];
  const choice = most === undefined ? { cut } : { cut, most };
  for await (const block of blocksOf(chunksOf(text, sizes), 0, half, choice)) blocks.push(block);
  return { blocks, cuts, lines: Buffer.concat(blocks.map(({ bytes }) => bytes)).toString('latin1') };
}

test('however bytes come, blocks are whole lines, none is lost and offsets go on', async () => {
  const lines = fc.array(
    fc.string({ maxLength: 40 }).map((line) => line.replaceAll('\n', '')),
    { maxLength: 20 },
  );
  const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(lines, sizes, fc.boolean(), async (all, cuts, half) => {
      const text = Buffer.from(`${all.map((line) => `${line}\n`).join('')}the half`);
      const { blocks, lines: found } = await read(text, cuts, half);
      expect(found).toBe(text.toString('latin1').replace(/the half$/, half ? 'the half\n' : ''));
      let offset = 0;
      for (const block of blocks) {
        expect(block.offset).toBe(offset);
        offset = block.end;
      }
      expect(offset).toBe(half ? text.length : text.length - 'the half'.length);
    }),
  );
});

test('of a line without end no more is held than may be', async () => {
  const text = Buffer.from(`short\n${'x'.repeat(5000)}\nlast\n`);
  const { blocks, lines, cuts } = await read(text, [700], true, 1000);
  expect(lines).toBe(`short\n${'x'.repeat(1000)}\nlast\n`);
  expect(cuts).toBe(1);
  expect(blocks.at(-1)?.end).toBe(text.length);
});
