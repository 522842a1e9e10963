import type { Queue } from 'bullmq';
import { CollectError } from '../errors.ts';
import { countsOf, openBroker, type Payload } from '../fleet/queue.ts';
import { limitsFrom, submit, switchedOn } from '../fleet/submit.ts';
import { work } from '../fleet/work.ts';
import { plain } from '../report/colour.ts';
import { createLog } from '../report/log.ts';
import { createRedactor } from '../report/redact.ts';
import { type Output, table } from '../report/tables.ts';
import { type Card, cardOf } from '../run/cards.ts';
import { discover } from '../run/discover.ts';
import { patternsOf, selects } from '../run/select.ts';
import { tenantFinder, tenantsOf } from '../run/tenants.ts';
import { untilSignal } from './interruption.ts';
import { openEnvironment, type SessionFlags, sharedSettings } from './session.ts';

/** Flags of every `fleet` command. */
export interface FleetFlags extends Pick<SessionFlags, 'envFile' | 'logFormat' | 'config'> {
  readonly output: Output;
}

/** Flags of `fleet submit`. */
export interface SubmitFlags extends FleetFlags {
  readonly only: readonly string[];
  readonly slot?: string;
  readonly spread: number;
  readonly limits?: string;
}

/** Flags of `worker`. */
export interface WorkerFlags extends FleetFlags {
  readonly tenants: readonly string[];
  readonly only: readonly string[];
  readonly jobs: number;
  readonly grace: number;
  readonly idleExit?: number;
}

/** Puts a run for each tenant and collector into the queues; returns the exit code. */
export async function fleetSubmit(files: readonly string[], flags: SubmitFlags): Promise<number> {
  const environment = await openEnvironment(flags);
  const limits = flags.limits === undefined ? {} : await limitsFrom(flags.limits);
  const order = {
    tenants: await tenantsOf(files),
    cards: await cardsFor(flags),
    slot: flags.slot ?? new Date().toISOString().slice(0, 13),
    spread: flags.spread,
    limits,
  };
  const done = await submit(await openBroker(environment, true), order);
  const rows = done.map(({ collector, asked, added }) => [collector, String(asked), String(added)]);
  show(flags.output, { slot: order.slot, collectors: done }, ['COLLECTOR', 'RUNS', 'NEW'], rows);
  return 0;
}

/** Works on what is in the queues until a signal; returns the exit code. */
export async function worker(flags: WorkerFlags): Promise<number> {
  const environment = await openEnvironment(flags);
  const redactor = createRedactor();
  const write = (line: string) => process.stderr.write(`${line}\n`);
  const log = createLog({ format: flags.logFormat, least: 'INFO', paint: plain, redactor, write });
  const cards = await cardsFor(flags);
  const used = await Promise.all((await tenantsOf(flags.tenants)).map((tenant) => switchedOn(tenant, cards)));
  const collectors = [...new Set(used.flat().map(({ name }) => name))];
  if (collectors.length === 0) {
    throw new CollectError('config', 'no tenant’s file switches on a collector', { mend: 'see cyber-collect list' });
  }
  const broker = await openBroker(environment, false);
  const said = (name: string) => log('WARNING', 'fleet.stopping', `${name}: runs under way end first`);
  return untilSignal(said, async ({ signal }) => {
    const left = await work(broker, {
      collectors,
      tenant: tenantFinder(flags.tenants),
      env: (await sharedSettings(flags)).env,
      args: flags.config === undefined ? [] : ['--config', String(flags.config)],
      jobs: flags.jobs,
      grace: flags.grace,
      log,
      signal,
      idle: flags.idleExit,
    });
    return left ? 0 : 143;
  });
}

/** Shows how many runs are where, by collector; returns the exit code. */
export async function fleetStatus(flags: FleetFlags): Promise<number> {
  return overQueues(flags, async (queue, collector) => {
    const counts = await countsOf(queue);
    const paused = await queue.isPaused();
    const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
    return all === 0 && !paused ? [] : [{ collector, ...counts, paused }];
  });
}

const MOST = 1000;

/** Lists the runs that wait for a person; returns the exit code. */
export async function fleetFailed(flags: FleetFlags): Promise<number> {
  return overQueues(flags, async (queue, collector) => {
    const jobs = await queue.getFailed(0, MOST - 1);
    return jobs.map(({ data, attemptsMade, failedReason, finishedOn }) => ({
      collector,
      tenancy: data.tenancy,
      slot: data.slot,
      attempts: attemptsMade,
      at: finishedOn === undefined ? '' : new Date(finishedOn).toISOString(),
      reason: failedReason,
    }));
  });
}

/** Puts runs that wait for a person back into their queues; returns the exit code. */
export async function fleetRetry(only: string | undefined, flags: FleetFlags): Promise<number> {
  return overQueues(flags, async (queue, collector) => {
    if (only !== undefined && only !== collector) return [];
    const runs = await queue.getFailedCount();
    if (runs === 0) return [];
    await queue.retryJobs({ state: 'failed' });
    return [{ collector, runs }];
  });
}

/** Stops or lets a collector's queue go on, on all machines; returns the exit code. */
export async function fleetPause(collector: string, pause: boolean, flags: FleetFlags): Promise<number> {
  const known = (await cardsFor({ only: [] })).map(({ name }) => name);
  if (!known.includes(collector)) {
    throw new CollectError('config', `no collector is called '${collector}'`, { mend: 'see cyber-collect list' });
  }
  return overQueues(flags, async (queue, name) => {
    if (name !== collector) return [];
    await (pause ? queue.pause() : queue.resume());
    return [{ collector, paused: pause }];
  });
}

/** Asks each collector's queue, and shows what came. */
async function overQueues<T extends object>(
  flags: FleetFlags,
  ask: (queue: Queue<Payload>, collector: string) => Promise<readonly T[]>,
): Promise<number> {
  const broker = await openBroker(await openEnvironment(flags), false);
  const found: T[] = [];
  for (const { name } of await cardsFor({ only: [] }))
    found.push(...(await broker.over(name, (queue) => ask(queue, name))));
  const heads = Object.keys(found[0] ?? {});
  const rows = found.map((one) => Object.values(one).map(String));
  show(
    flags.output,
    found,
    heads.map((head) => head.toUpperCase()),
    rows,
  );
  return 0;
}

/** Every collector, or those that are named. */
async function cardsFor({ only }: { readonly only: readonly string[] }): Promise<readonly Card[]> {
  const { collectors, idle } = await discover({ get: () => undefined }, []);
  const patterns = patternsOf(only);
  const all = [...collectors.map(cardOf), ...idle.collectors];
  const isWanted = ({ name, resources }: Card) =>
    patterns.length === 0 || patterns.some((pattern) => resources.some((resource) => selects(pattern, name, resource)));
  return all.filter(isWanted);
}

function show(output: Output, value: unknown, heads: readonly string[], rows: readonly (readonly string[])[]): void {
  const text = output === 'json' ? JSON.stringify(value) : rows.length === 0 ? 'nothing' : table(heads, rows, output);
  process.stdout.write(`${text}\n`);
}
