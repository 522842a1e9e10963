import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_endoflife.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor, { scale: 40 });

const bare = (line: string) => line.replace(/,"_product":"[^"]+","_product_label":"(\\.|[^"\\])*"}$/, '}');

test('products and their cycles come whole and byte for byte, each in one request', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['endoflife'] });
  expect(summary.exit_code).toBe(0);
  expect(await storedLines(folder, 'endoflife_products')).toEqual(running.truth('products'));
  const cycles = (await storedLines(folder, 'endoflife_cycles')) ?? [];
  expect(cycles.map(bare)).toEqual(running.truth('cycles'));
  expect(JSON.parse(cycles[0] ?? '')).toMatchObject({ name: '0.0', _product: 'product-0' });
  expect(running.requests).toHaveLength(2);
});

test('only the products that are named are asked for, each once', async () => {
  const running = await start();
  const env = { ...running.env, ENDOFLIFE_PRODUCTS: 'product-3, product-5 product-3' };
  const { summary, folder } = await collectOnce({ env, only: ['endoflife.cycles'] });
  expect(summary.exit_code).toBe(0);
  const lines = (await storedLines(folder, 'endoflife_cycles')) ?? [];
  expect(new Set(lines.map((line) => JSON.parse(line)._product))).toEqual(new Set(['product-3', 'product-5']));
  expect(running.requests.map(({ path }) => path)).toEqual([
    '/api/v1/products/product-3',
    '/api/v1/products/product-5',
  ]);
});

test('a product that is not known is reported by its name', async () => {
  const running = await start();
  const env = { ...running.env, ENDOFLIFE_PRODUCTS: 'product-3,nodejz' };
  const { summary, folder } = await collectOnce({ env, only: ['endoflife.cycles'] });
  expect(summary.exit_code).toBe(3);
  expect(resultOf(summary, 'endoflife_cycles')).toMatchObject({ verdict: 'failed' });
  expect(resultOf(summary, 'endoflife_cycles').reason).toMatch(/nodejz/);
  expect(await storedLines(folder, 'endoflife_cycles')).toBeUndefined();
});

test('without its name nothing is asked', async () => {
  const running = await start();
  const { summary } = await collectOnce({ env: running.env });
  expect(summary.exit_code).toBe(5);
  expect(running.requests).toEqual([]);
});
