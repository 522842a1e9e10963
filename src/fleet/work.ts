import type { Job, Worker } from 'bullmq';
import pLimit from 'p-limit';
import { CollectError } from '../errors.ts';
import { systemClock } from '../http/pace.ts';
import type { Log } from '../report/log.ts';
import { type Ended, runChild } from '../run/child.ts';
import type { RunSummary } from '../run/summary.ts';
import type { Tenant } from '../run/tenants.ts';
import { type Broker, JOB, type Payload, payload } from './queue.ts';

/** What a worker does. */
export interface WorkOptions {
  /** Collectors whose queues it takes from. */
  readonly collectors: readonly string[];
  /** Finds a tenant whose file is here. */
  readonly tenant: (tenancy: string) => Promise<Tenant | undefined>;
  /** What each run's process is given, and the flags of each. */
  readonly env: Readonly<Record<string, string>>;
  readonly args: readonly string[];
  /** Runs at once. */
  readonly jobs: number;
  /** Seconds that runs are given to end once a signal has come. */
  readonly grace: number;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Seconds without a run after which it ends; never unless told. */
  readonly idle?: number | undefined;
}

/** Long enough for a pause of the machine, short enough that another goes on soon. */
const TUNING = { lockDuration: 30_000, stalledInterval: 15_000, maxStalledCount: 10 };
/** Milliseconds until a run that another one keeps out is tried again. */
const LATER = 30_000;

/** Milliseconds that the queue is given to take leave of a worker whose runs have ended. */
const LEAVE = 10_000;

const EVENTS = { done: 'fleet.done', again: 'fleet.again', later: 'fleet.later', dead: 'fleet.dead' } as const;

/**
 * Takes runs from the queues, each in a process of its own, until a signal; then lets those under way end.
 * @returns whether all was handed back to the queue; what was not comes back when its lock has run out
 */
export async function work(broker: Broker, options: WorkOptions): Promise<boolean> {
  const { collectors, jobs, log, signal, idle } = options;
  const { UnrecoverableError, DelayedError } = await import('bullmq');
  const turn = pLimit(jobs);
  const stopping = new AbortController();
  let last = Date.now();
  let busy = 0;
  const process = async (job: Job<Payload>, token?: string) => {
    busy += 1;
    try {
      const verdict = await turn(() => runJob(job, options, stopping.signal));
      log(verdict.end === 'done' ? 'INFO' : 'WARNING', EVENTS[verdict.end], `${nameOf(job)}: ${verdict.said}`);
      if (verdict.end === 'dead') throw new UnrecoverableError(verdict.said);
      if (verdict.end === 'later') {
        await job.moveToDelayed(Date.now() + LATER, token);
        throw new DelayedError();
      }
      if (verdict.end === 'again') throw new Error(verdict.said);
      return verdict.said;
    } finally {
      busy -= 1;
      last = Date.now();
    }
  };
  const [first = ''] = collectors;
  await broker.over(first, async () => undefined); // says so when it is away
  const each = Math.max(1, Math.ceil(jobs / collectors.length));
  const workers: Worker<Payload>[] = [];
  for (const collector of collectors) {
    const worker = broker.worker(collector, process, { ...TUNING, concurrency: each });
    worker.on('error', (error) =>
      log('WARNING', 'fleet.queue', `the queue: ${(error as NodeJS.ErrnoException).code ?? error.name}`),
    );
    workers.push(worker);
  }
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
    if (signal.aborted) resolve();
    if (idle === undefined) return;
    const timer = setInterval(() => {
      if (busy > 0 || Date.now() - last < idle * 1000) return;
      clearInterval(timer);
      resolve();
    }, 200);
    signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  });
  const timer = setTimeout(() => stopping.abort(), options.grace * 1000);
  const closed = Promise.all(workers.map((worker) => worker.close())).then(() => true);
  const left = new AbortController();
  const late = systemClock.sleep(options.grace * 1000 + LEAVE, left.signal).then(
    () => false,
    () => true,
  );
  return Promise.race([closed, late]).finally(() => {
    clearTimeout(timer);
    left.abort();
  });
}

function nameOf({ data }: Job<Payload>): string {
  return `${data.tenancy} ${data.collector} ${data.slot}`;
}

/** What the queue is to make of a run: `again` counts an attempt, `later` none; a `dead` one waits for a person. */
export interface Verdict {
  readonly end: 'done' | 'again' | 'later' | 'dead';
  /** Codes, counts and names of datasets: it is kept in the queue, where nothing secret may be. */
  readonly said: string;
}

async function runJob(job: Job<Payload>, options: WorkOptions, signal: AbortSignal): Promise<Verdict> {
  if (job.name !== JOB) return { end: 'later', said: `it is a ${job.name}, which workers of another version do` };
  const parsed = payload.safeParse(job.data);
  if (!parsed.success) return { end: 'dead', said: 'it is no run' };
  const { tenancy, collector, slot } = parsed.data;
  const tenant = await options.tenant(tenancy);
  if (tenant === undefined) return { end: 'later', said: 'the file of the tenancy is not here' };
  const own = ['--tenant', tenant.file, '--only', collector, '--slot', slot, '--output', 'json', '--quiet'];
  const args = ['run', ...own, ...options.args];
  const say = (line: string) => options.log('WARNING', 'fleet.run', `${tenancy} ${collector}: ${line}`);
  try {
    return verdictOf(await runChild(args, { env: options.env, say, signal, grace: 15_000 }));
  } catch (cause) {
    throw new CollectError('defect', 'no process can be begun', { cause });
  }
}

/** What a run's exit code says of it. */
function verdictOf({ code, stdout }: Ended): Verdict {
  const datasets = summaryIn(stdout)?.datasets ?? [];
  const bad = datasets.filter(({ verdict }) => verdict !== 'complete' && verdict !== 'empty');
  const why = bad.map(({ tag, verdict, cause = verdict }) => `${tag} ${cause}`).join(', ');
  const said = `exit ${code}${why === '' ? '' : `: ${why}`}`;
  if (code === 0 || code === 5) return { end: 'done', said };
  if (code === 8) return { end: 'later', said };
  if (code === 2 || code === 4) return { end: 'dead', said };
  // Another attempt would be denied again.
  if (code === 3 && bad.length > 0 && bad.every(({ verdict, cause = verdict }) => cause === 'denied'))
    return { end: 'done', said };
  return { end: 'again', said };
}

function summaryIn(stdout: string): RunSummary | undefined {
  try {
    return JSON.parse(stdout) as RunSummary;
  } catch {
    return undefined;
  }
}
