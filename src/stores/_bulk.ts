import { setTimeout as pause } from 'node:timers/promises';
import { CollectError } from '../errors.ts';
import { at, numberAt, textAt } from '../json.ts';
import { type Call, type Engine, heard, mayPass, type Patience, patience, refusal, typeOf } from './_search.ts';

/** What a record becomes. */
export interface Doc {
  readonly id: string;
  /** The record's number, from 1. */
  readonly number: number;
  readonly record: Buffer;
  readonly source: Buffer;
  /** No other record has this id, so one that is there already is this one. */
  readonly own: boolean;
  /** The record stands in it as text alone, which no mapping can refuse. */
  readonly asText?: true;
}

/** Where documents go and in what portions. */
export interface Load {
  readonly index: string;
  readonly op: 'index' | 'create';
  readonly pipeline: string | undefined;
  /** Documents and bytes of a request, at most. */
  readonly threshold: number;
  readonly bytes: number;
  /** Milliseconds between requests. */
  readonly sleep: number;
}

/** What may be done about documents that were not taken; both give documents to send instead. */
export interface Remedies {
  /** For one that the engine cannot take as it is: the type of its error. */
  refused(doc: Doc, type: string): Doc;
  /** For those whose id is taken. */
  taken(docs: readonly Doc[]): Promise<readonly Doc[]>;
}

const REQUESTS_AT_ONCE = 2;

/** Sends documents, each until it is stored; throws once what is under way has ended. */
export async function load(engine: Engine, docs: AsyncIterable<Doc>, to: Load, remedies: Remedies): Promise<void> {
  const running = new Set<Promise<void>>();
  const width = to.sleep > 0 ? 1 : REQUESTS_AT_ONCE;
  let failure: { readonly cause: unknown } | undefined;
  let first = true;
  try {
    for await (const batch of batches(docs, to)) {
      if (running.size >= width) await Promise.race(running);
      if (failure !== undefined) break;
      if (!first && to.sleep > 0) await pause(to.sleep);
      first = false;
      const sending = send(engine, batch, to, remedies)
        .catch((cause: unknown) => {
          failure ??= { cause };
        })
        .finally(() => running.delete(sending));
      running.add(sending);
    }
  } finally {
    await Promise.all(running);
  }
  if (failure !== undefined) throw failure.cause;
}

async function* batches(docs: AsyncIterable<Doc>, { threshold, bytes }: Load): AsyncGenerator<readonly Doc[]> {
  let batch: Doc[] = [];
  let size = 0;
  for await (const doc of docs) {
    if (batch.length > 0 && (batch.length >= threshold || size + doc.source.length > bytes)) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push(doc);
    size += doc.source.length;
  }
  if (batch.length > 0) yield batch;
}

async function send(engine: Engine, batch: readonly Doc[], to: Load, remedies: Remedies): Promise<void> {
  const wait = patience();
  for (let left = batch; left.length > 0; ) {
    const sent = await tried(engine, left, to, wait);
    if (sent === 'unheard') continue;
    if (sent === 'too much') return halved(engine, left, to, remedies);
    const instead = sent.refused.map(({ doc, type }) => remedies.refused(doc, type));
    const renamed = sent.taken.length > 0 ? await remedies.taken(sent.taken) : [];
    // Those are new documents, which have all their tries before them.
    await send(engine, [...instead, ...renamed], to, remedies);
    left = sent.busy.map(({ doc }) => doc);
    const [busy] = sent.busy;
    if (busy !== undefined) await wait.again(refusal(engine, busy.status, busy.type), true, sent.retryAfter);
  }
}

async function halved(engine: Engine, batch: readonly Doc[], to: Load, remedies: Remedies): Promise<void> {
  const middle = Math.ceil(batch.length / 2);
  await send(engine, batch.slice(0, middle), to, remedies);
  await send(engine, batch.slice(middle), to, remedies);
}

interface Sorted {
  readonly refused: readonly { readonly doc: Doc; readonly type: string }[];
  readonly taken: readonly Doc[];
  readonly busy: readonly { readonly doc: Doc; readonly status: number; readonly type: string | undefined }[];
  readonly retryAfter: string | undefined;
}

/** One request. A batch that the engine cannot swallow at once is too much, one document that it cannot is an error. */
async function tried(
  engine: Engine,
  docs: readonly Doc[],
  to: Load,
  wait: Patience,
): Promise<Sorted | 'unheard' | 'too much'> {
  const said = await heard(engine, callOf(docs, to), wait);
  if (said === undefined) return 'unheard';
  if (said.status < 300) return { ...sorted(engine, docs, said.body), retryAfter: said.retryAfter };
  const type = typeOf(said.body);
  if (said.status === 413 && docs.length > 1) return 'too much';
  const error = said.status === 413 ? tooLarge(engine, docs) : refusal(engine, said.status, type);
  if (!mayPass(said.status, type)) throw error;
  await wait.again(error, true, said.retryAfter);
  return said.status === 429 && wait.tries > 2 && docs.length > 1 ? 'too much' : 'unheard';
}

function tooLarge(engine: Engine, [doc]: readonly Doc[]): CollectError {
  return new CollectError('store', `${engine.url}: record ${doc?.number} is larger than a request may be`, {
    mend: 'raise http.max_content_length of the server',
  });
}

function callOf(docs: readonly Doc[], { index, op, pipeline }: Load): Call {
  const lines: Buffer[] = [];
  for (const { id, source } of docs) {
    lines.push(Buffer.from(`{"${op}":{"_id":${JSON.stringify(id)}}}\n`), source, LF);
  }
  const query = {
    filter_path: 'items.*.status,items.*.error.type',
    ...(pipeline === undefined ? {} : { pipeline }),
  };
  return { method: 'POST', path: `/${encodeURIComponent(index)}/_bulk`, query, body: Buffer.concat(lines) };
}

const LF = Buffer.from('\n');

/** The documents by what became of them; the answer's items stand in their order. */
function sorted(engine: Engine, docs: readonly Doc[], body: unknown): Omit<Sorted, 'retryAfter'> {
  const items = at(body, 'items');
  if (!Array.isArray(items) || items.length !== docs.length) {
    throw new CollectError('store', `${engine.url}: the answer does not tell what became of each document`, {
      mend: `check ${engine.address}, which must lead to ${engine.title} itself`,
    });
  }
  const refused: { readonly doc: Doc; readonly type: string }[] = [];
  const taken: Doc[] = [];
  const busy: { readonly doc: Doc; readonly status: number; readonly type: string | undefined }[] = [];
  for (const [n, doc] of docs.entries()) {
    const item = Object.values(items[n] as object)[0] as unknown;
    const status = numberAt(item, 'status') ?? 0;
    const type = typeOf(at(item, 'error'));
    if (status >= 200 && status < 300) continue;
    if (status === 409) {
      if (!doc.own) taken.push(doc);
    } else if (mayPass(status, type)) busy.push({ doc, status, type });
    else if (
      (status === 400 || status === 413) &&
      doc.asText !== true &&
      !/^index_(not_found|closed)_exception$/.test(type ?? '')
    )
      refused.push({ doc, type: type ?? String(status) });
    else throw unstorable(engine, doc, status, type);
  }
  return { refused, taken, busy };
}

function unstorable(engine: Engine, doc: Doc, status: number, type: string | undefined): CollectError {
  if (status !== 400) return refusal(engine, status, type);
  return new CollectError('store', `${engine.url}: record ${doc.number} cannot be stored (${type ?? status})`, {
    mend: 'mend the mapping, alias or pipeline of the index, or exclude the resource',
  });
}

/** Those whose id another record has, told by the number stored with it; `said` is the answer to an `_mget`. */
export function robbed(said: unknown, docs: readonly Doc[], numberPath: string): readonly Doc[] {
  const numbers = new Map<string, number | undefined>();
  const found = at(said, 'docs');
  for (const one of Array.isArray(found) ? found : []) {
    const id = textAt(one, '_id');
    if (id !== undefined) numbers.set(id, numberAt(at(one, '_source'), numberPath));
  }
  return docs.filter(({ id, number }) => numbers.get(id) !== number);
}
