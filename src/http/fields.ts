import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const OPEN_ARRAY = 0x5b;
const CLOSE_OBJECT = 0x7d;
const CLOSE_ARRAY = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;

/** Where a member of a record stands: its key's start, its value's start and end. */
interface Member {
  readonly key: number;
  readonly value: number;
  readonly end: number;
}

/** The bytes of the value at a path of keys in a record known to be JSON; undefined when it is not there. Nothing is parsed. */
export function rawValue(record: Uint8Array, path: readonly string[]): Uint8Array | undefined {
  const keys = path.map((key) => Buffer.from(key));
  const start = valueStart(record, keys, 0);
  return start < 0 ? undefined : record.subarray(start, valueEnd(record, start));
}

/** The members of a record that is an object, in their order: the key, and the bytes of the value. */
export function* rawMembers(record: Uint8Array): Generator<{ readonly key: string; readonly value: Uint8Array }> {
  const start = skipSpace(record, 0);
  if (record[start] !== OPEN_OBJECT) return;
  for (const member of membersOf(record, start, undefined)) {
    const key = Buffer.from(record.subarray(member.key, skipString(record, member.key))).toString('utf8');
    yield { key: String(JSON.parse(key)), value: record.subarray(member.value, member.end) };
  }
}

/** Where the value at a path of keys starts in the record that starts at `from`; -1 when it is not there. */
export function valueStart(bytes: Uint8Array, path: readonly Uint8Array[], from: number): number {
  let at = from;
  for (const key of path) {
    at = memberStart(bytes, key, skipSpace(bytes, at));
    if (at < 0) return -1;
  }
  return at;
}

/** `membersOf` for one key, without making anything: this is done to every record of every dataset. */
function memberStart(bytes: Uint8Array, key: Uint8Array, from: number): number {
  if (bytes[from] !== OPEN_OBJECT) return -1;
  let i = skipSpace(bytes, from + 1);
  while (bytes[i] === QUOTE) {
    const start = i;
    i = skipString(bytes, i);
    const found = i - start - 2 === key.length && same(bytes, start + 1, key);
    i = skipSpace(bytes, i);
    if (bytes[i] !== COLON) return -1;
    i = skipSpace(bytes, i + 1);
    if (found) return i;
    i = skipSpace(bytes, valueEnd(bytes, i));
    if (bytes[i] !== COMMA) return -1;
    i = skipSpace(bytes, i + 1);
  }
  return -1;
}

/** The record without what stands at a path, however often it is there; `*` is any key and any element, `*token*` any key that holds the word. The same bytes where there is nothing. */
export function withoutMember(record: Uint8Array, path: readonly string[]): Uint8Array {
  let out = record;
  for (let member = findMember(out, path); member !== undefined; member = findMember(out, path)) {
    out = cutOut(out, member);
  }
  return out;
}

function cutOut(record: Uint8Array, member: Member): Uint8Array {
  let start = member.key;
  let end = skipSpace(record, member.end);
  if (record[end] === COMMA) end += 1;
  else {
    // The last member takes the comma before it along.
    do start -= 1;
    while (start > 0 && record[start] !== COMMA && record[start] !== OPEN_OBJECT && record[start] !== OPEN_ARRAY);
    if (record[start] !== COMMA) start += 1;
  }
  return Buffer.concat([record.subarray(0, start), record.subarray(end)]);
}

/** An edit that adds fields at a record's end; their names start with `_`. */
export function keeping(fields: JsonObject): (record: Uint8Array) => Uint8Array {
  const members = JSON.stringify(fields).slice(1, -1);
  if (members === '') return (record) => record;
  const suffix = Buffer.from(`,${members}}`);
  const alone = Buffer.from(`${members}}`);
  return (record) => {
    if (record[0] !== OPEN_OBJECT)
      throw new CollectError('vendor', 'a record is no object, so nothing can be added to it');
    const empty = record[skipSpace(record, 1)] === CLOSE_OBJECT;
    return Buffer.concat([record.subarray(0, -1), empty ? alone : suffix]);
  };
}

/** An edit that leaves out fields which are secrets, by dotted path; `*` is any key and any element, `*token*` any key that holds the word. */
export function dropping(paths: readonly string[]): (record: Uint8Array) => Uint8Array {
  const split = paths.map((path) => path.split('.'));
  return (record) => split.reduce(withoutMember, record);
}

function findMember(record: Uint8Array, path: readonly string[], from = 0): Member | undefined {
  const [key = '', ...rest] = path;
  const wanted = key === '*' ? undefined : (holding(key) ?? Buffer.from(key));
  for (const member of membersOf(record, skipSpace(record, from), wanted)) {
    const found = rest.length === 0 ? member : findMember(record, rest, member.value);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The test of `*word*`: whether a key holds the word, in any case and however it is escaped. */
function holding(pattern: string): ((key: string) => boolean) | undefined {
  const word = /^\*([^*]+)\*$/.exec(pattern)?.[1]?.toLowerCase();
  return word === undefined ? undefined : (key) => key.toLowerCase().includes(word);
}

type Wanted = Uint8Array | ((key: string) => boolean) | undefined;

/** The members of the object at `from` that have this key; without a key all of them, or the elements of an array. */
function* membersOf(record: Uint8Array, from: number, wanted: Wanted): Generator<Member> {
  const object = record[from] === OPEN_OBJECT;
  if (!object && (record[from] !== OPEN_ARRAY || wanted !== undefined)) return;
  let i = skipSpace(record, from + 1);
  while (i < record.length && record[i] !== CLOSE_OBJECT && record[i] !== CLOSE_ARRAY) {
    const key = i;
    let found = true;
    if (object) {
      i = skipString(record, i);
      found = matches(record, key, i, wanted);
      i = skipSpace(record, i);
      if (record[i] !== COLON) return;
      i = skipSpace(record, i + 1);
    }
    const value = i;
    i = valueEnd(record, value);
    if (found) yield { key, value, end: i };
    i = skipSpace(record, i);
    if (record[i] !== COMMA) return;
    i = skipSpace(record, i + 1);
  }
}

/** Whether the key that stands, in quotes, from `start` to before `end` is wanted. */
function matches(record: Uint8Array, start: number, end: number, wanted: Wanted): boolean {
  if (wanted === undefined) return true;
  if (typeof wanted !== 'function') return end - start - 2 === wanted.length && same(record, start + 1, wanted);
  return wanted(String(JSON.parse(Buffer.from(record.subarray(start, end)).toString('utf8'))));
}

function same(record: Uint8Array, at: number, key: Uint8Array): boolean {
  for (let n = 0; n < key.length; n += 1) if (record[at + n] !== key[n]) return false;
  return true;
}

function endsScalar(byte: number): boolean {
  return byte === COMMA || byte === CLOSE_OBJECT || byte === CLOSE_ARRAY || byte <= 0x20;
}

function skipSpace(record: Uint8Array, from: number): number {
  let i = from;
  while (record[i] === 0x20 || record[i] === 0x09 || record[i] === 0x0a || record[i] === 0x0d) i += 1;
  return i;
}

function skipString(record: Uint8Array, from: number): number {
  let i = from + 1;
  while (i < record.length && record[i] !== QUOTE) i += record[i] === BACKSLASH ? 2 : 1;
  return i + 1;
}

/** Where the value that starts at `from` ends. */
export function valueEnd(record: Uint8Array, from: number): number {
  const first = record[from];
  if (first === QUOTE) return skipString(record, from);
  let i = from;
  if (first !== OPEN_OBJECT && first !== OPEN_ARRAY) {
    while (i < record.length && !endsScalar(record[i] as number)) i += 1;
    return i;
  }
  let depth = 0;
  do {
    const byte = record[i];
    if (byte === QUOTE) {
      i = skipString(record, i);
      continue;
    }
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) depth += 1;
    else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) depth -= 1;
    i += 1;
  } while (depth > 0 && i < record.length);
  return i;
}
