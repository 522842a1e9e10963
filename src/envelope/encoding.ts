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
