import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import type { z } from 'zod';
import { schemas } from '../../src/report/schemas.ts';
import { sparkline } from '../../src/report/sparkline.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { program } from '../support/program.ts';
import { denied, hoursAgo, keepRun, resultFor } from '../support/records.ts';
import { temporaryFolder } from '../support/run.ts';

function cli(folder: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return program(folder, args, { CYBER_COLLECT_STATE: join(folder, 'state'), ...env }).ended;
}

type Shown = z.infer<typeof schemas.status>;

async function statusOf(folder: string, ...args: readonly string[]) {
  const { code, stdout, stderr } = await cli(folder, ['status', '--output', 'json', ...args]);
  const shown: Shown = schemas.status.parse(JSON.parse(stdout));
  const found = (tag: string, tenancy = 'default') =>
    shown.tenancies.find((one) => one.tenancy === tenancy)?.datasets.find((dataset) => dataset.tag === tag);
  return { code, stderr, shown, found };
}

/** Users whole five times; groups denied since the third. */
async function fiveRuns(): Promise<{ readonly folder: string; readonly state: string }> {
  const folder = await temporaryFolder();
  const state = join(folder, 'state');
  for (const [n, hours] of [96, 72, 48, 24, 1].entries()) {
    const groups = n < 2 ? { records: 10 } : denied;
    await keepRun(state, hours, [resultFor('okta_users', { records: 100 + n }), resultFor('okta_groups', groups)]);
  }
  return { folder, state };
}

describe('status', () => {
  it('tells age, verdict, since when it is wrong, and the counts', async () => {
    const { folder } = await fiveRuns();
    const { code, found, shown } = await statusOf(folder);
    expect(code).toBe(0);
    expect(shown.tenancies[0]?.last_run?.exit_code).toBe(3);
    const users = found('okta_users');
    expect(users).toMatchObject({ verdict: 'complete', records: 104, failing: [] });
    expect(Math.abs((users?.age_s ?? 0) - 3600)).toBeLessThan(120);
    expect(users).not.toHaveProperty('wrong_since');
    expect(users?.counts.map(({ records }) => records)).toEqual([100, 101, 102, 103, 104]);
    const groups = found('okta_groups');
    expect(groups).toMatchObject({ verdict: 'denied', reason: denied.reason, mend: denied.mend });
    expect(groups?.wrong_since?.slice(0, 13)).toBe(hoursAgo(48).slice(0, 13));
    expect(groups?.good_at?.slice(0, 13)).toBe(hoursAgo(72).slice(0, 13));
  });

  it('prints a table for people, and Markdown', async () => {
    const { folder } = await fiveRuns();
    const { stdout } = await cli(folder, ['status']);
    expect(stdout).toMatch(/default +okta_users +complete +60 minutes +104 +█████/);
    expect(stdout).toMatch(/default +okta_groups +denied +3 days +0 +██×××/);
    expect(stdout).toMatch(/okta_groups: since \S+: Permission denied: .* To mend: give the credentials/);
    const markdown = await cli(folder, ['status', '--output', 'markdown', '--only', 'okta.users']);
    expect(markdown.stdout.split('\n')[2]).toMatch(/^\| default \| okta_users \| complete \|/);
    expect(markdown.stdout).not.toContain('okta_groups');
  });

  it('with --max-age is exit 3 when a dataset is older, or never came', async () => {
    const { folder, state } = await fiveRuns();
    expect((await statusOf(folder, '--max-age', '4d')).code).toBe(0);
    const late = await statusOf(folder, '--max-age', '26h');
    expect(late.code).toBe(3);
    expect([late.found('okta_users')?.late, late.found('okta_groups')?.late]).toEqual([false, true]);
    expect(late.stderr).toContain('default: okta_groups is 3 days old');
    expect((await statusOf(folder, '--max-age', '26h', '--only', 'okta.users')).code).toBe(0);
    expect((await statusOf(folder, '--max-age', '26h', '--exclude', 'okta_groups')).code).toBe(0);
    await keepRun(state, 0.5, [resultFor('okta_apps', { ...denied })]);
    const never = await statusOf(folder, '--max-age', '30d');
    expect(never.code).toBe(3);
    expect(never.stderr).toContain('okta_apps has no good upload');
  });

  it('what no store took is not fresh, and what one of them took is', async () => {
    const folder = await temporaryFolder();
    const at = (store: string, error?: string) => ({
      store,
      at: '',
      records: 0,
      ...(error === undefined ? {} : { error }),
    });
    const both = [at('file', 'no space left'), at('s3', 'no route')];
    await keepRun(join(folder, 'state'), 30, [resultFor('okta_users'), resultFor('okta_groups')]);
    await keepRun(join(folder, 'state'), 1, [
      resultFor('okta_users', { stores: both }),
      resultFor('okta_groups', { stores: [at('file'), at('s3', 'no route')] }),
    ]);
    const { found } = await statusOf(folder);
    expect(found('okta_users')?.age_s).toBeGreaterThan(100_000);
    expect(found('okta_users')?.failing).toHaveLength(2);
    expect(found('okta_groups')?.age_s).toBeLessThan(4000);
    expect((await cli(folder, ['status'])).stdout).toContain('okta_groups: since');
    expect(found('okta_groups')).toMatchObject({ failing: [{ store: 's3', error: 'no route' }] });
    expect(found('okta_groups')?.wrong_since?.slice(0, 13)).toBe(hoursAgo(1).slice(0, 13));
  });

  it('of all tenancies, or of one', async () => {
    const folder = await temporaryFolder();
    for (const tenancy of ['acme', 'beta']) {
      await keepRun(join(folder, 'state'), 2, [resultFor('okta_users')], { tenancy });
    }
    expect((await statusOf(folder)).shown.tenancies.map(({ tenancy }) => tenancy)).toEqual(['acme', 'beta']);
    expect((await statusOf(folder, '--tenancy', 'beta')).shown.tenancies.map(({ tenancy }) => tenancy)).toEqual([
      'beta',
    ]);
    const unknown = await cli(folder, ['status', '--tenancy', 'acne']);
    expect(unknown).toMatchObject({ code: 2, stdout: '' });
    expect(unknown.stderr).toContain('name one of acme, beta');
  });

  it('knows which of two runs of one second was the later', async () => {
    for (const [first, second] of ['ab', 'ba']) {
      const folder = await temporaryFolder();
      const started_at = hoursAgo(1);
      const keep = (sequence: number, id: string | undefined, records: number) =>
        keepRun(join(folder, 'state'), 1, [resultFor('okta_users', { records })], {
          started_at,
          run_id: `${id}0000000-0000-4000-8000-000000000000`,
          chain: { sequence },
        });
      await keep(9, first, 90);
      await keep(10, second, 100);
      expect((await statusOf(folder)).found('okta_users')?.counts.map(({ records }) => records)).toEqual([90, 100]);
    }
  });

  it('names files that are damaged, and goes on', async () => {
    const { folder, state } = await fiveRuns();
    const runs = join(state, 'runs', 'default');
    await writeFile(join(runs, '9999-cut.json'), '{"run_id": "x", "datasets": [');
    await writeFile(join(runs, '9998-list.json'), '[]');
    await writeFile(
      join(runs, '9997-odd.json'),
      JSON.stringify({ started_at: hoursAgo(0), datasets: [7, { tag: 3 }, {}] }),
    );
    await mkdir(join(state, 'outbox', 'default', 'file', '000001700000000-x'), { recursive: true });
    const { code, found, shown, stderr } = await statusOf(folder);
    expect(code).toBe(0);
    expect(found('okta_users')?.records).toBe(104);
    expect(shown.tenancies[0]?.unreadable.map(({ path }) => path.replace(/.*\//, ''))).toEqual([
      '9999-cut.json',
      '9998-list.json',
      '000001700000000-x',
    ]);
    expect(stderr).toContain('9999-cut.json holds no JSON');
    expect(shown.tenancies[0]?.stores).toMatchObject([{ store: 'file', uploads: 1 }]);
  });

  it('with nothing recorded, or a name of which nothing is recorded, never says that all is well', async () => {
    const folder = await temporaryFolder();
    const nothing = await cli(folder, ['status', '--max-age', '26h']);
    expect(nothing).toMatchObject({ code: 5, stdout: '' });
    expect(nothing.stderr).toContain('no run is recorded');
    const unknown = await cli((await fiveRuns()).folder, ['status', '--only', 'okta.usres', '--max-age', '26h']);
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toContain("no run of 'okta.usres' is recorded");
  });

  it('lets no recorded text draw on the terminal', async () => {
    const folder = await temporaryFolder();
    const reason = 'a\u001b[2Jb';
    await keepRun(join(folder, 'state'), 1, [resultFor('okta_users\u001b[31m', { ...denied, reason })]);
    expect((await cli(folder, ['status'])).stdout).not.toContain('\u001b');
  });
});

test('status of real runs, one of them into a store that is not there', async () => {
  const folder = await temporaryFolder();
  const vendor = await startVendor(okta, { scale: 30 });
  const env = { ...vendor.env, STORE_FILE: join(folder, 'data', '%TAG.json') };
  const only = ['--only', 'okta.users'];
  expect((await cli(folder, ['run', ...only], env)).code).toBe(0);
  await writeFile(join(folder, 'blocked'), '');
  const failing = { ...vendor.env, STORE_FILE: join(folder, 'blocked', '%TAG.json') };
  expect((await cli(folder, ['run', ...only], failing)).code).toBe(6);
  await vendor.close();
  const { code, found, shown } = await statusOf(folder, '--max-age', '1h');
  expect(code).toBe(0);
  expect(found('okta_users')).toMatchObject({ verdict: 'complete', records: 30, failing: [{ store: 'file' }] });
  expect(found('okta_users')?.counts).toHaveLength(2);
  expect(shown.tenancies[0]?.stores).toMatchObject([{ store: 'file', uploads: 1 }]);
  expect(shown.tenancies[0]?.stores[0]?.bytes).toBeGreaterThan(1000);
});

test('a sparkline stands on zero', () => {
  expect(sparkline([0, 50, 100, undefined, 100])).toBe('▁▅█×█');
  expect(sparkline([0, 0])).toBe('▁▁');
  expect(sparkline([1001, 1000, 999])).toBe('███');
  expect(sparkline([])).toBe('');
});
