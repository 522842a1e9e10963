// Runs a command and tells what it cost: wall, CPU of it and its children, peak memory of the largest process.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

const TICK = 10; // ms a tick of /proc's CPU clock
const POLL = 50;

/** @returns {Promise<{code: number, wall: number, cpu: number, peak: number, stdout: string, stderr: string}>} s, s, MB */
export function measure(command, args, env, cwd) {
  const script = 'TIMEFORMAT="@time %R %U %S"; time "$@"';
  const child = spawn('bash', ['-c', script, 'bash', command, ...args], {
    env,
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  let peak = 0;
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const poll = setInterval(() => {
    for (const pid of descendants(child.pid)) peak = Math.max(peak, highWater(pid));
  }, POLL);
  return new Promise((resolve) => {
    child.on('close', (code) => {
      clearInterval(poll);
      const [, wall, user, system] = /@time ([\d.]+) ([\d.]+) ([\d.]+)/.exec(stderr) ?? [];
      resolve({
        code,
        wall: Number(wall),
        cpu: Number(user) + Number(system),
        peak,
        stdout,
        stderr: stderr.replace(/@time.*\n/, ''),
      });
    });
  });
}

function stat(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function descendants(pid) {
  const children = childrenOf(pid);
  return [...children, ...children.flatMap(descendants)];
}

function childrenOf(pid) {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8')
        .split(' ')
        .filter((child) => child !== ''),
    );
  } catch {
    return []; // it has ended
  }
}

function highWater(pid) {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

/** CPU seconds that a process, its living children and those it waited for have used. */
export function cpuOf(pid) {
  const own = (id) => {
    const fields = stat(id);
    return fields === undefined ? 0 : [11, 12, 13, 14].reduce((sum, n) => sum + Number(fields[n]), 0);
  };
  return ([pid, ...descendants(pid)].reduce((sum, id) => sum + own(id), 0) * TICK) / 1000;
}

/** CPU seconds that a process has used by itself. */
export function ownCpuOf(pid) {
  const fields = stat(pid);
  return fields === undefined ? 0 : ((Number(fields[11]) + Number(fields[12])) * TICK) / 1000;
}
