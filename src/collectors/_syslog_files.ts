import { createHash } from 'node:crypto';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { compressionOf, gunzip, unzstd } from '../envelope/encoding.ts';
import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';
import type { LineContext } from './_syslog.ts';

/** A file that was read, and how far. It is known by its content: names, and with copies inodes, change as logs rotate. */
export interface Known extends JsonObject {
  readonly inode: number;
  readonly offset: number;
  /** Hash of the file's first bytes, and how many. */
  readonly head: string;
  readonly headLength: number;
  /** Hash of the last bytes before the offset, and how many. */
  readonly tail: string;
  readonly tailLength: number;
  /** Size of a compressed file, which was read whole; 0 for any other. */
  readonly packed: number;
  /** When it was read up to there, in epoch milliseconds. */
  readonly at?: number;
  /** The last stamp of a line up to there, which is the date of lines behind it that have none. */
  readonly stamp?: string;
}

/** What is known of each log and what it was rotated to. */
export type Positions = { [log: string]: Known[] };

/** A file that is open, as it was when it was opened. */
export interface LogFile {
  readonly path: string;
  /** Whether it is the log itself, not one that it was rotated to. */
  readonly current: boolean;
  readonly handle: FileHandle;
  readonly inode: number;
  readonly size: number;
  /** Epoch milliseconds. */
  readonly written: number;
  readonly isPacked: boolean;
  /** Its first bytes, inflated. */
  readonly start: Buffer;
}

/** A stretch of a file to read; a compressed one is skipped up to there. */
export interface Stretch {
  readonly file: LogFile;
  readonly from: number;
  /** What is known of it, where some of it was read. */
  readonly place?: Known;
}

/** What is to be read of a log, oldest first, and what stays as it is known. */
interface Plan {
  readonly stretches: readonly Stretch[];
  readonly kept: readonly Known[];
}

/** A stretch that is being read. */
interface OpenStretch {
  readonly bytes: AsyncGenerator<Uint8Array>;
  /** Whether what stands behind its last line feed is a line too. */
  readonly half: boolean;
  /** What its lines have in common. */
  readonly base: Omit<LineContext, 'offset'>;
  /** What to remember of the file once it was read up to there. */
  known(offset: number, stamp?: string): Promise<Known>;
}

/** Files to remember of a log that are gone, or just out of sight. */
const REMEMBERED = 64;
/** Milliseconds after which half a line seems to stay one. */
const HALF_LINE_MS = 3_600_000;
const SAMPLE = 1024;
const CHUNK = 2 ** 18;
const PACKED = /\.(gz|zst)$/;
const ROTATED = /^(\.\d+|-\d{8}(-?\d+)?)(\.gz|\.zst)?$/;

/** The log and what it was rotated to, oldest first, each opened; a file that is compressed right now is left for later. */
export async function openLog(log: string): Promise<readonly LogFile[]> {
  const folder = dirname(log);
  const names = new Set(await readdir(folder).catch(() => []));
  const own = [...names].filter((name) => {
    if (name === basename(log)) return true;
    const underWay = PACKED.test(name) && names.has(name.replace(PACKED, ''));
    return isRotated(join(folder, name), log) && !underWay;
  });
  const opened: LogFile[] = [];
  const age = (a: LogFile, b: LogFile) =>
    Number(a.current) - Number(b.current) || a.written - b.written || generation(b) - generation(a);
  try {
    for (const name of own) {
      const file = await openFile(join(folder, name), name === basename(log));
      if (file === undefined) continue;
      if (opened.some(({ inode }) => inode === file.inode)) await file.handle.close();
      else opened.push(file);
    }
  } catch (error) {
    await closeLog(opened);
    throw error;
  }
  return opened.sort(age);
}

function generation({ path }: LogFile): number {
  return Number(/\.(\d+)(\.gz|\.zst)?$/.exec(path)?.[1] ?? 0);
}

/** The paths that are logs, not what another of them was rotated to. */
export function logsAmong(paths: readonly string[]): readonly string[] {
  return paths.filter((path) => !paths.some((other) => isRotated(path, other)));
}

/** Whether a path is what a log was rotated to. */
function isRotated(path: string, log: string): boolean {
  return path.startsWith(log) && ROTATED.test(path.slice(log.length));
}

/** Closes every file of a log. */
export async function closeLog(files: readonly LogFile[]): Promise<void> {
  for (const { handle } of files) await handle.close().catch(() => undefined);
}

async function openFile(path: string, current: boolean): Promise<LogFile | undefined> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    const { ino: inode, size, mtimeMs } = await handle.stat();
    const isPacked = compressionOf(path) !== 'none';
    const bare = { path, current, handle, inode, size, written: Math.floor(mtimeMs), isPacked, start: Buffer.alloc(0) };
    return { ...bare, start: await bytesAt(bare, 0, isPacked ? SAMPLE : Math.min(SAMPLE, size)) };
  } catch (cause) {
    await handle?.close();
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined; // it was just rotated: the next run finds it
    throw cause instanceof CollectError ? cause : unreadable(path, cause as NodeJS.ErrnoException);
  }
}

function unreadable(path: string, { code }: NodeJS.ErrnoException): CollectError {
  if (code !== 'EACCES' && code !== 'EPERM') {
    return new CollectError('config', `${path} cannot be read (${code})`, { mend: 'correct SYSLOG_PATHS' });
  }
  return new CollectError('denied', `${path} cannot be read (${code})`, {
    mend: 'run as a user of the group that owns it, on Debian and Ubuntu adm',
  });
}

/** The bytes of a file between two places of its content, inflated where it is compressed. */
export async function* contentOf(file: LogFile, from: number, to: number): AsyncGenerator<Uint8Array> {
  if (!file.isPacked) {
    yield* rawOf(file.handle, from, to);
    return;
  }
  let at = 0;
  for await (const chunk of inflated(file)) {
    const part = chunk.subarray(Math.max(0, from - at), Math.max(0, to - at));
    at += chunk.length;
    if (part.length > 0) yield part;
    if (at >= to) return;
  }
}

async function* rawOf(handle: FileHandle, from: number, to: number): AsyncGenerator<Uint8Array> {
  for (let at = from; at < to; ) {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(Math.min(CHUNK, to - at)), { position: at });
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}

async function* inflated({ path, handle, size }: LogFile): AsyncGenerator<Uint8Array> {
  if (size === 0) return;
  const packed = rawOf(handle, 0, size);
  try {
    yield* compressionOf(path) === 'gzip' ? gunzip(packed) : unzstd(packed, path);
  } catch (cause) {
    throw new CollectError('config', `${path} cannot be inflated: ${(cause as Error).message}`, {
      mend: 'run again if it is being written; leave it out of SYSLOG_PATHS if it is damaged',
    });
  }
}

async function bytesAt(file: LogFile, from: number, to: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of contentOf(file, from, to)) parts.push(part);
  return Buffer.concat(parts);
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** What to remember of a file that was read up to there. */
async function knownAt(file: LogFile, offset: number): Promise<Known> {
  const { inode, start, size } = file;
  const headLength = file.isPacked ? start.length : Math.min(SAMPLE, offset);
  const head = digest(file.isPacked ? start : await bytesAt(file, 0, headLength));
  const base = { inode, offset, head, headLength };
  if (file.isPacked) return { ...base, tail: '', tailLength: 0, packed: size };
  return { ...base, tail: digest(await bytesAt(file, offset - headLength, offset)), tailLength: headLength, packed: 0 };
}

/** How a file stands to one that is known: it goes on from there, it is a shorter copy of it, or it is another. */
async function relation(file: LogFile, known: Known): Promise<'on' | 'short' | 'other'> {
  const { offset, head, headLength, tail, tailLength } = known;
  if (file.start.length < headLength || digest(file.start.subarray(0, headLength)) !== head) return 'other';
  if (!file.isPacked && file.size < offset) return 'short';
  if (tailLength === 0) return 'on';
  const before = await bytesAt(file, offset - tailLength, offset);
  if (before.length < tailLength) return 'short';
  return digest(before) === tail ? 'on' : 'other';
}

/** What of a log is to be read: what is new, or at first the files that are wanted, each whole; the others pass as read. */
export async function planned(
  log: string,
  files: readonly LogFile[],
  saved: Positions,
  isWanted: (file: LogFile) => boolean,
): Promise<Plan> {
  // What is a rotated file now may have been read under its own name, before there was a log of the one without it.
  const known = saved[log] ?? files.flatMap(({ path }) => saved[path] ?? []);
  if (saved[log] !== undefined || known.length > 0) return planOf(files, known);
  const stretches: Stretch[] = [];
  const kept: Known[] = [];
  for (const file of files) {
    if (!isWanted(file)) kept.push(await knownAt(file, await lineEnd(file)));
    else if (!(await isCopy(file, files))) stretches.push({ file, from: 0 });
  }
  return { stretches, kept };
}

/**
 * Begins to read a stretch of a log.
 * @throws {CollectError} config where it is no text; from its bytes `incomplete` where the file is cut off meanwhile
 */
export function openStretch(
  log: string,
  { file, from, place }: Stretch,
  { zone, year }: Pick<LineContext, 'zone' | 'year'>,
): OpenStretch {
  assertText(file);
  const { path, start, written, isPacked } = file;
  const at = Date.now();
  const fingerprint = fingerprintOf(log, start);
  return {
    bytes: uncut(file, from),
    half: isPacked || at - written > HALF_LINE_MS,
    base: { file: path, fingerprint, host: hostname(), written, year, zone, stamp: place?.stamp },
    async known(offset, stamp) {
      return { ...(await knownAt(file, offset)), at, ...(stamp === undefined ? {} : { stamp }) };
    },
  };
}

async function* uncut(file: LogFile, from: number): AsyncGenerator<Uint8Array> {
  const { path, handle, size, isPacked } = file;
  yield* contentOf(file, from, isPacked ? Number.POSITIVE_INFINITY : size);
  if (isPacked || (await handle.stat()).size >= size) return;
  throw new CollectError('incomplete', `${path} was cut off while it was read`);
}

/** What of a log was not read yet. */
export async function planOf(files: readonly LogFile[], known: readonly Known[]): Promise<Plan> {
  const places = new Map<LogFile, Known>();
  // Of what nothing was read there is but an inode, which may be another file's by now.
  const left = new Set(known.filter(({ packed, headLength }) => packed > 0 || headLength > 0));
  const take = (file: LogFile, found: Known) => {
    places.set(file, found);
    left.delete(found);
  };
  for (const file of files) {
    for (const one of left) {
      const same = file.isPacked ? one.packed === file.size : one.packed === 0 && one.inode === file.inode;
      if (!same || (await relation(file, one)) !== 'on') continue;
      take(file, one);
      break;
    }
  }
  const stretches: Stretch[] = [];
  const kept: Known[] = [];
  for (const file of files) {
    const place = places.get(file) ?? (await placeOf(file, left, take));
    if (place === undefined && (await isCopy(file, files))) continue;
    if (place === undefined) stretches.push({ file, from: 0 });
    else if (place === 'read') kept.push(await knownAt(file, file.size));
    else if (place.packed > 0 || place.offset === file.size) kept.push(place);
    else stretches.push({ file, from: place.offset, place });
  }
  return { stretches, kept: [...kept, ...[...left].slice(0, REMEMBERED)] };
}

/** The place in a file that was copied or compressed since; `read` for one that was cut short behind a copy. */
async function placeOf(
  file: LogFile,
  left: ReadonlySet<Known>,
  take: (file: LogFile, found: Known) => void,
): Promise<Known | 'read' | undefined> {
  for (const one of left) {
    if (one.packed > 0 || one.headLength === 0) continue;
    const found = await relation(file, one);
    if (found === 'on') {
      take(file, one);
      return one;
    }
    if (found === 'short' && !file.current) return 'read';
  }
  return undefined;
}

/** Whether a file is what `copytruncate` is making of the log, which is not cut off yet. */
async function isCopy(file: LogFile, others: readonly LogFile[]): Promise<boolean> {
  if (file.current || file.isPacked || file.size === 0) return false;
  for (const other of others) {
    if (!other.current || other.isPacked || other.size < file.size) continue;
    if (!other.start.subarray(0, file.start.length).equals(file.start)) continue;
    if ((await digestOf(file, file.size)) === (await digestOf(other, file.size))) return true;
  }
  return false;
}

async function digestOf(file: LogFile, to: number): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of contentOf(file, 0, to)) hash.update(part);
  return hash.digest('hex');
}

/** The place behind the last line feed of a file. */
async function lineEnd(file: LogFile): Promise<number> {
  if (file.isPacked) return file.size;
  for (let to = file.size; to > 0; to -= SAMPLE) {
    const from = Math.max(0, to - SAMPLE);
    const found = (await bytesAt(file, from, to)).lastIndexOf(0x0a);
    if (found >= 0) return from + found + 1;
  }
  return 0;
}

/** The logs that paths and patterns name, each once, and those of earlier runs that they name and that are just rotated. */
export async function logsOf(patterns: readonly string[], earlier: readonly string[]): Promise<readonly string[]> {
  const found = new Set<string>();
  for (const pattern of patterns) {
    const path = resolve(pattern);
    for (const one of await matches(path)) found.add(one);
    const whole = new RegExp(`^${path.split(sep).map(sourceOf).join(sep)}$`, 'u');
    for (const one of earlier) if (whole.test(one)) found.add(one);
  }
  return [...found];
}

/** `*` and `?` stand for parts of one name. */
function sourceOf(name: string): string {
  return name
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '[^/]*')
    .replace(/\?/g, '[^/]');
}

async function matches(pattern: string): Promise<readonly string[]> {
  const [first = '', ...names] = pattern.split(sep);
  let paths = [first === '' ? sep : first];
  for (const name of names) {
    if (!/[*?]/.test(name)) {
      paths = paths.map((path) => join(path, name));
      continue;
    }
    const regexp = new RegExp(`^${sourceOf(name)}$`, 'u');
    const listed = await Promise.all(
      paths.map(async (path) => {
        const inside = await readdir(path).catch(() => []);
        const fitting = inside.filter((entry) => regexp.test(entry) && !entry.startsWith('.'));
        return fitting.sort().map((entry) => join(path, entry));
      }),
    );
    paths = listed.flat();
  }
  const files = await Promise.all(
    paths.map(async (path) => ((await stat(path).catch(() => undefined))?.isFile() === true ? [path] : [])),
  );
  return files.flat();
}

/** The same for a line that is read again, whatever its file is called by then. */
function fingerprintOf(log: string, start: Buffer): string {
  const end = start.indexOf(0x0a);
  return createHash('sha256')
    .update(log)
    .update(end < 0 ? start : start.subarray(0, end))
    .digest('hex');
}

/**
 * Refuses what is mostly no text. A hole of NUL bytes is what a crash leaves in one: the longest does not count.
 * @throws {CollectError} config
 */
function assertText({ path, start }: LogFile): void {
  const hole = Math.max(0, ...(start.toString('latin1').match(/\0+/g) ?? []).map(({ length }) => length));
  const strange = start.filter((byte) => byte < 9 || (byte > 13 && byte < 32 && byte !== 27)).length - hole;
  if (start.length === 0 || (start.length > hole && strange <= (start.length - hole) * 0.3)) return;
  throw new CollectError('config', `${path} is no text file`, {
    mend: 'leave it out of SYSLOG_PATHS; a systemd journal is read through rsyslog',
  });
}
