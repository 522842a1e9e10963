import { CollectError } from '../errors.ts';
import { resetAt } from './retry.ts';

/** A vendor's limit: told to the collector's client, shared by all its requests. */
export type Pace = LimitPace | HeaderPace;

/** So many requests in so many seconds. */
export interface LimitPace {
  readonly requests: number;
  readonly seconds: number;
  /** Only of requests to URLs that begin so; of all unless told. */
  readonly under?: string;
  /** Being told to wait there holds for requests there alone. */
  readonly alone?: boolean;
}

/** Headers that say what is left of the limit and when it is whole again. */
export interface HeaderPace {
  readonly remaining: string;
  readonly reset?: string;
  readonly limit?: string;
  /** Seconds to wait when nothing is left and no reset is told. */
  readonly window: number;
}

/** At most `requests` starts in any `seconds`; `under` a base URL, where other hosts of the vendor have limits of their own. */
export function limit(requests: number, seconds: number, under?: URL): LimitPace {
  return { requests, seconds, ...(under === undefined ? {} : { under: under.href }) };
}

/** Slows down by the vendor's own count; `reset` may be epoch seconds, epoch milliseconds or seconds from now. */
export function resetHeader(remaining: string, reset?: string, limitHeader?: string, window = 60): HeaderPace {
  return {
    remaining,
    window,
    ...(reset === undefined ? {} : { reset }),
    ...(limitHeader === undefined ? {} : { limit: limitHeader }),
  };
}

/** Headers of an answer, lower-case names. */
export type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** One header's text. */
export function header(headers: Headers, name: string): string | undefined {
  const value = headers[name.toLowerCase()];
  return Array.isArray(value) ? value.join(', ') : value;
}

/** Waits, so that the tests can bring a clock of their own. */
export interface Clock {
  now(): number;
  /** Resolves after so many milliseconds; rejects with the signal's reason. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: Date.now,
  sleep: (milliseconds, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason);
      const abort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(
        () => {
          signal?.removeEventListener('abort', abort);
          resolve();
        },
        Math.min(milliseconds, 2 ** 31 - 1),
      );
      signal?.addEventListener('abort', abort, { once: true });
    }),
};

interface Window {
  readonly requests: number;
  readonly milliseconds: number;
  readonly under: string;
  readonly starts: number[];
  readonly alone: boolean;
  /** Epoch milliseconds before which nothing starts there. */
  pausedUntil: number;
}

/** Two requests sent a window apart may arrive closer together than that: milliseconds of air. */
const AIR = 20;

/** What a pacer needs beside the vendor's limits. */
export interface PacerOptions {
  /** Requests at once. */
  readonly concurrency: number;
  /** Share of the vendor's limit that is left to others, 0 to 0.9. */
  readonly headroom: number;
  /** Epoch milliseconds after which nothing may wait. */
  readonly deadline?: number;
  readonly clock?: Clock;
}

/** Gives every request of a collector its turn: bounded at once, within the vendor's limits, paused when told to. */
export class Pacer {
  #active = 0;
  #pausedUntil = 0;
  /** Requests that the vendor may not have counted yet, by how they end. */
  readonly #unanswered = new Set<() => void>();
  /** What is left of each limit that the vendor tells, by its header. */
  readonly #left = new Map<string, { remaining: number; readonly reset: number }>();
  readonly #windows: readonly Window[];
  readonly #watched: readonly HeaderPace[];
  readonly #waiting: (() => void)[] = [];
  readonly #options: PacerOptions;
  readonly #clock: Clock;

  constructor(paces: readonly Pace[], options: PacerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#windows = paces
      .filter((pace) => 'requests' in pace)
      .map((pace) => ({
        requests: Math.max(1, Math.floor(pace.requests)),
        milliseconds: pace.seconds * 1000 + AIR,
        under: pace.under ?? '',
        starts: [],
        alone: pace.alone === true,
        pausedUntil: 0,
      }));
    this.#watched = paces.filter((pace) => 'remaining' in pace);
  }

  /** Milliseconds until requests may start again; 0 when they may now. */
  pausedFor(url = ''): number {
    return Math.max(0, this.#wakeAt(url) - this.#clock.now());
  }

  /**
   * Waits for a turn and takes it; call the returned function when the answer is whole.
   * @throws {CollectError} throttled when the wait would outlast the deadline
   */
  async turn(signal: AbortSignal | undefined, waited: (milliseconds: number) => void, url = ''): Promise<() => void> {
    while (this.#active >= this.#options.concurrency) await this.#place(signal);
    this.#active += 1;
    try {
      for (let at = this.#wakeAt(url); at > this.#clock.now(); at = this.#wakeAt(url))
        await this.sleepUntil(at, signal, waited);
    } catch (error) {
      this.#leave();
      throw error;
    }
    const now = this.#clock.now();
    for (const { under, starts } of this.#windows) if (url.startsWith(under)) starts.push(now);
    for (const left of this.#left.values()) left.remaining -= 1;
    let left = false;
    const leave = () => {
      this.#unanswered.delete(leave);
      if (!left) this.#leave();
      left = true;
    };
    this.#unanswered.add(leave);
    return leave;
  }

  /** Sleeps, unless the deadline comes first. */
  async sleepUntil(at: number, signal: AbortSignal | undefined, waited: (milliseconds: number) => void): Promise<void> {
    if (at > (this.#options.deadline ?? Number.POSITIVE_INFINITY)) {
      const seconds = Math.ceil((at - this.#clock.now()) / 1000);
      throw new CollectError('throttled', `the vendor asks to wait ${seconds} s, which is past the deadline`, {
        mend: 'run again later, or allow more time with --deadline',
      });
    }
    const started = this.#clock.now();
    await this.#clock.sleep(Math.max(0, at - started), signal);
    waited(this.#clock.now() - started);
  }

  /** No request starts before then: of this collector, or to where this URL leads when limits there stand alone. */
  pauseUntil(at: number, url = ''): void {
    const own = this.#windows.filter(({ alone, under }) => alone && url.startsWith(under));
    for (const window of own) window.pausedUntil = Math.max(window.pausedUntil, at);
    if (own.length === 0) this.#pausedUntil = Math.max(this.#pausedUntil, at);
  }

  /** Reads the limit headers of an answer, and whose turn it is the answer of. */
  observe(headers: Headers, turn?: () => void): void {
    const now = this.#clock.now();
    if (turn !== undefined) this.#unanswered.delete(turn);
    for (const watched of this.#watched) {
      const remaining = Number(header(headers, watched.remaining) ?? Number.NaN);
      if (!Number.isFinite(remaining)) continue;
      const total = Number(header(headers, watched.limit ?? '') ?? Number.NaN);
      const reset =
        resetAt(header(headers, watched.reset ?? ''), now, header(headers, 'date')) ?? now + watched.window * 1000;
      const kept = Number.isFinite(total) ? Math.ceil(total * this.#options.headroom) : 0;
      const left = remaining - kept - this.#unanswered.size;
      // Answers overtake each other: of one window the one that tells of less is the later one.
      const known = this.#left.get(watched.remaining);
      this.#left.set(watched.remaining, {
        remaining: known?.reset === reset ? Math.min(known.remaining, left) : left,
        reset,
      });
    }
  }

  #wakeAt(url: string): number {
    let at = this.#pausedUntil;
    for (const [name, { remaining, reset }] of this.#left) {
      if (reset <= this.#clock.now()) this.#left.delete(name);
      else if (remaining <= 0) at = Math.max(at, reset);
    }
    for (const { starts, requests, milliseconds, under, pausedUntil } of this.#windows) {
      if (!url.startsWith(under)) continue;
      at = Math.max(at, pausedUntil);
      while ((starts[0] ?? Number.POSITIVE_INFINITY) + milliseconds <= this.#clock.now()) starts.shift();
      const oldest = starts[starts.length - requests];
      if (oldest !== undefined) at = Math.max(at, oldest + milliseconds);
    }
    return at;
  }

  #leave(): void {
    this.#active -= 1;
    this.#waiting.shift()?.();
  }

  #place(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason);
      const wake = () => {
        signal?.removeEventListener('abort', abort);
        resolve();
      };
      const abort = () => {
        this.#waiting.splice(this.#waiting.indexOf(wake), 1);
        reject(signal?.reason);
      };
      this.#waiting.push(wake);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }
}
