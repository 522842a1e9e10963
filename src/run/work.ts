import { createHash } from 'node:crypto';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isCustom, requestOf } from '../collectors/collector.ts';
import { factsOf } from '../config/setting.ts';
import type { ActiveCollector, ActiveStore } from './activate.ts';
import type { State } from './state.ts';

/** What a run keeps of a collector until it has ended, so that the next one can go on where it was killed. */
export interface Work {
  readonly collector: string;
  /** The folder of its spools and journals. */
  readonly folder: string;
  /** Whether it is of use for what this run is asked; if not, events that were read whole still are to be delivered. */
  readonly useful: boolean;
  /** Whether the stores are those that an interrupted run delivered to. */
  readonly sameStores: boolean;
  /** Removes it, unless another run has taken it over; the collector must be locked. */
  remove(): Promise<void>;
}

/** What is known of the run that the work is of. */
interface Owner {
  readonly run_id: string;
  readonly started_at: string;
  /** Tells whether it was done for the same question. */
  readonly collector: string;
  readonly stores: string;
}

/** What opening the work of a collector needs. */
export interface WorkOptions {
  readonly state: State;
  readonly tenancy: string;
  readonly active: ActiveCollector;
  readonly stores: readonly ActiveStore[];
  readonly version: string;
  readonly runId: string;
  readonly at: Date;
  /** Seconds after which interrupted work is done again; 0 never goes on. */
  readonly lives: number;
  /** Whether a run is still under way. */
  readonly isUnderWay: (runId: string) => Promise<boolean>;
}

/**
 * Opens the work of a collector, which must be locked, with what an interrupted run left. Each
 * run has a folder of its own name, so that one that was frozen and goes on no longer finds what was taken over.
 */
export async function openWork(options: WorkOptions): Promise<Work> {
  const { state, tenancy, active, runId, at } = options;
  const place = ['work', tenancy, active.collector.name];
  const home = join(state.folder, ...place);
  const left = await state.read<Owner>(...place, 'run.json').catch(() => undefined);
  const own: Owner = {
    run_id: runId,
    started_at: at.toISOString(),
    collector: fingerprintOf(active, options.version),
    stores: storesFingerprint(options.stores),
  };
  const folder = join(home, runId);
  const taken =
    left !== undefined &&
    !(await options.isUnderWay(left.run_id)) &&
    (await rename(join(home, left.run_id), folder).then(
      () => true,
      () => false,
    ));
  if (!taken) {
    await rm(home, { recursive: true, force: true });
    await mkdir(folder, { recursive: true, mode: 0o700 });
  }
  const useful = taken && isUseful(left, own, options);
  await state.write(useful ? { ...own, started_at: left.started_at } : own, ...place, 'run.json');
  return {
    collector: active.collector.name,
    folder,
    useful,
    sameStores: useful && left.stores === own.stores,
    async remove() {
      const owner = await state.read<Owner>(...place, 'run.json').catch(() => undefined);
      if (owner?.run_id === runId) await rm(home, { recursive: true, force: true });
    },
  };
}

function isUseful(left: Owner, own: Owner, { at, lives }: WorkOptions): boolean {
  // Clocks are set back now and then.
  const age = Math.abs(at.getTime() - Date.parse(left.started_at));
  return left.collector === own.collector && age < lives * 1000;
}

/** Changes when the collector would ask for something else: its settings but for the secrets, its lists, the program. */
function fingerprintOf({ collector, settings }: ActiveCollector, version: string): string {
  const open = Object.entries(settings).filter(([name]) => {
    const type = collector.env[name];
    return type !== undefined && !factsOf(type).secret;
  });
  const lists = Object.values(collector.resources).map((resource) =>
    isCustom(resource) ? resource.path : requestOf(resource, settings),
  );
  return digest([version, open, lists]);
}

function storesFingerprint(stores: readonly ActiveStore[]): string {
  return digest(
    stores.map(({ store, settings }) => [
      store.name,
      Object.entries(settings).filter(([name]) => store.env[name] !== undefined && !isSecret(store, name)),
    ]),
  );
}

function isSecret({ env }: ActiveStore['store'], name: string): boolean {
  const type = env[name];
  return type === undefined || factsOf(type).secret;
}

function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex');
}
