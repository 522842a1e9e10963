import { hash, randomUUID } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CollectError } from '../errors.ts';
import type { Json } from '../json.ts';
import type { Headers } from './pace.ts';

/** One answer's records as NDJSON, whole, and what stood around them. */
export interface Page {
  readonly records: number;
  /** Whether the body held the list at all. */
  readonly found: boolean;
  readonly url: URL;
  readonly status: number;
  readonly headers: Headers;
  /** The body with the records' array empty. */
  readonly body: Json;
  /** The records' lines in order. To be read once: a page too large for memory lies in a file that is removed behind. */
  lines(): AsyncIterable<readonly Uint8Array[]>;
  /** How to go on behind this page, `null` at the end of the list; undefined where that cannot be told. */
  readonly next?: Json;
  /** Tells this page's content from another's. */
  readonly fingerprint: string;
  /** Throws the content away. */
  discard(): Promise<void>;
}

const IN_MEMORY = 8 * 2 ** 20;
const SAMPLE = 4096;
const READ_SIZE = 1 << 20;

/** Gathers the lines of a page until it is known to be whole: in memory, beyond 8 MiB in a file. */
export class PageBuffer {
  #parts: Uint8Array[] = [];
  #held = 0;
  #bytes = 0;
  #gone = false;
  #file: FileHandle | undefined;
  #head: Uint8Array | undefined; // of what went to the file
  #tail: Uint8Array = new Uint8Array();
  readonly #path: string;

  constructor(folder: string) {
    this.#path = join(folder, `page-${randomUUID()}.tmp`);
  }

  /** Takes lines over; resolves when there is room for more. */
  add(parts: readonly Uint8Array[]): Promise<void> | undefined {
    for (const part of parts) {
      this.#parts.push(part);
      this.#held += part.length;
      this.#bytes += part.length;
    }
    return this.#held > IN_MEMORY ? this.#spill() : undefined;
  }

  async #spill(): Promise<void> {
    this.#file ??= await open(this.#path, 'w', 0o600);
    const bytes = Buffer.concat(this.#parts);
    this.#head ??= Buffer.from(bytes.subarray(0, SAMPLE));
    this.#tail = Buffer.concat([this.#tail, bytes.subarray(-SAMPLE)]).subarray(-SAMPLE);
    this.#parts = [];
    this.#held = 0;
    for (let done = 0; done < bytes.length; ) done += (await this.#file.write(bytes, done)).bytesWritten;
  }

  /** The page, now that its body came to its end. */
  async finish(facts: Pick<Page, 'records' | 'found' | 'url' | 'status' | 'headers' | 'body'>): Promise<Page> {
    if (this.#file !== undefined) {
      await this.#spill();
      await this.#file.close();
    }
    const head = this.#head ?? Buffer.concat(this.#parts, Math.min(SAMPLE, this.#bytes));
    const tail = this.#head === undefined ? ending(this.#parts) : this.#tail;
    const sample = [Buffer.from(`${facts.records} ${this.#bytes} `), head, tail];
    return {
      ...facts,
      fingerprint: hash('sha1', Buffer.concat(sample), 'base64'),
      lines: () => {
        if (this.#gone) throw new CollectError('defect', 'a page was read after it was thrown away');
        return this.#file === undefined ? inMemory(this.#parts) : this.#fromFile();
      },
      discard: () => this.discard(),
    };
  }

  async *#fromFile(): AsyncGenerator<readonly Uint8Array[]> {
    const file = await open(this.#path, 'r');
    try {
      for (;;) {
        const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(READ_SIZE), 0, READ_SIZE);
        if (bytesRead === 0) break;
        yield [buffer.subarray(0, bytesRead)];
      }
    } finally {
      await file.close();
      await rm(this.#path, { force: true });
    }
  }

  /** Throws the page away. */
  async discard(): Promise<void> {
    this.#gone = true;
    this.#parts = [];
    await this.#file?.close().catch(() => undefined);
    if (this.#file !== undefined) await rm(this.#path, { force: true });
  }
}

/** The last bytes of a page, however it came in pieces. */
function ending(parts: readonly Uint8Array[]): Uint8Array {
  const out: Uint8Array[] = [];
  for (let n = parts.length - 1, left = SAMPLE; n >= 0 && left > 0; n -= 1) {
    const part = (parts[n] as Uint8Array).subarray(-left);
    out.unshift(part);
    left -= part.length;
  }
  return Buffer.concat(out);
}

async function* inMemory(parts: readonly Uint8Array[]): AsyncGenerator<readonly Uint8Array[]> {
  if (parts.length > 0) yield parts;
}
