import { randomUUID } from 'node:crypto';
import type { Collector } from '../collectors/collector.ts';
import { type Environment, resolveShape } from '../config/environment.ts';
import { isRequired, type Shape, type Values } from '../config/setting.ts';
import type { Store } from '../stores/store.ts';

/** What is known of a room that is not loaded. */
export interface Card {
  readonly name: string;
  readonly title: string;
  /** Its variables, and whether each must be set. */
  readonly env: Readonly<Record<string, boolean>>;
  /** Other names of its variables, alias -> name. */
  readonly aliases: Readonly<Record<string, string>>;
  /** A collector's; a store has none. */
  readonly resources: readonly string[];
  /** Whether it is a store that is on though none of its variables is set. */
  readonly always: boolean;
}

/** The cards of the house, made when it is built, so that a run loads only the rooms it uses. */
export interface Cards {
  readonly collectors: readonly Card[];
  readonly stores: readonly Card[];
}

/** The card of a room. */
export function cardOf(room: Collector | Store): Card {
  const { name, title, aliases = {} } = room;
  const env = Object.entries(room.env as Shape).map(([key, type]) => [key, isRequired(type)]);
  const [resources, always] = 'resources' in room ? [Object.keys(room.resources), false] : [[], isAlwaysOn(room)];
  return { name, title, env: Object.fromEntries(env), aliases, resources, always };
}

function isAlwaysOn(store: Store): boolean {
  const { values } = resolveShape({ get: () => undefined }, store.name, store.env);
  return values !== undefined && !isOff(store, values, 'default', new Date());
}

/** Whether settings leave a store switched off. Where they are not valid it is on, and says so when it is used. */
export function isOff(store: Store, settings: Values<Shape>, tenancy: string, at: Date): boolean {
  try {
    return store.targets(settings, 'snapshot', { uuid: randomUUID(), tag: 'probe', tenancy, at }) === undefined;
  } catch {
    return false;
  }
}

/** Whether any of a room's variables is set, by any of its names. */
export function isTouched({ env, aliases }: Card, environment: Environment): boolean {
  return [...Object.keys(env), ...Object.keys(aliases)].some(
    (name) => isSet(environment, name) || isSet(environment, `${name}_FILE`),
  );
}

/** Whether a room runs without any variable. */
export function needsNothing({ env }: Card): boolean {
  return !Object.values(env).includes(true);
}

function isSet(environment: Environment, name: string): boolean {
  return (environment.get(name)?.value ?? '') !== '';
}
