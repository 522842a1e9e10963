import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** How a run in a process of its own ended. */
export interface Ended {
  /** Its exit code; 128 and its signal's number where it was killed. */
  readonly code: number;
  readonly stdout: string;
}

/** What a process of its own is given. */
export interface ChildOptions {
  readonly env: Readonly<Record<string, string>>;
  /** Each line that it says on stderr. */
  readonly say: (line: string) => void;
  /** Asks it to end cleanly. */
  readonly signal: AbortSignal;
  /** Milliseconds after which it is ended at once. */
  readonly grace: number;
}

const PROGRAM = fileURLToPath(new URL('../../bin/cyber-collect.js', import.meta.url));
const KILLED = 137;

/** Runs this program in a process of its own, with an environment of its own; it ends itself when this one is gone. */
export async function runChild(args: readonly string[], options: ChildOptions): Promise<Ended> {
  const { env, say, signal, grace } = options;
  const child = fork(PROGRAM, args, {
    env: { ...env },
    execArgv: [], // not this process's own, such as a debugger's
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let stdout = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  if (child.stderr !== null) createInterface({ input: child.stderr }).on('line', say);
  let timer: NodeJS.Timeout | undefined;
  const stop = () => {
    child.kill('SIGTERM');
    timer = setTimeout(() => child.kill('SIGKILL'), grace);
  };
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return { code: code ?? KILLED, stdout };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}
