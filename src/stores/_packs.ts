import { type Spool, spoolRecords } from '../envelope/spool.ts';

/** What one pack may hold, and one row. */
export interface Most {
  readonly rows: number;
  readonly bytes: number;
  /** Bytes of a record above which it takes several rows. */
  readonly part: number;
}

/** Rows of a partition, and bytes: partitions stay small, and their load goes round the cluster. */
const BUCKET_ROWS = 5000;
const BUCKET_BYTES = 8 * 2 ** 20;
const ROW_BYTES = 80;

/** Rows of one bucket that go together. */
export interface Pack {
  readonly bucket: number;
  readonly rows: { readonly seq: number; readonly part: number; readonly bytes: Buffer }[];
  bytes: number;
  /** Records so far, these included. */
  seen: number;
}

/** The rows of a spool: the same ones in the same buckets each time it is read. */
export async function* packsOf(spool: Spool, most: Most): AsyncGenerator<Pack> {
  let pack: Pack = { bucket: 0, rows: [], bytes: 0, seen: 0 };
  let bucketRows = 0;
  let bucketBytes = 0;
  for await (const record of spoolRecords(spool)) {
    const seq = pack.seen;
    for (const [part, bytes] of partsOf(record, most.part).entries()) {
      if (pack.rows.length >= most.rows || (pack.rows.length > 0 && pack.bytes + bytes.length > most.bytes)) {
        yield pack;
        pack = { bucket: pack.bucket, rows: [], bytes: 0, seen: seq };
      }
      pack.rows.push({ seq, part, bytes });
      pack.bytes += bytes.length + ROW_BYTES;
    }
    pack.seen = seq + 1;
    bucketRows += 1;
    bucketBytes += record.length;
    if (bucketRows < BUCKET_ROWS && bucketBytes < BUCKET_BYTES) continue;
    yield pack;
    pack = { bucket: pack.bucket + 1, rows: [], bytes: 0, seen: seq + 1 };
    bucketRows = 0;
    bucketBytes = 0;
  }
  if (pack.rows.length > 0) yield pack;
}

/** Pieces of a record that do not break a character. */
function partsOf(record: Buffer, most: number): Buffer[] {
  if (record.length <= most) return [record];
  const parts: Buffer[] = [];
  for (let start = 0; start < record.length; ) {
    let end = Math.min(record.length, start + most);
    const least = end - 3;
    while (end > least && ((record[end] ?? 0) & 0xc0) === 0x80) end -= 1;
    parts.push(record.subarray(start, end));
    start = end;
  }
  return parts;
}
