import { once } from 'node:events';
import pLimit, { type LimitFunction } from 'p-limit';
import { asCollectError, CollectError } from '../errors.ts';
import { systemClock } from '../http/pace.ts';
import { type Span, unfollowed } from '../report/trace.ts';
import type { Dataset, OpenContext, Sink, Written } from '../stores/store.ts';
import type { ActiveStore } from './activate.ts';
import type { Delivered, Outbox } from './outbox.ts';

/** A store as this run uses it; one that did not open fails every write with the reason. */
export interface OpenStore {
  readonly name: string;
  readonly sink: Sink;
  readonly turn: LimitFunction;
  /** What waited for it from earlier runs, once that was tried; what is new comes behind. */
  readonly caughtUp: Promise<Delivered>;
}

/** What one store did with one dataset. */
export interface Delivery {
  readonly store: string;
  readonly at: string;
  readonly records: number;
  /** Of what was written, where it is one file or object. */
  readonly sha256?: string;
  readonly error?: string;
  readonly mend?: string;
  /** It waits in the outbox for the next run. */
  readonly waits?: true;
}

/** Where datasets go. */
export interface Destinations {
  readonly stores: readonly OpenStore[];
  readonly outbox: Outbox;
  readonly signal: AbortSignal;
  /** The dataset's work. */
  readonly span?: Span | undefined;
}

const WRITES_AT_ONCE = 2;

/** Opens every store, and begins to hand each what waited for it; none keeps another from opening. */
export function openStores(
  stores: readonly ActiveStore[],
  context: OpenContext,
  outbox: Outbox,
): Promise<readonly OpenStore[]> {
  return Promise.all(
    stores.map(async ({ store, settings }) => {
      const { name } = store;
      const opened = { name, turn: pLimit(WRITES_AT_ONCE), caughtUp: NOTHING };
      try {
        const ready = { ...opened, sink: await store.open(settings, context) };
        return { ...ready, caughtUp: outbox.deliver(ready) };
      } catch (thrown) {
        const error = asCollectError(thrown);
        const left = (await outbox.waiting(name)).length;
        const caughtUp = Promise.resolve({ delivered: 0, left, error });
        return { ...opened, sink: { write: () => Promise.reject(error) }, caughtUp };
      }
    }),
  );
}

const NOTHING: Promise<Delivered> = Promise.resolve({ delivered: 0, left: 0 });

/** Milliseconds that a store is given to end a write once the run is to stop; the next run writes what is left. */
const GRACE = 4000;

/**
 * Writes a dataset to every store side by side, then refreshes the backup: it always is a complete copy. What a store
 * does not take waits in the outbox, and so does what comes behind something that waits.
 */
export async function deliver(
  dataset: Dataset,
  { stores, outbox, signal, span = unfollowed }: Destinations,
): Promise<readonly Delivery[]> {
  const deliveries = await Promise.all(
    stores.map(async (store) => {
      const write = () => attempt(store.name, () => writeTo(store, dataset, signal));
      const delivery = await followed(span, store.name, dataset, write);
      return delivery.error === undefined || signal.aborted ? delivery : keep(dataset, delivery, outbox);
    }),
  );
  const backups = await Promise.all(
    stores.map((store) => {
      const { backup } = store.sink;
      if (backup === undefined || dataset.kind === 'events') return [];
      const save = () => unlessStopped(() => backup.save(dataset), signal);
      const name = `${store.name} backup`;
      return followed(span, name, dataset, () => store.turn(() => attempt(name, save)));
    }),
  );
  return [...deliveries, ...backups.flat()];
}

/**
 * Writes a dataset to one store in its turn, behind what waited for it.
 * @throws {CollectError} what the store says, or the signal's reason
 */
export function writeTo(store: OpenStore, dataset: Dataset, signal: AbortSignal): Promise<Written> {
  const write = async () => {
    const { error } = await store.caughtUp;
    if (error !== undefined) throw error;
    return store.sink.write(dataset);
  };
  return store.turn(() => unlessStopped(write, signal));
}

/** A write as a piece of the dataset's work, its waiting for a turn included. */
async function followed(
  span: Span,
  store: string,
  { tag, spool }: Dataset,
  write: () => Promise<Delivery>,
): Promise<Delivery> {
  const own = span.begin(`store ${store}`, { store, dataset: tag, records: spool.records, bytes: spool.bytes });
  const delivery = await write();
  own.end({}, delivery.error);
  return delivery;
}

/** Keeps a dataset that a store did not take; without a place for it, its fault stands alone. */
async function keep(dataset: Dataset, delivery: Delivery, outbox: Outbox): Promise<Delivery> {
  try {
    await dataset.confirm();
    await outbox.add(delivery.store, dataset);
    return { ...delivery, waits: true };
  } catch (thrown) {
    return { ...delivery, error: `${delivery.error}; ${asCollectError(thrown).message}` };
  }
}

/** Writes a restored copy to every store but the one it came from, and over no newer or same upload. */
export async function deliverRestored(dataset: Dataset, stores: readonly OpenStore[]): Promise<readonly Delivery[]> {
  const others = stores.filter(({ sink }) => sink.backup === undefined);
  return Promise.all(
    others.map((store) =>
      store.turn(() =>
        attempt(store.name, async () => {
          const held = await store.sink.latest?.(dataset.tag);
          const { upload_id, timestamp, records } = dataset.metadata;
          if (
            held !== undefined &&
            (held.upload_id === upload_id || Date.parse(held.timestamp) >= Date.parse(timestamp))
          ) {
            return { at: `(kept: ${held.timestamp})`, records };
          }
          return store.sink.write(dataset);
        }),
      ),
    ),
  );
}

/** A write that the run does not wait for any longer than it may when it is to stop. */
async function unlessStopped(write: () => Promise<Written>, signal: AbortSignal): Promise<Written> {
  signal.throwIfAborted();
  const waited = new AbortController();
  const stopped = once(signal, 'abort', { signal: waited.signal })
    .then(() => systemClock.sleep(GRACE, waited.signal))
    .then((): never => {
      throw signal.reason;
    });
  try {
    return await Promise.race([write(), stopped]);
  } finally {
    waited.abort();
    stopped.catch(() => undefined);
  }
}

async function attempt(store: string, write: () => Promise<Written>): Promise<Delivery> {
  try {
    return { store, ...(await write()) };
  } catch (thrown) {
    const error =
      thrown instanceof CollectError ? thrown : new CollectError('store', (thrown as Error).message, { cause: thrown });
    return {
      store,
      at: '',
      records: 0,
      error: error.message,
      ...(error.mend === undefined ? {} : { mend: error.mend }),
    };
  }
}
