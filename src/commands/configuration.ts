import { randomUUID } from 'node:crypto';
import { type Environment, loadEnvironment, lookUp, resolveShape } from '../config/environment.ts';
import { fileShape, isSecret } from '../config/keys.ts';
import { programAliases, programShape } from '../config/program.ts';
import { defaultOf, type Shape } from '../config/setting.ts';
import { CollectError, type Problem } from '../errors.ts';
import { problemLine } from '../report/log.ts';
import { table } from '../report/tables.ts';
import { runSettings } from '../run/configured.ts';
import type { Rooms } from '../run/discover.ts';
import { nearest } from '../run/select.ts';
import type { Store } from '../stores/store.ts';
import type { ExplainFlags } from './explain.ts';
import { configFile, openSession } from './session.ts';

/** A variable that is in effect. */
interface Effective {
  readonly name: string;
  /** What it is for: `program`, `run`, or a room. */
  readonly unit: string;
  readonly value: string;
  /** `flag`, `environment`, an env file, a place in the configuration file, or `default`. */
  readonly from: string;
  readonly secret: boolean;
}

/** Whatever declares variables. */
interface Unit {
  readonly name: string;
  readonly env: Shape;
  readonly aliases?: Readonly<Record<string, string>>;
}

const HIDDEN = '[secret]';

/** Shows every variable that is in effect, where it comes from, and no secret; returns the exit code. */
export async function configuration(name: string | undefined, flags: ExplainFlags): Promise<number> {
  const file = await configFile(flags, loadEnvironment(flags.envFile));
  const only = name === undefined ? [] : [name];
  const { environment, rooms, log, progress, print } = await openSession({ ...flags, file, only });
  progress.stop();
  const problems: Problem[] = [];
  const program: Unit = { name: 'program', env: { ...programShape, ...fileShape }, aliases: programAliases };
  const all = [...rooms.collectors, ...rooms.stores] as readonly Unit[];
  const on = rooms.stores.filter((store) => isOn(store, environment)).map((store) => store.name);
  const used = all.filter((room) => isSetUp(room, environment) || ('open' in room && on.includes(room.name)));
  const named = all.filter((room) => room.name === name);
  const idle = [...rooms.idle.collectors, ...rooms.idle.stores];
  if (name !== undefined && ![...all, ...idle].some((room) => room.name === name)) throw unknownRoom(name, rooms);
  const units = name === undefined ? [program, ...used] : named;
  const seen = new Set<string>();
  const variables = units.flatMap((unit) => effectiveOf(unit, environment, { flags, seen, problems }));
  const settings = file === undefined || name !== undefined ? {} : runSettings(file);
  for (const [key, value] of Object.entries(settings)) {
    const from = `${file?.name}: run.${key}`;
    variables.push({ name: `run.${key}`, unit: 'run', value: String(value), from, secret: false });
  }
  for (const problem of problems) log(problem.severity, 'config.problem', problemLine(problem));
  const shown = { ...(file === undefined ? {} : { file: file.path }), variables };
  const rows = variables.map((one) => [one.name, one.value, one.from, one.unit]);
  if (flags.output === 'json') print(JSON.stringify(shown));
  else print(table(['VARIABLE', 'VALUE', 'FROM', 'FOR'], rows, flags.output));
  return problems.length > 0 ? 2 : 0;
}

function unknownRoom(name: string, { collectors, stores, idle }: Rooms): CollectError {
  const near = nearest(
    name,
    [...collectors, ...stores, ...idle.collectors, ...idle.stores].map((room) => room.name),
  );
  const mend = near === undefined ? 'see cyber-collect list' : `did you mean ${near}?`;
  return new CollectError('config', `no collector or store is called '${name}'`, { title: 'Unknown name', mend });
}

/** What effective variables are read with. */
interface Means {
  readonly flags: ExplainFlags;
  /** Variables that another unit has shown. */
  readonly seen: Set<string>;
  readonly problems: Problem[];
}

function effectiveOf({ name: unit, env, aliases = {} }: Unit, environment: Environment, means: Means): Effective[] {
  const { flags, seen, problems } = means;
  return Object.entries(env).flatMap(([name, type]) => {
    const isFlag = name === 'TENANCY' && flags.tenancy !== undefined;
    const found = isFlag ? { value: flags.tenancy ?? '', from: 'flag' } : lookUp(environment, name, aliases, problems);
    const value = found?.value ?? defaultOf(type) ?? '';
    if (value === '' || seen.has(name)) return [];
    seen.add(name);
    const secret = isSecret(env, name);
    return [{ name, unit, value: secret ? HIDDEN : withoutUser(value), from: found?.from ?? 'default', secret }];
  });
}

/** A proxy's URL may hold a password. */
function withoutUser(value: string): string {
  return value.replace(/:\/\/[^\s/@]*@/g, `://${HIDDEN}@`);
}

/** Whether anything of a room is set that is not the program's. */
function isSetUp({ env, aliases = {} }: Unit, environment: Environment): boolean {
  const own = Object.keys(env).filter((name) => !Object.hasOwn(programShape, name));
  return own.some((name) => lookUp(environment, name, aliases) !== undefined);
}

function isOn(store: Store, environment: Environment): boolean {
  const { values } = resolveShape(environment, store.name, store.env, store.aliases);
  if (values === undefined) return false;
  try {
    const names = { uuid: randomUUID(), tag: 'probe', tenancy: 'default', at: new Date() };
    return store.targets(values, 'snapshot', names) !== undefined;
  } catch {
    return true; // its template is not valid, which a plan says
  }
}
