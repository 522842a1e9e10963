import pLimit from 'p-limit';
import { beforeAll, describe, expect, test } from 'vitest';
import { type CellResult, cellsOf, nameOf, runCell, startElsewhere } from '../support/cell.ts';
import { collectOnce } from '../support/run.ts';

/** One dataset for each way of paging and of proving who we are. */
const KINDS = new Set([
  'okta.users',
  'okta.group_members',
  'crowdstrike.hosts',
  'crowdstrike.host_groups',
  'crowdstrike.vulnerabilities',
  'tenableio.assets',
]);

const AT_ONCE = 48;

const cells = await cellsOf((dataset) => KINDS.has(dataset), ['429-forever']);

describe('whatever goes wrong, a run that ends well has stored the truth', () => {
  const results = new Map<string, CellResult | Error>();

  beforeAll(async () => {
    const turn = pLimit(AT_ONCE);
    const all = cells.map((cell) =>
      turn(async () => results.set(nameOf(cell), await runCell(cell).catch((error: Error) => error))),
    );
    await Promise.all(all);
  }, 120_000);

  test.each(cells.map((cell) => [nameOf(cell)]))('%s', (name) => {
    const result = results.get(name);
    if (result instanceof Error) throw result;
    expect(result?.wrong).toEqual([]);
  });
});

test('what stands by for foreign hosts does see a request to one', async () => {
  const elsewhere = await startElsewhere();
  const env = { ...elsewhere.env, OKTA_DOMAIN: 'attacker.invalid', OKTA_TOKEN: 'invented' };
  await collectOnce({ env, only: ['okta.users'], deadline: 1 });
  await elsewhere.close();
  expect(elsewhere.reached()).toContain('attacker.invalid:443');
});
