import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { schemas } from '../../src/report/schemas.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { temporaryFolder } from '../support/run.ts';

const cli = join(import.meta.dirname, '../../bin/cyber-collect.js');

/** What a command prints on stdout, whatever its exit code. */
function printed(cwd: string, env: Readonly<Record<string, string>>, args: readonly string[]): Promise<unknown> {
  const variables = { PATH: process.env.PATH ?? '', STORE_FILE: './data/%TAG.json', ...env };
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ['--', cli, ...args, '--output', 'json'],
      { cwd, env: variables },
      (_error, stdout, stderr) => {
        try {
          resolve(JSON.parse(stdout));
        } catch {
          reject(new Error(`no JSON on stdout; stderr: ${stderr}`));
        }
      },
    );
  });
}

test('what every command prints as JSON is what its schema says', async () => {
  const folder = await temporaryFolder();
  const vendor = await startVendor(okta, { scale: 20, faults: [{ name: '403', resource: 'groups' }] });
  const env = { ...vendor.env, CROWDSTRIKE_CLIENT_ID: 'half' };
  const only = ['--only', 'okta.users,okta.groups'];
  const run = schemas.run.parse(await printed(folder, env, ['run', ...only]));
  expect(run.datasets.map(({ verdict }) => verdict)).toEqual(['complete', 'denied']);
  expect(schemas.plan.parse(await printed(folder, env, ['run', '--dry-run'])).problems).toHaveLength(1);
  expect(schemas.list.parse(await printed(folder, env, ['list'])).collectors.length).toBeGreaterThan(2);
  expect(schemas.explain.parse(await printed(folder, env, ['explain', 'okta'])).length).toBeGreaterThan(5);
  const { findings } = schemas.doctor.parse(await printed(folder, env, ['doctor', ...only]));
  expect(findings.map(({ state }) => state)).toEqual(['fine', 'denied', 'fine', 'fine']);
  await vendor.close();
});
