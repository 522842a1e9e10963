import { type FileHandle, open } from 'node:fs/promises';
import { isObject, type Json } from '../json.ts';
import type { Dataset } from '../stores/store.ts';

/** In which share of the records a field is there, and with which JSON types. */
export interface Field {
  readonly seen: number;
  readonly types: Readonly<Record<string, number>>;
}

/** The fields of a dataset, by dotted path, as a sample of its records shows them. */
export interface Fields {
  /** Records looked at. */
  readonly sampled: number;
  /** Whether those are all. */
  readonly whole: boolean;
  /** Whether there were more fields than are kept; those that most records have stayed. */
  readonly cut: boolean;
  /** Objects whose keys are data, such as labels: their keys count as one field, `*`. */
  readonly maps: readonly string[];
  readonly fields: Readonly<Record<string, Field>>;
}

/** Some 6 ms, whatever the size of the dataset: enough to miss a field that one record in twenty has. */
const MOST_RECORDS = 300;
const MOST_BYTES = 2 ** 20;
const BLOCKS = 30;
const SMALLEST_READ = 4096;
/** A longer record is passed over. */
const LONGEST_RECORD = 2 * 2 ** 20;
const MOST_FIELDS = 1000;
const MOST_ELEMENTS = 10;
const DEEPEST = 8;
/** From so many keys on, an object of which each has but few is a map. */
const MAP_KEYS = 40;
const MOST_MAP_KEYS = 200;

/**
 * The fields of a spool: of its first records and of others evenly spread, in few reads. Maps that are known as such
 * are folded from the start.
 */
export async function fieldsOf(spool: Dataset['spool'], maps: readonly string[] = []): Promise<Fields> {
  const root = newNode('', maps);
  let sampled = 0;
  for await (const line of sampleOf(spool)) {
    const record = parsed(line);
    if (record === undefined) continue;
    sampled += 1;
    look(root, record, sampled, { depth: 0, maps });
  }
  foldMaps(root);
  const found = flatten(root).sort((a, b) => b[1].seen - a[1].seen);
  return {
    sampled,
    whole: sampled === spool.records,
    cut: found.length > MOST_FIELDS,
    maps: mapsIn(root),
    fields: Object.fromEntries(
      found.slice(0, MOST_FIELDS).map(([path, { seen, types }]): [string, Field] => [
        path,
        {
          seen: share(seen, sampled),
          types: Object.fromEntries([...types].map(([t, n]) => [t, share(n.seen, sampled)])),
        },
      ]),
    ),
  };
}

function share(count: number, of: number): number {
  return Number((count / of).toPrecision(4));
}

function parsed(line: Buffer): Json | undefined {
  try {
    return JSON.parse(line.toString('utf8')) as Json;
  } catch {
    return undefined; // the spool was checked; a line that is none says nothing of fields
  }
}

/** All lines of a small spool; of a larger one those at evenly spread places, in order, none twice. */
async function* sampleOf({ path, bytes, records }: Dataset['spool']): AsyncGenerator<Buffer> {
  if (records === 0) return;
  const average = bytes / records;
  const most = Math.max(1, Math.min(MOST_RECORDS, Math.floor(MOST_BYTES / average)));
  const blocks = records <= most ? 1 : Math.min(BLOCKS, most);
  const file = await open(path, 'r');
  try {
    let at = 0;
    for (let block = 0; block < blocks; block += 1) {
      const wanted = records <= most ? records : Math.ceil(most / blocks);
      const place = Math.floor((bytes / blocks) * block);
      // A line that begins before the place is not of this block.
      const lines = linesAt(file, Math.max(at, place), { skip: place > at, wanted, average, end: bytes });
      for await (const { line, next } of lines) {
        at = next;
        if (line !== undefined) yield line;
      }
    }
  } finally {
    await file.close();
  }
}

interface Block {
  /** Whether the place may be inside a line, whose rest is passed over. */
  readonly skip: boolean;
  /** Lines. */
  readonly wanted: number;
  readonly average: number;
  readonly end: number;
}

/** Some lines from a place on; undefined for one that is too long. */
async function* linesAt(
  file: FileHandle,
  place: number,
  { skip, wanted, average, end }: Block,
): AsyncGenerator<{ readonly line: Buffer | undefined; readonly next: number }> {
  const size = Math.ceil(Math.min(LONGEST_RECORD, Math.max(SMALLEST_READ, (Math.min(wanted, 64) + 1) * average * 1.2)));
  let at = skip ? place - 1 : place;
  let held = Buffer.alloc(0);
  let left = skip ? wanted + 1 : wanted;
  let long = false;
  while (left > 0 && at < end) {
    const feed = held.indexOf(10);
    if (feed >= 0) {
      const passed = skip && left === wanted + 1;
      const line = held.subarray(0, feed);
      held = held.subarray(feed + 1);
      at += feed + 1;
      left -= 1;
      if (!passed) yield { line: long ? undefined : line, next: at };
      long = false;
      continue;
    }
    if (held.length > LONGEST_RECORD) {
      long = true;
      at += held.length;
      held = Buffer.alloc(0);
    }
    const chunk = Buffer.allocUnsafe(Math.max(size, held.length));
    const { bytesRead } = await file.read(chunk, 0, chunk.length, at + held.length);
    if (bytesRead === 0) return;
    held = Buffer.concat([held, chunk.subarray(0, bytesRead)]);
  }
}

/** A value that some records have. */
interface Node {
  readonly path: string;
  seen: number;
  /** The record it was last seen in: several elements of a list count once. */
  last: number;
  readonly types: Map<string, { seen: number; last: number }>;
  children: Map<string, Node>;
  map: boolean;
}

function newNode(path: string, maps: readonly string[]): Node {
  return { path, seen: 0, last: 0, types: new Map(), children: new Map(), map: maps.includes(path) };
}

interface Place {
  readonly depth: number;
  readonly maps: readonly string[];
}

function look(node: Node, value: Json, record: number, { depth, maps }: Place): void {
  if (node.last !== record) {
    node.seen += 1;
    node.last = record;
  }
  count(node, typeOf(value), record);
  if (depth === DEEPEST) return;
  const inside = { depth: depth + 1, maps };
  if (Array.isArray(value)) {
    for (const element of value.slice(0, MOST_ELEMENTS)) look(childOf(node, '[]', maps), element, record, inside);
  } else if (isObject(value)) {
    for (const key of Object.keys(value)) look(childOf(node, key, maps), value[key] as Json, record, inside);
  }
}

function count(node: Node, type: string, record: number): void {
  const found = node.types.get(type);
  if (found === undefined) node.types.set(type, { seen: 1, last: record });
  else if (found.last !== record) {
    found.seen += 1;
    found.last = record;
  }
}

function childOf(node: Node, key: string, maps: readonly string[]): Node {
  // What has a node by its own name is no data: the patterns need not look again.
  const known = node.map ? undefined : node.children.get(key);
  if (known !== undefined) return known;
  const name = key !== '[]' && (node.map || isData(key)) ? '*' : key;
  const found = node.children.get(name);
  if (found !== undefined) return found;
  if (node.path !== '' && node.children.size >= MOST_MAP_KEYS) {
    fold(node);
    return childOf(node, key, maps);
  }
  const made = newNode(pathOf(node.path, name), maps);
  node.children.set(name, made);
  return made;
}

function pathOf(path: string, name: string): string {
  return path === '' || name === '[]' ? `${path}${name}` : `${path}.${name}`;
}

/** Keys that are ids, numbers, addresses or sentences: what a record says, and not how it is built. */
function isData(key: string): boolean {
  return (
    key.length > 64 ||
    !/^[@$\p{L}_]/u.test(key) ||
    /[\s/\\<>"'=?&,;()[\]{}]|@(?!odata\.)(?<!^@)/u.test(key) ||
    /^[0-9a-f-]{8,}$/i.test(key) ||
    /\d{5}/.test(key)
  );
}

function typeOf(value: Json): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

function foldMaps(node: Node): void {
  for (const child of node.children.values()) foldMaps(child);
  if (node.path === '' || node.map || node.children.size < MAP_KEYS) return;
  const keys = [...node.children.values()].reduce((sum, child) => sum + child.seen, 0);
  if (keys / node.children.size < node.seen / 10) fold(node);
}

function fold(node: Node): void {
  const all = newNode(pathOf(node.path, '*'), []);
  for (const child of node.children.values()) merge(all, child);
  node.map = true;
  node.children = new Map([['*', all]]);
}

/** Adds one node to another; that the same record may have both is left out of account. */
function merge(into: Node, from: Node): void {
  into.seen += from.seen;
  for (const [type, { seen }] of from.types) {
    into.types.set(type, { seen: (into.types.get(type)?.seen ?? 0) + seen, last: 0 });
  }
  for (const [key, child] of from.children) {
    const own = into.children.get(key) ?? newNode(pathOf(into.path, key), []);
    into.children.set(key, own);
    merge(own, child);
  }
}

function flatten(node: Node): [string, Node][] {
  const own: [string, Node][] = node.path === '' ? [] : [[node.path, node]];
  return [...own, ...[...node.children.values()].flatMap(flatten)];
}

function mapsIn(node: Node): string[] {
  return [...(node.map ? [node.path] : []), ...[...node.children.values()].flatMap(mapsIn)];
}
