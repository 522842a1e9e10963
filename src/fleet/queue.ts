import type { Job, JobType, Queue, Worker, WorkerOptions } from 'bullmq';
import { z } from 'zod';
import { type Environment, lookUp } from '../config/environment.ts';
import { CollectError } from '../errors.ts';
import { systemClock } from '../http/pace.ts';

/** All that a queue is told of a run. Who can write the queue chooses a tenancy and a collector, and nothing else. */
export const payload = z.strictObject({
  tenancy: z.string().regex(/^[^/\\\p{Cc}]{1,128}$/u),
  collector: z.string().regex(/^[a-z][a-z0-9_]{0,62}$/),
  slot: z.string().regex(/^[\w.+-]{1,64}$/),
});

/** A run as it lies in a queue. */
export type Payload = z.infer<typeof payload>;

/** Name of the jobs, which changes with what is in them: a worker of another version leaves them to others. */
export const JOB = 'run-1';

const PREFIX = 'cyber-collect-';

/** The queue of a collector. */
function queueOf(collector: string): string {
  return `${PREFIX}${collector}`;
}

/** What works on Redis and on PostgreSQL alike. */
export interface Broker {
  /**
   * Opens the queue of a collector for some work, and closes it.
   * @throws {CollectError} network when it is away, config when its tables are not those of this version
   */
  over<T>(collector: string, work: (queue: Queue<Payload>) => Promise<T>): Promise<T>;
  worker(
    collector: string,
    work: (job: Job<Payload>, token?: string) => Promise<unknown>,
    options: Tuning,
  ): Worker<Payload>;
}

/** How a worker takes jobs. */
export type Tuning = Pick<WorkerOptions, 'concurrency' | 'lockDuration' | 'stalledInterval' | 'maxStalledCount'>;

/** Runs by where they are. */
export interface Counts {
  readonly waiting: number;
  readonly delayed: number;
  readonly active: number;
  readonly completed: number;
  readonly failed: number;
}

// On PostgreSQL the runs of a queue that is held are `paused`, which the types do not know.
const STATES = ['waiting', 'paused', 'delayed', 'active', 'completed', 'failed'] as readonly string[] as JobType[];

/** How many runs are where. */
export async function countsOf(queue: Queue<Payload>): Promise<Counts> {
  const counts = await queue.getJobCounts(...STATES);
  const { waiting = 0, paused = 0, delayed = 0, active = 0, completed = 0, failed = 0 } = counts;
  return { waiting: Math.max(waiting, paused), delayed, active, completed, failed };
}

type Classes = Pick<typeof import('bullmq'), 'Queue' | 'Worker'>;

/** Milliseconds within which a queue answers or is away. */
const PATIENCE = 10_000;

/**
 * Opens the queue that CYBER_COLLECT_QUEUE names.
 * @param prepare whether its tables are made or brought up to date in PostgreSQL
 * @throws {CollectError} config when it is not set, is no address, or the client is not installed
 */
export async function openBroker(environment: Environment, prepare: boolean): Promise<Broker> {
  const address = lookUp(environment, 'CYBER_COLLECT_QUEUE', {})?.value;
  const url = address !== undefined && URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !/^(rediss?|postgres(ql)?):$/.test(url.protocol)) {
    throw new CollectError('config', 'CYBER_COLLECT_QUEUE is no address of a queue', {
      mend: 'set it to redis://host:6379, rediss://... or postgres://user@host/database',
    });
  }
  const bullmq = await import('bullmq').catch(() => {
    throw new CollectError('config', 'the client of the queue is not installed', {
      mend: 'npm install bullmq ioredis',
    });
  });
  const relational = url.protocol.startsWith('postgres');
  const { Queue, Worker }: Classes = relational
    ? (bullmq.withBackend(bullmq.createPostgresBackend) as unknown as Classes)
    : bullmq;
  const connection = relational
    ? { connectionString: url.href, max: 2, ...(prepare ? { migrate: true } : {}) }
    : { url: url.href, connectTimeout: PATIENCE };
  return {
    async over(collector, work) {
      const patient = relational ? connection : { ...connection, maxRetriesPerRequest: 1, retryStrategy: () => null };
      const queue = new Queue<Payload>(queueOf(collector), { connection: patient as never });
      queue.on('error', () => undefined); // told where it is used
      try {
        await reached(queue.waitUntilReady(), url);
        return await work(queue);
      } finally {
        await queue.close().catch(() => undefined);
      }
    },
    worker(collector, work, options) {
      const blocking = relational ? connection : { ...connection, maxRetriesPerRequest: null };
      return new Worker<Payload>(queueOf(collector), work, { ...options, connection: blocking as never });
    },
  };
}

/** @throws {CollectError} naming the queue that is away or not prepared, without what its address holds beside the host */
async function reached(ready: Promise<unknown>, { protocol, host }: URL): Promise<void> {
  const waited = new AbortController();
  const late = systemClock.sleep(PATIENCE, waited.signal).then((): never => {
    throw new Error('it does not answer');
  });
  late.catch(() => undefined);
  try {
    await Promise.race([ready, late]);
  } catch (cause) {
    const { name = '', message = '' } = cause as Error;
    if (/^Schema/.test(name)) {
      throw new CollectError('config', `the tables of the queue at ${host} are not those of this version`, {
        mend: 'run cyber-collect fleet submit with this version once, by a user who may make tables',
        cause,
      });
    }
    const why = (cause as NodeJS.ErrnoException).code ?? (message === 'it does not answer' ? message : name);
    throw new CollectError('network', `the queue at ${protocol}//${host} cannot be reached (${why})`, {
      mend: 'check that it runs, and CYBER_COLLECT_QUEUE',
      cause,
    });
  } finally {
    waited.abort();
  }
}
