import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { root } from '../support/build.ts';
import { temporaryFolder } from '../support/run.ts';
import { json, serve } from '../support/server.ts';

/** Runs the program in a process whose every connection is noted; returns whom it talked to, each once. */
async function peersOf(env: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const folder = await temporaryFolder();
  const notes = join(folder, 'connections.txt');
  const hook = pathToFileURL(join(root, 'test', 'support', 'connections.mjs')).href;
  const program = join(root, 'bin', 'cyber-collect.js');
  const child = spawn(process.execPath, ['--import', hook, '--', program, 'run', '--only', 'okta.users,okta.groups'], {
    cwd: folder,
    env: { PATH: process.env.PATH, CONNECTIONS: notes, STORE_FILE: './%TAG.json', ...env },
    stdio: 'ignore',
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [code] = await once(child, 'close');
  expect(code).toBe(0);
  return [...new Set((await readFile(notes, 'utf8')).trimEnd().split('\n'))].sort();
}

async function vendor() {
  const running = await startVendor(okta, { scale: 20 });
  onTestFinished(() => running.close());
  return running;
}

test('a run talks to its vendor, and to nobody else', async () => {
  const running = await vendor();
  expect(await peersOf(running.env)).toEqual([`tcp ${new URL(running.origin).host}`]);
});

test('a run talks to whom it was told to, and to nobody else', async () => {
  const running = await vendor();
  const [hook, beats, otel] = await Promise.all([1, 2, 3].map(() => serve((_, response) => json(response, {}))));
  const [hookUrl, beatsUrl, otelUrl] = [hook, beats, otel].map((server) => server?.origin ?? new URL('http://x'));
  const env = {
    ...running.env,
    NOTIFY_WEBHOOK_URL: hookUrl?.href ?? '',
    NOTIFY_HEARTBEAT_URL: beatsUrl?.href ?? '',
    OTEL_EXPORTER_OTLP_ENDPOINT: otelUrl?.href ?? '',
  };
  const all = [new URL(running.origin), hookUrl, beatsUrl, otelUrl].map((url) => `tcp ${url?.host}`);
  expect(await peersOf(env)).toEqual(all.sort());
});
