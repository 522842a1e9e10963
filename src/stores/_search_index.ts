import { createHash, randomUUID } from 'node:crypto';
import { CollectError } from '../errors.ts';
import { at, type JsonObject, numberAt, textAt } from '../json.ts';
import { parseTemplate, type TemplateValues } from '../templating/template.ts';
import { ask, type Call, type Engine, refusal, typeOf } from './_search.ts';
import { FACTS, MAPPED } from './_search_docs.ts';
import type { Dataset, Held } from './store.ts';

const MOST_NAME = 255; // bytes

/**
 * The name of an index, or of the alias that readers use: the template in small letters, `_` for what may not be.
 * @throws {CollectError} config
 */
export function indexName(template: string, names: TemplateValues): string {
  const name = parseTemplate(template)
    .render(names)
    .toLowerCase()
    .replace(/[\\/*?"<>|\s,#:]/g, '_')
    .replace(/^[-_+.]+/, '');
  if (name !== '' && Buffer.byteLength(name) <= MOST_NAME - 80) return name; // room for tenancy and upload
  throw new CollectError('config', `'${template}' renders '${name}', which cannot be the name of an index`, {
    mend: 'write a short name such as %TAG or security-%TAG',
  });
}

/** Where a tag's uploads of one tenancy live: an index each, the newest of them shown by the alias. */
export interface Place {
  readonly alias: string;
  readonly tag: string;
  readonly tenancy: string;
}

/** An upload that has an index. */
export interface Upload extends Held {
  readonly index: string;
  readonly state: 'writing' | 'whole';
  /** Epoch milliseconds. */
  readonly begun: number;
  /** The alias leads to it. */
  readonly shown: boolean;
  /** Other aliases lead to it, which are not ours. */
  readonly pinned: boolean;
}

function stemOf({ alias, tenancy }: Place): string {
  const plain = tenancy.toLowerCase().replace(/[^a-z0-9_]/g, '_');
  const short = createHash('sha256').update(tenancy).digest('hex').slice(0, 8);
  return `${alias}-${plain === tenancy && plain.length <= 24 ? plain : `${plain.slice(0, 24)}_${short}`}`;
}

/** The index of an upload. */
export function indexOf(place: Place, upload: string): string {
  return `${stemOf(place)}-${upload.toLowerCase()}`;
}

/**
 * Every upload of a place that has an index.
 * @throws {CollectError} config when the alias's name is taken by an index
 */
export async function uploadsOf(engine: Engine, place: Place): Promise<readonly Upload[]> {
  const path = `/${encodeURIComponent(place.alias)},${encodeURIComponent(`${stemOf(place)}-`)}*`;
  const query = { ignore_unavailable: 'true', filter_path: '*.aliases,*.mappings._meta' };
  const { body } = await ask(engine, { method: 'GET', path, query });
  const found = body as JsonObject;
  if (place.alias in found) {
    throw new CollectError('config', `${engine.url}/${place.alias} is an index, where an alias is to be`, {
      mend: 'delete it, reindex it under another name, or set another name for indices',
    });
  }
  return Object.entries(found).flatMap(([index, about]) => {
    const meta = at(at(about, 'mappings._meta'), 'cyber_collect');
    if (textAt(meta, 'tag') !== place.tag || textAt(meta, 'tenancy') !== place.tenancy) return [];
    const aliases = Object.keys(at(about, 'aliases') ?? {});
    return {
      index,
      upload_id: textAt(meta, 'upload_id') ?? '',
      timestamp: textAt(meta, 'timestamp') ?? '',
      state: textAt(meta, 'state') === 'whole' ? ('whole' as const) : ('writing' as const),
      begun: numberAt(meta, 'begun') ?? 0,
      shown: aliases.includes(place.alias),
      pinned: aliases.some((alias) => alias !== place.alias),
    };
  });
}

// A field that does not fit its mapping is only not searchable, and the fields that are too many are only not mapped.
// Servers that do not know the second get a higher limit.
const LENIENT = { 'index.mapping.ignore_malformed': true } as const;
const UNLIMITED = { 'index.mapping.total_fields.ignore_dynamic_beyond_limit': true } as const;
const LIMIT = { 'index.mapping.total_fields.limit': 5000 } as const;

/** Creates an index, or takes it as it is; the settings come from templates of the operator where there are any. */
export async function create(engine: Engine, index: string, meta?: JsonObject): Promise<void> {
  const mappings = { properties: MAPPED, ...(meta === undefined ? {} : { _meta: { cyber_collect: meta } }) };
  const put = (more: Readonly<Record<string, unknown>>): Call => ({
    method: 'PUT',
    path: `/${encodeURIComponent(index)}`,
    body: { settings: { ...LENIENT, ...more }, mappings },
  });
  let said = await ask(engine, put(UNLIMITED), [400]);
  if (said.status === 400 && /unknown setting/.test(reasonOf(said.body))) said = await ask(engine, put(LIMIT), [400]);
  if (said.status < 300 || typeOf(said.body) === 'resource_already_exists_exception') return;
  if (/creates data streams only/.test(reasonOf(said.body))) {
    throw new CollectError('config', `${engine.url}/${index}: a template says that this is a data stream`, {
      mend: 'set another name for indices; for events, switch data streams on',
    });
  }
  throw refusal(engine, said.status, typeOf(said.body));
}

function reasonOf(body: unknown): string {
  return textAt(body, 'error.reason') ?? '';
}

/** The meta data of an upload's index. */
export function metaOf({ tag, metadata }: Dataset, state: Upload['state'], begun = Date.now()): JsonObject {
  return { ...(JSON.parse(JSON.stringify(metadata)) as JsonObject), tag, state, begun };
}

/** Says that everything is in an index. */
export async function mark(engine: Engine, index: string, meta: JsonObject): Promise<void> {
  const body = { _meta: { cyber_collect: meta } };
  await ask(engine, { method: 'PUT', path: `/${encodeURIComponent(index)}/_mapping`, body });
}

/** Makes what was written findable; how many documents that is. */
export async function counted(engine: Engine, index: string): Promise<number> {
  const path = `/${encodeURIComponent(index)}`;
  await ask(engine, { method: 'POST', path: `${path}/_refresh` });
  const { body } = await ask(engine, { method: 'GET', path: `${path}/_count` });
  if (numberAt(body, '_shards.failed') !== 0) {
    throw new CollectError('store', `${engine.url}/${index}: not every shard answers`, { mend: 'look at its log' });
  }
  return numberAt(body, 'count') ?? -1;
}

/** Lets the alias lead to an index instead of others, in one step. */
export async function swap(engine: Engine, alias: string, to: string, from: readonly string[]): Promise<void> {
  const actions = [
    ...from.map((index) => ({ remove: { index, alias, must_exist: false } })),
    { add: { index: to, alias } },
  ];
  await ask(engine, { method: 'POST', path: '/_aliases', body: { actions } });
}

/** Deletes an index if it is there. */
export async function drop(engine: Engine, index: string): Promise<void> {
  await ask(engine, { method: 'DELETE', path: `/${encodeURIComponent(index)}` }, [404]);
}

/** Tries once to delete an index that came to nothing. */
export async function discard(engine: Engine, index: string): Promise<void> {
  await engine.call({ method: 'DELETE', path: `/${encodeURIComponent(index)}` }).catch(() => undefined);
}

/** Sees to it that events can be added: to a data stream, or to an index, alias or data stream that is there. */
export async function prepare(engine: Engine, name: string, stream: boolean): Promise<void> {
  const path = `/${encodeURIComponent(name)}`;
  if (!stream) {
    const { status } = await ask(engine, { method: 'GET', path, query: { filter_path: '*.aliases' } }, [404]);
    if (status === 404) await create(engine, name);
    return;
  }
  const { status } = await ask(engine, { method: 'GET', path: `/_data_stream${path}` }, [404]);
  if (status !== 404) return;
  const template = {
    index_patterns: [name],
    data_stream: {},
    priority: 500, // above those that come with the engine
    template: { settings: LENIENT, mappings: { properties: MAPPED } },
  };
  await ask(engine, {
    method: 'PUT',
    path: `/_index_template/cyber-collect-${encodeURIComponent(name)}`,
    body: template,
  });
  const said = await ask(engine, { method: 'PUT', path: `/_data_stream${path}` }, [400]);
  if (said.status === 400 && typeOf(said.body) !== 'resource_already_exists_exception')
    throw refusal(engine, said.status, typeOf(said.body));
}

/** Does to an index of no account what a write does. */
export async function probe(engine: Engine, alias: string): Promise<void> {
  const index = `${alias}-${randomUUID()}`;
  await create(engine, index);
  try {
    const body = { [FACTS]: { tag: 'probe' } };
    await ask(engine, { method: 'PUT', path: `/${encodeURIComponent(index)}/_doc/probe`, body });
    const found = await counted(engine, index);
    if (found !== 1)
      throw new CollectError('store', `${engine.url}/${index} lost a document`, { mend: 'look at its log' });
    await swap(engine, alias, index, []);
  } finally {
    await drop(engine, index);
  }
}
