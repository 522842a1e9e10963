import { CollectError } from '../errors.ts';
import type { Page } from './page.ts';

/** A time window in whole epoch milliseconds; `from` belongs to it, `to` does not. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

/** How a time window is read in slices. */
export interface Slices {
  readonly window: Window;
  /** Milliseconds of a slice. */
  readonly size: number;
  /** Milliseconds below which no slice is halved; boundaries are whole multiples of it behind their slice's start. */
  readonly least: number;
  /** Slices read ahead, at most. */
  readonly concurrency: number;
  /** The variable that narrows the slices, for who has to mend it. */
  readonly setting: string;
  /** Reads a slice; undefined when its answer is too large or was cut off, and so has to be read in halves. */
  read(window: Window): Promise<Page | undefined>;
}

interface Slice {
  readonly window: Window;
  page?: Promise<Page | undefined>;
}

/**
 * The pages of a time window's slices, several read at once and handed on in order. Neighbours share a boundary which
 * belongs to the later one alone, so nothing is lost or doubled between them, however often a slice is halved.
 * @throws {CollectError} vendor when a slice is too large and cannot be halved any more
 */
export async function* slicedPages(slices: Slices): AsyncGenerator<Page> {
  const windows = cut(slices);
  const waiting: Slice[] = [];
  try {
    for (;;) {
      fill(waiting, windows, slices.concurrency);
      readAhead(waiting, slices);
      const head = waiting.shift();
      if (head === undefined) return;
      const page = await head.page;
      if (page === undefined) waiting.unshift(...halves(head.window, slices));
      else yield page;
    }
  } finally {
    for (const { page } of waiting) page?.then((unread) => unread?.discard()).catch(() => undefined);
  }
}

function* cut({ window, size, least }: Slices): Generator<Window> {
  const step = Math.max(least, Math.floor(size / least) * least);
  for (let from = window.from; from < window.to; from += step) yield { from, to: Math.min(from + step, window.to) };
}

function fill(waiting: Slice[], windows: Generator<Window>, most: number): void {
  while (waiting.length < most) {
    const next = windows.next();
    if (next.done === true) return;
    waiting.push({ window: next.value });
  }
}

/** Halves come on top of what is under way, so only the first slice is always begun. */
function readAhead(waiting: readonly Slice[], { read, concurrency }: Slices): void {
  let begun = waiting.filter(({ page }) => page !== undefined).length;
  for (const [nth, slice] of waiting.entries()) {
    if (slice.page !== undefined || (nth > 0 && begun >= concurrency)) continue;
    slice.page = read(slice.window);
    slice.page.catch(() => undefined);
    begun += 1;
  }
}

function halves({ from, to }: Window, { least, setting }: Slices): readonly Slice[] {
  const middle = from + Math.ceil((to - from) / 2 / least) * least;
  if (middle < to) return [{ window: { from, to: middle } }, { window: { from: middle, to } }];
  const said = `${new Date(from).toISOString()} to ${new Date(to).toISOString()}`;
  throw new CollectError('vendor', `the answer for ${said} is too large, and that window cannot be halved`, {
    mend: `narrow the query, or lower ${setting}`,
  });
}
