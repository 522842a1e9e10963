import { tagOf } from '../collectors/collector.ts';
import { resolveShape } from '../config/environment.ts';
import { isRequired } from '../config/setting.ts';
import { type Output, table } from '../report/tables.ts';
import { openSession, type SessionFlags } from './session.ts';

/** Flags of `list`. */
export interface ListFlags extends SessionFlags {
  readonly output: Output;
}

/** Shows every collector and store and whether the environment switches it on; returns the exit code. */
export async function list(flags: ListFlags): Promise<number> {
  const { environment, collectors, stores, print, progress } = await openSession(flags);
  progress.stop();
  const stateOf = (name: string, room: (typeof collectors)[number] | (typeof stores)[number]) => {
    const { state, missing, problems } = resolveShape(environment, name, room.env, room.aliases);
    const required = Object.keys(room.env).filter((key) => isRequired(room.env[key] as never));
    return { state: state === 'partial' ? 'half set' : state, missing, required, problems };
  };
  const shown = {
    collectors: collectors.map((collector) => ({
      name: collector.name,
      title: collector.title,
      ...stateOf(collector.name, collector),
      datasets: Object.keys(collector.resources).map((resource) => tagOf(collector.name, resource)),
    })),
    stores: stores.map((store) => ({ name: store.name, title: store.title, ...stateOf(store.name, store) })),
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
