import { createHash, randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { spoolRecords } from '../envelope/spool.ts';
import { asCollectError, CollectError } from '../errors.ts';
import { systemClock } from '../http/pace.ts';
import type { Log } from '../report/log.ts';
import { nameOf, type Pulsar, type Topic } from '../stores/_pulsar.ts';
import { type Consumer, type Incoming, joined, subscribe } from '../stores/_pulsar_consumer.ts';
import { type Outgoing, publish } from '../stores/_pulsar_producer.ts';
import { parts } from '../stores/_pulsar_records.ts';
import type { Dataset } from '../stores/store.ts';
import type { ActiveStore } from './activate.ts';
import { add, type Batch, bury, type DeadLetter, discard, idOf, newBatch, picked, sealed } from './batch.ts';
import { type Claims, lifeOf, openClaims, type Pending } from './claims.ts';
import { type OpenStore, openStores, writeTo } from './deliver.ts';
import type { Lock, Locks } from './lock.ts';
import type { Outbox } from './outbox.ts';
import type { State } from './state.ts';

/** What draining a topic needs. */
export interface DrainOptions {
  readonly pulsar: Pulsar;
  readonly topic: Topic;
  readonly subscription: string;
  readonly type: 'Shared' | 'Key_Shared';
  readonly deadLetters: Topic;
  readonly stores: readonly ActiveStore[];
  readonly tenancy: string;
  readonly at: Date;
  /** Of messages that say none. */
  readonly tag: string;
  /** Messages that make a batch full. */
  readonly batch: number;
  /** Seconds that the first message of a batch waits for others. */
  readonly seconds: number;
  /** How often a store is tried with what it refuses before the records at fault become dead letters. */
  readonly redeliveries: number;
  /** Seconds without a message after which it ends; never unless told. */
  readonly idleExit?: number | undefined;
  /** Whether silence is only believed when the service does not tell that something waits. */
  readonly empties?: boolean;
  readonly version: string;
  readonly state: State;
  readonly locks: Locks;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** What was drained. */
export interface Drained {
  batches: number;
  messages: number;
  records: number;
  dead_letters: number;
  /** Entries that were left behind, each a message or a batch of them, where the service tells. */
  backlog?: number;
}

interface Drain {
  readonly options: DrainOptions;
  readonly run: string;
  readonly life: Lock;
  readonly claims: Claims;
  readonly consumer: Consumer;
  /** By tenancy. */
  readonly stores: Map<string, readonly OpenStore[]>;
  readonly drained: Drained;
  /** When a message has last come, in epoch milliseconds. */
  heard: number;
  /** When the backlog was last told, and what of it. */
  told: { readonly at: number; readonly entries: number };
}

const ENTRY_MS = 5000;
const MOST_BYTES = 256 * 2 ** 20;
/** What a drain that has nothing to do looks after. */
const IDLE_MS = 5000;
const BACKLOG_MS = 30_000;
/** Times that silence is not believed: what waits may be in the hands of another drain. */
const DOUBTS = 10;

/**
 * Takes messages from a subscription into the stores, batch by batch, until the signal, or until nothing comes any
 * more. A message is acknowledged only when every store has it. What is claimed lies on disk before a store sees it,
 * under the upload it is written as, so that whoever goes on after a kill writes the same upload again.
 */
export async function drain(options: DrainOptions): Promise<Drained> {
  const { pulsar, topic, subscription, type, signal, state, locks, log, tenancy } = options;
  const run = randomUUID();
  const place = createHash('sha256')
    .update(`${pulsar.host} ${nameOf(topic)} ${subscription}`)
    .digest('hex')
    .slice(0, 16);
  const life = await locks.take(tenancy, lifeOf(run));
  const warn = (message: string) => log('WARNING', 'drain.waits', message);
  const patient = options.idleExit === undefined;
  const consumer = subscribe(pulsar, { topic, subscription, type, signal, patient, warn });
  const drained: Drained = { batches: 0, messages: 0, records: 0, dead_letters: 0 };
  const stores = new Map<string, readonly OpenStore[]>();
  try {
    const home = join(state.folder, 'drain', tenancy, place);
    const claims = await openClaims(home, run, { tenancy, turn: `drain-${place}`, locks });
    const all: Drain = { options, run, life, claims, consumer, stores, drained, heard: Date.now(), told: NOTHING_TOLD };
    await storesOf(all, tenancy);
    const emptied = await rounds(all);
    const { connection, close } = consumer;
    await close();
    if (!signal.aborted) await tellBacklog(all, 0);
    // A connection that is closed in order has passed on its acknowledgements.
    if (emptied) await claims.forget(connection(), 0);
    return drained;
  } finally {
    await consumer.close();
    await Promise.allSettled([...stores.values()].flat().map(({ sink }) => sink.close?.()));
    await life.release();
  }
}

/** True when it ended because nothing came any more. */
async function rounds(all: Drain): Promise<boolean> {
  const { claims, consumer, options } = all;
  let doubts = options.empties === true ? DOUBTS : 0;
  while (!options.signal.aborted) {
    for (const pending of await claims.inherit()) await carryOut(all, pending);
    const batch = await gather(all);
    await claims.forget(consumer.connection());
    await tellBacklog(all, BACKLOG_MS);
    if (batch === 'idle') continue;
    if (batch === 'ended') {
      if (options.signal.aborted || doubts === 0 || !(await isBehind(all))) return !options.signal.aborted;
      doubts -= 1;
      all.heard = Date.now();
      continue;
    }
    const origin = { tenancy: options.tenancy, tag: options.tag, version: options.version, run: all.run };
    const pending = await claims.claim((taken) => sealed(batch, origin, taken));
    if (pending === undefined) await discard(batch);
    else await carryOut(all, pending);
    answer(consumer, batch, new Set(pending?.claim.ids));
  }
  return false;
}

/** Whether something waits; a service that told so before and does not now may be away. */
async function isBehind({ options, told }: Drain): Promise<boolean> {
  const backlog = await options.pulsar.backlog(options.topic, options.subscription);
  return backlog === undefined ? told.at > 0 : backlog.entries > 0;
}

const NOTHING_TOLD = { at: 0, entries: 0 };

/** Tells how much waits, unless that was told lately, or is nothing still. */
async function tellBacklog(all: Drain, every: number): Promise<void> {
  const { pulsar, topic, subscription, log } = all.options;
  if (Date.now() - all.told.at < every) return;
  const backlog = await pulsar.backlog(topic, subscription);
  if (backlog === undefined) return;
  const { entries, seconds } = backlog;
  all.drained.backlog = entries;
  if (entries > 0 || all.told.entries > 0) {
    const age = seconds === undefined ? '' : `, the oldest for ${seconds} s`;
    const what = 'entries, each a message or a batch, wait';
    log('INFO', 'drain.backlog', `${entries} ${what} in ${nameOf(topic)}${age}`, { subscription, ...backlog });
  }
  all.told = { at: Date.now(), entries };
}

/** Acknowledges what was stored, and lets the others come again: they will have been stored by whoever took them. */
function answer(consumer: Consumer, { messages, connection }: Batch, stored: ReadonlySet<string>): void {
  if (connection !== consumer.connection()) return;
  for (const message of messages) {
    if (stored.has(idOf(message))) consumer.acknowledge(message);
    else consumer.refuse(message);
  }
}

/** Collects messages until there are enough; a batch ends with an entry, so that entries are acknowledged whole. */
async function gather(all: Drain): Promise<Batch | 'idle' | 'ended'> {
  const { consumer, claims, options } = all;
  const { seconds, signal, idleExit = Number.POSITIVE_INFINITY } = options;
  let batch: Batch | undefined;
  let whole = true;
  for (;;) {
    const most = batch === undefined ? IDLE_MS : batch.began + seconds * 1000 - Date.now();
    const waits = Math.min(most, idleExit * 1000);
    const message = await consumer.next(Math.max(waits, whole ? 0 : ENTRY_MS));
    if (batch !== undefined && (signal.aborted || batch.connection !== consumer.connection())) {
      await discard(batch);
      batch = undefined;
    }
    if (message === undefined) {
      if (signal.aborted) return 'ended';
      if (batch !== undefined) return batch;
      return Date.now() - all.heard >= idleExit * 1000 ? 'ended' : 'idle';
    }
    all.heard = Date.now();
    whole = message.position.index >= message.position.batch - 1;
    if (batch?.ids.has(idOf(message)) !== true && !isKnown(all, message)) {
      batch ??= newBatch(claims.home, await claims.folder(), consumer.connection());
      await place(all, batch, message);
    }
    if (batch !== undefined && whole && isFull(batch, options)) return batch;
  }
}

function isFull({ messages, bytes, began }: Batch, { batch, seconds }: DrainOptions): boolean {
  return messages.length >= batch || bytes >= MOST_BYTES || Date.now() - began >= seconds * 1000;
}

/** A message that was stored, or is about to be, is not taken again; nor are the later parts of a record. */
function isKnown({ consumer, claims }: Drain, message: Incoming): boolean {
  const known = claims.stateOf(idOf(message));
  if (known === 'claimed') consumer.refuse(message);
  else if (known === 'stored' || Number(message.properties.part) > 1) consumer.acknowledge(message);
  else return false;
  return true;
}

async function place({ options, consumer, run }: Drain, batch: Batch, message: Incoming): Promise<void> {
  const { tenancy, tag, version, pulsar, topic } = options;
  const origin = { tenancy, tag, version, run };
  if (message.properties.parts === undefined) return add(batch, message, message.payload, origin);
  try {
    await add(batch, message, await joined(pulsar, topic, message), origin);
  } catch (thrown) {
    const error = asCollectError(thrown);
    if (error.code === 'refused') await bury(batch, message, message.payload, error.message);
    else consumer.refuse(message);
  }
}

/** Writes what was claimed to every store, and sends its dead letters. */
async function carryOut(all: Drain, pending: Pending): Promise<void> {
  const { claims, drained, options, life } = all;
  const { datasets, dead, ids, folder } = pending.claim;
  const path = join(claims.home, folder);
  for (const kept of datasets) {
    const spool = { ...kept.spool, path: join(path, basename(kept.spool.path)) };
    const dataset: Dataset = { ...kept, spool, confirm: () => life.confirm() };
    const stores = await storesOf(all, kept.metadata.tenancy);
    await Promise.all(stores.map((store) => settle(all, store, dataset)));
    drained.records += spool.records;
    options.log('INFO', 'drain.stored', `${kept.tag}: ${spool.records} records stored`, { tag: kept.tag });
  }
  if (dead !== undefined) await sendDead(all, () => lettersIn(join(path, dead)), folder);
  await claims.done(pending);
  drained.batches += 1;
  drained.messages += ids.length;
}

/** The stores of a tenancy; whoever drains has to have all of them. */
async function storesOf({ stores, options }: Drain, tenancy: string): Promise<readonly OpenStore[]> {
  const known = stores.get(tenancy);
  if (known !== undefined) return known;
  const warn = (message: string) => options.log('WARNING', 'store.warning', message);
  const opened = await openStores(options.stores, { tenancy, at: options.at, warn }, NO_OUTBOX);
  stores.set(tenancy, opened);
  for (const { caughtUp } of opened) {
    const { error } = await caughtUp;
    if (error !== undefined) throw error;
  }
  return opened;
}

/** What no store has taken stays in the topic. */
const NO_OUTBOX: Outbox = {
  waiting: async () => [],
  add: async () => undefined,
  deliver: async () => ({ delivered: 0, left: 0 }),
};

/** Writes to one store until it has taken all but the records that it refuses, which become dead letters. */
async function settle(all: Drain, store: OpenStore, dataset: Dataset): Promise<void> {
  const { redeliveries, signal } = all.options;
  for (let tries = 1; ; tries += 1) {
    try {
      if (tries <= redeliveries) await writeTo(store, dataset, signal);
      else {
        const letters = await isolated(all, store, dataset);
        assertSomeTaken(letters, dataset);
        await sendDead(all, () => letters, `${dataset.metadata.upload_id}-${store.name}`);
      }
      return;
    } catch (thrown) {
      await patience(all, store.name, thrown, tries);
    }
  }
}

/** @throws {CollectError} store where all of many records are refused: that is hardly the records' fault */
function assertSomeTaken(letters: readonly DeadLetter[], { spool }: Dataset): void {
  if (letters.length < spool.records || spool.records === 1) return;
  throw new CollectError('store', letters[0]?.reason ?? 'every record is refused', { mend: 'mend the store' });
}

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;

/** Waits before another attempt; throws what no attempt heals, or what nobody should wait for. */
async function patience({ options }: Drain, where: string, thrown: unknown, tries: number): Promise<void> {
  const { signal, log, idleExit, redeliveries } = options;
  signal.throwIfAborted();
  const error = asCollectError(thrown);
  const hopeless = error.code === 'locked' || error.code === 'defect';
  if (hopeless || (idleExit !== undefined && tries > redeliveries)) throw error;
  log('WARNING', 'drain.waits', `${where}: ${error.message}; trying again`);
  await systemClock.sleep(Math.min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE), signal);
}

/**
 * Writes the halves of what a store refuses, and theirs, until the records at fault stand alone. The halves are the same
 * uploads when it is done again.
 * @throws {CollectError} where the store is at fault and not a record
 */
async function isolated(all: Drain, store: OpenStore, dataset: Dataset): Promise<DeadLetter[]> {
  try {
    await writeTo(store, dataset, all.options.signal);
    return [];
  } catch (thrown) {
    const error = asCollectError(thrown);
    if (error.code !== 'store') throw error;
    const { records } = dataset.spool;
    if (records > 1) {
      const middle = Math.floor(records / 2);
      const first = await isolated(all, store, await sliceOf(dataset, 0, middle));
      return [...first, ...(await isolated(all, store, await sliceOf(dataset, middle, records)))];
    }
    await store.sink.check?.();
    return [await letterOf(dataset, error)];
  }
}

async function sliceOf(dataset: Dataset, from: number, to: number): Promise<Dataset> {
  const { metadata } = dataset;
  const spool = await picked(dataset.spool, `${dataset.spool.path}.${from}`, (nth) => nth >= from && nth < to);
  const hash = createHash('sha256').update(`${metadata.upload_id} ${from} ${to}`).digest('hex');
  const upload_id = [hash.slice(0, 8), hash.slice(8, 12), `8${hash.slice(13, 16)}`, `8${hash.slice(17, 20)}`].join('-');
  return {
    ...dataset,
    spool,
    metadata: {
      ...metadata,
      upload_id: `${upload_id}-${hash.slice(20, 32)}`,
      records: spool.records,
      sha256: spool.sha256,
    },
  };
}

async function letterOf({ tag, metadata, spool }: Dataset, error: CollectError): Promise<DeadLetter> {
  const properties = { tag, tenancy: metadata.tenancy };
  let payload = '';
  for await (const record of spoolRecords(spool)) payload = record.toString('base64');
  return { properties, payload, reason: error.message };
}

async function* lettersIn(path: string): AsyncGenerator<DeadLetter> {
  const { size } = await stat(path);
  const spool = { path, bytes: size, records: 0, sha256: '' };
  for await (const line of spoolRecords(spool)) yield JSON.parse(line.toString('utf8')) as DeadLetter;
}

/** Sends dead letters until their topic has them. */
async function sendDead(all: Drain, letters: () => Letters, series: string): Promise<void> {
  const { pulsar, topic, deadLetters, log } = all.options;
  const warn = (message: string) => log('WARNING', 'drain.warning', message);
  const to = { topic: deadLetters, series: `cyber-collect-dlq-${series}`, batch: 1, pending: 100, warn };
  for (let tries = 1; ; tries += 1) {
    const sent = { count: 0 };
    try {
      await publish(pulsar, to, outgoing(letters(), nameOf(topic), sent));
      all.drained.dead_letters += sent.count;
      if (sent.count > 0) log('ERROR', 'drain.dead-letters', `${sent.count} messages went to ${nameOf(deadLetters)}`);
      return;
    } catch (thrown) {
      await patience(all, nameOf(deadLetters), thrown, tries);
    }
  }
}

type Letters = AsyncIterable<DeadLetter> | Iterable<DeadLetter>;

async function* outgoing(letters: Letters, from: string, sent: { count: number }): AsyncGenerator<Outgoing> {
  for await (const { properties, key, payload, reason } of letters) {
    const told = { ...properties, dead_letter_topic: from, dead_letter_reason: reason.slice(0, 500) };
    yield* parts(Buffer.from(payload, 'base64'), told, key);
    sent.count += 1;
  }
}
