import pLimit, { type LimitFunction } from 'p-limit';
import { asCollectError, CollectError } from '../errors.ts';
import type { Dataset, OpenContext, Sink } from '../stores/store.ts';
import type { ActiveStore } from './activate.ts';

/** A store as this run uses it; one that did not open fails every write with the reason. */
export interface OpenStore {
  readonly name: string;
  readonly sink: Sink;
  readonly turn: LimitFunction;
}

/** What one store did with one dataset. */
export interface Delivery {
  readonly store: string;
  readonly at: string;
  readonly records: number;
  readonly error?: string;
  readonly mend?: string;
}

const WRITES_AT_ONCE = 2;

/** Opens every store; none keeps another from opening. */
export function openStores(stores: readonly ActiveStore[], context: OpenContext): Promise<readonly OpenStore[]> {
  return Promise.all(
    stores.map(async ({ store, settings }) => {
      const turn = pLimit(WRITES_AT_ONCE);
      try {
        return { name: store.name, sink: await store.open(settings, context), turn };
      } catch (thrown) {
        const error = asCollectError(thrown);
        return { name: store.name, sink: { write: () => Promise.reject(error) }, turn };
      }
    }),
  );
}

/** Writes a dataset to every store side by side, then refreshes the backup: it always is a complete copy. */
export async function deliver(dataset: Dataset, stores: readonly OpenStore[]): Promise<readonly Delivery[]> {
  const deliveries = await Promise.all(
    stores.map((store) => store.turn(() => attempt(store.name, () => store.sink.write(dataset)))),
  );
  const backups = await Promise.all(
    stores.map(({ name, sink: { backup }, turn }) =>
      backup === undefined || dataset.kind === 'events'
        ? []
        : turn(() => attempt(`${name} backup`, () => backup.save(dataset))),
    ),
  );
  return [...deliveries, ...backups.flat()];
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

async function attempt(store: string, write: () => Promise<{ at: string; records: number }>): Promise<Delivery> {
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
