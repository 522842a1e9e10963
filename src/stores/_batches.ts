import { createHash } from 'node:crypto';
import { spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { damaged } from './_rows.ts';
import type { Dataset } from './store.ts';

/** The member that holds what is known of the upload, where a record carries it itself. */
const FACTS = '_cyber_collect';

/** Adds to each record what upload it is part of; one that is no object becomes the member `_record`. */
export function withFacts({ metadata }: Dataset): (record: Buffer, number: number) => Buffer {
  const { tenancy, tag, upload_id, timestamp, records } = metadata;
  const facts = `"${FACTS}":${JSON.stringify({ tenancy, tag, upload_id, timestamp, records }).slice(0, -1)},"record":`;
  return (record, number) => {
    if (record[0] !== OPEN_OBJECT) {
      return Buffer.concat([Buffer.from('{"_record":'), record, Buffer.from(`,${facts}${number}}}`)]);
    }
    const empty = record.length < 64 && record.subarray(1, -1).toString('latin1').trim() === '';
    return Buffer.concat([record.subarray(0, -1), Buffer.from(`${empty ? '' : ','}${facts}${number}}}`)]);
  };
}

/** A record as it is sent, and its number from 1. */
export interface Framed {
  readonly number: number;
  readonly bytes: Buffer;
}

/** Records that go in one request. */
export type Batch = readonly Framed[];

/** How large a request may be. */
export interface Bounds {
  /** Records. */
  readonly count: number;
  /** Bytes of all records, each with what parts it from the next; a record that is larger goes alone. */
  readonly bytes: number;
}

const LF = Buffer.from('\n');
const OPEN_OBJECT = 0x7b;

/**
 * Reads a spool through before anything of it is sent, as nothing sent can be taken back; `see` looks at each record.
 * @throws {CollectError} store when it is not what was collected
 */
export async function assertIntact(
  { tag, spool }: Dataset,
  see?: (record: Buffer, number: number) => void,
): Promise<void> {
  const hash = createHash('sha256');
  let number = 0;
  for await (const record of spoolRecords(spool)) {
    hash.update(record).update(LF);
    number += 1;
    see?.(record, number);
  }
  if (number !== spool.records) throw damaged(tag, `${number} of ${spool.records} records`);
  if (hash.digest('hex') !== spool.sha256) throw damaged(tag, 'other records');
}

/** The records of a dataset in portions. */
export async function* batchesOf(
  { tag, spool }: Dataset,
  bounds: Bounds,
  frame: (record: Buffer, number: number) => Buffer,
): AsyncGenerator<Batch> {
  let batch: Framed[] = [];
  let size = 0;
  let number = 0;
  for await (const record of spoolRecords(spool)) {
    number += 1;
    const bytes = frame(record, number);
    if (batch.length > 0 && (batch.length >= bounds.count || size + bytes.length + 1 > bounds.bytes)) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push({ number, bytes });
    size += bytes.length + 1;
  }
  if (number !== spool.records) throw damaged(tag, `${number} of ${spool.records} records`);
  if (batch.length > 0) yield batch;
}

/** What is under way at once. */
export interface Width {
  readonly batches: number;
  /** Bytes, counting what waits for an acknowledgement. */
  readonly bytes: number;
}

/** Sends a portion: `halve` when it is too large for the other side. */
export type Send = (batch: Batch, signal: AbortSignal) => Promise<'taken' | 'halve'>;

/** Sends portions side by side, each until it is taken; at the first that is not, throws once the others have ended. */
export async function sendAll(batches: AsyncIterable<Batch>, width: Width, send: Send): Promise<void> {
  const stop = new AbortController();
  const running = new Set<Promise<void>>();
  let bytes = 0;
  let failure: { readonly cause: unknown } | undefined;
  try {
    for await (const batch of batches) {
      const size = sizeOf(batch);
      while (running.size > 0 && (running.size >= width.batches || bytes + size > width.bytes))
        await Promise.race(running);
      if (failure !== undefined) break;
      bytes += size;
      const sending = sendWhole(batch, send, stop.signal)
        .catch((cause: unknown) => {
          failure ??= { cause };
          stop.abort(cause);
        })
        .finally(() => {
          bytes -= size;
          running.delete(sending);
        });
      running.add(sending);
    }
  } catch (cause) {
    stop.abort(cause);
    throw cause;
  } finally {
    await Promise.all(running);
  }
  if (failure !== undefined) throw failure.cause;
}

async function sendWhole(batch: Batch, send: Send, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if ((await send(batch, signal)) === 'taken') return;
  const [first] = batch;
  if (first === undefined || batch.length === 1) {
    throw new CollectError('store', `record ${first?.number} is larger than the server takes`, {
      mend: 'raise the limit of the server, or leave the resource out with --exclude',
    });
  }
  const half = Math.ceil(batch.length / 2);
  await sendWhole(batch.slice(0, half), send, signal);
  await sendWhole(batch.slice(half), send, signal);
}

/** The bytes of a portion. */
function sizeOf(batch: Batch): number {
  return batch.reduce((sum, { bytes }) => sum + bytes.length, 0);
}

/** The body of a request, its records parted by a text and framed by two. */
export function bodyOf(batch: Batch, between: string, before = '', after = ''): Buffer {
  const parts: Buffer[] = [Buffer.from(before)];
  const comma = Buffer.from(between);
  for (const [n, { bytes }] of batch.entries()) {
    if (n > 0) parts.push(comma);
    parts.push(bytes);
  }
  parts.push(Buffer.from(after));
  return Buffer.concat(parts);
}
