import { tmpdir } from 'node:os';
import { assertPrivate, type Environment, loadEnvironment, lookUp } from '../config/environment.ts';
import { managersShape } from '../config/managers.ts';
import { programAliases, programShape } from '../config/program.ts';
import { factsOf, type Shape } from '../config/setting.ts';
import { createLog, type Log } from '../report/log.ts';
import { createProgress, type Progress, silent } from '../report/progress.ts';
import { createRedactor, type Redactor } from '../report/redact.ts';
import { programOf } from '../run/activate.ts';
import { discover, type Rooms } from '../run/discover.ts';
import { patternsOf } from '../run/select.ts';
import { version } from '../version.ts';

/** Flags that every command with an environment knows. */
export interface SessionFlags {
  readonly envFile: readonly string[];
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

/**
 * Reads environment and rooms, and learns every secret before anything is said.
 * @throws {ConfigError} for env files that cannot be read
 */
export async function openSession(flags: SessionFlags, loaded?: Environment): Promise<Session> {
  const environment = loaded ?? loadEnvironment(flags.envFile);
  return sessionOver(environment, await roomsFor(environment, flags), flags);
}

function roomsFor(environment: Environment, { only = [] }: SessionFlags): Promise<Rooms> {
  return discover(environment, patternsOf(only));
}

/**
 * A session for a command that uses the secrets: those that are set by reference are looked up.
 * @throws {ConfigError} for secrets that cannot be had, and files of secrets that others can read
 */
export async function openSecretSession(flags: SessionFlags, loaded?: Environment): Promise<Session> {
  const environment = loaded ?? loadEnvironment(flags.envFile);
  const rooms = await roomsFor(environment, flags);
  const names = new Map<string, Readonly<Record<string, string>>>();
  const own = [{ env: programShape, aliases: programAliases }, { env: managersShape }];
  for (const { env, aliases = {} } of [...own, ...rooms.collectors, ...rooms.stores] as readonly {
    env: Shape;
    aliases?: Readonly<Record<string, string>>;
  }[]) {
    for (const [name, type] of Object.entries(env)) if (factsOf(type).secret) names.set(name, aliases);
  }
  assertPrivate(environment, names);
  const { withSecrets } = await import('../run/secrets.ts');
  const open = async () => {
    const { clientSettings } = await import('../run/client.ts');
    const plan = { program: programOf(environment, []), at: new Date() };
    return clientSettings(plan, { version: version(), deadline: SECRETS_WITHIN, scratch: tmpdir() });
  };
  return sessionOver(await withSecrets(environment, names, open), rooms, flags);
}

/** Seconds. */
const SECRETS_WITHIN = 60;

function sessionOver(environment: Environment, rooms: Rooms, flags: SessionFlags): Session {
  const redactor = createRedactor();
  learnSecrets(redactor, environment, programShape, programAliases);
  learnSecrets(redactor, environment, managersShape);
  for (const room of [...rooms.collectors, ...rooms.stores])
    learnSecrets(redactor, environment, room.env, room.aliases);
  const colour = useColour(environment, process.stderr.isTTY);
  const plain = flags.logFormat === 'json' || flags.quiet === true;
  let say: (line: string) => void = () => undefined;
  const progress = plain
    ? silent
    : createProgress(process.stderr, process.stderr.isTTY === true, colour, (line) => say(line));
  const log = createLog({
    format: flags.logFormat,
    least: flags.verbose === true ? 'DEBUG' : flags.quiet === true ? 'WARNING' : 'INFO',
    colour,
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

/** Whether a stream gets colours: `NO_COLOR` and `FORCE_COLOR` decide before the terminal does. */
export function useColour(environment: Environment, tty: boolean | undefined): boolean {
  if ((environment.get('NO_COLOR')?.value ?? '') !== '') return false;
  const force = environment.get('FORCE_COLOR')?.value;
  if (force !== undefined) return force !== '0' && force !== 'false';
  return tty === true;
}
