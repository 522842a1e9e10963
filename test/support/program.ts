import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { onTestFinished } from 'vitest';
import { root } from './build.ts';

/** What a process left behind. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The program in a process of its own, until the test is over, with nothing of this machine's environment but the way to Node. */
export function program(
  cwd: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  stdin: 'ignore' | 'pipe' = 'ignore',
) {
  // Node 20 looks for an --env-file even behind the script (nodejs/node#54232), unless a -- stands before it.
  const child = spawn(process.execPath, ['--', join(root, 'bin', 'cyber-collect.js'), ...args], {
    cwd,
    env: { PATH: process.env.PATH, ...env },
    stdio: [stdin, 'pipe', 'pipe'],
  }) as ChildProcessByStdio<Writable | null, Readable, Readable>;
  onTestFinished(() => void child.kill('SIGKILL'));
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  /** What it has said so far. */
  const said = () => ({ stdout, stderr });
  const ended = once(child, 'close').then(([code]): Ended => ({ code: code as number | null, ...said() }));
  return { child, said, ended };
}
