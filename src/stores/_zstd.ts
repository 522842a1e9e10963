import { zstd } from '../envelope/encoding.ts';
import { CollectError } from '../errors.ts';

const MAGIC = 0xfd2fb528;
const MAX_FRAME = 64 * 2 ** 20;
const DICTIONARY_BYTES = [0, 1, 2, 4];
const SIZE_BYTES = [0, 2, 4, 8];
const RLE = 1;

/**
 * The bytes of a row of small zstd frames, as `compress` writes them.
 * @throws {CollectError} store for bytes that are no such row
 */
export async function* unzstd(source: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const { decompress } = await zstd();
  let waiting = Buffer.alloc(0);
  for await (const chunk of source) {
    waiting = Buffer.concat([waiting, chunk]);
    for (let length = frameLength(waiting, what); length !== undefined; length = frameLength(waiting, what)) {
      yield decompress(waiting.subarray(0, length));
      waiting = waiting.subarray(length);
    }
    if (waiting.length > MAX_FRAME) throw new CollectError('store', `${what} holds a zstd frame of more than 64 MiB`);
  }
  if (waiting.length > 0) throw new CollectError('store', `${what} ends in the middle`);
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
