import { createHash } from 'node:crypto';
import { type Spool, spoolChunks, spoolRecords } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { at } from '../json.ts';
import type { Doc } from './_bulk.ts';
import { damaged } from './_rows.ts';
import type { Dataset } from './store.ts';

/** The field that holds what is known of the upload, beside the record's own. */
export const FACTS = '_cyber_collect';

/** The field that holds a record as text, where it cannot be fields. */
const TEXT = '_record';

/** How a dataset's records become documents. */
export interface Making {
  readonly dataset: Dataset;
  /** Dotted paths of what tells records apart. */
  readonly key: readonly string[];
  /** Data streams want a time in each document. */
  readonly stream: boolean;
}

/** A dataset's records as documents; throws behind the last one when the spool is not what was collected. */
export async function* docsOf(making: Making): AsyncGenerator<Doc> {
  const { dataset, key } = making;
  const hash = createHash('sha256');
  let number = 0;
  for await (const record of spoolRecords(dataset.spool)) {
    hash.update(record).update(LF);
    number += 1;
    yield docOf(making, record, number, key.length === 0 ? undefined : keyOf(parsed(dataset, record, number), key));
  }
  if (number !== dataset.spool.records) throw damaged(dataset.tag, `${number} of ${dataset.spool.records} records`);
  if (hash.digest('hex') !== dataset.spool.sha256) throw damaged(dataset.tag, 'other records');
}

/**
 * Reads a spool through, for what is shown record by record.
 * @throws {CollectError} store when it is not what was collected
 */
export async function assertIntact({ tag, spool }: { readonly tag: string; readonly spool: Spool }): Promise<void> {
  const hash = createHash('sha256');
  for await (const chunk of spoolChunks(spool)) hash.update(chunk);
  if (hash.digest('hex') !== spool.sha256) throw damaged(tag, 'other records');
}

const LF = Buffer.from('\n');
const MOST_ID = 512; // bytes

/**
 * In an index of its own a document goes by the record's key. Events are among those of other runs: one that is
 * collected again has the same key and content, and so the same id; one that has changed since is another.
 */
function docOf(making: Making, record: Buffer, number: number, key: string | undefined): Doc {
  const { kind, tag, metadata } = making.dataset;
  const source = sourceOf(making, record, number) ?? textSource(making, record, number);
  if (key === undefined) return { id: `${metadata.upload_id}-${number}`, number, record, source, own: true };
  if (kind === 'events') {
    const hash = createHash('sha256')
      .update(JSON.stringify([metadata.tenancy, tag, key]))
      .update(record);
    return { id: hash.digest('base64url'), number, record, source, own: true };
  }
  const id = Buffer.byteLength(key) <= MOST_ID ? key : createHash('sha256').update(key).digest('base64url');
  return { id, number, record, source, own: false };
}

/** The document of a record whose key another record has too. */
export function renamed(doc: Doc, { dataset }: Making): Doc {
  return { ...doc, id: `${dataset.metadata.upload_id}-${doc.number}`, own: true };
}

/** The document with the record as text, which keeps what a mapping, a repeated key or too deep a nesting would not. */
export function asText(doc: Doc, making: Making): Doc {
  return { ...doc, source: textSource(making, doc.record, doc.number), asText: true };
}

/** The value of one path as it is, of several as a list; undefined when one is missing or no plain value. */
function keyOf(record: unknown, paths: readonly string[]): string | undefined {
  const values = paths.map((path) => at(record, path));
  const plain = values.every(
    (value) => (typeof value === 'string' && value !== '') || Number.isSafeInteger(value) || typeof value === 'boolean',
  );
  if (!plain) return undefined;
  return values.length === 1 ? String(values[0]) : JSON.stringify(values);
}

function parsed(dataset: Dataset, record: Buffer, number: number): unknown {
  try {
    return JSON.parse(STRICT.decode(record));
  } catch {
    throw new CollectError('store', `${dataset.tag}: record ${number} is no valid JSON`, {
      mend: 'nothing of this upload is shown; report the record to the vendor or exclude the resource',
    });
  }
}

const STRICT = new TextDecoder('utf-8', { fatal: true });
const OPEN = 0x7b;
const CLOSE = 0x7d;
const SPACE = 0x20;

/** A record that is an object, with our field behind its own; undefined for what is no object. */
function sourceOf(making: Making, record: Buffer, number: number): Buffer | undefined {
  let first = 0;
  let last = record.length - 1;
  while (first < last && (record[first] ?? 0) <= SPACE) first += 1;
  while (last > first && (record[last] ?? 0) <= SPACE) last -= 1;
  if (record[first] !== OPEN || record[last] !== CLOSE) return undefined;
  let end = last;
  while (end > first && (record[end - 1] ?? 0) <= SPACE) end -= 1;
  const timed = making.stream && !record.includes('"@timestamp"');
  const comma = end - 1 === first ? '' : ',';
  return Buffer.concat([record.subarray(first, end), Buffer.from(`${comma}${added(making, number, timed)}`)]);
}

function textSource(making: Making, record: Buffer, number: number): Buffer {
  parsed(making.dataset, record, number);
  const text = JSON.stringify(STRICT.decode(record));
  return Buffer.from(`{"${TEXT}":${text},${added(making, number, making.stream)}`);
}

function added({ dataset }: Making, number: number, timed: boolean): string {
  const { tenancy, upload_id, timestamp } = dataset.metadata;
  const facts = JSON.stringify({ tenancy, tag: dataset.tag, upload_id, timestamp, record: number });
  return `${timed ? `"@timestamp":"${timestamp}",` : ''}"${FACTS}":${facts}}`;
}

/** What an index knows of these fields: the facts can be searched, the text is only kept. */
export const MAPPED = {
  [TEXT]: { type: 'object', enabled: false },
  [FACTS]: {
    dynamic: false,
    properties: {
      tenancy: { type: 'keyword' },
      tag: { type: 'keyword' },
      upload_id: { type: 'keyword' },
      timestamp: { type: 'date' },
      record: { type: 'long' },
    },
  },
} as const;
