import type { JsonObject } from '../json.ts';

/** A line and where it stands. */
export interface Line {
  readonly line: string;
  /** Of its first byte. */
  readonly offset: number;
  /** `truncated` and `invalid_utf8`, where true. */
  readonly flags: JsonObject;
}

const LF = 10;
const CR = 13;
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The lines of a stream of bytes; the last one needs no line feed. Of a line over the limit only the limit is held. */
export async function* linesOf(bytes: AsyncIterable<Uint8Array>, from: number, most: number): AsyncGenerator<Line> {
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
      yield lineOf(held, size, offset);
      offset += size + 1;
      held = [];
      size = 0;
      start = end + 1;
    }
    if (start < chunk.length) hold(chunk.slice(start));
  }
  if (size > 0) yield lineOf(held, size, offset);
}

function lineOf(held: readonly Uint8Array[], size: number, offset: number): Line {
  let bytes = held.length === 1 ? (held[0] as Uint8Array) : Buffer.concat(held);
  const truncated = bytes.length < size;
  if (!truncated && bytes.at(-1) === CR) bytes = bytes.subarray(0, -1);
  // A crash may leave holes of NUL bytes.
  if (bytes.includes(0)) bytes = bytes.filter((byte) => byte !== 0);
  const flags = truncated ? { truncated: true } : {};
  try {
    return { line: strict.decode(bytes), offset, flags };
  } catch {
    return { line: Buffer.from(bytes).toString('utf8'), offset, flags: { ...flags, invalid_utf8: true } };
  }
}
