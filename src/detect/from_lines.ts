import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { type LineContext, recordOf, type Zone } from '../collectors/_syslog.ts';
import {
  assertText,
  closeLog,
  contentOf,
  fingerprintOf,
  isCopy,
  isRotated,
  type Known,
  knownAt,
  type LogFile,
  lineEnd,
  logsOf,
  openLog,
  type Plan,
  planOf,
  type Stretch,
} from '../collectors/_syslog_files.ts';
import { lineOf } from '../collectors/_syslog_lines.ts';
import { CollectError } from '../errors.ts';
import type { Json } from '../json.ts';
import { type Block, blocksOf } from './blocks.ts';
import type { Event, Piece, ReadMeans, Source } from './source.ts';

/** How lines are understood: as the syslog collector does. */
export interface LineSettings {
  readonly zone: Zone;
  readonly year: number | undefined;
  /** Bytes of a line that are kept. */
  readonly most: number;
}

/** What is known of each log and its rotated files. */
type Positions = { [log: string]: Known[] };

/** Files to remember of a log, gone ones too. */
const REMEMBERED = 64;
const HALF_LINE_MS = 3_600_000;

/** Log files, as the syslog collector reads them: the lines have the same ids. */
export function linesSource(patterns: readonly string[], settings: LineSettings): Source {
  return {
    place: `lines ${patterns
      .map((pattern) => resolve(pattern))
      .sort()
      .join(' ')}`,
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
      for (const log of found.filter((path) => !found.some((other) => isRotated(path, other)))) {
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
  const files = await openLog(log);
  try {
    const { stretches, kept } = await planned(log, files, next, reading.found);
    const read: Known[] = [];
    const known = (now: readonly Known[]) => [...now, ...read, ...kept].slice(0, REMEMBERED);
    for (const stretch of stretches) {
      let reached = stretch.from;
      for await (const { piece, end } of readStretch(log, stretch, reading)) {
        const behind = end;
        yield {
          ...piece,
          async position(): Promise<Json> {
            return { ...next, [log]: known([await knownAt(stretch.file, behind)]) };
          },
        };
        reached = end;
      }
      read.unshift(await knownAt(stretch.file, reached));
      next[log] = known([]);
    }
    next[log] = known([]);
  } finally {
    await closeLog(files);
  }
}

async function planned(
  log: string,
  files: readonly LogFile[],
  saved: Positions,
  found: readonly string[],
): Promise<Plan> {
  const known = saved[log] ?? files.flatMap(({ path }) => saved[path] ?? []);
  if (saved[log] !== undefined || known.length > 0) return planOf(files, known);
  const stretches: Stretch[] = [];
  const kept: Known[] = [];
  for (const file of files) {
    if (!file.current && !found.includes(file.path)) kept.push(await knownAt(file, await lineEnd(file)));
    else if (!(await isCopy(file, files))) stretches.push({ file, from: 0 });
  }
  return { stretches, kept };
}

async function* readStretch(
  log: string,
  { file, from }: Stretch,
  { settings, means }: Reading,
): AsyncGenerator<{ readonly piece: Omit<Piece, 'position'>; readonly end: number }> {
  const { path, size, start, written, isPacked } = file;
  assertText(file);
  const { zone, year } = settings;
  const base = { file: path, fingerprint: fingerprintOf(log, start), host: hostname(), written, year, zone };
  // A line that is half written stays for another time, unless it seems to stay so.
  const half = isPacked || Date.now() - written > HALF_LINE_MS;
  const bytes = contentOf(file, from, isPacked ? Number.POSITIVE_INFINITY : size);
  let long = 0;
  const cut = () => {
    long += 1;
  };
  for await (const block of blocksOf(bytes, from, half, { cut })) {
    means.signal.throwIfAborted();
    yield { piece: pieceOf(block, base, settings.most), end: block.end };
  }
  if (long > 0) means.warn(`${path}: of ${long} lines of more than 16 MiB only the beginning was looked at`);
  if (!isPacked && (await file.handle.stat()).size < size) {
    throw new CollectError('incomplete', `${path} was cut off while it was read`);
  }
}

/** A block of lines of a log. */
export function pieceOf(block: Block, base: Omit<LineContext, 'offset'>, most: number): Omit<Piece, 'position'> {
  const { bytes, offset } = block;
  return {
    lines: bytes,
    eventAt: (_, start, end) => eventOf(bytes.subarray(start, end), { ...base, offset: offset + start }, most),
  };
}

/** A line as an event. */
export function eventOf(bytes: Buffer, context: LineContext, most: number): Event {
  const { line, flags } = lineOf([bytes.subarray(0, most)], bytes.length);
  const record = recordOf(line, context, flags);
  const { device_name, date, event_id = '' } = record as Record<string, string>;
  return {
    ...{ device_name: device_name ?? '', date: date ?? '', event_id, key: event_id, data: line, record },
    fieldAt: () => ({ name: 'data', start: 0 }),
  };
}
