import type { Clock } from '../../src/http/pace.ts';

/** A clock whose waits cost no time. */
export interface FakeClock extends Clock {
  /** Every wait that was asked for, in milliseconds. */
  readonly slept: readonly number[];
}

interface Sleeper {
  readonly until: number;
  readonly wake: () => void;
}

/** A clock that stands still until nothing else is to be done, then goes on to the next sleeper's moment. */
export function fakeClock(start = Date.UTC(2026, 0, 1)): FakeClock {
  let time = start;
  const slept: number[] = [];
  const sleepers: Sleeper[] = [];
  function advance(): void {
    sleepers.sort((a, b) => a.until - b.until);
    const next = sleepers.shift();
    if (next === undefined) return;
    time = Math.max(time, next.until);
    next.wake();
  }
  return {
    slept,
    now: () => time,
    sleep(milliseconds, signal) {
      slept.push(milliseconds);
      return new Promise((resolve, reject) => {
        if (signal?.aborted === true) return reject(signal.reason);
        const abort = () => reject(signal?.reason);
        const wake = () => {
          signal?.removeEventListener('abort', abort);
          resolve();
        };
        signal?.addEventListener('abort', abort, { once: true });
        sleepers.push({ until: time + milliseconds, wake });
        setImmediate(advance);
      });
    },
  };
}
