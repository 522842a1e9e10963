// AssemblyScript: what PlainScan of scan.ts does, sixteen bytes at a time, on a memory that kernel.ts fills.
// `npx vitest run test/http/kernel.test.ts -u` compiles it into kernel_wasm.ts; without -u the test compares.

// The memory. What is before COUNT and the open brackets stays from piece to piece and belongs to one body.
const STATE: usize = 0;
const DEPTH: usize = 4;
const STRING: usize = 8; // -1 inside a string, else 0
const ESCAPED: usize = 12;
const COUNT: usize = 16;
const OPEN: usize = 20;
const FAULT: usize = 24;
const CHANGED: usize = 28;
const BRACKETS: usize = 32;
const BOUNDS: usize = 2048;
const PIECE: usize = 2 ** 19;

const MAX_DEPTH: i32 = 1000;

const MISSING: i32 = 1;
const MISSING_BEHIND_COMMA: i32 = 2;
const NO_COMMA: i32 = 3;
const UNMATCHED: i32 = 4;
const TOO_DEEP: i32 = 5;
const CONTROL_IN_STRING: i32 = 6;
const CONTROL: i32 = 7;
const UNSEPARATED: i32 = 8;

const TAB: u8 = 0x09;
const LF: u8 = 0x0a;
const CR: u8 = 0x0d;
const SPACE: u8 = 0x20;
const QUOTE: u8 = 0x22;
const COMMA: u8 = 0x2c;
const COLON: u8 = 0x3a;
const OPEN_ARRAY: u8 = 0x5b;
const BACKSLASH: u8 = 0x5c;
const CLOSE_ARRAY: u8 = 0x5d;
const OPEN_OBJECT: u8 = 0x7b;
const CLOSE_OBJECT: u8 = 0x7d;

const _FIRST: i32 = 0;
const AFTER_COMMA: i32 = 1;
const BEHIND: i32 = 2;
const RECORD: i32 = 3;
const TEXT: i32 = 4;
const SCALAR: i32 = 5;
const ENDED: i32 = 6;

function become(state: i32): void {
  store<i32>(STATE, state);
}

function refuse(fault: i32): void {
  store<i32>(FAULT, fault);
}

function isSpace(byte: u8): bool {
  return byte === SPACE || byte === LF || byte === CR || byte === TAB;
}

/** Scans the piece from an offset on and returns where it stopped. */
export function scan(from: i32, length: i32): i32 {
  const end = PIECE + length;
  let at = PIECE + from;
  let start = at;
  let bound = BOUNDS;
  store<i32>(FAULT, 0);
  store<i32>(CHANGED, 0);
  let state = load<i32>(STATE);
  while (at < end && state !== ENDED && load<i32>(FAULT) === 0) {
    if (state < RECORD) {
      start = at;
      between(load<u8>(at));
      at += 1;
      state = load<i32>(STATE);
      continue;
    }
    at = state === RECORD ? record(at, end) : state === TEXT ? text(at, end) : scalar(at, end);
    state = load<i32>(STATE);
    if (state !== BEHIND) continue;
    store<i32>(bound, <i32>(start - PIECE));
    store<i32>(bound, <i32>(at - PIECE), 4);
    bound += 8;
  }
  store<i32>(COUNT, <i32>((bound - BOUNDS) >> 3));
  store<i32>(OPEN, state >= RECORD && state !== ENDED ? <i32>(start - PIECE) : -1);
  return <i32>(at - PIECE);
}

/** One byte that is in no record. */
function between(byte: u8): void {
  if (isSpace(byte)) return;
  const state = load<i32>(STATE);
  if (state === BEHIND) {
    if (byte === COMMA) become(AFTER_COMMA);
    else if (byte === CLOSE_ARRAY) become(ENDED);
    else refuse(NO_COMMA);
  } else if (byte === CLOSE_ARRAY) {
    if (state === AFTER_COMMA) refuse(MISSING_BEHIND_COMMA);
    else become(ENDED);
  } else begin(byte);
}

function begin(byte: u8): void {
  if (byte === COMMA || byte === CLOSE_OBJECT || byte === COLON) refuse(MISSING);
  else if (byte < SPACE) refuse(CONTROL);
  else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
    become(RECORD);
    store<i32>(DEPTH, 1);
    store<u8>(BRACKETS, byte);
  } else become(byte === QUOTE ? TEXT : SCALAR);
}

function scalar(from: usize, end: usize): usize {
  for (let at = from; at < end; at += 1) {
    const byte = load<u8>(at);
    if (byte === COMMA || byte === CLOSE_ARRAY || isSpace(byte)) {
      become(BEHIND);
      return at;
    }
    const folded = byte | 0x20;
    if (byte < SPACE || byte === QUOTE || byte === COLON || folded === OPEN_OBJECT || folded === CLOSE_OBJECT) {
      refuse(UNSEPARATED);
      return end;
    }
  }
  return end;
}

/** A record that is a string. */
function text(from: usize, end: usize): usize {
  let escaped = load<i32>(ESCAPED);
  for (let at = from; at < end; at += 1) {
    const byte = load<u8>(at);
    if (byte < SPACE) {
      refuse(CONTROL_IN_STRING);
      return end;
    }
    if (escaped) escaped = 0;
    else if (byte === BACKSLASH) escaped = 1;
    else if (byte === QUOTE) {
      finish();
      return at + 1;
    }
  }
  store<i32>(ESCAPED, escaped);
  return end;
}

/** From inside a record to its end or the piece's. */
function record(from: usize, end: usize): usize {
  let at = from;
  let string = load<i32>(STRING);
  let escaped = load<i32>(ESCAPED);
  while (at < end) {
    const stop = min(at + 16, end);
    if (escaped === 0 && at + 16 <= end) {
      const block = v128.load(at);
      if (!v128.any_true(i8x16.eq(block, i8x16.splat(BACKSLASH)))) {
        // A bit for each byte from a string's first quote to before its last: whether the quotes up to there are odd.
        let strings = i8x16.bitmask(i8x16.eq(block, i8x16.splat(QUOTE)));
        strings ^= strings << 1;
        strings ^= strings << 2;
        strings ^= strings << 4;
        strings ^= strings << 8;
        strings ^= string;
        const folded = v128.or(block, i8x16.splat(0x20));
        const brackets = v128.or(
          i8x16.eq(folded, i8x16.splat(OPEN_OBJECT)),
          i8x16.eq(folded, i8x16.splat(CLOSE_OBJECT)),
        );
        const controls = i8x16.bitmask(i8x16.lt_u(block, i8x16.splat(SPACE)));
        let marks = (i8x16.bitmask(brackets) & ~strings) | controls;
        while (marks !== 0) {
          const place = ctz(marks);
          marks &= marks - 1;
          if (structure(at + place, (strings >> place) & 1)) return at + place + 1;
        }
        string = (strings << 16) >> 31;
        at = stop;
        continue;
      }
    }
    for (; at < stop; at += 1) {
      const byte = load<u8>(at);
      if (byte < SPACE) {
        if (structure(at, string)) return at + 1;
      } else if (escaped) escaped = 0;
      else if (byte === QUOTE) string = ~string;
      else if (string) escaped = byte === BACKSLASH ? 1 : 0;
      else if ((byte | 0x20) === OPEN_OBJECT || (byte | 0x20) === CLOSE_OBJECT) {
        if (structure(at, 0)) return at + 1;
      }
    }
  }
  store<i32>(STRING, string);
  store<i32>(ESCAPED, escaped);
  return end;
}

/** A bracket outside strings, or a control character; true when the record ends with it, or the scan. */
function structure(at: usize, string: i32): bool {
  const byte = load<u8>(at);
  if (byte < SPACE) {
    if (string !== 0) refuse(CONTROL_IN_STRING);
    else if (byte === LF || byte === CR) {
      store<u8>(at, SPACE);
      store<i32>(CHANGED, 1);
      return false;
    } else if (byte === TAB) return false;
    else refuse(CONTROL);
    return true;
  }
  const depth = load<i32>(DEPTH);
  if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
    if (depth === MAX_DEPTH) {
      refuse(TOO_DEEP);
      return true;
    }
    store<u8>(BRACKETS + depth, byte);
    store<i32>(DEPTH, depth + 1);
    return false;
  }
  store<i32>(DEPTH, depth - 1);
  if (load<u8>(BRACKETS + depth - 1) !== byte - 2) refuse(UNMATCHED);
  else if (depth > 1) return false;
  else finish();
  return true;
}

function finish(): void {
  become(BEHIND);
  store<i32>(STRING, 0);
  store<i32>(ESCAPED, 0);
}
