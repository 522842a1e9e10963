import { randomUUID } from 'node:crypto';
import { rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import pLimit from 'p-limit';
import { type Cursor, parentOf } from '../collectors/collector.ts';
import { timestampOf } from '../envelope/metadata.ts';
import { asCollectError, CollectError, type Problem, problemOf } from '../errors.ts';
import type { Client, ClientSettings } from '../http/client.ts';
import { systemClock } from '../http/pace.ts';
import type { Json } from '../json.ts';
import type { Log } from '../report/log.ts';
import type { Progress } from '../report/progress.ts';
import type { Dataset } from '../stores/store.ts';
import type { ActiveCollector, Plan, PlannedDataset } from './activate.ts';
import { clientOf, clientSettings } from './client.ts';
import { type Collected, collect, newTally, type Tally } from './collect.ts';
import { deliver, deliverRestored, type OpenStore, openStores } from './deliver.ts';
import { restore } from './restore.ts';
import { selects } from './select.ts';
import { lock, openSpools, type State } from './state.ts';
import { type DatasetResult, type Ending, exitCode, type RunSummary } from './summary.ts';
import { readBaseline, shrinkage, writeBaseline } from './verify.ts';

/** What a run is given beside its plan. */
export interface RunOptions {
  readonly version: string;
  readonly state: State;
  readonly log: Log;
  readonly progress: Progress;
  /** Collectors at once. */
  readonly concurrency: number;
  /** Seconds. */
  readonly deadline: number;
  /** Whether events are read from the start. */
  readonly full: boolean;
  /** Datasets that may shrink this time, as `--only` names them. */
  readonly acceptShrink: readonly string[];
  /** Aborted with a CollectError by a signal. */
  readonly signal: AbortSignal;
  /** The exit code that the signal asks for. */
  readonly signalCode: () => number | undefined;
}

/** A run under way. */
interface Run {
  readonly id: string;
  readonly plan: Plan;
  readonly options: RunOptions;
  readonly stores: readonly OpenStore[];
  readonly client: ClientSettings;
  readonly signal: AbortSignal;
  /** Folder of this run's spools. */
  readonly folder: string;
  readonly problems: Problem[];
  readonly locked: string[];
  /** Datasets whose credentials were refused. */
  readonly refused: Set<string>;
}

/** Carries out a plan: collect, spool, verify, deliver or restore, and tell. Never throws for what a vendor or store does. */
export async function runPlan(plan: Plan, options: RunOptions): Promise<RunSummary> {
  const id = randomUUID();
  const deadline = new AbortController();
  const reached = () =>
    deadline.abort(
      new CollectError('deadline', `the deadline of ${options.deadline} s has passed`, {
        mend: 'run again, or allow more time with --deadline',
      }),
    );
  const timer = setTimeout(reached, Math.min(options.deadline * 1000, 2 ** 31 - 1));
  const folder = await openSpools(options.state, hostname(), id);
  const run: Run = {
    id,
    plan,
    options,
    folder,
    stores: await openStores(plan.stores, {
      tenancy: plan.tenancy,
      at: plan.at,
      warn: (message) => options.log('WARNING', 'store.warning', message),
    }),
    client: clientSettings(plan, { version: options.version, deadline: options.deadline, scratch: folder }),
    signal: AbortSignal.any([options.signal, deadline.signal]),
    problems: [...plan.problems],
    locked: [],
    refused: new Set(),
  };
  try {
    const turn = pLimit(options.concurrency);
    const results = await Promise.all(plan.collectors.map((active) => turn(() => runCollector(run, active))));
    const datasets = results.flat();
    const ending = endingOf(run, datasets, deadline.signal.aborted);
    return {
      run_id: id,
      version: options.version,
      tenancy: plan.tenancy,
      started_at: timestampOf(plan.at),
      finished_at: timestampOf(new Date()),
      exit_code: exitCode(ending, datasets),
      datasets,
      problems: run.problems,
    };
  } finally {
    clearTimeout(timer);
    await Promise.allSettled(run.stores.map(({ sink }) => sink.close?.()));
    await run.client.dispatcher.close().catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  }
}

/** One collector under its lock: every dataset at its own pace, children behind their parents. */
async function runCollector(run: Run, active: ActiveCollector): Promise<readonly DatasetResult[]> {
  const { collector, datasets } = active;
  let release: (() => Promise<void>) | undefined;
  try {
    release = await lock(run.options.state, hostname(), run.plan.tenancy, collector.name);
    const client = clientOf(active, run.client);
    const collected = new Map<string, Promise<Collected>>();
    const results: Promise<DatasetResult | undefined>[] = [];
    for (const dataset of parentsFirst(datasets)) {
      const parent = collected.get(parentOf(dataset.definition) ?? '');
      const { coming, result } = runDataset(run, active, dataset, client, parent);
      collected.set(dataset.resource, coming);
      results.push(result);
    }
    return (await Promise.all(results)).filter((result) => result !== undefined);
  } catch (thrown) {
    const error = asCollectError(thrown);
    if (error.code === 'locked') run.locked.push(collector.name);
    run.problems.push(problemOf(collector.name, error));
    return [];
  } finally {
    await release?.();
  }
}

function parentsFirst(datasets: readonly PlannedDataset[]): readonly PlannedDataset[] {
  const depth = (dataset: PlannedDataset): number => {
    const parent = parentOf(dataset.definition);
    const found = datasets.find(({ resource }) => resource === parent);
    return found === undefined ? 0 : depth(found) + 1;
  };
  return datasets.toSorted((a, b) => depth(a) - depth(b));
}

interface Coming {
  readonly coming: Promise<Collected>;
  /** Undefined for a dataset that is read only for its children. */
  readonly result: Promise<DatasetResult | undefined>;
}

function runDataset(
  run: Run,
  active: ActiveCollector,
  dataset: PlannedDataset,
  client: Client,
  parent: Promise<Collected> | undefined,
): Coming {
  const { signal } = run;
  const tally: Tally = newTally();
  const started = Date.now();
  run.options.progress.begin(dataset.tag, tally);
  const cursor = cursorOf(run, dataset);
  const coming = collect({
    dataset,
    settings: active.settings,
    http: client.http(tally, signal),
    tally,
    signal,
    at: run.plan.at,
    path: `${run.folder}/${dataset.tag}.ndjson`,
    scratch: run.folder,
    parent,
    cursor,
    sleep: (seconds) => systemClock.sleep(seconds * 1000, signal),
    warn: (message) =>
      run.options.log('WARNING', 'dataset.warning', `${dataset.tag}: ${message}`, { tag: dataset.tag }),
  }).catch((thrown): Collected => ({ verdict: 'failed', error: asCollectError(thrown) }));
  const result = coming.then(async (collected) => {
    if (!dataset.stored) {
      run.options.progress.end(dataset.tag, collected.verdict);
      if ('error' in collected) run.problems.push(problemOf(dataset.tag, collected.error));
      return undefined;
    }
    const settled = await settle(run, dataset, collected, tally, started);
    if (settled.stores.every(({ error }) => error === undefined)) await cursor.move();
    run.options.progress.end(dataset.tag, settled.verdict);
    tell(run, settled);
    return settled;
  });
  return { coming, result };
}

/** Reads where an events dataset has come to, and moves it when told to. */
function cursorOf({ plan, options }: Run, { tag }: PlannedDataset): Cursor & { move(): Promise<void> } {
  const place = ['cursors', plan.tenancy, `${tag}.json`];
  let next: Json | undefined;
  return {
    read: async () => (options.full ? undefined : options.state.read<Json>(...place)),
    save: (value) => {
      next = value;
    },
    move: async () => {
      if (next !== undefined) await options.state.write(next, ...place);
    },
  };
}

/** Verify, then deliver what is whole or restore what is not. */
async function settle(
  run: Run,
  dataset: PlannedDataset,
  collected: Collected,
  tally: Tally,
  started: number,
): Promise<DatasetResult> {
  const { plan, options } = run;
  const facts = () => ({
    tag: dataset.tag,
    collector: dataset.collector,
    resource: dataset.resource,
    pages: tally.pages,
    requests: tally.requests,
    retries: tally.retries,
    waited_ms: Math.round(tally.waited_ms),
    duration_ms: Date.now() - started,
    upload_id: dataset.uploadId,
    ...(tally.expected === undefined ? {} : { expected: tally.expected }),
  });
  if ('error' in collected) {
    if (collected.error.code === 'credentials') run.refused.add(dataset.tag);
    if (collected.error.code === 'defect') run.problems.push(problemOf(dataset.tag, collected.error));
    const restored = await fallBack(run, dataset, collected.verdict, collected.error);
    return { ...facts(), records: 0, ...why(collected.error), verdict: collected.verdict, stores: [], ...restored };
  }
  const { spool } = collected;
  if (dataset.kind === 'snapshot') {
    const baseline = await readBaseline(options.state, plan.tenancy, dataset.tag);
    const accepted = options.acceptShrink.some((pattern) => selects(pattern, dataset.collector, dataset.resource));
    const guard = {
      records: plan.program.CYBER_COLLECT_SHRINK_RECORDS,
      percent: plan.program.CYBER_COLLECT_SHRINK_PERCENT,
    };
    const shrunk = accepted ? undefined : shrinkage(spool.records, baseline, guard);
    if (shrunk !== undefined) {
      const aside = await options.state.path('quarantine', plan.tenancy, `${dataset.tag}.ndjson`);
      const restored = await fallBack(run, dataset, 'quarantined', shrunk);
      await rename(spool.path, aside);
      return { ...facts(), records: spool.records, ...why(shrunk), verdict: 'quarantined', stores: [], ...restored };
    }
  }
  const whole = datasetOf(run, dataset, collected);
  // No new events are nothing to add.
  const nothing = dataset.kind === 'events' && spool.records === 0;
  const stores = nothing ? [] : await deliver(whole, run.stores);
  if (stores.some(({ error }) => error === undefined)) {
    const { upload_id, timestamp, records } = whole.metadata;
    await writeBaseline(options.state, plan.tenancy, dataset.tag, { upload_id, timestamp, records });
  }
  return { ...facts(), verdict: collected.verdict, records: spool.records, sha256: spool.sha256, stores };
}

function datasetOf(
  { id, plan, options }: Run,
  dataset: PlannedDataset,
  { spool, expected }: Extract<Collected, { spool: unknown }>,
): Dataset {
  const { tag, kind, collector, resource } = dataset;
  return {
    tag,
    kind,
    id: dataset.id,
    spool,
    metadata: {
      tenancy: plan.tenancy,
      upload_id: dataset.uploadId,
      timestamp: timestampOf(plan.at),
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

/** What the backup makes of a dataset that did not come: the last good copy, or nothing. */
async function fallBack(
  run: Run,
  dataset: PlannedDataset,
  cause: 'failed' | 'denied' | 'quarantined',
  error: CollectError,
): Promise<Partial<DatasetResult>> {
  const { plan } = run;
  if (dataset.kind === 'events' || error.code === 'aborted' || error.code === 'deadline') return {};
  try {
    const names = { uuid: dataset.uploadId, tag: dataset.tag, tenancy: plan.tenancy, at: plan.at };
    const copy = await restore(dataset, run.stores, names, `${run.folder}/${dataset.tag}.restored.ndjson`);
    if (copy === undefined) return {};
    const { records, upload_id, timestamp } = copy.metadata;
    const stores = await deliverRestored(copy, run.stores);
    const age_s = Math.round((plan.at.getTime() - Date.parse(timestamp)) / 1000);
    return { verdict: 'restored', cause, records, upload_id, sha256: copy.spool.sha256, stale: true, age_s, stores };
  } catch (thrown) {
    run.problems.push(
      problemOf(
        `${dataset.tag} backup`,
        thrown instanceof CollectError ? thrown : new CollectError('store', (thrown as Error).message),
      ),
    );
    return {};
  }
}

function why(error: CollectError): { reason: string; title: string; mend?: string } {
  return { reason: error.message, title: error.title, ...(error.mend === undefined ? {} : { mend: error.mend }) };
}

function tell({ options }: Run, result: DatasetResult): void {
  const { tag, verdict, records, reason } = result;
  const facts = { tag, verdict, records, duration_ms: result.duration_ms };
  if (reason === undefined) options.log('INFO', `dataset.${verdict}`, `${tag}: ${verdict}, ${records} records`, facts);
  else {
    const mend = result.mend === undefined ? '' : `. To mend: ${result.mend}`;
    options.log('ERROR', `dataset.${verdict}`, `${tag}: ${verdict}: ${result.title}: ${reason}${mend}`, {
      ...facts,
      reason,
    });
  }
  for (const { store, error, mend } of result.stores) {
    if (error === undefined) continue;
    const message = `${tag}: Storage failed: ${store}: ${error}${mend === undefined ? '' : `. To mend: ${mend}`}`;
    options.log('ERROR', 'store.failed', message, { tag, store });
  }
}

function endingOf(run: Run, datasets: readonly DatasetResult[], deadline: boolean): Ending {
  const refused = run.plan.collectors.filter(({ collector }) => {
    const own = datasets.filter((dataset) => dataset.collector === collector.name);
    return own.length > 0 && own.every(({ tag }) => run.refused.has(tag));
  });
  return {
    signal: run.options.signalCode(),
    deadline,
    defect: run.problems.some(({ severity }) => severity === 'CRITICAL'),
    locked: run.locked.length > 0,
    misconfigured: run.plan.problems.length > 0,
    active: run.plan.collectors.length,
    refused: refused.length,
  };
}
