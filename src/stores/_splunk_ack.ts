import { setMaxListeners } from 'node:events';
import { CollectError } from '../errors.ts';
import { systemClock } from '../http/pace.ts';

/** Asks which of these are acknowledged; each is told once. */
export type Poll = (ids: readonly number[], signal: AbortSignal) => Promise<ReadonlySet<number>>;

/** Acknowledgements of one channel. */
export interface Acknowledgements {
  /** Whether the events behind an id were indexed in time. */
  indexed(id: number, signal: AbortSignal): Promise<boolean>;
  close(): void;
}

interface Waiting {
  readonly until: number;
  settle(indexed: boolean): void;
  reject(cause: unknown): void;
}

const FIRST_WAIT = 250;
const MOST_WAIT = 10_000;
const MOST_IDS = 1000;
const NONE: ReadonlySet<number> = new Set();

/** Polls for what is awaited, and only then. */
export function acknowledgements(poll: Poll, patience: number): Acknowledgements {
  const waiting = new Map<number, Waiting>();
  const closing = new AbortController();
  let asking = false;

  async function ask(): Promise<void> {
    asking = true;
    try {
      await pollAll(waiting, poll, patience, closing.signal);
    } catch (cause) {
      for (const { reject } of waiting.values()) reject(cause);
      waiting.clear();
    } finally {
      asking = false;
    }
  }

  return {
    indexed(id, signal) {
      if (waiting.has(id)) return Promise.reject(twice());
      setMaxListeners(0, signal);
      const result = new Promise<boolean>((resolve, reject) => {
        const forget = () => {
          waiting.delete(id);
          reject(signal.reason);
        };
        signal.addEventListener('abort', forget, { once: true });
        const settle = (indexed: boolean) => {
          signal.removeEventListener('abort', forget);
          waiting.delete(id);
          resolve(indexed);
        };
        waiting.set(id, { until: Date.now() + patience, settle, reject });
      });
      if (!asking) ask();
      return result;
    },
    close: () => closing.abort(new CollectError('aborted', 'the store was closed')),
  };
}

/** Asks until nothing is awaited any more, less often while nothing comes. */
async function pollAll(
  waiting: ReadonlyMap<number, Waiting>,
  poll: Poll,
  patience: number,
  signal: AbortSignal,
): Promise<void> {
  for (let pause = FIRST_WAIT; waiting.size > 0; ) {
    await systemClock.sleep(pause, signal);
    const ids = [...waiting.keys()].slice(0, MOST_IDS);
    const done = ids.length === 0 ? NONE : await poll(ids, signal);
    for (const id of done) waiting.get(id)?.settle(true);
    for (const { until, settle } of [...waiting.values()]) if (until <= Date.now()) settle(false);
    pause = done.size > 0 ? FIRST_WAIT : Math.min(pause * 2, MOST_WAIT, patience / 2);
  }
}

/** Two indexers behind one address count for themselves. */
function twice(): CollectError {
  return new CollectError('config', 'two requests were given the same acknowledgement', {
    mend: 'let the load balancer keep a client on one indexer (sticky sessions), or unset STORE_SPLUNK_ACK',
  });
}
