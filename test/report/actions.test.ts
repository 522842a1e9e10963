import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { annotations, stepSummary } from '../../src/report/actions.ts';
import { changeOf } from '../../src/report/standing.ts';
import type { RunSummary } from '../../src/run/summary.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { program } from '../support/program.ts';
import { temporaryFolder } from '../support/run.ts';

async function bad() {
  const vendor = await startVendor(okta, { scale: 20, faults: [{ name: '403', resource: 'groups' }] });
  onTestFinished(() => vendor.close());
  return vendor;
}

async function cli(cwd: string, args: readonly string[], env: Readonly<Record<string, string>>) {
  const store = { STORE_FILE: './data/%TENANCY/%TAG.json' };
  const { code, stdout, stderr } = await program(cwd, ['run', ...args], { ...store, ...env }).ended;
  return { code, stdout, lines: stderr.split('\n') };
}

const ONLY = ['--only', 'okta.users,okta.groups', '--output', 'json'];

test('what is wrong is an annotation on stderr, and stdout stays data', async () => {
  const [vendor, folder] = [await bad(), await temporaryFolder()];
  const { code, stdout, lines } = await cli(folder, ONLY, { ...vendor.env, GITHUB_ACTIONS: 'true' });
  expect(code).toBe(3);
  expect(JSON.parse(stdout)).toMatchObject({ exit_code: 3 });
  expect(lines.filter((line) => line.startsWith('::'))).toEqual([
    '::error title=cyber-collect default%3A okta_groups::denied: GET /api/v1/groups was answered with 403. ' +
      'To mend: give the credentials the permission okta.groups.read',
  ]);
});

test('each tenant has its own annotations and metrics, on the page of one job', async () => {
  const [vendor, folder] = [await bad(), await temporaryFolder()];
  await mkdir(join(folder, 'tenants'));
  const text = Object.entries(vendor.env).map(([name, value]) => `${name}='${value}'\n`);
  for (const name of ['a', 'b'])
    await writeFile(join(folder, 'tenants', `${name}.env`), text.join(''), { mode: 0o600 });
  const page = join(folder, 'page.md');
  const env = { GITHUB_ACTIONS: 'true', GITHUB_STEP_SUMMARY: page, CYBER_COLLECT_PROMETHEUS_FILE: './%TENANCY.prom' };
  const all = ['--tenants', 'tenants/*.env', ...ONLY];
  const { code, lines } = await cli(folder, all, env);
  expect(code).toBe(3);
  const found = lines.flatMap((line) => /^::error title=cyber-collect (\w)%3A okta_groups::/.exec(line)?.[1] ?? []);
  expect(found.sort()).toEqual(['a', 'b']);
  const said = await readFile(page, 'utf8');
  for (const name of ['a', 'b']) {
    expect(said).toContain(`## cyber-collect ended for ${name} with exit code 3`);
    expect(await readFile(join(folder, `${name}.prom`), 'utf8')).toContain(`run_exit_code{tenancy="${name}"} 3`);
  }
  const shared = await cli(folder, all, { CYBER_COLLECT_PROMETHEUS_FILE: './m.prom' });
  expect(shared.code).toBe(2);
  expect(shared.lines.join('\n')).toContain('write %TENANCY in its name');
});

const at = '2026-11-21T03:00:00Z';

function summaryWith(messages: readonly string[]): RunSummary {
  const problems = messages.map((message, n) => ({
    id: 'x',
    severity: 'ERROR' as const,
    where: `p${n}`,
    message,
    mend: 'y',
  }));
  const run = { run_id: 'r', version: '1', tenancy: 't', started_at: at, finished_at: at, exit_code: 2 };
  return { ...run, datasets: [], stores: [], problems };
}

const changed = (summary: RunSummary) => changeOf({ datasets: {}, wrong: {} }, summary);

test('text from elsewhere begins no command of its own, and stays text on the page', () => {
  const summary = summaryWith(['100%\n::set-output name=a::b\r\n<img src=x> [a](http://x) `b` | @team']);
  const lines = annotations(summary, changed(summary));
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain('100%25%0A::set-output');
  expect(lines[0]).not.toMatch(/[\r\n]/);
  const page = stepSummary(summary, changed(summary));
  for (const raw of ['<img', '[a](', '@team', '\n::']) expect(page).not.toContain(raw);
});

test('of many, nine are shown and the rest is counted; a page stays below what GitHub takes', () => {
  const many = summaryWith(Array.from({ length: 5000 }, () => 'm'.repeat(400)));
  const lines = annotations(many, changed(many));
  expect(lines).toHaveLength(10);
  expect(lines[9]).toBe('::error title=cyber-collect t::4991 more');
  const page = stepSummary(many, changed(many));
  expect(Buffer.byteLength(page)).toBeLessThan(2 ** 20);
  expect(page).toContain('## cyber-collect ended for t with exit code 2');
});
