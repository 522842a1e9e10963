import type { State } from '../run/state.ts';
import type { Dataset, Kind } from '../stores/store.ts';
import { type Field, type Fields, fieldsOf } from './_fields.ts';

/** A field whose values have another JSON type than before. */
export interface Retyped {
  readonly field: string;
  readonly from: readonly string[];
  readonly to: readonly string[];
}

/** How a dataset's fields differ from those of the last good upload. */
export interface Drift {
  readonly new: readonly string[];
  readonly vanished: readonly string[];
  readonly retyped: readonly Retyped[];
  /** Changes beyond those that are listed. */
  readonly more?: number;
}

/** Below this probability what a sample does not show is taken for not being there. */
const CHANCE = 1e-6;
const MOST_TOLD = 50;
/** Events differ in kind: so many are looked at before anything is told of them. */
const EVENTS_LEARNED = 1000;
/** Older events weigh no more than so many. */
const EVENTS_KEPT = 20_000;
/** Where not all fields are kept, only those that this share of the records has are compared. */
const COMMON = 0.5;

/** Looks at the fields of a whole dataset and tells how they differ from before; remembers them for the next run. */
export async function observeFields(
  state: State,
  { tenancy, tag, kind }: { readonly tenancy: string; readonly tag: string; readonly kind: Kind },
  spool: Dataset['spool'],
): Promise<Drift | undefined> {
  if (spool.records === 0) return undefined;
  const place = ['fields', tenancy, `${tag}.json`];
  const before = await state.read<Fields>(...place);
  const now = await fieldsOf(spool, before?.maps);
  if (now.sampled === 0) return undefined;
  const kept = before === undefined ? now : learned(before, now, kind);
  if (JSON.stringify(kept) !== JSON.stringify(before)) await state.write(kept, ...place);
  return before === undefined ? undefined : driftBetween(before, now, kind);
}

/** What differs, as far as the samples can tell; undefined for nothing. */
function driftBetween(before: Fields, now: Fields, kind: Kind): Drift | undefined {
  if (kind === 'events' && before.sampled < EVENTS_LEARNED) return undefined;
  const fresh = outermost(Object.keys(now.fields).filter((path) => isNew(path, before, now, kind)));
  const retyped = Object.keys(now.fields).flatMap((field) => {
    const [old, own] = [before.fields[field], now.fields[field]];
    if (old === undefined || own === undefined || newTypes(old, own, before, kind).length === 0) return [];
    return [{ field, from: kindsOf(old), to: kindsOf(own) }];
  });
  const lost = Object.keys(before.fields).filter((path) => isVanished(path, before, now, kind));
  const other = retyped.map(({ field }) => field);
  const vanished = outermost(lost).filter((path) => !other.some((field) => isInside(path, field)));
  const appeared = fresh.filter((path) => !other.some((field) => isInside(path, field)));
  const all = appeared.length + vanished.length + retyped.length;
  if (all === 0) return undefined;
  const told = [appeared, vanished, retyped].map((list) => Math.min(list.length, MOST_TOLD));
  const more = all - told.reduce((sum, count) => sum + count, 0);
  return {
    new: appeared.slice(0, MOST_TOLD),
    vanished: vanished.slice(0, MOST_TOLD),
    retyped: retyped.slice(0, MOST_TOLD),
    ...(more === 0 ? {} : { more }),
  };
}

/** What is known of the fields with this run's: what is rare and was not in this sample is not forgotten. */
function learned(before: Fields, now: Fields, kind: Kind): Fields {
  const events = kind === 'events';
  const learning = events && before.sampled < EVENTS_LEARNED;
  const weight = events ? before.sampled / (before.sampled + now.sampled) : 0;
  const fields = new Map<string, Field>();
  for (const [path, own] of Object.entries(now.fields)) {
    const old = before.fields[path];
    if (old !== undefined) fields.set(path, blend(old, own, { before, now, kind, weight, learning }));
    else if (learning || isFolded(path, now, before) || isNew(path, before, now, kind)) fields.set(path, own);
  }
  for (const [path, old] of Object.entries(before.fields)) {
    if (fields.has(path) || isVanished(path, before, now, kind) || isFolded(path, before, now)) continue;
    fields.set(path, events ? scaled(old, weight) : old);
  }
  return {
    sampled: events ? Math.min(before.sampled + now.sampled, EVENTS_KEPT) : now.sampled,
    whole: now.whole && !events,
    cut: before.cut || now.cut,
    maps: [...new Set([...before.maps, ...now.maps])],
    fields: Object.fromEntries(fields),
  };
}

/** A difference as a clause: `new a, b; vanished c; retyped d (string -> number)`. */
export function driftText({ new: fresh, vanished, retyped, more = 0 }: Drift): string {
  const types = retyped.map(({ field, from, to }) => `${field} (${from.join('|')} -> ${to.join('|')})`);
  const parts = { new: fresh, vanished, retyped: types };
  const clauses = Object.entries(parts).flatMap(([word, list]) =>
    list.length === 0 ? [] : [`${word} ${short(list)}`],
  );
  return [...clauses, ...(more > 0 ? [`${more} more`] : [])].join('; ');
}

const MOST_NAMED = 8;

function short(list: readonly string[]): string {
  const left = list.length - MOST_NAMED;
  return `${list.slice(0, MOST_NAMED).join(', ')}${left > 0 ? ` and ${left} more` : ''}`;
}

/** Whether so many records can hardly all lack what this share of them has. */
function isSure(share: number, records: number): boolean {
  return (1 - Math.min(1, share)) ** records < CHANCE;
}

function isNew(path: string, before: Fields, now: Fields, kind: Kind): boolean {
  const own = now.fields[path];
  if (own === undefined || before.fields[path] !== undefined || isFolded(path, now, before)) return false;
  if (before.cut) return own.seen >= COMMON;
  return isExact(before, kind) || isSure(own.seen, before.sampled);
}

function isVanished(path: string, before: Fields, now: Fields, kind: Kind): boolean {
  const old = before.fields[path];
  if (old === undefined || now.fields[path] !== undefined || kind === 'events' || isFolded(path, before, now))
    return false;
  return now.cut ? old.seen >= COMMON : isSure(old.seen, now.sampled);
}

/** Whether a path leads through what the other one takes for a map. */
function isFolded(path: string, own: Fields, other: Fields): boolean {
  const folded = new Set(
    [...own.maps, ...other.maps].filter((map) => own.maps.includes(map) !== other.maps.includes(map)),
  );
  return [...folded].some((map) => isInside(path, map));
}

function isExact({ whole }: Fields, kind: Kind): boolean {
  return whole && kind === 'snapshot';
}

function newTypes(old: Field, own: Field, before: Fields, kind: Kind): readonly string[] {
  const known = kindsOf(old);
  if (known.length === 0) return []; // it only ever was null
  return kindsOf(own).filter(
    (type) => !known.includes(type) && (isExact(before, kind) || isSure(own.types[type] ?? 0, before.sampled)),
  );
}

/** Its types but for null, which says that there is no value. */
function kindsOf({ types }: Field): readonly string[] {
  return Object.keys(types)
    .filter((type) => type !== 'null')
    .sort();
}

interface Blending {
  readonly before: Fields;
  readonly now: Fields;
  readonly kind: Kind;
  /** How much the old shares count. */
  readonly weight: number;
  readonly learning: boolean;
}

function blend(old: Field, own: Field, { before, now, kind, weight, learning }: Blending): Field {
  const first = kindsOf(old).length === 0;
  const told = newTypes(old, own, before, kind);
  const types = new Map<string, number>();
  for (const [type, share] of Object.entries(own.types)) {
    const was = old.types[type];
    if (was !== undefined) types.set(type, mixed(was, share, weight));
    else if (learning || first || type === 'null' || told.includes(type)) types.set(type, share);
  }
  for (const [type, was] of Object.entries(old.types)) {
    if (types.has(type)) continue;
    if (kind === 'events') types.set(type, mixed(was, 0, weight));
    else if (!isSure(was, now.sampled)) types.set(type, was);
  }
  return { seen: mixed(old.seen, own.seen, weight), types: Object.fromEntries(types) };
}

function mixed(was: number, is: number, weight: number): number {
  return Number((was * weight + is * (1 - weight)).toPrecision(4));
}

function scaled({ seen, types }: Field, weight: number): Field {
  const entries = Object.entries(types).map(([type, share]): [string, number] => [type, mixed(share, 0, weight)]);
  return { seen: mixed(seen, 0, weight), types: Object.fromEntries(entries) };
}

/** Paths that lie in none of the others. */
function outermost(paths: readonly string[]): readonly string[] {
  const all = new Set(paths);
  return paths.filter((path) => !ancestorsOf(path).some((above) => all.has(above))).sort();
}

function ancestorsOf(path: string): readonly string[] {
  return [...path.matchAll(/\.|\[\]/g)].map(({ index }) => path.slice(0, index)).filter((above) => above !== '');
}

function isInside(path: string, above: string): boolean {
  return path.startsWith(above) && /^(\.|\[\])/.test(path.slice(above.length));
}
