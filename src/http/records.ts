import { CollectError } from '../errors.ts';
import type { Json } from '../json.ts';

/** How records are taken out of a body. */
export interface RecordOptions {
  /** Dotted path of the array that holds the records; '' when the body is that array. */
  readonly path: string;
  /** Largest record in bytes. */
  readonly maxRecord?: number;
  /** Makes other bytes of each record. Without it records are passed on as ranges of the body, not copied. */
  readonly edit?: (record: Uint8Array) => Uint8Array;
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
const CR = 0x0d;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const NEW_LINE = Uint8Array.of(LF);
const MAX_DEPTH = 1000;
const MAX_OUTSIDE = 64 * 2 ** 20;

/** Bytes the scan of a record stops at: outside strings, and inside them. */
const STRUCTURAL = new Uint8Array(256);
for (const byte of [LF, CR, QUOTE, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT]) STRUCTURAL[byte] = 1;
const IN_STRING = new Uint8Array(256).fill(1, 0, 0x20);
for (const byte of [QUOTE, BACKSLASH]) IN_STRING[byte] = 1;

/** Where the scan stands: outside the records, before a record, inside one, inside a scalar one, behind one. */
const OUTSIDE = 0;
const BEFORE = 1;
const RECORD = 2;
const SCALAR = 3;
const BEHIND = 4;

function broken(what: string): CollectError {
  return new CollectError('vendor', `the answer is no whole JSON: ${what}`);
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === LF || byte === CR || byte === 0x09;
}

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
  #state = OUTSIDE;
  #inString = false;
  #skip = 0; // bytes of an escape that the next chunk begins with
  #depth = 0;
  readonly #brackets = new Uint8Array(MAX_DEPTH);
  #size = 0; // bytes of the record before this chunk
  #carry: Uint8Array[] = []; // pieces of the record before this chunk, when someone wants it whole
  #owesLine = false; // a record ended with the chunk: its line feed is still to come
  #afterComma = false;

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
    let i = 0;
    while (i < chunk.length)
      i = this.#state === OUTSIDE ? this.#scanOutside(chunk, i) : this.#scanRecords(chunk, i, out);
    return out;
  }

  /** Ends the body. */
  end(): BodyFacts {
    if (this.#state !== OUTSIDE || this.#frames.length > 0 || this.#string !== undefined) {
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
        this.#state = BEFORE;
        this.#afterComma = false;
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
    return (
      this.#path.every((key, n) => this.#frames[n]?.object === true && this.#frames[n]?.key === key) && !this.#awaitsKey
    );
  }

  /**
   * From a byte inside the records' array to the chunk's end or the array's. Records that follow each other directly
   * leave as one range: the comma between them becomes the line feed.
   */
  #scanRecords(chunk: Uint8Array, from: number, out: Uint8Array[]): number {
    const length = chunk.length;
    const copies = this.#options.edit !== undefined;
    let i = from;
    let start = from; // of the current record's bytes in this chunk
    let run = from; // the range to hand on next is [run, end)
    let end = from;
    while (i < length) {
      if (this.#inside()) {
        i = this.#state === RECORD ? this.#scanRecord(chunk, i) : this.#scanScalar(chunk, i);
        if (i === length && this.#inside()) break;
        this.#endRecord(chunk, start, i, out);
        end = i;
        if (i === length) {
          this.#owesLine = true;
          break;
        }
        const separator = chunk[i] as number;
        chunk[i] = LF;
        i += 1;
        end = i;
        if (this.#passSeparator(separator)) break;
        continue;
      }
      const byte = chunk[i] as number;
      if (this.#state === BEHIND) {
        if (this.#owesLine && !copies) out.push(NEW_LINE);
        this.#owesLine = false;
        i += 1;
        if (this.#passSeparator(byte)) break;
      } else if (isSpace(byte)) i += 1;
      else if (byte === CLOSE_ARRAY) {
        if (this.#afterComma) throw broken('a record is missing behind a comma');
        i += 1;
        this.#endArray();
        break;
      } else {
        if (i !== end) {
          if (end > run && !copies) out.push(chunk.subarray(run, end));
          run = i;
        }
        start = i;
        i = this.#beginRecord(byte, i);
      }
    }
    if (this.#inside()) {
      end = length;
      this.#keep(chunk.subarray(start));
    }
    if (end > run && !copies) out.push(chunk.subarray(run, end));
    return i;
  }

  #inside(): boolean {
    return this.#state === RECORD || this.#state === SCALAR;
  }

  #beginRecord(byte: number, at: number): number {
    this.#size = 0;
    this.#afterComma = false;
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      this.#state = RECORD;
      this.#depth = 1;
      this.#brackets[0] = byte;
      return at + 1;
    }
    if (byte === COMMA || byte === CLOSE_OBJECT || byte === COLON) throw broken('a record is missing');
    if (byte === QUOTE) {
      this.#state = RECORD;
      this.#depth = 0;
      this.#inString = true;
      return at + 1;
    }
    this.#state = SCALAR;
    return at;
  }

  /** The hot loop: from inside a record to its end or the chunk's. */
  #scanRecord(chunk: Uint8Array, from: number): number {
    const length = chunk.length;
    let i = from + this.#skip;
    let depth = this.#depth;
    let inString = this.#inString;
    this.#skip = 0;
    while (i < length) {
      if (inString) {
        while (i < length && IN_STRING[chunk[i] as number] === 0) i += 1;
        if (i >= length) break;
        const byte = chunk[i] as number;
        if (byte === BACKSLASH) {
          i += 2;
          continue;
        }
        if (byte !== QUOTE) throw broken('a string holds a raw control character');
        i += 1;
        inString = false;
        if (depth === 0) return this.#closeRecord(i);
        continue;
      }
      while (i < length && STRUCTURAL[chunk[i] as number] === 0) i += 1;
      if (i >= length) break;
      const byte = chunk[i] as number;
      if (byte === QUOTE) inString = true;
      else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
        if (depth === MAX_DEPTH) throw broken('it is nested too deep');
        this.#brackets[depth] = byte;
        depth += 1;
      } else if (byte === LF || byte === CR) chunk[i] = 0x20;
      else {
        depth -= 1;
        if (this.#brackets[depth] !== byte - 2) throw broken('a bracket does not match');
        if (depth === 0) return this.#closeRecord(i + 1);
      }
      i += 1;
    }
    this.#skip = i - length;
    this.#depth = depth;
    this.#inString = inString;
    return length;
  }

  #closeRecord(at: number): number {
    this.#inString = false;
    this.#state = BEHIND;
    return at;
  }

  #scanScalar(chunk: Uint8Array, from: number): number {
    let i = from;
    for (; i < chunk.length; i += 1) {
      const byte = chunk[i] as number;
      if (byte === COMMA || byte === CLOSE_ARRAY || isSpace(byte)) {
        this.#state = BEHIND;
        break;
      }
      if (STRUCTURAL[byte] === 1 || byte === COLON) throw broken('a value is not separated');
    }
    return i;
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
  }

  /** Reads the byte behind a record; true when the array ended with it. */
  #passSeparator(byte: number): boolean {
    if (byte === CLOSE_ARRAY) {
      this.#endArray();
      return true;
    }
    if (byte === COMMA) {
      this.#state = BEFORE;
      this.#afterComma = true;
    } else if (!isSpace(byte)) throw broken('a comma is missing between records');
    return false;
  }

  #endArray(): void {
    this.#outside.push(CLOSE_ARRAY);
    this.#state = OUTSIDE;
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
