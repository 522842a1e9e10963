import { choice, flag, integer, list, optional, setting, text, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';
import { hasStamp, type LineContext, recordOf, zoneOf } from './_syslog.ts';
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
} from './_syslog_files.ts';
import { lagOf } from './_syslog_lag.ts';
import { linesOf } from './_syslog_lines.ts';
import { type Transform, transformOf } from './_syslog_transform.ts';
import { type Context, defineCollector } from './collector.ts';

const ENV = {
  SYSLOG_PATHS: setting('Log files, also with * and ?, such as /var/log/syslog,/var/log/auth.log', list()),
  SYSLOG_FROM: setting('Where to begin in a file that was never read', choice(['start', 'end'], 'start')),
  SYSLOG_TIMEZONE: setting(
    'Zone of stamps that name none: local, UTC or such as Europe/Berlin',
    text('local').refine(isZone, 'is no time zone'),
  ),
  SYSLOG_YEAR: setting(
    'Year of stamps that name none; auto goes by when the file was written',
    text('auto').refine((year) => /^(auto|\d{4})$/.test(year), 'must be auto or a year'),
  ),
  SYSLOG_MAX_LINE: setting('Bytes after which a line is cut', integer(65_536, 256, 16_777_216)),
  SYSLOG_BATCH_SIZE: setting('Records handed on at once', integer(1000, 1, 100_000)),
  SYSLOG_INCLUDE_ROTATED: setting('Whether to read rotated files (.1, .2.gz, .3.zst) too, oldest first', flag()),
  SYSLOG_TRANSFORM: setting('YAML or JSON file of steps that drop, parse, rename or add on the way', optional()),
} as const;

type Settings = Values<typeof ENV>;

export default defineCollector({
  name: 'syslog',
  title: 'Syslog files of this machine',
  docs: 'https://www.rfc-editor.org/rfc/rfc5424',
  env: ENV,
  aliases: { SYSLOG_FILES: 'SYSLOG_PATHS' },
  resources: {
    events: {
      about: 'Lines of log files: RFC 5424, RFC 3164, ISO stamps, and whatever else stands there',
      kind: 'events',
      path: 'SYSLOG_PATHS',
      id: 'event_id',
      repeats: true,
      needs: 'read on the files; on Debian and Ubuntu the group adm',
      collect: events,
    },
  },
});

async function* events(context: Context<Settings>): AsyncGenerator<readonly JsonObject[]> {
  const { settings, cursor, signal } = context;
  const saved = ((await cursor.read()) ?? {}) as Positions;
  const found = await logsOf(settings.SYSLOG_PATHS, Object.keys(saved));
  if (found.length === 0) {
    throw new CollectError('config', `SYSLOG_PATHS matches no file: ${settings.SYSLOG_PATHS.join(', ')}`, {
      mend: 'correct it, or give the user the right to list the folder',
    });
  }
  const reading = await readingOf(context);
  const next: Positions = { ...saved };
  const logs = logsAmong(found);
  const isWanted = ({ current, path }: LogFile) =>
    current ? settings.SYSLOG_FROM === 'start' : settings.SYSLOG_INCLUDE_ROTATED || found.includes(path);
  context.behind((moved) => lagOf(logs, moved ? next : saved));
  for (const log of logs) {
    const files = await openLog(log);
    try {
      const { stretches, kept } = await planned(log, files, saved, isWanted);
      const read: Known[] = [];
      for (const stretch of stretches) {
        signal.throwIfAborted();
        read.push(yield* readStretch(log, stretch, reading));
      }
      next[log] = [...read, ...kept];
    } finally {
      await closeLog(files);
    }
  }
  cursor.save(next);
}

/** What reading goes by. */
interface Reading {
  readonly settings: Settings;
  readonly transform: Transform;
  readonly lines: Pick<LineContext, 'zone' | 'year'>;
  leaveOut(records: number): void;
}

async function readingOf({ settings, leaveOut }: Context<Settings>): Promise<Reading> {
  const { SYSLOG_TRANSFORM: path, SYSLOG_TIMEZONE: zone, SYSLOG_YEAR: year } = settings;
  const transform = path === undefined ? (record: JsonObject) => record : await transformOf(path);
  const lines = { zone: zoneOf(zone), year: year === 'auto' ? undefined : Number(year) };
  return { settings, transform, lines, leaveOut };
}

async function* readStretch(
  log: string,
  stretch: Stretch,
  { settings, transform, lines, leaveOut }: Reading,
): AsyncGenerator<readonly JsonObject[], Known> {
  const { bytes, half, base, known } = openStretch(log, stretch, lines);
  let batch: JsonObject[] = [];
  let reached = stretch.from;
  let { stamp } = base;
  for await (const { line, offset, end, flags } of linesOf(bytes, stretch.from, settings.SYSLOG_MAX_LINE, half)) {
    const record = recordOf(line, { ...base, offset, stamp }, flags);
    if (hasStamp(record)) stamp = String(record.date);
    const wanted = transform(record);
    if (wanted === undefined) leaveOut(1);
    else batch.push(wanted);
    reached = end;
    if (batch.length < settings.SYSLOG_BATCH_SIZE) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
  return known(reached, stamp);
}

function isZone(name: string): boolean {
  try {
    zoneOf(name);
    return true;
  } catch {
    return false;
  }
}
