import { readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, join, resolve } from 'node:path';
import type { Collector } from '../collectors/collector.ts';
import { type Environment, lookUp } from '../config/environment.ts';
import { moduleLoader } from '../config/modules.ts';
import { ConfigError, configProblem, type Problem } from '../errors.ts';
import type { Store } from '../stores/store.ts';

/** Rooms of the user's own. */
export interface ForeignRooms {
  readonly collectors: readonly Collector[];
  readonly stores: readonly Store[];
}

/** Names of rooms that are there already. */
export interface Taken {
  readonly collectors: readonly string[];
  readonly stores: readonly string[];
}

/** What a room is in, and by what it is told from others there. */
interface Kind {
  readonly folders: 'COLLECTORS_PATH' | 'STORES_PATH';
  readonly prefix: 'src_' | 'store_';
  readonly packages: 'cyber-collect-src-' | 'cyber-collect-store-';
  /** What a room has beside its name and variables. */
  readonly has: 'resources' | 'open';
}

const COLLECTOR: Kind = {
  folders: 'COLLECTORS_PATH',
  prefix: 'src_',
  packages: 'cyber-collect-src-',
  has: 'resources',
};
const STORE: Kind = { folders: 'STORES_PATH', prefix: 'store_', packages: 'cyber-collect-store-', has: 'open' };

/**
 * Rooms in the folders that COLLECTORS_PATH and STORES_PATH name, and in the packages `cyber-collect-src-*` and
 * `cyber-collect-store-*` that are installed in the working directory.
 * @throws {ConfigError} naming each that is none, unless problems are collected
 */
export async function foreignRooms(
  environment: Environment,
  taken: Taken,
  collected?: Problem[],
  cwd = process.cwd(),
): Promise<ForeignRooms> {
  const problems = collected ?? [];
  const [sources, destinations] = await Promise.all([
    filesOf(environment, COLLECTOR, cwd, problems),
    filesOf(environment, STORE, cwd, problems),
  ]);
  const collectors = await loadEach<Collector>(sources, COLLECTOR, { taken: taken.collectors, problems });
  const stores = await loadEach<Store>(destinations, STORE, { taken: taken.stores, problems });
  if (collected === undefined && problems.length > 0) throw new ConfigError(problems);
  return { collectors, stores };
}

/** Whether a file is a room by its name. */
export function isRoom(file: string, prefix: string): boolean {
  return file.startsWith(prefix) && /\.[cm]?[jt]s$/.test(file) && !/\.d\.[cm]?ts$/.test(file);
}

/** The name of the room in a file or package. */
export function nameOf(path: string): string {
  const [, name = ''] = /^(?:src_|store_)(\w+)\.[cm]?[jt]s$/.exec(basename(path)) ?? [];
  return name;
}

/** Where a room lies, and what it must be called. */
interface Place {
  readonly name: string;
  readonly path: string;
}

async function filesOf(
  environment: Environment,
  kind: Kind,
  cwd: string,
  problems: Problem[],
): Promise<readonly Place[]> {
  const folders = (lookUp(environment, kind.folders, {})?.value ?? '')
    .split(/[,;]/)
    .filter((word) => word.trim() !== '');
  const found: Place[] = [];
  for (const folder of folders) {
    const path = resolve(cwd, folder.trim());
    const files = await readdir(path).catch((error: NodeJS.ErrnoException) => {
      problems.push(configProblem(kind.folders, `${path} cannot be read (${error.code})`, 'correct the path'));
      return [];
    });
    const rooms = files.filter((file) => isRoom(file, kind.prefix)).sort();
    found.push(...rooms.map((file) => ({ name: nameOf(file), path: join(path, file) })));
  }
  const installed = await readdir(join(cwd, 'node_modules')).catch(() => []);
  const require = createRequire(join(cwd, 'package.json'));
  for (const name of installed.filter((one) => one.startsWith(kind.packages)).sort()) {
    found.push({ name: name.slice(kind.packages.length).replaceAll('-', '_'), path: require.resolve(name) });
  }
  return found;
}

async function loadEach<T extends Collector | Store>(
  places: readonly Place[],
  { has, folders }: Kind,
  { taken, problems }: { readonly taken: readonly string[]; readonly problems: Problem[] },
): Promise<readonly T[]> {
  if (places.length === 0) return [];
  const load = await moduleLoader();
  const rooms: T[] = [];
  const names = new Set(taken);
  for (const { name, path } of places) {
    if (names.has(name)) {
      problems.push(configProblem(path, `there is a room called ${name} already`, 'give it another name'));
      continue;
    }
    names.add(name);
    try {
      const { default: room } = (await load(path)) as { default?: T };
      if (room?.name === name && room.env !== undefined && has in room) rooms.push(room);
      else
        problems.push(
          configProblem(
            path,
            `it exports no room called ${name}`,
            folders === 'STORES_PATH' ? 'see docs/writing-a-store.md' : 'see docs/writing-a-collector.md',
          ),
        );
    } catch (error) {
      problems.push(configProblem(path, `it cannot be loaded: ${(error as Error).message}`, 'correct it'));
    }
  }
  return rooms;
}
