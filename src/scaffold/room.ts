import { join } from 'node:path';
import type { NewFile } from './files.ts';

/** A room that is to be. */
export interface RoomPlan {
  /** In snake_case. */
  readonly name: string;
  /** The checkout of this project, or where rooms of one's own are; absolute. */
  readonly folder: string;
  /** Whether it becomes a part of this project. */
  readonly house: boolean;
  readonly language: 'ts' | 'js';
}

/** Its files, and what remains to be done, a line each. */
export interface Room {
  readonly files: readonly NewFile[];
  readonly next: readonly string[];
}

/** What is wrong with a name, if anything. */
export function faultOf(name: string): string | undefined {
  if (name.length > LONGEST) return `it has more than ${LONGEST} letters`;
  return /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(name) ? undefined : 'it is not in snake_case';
}

/** Datasets' names begin with it, and may have 63 letters. */
const LONGEST = 30;

/** `acme_cloud` -> `Acme Cloud`. */
export function titleOf(name: string): string {
  return name
    .split('_')
    .map((word) => `${word.charAt(0).toUpperCase()}${word.slice(1)}`)
    .join(' ');
}

/** `acme_cloud` -> `acme-cloud`. */
export function hostOf(name: string): string {
  return name.replaceAll('_', '-');
}

/** What a room imports of this project: names, and the entry of the package, such as `http/auth`. */
export type Imports = Readonly<Record<string, readonly string[]>>;

/** Where an entry of the package lies in the sources. */
const SOURCES: Readonly<Record<string, string>> = {
  collector: './collector.ts',
  store: './store.ts',
  setting: '../config/setting.ts',
  template: '../templating/template.ts',
  errors: '../errors.ts',
};

/** The import lines of a room, sorted by where from; types only in TypeScript. */
export function importsOf({ house, language }: RoomPlan, imports: Imports): string {
  const lines = Object.entries(imports).map(([entry, names]) => ({
    from: house ? (SOURCES[entry] ?? `../${entry}.ts`) : `cyber-collect/${entry}`,
    names: names.filter((name) => language === 'ts' || !name.startsWith('type ')),
  }));
  return lines
    .filter(({ names }) => names.length > 0)
    .sort((a, b) => (rank(a.from) < rank(b.from) ? -1 : 1))
    .map(({ from, names }) => `import ${clauseOf(names)} from '${from}';\n`)
    .join('');
}

/** What is farther away stands first. */
function rank(from: string): string {
  return from.startsWith('../') ? `0${from}` : `1${from}`;
}

function clauseOf(names: readonly string[]): string {
  const plain = names.map((name) => name.replace('type ', ''));
  const types = names.every((name) => name.startsWith('type '));
  return types ? `type { ${plain.join(', ')} }` : `{ ${names.join(', ')} }`;
}

/** A text whose lines stand behind a margin, as `  |text`, from the first one on. */
export function flush(text: string): string {
  return text.replace(/^\n/, '').replace(/^ *\|/gm, '');
}

/** The head that tests of rooms of one's own share: how they start the program. */
export function testHead(imports: string): string {
  return flush(`
    |${imports}
    |/** Runs cyber-collect with nothing but these variables. */
    |function cyberCollect(cwd, env, ...args) {
    |  const program = createRequire(import.meta.url).resolve('cyber-collect/package.json');
    |  const words = ['--', join(dirname(program), 'bin', 'cyber-collect.js'), ...args];
    |  return new Promise((resolve) => {
    |    execFile(process.execPath, words, { cwd, env }, (error, stdout, stderr) =>
    |      resolve({ code: error === null ? 0 : error.code, stdout, stderr }),
    |    );
    |  });
    |}
    |`);
}

/** The page of a room of one's own. */
export function pageOf({ name, folder }: RoomPlan, lines: readonly string[]): NewFile {
  return { path: join(folder, `${name}.md`), text: `${[`# ${titleOf(name)}`, ...lines].join('\n\n')}\n` };
}
