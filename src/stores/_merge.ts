import { createHash, hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { type Compression, gunzip, unzstd } from '../envelope/encoding.ts';
import { spoolRecords } from '../envelope/spool.ts';
import { asCollectError, CollectError } from '../errors.ts';
import { valueEnd, valueStart } from '../http/fields.ts';
import { RecordSplitter } from '../http/records.ts';
import type { Dataset } from './store.ts';

/** How an upload is merged into the file of those before it. */
export interface Merging {
  readonly format: 'envelope' | 'array' | 'ndjson';
  readonly compression: Compression;
  readonly path: string;
  /** Records that are written before a pause, and its seconds. */
  readonly threshold: number;
  readonly sleep: number;
  /** Keys that are held at once; more are gone through in passes, each over the file. */
  readonly keys?: number;
}

/** 32 MiB of them. */
const KEYS = 700_000;
const BATCH = 2 ** 20;

/**
 * The bytes of a file with the records of an upload instead of those of the same key, behind the others it holds.
 * @throws {CollectError} store for a file that is not as it says, and records without a key
 */
export async function* mergedChunks(dataset: Dataset, merging: Merging): AsyncGenerator<Uint8Array> {
  const { format, threshold, sleep } = merging;
  const frame = FRAMES[format];
  const digest = createHash('sha256');
  let batch: Uint8Array[] = [frame.head];
  let bytes = 0;
  let records = 0;
  for await (const record of recordsOf(dataset, merging)) {
    digest.update(record).update(LINE_FEED);
    if (records > 0) batch.push(frame.between);
    batch.push(record);
    bytes += record.length;
    records += 1;
    const rests = sleep > 0 && records % threshold === 0;
    if (bytes < BATCH && !rests) continue;
    yield Buffer.concat(batch);
    [batch, bytes] = [[], 0];
    if (rests) await pause(sleep * 1000);
  }
  const merged = records - dataset.metadata.records;
  const metadata = { ...dataset.metadata, records, sha256: digest.digest('hex'), merged };
  batch.push(Buffer.from(frame.tail(JSON.stringify(metadata), records)));
  yield Buffer.concat(batch);
}

const LINE_FEED = Buffer.from('\n');

/** What stands around and between the records. */
const FRAMES = {
  envelope: {
    head: Buffer.from('{"data":['),
    between: Buffer.from(','),
    tail: (metadata: string) => `],"metadata":${metadata}}\n`,
  },
  array: { head: Buffer.from('['), between: Buffer.from(','), tail: () => ']\n' },
  ndjson: {
    head: Buffer.alloc(0),
    between: LINE_FEED,
    tail: (_: string, records: number) => (records > 0 ? '\n' : ''),
  },
} as const;

async function* recordsOf(dataset: Dataset, merging: Merging): AsyncGenerator<Uint8Array> {
  const paths = keyOf(dataset);
  const there = await stat(merging.path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined;
    throw cause;
  });
  const { keys: most = KEYS } = merging;
  const passes = there === undefined ? 0 : Math.max(1, Math.ceil(dataset.spool.records / most));
  for (let pass = 0; pass < passes; pass += 1) {
    const keys = await keysOf(dataset, paths, { pass, passes });
    for await (const record of recordsIn(merging)) {
      const key = digestOf(record, paths);
      const isOfPass = key === undefined ? pass === 0 : partOf(key, passes) === pass;
      // A copy: what was read would be held whole for the few of it that stay.
      if (isOfPass && (key === undefined || !keys.has(key))) yield Buffer.from(record);
    }
  }
  yield* spoolRecords(dataset.spool);
}

type Path = readonly Uint8Array[];

/**
 * The paths of what tells a dataset's records apart.
 * @throws {CollectError} config where it has nothing of the kind
 */
function keyOf({ tag, id }: Dataset): readonly Path[] {
  assertKey(tag, id);
  return id.map((path) => path.split('.').map((key) => Buffer.from(key)));
}

/** @throws {CollectError} config for a dataset whose records cannot be told apart */
export function assertKey(tag: string, id: readonly string[]): void {
  if (id.length > 0) return;
  throw new CollectError('config', `nothing tells the records of ${tag} apart, so they cannot be merged`, {
    mend: `leave it out with --exclude ${tag}, or set STORE_FILE_MERGE=false`,
  });
}

async function keysOf(
  { tag, spool }: Dataset,
  paths: readonly Path[],
  { pass, passes }: { readonly pass: number; readonly passes: number },
): Promise<Keys> {
  const keys = new Keys(Math.ceil(spool.records / passes));
  let number = 0;
  for await (const record of spoolRecords(spool)) {
    number += 1;
    const key = digestOf(record, paths);
    if (key === undefined) {
      throw new CollectError('store', `record ${number} of ${tag} has no key, so it cannot be merged`, {
        mend: `leave ${tag} out, or set STORE_FILE_MERGE=false`,
      });
    }
    if (partOf(key, passes) === pass) keys.add(key);
  }
  return keys;
}

const ABSENT = Buffer.from('-');
const BEHIND = Buffer.from('\n');
const BACKSLASH = 0x5c;

/** Of what tells a record apart, 128 bits and more; undefined where nothing of it is there. */
function digestOf(record: Uint8Array, paths: readonly Path[]): Buffer | undefined {
  const parts: Uint8Array[] = [];
  let found = false;
  for (const path of paths) {
    const start = valueStart(record, path, 0);
    const value = start < 0 ? ABSENT : record.subarray(start, valueEnd(record, start));
    found ||= start >= 0;
    parts.push(value.includes(BACKSLASH) ? unescaped(value) : value, BEHIND);
  }
  return found ? hash('sha256', Buffer.concat(parts), 'buffer') : undefined;
}

/** The same text may be written with other escapes. */
function unescaped(value: Uint8Array): Uint8Array {
  try {
    const text = Buffer.from(value.buffer, value.byteOffset, value.length).toString('utf8');
    return Buffer.from(JSON.stringify(JSON.parse(text)));
  } catch {
    return value; // whatever it is, it is only compared
  }
}

function partOf(key: Buffer, parts: number): number {
  return key.readUInt32LE(16) % parts;
}

/** A set of digests that are nowhere but in one array. */
class Keys {
  readonly #slots: Uint32Array;
  readonly #mask: number;

  constructor(count: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(1024, count * 2)));
    this.#slots = new Uint32Array(size * 4);
    this.#mask = size - 1;
  }

  add(key: Buffer): void {
    const slot = this.#slotOf(key);
    for (let n = 0; n < 4; n += 1) this.#slots[slot * 4 + n] = key.readUInt32LE(n * 4);
  }

  has(key: Buffer): boolean {
    return !this.#isFree(this.#slotOf(key));
  }

  /** Where it is, or is to be. */
  #slotOf(key: Buffer): number {
    let slot = key.readUInt32LE(0) & this.#mask;
    while (!this.#isFree(slot) && !this.#isAt(slot, key)) slot = (slot + 1) & this.#mask;
    return slot;
  }

  #isFree(slot: number): boolean {
    const at = slot * 4;
    const slots = this.#slots;
    return slots[at] === 0 && slots[at + 1] === 0 && slots[at + 2] === 0 && slots[at + 3] === 0;
  }

  #isAt(slot: number, key: Buffer): boolean {
    for (let n = 0; n < 4; n += 1) if (this.#slots[slot * 4 + n] !== key.readUInt32LE(n * 4)) return false;
    return true;
  }
}

const MAX_RECORD = 2 ** 29;

/** The records that a file holds: of an envelope or a list, whichever it is, or of lines. */
async function* recordsIn({ path, format, compression }: Merging): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path, { highWaterMark: 2 ** 18 });
  try {
    const bytes: AsyncIterable<Uint8Array> =
      compression === 'gzip' ? gunzip(file) : compression === 'zstd' ? unzstd(file, path) : file;
    yield* format === 'ndjson' ? lines(bytes) : items(bytes);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = cause instanceof CollectError ? cause.message : (code ?? asCollectError(cause).message);
    throw new CollectError('store', `nothing can be merged into ${path}, which cannot be read: ${why}`, {
      mend: 'correct the file, or move it away',
      cause,
    });
  } finally {
    file.destroy();
  }
}

async function* items(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let splitter: RecordSplitter | undefined;
  for await (const chunk of bytes) {
    const first = chunk.find((byte) => byte > 0x20);
    if (splitter === undefined && first === undefined) continue;
    splitter ??= new RecordSplitter({
      path: first === 0x5b ? '' : 'data',
      maxRecord: MAX_RECORD,
      edit: (record) => record,
    });
    for (const [n, piece] of splitter.write(chunk).entries()) if (n % 2 === 0) yield piece; // the others are line feeds
  }
  if (splitter?.end().found !== true)
    throw new CollectError('store', 'it is neither {"data":[...]} nor a list of records');
}

async function* lines(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let carry: Uint8Array[] = [];
  for await (const chunk of bytes) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const piece = chunk.subarray(start, end);
      if (carry.length > 0 || piece.length > 0) yield Buffer.concat([...carry, piece]);
      carry = [];
      start = end + 1;
    }
    if (start < chunk.length) carry.push(chunk.subarray(start));
  }
  if (carry.length > 0) throw new CollectError('store', 'its last line is not ended');
}
