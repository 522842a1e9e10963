import { execFile, spawn } from 'node:child_process';
import { access, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { root } from '../support/build.ts';
import { fencesOf } from '../support/pages.ts';
import { temporaryFolder } from '../support/run.ts';

/** A folder in which `npx cyber-collect` is this checkout's. */
async function folderWithProgram(): Promise<{ readonly folder: string; readonly path: string }> {
  const folder = await temporaryFolder();
  const bin = join(folder, '.bin');
  await mkdir(bin);
  const start = `#!/bin/sh\nshift\nexec '${process.execPath}' -- '${join(root, 'bin', 'cyber-collect.js')}' "$@"\n`;
  await writeFile(join(bin, 'npx'), start, { mode: 0o755 });
  return { folder, path: `${bin}:${process.env.PATH}` };
}

function bash(script: string, cwd: string, env: Readonly<Record<string, string>>) {
  return new Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>((resolve) => {
    const child = execFile('bash', ['-euo', 'pipefail', '-c', script], { cwd, env }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

test('the first run, typed as the page tells', async () => {
  const page = await readFile(join(root, 'docs', 'first-run.md'), 'utf8');
  const blocks = fencesOf(page).map(({ text }) => text);
  const [get = '', demo = '', look = '', serve = '', ...rest] = blocks;
  expect(get).toContain('npm ci');
  expect(serve).toContain('demo --serve');
  const { folder, path } = await folderWithProgram();
  const env = { PATH: path, HOME: folder };

  const demonstrated = await bash(`${demo}\n${look}`, folder, env);
  expect(demonstrated).toMatchObject({ code: 0, stdout: expect.stringContaining('datasets complete, exit code 0') });
  expect(demonstrated.stdout).toContain('{"data":[{');

  const served = spawn('bash', ['-c', serve], { cwd: folder, env, detached: true });
  onTestFinished(() => void process.kill(-(served.pid ?? 0), 'SIGTERM'));
  await vi.waitFor(async () => expect(await readFile(join(folder, 'vendors.env'), 'utf8')).toMatch(/OKTA_TOKEN='/), {
    timeout: 60_000,
  });
  const [first = '', second = '', ...own] = rest;
  const tried = await bash(`${first}\n${second}`, folder, env);
  expect(tried).toMatchObject({ code: 0 });
  await access(join(folder, 'data', 'okta_users', 'default.ndjson'));
  expect(tried.stdout).toMatch(/default +okta_users +complete/);

  const vendor = await startVendor(okta, { scale: 20, pageSize: 10 });
  onTestFinished(() => vendor.close());
  const real = await folderWithProgram();
  // The reader's domain and token, which the environment gives here: it wins over .env.
  const mine = { PATH: real.path, HOME: real.folder, ...vendor.env };
  const ended = await bash(own.join('\n'), real.folder, mine);
  expect(ended).toMatchObject({ code: 0, stdout: expect.stringContaining('exit code 0') });
  expect(ended.stdout).toMatch(/okta +active/);
  await access(join(real.folder, 'data', 'okta_users', 'default.json'));
}, 240_000);
