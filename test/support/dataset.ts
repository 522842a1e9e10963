import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { Metadata } from '../../src/envelope/metadata.ts';
import { SpoolWriter } from '../../src/envelope/spool.ts';
import type { Dataset, Kind } from '../../src/stores/store.ts';

/** What a test may choose of a dataset. */
export interface DatasetChoice {
  readonly tag?: string;
  readonly kind?: Kind;
  readonly metadata?: Partial<Metadata>;
  /** Whether the run still holds its lock; it does unless told. */
  readonly confirm?: Dataset['confirm'];
}

let clock = Date.UTC(2026, 0, 1);

/** A dataset with a real spool of these records, a second younger than the one made before. */
export async function datasetOf(
  folder: string,
  records: Iterable<string>,
  choice: DatasetChoice = {},
): Promise<Dataset> {
  const upload = choice.metadata?.upload_id ?? randomUUID();
  const writer = await SpoolWriter.create(join(folder, `${upload}-${randomUUID()}.ndjson`));
  const lines = Array.from(records, (record) => Buffer.from(`${record}\n`));
  await writer.write(lines);
  const spool = await writer.finish(lines.length);
  const tag = choice.tag ?? 'okta_users';
  clock += 1000;
  return {
    tag,
    kind: choice.kind ?? 'snapshot',
    id: ['id'],
    spool,
    confirm: choice.confirm ?? (async () => undefined),
    metadata: {
      tenancy: 'acme',
      upload_id: upload,
      timestamp: new Date(clock).toISOString().replace('.000Z', 'Z'),
      tag,
      records: spool.records,
      collector: 'okta',
      resource: 'users',
      run_id: randomUUID(),
      version: '0.0.0',
      sha256: spool.sha256,
      ...choice.metadata,
    },
  };
}
