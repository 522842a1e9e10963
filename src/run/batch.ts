import { randomUUID } from 'node:crypto';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { timestampOf } from '../envelope/metadata.ts';
import { type Spool, SpoolWriter, spoolRecords } from '../envelope/spool.ts';
import { asCollectError } from '../errors.ts';
import { isObject, type Json } from '../json.ts';
import type { Incoming } from '../stores/_pulsar_consumer.ts';
import { assertSafe } from '../templating/template.ts';
import type { Claim, Kept } from './claims.ts';

/** Messages on their way into one upload of each tag. */
export interface Batch {
  /** Folder of its files, and that folder's name. */
  readonly path: string;
  readonly folder: string;
  /** What has to be acknowledged once the stores have it. */
  readonly messages: Incoming[];
  /** Theirs: the service may have lost its own connection to the broker, and then sends them again over ours. */
  readonly ids: Set<string>;
  readonly connection: number;
  readonly began: number;
  bytes: number;
  readonly groups: Map<string, Group>;
  dead: Group | undefined;
}

interface Group {
  readonly tag: string;
  readonly tenancy: string;
  readonly writer: SpoolWriter;
  /** Of the messages, line by line. */
  readonly ids: string[];
}

/** What a dead letter tells. */
export interface DeadLetter {
  readonly properties: Readonly<Record<string, string>>;
  readonly key?: string;
  /** In base64. */
  readonly payload: string;
  readonly reason: string;
}

/** What uploads are made with. */
export interface Origin {
  readonly tenancy: string;
  /** Of messages that say none. */
  readonly tag: string;
  readonly version: string;
  readonly run: string;
}

/** The place of a message in its topic, as a word. */
export function idOf({ position: { ledger, entry, partition, index } }: Incoming): string {
  return `${ledger}:${entry}:${partition ?? -1}:${index}`;
}

/** An empty batch. */
export function newBatch(home: string, folder: string, connection: number): Batch {
  const path = join(home, folder);
  return {
    path,
    folder,
    messages: [],
    ids: new Set(),
    connection,
    began: Date.now(),
    bytes: 0,
    groups: new Map(),
    dead: undefined,
  };
}

/** Adds a message: its payload as a record of the upload it belongs to, or as a dead letter. */
export async function add(batch: Batch, message: Incoming, payload: Buffer, origin: Origin): Promise<void> {
  const id = idOf(message);
  const line = lineOf(payload, id);
  const tenancy = message.properties.tenancy ?? origin.tenancy;
  if (line === undefined) return bury(batch, message, payload, 'it is no JSON');
  if (!isSafe(tenancy)) return bury(batch, message, payload, 'its tenancy is no name');
  const told = message.properties.tag ?? '';
  const tag = /^[a-z][a-z0-9_]{0,62}$/.test(told) ? told : origin.tag;
  const name = `${tenancy}/${tag}`;
  const group = batch.groups.get(name) ?? (await groupOf(batch, tag, tenancy));
  batch.groups.set(name, group);
  await put(batch, group, message, line);
}

/** Adds a message as a dead letter. */
export async function bury(batch: Batch, message: Incoming, payload: Buffer, reason: string): Promise<void> {
  batch.dead ??= await groupOf(batch, 'dead', '');
  const { properties, key } = message;
  const letter: DeadLetter = {
    ...{ properties, payload: payload.toString('base64'), reason },
    ...(key === undefined ? {} : { key }),
  };
  await put(batch, batch.dead, message, Buffer.from(`${JSON.stringify(letter)}\n`));
}

async function groupOf({ path, groups }: Batch, tag: string, tenancy: string): Promise<Group> {
  const file = tenancy === '' ? tag : String(groups.size);
  return { tag, tenancy, writer: await SpoolWriter.create(join(path, `${file}.ndjson`)), ids: [] };
}

async function put(batch: Batch, group: Group, message: Incoming, line: Buffer): Promise<void> {
  await group.writer.write([line]);
  group.ids.push(idOf(message));
  batch.messages.push(message);
  batch.ids.add(idOf(message));
  batch.bytes += line.length;
}

function isSafe(tenancy: string): boolean {
  try {
    assertSafe('TENANCY', tenancy);
    return tenancy.length <= 200;
  } catch {
    return false;
  }
}

const LF = 10;
const CR = 13;
const SPACE = 32;

/** A payload as one line; an object gets the message's id as its last field. Undefined for what is no JSON. */
function lineOf(payload: Buffer, id: string): Buffer | undefined {
  let parsed: Json;
  try {
    parsed = JSON.parse(payload.toString('utf8')) as Json;
  } catch {
    return undefined;
  }
  // JSON has these only between tokens.
  const line = Buffer.from(payload);
  for (let at = 0; at < line.length; at += 1) if (line[at] === LF || line[at] === CR) line[at] = SPACE;
  if (!isObject(parsed)) return Buffer.concat([line, Buffer.from('\n')]);
  const empty = Object.keys(parsed).length === 0;
  const field = `${empty ? '' : ','}"_message_id":"${id}"}\n`;
  return Buffer.concat([line.subarray(0, line.lastIndexOf('}')), Buffer.from(field)]);
}

/** Throws a batch away: its messages come again. */
export async function discard({ path, groups, dead }: Batch): Promise<void> {
  for (const { writer } of [...groups.values(), ...(dead === undefined ? [] : [dead])]) await writer.abort();
  await rm(path, { recursive: true, force: true });
}

/** The claim of a batch, without the messages that others have taken; undefined when nothing is left. */
export async function sealed(batch: Batch, origin: Origin, taken: (id: string) => boolean): Promise<Claim | undefined> {
  const datasets: Kept[] = [];
  const ids: string[] = [];
  const at = timestampOf(new Date());
  for (const group of batch.groups.values()) {
    const spool = await finished(group, taken, ids);
    if (spool.records > 0) datasets.push(keptOf(group, spool, origin, at));
  }
  const dead = batch.dead === undefined ? undefined : await finished(batch.dead, taken, ids);
  if (ids.length === 0) return undefined;
  return {
    ids,
    datasets,
    dead: dead === undefined || dead.records === 0 ? undefined : 'dead.ndjson',
    folder: batch.folder,
  };
}

async function finished(group: Group, taken: (id: string) => boolean, ids: string[]): Promise<Spool> {
  const spool = await group.writer.finish(group.ids.length);
  const own = group.ids.filter((id) => !taken(id));
  ids.push(...own);
  if (own.length === group.ids.length) return spool;
  return picked(spool, `${spool.path}.own`, (n) => !taken(group.ids[n] ?? '')).then(async (left) => {
    await rename(left.path, spool.path);
    return { ...left, path: spool.path };
  });
}

/** Some lines of a spool as a spool of their own. */
export async function picked(spool: Spool, path: string, wanted: (nth: number) => boolean): Promise<Spool> {
  const writer = await SpoolWriter.create(path);
  let nth = -1;
  let count = 0;
  try {
    for await (const record of spoolRecords(spool)) {
      nth += 1;
      if (!wanted(nth)) continue;
      count += 1;
      await writer.write([record, Buffer.from('\n')]);
    }
  } catch (thrown) {
    await writer.abort();
    throw asCollectError(thrown);
  }
  return writer.finish(count);
}

function keptOf({ tag, tenancy }: Group, spool: Spool, { version, run }: Origin, timestamp: string): Kept {
  const { records, sha256 } = spool;
  return {
    tag,
    kind: 'events',
    id: ['_message_id'],
    spool,
    metadata: {
      ...{ tenancy, upload_id: randomUUID(), timestamp, tag, records },
      ...{ collector: 'pulsar', resource: tag, run_id: run, version, sha256 },
    },
  };
}
