import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { rawValue } from '../http/fields.ts';

const LF = 10;
const SEGMENT = 2 ** 17; // hashes: a mebibyte
const PASS = 2 ** 21; // hashes sorted at once: 16 MiB

/**
 * Counts records whose identity came before. Identities are kept as 64-bit hashes, on disk beyond a mebibyte, and
 * compared in passes, so memory does not grow with the dataset. Two different identities of ten million share a hash
 * with a chance of about 3 in a million.
 */
export class Identities {
  #segment = new BigUint64Array(SEGMENT);
  #halves = new Uint32Array(this.#segment.buffer);
  #used = 0;
  #full: BigUint64Array[] = [];
  #stored = 0;
  #missing = 0;
  #carry: Uint8Array[] = [];
  #file: FileHandle | undefined;
  readonly #path: string;
  readonly #paths: readonly (readonly string[])[];

  constructor(paths: readonly string[], folder: string) {
    this.#paths = paths.map((path) => path.split('.'));
    this.#path = join(folder, `identities-${randomUUID()}.tmp`);
  }

  /** Records that have no value at any identity path. */
  get missing(): number {
    return this.#missing;
  }

  /** Takes the identities of NDJSON that comes in pieces. */
  add(lines: readonly Uint8Array[]): void {
    for (const part of lines) {
      let start = 0;
      for (let end = part.indexOf(LF); end >= 0; end = part.indexOf(LF, start)) {
        const piece = part.subarray(start, end);
        this.#take(this.#carry.length === 0 ? piece : Buffer.concat([...this.#carry, piece]));
        this.#carry = [];
        start = end + 1;
      }
      if (start < part.length) this.#carry.push(part.subarray(start));
    }
  }

  #take(record: Uint8Array): void {
    let one = 0x811c9dc5;
    let two = 0x9747b28c;
    let found = false;
    for (const path of this.#paths) {
      const value = rawValue(record, path);
      found ||= value !== undefined;
      for (let i = 0; i < (value?.length ?? 0); i += 1) {
        const byte = (value as Uint8Array)[i] as number;
        one = Math.imul(one ^ byte, 0x01000193);
        two = Math.imul(two ^ byte, 0x5bd1e995) ^ (two >>> 15);
      }
      one = Math.imul(one ^ 0x1f, 0x01000193);
      two = Math.imul(two ^ 0x1f, 0x5bd1e995);
    }
    if (!found) {
      this.#missing += 1;
      return;
    }
    this.#halves[this.#used * 2] = one;
    this.#halves[this.#used * 2 + 1] = two ^ (one >>> 13);
    this.#used += 1;
    if (this.#used < SEGMENT) return;
    this.#full.push(this.#segment);
    this.#segment = new BigUint64Array(SEGMENT);
    this.#halves = new Uint32Array(this.#segment.buffer);
    this.#used = 0;
  }

  /** Moves full segments to disk; to be called now and then. */
  async flush(): Promise<void> {
    while (this.#full.length > 0) {
      const segment = this.#full.shift() as BigUint64Array;
      this.#file ??= await open(this.#path, 'w+', 0o600);
      await this.#file.write(new Uint8Array(segment.buffer), 0, segment.byteLength, this.#stored * 8);
      this.#stored += segment.length;
    }
  }

  /** How many records repeat an identity. */
  async repeats(): Promise<number> {
    await this.flush();
    const passes = Math.ceil((this.#stored + this.#used) / PASS);
    let repeats = 0;
    for (let pass = 0; pass < passes; pass += 1) repeats += await this.#repeatsOf(BigInt(pass), BigInt(passes));
    return repeats;
  }

  async #repeatsOf(pass: bigint, passes: bigint): Promise<number> {
    const held: bigint[] = [];
    const take = (hashes: BigUint64Array) => {
      for (const hash of hashes) if (hash % passes === pass) held.push(hash);
    };
    if (passes === 1n && this.#stored === 0) return adjacent(this.#segment.slice(0, this.#used));
    for (let at = 0; at < this.#stored; at += SEGMENT) {
      const buffer = new BigUint64Array(SEGMENT);
      await this.#file?.read(new Uint8Array(buffer.buffer), 0, buffer.byteLength, at * 8);
      take(buffer);
    }
    take(this.#segment.subarray(0, this.#used));
    return adjacent(BigUint64Array.from(held));
  }

  /** Removes what lies on disk. */
  async close(): Promise<void> {
    await this.#file?.close();
    if (this.#file !== undefined) await rm(this.#path, { force: true });
    this.#file = undefined;
  }
}

function adjacent(hashes: BigUint64Array): number {
  hashes.sort();
  let same = 0;
  for (let i = 1; i < hashes.length; i += 1) if (hashes[i] === hashes[i - 1]) same += 1;
  return same;
}
