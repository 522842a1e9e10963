import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve, sep } from 'node:path';
import { createGunzip } from 'node:zlib';
import { choice, flag, integer, list, setting, text, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';
import { type LineContext, recordOf, type Zone, zoneOf } from './_syslog.ts';
import { linesOf } from './_syslog_lines.ts';
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
} as const;

type Settings = Values<typeof ENV>;

/** How far a file was read. */
interface Position {
  readonly inode: number;
  readonly offset: number;
  /** Hash of the file's first bytes, and how many: it tells a new file of the same name and inode. */
  readonly head: string;
  readonly headLength: number;
}

type Positions = { [path: string]: Position & JsonObject };

/** A stretch of a file to read. */
interface Stretch {
  readonly path: string;
  readonly from: number;
}

const HEAD = 1024;
const SAMPLE = 4096;
const ROTATED = /^\.\d+(\.gz|\.zst)?$|^-\d{8}(\.gz|\.zst)?$/;

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
      needs: 'read on the files; on Debian and Ubuntu the group adm',
      collect: events,
    },
  },
});

async function* events(context: Context<Settings>): AsyncGenerator<readonly JsonObject[]> {
  const { settings, cursor } = context;
  const paths = await expand(settings.SYSLOG_PATHS);
  if (paths.length === 0) {
    throw new CollectError('config', `SYSLOG_PATHS matches no file: ${settings.SYSLOG_PATHS.join(', ')}`, {
      mend: 'correct it, or give the user the right to list the folder',
    });
  }
  const saved = ((await cursor.read()) ?? {}) as Positions;
  const next: Positions = { ...saved };
  const zone = zoneOf(settings.SYSLOG_TIMEZONE);
  for (const path of paths) {
    for (const stretch of await stretchesOf(path, saved[path], settings)) {
      const position = yield* readStretch(stretch, settings, zone);
      if (stretch.path === path) next[path] = position as Position & JsonObject;
      else next[stretch.path] = position as Position & JsonObject;
    }
  }
  cursor.save(next);
}

/** What is still to be read of a file, its rotated self first. */
async function stretchesOf(path: string, saved: Position | undefined, settings: Settings): Promise<readonly Stretch[]> {
  const siblings = await rotated(path);
  const older =
    settings.SYSLOG_INCLUDE_ROTATED && saved === undefined
      ? siblings.map((sibling) => ({ path: sibling, from: 0 }))
      : [];
  if (saved === undefined) {
    const from = settings.SYSLOG_FROM === 'end' ? (await stat(path).catch((cause) => unreadable(path, cause))).size : 0;
    return [...older, { path, from }];
  }
  if (await isSame(path, saved)) return [{ path, from: saved.offset }];
  for (const sibling of siblings) {
    if (!isCompressed(sibling) && (await isSame(sibling, saved)))
      return [
        { path: sibling, from: saved.offset },
        { path, from: 0 },
      ];
  }
  return [{ path, from: 0 }];
}

/** Whether a file is the one that was read to a position: same inode, no shorter, and it begins the same. */
async function isSame(path: string, { inode, offset, head, headLength }: Position): Promise<boolean> {
  const { ino, size } = await stat(path).catch((cause) => unreadable(path, cause));
  return ino === inode && size >= offset && (await headOf(path, headLength)).head === head;
}

async function* readStretch(
  { path, from }: Stretch,
  settings: Settings,
  zone: Zone,
): AsyncGenerator<readonly JsonObject[], Position> {
  const file = await open(path, 'r').catch((cause) => unreadable(path, cause));
  try {
    const { ino, mtimeMs, size } = await file.stat();
    if (!isCompressed(path)) await assertText(file, path);
    const { head, headLength } = await headOf(path, HEAD);
    const base = { file: path, fingerprint: head, host: hostname(), written: Math.floor(mtimeMs), zone };
    const year = settings.SYSLOG_YEAR === 'auto' ? undefined : Number(settings.SYSLOG_YEAR);
    let batch: JsonObject[] = [];
    for await (const { line, offset, flags } of linesOf(bytesOf(path, from, size), from, settings.SYSLOG_MAX_LINE)) {
      const context: LineContext = { ...base, year, offset };
      batch.push(recordOf(line, context, flags));
      if (batch.length < settings.SYSLOG_BATCH_SIZE) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0) yield batch;
    return { inode: ino, offset: size, head, headLength };
  } finally {
    await file.close();
  }
}

/** The bytes of a file from an offset to the size it had; of a compressed one all, inflated. */
function bytesOf(path: string, from: number, size: number): AsyncIterable<Uint8Array> {
  if (path.endsWith('.gz')) return createReadStream(path).pipe(createGunzip());
  if (path.endsWith('.zst')) {
    throw new CollectError('config', `${path} is compressed by zstd, which is not read here`, {
      mend: 'leave it out of SYSLOG_PATHS, or rotate with gzip',
    });
  }
  if (size <= from) return none();
  return createReadStream(path, { start: from, end: size - 1, highWaterMark: 256 * 1024 });
}

async function* none(): AsyncGenerator<Uint8Array> {}

function isCompressed(path: string): boolean {
  return /\.(gz|zst)$/.test(path);
}

async function headOf(path: string, length: number): Promise<Pick<Position, 'head' | 'headLength'>> {
  const file = await open(path, 'r').catch((cause) => unreadable(path, cause));
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, 0);
    return { head: createHash('sha256').update(buffer.subarray(0, bytesRead)).digest('hex'), headLength: bytesRead };
  } finally {
    await file.close();
  }
}

async function assertText(file: FileHandle, path: string): Promise<void> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(SAMPLE), 0, SAMPLE, 0);
  let strange = 0;
  for (const byte of buffer.subarray(0, bytesRead))
    if (byte < 9 || (byte > 13 && byte < 32 && byte !== 27)) strange += 1;
  // Holes of NUL bytes are what a crash leaves in a text file; a file that begins with one is still told apart by its rest.
  if (strange <= bytesRead * 0.3) return;
  throw new CollectError('config', `${path} is no text file`, {
    mend: 'leave it out of SYSLOG_PATHS; a systemd journal is read through rsyslog',
  });
}

function unreadable(path: string, cause: NodeJS.ErrnoException): never {
  if (cause.code === 'EACCES' || cause.code === 'EPERM') {
    throw new CollectError('denied', `${path} cannot be read (${cause.code})`, {
      mend: 'run as a user of the group that owns it, on Debian and Ubuntu adm',
    });
  }
  throw new CollectError('config', `${path} cannot be read (${cause.code})`, { mend: 'correct SYSLOG_PATHS' });
}

/** A file's rotated siblings, oldest first. */
async function rotated(path: string): Promise<readonly string[]> {
  const folder = dirname(path);
  const names = await readdir(folder).catch(() => []);
  const found = names
    .map((name) => join(folder, name))
    .filter((name) => name.startsWith(path) && ROTATED.test(name.slice(path.length)));
  const aged = await Promise.all(found.map(async (name) => ({ name, at: (await stat(name)).mtimeMs })));
  return aged.sort((a, b) => a.at - b.at).map(({ name }) => name);
}

/** The files that paths and patterns name, each once; `*` and `?` stand for parts of one name. */
async function expand(patterns: readonly string[]): Promise<readonly string[]> {
  const found = new Set<string>();
  for (const pattern of patterns) for (const path of await matches(resolve(pattern))) found.add(path);
  return [...found];
}

async function matches(pattern: string): Promise<readonly string[]> {
  const [first = '', ...names] = pattern.split(sep);
  let paths = [first === '' ? sep : first];
  for (const name of names) {
    if (!/[*?]/.test(name)) {
      paths = paths.map((path) => join(path, name));
      continue;
    }
    const regexp = new RegExp(
      `^${name
        .replace(/[.+^${}()|[\]\\]/g, '\\$&')
        .replace(/\*/g, '.*')
        .replace(/\?/g, '.')}$`,
      'u',
    );
    const listed = await Promise.all(
      paths.map(async (path) => {
        const inside = await readdir(path).catch(() => []);
        return inside
          .filter((entry) => regexp.test(entry) && !entry.startsWith('.'))
          .sort()
          .map((entry) => join(path, entry));
      }),
    );
    paths = listed.flat();
  }
  const files = await Promise.all(
    paths.map(async (path) => ((await stat(path).catch(() => undefined))?.isFile() === true ? [path] : [])),
  );
  return files.flat();
}

function isZone(name: string): boolean {
  try {
    zoneOf(name);
    return true;
  } catch {
    return false;
  }
}
