import { readdir } from 'node:fs/promises';
import type { Collector } from '../collectors/collector.ts';
import type { Environment } from '../config/environment.ts';
import { CollectError, type Problem } from '../errors.ts';
import type { Store } from '../stores/store.ts';
import { keepCards, readCards } from './cardfile.ts';
import { type Card, type Cards, cardOf, isTouched } from './cards.ts';
import { foreignRooms, isRoom, nameOf } from './foreign.ts';
import { selects } from './select.ts';

/** Rooms to choose from. */
export interface Rooms {
  readonly collectors: readonly Collector[];
  readonly stores: readonly Store[];
  /** Rooms that were not loaded: nothing of theirs is set, and nobody asked for them. */
  readonly idle: Cards;
}

const COLLECTORS = new URL('../collectors/', import.meta.url);
const STORES = new URL('../stores/', import.meta.url);

/** Every collector of the house: the `src_*` files beside the contract, by name. */
export async function discoverCollectors(): Promise<readonly Collector[]> {
  return loadAll<Collector>(await filesOf(COLLECTORS, 'src_'));
}

/** Every store of the house: the `store_*` files beside the contract, by name. */
export async function discoverStores(): Promise<readonly Store[]> {
  return loadAll<Store>(await filesOf(STORES, 'store_'));
}

/** Every room there is, known by its card; what is needed is loaded. */
export interface Index {
  readonly cards: Cards;
  /** The rooms that an environment touches or patterns name, and cards of the others; also rooms of the user's own. */
  rooms(environment: Environment, only: readonly string[]): Promise<Rooms>;
}

/**
 * Finds the rooms of the house, and those of the user's own, which are loaded.
 * @throws {ConfigError} for a room of the user's own that is none, unless problems are collected
 */
export async function openIndex(environment: Environment, problems?: Problem[]): Promise<Index> {
  const [sources, destinations] = await Promise.all([filesOf(COLLECTORS, 'src_'), filesOf(STORES, 'store_')]);
  const namesIn = (files: readonly URL[]) => files.map(({ pathname }) => nameOf(pathname));
  const taken = { collectors: namesIn(sources), stores: namesIn(destinations) };
  const foreign = await foreignRooms(environment, taken, problems);
  const kept = readCards([...sources, ...destinations]);
  const house = kept ?? (await cardsOfHouse());
  return {
    cards: {
      collectors: [...house.collectors, ...foreign.collectors.map(cardOf)],
      stores: [...house.stores, ...foreign.stores.map(cardOf)],
    },
    async rooms(environment, only) {
      const isNamed = ({ name, resources }: Card) =>
        resources.some((resource) => only.some((pattern) => selects(pattern, name, resource)));
      const isUsed = (card: Card) => kept === undefined || isTouched(card, environment) || isNamed(card);
      const idle = {
        collectors: house.collectors.filter((card) => !isUsed(card)),
        stores: house.stores.filter((card) => !isUsed(card) && !card.always),
      };
      return {
        collectors: [...(await loadAll<Collector>(without(sources, idle.collectors))), ...foreign.collectors],
        stores: [...(await loadAll<Store>(without(destinations, idle.stores))), ...foreign.stores],
        idle,
      };
    },
  };
}

/** The cards of the house, asked of the rooms themselves. */
export async function cardsOfHouse(): Promise<Cards> {
  const [collectors, stores] = await Promise.all([discoverCollectors(), discoverStores()]);
  return { collectors: collectors.map(cardOf), stores: stores.map(cardOf) };
}

/**
 * The rooms that an environment touches or patterns name.
 * @throws {ConfigError} for a room of the user's own that is none
 */
export async function discover(environment: Environment, only: readonly string[]): Promise<Rooms> {
  return (await openIndex(environment)).rooms(environment, only);
}

/**
 * Makes the cards of the house; part of the build.
 * @public
 */
export async function makeCards(): Promise<void> {
  keepCards(await cardsOfHouse());
}

async function filesOf(folder: URL, prefix: string): Promise<readonly URL[]> {
  const names = (await readdir(folder)).filter((file) => isRoom(file, prefix));
  return names.sort().map((file) => new URL(file, folder));
}

function without(files: readonly URL[], cards: readonly Card[]): readonly URL[] {
  return files.filter((file) => !cards.some(({ name }) => nameOf(file.pathname) === name));
}

async function loadAll<T extends { readonly name: string }>(files: readonly URL[]): Promise<readonly T[]> {
  return Promise.all(
    files.map(async (file) => {
      const room = ((await import(file.href)) as { default?: T }).default;
      if (room?.name !== nameOf(file.pathname)) throw new CollectError('defect', `${file} exports no room of its name`);
      return room;
    }),
  );
}
