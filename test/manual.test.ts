import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { detectShape } from '../src/config/detect.ts';
import { programShape } from '../src/config/program.ts';
import { exitCodes } from '../src/run/exit.ts';
import { root } from './support/build.ts';
import { program } from './support/program.ts';
import { temporaryFolder } from './support/run.ts';

let page: string;

beforeAll(async () => {
  const folder = await temporaryFolder();
  const args = ['--', join(root, 'bin', 'cyber-collect.js'), 'docs'];
  await promisify(execFile)(process.execPath, args, { cwd: folder });
  page = await readFile(join(folder, 'man', 'cyber-collect.1'), 'utf8');
});

/** What stands between a heading and the next one, as a reader sees its letters. */
function section(title: string): string {
  const [, body = ''] = page.split(`.SH ${title}\n`);
  return (body.split('\n.SH ')[0] ?? '').replace(/\\f[BIR]|\\&/g, '').replaceAll('\\-', '-');
}

test('has the sections of a manual page, in their order', () => {
  expect([...page.matchAll(/^\.SH (.*)$/gm)].map(([, title]) => title)).toEqual([
    'NAME',
    'SYNOPSIS',
    'DESCRIPTION',
    'COMMANDS',
    'EXIT STATUS',
    'ENVIRONMENT',
    'FILES',
    'EXAMPLES',
    'SEE ALSO',
  ]);
});

test('has every command and flag that --help has', async () => {
  const folder = await temporaryFolder();
  const helpOf = async (...words: string[]) => (await program(folder, [...words, '--help']).ended).stdout;
  const commandsIn = (help: string) =>
    [...(help.split('\nCommands:\n')[1] ?? '').matchAll(/^ {2}([a-z_]+)/gm)].map(([, name = '']) => name);
  const flagsIn = (help: string) => [...help.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map(([, name = '']) => name);
  const commands = commandsIn(await helpOf()).filter((name) => name !== 'help');
  const headings = [...section('COMMANDS').matchAll(/^\.SS (.*)$/gm)].map(([, heading = '']) => heading);
  expect(commands.filter((name) => !headings.some((heading) => heading.split(' ')[0] === name))).toEqual([]);
  expect(headings.map((heading) => heading.split(' ')[0])).toEqual(expect.arrayContaining(['run', 'fleet', 'worker']));
  for (const name of [['run'], ['drain'], ['fleet', 'submit']]) {
    const [, rest = ''] = section('COMMANDS').split(`.SS ${name.join(' ')}`);
    const own = rest.split('\n.SS ')[0] ?? '';
    const flags = flagsIn(await helpOf(...name)).filter((flag) => flag !== '--help');
    expect(flags.length).toBeGreaterThan(5);
    expect(flags.filter((flag) => !new RegExp(`^(-\\w, )?${flag}( |$)`, 'm').test(own))).toEqual([]);
  }
});

test('has every exit code, as the page on them has them', async () => {
  const text = await readFile(join(root, 'docs', 'exit-codes.md'), 'utf8');
  const [table = ''] = text.split('\n## ');
  const rows = [...table.matchAll(/^\| (\d+) \| (.*?) \|/gm)].map(([, code, about = '']) => [
    Number(code),
    about.replaceAll('`', ''),
  ]);
  expect(new Map(rows as [number, string][])).toEqual(new Map([...exitCodes].toSorted(([a], [b]) => a - b)));
  for (const code of exitCodes.keys()) expect(section('EXIT STATUS')).toContain(`.TP\n${code}\n`);
  expect(text).toContain(`130/143, ${[...exitCodes.keys()].slice(2).join(', ')} counts`);
});

test('has every variable of the program', () => {
  const names = [...section('ENVIRONMENT').matchAll(/^\.TP\n(\w+)$/gm)].map(([, name]) => name);
  expect(names).toEqual(Object.keys({ ...programShape, ...detectShape }));
});

test('has nothing that roff would take for its own', () => {
  const known = /^\.(\\"|TH|SH|SS|TP|PP|B|I|RI|br|nh|in|EX|EE)( |$)/;
  expect(page.split('\n').filter((line) => /^[.']/.test(line) && !known.test(line))).toEqual([]);
  // Minus signs that can be copied, and letters that every terminal's man finds.
  expect(page.replaceAll('\\-', '').replace(/^\..*$/gm, '')).not.toMatch(/-/);
  expect(page).not.toMatch(/[^\n -~]/);
  expect([...page.matchAll(/\\(?!fB|fI|fR|-|&|e|\[u[0-9A-F]{4,}\]|")/g)]).toEqual([]);
});
