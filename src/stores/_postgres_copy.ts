import { pipeline } from 'node:stream/promises';
import type { PoolClient } from 'pg';
import { type Spool, spoolChunks } from '../envelope/spool.ts';
import { mendEscapes, type Tally } from './_escapes.ts';

/** What a COPY fills, and the columns in front of each record. */
export interface Filling {
  /** Table and columns, as SQL. */
  readonly into: string;
  /** Of the columns before the record, in COPY's binary form. */
  readonly before: readonly Buffer[];
  /** Whether the record's column is jsonb, whose binary form begins with a version. */
  readonly jsonb: boolean;
  /** Whether escapes that jsonb refuses are replaced. */
  readonly mends: boolean;
}

/** A timestamp, with a zone or without, in COPY's binary form: microseconds since 2000. */
export function instant(timestamp: string): Buffer {
  const value = Buffer.allocUnsafe(8);
  value.writeBigInt64BE(BigInt(Date.parse(timestamp) - Date.UTC(2000)) * 1000n);
  return value;
}

/** A UUID in COPY's binary form. */
export function uuid(text: string): Buffer {
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}

/**
 * COPY of the spool's lines, each a row, in the binary form: it takes the server a tenth less time than text, since
 * nothing is searched for ends of lines and quotes.
 * @returns rows that the server counted, and how many escapes were replaced
 */
export async function copySpool(
  client: PoolClient,
  filling: Filling,
  spool: Spool,
): Promise<Tally & { readonly rows: number }> {
  const { from } = await import('pg-copy-streams');
  const tally: Tally = { replaced: 0 };
  const lines = filling.mends ? mendEscapes(spoolChunks(spool), true, tally) : spoolChunks(spool);
  const stream = client.query(from(`COPY ${filling.into} FROM STDIN WITH (FORMAT binary)`));
  await pipeline(framed(lines, filling), stream);
  return { ...tally, rows: stream.rowCount };
}

const LF = 10;
const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const TRAILER = Buffer.from([0xff, 0xff]);

async function* framed(chunks: AsyncIterable<Buffer>, { before, jsonb }: Filling): AsyncGenerator<Buffer> {
  const head = Buffer.concat([int16(before.length + 1), ...before.flatMap((value) => [int32(value.length), value])]);
  const version = Buffer.from(jsonb ? [1] : []);
  let held: Buffer[] = [];
  yield SIGNATURE;
  for await (const chunk of chunks) {
    const end = chunk.lastIndexOf(LF) + 1;
    if (end > 0) {
      const whole = chunk.subarray(0, end);
      yield rowsOf(held.length === 0 ? whole : Buffer.concat([...held, whole]), head, version);
      held = [];
    }
    if (end < chunk.length) held.push(chunk.subarray(end));
  }
  yield TRAILER;
}

/** Whole lines as rows. */
function rowsOf(lines: Buffer, head: Buffer, version: Buffer): Buffer {
  const ends: number[] = [];
  for (let at = lines.indexOf(LF); at >= 0; at = lines.indexOf(LF, at + 1)) ends.push(at);
  const rows = Buffer.allocUnsafe(lines.length + ends.length * (head.length + 4 + version.length - 1));
  let start = 0;
  let written = 0;
  for (const end of ends) {
    written += head.copy(rows, written);
    written = rows.writeInt32BE(version.length + end - start, written);
    written += version.copy(rows, written);
    written += lines.copy(rows, written, start, end);
    start = end + 1;
  }
  return rows;
}

function int16(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
}
