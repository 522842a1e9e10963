/** Whole lines out of a stream of bytes. */
export interface Block {
  /** Each line ends with a line feed, the last one too. */
  readonly bytes: Buffer;
  /** Where it begins in the stream. */
  readonly offset: number;
  /** Where the next one begins. */
  readonly end: number;
}

const LF = 10;
const FEED = Buffer.of(LF);
/** Of a longer log line only so much is looked at. */
const MOST_LINE = 16 * 2 ** 20;

/**
 * Blocks of whole lines; holds no more than a chunk and a line, and of a line no more than it may.
 * @param half whether what stands behind the last line feed is a line too
 * @param choice bytes of a line that are looked at, and who is told of each that is longer
 */
export async function* blocksOf(
  chunks: AsyncIterable<Uint8Array>,
  from: number,
  half: boolean,
  { most = MOST_LINE, cut = () => undefined }: { readonly most?: number; readonly cut?: () => void } = {},
): AsyncGenerator<Block> {
  let carry: Buffer[] = [];
  let held = 0;
  let size = 0; // of the line so far, held or not
  let offset = from;
  const hold = (part: Buffer) => {
    const room = most - held;
    if (room > 0) carry.push(Buffer.from(part.subarray(0, room)));
    held += Math.min(Math.max(room, 0), part.length);
    size += part.length;
  };
  for await (const chunk of chunks) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let start = 0;
    if (size > 0) {
      const end = bytes.indexOf(LF);
      hold(end < 0 ? bytes : bytes.subarray(0, end));
      if (end < 0) continue;
      if (held < size) cut();
      const line = Buffer.concat([...carry, FEED]);
      yield { bytes: line, offset, end: offset + size + 1 };
      offset += size + 1;
      carry = [];
      [held, size] = [0, 0];
      start = end + 1;
    }
    const end = bytes.lastIndexOf(LF) + 1;
    if (end > start) {
      yield { bytes: bytes.subarray(start, end), offset, end: offset + end - start };
      offset += end - start;
      start = end;
    }
    if (start < bytes.length) hold(bytes.subarray(start));
  }
  if (half && size > 0) yield { bytes: Buffer.concat([...carry, FEED]), offset, end: offset + size };
}
