import { readFile } from 'node:fs/promises';
import { hostname, userInfo } from 'node:os';
import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Collector } from '../collectors/collector.ts';
import { type Environment, lookUp, processEnvironment } from '../config/environment.ts';
import { CollectError, ConfigError, configProblem, type Problem } from '../errors.ts';
import { printable } from '../report/log.ts';
import { discover, discoverStores } from '../run/discover.ts';
import { nearest, patternsOf } from '../run/select.ts';
import { addTo, assertNew, exists, type NewFile, writeNew } from '../scaffold/files.ts';
import { cron, systemd } from '../scaffold/machine.ts';
import { github, gitlab } from '../scaffold/pipelines.ts';
import { airflow, kubernetes } from '../scaffold/platforms.ts';
import { type Ask, dialogue, type Terminal } from '../scaffold/questions.ts';
import { flagsFor, type Job, jobNameOf, minuteOf, type Schedule, shellOf } from '../scaffold/schedule.ts';
import { type Choice, environmentText, namesIn, sectionsOf } from '../scaffold/variables.ts';
import type { Store } from '../stores/store.ts';
import { assertSafe } from '../templating/template.ts';
import { version } from '../version.ts';

/** Flags of `init`. */
export interface InitFlags {
  readonly only: readonly string[];
  readonly store: readonly string[];
  readonly for: readonly string[];
  readonly tenancy?: string;
  /** Where the variables go. */
  readonly file: string;
  readonly append?: boolean;
}

const SCHEDULERS: Readonly<Record<string, (job: Job) => Schedule>> = {
  cron,
  systemd,
  github,
  gitlab,
  kubernetes,
  airflow,
};

/** Schedulers whose machines forget their files. */
const FORGET = ['github', 'gitlab'];

/** What is written, and for which schedulers. */
interface Wanted extends Choice {
  readonly schedulers: readonly string[];
}

/** Every room there is. */
interface Offer {
  readonly collectors: readonly Collector[];
  readonly stores: readonly Store[];
}

/** Writes the variables of what is chosen and the files that run it on time; returns the exit code. */
export async function init(flags: InitFlags, given: Terminal | undefined = terminalOf()): Promise<number> {
  const environment = processEnvironment();
  const file = resolve(flags.file);
  if (flags.append !== true) {
    await assertNew([{ path: file, text: '' }], 'add what it lacks with --append, or write another with --file PATH');
  }
  const offer = await offerOf(environment);
  const told = given === undefined || (flags.only.length > 0 && flags.store.length > 0);
  const wanted = told ? chosen(flags, offer) : await dialogue(given, asked(flags, offer, given));
  if (wanted === undefined) return 130;
  const sections = sectionsOf({ ...wanted, program: pathsOf(wanted, environment) });
  const schedules = wanted.schedulers.map((name) => ({ name, schedule: scheduleOf(name, wanted, sections, file) }));
  const files = schedules.flatMap(({ schedule }) => schedule.files);
  await assertNew(files, 'remove it, or run init in another folder');
  const written = [...(await writeVariables(file, sections)), ...(await writeNew(files, process.cwd()))];
  for (const path of written) process.stdout.write(`${printable(path)}\n`);
  const steps = nextSteps(flags, wanted, sections);
  process.stderr.write(
    `\nNext:\n${[...steps, ...schedules.flatMap(({ schedule }) => schedule.next)].map(bullet).join('')}`,
  );
  return 0;
}

function bullet(line: string): string {
  return `- ${printable(line)}\n`;
}

function terminalOf(): Terminal | undefined {
  return process.stdin.isTTY && process.stderr.isTTY ? { input: process.stdin, output: process.stderr } : undefined;
}

async function offerOf(environment: Environment): Promise<Offer> {
  const { collectors, stores } = await discover(environment, ['*']);
  const house = await discoverStores();
  const names = house.map(({ name }) => name);
  return { collectors, stores: [...house, ...stores.filter(({ name }) => !names.includes(name))] };
}

/** What the flags say, where nobody can be asked. */
function chosen(flags: InitFlags, { collectors, stores }: Offer): Wanted {
  const problems: Problem[] = [];
  const wanted = {
    tenancy: tenancyFrom(flags.tenancy ?? 'default'),
    collectors: named('--only', flags.only, collectors, problems),
    stores: named('--store', flags.store, stores, problems),
    schedulers: schedulersFrom(flags.for, problems),
    program: {},
  };
  for (const [flag, rooms, example] of [
    ['--only', flags.only, 'okta,crowdstrike'],
    ['--store', flags.store, 'file,s3'],
  ] as const) {
    if (rooms.length === 0) problems.push(configProblem(flag, 'nothing is chosen', `write ${flag} ${example}`));
  }
  problems.push(...forgetful(wanted));
  if (problems.length > 0) throw new ConfigError(problems);
  return wanted;
}

/** Asks what the flags do not say. */
function asked(flags: InitFlags, { collectors, stores }: Offer, { output }: Terminal) {
  const show = (rooms: readonly (Collector | Store)[]) => {
    for (const { name, title } of rooms) output.write(`  ${name.padEnd(20)} ${title}\n`);
  };
  return async (ask: Ask): Promise<Wanted> => {
    const pick = async <T extends Collector | Store>(
      what: string,
      flag: string,
      said: readonly string[],
      rooms: readonly T[],
    ) => {
      if (said.length > 0) return checked((problems) => named(flag, said, rooms, problems));
      show(rooms);
      return ask(`${what} (names, separated by commas): `, (answer) =>
        checked((problems) => {
          if (answer === '') problems.push(configProblem(flag, 'nothing is chosen', 'write one name at least'));
          return named(flag, [answer], rooms, problems);
        }),
      );
    };
    const sources = await pick('Collectors', '--only', flags.only, collectors);
    const destinations = await pick('Stores', '--store', flags.store, stores);
    const chosenRooms = { collectors: sources, stores: destinations, program: {} };
    const tenancy = tenancyFrom(flags.tenancy ?? (await ask('Name of your organisation [default]: ', orDefault)));
    const pickSchedulers = (words: readonly string[]) =>
      checked((problems) => {
        const schedulers = schedulersFrom(words, problems);
        problems.push(...forgetful({ ...chosenRooms, tenancy, schedulers }));
        return schedulers;
      });
    const question = `Files for a schedule (${Object.keys(SCHEDULERS).join(', ')}; empty for none): `;
    const schedulers =
      flags.for.length > 0 ? pickSchedulers(flags.for) : await ask(question, (words) => pickSchedulers([words]));
    return { ...chosenRooms, tenancy, schedulers };
  };
}

function orDefault(answer: string): string {
  return tenancyFrom(answer === '' ? 'default' : answer);
}

function tenancyFrom(text: string): string {
  assertSafe('TENANCY', text);
  if (/^[\p{L}\p{N} ._+@%-]+$/u.test(text)) return text;
  throw new CollectError(
    'config',
    'the tenancy holds characters that shells and files of variables take for their own',
    {
      title: 'Configuration not valid',
      mend: 'use letters, digits, spaces and . _ + @ % -',
    },
  );
}

/** Runs a check; @throws {ConfigError} where it finds problems */
function checked<T>(check: (problems: Problem[]) => T): T {
  const problems: Problem[] = [];
  const result = check(problems);
  if (problems.length > 0) throw new ConfigError(problems);
  return result;
}

function named<T extends Collector | Store>(
  flag: string,
  words: readonly string[],
  rooms: readonly T[],
  problems: Problem[],
): readonly T[] {
  const names = new Set(patternsOf(words).map((word) => word.toLowerCase().replaceAll('-', '_')));
  for (const name of names) {
    if (rooms.some((room) => room.name === name)) continue;
    const near = nearest(
      name,
      rooms.map((room) => room.name),
    );
    const mend = near === undefined ? 'see cyber-collect list' : `did you mean ${near}?`;
    problems.push(configProblem(flag, `nothing is called '${name}'`, mend, 'Unknown name'));
  }
  return rooms.filter(({ name }) => names.has(name));
}

function schedulersFrom(words: readonly string[], problems: Problem[]): readonly string[] {
  const names = [...new Set(patternsOf(words).map((word) => word.toLowerCase()))];
  const known = Object.keys(SCHEDULERS);
  for (const name of names.filter((one) => !known.includes(one))) {
    problems.push(
      configProblem('--for', `nothing is called '${name}'`, `choose of ${known.join(', ')}`, 'Unknown name'),
    );
  }
  return names.filter((name) => known.includes(name));
}

/** Schedulers that would lose what is collected. */
function forgetful({ schedulers, stores }: Wanted): readonly Problem[] {
  if (stores.some(({ name }) => name !== 'file') || stores.length === 0) return [];
  return schedulers
    .filter((name) => FORGET.includes(name))
    .map((name) =>
      configProblem(
        '--store',
        `${name} forgets its files, and no other store is chosen`,
        'add one such as s3 or postgres',
      ),
    );
}

/** Folders of the user's own rooms, where some are chosen. */
function pathsOf({ collectors, stores }: Choice, environment: Environment): Readonly<Record<string, string>> {
  const paths: Record<string, string> = {};
  for (const [variable, rooms] of [
    ['COLLECTORS_PATH', collectors],
    ['STORES_PATH', stores],
  ] as const) {
    const value = lookUp(environment, variable, {})?.value;
    if (value !== undefined && rooms.length > 0) paths[variable] = value;
  }
  return paths;
}

function scheduleOf(name: string, wanted: Wanted, sections: Job['sections'], envFile: string): Schedule {
  const { tenancy, collectors } = wanted;
  const job: Job = {
    name: jobNameOf(tenancy),
    tenancy,
    // Whoever gives no name is told apart by the machine.
    minute: minuteOf(tenancy === 'default' ? hostname() : tenancy),
    folder: process.cwd(),
    envFile,
    user: userName(),
    program: programOf(),
    version: version(),
    flags: flagsFor(collectors),
    sections,
  };
  return (SCHEDULERS[name] as (of: Job) => Schedule)(job);
}

/** How this machine starts the program; from npx's passing folder only npx does. */
function programOf(): readonly string[] {
  const path = fileURLToPath(new URL('../../bin/cyber-collect.js', import.meta.url));
  if (/[/\\]_npx[/\\]/.test(path)) return ['/usr/bin/env', 'npx', '--yes', `cyber-collect@${version()}`];
  // Node 20 would take --env-file for itself without the -- (nodejs/node#54232).
  return [process.execPath, '--', path];
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 0); // a user that the machine has no name for
  }
}

async function writeVariables(path: string, sections: Job['sections']): Promise<readonly string[]> {
  if (await exists(path)) {
    const text = environmentText(sections, namesIn(await readFile(path, 'utf8')));
    if (text === '') return [];
    await addTo(path, text);
    return [relative(process.cwd(), path)];
  }
  const head = [
    '# Written by `cyber-collect init`. It is to hold credentials: keep it out of version control.',
    '# Values stand without quotes. NAME_FILE=/path reads the value of NAME from a file.',
  ];
  const file: NewFile = { path, text: `${head.join('\n')}\n\n${environmentText(sections)}`, secret: true };
  return writeNew([file], process.cwd());
}

function nextSteps(flags: InitFlags, { collectors }: Wanted, sections: Job['sections']): readonly string[] {
  const empty = sections.flatMap(({ variables }) => variables.filter(({ live, value }) => live && value === ''));
  const names = empty.map(({ name }) => name).join(', ');
  const path = relative(process.cwd(), resolve(flags.file));
  const where = path === '.env' ? '' : ` --env-file ${shellOf([path])}`;
  const only = flagsFor(collectors).slice(0, -2).join(' ');
  const rest = `${where}${only === '' ? '' : ` ${only}`}`;
  return [
    ...(names === '' ? [] : [`fill in ${path}: ${names}`]),
    `cyber-collect run --dry-run${rest} shows the plan and every problem, and calls no vendor`,
    `cyber-collect doctor${rest} tries credentials, permissions and stores`,
    `cyber-collect run${rest}`,
  ];
}
