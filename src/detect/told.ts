import { appendFile, readFile, rename, stat, writeFile } from 'node:fs/promises';
import type { Told } from './alerts.ts';

/** The alerts that were told, in a file: eight bytes of each id, the newest last. */
export interface Telling extends Told {
  /** Remembers ids for later runs; again is harmless. */
  keep(ids: AsyncIterable<string>): Promise<void>;
}

const SIZE = 8;
/** As many are remembered; then the older half is forgotten. */
const MOST = 2_000_000;
const AT_ONCE = 10_000;

/** Opens the file of what was told. */
export async function openTold(path: string): Promise<Telling> {
  const before = sortedIn(await readFile(path).catch(nothing));
  const now = new Set<bigint>();
  return {
    has(id) {
      const key = BigInt(`0x${id.slice(0, SIZE * 2)}`);
      if (now.has(key) || holds(before, key)) return true;
      now.add(key);
      return false;
    },
    async keep(ids) {
      let waiting: string[] = [];
      const write = async () => {
        await appendFile(path, Buffer.from(waiting.join(''), 'hex'), { mode: 0o600 });
        waiting = [];
      };
      for await (const id of ids) {
        waiting.push(id.slice(0, SIZE * 2));
        if (waiting.length >= AT_ONCE) await write();
      }
      if (waiting.length > 0) await write();
      await shorten(path);
    },
  };
}

function nothing(cause: NodeJS.ErrnoException): Buffer {
  if (cause.code !== 'ENOENT') throw cause;
  return Buffer.alloc(0);
}

function sortedIn(bytes: Buffer): BigUint64Array {
  const keys = new BigUint64Array(Math.floor(bytes.length / SIZE));
  for (let n = 0; n < keys.length; n += 1) keys[n] = bytes.readBigUInt64BE(n * SIZE);
  return keys.sort();
}

function holds(keys: BigUint64Array, key: bigint): boolean {
  let [low, high] = [0, keys.length - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    const found = keys[middle] ?? key;
    if (found === key) return true;
    if (found < key) low = middle + 1;
    else high = middle - 1;
  }
  return false;
}

/** Drops the oldest, and a piece of an id that a kill left at the end. */
async function shorten(path: string): Promise<void> {
  const { size } = await stat(path).catch(() => ({ size: 0 }));
  if (size <= MOST * SIZE && size % SIZE === 0) return;
  const bytes = await readFile(path);
  const whole = bytes.subarray(0, bytes.length - (bytes.length % SIZE));
  const kept = whole.length > MOST * SIZE ? whole.subarray(-((MOST / 2) * SIZE)) : whole;
  await writeFile(`${path}.tmp`, kept, { mode: 0o600 });
  await rename(`${path}.tmp`, path);
}
