import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { root } from './build.ts';

/** A page of the documentation. */
export interface Page {
  /** From the repository's folder. */
  readonly path: string;
  readonly text: string;
}

/** A block of code. */
export interface Fence {
  readonly language: string;
  readonly text: string;
}

/** A command of a shell, its words without quotes. */
export interface ShellCommand {
  readonly words: readonly string[];
  /** Assignments that stand before it. */
  readonly env: Readonly<Record<string, string>>;
}

/** Every page that a user reads. */
export async function documentation(): Promise<readonly Page[]> {
  const below = await readdir(join(root, 'docs'), { recursive: true, withFileTypes: true });
  const pages = below
    .filter((entry) => entry.isFile() && entry.name.endsWith('.md'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
  const all = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...pages.sort()];
  return Promise.all(all.map(async (path) => ({ path, text: await readFile(join(root, path), 'utf8') })));
}

const FENCE = /^( *)```(\w*)[^\n]*\n([\s\S]*?)^\1```$/gm;

/** The blocks of code of a page. */
export function fencesOf(text: string): readonly Fence[] {
  return [...text.matchAll(FENCE)].map(([, indent = '', language = '', block = '']) => ({
    language,
    text: block.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  }));
}

/** A page without its blocks of code. */
function proseOf(text: string): string {
  return text.replaceAll(FENCE, '');
}

/** What stands in backticks in a page's prose. */
export function codeOf(text: string): readonly string[] {
  return [...proseOf(text).matchAll(/(?<!`)`([^`\n]+)`(?!`)/g)].map(([, code]) => (code ?? '').replaceAll('\\|', '|'));
}

/** Where a page's links lead. */
export function linksOf(text: string): readonly string[] {
  const prose = proseOf(text).replaceAll(/`[^`\n]+`/g, 'code');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target ?? '');
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsOf(text: string): ReadonlySet<string> {
  const headings = [...proseOf(text).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading ?? '');
  const plain = (heading: string) => heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
  return new Set(
    headings.map((heading) =>
      plain(heading)
        .replaceAll(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    ),
  );
}

/** Rows of the first table below a heading, without its head. */
export function rowsBelow(page: string, heading: string): readonly (readonly string[])[] {
  const lines = page.split('\n');
  const from = lines.findIndex((line) => /^#+ /.test(line) && line.replace(/^#+ /, '') === heading);
  const table = lines.slice(from + 1).findIndex((line) => line.startsWith('|'));
  if (from < 0 || table < 0) throw new Error(`there is no table below ${heading}`);
  const rest = lines.slice(from + 1 + table);
  const end = rest.findIndex((line) => !line.startsWith('|'));
  return rest.slice(2, end < 0 ? undefined : end).map((line) =>
    line
      .slice(1, -1)
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim()),
  );
}

const WORD =
  /[ \t]*(?:(#.*)|(\n|;|&&|\|\||\||&)|((?:\d?>>?(?:&\d)?|<)[ \t]*)|((?:'[^']*'|"[^"]*"|\\[\s\S]|[^\s;&|'"\\])+))/y;

/** The commands of a script, in their order, without comments and redirections. */
export function shellCommands(script: string): readonly ShellCommand[] {
  const text = `${script.replaceAll(/\\\n\s*/g, ' ').trimEnd()}\n`;
  const commands: { words: string[]; env: Record<string, string> }[] = [{ words: [], env: {} }];
  let skips = false;
  WORD.lastIndex = 0;
  for (let match = WORD.exec(text); match !== null; match = WORD.exec(text)) {
    const [, comment, end, redirection, raw] = match;
    const command = commands.at(-1);
    if (comment !== undefined || command === undefined) continue;
    if (end !== undefined) commands.push({ words: [], env: {} });
    else if (redirection !== undefined) skips = !redirection.includes('&');
    else if (raw !== undefined) {
      const word = raw.replaceAll(/'([^']*)'|"([^"]*)"|\\([\s\S])/g, (_, a, b, c) => a ?? b ?? c);
      const [, name, value = ''] = /^([A-Za-z_]\w*)=([\s\S]*)$/.exec(word) ?? [];
      if (skips) skips = false;
      else if (name !== undefined && command.words.length === 0) command.env[name] = value;
      else command.words.push(word);
    }
  }
  return commands.filter(({ words, env }) => words.length > 0 || Object.keys(env).length > 0);
}
