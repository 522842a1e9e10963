import { randomUUID } from 'node:crypto';
import { link, open, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { asCollectError, CollectError } from '../errors.ts';
import { isAlive, LEASE, RENEWAL, type State } from './state.ts';

/** A lock that one holds. */
export interface Lock {
  /**
   * To be asked before anything is changed that others see.
   * @throws {CollectError} locked when another run has taken it over meanwhile
   */
  confirm(): Promise<void>;
  release(): Promise<void>;
}

/** The locks of a run: one for each tenancy and collector. */
export interface Locks {
  /** @throws {CollectError} locked */
  take(tenancy: string, name: string): Promise<Lock>;
}

/** What a lock says of its holder. */
export interface Holder {
  readonly pid: number;
  readonly host: string;
  readonly since: string;
  /** Tells a lock of this process from one that an earlier process of the same id left: containers always count from 1. */
  readonly id: string;
}

/** A lock as it lies there. */
export interface Found {
  /** Undefined while it is being written. */
  readonly holder: Holder | undefined;
  /** Milliseconds since its holder renewed it, by the clock of where it lies. */
  readonly age: number;
  /** Changes with every change of the lock. */
  readonly version: string;
}

/** A place that keeps small things and replaces them only as told. */
export interface Slots {
  read(tenancy: string, name: string): Promise<Found | undefined>;
  /** Writes over `version`, or where nothing is; undefined when that is no longer what is there. */
  write(tenancy: string, name: string, holder: Holder, over: string | undefined): Promise<string | undefined>;
  remove(tenancy: string, name: string, version: string): Promise<void>;
  /** The place as a person would look for it. */
  nameOf(tenancy: string, name: string): string;
}

/** Ids of locks that this process holds. */
const held = new Set<string>();

/**
 * Locks that are renewed while they are held. One whose process on this machine is gone, or that was not renewed for a
 * minute, is taken over: a process that was frozen finds that out before it changes anything.
 */
export function leases(slots: Slots, host: string): Locks {
  return {
    async take(tenancy, name) {
      const found = await slots.read(tenancy, name);
      const holder = { pid: process.pid, host, since: new Date().toISOString(), id: randomUUID() };
      const free = found === undefined || isOver(found, host);
      held.add(holder.id); // from now on: as soon as it lies there, others of this process may look
      const version = free ? await slots.write(tenancy, name, holder, found?.version) : undefined;
      if (version !== undefined) return hold(slots, { tenancy, name, holder, version });
      held.delete(holder.id);
      const who = (await slots.read(tenancy, name))?.holder ?? found?.holder;
      const by = who === undefined ? 'another run' : `process ${who.pid} on ${who.host} since ${who.since}`;
      throw new CollectError('locked', `${name} of tenancy ${tenancy} is being collected by ${by}`, {
        mend: `wait for it; if no such process runs, remove ${slots.nameOf(tenancy, name)}`,
      });
    },
  };
}

interface Taken {
  readonly tenancy: string;
  readonly name: string;
  readonly holder: Holder;
  readonly version: string;
}

function hold(slots: Slots, { tenancy, name, holder, version }: Taken): Lock {
  let current = version;
  let renewing: Promise<void> = Promise.resolve();
  const renew = async () => {
    current = (await slots.write(tenancy, name, holder, current).catch(() => undefined)) ?? current;
  };
  const timer = setInterval(() => {
    renewing = renewing.then(renew);
  }, RENEWAL);
  timer.unref();
  return {
    async confirm() {
      const found = await slots.read(tenancy, name);
      if (found?.holder?.id === holder.id) return;
      throw new CollectError('locked', `another run has taken over ${name} of tenancy ${tenancy}`, {
        mend: 'nothing was changed; this run was stopped for a while, see why',
      });
    },
    async release() {
      clearInterval(timer);
      await renewing;
      await slots.remove(tenancy, name, current);
      held.delete(holder.id);
    },
  };
}

function isOver({ holder, age }: Found, host: string): boolean {
  if (age > LEASE) return true;
  if (holder === undefined || holder.host !== host) return false;
  return holder.pid === process.pid ? !held.has(holder.id) : !isAlive(holder.pid);
}

/** Milliseconds after which a turn at a lock file was left by a process that is gone. */
const TURN = 10_000;

/** Lock files in the state folder. */
export function fileSlots(state: State): Slots {
  const pathOf = (tenancy: string, name: string) => state.path('locks', tenancy, `${name}.lock`);
  return {
    nameOf: (tenancy, name) => `${state.folder}/locks/${tenancy}/${name}.lock`,
    async read(tenancy, name) {
      return lookAt(await pathOf(tenancy, name));
    },
    async write(tenancy, name, holder, over) {
      const path = await pathOf(tenancy, name);
      const text = JSON.stringify(holder);
      if (over === undefined) return create(path, text, holder.id);
      if (over === holder.id) return touch(path, over);
      return inTurn(path, async () => {
        if ((await lookAt(path))?.version !== over) return undefined;
        await writeFile(`${path}.new`, text, { mode: 0o600 });
        await rename(`${path}.new`, path);
        return holder.id;
      });
    },
    async remove(tenancy, name, version) {
      const path = await pathOf(tenancy, name);
      if ((await lookAt(path))?.version === version) await rm(path, { force: true });
    },
  };
}

/** Makes the lock appear with its words in it: one that was killed in between would be nobody's for a minute. */
async function create(path: string, text: string, version: string): Promise<string | undefined> {
  const whole = `${path}.${version}`;
  await writeFile(whole, text, { mode: 0o600 });
  try {
    await link(whole, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') throw error;
      return writeFile(path, text, { flag: 'wx', mode: 0o600 }); // a file system without links
    });
    return version;
  } catch (error) {
    return unlessThere(error as NodeJS.ErrnoException);
  } finally {
    await rm(whole, { force: true });
  }
}

async function touch(path: string, version: string): Promise<string | undefined> {
  if ((await lookAt(path))?.version !== version) return undefined;
  await utimes(path, new Date(), new Date());
  return version;
}

async function lookAt(path: string): Promise<Found | undefined> {
  try {
    const [text, { mtimeMs }] = await Promise.all([readFile(path, 'utf8'), stat(path)]);
    const holder = holderIn(text);
    return { holder, age: Date.now() - mtimeMs, version: holder?.id ?? '' };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw asCollectError(error);
  }
}

/** Of many that want to change a lock only one may look and write. */
async function inTurn(path: string, change: () => Promise<string | undefined>): Promise<string | undefined> {
  const turn = `${path}.takeover`;
  const left = await stat(turn).catch(() => undefined);
  if (left !== undefined && Date.now() - left.mtimeMs > TURN) await rm(turn, { force: true });
  const mine = await open(turn, 'wx', 0o600).catch(unlessThere);
  if (mine === undefined) return undefined;
  try {
    return await change();
  } finally {
    await mine.close();
    await rm(turn, { force: true });
  }
}

function unlessThere(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'EEXIST') throw error;
}

/** What the text of a lock says of its holder; undefined while it is being written. */
export function holderIn(text: string): Holder | undefined {
  try {
    const { pid, host, since, id = '' } = JSON.parse(text) as Holder;
    return { pid, host, since, id };
  } catch {
    return undefined;
  }
}
