/** Told the number of a text that was found, and where. */
export type Found = (id: number, start: number, end: number) => void;

/** Looks for many texts at once. */
export interface Substrings {
  search(bytes: Buffer, from: number, to: number, found: Found): void;
}

/** A text to look for. */
export interface Text {
  readonly id: number;
  readonly bytes: Buffer;
  /** Whether capitals count as small letters (of ASCII). */
  readonly folds: boolean;
}

/** Lengths up to which texts are searched for together: the shortest of a group says how far a search may jump. */
const GROUPS = [1, 3, 7, 15, Number.POSITIVE_INFINITY];

/** Looks for texts of any length. */
export function substringsOf(texts: readonly Text[]): Substrings {
  const passes: Substrings[] = [];
  for (const folds of [false, true]) {
    let least = 0;
    for (const most of GROUPS) {
      const group = texts.filter(
        ({ bytes, folds: own }) => own === folds && bytes.length > least && bytes.length <= most,
      );
      if (group.length > 0) passes.push(passOf(group, folds));
      least = most;
    }
  }
  return {
    search(bytes, from, to, found) {
      for (const pass of passes) pass.search(bytes, from, to, found);
    },
  };
}

const BLOCK = 4;
const SLOTS = 22;

function fold(byte: number): number {
  return byte >= 65 && byte <= 90 ? byte | 0x20 : byte;
}

/** The texts of a group by the last block of their window, and how far other blocks let one jump. */
interface Jumps {
  readonly window: number;
  readonly block: number;
  readonly shift: number;
  readonly jumps: Uint8Array;
  readonly heads: Map<number, number>;
  /** The next text of the same block, or -1. */
  readonly nexts: Int32Array;
}

function jumpsOf(texts: readonly (readonly number[])[]): Jumps {
  const window = Math.min(255, ...texts.map((text) => text.length));
  const block = Math.min(BLOCK, window);
  const entries = texts.length * (window - block + 1);
  const slots = Math.min(SLOTS, Math.max(12, Math.ceil(Math.log2(entries * 8))));
  const shift = 32 - slots;
  const jumps = new Uint8Array(2 ** slots).fill(window - block + 1);
  const heads = new Map<number, number>();
  const nexts = new Int32Array(texts.length).fill(-1);
  for (const [n, text] of texts.entries()) {
    for (let end = block; end <= window; end += 1) {
      const slot = slotOf(text, end - block, block, shift);
      const jump = window - end;
      jumps[slot] = Math.min(jumps[slot] ?? 0, jump);
      if (jump > 0) continue;
      nexts[n] = heads.get(slot) ?? -1;
      heads.set(slot, n);
    }
  }
  return { window, block, shift, jumps, heads, nexts };
}

function slotOf(bytes: readonly number[], at: number, block: number, shift: number): number {
  let value = 0;
  for (let n = 0; n < block; n += 1) value |= (bytes[at + n] ?? 0) << (8 * n);
  return Math.imul(value, 0x9e3779b1) >>> shift;
}

/** The method of Wu and Manber: the bytes at the end of a window say how far the next possible text is away. */
function passOf(group: readonly Text[], folds: boolean): Substrings {
  const texts = group.map(({ bytes }) => Array.from(bytes, folds ? fold : (byte) => byte));
  const { window, block, shift, jumps, heads, nexts } = jumpsOf(texts);
  const table = Uint8Array.from({ length: 256 }, (_, byte) => (folds ? fold(byte) : byte));
  function candidates(bytes: Buffer, slot: number, start: number, to: number, found: Found): void {
    for (let n = heads.get(slot) ?? -1; n >= 0; n = nexts[n] ?? -1) {
      const text = texts[n] ?? [];
      if (start + text.length > to) continue;
      let at = 0;
      while (at < text.length && table[bytes[start + at] ?? 0] === text[at]) at += 1;
      if (at === text.length) found(group[n]?.id ?? 0, start, start + text.length);
    }
  }
  const mask = block === 4 ? -1 : 2 ** (8 * block) - 1;
  return {
    search(bytes, from, to, found) {
      let at = from + window - block;
      for (const last = to - block; at <= last; ) {
        // Beyond the end a byte reads as undefined, which counts as 0 and is masked out.
        const value =
          ((table[bytes[at] as number] as number) |
            ((table[bytes[at + 1] as number] as number) << 8) |
            ((table[bytes[at + 2] as number] as number) << 16) |
            ((table[bytes[at + 3] as number] as number) << 24)) &
          mask;
        const slot = Math.imul(value, 0x9e3779b1) >>> shift;
        const jump = jumps[slot] as number;
        if (jump === 0) {
          candidates(bytes, slot, at + block - window, to, found);
          at += 1;
        } else at += jump;
      }
    },
  };
}
