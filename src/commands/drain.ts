import { resolveShape } from '../config/environment.ts';
import { optional, setting } from '../config/setting.ts';
import { CollectError, ConfigError, configProblem } from '../errors.ts';
import { table } from '../report/tables.ts';
import type { Plan } from '../run/activate.ts';
import { type DrainOptions, drain as drainTopic } from '../run/drain.ts';
import { nameOf, pulsarOf, pulsarShape, type Topic, topicOf } from '../stores/_pulsar.ts';
import { version } from '../version.ts';
import { deliveryPlan } from './delivery_plan.ts';
import { coordinated } from './interruption.ts';
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
  const { log, print, progress } = session;
  progress.stop();
  const { program, tenancy, at, stores } = planned(session, flags);
  return coordinated(session, program, 'drain.interrupted', async (held) => {
    const source = sourceOf(session, flags);
    const rules = { tag: flags.tag, batch: flags.batch, seconds: flags.every, redeliveries: flags.redeliveries };
    const idleExit = flags.idleExit ?? (flags.once === true ? EMPTY : undefined);
    const means = { ...held, version: version(), log, stores, tenancy, at };
    const ending = { idleExit, empties: flags.once === true };
    const drained = await drainTopic({ ...source, ...rules, ...means, ...ending }).finally(() => source.pulsar.close());
    if (flags.output === 'json') print(JSON.stringify({ topic: nameOf(source.topic), ...drained }));
    else print(table(Object.keys(drained).map(heading), [Object.values(drained).map(String)], flags.output));
    return 0;
  });
}

function heading(name: string): string {
  return name.replace('_', ' ').toUpperCase();
}

/** Where the records go: every store but the one they come from. */
function planned(session: Session, { tenancy, tag }: DrainFlags): Plan {
  const stores = session.rooms.stores.filter(({ name }) => name !== 'pulsar');
  const mend = 'use lower-case letters, digits and underscores';
  const problems = /^[a-z][a-z0-9_]{0,62}$/.test(tag) ? [] : [configProblem('--tag', `'${tag}' is no tag`, mend)];
  return deliveryPlan({ ...session, rooms: { ...session.rooms, stores } }, { tenancy, tag, problems });
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
