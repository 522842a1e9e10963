import { type Environment, resolveShape } from '../config/environment.ts';
import { asCollectError, ConfigError, configProblem, type Problem, problemOf } from '../errors.ts';
import { activate, type Plan, programOf, type Wanted } from './activate.ts';
import type { Bridge, BridgesFile } from './bridges.ts';
import type { Rooms } from './discover.ts';
import { type Schedule, scheduleOf, type Timing } from './schedule.ts';
import { patternsOf, selects } from './select.ts';

/** A bridge before its first run. */
export interface Prospect {
  readonly bridge: Bridge;
  readonly schedule: Schedule;
  /** It reads a log of this machine again and again, and rounds that bring nothing are nothing to tell of. */
  readonly followed: boolean;
  /** Nothing of its collector is set. */
  readonly unset: boolean;
  /** Why it cannot run as things are. */
  readonly problems: readonly Problem[];
}

/** All that may run again and again. */
export interface Prospects {
  readonly all: readonly Prospect[];
  /** Collectors that are configured, and that nothing asks for. */
  readonly leftOut: readonly string[];
}

/** What the command line says of them. */
export interface Asked extends Pick<Wanted, 'only' | 'exclude' | 'tenancy' | 'headroom'> {
  readonly timing: Timing;
}

/** Where bridges are looked for. */
export interface Places {
  readonly environment: Environment;
  readonly rooms: Rooms;
}

const EVERY = 3600;
const FAIL_EVERY = 300;
const FOLLOWED_EVERY = 10;

/**
 * The bridges that a file names, and those of the other active collectors where it wants them.
 * @throws {ConfigError} for flags, schedules, and settings of stores and program that are not valid
 */
export async function prospectsOf(places: Places, asked: Asked, file: BridgesFile): Promise<Prospects> {
  const { bridges, leftOut } = bridgesOf(places, asked, file);
  const problems: Problem[] = [];
  const general = [asked.timing, timingOf(places.environment), file.all];
  const all: Prospect[] = [];
  for (const bridge of bridges) {
    const { plan, problems: found } = planOf(places, asked, bridge);
    const followed = plan !== undefined && isFollowed(plan);
    try {
      const schedule = await scheduleOf(effective(bridge.timing, followed ? [] : general, general));
      all.push({ bridge, schedule, followed, unset: isUnset(places, bridge), problems: found });
    } catch (thrown) {
      const { message, mend = 'correct it' } = asCollectError(thrown);
      problems.push(configProblem(bridge.name, message, mend));
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return { all, leftOut };
}

/** What a bridge would do now, or why it cannot. */
export function planOf(
  { environment, rooms }: Places,
  { tenancy, headroom }: Asked,
  { only }: Bridge,
): { readonly plan: Plan | undefined; readonly problems: readonly Problem[] } {
  try {
    const plan = activate(environment, rooms, { only, exclude: [], tenancy, headroom }, new Date());
    return plan.collectors.length > 0 ? { plan, problems: [] } : { plan: undefined, problems: plan.problems };
  } catch (thrown) {
    const problems = thrown instanceof ConfigError ? thrown.problems : [problemOf('cyber-collect', thrown)];
    return { plan: undefined, problems };
  }
}

function bridgesOf({ environment, rooms }: Places, asked: Asked, file: BridgesFile) {
  const [only, exclude] = [patternsOf(asked.only), patternsOf(asked.exclude)];
  const wanted = (dataset: string) => {
    const [collector = '', resource = ''] = dataset.split('.');
    const isNamed = (pattern: string) => selects(pattern, collector, resource);
    return (only.length === 0 || only.some(isNamed)) && !exclude.some(isNamed);
  };
  const named = file.bridges
    .map((bridge) => ({ ...bridge, only: bridge.only.filter(wanted) }))
    .filter((bridge) => bridge.only.length > 0);
  const taken = file.bridges.flatMap((bridge) => bridge.only);
  const { others: timing } = file;
  const rest = () => activate(environment, rooms, { ...asked, exclude: [...exclude, ...taken] }, new Date());
  if (timing === undefined) {
    const unnamed = (name: string) => file.bridges.every(({ collector }) => collector !== name);
    return { bridges: named, leftOut: activeIn(rest).filter(unnamed) };
  }
  const plan = rest();
  const active = plan.collectors.map(({ collector: { name }, datasets }) => ({
    name,
    collector: name,
    only: datasets.filter(({ stored }) => stored).map(({ resource }) => `${name}.${resource}`),
    timing,
  }));
  const wrong = rooms.collectors
    .filter(({ name, env }) => {
      const isOf = ({ where }: Problem) => where === name || where in env;
      return active.every((bridge) => bridge.name !== name) && plan.problems.some(isOf);
    })
    .map(({ name, resources }) => {
      const all = Object.keys(resources).map((resource) => `${name}.${resource}`);
      return { name, collector: name, only: all.filter((one) => wanted(one) && !taken.includes(one)), timing };
    });
  return { bridges: [...named, ...active, ...wrong], leftOut: [] };
}

/** The collectors of a plan, if it can be made. */
function activeIn(plan: () => Plan): readonly string[] {
  try {
    return plan().collectors.map(({ collector }) => collector.name);
  } catch {
    return [];
  }
}

/** Logs of this machine grow all the time, and reading them costs no vendor anything. */
function isFollowed({ collectors }: Plan): boolean {
  return collectors.every(
    ({ collector, datasets }) =>
      collector.http === undefined && datasets.every(({ kind, stored }) => !stored || kind === 'events'),
  );
}

function isUnset({ environment, rooms }: Places, { collector: name }: Bridge): boolean {
  const room = rooms.collectors.find((one) => one.name === name);
  return room === undefined || resolveShape(environment, name, room.env, room.aliases).state === 'idle';
}

/** What the variables of the program say. */
function timingOf(environment: Environment): Timing {
  const program = programOf(environment, []);
  const { CYBER_COLLECT_WATCH_EVERY: sleep, CYBER_COLLECT_WATCH_FAIL_EVERY: failSleep } = program;
  const { CYBER_COLLECT_WATCH_CRON: cron, CYBER_COLLECT_WATCH_TIME_ZONE: timezone } = program;
  return {
    ...(sleep === undefined ? {} : { sleep }),
    ...(failSleep === undefined ? {} : { failSleep }),
    ...(cron === undefined ? {} : { cron }),
    ...(timezone === undefined ? {} : { timezone }),
  };
}

/** A bridge's own timing; what it does not say comes from the first of the others that does. */
function effective(own: Timing, when: readonly Timing[], general: readonly Timing[]): Timing {
  const { sleep, cron } = [own, ...when].find((timing) => timing.sleep !== undefined || timing.cron !== undefined) ?? {
    sleep: when.length === 0 ? FOLLOWED_EVERY : EVERY,
  };
  const all = [own, ...general];
  const timezone = all.find((timing) => timing.timezone !== undefined)?.timezone;
  return {
    failSleep: all.find((timing) => timing.failSleep !== undefined)?.failSleep ?? FAIL_EVERY,
    ...(sleep === undefined ? {} : { sleep }),
    ...(cron === undefined ? {} : { cron }),
    ...(timezone === undefined ? {} : { timezone }),
  };
}
