import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { parentOf } from '../collectors/collector.ts';
import { timestampOf } from '../envelope/metadata.ts';
import { asCollectError, CollectError, problemOf } from '../errors.ts';
import { systemClock } from '../http/pace.ts';
import { appendRunRecord, type Head } from '../report/audit.ts';
import { keepStanding, readStanding } from '../report/standing.ts';
import { unfollowed } from '../report/trace.ts';
import type { OpenContext } from '../stores/store.ts';
import type { ActiveCollector, Plan, PlannedDataset } from './activate.ts';
import { clientOf, clientSettings } from './client.ts';
import type { Collected } from './collect.ts';
import { type Run, type RunOptions, runDataset } from './dataset.ts';
import { type OpenStore, openStores } from './deliver.ts';
import { Journal, type Left } from './journal.ts';
import type { Lock } from './lock.ts';
import { openOutbox } from './outbox.ts';
import { isUnderWay, openRunFolder } from './state.ts';
import { type DatasetResult, type Ending, exitCode, isIdle, type RunSummary, type StoreResult } from './summary.ts';
import { openWork, type Work } from './work.ts';

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
  const folder = await openRunFolder(options.state, hostname(), id);
  const outbox = openOutbox(options.state, plan.tenancy, plan.program.CYBER_COLLECT_OUTBOX_MIB * 2 ** 20);
  const run: Run = {
    id,
    plan,
    options,
    folder: folder.path,
    outbox,
    stores: await openStores(plan.stores, contextOf(plan, options.log), outbox),
    client: clientSettings(plan, { version: options.version, deadline: options.deadline, scratch: folder.path }),
    signal: AbortSignal.any([options.signal, deadline.signal]),
    problems: [...plan.problems],
    locked: [],
    works: [],
    refused: new Set(),
  };
  try {
    const turn = pLimit(options.concurrency);
    const results = await Promise.all(plan.collectors.map((active) => turn(() => runCollector(run, active))));
    const datasets = results.flat();
    const behind = await Promise.all(run.stores.map((store) => behindOf(run, store)));
    const ending = endingOf(run, datasets, deadline.signal.aborted);
    const summary: RunSummary = {
      run_id: id,
      version: options.version,
      tenancy: plan.tenancy,
      started_at: timestampOf(plan.at),
      finished_at: timestampOf(new Date()),
      exit_code: exitCode({ ...ending, behind: behind.some(({ uploads }) => uploads > 0) }, datasets),
      datasets,
      stores: behind,
      problems: run.problems,
    };
    const idle = options.recordsIdle === false && isIdle(summary);
    if (idle || options.recorded?.(summary) === false) {
      await keepMended(run, summary);
      return summary;
    }
    return { ...summary, head: await keepRecord(run, summary) };
  } finally {
    clearTimeout(timer);
    if (run.signal.aborted) void run.client.dispatcher.destroy();
    else await run.client.dispatcher.close().catch(() => undefined);
    const closed = Promise.allSettled(run.stores.map(({ sink }) => sink.close?.()));
    await (run.signal.aborted ? Promise.race([closed, systemClock.sleep(CLOSE_GRACE)]) : closed);
    if (!run.signal.aborted) await Promise.all(run.works.map((work) => forget(run, work)));
    await folder.remove();
  }
}

/** Milliseconds that stores are given to close in a run that was told to stop. */
const CLOSE_GRACE = 500;

/** What a store may know of the run. */
function contextOf({ tenancy, at }: Plan, log: RunOptions['log']): OpenContext {
  return { tenancy, at, warn: (message) => log('WARNING', 'store.warning', message) };
}

/** How far a store is behind, now that the run has come to its end. */
async function behindOf({ outbox, signal, options }: Run, store: OpenStore): Promise<StoreResult> {
  const { name, caughtUp } = store;
  const { delivered, error } = signal.aborted ? { delivered: 0, error: undefined } : await caughtUp;
  if (delivered > 0) options.log('INFO', 'store.caught-up', `${name}: ${delivered} uploads of earlier runs delivered`);
  const uploads = (await outbox.waiting(name)).length;
  return { store: name, uploads, ...(error === undefined ? {} : { error: error.message }) };
}

/** Removes the work of a collector; one that another run has locked meanwhile is that run's to remove. */
async function forget({ plan, options }: Run, work: Work): Promise<void> {
  const lock = await options.locks.take(plan.tenancy, work.collector).catch(() => undefined);
  if (lock === undefined) return;
  await work.remove().finally(() => lock.release());
}

/** A run that is not recorded may still be the one behind which nothing is wrong any more. */
async function keepMended({ options }: Run, summary: RunSummary): Promise<void> {
  const { wrong } = await readStanding(options.state, summary.tenancy);
  if (Object.keys(wrong).length > 0) await underChain(options, summary, () => keepStanding(options.state, summary));
}

/** Appends the run's record to the chain, and tells the backups of its head. */
function keepRecord(run: Run, summary: RunSummary): Promise<Head> {
  const { state, redactor, log } = run.options;
  return underChain(run.options, summary, async () => {
    const head = await appendRunRecord(state, summary, redactor);
    await keepStanding(state, summary);
    for (const { name, sink } of run.stores) {
      await sink.backup?.note(HEAD_NOTE, JSON.stringify(head)).catch((error: Error) => {
        log('WARNING', 'store.warning', `${name}: the head of the run records was not kept: ${error.message}`);
      });
    }
    return head;
  });
}

async function underChain<T>({ locks }: RunOptions, { tenancy }: RunSummary, work: () => Promise<T>): Promise<T> {
  const lock = await inTurn(() => locks.take(tenancy, 'chain'));
  try {
    return await work();
  } finally {
    await lock.release();
  }
}

const HEAD_NOTE = 'cyber_collect_head';
const TURNS = 100;
const TURN_MS = 100;

/** A lock that others hold for a moment only. */
async function inTurn(take: () => Promise<Lock>): Promise<Lock> {
  for (let turn = 1; ; turn += 1) {
    try {
      return await take();
    } catch (error) {
      if (turn === TURNS || asCollectError(error).code !== 'locked') throw error;
      await systemClock.sleep(TURN_MS);
    }
  }
}

/** One collector under its lock: every dataset at its own pace, children behind their parents. */
async function runCollector(run: Run, active: ActiveCollector): Promise<readonly DatasetResult[]> {
  const { collector, datasets } = active;
  const span = (run.options.span ?? unfollowed).begin(`collector ${collector.name}`, { collector: collector.name });
  let held: Lock | undefined;
  let fault: string | undefined;
  try {
    const lock = await run.options.locks.take(run.plan.tenancy, collector.name);
    held = lock;
    const client = clientOf(active, run.client, run.plan);
    const work = await workOf(run, active);
    const collected = new Map<string, Promise<Collected>>();
    const results: Promise<DatasetResult | undefined>[] = [];
    for (const dataset of parentsFirst(datasets)) {
      const parent = collected.get(parentOf(dataset.definition) ?? '');
      const upload = { upload_id: dataset.uploadId, timestamp: timestampOf(run.plan.at) };
      // A store may have events whose place was not kept yet: read again, they would come under another name.
      const useful = ({ whole, upload_id }: Left) =>
        (dataset.kind === 'events' && whole !== undefined) ||
        (work.useful && (run.plan.slot === undefined || upload_id === dataset.uploadId));
      const journal = await Journal.open(join(work.folder, `${dataset.tag}.journal`), upload, useful);
      const { coming, result } = runDataset(run, dataset, { active, client, work, lock, journal, parent, span });
      collected.set(dataset.resource, coming);
      results.push(result.finally(() => journal.close()));
    }
    return (await Promise.all(results)).filter((result) => result !== undefined);
  } catch (thrown) {
    const error = asCollectError(thrown);
    if (error.code === 'locked') run.locked.push(collector.name);
    run.problems.push(problemOf(collector.name, error));
    fault = error.message;
    return [];
  } finally {
    span.end({}, fault);
    await held?.release();
  }
}

async function workOf(run: Run, active: ActiveCollector): Promise<Work> {
  const { plan, options } = run;
  const work = await openWork({
    state: options.state,
    tenancy: plan.tenancy,
    active,
    stores: plan.stores,
    version: options.version,
    runId: run.id,
    at: plan.at,
    lives: options.resume,
    isUnderWay: (id) => isUnderWay(options.state, id),
  });
  run.works.push(work);
  return work;
}

function parentsFirst(datasets: readonly PlannedDataset[]): readonly PlannedDataset[] {
  const depth = (dataset: PlannedDataset): number => {
    const parent = parentOf(dataset.definition);
    const found = datasets.find(({ resource }) => resource === parent);
    return found === undefined ? 0 : depth(found) + 1;
  };
  return datasets.toSorted((a, b) => depth(a) - depth(b));
}

function endingOf(run: Run, datasets: readonly DatasetResult[], deadline: boolean): Omit<Ending, 'behind'> {
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
