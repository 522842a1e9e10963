import { createHash, randomUUID } from 'node:crypto';
import { copyFile, link, lstat, mkdir, open, readdir, rename, rm, rmdir, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { choice, flag, integer, seconds, setting, text } from '../config/setting.ts';
import { compress, compressionOf } from '../envelope/encoding.ts';
import { arrayItems, envelopeChunks } from '../envelope/envelope.ts';
import { assertWhole, spoolChunks } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { parseTemplate, type TemplateValues } from '../templating/template.ts';
import { assertKey, mergedChunks } from './_merge.ts';
import { layoutSetting, type TabularFormat, tabularHeld, tabularOf, writeTabular } from './_tabular.ts';
import { type Dataset, defineStore, type Held, type Kind, namesOf, type OpenContext } from './store.ts';

const FORMATS = ['auto', 'envelope', 'ndjson', 'array', 'parquet', 'csv', 'sqlite'] as const;
type Format = (typeof FORMATS)[number];

interface Settings {
  readonly STORE_FILE: string;
  readonly STORE_FILE_EVENTS: string;
  readonly STORE_FILE_FORMAT: Format;
  readonly STORE_FILE_LAYOUT: 'typed' | 'raw';
  readonly STORE_FILE_MERGE: boolean;
  readonly STORE_FILE_THRESHOLD: number;
  readonly STORE_FILE_SLEEP: number;
}

export default defineStore({
  name: 'file',
  title: 'Local files',
  docs: 'https://nodejs.org/api/fs.html',
  env: {
    STORE_FILE: setting(
      'Path template; the end picks the format: .json .ndjson .jsonl .csv, each also .gz or .zst; .parquet .sqlite .db; ' +
        "'none' turns the store off",
      text('../data/source/%TAG/%TENANCY.json'),
    ),
    STORE_FILE_EVENTS: setting(
      'Path template for events, which must name each run',
      text('../data/source/%TAG/%TENANCY/%YYYY-%MM-%DD/%UUID.json'),
    ),
    STORE_FILE_FORMAT: setting('Format, where the end of the path should not decide', choice(FORMATS, 'auto')),
    STORE_FILE_LAYOUT: layoutSetting(),
    STORE_FILE_MERGE: setting(
      'Keep what a .json or .ndjson file holds, and replace the records that come again by their key',
      flag(),
    ),
    STORE_FILE_THRESHOLD: setting('Records of a merged file that are written before a pause', integer(1000, 1)),
    STORE_FILE_SLEEP: setting('Seconds of that pause', seconds()),
  },
  example: { STORE_FILE: './data/%TAG/%TENANCY.ndjson.gz' },
  packages(settings) {
    const path = settings.STORE_FILE;
    return path !== 'none' && formatOf(settings, path) === 'sqlite' ? ['node-sqlite3-wasm'] : [];
  },
  targets(settings, kind, names, id) {
    if (settings.STORE_FILE === 'none') return undefined;
    const path = pathOf(settings, kind, names);
    const format = formatOf(settings, path);
    if (settings.STORE_FILE_MERGE && kind === 'snapshot') assertMergeable(settings, format);
    if (settings.STORE_FILE_MERGE && kind === 'snapshot' && id !== undefined) assertKey(names.tag, id);
    return [path];
  },
  async open(settings, context) {
    const probe = { uuid: randomUUID(), tag: 'cyber_collect_probe', tenancy: context.tenancy, at: context.at };
    if (formatOf(settings, pathOf(settings, 'snapshot', probe)) === 'sqlite') {
      await (await import('./_sqlite.ts')).loadSqlite();
    }
    return {
      async write(dataset) {
        const path = pathOf(settings, dataset.kind, namesOf(dataset, context));
        const content = await contentOf(settings, dataset, path, context);
        const sha256 = await writeWhole(path, dataset.metadata.upload_id, content, () => dataset.confirm());
        return { at: path, records: dataset.metadata.records, sha256: sha256 ?? dataset.spool.sha256 };
      },
      async latest(tag) {
        const names = { uuid: randomUUID(), tag, tenancy: context.tenancy, at: context.at };
        const path = pathOf(settings, 'snapshot', names);
        const format = formatOf(settings, path);
        return isTabular(format) ? tabularHeld(path, format) : heldBy(path);
      },
      async check() {
        const path = pathOf(settings, 'snapshot', probe);
        await writeWhole(path, 'probe', one(Buffer.from('probe')), async () => undefined);
        await rm(path);
        // The folder that only the probe had, if its tag is a folder; one that holds anything stays.
        if (path.includes(probe.tag)) await rmdir(dirname(path)).catch(() => undefined);
      },
    };
  },
});

function pathOf(settings: Settings, kind: Kind, names: TemplateValues): string {
  const template = parseTemplate(kind === 'events' ? settings.STORE_FILE_EVENTS : settings.STORE_FILE);
  if (kind === 'events' && !template.perRun) {
    throw new CollectError(
      'config',
      `STORE_FILE_EVENTS '${template.source}' renders one file for every run, which would overwrite events`,
      {
        mend: 'add %UUID or a time such as %YYYY-%MM-%DD/%hh%mm%ss',
      },
    );
  }
  return resolve(template.render(names));
}

function formatOf(settings: Settings, path: string): Exclude<Format, 'auto'> {
  if (settings.STORE_FILE_FORMAT !== 'auto') return settings.STORE_FILE_FORMAT;
  return tabularOf(path) ?? (/\.(ndjson|jsonl)(\.gz|\.zst)?$/.test(path) ? 'ndjson' : 'envelope');
}

/** @throws {CollectError} config for files that nothing can be merged into */
function assertMergeable({ STORE_FILE }: Settings, format: Exclude<Format, 'auto'>): void {
  const refused = (why: string, mend: string) => new CollectError('config', `STORE_FILE_MERGE: ${why}`, { mend });
  if (isTabular(format)) throw refused(`records are not merged into ${format}`, 'end STORE_FILE in .json or .ndjson');
  if (parseTemplate(STORE_FILE).names.has('UUID'))
    throw refused(`'${STORE_FILE}' is another file for each upload`, 'leave %UUID out');
}

function isTabular(format: Exclude<Format, 'auto'>): format is TabularFormat {
  return format === 'parquet' || format === 'csv' || format === 'sqlite';
}

/** What a file is made of: its bytes, the path of a spool that is the content, or someone who makes it. */
type Content = AsyncIterable<Uint8Array> | string | ((path: string) => Promise<void>);

async function contentOf(settings: Settings, dataset: Dataset, path: string, context: OpenContext): Promise<Content> {
  const { spool, metadata } = dataset;
  const format = formatOf(settings, path);
  const compression = compressionOf(path);
  if (isTabular(format)) {
    const layout = settings.STORE_FILE_LAYOUT;
    const plan = { format, compression, layout, variable: 'STORE_FILE_LAYOUT', target: path, before: path };
    return async (out) => {
      for (const note of await writeTabular(dataset, plan, out)) context.warn(`${path}: ${note}`);
    };
  }
  if (settings.STORE_FILE_MERGE && dataset.kind === 'snapshot') {
    const { STORE_FILE_THRESHOLD: threshold, STORE_FILE_SLEEP: sleep } = settings;
    return compress(mergedChunks(dataset, { format, compression, path, threshold, sleep }), compression);
  }
  if (format !== 'ndjson')
    return compress(format === 'array' ? arrayOf(spool) : envelopeChunks(spool, metadata), compression);
  if (compression !== 'none') return compress(spoolChunks(spool), compression);
  await assertWhole(spool);
  return spool.path;
}

async function* arrayOf(spool: Dataset['spool']): AsyncGenerator<Uint8Array> {
  yield Buffer.from('[');
  yield* arrayItems(spool);
  yield Buffer.from(']\n');
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/**
 * Writes beside the target and renames: a reader sees the old file whole or the new one whole. The name it has before
 * begins with a dot, as engines that read a folder of files pass over such.
 * @returns the SHA-256 of the bytes, for a spool undefined
 */
async function writeWhole(
  path: string,
  upload: string,
  content: Content,
  confirm: () => Promise<void>,
): Promise<string | undefined> {
  const temporary = join(dirname(path), `.${basename(path)}.${upload}.tmp`); // engines that read folders pass over it
  try {
    await mkdir(dirname(path), { recursive: true });
    await assertNoLink(path);
    await removeLeftovers(path);
    const sha256 = await fill(temporary, content);
    await confirm();
    await rename(temporary, path);
    await unlink(temporary).catch(() => undefined); // it stays where it was a link to the same bytes
    return sha256;
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw storeError(path, cause);
  }
}

/** Makes a file that stays after a loss of power. */
async function fill(path: string, content: Content): Promise<string | undefined> {
  const hash = createHash('sha256');
  if (typeof content === 'string') await linkOrCopy(content, path);
  if (typeof content === 'function') await content(path);
  const made = typeof content === 'string' || typeof content === 'function';
  const file = await open(path, made ? 'r+' : 'w', 0o600);
  try {
    if (typeof content === 'object') {
      for await (const chunk of content) {
        hash.update(chunk);
        await writeAll(file, chunk);
      }
    }
    await file.chmod(0o600);
    await file.sync();
    if (typeof content === 'string') return undefined;
    if (typeof content === 'function') for await (const chunk of readAll(file)) hash.update(chunk);
    return hash.digest('hex');
  } finally {
    await file.close();
  }
}

async function* readAll(file: Awaited<ReturnType<typeof open>>): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(2 ** 20);
  for (let at = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** @throws {CollectError} refused where the file would take a link's place, and not come to where that leads */
async function assertNoLink(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found?.isSymbolicLink() !== true) return;
  throw new CollectError('refused', `${path} is a symbolic link`, {
    mend: 'remove it, or set STORE_FILE to where it leads',
  });
}

const LEFT_OVER = 3_600_000;

/** Temporary files of runs that were killed an hour ago or more. */
async function removeLeftovers(path: string): Promise<void> {
  const folder = dirname(path);
  const own = basename(path);
  const names = (await readdir(folder)).filter(
    (name) => (name.startsWith(`${own}.`) || name.startsWith(`.${own}.`)) && /\.tmp(\.lock)?$/.test(name),
  );
  for (const name of names) {
    const { mtimeMs } = await stat(join(folder, name)).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
    if (Date.now() - mtimeMs > LEFT_OVER) await rm(join(folder, name), { recursive: true, force: true });
  }
}

/** A spool never changes again, so its bytes can be the target's; across file systems they are copied. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  await link(from, to).catch(async () => {
    await rm(to, { force: true });
    await copyFile(from, to);
  });
}

async function writeAll(file: Awaited<ReturnType<typeof open>>, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.length; ) done += (await file.write(chunk, done)).bytesWritten;
}

function storeError(path: string, cause: unknown): unknown {
  if (cause instanceof CollectError) return cause;
  const code = (cause as NodeJS.ErrnoException).code;
  const mends: Readonly<Record<string, string>> = {
    ENOSPC: 'free space on that disk',
    EACCES: 'give this user the right to write there',
    EPERM: 'give this user the right to write there',
    EROFS: 'choose a path on a disk that can be written',
    EEXIST: 'choose a path whose parents are folders',
    ENOTDIR: 'choose a path whose parents are folders',
    EISDIR: 'choose a path that is no folder',
    ENAMETOOLONG: 'choose a shorter path',
  };
  if (code === undefined || cause instanceof CollectError) return cause;
  return new CollectError('store', `${path} cannot be written (${code})`, {
    mend: mends[code] ?? 'check the disk',
    cause,
  });
}

/** The upload named by the metadata that an envelope ends with. */
async function heldBy(path: string): Promise<Held | undefined> {
  if (compressionOf(path) !== 'none') return undefined;
  const file = await open(path, 'r').catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const { size } = await file.stat();
    const length = Math.min(size, 4096);
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
    const tail = buffer.toString('utf8');
    const upload = /"upload_id":"([^"]+)"/.exec(tail.slice(tail.lastIndexOf('"metadata":{')))?.[1];
    const timestamp = /"timestamp":"([^"]+)"/.exec(tail.slice(tail.lastIndexOf('"metadata":{')))?.[1];
    return upload === undefined || timestamp === undefined ? undefined : { upload_id: upload, timestamp };
  } finally {
    await file.close();
  }
}
