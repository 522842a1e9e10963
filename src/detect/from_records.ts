import { eventId } from '../collectors/_syslog.ts';
import { isObject, type Json, type JsonObject, textAt } from '../json.ts';
import type { Event, Piece } from './source.ts';

/** What records are of, where they do not say it themselves. */
export interface Origin {
  /** Such as syslog_events. */
  readonly tag: string;
  /** When they were collected, ISO 8601. */
  readonly at: string;
}

/** Bytes of text after which a piece is full. */
const FULL = 2 ** 20;
/** Characters of a text that are kept in an alert. */
const MOST_DATA = 65_536;
/** Stands between the fields of a record that are searched as one line. */
const BETWEEN = '\u0001';
const TIMES = [
  ...['date', 'published', 'timestamp', '@timestamp', 'time', 'eventTime', 'createdDateTime', 'activityDateTime'],
  ...['EdgeStartTimestamp', 'datetime', 'created_at', 'createdAt', 'created', 'lastUpdated', 'updated_at'],
];
const DEVICES = ['device_name', 'device.hostname', 'hostname', 'host', 'deviceName', 'computerDnsName', 'device.name'];

/** Gathers records until they make a piece. */
export interface Gatherer {
  /** Takes a record, and its JSON as it stands there; true when the piece is full. */
  add(record: JsonObject, json: string): boolean;
  /** What was gathered since; undefined for nothing. */
  take(): Omit<Piece, 'position'> | undefined;
}

interface Known {
  readonly record: JsonObject;
  readonly json: string;
}

/** Records as pieces: of a log line its text is searched, of any other record every text that it holds. */
export function gatherer(origin: Origin): Gatherer {
  let records: Known[] = [];
  let texts: string[] = [];
  let size = 0;
  return {
    add(record, json) {
      const text = textOf(record);
      records.push({ record, json });
      texts.push(text);
      size += text.length + 1;
      return size >= FULL;
    },
    take() {
      if (records.length === 0) return undefined;
      const lines = Buffer.from(`${texts.join('\n')}\n`);
      const own = records;
      records = [];
      texts = [];
      size = 0;
      return { lines, eventAt: (line) => eventOf(own[line] ?? { record: {}, json: '{}' }, origin) };
    },
  };
}

/** The record of a line of NDJSON; what is no object is one under `value`. */
export function recordIn(line: string): JsonObject {
  const value = JSON.parse(line) as Json;
  return isObject(value) ? value : { value };
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they would end a line, or a field
const BREAKS = /[\n\r\u0001]/g;

/** The text of a record on one line; what would break it becomes a space, so that places stay the same. */
function textOf(record: JsonObject): string {
  if (isLine(record)) return record.data.replace(BREAKS, ' ');
  return leavesOf(record)
    .map(({ text }) => text.replace(BREAKS, ' '))
    .join(BETWEEN);
}

function isLine(record: JsonObject): record is JsonObject & { data: string; event_id: string } {
  return typeof record.data === 'string' && typeof record.event_id === 'string';
}

interface Leaf {
  readonly name: string;
  readonly text: string;
}

function leavesOf(value: Json, name = ''): readonly Leaf[] {
  if (typeof value === 'string') return [{ name, text: value }];
  if (Array.isArray(value)) return value.flatMap((entry) => leavesOf(entry, name));
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([key, entry]) => leavesOf(entry, name === '' ? key : `${name}.${key}`));
}

const TIMEUUID = /^[\da-f]{8}-[\da-f]{4}-1[\da-f]{3}-[\da-f]{4}-[\da-f]{12}$/i;

function eventOf({ record, json }: Known, { tag, at }: Origin): Event {
  const date = TIMES.map((path) => textAt(record, path)).find((text) => text !== undefined) ?? at;
  const device_name = DEVICES.map((path) => textAt(record, path)).find((text) => text !== undefined) ?? tag;
  const known = textAt(record, 'event_id') ?? '';
  const own = TIMEUUID.test(known) ? known.toLowerCase() : undefined;
  const what = own ?? `${tag} ${JSON.stringify(sorted(record))}`;
  const moment = [date, at].map(Date.parse).find((time) => !Number.isNaN(time)) ?? 0;
  const data = typeof record.data === 'string' ? record.data : json;
  return {
    ...{ device_name, date, data: data.slice(0, MOST_DATA), key: what, record },
    event_id: own ?? eventId(what, moment, { fingerprint: tag, offset: 0 }),
    fieldAt: (byte) => (isLine(record) ? { name: 'data', start: 0 } : fieldAt(leavesOf(record), byte)),
  };
}

function fieldAt(leaves: readonly Leaf[], byte: number): ReturnType<Event['fieldAt']> {
  let start = 0;
  for (const { name, text } of leaves) {
    const end = start + Buffer.byteLength(text);
    if (byte <= end) return { name, start };
    start = end + 1;
  }
  return { name: '', start: 0 };
}

/** Stores that keep records as binary JSON put their keys in an order of their own. */
function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isObject(value)) return value;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, sorted(value[key] ?? null)]));
}
