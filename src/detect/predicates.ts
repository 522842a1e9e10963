import type { RE2JS as Pattern } from 're2js';
import { isObject } from '../json.ts';
import { maskedTo, parseAddress, parseRange } from './addresses.ts';
import { type Event, every, type Holds, some } from './condition.ts';
import { literalOf } from './literals.ts';
import { ANY, dashed, fold, type Piece, piecesOf, wildcardTest } from './wildcards.ts';

const { RE2JS } = await import('re2js');

/** A value of a field: as it is, as text, and as text in one case; no text of what is null, an object, or not there. */
interface Read {
  readonly raw: unknown;
  readonly text?: string;
  readonly folded?: string;
}

/** Whether one value of a field is as a rule says; `text` is in one case unless the rule minds. */
type Test = (text: string | undefined, raw: unknown) => boolean;

/** A value as YAML has it, whole numbers with all their digits. */
type Value = string | number | bigint | boolean | null;

const ANCHORS = ['contains', 'startswith', 'endswith'];
const WIDE = ['wide', 'utf16le', 'utf16be', 'utf16'];
const BASE64 = ['base64', 'base64offset'];
const STRING = [...ANCHORS, ...WIDE, ...BASE64, 'windash', 'cased', 'all'];
const MOST_DIGITS = 400;
const ORDERS = ['gt', 'gte', 'lt', 'lte'];
const FLAGS: Readonly<Record<string, number>> = {
  i: RE2JS.CASE_INSENSITIVE,
  m: RE2JS.MULTILINE,
  s: RE2JS.DOTALL,
};

/** What each modifier that changes a value's kind may be joined with. */
const JOINS: Readonly<Record<string, readonly string[]>> = {
  exists: [],
  fieldref: [...ANCHORS, 'cased', 'all'],
  re: [...Object.keys(FLAGS), 'all'],
  cidr: ['all'],
  ...Object.fromEntries(ORDERS.map((order) => [order, ['all']])),
};

/**
 * One line of a search: a field with modifiers, as `CommandLine|contains|all`, and its value or values; a key without
 * a field looks at every text of the event.
 * @throws {SyntaxError} with what is wrong with it
 */
export function itemOf(key: string, value: unknown): Holds {
  const [field = '', ...modifiers] = key.split('|');
  const kind = kindOf(modifiers);
  const values = valuesOf(value);
  if (field === '' && kind !== 'string' && kind !== 're') throw new SyntaxError(`'${kind}' needs a field`);
  if (field === '' && values.some((one) => one === '' || one === null)) throw new SyntaxError('a keyword is empty');
  if (kind === 'exists') return existing(field, values);
  if (kind === 'fieldref') return referring(field, values, modifiers);
  const tests = values.map((one) => testOf(one, kind, field === '' ? [...modifiers, 'contains'] : modifiers));
  const folds = !modifiers.includes('cased') && kind !== 're';
  const all = modifiers.includes('all');
  return (event, told) => {
    const read = field === '' ? leavesOf(event) : fieldOf(event, field);
    for (const test of tests) {
      if (meets(test, read, folds) === all) continue;
      if (all) return false;
      told?.add(field);
      return true;
    }
    if (all) told?.add(field);
    return all;
  };
}

function meets(test: Test, read: readonly Read[], folds: boolean): boolean {
  for (const { raw, text, folded } of read) if (test(folds ? folded : text, raw)) return true;
  return false;
}

/** The modifier that says what the values are, or 'string'. */
function kindOf(modifiers: readonly string[]): string {
  for (const modifier of modifiers) {
    if (modifier === 'neq') throw new SyntaxError("the modifier 'neq' is not supported; say it with 'not'");
    const known = [JOINS, FLAGS].some((names) => Object.hasOwn(names, modifier)) || STRING.includes(modifier);
    if (!known) throw new SyntaxError(`the modifier '${modifier}' is not supported`);
  }
  const [kind = 'string'] = modifiers.filter((modifier) => modifier in JOINS);
  const joins = JOINS[kind] ?? STRING;
  const wrong = modifiers.find((modifier) => modifier !== kind && !joins.includes(modifier));
  const flag = modifiers.findIndex((modifier) => modifier in FLAGS);
  if (flag >= 0 && !modifiers.slice(0, flag).includes('re')) throw new SyntaxError("'i', 'm' and 's' come after 're'");
  if (wrong !== undefined) throw new SyntaxError(`the modifier '${wrong}' cannot be joined with '${kind}'`);
  if (new Set(modifiers).size < modifiers.length) throw new SyntaxError('a modifier stands there twice');
  return kind;
}

function valuesOf(value: unknown): readonly Value[] {
  const values = Array.isArray(value) ? value : [value];
  if (values.length === 0) throw new SyntaxError('the list of values is empty');
  if (!values.every(isValue)) throw new SyntaxError('a value is neither text, number, true, false nor null');
  return values;
}

function isValue(value: unknown): value is Value {
  return value === null || ['string', 'number', 'bigint', 'boolean'].includes(typeof value);
}

function testOf(value: Value, kind: string, modifiers: readonly string[]): Test {
  if (kind === 're') return regexTest(value, modifiers);
  if (kind === 'cidr') return rangeTest(value);
  if (ORDERS.includes(kind)) return orderTest(value, kind);
  if (value !== null) return stringTest(value, modifiers);
  if (modifiers.some((modifier) => modifier !== 'all')) throw new SyntaxError('null can have no modifier');
  return (_, raw) => raw === null || raw === undefined;
}

// Texts

function stringTest(value: Exclude<Value, null>, modifiers: readonly string[]): Test {
  const tests = anchored(encoded(value, modifiers), modifiers).map((pieces) => textTest(pieces, modifiers));
  const [only] = tests;
  if (tests.length === 1 && only !== undefined) return (text) => text !== undefined && only(text);
  return (text) => text !== undefined && tests.some((test) => test(text));
}

/** What is looked for: the value itself, or how it looks in Base64 or after a dash of another kind. */
function encoded(value: Exclude<Value, null>, modifiers: readonly string[]): readonly (readonly Piece[])[] {
  const pieces = typeof value === 'string' ? piecesOf(value) : [String(value)];
  const base64 = modifiers.filter((modifier) => BASE64.includes(modifier));
  const wide = modifiers.filter((modifier) => WIDE.includes(modifier));
  if (base64.length === 0 && wide.length === 0) return [modifiers.includes('windash') ? dashed(pieces) : pieces];
  const order = modifiers.filter((modifier) => [...WIDE, ...BASE64, ...ANCHORS, 'windash'].includes(modifier));
  const right = [...wide, ...base64, ...order.filter((one) => ANCHORS.includes(one))];
  if (wide.length > 1 || base64.length !== 1 || order.join() !== right.join()) {
    throw new SyntaxError('an encoding is one of wide and utf16 at most, then base64 or base64offset, then contains');
  }
  const [text = ''] = pieces;
  if (pieces.length > 1 || typeof text !== 'string') throw new SyntaxError('what is encoded can have no wildcards');
  const bytes = wideBytes(text, wide[0]);
  return base64[0] === 'base64' ? [[bytes.toString('base64')]] : [0, 1, 2].map((shift) => [shifted(bytes, shift)]);
}

function wideBytes(text: string, modifier: string | undefined): Buffer {
  if (modifier === undefined) return Buffer.from(text);
  const bytes = Buffer.from(`${modifier === 'utf16' ? '\uFEFF' : ''}${text}`, 'utf16le');
  return modifier === 'utf16be' ? bytes.swap16() : bytes;
}

/** The part of the Base64 of some bytes that does not depend on what is before them, at one of three places. */
function shifted(bytes: Buffer, shift: number): string {
  const text = Buffer.concat([Buffer.alloc(shift), bytes])
    .toString('base64')
    .replace(/=+$/, '');
  const whole = (shift + bytes.length) % 3 === 0;
  return text.slice(Math.ceil((shift * 4) / 3), whole ? undefined : -1);
}

function anchored(wanted: readonly (readonly Piece[])[], modifiers: readonly string[]): readonly (readonly Piece[])[] {
  const before = modifiers.includes('contains') || modifiers.includes('endswith') ? ([ANY] as const) : [];
  const after = modifiers.includes('contains') || modifiers.includes('startswith') ? ([ANY] as const) : [];
  return wanted.map((pieces) => [...before, ...pieces, ...after]);
}

function textTest(pieces: readonly Piece[], modifiers: readonly string[]): (text: string) => boolean {
  const cased = modifiers.includes('cased');
  return wildcardTest(pieces.map((piece) => (typeof piece === 'string' && !cased ? fold(piece) : piece)));
}

// Other kinds

function regexTest(value: Value, modifiers: readonly string[]): Test {
  if (typeof value !== 'string') throw new SyntaxError('a regular expression is a text');
  const flags = modifiers.reduce((sum, modifier) => sum | (FLAGS[modifier] ?? 0), 0);
  const pattern = compiled(value, flags);
  const literal = literalOf(modifiers.includes('i') ? `(?i)${value}` : value);
  return (text) => {
    if (text === undefined) return false;
    if (literal !== undefined && !(literal.folds ? text.toLowerCase() : text).includes(literal.text)) return false;
    return pattern.matcher(text).find();
  };
}

/** RE2 takes time in proportion to the text, so no rule can hang. */
function compiled(value: string, flags: number): Pattern {
  try {
    return RE2JS.compile(value, flags);
  } catch {
    throw new SyntaxError('it is no regular expression of RE2, which has neither look-around nor back-references');
  }
}

function rangeTest(value: Value): Test {
  const text = String(value);
  const length = text.includes(':') ? 128 : 32;
  const range = parseRange(text) ?? parseRange(`${text}/${length}`);
  if (range === undefined) throw new SyntaxError('the value of cidr is no range of addresses');
  return (read) => {
    const bytes = read === undefined ? undefined : parseAddress(read.trim());
    if (bytes?.length !== range.bytes.length) return false;
    return maskedTo(bytes, range.bits).every((byte, n) => byte === range.bytes[n]);
  };
}

function orderTest(value: Value, kind: string): Test {
  if (typeof value !== 'number' && typeof value !== 'bigint')
    throw new SyntaxError(`the value of ${kind} is no number`);
  return (text = '') => {
    if (text.length > MOST_DIGITS || !/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text)) return false;
    const number = /^-?\d+$/.test(text) ? BigInt(text) : Number(text);
    if (kind === 'gt') return number > value;
    if (kind === 'gte') return number >= value;
    return kind === 'lt' ? number < value : number <= value;
  };
}

function existing(field: string, values: readonly Value[]): Holds {
  const [wanted] = values;
  if (values.length !== 1 || typeof wanted !== 'boolean')
    throw new SyntaxError("the value of 'exists' is true or false");
  return (event, told) => {
    const held = found(event, field).length > 0 === wanted;
    if (held) told?.add(field);
    return held;
  };
}

function referring(field: string, values: readonly Value[], modifiers: readonly string[]): Holds {
  const folds = !modifiers.includes('cased');
  const read = (event: Event, name: string) =>
    fieldOf(event, name).flatMap(({ text, folded }) => (folds ? folded : text) ?? []);
  const parts = values.map((value): Holds => {
    if (typeof value !== 'string' || value === '') throw new SyntaxError("the value of 'fieldref' is a field's name");
    return (event, told) => {
      const others = anchored(
        read(event, value).map((text) => [text]),
        modifiers,
      ).map(wildcardTest);
      const held = read(event, field).some((text) => others.some((test) => test(text)));
      if (held) told?.add(field);
      return held;
    };
  });
  return modifiers.includes('all') ? every(parts) : some(parts);
}

// Events

/** What was read of the event that was last asked about, since many rules ask about one. */
let last: { readonly event: Event; readonly fields: Map<string, readonly Read[]> } | undefined;

function remembered(event: Event, field: string, values: () => readonly unknown[]): readonly Read[] {
  if (last?.event !== event) last = { event, fields: new Map() };
  const known = last.fields.get(field);
  if (known !== undefined) return known;
  const read = values().map(readOf);
  last.fields.set(field, read);
  return read;
}

/** The values of a field: in objects below it by dots, of lists each; where it is not there or empty, one undefined. */
function fieldOf(event: Event, field: string): readonly Read[] {
  return remembered(event, field, () => {
    const values = found(event, field).flat(Number.POSITIVE_INFINITY);
    return values.length === 0 ? [undefined] : values;
  });
}

/** What stands at a path, of a list in each; names that hold dots are found as well. */
function found(value: unknown, path: string): readonly unknown[] {
  if (Array.isArray(value)) return value.flatMap((one) => found(one, path));
  if (!isObject(value)) return [];
  const here: unknown[] = Object.hasOwn(value, path) ? [value[path]] : [];
  for (let dot = path.indexOf('.'); dot >= 0; dot = path.indexOf('.', dot + 1)) {
    const name = path.slice(0, dot);
    if (Object.hasOwn(value, name)) for (const one of found(value[name], path.slice(dot + 1))) here.push(one);
  }
  return here;
}

/** Every value of an event that is no object or list. */
function leavesOf(event: Event): readonly Read[] {
  return remembered(event, '', () => {
    const leaves: unknown[] = [];
    const open: unknown[] = [event];
    while (open.length > 0) {
      const value = open.pop();
      if (typeof value === 'object' && value !== null) for (const one of Object.values(value)) open.push(one);
      else leaves.push(value);
    }
    return leaves;
  });
}

function readOf(raw: unknown): Read {
  if (raw === null || !isValue(raw)) return { raw };
  const text = String(raw);
  return { raw, text, folded: fold(text) };
}
