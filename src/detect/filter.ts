const PRIME = 0x01000193;
const SEED = 0x811c9dc5 | 0;

/** What a text's hash begins with. */
export const START = SEED;

/** A hash that has taken one more byte; letters count alike in both cases, and a few other bytes too. */
export function mixed(hash: number, byte: number): number {
  return Math.imul(hash ^ (byte | 0x20), PRIME);
}

/** The hash of a text read from its end to its start. */
export function backwards(bytes: Uint8Array): number {
  let hash = START;
  for (let at = bytes.length - 1; at >= 0; at -= 1) hash = mixed(hash, bytes[at] ?? 0);
  return hash;
}

/** The hash of a text read from its start to its end. */
export function forwards(bytes: Uint8Array): number {
  let hash = START;
  for (const byte of bytes) hash = mixed(hash, byte);
  return hash;
}

/** Says at once, and mostly rightly, that a hash was never added; what was added it never denies. */
export interface Filter {
  add(hash: number): void;
  has(hash: number): boolean;
}

/** A Bloom filter of two probes with some twenty bits an entry: small enough for the processor's cache. */
export function filterOf(entries: number): Filter {
  const size = 2 ** Math.max(10, Math.ceil(Math.log2(entries * 16 + 1)));
  const words = new Uint32Array(size / 32);
  const mask = size - 1;
  return {
    add(hash) {
      const first = (hash ^ (hash >>> 15)) & mask;
      const second = (Math.imul(hash, 0x9e3779b1) >>> 7) & mask;
      words[first >>> 5] = (words[first >>> 5] ?? 0) | (1 << (first & 31));
      words[second >>> 5] = (words[second >>> 5] ?? 0) | (1 << (second & 31));
    },
    has(hash) {
      const first = (hash ^ (hash >>> 15)) & mask;
      if ((((words[first >>> 5] ?? 0) >>> (first & 31)) & 1) === 0) return false;
      const second = (Math.imul(hash, 0x9e3779b1) >>> 7) & mask;
      return (((words[second >>> 5] ?? 0) >>> (second & 31)) & 1) === 1;
    },
  };
}
