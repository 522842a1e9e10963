import { createHash } from 'node:crypto';
import { optional, text } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { Page } from '../http/page.ts';
import { slicedPages, type Window } from '../http/slices.ts';
import { type Json, numberAt, textAt } from '../json.ts';
import type { Context } from './collector.ts';

/** A search of a log, and how far it reads. */
export interface LogSearch {
  /** All that says what is searched for: another search begins anew. */
  readonly what: string;
  /** The first reading goes back this far, an ISO 8601 duration, unless it has a start. */
  readonly timespan: string;
  readonly start: string | undefined;
  /** Without one each reading goes on to now. */
  readonly end: string | undefined;
  /** Seconds that a reading without an end stays behind now. */
  readonly lag: number;
  /** Milliseconds of a slice; `first` is whether nothing was read before. */
  size(window: Window, first: boolean): number;
  /** Milliseconds below which no slice is halved. */
  readonly least: number;
  readonly concurrency: number;
  /** The variable that narrows the slices. */
  readonly setting: string;
  /** Reads a slice; undefined when its answer is too large. */
  read(window: Window): Promise<Page | undefined>;
}

const HOUR = 3_600_000;

/** What a log holds since the last reading, slice by slice; an interrupted reading goes on behind its last slice. */
export async function* searched(
  { at, from, cursor, warn }: Pick<Context<unknown>, 'at' | 'from' | 'cursor' | 'warn'>,
  search: LogSearch,
): AsyncGenerator<Page> {
  const { what, start, end, least, concurrency, setting } = search;
  const hash = createHash('sha256')
    .update(JSON.stringify([what, start, end]))
    .digest('hex')
    .slice(0, 16);
  if (from !== undefined && textAt(from, 'search') !== hash) {
    throw new CollectError('expired', 'the interrupted reading was of another search');
  }
  const saved = await cursor.read();
  const known = untilOf(saved, hash);
  if (saved !== undefined && known === undefined) warn('the search is another one than last time, so it begins anew');
  const window = windowOf(search, untilOf(from, hash) ?? known, at.getTime());
  if (window.from >= window.to) return;
  const read = async (slice: Window) => {
    const page = await search.read(slice);
    return page === undefined ? undefined : Object.assign(page, { next: { search: hash, until: slice.to } });
  };
  const size = Math.ceil(search.size(window, known === undefined) / least) * least;
  yield* slicedPages({ window, size, least, concurrency, setting, read });
  cursor.save({ search: hash, until: window.to });
}

function untilOf(place: Json | undefined, hash: string): number | undefined {
  return textAt(place, 'search') === hash ? numberAt(place, 'until') : undefined;
}

/** Whole seconds where the vendor's clock and ours meet. */
function windowOf({ timespan, start, end, lag }: LogSearch, since: number | undefined, now: number): Window {
  const last = Math.floor((now - lag * 1000) / 1000) * 1000;
  const to = end === undefined ? last : Date.parse(end);
  if (to > Math.max(now, last)) {
    throw new CollectError('config', `the search ends at ${end}, which is still to come`, {
      mend: 'leave the end out',
    });
  }
  if (since !== undefined) return { from: since, to };
  return { from: start === undefined ? to - millisecondsOf(timespan) : Date.parse(start), to };
}

/** The size of slices by the settings: so many seconds, else so many parts at first and an hour later. */
export function sliceSize(
  { from, to }: Window,
  first: boolean,
  { seconds, parts }: { readonly seconds: number; readonly parts: number },
): number {
  if (seconds > 0) return seconds * 1000;
  return first ? Math.ceil((to - from) / parts) : HOUR;
}

const DURATION = /^P(?!$)(?:(\d+)W)?(?:(\d+)D)?(?:T(?!$)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$/;

function millisecondsOf(duration: string): number {
  const parts =
    DURATION.exec(duration)
      ?.slice(1)
      .map((part) => Number(part ?? 0)) ?? [];
  const [weeks = 0, days = 0, hours = 0, minutes = 0, seconds = 0] = parts;
  return ((((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000;
}

/** A setting that is an ISO 8601 duration. */
export function duration(fallback: string) {
  return text(fallback).refine((value) => millisecondsOf(value) > 0, 'must be a duration such as P1D or PT12H');
}

const MOMENT = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/;

/** A setting that is a moment in ISO 8601, or left out. */
export function moment() {
  return optional()
    .transform((value) => (value === 'now' ? undefined : value))
    .refine(
      (value) => value === undefined || (MOMENT.test(value) && !Number.isNaN(Date.parse(value))),
      'must be a date, or a moment with its zone such as 2026-01-31T00:00:00Z',
    );
}
