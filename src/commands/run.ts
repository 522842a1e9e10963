import { type Environment, tenantEnvironment } from '../config/environment.ts';
import { ConfigError, configProblem, type Problem } from '../errors.ts';
import { systemClock } from '../http/pace.ts';
import { type Log, problemLine } from '../report/log.ts';
import { silent } from '../report/progress.ts';
import { printSummary } from '../report/tables.ts';
import { activate, type Plan } from '../run/activate.ts';
import type { RunOptions } from '../run/dataset.ts';
import { patternsOf } from '../run/select.ts';
import { isIdle } from '../run/summary.ts';
import { tenancyOf } from '../run/tenants.ts';
import { runPlan } from '../run/wrapper.ts';
import { version } from '../version.ts';
import { tellIdle } from './fail.ts';
import { coordinated, type Held } from './interruption.ts';
import { openReporting, type Reporting, reportBroken } from './reporting.ts';
import { openSecretSession, paintFor, type Session, type SessionFlags, withSettings } from './session.ts';

/** Flags of `run`. */
export interface RunFlags extends SessionFlags {
  readonly only: readonly string[];
  readonly exclude: readonly string[];
  readonly dryRun?: boolean;
  readonly concurrency: number;
  readonly deadline: number;
  readonly acceptShrink: readonly string[];
  readonly full?: boolean;
  readonly fresh?: boolean;
  readonly headroom?: string;
  /** Seconds between two rounds. */
  readonly follow?: number;
  /** Derives upload ids from this name, so that every attempt at it stores under the same ones. */
  readonly slot?: string;
  /** Patterns of the files of many. */
  readonly tenants?: readonly string[];
  /** Tenants at once. */
  readonly jobs?: number;
  /** The part of them that this machine runs. */
  readonly shard?: string;
  readonly output: 'table' | 'json' | 'markdown';
  /** Flags that stand on the command line: they win over the configuration file. */
  readonly told?: readonly string[];
}

/** Collects what is configured; returns the exit code. */
export async function run(said: RunFlags, given?: Session): Promise<number> {
  if (said.dryRun === true && said.tenants === undefined) return (await import('./plan.ts')).planRun(said, given);
  const flags = given === undefined ? await withSettings(said) : said;
  if (flags.tenants !== undefined) {
    const { runTenants } = await import('./tenants.ts');
    return runTenants({ ...flags, tenants: flags.tenants });
  }
  if (flags.tenant !== undefined)
    return runOne(await openTenant(flags, flags.tenant), withTenancy(flags, flags.tenant));
  return runOne(given ?? (await openSecretSession(flags)), flags);
}

async function runOne(session: Session, flags: RunFlags): Promise<number> {
  const { log, progress } = session;
  try {
    const plan = planned(session, flags);
    for (const problem of plan.problems) log(problem.severity, 'config.problem', problemLine(problem));
    return await carryOut(plan, session, flags);
  } catch (thrown) {
    await reportBroken(session, flags.tenancy, thrown);
    throw thrown;
  } finally {
    progress.stop();
  }
}

async function carryOut(plan: Plan, session: Session, flags: RunFlags): Promise<number> {
  const { program, tenancy } = plan;
  if (plan.collectors.length === 0 && plan.problems.length === 0) tellIdle(session.log);
  return coordinated(session, program, 'run.interrupted', async (held) => {
    const reporting = await openReporting({ session, program, tenancy, state: held.state });
    const means = { session, flags, held, reporting };
    try {
      return await (flags.follow === undefined || plan.collectors.length === 0
        ? once(plan, means)
        : follow(plan, means, flags.follow));
    } finally {
      await reporting.close();
    }
  });
}

/** The flags of a run of one tenant. */
export function withTenancy(flags: RunFlags, file: string): RunFlags {
  return { ...flags, tenancy: tenancyOf(file) };
}

/** @throws {ConfigError} when the file says that it is of another tenancy than its name does */
async function openTenant(flags: RunFlags, file: string): Promise<Session> {
  const problems = ofAnotherTenancy(tenantEnvironment(file), file);
  if (problems.length > 0) throw new ConfigError(problems);
  return openSecretSession(withTenancy(flags, file));
}

/** Whether a tenant's file says that it is of another tenancy than its name does. */
export function ofAnotherTenancy(environment: Environment, file: string): readonly Problem[] {
  const said = environment.get('TENANCY');
  if (said === undefined || said.value === tenancyOf(file)) return [];
  const message = `TENANCY is ${said.value}, but the file is called ${tenancyOf(file)}`;
  return [configProblem(file, message, 'rename it')];
}

/** @throws {ConfigError} for `--follow` of what is no events, which would be read whole again and again */
function planned({ environment, rooms }: Session, flags: RunFlags): Plan {
  const plan = activate(environment, rooms, flags, new Date());
  const problems = notFollowed(plan, flags);
  if (problems.length > 0) throw new ConfigError(problems);
  return plan;
}

/** What a plan holds that cannot be followed. */
export function notFollowed(plan: Plan, flags: RunFlags): readonly Problem[] {
  if (flags.follow === undefined) return [];
  const tags = plan.collectors
    .flatMap(({ datasets }) => datasets)
    .filter(({ kind, stored }) => stored && kind !== 'events')
    .map(({ tag }) => tag);
  if (tags.length === 0) return [];
  const mend = 'name events with --only, such as --only syslog';
  return [configProblem('--follow', `only events can be followed, not ${tags.join(', ')}`, mend)];
}

/** What runs are made with. */
interface Means {
  readonly session: Session;
  readonly flags: RunFlags;
  readonly held: Held;
  readonly reporting: Reporting;
}

async function once(plan: Plan, means: Means): Promise<number> {
  const { session, flags, reporting } = means;
  const { environment, progress, print } = session;
  reporting.started(plan);
  const summary = await reporting.follow((span) => runPlan(plan, { ...optionsOf(plan, means), span }));
  progress.stop();
  await reporting.finished(summary, true);
  print(printSummary(summary, flags.output, await paintFor(environment, process.stdout)));
  return summary.exit_code;
}

/**
 * Reads events again and again until a signal, in rounds that are runs of their own: each moves the cursors once every
 * store has what it brought. Rounds that bring nothing are neither printed nor recorded. Returns the last one's code.
 */
async function follow(first: Plan, means: Means, seconds: number): Promise<number> {
  const { session, flags, held, reporting } = means;
  const { environment, log, print } = session;
  const { signal } = held;
  reporting.started(first);
  let before = 0;
  for (let plan = first; ; plan = planned(session, flags)) {
    const options = optionsOf(plan, means);
    const full = options.full && plan === first;
    const quiet: Log = (severity, event, message, facts) =>
      log(event === 'dataset.empty' && facts?.left_out === undefined ? 'DEBUG' : severity, event, message, facts);
    const round = { ...options, full, log: quiet, progress: silent, recordsIdle: false };
    const summary = await reporting.follow((span) => runPlan(plan, { ...round, span }));
    if (!isIdle(summary)) print(printSummary(summary, flags.output, await paintFor(environment, process.stdout)));
    await systemClock.sleep(seconds * 1000, signal).catch(() => undefined);
    const { exit_code } = summary;
    await reporting.finished(summary, exit_code !== before || signal.aborted);
    if (signal.aborted) return exit_code;
    before = exit_code;
  }
}

function optionsOf({ program }: Plan, { session, flags, held }: Means): RunOptions {
  const { log, redactor, progress } = session;
  return {
    ...held,
    version: version(),
    log,
    redactor,
    progress,
    concurrency: flags.concurrency,
    deadline: flags.deadline,
    acceptShrink: patternsOf(flags.acceptShrink),
    full: flags.full === true,
    resume: flags.fresh === true ? 0 : program.CYBER_COLLECT_RESUME_HOURS * 3600,
  };
}
