import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { environmentOf, loadEnvironment, lookUp } from '../config/environment.ts';
import { programShape } from '../config/program.ts';
import { ConfigError, configProblem } from '../errors.ts';
import { printable } from '../report/log.ts';
import { cardOf } from '../run/cards.ts';
import { discover } from '../run/discover.ts';
import { newCollector } from '../scaffold/collector.ts';
import { assertNew, exists, writeNew } from '../scaffold/files.ts';
import { faultOf, type RoomPlan } from '../scaffold/room.ts';
import { newStore } from '../scaffold/store.ts';

/** Flags of `new`. */
export interface NewFlags {
  readonly js?: boolean;
}

/** What can be new. */
export type RoomKind = 'collector' | 'store';

/** Writes a room that works, with its test, to be made one's own; returns the exit code. */
export async function newRoom(kind: RoomKind, name: string, flags: NewFlags): Promise<number> {
  const fault = faultOf(name);
  if (fault !== undefined) {
    const better = name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '_')
      .replace(/^[_0-9]+|_+$/g, '')
      .slice(0, 30);
    const mend = faultOf(better) === undefined ? `call it ${better}` : 'write it as acme_cloud';
    throw new ConfigError([configProblem(`new ${kind}`, `'${printable(name)}' is no name: ${fault}`, mend)]);
  }
  await assertFree(kind, name);
  const plan = await planOf(kind, name, flags);
  const { files, next } = kind === 'collector' ? newCollector(plan) : newStore(plan);
  const [room] = files;
  const others = ['ts', 'js', 'mts', 'mjs'].map((end) => ({
    path: `${room?.path.replace(/\.[jt]s$/, '')}.${end}`,
    text: '',
  }));
  await assertNew([...others, ...files.slice(1)], 'choose another name');
  for (const path of await writeNew(files, process.cwd())) process.stdout.write(`${printable(path)}\n`);
  process.stderr.write(`\nNext:\n${next.map((line) => `- ${line}\n`).join('')}`);
  return 0;
}

/** @throws {ConfigError} where a room of the house has that name, or one of its variables */
async function assertFree(kind: RoomKind, name: string): Promise<void> {
  const { collectors, stores, idle } = await discover(environmentOf({}), []);
  const own = [...collectors.map(cardOf), ...idle.collectors];
  const destinations = [...stores.map(cardOf), ...idle.stores];
  if ((kind === 'collector' ? own : destinations).some((card) => card.name === name)) {
    throw new ConfigError([
      configProblem(`new ${kind}`, `there is a room called ${name} already`, 'choose another name'),
    ]);
  }
  const upper = name.toUpperCase();
  const wanted = kind === 'collector' ? [`${upper}_URL`, `${upper}_TOKEN`] : [`STORE_${upper}`];
  const cards = [...own, ...destinations];
  const taken = new Set([
    ...Object.keys(programShape),
    ...cards.flatMap(({ env, aliases }) => Object.keys({ ...env, ...aliases })),
  ]);
  const problems = wanted
    .filter((variable) => taken.has(variable))
    .map((variable) =>
      configProblem(`new ${kind}`, `${variable} is a variable of another room`, 'choose another name'),
    );
  if (problems.length > 0) throw new ConfigError(problems);
}

async function planOf(kind: RoomKind, name: string, { js }: NewFlags): Promise<RoomPlan> {
  if (js !== true && (await isCheckout(process.cwd())))
    return { name, folder: process.cwd(), house: true, language: 'ts' };
  const variable = kind === 'collector' ? 'COLLECTORS_PATH' : 'STORES_PATH';
  const paths = lookUp(loadEnvironment([]), variable, {})?.value.split(/[,;]/) ?? [];
  const folder = paths.map((path) => path.trim()).find((path) => path !== '') ?? `./${kind}s`;
  return { name, folder: resolve(folder), house: false, language: js === true ? 'js' : 'ts' };
}

/** Whether a folder holds the sources of this very program. */
async function isCheckout(folder: string): Promise<boolean> {
  const manifest = await readFile(join(folder, 'package.json'), 'utf8').catch(() => '{}');
  const contract = join(folder, 'src', 'collectors', 'collector.ts');
  return /"name":\s*"cyber-collect"/.test(manifest) && (await exists(contract));
}
