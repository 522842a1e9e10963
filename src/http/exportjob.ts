import { CollectError } from '../errors.ts';
import { type Json, textAt } from '../json.ts';
import type { Http, ListRequest, Request } from './client.ts';
import type { Page } from './page.ts';

/** Where an export stands. */
export interface JobStatus {
  readonly state: 'working' | 'finished' | 'failed';
  /** Numbers of the chunks that can be fetched. */
  readonly chunks: readonly string[];
  /** How many chunks are lost. */
  readonly lost: number;
  /** How many chunks can be fetched, where that is declared. */
  readonly declared?: number | undefined;
  /** How many chunks there are in all, where that is declared, and how many of them hold nothing. */
  readonly total?: number | undefined;
  readonly empty?: number | undefined;
}

/** A vendor's export: asked for, polled, fetched in chunks. */
export interface ExportJob {
  /** Asks for it. To be asked again must do no harm. */
  readonly start: Request;
  /** Path of its id in the answer. */
  readonly id: string;
  /** Name of the field that holds the id of the same export under way, when the answer is 409. */
  readonly running?: string;
  status(id: string): Request;
  /** @throws {CollectError} vendor when the answer makes no sense */
  read(body: unknown): JobStatus;
  /** A list of one page. */
  chunk(id: string, chunk: string): ListRequest;
  cancel(id: string): Request;
}

/** How long to wait, in seconds. */
export interface Patience {
  readonly poll: number;
  readonly timeout: number;
  /** The variable that sets the timeout. */
  readonly setting: string;
}

/** What an export needs of its collector's context. */
interface Way {
  readonly http: Http;
  readonly from: Json | undefined;
  sleep(seconds: number): Promise<void>;
}

/** Chunks that came, by id, with their records; and how often one did not. */
interface Fetched {
  readonly records: Map<string, number>;
  readonly fingerprints: Set<string>;
  readonly misses: Map<string, number>;
}

/** Chunks fetched at once. */
const AT_ONCE = 4;
/** A chunk that is listed may still be unknown for a moment. */
const MISSES = 5;

/**
 * The pages of an export, a chunk each, as they become available. An export that is still under way when nobody wants it
 * any more, or for too long, is cancelled.
 */
export async function* exportPages(
  { http, sleep, from }: Way,
  job: ExportJob,
  patience: Patience,
): AsyncGenerator<Page> {
  const id = textAt(from, 'id') ?? (await start(http, job));
  const came = [...chunksIn(textAt(from, 'holding'), 1), ...chunksIn(textAt(from, 'empty'), 0)];
  const fetched: Fetched = { records: new Map(came), fingerprints: new Set(), misses: new Map() };
  const until = Date.now() + patience.timeout * 1000;
  const late = new CollectError('timeout', `the export did not end within ${patience.timeout} s`, {
    mend: `raise ${patience.setting} if it may take longer`,
  });
  let unwanted = true;
  try {
    for (;;) {
      const status = job.read((await http.json(job.status(id))).body);
      if (status.state !== 'working') unwanted = false;
      if (status.state === 'failed') throw new CollectError('incomplete', 'the export failed or was cancelled');
      yield* freshChunks(http, job, id, status.chunks, fetched);
      if (status.state === 'finished' && status.chunks.every((chunk) => fetched.records.has(chunk))) {
        assertWhole(status, fetched);
        return;
      }
      if (status.state === 'working' && Date.now() >= until) throw late;
      await sleep(patience.poll);
    }
  } catch (error) {
    if (error !== late) unwanted = false;
    throw error;
  } finally {
    if (unwanted) await http.json(job.cancel(id)).catch(() => undefined);
  }
}

/** Starts an export, or joins the same one that is under way. */
async function start(http: Http, job: ExportJob): Promise<string> {
  const running = job.running === undefined ? undefined : recalling(job.running);
  const answer = await http.json({
    ...job.start,
    repeatable: true,
    errors: [
      ...(running === undefined ? [] : [{ status: 409, body: running.pattern, as: 'empty' } as const]),
      ...(job.start.errors ?? []),
    ],
  });
  const id = textAt(answer.body, job.id) ?? running?.found();
  if (id !== undefined) return id;
  throw new CollectError('vendor', `${job.start.path} was answered without an id of the export (${job.id})`);
}

/** A rule's pattern that remembers a field's text: rules alone get to see the body of an error. */
function recalling(field: string): { readonly pattern: RegExp; found(): string | undefined } {
  const pattern = new RegExp(`"${field}"\\s*:\\s*"([^"]+)"`);
  let found: string | undefined;
  pattern.test = (text) => {
    found = pattern.exec(text)?.[1];
    return found !== undefined;
  };
  return { pattern, found: () => found };
}

/** The chunks that were not fetched yet, several at once, in their order. One that is not there is left for later. */
async function* freshChunks(
  http: Http,
  job: ExportJob,
  id: string,
  chunks: readonly string[],
  fetched: Fetched,
): AsyncGenerator<Page> {
  const waiting = chunks.filter((chunk) => !fetched.records.has(chunk));
  const flights: { readonly chunk: string; readonly page: Promise<Page> }[] = [];
  const begin = () => {
    const chunk = waiting.shift();
    if (chunk === undefined) return;
    const request = job.chunk(id, chunk);
    const page = http.page({ ...request, errors: [{ status: 404, as: 'empty' }, ...(request.errors ?? [])] });
    page.catch(() => undefined);
    flights.push({ chunk, page });
  };
  while (flights.length < AT_ONCE && waiting.length > 0) begin();
  try {
    for (let flight = flights.shift(); flight !== undefined; flight = flights.shift()) {
      const page = await flight.page;
      begin();
      if (page.status === 404) noteMiss(flight.chunk, fetched);
      else {
        noteChunk(flight.chunk, page, fetched);
        yield { ...page, next: { id, ...spansOf(fetched) } };
      }
    }
  } finally {
    for (const { page } of flights) page.then((unread) => unread.discard()).catch(() => undefined);
  }
}

/** The chunks that came, with and without records, as spans of their numbers: `1-57 60-60`. */
function spansOf({ records }: Fetched): { readonly holding: string; readonly empty: string } {
  const spans = (holding: boolean) => {
    const numbers = [...records].filter(([, count]) => count > 0 === holding).map(([chunk]) => Number(chunk));
    const ends = numbers.sort((a, b) => a - b).filter((number, i) => numbers[i + 1] !== number + 1);
    const starts = numbers.filter((number, i) => numbers[i - 1] !== number - 1);
    return starts.map((start, i) => `${start}-${ends[i]}`).join(' ');
  };
  return { holding: spans(true), empty: spans(false) };
}

function* chunksIn(spans: string | undefined, records: number): Generator<[string, number]> {
  for (const span of spans?.split(' ') ?? []) {
    const [first = 0, last = -1] = span.split('-').map(Number);
    for (let chunk = first; chunk <= last; chunk += 1) yield [String(chunk), records];
  }
}

function noteMiss(chunk: string, { misses }: Fetched): void {
  const times = (misses.get(chunk) ?? 0) + 1;
  misses.set(chunk, times);
  if (times >= MISSES) throw new CollectError('expired', `chunk ${chunk} of the export is gone`);
}

function noteChunk(chunk: string, { records, fingerprint }: Page, fetched: Fetched): void {
  fetched.records.set(chunk, records);
  if (records === 0) return;
  if (fetched.fingerprints.has(fingerprint)) {
    throw new CollectError('incomplete', `chunk ${chunk} of the export holds what another one held`);
  }
  fetched.fingerprints.add(fingerprint);
}

/** What came, held against what was declared. Chunks that hold nothing may be listed or not. */
function assertWhole({ lost, declared = 0, total = 0, empty = 0 }: JobStatus, { records }: Fetched): void {
  const holding = [...records.values()].filter((count) => count > 0).length;
  if (lost > 0) throw new CollectError('incomplete', `${lost} chunks of the export failed or were cancelled`);
  if (records.size >= declared && (records.size >= total || holding >= total - empty)) return;
  throw new CollectError('incomplete', `${records.size} chunks came of ${Math.max(declared, total)} of the export`);
}
