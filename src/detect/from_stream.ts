import { createHash, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { recordOf } from '../collectors/_syslog.ts';
import { isObject, type Json } from '../json.ts';
import { type Block, blocksOf } from './blocks.ts';
import { eventOf, type LineSettings } from './from_lines.ts';
import { gatherer, type Origin } from './from_records.ts';
import type { Event, Piece, Source } from './source.ts';

/** A live stream of log lines, or of records as NDJSON; told by what it begins with. There is no going back in it. */
export function streamSource(stream: AsyncIterable<Uint8Array>, settings: LineSettings, origin: Origin): Source {
  const run = randomUUID();
  return {
    place: 'stream',
    live: true,
    async *read(_position, { signal, warn }) {
      let isJson: boolean | undefined;
      const cut = () => warn('of a line of more than 16 MiB only the beginning was looked at');
      for await (const block of blocksOf(stream, 0, true, { cut })) {
        signal.throwIfAborted();
        isJson ??= parsed(block.bytes.toString('utf8', 0, block.bytes.indexOf(10))) !== undefined;
        const piece = isJson ? recordsOf(block.bytes, origin, warn) : linesOf(block, run, settings);
        if (piece !== undefined) yield { ...piece, position: async (): Promise<Json> => null };
      }
      return null;
    },
  };
}

function parsed(line: string) {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function recordsOf(bytes: Buffer, origin: Origin, warn: (message: string) => void) {
  const gathered = gatherer(origin);
  let refused = 0;
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(10, start);
    const line = bytes.toString('utf8', start, end);
    const record = parsed(line);
    if (record !== undefined) gathered.add(record, line);
    else if (end > start) refused += 1;
    start = end + 1;
  }
  if (refused > 0) warn(`${refused} lines are no JSON objects, and were passed over`);
  return gathered.take();
}

function linesOf({ bytes, offset }: Block, run: string, settings: LineSettings): Omit<Piece, 'position'> {
  const { zone, year } = settings;
  const base = { file: '-', host: hostname(), written: Date.now(), year, zone };
  return {
    lines: bytes,
    /** A line with a date is known by what it says; one without by where it came. */
    eventAt(_, start, end): Event {
      const line = bytes.subarray(start, end);
      const text = line.toString('utf8');
      const isDated = recordOf(text, { ...base, fingerprint: '', offset: 0 }).format !== 'raw';
      const fingerprint = isDated ? createHash('sha256').update(text).digest('hex') : run;
      return eventOf(line, { ...base, fingerprint, offset: isDated ? 0 : offset + start }, settings.most);
    },
  };
}
