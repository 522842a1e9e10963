import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import type { z } from 'zod';
import { ConfigError, configProblem, type Problem } from '../errors.ts';
import { isRequired, type Shape, type Values } from './setting.ts';

const load = createRequire(import.meta.url);

/** One variable's text and where it came from. */
export interface Origin {
  readonly value: string;
  readonly from: string;
  /** The file it stands in. */
  readonly file?: string;
}

/** The variables of this run: the process's own first, then the env files. Nothing else reads `process.env`. */
export interface Environment {
  get(name: string): Origin | undefined;
  /** What is set in it, where that is known. */
  names?(): readonly string[];
}

/** What became of a unit's variables. */
export interface Resolved<S extends Shape> {
  /** `idle`: nothing required is set; `partial`: some is; `active`: all is and everything parses. */
  readonly state: 'idle' | 'partial' | 'invalid' | 'active';
  readonly missing: readonly string[];
  readonly problems: readonly Problem[];
  readonly values: Values<S> | undefined;
}

/** An environment over a fixed set of variables. */
export function environmentOf(
  variables: Readonly<Record<string, string | undefined>>,
  from = 'environment',
): Environment {
  return {
    get(name) {
      const value = variables[name];
      return value === undefined ? undefined : { value, from };
    },
    names: () => Object.keys(variables),
  };
}

/** The process's own environment, without any file. */
export function processEnvironment(): Environment {
  // The AWS SDK would tell every user of Node 20 what only concerns its next major versions.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true';
  return environmentOf(process.env);
}

/** Variables of stores and of the program, which tenants of one run may share. */
const SHARED =
  /^(STORE_|ES_|CYBER_COLLECT_|(COLLECTORS|STORES)_PATH$|SLACK_WEBHOOK|NOTIFY_|OTEL_|TRACEPARENT$|GITHUB_(ACTIONS|STEP_SUMMARY)$|(HTTPS?|NO)_PROXY$)/i;
/** What any program needs of the machine that it runs on. */
const OF_THE_MACHINE =
  /^(PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|TMP|TEMP|SYSTEMROOT|NODE_EXTRA_CA_CERTS|SSL_CERT_\w+|NO_COLOR|FORCE_COLOR)$/;

/** Whether tenants of one run may have a variable from elsewhere than their own files. */
export function isShared(name: string): boolean {
  return name !== 'CYBER_COLLECT_QUEUE' && SHARED.test(name);
}

/** What a process of one tenant is given of this one's environment: nothing that could be another's credentials. */
export function inherited(): Readonly<Record<string, string>> {
  const variables = Object.entries(process.env).filter(([name]) => isShared(name) || OF_THE_MACHINE.test(name));
  return Object.fromEntries(variables.map(([name, value]) => [name, value ?? '']));
}

/**
 * One tenant's environment: its file, then what tenants may share of the process's.
 * @throws {ConfigError} for a file that cannot be read or holds a line that is no assignment, unless collected
 */
export function tenantEnvironment(file: string, collected?: Problem[]): Environment {
  const own = loadEnvironment([file], process.cwd(), environmentOf({}), collected);
  return layered([own, environmentOf(inherited())]);
}

/**
 * The process's environment, then each env file in turn; without any, `.env` of the working directory if there is one.
 * @throws {ConfigError} for a file that cannot be read or holds a line that is no assignment, unless collected
 */
export function loadEnvironment(
  files: readonly string[],
  cwd = process.cwd(),
  before: Environment = processEnvironment(),
  collected?: Problem[],
): Environment {
  const layers: Environment[] = [before];
  const problems = collected ?? [];
  for (const file of files.length > 0 ? files : ['.env']) {
    const text = readText(resolve(cwd, file), files.length > 0, problems);
    if (text === undefined) continue;
    problems.push(...malformedLines(file, text));
    const { parse } = load('dotenv') as typeof import('dotenv'); // where there is no file, it is not needed
    const layer = environmentOf(parse(text), file);
    layers.push({
      ...layer,
      get(name) {
        const found = layer.get(name);
        return found === undefined ? undefined : { ...found, file: resolve(cwd, file) };
      },
    });
  }
  if (collected === undefined && problems.length > 0) throw new ConfigError(problems);
  return layered(layers);
}

/** Several environments as one: what the first sets counts. */
export function layered(layers: readonly Environment[]): Environment {
  return {
    get(name) {
      for (const layer of layers) {
        const found = layer.get(name);
        if (found !== undefined) return found;
      }
      return undefined;
    },
    names: () => [...new Set(layers.flatMap((layer) => layer.names?.() ?? []))],
  };
}

function readText(path: string, named: boolean, problems: Problem[]): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (named || code !== 'ENOENT') {
      problems.push(configProblem(path, `the env file cannot be read (${code})`, 'check the path and its permissions'));
    }
    return undefined;
  }
}

/** dotenv passes over what it does not understand; a variable lost that way would switch a collector off unseen. */
function malformedLines(file: string, text: string): Problem[] {
  const problems: Problem[] = [];
  let open: { quote: string; line: number } | undefined;
  for (const [index, line] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    if (open !== undefined) {
      if (line.includes(open.quote)) open = undefined;
      continue;
    }
    if (/^\s*(#|$)/.test(line)) continue;
    const assignment = /^\s*(?:export\s+)?[A-Za-z_][\w.-]*\s*=\s*(.*)$/.exec(line);
    if (assignment === null) {
      problems.push(configProblem(`${file}:${index + 1}`, 'the line is no assignment', 'write NAME=value'));
      continue;
    }
    const quote = /^(['"`])/.exec(assignment[1] ?? '')?.[1];
    if (quote !== undefined && !(assignment[1] ?? '').slice(1).includes(quote)) open = { quote, line: index + 1 };
  }
  if (open !== undefined) {
    problems.push(
      configProblem(`${file}:${open.line}`, 'a quote is opened and never closed', `add the closing ${open.quote}`),
    );
  }
  return problems;
}

/**
 * A unit's variables out of the environment. `NAME_FILE` names a file that holds the value of `NAME`; an alias stands
 * in for a name that is not set; an empty value counts as not set.
 */
export function resolveShape<S extends Shape>(
  environment: Environment,
  unit: string,
  shape: S,
  aliases: Readonly<Record<string, string>> = {},
): Resolved<S> {
  const problems: Problem[] = [];
  const unreadable: Problem[] = [];
  const missing: string[] = [];
  const values: Record<string, unknown> = {};
  let required = 0;
  for (const [name, type] of Object.entries(shape)) {
    const found = lookUp(environment, name, aliases, unreadable);
    if (isRequired(type)) {
      required += 1;
      if (found === undefined) missing.push(name);
    }
    if (found === undefined) values[name] = isRequired(type) ? undefined : type.parse(undefined);
    else values[name] = parseValue(type, name, found, problems);
  }
  if (missing.length > 0 && missing.length === required && unreadable.length === 0)
    return { state: 'idle', missing, problems: [], values: undefined };
  if (missing.length > 0) {
    // What a file should have held is missing for that reason.
    const why = unreadable.length > 0 ? unreadable : [halfSet(unit, missing)];
    return { state: 'partial', missing, problems: why, values: undefined };
  }
  problems.push(...unreadable);
  if (problems.length > 0) return { state: 'invalid', missing, problems, values: undefined };
  return { state: 'active', missing, problems, values: values as Values<S> };
}

/** The text of a variable: its own, an alias's, or what its `_FILE` names. */
export function lookUp(
  environment: Environment,
  name: string,
  aliases: Readonly<Record<string, string>>,
  problems: Problem[] = [],
): Origin | undefined {
  const names = [name, ...Object.keys(aliases).filter((alias) => aliases[alias] === name)];
  for (const candidate of names) {
    const direct = environment.get(candidate);
    if (direct !== undefined && direct.value !== '') return direct;
    const file = environment.get(`${candidate}_FILE`);
    if (file === undefined || file.value === '') continue;
    const text = readText(file.value, true, problems);
    if (text !== undefined) return { value: text.replace(/\r?\n$/, ''), from: file.value, file: file.value };
  }
  return undefined;
}

/** Readable by everyone. */
const BY_OTHERS = 0o004;

/**
 * Refuses files of ours that hold secrets and that everyone on this machine can read; another user's, such as those a
 * platform mounts, are that user's affair.
 * @throws {ConfigError} naming each
 */
export function assertPrivate(
  environment: Environment,
  secrets: ReadonlyMap<string, Readonly<Record<string, string>>>,
): void {
  const files = new Set([...secrets].map(([name, aliases]) => lookUp(environment, name, aliases)?.file));
  const problems = [...files].flatMap((file) => {
    const found = file === undefined ? undefined : statSync(file, { throwIfNoEntry: false });
    if (file === undefined || found === undefined || process.platform === 'win32') return [];
    if ((found.mode & BY_OTHERS) === 0 || found.uid !== process.getuid?.()) return [];
    return [configProblem(file, 'it holds secrets, and everyone on this machine can read it', `chmod 600 ${file}`)];
  });
  if (problems.length > 0 && environment.get('CYBER_COLLECT_ALLOW_READABLE_SECRETS')?.value !== 'true')
    throw new ConfigError(problems);
}

function parseValue(type: z.ZodType, name: string, found: Origin, problems: Problem[]): unknown {
  const parsed = type.safeParse(found.value);
  if (parsed.success) return parsed.data;
  const message = parsed.error.issues[0]?.message ?? 'is not valid';
  problems.push(configProblem(name, `${message} (from ${found.from})`, `correct ${name}`));
  return undefined;
}

function halfSet(unit: string, missing: readonly string[]): Problem {
  const names = missing.join(', ');
  return configProblem(
    unit,
    `${names} ${missing.length === 1 ? 'is' : 'are'} missing, the rest is set`,
    `set ${names}`,
    'Environment variable not set',
  );
}
