import type { Metadata } from '../envelope/metadata.ts';
import { SpoolWriter } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { RecordSplitter } from '../http/records.ts';
import { isObject, textAt } from '../json.ts';
import type { Dataset } from '../stores/store.ts';
import type { TemplateValues } from '../templating/template.ts';
import type { PlannedDataset } from './activate.ts';
import type { OpenStore } from './deliver.ts';

/**
 * The last good copy of a dataset out of the first backup that has one, marked stale; undefined when there is none yet.
 * @throws {CollectError} store when the copy is not what its metadata says
 */
export async function restore(
  planned: PlannedDataset,
  stores: readonly OpenStore[],
  names: TemplateValues,
  path: string,
): Promise<Omit<Dataset, 'confirm'> | undefined> {
  for (const { sink } of stores) {
    const copy = await sink.backup?.load(names);
    if (copy !== undefined) return readCopy(planned, copy.body, copy.at, path);
  }
  return undefined;
}

async function readCopy(
  planned: PlannedDataset,
  body: AsyncIterable<Uint8Array>,
  at: string,
  path: string,
): Promise<Omit<Dataset, 'confirm'>> {
  const splitter = new RecordSplitter({ path: 'data' });
  const writer = await SpoolWriter.create(path);
  try {
    for await (const chunk of body) await writer.write(splitter.write(chunk));
    const facts = splitter.end();
    const metadata = isObject(facts.body) ? facts.body.metadata : undefined;
    const spool = await writer.finish(facts.records);
    if (!facts.found || textAt(metadata, 'upload_id') === undefined || textAt(metadata, 'timestamp') === undefined) {
      throw new CollectError('store', `the backup ${at} is no envelope with metadata`, {
        mend: 'look at it, and remove it if it is not ours',
      });
    }
    const kept = metadata as unknown as Metadata;
    if (kept.records !== facts.records || (kept.sha256 !== undefined && kept.sha256 !== spool.sha256)) {
      throw new CollectError('store', `the backup ${at} does not hold what its metadata says`, {
        mend: 'restore an earlier version of the object',
      });
    }
    const { tag, kind, id } = planned;
    return { tag, kind, id, spool, metadata: { ...kept, sha256: spool.sha256, stale: true, restored_from: at } };
  } catch (error) {
    await writer.abort();
    throw error;
  }
}
