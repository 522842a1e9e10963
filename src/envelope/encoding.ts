import { pipeline, Readable, type Transform } from 'node:stream';
import { createGunzip, createGzip } from 'node:zlib';
import { CollectError } from '../errors.ts';

/** How a file or object is compressed, by the end of its name. */
export type Compression = 'none' | 'gzip' | 'zstd';

/** The compression that a name's end asks for. */
export function compressionOf(name: string): Compression {
  if (name.endsWith('.gz')) return 'gzip';
  return name.endsWith('.zst') ? 'zstd' : 'none';
}

const ZSTD_BLOCK = 2 ** 20;

/** Compressed bytes. gzip runs off the main thread; zstd is a row of frames of a mebibyte each. */
export function compress(source: AsyncIterable<Uint8Array>, compression: Compression): AsyncIterable<Uint8Array> {
  if (compression === 'none') return source;
  if (compression === 'gzip') return through(source, createGzip({ level: 6, chunkSize: 128 * 1024 }));
  return zstdFrames(source);
}

/** The bytes of a gzip stream, inflated off the main thread. */
export function gunzip(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  return through(source, createGunzip({ chunkSize: 128 * 1024 }));
}

/** Ends both sides when either fails or is no longer read. */
function through(source: AsyncIterable<Uint8Array>, transform: Transform): AsyncIterable<Uint8Array> {
  pipeline(Readable.from(source, { objectMode: false }), transform, () => undefined);
  return transform;
}

let codec: Promise<typeof import('@bokuweb/zstd-wasm')> | undefined;

/** Node has zstd built in from 22.15 on; the floor is 20, so a WebAssembly build serves both. A second init() breaks it. */
export function zstd(): Promise<typeof import('@bokuweb/zstd-wasm')> {
  codec ??= import('@bokuweb/zstd-wasm').then(async (loaded) => {
    await loaded.init();
    return loaded;
  });
  return codec;
}

async function* zstdFrames(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { compress: frame } = await zstd();
  let waiting: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    waiting.push(chunk);
    size += chunk.length;
    if (size < ZSTD_BLOCK) continue;
    yield frame(Buffer.concat(waiting), 3);
    waiting = [];
    size = 0;
  }
  yield frame(Buffer.concat(waiting), 3);
}

const MAGIC = 0xfd2fb528;
const MAX_FRAME = 64 * 2 ** 20;
const MAX_INFLATED = 2 ** 29;
/** The codec’s word for a frame that needs more room. */
const TOO_SMALL = /-70$/;
const DICTIONARY_BYTES = [0, 1, 2, 4];
const SIZE_BYTES = [0, 2, 4, 8];
const RLE = 1;

/**
 * The bytes of a row of zstd frames, each inflated at once: small ones, as `compress` writes them, or those of the zstd program.
 * @throws {CollectError} store for bytes that are no such row
 */
export async function* unzstd(source: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const { decompress } = await zstd();
  let waiting = Buffer.alloc(0);
  for await (const chunk of source) {
    waiting = Buffer.concat([waiting, chunk]);
    for (let length = frameLength(waiting, what); length !== undefined; length = frameLength(waiting, what)) {
      yield inflated(waiting.subarray(0, length), what, decompress);
      waiting = waiting.subarray(length);
    }
    if (waiting.length > MAX_FRAME) throw new CollectError('store', `${what} holds a zstd frame of more than 64 MiB`);
  }
  if (waiting.length > 0) throw new CollectError('store', `${what} ends in the middle`);
}

/** One frame. Of one that was made in a pipe the size is not told, so room is made until it fits. */
function inflated(
  frame: Uint8Array,
  what: string,
  decompress: Awaited<ReturnType<typeof zstd>>['decompress'],
): Uint8Array {
  for (let room = ZSTD_BLOCK; ; room *= 8) {
    try {
      return decompress(frame, { defaultHeapSize: room });
    } catch (error) {
      if (room < MAX_INFLATED && TOO_SMALL.test((error as Error).message)) continue;
      throw new CollectError('store', `${what} holds a zstd frame that cannot be inflated`);
    }
  }
}

/** The length of the frame that the bytes begin with (RFC 8878); undefined while it is not all there. */
function frameLength(bytes: Buffer, what: string): number | undefined {
  if (bytes.length < 5) return undefined;
  if (bytes.readUInt32LE(0) !== MAGIC) throw new CollectError('store', `${what} is not compressed with zstd`);
  const descriptor = bytes.readUInt8(4);
  const oneSegment = (descriptor >> 5) & 1;
  const sizeBytes = descriptor >> 6 === 0 ? oneSegment : (SIZE_BYTES[descriptor >> 6] ?? 0);
  let at = 5 + (1 - oneSegment) + (DICTIONARY_BYTES[descriptor & 3] ?? 0) + sizeBytes;
  for (let last = false; !last; ) {
    if (bytes.length < at + 3) return undefined;
    const block = bytes.readUIntLE(at, 3);
    last = (block & 1) === 1;
    at += 3 + (((block >> 1) & 3) === RLE ? 1 : block >> 3);
  }
  const end = at + ((descriptor >> 2) & 1) * 4;
  return bytes.length < end ? undefined : end;
}

/** Refuses a body that grows past a limit, such as a small gzip that inflates without end. */
export async function* limited(
  source: AsyncIterable<Uint8Array>,
  most: number,
  what: string,
): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const chunk of source) {
    size += chunk.length;
    if (size > most) throw new CollectError('refused', `${what} is larger than ${Math.round(most / 2 ** 20)} MiB`);
    yield chunk;
  }
}
