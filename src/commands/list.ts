import { type Collector, tagOf } from '../collectors/collector.ts';
import { type Environment, resolveShape } from '../config/environment.ts';
import type { Shape } from '../config/setting.ts';
import { type Output, table } from '../report/tables.ts';
import { type Card, cardOf } from '../run/cards.ts';
import type { Store } from '../stores/store.ts';
import { openSession, type SessionFlags } from './session.ts';

/** Flags of `list`. */
export interface ListFlags extends SessionFlags {
  readonly output: Output;
}

/** Shows every collector and store and whether the environment switches it on; returns the exit code. */
export async function list(flags: ListFlags): Promise<number> {
  const { environment, rooms, print, progress } = await openSession(flags);
  progress.stop();
  const collectors = entriesOf(rooms.collectors, rooms.idle.collectors);
  const stores = entriesOf(rooms.stores, rooms.idle.stores);
  const shown = {
    collectors: collectors.map((entry) => ({
      ...factsOf(environment, entry),
      datasets: entry.card.resources.map((resource) => tagOf(entry.card.name, resource)),
    })),
    stores: stores.map((entry) => factsOf(environment, entry)),
  };
  if (flags.output === 'json') {
    print(JSON.stringify(shown));
    return 0;
  }
  const needs = ({
    state,
    missing,
    required,
  }: {
    state: string;
    missing: readonly string[];
    required: readonly string[];
  }) => (state === 'half set' ? `missing: ${missing.join(', ')}` : required.join(', '));
  const rows = shown.collectors.map((one) => [one.name, one.state, one.title, needs(one), one.datasets.join(' ')]);
  print(table(['COLLECTOR', 'STATE', 'PRODUCT', 'VARIABLES', 'DATASETS'], rows, flags.output));
  const destinations = shown.stores.map((one) => [one.name, one.state, one.title, needs(one)]);
  print(`\n${table(['STORE', 'STATE', 'DESTINATION', 'VARIABLES'], destinations, flags.output)}`);
  return 0;
}

/** A room, loaded or not. */
interface Entry {
  readonly card: Card;
  readonly room?: Collector | Store;
}

function entriesOf(rooms: readonly (Collector | Store)[], idle: readonly Card[]): readonly Entry[] {
  const entries: Entry[] = [...rooms.map((room) => ({ card: cardOf(room), room })), ...idle.map((card) => ({ card }))];
  return entries.sort((a, b) => (a.card.name < b.card.name ? -1 : 1));
}

function factsOf(environment: Environment, { card, room }: Entry) {
  const { name, title, env } = card;
  const required = Object.keys(env).filter((key) => env[key]);
  // What was not loaded has nothing set.
  const idle = { state: required.length > 0 ? 'idle' : 'active', missing: required, problems: [] };
  const { state, missing, problems } =
    room === undefined ? idle : resolveShape(environment, name, room.env as Shape, room.aliases);
  return { name, title, state: state === 'partial' ? 'half set' : state, missing, required, problems };
}
