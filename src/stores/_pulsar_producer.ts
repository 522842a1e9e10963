import { setTimeout as pause } from 'node:timers/promises';
import { asCollectError, CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';
import { isPassing, nameOf, type Position, type Pulsar, positionOf, type Socket, type Topic } from './_pulsar.ts';

/** A message to be sent. */
export interface Outgoing {
  readonly payload: Uint8Array;
  /** JSON text of an object of texts. */
  readonly properties: string;
  readonly key?: string | undefined;
}

/** Where a series of messages goes, and how. */
export interface Publishing {
  readonly topic: Topic;
  /**
   * Name of the series: another attempt at the same messages in the same order bears it too, so that a broker that
   * de-duplicates counts them once.
   */
  readonly series: string;
  /** Messages that the service may put into one entry. */
  readonly batch: number;
  /** Messages that may be without an answer. */
  readonly pending: number;
  warn(message: string): void;
}

/** The service takes frames of 1 MiB by default, and counts all of the JSON. */
export const MOST_FRAME = 1_040_000;
const MOST_PENDING_BYTES = 8 * 2 ** 20;
/** Goes alone: should the broker refuse it for its size, nothing behind it has been taken. */
const LARGE = 128 * 1024;
const TRIES = 10;
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 10_000;

/**
 * How far to trust that nothing was sent before. A broker that de-duplicates judges a batch by its first message: one
 * that it has drags along those behind it that it has not, and all are answered as stored. So what may have come
 * before goes without batches (`careful`), and whether something has is asked with the first message (`probe`).
 */
type Way = 'probe' | 'careful' | 'bulk';

interface Series {
  readonly source: AsyncIterator<Outgoing>;
  ended: boolean;
  /** Taken and not yet answered for, in order. */
  readonly waiting: Waiting[];
  /** Number of the first of them, which is its sequence id too. */
  first: number;
  way: Way;
  /** Whether sequence ids tell the messages apart. Where partitions count by themselves they do not. */
  exact: boolean;
  /** Why the source gave no more: nothing heals that. */
  broken: unknown;
}

interface Waiting {
  readonly frame: string;
  answered: boolean;
}

/** Sends a series of messages; returns once the broker has stored every one. Never holds more than the window. */
export async function publish(pulsar: Pulsar, to: Publishing, messages: AsyncIterable<Outgoing>): Promise<void> {
  const source = messages[Symbol.asyncIterator]();
  const series: Series = { source, ended: false, waiting: [], first: 0, way: 'probe', exact: true, broken: undefined };
  try {
    if (!(await take(series))) return;
    for (let tries = 0; ; ) {
      const before = series.first;
      try {
        if (await connection(pulsar, to, series)) return;
      } catch (thrown) {
        if (series.broken !== undefined) throw series.broken;
        const error = asCollectError(thrown);
        tries = series.first > before ? 1 : tries + 1;
        if (!survives(error, to, series) || tries >= TRIES) throw error;
        await pause(Math.min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE));
      }
    }
  } finally {
    await source.return?.();
  }
}

function survives(error: CollectError, { topic, warn }: Publishing, series: Series): boolean {
  // Brokers before 2.11 read the first sequence id wrongly and refuse every one.
  if (error.status === 400 && series.exact) {
    series.exact = false;
    series.way = 'bulk';
    warn(`${nameOf(topic)}: the cluster takes no sequence ids, so what is sent again counts twice`);
    return true;
  }
  return isPassing(error);
}

/** Takes the next message from the source; false at its end. */
async function take(series: Series): Promise<boolean> {
  if (series.ended) return false;
  const next = await series.source.next().catch((thrown: unknown) => {
    series.broken = thrown;
    throw thrown;
  });
  if (next.done === true) {
    series.ended = true;
    return false;
  }
  const { payload, properties, key } = next.value;
  const number = series.first + series.waiting.length;
  const body = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('base64');
  const keyed = key === undefined ? '' : `,"key":${JSON.stringify(key)}`;
  const frame = `{"context":"${number}","properties":${properties}${keyed},"payload":"${body}"}`;
  series.waiting.push({ frame, answered: false });
  return true;
}

/** One connection and what is sent over it. */
interface Line {
  readonly series: Series;
  readonly to: Publishing;
  /** How many of the waiting ones were sent over it, and their size. */
  sent: number;
  bytes: number;
  fault: CollectError | undefined;
  /** The way another connection has to go on, once all that was sent is answered. */
  next: Way | undefined;
  wake: () => void;
}

/** Sends over one connection; true when all is done, false when another connection has to go on. */
async function connection(pulsar: Pulsar, to: Publishing, series: Series): Promise<boolean> {
  const endpoint = { kind: 'producer', topic: to.topic, parameters: parametersOf(to, series) } as const;
  const line: Line = { series, to, sent: 0, bytes: 0, fault: undefined, next: undefined, wake: () => undefined };
  const socket = await pulsar.connect(endpoint, {
    message: (reply) => answer(line, reply),
    closed: (fault) => fail(line, fault),
  });
  try {
    for (;;) {
      await fill(line, socket);
      if (line.fault !== undefined) throw line.fault;
      if (series.waiting.length === 0 && (series.ended || line.next !== undefined)) {
        series.way = line.next ?? series.way;
        return series.ended;
      }
      await answers(line, pulsar);
    }
  } catch (thrown) {
    if (series.way === 'probe' && line.sent === 0) throw thrown;
    series.way = series.exact ? 'careful' : 'bulk';
    throw thrown;
  } finally {
    await socket.close();
  }
}

function parametersOf({ batch, pending, series: name }: Publishing, series: Series): Record<string, string> {
  const batched = batch > 1 && series.way !== 'careful';
  return {
    ...(batched ? { batchingMaxMessages: String(batch), batchingMaxPublishDelay: '10' } : {}),
    batchingEnabled: String(batched),
    compressionType: 'LZ4',
    maxPendingMessages: String(pending + 1000),
    // One that timed out in the service would leave a gap that later ones jump over: giving up is left to this side.
    sendTimeoutMillis: '0',
    ...(series.exact ? { producerName: name, initialSequenceId: String(series.first - 1) } : {}),
  };
}

/** Sends what the window has room for. */
async function fill(line: Line, socket: Socket): Promise<void> {
  const { series, to } = line;
  while (line.fault === undefined && line.sent < to.pending) {
    if (series.way === 'probe' && line.sent > 0) return;
    if (line.sent === series.waiting.length && (line.next !== undefined || !(await take(series)))) return;
    const next = series.waiting[line.sent];
    if (next === undefined || line.fault !== undefined) return;
    const size = next.frame.length;
    if (line.sent > 0 && (size > LARGE || line.bytes + size > MOST_PENDING_BYTES)) return;
    socket.send(next.frame);
    line.sent += 1;
    line.bytes += size;
    if (size > LARGE) return;
  }
}

/** Waits until there is room again. */
async function answers(line: Line, pulsar: Pulsar): Promise<void> {
  if (line.fault !== undefined) return;
  const most = line.sent;
  const first = line.series.first;
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    line.wake = () => {
      const all = line.series.waiting.length === 0 || line.sent === 0;
      if (line.fault !== undefined || all || line.sent <= most / 2) resolve();
    };
    timer = setTimeout(resolve, pulsar.timeout);
  });
  clearTimeout(timer);
  line.wake = () => undefined;
  if (line.series.first > first || line.fault !== undefined) return;
  const mend = 'check the broker, or raise STORE_PULSAR_SEND_TIMEOUT_MS';
  fail(line, new CollectError('timeout', `${placeOf(line, pulsar)}: no message was answered in time`, { mend }));
}

function placeOf({ to }: Line, { host }: Pulsar): string {
  return `${host} ${nameOf(to.topic)}`;
}

function fail(line: Line, fault: CollectError): void {
  line.fault ??= fault;
  line.wake();
}

/** What the service says of one message. */
function answer(line: Line, reply: JsonObject): void {
  const { series } = line;
  const at = Number(reply.context) - series.first;
  const message = reply.context === null ? undefined : series.waiting[at];
  if (reply.result !== 'ok' || message === undefined) {
    if (at < 0) return;
    // What came behind it may have been taken under its number.
    if (message === undefined || at + 1 < line.sent) series.exact = false;
    fail(line, refused(line, series.first + at, Number(reply.errorCode)));
    return;
  }
  message.answered = true;
  if (series.way !== 'bulk' && typeof reply.messageId === 'string') judge(line, positionOf(reply.messageId));
  while (series.waiting[0]?.answered === true) {
    line.bytes -= series.waiting.shift()?.frame.length ?? 0;
    line.sent -= 1;
    series.first += 1;
  }
  line.wake();
}

/** What the place of a message tells of what the broker knew. */
function judge(line: Line, { ledger, partition }: Position): void {
  const { series, to } = line;
  const known = ledger < 0n;
  if (partition !== undefined && !to.topic.name.endsWith(`-partition-${partition}`)) {
    series.exact = false;
    line.next = 'bulk';
  } else if (series.way === 'careful') {
    if (!known) line.next = 'bulk';
  } else if (known) line.next = 'careful';
  else series.way = 'bulk';
}

const AUTHENTICATION = 5;
const AUTHORISATION = 6;

function refused({ to }: Line, number: number, code: number): CollectError {
  const place = nameOf(to.topic);
  if (code === AUTHENTICATION || code === AUTHORISATION) {
    return new CollectError('denied', `${place}: the broker does not let this token produce (send-error ${code})`, {
      mend: 'grant the role produce on the topic, or set STORE_PULSAR_TOKEN',
    });
  }
  const which = Number.isNaN(number) ? 'a message' : `message ${number + 1}`;
  return new CollectError('store', `${place}: the broker refuses ${which} (send-error ${code})`, {
    mend: 'check the schema, the largest message and the backlog quota of the topic, and its log',
  });
}
