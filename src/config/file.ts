import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { extname, resolve } from 'node:path';
import type { Document, LineCounter, Node as YamlNode } from 'yaml';
import { ConfigError, configProblem, type Problem } from '../errors.ts';
import { moduleLoader } from './modules.ts';

/** What stands in a configuration file, by kind. */
export type Value =
  | { readonly kind: 'text' | 'number' | 'flag'; readonly text: string; readonly line?: number }
  | { readonly kind: 'list'; readonly items: readonly Value[]; readonly line?: number }
  | Section
  | { readonly kind: 'nothing' | 'other'; readonly line?: number };

/** Keys and what they hold; a line is that of the key. */
export interface Section {
  readonly kind: 'section';
  readonly entries: ReadonlyMap<string, Value>;
  readonly line?: number;
}

/** A configuration file that was read, and not yet understood. */
export interface ConfigFile {
  readonly path: string;
  /** As it is called in messages. */
  readonly name: string;
  readonly content: Section;
  /** Whether this text stands in the file as it is, so that who reads the file knows it. */
  holds(text: string): boolean;
}

const NAME = 'cyber-collect.config';
const ENDS = ['.json', '.yaml', '.yml', '.ts', '.js'];
/** Deeper than any key that is known. */
const DEEPEST = 5;

/**
 * Reads the configuration file that is named, or else the one of the working directory if there is one.
 * @throws {ConfigError} for a file that cannot be read or understood, and for two where one is meant
 */
export async function readConfig(named: string | undefined, cwd = process.cwd()): Promise<ConfigFile | undefined> {
  const found = named === undefined ? filesIn(cwd) : [named];
  const [name] = found;
  if (name === undefined) return undefined;
  if (found.length > 1) {
    throw new ConfigError([configProblem(found.join(' and '), 'there is more than one configuration', 'keep one')]);
  }
  const end = extname(name).toLowerCase();
  if (!ENDS.includes(end)) {
    throw new ConfigError([configProblem(name, `a configuration ends with ${ENDS.join(', ')}`, 'rename the file')]);
  }
  const path = resolve(cwd, name);
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    const mend = 'check the path and its permissions';
    throw new ConfigError([configProblem(path, `the configuration cannot be read (${error.code})`, mend)]);
  });
  const isModule = end === '.ts' || end === '.js';
  const content = isModule ? await contentOfModule(path, name) : await contentOfText(text, name);
  // A module may take its secrets from elsewhere; what data says, stands there.
  return { path, name, content, holds: (value) => !isModule || text.includes(value) };
}

function filesIn(cwd: string): readonly string[] {
  const names = new Set(ENDS.map((end) => `${NAME}${end}`));
  try {
    return readdirSync(cwd).filter((name) => names.has(name));
  } catch {
    return []; // a working directory that cannot be listed has none
  }
}

const EMPTY: Section = { kind: 'section', entries: new Map() };

/** Says what is wrong by the parser's code: its messages quote the file, which may hold secrets. */
const WRONG: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'a key stands there twice',
  MISSING_CHAR: 'a quote, bracket or comma is missing',
  TAB_AS_INDENT: 'a tab is used to indent',
  BAD_INDENT: 'it is not indented as what is above it',
  MULTIPLE_DOCS: 'a second document begins',
  TAG_RESOLVE_FAILED: 'a tag is not known',
};

async function contentOfText(text: string, name: string): Promise<Section> {
  const { parseDocument, LineCounter } = await import('yaml');
  const lines = new LineCounter();
  const document = parseDocument(text.replace(/^\uFEFF/, ''), { lineCounter: lines, prettyErrors: false });
  const problems = [...document.errors, ...document.warnings].map(({ code, pos: [at] }) =>
    configProblem(`${name}:${lines.linePos(at).line}`, WRONG[code] ?? 'it cannot be understood', 'correct the line'),
  );
  if (problems.length > 0) throw new ConfigError(problems);
  const reader = { document, lines, yaml: await import('yaml') };
  return sectionOrThrow(ofYaml(document.contents as YamlNode | null, reader, 0), name);
}

/** What values are read out of. */
interface Reader {
  readonly document: Document;
  readonly lines: LineCounter;
  readonly yaml: typeof import('yaml');
}

function ofYaml(found: YamlNode | null, reader: Reader, depth: number, key?: number): Value {
  const { document, lines, yaml } = reader;
  const node = yaml.isAlias(found) ? (found.resolve(document) ?? null) : found;
  const start = key ?? found?.range?.[0];
  const at = start === undefined ? {} : { line: lines.linePos(start).line };
  if (depth > DEEPEST) return { kind: 'other', ...at };
  if (yaml.isMap(node)) {
    const entries = node.items.map(({ key, value }): [string, Value] => {
      const from = yaml.isScalar(key) ? key.range?.[0] : undefined;
      const name = yaml.isScalar(key) ? String(key.value) : 'a key that is no text';
      return [name, ofYaml(value as YamlNode | null, reader, depth + 1, from)];
    });
    return { kind: 'section', entries: new Map(entries), ...at };
  }
  if (yaml.isSeq(node)) {
    return { kind: 'list', items: node.items.map((item) => ofYaml(item as YamlNode, reader, depth + 1)), ...at };
  }
  if (!yaml.isScalar(node)) return { kind: 'nothing', ...at };
  // As it is written: 0123 is an id that begins with 0.
  return { ...scalar(node.value, node.source), ...at };
}

async function contentOfModule(path: string, name: string): Promise<Section> {
  const load = await moduleLoader();
  const module = await load(path).catch((error: unknown) => {
    throw new ConfigError([configProblem(name, `it cannot be loaded: ${failureOf(error)}`, 'correct it')]);
  });
  // Where there is no default, jiti gives all exports for it.
  const content = Object.hasOwn(module as object, 'default') ? (module as { readonly default: unknown }).default : null;
  if (content === null || content === undefined) {
    throw new ConfigError([configProblem(name, 'it exports no configuration', 'write export default { ... }')]);
  }
  return sectionOrThrow(ofObject(content, 0), name);
}

/** What is safe to say of an error: its message may quote the file, or what the file read. */
function failureOf(error: unknown): string {
  const { name = 'Error', message = '' } = error as Partial<Error>;
  const missing = /^Cannot find (?:module|package) '[^'\n]+'/.exec(message)?.[0];
  const line = /^ParseError:[\s\S]*:(\d+):\d+$/.exec(message.trim())?.[1];
  return missing ?? (line === undefined ? name : `line ${line} is not understood`);
}

function ofObject(value: unknown, depth: number): Value {
  if (value === null || value === undefined) return { kind: 'nothing' };
  if (depth > DEEPEST) return { kind: 'other' };
  if (Array.isArray(value)) return { kind: 'list', items: value.map((item) => ofObject(item, depth + 1)) };
  if (typeof value !== 'object') return scalar(value);
  const kind = Object.getPrototypeOf(value);
  // A module of the user's own has objects of another realm, whose prototypes are not ours.
  if (kind !== null && Object.getPrototypeOf(kind) !== null) return { kind: 'other' };
  const entries = Object.entries(value).map(([key, inner]): [string, Value] => [key, ofObject(inner, depth + 1)]);
  return { kind: 'section', entries: new Map(entries) };
}

function scalar(value: unknown, source?: string): Value {
  if (value === null) return { kind: 'nothing' };
  if (typeof value === 'string') return { kind: 'text', text: value };
  if (typeof value === 'number' || typeof value === 'bigint') return { kind: 'number', text: source ?? String(value) };
  if (typeof value === 'boolean') return { kind: 'flag', text: String(value) };
  return { kind: 'other' };
}

function sectionOrThrow(value: Value, name: string): Section {
  if (value.kind === 'section') return value;
  if (value.kind === 'nothing') return EMPTY;
  const problems: readonly Problem[] = [configProblem(name, 'it holds no sections', 'write tenancy: acme')];
  throw new ConfigError(problems);
}
