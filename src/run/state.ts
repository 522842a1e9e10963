import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { CollectError } from '../errors.ts';

/** The folder of what a run leaves for the next, private to its user. */
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
        return JSON.parse(await readFile(join(root, ...parts), 'utf8')) as T;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw new CollectError('config', `${join(root, ...parts)} cannot be read: ${(error as Error).message}`, {
          mend: 'remove the file; it is written anew',
        });
      }
    },
    async write(value, ...parts) {
      const target = await path(...parts);
      await writeFile(`${target}.tmp`, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
      await rename(`${target}.tmp`, target);
      return target;
    },
  };
}

/** A folder for this run's spools; those of runs on this machine that ended without cleaning up are removed. */
export async function openSpools(state: State, host: string, runId: string): Promise<string> {
  const spools = join(state.folder, 'spool');
  await mkdir(spools, { recursive: true, mode: 0o700 });
  for (const name of await readdir(spools)) {
    const owner = /^(.+)\+(\d+)\+/.exec(name);
    if (owner?.[1] !== host || isAlive(Number(owner[2]))) continue;
    await rm(join(spools, name), { recursive: true, force: true });
  }
  const folder = join(spools, `${host}+${process.pid}+${runId}`);
  await mkdir(folder, { mode: 0o700 });
  return folder;
}

/** What a lock file says of its holder. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  readonly since: string;
  /** Tells a lock of this process from one that an earlier process of the same id left: containers always count from 1. */
  readonly id?: string;
}

/** Locks that this process holds. */
const held = new Set<string>();

/**
 * Takes the lock of a tenancy's collector; call the result to let it go. A lock whose process on this machine is gone is
 * taken over.
 * @throws {CollectError} locked
 */
export async function lock(
  state: State,
  host: string,
  tenancy: string,
  collector: string,
): Promise<() => Promise<void>> {
  const path = await state.path('locks', tenancy, `${collector}.lock`);
  for (let attempt = 1; ; attempt += 1) {
    try {
      const file = await open(path, 'wx', 0o600);
      const id = randomUUID();
      held.add(id);
      await file.writeFile(
        JSON.stringify({ pid: process.pid, host, since: new Date().toISOString(), id } satisfies Holder),
      );
      await file.close();
      return async () => {
        await rm(path, { force: true });
        held.delete(id);
      };
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
      const holder = await state.read<Holder>('locks', tenancy, `${collector}.lock`).catch(() => undefined);
      if (attempt > 1 || !isOver(holder, host) || !(await removeStale(path, host))) {
        const who =
          holder === undefined ? 'another run' : `process ${holder.pid} on ${holder.host} since ${holder.since}`;
        throw new CollectError('locked', `${collector} of tenancy ${tenancy} is being collected by ${who}`, {
          mend: `wait for it; if no such process runs, remove ${path}`,
        });
      }
    }
  }
}

/** Whether a process that may still live holds a lock. */
export async function isLocked(state: State, host: string, tenancy: string, name: string): Promise<boolean> {
  const holder = await state.read<Holder>('locks', tenancy, `${name}.lock`).catch(() => undefined);
  return holder !== undefined && !isOver(holder, host);
}

/** Removes the lock of a process that is over, unless someone else is about to: of many only one may look and remove. */
async function removeStale(path: string, host: string): Promise<boolean> {
  const turn = `${path}.takeover`;
  const mine = await open(turn, 'wx', 0o600).catch(() => undefined);
  if (mine === undefined) return false;
  try {
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text === undefined) return true;
    const over = isOver(holderOf(text), host);
    if (over) await rm(path, { force: true });
    return over;
  } finally {
    await mine.close();
    await rm(turn, { force: true });
  }
}

function holderOf(text: string): Holder | undefined {
  try {
    return JSON.parse(text) as Holder;
  } catch {
    return undefined; // it is being written
  }
}

function isOver(holder: Holder | undefined, host: string): boolean {
  if (holder === undefined || holder.host !== host) return false;
  return holder.pid === process.pid ? !held.has(holder.id ?? '') : !isAlive(holder.pid);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
