import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CollectError } from '../errors.ts';

/** A whole dataset on disk as NDJSON: one record a line, each line ended by a line feed. Readable any number of times. */
export interface Spool {
  readonly path: string;
  readonly bytes: number;
  readonly records: number;
  /** SHA-256 of the file, in hex. */
  readonly sha256: string;
}

/** Bytes that are read or written at once. */
const CHUNK = 2 ** 20;
const LF = 10;
const MAX_RANGES = 512; // below IOV_MAX

/** Writes a spool under a temporary name; only `finish` makes it exist. One that was left half-written can be gone on with. */
export class SpoolWriter {
  #bytes = 0;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #hash: Hash = createHash('sha256');

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** Opens a new spool; a half-written one of the same name is replaced. */
  static async create(path: string): Promise<SpoolWriter> {
    const make = () => open(`${path}.tmp`, 'w', 0o600);
    const file = await make().catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      return make();
    });
    return new SpoolWriter(path, file);
  }

  /**
   * Goes on behind the first `bytes` of a half-written spool; `seen` is told what they are. They are copied: whoever
   * wrote them may still have the file open. Until all are, the file stays as it was.
   * @throws {CollectError} expired when they are not there, or are not so many records
   */
  static async resume(
    path: string,
    { bytes, records }: Pick<Spool, 'bytes' | 'records'>,
    seen: (chunk: Uint8Array) => Promise<void>,
  ): Promise<SpoolWriter> {
    const size = await stat(`${path}.tmp`).then(
      (found) => found.size,
      () => -1,
    );
    if (size < bytes) throw new CollectError('expired', `${path}.tmp is not as it was left`);
    const copy = `${path}.tmp.copy`;
    await rm(copy, { force: true }); // who was stopped while it copied may have that open, too
    const writer = new SpoolWriter(path, await open(copy, 'wx', 0o600));
    try {
      let lines = 0;
      if (bytes > 0) {
        for await (const chunk of createReadStream(`${path}.tmp`, { end: bytes - 1, highWaterMark: CHUNK })) {
          await writer.write([chunk as Uint8Array]);
          lines += linesIn(chunk as Uint8Array);
          await seen(chunk as Uint8Array);
        }
      }
      if (lines !== records) throw new CollectError('expired', `${path}.tmp is not as it was left`);
      await writer.flush();
    } catch (error) {
      await writer.#writing.catch(() => undefined);
      await writer.#file.close();
      await rm(copy, { force: true });
      throw error;
    }
    await rename(copy, `${path}.tmp`);
    return writer;
  }

  /** Bytes that are in the file, or on their way into it. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes that are to be written. */
  get waiting(): number {
    return this.#waitingBytes;
  }

  /** Appends whole lines; the chunks must not change afterwards. */
  async write(lines: readonly Uint8Array[]): Promise<void> {
    for (const part of lines) {
      this.#hash.update(part);
      this.#waiting.push(part);
      this.#waitingBytes += part.length;
      if (this.#waitingBytes >= CHUNK || this.#waiting.length >= MAX_RANGES) await this.begin();
    }
  }

  /** Puts all that was written so far into the file. */
  async flush(): Promise<void> {
    await this.begin();
    await this.#writing;
  }

  /** Begins to put what waits into the file, once what was begun before is there; `done` is told when this is. */
  async begin(done?: () => void): Promise<void> {
    await this.#writing;
    this.#writing = this.#put(this.#waiting, this.#waitingBytes).then(done);
    this.#writing.catch(() => undefined); // the next call is told
    this.#bytes += this.#waitingBytes;
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  async #put(parts: Uint8Array[], bytes: number): Promise<void> {
    for (let left = bytes; left > 0; ) {
      const { bytesWritten } = await this.#file.writev(parts);
      left -= bytesWritten;
      if (left > 0) parts = rest(parts, bytesWritten);
    }
  }

  /** Closes the spool and gives it its name. */
  async finish(records: number): Promise<Spool> {
    await this.flush();
    await this.#file.close();
    await rename(`${this.#path}.tmp`, this.#path);
    return { path: this.#path, bytes: this.#bytes, records, sha256: this.#hash.digest('hex') };
  }

  /** Leaves what is in the file for later. */
  async pause(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#file.close();
  }

  /** Throws the spool away. */
  async abort(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#file.close().catch(() => undefined);
    await rm(`${this.#path}.tmp`, { force: true });
  }
}

function linesIn(chunk: Uint8Array): number {
  let count = 0;
  for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, at + 1)) count += 1;
  return count;
}

function rest(parts: readonly Uint8Array[], written: number): Uint8Array[] {
  const out: Uint8Array[] = [];
  let skip = written;
  for (const part of parts) {
    if (skip >= part.length) skip -= part.length;
    else {
      out.push(skip === 0 ? part : part.subarray(skip));
      skip = 0;
    }
  }
  return out;
}

/**
 * The bytes of a spool in chunks that belong to the caller.
 * @throws {CollectError} store when the file is not as long as it was written
 */
export async function* spoolChunks(spool: Spool): AsyncGenerator<Buffer> {
  const file = await open(spool.path, 'r').catch((cause) => damaged(spool, cause));
  let bytes = 0;
  try {
    for (;;) {
      const buffer = Buffer.allocUnsafe(CHUNK);
      const { bytesRead } = await file.read(buffer, 0, CHUNK);
      if (bytesRead === 0) break;
      bytes += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
  if (bytes !== spool.bytes) damaged(spool);
}

/**
 * For stores that hand the file itself on.
 * @throws {CollectError} store when the file is not as long as it was written
 */
export async function assertWhole(spool: Spool): Promise<void> {
  const { size } = await stat(spool.path).catch((cause) => damaged(spool, cause));
  if (size !== spool.bytes) damaged(spool);
}

function damaged(spool: Spool, cause?: unknown): never {
  throw new CollectError('store', `the spool ${spool.path} is damaged or gone`, { mend: 'run again', cause });
}

/** The records of a spool, each as its bytes without the line feed. Holds no more than the longest record and a chunk. */
export async function* spoolRecords(spool: Spool): AsyncGenerator<Buffer> {
  let carry: Buffer[] = [];
  for await (const chunk of spoolChunks(spool)) {
    let start = 0;
    for (let end = chunk.indexOf(LF); end >= 0; end = chunk.indexOf(LF, start)) {
      const piece = chunk.subarray(start, end);
      yield carry.length > 0 ? Buffer.concat([...carry, piece]) : piece;
      carry = [];
      start = end + 1;
    }
    if (start < chunk.length) carry.push(chunk.subarray(start));
  }
}
