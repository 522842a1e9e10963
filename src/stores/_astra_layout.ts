import { CollectError } from '../errors.ts';
import { type JsonObject, numberAt } from '../json.ts';
import type { DataApi } from './_astra.ts';
import { RECORDS, UNFINISHED, UPLOADS } from './_cassandra_tables.ts';
import type { Pack } from './_packs.ts';

/** An upload, or what is known of one. */
export interface Upload {
  readonly tenancy: string;
  readonly tag: string;
  readonly upload_id: string;
  readonly upload_timestamp: string;
  readonly buckets: number;
}

/** How uploads lie in tables, or in one collection. */
export interface Layout {
  /** Where records go. */
  readonly records: string;
  create(): Promise<void>;
  add(upload: Upload, pack: Pack): Promise<void>;
  remove(upload: Upload): Promise<void>;
  /** Notes an upload as whole. */
  list(upload: Upload, facts: { readonly records: number; readonly metadata: string }): Promise<void>;
  unlist(upload: Upload): Promise<void>;
  isListed(upload: Upload): Promise<boolean>;
  /** Whole uploads, the newest first. */
  listed(tenancy: string, tag: string): Promise<readonly Upload[]>;
  newest(tenancy: string, tag: string): Promise<Upload | undefined>;
  /** Notes what a run that is killed may leave behind. */
  announce(upload: Upload): Promise<void>;
  ended(upload: Upload): Promise<void>;
  unfinished(tenancy: string, tag: string): Promise<readonly Upload[]>;
}

const NEWEST_FIRST = { sort: { upload_timestamp: -1 } };

function uploadOf(document: JsonObject): Upload {
  const { tenancy, tag, upload_id, upload_timestamp } = document;
  const timestamp = new Date(String(upload_timestamp)).toISOString().replace('.000Z', 'Z');
  return {
    tenancy: String(tenancy),
    tag: String(tag),
    upload_id: String(upload_id),
    upload_timestamp: timestamp,
    buckets: numberAt(document, 'buckets') ?? 0,
  };
}

function newestFirst(uploads: readonly Upload[]): readonly Upload[] {
  return uploads.toSorted((a, b) => (a.upload_timestamp < b.upload_timestamp ? 1 : -1));
}

function textsOf(pack: Pack): readonly (readonly [seq: number, part: number, text: string])[] {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  return pack.rows.map(({ seq, part, bytes }) => {
    try {
      return [seq, part, decoder.decode(bytes)];
    } catch {
      throw new CollectError('store', `record ${seq + 1} is no valid UTF-8, which the Data API does not take`, {
        mend: 'leave the dataset out of this store',
      });
    }
  });
}

function namesOf(pack: Pack): string {
  return `records ${(pack.rows[0]?.seq ?? 0) + 1} to ${pack.seen}`;
}

/** The cassandra store's tables: what either of them writes, both can read. */
export function tables(api: DataApi): Layout {
  const keyOf = ({ tenancy, tag, upload_id, upload_timestamp }: Upload) => ({
    tenancy,
    tag,
    upload_timestamp,
    upload_id,
  });
  const unfinishedKey = ({ tenancy, tag, upload_id }: Upload) => ({ tenancy, tag, upload_id });
  const uploads = async (target: string, filter: JsonObject, more?: JsonObject) =>
    (await api.find(target, filter, more)).map(uploadOf);
  return {
    records: RECORDS,
    async create() {
      for (const [name, definition] of Object.entries(DEFINITIONS)) {
        await api.command('createTable', { name, definition, options: { ifNotExists: true } });
      }
    },
    async add({ buckets: _, ...upload }, pack) {
      const rows = textsOf(pack).map(([seq, part, json_data]) => ({
        ...upload,
        bucket: pack.bucket,
        seq,
        part,
        json_data,
      }));
      await api.insert(RECORDS, rows, namesOf(pack));
    },
    async remove(upload) {
      for (let bucket = 0; bucket < upload.buckets; bucket += 1) {
        await api.command('deleteMany', { filter: { ...unfinishedKey(upload), bucket } }, RECORDS);
      }
    },
    list: (upload, facts) => api.insert(UPLOADS, [{ ...upload, ...facts }], 'the list of uploads'),
    async unlist(upload) {
      await api.command('deleteOne', { filter: keyOf(upload) }, UPLOADS);
    },
    isListed: async (upload) => (await api.find(UPLOADS, keyOf(upload))).length > 0,
    listed: async (tenancy, tag) => newestFirst(await uploads(UPLOADS, { tenancy, tag })),
    newest: async (tenancy, tag) =>
      (await uploads(UPLOADS, { tenancy, tag }, { ...NEWEST_FIRST, options: { limit: 1 } }))[0],
    announce: (upload) => api.insert(UNFINISHED, [{ ...upload }], 'what is begun'),
    async ended(upload) {
      await api.command('deleteOne', { filter: unfinishedKey(upload) }, UNFINISHED);
    },
    unfinished: (tenancy, tag) => uploads(UNFINISHED, { tenancy, tag }),
  };
}

const KEYED = { tenancy: 'text', tag: 'text', upload_id: 'uuid', upload_timestamp: 'timestamp' };
const DEFINITIONS: Readonly<Record<string, JsonObject>> = {
  [RECORDS]: {
    columns: { ...KEYED, bucket: 'int', seq: 'int', part: 'int', json_data: 'text' },
    primaryKey: { partitionBy: ['tenancy', 'tag', 'upload_id', 'bucket'], partitionSort: { seq: 1, part: 1 } },
  },
  [UPLOADS]: {
    columns: { ...KEYED, records: 'bigint', buckets: 'int', metadata: 'text' },
    primaryKey: { partitionBy: ['tenancy', 'tag'], partitionSort: { upload_timestamp: -1, upload_id: 1 } },
  },
  [UNFINISHED]: {
    columns: { ...KEYED, buckets: 'int' },
    primaryKey: { partitionBy: ['tenancy', 'tag'], partitionSort: { upload_id: 1 } },
  },
};

/** One collection for all datasets, as a database has room for few. Texts that are not indexed may be long. */
export function collection(api: DataApi, target: string): Layout {
  const idOf = ({ upload_id }: Upload, end: string) => `${upload_id}-${end}`;
  const uploads = async (filter: JsonObject, more?: JsonObject) => (await api.find(target, filter, more)).map(uploadOf);
  const removeOne = async (_id: string) => {
    await api.command('deleteOne', { filter: { _id } }, target);
  };
  return {
    records: target,
    async create() {
      const options = { indexing: { deny: ['json_data', 'metadata'] } };
      await api.command('createCollection', { name: target, options });
    },
    async add({ buckets: _, ...upload }, pack) {
      const documents = textsOf(pack).map(([seq, part, json_data]) => ({
        _id: `${upload.upload_id}-${seq}${part === 0 ? '' : `-${part}`}`,
        kind: 'record',
        ...upload,
        seq,
        part,
        json_data,
      }));
      await api.insert(target, documents, namesOf(pack));
    },
    async remove({ upload_id }) {
      // Twenty go at a time, and the answer says whether there are more.
      for (;;) {
        const answer = await api.command('deleteMany', { filter: { upload_id, kind: 'record' } }, target);
        const { moreData, deletedCount } = (answer.status ?? {}) as JsonObject;
        if (moreData !== true && !(typeof deletedCount === 'number' && deletedCount >= 20)) return;
      }
    },
    list: (upload, facts) =>
      api.insert(target, [{ _id: idOf(upload, 'upload'), kind: 'upload', ...upload, ...facts }], 'the list of uploads'),
    unlist: (upload) => removeOne(idOf(upload, 'upload')),
    isListed: async (upload) => (await api.find(target, { _id: idOf(upload, 'upload') })).length > 0,
    listed: async (tenancy, tag) => newestFirst(await uploads({ kind: 'upload', tenancy, tag })),
    newest: async (tenancy, tag) =>
      (await uploads({ kind: 'upload', tenancy, tag }, { ...NEWEST_FIRST, options: { limit: 1 } }))[0],
    announce: (upload) =>
      api.insert(target, [{ _id: idOf(upload, 'unfinished'), kind: 'unfinished', ...upload }], 'what is begun'),
    ended: (upload) => removeOne(idOf(upload, 'unfinished')),
    unfinished: (tenancy, tag) => uploads({ kind: 'unfinished', tenancy, tag }),
  };
}
