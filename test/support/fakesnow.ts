import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort } from './server.ts';

const PACKAGES = [
  'fakesnow[server]==0.12.1',
  'snowflake-connector-python==4.8.1', // fakesnow asks for any, and 5 is not what it knows
  'starlette==1.10.0',
  'uvicorn==0.54.0',
];

/** A Snowflake made of DuckDB, on loopback, in memory: github.com/tekumara/fakesnow. */
export interface Fakesnow {
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts it; where it is not there yet it is installed with pip, into a folder of this user. */
export async function startFakesnow(): Promise<Fakesnow> {
  const python = await installed();
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const launcher = fileURLToPath(new URL('fakesnow_server.py', import.meta.url));
  const child = spawn(python, [launcher, String(port)], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-5000);
  });
  const ended = once(child, 'exit');
  for (let tries = 0; !(await answers(url)); tries += 1) {
    if (tries === 600 || child.exitCode !== null) throw new Error(`fakesnow does not answer at ${url}: ${said}`);
    await sleep(50);
  }
  return {
    url,
    async stop() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    () => true,
    () => false,
  );
}

async function installed(): Promise<string> {
  const folder = join(homedir(), '.cache', 'cyber-collect-tests', 'fakesnow-0.12.1');
  const python = join(folder, 'bin', 'python');
  const whole = join(folder, 'installed');
  const there = await access(whole).then(
    () => true,
    () => false,
  );
  if (there) return python;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  process.stderr.write('installing fakesnow with pip, once: takes about a minute\n');
  await promisify(execFile)('python3', ['-m', 'venv', folder]);
  await promisify(execFile)(python, ['-m', 'pip', 'install', '-q', ...PACKAGES], { maxBuffer: 2 ** 24 });
  await writeFile(whole, PACKAGES.join('\n'));
  return python;
}
