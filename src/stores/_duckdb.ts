import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import type { DuckDBConnection, DuckDBValue } from '@duckdb/node-api';
import { assertWhole, type Spool, spoolChunks, spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { mendEscapes, type Tally } from './_escapes.ts';
import type { Dataset } from './store.ts';

/** How the spool is read: DuckDB's readers hold twice the largest object each. */
export interface Source {
  readonly path: string;
  readonly largest: number;
}

/** A DuckDB of this process, whose database is in memory. */
export interface Engine {
  readonly connection: DuckDBConnection;
  close(): void;
}

const THREADS = 2;
const USUAL = 8 * 2 ** 20;
// Else the allocator keeps what a query has let go of, beyond the memory limit.
const FLUSH = '32MB';

/** Starts DuckDB with a limit in MB; what does not fit goes into a folder that it makes and removes. */
export async function openEngine(memory: number, overflow: string): Promise<Engine> {
  const { DuckDBInstance } = await import('@duckdb/node-api');
  const instance = await DuckDBInstance.create(':memory:', {
    memory_limit: `${memory}MB`,
    threads: String(THREADS),
    preserve_insertion_order: 'false',
    autoinstall_known_extensions: 'false',
    allocator_flush_threshold: FLUSH,
    allocator_bulk_deallocation_flush_threshold: FLUSH,
    temp_directory: overflow,
  });
  try {
    const connection = await instance.connect();
    return {
      connection,
      close() {
        connection.closeSync();
        instance.closeSync();
      },
    };
  } catch (cause) {
    instance.closeSync();
    throw cause;
  }
}

/** An SQL text. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** The options every reader of the spool takes. */
export function reading({ path, largest }: Source): string {
  return `${literal(path)}, maximum_object_size = ${largest}, compression = 'uncompressed'`;
}

/** The rows of a small result. */
export async function rowsOf(connection: DuckDBConnection, sql: string, values: Record<string, DuckDBValue> = {}) {
  return (await connection.runAndReadAll(sql, values)).getRowObjectsJson();
}

/** What DuckDB said. */
export function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/**
 * Works on the spool of a dataset, again with more room for what is longer than usual, and on a copy without the
 * escapes of lone surrogates, which DuckDB refuses.
 * @param at where the dataset goes, for errors
 * @returns what the work came to, and what the operator should know
 */
export async function fromSpool<T>(
  { connection, memory }: { readonly connection: DuckDBConnection; readonly memory: number },
  dataset: Dataset,
  at: string,
  work: (source: Source) => Promise<T>,
): Promise<{ readonly result: T; readonly notes: readonly string[] }> {
  const { spool, metadata } = dataset;
  await assertWhole(spool);
  const mended = `${spool.path}.${metadata.upload_id}.mended`;
  const tally: Tally = { replaced: 0 };
  let source: Source = { path: spool.path, largest: Math.min(spool.bytes, USUAL) };
  try {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return { result: await work(source), notes: replacedNote(tally) };
      } catch (cause) {
        const message = messageOf(cause);
        if (attempt > 3 || cause instanceof CollectError) throw cause;
        if (message.includes('maximum_object_size')) source = await widened(connection, memory, spool, source);
        else if (message.includes('surrogate')) source = { ...source, path: await mend(spool, mended, tally) };
        else if (message.includes('Out of Memory')) {
          await connection.run(`SET threads = 1; SET memory_limit = '${6 * memory}MB'`);
        } else throw message.includes('Malformed JSON') ? await refusedRecord(at, dataset) : cause;
      }
    }
  } finally {
    await rm(mended, { force: true });
  }
}

function replacedNote({ replaced }: Tally): readonly string[] {
  return replaced === 0 ? [] : [`${replaced} escapes of lone surrogates became U+FFFD, as DuckDB refuses them`];
}

/** Room for the longest record, read by one thread. */
async function widened(connection: DuckDBConnection, memory: number, spool: Spool, source: Source): Promise<Source> {
  let largest = source.largest;
  for await (const record of spoolRecords(spool)) largest = Math.max(largest, record.length + 1);
  await connection.run(`SET threads = 1; SET memory_limit = '${memory + Math.ceil((largest * 6) / 1e6)}MB'`);
  return { ...source, largest };
}

async function mend(spool: Spool, path: string, tally: Tally): Promise<string> {
  tally.replaced = 0;
  await pipeline(mendEscapes(spoolChunks(spool), false, tally), createWriteStream(path, { mode: 0o600 }));
  return path;
}

/** Names the record that is no JSON. */
async function refusedRecord(at: string, { spool }: Dataset): Promise<CollectError> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let which = 'a record';
  let number = 0;
  for await (const record of spoolRecords(spool)) {
    number += 1;
    try {
      JSON.parse(decoder.decode(record));
    } catch {
      which = `record ${number}`;
      break;
    }
  }
  return new CollectError('store', `${at}: DuckDB refuses ${which}: it is no valid JSON in UTF-8`, {
    mend: 'nothing of this upload was stored; report the record to the vendor or exclude the resource',
  });
}

/** What is said of a message that matches. */
export type Sentence = readonly [pattern: RegExp, what: string, mend: string];

const SENTENCES: readonly Sentence[] = [
  [/No space left|disk full/i, 'cannot be written: no space left', 'free space on that disk'],
  [/Permission denied/i, 'cannot be opened: permission denied', 'give this user the right to write there'],
  [/Out of Memory/i, 'cannot take the upload: DuckDB ran out of memory', 'exclude the resource with the huge records'],
];

/** A sentence for what DuckDB said, without its words, as they may quote data. */
export function engineError(path: string, cause: unknown, own: readonly Sentence[], last: string): unknown {
  if (cause instanceof CollectError) return cause;
  const message = messageOf(cause);
  for (const [pattern, what, mend] of [...own, ...SENTENCES]) {
    if (pattern.test(message)) return new CollectError('store', `${path} ${what}`, { mend });
  }
  const code = (cause as NodeJS.ErrnoException).code;
  const kind = code ?? /^([A-Z]\w+( \w+)? Error):/.exec(message)?.[1];
  return kind === undefined ? cause : new CollectError('store', `${path} cannot be written (${kind})`, { mend: last });
}
