/** What stands around each record in a line of its own. */
export interface Frame {
  readonly head: string;
  readonly tail: string;
  /** The record becomes a JSON string that holds its text. */
  readonly asText: boolean;
}

const LF = 10;
const TAB = 9;
const CR = 13;
const QUOTE = 34;
const BACKSLASH = 92;

/** NDJSON, each line framed; of chunks that need not end where a line ends. */
export async function* framedLines(
  chunks: AsyncIterable<Uint8Array>,
  { head, tail, asText }: Frame,
): AsyncGenerator<Buffer> {
  const quote = asText ? '"' : '';
  const before = Buffer.from(head + quote);
  const between = Buffer.from(`${quote}${tail}\n${head}${quote}`);
  const after = Buffer.from(`${quote}${tail}\n`);
  let within = false;
  for await (const chunk of chunks) {
    if (chunk.length === 0) continue;
    const bytes = asText ? escaped(chunk) : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    const parts: Uint8Array[] = within ? [] : [before];
    let start = 0;
    for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF, start)) {
      const last = end + 1 === bytes.length;
      parts.push(bytes.subarray(start, end), last ? after : between);
      start = end + 1;
    }
    parts.push(bytes.subarray(start));
    within = bytes[bytes.length - 1] !== LF;
    yield Buffer.concat(parts);
  }
}

/** What a byte of JSON text is written as inside of a JSON string; of control characters it has these alone. */
const ESCAPES: ReadonlyMap<number, number> = new Map([
  [QUOTE, QUOTE],
  [BACKSLASH, BACKSLASH],
  [TAB, 't'.charCodeAt(0)],
  [CR, 'r'.charCodeAt(0)],
]);

/** The bytes of lines as the insides of JSON strings; the line feeds stay. */
function escaped(chunk: Uint8Array): Buffer {
  let longer = 0;
  for (const byte of chunk) if (byte <= BACKSLASH && ESCAPES.has(byte)) longer += 1;
  const out = Buffer.allocUnsafe(chunk.length + longer);
  let at = 0;
  for (const byte of chunk) {
    const as = byte <= BACKSLASH ? ESCAPES.get(byte) : undefined;
    if (as !== undefined) out[at++] = BACKSLASH;
    out[at++] = as ?? byte;
  }
  return out;
}
