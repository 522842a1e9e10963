import { copyFile, link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit, { type LimitFunction } from 'p-limit';
import type { Spool } from '../envelope/spool.ts';
import { asCollectError, CollectError } from '../errors.ts';
import type { Dataset } from '../stores/store.ts';
import type { OpenStore } from './deliver.ts';
import type { State } from './state.ts';

/** Uploads that a store has not taken yet: each in a folder, hard-linked from where it was collected, oldest first. */
export interface Outbox {
  /** The uploads that a store is behind. */
  waiting(store: string): Promise<readonly Waiting[]>;
  /**
   * Keeps an upload for a store.
   * @throws {CollectError} store when the outbox is full
   */
  add(store: string, dataset: Dataset): Promise<void>;
  /** Writes what waits for a store, in order, up to the first that it does not take. */
  deliver(store: OpenStore, chosen?: (waiting: Waiting) => boolean): Promise<Delivered>;
}

/** An upload that waits. */
export interface Waiting {
  readonly tag: string;
  readonly run_id: string;
  readonly upload_id: string;
  readonly kind: Dataset['kind'];
  readonly bytes: number;
  readonly folder: string;
}

/** What became of the uploads that waited for a store. */
export interface Delivered {
  readonly delivered: number;
  readonly left: number;
  /** Why the first that is left was not taken. */
  readonly error?: CollectError;
}

type Kept = Omit<Dataset, 'confirm'>;

const FACTS = 'dataset.json';
const SPOOL = 'spool.ndjson';

/** The outbox of a tenancy, which holds at most so many bytes. */
export function openOutbox(state: State, tenancy: string, most: number): Outbox {
  const place = (store: string) => join(state.folder, 'outbox', tenancy, store);
  async function waiting(store: string): Promise<readonly Waiting[]> {
    const names = await readdir(place(store)).catch(() => []);
    const entries = names.filter((name) => !name.endsWith('.tmp')).sort();
    const found = await Promise.all(entries.map((name) => unlessGone(join(place(store), name), waitingOf)));
    return found.filter((entry) => entry !== undefined);
  }
  async function all(): Promise<readonly Waiting[]> {
    const stores = await readdir(join(state.folder, 'outbox', tenancy)).catch(() => []);
    return (await Promise.all(stores.map(waiting))).flat();
  }
  /** Makes room by leaving out snapshots that a newer one follows. */
  async function room(store: string, { tag, kind, spool }: Dataset): Promise<boolean> {
    let size = (await all()).reduce((sum, { bytes }) => sum + bytes, spool.bytes);
    if (size <= most || kind === 'events') return size <= most;
    for (const old of (await waiting(store)).filter((entry) => entry.tag === tag && entry.kind === 'snapshot')) {
      await rm(old.folder, { recursive: true, force: true });
      size -= old.bytes;
      if (size <= most) return true;
    }
    return false;
  }
  return {
    waiting,
    async add(store, dataset) {
      if (!(await room(store, dataset))) {
        throw new CollectError('store', `the outbox has no room for ${dataset.tag}`, {
          mend: 'mend the store, or raise CYBER_COLLECT_OUTBOX_MIB',
        });
      }
      const folder = join(place(store), `${String(Date.now()).padStart(15, '0')}-${dataset.metadata.upload_id}`);
      await mkdir(`${folder}.tmp`, { recursive: true, mode: 0o700 });
      await link(dataset.spool.path, join(`${folder}.tmp`, SPOOL)).catch(() =>
        copyFile(dataset.spool.path, join(`${folder}.tmp`, SPOOL)),
      );
      await writeFile(join(`${folder}.tmp`, FACTS), JSON.stringify(dataset), { mode: 0o600 });
      await rename(`${folder}.tmp`, folder);
    },
    deliver: (store, chosen = () => true) =>
      turnOf(place(store.name))(async () => {
        const entries = await waiting(store.name);
        const wanted = entries.filter(chosen);
        for (const [n, entry] of wanted.entries()) {
          try {
            const kept = await unlessGone(entry.folder, keptIn);
            if (kept !== undefined) await hand(store, kept);
            await rm(entry.folder, { recursive: true, force: true });
          } catch (thrown) {
            return { delivered: n, left: entries.length - n, error: asCollectError(thrown) };
          }
        }
        return { delivered: wanted.length, left: entries.length - wanted.length };
      }),
  };
}

const turns = new Map<string, LimitFunction>();

/** Runs of this process that go on side by side hand over what waits for a store one behind the other. */
function turnOf(place: string): LimitFunction {
  const turn = turns.get(place) ?? pLimit(1);
  turns.set(place, turn);
  return turn;
}

/** What is known of an entry; undefined where another run has delivered it meanwhile. */
async function unlessGone<T>(folder: string, read: (folder: string) => Promise<T>): Promise<T | undefined> {
  try {
    return await read(folder);
  } catch (error) {
    if ((await stat(folder).catch(() => undefined)) !== undefined) throw error;
    return undefined;
  }
}

/** What waits for a store. */
export interface Backlog {
  readonly store: string;
  readonly uploads: number;
  readonly bytes: number;
  /** When the first of them was kept. */
  readonly oldest: string;
}

/** What waits for each store of a tenancy; entries that are damaged are named, and counted. */
export async function backlogOf(
  state: State,
  tenancy: string,
): Promise<{
  readonly stores: readonly Backlog[];
  readonly unreadable: readonly { readonly path: string; readonly finding: string }[];
}> {
  const home = join(state.folder, 'outbox', tenancy);
  const stores: Backlog[] = [];
  const unreadable: { path: string; finding: string }[] = [];
  for (const store of (await readdir(home).catch(() => [])).sort()) {
    const names = (await readdir(join(home, store)).catch(() => [])).filter((name) => !name.endsWith('.tmp')).sort();
    let bytes = 0;
    for (const name of names) {
      const path = join(home, store, name);
      const entry = await waitingOf(path).catch(() => undefined);
      if (entry === undefined) unreadable.push({ path, finding: 'is no upload that could be delivered' });
      bytes += entry?.bytes ?? 0;
    }
    const kept = new Date(Number(/^\d+/.exec(names[0] ?? '')?.[0] ?? Number.NaN));
    const oldest = Number.isNaN(kept.getTime()) ? '' : kept.toISOString();
    if (names.length > 0) stores.push({ store, uploads: names.length, bytes, oldest });
  }
  return { stores, unreadable };
}

/** A snapshot older than what the store holds is history that nobody waits for. */
async function hand({ sink }: OpenStore, kept: Kept): Promise<void> {
  if (kept.kind === 'snapshot') {
    const held = await sink.latest?.(kept.tag);
    if (held !== undefined && Date.parse(held.timestamp) > Date.parse(kept.metadata.timestamp)) return;
  }
  await sink.write({ ...kept, confirm: async () => undefined });
}

async function waitingOf(folder: string): Promise<Waiting> {
  const { tag, kind, spool, metadata } = await keptIn(folder);
  return { tag, kind, run_id: metadata.run_id, upload_id: metadata.upload_id, bytes: spool.bytes, folder };
}

async function keptIn(folder: string): Promise<Kept> {
  const kept = JSON.parse(await readFile(join(folder, FACTS), 'utf8')) as Kept;
  const spool: Spool = { ...kept.spool, path: join(folder, SPOOL) };
  return { ...kept, spool };
}
