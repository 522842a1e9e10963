import { rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path/posix';
import { Readable } from 'node:stream';
import { compress, compressionOf, gunzip, unzstd } from '../envelope/encoding.ts';
import { envelopeChunks, envelopeLength } from '../envelope/envelope.ts';
import { spoolChunks } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { parseTemplate, type Template, type TemplateValues } from '../templating/template.ts';
import { tabularOf, writeTabular } from './_tabular.ts';
import { type Backup, type Dataset, type Kind, namesOf, type OpenContext, type Sink } from './store.ts';

/** An object to put, whose content can be produced any number of times. */
export interface Content {
  readonly key: string;
  readonly type: string;
  /** User metadata: ASCII names and values. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Exact length before compression. */
  readonly length: number;
  chunks(): AsyncGenerator<Uint8Array>;
}

/** A bucket one may use; every error is a sentence. */
export interface Bucket {
  /**
   * Puts an object whole or leaves what was there; compressed as the key's end says.
   * @param confirm to be called right before the object becomes what readers see
   */
  put(content: Content, confirm: () => Promise<void>): Promise<void>;
  /** The bytes of an object, inflated as the key's end says; undefined when it is not there. */
  get(key: string): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** The user metadata of an object; undefined when it is not there. */
  head(key: string): Promise<Readonly<Record<string, string>> | undefined>;
  delete(key: string): Promise<void>;
  close(): void;
}

/** Where a store's settings put objects. */
export interface Layout {
  /** Key template of datasets; unset = only the backup. */
  readonly key: string | undefined;
  /** Key template of events; unset = `key` if that names each run, else no upload. */
  readonly events: string | undefined;
  /** Key template of the last good copy. */
  readonly backup: string;
  /** What of a record is in the columns of a tabular object. */
  readonly columns: 'typed' | 'raw';
  /** What the variables are called. */
  readonly variables: {
    readonly key: string;
    readonly events: string;
    readonly columns: string;
    readonly backup: string;
  };
  /** The service, for sentences. */
  readonly service: string;
  /** The permission that deleting takes, for sentences. */
  readonly deleting: string;
  /** The name of a key as a person would look for it. */
  place(key: string): string;
}

const MOST_KEY = 1024;
const PROBE = '.cyber-collect-probe'; // one name: where deleting is not allowed, one object stays and not many

/**
 * Every place a dataset would be written to.
 * @throws {CollectError} config
 */
export function objectTargets(layout: Layout, kind: Kind, names: TemplateValues): readonly string[] {
  const { main, backup } = keysOf(layout, kind, names);
  tabularOf(main ?? '');
  return [main, kind === 'events' ? undefined : backup].filter((key) => key !== undefined).map(layout.place);
}

/** A store that holds each dataset as an object of a bucket, and its last good copy as another. */
export function objectSink(bucket: Bucket, layout: Layout, context: OpenContext): Sink & { check(): Promise<void> } {
  return {
    async write(dataset) {
      const { main, backup } = keysOf(layout, dataset.kind, namesOf(dataset, context));
      if (main !== undefined) {
        await putMain(bucket, layout, { dataset, key: main, warn: context.warn });
        return { at: layout.place(main), records: dataset.metadata.records };
      }
      if (dataset.kind === 'events') return { at: `(not uploaded: ${layout.variables.events} is not set)`, records: 0 };
      return { at: `(backup only) ${layout.place(backup)}`, records: dataset.metadata.records };
    },
    async latest(tag) {
      const template = mainTemplate(layout, 'snapshot');
      if (template === undefined || template.perRun) return undefined;
      const held = await bucket.head(keyOf(layout, template, probeNames(context, tag)));
      const upload = held?.['upload-id'];
      return upload === undefined || held?.timestamp === undefined
        ? undefined
        : { upload_id: upload, timestamp: held.timestamp };
    },
    check: () => probe(bucket, layout, context),
    close: async () => bucket.close(),
    backup: backupOf(bucket, layout, context),
  };
}

function backupOf(bucket: Bucket, layout: Layout, context: OpenContext): Backup {
  return {
    async save(dataset) {
      const { backup } = keysOf(layout, dataset.kind, namesOf(dataset, context));
      await bucket.put(contentOf(dataset, backup), dataset.confirm);
      return { at: layout.place(backup), records: dataset.metadata.records };
    },
    async note(name, text) {
      const key = keyOf(layout, backupTemplate(layout), probeNames(context, name));
      await bucket.put(small(key, 'application/json', text), unasked);
    },
    async load(names) {
      const { backup } = keysOf(layout, 'snapshot', names);
      const body = await bucket.get(backup);
      return body === undefined ? undefined : { at: layout.place(backup), body };
    },
  };
}

async function unasked(): Promise<void> {}

function small(key: string, type: string, text: string): Content {
  const bytes = Buffer.from(text);
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield bytes;
  }
  return { key, type, metadata: {}, length: bytes.length, chunks };
}

// Keys

/** Both keys of a dataset; a main key that is the backup's would be taken for the last good copy. */
function keysOf(
  layout: Layout,
  kind: Kind,
  names: TemplateValues,
): { readonly main?: string; readonly backup: string } {
  const { variables } = layout;
  const backup = keyOf(layout, backupTemplate(layout), names);
  const template = mainTemplate(layout, kind);
  if (template === undefined) return { backup };
  const main = keyOf(layout, template, names);
  if (main === backup) {
    throw new CollectError('config', `${variables.key} and ${variables.backup} both render ${main}`, {
      mend: `write another ${variables.key}, such as data/%TAG/%TENANCY.json, or unset it to keep only the backup`,
    });
  }
  return { main, backup };
}

function mainTemplate(layout: Layout, kind: Kind): Template | undefined {
  const main = layout.key === undefined ? undefined : parseTemplate(layout.key);
  if (kind === 'snapshot') return main;
  if (layout.events === undefined) return main?.perRun ? main : undefined;
  const events = parseTemplate(layout.events);
  if (events.perRun) return events;
  throw new CollectError(
    'config',
    `${layout.variables.events} '${events.source}' renders one key for every run, which would overwrite events`,
    {
      mend: 'add %UUID or a time such as %YYYY-%MM-%DD/%hh%mm%ss',
    },
  );
}

function backupTemplate(layout: Layout): Template {
  const template = parseTemplate(layout.backup);
  const named = `${layout.variables.backup} '${template.source}'`;
  if (template.perRun) {
    throw new CollectError('config', `${named} renders another key for each run, so none would find the copy`, {
      mend: 'leave %UUID and the times out, and turn on versioning of the bucket to keep earlier copies',
    });
  }
  if (isLines(template.source) || tabularOf(template.source) !== undefined) {
    const is = isLines(template.source) ? 'a file of lines' : 'a table';
    throw new CollectError('config', `${named} ends like ${is}, but the backup is an envelope`, {
      mend: 'end it in .json, .json.gz or .json.zst',
    });
  }
  return template;
}

function keyOf({ service }: Layout, template: Template, names: TemplateValues): string {
  const key = template.render(names);
  const size = Buffer.byteLength(key);
  if (size <= MOST_KEY) return key;
  throw new CollectError(
    'config',
    `'${template.source}' renders a key of ${size} bytes, ${service} takes ${MOST_KEY}`,
    {
      mend: 'write a shorter template',
    },
  );
}

function isLines(key: string): boolean {
  return /\.(ndjson|jsonl)(\.gz|\.zst)?$/.test(key);
}

const TABULAR_TYPES = { parquet: 'application/vnd.apache.parquet', csv: 'text/csv', sqlite: 'application/vnd.sqlite3' };

interface Main {
  readonly dataset: Dataset;
  readonly key: string;
  readonly warn: (message: string) => void;
}

/** Puts the object of a dataset; a tabular one is made in a file beside the spool first. */
async function putMain(bucket: Bucket, layout: Layout, { dataset, key, warn }: Main): Promise<void> {
  const format = tabularOf(key);
  if (format === undefined) return bucket.put(contentOf(dataset, key), dataset.confirm);
  const target = layout.place(key);
  const out = `${dataset.spool.path}.${dataset.metadata.upload_id}.${format}`;
  const { columns, variables } = layout;
  const plan = { format, compression: 'none', layout: columns, variable: variables.columns, target } as const;
  try {
    for (const note of await writeTabular(dataset, plan, out)) warn(`${target}: ${note}`);
    const made = { ...dataset.spool, path: out, bytes: (await stat(out)).size };
    const type = compressionOf(key) === 'none' ? TABULAR_TYPES[format] : typeOf(key);
    const chunks = () => spoolChunks(made);
    await bucket.put({ key, type, metadata: factsOf(dataset), length: made.bytes, chunks }, dataset.confirm);
  } finally {
    await rm(out, { force: true });
  }
}

function factsOf({ metadata: { upload_id, timestamp, sha256, records } }: Dataset): Content['metadata'] {
  return { 'upload-id': upload_id, timestamp, sha256, records: String(records) };
}

function contentOf(dataset: Dataset, key: string): Content {
  const { spool, metadata } = dataset;
  const lines = isLines(key);
  return {
    key,
    type: typeOf(key),
    metadata: factsOf(dataset),
    length: lines ? spool.bytes : envelopeLength(spool, metadata),
    chunks: () => (lines ? spoolChunks(spool) : envelopeChunks(spool, metadata)),
  };
}

function typeOf(key: string): string {
  const compression = compressionOf(key);
  if (compression !== 'none') return `application/${compression}`;
  return isLines(key) ? 'application/x-ndjson' : 'application/json';
}

function probeNames(context: OpenContext, tag: string): TemplateValues {
  return { uuid: '00000000-0000-4000-8000-000000000000', tag, tenancy: context.tenancy, at: context.at };
}

/** Puts, looks up and deletes a small object beside the backups. */
async function probe(bucket: Bucket, layout: Layout, context: OpenContext): Promise<void> {
  const beside = dirname(keyOf(layout, backupTemplate(layout), probeNames(context, 'probe')));
  const key = `${beside}/${PROBE}`.replace(/^\.\//, '');
  const place = layout.place(key);
  await bucket.put(small(key, 'text/plain', PROBE), unasked);
  if ((await bucket.head(key)) === undefined) {
    throw new CollectError('store', `${place} was written but is not there`, {
      mend: 'check what the bucket does with new objects',
    });
  }
  await bucket.delete(key).catch((error: unknown) => {
    if (!(error instanceof CollectError) || error.code !== 'denied') throw error;
    context.warn(`${place} stays, as these credentials lack ${layout.deleting}; only this check uses it`);
  });
}

// Bodies

/** The content as it goes out, compressed as its key's end says; fails when it is not as long as it should be. */
export function bodyOf(content: Content): AsyncIterable<Uint8Array> {
  return compress(wholeChunks(content.chunks(), content), compressionOf(content.key));
}

/** The bytes in blocks of one size; the last may be shorter. */
export async function* blocksOf(source: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Buffer> {
  let block = Buffer.allocUnsafe(size);
  let filled = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      const part = chunk.subarray(at, at + size - filled);
      block.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < size) continue;
      yield block;
      block = Buffer.allocUnsafe(size);
      filled = 0;
    }
  }
  if (filled > 0) yield block.subarray(0, filled);
}

/** Runs the content through an upload; when the content itself fails, that is the error. */
export async function fed(
  content: Content,
  upload: (body: Readable, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const chunks = content.chunks();
  const abort = new AbortController();
  let failure: unknown;
  const whole = wholeChunks(chunks, content, (error) => {
    failure = error;
  });
  const body = Readable.from(compress(whole, compressionOf(content.key)), { objectMode: false });
  body.on('error', () => abort.abort());
  try {
    await upload(body, abort.signal);
  } catch (error) {
    throw failure ?? error;
  } finally {
    body.destroy();
    await chunks.return(undefined); // a body that was never read has not begun
  }
}

/** The chunks, as long as together they are as long as they should be. */
export async function* wholeChunks(
  chunks: AsyncGenerator<Uint8Array>,
  { key, length }: Content,
  failed: (error: unknown) => void = () => undefined,
): AsyncGenerator<Uint8Array> {
  function fail(error: unknown): never {
    const told = unreadable(error);
    failed(told);
    throw told;
  }
  try {
    // By hand, as an upload that gives up throws its own error into this generator.
    for (let size = 0; ; ) {
      const next = await chunks.next().catch(fail);
      if (next.done === true) {
        if (size === length) return;
        fail(new CollectError('defect', `${key} came out as ${size} bytes, not ${length}`, { mend: 'report it' }));
      }
      size += next.value.length;
      yield next.value;
    }
  } finally {
    await chunks.return(undefined);
  }
}

function unreadable(failure: unknown): unknown {
  if (failure instanceof CollectError) return failure;
  const code = (failure as NodeJS.ErrnoException).code ?? (failure as Error).name;
  return new CollectError('store', `the spool cannot be read (${code})`, { mend: 'check the disk', cause: failure });
}

/** The bytes of an object, inflated as the end of its name says; what breaks it is told by `explain`. */
export function opened(
  body: AsyncIterable<Uint8Array>,
  place: string,
  explain: (thrown: unknown) => unknown,
): AsyncIterable<Uint8Array> {
  const raw = translated(body, explain);
  const compression = compressionOf(place);
  if (compression === 'none') return raw;
  return compression === 'gzip' ? gunzipped(raw, place) : unzstd(raw, place);
}

async function* translated(
  body: AsyncIterable<Uint8Array>,
  explain: (thrown: unknown) => unknown,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    throw explain(error);
  }
}

async function* gunzipped(body: AsyncIterable<Uint8Array>, place: string): AsyncGenerator<Uint8Array> {
  try {
    yield* gunzip(body);
  } catch (cause) {
    if (cause instanceof CollectError) throw cause;
    throw new CollectError('store', `${place} is no whole gzip`, {
      mend: 'restore an earlier version of the object',
      cause,
    });
  }
}
