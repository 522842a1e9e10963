import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { tagOf } from '../collectors/collector.ts';
import type { Environment } from '../config/environment.ts';
import { ConfigError, configProblem, type Problem } from '../errors.ts';
import { isObject, type Json, type JsonObject } from '../json.ts';
import type { Card } from './cards.ts';
import type { Timing } from './schedule.ts';
import { namesFor, nearest } from './select.ts';

/** Datasets of one collector that are collected together, again and again. */
export interface Bridge {
  readonly name: string;
  readonly collector: string;
  /** Its datasets, as `--only` names them. */
  readonly only: readonly string[];
  readonly timing: Timing;
}

/** What a file of bridges says. */
export interface BridgesFile {
  readonly bridges: readonly Bridge[];
  /** Timing of each collector that no bridge names; undefined where only what is named is to run. */
  readonly others: Timing | undefined;
  /** Timing of all, where a bridge has none of its own. */
  readonly all: Timing;
  /** The variables that its settings stand for, and where in the file each is. */
  readonly variables: ReadonlyMap<string, { readonly value: string; readonly at: string }>;
}

/** No file: each active collector is a bridge. */
export const NO_FILE: BridgesFile = { bridges: [], others: {}, all: {}, variables: new Map() };

/** What a key of the file takes, and the variables that its value becomes; undefined for a value of another type. */
interface Key {
  readonly takes: string;
  readonly variables: (value: Json) => Readonly<Record<string, string>> | undefined;
}

const isAmount = (value: Json): value is number => typeof value === 'number' && value >= 0;

function seconds(variable: string): Key {
  const variables = (value: Json) => (isAmount(value) ? { [variable]: String(Number(value.toFixed(3))) } : undefined);
  return { takes: 'a number of seconds', variables };
}

/** For variables that know whole seconds alone; a part of one is waited whole. */
function wholeSeconds(variable: string): Key {
  const variables = (value: Json) => (isAmount(value) ? { [variable]: String(Math.ceil(value)) } : undefined);
  return { takes: 'a number of seconds', variables };
}

function count(variable: string): Key {
  const variables = (value: Json) => (Number.isInteger(value) ? { [variable]: String(value) } : undefined);
  return { takes: 'a whole number', variables };
}

const path: Key = {
  takes: 'the path of a folder',
  variables(value) {
    if (typeof value !== 'string' || value.trim() === '') return undefined;
    const folder = value.replace(/(?<=.)\/+$/, '');
    return {
      STORE_FILE: `${folder}/%TAG.json`,
      STORE_FILE_EVENTS: `${folder}/%TAG/%YYYY-%MM-%DD/%UUID.json`,
      STORE_FILE_MERGE: 'true',
    };
  },
};

const licenses: Key = {
  takes: 'an object of SKU ids and labels without comma, semicolon or quotation mark',
  variables(value) {
    if (!isObject(value)) return undefined;
    const labels = Object.entries(value);
    const isLabel = (label: Json) => typeof label === 'string' && label.trim() !== '' && !/[,;"]/.test(label);
    if (!labels.every(([id, label]) => /^[^\s,;="]+$/.test(id) && isLabel(label))) return undefined;
    return labels.length === 0 ? {} : { MICROSOFT365_LICENSES: labels.map((label) => label.join('=')).join(',') };
  },
};

const deviceFields: Key = {
  takes: 'a list of names of fields',
  variables(value) {
    const isField = (field: Json) => typeof field === 'string' && /^\w+$/.test(field);
    if (!Array.isArray(value) || !value.every(isField)) return undefined;
    return value.length === 0 ? {} : { MICROSOFT365_DEVICE_FIELDS: value.join(',') };
  },
};

/** The sections beside the bridges. */
const SECTIONS: Readonly<Record<string, Readonly<Record<string, Key>>>> = {
  ms_graph: {
    sleep: seconds('MICROSOFT365_SLEEP'),
    toomanyrequest_sleep: wholeSeconds('MICROSOFT365_TOOMANYREQUEST_SLEEP'),
    timeout: wholeSeconds('MICROSOFT365_TIMEOUT'),
    url_slicing: count('MICROSOFT365_URL_SLICING'),
  },
  elk: { sleep: seconds('STORE_ELASTICSEARCH_SLEEP'), threshold: count('STORE_ELASTICSEARCH_THRESHOLD') },
  json_filesystem: { sleep: seconds('STORE_FILE_SLEEP'), threshold: count('STORE_FILE_THRESHOLD'), path },
};

/** Keys that bridges of some datasets have beside their timing. */
const OWN: Readonly<Record<string, Readonly<Record<string, Key>>>> = {
  microsoft365_users: { licenses },
  microsoft365_device_apps: { device_fields: deviceFields },
};

/** Keys of a timing: of a bridge, and of all of them. */
const TIMING = ['sleep', 'fail_sleep', 'cron', 'timezone'] as const;

/** The bridge that stands for every other collector. */
const REST = '*';

/**
 * Reads a file of bridges, which may be the older system's config.json as it is.
 * @throws {ConfigError} naming everything in it that is wrong
 */
export function readBridges(file: string, cards: readonly Card[]): BridgesFile {
  return new Reading(file, cards).read(contentOf(file));
}

/** What stands in the file; a line of dots, as examples have it for what they leave out, is passed over. */
function contentOf(file: string): Json {
  const problem = (what: string, mend: string) => new ConfigError([configProblem(file, what, mend)]);
  let text: string;
  try {
    text = readFileSync(resolve(file), 'utf8');
  } catch (error) {
    throw problem(`the file cannot be read (${(error as NodeJS.ErrnoException).code})`, 'check the path');
  }
  try {
    return JSON.parse(text.replace(/^\uFEFF/, '').replace(/^[ \t]*\.\.\.,?[ \t]*$/gm, '')) as Json;
  } catch {
    throw problem('it is no JSON', 'check its commas, quotation marks and brackets');
  }
}

/** One reading of a file, which gathers what is wrong with it. */
class Reading {
  readonly #file: string;
  readonly #cards: readonly Card[];
  readonly #problems: Problem[] = [];
  readonly #variables = new Map<string, { value: string; at: string }>();

  constructor(file: string, cards: readonly Card[]) {
    this.#file = file;
    this.#cards = cards;
  }

  read(content: Json): BridgesFile {
    const sections = this.#object(content, '');
    for (const [name, value] of Object.entries(sections)) {
      const keys = found(SECTIONS, name);
      if (keys !== undefined) this.#settings(this.#object(value, name), name, keys);
      else if (name !== 'bridges') this.#unknown(name, '', ['bridges', ...Object.keys(SECTIONS)]);
    }
    const { bridges = {} } = sections;
    const result = this.#bridges(this.#object(bridges, 'bridges'));
    if (this.#problems.length > 0) throw new ConfigError(this.#problems);
    return { ...result, variables: this.#variables };
  }

  #bridges(content: JsonObject): Omit<BridgesFile, 'variables'> {
    const names = Object.keys(content).filter((name) => !TIMING.some((key) => key === name));
    const named = names
      .filter((name) => name !== REST)
      .map((name) => ({ name, datasets: this.#datasetsOf(name), at: `bridges.${name}` }))
      .filter(({ datasets }) => datasets.length > 0);
    const timings = new Map(
      named.map(({ name, datasets, at }) => {
        const own = Object.assign({}, ...datasets.map(([, tag]) => OWN[tag] ?? {})) as Readonly<Record<string, Key>>;
        return [name, this.#timing(this.#object(content[name] ?? {}, at), at, own)] as const;
      }),
    );
    const rest = content[REST];
    const others = rest === undefined ? undefined : this.#timing(this.#object(rest, 'bridges.*'), 'bridges.*', {});
    const general = Object.fromEntries(TIMING.flatMap((key) => (key in content ? [[key, content[key] ?? null]] : [])));
    return {
      bridges: this.#assigned(named).map((bridge) => ({ ...bridge, timing: timings.get(bridge.name) ?? {} })),
      others: names.length === 0 ? {} : others,
      all: this.#timing(general, 'bridges', {}),
    };
  }

  /** The datasets of a name, as `--only` takes them, and their tags; the older system’s names begin with ms_. */
  #datasetsOf(name: string): readonly (readonly [dataset: string, tag: string])[] {
    const wanted = name.replace(/^ms_/, 'microsoft365_');
    const found = this.#cards.flatMap((card) =>
      card.resources
        .filter((resource) => namesFor(card.name, resource).includes(wanted))
        .map((resource) => [`${card.name}.${resource}`, tagOf(card.name, resource)] as const),
    );
    if (found.length > 0) return found;
    const known = this.#cards.flatMap((card) => card.resources.flatMap((resource) => namesFor(card.name, resource)));
    const older = known.filter((one) => one.startsWith('microsoft365_')).map((one) => one.replace(/^\w+?_/, 'ms_'));
    this.#unknown(name, 'bridges', [...new Set([...TIMING, ...known, ...older])]);
    return [];
  }

  /** Each dataset goes to one bridge: that which names it alone, before that which names its collector. */
  #assigned(
    named: readonly { readonly name: string; readonly datasets: readonly (readonly [string, string])[] }[],
  ): readonly Omit<Bridge, 'timing'>[] {
    const taken = new Map<string, string>();
    for (const { name, datasets } of named.toSorted((a, b) => a.datasets.length - b.datasets.length)) {
      for (const [dataset] of datasets) {
        const other = taken.get(dataset);
        if (other === undefined) taken.set(dataset, name);
        else if (named.find((one) => one.name === other)?.datasets.length === datasets.length)
          this.#wrong(`bridges.${name}`, `it is ${dataset}, which bridges.${other} is too`, 'leave one of them out');
      }
    }
    return named
      .map(({ name }) => ({ name, only: [...taken].filter(([, of]) => of === name).map(([dataset]) => dataset) }))
      .filter(({ only }) => only.length > 0)
      .map((bridge) => ({ ...bridge, collector: bridge.only[0]?.split('.')[0] ?? '' }));
  }

  #timing(content: JsonObject, at: string, own: Readonly<Record<string, Key>>): Timing {
    const { sleep, fail_sleep: failSleep, cron, timezone, ...rest } = content;
    this.#settings(rest, at, own, TIMING);
    if (sleep !== undefined && cron !== undefined && at !== 'bridges')
      this.#wrong(`${at}.cron`, 'it goes with no sleep', 'leave one of them out');
    return {
      ...this.#amount('sleep', sleep, `${at}.sleep`),
      ...this.#amount('failSleep', failSleep, `${at}.fail_sleep`),
      ...this.#text('cron', cron, `${at}.cron`),
      ...this.#text('timezone', timezone, `${at}.timezone`),
    };
  }

  #amount(name: 'sleep' | 'failSleep', value: Json | undefined, at: string): Timing {
    if (value === undefined) return {};
    if (isAmount(value)) return { [name]: value };
    this.#typed(at, 'a number of seconds', value);
    return {};
  }

  #text(name: 'cron' | 'timezone', value: Json | undefined, at: string): Timing {
    if (value === undefined) return {};
    if (typeof value === 'string') return { [name]: value };
    this.#typed(at, 'a text', value);
    return {};
  }

  #settings(
    content: JsonObject,
    at: string,
    keys: Readonly<Record<string, Key>>,
    others: readonly string[] = [],
  ): void {
    for (const [name, value] of Object.entries(content)) {
      const key = found(keys, name);
      if (key === undefined) this.#unknown(name, at, [...Object.keys(keys), ...others]);
      else {
        const variables = key.variables(value);
        if (variables === undefined) this.#typed(`${at}.${name}`, key.takes, value);
        for (const [variable, text] of Object.entries(variables ?? {}))
          this.#variables.set(variable, { value: text, at: `${this.#file}: ${at}.${name}` });
      }
    }
  }

  #object(value: Json, at: string): JsonObject {
    if (isObject(value)) return value;
    this.#typed(at, 'an object', value);
    return {};
  }

  #typed(at: string, takes: string, value: Json): void {
    const is = kindOf(value);
    this.#wrong(at, `it must be ${takes}${takes.startsWith(is) ? '' : `, and is ${is}`}`, 'correct it');
  }

  #unknown(name: string, at: string, known: readonly string[]): void {
    const near = nearest(name, known);
    const some = known.length > 8 ? 'see cyber-collect list' : `write one of ${known.join(', ')}`;
    const mend = near === undefined ? some : `did you mean ${near}?`;
    this.#wrong(at === '' ? name : `${at}.${name}`, 'there is no such key', mend);
  }

  #wrong(at: string, what: string, mend: string): void {
    this.#problems.push(configProblem(at === '' ? this.#file : `${this.#file}: ${at}`, what, mend));
  }
}

function kindOf(value: Json): string {
  if (typeof value === 'string') return 'a text';
  if (Array.isArray(value)) return 'a list';
  return isObject(value) ? 'an object' : String(value);
}

/** What a table holds at a name that others chose. */
function found<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

/** An environment with what a file of bridges sets behind all else. */
export function withFile(environment: Environment, { variables }: BridgesFile): Environment {
  return {
    get(name) {
      const found = environment.get(name);
      if (found !== undefined && found.value !== '') return found;
      const set = variables.get(name);
      const elsewhere = environment.get(`${name}_FILE`)?.value ?? '';
      return set === undefined || elsewhere !== '' ? found : { value: set.value, from: set.at };
    },
  };
}
