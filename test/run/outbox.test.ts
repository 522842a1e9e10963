import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import pLimit from 'p-limit';
import { afterEach, describe, expect, test } from 'vitest';
import { replay } from '../../src/commands/replay.ts';
import { schemas } from '../../src/report/schemas.ts';
import type { OpenStore } from '../../src/run/deliver.ts';
import { openOutbox } from '../../src/run/outbox.ts';
import { openState } from '../../src/run/state.ts';
import { type RunningVendor, startVendor, type VendorOptions } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import type { Dataset } from '../../src/stores/store.ts';
import { datasetOf } from '../support/dataset.ts';
import { collectOnce, resultOf, sessionOf, stateOf, temporaryFolder } from '../support/run.ts';

const started: RunningVendor[] = [];

afterEach(async () => {
  for (const vendor of started.splice(0)) await vendor.close();
});

async function start(options: VendorOptions = {}): Promise<RunningVendor> {
  const vendor = await startVendor(okta, { scale: 40, ...options });
  started.push(vendor);
  return vendor;
}

/** A working folder whose file store is blocked until `mend`, beside a DuckDB that works. */
async function blocked() {
  const folder = await temporaryFolder();
  const target = join(folder, 'blocked');
  await writeFile(target, '');
  const env = {
    STORE_FILE: join(target, '%TAG.json'),
    STORE_DUCKDB: join(folder, 'good.duckdb'),
  };
  return { folder, env, mend: () => rm(target), file: (tag: string) => readFile(join(target, `${tag}.json`), 'utf8') };
}

async function waiting(folder: string): Promise<number> {
  return (await readdir(join(stateOf(folder), 'outbox', 'default', 'file')).catch(() => [])).length;
}

async function replayed(folder: string, env: Readonly<Record<string, string>>, flags: object = {}) {
  const { session, printed } = await sessionOf(folder, { env });
  const none = { only: [], exclude: [], store: [], envFile: [], logFormat: 'text', output: 'json' } as const;
  const code = await replay({ ...none, ...flags }, session);
  return { code, ...schemas.replay.parse(JSON.parse(printed.join(''))) };
}

describe('a store that does not take a dataset', () => {
  test('is behind: it waits, the other store has it, exit 6; the next run delivers both in order', async () => {
    const vendor = await start();
    const { folder, env, mend, file } = await blocked();
    const first = await collectOnce({ env: { ...vendor.env, ...env }, only: ['okta.users'], folder });
    expect(first.summary.exit_code).toBe(6);
    expect(first.summary.stores).toMatchObject([
      { store: 'duckdb', uploads: 0 },
      { store: 'file', uploads: 1 },
    ]);
    const stores = resultOf(first.summary, 'okta_users').stores;
    expect(stores.find(({ store }) => store === 'file')).toMatchObject({ waits: true, error: expect.any(String) });
    expect(stores.find(({ store }) => store === 'duckdb')?.error).toBeUndefined();
    expect(await waiting(folder)).toBe(1);
    await mend();
    const second = await collectOnce({ env: { ...vendor.env, ...env }, only: ['okta.users'], folder });
    expect(second.summary.exit_code).toBe(0);
    expect(await waiting(folder)).toBe(0);
    const stored = JSON.parse(await file('okta_users'));
    expect(stored.metadata.upload_id).toBe(resultOf(second.summary, 'okta_users').upload_id);
    expect(stored.data).toHaveLength(40);
  });

  test('replay delivers without the vendor, byte for byte what was collected', async () => {
    const vendor = await start();
    const { folder, env, mend, file } = await blocked();
    const { summary } = await collectOnce({
      env: { ...vendor.env, ...env },
      only: ['okta.users', 'okta.groups'],
      folder,
    });
    const asked = vendor.requests.length;
    expect(await replayed(folder, { ...vendor.env, ...env })).toMatchObject({ code: 6 });
    await mend();
    expect(await replayed(folder, { ...vendor.env, ...env }, { run: 'another-run' })).toMatchObject({ code: 6 });
    expect(await replayed(folder, { ...vendor.env, ...env }, { store: ['file'], run: summary.run_id })).toEqual({
      code: 0,
      tenancy: 'default',
      stores: [{ store: 'file', delivered: 2, left: 0 }],
    });
    expect(vendor.requests.length).toBe(asked);
    const stored = JSON.parse(await file('okta_users'));
    expect(stored.metadata).toMatchObject({ upload_id: resultOf(summary, 'okta_users').upload_id, records: 40 });
    expect(await waiting(folder)).toBe(0);
  });

  test('a run that was behind and has nothing new to say stays at exit 6', async () => {
    const vendor = await start();
    const { folder, env } = await blocked();
    await collectOnce({ env: { ...vendor.env, ...env }, only: ['okta.users'], folder });
    const again = await collectOnce({ env: { ...vendor.env, ...env }, only: ['okta.groups'], folder });
    expect(again.summary.exit_code).toBe(6);
    expect(again.summary.stores.find(({ store }) => store === 'file')).toMatchObject({ uploads: 2 });
  });

  test('what waits is bounded: a newer snapshot takes an older one’s place, and none is an error', async () => {
    const vendor = await start({ scale: 2000 });
    const { folder, env } = await blocked();
    const small = { ...vendor.env, ...env, CYBER_COLLECT_OUTBOX_MIB: '3' };
    for (let n = 0; n < 3; n += 1) await collectOnce({ env: small, only: ['okta.users'], folder });
    expect(await waiting(folder)).toBeLessThan(3);
    const none = await collectOnce({
      env: { ...small, CYBER_COLLECT_OUTBOX_MIB: '0' },
      only: ['okta.users'],
      folder: await temporaryFolder(),
    });
    const delivery = resultOf(none.summary, 'okta_users').stores.find(({ store }) => store === 'file');
    expect(delivery?.waits).toBeUndefined();
    expect(delivery?.error).toContain('the outbox has no room');
  });
});

test('runs side by side hand over what waits for a store once', async () => {
  const folder = await temporaryFolder();
  const state = await openState(stateOf(folder));
  const [one, two] = [1, 2].map(() => openOutbox(state, 'default', 2 ** 30));
  for (const id of [1, 2, 3]) await one?.add('file', await datasetOf(folder, [`{"id":${id}}`], { tag: `okta_${id}` }));
  const written: string[] = [];
  const write = async ({ tag }: Dataset) => {
    written.push(tag);
    await setImmediate();
    return { at: tag, records: 1 };
  };
  const nothing = Promise.resolve({ delivered: 0, left: 0 });
  const store: OpenStore = { name: 'file', sink: { write }, turn: pLimit(1), caughtUp: nothing };
  const delivered = await Promise.all([one?.deliver(store), two?.deliver(store)]);
  expect(delivered).toEqual([
    { delivered: 3, left: 0 },
    { delivered: 0, left: 0 },
  ]);
  expect(written.toSorted()).toEqual(['okta_1', 'okta_2', 'okta_3']);
});

test('a store that is not configured is named, with those that are', async () => {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'data'));
  await expect(replayed(folder, {}, { store: ['flie'] })).rejects.toThrow(/no store 'flie' is configured/);
});
