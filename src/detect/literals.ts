/** A text that every match of a regular expression holds. */
export interface Literal {
  readonly text: string;
  /** Whether capitals may stand for small letters. */
  readonly folds: boolean;
}

const LEAST = 3;
const BREAKS = new Set('.^$');

/** The longest text that is certain to be in every match; undefined where none is easily told. */
export function literalOf(pattern: string): Literal | undefined {
  const folds = /^\(\?i\)/.test(pattern);
  const rest = folds ? pattern.slice(4) : pattern;
  if (/\(\?[a-zA-Z]/.test(rest)) return undefined; // flags that change further on
  let best = '';
  let run = '';
  const cut = () => {
    if (run.length > best.length) best = run;
    run = '';
  };
  for (let at = 0; at < rest.length; ) {
    const piece = pieceAt(rest, at);
    if (piece === undefined) return undefined;
    at += piece.length;
    const quantifier = /^(?:[*+?]|\{\d+(?:,\d*)?\})[?+]?/.exec(rest.slice(at, at + 16))?.[0] ?? '';
    at += quantifier.length;
    const optional = /^(?:[*?]|\{0)/.test(quantifier);
    // Other letters than those of ASCII fold in ways of their own, and k and s into some of them.
    const strange = folds && /[^\x20-\x7e]|[ks]/i.test(piece.char ?? '');
    if (piece.char === undefined || optional || strange) cut();
    else run += piece.char;
    if (quantifier !== '' && !optional) cut();
  }
  cut();
  if (Buffer.byteLength(best) < LEAST) return undefined;
  return { text: folds ? best.toLowerCase() : best, folds };
}

/** The next piece of an expression: one character, or something that may be many. Undefined for an alternative. */
function pieceAt(text: string, at: number): { readonly length: number; readonly char?: string } | undefined {
  const char = String.fromCodePoint(text.codePointAt(at) ?? 0);
  if (char === '|') return undefined;
  if (char === '\\') {
    const next = text[at + 1] ?? '';
    if (/[^\w\s]/.test(next)) return { length: 2, char: next };
    if (/[pP]/.test(next)) return { length: 2 + (/^(?:\{[^}]*\}|.)/.exec(text.slice(at + 2))?.[0].length ?? 0) };
    return /[dDwWsSbBAz]/.test(next) ? { length: 2 } : undefined;
  }
  if (char === '[') return { length: classLength(text, at) };
  if (char === '(') return { length: groupLength(text, at) };
  return BREAKS.has(char) ? { length: 1 } : { length: char.length, char };
}

function classLength(text: string, from: number): number {
  let at = from + 1;
  if (text[at] === '^') at += 1;
  if (text[at] === ']') at += 1;
  for (; at < text.length && text[at] !== ']'; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text.startsWith('[:', at)) at = Math.max(at, text.indexOf(':]', at) + 1);
  }
  return at + 1 - from;
}

function groupLength(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === '[') at += classLength(text, at) - 1;
    else if (text[at] === '(') depth += 1;
    else if (text[at] === ')') {
      depth -= 1;
      if (depth === 0) return at + 1 - from;
    }
  }
  return text.length - from;
}
