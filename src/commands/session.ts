import { tmpdir } from 'node:os';
import { detectShape } from '../config/detect.ts';
import {
  assertPrivate,
  type Environment,
  environmentOf,
  inherited,
  loadEnvironment,
  lookUp,
  processEnvironment,
  tenantEnvironment,
} from '../config/environment.ts';
import { type ConfigFile, readConfig } from '../config/file.ts';
import { managersShape } from '../config/managers.ts';
import { programAliases, programShape } from '../config/program.ts';
import { factsOf, type Shape } from '../config/setting.ts';
import { ConfigError, type Problem } from '../errors.ts';
import { type Paint, paint } from '../report/colour.ts';
import { createLog, type Log } from '../report/log.ts';
import { createProgress, type Progress, silent } from '../report/progress.ts';
import { createRedactor, type Redactor } from '../report/redact.ts';
import { programOf } from '../run/activate.ts';
import { configure, type Findings, runSettings } from '../run/configured.ts';
import { openIndex, type Rooms } from '../run/discover.ts';
import { patternsOf } from '../run/select.ts';
import { version } from '../version.ts';

/** Flags that every command with an environment knows. */
export interface SessionFlags {
  readonly envFile: readonly string[];
  /** The configuration file that is named; `true` where `explain` is asked for the configuration itself. */
  readonly config?: string | true;
  /** That file, where it was read before. */
  readonly file?: ConfigFile | undefined;
  /** File of the one tenant that this is about. */
  readonly tenant?: string;
  readonly tenancy?: string;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly logFormat: 'text' | 'json';
  /** What is asked for by name. */
  readonly only?: readonly string[];
}

/** What a command works with. */
export interface Session {
  readonly environment: Environment;
  readonly rooms: Rooms;
  readonly redactor: Redactor;
  readonly log: Log;
  readonly progress: Progress;
  /** Writes data on stdout, redacted. */
  print(text: string): void;
}

/** The variables and rooms of a command. */
interface Opened {
  readonly environment: Environment;
  readonly rooms: Rooms;
  readonly findings: Findings;
}

/**
 * Reads environment, configuration file and rooms, and learns every secret before anything is said.
 * @throws {ConfigError} for files that cannot be read or understood
 */
export async function openSession(flags: SessionFlags, loaded?: Environment): Promise<Session> {
  const { environment, rooms } = await open(flags, loaded);
  return sessionOver(environment, rooms, flags);
}

async function open(flags: SessionFlags, loaded?: Environment): Promise<Opened> {
  const only = patternsOf(flags.only ?? []);
  if (loaded !== undefined) {
    const rooms = await (await openIndex(loaded)).rooms(loaded, only);
    return { environment: loaded, rooms, findings: { problems: [], unset: [], clear: [] } };
  }
  const base = baseOf(flags);
  const file = flags.file ?? (await configFile(flags, base));
  const { environment, index, check } = await configure(base, file, { tenant: flags.tenant !== undefined });
  const rooms = await index.rooms(environment, only);
  const findings = check(rooms);
  if (findings.problems.length > 0) throw new ConfigError(findings.problems);
  return { environment, rooms, findings };
}

/** The variables of a command that needs no rooms. */
export async function openEnvironment(flags: Pick<SessionFlags, 'envFile' | 'config'>): Promise<Environment> {
  return (await open({ ...flags, logFormat: 'text' })).environment;
}

function baseOf({ envFile, tenant }: SessionFlags, collected?: Problem[]): Environment {
  if (tenant !== undefined) return tenantEnvironment(tenant, collected);
  return loadEnvironment(envFile, process.cwd(), processEnvironment(), collected);
}

/**
 * The configuration file: that of the flag, of the environment, or of the working directory.
 * @throws {ConfigError} for a file that cannot be read or understood
 */
export function configFile(flags: Pick<SessionFlags, 'config'>, base: Environment): Promise<ConfigFile | undefined> {
  const named = typeof flags.config === 'string' ? flags.config : base.get('CYBER_COLLECT_CONFIG')?.value;
  return readConfig(named === '' ? undefined : named);
}

/**
 * A session for a command that uses the secrets: those that are set by reference are looked up.
 * @throws {ConfigError} for secrets that cannot be had, and files of secrets that others can read
 */
export async function openSecretSession(flags: SessionFlags, loaded?: Environment): Promise<Session> {
  const { environment, rooms, findings } = await open(flags, loaded);
  if (findings.unset.length > 0) throw new ConfigError(findings.unset);
  const names = secretsOf(rooms);
  assertPrivate(environment, names);
  const { withSecrets } = await import('../run/secrets.ts');
  const client = async () => {
    const { clientSettings } = await import('../run/client.ts');
    const plan = { program: programOf(environment, []), at: new Date() };
    return clientSettings(plan, { version: version(), deadline: SECRETS_WITHIN, scratch: tmpdir() });
  };
  const session = await sessionOver(await withSecrets(environment, names, client), rooms, flags);
  for (const where of findings.clear) session.log('WARNING', 'config.secret', `${where} ${IN_CLEAR}`);
  return session;
}

/** A session of which everything that is wrong is known, and that has called nobody. */
export interface DraftSession<F> {
  readonly session: Session;
  readonly flags: F;
  readonly problems: readonly Problem[];
}

/** A session for a plan: references to secrets are checked and not looked up; what is wrong is told with the rest. */
export async function openDraftSession<F extends SettingsFlags>(said: F): Promise<DraftSession<F>> {
  const problems: Problem[] = [];
  const base = baseOf(said, problems);
  const file = await collecting(problems, () => configFile(said, base));
  const flags = settledBy(file, said);
  const tenant = flags.tenant !== undefined;
  const { environment, index, check } = await configure(base, file, { tenant, collected: problems });
  const rooms = await index.rooms(environment, patternsOf(flags.only ?? []));
  const findings = check(rooms);
  const names = secretsOf(rooms);
  const { checkReferences, withoutReferences } = await import('../run/secrets.ts');
  const { notInstalled, unknownVariables } = await import('../run/preflight.ts');
  await collecting(problems, async () => assertPrivate(environment, names));
  const references = checkReferences(environment, names);
  problems.push(
    ...unknownVariables(base, index.cards),
    ...[...findings.problems, ...findings.unset, ...references.problems],
    ...notInstalled('secrets', references.packages),
  );
  const session = await sessionOver(withoutReferences(environment, names, typesOf(rooms)), rooms, flags);
  for (const where of findings.clear) session.log('WARNING', 'config.secret', `${where} ${IN_CLEAR}`);
  return { session, flags, problems };
}

/** Runs something; the problems that it throws are put to the others. */
async function collecting<T>(problems: Problem[], work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (thrown) {
    if (!(thrown instanceof ConfigError)) throw thrown;
    problems.push(...thrown.problems);
    return undefined;
  }
}

function typesOf(rooms: Rooms): Shape {
  const shapes: readonly Shape[] = [...rooms.collectors, ...rooms.stores].map(({ env }) => env as Shape);
  return Object.assign({}, programShape, detectShape, managersShape, ...shapes) as Shape;
}

const IN_CLEAR = 'is a secret in clear: better write { env: NAME }, { file: PATH } or a reference to a secret manager';

/** The variables that hold secrets, with their other names. */
function secretsOf(rooms: Rooms): ReadonlyMap<string, Readonly<Record<string, string>>> {
  const names = new Map<string, Readonly<Record<string, string>>>();
  const own = [{ env: programShape, aliases: programAliases }, { env: managersShape }];
  for (const { env, aliases = {} } of [...own, ...rooms.collectors, ...rooms.stores] as readonly {
    env: Shape;
    aliases?: Readonly<Record<string, string>>;
  }[]) {
    for (const [name, type] of Object.entries(env)) if (factsOf(type).secret) names.set(name, aliases);
  }
  return names;
}

/** Seconds. */
const SECRETS_WITHIN = 60;

async function sessionOver(environment: Environment, rooms: Rooms, flags: SessionFlags): Promise<Session> {
  const redactor = createRedactor();
  learnSecrets(redactor, environment, programShape, programAliases);
  learnSecrets(redactor, environment, managersShape);
  for (const room of [...rooms.collectors, ...rooms.stores])
    learnSecrets(redactor, environment, room.env, room.aliases);
  const colours = await paintFor(environment, process.stderr);
  const plain = flags.logFormat === 'json' || flags.quiet === true;
  let say: (line: string) => void = () => undefined;
  const progress = plain
    ? silent
    : createProgress(process.stderr, process.stderr.isTTY === true, colours, (line) => say(line));
  const log = createLog({
    format: flags.logFormat,
    least: flags.verbose === true ? 'DEBUG' : flags.quiet === true ? 'WARNING' : 'INFO',
    paint: colours,
    redactor,
    write: (line) => progress.around(() => process.stderr.write(`${line}\n`)),
  });
  say = (line) => log('INFO', 'dataset.progress', line);
  return {
    environment,
    rooms,
    redactor,
    log,
    progress,
    print: (text) => process.stdout.write(`${redactor.redact(text)}\n`),
  };
}

function learnSecrets(
  redactor: Redactor,
  environment: Environment,
  shape: Shape,
  aliases: Readonly<Record<string, string>> = {},
): void {
  for (const [name, type] of Object.entries(shape)) {
    if (!factsOf(type).secret) continue;
    const found = lookUp(environment, name, aliases);
    if (found !== undefined) redactor.add(found.value);
  }
}

/** The colours of a stream: `NO_COLOR` and `FORCE_COLOR` decide before the terminal does. */
export function paintFor(environment: Environment, { isTTY }: { readonly isTTY?: boolean }): Promise<Paint> {
  if ((environment.get('NO_COLOR')?.value ?? '') !== '') return paint(false);
  const force = environment.get('FORCE_COLOR')?.value;
  return paint(force === undefined ? isTTY === true : force !== '0' && force !== 'false');
}

/** Flags that a configuration file may settle. */
export interface SettingsFlags extends SessionFlags {
  /** Flags that stand on the command line. */
  readonly told?: readonly string[];
  readonly tenants?: readonly string[];
}

/**
 * Flags with what the configuration file's section `run` says in place of those that are not on the command line.
 * @throws {ConfigError} for a file that cannot be read or understood
 */
export async function withSettings<F extends SettingsFlags>(flags: F): Promise<F> {
  const base = flags.tenants === undefined ? baseOf(flags) : processEnvironment();
  return settledBy(await configFile(flags, base), flags);
}

function settledBy<F extends SettingsFlags>(file: ConfigFile | undefined, flags: F): F {
  if (file === undefined) return flags;
  const told = new Set(flags.told);
  const settings = Object.entries(runSettings(file)).filter(([name]) => !told.has(name));
  return { ...flags, ...Object.fromEntries(settings), file };
}

/** What the runs of tenants share. */
export interface SharedSettings {
  /** What each one's process is given. */
  readonly env: Readonly<Record<string, string>>;
  /** That, and what the configuration file adds to it. */
  readonly environment: Environment;
}

/**
 * What tenants may share of this process's environment and of the configuration file.
 * @throws {ConfigError} for a file that is not valid
 */
export async function sharedSettings(flags: Pick<SessionFlags, 'config' | 'file'>): Promise<SharedSettings> {
  const env = inherited();
  const file = flags.file ?? (await configFile(flags, processEnvironment()));
  const { environment, index, named, check } = await configure(environmentOf(env), file, { tenant: true });
  const { problems } = check(await index.rooms(environment, []));
  if (problems.length > 0) throw new ConfigError(problems);
  return { env: { ...named, ...env }, environment };
}
