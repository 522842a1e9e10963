import type { Argument, Command, Option } from 'commander';
import { tagOf } from '../collectors/collector.ts';
import { readCards } from '../run/cardfile.ts';
import type { Cards } from '../run/cards.ts';

/** One way in which a word can go on. */
interface Candidate {
  readonly word: string;
  readonly about?: string;
}

/** How the last word of a command line can go on. */
interface Completion {
  readonly candidates: readonly Candidate[];
  /** The word is a path: the shell knows better. */
  readonly files?: boolean;
  /** More of the same word may follow, such as a comma. */
  readonly open?: boolean;
}

/** Prints how the last of some words can go on: a line a candidate, `:files` and `:open` as the shells' scripts know them. */
export async function complete(program: Command, words: readonly string[]): Promise<number> {
  const cards = readCards([]) ?? (await (await import('../run/discover.ts')).cardsOfHouse());
  const { candidates, files, open } = completionOf(program, words, cards);
  const lines = candidates.map(({ word, about = '' }) => `${word}\t${about}`);
  const marks = [...(files === true ? [':files'] : []), ...(open === true ? [':open'] : [])];
  process.stdout.write([...marks, ...lines].map((line) => `${line}\n`).join(''));
  return 0;
}

/** How the last of some words behind the program's name can go on. */
function completionOf(program: Command, words: readonly string[], cards: Cards): Completion {
  const { whole, split } = joined(words);
  const last = whole.at(-1) ?? '';
  const place = placeOf(program, whole.slice(0, -1));
  const completion = at(place, last, cards);
  const candidates = completion.candidates.filter(({ word }) => word.startsWith(last));
  // bash has cut the word in two at the =, and puts in what stands behind it.
  const cut = split ? last.indexOf('=') + 1 : 0;
  return { ...completion, candidates: candidates.map((one) => ({ ...one, word: one.word.slice(cut) })) };
}

/** bash hands over `--output=json` as three words. */
function joined(words: readonly string[]): { readonly whole: readonly string[]; readonly split: boolean } {
  const whole: string[] = [];
  let split = false;
  for (const [n, word] of words.entries()) {
    const before = whole.at(-1);
    const goesOn: boolean =
      before !== undefined && (word === '=' ? /^--[\w-]+$/.test(before) : words[n - 1] === '=' && split);
    if (goesOn) whole[whole.length - 1] = before + word;
    else whole.push(word);
    split = goesOn;
  }
  return { whole, split };
}

/** Where in a command line a word stands. */
interface Place {
  readonly command: Command;
  /** Whose value the word is, or may be. */
  readonly option?: Option;
  /** Arguments of the command that are there already. */
  readonly given: number;
  /** Behind `--`, where nothing is a flag. */
  readonly plain: boolean;
  readonly used: ReadonlySet<string>;
}

function placeOf(program: Command, words: readonly string[]): Place {
  const used = new Set<string>();
  let place: Place = { command: program, given: 0, plain: false, used };
  for (const word of words) {
    const { option, ...rest } = place;
    const flag = !place.plain && /^-./.test(word);
    if (option?.required || (option !== undefined && !flag)) place = rest;
    else if (!place.plain && word === '--') place = { ...rest, plain: true };
    else if (flag) {
      const named = flagsOf(place.command).find(({ long, short }) => word === long || word === short);
      for (const name of [named?.long, named?.short]) if (name !== undefined) used.add(name);
      const takes = named?.required === true || named?.optional === true;
      place = takes ? { ...rest, option: named } : rest;
    } else {
      const command = place.given > 0 ? undefined : below(place.command, word);
      place = command === undefined ? { ...rest, given: place.given + 1 } : { ...rest, command };
    }
  }
  return place;
}

function below(command: Command, word: string): Command | undefined {
  return command.commands.find((one) => one.name() === word || one.aliases().includes(word));
}

function flagsOf(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command);
}

function commandsOf(command: Command): readonly Candidate[] {
  const help = command.createHelp();
  return help.visibleCommands(command).flatMap((one) => {
    const about = help.subcommandDescription(one);
    return [one.name(), ...one.aliases()].map((word) => ({ word, about }));
  });
}

function at(place: Place, last: string, cards: Cards): Completion {
  const { command, option, given, plain } = place;
  if (option?.required || (option !== undefined && !last.startsWith('-'))) return valuesOf(option, last, cards);
  const assigned = /^(--[\w-]+)=/.exec(last)?.[1];
  if (!plain && assigned !== undefined) {
    const named = flagsOf(command).find(({ long }) => long === assigned);
    const value = last.slice(assigned.length + 1);
    const { candidates, ...rest } = named === undefined ? NOTHING : valuesOf(named, value, cards);
    return { ...rest, candidates: candidates.map((one) => ({ ...one, word: `${assigned}=${one.word}` })) };
  }
  if (!plain && last.startsWith('-')) return { candidates: flags(place) };
  const below = given === 0 && command.commands.length > 0 ? commandsOf(command) : [];
  if (below.length > 0) return { candidates: below };
  const argument =
    command.registeredArguments[given] ?? command.registeredArguments.findLast(({ variadic }) => variadic);
  if (argument !== undefined) return argumentsOf(command, argument, last, cards);
  return plain || last !== '' || given > 0 ? NOTHING : { candidates: flags(place) };
}

const NOTHING: Completion = { candidates: [] };

/** Flags by their long names, without switches that are on already. */
function flags({ command, used }: Place): readonly Candidate[] {
  return flagsOf(command)
    .filter(({ long, short, required, optional }) => required || optional || !used.has(long ?? short ?? ''))
    .map(({ long, short, description }) => ({ word: long ?? short ?? '', about: description }));
}

/** What a flag can be set to, going by the word in its brackets. */
function valuesOf(option: Option, value: string, cards: Cards): Completion {
  if (option.argChoices !== undefined) return { candidates: option.argChoices.map((word) => ({ word })) };
  const what = /[<[](\w+)/.exec(option.flags)?.[1] ?? '';
  if (FILES.has(what)) return { candidates: [], files: true };
  const comma = value.lastIndexOf(',') + 1;
  const last = value.slice(comma);
  const names =
    option.long === '--store'
      ? cards.stores.map(({ name, title }) => ({ word: name, about: title }))
      : what === 'collectors'
        ? collectors(cards)
        : what === 'names'
          ? datasets(last, cards)
          : [];
  return { candidates: names.map((one) => ({ ...one, word: value.slice(0, comma) + one.word })), open: true };
}

const FILES = new Set(['file', 'files', 'path', 'folder']);

function argumentsOf(command: Command, argument: Argument, last: string, cards: Cards): Completion {
  const name = argument.name();
  if (argument.argChoices !== undefined) return { candidates: argument.argChoices.map((word) => ({ word })) };
  if (FILES.has(name)) return { candidates: [], files: true };
  if (name === 'collector') return { candidates: collectors(cards) };
  if (name === 'name' || name === 'dataset') return { candidates: datasets(last, cards) };
  return name === 'command' && command.parent !== null ? { candidates: commandsOf(command.parent) } : NOTHING;
}

function collectors(cards: Cards): readonly Candidate[] {
  return cards.collectors.map(({ name, title }) => ({ word: name, about: title }));
}

/** Names of collectors; of their datasets once it is clear whose. */
function datasets(word: string, cards: Cards): readonly Candidate[] {
  const near = cards.collectors.filter(({ name }) => name.startsWith(word) || word.startsWith(`${name}.`));
  const only = near.length === 1 ? near[0] : near.find(({ name }) => name === word);
  if (only !== undefined) {
    const own = only.resources.map((resource) => ({ word: `${only.name}.${resource}`, about: only.title }));
    return [...collectors({ ...cards, collectors: near }), ...own];
  }
  if (near.length > 0) return collectors({ ...cards, collectors: near });
  return cards.collectors.flatMap(({ name, title, resources }) =>
    resources.map((resource) => ({ word: tagOf(name, resource), about: title })),
  );
}
