import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { isCustom, parentOf } from '../collectors/collector.ts';
import { type Spool, SpoolWriter, spoolRecords } from '../envelope/spool.ts';
import type { Client } from '../http/client.ts';
import { systemClock } from '../http/pace.ts';
import type { ActiveCollector, PlannedDataset } from './activate.ts';
import { batchesOf, isPage, lineOf, newTally } from './collect.ts';

/** What taking a sample needs. */
export interface SampleOptions {
  readonly active: ActiveCollector;
  readonly client: Client;
  readonly signal: AbortSignal;
  readonly at: Date;
  /** Folder for the sample while it is taken. */
  readonly scratch: string;
  readonly warn: (message: string) => void;
}

/** The first records of a dataset as their JSON text; for children those of the first few parents. */
export async function sample(
  dataset: PlannedDataset,
  most: number,
  options: SampleOptions,
): Promise<readonly string[]> {
  const spool = await sampleSpool(dataset, most, options);
  const out: string[] = [];
  for await (const record of spoolRecords(spool)) {
    if (out.length === most) break;
    out.push(record.toString('utf8'));
  }
  await rm(spool.path, { force: true });
  return out;
}

/** Tries the least that shows whether a dataset can be read. */
export async function probe(dataset: PlannedDataset, options: SampleOptions): Promise<void> {
  const { definition } = dataset;
  if (isCustom(definition) && definition.probe !== undefined)
    await options.client.http(newTally(), options.signal).json(definition.probe);
  else await sample(dataset, 1, options);
}

async function sampleSpool(dataset: PlannedDataset, most: number, options: SampleOptions): Promise<Spool> {
  const { active, client, signal, at, scratch, warn } = options;
  const parentName = parentOf(dataset.definition);
  const parent = active.datasets.find(({ resource }) => resource === parentName);
  const parents = parent === undefined ? undefined : await sampleSpool(parent, 20, options);
  const writer = await SpoolWriter.create(`${scratch}/sample-${randomUUID()}.ndjson`);
  const tally = newTally();
  const cursor = { read: async () => undefined, save: () => undefined, saved: () => null };
  const sleep = (seconds: number) => systemClock.sleep(seconds * 1000, signal);
  try {
    for await (const batch of batchesOf(
      { dataset, settings: active.settings, http: client.http(tally, signal), tally, signal, at, cursor, sleep, warn },
      parents,
    )) {
      if (isPage(batch)) for await (const lines of batch.lines()) await writer.write(lines);
      else await writer.write(batch.map((record) => lineOf(record, dataset.definition.secrets)));
      tally.records += isPage(batch) ? batch.records : batch.length;
      if (tally.records >= most) break;
    }
    return await writer.finish(tally.records);
  } catch (error) {
    await writer.abort();
    throw error;
  } finally {
    if (parents !== undefined) await rm(parents.path, { force: true });
  }
}
