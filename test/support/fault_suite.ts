import { writeFile } from 'node:fs/promises';
import pLimit from 'p-limit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { vendors } from '../../src/simulator/vendor.ts';
import { BLIND, blindnessOf, type CellResult, cellsOf, nameOf, runCell } from './cell.ts';
import { matrixOf } from './matrix.ts';

const AT_ONCE = 24;

const HEAD = `# Every dataset under every fault

Written by \`npm run faults\`. Each cell is a run over a vendor on this machine that answers with that fault. \`complete\`: all came all the same; \`failed\`, \`denied\`, \`quarantined\`: said so, nothing was stored as fresh; \`undetectable\`: the vendor’s answers cannot reveal the
loss, why is told below the table, with what the shrink guard makes of it.
`;

/**
 * Every dataset under every fault, as one of two files of tests that run side by side: each has every other vendor.
 * A matrix that is to be kept is made by the first alone.
 */
export async function faultSuite(part: 0 | 1): Promise<void> {
  const file = process.env.FAULT_MATRIX ?? '';
  const own = (await vendors()).filter((_, index) => (file === '' ? index % 2 : 0) === part).map(({ name }) => name);
  const cells = await cellsOf((dataset) => own.some((name) => dataset.startsWith(`${name}.`)));
  const results = new Map<string, CellResult | Error>();

  beforeAll(async () => {
    const turn = pLimit(AT_ONCE);
    await Promise.all(
      cells.map((cell) =>
        turn(async () => {
          results.set(nameOf(cell), await runCell(cell).catch((error: Error) => error));
        }),
      ),
    );
  });

  afterAll(async () => {
    const matrix = matrixOf(cells, results);
    process.stdout.write(`\n${matrix}\n`);
    if (file !== '' && part === 0) await writeFile(file, `${HEAD}\n${matrix}\n`);
  });

  describe('no run ends well with less than the truth', () => {
    test.each(cells.map((cell) => [nameOf(cell)]))('%s', (name) => {
      const result = results.get(name);
      if (result instanceof Error) throw result;
      expect(result?.wrong).toEqual([]);
    });
  });

  test('no entry of the undetectable losses is without a cell that needs it', () => {
    const used = cells.filter((cell) => {
      const result = results.get(nameOf(cell));
      return result !== undefined && 'outcome' in result && result.outcome === 'undetectable';
    });
    const needed = new Set(used.map(blindnessOf));
    const possible = new Set(cells.flatMap((cell) => blindnessOf(cell) ?? []));
    expect(BLIND.filter((entry) => possible.has(entry) && !needed.has(entry))).toEqual([]);
  });
}
