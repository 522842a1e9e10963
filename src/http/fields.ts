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
  const member = findMember(record, path);
  return member === undefined ? undefined : record.subarray(member.value, member.end);
}

/** The record without the member at a path, however often it is there; the same bytes where there is none. */
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
    while (start > 0 && record[start] !== COMMA && record[start] !== OPEN_OBJECT);
    if (record[start] === OPEN_OBJECT) start += 1;
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

/** An edit that leaves out fields which are secrets, by dotted path. */
export function dropping(paths: readonly string[]): (record: Uint8Array) => Uint8Array {
  const split = paths.map((path) => path.split('.'));
  return (record) => split.reduce(withoutMember, record);
}

function findMember(record: Uint8Array, path: readonly string[]): Member | undefined {
  let at = skipSpace(record, 0);
  let member: Member | undefined;
  for (const key of path) {
    if (record[at] !== OPEN_OBJECT) return undefined;
    member = memberOf(record, at + 1, Buffer.from(key));
    if (member === undefined) return undefined;
    at = member.value;
  }
  return member;
}

function memberOf(record: Uint8Array, from: number, key: Uint8Array): Member | undefined {
  let i = skipSpace(record, from);
  while (record[i] === QUOTE) {
    const start = i;
    i = skipString(record, i);
    const found = i - start - 2 === key.length && same(record, start + 1, key);
    i = skipSpace(record, i);
    if (record[i] !== COLON) return undefined;
    const value = skipSpace(record, i + 1);
    i = skipValue(record, value);
    if (found) return { key: start, value, end: i };
    i = skipSpace(record, i);
    if (record[i] !== COMMA) return undefined;
    i = skipSpace(record, i + 1);
  }
  return undefined;
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

function skipValue(record: Uint8Array, from: number): number {
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
