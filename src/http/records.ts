import { CollectError } from '../errors.ts';
import type { Json } from '../json.ts';
import { kernelScan } from './kernel.ts';
import { broken, MAX_DEPTH, PIECE, PlainScan, type Scan } from './scan.ts';

/** How records are taken out of a body. */
export interface RecordOptions {
  /** Dotted path of the array that holds the records, `*` for an element of an array; '' when the body is that array. */
  readonly path: string;
  /** Largest record in bytes. */
  readonly maxRecord?: number;
  /** Makes other bytes of each record. Without it records are passed on as ranges of the body, not copied. */
  readonly edit?: (record: Uint8Array) => Uint8Array;
  /** Told what stands before the records, as far as it came: the beginning of a JSON text. */
  readonly begun?: (before: string) => void;
  /** What finds the records; by default the fastest that runs here. */
  readonly scan?: () => Scan;
}

/** Takes records out of a body as it streams by. */
export interface Splitter {
  /** Reads a chunk and returns what it holds of lines, each a record's JSON; a record may come in pieces. */
  write(chunk: Uint8Array): readonly Uint8Array[];
  /** Ends the body. */
  end(): BodyFacts;
}

/** Makes a splitter for one body. */
export type Split = (options: Pick<RecordOptions, 'edit' | 'maxRecord'>) => Splitter;

/** What a body held beside its records. */
export interface BodyFacts {
  /** How many records were passed on. */
  readonly records: number;
  /** The body with the records' array empty. */
  readonly body: Json;
  /** Whether the records' array was there; null counts as absent. */
  readonly found: boolean;
}

const LF = 0x0a;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const NEW_LINE = Uint8Array.of(LF);
const MAX_OUTSIDE = 64 * 2 ** 20;

/**
 * Takes the records out of a JSON body as it streams by and hands them on as NDJSON: the vendor's own bytes, one
 * record a line. Nothing is parsed but what stands outside the records. Memory does not grow with the body, nor, unless
 * `edit` wants whole records, with a record. The chunks given to `write` are changed in place: line feeds
 * between a pretty-printed record's tokens become spaces, the comma behind a record its line feed.
 *
 * Checked here because nothing parses the records: brackets match, strings close and hold no raw control characters,
 * commas stand between values, and the body ends where its JSON does. The first record is parsed whole as well.
 * @throws {CollectError} vendor when the body is no JSON, refused when a record is larger than allowed
 */
export class RecordSplitter implements Splitter {
  #records = 0;
  #found = false;
  readonly #path: readonly string[];
  readonly #options: RecordOptions;
  readonly #maxRecord: number;

  // Inside the records.
  #scan: Scan | undefined;
  #size = 0; // bytes of the record before this piece
  #carry: Uint8Array[] = []; // parts of the record before this piece, when someone wants it whole

  // Outside the records.
  readonly #outside: number[] = [];
  readonly #frames: { readonly object: boolean; key: string | undefined }[] = [];
  #awaitsKey = false;
  #string: number[] | undefined;
  #escaped = false;

  constructor(options: RecordOptions) {
    this.#options = options;
    this.#path = options.path === '' ? [] : options.path.split('.');
    this.#maxRecord = options.maxRecord ?? 64 * 2 ** 20;
  }

  /** Reads a chunk, changing it, and returns the lines found in it as ranges of it. */
  write(chunk: Uint8Array): Uint8Array[] {
    const out: Uint8Array[] = [];
    for (let from = 0; from < chunk.length; from += PIECE) this.#read(chunk.subarray(from, from + PIECE), out);
    return out;
  }

  #read(piece: Uint8Array, out: Uint8Array[]): void {
    let i = 0;
    while (i < piece.length) {
      i = this.#scan === undefined ? this.#scanOutside(piece, i) : this.#takeRecords(this.#scan, piece, i, out);
    }
  }

  /** Ends the body. */
  end(): BodyFacts {
    if (this.#scan !== undefined || this.#frames.length > 0 || this.#string !== undefined) {
      throw broken('it ends in the middle');
    }
    const text = Buffer.from(this.#outside)
      .toString('utf8')
      .replace(/^\uFEFF/, '');
    if (text.trimStart().startsWith('<')) throw new CollectError('vendor', 'the answer is HTML or XML, not JSON');
    try {
      return { records: this.#records, body: JSON.parse(text) as Json, found: this.#found };
    } catch {
      // The parser's own error quotes the body.
      throw new CollectError('vendor', text.trim() === '' ? 'the answer is empty' : 'the answer is no JSON');
    }
  }

  #scanOutside(chunk: Uint8Array, from: number): number {
    for (let i = from; i < chunk.length; i += 1) {
      const byte = chunk[i] as number;
      this.#outside.push(byte);
      if (this.#outside.length > MAX_OUTSIDE) {
        throw new CollectError('refused', `more than ${MAX_OUTSIDE} bytes stand outside the records`);
      }
      if (this.#string !== undefined) this.#inOutsideString(byte);
      else if (byte === QUOTE) this.#string = [];
      else if (byte === OPEN_ARRAY && this.#atRecords()) {
        this.#found = true;
        this.#options.begun?.(Buffer.from(this.#outside).toString('utf8'));
        this.#scan = this.#options.scan?.() ?? kernelScan() ?? new PlainScan();
        return i + 1;
      } else this.#structure(byte);
    }
    return chunk.length;
  }

  #inOutsideString(byte: number): void {
    const string = this.#string as number[];
    if (this.#escaped) this.#escaped = false;
    else if (byte === BACKSLASH) this.#escaped = true;
    else if (byte === QUOTE) {
      const frame = this.#frames.at(-1);
      if (frame?.object === true && this.#awaitsKey) frame.key = Buffer.from(string).toString('utf8');
      this.#string = undefined;
      return;
    }
    if (this.#awaitsKey) string.push(byte);
  }

  #structure(byte: number): void {
    const frame = this.#frames.at(-1);
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (this.#frames.length >= MAX_DEPTH) throw broken('it is nested too deep');
      this.#frames.push({ object: byte === OPEN_OBJECT, key: undefined });
      this.#awaitsKey = byte === OPEN_OBJECT;
    } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      if (frame === undefined || frame.object !== (byte === CLOSE_OBJECT)) throw broken('a bracket does not match');
      this.#frames.pop();
      this.#awaitsKey = false;
    } else if (byte === COMMA) this.#awaitsKey = frame?.object === true;
    else if (byte === COLON) this.#awaitsKey = false;
  }

  #atRecords(): boolean {
    if (this.#found || this.#frames.length !== this.#path.length) return false;
    const isOn = (key: string, n: number) => {
      const frame = this.#frames[n];
      return key === '*' ? frame?.object === false : frame?.object === true && frame.key === key;
    };
    return this.#path.every(isOn) && !this.#awaitsKey;
  }

  /**
   * From a byte inside the records' array to the piece's end or the array's. Records that follow each other directly
   * leave as one range: the comma between them becomes the line feed.
   */
  #takeRecords(scan: Scan, piece: Uint8Array, from: number, out: Uint8Array[]): number {
    const found = scan.read(piece, from);
    const { at, count, open } = found;
    const copies = this.#options.edit !== undefined;
    const bounds = copies ? found.bounds.slice(0, count * 2) : found.bounds; // an edit may scan too
    let run = from; // the range to hand on next is [run, end)
    let end = from;
    const goOn = (start: number) => {
      if (start === end) return;
      if (end > run && !copies) out.push(piece.subarray(run, end));
      run = start;
    };
    for (let n = 0; n < count; n += 1) {
      const stop = bounds[n * 2 + 1] as number;
      goOn(bounds[n * 2] as number);
      this.#endRecord(piece, bounds[n * 2] as number, stop, out);
      if (stop < piece.length) piece[stop] = LF;
      end = stop + 1;
    }
    if (open >= 0) {
      goOn(open);
      end = piece.length;
      this.#keep(piece.subarray(open));
    }
    if (end > run && !copies) out.push(piece.subarray(run, end));
    if (end > piece.length && !copies) out.push(NEW_LINE);
    if (found.ended) this.#endArray();
    return at;
  }

  #endRecord(chunk: Uint8Array, start: number, end: number, out: Uint8Array[]): void {
    if (this.#size + end - start > this.#maxRecord) this.#refuseSize();
    const { edit } = this.#options;
    if (this.#records === 0 || edit !== undefined) {
      let record = chunk.subarray(start, end);
      if (this.#carry.length > 0) {
        record = Buffer.concat([...this.#carry, record]);
        this.#carry = [];
      }
      if (this.#records === 0) assertJson(record);
      if (edit !== undefined) out.push(edit(record), NEW_LINE);
    }
    this.#records += 1;
    this.#size = 0;
  }

  #endArray(): void {
    this.#outside.push(CLOSE_ARRAY);
    this.#scan = undefined;
    this.#awaitsKey = false;
  }

  /** Remembers the part of a record that the chunk ends with, as far as someone wants the record whole. */
  #keep(part: Uint8Array): void {
    this.#size += part.length;
    if (this.#size > this.#maxRecord) this.#refuseSize();
    if (this.#records === 0 || this.#options.edit !== undefined) this.#carry.push(part);
  }

  #refuseSize(): never {
    throw new CollectError('refused', `a record is larger than ${Math.round(this.#maxRecord / 2 ** 20)} MiB`, {
      mend: 'raise CYBER_COLLECT_MAX_RECORD_MIB if the vendor really sends such records',
    });
  }
}

function assertJson(record: Uint8Array): void {
  try {
    JSON.parse(Buffer.from(record.buffer, record.byteOffset, record.byteLength).toString('utf8'));
  } catch {
    throw new CollectError('vendor', 'the first record is no JSON');
  }
}
