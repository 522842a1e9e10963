import type { RE2JS } from 're2js';
import type { Indicator } from './indicators.ts';
import { literalOf } from './literals.ts';
import { type Found, substringsOf, type Text } from './substrings.ts';
import { tokensOf } from './tokens.ts';

/** An indicator that was found, by bytes. */
export interface Hit {
  readonly indicator: Indicator;
  readonly start: number;
  readonly end: number;
}

/** Looks for indicators. */
export interface Matcher {
  /** What is found in bytes that hold whole lines, in order; what an allow-list covers is left out. */
  find(bytes: Buffer): readonly Hit[];
  /** Regular expressions that hold no text every match has, so that each line is tried: they are slow. */
  readonly slow: readonly Indicator[];
}

/** A line with what was found in it. */
export interface LineHits {
  /** From 1. */
  readonly line: number;
  /** Where the line begins, in bytes from the start. */
  readonly offset: number;
  readonly text: Buffer;
  /** By bytes of the line. */
  readonly hits: readonly Hit[];
}

const LF = 10;

/**
 * A matcher of indicators; `allowed` are those that are not to be told. Everything is prepared once, so that a line costs
 * the same however many indicators there are.
 */
export async function matcherOf(
  indicators: readonly Indicator[],
  allowed: readonly Indicator[] = [],
): Promise<Matcher> {
  const search = await searchOf(indicators);
  const allow = allowed.length === 0 ? undefined : coverOf(allowed, (await searchOf(allowed)).find);
  return {
    slow: search.slow,
    find(bytes) {
      const hits: Hit[] = [];
      search.find(bytes, (id, start, end) => {
        const indicator = indicators[id];
        if (indicator === undefined) return;
        const hit = { indicator, start, end };
        if (allow === undefined || !allow(bytes, hit)) hits.push(hit);
      });
      return hits.sort((a, b) => a.start - b.start || a.end - b.end);
    },
  };
}

interface Search {
  readonly slow: readonly Indicator[];
  find(bytes: Buffer, found: Found): void;
}

async function searchOf(indicators: readonly Indicator[]): Promise<Search> {
  const tokens = tokensOf(indicators);
  const texts: Text[] = [];
  const triggered = new Map<number, RE2JS>();
  const slow: (readonly [id: number, pattern: RE2JS])[] = [];
  const hasRegex = indicators.some(({ kind }) => kind === 'regex');
  const re2 = hasRegex ? (await import('re2js')).RE2JS : undefined;
  for (const [id, { kind, value }] of indicators.entries()) {
    if (kind === 'string') texts.push({ id, bytes: Buffer.from(value), folds: false });
    // Words end at brackets, so such a URL is looked for as a text.
    if (kind === 'url' && value.startsWith('[')) texts.push({ id, bytes: Buffer.from(value), folds: true });
    if (kind !== 'regex' || re2 === undefined) continue;
    const pattern = re2.compile(value);
    const literal = literalOf(value);
    if (literal === undefined) slow.push([id, pattern]);
    else {
      triggered.set(id, pattern);
      texts.push({ id, bytes: Buffer.from(literal.text), folds: literal.folds });
    }
  }
  const substrings = substringsOf(texts);
  return {
    slow: slow.flatMap(([id]) => indicators[id] ?? []),
    find(bytes, found) {
      tokens.search(bytes, 0, bytes.length, found);
      const tried = new Set<string>();
      substrings.search(bytes, 0, bytes.length, (id, start, end) => {
        const pattern = triggered.get(id);
        if (pattern === undefined) return found(id, start, end);
        const from = bytes.lastIndexOf(LF, start) + 1;
        const key = `${id} ${from}`;
        if (!tried.has(key)) inLine(bytes, from, id, pattern, found);
        tried.add(key);
      });
      if (slow.length > 0)
        for (const from of lineStarts(bytes)) for (const [id, one] of slow) inLine(bytes, from, id, one, found);
    },
  };
}

function* lineStarts(bytes: Buffer): Generator<number> {
  for (let from = 0; from < bytes.length; ) {
    yield from;
    const end = bytes.indexOf(LF, from);
    from = end < 0 ? bytes.length : end + 1;
  }
}

function inLine(bytes: Buffer, from: number, id: number, pattern: RE2JS, found: Found): void {
  const end = bytes.indexOf(LF, from);
  const matcher = pattern.matcher(bytes.subarray(from, end < 0 ? bytes.length : end));
  while (matcher.find()) found(id, from + matcher.start(), from + matcher.end());
}

/** Whether an allow-list covers a hit: a name or range within it, or for texts the very same text. */
function coverOf(allowed: readonly Indicator[], find: Search['find']): (bytes: Buffer, hit: Hit) => boolean {
  return (bytes, { indicator, start, end }) => {
    const text = bytes.subarray(start, end);
    const exact = indicator.kind === 'string' || indicator.kind === 'regex' || indicator.kind === 'hash';
    let covered = false;
    find(text, (id, first, last) => {
      const kind = allowed[id]?.kind;
      const whole = first === 0 && last === text.length;
      const host =
        indicator.kind === 'url' && first === 0 && (kind === 'domain' || kind === 'address' || kind === 'url');
      if (whole || (!exact && host)) covered = true;
    });
    return covered;
  };
}

/** Lines in which something is found, as bytes stream by; holds no more than a chunk and a line. */
export async function* matchLines(chunks: AsyncIterable<Uint8Array>, matcher: Matcher): AsyncGenerator<LineHits> {
  let carry: Buffer[] = [];
  let line = 1;
  let offset = 0;
  for await (const chunk of chunks) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const end = bytes.lastIndexOf(LF) + 1;
    if (end === 0) {
      carry.push(Buffer.from(bytes));
      continue;
    }
    const whole = carry.length === 0 ? bytes.subarray(0, end) : Buffer.concat([...carry, bytes.subarray(0, end)]);
    carry = end < bytes.length ? [Buffer.from(bytes.subarray(end))] : [];
    line += yield* linesOf(whole, matcher, line, offset);
    offset += whole.length;
  }
  if (carry.length > 0) yield* linesOf(Buffer.concat(carry), matcher, line, offset);
}

/** The lines of a block that hold anything; returns how many lines it has. */
function* linesOf(bytes: Buffer, matcher: Matcher, first: number, offset: number): Generator<LineHits, number> {
  let line = first;
  let start = 0;
  let hits: Hit[] = [];
  const lineEnd = () => {
    const end = bytes.indexOf(LF, start);
    return end < 0 ? bytes.length : end;
  };
  const told = (end: number): LineHits => ({ line, offset: offset + start, text: bytes.subarray(start, end), hits });
  for (const { indicator, start: from, end: to } of matcher.find(bytes)) {
    for (let end = lineEnd(); from > end; end = lineEnd()) {
      if (hits.length > 0) yield told(end);
      hits = [];
      line += 1;
      start = end + 1;
    }
    hits.push({ indicator, start: from - start, end: to - start });
  }
  if (hits.length > 0) yield told(lineEnd());
  for (let end = bytes.indexOf(LF, start); end >= 0; end = bytes.indexOf(LF, end + 1)) line += 1;
  return line - first;
}
