import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { CollectError } from '../errors.ts';

/**
 * The folder of what a run leaves for the next, private to its user. What is small is read and written at once: to hand
 * it to another thread costs several times the work.
 */
export interface State {
  readonly folder: string;
  /** A path in it, its folder made. */
  path(...parts: readonly string[]): Promise<string>;
  read<T>(...parts: readonly string[]): Promise<T | undefined>;
  /** Replaces a small JSON file whole. */
  write(value: unknown, ...parts: readonly string[]): Promise<string>;
}

/**
 * Opens the state folder.
 * @throws {CollectError} config when it cannot be made or written
 */
export async function openState(folder: string): Promise<State> {
  const root = resolve(folder);
  try {
    await mkdir(root, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new CollectError('config', `the state folder ${root} cannot be made (${code})`, {
      mend: 'set CYBER_COLLECT_STATE to a folder that can be written',
    });
  }
  async function path(...parts: readonly string[]): Promise<string> {
    const target = join(root, ...parts);
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    return target;
  }
  return {
    folder: root,
    path,
    async read<T>(...parts: readonly string[]) {
      try {
        return JSON.parse(readFileSync(join(root, ...parts), 'utf8')) as T;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw new CollectError('config', `${join(root, ...parts)} cannot be read: ${(error as Error).message}`, {
          mend: 'remove the file; it is written anew',
        });
      }
    },
    async write(value, ...parts) {
      const target = join(root, ...parts);
      inFolderOf(target, () => writeFileSync(`${target}.tmp`, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 }));
      renameSync(`${target}.tmp`, target);
      return target;
    },
  };
}

/** Makes a file, and its folder where that is not there. */
export function inFolderOf(path: string, make: () => void): void {
  try {
    make();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    make();
  }
}

/** Milliseconds after which what is not renewed is nobody's. */
export const LEASE = 60_000;
/** Milliseconds between two renewals. */
export const RENEWAL = 15_000;

/** Runs of this process: containers always count from 1, so its id alone does not tell. */
const own = new Set<string>();

/** The folder of a run under way. */
export interface RunFolder {
  readonly path: string;
  remove(): Promise<void>;
}

/** A folder for this run; those of runs that ended without cleaning up are removed. */
export async function openRunFolder(state: State, host: string, runId: string): Promise<RunFolder> {
  const all = join(state.folder, 'spool');
  await mkdir(all, { recursive: true, mode: 0o700 });
  for (const name of await readdir(all)) {
    if (await isLeft(join(all, name), name, host)) await rm(join(all, name), { recursive: true, force: true });
  }
  const path = join(all, `${host}+${process.pid}+${runId}`);
  await mkdir(path, { mode: 0o700 });
  own.add(runId);
  const timer = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => undefined), RENEWAL);
  timer.unref();
  return {
    path,
    async remove() {
      clearInterval(timer);
      await rm(path, { recursive: true, force: true });
      own.delete(runId);
    },
  };
}

/** Whether a run is still under way. */
export async function isUnderWay(state: State, runId: string): Promise<boolean> {
  return (await readdir(join(state.folder, 'spool'))).some((name) => name.endsWith(`+${runId}`));
}

async function isLeft(path: string, name: string, host: string): Promise<boolean> {
  const [, owner, pid = '', runId = ''] = /^(.+)\+(\d+)\+(.+)$/.exec(name) ?? [];
  const renewed = await stat(path).catch(() => undefined);
  if (owner === undefined || renewed === undefined) return false;
  if (Date.now() - renewed.mtimeMs > LEASE) return true;
  if (owner !== host) return false;
  return Number(pid) === process.pid ? !own.has(runId) : !isAlive(Number(pid));
}

/** Whether a process of this machine lives. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
