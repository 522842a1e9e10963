import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { valueEnd, valueStart } from '../http/fields.ts';

const LF = 10;
const FIRST = 2 ** 10; // hashes: most datasets have few
const SEGMENT = 2 ** 17; // hashes: a mebibyte
const PASS = 2 ** 21; // hashes sorted at once: 16 MiB

/**
 * Counts records whose identity came before. Identities are kept as 64-bit hashes, on disk beyond a mebibyte, and
 * compared in passes, so memory does not grow with the dataset. Two different identities of ten million share a hash
 * with a chance of about 3 in a million.
 */
export class Identities {
  #halves = new Uint32Array(FIRST * 2);
  #used = 0;
  #full: Uint32Array[] = [];
  #stored = 0;
  #missing = 0;
  #carry: Uint8Array[] = [];
  #file: FileHandle | undefined;
  readonly #path: string;
  readonly #paths: readonly (readonly Uint8Array[])[];

  constructor(paths: readonly string[], folder: string) {
    this.#paths = paths.map((path) => path.split('.').map((key) => Buffer.from(key)));
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
        if (this.#carry.length === 0) this.#take(part, start);
        else this.#take(Buffer.concat([...this.#carry.splice(0), part.subarray(start, end)]), 0);
        start = end + 1;
      }
      if (start < part.length) this.#carry.push(part.subarray(start));
    }
  }

  /** The identity of the record that starts at an offset. */
  #take(bytes: Uint8Array, from: number): void {
    let one = 0x811c9dc5;
    let two = 0x9747b28c;
    let found = false;
    for (const path of this.#paths) {
      const start = valueStart(bytes, path, from);
      const end = start < 0 ? start : valueEnd(bytes, start);
      found ||= start >= 0;
      for (let i = start; i < end; i += 1) {
        const byte = bytes[i] as number;
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
    if (this.#used * 2 < this.#halves.length) return;
    if (this.#used < SEGMENT) {
      this.#halves = doubled(this.#halves);
      return;
    }
    this.#full.push(this.#halves);
    this.#halves = new Uint32Array(SEGMENT * 2);
    this.#used = 0;
  }

  /** Moves full segments to disk; to be called now and then. */
  async flush(): Promise<void> {
    while (this.#full.length > 0) {
      const segment = this.#full.shift() as Uint32Array;
      this.#file ??= await open(this.#path, 'w+', 0o600);
      await this.#file.write(new Uint8Array(segment.buffer), 0, segment.byteLength, this.#stored * 8);
      this.#stored += SEGMENT;
    }
  }

  /** How many records repeat an identity. */
  async repeats(): Promise<number> {
    await this.flush();
    const passes = Math.ceil((this.#stored + this.#used) / PASS);
    let repeats = 0;
    for (let pass = 0; pass < passes; pass += 1) repeats += await this.#repeatsOf(pass, passes);
    return repeats;
  }

  async #repeatsOf(pass: number, passes: number): Promise<number> {
    const held = new Held();
    for (let at = 0; at < this.#stored; at += SEGMENT) {
      const halves = new Uint32Array(SEGMENT * 2);
      await this.#file?.read(new Uint8Array(halves.buffer), 0, halves.byteLength, at * 8);
      held.take(halves, pass, passes);
    }
    held.take(this.#halves.subarray(0, this.#used * 2), pass, passes);
    return held.repeats();
  }

  /** Removes what lies on disk. */
  async close(): Promise<void> {
    await this.#file?.close();
    if (this.#file !== undefined) await rm(this.#path, { force: true });
    this.#file = undefined;
  }
}

function doubled(halves: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(halves.length * 2);
  larger.set(halves);
  return larger;
}

/** The hashes of one pass, in halves: a big integer of each would be an object of each. */
class Held {
  #halves = new Uint32Array(FIRST * 2);
  #used = 0;

  take(halves: Uint32Array, pass: number, passes: number): void {
    while (this.#used + halves.length > this.#halves.length) this.#halves = doubled(this.#halves);
    for (let i = 0; i < halves.length; i += 2) {
      if ((halves[i] as number) % passes !== pass) continue;
      this.#halves[this.#used] = halves[i] as number;
      this.#halves[this.#used + 1] = halves[i + 1] as number;
      this.#used += 2;
    }
  }

  /** How many are as another before them. */
  repeats(): number {
    const halves = this.#halves;
    new BigUint64Array(halves.buffer, 0, this.#used / 2).sort();
    let same = 0;
    for (let i = 2; i < this.#used; i += 2) {
      if (halves[i] === halves[i - 2] && halves[i + 1] === halves[i - 1]) same += 1;
    }
    return same;
  }
}
