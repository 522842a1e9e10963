import { resolveShape } from '../config/environment.ts';
import { optional, setting } from '../config/setting.ts';
import { asCollectError, CollectError, ConfigError, configProblem, type Problem } from '../errors.ts';
import { problemLine } from '../report/log.ts';
import { table } from '../report/tables.ts';
import { activate, type Plan } from '../run/activate.ts';
import { openCoordination } from '../run/coordination.ts';
import { type DrainOptions, drain as drainTopic } from '../run/drain.ts';
import { nameOf, pulsarOf, pulsarShape, type Topic, topicOf } from '../stores/_pulsar.ts';
import { version } from '../version.ts';
import { listenForSignals } from './interruption.ts';
import { openSecretSession, type Session, type SessionFlags } from './session.ts';

/** Flags of `drain`. */
export interface DrainFlags extends SessionFlags {
  readonly topic?: string;
  readonly subscription: string;
  readonly type: 'Shared' | 'Key_Shared';
  readonly tag: string;
  readonly batch: number;
  /** Seconds. */
  readonly every: number;
  readonly redeliveries: number;
  readonly deadLetter?: string;
  readonly once?: boolean;
  /** Seconds. */
  readonly idleExit?: number;
  readonly output: 'table' | 'json' | 'markdown';
}

/** Seconds of silence after which a topic counts as empty. */
const EMPTY = 3;

/** Takes messages from a topic into every other store until a signal; returns the exit code. */
export async function drain(source: string, flags: DrainFlags, given?: Session): Promise<number> {
  if (source !== 'pulsar') {
    throw new ConfigError([configProblem('drain', `nothing is called '${source}' here`, 'write drain pulsar')]);
  }
  const session = given ?? (await openSecretSession(flags));
  const { environment, log, print, progress } = session;
  progress.stop();
  const plan = planned(session, flags);
  const coordination = await openCoordination(environment, plan.program);
  const interruption = listenForSignals((name) =>
    log('WARNING', 'drain.interrupted', `${name}: ending cleanly; once more ends at once`),
  );
  try {
    const { state, locks } = coordination;
    const { signal } = interruption;
    const source = sourceOf(session, flags);
    const { tenancy, at, stores } = plan;
    const rules = { tag: flags.tag, batch: flags.batch, seconds: flags.every, redeliveries: flags.redeliveries };
    const idleExit = flags.idleExit ?? (flags.once === true ? EMPTY : undefined);
    const means = { version: version(), state, locks, log, signal, stores, tenancy, at };
    const ending = { idleExit, empties: flags.once === true };
    const drained = await drainTopic({ ...source, ...rules, ...means, ...ending }).finally(() => source.pulsar.close());
    if (flags.output === 'json') print(JSON.stringify({ topic: nameOf(source.topic), ...drained }));
    else print(table(Object.keys(drained).map(heading), [Object.values(drained).map(String)], flags.output));
    return 0;
  } catch (thrown) {
    const code = interruption.code();
    if (code === undefined || asCollectError(thrown).code !== 'aborted') throw thrown;
    return code;
  } finally {
    interruption.stop();
    coordination.close();
  }
}

function heading(name: string): string {
  return name.replace('_', ' ').toUpperCase();
}

/** Where the records go: every store but the one they come from. */
function planned({ environment, rooms, log }: Session, flags: DrainFlags): Plan {
  const others = rooms.stores.filter(({ name }) => name !== 'pulsar');
  const wanted = { only: [], exclude: [], ...(flags.tenancy === undefined ? {} : { tenancy: flags.tenancy }) };
  const plan = activate(environment, { ...rooms, collectors: [], stores: others }, wanted, new Date());
  for (const problem of plan.problems) log(problem.severity, 'config.problem', problemLine(problem));
  const problems = plan.stores.flatMap(({ store, settings }): Problem[] => {
    const names = { uuid: '00000000-0000-4000-8000-000000000000', tag: flags.tag, tenancy: plan.tenancy, at: plan.at };
    try {
      store.targets(settings, 'events', names);
      return [];
    } catch (thrown) {
      const { message, mend = 'correct it' } = asCollectError(thrown);
      return [configProblem(`store ${store.name}`, message, mend)];
    }
  });
  if (!/^[a-z][a-z0-9_]{0,62}$/.test(flags.tag)) {
    problems.push(configProblem('--tag', `'${flags.tag}' is no tag`, 'use lower-case letters, digits and underscores'));
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return plan;
}

/** Where they come from: the settings of the store, with the topic that is named. */
function sourceOf(
  { environment }: Session,
  { topic, subscription, type, deadLetter }: DrainFlags,
): Pick<DrainOptions, 'pulsar' | 'topic' | 'subscription' | 'type' | 'deadLetters'> {
  const shape = { ...pulsarShape, STORE_PULSAR_TOPIC: setting('Topic', optional()) };
  const { values, problems, missing } = resolveShape(environment, 'pulsar', shape);
  if (values === undefined) {
    if (problems.length > 0) throw new ConfigError(problems);
    throw new CollectError('config', 'no Pulsar is configured', { mend: `set ${missing.join(', ')}` });
  }
  const named = topic ?? values.STORE_PULSAR_TOPIC;
  if (named === undefined || named.includes('%')) {
    throw new ConfigError([configProblem('--topic', 'it is not told which topic to drain', 'name it with --topic')]);
  }
  const from = topicOf(named);
  const dead: Topic = deadLetter === undefined ? { ...from, name: `${from.name}-dlq` } : topicOf(deadLetter);
  if (nameOf(dead) === nameOf(from)) {
    throw new ConfigError([configProblem('--dead-letter', 'it is the topic that is drained', 'name another')]);
  }
  return { pulsar: pulsarOf(values), topic: from, subscription, type, deadLetters: dead };
}
