import { type LineContext, recordOf, stampIn, type Zone } from '../collectors/_syslog.ts';
import {
  closeLog,
  type Known,
  type LogFile,
  logsAmong,
  logsOf,
  openLog,
  openStretch,
  type Positions,
  planned,
  type Stretch,
} from '../collectors/_syslog_files.ts';
import { lineOf } from '../collectors/_syslog_lines.ts';
import { CollectError } from '../errors.ts';
import type { Json } from '../json.ts';
import { blocksOf } from './blocks.ts';
import { type Event, type Piece, placeOf, type ReadMeans, type Source } from './source.ts';

/** How lines are understood: as the syslog collector does. */
export interface LineSettings {
  readonly zone: Zone;
  readonly year: number | undefined;
  /** Bytes of a line that are kept. */
  readonly most: number;
}

const LF = 10;

/** Log files, as the syslog collector reads them: the lines have the same ids. */
export function linesSource(patterns: readonly string[], settings: LineSettings): Source {
  return {
    place: placeOf('lines', patterns),
    live: false,
    async *read(position, means) {
      const saved = (position ?? {}) as Positions;
      const found = await logsOf(patterns, Object.keys(saved));
      if (found.length === 0) {
        throw new CollectError('config', `no file matches ${patterns.join(', ')}`, {
          mend: 'correct the pattern, or give the user the right to list the folder',
        });
      }
      const next: Positions = { ...saved };
      for (const log of logsAmong(found)) {
        means.signal.throwIfAborted();
        try {
          yield* readLog(log, next, { found, settings, means });
        } catch (thrown) {
          if (means.signal.aborted) throw thrown;
          means.failed(log, thrown);
        }
      }
      return next;
    },
  };
}

interface Reading {
  readonly found: readonly string[];
  readonly settings: LineSettings;
  readonly means: ReadMeans;
}

/** Reads what is new in a log; what is read becomes known as it goes. */
async function* readLog(log: string, next: Positions, reading: Reading): AsyncGenerator<Piece> {
  const isWanted = ({ current, path }: LogFile) => current || reading.found.includes(path);
  const files = await openLog(log);
  try {
    const { stretches, kept } = await planned(log, files, next, isWanted);
    const read: Known[] = [];
    for (const [n, stretch] of stretches.entries()) {
      // What is not reached yet stays as it is known.
      const others = [...stretches.slice(n + 1).flatMap(({ place }) => place ?? []), ...kept];
      const positionOf = (now: Known): Positions => ({ ...next, [log]: [...read, now, ...others] });
      read.push(yield* readStretch(log, stretch, reading, positionOf));
      next[log] = [...read, ...others];
    }
    next[log] = [...read, ...kept];
  } finally {
    await closeLog(files);
  }
}

async function* readStretch(
  log: string,
  stretch: Stretch,
  { settings, means }: Reading,
  positionOf: (now: Known) => Json,
): AsyncGenerator<Piece, Known> {
  const { most } = settings;
  const { path, isPacked } = stretch.file;
  const { bytes, half, base, known } = openStretch(log, stretch, settings);
  let reached = stretch.from;
  let { stamp } = base;
  let long = 0;
  const cut = () => {
    long += 1;
  };
  for await (const block of blocksOf(bytes, stretch.from, half, { cut })) {
    means.signal.throwIfAborted();
    const { bytes: lines, offset, end } = block;
    const stampBefore = stampsIn(lines, { ...base, offset, stamp }, most);
    const contextAt = (from: number): LineContext => ({
      ...base,
      offset: offset + from,
      get stamp() {
        return stampBefore(from);
      },
    });
    yield {
      lines,
      eventAt: (_, from, to) => eventOf(lines.subarray(from, to), contextAt(from), most),
      // A compressed file that is known was read whole.
      position: async () => (isPacked ? undefined : positionOf(await known(end, stampBefore(lines.length)))),
    };
    reached = end;
    stamp = stampBefore(lines.length);
  }
  if (long > 0) means.warn(`${path}: of ${long} lines of more than 16 MiB only the beginning was looked at`);
  return known(reached, stamp);
}

/** Tells the last stamp before a place in lines. It looks backwards from there, as most lines have one. */
function stampsIn(lines: Buffer, context: LineContext, most: number): (to: number) => string | undefined {
  let from = 0;
  let { stamp } = context;
  return (to) => {
    if (to < from) [from, stamp] = [0, context.stamp];
    for (let end = to; end > from; ) {
      const start = from + lines.subarray(from, end - 1).lastIndexOf(LF) + 1;
      const found = stampIn(textOf(lines.subarray(start, end - 1), most).line, context);
      if (found !== undefined) stamp = found;
      end = found === undefined ? start : from;
    }
    from = to;
    return stamp;
  };
}

function textOf(bytes: Buffer, most: number): ReturnType<typeof lineOf> {
  return lineOf([bytes.subarray(0, most)], bytes.length);
}

/** A line as an event. */
export function eventOf(bytes: Buffer, context: LineContext, most: number): Event {
  const { line, flags } = textOf(bytes, most);
  const record = recordOf(line, context, flags);
  const { device_name, date, event_id = '' } = record as Record<string, string>;
  return {
    ...{ device_name: device_name ?? '', date: date ?? '', event_id, key: event_id, data: line, record },
    fieldAt: () => ({ name: 'data', start: 0 }),
  };
}
