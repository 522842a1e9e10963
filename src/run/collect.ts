import {
  type Children,
  type Context,
  type Cursor,
  type Custom,
  isCustom,
  type Lag,
  type Listing,
  parentOf,
  requestOf,
} from '../collectors/collector.ts';
import { type Spool, SpoolWriter, spoolRecords } from '../envelope/spool.ts';
import { asCollectError, CollectError } from '../errors.ts';
import type { Http, ListRequest, Meter } from '../http/client.ts';
import { dropping, keeping } from '../http/fields.ts';
import { header } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import { isObject, type Json, type JsonObject, numberAt, textAt, at as valueAt } from '../json.ts';
import type { PlannedDataset } from './activate.ts';
import { Identities } from './identities.ts';
import type { Journal, Mark } from './journal.ts';

/** A dataset as it came in, or why it did not. */
export type Collected =
  | { readonly verdict: 'complete' | 'empty'; readonly spool: Spool; readonly expected?: number }
  | {
      readonly verdict: 'failed' | 'denied' | 'quarantined';
      readonly error: CollectError;
      /** How many came all the same. */
      readonly records?: number;
    };

/** What a dataset's progress is told by. */
export interface Tally extends Meter {
  pages: number;
  records: number;
  expected?: number | undefined;
  /** Records that the settings leave out. */
  left_out: number;
  /** Measures how far behind reading is. */
  behind?: (moved: boolean) => Promise<Lag>;
}

/** A cursor that tells what was saved in it. */
export interface SavedCursor extends Cursor {
  saved(): Json;
}

/** What reading a dataset needs. */
export interface ReadOptions {
  readonly dataset: PlannedDataset;
  readonly settings: unknown;
  readonly http: Http;
  readonly tally: Tally;
  readonly signal: AbortSignal;
  readonly at: Date;
  readonly cursor: SavedCursor;
  readonly sleep: (seconds: number) => Promise<void>;
  readonly warn: (message: string) => void;
}

/** What collecting a dataset needs. */
export interface CollectOptions extends ReadOptions {
  /** Where the spool goes. */
  readonly path: string;
  /** What an interrupted run left of it, and what the next one finds. */
  readonly journal: Journal;
  /** Folder for what does not fit in memory. */
  readonly scratch: string;
  /** The parent's records, once it is complete. */
  readonly parent: Promise<Collected> | undefined;
}

/** A tally of nothing yet. */
export function newTally(): Tally {
  return { requests: 0, retries: 0, waited_ms: 0, bytes: 0, pages: 0, records: 0, left_out: 0 };
}

const ATTEMPTS = 2;
/** Pages are marked in the journal together when they come faster than this. */
const MARK_BYTES = 2 ** 20;
const MARK_MS = 20;
const PERMISSION_DENIED = new CollectError('denied', '').title;

/** Reads a dataset whole into its spool. What a second reading may heal (a dead cursor, totals that disagree) is read twice. */
export async function collect(options: CollectOptions): Promise<Collected> {
  const parent = await options.parent;
  if (parent !== undefined && 'error' in parent) {
    const message = `${options.dataset.tag} needs ${parentOf(options.dataset.definition)}, which is ${parent.verdict}: ${parent.error.message}`;
    return {
      verdict: 'failed',
      error: retold(parent.error, message),
    };
  }
  let { mark } = options.journal.left;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await readOnce(options, parent?.spool, mark);
    } catch (thrown) {
      options.signal.throwIfAborted();
      const error = asCollectError(thrown);
      // What an interrupted run left may no longer be good in ways that look like any other fault.
      const again = error.code === 'incomplete' || error.code === 'expired' || (mark !== undefined && isFault(error));
      if (again && attempt < ATTEMPTS) {
        options.warn(`${error.message}; reading it once more from the start`);
        options.journal.again();
        mark = undefined;
        continue;
      }
      return error.code === 'denied'
        ? { verdict: 'denied', error: withPermission(error, options.dataset) }
        : { verdict: 'failed', error };
    }
  }
}

function isFault({ code }: CollectError): boolean {
  return code === 'vendor' || code === 'refused';
}

/** Names the permission that is missing, where the vendor knows us and the resource says what it needs. */
function withPermission(error: CollectError, { definition }: PlannedDataset): CollectError {
  if (definition.needs === undefined || error.title !== PERMISSION_DENIED) return error;
  return new CollectError('denied', error.message, {
    mend: `give the credentials the permission ${definition.needs}`,
    cause: error,
  });
}

/** An error with another sentence. */
function retold({ code, title, mend }: CollectError, message: string): CollectError {
  return new CollectError(code, message, { title, ...(mend === undefined ? {} : { mend }) });
}

async function readOnce(options: CollectOptions, parent: Spool | undefined, from?: Mark): Promise<Collected> {
  const { dataset, tally, signal, journal } = options;
  const intake = await openIntake(options, from);
  const { spool, identities } = intake;
  try {
    for await (const batch of batchesOf(options, parent, from?.next)) {
      if (isPage(batch)) {
        for await (const lines of batch.lines()) await intake.take(lines);
        tally.records += batch.records;
      } else {
        await intake.take(batch.map((record) => lineOf(record, dataset.definition.secrets)));
        tally.records += batch.length;
      }
      tally.pages += 1;
      await identities?.flush();
      if (isPage(batch) && batch.next !== undefined) await markPage(options, spool, batch.next);
    }
    await assertWhole(options, identities);
    const finished = await spool.finish(tally.records);
    const { pages, expected, left_out } = tally;
    journal.whole({ spool: finished, pages, expected, left_out, cursor: options.cursor.saved() });
    return collectedFrom(finished, tally.expected);
  } catch (error) {
    await (signal.aborted ? spool.pause() : spool.abort());
    throw error;
  } finally {
    await identities?.close();
  }
}

/** A dataset that was read whole. */
export function collectedFrom(spool: Spool, expected: number | undefined): Collected {
  const verdict = spool.records === 0 ? 'empty' : 'complete';
  return { verdict, spool, ...(expected === undefined ? {} : { expected }) };
}

interface Intake {
  readonly spool: SpoolWriter;
  readonly identities: Identities | undefined;
  take(lines: readonly Uint8Array[]): Promise<void>;
}

/** Where records go: to the spool, past the count of identities; behind what an interrupted run left, if it did. */
async function openIntake({ dataset, tally, path, scratch }: CollectOptions, from?: Mark): Promise<Intake> {
  const { id, definition } = dataset;
  const identities = id.length > 0 && definition.repeats !== true ? new Identities(id, scratch) : undefined;
  tally.pages = from?.pages ?? 0;
  tally.records = from?.records ?? 0;
  tally.expected = from?.expected;
  tally.left_out = 0;
  const seen = async (chunk: Uint8Array) => {
    identities?.add([chunk]);
    await identities?.flush();
  };
  const spool = from === undefined ? await SpoolWriter.create(path) : await SpoolWriter.resume(path, from, seen);
  const take = (lines: readonly Uint8Array[]) => {
    identities?.add(lines);
    return spool.write(lines);
  };
  return { spool, identities, take };
}

/** Notes in the journal how far the dataset has come. */
async function markPage({ journal, tally }: CollectOptions, spool: SpoolWriter, next: Json): Promise<void> {
  const at = Date.now();
  if (spool.waiting < MARK_BYTES && at - (journal.last?.at ?? 0) < MARK_MS) return;
  const { records, pages, expected } = tally;
  const mark = { bytes: spool.bytes + spool.waiting, records, pages, expected, next, at };
  await spool.begin(() => journal.mark(mark));
}

/** What came, held against what was declared and against itself. */
async function assertWhole({ dataset, tally }: CollectOptions, identities: Identities | undefined): Promise<void> {
  const drift = 'drift' in dataset.definition ? (dataset.definition.drift ?? 0) : 0;
  if (tally.expected !== undefined && tally.records < Math.floor(tally.expected * (1 - drift))) {
    throw new CollectError('incomplete', `${tally.records} records came of ${tally.expected} that the vendor declared`);
  }
  const repeats = (await identities?.repeats()) ?? 0;
  if (repeats > 0) {
    throw new CollectError('incomplete', `${repeats} of ${tally.records} records came twice, so others may be missing`);
  }
}

/** Whether a batch is a page of the vendor's. */
export function isPage(batch: Page | readonly JsonObject[]): batch is Page {
  return 'fingerprint' in batch;
}

/** A dataset as it comes: pages, or records made by its collector. */
export async function* batchesOf(
  options: ReadOptions,
  parent: Spool | undefined,
  from?: Json,
): AsyncGenerator<Page | readonly JsonObject[]> {
  const { definition } = options.dataset;
  if (isCustom(definition)) yield* customBatches(options, definition, parent, from);
  else if (parent !== undefined) yield* childPages(options, definition as Children<unknown>, parent, from);
  else if (from !== null) yield* listPages(options, definition, {}, from);
}

/** What a generator yields; where one cannot go on from its pages, they do not say how. */
async function* customBatches(
  options: ReadOptions,
  definition: Custom<unknown>,
  parent: Spool | undefined,
  from: Json | undefined,
): AsyncGenerator<Page | readonly JsonObject[]> {
  if (from === null) return;
  for await (const batch of definition.collect(contextOf(options, parent, from))) {
    if (!isPage(batch) || definition.resumes === true) yield batch;
    else {
      const { next: _, ...page } = batch;
      yield page;
    }
  }
}

/** The pages of one list, held against the total that the vendor declares of it. */
async function* listPages(
  options: ReadOptions,
  listing: Listing<unknown>,
  kept: JsonObject,
  from?: Json,
): AsyncGenerator<Page> {
  const { tally, http } = options;
  let declared = numberAt(from, 'declared');
  let records = numberAt(from, 'records') ?? 0;
  const request = listRequest(options, listing, kept);
  for await (const page of http.pages(from === undefined ? request : { ...request, from })) {
    const total = totalOf(page, listing);
    if (total !== undefined) tally.expected = (tally.expected ?? 0) + total - (declared ?? 0);
    declared = total ?? declared;
    records += page.records;
    yield isObject(page.next) && declared !== undefined ? { ...page, next: { ...page.next, declared } } : page;
  }
  assertTotal(records, declared, listing);
}

function totalOf({ headers, body }: Page, { total }: Listing<unknown>): number | undefined {
  if (total === undefined) return undefined;
  return typeof total === 'string' ? numberAt(body, total) : numberAt({ told: header(headers, total.header) }, 'told');
}

/** @throws {CollectError} incomplete when fewer came than the vendor declared */
function assertTotal(records: number, declared: number | undefined, { path, drift = 0 }: Listing<unknown>): void {
  if (declared === undefined || records >= Math.floor(declared * (1 - drift))) return;
  throw new CollectError('incomplete', `${path}: ${records} records came of ${declared} that the vendor declared`);
}

/** The call of a listing with what is done to each of its records: secrets out, the parent's fields in. */
function listRequest(options: ReadOptions, listing: Listing<unknown>, kept: JsonObject): ListRequest {
  const edits = [
    ...(listing.secrets === undefined ? [] : [dropping(listing.secrets)]),
    ...(Object.keys(kept).length === 0 ? [] : [keeping(kept)]),
  ];
  return {
    ...requestOf(listing, options.settings),
    ...(edits.length === 0
      ? {}
      : { edit: (record: Uint8Array) => edits.reduce((bytes, change) => change(bytes), record) }),
  };
}

/** The API as a generator sees it: no page brings the fields that are secrets. */
function withoutSecrets({ http, dataset: { definition } }: ReadOptions): Http {
  if (definition.secrets === undefined) return http;
  const drop = dropping(definition.secrets);
  const edited = (request: ListRequest): ListRequest => {
    const { edit } = request;
    return { ...request, edit: edit === undefined ? drop : (record) => edit(drop(record)) };
  };
  return {
    concurrency: http.concurrency,
    json: (request) => http.json(request),
    page: (request) => http.page(edited(request)),
    pages: (request) => http.pages(edited(request)),
  };
}

/** A generator's own record as a line. */
export function lineOf(record: JsonObject, secrets: readonly string[] = []): Uint8Array {
  return dropping(secrets)(Buffer.from(`${JSON.stringify(record)}\n`));
}

/** Every parent's list, several at once, handed on in the parents' order. */
async function* childPages(
  options: ReadOptions,
  children: Children<unknown>,
  parent: Spool,
  from: Json | undefined,
): AsyncGenerator<Page> {
  const first = numberAt(from, 'parent') ?? 0;
  const open = async function* (): AsyncGenerator<AsyncGenerator<Page>> {
    let nth = -1;
    for await (const record of parentRecords(parent)) {
      if (children.where?.(record, options.settings) === false) continue;
      nth += 1;
      if (nth < first) continue;
      const kept = children.keep === undefined ? {} : keptOf(children.keep, record);
      const listing = { ...children, path: fill(children.path, record) };
      const inside = nth === first ? valueAt(from, 'from') : undefined;
      yield ofParent(nth, listPages(options, listing, kept, inside));
    }
  };
  yield* inOrder(open(), options.http.concurrency);
}

/** Pages that tell how to go on among the parents. */
async function* ofParent(parent: number, pages: AsyncGenerator<Page>): AsyncGenerator<Page> {
  for await (const page of pages) {
    const { next } = page;
    if (next === undefined) yield page;
    else yield { ...page, next: next === null ? { parent: parent + 1 } : { parent, from: next } };
  }
}

/** Runs several generators at once, each a page ahead, and hands on their pages in order. */
async function* inOrder(lists: AsyncGenerator<AsyncGenerator<Page>>, most: number): AsyncGenerator<Page> {
  const begun: { readonly list: AsyncGenerator<Page>; readonly first: Promise<IteratorResult<Page>> }[] = [];
  let done = false;
  try {
    for (;;) {
      while (!done && begun.length < most) {
        const next = await lists.next();
        done = next.done === true;
        if (next.done === true) break;
        const first = next.value.next();
        first.catch(() => undefined);
        begun.push({ list: next.value, first });
      }
      const head = begun.shift();
      if (head === undefined) return;
      for (let step = await head.first; step.done !== true; step = await head.list.next()) yield step.value;
    }
  } finally {
    await Promise.allSettled([lists.return(undefined), ...begun.map(({ list }) => list.return(undefined))]);
  }
}

async function* parentRecords(parent: Spool): AsyncGenerator<JsonObject> {
  for await (const line of spoolRecords(parent)) {
    const record: unknown = JSON.parse(line.toString('utf8'));
    if (isObject(record)) yield record;
  }
}

function keptOf(keep: Readonly<Record<string, string>>, record: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(keep).map(([field, path]) => [field, valueAt(record, path) ?? null]));
}

/** A path with `{name}` filled from a record. */
function fill(path: string, record: JsonObject): string {
  return path.replace(/\{([^}]+)\}/g, (_, name: string) => {
    const value = textAt(record, name);
    if (value === undefined) throw new CollectError('vendor', `a parent record has no '${name}' to fill ${path} with`);
    // A URL would be shortened by these, and lead elsewhere.
    if (/^\.{1,2}$/.test(value)) throw new CollectError('refused', `a parent record has the ${name} '${value}'`);
    return encodeURIComponent(value);
  });
}

function contextOf(options: ReadOptions, parent: Spool | undefined, from: Json | undefined): Context<unknown> {
  const { settings, signal, at, cursor, sleep, warn, tally } = options;
  return {
    settings,
    http: withoutSecrets(options),
    signal,
    at,
    from,
    cursor,
    sleep,
    warn,
    parents: () => {
      if (parent === undefined) throw new CollectError('defect', 'the resource names no parent');
      return parentRecords(parent);
    },
    expect: (records) => {
      tally.expected = records;
    },
    leaveOut: (records) => {
      tally.left_out += records;
    },
    behind: (measure) => {
      tally.behind = measure;
    },
  };
}
