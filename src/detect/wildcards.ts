/** Stands for any text, also none. */
export const ANY = Symbol('*');
/** Stands for one character. */
export const ONE = Symbol('?');
/** Stands for one of the characters that begin an option on Windows. */
export const DASH = Symbol('-');

/** What a pattern is made of; texts never stand side by side. */
export type Piece = string | typeof ANY | typeof ONE | typeof DASH;

type Run = readonly Exclude<Piece, typeof ANY>[];

const DASHES = '-/–—―';

/** The pieces of a text in which * and ? stand for others, unless a backslash is before them. */
export function piecesOf(text: string): readonly Piece[] {
  const pieces: Piece[] = [];
  let run = '';
  const wild = (piece: Piece) => {
    if (run !== '') pieces.push(run);
    run = '';
    pieces.push(piece);
  };
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at] ?? '';
    const next = text[at + 1] ?? '';
    if (char === '\\' && next !== '' && '\\*?'.includes(next)) {
      run += next;
      at += 1;
    } else if (char === '*') wild(ANY);
    else if (char === '?') wild(ONE);
    else run += char;
  }
  return run === '' ? pieces : [...pieces, run];
}

/** The pieces with every dash or slash that begins an option made one of all of them. */
export function dashed(pieces: readonly Piece[]): readonly Piece[] {
  const parts = (text: string): Piece[] =>
    text
      .split(/\B[-/–—―]\b/)
      .flatMap((part): Piece[] => [DASH, part])
      .slice(1);
  return pieces.flatMap((piece) => (typeof piece === 'string' ? parts(piece) : [piece]));
}

/** A text with one form for letters that differ by case alone, each still one character. */
export function fold(text: string): string {
  if (/^[\0-\x7f]*$/.test(text)) return text.toLowerCase();
  return text.replace(/./gsu, (char) => {
    const upper = char.toUpperCase();
    const lower = (upper.length === char.length ? upper : char).toLowerCase();
    return lower.length === char.length ? lower : char;
  });
}

/** Whether a whole text is as the pieces say; takes time in proportion to the text, whatever the wildcards. */
export function wildcardTest(pieces: readonly Piece[]): (text: string) => boolean {
  const [first = [], ...others] = runsOf(pieces);
  const last = others.pop();
  if (last === undefined) {
    const only = plainOf(first);
    return only === undefined ? (text) => forward(text, 0, first) === text.length : (text) => text === only;
  }
  return plainTest(first, others, last) ?? ((text) => isLike(text, first, others, last));
}

/** The test of what needs no search for wildcards. */
function plainTest(first: Run, middle: readonly Run[], last: Run): ((text: string) => boolean) | undefined {
  const [start, end] = [plainOf(first), plainOf(last)];
  const within = middle.length === 1 ? plainOf(middle[0] ?? []) : undefined;
  if (start === '' && end === '' && within !== undefined) return (text) => text.includes(within);
  if (middle.length > 0) return undefined;
  if (start === '' && end !== undefined) return (text) => text.endsWith(end);
  return end === '' && start !== undefined ? (text) => text.startsWith(start) : undefined;
}

/** The text of a run without wildcards. */
function plainOf(run: Run): string | undefined {
  return run.every((piece) => typeof piece === 'string') ? run.join('') : undefined;
}

function isLike(text: string, first: Run, middle: readonly Run[], last: Run): boolean {
  let at = forward(text, 0, first);
  if (at < 0) return false;
  const end = backward(text, text.length, last);
  if (end < at) return false;
  for (const run of middle) {
    at = find(text, at, run);
    if (at < 0) return false;
  }
  return at <= end;
}

/** What stands between the pieces that may be any text. */
function runsOf(pieces: readonly Piece[]): readonly Run[] {
  const runs: Exclude<Piece, typeof ANY>[][] = [[]];
  for (const piece of pieces) {
    if (piece === ANY) runs.push([]);
    else runs.at(-1)?.push(piece);
  }
  return runs;
}

/** Where a run that begins here ends, or -1. */
function forward(text: string, from: number, run: Run): number {
  let at = from;
  for (const piece of run) {
    if (typeof piece === 'string') {
      if (!text.startsWith(piece, at)) return -1;
      at += piece.length;
    } else {
      const point = text.codePointAt(at);
      if (point === undefined || (piece === DASH && !DASHES.includes(text.charAt(at)))) return -1;
      at += point > 0xffff ? 2 : 1;
    }
  }
  return at;
}

/** Where a run that ends here begins, or -1. */
function backward(text: string, end: number, run: Run): number {
  let at = end;
  for (let n = run.length - 1; n >= 0; n -= 1) {
    const piece = run[n] ?? '';
    if (typeof piece === 'string') {
      at -= piece.length;
      if (at < 0 || !text.startsWith(piece, at)) return -1;
    } else {
      if (at === 0 || (piece === DASH && !DASHES.includes(text.charAt(at - 1)))) return -1;
      at -= (text.codePointAt(at - 2) ?? 0) > 0xffff ? 2 : 1;
    }
  }
  return at;
}

/** Where the first such run ends that begins here or later, or -1. */
function find(text: string, from: number, run: Run): number {
  const [head] = run;
  if (head === undefined) return from;
  for (let at = from; at <= text.length; at += 1) {
    if (typeof head === 'string') at = text.indexOf(head, at);
    if (at < 0) return -1;
    const end = forward(text, at, run);
    if (end >= 0) return end;
  }
  return -1;
}
