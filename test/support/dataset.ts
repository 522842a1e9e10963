import { createHash, randomUUID } from 'node:crypto';
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
  let count = 0;
  for (const record of records) {
    await writer.write([Buffer.from(`${record}\n`)]);
    count += 1;
  }
  const spool = await writer.finish(count);
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

/** Records of so many bytes together, made as they are read. */
export function* recordsOfSize(bytes: number): Generator<string> {
  const filler = 'x'.repeat(2000);
  for (let made = 0, n = 0; made < bytes; n += 1) {
    const noise = createHash('sha256').update(String(n)).digest('hex');
    const record = `{"id":${n},"noise":"${noise}","text":"${filler}"}`;
    made += record.length + 1;
    yield record;
  }
}
