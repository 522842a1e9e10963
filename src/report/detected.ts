import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { State } from '../run/state.ts';

/** What `detect` leaves for the report: few numbers, and the newest alerts with the beginning of their texts. */
export interface Detections {
  /** When something was last looked for: ISO 8601, UTC. */
  readonly at: string;
  /** The window that was added last, so that none is added twice. */
  readonly last: string;
  /** By indicator or rule, the most frequent first. */
  readonly by: readonly Found[];
  /** The newest first. */
  readonly newest: readonly Newest[];
  /** Over time, the oldest first. */
  readonly days: readonly Day[];
}

/** How often an indicator or rule was found. */
export interface Found {
  readonly indicator: string;
  readonly kind: string;
  /** The list, or the title of the rule. */
  readonly list: string;
  readonly level?: string;
  readonly alerts: number;
  /** When it was last found. */
  readonly at: string;
}

/** An alert. */
export interface Newest {
  readonly at: string;
  readonly date: string;
  readonly device_name: string;
  readonly indicator: string;
  readonly kind: string;
  readonly list: string;
  readonly level?: string;
  readonly text: string;
}

/** What a day came to. */
export interface Day {
  readonly day: string;
  readonly events: number;
  readonly alerts: number;
  readonly counts: Readonly<Record<string, number>>;
}

/** What one window adds. */
export interface Window {
  readonly id: string;
  readonly at: string;
  readonly events: number;
  readonly alerts: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly by: readonly Found[];
  readonly newest: readonly Newest[];
}

const MOST_FOUND = 500;
const MOST_NEWEST = 50;
const MOST_DAYS = 90;
/** Characters of a text. */
const MOST_TEXT = 200;

/** Counts alerts as they come, for one window. */
export interface Tally {
  add(
    alert: {
      readonly [name in 'indicator' | 'kind' | 'date' | 'device_name' | 'data']: string;
    } & { readonly list?: string; readonly title?: string; readonly level?: string },
  ): void;
  readonly by: () => readonly Found[];
  readonly newest: () => readonly Newest[];
}

/** A tally of nothing yet. */
export function newTally(at: string): Tally {
  const found = new Map<string, { readonly what: Omit<Found, 'alerts'>; alerts: number }>();
  const newest: Newest[] = [];
  let nth = 0;
  return {
    add({ indicator, kind, date, device_name, data, list = '', title, level }) {
      const named = { indicator: indicator.slice(0, MOST_TEXT), kind, list: list === '' ? (title ?? '') : list };
      const key = keyOf(named);
      const known = found.get(key);
      const what = known?.what ?? { ...named, at, ...(level === undefined ? {} : { level }) };
      if (known !== undefined) known.alerts += 1;
      else if (found.size < MOST_FOUND * 4) found.set(key, { what, alerts: 1 });
      newest[nth % MOST_NEWEST] = { ...what, date, device_name, text: data.slice(0, MOST_TEXT) };
      nth += 1;
    },
    by: () => [...found.values()].map(({ what, alerts }) => ({ ...what, alerts })),
    newest: () => [...newest.slice(nth % MOST_NEWEST), ...newest.slice(0, nth % MOST_NEWEST)].reverse(),
  };
}

function keyOf({ indicator, kind, list }: Pick<Found, 'indicator' | 'kind' | 'list'>): string {
  return `${kind}\n${list}\n${indicator}`;
}

/** What is known with a window added; the same window twice counts once. */
export function withWindow(before: Detections | undefined, window: Window): Detections {
  if (before?.last === window.id) return before;
  const { id, at, events, alerts, counts } = window;
  const days = [{ day: at.slice(0, 10), events, alerts, counts }];
  return { ...together([...(before === undefined ? [] : [before]), { ...window, last: id, days }]), last: id };
}

/** What several sources came to. */
export function together(all: readonly Detections[]): Detections {
  return {
    at:
      all
        .map(({ at }) => at)
        .sort()
        .at(-1) ?? '',
    last: '',
    by: all.map(({ by }) => by).reduce(joined, []),
    newest: all
      .flatMap(({ newest }) => newest)
      .sort((a, b) => (a.at > b.at ? -1 : a.at < b.at ? 1 : 0))
      .slice(0, MOST_NEWEST),
    days: all.flatMap(({ days }) => days).reduce(withDay, []),
  };
}

function joined(old: readonly Found[], added: readonly Found[]): readonly Found[] {
  const all = new Map(old.map((found) => [keyOf(found), found]));
  for (const found of added) {
    const alerts = (all.get(keyOf(found))?.alerts ?? 0) + found.alerts;
    all.set(keyOf(found), { ...found, alerts });
  }
  return [...all.values()].sort((a, b) => b.alerts - a.alerts).slice(0, MOST_FOUND);
}

function withDay(days: readonly Day[], { day, events, alerts, counts }: Day): readonly Day[] {
  const old = days.find((one) => one.day === day) ?? { events: 0, alerts: 0, counts: {} };
  const sum: Record<string, number> = { ...old.counts };
  for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
  const now = { day, events: old.events + events, alerts: old.alerts + alerts, counts: sum };
  return [...days.filter((one) => one.day !== day), now].sort((a, b) => (a.day < b.day ? -1 : 1)).slice(-MOST_DAYS);
}

/** What was detected in a tenancy. */
export interface TenancyDetections extends Detections {
  readonly tenancy: string;
}

/** What was detected, of every tenancy or of one. */
export async function readDetections(state: State, named: string | undefined): Promise<readonly TenancyDetections[]> {
  const home = join(state.folder, 'detect');
  const tenancies = (await readdir(home).catch(() => [])).filter((name) => named === undefined || name === named);
  const all = tenancies.map(async (tenancy) => {
    const places = await readdir(join(home, tenancy)).catch(() => []);
    const read = (place: string) => state.read<Detections>('detect', tenancy, place, 'summary.json');
    const known = await Promise.all(places.filter((place) => place !== 'told').map(read));
    return { tenancy, ...together(known.filter((one) => one !== undefined)) };
  });
  return (await Promise.all(all)).filter(({ days }) => days.length > 0);
}
