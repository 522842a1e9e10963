import { createHash, randomUUID } from 'node:crypto';
import { readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Alert, type Counts, findIn, type Search } from '../detect/alerts.ts';
import type { Piece, Source } from '../detect/source.ts';
import { openTold, type Telling } from '../detect/told.ts';
import { timestampOf } from '../envelope/metadata.ts';
import { type Spool, SpoolWriter, spoolRecords } from '../envelope/spool.ts';
import { asCollectError, CollectError, type Problem, problemOf } from '../errors.ts';
import type { Json } from '../json.ts';
import { type Detections, newTally, type Tally, type Window, withWindow } from '../report/detected.ts';
import type { Log } from '../report/log.ts';
import type { Dataset } from '../stores/store.ts';
import type { ActiveStore } from './activate.ts';
import { type Delivery, deliver, type OpenStore, openStores } from './deliver.ts';
import type { Lock, Locks } from './lock.ts';
import type { Outbox } from './outbox.ts';
import type { State } from './state.ts';

/** What detecting needs. */
export interface DetectOptions {
  readonly source: Source;
  readonly search: Search;
  readonly stores: readonly ActiveStore[];
  readonly outbox: Outbox;
  readonly tenancy: string;
  readonly at: Date;
  /** Whether the source is read from its start. */
  readonly full: boolean;
  /** Seconds that the first event of a live source waits for others. */
  readonly seconds: number;
  /** Told of the alerts of a live source as they are stored. */
  readonly raised: (window: Pick<Detected, 'events' | 'alerts' | 'by'>) => Promise<void>;
  readonly version: string;
  readonly state: State;
  readonly locks: Locks;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** What came of it. */
export interface Detected {
  readonly run_id: string;
  readonly source: string;
  events: number;
  alerts: number;
  readonly counts: Counts;
  /** What could not be read. */
  readonly problems: Problem[];
  /** What stores did not take: it waits in the outbox. */
  readonly stores: Delivery[];
  /** The indicators and rules that were found most. */
  by: Detections['by'];
}

/** A dataset as it lies on disk. */
type Kept = Omit<Dataset, 'confirm'>;

/** What was found, and how far: written before any store sees it, so that whoever goes on writes the same uploads. */
interface Pending {
  readonly position: Json;
  readonly datasets: readonly Kept[];
  readonly window: Window;
  readonly folder: string;
}

interface Run {
  readonly options: DetectOptions;
  readonly detected: Detected;
  readonly lock: Lock;
  readonly stores: readonly OpenStore[];
  readonly told: Telling;
  /** Folder of this source. */
  readonly home: string;
  /** What tells the source from others in names of files. */
  readonly place: string;
}

/** Alerts after which a window is stored. */
const MOST_ALERTS = 50_000;
/** Milliseconds that stores are given at the end of a stream. */
const LAST_MS = 4000;
const MOST_BYTES = 4 * 2 ** 30;

/**
 * Reads what is new of a source and stores alerts and counts, window by window. The position moves once every store has
 * them, or the outbox; a window that was cut off in between is stored as the same uploads by whoever comes next.
 */
export async function detect(options: DetectOptions): Promise<Detected> {
  const { source, state, locks, tenancy, at, log } = options;
  const place = createHash('sha256').update(source.place).digest('hex').slice(0, 16);
  const lock = await locks.take(tenancy, `detect-${place}`);
  const warn = (message: string) => log('WARNING', 'store.warning', message);
  let stores: readonly OpenStore[] = [];
  try {
    const home = join(state.folder, 'detect', tenancy, place);
    await state.path('detect', tenancy, place, 'pending.json');
    stores = await openStores(options.stores, { tenancy, at, warn }, options.outbox);
    await Promise.all(stores.map(({ caughtUp }) => caughtUp));
    const told = await openTold(join(state.folder, 'detect', tenancy, 'told'));
    const detected: Detected = {
      ...{ run_id: randomUUID(), source: source.place, events: 0, alerts: 0, counts: {} },
      ...{ problems: [], stores: [], by: [] },
    };
    const run: Run = { options, detected, lock, stores, told, home, place };
    await goOn(run);
    await windows(run);
    return detected;
  } finally {
    await Promise.allSettled([...stores.map(({ sink }) => sink.close?.()), source.close?.()]);
    await lock.release();
  }
}

/** Stores what a run that was cut off had found, and sweeps what it had not come to. */
async function goOn(run: Run): Promise<void> {
  const { options, home } = run;
  const { tenancy, state } = options;
  const pending = await state.read<Pending>('detect', tenancy, run.place, 'pending.json');
  if (pending !== undefined) await carryOut(run, pending);
  for (const name of await readdir(home)) {
    if (name.startsWith('window-')) await rm(join(home, name), { recursive: true, force: true });
  }
}

async function windows(run: Run): Promise<void> {
  const { options, detected, home } = run;
  const { source, state, tenancy, full, signal, log } = options;
  const saved = full ? undefined : await state.read<Json>('cursors', tenancy, `detect-${run.place}.json`);
  const pieces = source.read(saved ?? undefined, {
    signal,
    scratch: home,
    failed: (where, thrown) => detected.problems.push(problemOf(where, unlessDefect(thrown))),
    warn: (message) => log('WARNING', 'detect.warning', message),
  });
  try {
    let coming: Next | undefined;
    for (let ended = false; !ended; ) {
      const folder = join(home, `window-${randomUUID()}`);
      const draft = await newDraft(folder);
      let isSealed = false;
      try {
        const reached = await fill(run, draft, { pieces, coming });
        ended = reached.ended;
        coming = reached.coming;
        const pending = await sealed(run, draft, reached.position);
        isSealed = pending !== undefined;
        if (pending !== undefined) await carryOut(run, pending);
      } finally {
        await draft.alerts.abort();
        if (!isSealed) await rm(folder, { recursive: true, force: true });
      }
    }
  } finally {
    // A stream that waits for more would keep us waiting, too.
    if (!source.live) await pieces.return(undefined);
  }
}

function unlessDefect(thrown: unknown): unknown {
  const error = asCollectError(thrown);
  const { code, message } = thrown as NodeJS.ErrnoException;
  if (error.code !== 'defect' || typeof code !== 'string') return error;
  return new CollectError('incomplete', message, { mend: 'run again; leave it out if it stays so' });
}

/** A window on its way. */
interface Draft {
  readonly folder: string;
  readonly at: string;
  readonly alerts: SpoolWriter;
  readonly tally: Tally;
  readonly counts: Counts;
  events: number;
  found: number;
  bytes: number;
}

async function newDraft(folder: string): Promise<Draft> {
  const at = timestampOf(new Date());
  const alerts = await SpoolWriter.create(join(folder, 'alerts.ndjson'));
  return { folder, at, alerts, tally: newTally(at), counts: {}, events: 0, found: 0, bytes: 0 };
}

type Pieces = AsyncGenerator<Piece, Json | undefined>;
type Next = Promise<IteratorResult<Piece, Json | undefined>>;

/** What comes next; that it fails is told when it is waited for. */
function begun(pieces: Pieces): Next {
  const next = pieces.next();
  next.catch(() => undefined);
  return next;
}

interface Reached {
  readonly position: Json | undefined;
  readonly ended: boolean;
  /** What a live source was asked for, and has not brought yet. */
  readonly coming: Next | undefined;
}

/** Fills a window until it is full, or the source has no more; a live one until its time is over, too. */
async function fill(
  run: Run,
  draft: Draft,
  { pieces, coming }: { readonly pieces: Pieces; readonly coming: Next | undefined },
) {
  const { source, search, seconds, signal } = run.options;
  let next = coming;
  let until: Promise<'over'> | undefined;
  const timer = new AbortController();
  const reached = (position: Json | undefined, ended: boolean): Reached => ({ position, ended, coming: next });
  try {
    for (;;) {
      next ??= begun(pieces);
      const result = await (source.live ? firstOf(next, until, signal) : next);
      if (result === 'stopped') return reached(null, true);
      if (result === 'over') return reached(null, false);
      if (result.done === true) return reached(result.value, true);
      until ??= source.live ? elapsed(seconds, timer.signal) : undefined;
      const piece = result.value;
      await take(run, draft, search, piece);
      const isFull = draft.found >= MOST_ALERTS || draft.bytes >= MOST_BYTES;
      const position = isFull ? await piece.position() : undefined;
      next = undefined;
      if (position !== undefined) return reached(position, false);
    }
  } finally {
    timer.abort();
  }
}

/** What comes, that time is over, or a signal: whose listener goes again, as a stream may bring millions. */
function firstOf(next: Next, until: Promise<'over'> | undefined, signal: AbortSignal) {
  return new Promise<Awaited<Next> | 'over' | 'stopped'>((resolve, reject) => {
    const stop = () => resolve('stopped');
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop);
    Promise.race(until === undefined ? [next] : [next, until])
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', stop));
  });
}

async function elapsed(seconds: number, signal: AbortSignal): Promise<'over'> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
  return 'over';
}

async function take({ told }: Run, draft: Draft, search: Search, piece: Piece): Promise<void> {
  const { events, alerts } = findIn(piece, search, told, draft.counts);
  draft.events += events;
  draft.found += alerts.length;
  draft.bytes += piece.lines.length;
  for (const alert of alerts) {
    draft.tally.add(alert);
    await draft.alerts.write([Buffer.from(`${JSON.stringify(alert)}\n`)]);
  }
}

/** Writes down what was found and how far, whole; undefined where nothing was read. */
async function sealed(run: Run, draft: Draft, position: Json | undefined): Promise<Pending | undefined> {
  const { options, home, place } = run;
  const { folder, at, events, found, counts, tally } = draft;
  if (position === undefined && events === 0 && found === 0) return undefined;
  const alerts = await draft.alerts.finish(found);
  const id = idFrom(place, alerts.sha256, JSON.stringify(position ?? null), at);
  const row = { id, ...counts, events, alerts: found, source: options.source.place, date: at };
  const writer = await SpoolWriter.create(join(folder, 'metrics.ndjson'));
  await writer.write([Buffer.from(`${JSON.stringify(row)}\n`)]);
  const metrics = await writer.finish(1);
  const window = { id, at, events, alerts: found, counts, by: tally.by(), newest: tally.newest() };
  const datasets = [
    ...(found > 0 ? [keptOf(run, 'alerts', ['alert_id'], alerts, at)] : []),
    ...(events > 0 ? [keptOf(run, 'metrics', ['id'], metrics, at)] : []),
  ];
  const pending: Pending = { position: position ?? null, datasets, window, folder };
  const path = join(home, 'pending.json');
  await writeFile(`${path}.tmp`, JSON.stringify(pending), { mode: 0o600 });
  await rename(`${path}.tmp`, path);
  return pending;
}

/** An upload is known by what is in it: the same alerts again are the same upload. */
function keptOf({ options, detected }: Run, resource: string, id: readonly string[], spool: Spool, at: string): Kept {
  const { tenancy, version } = options;
  const { records, sha256 } = spool;
  const tag = `syslog_${resource}`;
  const upload_id = idFrom(tenancy, tag, sha256);
  const origin = { collector: 'detect', resource, run_id: detected.run_id, version };
  const metadata = { tenancy, upload_id, timestamp: at, tag, records, ...origin, sha256 };
  return { tag, kind: 'events', id, spool, metadata };
}

/** A UUID that is a hash. */
function idFrom(...parts: readonly string[]): string {
  const hash = createHash('sha256').update(parts.join('\n')).digest('hex');
  return [
    hash.slice(0, 8),
    hash.slice(8, 12),
    `8${hash.slice(13, 16)}`,
    `8${hash.slice(17, 20)}`,
    hash.slice(20, 32),
  ].join('-');
}

/** Writes a window to every store; then it is remembered, and the position moves. */
async function carryOut(run: Run, { position, datasets, window, folder }: Pending): Promise<void> {
  const { options, detected, stores, lock, told, home, place } = run;
  const { source, state, tenancy, outbox, log } = options;
  // What a stream has brought does not come again, so it is stored though the end is near.
  const signal = options.signal.aborted ? AbortSignal.timeout(LAST_MS) : options.signal;
  for (const kept of datasets) {
    const dataset: Dataset = { ...kept, confirm: () => lock.confirm() };
    const deliveries = await deliver(dataset, { stores, outbox, signal });
    const failed = deliveries.filter(({ error }) => error !== undefined);
    detected.stores.push(...failed);
    for (const { store, error } of failed) {
      log('ERROR', 'store.failed', `${kept.tag}: Storage failed: ${store}: ${error}`, { tag: kept.tag, store });
    }
    const lost = failed.find(({ waits }) => waits !== true);
    if (lost !== undefined) throw new CollectError('store', `${lost.store}: ${lost.error}`, { mend: 'run again' });
    if (dataset.tag === 'syslog_alerts') await told.keep(idsIn(dataset.spool));
  }
  const summary = ['detect', tenancy, place, 'summary.json'];
  await state.write(withWindow(await state.read<Detections>(...summary), window), ...summary);
  await state.write(position, 'cursors', tenancy, `detect-${place}.json`);
  await rm(join(home, 'pending.json'));
  await rm(folder, { recursive: true, force: true });
  add(detected, window);
  if (source.live && window.alerts > 0) await options.raised(window);
  log('INFO', 'detect.stored', `${window.alerts} alerts in ${window.events} events`, { alerts: window.alerts });
}

function add(detected: Detected, window: Window): void {
  detected.events += window.events;
  detected.alerts += window.alerts;
  for (const [name, count] of Object.entries(window.counts)) {
    detected.counts[name] = (detected.counts[name] ?? 0) + count;
  }
  const known = { at: '', last: '', by: detected.by, newest: [], days: [] };
  detected.by = withWindow(known, window).by;
}

async function* idsIn(spool: Spool): AsyncGenerator<string> {
  for await (const record of spoolRecords(spool)) yield (JSON.parse(record.toString('utf8')) as Alert).alert_id;
}
