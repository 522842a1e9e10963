import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { logsOf } from '../collectors/_syslog_files.ts';
import { compressionOf, gunzip, unzstd } from '../envelope/encoding.ts';
import { CollectError } from '../errors.ts';
import { RecordSplitter } from '../http/records.ts';
import type { Json } from '../json.ts';
import { blocksOf } from './blocks.ts';
import { gatherer, type Origin, recordIn } from './from_records.ts';
import { type Piece, placeOf, type ReadMeans, type Source } from './source.ts';

/** Files that were read whole. */
type Positions = { [path: string]: { readonly size: number; readonly written: number } };

const CHUNK = 2 ** 18;
const MOST_RECORD = 512 * 2 ** 20;
const NDJSON = /\.(ndjson|jsonl)(\.gz|\.zst)?$/i;
const TABULAR = /\.(parquet|csv|sqlite|db|duckdb)(\.gz|\.zst)?$/i;

/** Files of datasets as the file store writes them: NDJSON, envelopes and arrays, also compressed; each is read once. */
export function filesSource(patterns: readonly string[], origin: Origin): Source {
  return {
    place: placeOf('file', patterns),
    live: false,
    async *read(position, means) {
      const saved = (position ?? {}) as Positions;
      const found = await logsOf(patterns, []);
      // What is gone need not be remembered.
      const next: Positions = Object.fromEntries(Object.entries(saved).filter(([path]) => found.includes(path)));
      for (const path of found) {
        means.signal.throwIfAborted();
        const { size, mtimeMs } = await stat(path);
        const now = { size, written: Math.floor(mtimeMs) };
        if (saved[path]?.size === now.size && saved[path]?.written === now.written) continue;
        try {
          yield* readFile(path, { ...origin, at: new Date(mtimeMs).toISOString() }, means);
          next[path] = now;
        } catch (thrown) {
          if (means.signal.aborted) throw thrown;
          means.failed(path, thrown);
          continue;
        }
        const known = { ...next };
        yield { ...NOTHING, position: async () => known };
      }
      return next;
    },
  };
}

const NOTHING: Omit<Piece, 'position'> = {
  lines: Buffer.alloc(0),
  eventAt() {
    throw new CollectError('defect', 'a piece without lines was asked for one');
  },
};

async function* readFile(path: string, origin: Origin, { signal }: ReadMeans): AsyncGenerator<Piece> {
  for await (const piece of piecesOf(await recordsOf(path), path, origin)) {
    signal.throwIfAborted();
    yield piece;
  }
}

/** Records that come as NDJSON, in pieces behind which one cannot stop: what is read in part is read again. */
export async function* piecesOf(lines: AsyncIterable<Uint8Array>, path: string, origin: Origin): AsyncGenerator<Piece> {
  const gathered = gatherer(origin);
  const position = async (): Promise<Json | undefined> => undefined;
  for await (const { bytes } of blocksOf(lines, 0, true, { most: MOST_RECORD })) {
    for (let start = 0; start < bytes.length; ) {
      const end = bytes.indexOf(10, start);
      const line = bytes.toString('utf8', start, end);
      const piece = gathered.add(parsed(path, line), line) ? gathered.take() : undefined;
      if (piece !== undefined) yield { ...piece, position };
      start = end + 1;
    }
  }
  const last = gathered.take();
  if (last !== undefined) yield { ...last, position };
}

function parsed(path: string, line: string) {
  try {
    return recordIn(line);
  } catch {
    throw new CollectError('incomplete', `${path} holds a line that is no JSON`, {
      mend: 'fetch the file again; a file of log lines is read with --from lines:',
    });
  }
}

/** The records of a file, a line each. */
async function recordsOf(path: string): Promise<AsyncIterable<Uint8Array>> {
  if (TABULAR.test(path)) {
    throw new CollectError('config', `${path} is neither NDJSON nor an envelope`, {
      mend: 'name .ndjson or .json files, or read what is in a database with --from duckdb or postgres',
    });
  }
  const bytes = inflated(path);
  return NDJSON.test(path) ? bytes : split(path, bytes, await firstByte(path));
}

function inflated(path: string): AsyncIterable<Uint8Array> {
  const packed = createReadStream(path, { highWaterMark: CHUNK });
  const compression = compressionOf(path);
  if (compression === 'none') return packed;
  return compression === 'gzip' ? gunzip(packed) : unzstd(packed, path);
}

async function firstByte(path: string): Promise<string> {
  for await (const chunk of inflated(path)) {
    const text = Buffer.from(chunk).toString('latin1').trimStart();
    if (text !== '') return text.charAt(0);
  }
  return '';
}

async function* split(path: string, bytes: AsyncIterable<Uint8Array>, first: string): AsyncGenerator<Uint8Array> {
  const splitter = new RecordSplitter({ path: first === '[' ? '' : 'data' });
  for await (const chunk of bytes) yield* splitter.write(Buffer.from(chunk));
  if (splitter.end().found) return;
  throw new CollectError('incomplete', `${path} is no envelope of a dataset`, { mend: 'leave it out of the pattern' });
}
