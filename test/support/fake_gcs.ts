import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from './server.ts';

const VERSION = 'v1.52.3';

/** An emulator of Google Cloud Storage, on loopback, in memory: github.com/fsouza/fake-gcs-server. */
export interface FakeGcs {
  readonly endpoint: string;
  stop(): Promise<void>;
}

/** Starts it; where it is not there yet it is built with Go, into a folder of this user. */
export async function startFakeGcs(): Promise<FakeGcs> {
  const program = await installed();
  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  const endpoint = `http://${host}`;
  const where = ['-host', '127.0.0.1', '-port', String(port), '-public-host', host, '-external-url', endpoint];
  const child = spawn(program, ['-scheme', 'http', '-backend', 'memory', '-log-level', 'error', ...where], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = once(child, 'exit');
  for (let tries = 0; !(await answers(endpoint)); tries += 1) {
    if (tries === 200 || child.exitCode !== null) throw new Error(`fake-gcs-server does not answer at ${endpoint}`);
    await sleep(50);
  }
  return {
    endpoint,
    async stop() {
      child.kill();
      await ended;
    },
  };
}

async function answers(endpoint: string): Promise<boolean> {
  return fetch(`${endpoint}/storage/v1/b?project=acme`).then(
    ({ ok }) => ok,
    () => false,
  );
}

async function installed(): Promise<string> {
  const folder = join(homedir(), '.cache', 'cyber-collect-tests', `fake-gcs-server-${VERSION}`);
  const program = join(folder, 'fake-gcs-server');
  const there = await access(program).then(
    () => true,
    () => false,
  );
  if (there) return program;
  await mkdir(folder, { recursive: true });
  process.stderr.write('building fake-gcs-server with Go, once: takes a minute or several\n');
  const env = { ...process.env, GOBIN: folder, CGO_ENABLED: '0' };
  await promisify(execFile)('go', ['install', `github.com/fsouza/fake-gcs-server@${VERSION}`], { env });
  return program;
}
