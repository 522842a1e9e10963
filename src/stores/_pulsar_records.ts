import { createHash } from 'node:crypto';
import { type Spool, spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { isObject, type Json, textAt } from '../json.ts';
import { MOST_FRAME, type Outgoing } from './_pulsar_producer.ts';
import type { Dataset } from './store.ts';

/** How records become messages. */
export interface Making {
  readonly shape: 'record' | 'event';
  /** Dotted path of the field that is the key. */
  readonly key: string | undefined;
}

/** The records of a dataset as messages; one that is too large for a frame comes in parts. */
export async function* messagesOf({ metadata, spool }: Dataset, { shape, key }: Making): AsyncGenerator<Outgoing> {
  const { tenancy, upload_id, timestamp, tag, records, collector, resource, run_id } = metadata;
  const upload = { upload_id, tag, tenancy, collector, resource, timestamp, run_id, records: String(records) };
  let number = 0;
  for await (const record of counted(spool)) {
    number += 1;
    const parsed = key === undefined && shape === 'record' ? undefined : parsedOf(record, number);
    const payload = shape === 'record' ? record : eventOf(record, parsed, { upload_id, timestamp, number, collector });
    const named = key === undefined ? undefined : textAt(parsed, key);
    yield* parts(payload, { ...upload, record: String(number) }, named);
  }
}

/** @throws {CollectError} store when the spool holds more or fewer records than were collected */
async function* counted(spool: Spool): AsyncGenerator<Buffer> {
  let count = 0;
  for await (const record of spoolRecords(spool)) {
    count += 1;
    yield record;
  }
  if (count === spool.records) return;
  throw new CollectError(
    'store',
    `the spool ${spool.path} is damaged: ${count} of ${spool.records} records are there`,
    {
      mend: 'run again',
    },
  );
}

function parsedOf(record: Buffer, number: number): Json {
  try {
    return JSON.parse(record.toString('utf8')) as Json;
  } catch {
    throw new CollectError('store', `record ${number} is no JSON`, { mend: 'run again' });
  }
}

type Properties = Readonly<Record<string, string>>;

/** One message, or the parts of it: the same properties, `part` of `parts`, and a key that keeps them together. */
export function* parts(payload: Uint8Array, properties: Properties, key: string | undefined): Generator<Outgoing> {
  const whole = JSON.stringify(properties);
  const room = roomFor(whole, key);
  if (payload.length <= room) {
    yield { payload, properties: whole, key };
    return;
  }
  const together = key ?? createHash('sha256').update(whole).digest('hex').slice(0, 32);
  const size = roomFor(whole, together) - 192; // base64 of what else is said of a part
  const count = Math.ceil(payload.length / size);
  for (let part = 1; part <= count; part += 1) {
    const told = JSON.stringify({ ...properties, part: String(part), parts: String(count) });
    yield { payload: payload.subarray((part - 1) * size, part * size), properties: told, key: together };
  }
}

/** @throws {CollectError} refused for a key that leaves none */
function roomFor(properties: string, key: string | undefined): number {
  const other = Buffer.byteLength(properties) + Buffer.byteLength(JSON.stringify(key ?? '')) + 128;
  const room = Math.floor((MOST_FRAME - other) / 4) * 3;
  if (room >= MOST_FRAME / 4) return room;
  throw new CollectError('refused', 'a record has a key that is too long for a message', {
    mend: 'set STORE_PULSAR_KEY to a field with short values',
  });
}

interface Origin {
  readonly upload_id: string;
  readonly timestamp: string;
  readonly number: number;
  readonly collector: string;
}

/** Four texts, as tables of events have them: those of a log line, or the whole record as the line. */
function eventOf(
  record: Buffer,
  parsed: Json | undefined,
  { upload_id, timestamp, number, collector }: Origin,
): Buffer {
  const { device_name, date, event_id, data } = isObject(parsed) ? parsed : {};
  const text = (value: Json | undefined, other: string) => (typeof value === 'string' ? value : other);
  const line = typeof data === 'string' && typeof event_id === 'string';
  return Buffer.from(
    JSON.stringify({
      device_name: text(device_name, collector),
      date: text(date, timestamp),
      event_id: line ? event_id : timeUuid(timestamp, `${upload_id} ${number}`),
      data: line ? data : record.toString('utf8'),
    }),
  );
}

const GREGORIAN = 12_219_292_800_000n;

/** A UUID of version 1 whose time is the run's, the rest a hash: the same record has the same. */
function timeUuid(timestamp: string, name: string): string {
  const time = ((BigInt(Date.parse(timestamp)) + GREGORIAN) * 10_000n).toString(16).padStart(15, '0');
  const hash = createHash('sha256').update(name).digest();
  const sequence = (hash.readUInt16BE(0) & 0x3fff) | 0x8000;
  hash[2] = (hash[2] ?? 0) | 1; // the multicast bit: no machine's address
  const node = hash.toString('hex', 2, 8);
  return `${time.slice(7)}-${time.slice(3, 7)}-1${time.slice(0, 3)}-${sequence.toString(16)}-${node}`;
}
