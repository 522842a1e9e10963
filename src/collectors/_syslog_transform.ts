import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import type { RE2JS } from 're2js';
import type { z } from 'zod';
import { CollectError } from '../errors.ts';
import { at, isObject, type Json, type JsonObject } from '../json.ts';

/** What becomes of a record; undefined for one that is left out. */
export type Transform = (record: JsonObject) => JsonObject | undefined;

/** What tells lines apart, and what tables of events have as columns. */
const KEPT = ['device_name', 'date', 'event_id', 'data'];
const NAME = /^[A-Za-z][\w-]*$/;
const MOST_DEPTH = 64;

/**
 * The steps of a file, JSON or YAML, as one function.
 * @throws {CollectError} config, with every problem of the file
 */
export async function transformOf(path: string): Promise<Transform> {
  const [{ parse }, { z }, { RE2JS }] = await Promise.all([import('yaml'), import('zod'), import('re2js')]);
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw wrong(path, [`cannot be read (${cause.code})`]);
  });
  let told: unknown;
  try {
    told = parse(text);
  } catch (cause) {
    throw wrong(path, [`is neither YAML nor JSON: ${(cause as Error).message.split('\n')[0]}`]);
  }
  const read = shapeOf(z, (pattern) => RE2JS.compile(pattern)).safeParse(told);
  if (!read.success) throw wrong(path, read.error.issues.map(issueText));
  const steps = read.data.map(stepOf);
  return (record) => {
    let now: JsonObject | undefined = record;
    for (const step of steps) {
      now = step(now);
      if (now === undefined) return undefined;
    }
    return now;
  };
}

function wrong(path: string, findings: readonly string[]): CollectError {
  return new CollectError('config', `SYSLOG_TRANSFORM: ${path}: ${findings.join('; ')}`, {
    mend: 'correct the file: it is a list of steps, each with one of drop, parse, rename or add',
  });
}

function issueText(issue: z.core.$ZodIssue): string {
  const { path } = issue;
  const place = path.map((part, n) => (typeof part === 'number' ? `[${part}]` : `${n > 0 ? '.' : ''}${String(part)}`));
  const message = (issue.code === 'invalid_key' ? issue.issues[0]?.message : undefined) ?? issue.message;
  return `${place.join('') || 'the file'}: ${message}`;
}

const ACTIONS = ['drop', 'parse', 'rename', 'add'] as const;

/** What a file of steps may say. */
function shapeOf(
  { strictObject, array, string, record, literal, number, boolean, enum: oneOf }: Zod,
  compile: Compile,
) {
  const pattern = patternOf(string(), compile);
  const name = string()
    .regex(NAME, 'is no name of a field: a letter, then letters, digits, _ and -')
    .refine((field) => !KEPT.includes(field), 'is a field that every event keeps');
  const source = string().refine((field) => !KEPT.includes(field), 'is a field that every event keeps');
  const fields = record(string().min(1), pattern);
  const parse = strictObject({
    as: oneOf(['json', 'keyvalue', 'pattern']),
    from: string().default('message'),
    into: name.default('parsed'),
    pattern: pattern.optional(),
  })
    .refine(({ as, pattern: given }) => (as === 'pattern') === (given !== undefined), 'needs as: pattern and pattern')
    .refine(
      ({ pattern: given }) => given === undefined || Object.keys(given.namedGroups()).length > 0,
      'has a pattern without a named group, such as (?P<user>\\S+)',
    );
  const step = strictObject({
    when: fields.optional(),
    unless: fields.optional(),
    drop: literal(true).optional(),
    parse: parse.optional(),
    rename: record(source, name).optional(),
    add: record(name, string().or(number()).or(boolean())).optional(),
  })
    .refine((one) => ACTIONS.filter((action) => one[action] !== undefined).length === 1, {
      message: `needs one of ${ACTIONS.join(', ')}`,
    })
    .refine(({ drop, when, unless }) => drop === undefined || when !== undefined || unless !== undefined, {
      message: 'would drop every line: say when, or unless',
    });
  return array(step).min(1, 'holds no step');
}

/** RE2 has neither look-around nor back-references: no line can make it slow. */
function patternOf(text: z.ZodString, compile: Compile) {
  return text.transform((source, { addIssue }) => {
    try {
      return compile(source);
    } catch (cause) {
      addIssue({ code: 'custom', message: `is no regular expression of RE2: ${(cause as Error).message}` });
      return compile('');
    }
  });
}

type Zod = typeof z;
type Compile = (pattern: string) => RE2JS;
type Step = z.infer<ReturnType<typeof shapeOf>>[number];
type Parse = NonNullable<Step['parse']>;

function stepOf(step: Step): Transform {
  const { when, unless } = step;
  const act = actionOf(step);
  const wanted = Object.entries(when ?? {});
  const unwanted = Object.entries(unless ?? {});
  const fits = (record: JsonObject, tests: typeof wanted) => tests.every(([path, re]) => re.test(textOf(record, path)));
  return (record) => {
    if (!fits(record, wanted) || (unwanted.length > 0 && fits(record, unwanted))) return record;
    return act(record);
  };
}

function actionOf({ parse, rename, add }: Step): Transform {
  if (parse !== undefined) return (record) => parsed(record, parse);
  if (rename !== undefined) return (record) => renamed(record, new Map(Object.entries(rename)));
  if (add === undefined) return () => undefined;
  const constants = Object.entries(add).map(([name, value]) => [name, value === '%HOST' ? hostname() : value] as const);
  return (record) => ({ ...record, ...Object.fromEntries(constants) });
}

/** A field as text; an absent one is empty. */
function textOf(record: JsonObject, path: string): string {
  const found = at(record, path);
  return typeof found === 'string' ? found : found === null || found === undefined ? '' : JSON.stringify(found);
}

/** What a field says under names of its own; the record as it is where it does not say it that way. */
function parsed(record: JsonObject, { as, from, into, pattern }: Parse): JsonObject {
  const text = textOf(record, from);
  const found = as === 'json' ? objectIn(text) : as === 'keyvalue' ? pairsIn(text) : groupsIn(text, pattern);
  return found === undefined ? record : { ...record, [into]: found };
}

function objectIn(text: string): JsonObject | undefined {
  const json = text.replace(/^@cee: ?/, '');
  if (!json.trimStart().startsWith('{') || isDeep(json)) return undefined;
  try {
    const value = JSON.parse(json) as Json;
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Brackets in strings count too: what is that deep is no log. */
function isDeep(json: string): boolean {
  let depth = 0;
  for (const char of json) {
    if (char === '{' || char === '[') depth += 1;
    else if (char === '}' || char === ']') depth -= 1;
    if (depth > MOST_DEPTH) return true;
  }
  return false;
}

const KEY = /[^\s=,;"]+/y;
const BARE = /[^\s,;"]*/y;
const OTHER = /[\s=,;"]+/y;

/** `key=value` and `key="a \"value\""`, with spaces, commas or semicolons between; other words are passed over. */
function pairsIn(text: string): JsonObject | undefined {
  const pairs: [string, Json][] = [];
  const take = (expression: RegExp, from: number) => {
    expression.lastIndex = from;
    return expression.exec(text)?.[0] ?? '';
  };
  for (let place = take(OTHER, 0).length; place < text.length; place += take(OTHER, place).length) {
    const key = take(KEY, place);
    place += key.length;
    if (text[place] !== '=') continue;
    const end = text[place + 1] === '"' ? quoteEnd(text, place + 2) : -1;
    const value = end < 0 ? take(BARE, place + 1) : text.slice(place + 2, end);
    pairs.push([key, end < 0 ? value : value.replace(/\\(.)/gs, '$1')]);
    place = end < 0 ? place + 1 + value.length : end + 1;
  }
  return pairs.length === 0 ? undefined : Object.fromEntries(pairs);
}

/** The place of the quote that ends a text; -1 where none does. */
function quoteEnd(text: string, from: number): number {
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === '"') return at;
  }
  return -1;
}

function groupsIn(text: string, pattern: RE2JS | undefined): JsonObject | undefined {
  const matcher = pattern?.matcher(text);
  if (pattern === undefined || matcher?.find() !== true) return undefined;
  return Object.fromEntries(Object.keys(pattern.namedGroups()).map((name) => [name, matcher.group(name)]));
}

/** Fields under new names, in their old places; a path brings what lies deeper to the top. */
function renamed(record: JsonObject, names: ReadonlyMap<string, string>): JsonObject {
  const moved = [...names].flatMap(([path, name]) => {
    const value = path in record ? undefined : at(record, path);
    return value === undefined ? [] : [[name, value] as const];
  });
  const there = Object.entries(record).map(([name, value]) => [names.get(name) ?? name, value] as const);
  return Object.fromEntries([...there, ...moved]);
}
