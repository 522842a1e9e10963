import { hostname } from 'node:os';
import pLimit, { type LimitFunction } from 'p-limit';
import type { Environment } from '../config/environment.ts';
import { asCollectError, CollectError, ConfigError } from '../errors.ts';
import { type Log, problemLine } from '../report/log.ts';
import { silent } from '../report/progress.ts';
import { printSummary } from '../report/tables.ts';
import { type Plan, programOf } from '../run/activate.ts';
import { type Bridge, type BridgesFile, NO_FILE, readBridges, withFile } from '../run/bridges.ts';
import { cardOf } from '../run/cards.ts';
import { discover } from '../run/discover.ts';
import { worstCode } from '../run/exit.ts';
import { type Asked, type Prospect, type Prospects, planOf, prospectsOf } from '../run/prospects.ts';
import { openState } from '../run/state.ts';
import { isIdle, type RunSummary } from '../run/summary.ts';
import { beating, keepGoing } from '../run/watch.ts';
import { runPlan } from '../run/wrapper.ts';
import { version } from '../version.ts';
import { bridgesApart } from './bridged.ts';
import { exitCodeOf, problemsOf, tellIdle } from './fail.ts';
import { coordinated, type Held } from './interruption.ts';
import { openReporting, type Reporting } from './reporting.ts';
import { openEnvironment, openSecretSession, paintFor, type Session, type SessionFlags } from './session.ts';

/** Flags of `watch`. */
export interface WatchFlags extends SessionFlags {
  readonly only: readonly string[];
  readonly exclude: readonly string[];
  /** File of the bridges, or the configuration file. */
  readonly config?: string;
  /** Seconds behind a run. */
  readonly every?: number;
  /** Seconds behind a run that was not complete. */
  readonly failEvery?: number;
  readonly cron?: string;
  readonly timeZone?: string;
  /** Bridges at once. */
  readonly concurrency: number;
  /** Seconds that a run may take. */
  readonly deadline: number;
  readonly headroom?: string;
  readonly output: 'table' | 'json' | 'markdown';
}

/** Collects again and again, every active collector by itself, until a signal; returns the exit code. */
export async function watch(given: WatchFlags): Promise<number> {
  const { flags, bridges } = await bridgesApart(given);
  const own = await openEnvironment(flags);
  const path = bridges ?? programOf(own, []).CYBER_COLLECT_WATCH_CONFIG;
  const file = path === undefined ? NO_FILE : await fileOf(path, own);
  const named = file.bridges.flatMap(({ only }) => only);
  const session = await openRound({ flags, file }, [...flags.only, ...named], own);
  const asked = askedOf(flags);
  const { all, leftOut } = await prospectsOf(session, asked, file);
  if (all.every(({ problems }) => problems.length > 0)) return nothing(session.log, flags, all);
  if (leftOut.length > 0) {
    const message = `${path} names no bridge of ${leftOut.join(', ')}: they do not run; write "*": {} for all others`;
    session.log('WARNING', 'watch.left-out', message, { collectors: leftOut });
  }
  return carryOn(session, { flags, file, asked }, all);
}

async function fileOf(path: string, environment: Environment): Promise<BridgesFile> {
  const { collectors, idle } = await discover(environment, []);
  return readBridges(path, [...collectors.map(cardOf), ...idle.collectors]);
}

function askedOf({ only, exclude, tenancy, headroom, every, failEvery, cron, timeZone }: WatchFlags): Asked {
  const timing = {
    ...(every === undefined ? {} : { sleep: every }),
    ...(failEvery === undefined ? {} : { failSleep: failEvery }),
    ...(cron === undefined ? {} : { cron }),
    ...(timeZone === undefined ? {} : { timezone: timeZone }),
  };
  return { only, exclude, tenancy, headroom, timing };
}

/** Nothing can run: where nothing is configured that is told, else why. */
function nothing(log: Log, { only }: WatchFlags, all: Prospects['all']): number {
  if (only.length === 0 && all.every(({ unset }) => unset)) {
    tellIdle(log);
    return 5;
  }
  if (all.length === 0) {
    const mend = 'name another, or add one to the file';
    throw new CollectError('config', `no bridge is of ${only.join(', ')}`, { mend });
  }
  const lines = new Map(all.flatMap(({ problems }) => problems).map((problem) => [problemLine(problem), problem]));
  throw new ConfigError([...lines.values()]);
}

/** What was asked for. */
interface Wish {
  readonly flags: WatchFlags;
  readonly file: BridgesFile;
  readonly asked: Asked;
}

/** A session over what is set now, with what the file sets behind it. */
async function openRound(
  { flags, file }: Pick<Wish, 'flags' | 'file'>,
  only: readonly string[],
  environment?: Environment,
): Promise<Session> {
  const set = environment ?? (await openEnvironment(flags));
  const session = await openSecretSession({ ...flags, only }, withFile(set, file));
  session.progress.stop();
  return session;
}

/** What runs are made with. */
interface Means extends Wish {
  readonly held: Held;
  readonly reporting: Reporting;
  /** Runs at once. */
  readonly places: LimitFunction;
  /** Turns of bridges of one collector, which no two may read at once. */
  readonly turns: Map<string, LimitFunction>;
  /** Turns to tell of a run that has ended. */
  readonly telling: LimitFunction;
  /** The last run of each bridge, by its name. */
  readonly latest: Map<string, RunSummary>;
}

function carryOn(session: Session, wish: Wish, all: Prospects['all']): Promise<number> {
  const { environment, log } = session;
  const program = programOf(environment, []);
  const tenancy = wish.flags.tenancy ?? program.TENANCY;
  return coordinated(session, program, 'run.interrupted', async (held) => {
    const reporting = await openReporting({ session, program, tenancy, state: held.state });
    const local = await openState(program.CYBER_COLLECT_STATE);
    const life = beating(local, tenancy, { pid: process.pid, host: hostname() }, ({ message }) =>
      log('WARNING', 'watch.beat', `the sign of life was not written: ${message}`),
    );
    const limits = { places: pLimit(wish.flags.concurrency), turns: new Map(), telling: pLimit(1) };
    const means: Means = { ...wish, ...limits, latest: new Map(), held, reporting };
    try {
      const names = all.map(({ bridge }) => bridge.name);
      const collectors = [...new Set(all.map(({ bridge }) => bridge.collector))];
      reporting.started({ tenancy, at: new Date(), collectors: collectors.map((name) => ({ collector: { name } })) });
      log('INFO', 'watch.started', `watching ${names.join(', ')}`, { bridges: names });
      const keeping = { tell: life.tell, signal: held.signal, log };
      const codes = await Promise.all(
        all.map((prospect) => keepGoing(prospect, { ...keeping, round: rounds(prospect, session, means) })),
      );
      const ended = codes.filter((code) => code !== undefined);
      return ended.length === 0 ? 0 : worstCode(ended);
    } finally {
      await life.end();
      await reporting.close();
    }
  });
}

/** The runs of a bridge. Behind one that was not complete the environment is read anew: it may have been mended. */
function rounds(prospect: Prospect, first: Session, means: Means): (bridge: Bridge) => Promise<number> {
  const { turns, places, held, asked } = means;
  const { bridge, followed } = prospect;
  const turn = turns.get(bridge.collector) ?? pLimit(1);
  turns.set(bridge.collector, turn);
  let session: Session | undefined = first;
  const recorded = thinned();
  let before = { code: 0, said: '' };
  const round = async () => {
    if (held.signal.aborted) return before.code;
    try {
      session ??= await openRound(means, bridge.only);
      const { plan, problems } = planOf(session, asked, bridge);
      if (plan === undefined) throw new ConfigError(problems);
      const summary = await runOnce(plan, session, means, { followed, recorded });
      await tell(summary, session, { means, prospect, before: before.code });
      before = { code: summary.exit_code, said: '' };
    } catch (thrown) {
      before = failure(first.log, bridge, thrown, before.said);
    }
    if (before.code !== 0) session = undefined;
    return before.code;
  };
  return () => turn(() => (followed ? round() : places(round)));
}

const FAILURE_LASTS = 60_000;

/** Tells which runs are recorded: one that fails as the one before did is no news for a minute. */
function thinned(): (summary: RunSummary) => boolean {
  let last = { failure: '', at: 0 };
  return ({ exit_code, datasets, problems }) => {
    const facts = [exit_code, datasets.map(({ tag, verdict, reason }) => [tag, verdict, reason]), problems];
    const failure = exit_code === 0 ? '' : JSON.stringify(facts);
    if (failure !== '' && failure === last.failure && Date.now() - last.at < FAILURE_LASTS) return false;
    last = { failure, at: Date.now() };
    return true;
  };
}

/** How a run of a bridge differs from others. */
interface Manner {
  readonly followed: boolean;
  readonly recorded: (summary: RunSummary) => boolean;
}

function runOnce(plan: Plan, session: Session, means: Means, { followed, recorded }: Manner): Promise<RunSummary> {
  const { flags, held, reporting } = means;
  const { log, redactor } = session;
  const quiet: Log = (severity, event, ...said) => log(event === 'dataset.empty' ? 'DEBUG' : severity, event, ...said);
  const options = {
    ...held,
    version: version(),
    log: followed ? quiet : log,
    redactor,
    progress: silent,
    concurrency: flags.concurrency,
    deadline: flags.deadline,
    acceptShrink: [],
    full: false,
    resume: plan.program.CYBER_COLLECT_RESUME_HOURS * 3600,
    recordsIdle: !followed,
    recorded,
  };
  return reporting.follow((span) => runPlan(plan, { ...options, span }));
}

/** Tells of a run; of one that failed as the one before did not everybody is told again. */
async function tell(
  summary: RunSummary,
  { environment, print }: Session,
  { means, prospect, before }: { readonly means: Means; readonly prospect: Prospect; readonly before: number },
): Promise<void> {
  const { flags, reporting, telling, latest } = means;
  const { bridge, followed } = prospect;
  const { exit_code: code } = summary;
  if (!followed || !isIdle(summary))
    print(printSummary(summary, flags.output, await paintFor(environment, process.stdout)));
  latest.set(bridge.name, summary);
  await telling(() => {
    const all = [...latest.values()];
    const together = {
      ...summary,
      exit_code: worstCode(all.map(({ exit_code }) => exit_code)),
      datasets: all.flatMap(({ datasets }) => datasets),
      problems: all.flatMap(({ problems }) => problems),
    };
    return reporting.finished(summary, code !== before || (code === 0 && !followed), together);
  });
}

/** A run that came to nothing: why is said once, until it is another reason. */
function failure(log: Log, { name }: Bridge, thrown: unknown, before: string) {
  const error = asCollectError(thrown);
  const problems = problemsOf(error);
  const said = problems.map(problemLine).join(' ');
  for (const problem of said === before ? [] : problems) {
    const event = error.code === 'config' ? 'config.problem' : 'watch.failed';
    log(problem.severity, event, `${name}: ${problemLine(problem)}`, { bridge: name });
  }
  return { code: exitCodeOf(error), said };
}
