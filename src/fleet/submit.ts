import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Queue } from 'bullmq';
import { parse } from 'dotenv';
import { z } from 'zod';
import { environmentOf } from '../config/environment.ts';
import { asCollectError, CollectError, ConfigError, configProblem } from '../errors.ts';
import { type Card, isTouched, needsNothing } from '../run/cards.ts';
import type { Tenant } from '../run/tenants.ts';
import { type Broker, countsOf, JOB, type Payload } from './queue.ts';

/** What is to be put into the queues. */
export interface Order {
  readonly tenants: readonly Tenant[];
  /** The collectors that may run. */
  readonly cards: readonly Card[];
  readonly slot: string;
  /** Seconds over which the runs are spread, each tenancy always at the same moment. */
  readonly spread: number;
  readonly limits: Limits;
}

/** What became of an order, for one collector. */
export interface Submitted {
  readonly collector: string;
  /** Runs that the tenants' variables ask for. */
  readonly asked: number;
  /** Those that were not in the queue yet. */
  readonly added: number;
}

const limitsShape = z.record(
  z.string(),
  z.strictObject({
    /** Runs that may start in a time, of all tenants and on all machines. */
    starts: z.strictObject({ most: z.int().positive(), seconds: z.number().positive() }).optional(),
    /** Runs at once, likewise. */
    atOnce: z.int().positive().optional(),
  }),
);

/** Limits over all machines, by collector. */
export type Limits = z.infer<typeof limitsShape>;

/**
 * Reads limits, `{"okta": {"starts": {"most": 4, "seconds": 1}, "atOnce": 10}}`.
 * @throws {CollectError} config
 */
export async function limitsFrom(path: string): Promise<Limits> {
  try {
    return limitsShape.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    const [issue] = cause instanceof z.ZodError ? cause.issues : [];
    const why = issue === undefined ? (cause as Error).message : `${issue.path.join('.')}: ${issue.message}`;
    throw new CollectError('config', `${path} holds no limits: ${why}`, {
      mend: 'write {"okta": {"starts": {"most": 4, "seconds": 1}, "atOnce": 10}}',
      cause,
    });
  }
}

const ATTEMPTS = 5;
const DAY = 86_400;

/**
 * Puts a run for each tenant and each collector that its file switches on into the queues. The same again changes nothing.
 * @throws {ConfigError} naming tenants' files that cannot be read
 */
export async function submit(broker: Broker, order: Order): Promise<readonly Submitted[]> {
  const payloads = await payloadsOf(order);
  const collectors = [...new Set(payloads.map(({ collector }) => collector))].sort();
  const done: Submitted[] = [];
  for (const collector of collectors) {
    const own = payloads.filter((one) => one.collector === collector);
    const added = await broker.over(collector, async (queue) => {
      const { starts, atOnce } = order.limits[collector] ?? {};
      if (starts !== undefined) await queue.setGlobalRateLimit(starts.most, starts.seconds * 1000);
      if (atOnce !== undefined) await queue.setGlobalConcurrency(atOnce);
      const before = await total(queue);
      await queue.addBulk(own.map((data) => ({ name: JOB, data, opts: optionsOf(data, order.spread) })));
      return (await total(queue)) - before;
    });
    done.push({ collector, asked: own.length, added });
  }
  return done;
}

async function total(queue: Queue<Payload>): Promise<number> {
  return Object.values(await countsOf(queue)).reduce((sum, count) => sum + count, 0);
}

function optionsOf({ tenancy, slot }: Payload, spread: number) {
  const share = createHash('sha256').update(tenancy).digest().readUInt32BE() / 2 ** 32;
  return {
    jobId: `${slot}_${createHash('sha256').update(tenancy).digest('hex').slice(0, 32)}`,
    deduplication: { id: tenancy }, // one run of a tenancy and collector at a time
    delay: Math.floor(share * spread * 1000),
    attempts: ATTEMPTS,
    backoff: { type: 'exponential', delay: 15_000, jitter: 0.5 },
    removeOnComplete: { age: DAY },
    removeOnFail: { age: 7 * DAY },
  };
}

/**
 * The collectors that a tenant's file switches on, perhaps by half, which the run says then. Of the variables only that
 * they are set is looked at.
 */
export async function switchedOn({ file }: Tenant, cards: readonly Card[]): Promise<readonly Card[]> {
  const environment = environmentOf(parse(await readFile(file, 'utf8')));
  return cards.filter((card) => !needsNothing(card) && isTouched(card, environment));
}

async function payloadsOf({ tenants, cards, slot }: Order): Promise<readonly Payload[]> {
  const problems = [];
  const payloads: Payload[] = [];
  for (const tenant of tenants) {
    const { tenancy, file } = tenant;
    try {
      const active = await switchedOn(tenant, cards);
      payloads.push(...active.map(({ name }) => ({ tenancy, collector: name, slot })));
      if (active.length === 0) {
        const mend = 'set the variables of a product that this tenant uses, see cyber-collect list';
        problems.push(configProblem(file, `it switches on no collector, so ${tenancy} would not be collected`, mend));
      }
    } catch (thrown) {
      problems.push(configProblem(file, asCollectError(thrown).message, 'check the file and its permissions'));
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return payloads;
}
