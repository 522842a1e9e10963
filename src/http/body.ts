import { gunzip, limited } from '../envelope/encoding.ts';
import { CollectError } from '../errors.ts';
import type { Json } from '../json.ts';
import type { Answer } from './auth.ts';
import type { ListRequest, Meter } from './client.ts';
import { type Headers, header } from './pace.ts';
import { type Page, PageBuffer } from './page.ts';
import { RecordSplitter } from './records.ts';

/** An answer whose body is still to come. */
export interface Incoming {
  readonly status: number;
  readonly headers: Headers;
  readonly url: URL;
  readonly body: AsyncIterable<Uint8Array>;
}

/** What a reader makes of a good answer, and the JSON that rules look at. */
export interface Read<T> {
  readonly value: T;
  readonly body: Json;
}

const JSON_TEXT = 64 * 2 ** 20;

/** A body inflated, counted as it comes over the wire, and bounded. */
export function contentOf(
  body: AsyncIterable<Uint8Array>,
  headers: Headers,
  meter: Meter,
  most: number,
): AsyncIterable<Uint8Array> {
  const counted = count(body, meter);
  const encoding = (header(headers, 'content-encoding') ?? 'identity').toLowerCase();
  const plain = encoding === 'gzip' || encoding === 'x-gzip' ? gunzip(counted) : counted;
  return limited(plain, most, 'the answer');
}

async function* count(body: AsyncIterable<Uint8Array>, meter: Meter): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    meter.bytes += chunk.length;
    yield chunk;
  }
}

/** A small JSON answer, whole. */
export async function readAnswer({ status, headers, body }: Incoming): Promise<Read<Answer>> {
  const json = parseJson(await readText(body, JSON_TEXT), headers);
  return { value: { status, headers, body: json }, body: json };
}

/** The records of an answer as a page. */
export async function readPage(
  incoming: Incoming,
  request: ListRequest,
  bounds: { readonly maxRecord: number; readonly scratch: string },
): Promise<Read<Page>> {
  const options = { maxRecord: bounds.maxRecord, ...(request.edit === undefined ? {} : { edit: request.edit }) };
  const splitter = request.split?.(options) ?? new RecordSplitter({ path: request.records, ...options });
  const buffer = new PageBuffer(bounds.scratch);
  try {
    for await (const chunk of request.single === true ? asList(incoming.body) : incoming.body) {
      const full = buffer.add(splitter.write(chunk));
      if (full !== undefined) await full;
    }
    const { records, body, found } = splitter.end();
    const { url, status, headers } = incoming;
    const value = await buffer.finish({ records, found, body, url, status, headers });
    return { value, body };
  } catch (error) {
    await buffer.discard();
    throw error;
  }
}

/** A body that is one record, as a list of one. */
async function* asList(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield Buffer.from('[');
  yield* body;
  yield Buffer.from(']');
}

/** The text of a body; with `cut`, what is past the limit is left unread instead of refused. */
export async function readText(body: AsyncIterable<Uint8Array>, most: number, cut = false): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    parts.push(chunk);
    size += chunk.length;
    if (size <= most) continue;
    if (cut) break;
    throw new CollectError('refused', `the answer is larger than ${Math.round(most / 2 ** 20)} MiB`);
  }
  return Buffer.concat(parts).toString('utf8');
}

function parseJson(text: string, headers: Headers): Json {
  if (text.trim() === '') return null;
  try {
    return JSON.parse(text) as Json;
  } catch {
    // The parser's own error quotes the body.
    const html = /html/i.test(header(headers, 'content-type') ?? '') || text.trimStart().startsWith('<');
    throw new CollectError('vendor', html ? 'the answer is HTML, not JSON' : 'the answer is no JSON');
  }
}
