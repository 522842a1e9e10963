import { randomUUID } from 'node:crypto';
import {
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { asCollectError, CollectError } from '../errors.ts';
import { inFolderOf, isAlive, LEASE, RENEWAL, type State } from './state.ts';

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

/** Lock files in the state folder, read and written at once as all that is small there. */
export function fileSlots({ folder }: State): Slots {
  const nameOf = (tenancy: string, name: string) => join(folder, 'locks', tenancy, `${name}.lock`);
  return {
    nameOf,
    async read(tenancy, name) {
      return lookAt(nameOf(tenancy, name));
    },
    async write(tenancy, name, holder, over) {
      const path = nameOf(tenancy, name);
      const text = JSON.stringify(holder);
      if (over === undefined) return create(path, text, holder.id);
      if (over === holder.id) return touch(path, over);
      return inTurn(path, () => {
        if (lookAt(path)?.version !== over) return undefined;
        writeFileSync(`${path}.new`, text, { mode: 0o600 });
        renameSync(`${path}.new`, path);
        return holder.id;
      });
    },
    async remove(tenancy, name, version) {
      const path = nameOf(tenancy, name);
      if (lookAt(path)?.version === version) rmSync(path, { force: true });
    },
  };
}

/** Makes the lock appear with its words in it: one that was killed in between would be nobody's for a minute. */
function create(path: string, text: string, version: string): string | undefined {
  const whole = `${path}.${version}`;
  inFolderOf(path, () => writeFileSync(whole, text, { mode: 0o600 }));
  try {
    try {
      linkSync(whole, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
      writeFileSync(path, text, { flag: 'wx', mode: 0o600 }); // a file system without links
    }
    return version;
  } catch (error) {
    return unlessThere(error as NodeJS.ErrnoException);
  } finally {
    unlinkSync(whole);
  }
}

function touch(path: string, version: string): string | undefined {
  if (lookAt(path)?.version !== version) return undefined;
  utimesSync(path, new Date(), new Date());
  return version;
}

function lookAt(path: string): Found | undefined {
  try {
    const holder = holderIn(readFileSync(path, 'utf8'));
    return { holder, age: Date.now() - statSync(path).mtimeMs, version: holder?.id ?? '' };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw asCollectError(error);
  }
}

/** Of many that want to change a lock only one may look and write. */
function inTurn(path: string, change: () => string | undefined): string | undefined {
  const turn = `${path}.takeover`;
  const left = statSync(turn, { throwIfNoEntry: false });
  if (left !== undefined && Date.now() - left.mtimeMs > TURN) rmSync(turn, { force: true });
  try {
    closeSync(openSync(turn, 'wx', 0o600));
  } catch (error) {
    return unlessThere(error as NodeJS.ErrnoException);
  }
  try {
    return change();
  } finally {
    rmSync(turn, { force: true });
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
