import { CollectError } from '../errors.ts';

/** What a scan found in a piece of a body. */
export interface Scanned {
  /** Where it stopped: the piece's end, or behind the `]` of the records' array. */
  readonly at: number;
  /** Whether the array ended. */
  readonly ended: boolean;
  /** How many records ended. */
  readonly count: number;
  /** Start and end of each in the piece, one pair a record. Good until anything is scanned again. */
  readonly bounds: Int32Array;
  /** Start of the record that the piece ends in the middle of, or -1. */
  readonly open: number;
}

/**
 * Finds the records of one array, piece after piece; made for the byte behind its `[`. Line feeds and carriage returns
 * between a record's tokens become spaces in the piece. A record that began before starts at `from`.
 * @throws {CollectError} vendor when it is no JSON
 */
export interface Scan {
  /** @param piece at most `PIECE` bytes */
  read(piece: Uint8Array, from: number): Scanned;
}

/** The most that is scanned at once. */
export const PIECE = 2 ** 16;
/** Brackets that may be open at once. */
export const MAX_DEPTH = 1000;

/** What may be wrong with records, by the numbers that the kernel knows it by. */
export const FAULTS = [
  '',
  'a record is missing',
  'a record is missing behind a comma',
  'a comma is missing between records',
  'a bracket does not match',
  'it is nested too deep',
  'a string holds a raw control character',
  'a control character stands between values',
  'a value is not separated',
] as const;
const MISSING = 1;
const MISSING_BEHIND_COMMA = 2;
const NO_COMMA = 3;
const UNMATCHED = 4;
const TOO_DEEP = 5;
const CONTROL_IN_STRING = 6;
const CONTROL = 7;
const UNSEPARATED = 8;

/** The error of a body that is cut short or wrong. */
export function broken(what: string | undefined): CollectError {
  return new CollectError('vendor', `the answer is no whole JSON: ${what}`);
}

const TAB = 0x09;
const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Bytes the scan of a record stops at: outside strings, and inside them. */
const STRUCTURAL = new Uint8Array(256).fill(1, 0, SPACE);
for (const byte of [QUOTE, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT]) STRUCTURAL[byte] = 1;
const IN_STRING = new Uint8Array(256).fill(1, 0, SPACE);
for (const byte of [QUOTE, BACKSLASH]) IN_STRING[byte] = 1;

/** Where the scan stands: before the first record, behind a comma, behind a record, inside one of three kinds, behind all. */
const FIRST = 0;
const AFTER_COMMA = 1;
const BEHIND = 2;
const RECORD = 3;
const TEXT = 4;
const SCALAR = 5;
const ENDED = 6;

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === LF || byte === CR || byte === TAB;
}

/** The scan as a plain loop: what the kernel is held against, and what serves where it cannot run. */
export class PlainScan implements Scan {
  #state = FIRST;
  #depth = 0;
  #inString = false;
  #escaped = false;
  readonly #brackets = new Uint8Array(MAX_DEPTH);
  readonly #bounds = new Int32Array(PIECE + 2);

  read(piece: Uint8Array, from: number): Scanned {
    let count = 0;
    let start = from;
    let at = from;
    while (at < piece.length && this.#state !== ENDED) {
      if (this.#state < RECORD) {
        start = at;
        this.#between(piece[at] as number);
        at += 1;
        continue;
      }
      at = this.#state === SCALAR ? this.#scalar(piece, at) : this.#record(piece, at);
      if (this.#state !== BEHIND) continue;
      this.#bounds[count * 2] = start;
      this.#bounds[count * 2 + 1] = at;
      count += 1;
    }
    const ended = this.#state === ENDED;
    const open = this.#state >= RECORD && !ended ? start : -1;
    return { at, ended, count, bounds: this.#bounds, open };
  }

  /** One byte that is in no record. */
  #between(byte: number): void {
    if (isSpace(byte)) return;
    if (this.#state === BEHIND) {
      if (byte === COMMA) this.#state = AFTER_COMMA;
      else if (byte === CLOSE_ARRAY) this.#state = ENDED;
      else throw broken(FAULTS[NO_COMMA]);
    } else if (byte === CLOSE_ARRAY) {
      if (this.#state === AFTER_COMMA) throw broken(FAULTS[MISSING_BEHIND_COMMA]);
      this.#state = ENDED;
    } else this.#begin(byte);
  }

  #begin(byte: number): void {
    if (byte === COMMA || byte === CLOSE_OBJECT || byte === COLON) throw broken(FAULTS[MISSING]);
    if (byte < SPACE) throw broken(FAULTS[CONTROL]);
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      this.#state = RECORD;
      this.#depth = 1;
      this.#brackets[0] = byte;
    } else if (byte === QUOTE) {
      this.#state = TEXT;
      this.#depth = 0;
      this.#inString = true;
    } else this.#state = SCALAR;
  }

  #scalar(piece: Uint8Array, from: number): number {
    let i = from;
    for (; i < piece.length; i += 1) {
      const byte = piece[i] as number;
      if (byte === COMMA || byte === CLOSE_ARRAY || isSpace(byte)) {
        this.#state = BEHIND;
        break;
      }
      if (STRUCTURAL[byte] === 1 || byte === COLON) throw broken(FAULTS[UNSEPARATED]);
    }
    return i;
  }

  /** From inside a record to its end or the piece's. */
  #record(piece: Uint8Array, from: number): number {
    let i = from;
    while (i < piece.length && this.#state !== BEHIND) {
      if (this.#inString) i = this.#string(piece, i);
      else {
        while (i < piece.length && STRUCTURAL[piece[i] as number] === 0) i += 1;
        if (i < piece.length) this.#structure(piece, i);
        i += 1;
      }
    }
    return Math.min(i, piece.length);
  }

  #string(piece: Uint8Array, from: number): number {
    let i = from;
    for (; i < piece.length; i += 1) {
      const byte = piece[i] as number;
      if (IN_STRING[byte] === 1) {
        if (byte < SPACE) throw broken(FAULTS[CONTROL_IN_STRING]);
        if (!this.#escaped) {
          if (byte === QUOTE) break;
          this.#escaped = true;
          continue;
        }
      }
      this.#escaped = false;
    }
    if (i === piece.length) return i;
    this.#inString = false;
    if (this.#depth === 0) this.#state = BEHIND;
    return i + 1;
  }

  #structure(piece: Uint8Array, at: number): void {
    const byte = piece[at] as number;
    if (byte === QUOTE) this.#inString = true;
    else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (this.#depth === MAX_DEPTH) throw broken(FAULTS[TOO_DEEP]);
      this.#brackets[this.#depth] = byte;
      this.#depth += 1;
    } else if (byte < SPACE) {
      if (byte === LF || byte === CR) piece[at] = SPACE;
      else if (byte !== TAB) throw broken(FAULTS[CONTROL]);
    } else {
      this.#depth -= 1;
      if (this.#brackets[this.#depth] !== byte - 2) throw broken(FAULTS[UNMATCHED]);
      if (this.#depth === 0) this.#state = BEHIND;
    }
  }
}
