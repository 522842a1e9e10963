import { type Environment, isShared, layered, type Origin, processEnvironment } from '../config/environment.ts';
import type { ConfigFile, Section, Value } from '../config/file.ts';
import { fileShape, isSecret, mainOf, pathIn, programKeys, type RoomKind, roomKeys, runShape } from '../config/keys.ts';
import { REFERENCE } from '../config/managers.ts';
import { programAliases } from '../config/program.ts';
import { formOf, type Shape, type Values } from '../config/setting.ts';
import { configProblem, type Problem } from '../errors.ts';
import type { Cards } from './cards.ts';
import { type Index, openIndex, type Rooms } from './discover.ts';
import { nearest } from './select.ts';

/** The environment with what a configuration file adds. */
export interface Configured {
  readonly environment: Environment;
  readonly index: Index;
  /** What the file takes from variables that it names, which a process of a tenant is not given. */
  readonly named: Readonly<Record<string, string>>;
  /** Holds what the file says against what the rooms that it is about have declared. */
  check(rooms: Rooms): Findings;
}

/** What is wrong with a file. */
export interface Findings {
  readonly problems: readonly Problem[];
  /** References to variables that are not set: wrong where secrets are needed. */
  readonly unset: readonly Problem[];
  /** Where secrets stand in clear. */
  readonly clear: readonly string[];
}

/** How a file is taken. */
export interface Taking {
  /** Of a tenant's run, whose collectors have their variables from its own file alone. */
  readonly tenant: boolean;
  /** Where problems with the user's own rooms are collected; thrown otherwise. */
  readonly collected?: Problem[] | undefined;
}

/** One thing that a file sets. */
interface Found {
  readonly variable: string;
  readonly value: Value;
  /** What it says as text; of a reference, what it names. */
  readonly text: string;
  readonly reference?: 'env' | 'file';
  readonly path: string;
  readonly where: string;
  /** Other names of the variable, alias -> name. */
  readonly aliases: Readonly<Record<string, string>>;
}

/** Puts a configuration file below an environment: whatever that sets by any of its names, the file does not. */
export async function configure(
  base: Environment,
  file: ConfigFile | undefined,
  { tenant, collected }: Taking,
): Promise<Configured> {
  if (file === undefined) {
    const check = () => ({ problems: [], unset: [], clear: [] });
    return { environment: base, index: await openIndex(base, collected), named: {}, check };
  }
  const problems: Problem[] = [];
  const own = programIn(file, problems).filter(({ variable }) => !tenant || isShared(variable));
  const first = layerOf(own, base, file, tenant);
  const index = await openIndex(layered([base, first.layer]), collected);
  const found = [...own, ...roomsIn(file, index.cards, { tenant, problems })];
  const { layer, variables, named, unset } = layerOf(found, base, file, tenant);
  problems.push(...unknownIn(file, index.cards), ...contradictory(found));
  return {
    environment: layered([base, layer]),
    index,
    named,
    check: (rooms) => ({
      problems: [...problems, ...wrongTypes(found, rooms)],
      unset,
      clear: found.filter((one) => isClear(one, variables, file, rooms)).map(({ where }) => where),
    }),
  };
}

/** What a file says in place of the flags of `run`, as far as it can be understood. */
export function runSettings({ content }: ConfigFile): Partial<Values<typeof runShape>> {
  const section = content.entries.get('run');
  if (section?.kind !== 'section') return {};
  const said = Object.entries(runShape).flatMap(([key, type]) => {
    const value = section.entries.get(key);
    const text = value === undefined ? undefined : textOf(value);
    const parsed = type.safeParse(text);
    return text !== undefined && parsed.success ? [[key, parsed.data] as const] : [];
  });
  return Object.fromEntries(said);
}

/** What tells where something stands. */
interface Reading {
  readonly file: ConfigFile;
  readonly problems: Problem[];
}

function whereOf({ name }: ConfigFile, path: string, line: number | undefined): string {
  return line === undefined ? `${name}: ${path}` : `${name}:${line}: ${path}`;
}

/** The settings of the program itself; says which sections are none. */
function programIn(file: ConfigFile, problems: Problem[]): readonly Found[] {
  const sections = programKeys();
  const top = sections.get('') ?? new Map<string, string>();
  const reading = { file, problems };
  return [...file.content.entries].flatMap(([key, value]) => {
    const variable = top.get(key);
    if (variable !== undefined) return taken(reading, { variable, value, path: key, aliases: programAliases });
    if (key === '$schema') return wrongSchema(reading, value);
    const section = sections.get(key);
    if (section !== undefined || key === 'run') {
      const others = key === 'run' ? Object.keys(runShape) : [];
      return inSection(reading, { path: key, value, keys: section ?? new Map(), others, aliases: programAliases });
    }
    return [];
  });
}

/** Keys at the top that are nothing; a room stands in one of the two sections of rooms. */
function unknownIn(file: ConfigFile, cards: Cards): readonly Problem[] {
  const sections = programKeys();
  const known = [...new Set([...(sections.get('')?.keys() ?? []), 'collectors', 'stores', ...sections.keys(), 'run'])];
  const names = [...known.filter((name) => name !== ''), '$schema'];
  return [...file.content.entries]
    .filter(([key]) => !names.includes(key))
    .map(([key, value]) => {
      const kind = (['collectors', 'stores'] as const).find((one) => cards[one].some(({ name }) => name === key));
      return unknown({ file, problems: [] }, key, value, kind === undefined ? names : [pathIn(kind, key)]);
    });
}

function wrongSchema({ file, problems }: Reading, value: Value): readonly Found[] {
  if (value.kind !== 'text')
    problems.push(configProblem(whereOf(file, '$schema', value.line), 'must be text', 'write the URL of a schema'));
  return [];
}

/** The settings of collectors and stores. */
function roomsIn(
  file: ConfigFile,
  cards: Cards,
  { tenant, problems }: { readonly tenant: boolean; readonly problems: Problem[] },
): readonly Found[] {
  const reading = { file, problems };
  return (['collectors', 'stores'] as const).flatMap((kind) => {
    const section = file.content.entries.get(kind);
    if (section === undefined || section.kind === 'nothing') return [];
    if (section.kind !== 'section') {
      problems.push(notSection(reading, kind, section));
      return [];
    }
    const found = [...section.entries].flatMap(([name, value]) => roomIn(reading, cards, kind, name, value));
    if (!tenant) return found;
    return kind === 'collectors' ? [] : found.filter(({ variable }) => isShared(variable));
  });
}

function roomIn(reading: Reading, cards: Cards, kind: RoomKind, name: string, value: Value): readonly Found[] {
  const card = cards[kind].find((one) => one.name === name);
  const path = pathIn(kind, name);
  if (card === undefined) {
    const names = cards[kind].map((one) => one.name);
    reading.problems.push(unknown(reading, path, value, names, kind));
    return [];
  }
  const main = mainOf(kind, card);
  const { aliases } = card;
  const keys = roomKeys(kind, card);
  const reference = value.kind === 'section' ? referenceIn(value)?.reference : undefined;
  const isMain = value.kind !== 'section' || (reference !== undefined && !keys.has(reference));
  if (isMain && main !== undefined) return taken(reading, { variable: main, value, path, aliases });
  return inSection(reading, { path, value, keys, others: [], aliases });
}

/** A section, and what may stand in it. */
interface Expected {
  readonly path: string;
  readonly value: Value;
  /** Key -> variable. */
  readonly keys: ReadonlyMap<string, string>;
  /** Keys that are no variables. */
  readonly others: readonly string[];
  readonly aliases: Readonly<Record<string, string>>;
}

function inSection(reading: Reading, { path, value, keys, others, aliases }: Expected): readonly Found[] {
  if (value.kind === 'nothing') return [];
  if (value.kind !== 'section') {
    reading.problems.push(notSection(reading, path, value));
    return [];
  }
  return [...value.entries].flatMap(([key, inner]) => {
    const variable = keys.get(key);
    if (variable !== undefined) return taken(reading, { variable, value: inner, path: pathIn(path, key), aliases });
    if (others.includes(key)) {
      reading.problems.push(...wrongRun(reading.file, key, inner));
      return [];
    }
    // Whoever comes from variables writes the variable's name.
    const byName = [...keys].find(([, name]) => name === key || aliases[key] === name)?.[0];
    const known = byName === undefined ? [...keys.keys(), ...others] : [byName];
    reading.problems.push(unknown(reading, pathIn(path, key), inner, known, path));
    return [];
  });
}

function wrongRun(file: ConfigFile, key: string, value: Value): readonly Problem[] {
  const type = (runShape as Shape)[key];
  const where = whereOf(file, pathIn('run', key), value.line);
  return type === undefined || value.kind === 'nothing' ? [] : wrongValue(where, value, type);
}

function taken(
  { file, problems }: Reading,
  { variable, value, path, aliases }: Pick<Found, 'variable' | 'value' | 'path' | 'aliases'>,
): readonly Found[] {
  if (value.kind === 'nothing') return [];
  const where = whereOf(file, path, value.line);
  const found = { variable, value, path, where, aliases };
  const named = value.kind === 'section' ? referenceIn(value) : undefined;
  if (named !== undefined) return [{ ...found, ...named }];
  const text = textOf(value);
  if (text !== undefined) return [{ ...found, text }];
  const mend = 'write a value, { env: NAME } or { file: PATH }';
  problems.push(configProblem(where, value.kind === 'list' ? LIST_OF_WORDS : 'must be one value', mend));
  return [];
}

const LIST_OF_WORDS = 'must be a list of words without commas and semicolons';

/** `{ env: NAME }` or `{ file: PATH }`. */
function referenceIn({ entries }: Section): Pick<Found, 'text' | 'reference'> | undefined {
  const [[key, value] = ['', undefined], ...others] = [...entries];
  if (others.length > 0 || value?.kind !== 'text' || value.text === '') return undefined;
  return key === 'env' || key === 'file' ? { text: value.text, reference: key } : undefined;
}

/** A value as a variable holds it; undefined for what none can hold. */
function textOf(value: Value): string | undefined {
  if (value.kind === 'text' || value.kind === 'number' || value.kind === 'flag') return value.text;
  if (value.kind !== 'list') return undefined;
  const words = value.items.map((item) => (item.kind === 'list' ? undefined : textOf(item)));
  return words.some((word) => word === undefined || /[,;]/.test(word)) ? undefined : words.join(',');
}

function notSection({ file }: Reading, path: string, value: Value): Problem {
  const where = whereOf(file, path, value.line);
  return configProblem(
    where,
    'must be a section of keys and values',
    `write ${path.split('.').at(-1)}: { key: value }`,
  );
}

function unknown({ file }: Reading, path: string, value: Value, known: readonly string[], section = ''): Problem {
  const key = path.split('.').at(-1) ?? path;
  const near = known.length === 1 ? known[0] : nearest(key, known);
  const some = known.slice(0, 12).join(', ');
  const mend =
    near === undefined
      ? `use one of ${some}${known.length > 12 ? ' and others, see docs/configuration.md' : ''}`
      : `did you mean ${pathIn(section, near)}?`;
  return configProblem(whereOf(file, path, value.line), `nothing is called '${key}' here`, mend, 'Unknown name');
}

/** A variable that stands in two sections, as that of AWS may, says the same in both. */
function contradictory(found: readonly Found[]): readonly Problem[] {
  const firsts = new Map<string, Found>();
  return found.flatMap((one) => {
    const { variable, path, where, text, reference } = one;
    const first = firsts.get(variable);
    if (first === undefined) firsts.set(variable, one);
    if (first === undefined || (first.text === text && first.reference === reference)) return [];
    return [configProblem(where, `${first.path} and ${path} are the same setting (${variable})`, 'set it once')];
  });
}

/** Types of the program and of the rooms that are loaded: those of which anything is set. */
function typesIn(rooms: Rooms): Shape {
  const shapes: readonly Shape[] = [...rooms.collectors, ...rooms.stores].map(({ env }) => env as Shape);
  return Object.assign({}, ...shapes, fileShape) as Shape;
}

function wrongTypes(found: readonly Found[], rooms: Rooms): readonly Problem[] {
  const types = typesIn(rooms);
  return found.flatMap(({ variable, value, where, reference, text }) => {
    const type = types[variable];
    if (type === undefined || reference !== undefined || REFERENCE.test(text)) return [];
    return wrongValue(where, value, type);
  });
}

function wrongValue(where: string, value: Value, type: Shape[string]): readonly Problem[] {
  const { kind } = formOf(type);
  if (value.kind === 'list' && kind !== 'list')
    return [configProblem(where, 'must be one value, no list', 'correct it')];
  if (value.kind === 'flag' && kind !== 'flag')
    return [configProblem(where, 'must be no true or false', 'write a value, text in quotes')];
  const text = textOf(value);
  if (text === undefined)
    return [configProblem(where, kind === 'list' ? LIST_OF_WORDS : 'must be one value', 'correct it')];
  const parsed = type.safeParse(text);
  return parsed.success ? [] : [configProblem(where, parsed.error.issues[0]?.message ?? 'is not valid', 'correct it')];
}

function isClear(
  { variable, text, reference }: Found,
  variables: ReadonlyMap<string, Origin>,
  file: ConfigFile,
  rooms: Rooms,
): boolean {
  if (reference !== undefined || !variables.has(variable)) return false;
  return isSecret(typesIn(rooms), variable) && !REFERENCE.test(text) && file.holds(text);
}

/** What is found as variables, without those that the environment sets by any name. */
function layerOf(found: readonly Found[], base: Environment, file: ConfigFile, tenant: boolean) {
  const variables = new Map<string, Origin>();
  const unset: Problem[] = [];
  const named: Record<string, string> = {};
  const elsewhere = tenant ? layered([base, processEnvironment()]) : base;
  for (const { variable, text, reference, path, where, aliases } of found) {
    if (isSetIn(base, variable, aliases)) continue;
    const from = `${file.name}: ${path}`;
    if (reference === 'file') variables.set(`${variable}_FILE`, { value: text, from });
    else if (reference === undefined) {
      const isData = REFERENCE.test(text) || !file.holds(text);
      variables.set(variable, { value: text, from, ...(isData ? {} : { file: file.path }) });
    } else {
      const origin = elsewhere.get(text);
      if (origin === undefined || origin.value === '') {
        unset.push(configProblem(where, `the variable ${text} is not set`, `set ${text}`));
        continue;
      }
      variables.set(variable, { ...origin, from: `${text} by ${from}` });
      named[variable] = origin.value;
    }
  }
  const layer: Environment = { get: (name) => variables.get(name), names: () => [...variables.keys()] };
  return { layer, variables, named, unset };
}

/** Whether an environment sets a variable by any of its names; an empty one is set, too: to nothing. */
function isSetIn(environment: Environment, variable: string, aliases: Found['aliases']): boolean {
  if (environment.get(variable) !== undefined) return true;
  const names = [variable, ...Object.keys(aliases).filter((alias) => aliases[alias] === variable)];
  const others = [...names.slice(1), ...names.map((name) => `${name}_FILE`)];
  return others.some((name) => (environment.get(name)?.value ?? '') !== '');
}
