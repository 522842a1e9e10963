import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Problem } from '../errors.ts';
import { at, isObject, type Json, type JsonObject, numberAt, textAt } from '../json.ts';
import type { State } from '../run/state.ts';
import type { Drift } from './drift.ts';

/** One dataset in one run, as its record tells. */
export interface Moment {
  /** The run's start. */
  readonly at: string;
  readonly verdict: string;
  readonly records: number;
  readonly requests: number;
  readonly retries: number;
  readonly waited_ms: number;
  readonly duration_ms: number;
  /** Whether the vendor's data came whole and at least one store has it. */
  readonly good: boolean;
  /** Whether anything is wrong with it, a store that did not take it included. */
  readonly wrong: boolean;
}

/** What a store did with a dataset. */
export interface Told {
  readonly store: string;
  readonly at: string;
  readonly error?: string;
  readonly mend?: string;
  readonly waits: boolean;
}

/** Fields that changed, and when. */
export interface DriftAt {
  readonly at: string;
  readonly drift: Drift;
}

/** A dataset over the runs that were read. */
export interface DatasetHistory {
  readonly tag: string;
  readonly collector: string;
  readonly resource: string;
  readonly title?: string;
  readonly reason?: string;
  readonly mend?: string;
  readonly stores: readonly Told[];
  /** Oldest first; the last is its newest run. */
  readonly moments: readonly Moment[];
  /** Start of the newest run that brought it whole. */
  readonly goodAt: string | undefined;
  /** Start of the first of the runs, up to the newest, in which something is wrong with it. */
  readonly wrongSince: string | undefined;
  /** Whether a run was read in which nothing is. */
  readonly right: boolean;
  /** Newest first. */
  readonly drifts: readonly DriftAt[];
}

/** A run as such. */
export interface RunFacts {
  readonly run_id: string;
  readonly version: string;
  readonly started_at: string;
  readonly finished_at: string;
  readonly exit_code: number;
  readonly problems: readonly Problem[];
}

/** A file that is not what it should be. */
export interface Unreadable {
  readonly path: string;
  readonly finding: string;
}

/** What the run records of a tenancy tell. */
export interface History {
  /** Records that were read. */
  readonly runs: number;
  /** Whether there are older ones. */
  readonly older: boolean;
  readonly last: RunFacts | undefined;
  readonly datasets: readonly DatasetHistory[];
  readonly unreadable: readonly Unreadable[];
}

/** Records are read from the newest back, up to so many and so much. */
const MOST_RUNS = 5000;
const MOST_BYTES = 64 * 2 ** 20;
const MOST_MOMENTS = 60;
const MOST_DRIFTS = 20;

/** Reads the newest run records of a tenancy. */
export async function readHistory(state: State, tenancy: string): Promise<History> {
  const folder = join(state.folder, 'runs', tenancy);
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.json'));
  const datasets = new Map<string, Gathered>();
  const unreadable: Unreadable[] = [];
  let runs = 0;
  let last: RunFacts | undefined;
  const seen = { files: 0, bytes: 0 };
  for await (const record of recordsBack(folder, names, seen)) {
    if ('finding' in record) {
      unreadable.push(record);
      continue;
    }
    runs += 1;
    last ??= factsOf(record.content);
    for (const dataset of listAt(record.content, 'datasets')) gather(datasets, record.startedAt, dataset);
  }
  return {
    runs,
    older: seen.files < names.length,
    last,
    datasets: [...datasets.values()].map(finished).sort((a, b) => (a.tag < b.tag ? -1 : 1)),
    unreadable,
  };
}

type Read = { readonly content: JsonObject; readonly startedAt: string } | Unreadable;

/** Records from the newest back, those of one second in the order of their chain; counts what it read. */
async function* recordsBack(
  folder: string,
  names: readonly string[],
  seen: { files: number; bytes: number },
): AsyncGenerator<Read> {
  const moments = new Map<string, string[]>();
  for (const name of names.toSorted().reverse()) {
    const moment = /^[\dT-]+Z/.exec(name)?.[0] ?? name;
    moments.set(moment, [...(moments.get(moment) ?? []), name]);
  }
  for (const group of moments.values()) {
    if (seen.files >= MOST_RUNS || seen.bytes > MOST_BYTES) return;
    const records: Read[] = [];
    for (const name of group) {
      const path = join(folder, name);
      seen.files += 1;
      seen.bytes += (await stat(path).catch(() => undefined))?.size ?? 0;
      records.push(await readRecord(path));
    }
    yield* records.sort((a, b) => sequenceIn(b) - sequenceIn(a));
  }
}

function sequenceIn(record: Read): number {
  return 'finding' in record ? 0 : (numberAt(record.content, 'chain.sequence') ?? 0);
}

async function readRecord(path: string): Promise<Read> {
  try {
    const content: unknown = JSON.parse(await readFile(path, 'utf8'));
    const startedAt = textAt(content, 'started_at') ?? '';
    if (isObject(content) && Array.isArray(content.datasets) && !Number.isNaN(Date.parse(startedAt)))
      return { content, startedAt: new Date(startedAt).toISOString().replace('.000Z', 'Z') };
    return { path, finding: 'is no run record' };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return { path, finding: code === undefined ? 'holds no JSON' : `cannot be read (${code})` };
  }
}

function factsOf(content: JsonObject): RunFacts {
  return {
    run_id: textAt(content, 'run_id') ?? '',
    version: textAt(content, 'version') ?? '',
    started_at: textAt(content, 'started_at') ?? '',
    finished_at: textAt(content, 'finished_at') ?? '',
    exit_code: numberAt(content, 'exit_code') ?? 1,
    problems: listAt(content, 'problems').map((problem) => ({
      id: textAt(problem, 'id') ?? '',
      severity:
        at(problem, 'severity') === 'CRITICAL'
          ? 'CRITICAL'
          : at(problem, 'severity') === 'WARNING'
            ? 'WARNING'
            : 'ERROR',
      where: textAt(problem, 'where') ?? '',
      message: textAt(problem, 'message') ?? '',
      mend: textAt(problem, 'mend') ?? '',
    })),
  };
}

/** A dataset while its records are read, from the newest back. */
interface Gathered extends Omit<DatasetHistory, 'moments' | 'goodAt' | 'wrongSince' | 'right' | 'drifts'> {
  readonly moments: Moment[];
  readonly drifts: DriftAt[];
  goodAt: string | undefined;
  wrongSince: string | undefined;
  right: boolean;
}

function gather(datasets: Map<string, Gathered>, startedAt: string, dataset: JsonObject): void {
  const tag = textAt(dataset, 'tag');
  if (tag === undefined) return;
  const found = datasets.get(tag) ?? newest(tag, dataset);
  datasets.set(tag, found);
  const moment = momentOf(startedAt, dataset);
  if (found.moments.length < MOST_MOMENTS) found.moments.push(moment);
  if (moment.good) found.goodAt ??= startedAt;
  if (!moment.wrong) found.right = true;
  else if (!found.right) found.wrongSince = startedAt;
  const drift = driftIn(at(dataset, 'drift'));
  if (drift !== undefined && found.drifts.length < MOST_DRIFTS) found.drifts.push({ at: startedAt, drift });
}

function newest(tag: string, dataset: JsonObject): Gathered {
  const texts = Object.fromEntries(
    ['title', 'reason', 'mend'].flatMap((key) => {
      const text = textAt(dataset, key);
      return text === undefined ? [] : [[key, text]];
    }),
  );
  return {
    tag,
    collector: textAt(dataset, 'collector') ?? '',
    resource: textAt(dataset, 'resource') ?? '',
    ...texts,
    stores: storesOf(dataset),
    moments: [],
    drifts: [],
    goodAt: undefined,
    wrongSince: undefined,
    right: false,
  };
}

function finished({ moments, ...rest }: Gathered): DatasetHistory {
  return { ...rest, moments: moments.toReversed() };
}

function storesOf(dataset: JsonObject): readonly Told[] {
  return listAt(dataset, 'stores').map((store) => {
    const [error, mend] = [textAt(store, 'error'), textAt(store, 'mend')];
    return {
      store: textAt(store, 'store') ?? '',
      at: textAt(store, 'at') ?? '',
      waits: at(store, 'waits') === true,
      ...(error === undefined ? {} : { error }),
      ...(mend === undefined ? {} : { mend }),
    };
  });
}

function momentOf(startedAt: string, dataset: JsonObject): Moment {
  const verdict = textAt(dataset, 'verdict') ?? '';
  const whole = verdict === 'complete' || verdict === 'empty';
  const stores = storesOf(dataset);
  const count = (key: string) => numberAt(dataset, key) ?? 0;
  return {
    at: startedAt,
    verdict,
    records: count('records'),
    requests: count('requests'),
    retries: count('retries'),
    waited_ms: count('waited_ms'),
    duration_ms: count('duration_ms'),
    good: whole && (stores.length === 0 || stores.some(({ error }) => error === undefined)),
    wrong: !whole || stores.some(({ error }) => error !== undefined),
  };
}

function driftIn(value: Json | undefined): Drift | undefined {
  if (!isObject(value)) return undefined;
  const texts = (found: Json | undefined) =>
    Array.isArray(found) ? found.filter((entry) => typeof entry === 'string') : [];
  const retyped = listAt(value, 'retyped').map((one) => ({
    field: textAt(one, 'field') ?? '',
    from: texts(one.from),
    to: texts(one.to),
  }));
  const more = numberAt(value, 'more');
  return {
    new: texts(value.new),
    vanished: texts(value.vanished),
    retyped,
    ...(more === undefined ? {} : { more }),
  };
}

function listAt(value: JsonObject, key: string): readonly JsonObject[] {
  const found = value[key];
  return Array.isArray(found) ? found.filter(isObject) : [];
}
