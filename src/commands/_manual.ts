import type { Argument, Command, Option } from 'commander';
import { detectShape } from '../config/detect.ts';
import { programShape } from '../config/program.ts';
import { defaultOf, factsOf } from '../config/setting.ts';
import { exitCodes } from '../run/exit.ts';

/** The manual page, in the macros of man(7), which every man reads. */
export function manualPage(program: Command): string {
  const parts = [
    // Without date and version, so that the page changes with what it says alone.
    `.\\" Written by \`cyber-collect docs\`. Do not edit.\n.TH CYBER\\-COLLECT 1 "" cyber\\-collect "User Commands"\n.nh`,
    section('NAME', `cyber\\-collect \\- extract whole security datasets from vendors to your stores`),
    section('SYNOPSIS', synopsis(program)),
    section('DESCRIPTION', INTRODUCTION.map(text).join('\n.PP\n')),
    section('COMMANDS', commandsBelow(program).map(command).join('\n')),
    section('EXIT STATUS', exits()),
    section('ENVIRONMENT', environment()),
    section('FILES', FILES.map(([path, about]) => entry(bold(path), text(about))).join('\n')),
    section('EXAMPLES', EXAMPLES.map(([about, line]) => example(about, line)).join('\n.PP\n')),
    section('SEE ALSO', text('The folder docs of the package, and cyber-collect COMMAND --help.')),
  ];
  return `${parts.join('\n')}\n`;
}

const INTRODUCTION = [
  'cyber-collect asks the APIs of security products for whole datasets and writes each to one or several stores. Environment variables switch collectors and stores on; cyber-collect list shows which, cyber-collect doctor tries them.',
  'A dataset is stored whole or not at all. What is not complete is said, and shows in the exit status.',
  'Flags win over the environment, the environment over --env-file, that over the default. What is asked for is printed on standard output, everything else on standard error.',
];

const FILES: readonly (readonly [string, string])[] = [
  [
    '.env',
    'Variables, NAME=value a line, read from the working directory where no --env-file is given. The file must not be readable by everyone.',
  ],
  [
    '.cyber-collect/',
    'The working state, unless CYBER_COLLECT_STATE names another folder: run records, cursors, what waits for stores that are down.',
  ],
  ['../data/source/%TAG/%TENANCY.json', 'Where datasets go, unless STORE_FILE says otherwise.'],
];

const EXAMPLES: readonly (readonly [string, string])[] = [
  ['Try it without credentials:', 'cyber-collect demo'],
  ['See what is configured, and whether it works:', 'cyber-collect list && cyber-collect doctor'],
  [
    'Collect everything within 50 minutes, and keep the summary:',
    'cyber-collect run --deadline 50m --output json > summary.json',
  ],
  [
    'Two datasets, of one of them the first records:',
    'cyber-collect run --only okta.users,okta.groups && cyber-collect peek okta.users',
  ],
];

function synopsis(program: Command): string {
  return `.B cyber\\-collect\n.I command\n.RI [ options ]\n.br\n.B cyber\\-collect\n${flag(program.options[0])}`;
}

function flag(option: Option | undefined): string {
  return `.B ${roff(option?.long ?? '--version')}`;
}

/** What a person calls; a command that only has others below stands for them. */
function commandsBelow(program: Command): readonly Command[] {
  const help = program.createHelp();
  return help
    .visibleCommands(program)
    .filter((one) => one.name() !== 'help')
    .flatMap((one) => (one.commands.length > 0 ? commandsBelow(one) : [one]));
}

function command(one: Command): string {
  const parents: string[] = [];
  for (let up: Command | null = one; up?.parent; up = up.parent) parents.unshift(up.name());
  const words = [...parents.map(roff), ...one.registeredArguments.map(operand)];
  const others = one.aliases().length > 0 ? ` Also called ${one.aliases().join(', ')}.` : '';
  const options = one.createHelp().visibleOptions(one);
  return [
    `.SS ${words.join(' ')}`,
    text(`${sentence(one.description())}${others}`),
    ...one.registeredArguments.filter(({ description }) => description !== '').map(described),
    ...options.filter(({ long }) => long !== '--help').map(optionEntry),
  ].join('\n');
}

function operand(argument: Argument): string {
  const name = `${roff(argument.name())}${argument.variadic ? ' ...' : ''}`;
  return argument.required ? italic(name) : `[${italic(name)}]`;
}

function described(argument: Argument): string {
  const choices = argument.argChoices === undefined ? '' : `: ${argument.argChoices.join(', ')}`;
  return entry(italic(roff(argument.name())), text(`${sentence(`${argument.description}${choices}`)}`));
}

function optionEntry(option: Option): string {
  const [, value = ''] = /([<[].*)$/.exec(option.flags) ?? [];
  const names = [option.short, option.long].filter((name) => name !== undefined).map(bold);
  const shown = value.replace(/[\w-]+/, (word) => italic(roff(word))).replace(/[<>]/g, '');
  const facts = [
    ...(option.argChoices === undefined ? [] : [`one of ${option.argChoices.join(', ')}`]),
    ...(option.defaultValue === undefined || Array.isArray(option.defaultValue)
      ? []
      : [`default ${option.defaultValue}`]),
  ];
  const about = `${option.description}${facts.length > 0 ? ` (${facts.join('; ')})` : ''}`;
  return entry(`${names.join(', ')}${shown === '' ? '' : ` ${shown}`}`, text(sentence(about)));
}

function exits(): string {
  const rows = [...exitCodes]
    .sort(([a], [b]) => a - b)
    .map(([code, about]) => entry(bold(String(code)), text(sentence(about))));
  const order = `When several apply, the first of ${[...exitCodes.keys()].join(', ')} counts.`;
  return [...rows, '.PP', text(order)].join('\n');
}

function environment(): string {
  const intro =
    'Each collector and store has variables of its own: cyber-collect explain NAME and the file .env.example tell of them. NAME_FILE names a file that holds the value of NAME. Those of the program itself:';
  const rows = Object.entries({ ...programShape, ...detectShape }).map(([name, type]) => {
    const fallback = defaultOf(type) ?? '';
    return entry(
      bold(name),
      text(sentence(`${factsOf(type).about}${fallback === '' ? '' : ` (default ${fallback})`}`)),
    );
  });
  return [text(intro), ...rows].join('\n');
}

function example(about: string, line: string): string {
  return `${text(about)}\n.PP\n.in +4n\n.EX\n${roff(line)}\n.EE\n.in`;
}

function section(title: string, body: string): string {
  return `.SH ${title}\n${body}`;
}

/** A tagged paragraph. */
function entry(tag: string, body: string): string {
  return `.TP\n${tag}\n${body}`;
}

function sentence(words: string): string {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.:]$/.test(words) ? '' : '.'}`;
}

/** Prose, each sentence on a line of its own, as roff wants it, which is folded where it is long. */
function text(words: string): string {
  return words
    .split(/(?<=[.:]) (?=[A-Z])/)
    .flatMap((line) => folded(roff(line)))
    .map((line) => line.replace(/^[.']/, '\\&$&')) // no line begins as a macro would
    .join('\n');
}

function folded(line: string): readonly string[] {
  const lines: string[] = [];
  for (const word of line.split(' ')) {
    const before = lines.at(-1);
    if (before !== undefined && before.length + word.length < WIDTH) lines[lines.length - 1] = `${before} ${word}`;
    else lines.push(word);
  }
  return lines;
}

const WIDTH = 78;

function bold(word: string): string {
  return `\\fB${roff(word)}\\fR`;
}

function italic(escaped: string): string {
  return `\\fI${escaped}\\fR`;
}

/** Text in which roff finds nothing of its own. */
function roff(words: string): string {
  return words
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(
      /[^\n -~]/gu,
      (letter) => `\\[u${(letter.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}]`,
    );
}
