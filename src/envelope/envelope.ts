import type { Metadata } from './metadata.ts';
import { type Spool, spoolChunks } from './spool.ts';

const LF = 10;
const COMMA = 44;
const HEAD = '{"data":[';

/** The bytes of `{"data":[...],"metadata":{...}}`: the spool with its line feeds written as commas, metadata last. */
export async function* envelopeChunks(spool: Spool, metadata: Metadata): AsyncGenerator<Buffer> {
  yield Buffer.from(HEAD);
  yield* arrayItems(spool);
  yield Buffer.from(tail(metadata));
}

/** The length of an envelope in bytes. */
export function envelopeLength(spool: Spool, metadata: Metadata): number {
  // The last line's line feed has no comma to become.
  return HEAD.length + Math.max(0, spool.bytes - 1) + Buffer.byteLength(tail(metadata));
}

function tail(metadata: Metadata): string {
  return `],"metadata":${JSON.stringify(metadata)}}\n`;
}

/** The records of a spool as the inside of a JSON array. */
export async function* arrayItems(spool: Spool): AsyncGenerator<Buffer> {
  let left = spool.bytes;
  for await (const chunk of spoolChunks(spool)) {
    left -= chunk.length;
    for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, at + 1)) chunk[at] = COMMA;
    yield left === 0 ? chunk.subarray(0, -1) : chunk;
  }
}
