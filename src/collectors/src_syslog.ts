import { hostname } from 'node:os';
import { choice, flag, integer, list, optional, setting, text, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';
import { recordOf, type Zone, zoneOf } from './_syslog.ts';
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

/** What is known of each log and its rotated files. */
type Positions = { [log: string]: Known[] };

/** Files to remember of a log, gone ones too. */
const REMEMBERED = 64;
const HALF_LINE_MS = 3_600_000;

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
  const logs = found.filter((path) => !found.some((other) => isRotated(path, other)));
  context.behind((moved) => lagOf(logs, moved ? next : saved));
  for (const log of logs) {
    const files = await openLog(log);
    try {
      const { stretches, kept } = await planned(log, files, saved, { settings, found });
      const read: Known[] = [];
      for (const stretch of stretches) {
        signal.throwIfAborted();
        read.push(yield* readStretch(log, stretch, reading));
      }
      next[log] = [...read, ...kept].slice(0, REMEMBERED);
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
  readonly zone: Zone;
  leaveOut(records: number): void;
}

async function readingOf({ settings, leaveOut }: Context<Settings>): Promise<Reading> {
  const { SYSLOG_TRANSFORM: path, SYSLOG_TIMEZONE: zone } = settings;
  const transform = path === undefined ? (record: JsonObject) => record : await transformOf(path);
  return { settings, transform, zone: zoneOf(zone), leaveOut };
}

/** What of a log is to be read: what is new, or at first what the settings say. */
async function planned(
  log: string,
  files: readonly LogFile[],
  saved: Positions,
  { settings, found }: { readonly settings: Settings; readonly found: readonly string[] },
): Promise<Plan> {
  // What is a rotated file now may have been read under its own name, before there was a log of the one without it.
  const known = saved[log] ?? files.flatMap(({ path }) => saved[path] ?? []);
  if (saved[log] !== undefined || known.length > 0) return planOf(files, known);
  const stretches: Stretch[] = [];
  const kept: Known[] = [];
  for (const file of files) {
    const wanted = file.current || settings.SYSLOG_INCLUDE_ROTATED || found.includes(file.path);
    const fromEnd = !wanted || (file.current && settings.SYSLOG_FROM === 'end');
    if (fromEnd) kept.push(await knownAt(file, await lineEnd(file)));
    else if (!(await isCopy(file, files))) stretches.push({ file, from: 0 });
  }
  return { stretches, kept };
}

async function* readStretch(
  log: string,
  { file, from, place }: Stretch,
  { settings, transform, zone, leaveOut }: Reading,
): AsyncGenerator<readonly JsonObject[], Known> {
  const { path, size, start, written, isPacked } = file;
  assertText(file);
  const at = Date.now();
  const year = settings.SYSLOG_YEAR === 'auto' ? undefined : Number(settings.SYSLOG_YEAR);
  const base = { file: path, fingerprint: fingerprintOf(log, start), host: hostname(), written, year, zone };
  // A line that is half written stays for the next run, unless it seems to stay so.
  const half = isPacked || at - written > HALF_LINE_MS;
  const bytes = contentOf(file, from, isPacked ? Number.POSITIVE_INFINITY : size);
  let batch: JsonObject[] = [];
  let reached = from;
  let stamp = place?.stamp;
  for await (const { line, offset, end, flags } of linesOf(bytes, from, settings.SYSLOG_MAX_LINE, half)) {
    const record = recordOf(line, { ...base, offset, stamp }, flags);
    if (record.format !== 'raw') stamp = String(record.date);
    const wanted = transform(record);
    if (wanted === undefined) leaveOut(1);
    else batch.push(wanted);
    reached = end;
    if (batch.length < settings.SYSLOG_BATCH_SIZE) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
  if (!isPacked && (await file.handle.stat()).size < size) {
    throw new CollectError('incomplete', `${path} was cut off while it was read`);
  }
  return { ...(await knownAt(file, reached)), at, ...(stamp === undefined ? {} : { stamp }) };
}

function isZone(name: string): boolean {
  try {
    zoneOf(name);
    return true;
  } catch {
    return false;
  }
}
