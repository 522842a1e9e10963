import { createHash } from 'node:crypto';
import type { Json, JsonObject } from '../json.ts';

/** What a line's meaning depends on beside its text. */
export interface LineContext {
  /** Path of the file, as given. */
  readonly file: string;
  /** Byte offset of the line in the file. */
  readonly offset: number;
  /** Tells files apart that have one path after another: the hash of the first bytes. */
  readonly fingerprint: string;
  /** The host of lines that name none. */
  readonly host: string;
  /** When the file was last written, in epoch milliseconds: no line is much later. */
  readonly written: number;
  /** Year of stamps that have none; undefined: the latest that puts them not after `written`. */
  readonly year: number | undefined;
  readonly zone: Zone;
  /** The stamp of the line before, which is the date of one that has none: it is the same when it is read again. */
  readonly stamp?: string | undefined;
}

/** What a line says of when, where and what. */
interface Parts {
  readonly format: 'rfc5424' | 'rfc3164' | 'iso' | 'raw';
  /** Epoch milliseconds. */
  readonly at: number;
  /** ISO 8601 with a zone, as exact as the line. */
  readonly date: string;
  readonly host: string | undefined;
  readonly app: string | undefined;
  readonly process: string | undefined;
  readonly id: string | undefined;
  readonly structured: Json | undefined;
  readonly message: string;
}

const PRI = /^<(0|[1-9]\d{0,2})>/;
/** The stamp of RFC 5424 that is none. */
const NIL = /^(?:<\d{1,3}>)?1 - /;
const RFC5424 = /^1 (\S+) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) (.*)$/su;
const RFC3164 = /^([A-Z][a-z]{2}) {1,2}(\d{1,2}) (?:(\d{4}) )?(\d{2}):(\d{2}):(\d{2})(\.\d{1,6})?:? (.*)$/su;
const ISO = /^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})?) (.*)$/su;
const STAMP = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/;
const TAG = /^([\w./()-]{1,48}?)(?:\[([^\]]{1,64})\])?: ?(.*)$/su;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const DAY = 86_400_000;
/** A word that is longer names no host, and would be a key that a database refuses. */
const MOST_HOST = 255;

/** A line of a syslog file as a record; nothing is ever dropped: what is not understood is `raw`. */
export function recordOf(line: string, context: LineContext, flags: JsonObject = {}): JsonObject {
  const { priority, rest } = withoutPriority(line);
  const parts = stamped(rest, context) ?? raw(line, context);
  return {
    device_name: parts.host ?? context.host,
    date: parts.date,
    event_id: eventId(line, parts.at, context),
    data: line,
    format: parts.format,
    facility: priority === undefined ? null : priority >> 3,
    severity: priority === undefined ? null : priority & 7,
    priority: priority ?? null,
    app_name: parts.app ?? null,
    proc_id: parts.process ?? null,
    msg_id: parts.id ?? null,
    structured_data: parts.structured ?? null,
    message: parts.message,
    file: context.file,
    offset: context.offset,
    ...flags,
  };
}

function withoutPriority(line: string): { readonly priority: number | undefined; readonly rest: string } {
  const pri = PRI.exec(line);
  if (pri === null || Number(pri[1]) > 191) return { priority: undefined, rest: line };
  return { priority: Number(pri[1]), rest: line.slice(pri[0].length) };
}

function stamped(text: string, context: LineContext): Parts | undefined {
  return rfc5424(text, context) ?? rfc3164(text, context) ?? iso(text, context);
}

/** Whether the line of a record has a stamp itself. */
export function hasStamp({ format, data }: JsonObject): boolean {
  return format !== 'raw' && !NIL.test(String(data));
}

/** The stamp of a line that has one itself: the date of lines behind it that have none. */
export function stampIn(line: string, context: LineContext): string | undefined {
  return NIL.test(line) ? undefined : stamped(withoutPriority(line).rest, context)?.date;
}

function rfc5424(text: string, context: LineContext): Parts | undefined {
  const match = RFC5424.exec(text);
  if (match === null) return undefined;
  const [, stamp = '', host = '', app = '', process = '', id = '', tail = ''] = match;
  const date = stamp === '-' ? (context.stamp ?? new Date(context.written).toISOString()) : stamp;
  const at = STAMP.test(date) ? Date.parse(date) : Number.NaN;
  const data = structuredData(tail);
  if (Number.isNaN(at) || data === undefined) return undefined;
  return {
    format: 'rfc5424',
    at,
    date,
    host: named(host),
    app: named(app),
    process: named(process),
    id: named(id),
    structured: data.value,
    message: data.rest.replace(/^ ?\uFEFF?/, ''),
  };
}

function named(word: string): string | undefined {
  return word === '-' ? undefined : word;
}

/** RFC 5424, 6.3: `-` or `[id name="value" ...]...`; a name that comes again makes a list. */
function structuredData(text: string): { readonly value: Json; readonly rest: string } | undefined {
  if (text === '-' || text.startsWith('- ')) return { value: null, rest: text.slice(1) };
  const value: JsonObject = {};
  let rest = text;
  while (rest.startsWith('[')) {
    const element = /^\[([^\s="\]]+)((?: [^\s="\]]+="(?:[^"\\\]]|\\.)*")*)\]/su.exec(rest);
    if (element === null) return undefined;
    const fields: JsonObject = {};
    for (const [, name = '', quoted = ''] of (element[2] ?? '').matchAll(/ ([^\s="\]]+)="((?:[^"\\\]]|\\.)*)"/gsu)) {
      const plain = quoted.replace(/\\(["\\\]])/g, '$1');
      const before = fields[name];
      fields[name] = before === undefined ? plain : [...(Array.isArray(before) ? before : [before]), plain];
    }
    value[element[1] ?? ''] = fields;
    rest = rest.slice(element[0].length);
  }
  return rest === text || (rest !== '' && !rest.startsWith(' ')) ? undefined : { value, rest };
}

function rfc3164(text: string, context: LineContext): Parts | undefined {
  const match = RFC3164.exec(text);
  const month = MONTHS.indexOf(match?.[1] ?? '');
  if (match === null || month < 0) return undefined;
  const [, , day, year, hour, minute, second, fraction = '', tail = ''] = match;
  const wall = (inYear: number) =>
    Date.UTC(inYear, month, Number(day), Number(hour), Number(minute), Number(second)) + Number(`0${fraction}`) * 1000;
  const inYear = year === undefined ? (context.year ?? yearOf(wall, context)) : Number(year);
  const local = wall(inYear);
  if (new Date(local).getUTCDate() !== Number(day) || Number(hour) > 23) return undefined;
  const shift = context.zone.offset(local);
  return { format: 'rfc3164', at: local - shift, date: stampOf(local, fraction, shift), ...hostAndTag(tail) };
}

/** The latest year that puts a stamp no more than a day after the file was written. */
function yearOf(wall: (year: number) => number, { written, zone }: LineContext): number {
  const year = new Date(written).getUTCFullYear() + 1;
  const fits = (candidate: number) => wall(candidate) - zone.offset(wall(candidate)) <= written + DAY;
  return fits(year) ? year : fits(year - 1) ? year - 1 : year - 2;
}

function iso(text: string, context: LineContext): Parts | undefined {
  const match = ISO.exec(text);
  if (match === null) return undefined;
  const [, stamp = '', tail = ''] = match;
  const plain = stamp.replace(' ', 'T').replace(',', '.');
  const zoned = /(?:Z|[+-]\d{2}:?\d{2})$/.test(plain);
  const parsed = Date.parse(zoned ? plain.replace(/([+-]\d{2})(\d{2})$/, '$1:$2') : `${plain}Z`);
  if (Number.isNaN(parsed)) return undefined;
  if (zoned) return { format: 'iso', at: parsed, date: plain, ...isoTail(tail) };
  const shift = context.zone.offset(parsed);
  return { format: 'iso', at: parsed - shift, date: `${plain}${zoneText(shift)}`, ...isoTail(tail) };
}

/** Programs write such stamps into logs of their own too, with no host or tag behind them. */
function isoTail(text: string): ReturnType<typeof hostAndTag> {
  if (/^\S+ [\w./()-]{1,48}(?:\[[^\]]{1,64}\])?:(?: |$)/u.test(text)) return hostAndTag(text);
  return { host: undefined, app: undefined, process: undefined, id: undefined, structured: undefined, message: text };
}

/** `host tag[pid]: message`; a word that ends in a colon is a tag without a host before it. */
function hostAndTag(text: string): Pick<Parts, 'host' | 'app' | 'process' | 'id' | 'structured' | 'message'> {
  const space = text.indexOf(' ');
  const first = space < 0 ? text : text.slice(0, space);
  const alone = first.length > MOST_HOST || first.endsWith(':') || /^[\w./-]+\[[^\]]*\]:?$/.test(first);
  const rest = alone || space < 0 ? text : text.slice(space + 1).trimStart();
  const host = alone || space < 0 ? undefined : first;
  const tag = TAG.exec(rest);
  return {
    host,
    app: tag?.[1],
    process: tag?.[2],
    id: undefined,
    structured: undefined,
    message: tag === null ? rest : (tag[3] ?? ''),
  };
}

function raw(line: string, { written, stamp }: LineContext): Parts {
  const nothing = { host: undefined, app: undefined, process: undefined, id: undefined, structured: undefined };
  const date = stamp ?? new Date(written).toISOString();
  return { format: 'raw', at: Date.parse(date), date, ...nothing, message: line };
}

function stampOf(local: number, fraction: string, shift: number): string {
  return `${new Date(local).toISOString().slice(0, 19)}${fraction}${zoneText(shift)}`;
}

function zoneText(shift: number): string {
  if (shift === 0) return 'Z';
  const minutes = Math.abs(Math.round(shift / 60_000));
  const two = (value: number) => String(value).padStart(2, '0');
  return `${shift < 0 ? '-' : '+'}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

const GREGORIAN = 12_219_292_800_000n;
/** Of 60 bits, which end in the year 5236. */
const LATEST = 2n ** 60n - 1n;

/**
 * An id of the shape of a version 1 UUID, as a `timeuuid` column wants it: its time is the event's, the rest a hash of
 * where the line stands and what it says. The same line read again has the same id. The node has the multicast bit set,
 * so it is no machine's.
 */
export function eventId(
  line: string,
  at: number,
  { fingerprint, offset }: Pick<LineContext, 'fingerprint' | 'offset'>,
): string {
  const time = (BigInt(Math.max(0, Math.floor(at))) + GREGORIAN) * 10_000n;
  const hex = (time > LATEST ? LATEST : time).toString(16).padStart(15, '0');
  const hash = createHash('sha1').update(`${fingerprint} ${offset} ${line}`).digest();
  const sequence = (((hash[0] as number) & 0x3f) | 0x80).toString(16).padStart(2, '0') + hash.toString('hex', 1, 2);
  const node = ((hash[2] as number) | 0x01).toString(16).padStart(2, '0') + hash.toString('hex', 3, 8);
  return `${hex.slice(7)}-${hex.slice(3, 7)}-1${hex.slice(0, 3)}-${sequence}-${node}`;
}

/** A time zone. */
export interface Zone {
  /** Milliseconds that the zone's clock is ahead of UTC when it shows this wall time (given as if it were UTC). */
  offset(wall: number): number;
}

const HOUR = 3_600_000;

/**
 * A zone by name: `local`, `UTC`, or one of the IANA data base.
 * @throws {RangeError} for an unknown name
 */
export function zoneOf(name: string): Zone {
  const format = new Intl.DateTimeFormat('en-US', {
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
    ...(name === 'local' ? {} : { timeZone: name }),
  });
  const shown = (at: number): number => {
    const part = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]));
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
    return Date.UTC(year, month - 1, day, hour, minute, second);
  };
  const known = new Map<number, number>();
  return {
    offset(wall) {
      const hour = Math.floor(wall / HOUR);
      const found = known.get(hour);
      if (found !== undefined) return found;
      const guess = shown(hour * HOUR) - hour * HOUR;
      const offset = shown(hour * HOUR - guess) - (hour * HOUR - guess);
      known.set(hour, offset);
      return offset;
    },
  };
}
