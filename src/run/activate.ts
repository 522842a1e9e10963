import { randomUUID } from 'node:crypto';
import { type Collector, idOf, isCustom, parentOf, type Resource, tagOf } from '../collectors/collector.ts';
import { type Environment, lookUp, resolveShape } from '../config/environment.ts';
import { areShares, contradictions, programAliases, programShape, SHARES } from '../config/program.ts';
import { assertEncrypted, factsOf, isRequired, type Shape, type Values } from '../config/setting.ts';
import { asCollectError, CollectError, ConfigError, configProblem, type Problem } from '../errors.ts';
import type { Kind, Store } from '../stores/store.ts';
import { assertSafe, parseTemplate, type TemplateValues } from '../templating/template.ts';
import { type Card, cardOf, isOff } from './cards.ts';
import type { Rooms } from './discover.ts';
import { namesFor, nearest, patternsOf, selects } from './select.ts';
import { uploadIdOf } from './slot.ts';

/** A resource of this run. */
export interface PlannedDataset {
  readonly tag: string;
  readonly collector: string;
  readonly resource: string;
  readonly definition: Resource<unknown>;
  readonly kind: Kind;
  readonly id: readonly string[];
  readonly uploadId: string;
  /** False for a parent that is read only for its children. */
  readonly stored: boolean;
}

/** A collector that is switched on, with its settings. */
export interface ActiveCollector {
  readonly collector: Collector;
  readonly settings: Values<Shape>;
  readonly datasets: readonly PlannedDataset[];
}

/** A store that is switched on, with its settings. */
export interface ActiveStore {
  readonly store: Store;
  readonly settings: Values<Shape>;
}

/** What a run will do. */
export interface Plan {
  readonly program: Values<typeof programShape>;
  readonly tenancy: string;
  /** What upload ids are derived from. */
  readonly slot?: string;
  readonly at: Date;
  readonly collectors: readonly ActiveCollector[];
  readonly stores: readonly ActiveStore[];
  /** What is wrong but does not stop the rest. */
  readonly problems: readonly Problem[];
}

/** What the user asked for. */
export interface Wanted {
  readonly only: readonly string[];
  readonly exclude: readonly string[];
  readonly tenancy?: string | undefined;
  /** What upload ids are derived from; they are random without it. */
  readonly slot?: string | undefined;
  /** Shares of the vendors' limits to leave to others, before those of the environment. */
  readonly headroom?: string | undefined;
}

/** A plan as far as it goes, and what forbids to call any vendor. */
export interface Draft {
  readonly plan: Plan;
  readonly fatal: readonly Problem[];
}

/**
 * Turns environment and flags into a plan.
 * @throws {ConfigError} with every problem found, when one of them forbids to call any vendor
 */
export function activate(environment: Environment, rooms: Rooms, wanted: Wanted, at: Date): Plan {
  const { plan, fatal } = draft(environment, rooms, wanted, at);
  if (fatal.length > 0) throw new ConfigError([...fatal, ...plan.problems]);
  return plan;
}

/** Turns environment and flags into a plan, whatever is wrong with them. */
export function draft(environment: Environment, rooms: Rooms, wanted: Wanted, at: Date): Draft {
  const fatal: Problem[] = [];
  const problems: Problem[] = [];
  const settings = programOf(environment, fatal);
  fatal.push(...contradictions(settings));
  if (wanted.headroom !== undefined && !areShares(wanted.headroom)) {
    fatal.push(configProblem('--headroom', `'${wanted.headroom}' is no share of a limit`, `write ${SHARES}`));
  }
  const shares = [settings.CYBER_COLLECT_HEADROOM, ...(wanted.headroom === undefined ? [] : [wanted.headroom])];
  const program = { ...settings, CYBER_COLLECT_HEADROOM: shares.join(',') };
  // Read apart from the others, so that it is checked though one of them is not valid.
  const tenancy = wanted.tenancy ?? lookUp(environment, 'TENANCY', programAliases)?.value ?? program.TENANCY;
  collecting(fatal, 'TENANCY', () => assertSafe('TENANCY', tenancy));
  collecting(fatal, 'CYBER_COLLECT_PROMETHEUS_FILE', () => metricsFile(program, tenancy, at));
  const only = patternsOf(wanted.only);
  const exclude = patternsOf(wanted.exclude);
  const known = [...rooms.collectors.map(cardOf), ...rooms.idle.collectors];
  fatal.push(...unmatched('--only', only, known), ...unmatched('--exclude', exclude, known));
  const collectors: ActiveCollector[] = [];
  for (const collector of rooms.collectors) {
    const uploadId = (tag: string) => uploadIdOf(wanted.slot, tenancy, tag);
    const chosen = chooseDatasets(collector, { only, exclude, asleep: isAsleep(collector, environment), uploadId });
    if (!chosen.some((dataset) => dataset.stored)) continue;
    const settings = settingsOf(environment, collector, {
      named: only.length > 0,
      allowHttp: program.CYBER_COLLECT_ALLOW_HTTP,
      problems,
      fatal,
    });
    if (settings === undefined) continue;
    const datasets = leftBy(settings, collector, chosen);
    if (datasets.length > 0) collectors.push({ collector, settings, datasets });
    else if (only.length > 0)
      fatal.push(configProblem(collector.name, LEFT_OUT, 'name others, or change the settings'));
  }
  const stores = activeStores(environment, rooms.stores, fatal);
  const isUnused = ({ store, settings }: ActiveStore) => isOff(store, settings, tenancy, at);
  const planned = collectors.flatMap((active) => active.datasets.filter((dataset) => dataset.stored));
  for (const store of stores) fatal.push(...targetProblems(store, planned, tenancy, at));
  if (stores.length > 0 && stores.every(isUnused)) {
    fatal.push(configProblem('stores', 'no store is switched on', 'set STORE_FILE or another STORE_ variable'));
  }
  const used = stores.filter((active) => !isUnused(active));
  const slot = wanted.slot === undefined ? {} : { slot: wanted.slot };
  return { plan: { program, tenancy, ...slot, at, collectors, stores: used, problems }, fatal };
}

/** The program's own settings. */
export function programOf(environment: Environment, problems: Problem[]): Values<typeof programShape> {
  const resolved = resolveShape(environment, 'cyber-collect', programShape, programAliases);
  problems.push(...resolved.problems);
  return (
    resolved.values ??
    (resolveShape({ get: () => undefined }, 'cyber-collect', programShape).values as Values<typeof programShape>)
  );
}

/**
 * The file of a tenancy's metrics, if there is to be one.
 * @throws {CollectError} config for a template that is not valid
 */
export function metricsFile(program: Plan['program'], tenancy: string, at: Date): string | undefined {
  const source = program.CYBER_COLLECT_PROMETHEUS_FILE;
  if (source === undefined) return undefined;
  const template = parseTemplate(source);
  const others = [...template.names].filter((name) => name !== 'TENANCY');
  if (others.length === 0) return template.render({ uuid: 'none', tag: 'none', tenancy, at });
  throw new CollectError('config', `'${source}' holds %${others[0]}, but its runs share one file`, {
    mend: 'use no other name than %TENANCY',
  });
}

const LEFT_OUT = 'its settings leave out all of it that is named';

/** Whether a collector runs without any variable and none that is set wakes it: it runs only when it is named. */
function isAsleep({ env, aliases = {} }: Collector, environment: Environment): boolean {
  const isSet = (name: string) => lookUp(environment, name, aliases) !== undefined;
  return !Object.entries(env).some(([name, type]) => {
    const { wakes } = factsOf(type);
    return isRequired(type) || (wakes !== undefined && isSet(name) && !wakes.unless.some(isSet));
  });
}

/** The chosen datasets that the settings want, and the parents that these need. */
function leftBy(
  settings: Values<Shape>,
  { resources }: Collector,
  chosen: readonly PlannedDataset[],
): readonly PlannedDataset[] {
  const isWanted = ({ stored, definition }: PlannedDataset) =>
    stored && (!isCustom(definition) || definition.when?.(settings) !== false);
  const needed = withParents(
    resources,
    chosen.filter(isWanted).map(({ resource }) => resource),
  );
  return chosen
    .filter(({ resource }) => needed.has(resource))
    .map((dataset) => ({ ...dataset, stored: isWanted(dataset) }));
}

/** The names of some resources and of those that they are read through. */
function withParents(resources: Collector['resources'], some: Iterable<string>): ReadonlySet<string> {
  const needed = new Set(some);
  for (const resource of needed) {
    const parent = parentOf(resources[resource] as Resource<unknown>);
    if (parent !== undefined) needed.add(parent);
  }
  return needed;
}

/** How datasets are chosen. */
interface Choice {
  readonly only: readonly string[];
  readonly exclude: readonly string[];
  /** Whether only what is named runs. */
  readonly asleep: boolean;
  readonly uploadId: (tag: string) => string;
}

function chooseDatasets(collector: Collector, { only, exclude, asleep, uploadId }: Choice): PlannedDataset[] {
  const resources = Object.keys(collector.resources);
  const wanted = new Set(
    resources.filter((resource) => {
      const named = only.length === 0 ? !asleep : only.some((pattern) => selects(pattern, collector.name, resource));
      return named && !exclude.some((pattern) => selects(pattern, collector.name, resource));
    }),
  );
  const needed = withParents(collector.resources, wanted);
  return resources
    .filter((resource) => needed.has(resource))
    .map((resource) => {
      const definition = collector.resources[resource] as Resource<unknown>;
      const tag = tagOf(collector.name, resource);
      return {
        tag,
        collector: collector.name,
        resource,
        definition,
        kind: definition.kind ?? 'snapshot',
        id: idOf(definition),
        uploadId: uploadId(tag),
        stored: wanted.has(resource),
      };
    });
}

function settingsOf(
  environment: Environment,
  collector: Collector,
  {
    named,
    allowHttp,
    problems,
    fatal,
  }: { readonly named: boolean; readonly allowHttp: boolean; readonly problems: Problem[]; readonly fatal: Problem[] },
): Values<Shape> | undefined {
  const resolved = resolveShape(environment, collector.name, collector.env, collector.aliases);
  problems.push(...resolved.problems);
  if (resolved.state === 'idle' && named) {
    const names = resolved.missing.join(', ');
    fatal.push(
      configProblem(collector.name, 'it is named but not configured', `set ${names}`, 'Environment variable not set'),
    );
  }
  if (resolved.values === undefined) return undefined;
  const { values } = resolved;
  const usable = collecting(problems, collector.name, () => {
    const options = collector.http?.(values);
    if (options !== undefined) assertEncrypted(options.baseUrl, allowHttp);
  });
  return usable ? values : undefined;
}

function activeStores(environment: Environment, stores: readonly Store[], fatal: Problem[]): ActiveStore[] {
  return stores.flatMap((store) => {
    const resolved = resolveShape(environment, store.name, store.env, store.aliases);
    fatal.push(...resolved.problems);
    return resolved.values === undefined ? [] : [{ store, settings: resolved.values }];
  });
}

/** Templates that are not valid, and targets that two datasets would share. */
function targetProblems(
  { store, settings }: ActiveStore,
  planned: readonly PlannedDataset[],
  tenancy: string,
  at: Date,
): Problem[] {
  const problems: Problem[] = [];
  const taken = new Map<string, string>();
  const probe = { tag: 'probe', kind: 'snapshot' as const, uploadId: randomUUID(), id: undefined };
  for (const { tag, kind, uploadId, id } of planned.length > 0 ? planned : [probe]) {
    const names: TemplateValues = { uuid: uploadId, tag, tenancy, at };
    const fine = collecting(problems, `store ${store.name}`, () => {
      for (const target of new Set(store.targets(settings, kind, names, id) ?? [])) {
        const other = taken.get(target);
        if (other !== undefined) {
          problems.push(
            configProblem(
              `store ${store.name}`,
              `${other} and ${tag} would both be written to ${target}`,
              'add %TAG to the template',
            ),
          );
        }
        taken.set(target, tag);
      }
    });
    if (!fine) return problems;
  }
  return problems.slice(0, 5);
}

function unmatched(flag: string, patterns: readonly string[], cards: readonly Card[]): Problem[] {
  const known = cards.flatMap(({ name, resources }) => resources.map((resource) => [name, resource] as const));
  const names = new Set(known.flatMap(([collector, resource]) => namesFor(collector, resource)));
  return patterns
    .filter((pattern) => !known.some(([collector, resource]) => selects(pattern, collector, resource)))
    .map((pattern) => {
      const near = nearest(pattern, names);
      return configProblem(
        flag,
        `nothing is called '${pattern}'`,
        near === undefined ? 'see cyber-collect list' : `did you mean ${near}?`,
        'Unknown name',
      );
    });
}

/** Runs a check; what it throws becomes a problem. */
function collecting(problems: Problem[], where: string, check: () => unknown): boolean {
  try {
    check();
    return true;
  } catch (thrown) {
    const error = asCollectError(thrown);
    const mend = error.mend ?? 'correct it';
    problems.push(
      configProblem(where, error.message, mend, error.code === 'config' ? 'Configuration not valid' : error.title),
    );
    return false;
  }
}
