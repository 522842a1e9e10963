import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asCollectError } from '../errors.ts';
import type { Dataset } from '../stores/store.ts';
import type { Lock, Locks } from './lock.ts';

/** A dataset of a claim, as it lies on disk. */
export type Kept = Omit<Dataset, 'confirm'>;

/** Messages that one drain has taken for its own, and the datasets they became: written before any store sees them. */
export interface Claim {
  /** Of the messages. */
  readonly ids: readonly string[];
  readonly datasets: readonly Kept[];
  /** A file of messages that no store can take, a line each. */
  readonly dead: string | undefined;
  /** Name of the folder of its files. */
  readonly folder: string;
}

/** A claim that is not carried out. */
export interface Pending {
  readonly name: string;
  readonly claim: Claim;
}

/** What drains of one subscription know of each other, in a folder they share. */
export interface Claims {
  /** Where the folders are. */
  readonly home: string;
  /** Makes a folder for the files of a batch; its name. */
  folder(): Promise<string>;
  /** Whether a message was stored, or is about to be, by whichever drain. */
  stateOf(id: string): 'stored' | 'claimed' | undefined;
  /** Looks what the others have claimed meanwhile, and claims what is left by then, while no other can. */
  claim(make: (taken: (id: string) => boolean) => Promise<Claim | undefined>): Promise<Pending | undefined>;
  /** The stores have it. */
  done(pending: Pending): Promise<void>;
  /** Takes over what drains that are gone have left; what they had not carried out. */
  inherit(): Promise<readonly Pending[]>;
  /** Forgets what was carried out so long ago that its acknowledgements have surely arrived. */
  forget(connection: number, atLeast?: number): Promise<void>;
}

/**
 * Milliseconds that a connection has to last behind acknowledgements, which are not answered. The service's own
 * connection to the broker may be gone for a minute before it notices, and what was acknowledged meanwhile comes again.
 */
const SETTLED = 120_000;
const TURNS = 600;
const TURN_MS = 50;

interface Known {
  readonly ids: readonly string[];
  stored: boolean;
  /** When it could be said to be acknowledged, and over which connection. */
  settled?: { readonly at: number; readonly connection: number };
}

interface Desk {
  readonly home: string;
  readonly own: string;
  readonly tenancy: string;
  /** Of the lock that is held while one claims. */
  readonly turn: string;
  readonly locks: Locks;
  readonly claims: Map<string, Known>;
  readonly owners: Map<string, string>;
  made: number;
}

/** The name of the lock that a drain holds as long as it lives. */
export function lifeOf(drain: string): string {
  return `drain+${drain}`;
}

/** Opens the claims of a drain in a folder. */
export async function openClaims(
  home: string,
  own: string,
  { tenancy, turn, locks }: { readonly tenancy: string; readonly turn: string; readonly locks: Locks },
): Promise<Claims> {
  await mkdir(home, { recursive: true, mode: 0o700 });
  const desk: Desk = { home, own, tenancy, turn, locks, claims: new Map(), owners: new Map(), made: 0 };
  const nameOf = () => {
    desk.made += 1;
    return `${own}+${String(desk.made).padStart(9, '0')}`;
  };
  return {
    home,
    async folder() {
      const folder = nameOf();
      await mkdir(join(home, folder), { mode: 0o700 });
      return folder;
    },
    stateOf(id) {
      const known = desk.claims.get(desk.owners.get(id) ?? '');
      return known === undefined ? undefined : known.stored ? 'stored' : 'claimed';
    },
    claim: (make) => claimed(desk, nameOf, make),
    async done({ name, claim }) {
      await rename(join(home, `${name}.json`), join(home, `${name}.done`));
      learn(desk, name, claim.ids, true);
      await rm(join(home, claim.folder), { recursive: true, force: true });
    },
    inherit: () => inherit(desk, nameOf),
    forget: (connection, atLeast = SETTLED) => forget(desk, connection, atLeast),
  };
}

async function claimed(desk: Desk, nameOf: () => string, make: Parameters<Claims['claim']>[0]) {
  const lock = await inTurn(desk);
  try {
    await look(desk);
    const claim = await make((id) => desk.owners.has(id));
    if (claim === undefined) return undefined;
    const name = nameOf();
    const path = join(desk.home, name);
    await writeFile(`${path}.tmp`, JSON.stringify(claim), { mode: 0o600 });
    await rename(`${path}.tmp`, `${path}.json`);
    learn(desk, name, claim.ids, false);
    return { name, claim };
  } finally {
    await lock.release();
  }
}

async function inTurn({ locks, tenancy, turn }: Desk): Promise<Lock> {
  for (let n = 1; ; n += 1) {
    try {
      return await locks.take(tenancy, turn);
    } catch (error) {
      if (n === TURNS || asCollectError(error).code !== 'locked') throw error;
      await new Promise((resolve) => setTimeout(resolve, TURN_MS));
    }
  }
}

function learn({ claims, owners }: Desk, name: string, ids: readonly string[], stored: boolean): void {
  const known = claims.get(name);
  if (known !== undefined) known.stored = stored;
  else {
    claims.set(name, { ids, stored });
    for (const id of ids) owners.set(id, name);
  }
}

function unlearn({ claims, owners }: Desk, name: string): void {
  for (const id of claims.get(name)?.ids ?? []) if (owners.get(id) === name) owners.delete(id);
  claims.delete(name);
}

const FILE = /^([0-9a-f-]+\+\d+)\.(json|done)$/;

/** Learns what lies in the folder by now. */
async function look(desk: Desk): Promise<void> {
  while (!(await lookOnce(desk)));
}

/** False when a claim went by another name meanwhile, so that it may have been missed. */
async function lookOnce(desk: Desk): Promise<boolean> {
  const found = new Set<string>();
  for (const file of await readdir(desk.home)) {
    const [, name, state] = FILE.exec(file) ?? [];
    if (name === undefined) continue;
    found.add(name);
    const known = desk.claims.get(name);
    if (known === undefined) {
      const claim = await claimIn(join(desk.home, file));
      if (claim === undefined) return false;
      learn(desk, name, claim.ids, state === 'done');
    } else known.stored = state === 'done';
  }
  for (const name of [...desk.claims.keys()]) if (!found.has(name)) unlearn(desk, name);
  return true;
}

async function claimIn(path: string): Promise<Claim | undefined> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  return text === undefined ? undefined : (JSON.parse(text) as Claim);
}

/** A drain whose lock can be taken is gone: its claims become ours by their names. */
async function inherit(desk: Desk, nameOf: () => string): Promise<readonly Pending[]> {
  const { home, own, locks, tenancy } = desk;
  const owners = new Set((await readdir(home)).map((file) => file.split('+')[0] ?? ''));
  owners.delete(own);
  const pending: Pending[] = [];
  for (const owner of owners) {
    const life = await locks.take(tenancy, lifeOf(owner)).catch(() => undefined);
    if (life === undefined) continue;
    try {
      for (const file of (await readdir(home)).filter((entry) => entry.startsWith(`${owner}+`))) {
        const [, , state] = FILE.exec(file) ?? [];
        const claim = state === undefined ? undefined : await claimIn(join(home, file));
        if (claim === undefined) continue;
        const name = nameOf();
        await rename(join(home, file), join(home, `${name}.${state}`));
        if (state === 'json') pending.push({ name, claim });
      }
      await sweep(home, owner);
    } finally {
      await life.release();
    }
  }
  await look(desk);
  return pending;
}

/** Files of a drain that is gone which belong to no claim: it had not come to store them, so their messages come again. */
async function sweep(home: string, owner: string): Promise<void> {
  const entries = await readdir(home);
  const claims = await Promise.all(entries.filter((file) => FILE.test(file)).map((file) => claimIn(join(home, file))));
  const needed = new Set(claims.map((claim) => claim?.folder));
  const left = entries.filter((entry) => entry.startsWith(`${owner}+`) && !needed.has(entry));
  for (const entry of left) await rm(join(home, entry), { recursive: true, force: true });
}

async function forget(desk: Desk, connection: number, atLeast: number): Promise<void> {
  const now = Date.now();
  for (const [name, known] of [...desk.claims]) {
    if (!known.stored || !name.startsWith(`${desk.own}+`)) continue;
    if (known.settled?.connection !== connection) known.settled = { at: now, connection };
    if (now - known.settled.at < atLeast) continue;
    await rm(join(desk.home, `${name}.done`), { force: true });
    unlearn(desk, name);
  }
}
