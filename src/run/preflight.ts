import { accessSync, constants, lstatSync, type Stats, statSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { detectShape } from '../config/detect.ts';
import type { Environment } from '../config/environment.ts';
import { managersShape } from '../config/managers.ts';
import { programAliases, programShape } from '../config/program.ts';
import { configProblem, type Problem } from '../errors.ts';
import { telemetryPackages } from '../report/telemetry.ts';
import { metricsFile, type Plan } from './activate.ts';
import type { Cards } from './cards.ts';
import { editDistance } from './select.ts';

/** What stands in the way of a plan, as far as it shows without writing, calling or opening anything. */
export function preflight(plan: Plan): readonly Problem[] {
  return [...unwritable(plan), ...missingPackages(plan)];
}

/** Places on this machine that the run would write to, and cannot. */
function unwritable(plan: Plan): Problem[] {
  const { program, tenancy, at } = plan;
  const state = resolve(program.CYBER_COLLECT_STATE);
  const places: [where: string, path: string, isFolder: boolean][] = [['CYBER_COLLECT_STATE', state, true]];
  const metrics = attempt(() => metricsFile(program, tenancy, at));
  if (metrics !== undefined) places.push(['CYBER_COLLECT_PROMETHEUS_FILE', resolve(metrics), false]);
  const datasets = plan.collectors.flatMap((active) => active.datasets.filter(({ stored }) => stored));
  for (const { store, settings } of plan.stores) {
    for (const { kind, tag, uploadId } of datasets) {
      const targets = attempt(() => store.targets(settings, kind, { uuid: uploadId, tag, tenancy, at })) ?? [];
      places.push(
        ...targets.filter(isAbsolute).map((path): [string, string, boolean] => [`store ${store.name}`, path, false]),
      );
    }
  }
  return places.flatMap(([where, path, isFolder]) => {
    const why = isFolder ? folderFault(path) : fileFault(path);
    return why === undefined ? [] : [configProblem(where, `${path} cannot be written: ${why}`, 'choose another place')];
  });
}

/** Why a file cannot be put there; a target may have a table behind its path, which is no part of the folder. */
function fileFault(path: string): string | undefined {
  const found = statOf(path, lstatSync);
  if (found?.isDirectory() === true) return 'it is a folder';
  if (found?.isSymbolicLink() === true) return 'it is a symbolic link';
  return folderFault(dirname(path));
}

/** Why a folder cannot be written or made: the nearest one above it that is there decides. */
function folderFault(folder: string): string | undefined {
  for (let at = folder; ; at = dirname(at)) {
    const found = statOf(at, statSync);
    if (found === undefined && at !== dirname(at)) continue;
    if (found === undefined) return undefined;
    if (!found.isDirectory()) return `${at} is no folder`;
    try {
      accessSync(at, constants.W_OK | constants.X_OK);
      return undefined;
    } catch (error) {
      return `${at} is closed to this user (${(error as NodeJS.ErrnoException).code})`;
    }
  }
}

function statOf(path: string, stat: (path: string) => Stats): Stats | undefined {
  return attempt(() => stat(path));
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined; // what is wrong with it is told elsewhere, or decided by what lies above it
  }
}

function missingPackages({ stores, program }: Plan): readonly Problem[] {
  const mail = program.NOTIFY_SMTP_URL === undefined ? [] : ['nodemailer'];
  return [
    ...stores.flatMap(({ store, settings }) => notInstalled(`store ${store.name}`, store.packages?.(settings) ?? [])),
    ...notInstalled('NOTIFY_SMTP_URL', mail),
    ...notInstalled('OTEL_EXPORTER_OTLP_ENDPOINT', telemetryPackages(program)),
  ];
}

/** The packages among some that are not installed. */
export function notInstalled(where: string, packages: readonly string[]): readonly Problem[] {
  const missing = packages.filter((name) => !isInstalled(name));
  const names = missing.join(' ');
  if (missing.length === 0) return [];
  return [configProblem(where, `it needs ${names}, which is not installed`, `npm install ${names}`)];
}

function isInstalled(name: string): boolean {
  try {
    import.meta.resolve(name);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND';
  }
}

/** Beginnings of names that nobody else's variables have. */
const OURS = /^(STORE|CYBER_COLLECT|NOTIFY)_/;

/**
 * Variables that nobody knows and that look like ours: whatever they were to switch on stays off. In the environment,
 * where others' variables are, those that are a letter or two off are pointed out; in a file, all that begin like ours.
 */
export function unknownVariables(environment: Environment, { collectors, stores }: Cards): readonly Problem[] {
  const rooms = [...collectors, ...stores].flatMap(({ env, aliases }) => [
    ...Object.keys(env),
    ...Object.keys(aliases),
  ]);
  const own = [programShape, detectShape, managersShape, programAliases].flatMap((names) => Object.keys(names));
  const known = new Set([...rooms, ...own]);
  const names = environment.names?.() ?? [];
  return names.flatMap((name) => {
    const bare = name.replace(/_FILE$/, '');
    const origin = environment.get(name);
    if (known.has(name) || known.has(bare) || origin === undefined || origin.value === '') return [];
    const inFile = origin.file !== undefined;
    const near = [...known].find((other) => isNear(bare, other, inFile));
    if (near === undefined && !(inFile && OURS.test(name))) return [];
    const mend = near === undefined ? 'correct or remove it; see docs/settings.md' : `did you mean ${near}?`;
    const problem = configProblem(name, `nothing knows this variable (from ${origin.from})`, mend, 'Unknown name');
    return [inFile ? problem : { ...problem, severity: 'WARNING' as const }];
  });
}

/** Whether a name is mistyped for another: a short one by one letter, a longer one by two. */
function isNear(name: string, known: string, inFile: boolean): boolean {
  if (Math.abs(name.length - known.length) > 2 || known.length < 5) return false;
  const [word = ''] = known.split('_');
  const rest = known.slice(word.length + 1);
  const most = inFile ? 2 : Math.min(2, Math.max(1, Math.floor(rest.length / 3)));
  return (inFile || name.startsWith(`${word}_`)) && editDistance(name, known) <= most;
}
