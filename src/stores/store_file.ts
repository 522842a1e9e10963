import { createHash, randomUUID } from 'node:crypto';
import { copyFile, link, lstat, mkdir, open, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { choice, setting, text } from '../config/setting.ts';
import { compress, compressionOf } from '../envelope/encoding.ts';
import { arrayItems, envelopeChunks } from '../envelope/envelope.ts';
import { assertWhole, spoolChunks } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { parseTemplate, type TemplateValues } from '../templating/template.ts';
import { type Dataset, defineStore, type Held, type Kind, namesOf } from './store.ts';

const FORMATS = ['auto', 'envelope', 'ndjson', 'array'] as const;
type Format = (typeof FORMATS)[number];

interface Settings {
  readonly STORE_FILE: string;
  readonly STORE_FILE_EVENTS: string;
  readonly STORE_FILE_FORMAT: Format;
}

export default defineStore({
  name: 'file',
  title: 'Local files',
  docs: 'https://nodejs.org/api/fs.html',
  env: {
    STORE_FILE: setting(
      "Path template; the end picks the format: .json .ndjson .jsonl, each also .gz or .zst; 'none' turns the store off",
      text('../data/source/%TAG/%TENANCY.json'),
    ),
    STORE_FILE_EVENTS: setting(
      'Path template for events, which must name each run',
      text('../data/source/%TAG/%TENANCY/%YYYY-%MM-%DD/%UUID.json'),
    ),
    STORE_FILE_FORMAT: setting('Format, where the end of the path should not decide', choice(FORMATS, 'auto')),
  },
  example: { STORE_FILE: './data/%TAG/%TENANCY.ndjson.gz' },
  targets(settings, kind, names) {
    if (settings.STORE_FILE === 'none') return undefined;
    return [pathOf(settings, kind, names)];
  },
  async open(settings, context) {
    return {
      async write(dataset) {
        const path = pathOf(settings, dataset.kind, namesOf(dataset, context));
        const format = formatOf(settings, path);
        const plain = format === 'ndjson' && compressionOf(path) === 'none';
        if (plain) await assertWhole(dataset.spool);
        const content = plain ? dataset.spool.path : compress(contentOf(dataset, format), compressionOf(path));
        const sha256 = await writeWhole(path, dataset.metadata.upload_id, content, () => dataset.confirm());
        return { at: path, records: dataset.metadata.records, sha256: sha256 ?? dataset.spool.sha256 };
      },
      async latest(tag) {
        return heldBy(
          pathOf(settings, 'snapshot', { uuid: randomUUID(), tag, tenancy: context.tenancy, at: context.at }),
        );
      },
      async check() {
        const names = { uuid: randomUUID(), tag: 'cyber_collect_probe', tenancy: context.tenancy, at: context.at };
        const path = pathOf(settings, 'snapshot', names);
        await writeWhole(path, 'probe', one(Buffer.from('probe')), async () => undefined);
        await rm(path);
        // The folder that only the probe had, if its tag is a folder; one that holds anything stays.
        if (path.includes(names.tag)) await rmdir(dirname(path)).catch(() => undefined);
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
  return /\.(ndjson|jsonl)(\.gz|\.zst)?$/.test(path) ? 'ndjson' : 'envelope';
}

function contentOf({ spool, metadata }: Dataset, format: Exclude<Format, 'auto'>): AsyncIterable<Uint8Array> {
  if (format === 'ndjson') return spoolChunks(spool);
  return format === 'array' ? arrayOf(spool) : envelopeChunks(spool, metadata);
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
 * Writes beside the target and renames: a reader sees the old file whole or the new one whole.
 * @param content the bytes, or the path of a spool that is the content
 * @returns the SHA-256 of the bytes, for a spool undefined
 */
async function writeWhole(
  path: string,
  upload: string,
  content: AsyncIterable<Uint8Array> | string,
  confirm: () => Promise<void>,
): Promise<string | undefined> {
  const hash = typeof content === 'string' ? undefined : createHash('sha256');
  const temporary = join(dirname(path), `.${basename(path)}.${upload}.tmp`); // engines that read folders pass over it
  try {
    await mkdir(dirname(path), { recursive: true });
    await assertNoLink(path);
    await removeLeftovers(path);
    if (typeof content === 'string') await linkOrCopy(content, temporary);
    const file = await open(temporary, typeof content === 'string' ? 'r+' : 'w', 0o600);
    try {
      if (typeof content !== 'string') {
        for await (const chunk of content) {
          hash?.update(chunk);
          await writeAll(file, chunk);
        }
      }
      await file.chmod(0o600);
      await file.sync();
    } finally {
      await file.close();
    }
    await confirm();
    await rename(temporary, path);
    await rm(temporary, { force: true }); // it stays where it was a link to the same bytes
    return hash?.digest('hex');
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw storeError(path, cause);
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
  const names = (await readdir(folder)).filter(
    (name) => name.startsWith(`.${basename(path)}.`) && name.endsWith('.tmp'),
  );
  for (const name of names) {
    const { mtimeMs } = await stat(join(folder, name));
    if (Date.now() - mtimeMs > LEFT_OVER) await rm(join(folder, name), { force: true });
  }
}

/** A spool never changes again, so its bytes can be the target's; across file systems they are copied. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  await rm(to, { force: true });
  await link(from, to).catch(() => copyFile(from, to));
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
