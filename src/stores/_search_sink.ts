import { choice, flag, integer, list, optional, seconds, setting, text } from '../config/setting.ts';
import { assertWhole } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { parseTemplate } from '../templating/template.ts';
import { type Doc, type Load, load, type Remedies, robbed } from './_bulk.ts';
import { ask, type Engine } from './_search.ts';
import { assertIntact, asText, docsOf, FACTS, type Making, renamed } from './_search_docs.ts';
import {
  counted,
  create,
  discard,
  drop,
  indexName,
  indexOf,
  mark,
  metaOf,
  type Place,
  prepare,
  probe,
  swap,
  type Upload,
  uploadsOf,
} from './_search_index.ts';
import { type Dataset, namesOf, type OpenContext, type Sink } from './store.ts';

/** The variables of how a search engine is filled, to be named by a store. */
export function fillingWords() {
  return {
    index: setting('Template of the index that events go to, and of the alias that leads to a snapshot', text('%TAG')),
    id: setting(
      'Dotted paths of the fields that tell records apart; unset = what the resource says',
      list().optional(),
    ),
    op: setting(
      'Events that are there already: index writes them again, create leaves them',
      choice(['index', 'create'], 'index'),
    ),
    threshold: setting('Documents in one request, at most', integer(1000, 1)),
    sleep: setting('Seconds to wait between requests', seconds()),
    bytes: setting('Bytes in one request, at most, unless one record is longer', integer(8 * 2 ** 20, 1024)),
    pipeline: setting('Ingest pipeline that documents go through', optional()),
    keep: setting('Replaced uploads of a snapshot that stay, for readers who are still on them', integer(1, 0, 100)),
    streams: setting('Events go to data streams, for which an index template is put where there is none', flag()),
    authority: setting('Path of the PEM file of the certificate authority', optional()),
  };
}

/** How a search engine is filled. */
export interface Filling {
  readonly index: string;
  readonly id: readonly string[] | undefined;
  readonly op: 'index' | 'create';
  readonly threshold: number;
  /** Seconds. */
  readonly sleep: number;
  readonly bytes: number;
  readonly pipeline: string | undefined;
  readonly keep: number;
  readonly streams: boolean;
}

const NO_UPLOAD = '00000000-0000-0000-0000-000000000000';

/** A store over an engine. */
export function searchSink(engine: Engine, filling: Filling, context: OpenContext): Sink {
  const nameFor = (tag: string) =>
    indexName(filling.index, { uuid: NO_UPLOAD, tag, tenancy: context.tenancy, at: context.at });
  let closing: Promise<void> | undefined; // a second time would never end
  return {
    async write(dataset) {
      await assertWhole(dataset.spool);
      const name = indexName(filling.index, namesOf(dataset, context));
      const job = { engine, filling, dataset, context, name, strays: { count: 0 } };
      await (dataset.kind === 'events' ? append(job) : replace(job));
      const { count, first } = job.strays as Strays;
      if (count > 0) {
        const which = `${count} (first: record ${first?.number}, ${first?.type})`;
        context.warn(`${engine.url}/${name}: records kept as text in _record, as they are no fields for it: ${which}`);
      }
      return { at: `${engine.url}/${name}`, records: dataset.metadata.records };
    },
    async latest(tag) {
      if (parseTemplate(filling.index).perRun) return undefined;
      const uploads = await uploadsOf(engine, { alias: nameFor(tag), tag, tenancy: context.tenancy });
      const shown = uploads
        .filter((upload) => upload.shown)
        .sort(byAge)
        .at(-1);
      return shown === undefined ? undefined : { upload_id: shown.upload_id, timestamp: shown.timestamp };
    },
    check: () => probe(engine, nameFor('cyber_collect_probe')),
    close() {
      closing ??= engine.close();
      return closing;
    },
  };
}

/** Records that are not fields of their document. */
interface Strays {
  count: number;
  first?: { readonly number: number; readonly type: string };
}

interface Job {
  readonly engine: Engine;
  readonly filling: Filling;
  readonly dataset: Dataset;
  readonly context: OpenContext;
  /** The index, data stream or alias. */
  readonly name: string;
  readonly strays: Strays;
}

/** Events are added as they come; what is there of them already is not added again. */
async function append(job: Job): Promise<void> {
  const { engine, filling, dataset, name } = job;
  if (dataset.spool.records === 0) return;
  await assertIntact(dataset);
  await dataset.confirm();
  await prepare(engine, name, filling.streams);
  await fill(job, name, filling.streams ? 'create' : filling.op);
  await ask(engine, { method: 'POST', path: `/${encodeURIComponent(name)}/_refresh` });
}

/** A snapshot is written to an index of its own, which readers find once it is whole. */
async function replace(job: Job): Promise<void> {
  const { engine, filling, dataset, context, name } = job;
  const { upload_id, tenancy } = dataset.metadata;
  const place: Place = { alias: name, tag: dataset.tag, tenancy };
  const uploads = await uploadsOf(engine, place);
  const index = indexOf(place, upload_id);
  const mine = uploads.find((upload) => upload.index === index);
  if (mine?.shown === true) return;
  try {
    if (mine?.state === 'writing') await drop(engine, index);
    if (mine?.state !== 'whole') await build(job, index);
    await dataset.confirm();
  } catch (cause) {
    await discard(engine, index);
    throw cause;
  }
  const old = uploads.filter((upload) => upload.shown);
  // Where this fails it may have happened nonetheless, so the index stays.
  await swap(
    engine,
    name,
    index,
    old.map((upload) => upload.index),
  );
  const others = uploads.filter((upload) => upload.index !== index);
  await sweep(engine, others, filling.keep).catch((cause: unknown) => {
    const why = cause instanceof CollectError ? cause.message : 'no answer';
    context.warn(`${name} is up to date, but its replaced uploads were not deleted: ${why}`);
  });
}

async function build(job: Job, index: string): Promise<void> {
  const { engine, dataset } = job;
  const begun = Date.now();
  await create(engine, index, metaOf(dataset, 'writing', begun));
  await fill(job, index, 'create');
  const found = await counted(engine, index);
  if (found !== dataset.spool.records) {
    throw new CollectError('store', `${engine.url}/${index} holds ${found} of ${dataset.spool.records} records`, {
      mend: 'check that no ingest pipeline drops documents and that nobody else deletes indices, and run again',
    });
  }
  await mark(engine, index, metaOf(dataset, 'whole', begun));
}

async function fill({ engine, filling, dataset, strays }: Job, index: string, op: Load['op']): Promise<void> {
  const stream = dataset.kind === 'events' && filling.streams;
  const making: Making = { dataset, key: filling.id ?? dataset.id, stream };
  const remedies: Remedies = {
    refused(doc, type) {
      strays.count += 1;
      strays.first ??= { number: doc.number, type };
      return asText(doc, making);
    },
    async taken(docs) {
      const body = { ids: docs.map(({ id }) => id) };
      const query = { _source_includes: `${FACTS}.record` };
      const said = await ask(engine, { method: 'POST', path: `/${encodeURIComponent(index)}/_mget`, query, body });
      return robbed(said.body, docs, `${FACTS}.record`).map((doc: Doc) => renamed(doc, making));
    },
  };
  const { threshold, bytes, pipeline, sleep } = filling;
  await load(engine, docsOf(making), { index, op, pipeline, threshold, bytes, sleep: sleep * 1000 }, remedies);
}

const LEFT_OVER = 3_600_000;

/** Deletes replaced uploads but the newest few, and what runs killed an hour ago or more left half-written. */
async function sweep(engine: Engine, uploads: readonly Upload[], keep: number): Promise<void> {
  const free = uploads.filter(({ pinned }) => !pinned);
  const replaced = free.filter(({ state }) => state === 'whole').sort(byAge);
  const dead = free.filter(({ state, begun }) => state === 'writing' && Date.now() - begun > LEFT_OVER);
  const gone = [...replaced.slice(0, Math.max(0, replaced.length - keep)), ...dead];
  for (const { index } of gone) await drop(engine, index);
}

function byAge(a: Upload, b: Upload): number {
  return Date.parse(a.timestamp) - Date.parse(b.timestamp) || a.begun - b.begun;
}
