const BACKSLASH = 0x5c;
const U = 0x75;
const ZERO = 0x30;
const ESCAPE = Buffer.from('\\u');
const REPLACEMENT = Buffer.from('\\ufffd');
const LONGEST = 12; // bytes of a surrogate pair's two escapes

/** How many escapes were replaced. */
export interface Tally {
  replaced: number;
}

/**
 * NDJSON with every lone surrogate's escape, and where `nul` every `\u0000`, replaced by `\ufffd`: databases that check
 * JSON refuse them. Escapes keep their length, so chunks are changed in place and nothing is parsed.
 */
export async function* mendEscapes(chunks: AsyncIterable<Buffer>, nul: boolean, tally: Tally): AsyncGenerator<Buffer> {
  let carry = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const bytes = carry.length === 0 ? chunk : Buffer.concat([carry, chunk]);
    const end = cleanEnd(bytes);
    tally.replaced += mend(bytes, end, nul);
    carry = Buffer.from(bytes.subarray(end));
    if (end > 0) yield bytes.subarray(0, end);
  }
  tally.replaced += mend(carry, carry.length, nul);
  if (carry.length > 0) yield carry;
}

/** The last place of a chunk that no escape or surrogate pair reaches across. */
function cleanEnd(bytes: Buffer): number {
  const found = bytes.indexOf(BACKSLASH, Math.max(0, bytes.length - LONGEST));
  if (found < 0) return bytes.length;
  const at = opening(bytes, found);
  const before = at - 6;
  const afterHigh =
    before >= 0 && bytes[before] === BACKSLASH && bytes[before + 1] === U && surrogate(bytes, before) === 'high';
  return afterHigh ? opening(bytes, before) : at;
}

/** The backslash that begins the escape a backslash belongs to: in a row of them every second one is escaped. */
function opening(bytes: Buffer, at: number): number {
  let first = at;
  while (first > 0 && bytes[first - 1] === BACKSLASH) first -= 1;
  return at - ((at - first) % 2);
}

function mend(bytes: Buffer, end: number, nul: boolean): number {
  let replaced = 0;
  let at = bytes.indexOf(ESCAPE);
  while (at >= 0 && at < end) {
    if (bytes[at - 1] === BACKSLASH && opening(bytes, at) !== at) {
      at = bytes.indexOf(ESCAPE, at + 1);
      continue;
    }
    const kind = surrogate(bytes, at);
    if (kind === 'high' && begins(bytes, at + 6) && surrogate(bytes, at + 6) === 'low') at += 6;
    else if (kind !== undefined || (nul && isNul(bytes, at))) {
      replaced += 1;
      REPLACEMENT.copy(bytes, at);
    }
    at = begins(bytes, at + 6) ? at + 6 : bytes.indexOf(ESCAPE, at + 6);
  }
  return replaced;
}

function begins(bytes: Buffer, at: number): boolean {
  return bytes[at] === BACKSLASH && bytes[at + 1] === U;
}

function isNul(bytes: Buffer, at: number): boolean {
  for (let n = at + 2; n < at + 6; n += 1) if (bytes[n] !== ZERO) return false;
  return true;
}

function surrogate(bytes: Buffer, at: number): 'high' | 'low' | undefined {
  if (((bytes[at + 2] ?? 0) | 0x20) !== 0x64) return undefined;
  const digit = (bytes[at + 3] ?? 0) | 0x20;
  if (digit === 0x38 || digit === 0x39 || digit === 0x61 || digit === 0x62) return 'high';
  return digit >= 0x63 && digit <= 0x66 ? 'low' : undefined;
}
