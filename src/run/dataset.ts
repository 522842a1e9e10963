import { copyFile } from 'node:fs/promises';
import type { Lag } from '../collectors/collector.ts';
import type { Spool } from '../envelope/spool.ts';
import { asCollectError, CollectError, type Problem, problemOf } from '../errors.ts';
import type { Client, ClientSettings } from '../http/client.ts';
import { systemClock } from '../http/pace.ts';
import type { Json } from '../json.ts';
import { type Drift, driftText, observeFields } from '../report/drift.ts';
import type { Log } from '../report/log.ts';
import type { Progress } from '../report/progress.ts';
import type { Redactor } from '../report/redact.ts';
import { type Span, unfollowed } from '../report/trace.ts';
import type { Dataset } from '../stores/store.ts';
import type { ActiveCollector, Plan, PlannedDataset } from './activate.ts';
import { type Collected, collect, collectedFrom, newTally, type SavedCursor, type Tally } from './collect.ts';
import { deliver, deliverRestored, type OpenStore } from './deliver.ts';
import type { Journal } from './journal.ts';
import type { Lock, Locks } from './lock.ts';
import type { Outbox } from './outbox.ts';
import { restore } from './restore.ts';
import { selects } from './select.ts';
import type { State } from './state.ts';
import type { DatasetResult, RunSummary } from './summary.ts';
import { readBaseline, shrinkage, writeBaseline } from './verify.ts';
import type { Work } from './work.ts';

/** What a run is given beside its plan. */
export interface RunOptions {
  readonly version: string;
  readonly state: State;
  readonly locks: Locks;
  readonly log: Log;
  /** Takes secrets out of the run record. */
  readonly redactor: Redactor;
  readonly progress: Progress;
  /** The run, for whoever follows where it spends its time. */
  readonly span?: Span;
  /** Collectors at once. */
  readonly concurrency: number;
  /** Seconds. */
  readonly deadline: number;
  /** Whether events are read from the start. */
  readonly full: boolean;
  /** Seconds within which a run goes on where an interrupted one stopped. */
  readonly resume: number;
  /** Datasets that may shrink this time, as `--only` names them. */
  readonly acceptShrink: readonly string[];
  /** Whether a run that brought nothing, and had nothing to tell, is recorded too; it is unless told. */
  readonly recordsIdle?: boolean;
  /** Whether a run is recorded; each is unless told. */
  readonly recorded?: (summary: RunSummary) => boolean;
  /** Aborted with a CollectError by a signal. */
  readonly signal: AbortSignal;
  /** The exit code that the signal asks for. */
  readonly signalCode: () => number | undefined;
}

/** A run under way. */
export interface Run {
  readonly id: string;
  readonly plan: Plan;
  readonly options: RunOptions;
  readonly stores: readonly OpenStore[];
  readonly outbox: Outbox;
  readonly client: ClientSettings;
  readonly signal: AbortSignal;
  /** Folder of this run's spools. */
  readonly folder: string;
  readonly problems: Problem[];
  readonly locked: string[];
  /** What this run keeps of each collector until it has ended. */
  readonly works: Work[];
  /** Datasets whose credentials were refused. */
  readonly refused: Set<string>;
}

/** A dataset on its way. */
export interface Coming {
  /** What its children wait for. */
  readonly coming: Promise<Collected>;
  /** Undefined for a dataset that is read only for its children. */
  readonly result: Promise<DatasetResult | undefined>;
}

/** What a dataset needs of its collector. */
export interface Means {
  readonly active: ActiveCollector;
  readonly client: Client;
  readonly work: Work;
  /** The collector's, which this run holds. */
  readonly lock: Lock;
  /** What an interrupted run left of this dataset. */
  readonly journal: Journal;
  readonly parent: Promise<Collected> | undefined;
  /** The collector's work. */
  readonly span?: Span;
}

/** The path of one dataset: collect into the spool, verify, then deliver what is whole or restore what is not. */
export function runDataset(run: Run, planned: PlannedDataset, means: Means): Coming {
  const { options } = run;
  const { journal, work } = means;
  const { collector, resource } = planned;
  const span = (means.span ?? unfollowed).begin(`dataset ${planned.tag}`, {
    dataset: planned.tag,
    collector,
    resource,
  });
  const dataset = { ...planned, uploadId: journal.left.upload_id };
  const tally = newTally();
  const started = Date.now();
  const cursor = cursorOf(run, dataset);
  const { whole, result: delivered } = journal.left;
  options.progress.begin(dataset.tag, tally);
  if (delivered !== undefined && whole !== undefined && work.sameStores) {
    options.progress.end(dataset.tag, delivered.verdict);
    tell(options.log, delivered);
    span.end({ verdict: delivered.verdict, records: delivered.records, resumed: true });
    const coming = Promise.resolve(collectedFrom(whole.spool, whole.expected));
    return { coming, result: Promise.resolve({ ...delivered, resumed: true }) };
  }
  const coming = collected(run, dataset, means, { tally, cursor })
    .then((came) => verified(run, dataset, came))
    .then((came) => means.lock.confirm().then(() => came))
    .catch((thrown): Collected => ({ verdict: 'failed', error: asCollectError(thrown) }));
  const result = coming.then(async (came) => {
    if (!dataset.stored) {
      options.progress.end(dataset.tag, came.verdict);
      if ('error' in came) run.problems.push(problemOf(dataset.tag, came.error));
      span.end({ verdict: came.verdict, records: tally.records, requests: tally.requests, stored: false });
      return undefined;
    }
    const outcome =
      'error' in came
        ? await fallBack(run, dataset, came, means.lock)
        : await store(run, dataset, came, { ...means, span });
    const facts = factsOf(dataset, tally, started);
    const resumed = journal.left.mark === undefined && whole === undefined ? {} : { resumed: true as const };
    // What waits in the outbox comes to its store without the vendor.
    const moves = outcome.stores.every(({ error, waits }) => error === undefined || waits === true);
    if (moves) await cursor.move();
    const ended = { ...facts, ...outcome, ...resumed } satisfies DatasetResult;
    const kept = moves && !('error' in came);
    if (kept) journal.result(ended);
    const settled: DatasetResult = { ...ended, ...(await lagOf(run, dataset, tally, kept)) };
    options.progress.end(dataset.tag, settled.verdict);
    tell(options.log, settled);
    endSpan(span, settled);
    return settled;
  });
  return { coming, result };
}

/** How far behind reading is now; what stands in the way of knowing is no fault of the data. */
async function lagOf({ options }: Run, { tag }: PlannedDataset, tally: Tally, moved: boolean) {
  try {
    const lag = await tally.behind?.(moved);
    return lag === undefined ? {} : { lag };
  } catch (thrown) {
    const { message } = asCollectError(thrown);
    options.log('WARNING', 'dataset.warning', `${tag}: how far behind it is was not measured: ${message}`, { tag });
    return {};
  }
}

function endSpan(span: Span, { verdict, records, pages, requests, retries, waited_ms, bytes, reason }: DatasetResult) {
  span.end({ verdict, records, pages, requests, retries, waited_ms, bytes }, reason);
}

async function collected(
  run: Run,
  dataset: PlannedDataset,
  { active, client, work, journal, parent }: Means,
  { tally, cursor }: { readonly tally: Tally; readonly cursor: SavedCursor },
): Promise<Collected> {
  const { signal, folder, options } = run;
  const { tag } = dataset;
  const { whole } = journal.left;
  if (whole !== undefined) {
    cursor.save(whole.cursor ?? null);
    const { pages, expected, left_out = 0 } = whole;
    Object.assign(tally, { pages, records: whole.spool.records, expected, left_out });
    return collectedFrom(whole.spool, whole.expected);
  }
  return collect({
    dataset,
    settings: active.settings,
    http: client.http(tally, signal),
    tally,
    signal,
    at: new Date(journal.left.timestamp),
    path: `${work.folder}/${tag}.ndjson`,
    scratch: folder,
    journal,
    parent,
    cursor,
    sleep: (seconds) => systemClock.sleep(seconds * 1000, signal),
    warn: (message) => options.log('WARNING', 'dataset.warning', `${tag}: ${message}`, { tag }),
  });
}

/** Holds a snapshot against its last good upload: one that lost too much is kept aside. */
async function verified({ plan, options }: Run, dataset: PlannedDataset, came: Collected): Promise<Collected> {
  if ('error' in came || dataset.kind === 'events' || !dataset.stored) return came;
  if (options.acceptShrink.some((pattern) => selects(pattern, dataset.collector, dataset.resource))) return came;
  const { CYBER_COLLECT_SHRINK_RECORDS: records, CYBER_COLLECT_SHRINK_PERCENT: percent } = plan.program;
  const baseline = await readBaseline(options.state, plan.tenancy, dataset.tag);
  const shrunk = shrinkage(came.spool.records, baseline, { records, percent });
  if (shrunk === undefined) return came;
  await copyFile(came.spool.path, await options.state.path('quarantine', plan.tenancy, `${dataset.tag}.ndjson`));
  return { verdict: 'quarantined', error: shrunk, records: came.spool.records };
}

type Outcome = Pick<DatasetResult, 'verdict' | 'records' | 'stores' | 'upload_id'> & Partial<DatasetResult>;

/** Delivers a whole dataset, and remembers it as the last good one. */
async function store(
  run: Run,
  dataset: PlannedDataset,
  came: Extract<Collected, { spool: unknown }>,
  means: Means,
): Promise<Outcome> {
  const { plan, options } = run;
  const { verdict, spool } = came;
  const whole = datasetOf(run, dataset, came, means);
  // No new events are nothing to add.
  const nothing = dataset.kind === 'events' && spool.records === 0;
  const to = { ...run, span: means.span };
  const [stores, drift] = await Promise.all([nothing ? [] : deliver(whole, to), driftOf(run, dataset, spool)]);
  const { upload_id, timestamp, records } = whole.metadata;
  if (stores.some(({ error }) => error === undefined)) {
    await writeBaseline(options.state, plan.tenancy, dataset.tag, { upload_id, timestamp, records });
  }
  return { verdict, records, sha256: spool.sha256, upload_id, stores, ...(drift === undefined ? {} : { drift }) };
}

/** How the fields differ from the last good upload's; what stands in the way of knowing is no fault of the data. */
async function driftOf(
  { plan: { tenancy }, options }: Run,
  { tag, kind }: PlannedDataset,
  spool: Spool,
): Promise<Drift | undefined> {
  try {
    return await observeFields(options.state, { tenancy, tag, kind }, spool);
  } catch (thrown) {
    options.log('WARNING', 'dataset.warning', `${tag}: its fields were not compared: ${(thrown as Error).message}`, {
      tag,
    });
    return undefined;
  }
}

/** What the backup makes of a dataset that did not come whole: the last good copy, or nothing. */
async function fallBack(
  run: Run,
  dataset: PlannedDataset,
  came: Extract<Collected, { error: unknown }>,
  lock: Lock,
): Promise<Outcome> {
  const { error, verdict } = came;
  if (error.code === 'credentials') run.refused.add(dataset.tag);
  if (error.code === 'locked') run.locked.push(dataset.collector);
  if (error.code === 'defect') run.problems.push(problemOf(dataset.tag, error));
  const why = { reason: error.message, title: error.title, ...(error.mend === undefined ? {} : { mend: error.mend }) };
  const lost = { ...why, verdict, records: came.records ?? 0, upload_id: dataset.uploadId, stores: [] };
  if (dataset.kind === 'events' || ['aborted', 'deadline', 'locked'].includes(error.code)) return lost;
  try {
    const { plan } = run;
    const names = { uuid: dataset.uploadId, tag: dataset.tag, tenancy: plan.tenancy, at: plan.at };
    const copy = await restore(dataset, run.stores, names, `${run.folder}/${dataset.tag}.restored.ndjson`);
    if (copy === undefined) return lost;
    const { records, upload_id, timestamp } = copy.metadata;
    const stores = await deliverRestored({ ...copy, confirm: () => lock.confirm() }, run.stores);
    const age_s = Math.round((plan.at.getTime() - Date.parse(timestamp)) / 1000);
    const restored = { records, upload_id, sha256: copy.spool.sha256, stale: true, age_s, stores } as const;
    return { ...why, ...restored, verdict: 'restored', cause: verdict };
  } catch (thrown) {
    const known = thrown instanceof CollectError ? thrown : new CollectError('store', (thrown as Error).message);
    run.problems.push(problemOf(`${dataset.tag} backup`, known));
    return lost;
  }
}

function datasetOf(
  { id, plan, options }: Run,
  dataset: PlannedDataset,
  { spool, expected }: Extract<Collected, { spool: unknown }>,
  { journal, lock }: Means,
): Dataset {
  const { tag, kind, collector, resource } = dataset;
  return {
    tag,
    kind,
    id: dataset.id,
    spool,
    confirm: () => lock.confirm(),
    metadata: {
      tenancy: plan.tenancy,
      upload_id: dataset.uploadId,
      timestamp: journal.left.timestamp,
      tag,
      records: spool.records,
      collector,
      resource,
      run_id: id,
      version: options.version,
      ...(expected === undefined ? {} : { expected }),
      sha256: spool.sha256,
    },
  };
}

function factsOf(dataset: PlannedDataset, tally: Tally, started: number) {
  return {
    tag: dataset.tag,
    collector: dataset.collector,
    resource: dataset.resource,
    pages: tally.pages,
    requests: tally.requests,
    retries: tally.retries,
    waited_ms: Math.round(tally.waited_ms),
    bytes: tally.bytes,
    duration_ms: Date.now() - started,
    ...(tally.expected === undefined ? {} : { expected: tally.expected }),
    ...(tally.left_out === 0 ? {} : { left_out: tally.left_out }),
  };
}

/** Reads where an events dataset has come to, and moves it when told to. */
function cursorOf({ plan, options }: Run, { tag }: PlannedDataset): SavedCursor & { move(): Promise<void> } {
  const place = ['cursors', plan.tenancy, `${tag}.json`];
  let next: Json = null;
  return {
    read: async () => (options.full ? undefined : options.state.read<Json>(...place)),
    save: (value) => {
      next = value;
    },
    saved: () => next,
    move: async () => {
      if (next !== null) await options.state.write(next, ...place);
    },
  };
}

function lagText(tag: string, { bytes, lines, seconds }: Lag): string {
  const counted = lines === undefined ? '' : `, ${lines} lines`;
  return `${tag}: ${bytes} bytes${counted}${seconds === undefined ? '' : `, ${seconds} s`} behind`;
}

function tell(log: Log, result: DatasetResult): void {
  const { tag, verdict, records, reason } = result;
  const { left_out = 0, lag } = result;
  const without = left_out === 0 ? '' : `, ${left_out} left out by the settings`;
  const facts = { tag, verdict, records, duration_ms: result.duration_ms, ...(left_out === 0 ? {} : { left_out }) };
  if (reason === undefined)
    log('INFO', `dataset.${verdict}`, `${tag}: ${verdict}, ${records} records${without}`, facts);
  else {
    const mend = result.mend === undefined ? '' : `. To mend: ${result.mend}`;
    log('ERROR', `dataset.${verdict}`, `${tag}: ${verdict}: ${result.title}: ${reason}${mend}`, {
      ...facts,
      reason,
    });
  }
  if (lag !== undefined) log(lag.bytes > 0 ? 'INFO' : 'DEBUG', 'dataset.lag', lagText(tag, lag), { tag, ...lag });
  if (result.drift !== undefined) {
    log('WARNING', 'dataset.drift', `${tag}: fields changed: ${driftText(result.drift)}`, { tag, drift: result.drift });
  }
  for (const { store, error, mend } of result.stores) {
    if (error === undefined) continue;
    const message = `${tag}: Storage failed: ${store}: ${error}${mend === undefined ? '' : `. To mend: ${mend}`}`;
    log('ERROR', 'store.failed', message, { tag, store });
  }
}
