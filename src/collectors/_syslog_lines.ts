import type { JsonObject } from '../json.ts';

/** A line and where it stands. */
export interface Line {
  readonly line: string;
  /** Of its first byte. */
  readonly offset: number;
  /** Of the byte behind its line feed. */
  readonly end: number;
  /** `truncated` and `invalid_utf8`, where true. */
  readonly flags: JsonObject;
}

const LF = 10;
const CR = 13;
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The lines of a stream of bytes. Of a line over the limit only the limit is held.
 * @param half whether what stands behind the last line feed is a line too
 */
export async function* linesOf(
  bytes: AsyncIterable<Uint8Array>,
  from: number,
  most: number,
  half: boolean,
): AsyncGenerator<Line> {
  let held: Uint8Array[] = [];
  let size = 0; // of the line so far, held or not
  let offset = from;
  const hold = (part: Uint8Array) => {
    const room = most - size;
    if (room > 0) held.push(part.subarray(0, room));
    size += part.length;
  };
  for await (const chunk of bytes) {
    let start = 0;
    for (let end = chunk.indexOf(LF); end >= 0; end = chunk.indexOf(LF, start)) {
      hold(chunk.subarray(start, end));
      yield { ...lineOf(held, size), offset, end: offset + size + 1 };
      offset += size + 1;
      held = [];
      size = 0;
      start = end + 1;
    }
    if (start < chunk.length) hold(chunk.slice(start));
  }
  if (half && size > 0) yield { ...lineOf(held, size), offset, end: offset + size };
}

/** The text of a line, and what was odd about its bytes. */
export function lineOf(held: readonly Uint8Array[], size: number): Pick<Line, 'line' | 'flags'> {
  let bytes = held.length === 1 ? (held[0] as Uint8Array) : Buffer.concat(held);
  const truncated = bytes.length < size;
  if (!truncated && bytes.at(-1) === CR) bytes = bytes.subarray(0, -1);
  // A crash may leave holes of NUL bytes.
  if (bytes.includes(0)) bytes = bytes.filter((byte) => byte !== 0);
  const flags = truncated ? { truncated: true } : {};
  try {
    return { line: strict.decode(bytes), flags };
  } catch {
    return { line: Buffer.from(bytes).toString('utf8'), flags: { ...flags, invalid_utf8: true } };
  }
}
