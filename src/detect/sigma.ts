import type { Document, LineCounter } from 'yaml';
import { isObject } from '../json.ts';
import { conditionOf, type Event, every, type Holds, some } from './condition.ts';
import { itemOf } from './predicates.ts';

const yaml = await import('yaml');

/** A rule that is ready to be asked. */
export interface SigmaRule {
  /** Its id, or where it has none its name or title. */
  readonly id: string;
  readonly title: string;
  readonly level?: string;
  readonly status?: string;
  readonly tags?: readonly string[];
  readonly falsepositives?: readonly string[];
  /** Fields of the event that are worth showing. */
  readonly fields?: readonly string[];
  readonly logsource: Readonly<Record<string, string>>;
  /** The fields that match, '' for keywords; undefined where the rule does not. Events are not to be changed. */
  matches(event: Event): readonly string[] | undefined;
}

/** A rule that is not used, and why. */
export interface SigmaRefusal {
  readonly file: string;
  readonly line?: number;
  readonly why: string;
}

const LEVELS = ['informational', 'low', 'medium', 'high', 'critical'];

/** Where in a rule something is wrong. */
class Refusal extends Error {
  readonly path: readonly string[];

  constructor(path: readonly string[], why: string) {
    super(why);
    this.path = path;
  }
}

/**
 * Reads the Sigma rules of a file, which may hold several documents; a rule with anything that is not understood is
 * refused whole, as it would find something else than it says, and the others are used.
 * The semantics are those of https://github.com/SigmaHQ/sigma-specification, version 2.
 */
export function readSigma(
  text: string,
  file: string,
): { readonly rules: readonly SigmaRule[]; readonly refused: readonly SigmaRefusal[] } {
  const lines = new yaml.LineCounter();
  const rules: SigmaRule[] = [];
  const refused: SigmaRefusal[] = [];
  const options = { intAsBigInt: true, stringKeys: true, prettyErrors: false, lineCounter: lines } as const;
  for (const document of yaml.parseAllDocuments(text.replace(/^\uFEFF/, ''), options)) {
    try {
      const rule = ruleOf(document);
      if (rule !== undefined) rules.push(rule);
    } catch (thrown) {
      refused.push({ file, ...refusalOf(thrown, document, lines) });
    }
  }
  return { rules, refused };
}

function refusalOf(thrown: unknown, document: Document.Parsed, lines: LineCounter): Omit<SigmaRefusal, 'file'> {
  const [wrong] = document.errors;
  if (wrong !== undefined) return { line: lines.linePos(wrong.pos[0]).line, why: `it is no YAML: ${wrong.message}` };
  if (!(thrown instanceof Refusal)) return { why: 'it is nested too deeply or uses too many aliases' };
  const offset = offsetOf(document, thrown.path);
  return { ...(offset === undefined ? {} : { line: lines.linePos(offset).line }), why: thrown.message };
}

/** Where the deepest part of a path begins that is there. */
function offsetOf(document: Document.Parsed, path: readonly string[]): number | undefined {
  let node: unknown = document.contents;
  let offset = document.contents?.range?.[0];
  for (const name of path) {
    const parent = yaml.isAlias(node) ? node.resolve(document) : node;
    const pair = yaml.isMap(parent)
      ? parent.items.find(({ key }) => yaml.isScalar(key) && key.value === name)
      : undefined;
    const item = yaml.isSeq(parent) ? parent.items[Number(name)] : undefined;
    const start = pair?.key ?? item;
    if (!yaml.isNode(start)) break;
    offset = start.range?.[0] ?? offset;
    node = pair?.value ?? item;
  }
  return offset;
}

/** The rule of a document; none where it is empty. */
function ruleOf(document: Document.Parsed): SigmaRule | undefined {
  const rule: unknown = document.errors.length > 0 ? undefined : document.toJS();
  if (rule === null) return undefined;
  if (!isObject(rule)) throw new Refusal([], 'it is no map');
  for (const kind of ['correlation', 'filter', 'action']) {
    if (kind in rule) throw new Refusal([kind], `it is no rule by itself: '${kind}' is not supported`);
  }
  const title = textOf(rule, 'title');
  if (title === undefined) throw new Refusal(['title'], 'it has no title');
  const level = textOf(rule, 'level');
  if (level !== undefined && !LEVELS.includes(level)) {
    throw new Refusal(['level'], `the level '${level}' is none of ${LEVELS.join(', ')}`);
  }
  const status = textOf(rule, 'status');
  if (status === 'unsupported') throw new Refusal(['status'], 'its own status is unsupported');
  const held = detectionOf(rule.detection);
  const tags = textsOf(rule, 'tags');
  const falsepositives = textsOf(rule, 'falsepositives');
  const fields = textsOf(rule, 'fields');
  return {
    id: textOf(rule, 'id') ?? textOf(rule, 'name') ?? title,
    title,
    ...(level === undefined ? {} : { level }),
    ...(status === undefined ? {} : { status }),
    ...(tags === undefined ? {} : { tags }),
    ...(falsepositives === undefined ? {} : { falsepositives }),
    ...(fields === undefined ? {} : { fields }),
    logsource: logsourceOf(rule.logsource),
    matches(event) {
      if (!held(event)) return undefined;
      const told = new Set<string>();
      held(event, told);
      return [...told];
    },
  };
}

function textOf(rule: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = rule[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string' || value === '') throw new Refusal([name], `its ${name} is no text`);
  return value;
}

function textsOf(rule: Readonly<Record<string, unknown>>, name: string): readonly string[] | undefined {
  const value = rule[name];
  if (value === undefined || value === null) return undefined;
  return (Array.isArray(value) ? value : [value]).map(String);
}

function logsourceOf(value: unknown): Readonly<Record<string, string>> {
  if (!isObject(value)) throw new Refusal(['logsource'], 'it has no logsource');
  return Object.fromEntries(
    Object.entries(value).map(([name, text]) => {
      if (typeof text !== 'string') throw new Refusal(['logsource', name], `the ${name} of its logsource is no text`);
      return [name, text];
    }),
  );
}

// Detection

function detectionOf(value: unknown): Holds {
  if (!isObject(value)) throw new Refusal(['detection'], 'it has no detection');
  const searches = new Map<string, Holds>();
  for (const [name, search] of Object.entries(value)) {
    if (name === 'timeframe')
      throw new Refusal(['detection', name], 'a timeframe over several events is not supported');
    if (name !== 'condition') searches.set(name, searchOf(search, ['detection', name]));
  }
  const { condition } = value;
  const conditions = Array.isArray(condition) ? condition : [condition];
  if (conditions.length === 0 || !conditions.every((one): one is string => typeof one === 'string')) {
    throw new Refusal(['detection', 'condition'], 'it has no condition');
  }
  return some(conditions.map((one) => at(['detection', 'condition'], () => conditionOf(one, searches))));
}

/** A search: a map of which all holds, or a list of maps and keywords of which one does. */
function searchOf(search: unknown, path: readonly string[]): Holds {
  if (Array.isArray(search)) {
    if (search.length === 0) throw new Refusal(path, 'the search is empty');
    return some(
      search.map((part: unknown, n) => {
        if (Array.isArray(part)) throw new Refusal([...path, String(n)], 'a list in a list is not supported');
        return searchOf(part, [...path, String(n)]);
      }),
    );
  }
  if (!isObject(search)) return at(path, () => itemOf('', search));
  const items = Object.entries(search);
  if (items.length === 0) throw new Refusal(path, 'the search is empty');
  return every(items.map(([key, value]) => at([...path, key], () => itemOf(key, value))));
}

/** What is made of one place of a rule; what is wrong there is told with the place. */
function at(path: readonly string[], make: () => Holds): Holds {
  try {
    return make();
  } catch (thrown) {
    if (thrown instanceof SyntaxError) throw new Refusal(path, thrown.message);
    throw thrown;
  }
}
