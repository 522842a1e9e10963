import { readFile } from 'node:fs/promises';
import type { RE2JS } from 're2js';
import { CollectError, ConfigError, configProblem, type Problem } from '../errors.ts';
import { isObject } from '../json.ts';
import { literalOf } from './literals.ts';

/** Counts events by what their texts hold. */
export interface Counters {
  readonly names: readonly string[];
  /** Adds to each count how many of the lines hold it. */
  count(lines: Buffer, counts: Record<string, number>): void;
}

/** What the older analyser counted, by the names of its table's columns. */
const OLDER = { memory: 'memory', cpu: 'cpu', priviledge_escalation: 'sudo' };
/** Other fields of a row of counts. */
const TAKEN = ['id', 'events', 'alerts', 'source', 'date'];

/**
 * The counters of the older analyser and one's own: `name=regex; name=regex`, or the path of a JSON file of them.
 * @throws {ConfigError} for names and expressions that are none
 */
export async function countersOf(own: string | undefined): Promise<Counters> {
  const problems: Problem[] = [];
  const wanted = { ...OLDER, ...(own === undefined ? {} : await ownCounters(own, problems)) };
  const { RE2JS } = await import('re2js');
  const counters: Counter[] = [];
  for (const [name, source] of Object.entries(wanted)) {
    const problem = (message: string, mend: string) => problems.push(configProblem('DETECT_COUNTERS', message, mend));
    if (!/^[a-z][a-z0-9_]{0,62}$/.test(name) || TAKEN.includes(name)) {
      problem(`'${name}' is no name of a counter`, 'use lower-case letters, digits and underscores');
      continue;
    }
    try {
      counters.push(counterOf(name, source, RE2JS.compile(source)));
    } catch {
      problem(`${name}: it is no regular expression of RE2`, 'correct it');
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return {
    names: counters.map(({ name }) => name),
    count(lines, counts) {
      for (const { name, count } of counters) counts[name] = (counts[name] ?? 0) + count(lines);
    },
  };
}

interface Counter {
  readonly name: string;
  count(lines: Buffer): number;
}

const LF = 10;

function counterOf(name: string, source: string, pattern: RE2JS): Counter {
  const plain = /^[\w /:-]+$/.test(source) ? source : undefined;
  const literal = plain === undefined ? literalOf(source) : undefined;
  const word = plain ?? (literal?.folds === false ? literal.text : undefined);
  const fits = (line: Buffer) => plain !== undefined || pattern.matcher(line).find();
  return { name, count: (lines) => (word === undefined ? countEach(lines, fits) : countWith(lines, word, fits)) };
}

/** Lines that hold a text and fit. */
function countWith(lines: Buffer, word: string, fits: (line: Buffer) => boolean): number {
  const bytes = Buffer.from(word);
  let count = 0;
  for (let at = lines.indexOf(bytes); at >= 0; ) {
    const end = lineEnd(lines, at);
    if (fits(lines.subarray(lines.lastIndexOf(LF, at) + 1, end))) count += 1;
    at = lines.indexOf(bytes, end);
  }
  return count;
}

function countEach(lines: Buffer, fits: (line: Buffer) => boolean): number {
  let count = 0;
  for (let at = 0; at < lines.length; ) {
    const end = lineEnd(lines, at);
    if (fits(lines.subarray(at, end))) count += 1;
    at = end + 1;
  }
  return count;
}

function lineEnd(lines: Buffer, at: number): number {
  const end = lines.indexOf(LF, at);
  return end < 0 ? lines.length : end;
}

async function ownCounters(text: string, problems: Problem[]): Promise<Readonly<Record<string, string>>> {
  if (!text.includes('=') || /\.json$/i.test(text)) return countersIn(text);
  const pairs = text.split(/[;\n]/).filter((pair) => pair.trim() !== '');
  return Object.fromEntries(
    pairs.map((pair) => {
      const [, name = pair.trim(), source = ''] = /^\s*([^=\s]+)\s*=(.+)$/s.exec(pair) ?? [];
      if (source === '')
        problems.push(configProblem('DETECT_COUNTERS', `'${name}' has no expression`, 'write name=regex'));
      return [name, source.trim()];
    }),
  );
}

async function countersIn(path: string): Promise<Readonly<Record<string, string>>> {
  const mend = 'name a JSON file such as {"logins": "Accepted|Failed"}, or write name=regex';
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CollectError('config', `DETECT_COUNTERS: ${path} cannot be read (${cause.code})`, { mend });
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  if (isObject(json) && Object.values(json).every((value) => typeof value === 'string')) {
    return json as Record<string, string>;
  }
  throw new CollectError('config', `DETECT_COUNTERS: ${path} is no JSON object of regular expressions`, { mend });
}
