import { copyFile, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Finding, verify } from '../../src/commands/verify.ts';
import { schemas } from '../../src/report/schemas.ts';
import { type RunningVendor, startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { collectOnce, sessionOf, stateOf, temporaryFolder } from '../support/run.ts';

let vendor: RunningVendor;
beforeAll(async () => {
  vendor = await startVendor(okta, { scale: 30 });
});
afterAll(() => vendor.close());

interface Kept {
  readonly folder: string;
  /** Paths of the records, oldest first. */
  readonly records: readonly string[];
  /** Hash of the last. */
  readonly head: string;
}

/** A state of so many runs. */
async function runs(count: number): Promise<Kept> {
  const folder = await temporaryFolder();
  const records: string[] = [];
  const runsFolder = join(stateOf(folder), 'runs', 'default');
  let head = '';
  for (let n = 1; n <= count; n += 1) {
    const { summary } = await collectOnce({
      env: { ...vendor.env, STORE_FILE: storeOf(folder) },
      only: ['okta.users'],
      folder,
    });
    head = summary.head?.sha256 ?? '';
    expect(summary.head).toMatchObject({ sequence: n });
    const [added = ''] = (await readdir(runsFolder)).filter((name) => !records.some((path) => path.endsWith(name)));
    records.push(join(runsFolder, added));
  }
  return { folder, records, head };
}

function storeOf(folder: string): string {
  return join(folder, 'data', '%TAG.json.gz');
}

/** What `verify` finds. */
async function found(
  { folder }: Kept,
  head?: string,
): Promise<{ readonly code: number; readonly findings: readonly Finding[] }> {
  const { session, printed } = await sessionOf(folder, { env: {} });
  const flags = { envFile: [], logFormat: 'text', output: 'json', ...(head === undefined ? {} : { head }) } as const;
  const code = await verify(flags, session);
  return { code, findings: schemas.verify.parse(JSON.parse(printed.join(''))).findings };
}

test('records, chain and files that nobody touched: silent, with every head that was ever printed', async () => {
  const kept = await runs(3);
  for (const head of [undefined, kept.head]) expect(await found(kept, head)).toEqual({ code: 0, findings: [] });
  const earlier = JSON.parse(await readFile(kept.records[2] ?? '', 'utf8')).chain.previous;
  expect(await found(kept, earlier)).toEqual({ code: 0, findings: [] });
});

test('who ran what, and what was stored, is in the record', async () => {
  const kept = await runs(1);
  const record = JSON.parse(await readFile(kept.records[0] ?? '', 'utf8'));
  expect(record).toMatchObject({ by: expect.stringContaining('@'), chain: { sequence: 1, previous: null } });
  expect(record.datasets[0].stores[0]).toMatchObject({
    store: 'file',
    sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
});

describe('what was touched is found', () => {
  const forge = async (path = '') => {
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('"records": 30', '"records": 31'));
  };

  test.each<[string, (kept: Kept) => Promise<unknown>]>([
    ['the first record changed', ({ records }) => forge(records[0])],
    ['the last record changed', ({ records }) => forge(records[2])],
    [
      'a byte of white space added',
      async ({ records: [first = ''] }) => writeFile(first, `${await readFile(first, 'utf8')} `),
    ],
    ['a record in the middle removed', ({ records }) => rm(records[1] ?? '')],
    ['the last record removed', ({ records }) => rm(records[2] ?? '')],
    [
      'a record cut short',
      async ({ records: [, second = ''] }) => writeFile(second, (await readFile(second)).subarray(0, 90)),
    ],
    ['a record put in another’s place', ({ records: [first = '', second = ''] }) => copyFile(first, second)],
    ['a record that is there twice', ({ records: [first = ''] }) => copyFile(first, first.replace('.json', '-2.json'))],
    ['the head removed', ({ folder }) => rm(join(stateOf(folder), 'chain', 'default.json'))],
    ['a stored file changed', ({ folder }) => writeFile(join(folder, 'data', 'okta_users.json.gz'), 'x')],
    ['a stored file removed', ({ folder }) => rm(join(folder, 'data', 'okta_users.json.gz'))],
  ])('%s', async (_name, touch) => {
    const kept = await runs(3);
    await touch(kept);
    const { code, findings } = await found(kept);
    expect(code).toBe(3);
    expect(findings.length).toBeGreaterThan(0);
  });

  test('the end of the chain cut off, its head with it: by a head that was kept elsewhere', async () => {
    const kept = await runs(2);
    const early = await readFile(join(stateOf(kept.folder), 'chain', 'default.json'), 'utf8');
    const { summary } = await collectOnce({
      env: { ...vendor.env, STORE_FILE: storeOf(kept.folder) },
      only: ['okta.users'],
      folder: kept.folder,
    });
    const names = (await readdir(join(stateOf(kept.folder), 'runs', 'default'))).map((name) =>
      join(stateOf(kept.folder), 'runs', 'default', name),
    );
    await rm(names.find((path) => !kept.records.includes(path)) ?? '');
    await writeFile(join(stateOf(kept.folder), 'chain', 'default.json'), early);
    const cut = await found(kept);
    expect(cut.findings.filter(({ what }) => !what.endsWith('.gz'))).toEqual([]); // the chain alone cannot show it
    expect(await found(kept, summary.head?.sha256)).toMatchObject({ code: 3 });
  });

  test('all records written anew, their head with them: by a head that was kept elsewhere', async () => {
    const [kept, forged] = [await runs(2), await runs(2)];
    await rm(join(stateOf(kept.folder), 'runs'), { recursive: true });
    for (const part of ['runs', 'chain']) {
      await rm(join(stateOf(kept.folder), part), { recursive: true, force: true });
    }
    const other = { ...forged };
    expect((await found(other)).code).toBe(0);
    expect((await found(other, kept.head)).code).toBe(3);
  });
});
