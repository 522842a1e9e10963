import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import store from '../../src/stores/store_file.ts';
import { datasetOf } from '../support/dataset.ts';
import { askSpark, pythonWithSpark } from '../support/spark.ts';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-spark-'));
  await pythonWithSpark();
}, 600_000);

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const UPLOADS = [
  ['okta_users', 'acme', '2026-01-31T23:59:59Z', 1000],
  ['okta_users', 'acme', '2026-02-01T00:00:00Z', 0],
  ['okta_users', 'globex', '2026-02-01T00:00:00Z', 300],
  ['okta_groups', 'acme', '2026-02-01T00:00:00Z', 7],
] as const;

function recordOf(n: number): string {
  const kept = { id: n, name: `Zoë, "${n}"\n🦊`, seen: '2026-01-02T03:04:05.123456Z', at: '2026-01-02T03:04:05' };
  const rest = {
    score: n / 8,
    active: n % 2 === 0,
    profile: { tags: [n], tenancy: 'x' },
    note: null,
    day: '2026-02-28',
  };
  return `{"big":9007199254740993,"unsigned":18446744073709551615,${JSON.stringify({ ...kept, ...rest }).slice(1)}`;
}

/** Writes the uploads into folders that are named as Hive names partitions, and leaves what a killed run leaves. */
async function lake(extension: string): Promise<string> {
  const root = join(folder, extension);
  const path = join(root, `tag=%TAG/tenancy=%TENANCY/year=%YYYY/month=%MM/%UUID.${extension}`);
  const settings = z.object(store.env).parse({ STORE_FILE: path });
  for (const [tag, tenancy, timestamp, count] of UPLOADS) {
    const sink = await store.open(settings, {
      tenancy,
      at: new Date(timestamp),
      warn: (said) => expect(said).toBe(''),
    });
    const records = Array.from({ length: count }, (_, n) => recordOf(n));
    const dataset = await datasetOf(folder, records, { tag, metadata: { tenancy, timestamp } });
    const { at } = await sink.write(dataset);
    // One that is about to become visible, and stays so.
    await new Promise<void>((reached) => {
      const confirm = () => new Promise<never>(() => reached());
      const metadata = { ...dataset.metadata, upload_id: randomUUID() };
      void sink.write({ ...dataset, metadata, confirm });
    });
    await writeFile(join(dirname(at), `.left.${extension}.0.tmp`), 'half of a file');
  }
  return root;
}

const PARTITIONS = [
  { tag: 'okta_groups', tenancy: 'acme', year: 2026, month: 2, records: 7, ids: 7 },
  { tag: 'okta_users', tenancy: 'acme', year: 2026, month: 1, records: 1000, ids: 1000 },
  { tag: 'okta_users', tenancy: 'globex', year: 2026, month: 2, records: 300, ids: 300 },
];

const ASK = `
from pyspark.sql import functions as F
frame = {
  'parquet': lambda: spark.read.option('mergeSchema', 'true').parquet(sys.argv[1]),
  'ndjson': lambda: spark.read.json(sys.argv[1]),
  'csv': lambda: spark.read.options(header=True, multiLine=True, escape='"').csv(sys.argv[1]),
}[sys.argv[2]]()
answer['types'] = types(frame)
answer['partitions'] = rows(frame.groupBy('tag', 'tenancy', 'year', 'month')
  .agg(F.count('*').alias('records'), F.countDistinct('id').alias('ids')).orderBy('tag', 'tenancy', 'year', 'month'))
answer['distinct'] = frame.where("tag = 'okta_users' and tenancy = 'acme'").select('id').distinct().count()
answer['pruned'] = frame.where("year = 2026 and month = 1 and tenancy = 'acme'").count()
one = frame.where("id = 5 and tenancy = 'globex'")
answer['one'] = rows(one)[0]
answer['exact'] = rows(one.selectExpr('cast(big as string) big', 'cast(unsigned as string) unsigned',
  "date_format(cast(seen as timestamp), 'HH:mm:ss.SSSSSS') seen"))[0]
`;

interface Answer {
  readonly types: Readonly<Record<string, string>>;
  readonly partitions: readonly unknown[];
  readonly distinct: number;
  readonly pruned: number;
  readonly exact: unknown;
  readonly one: Readonly<Record<string, unknown>>;
}

describe('Spark reads the folders as they are', () => {
  async function answered(extension: string): Promise<Answer> {
    const answer = await askSpark<Answer>(ASK, [await lake(extension), extension]);
    expect(answer.partitions).toEqual(PARTITIONS);
    expect(answer.distinct).toBe(1000);
    expect(answer.pruned).toBe(1000);
    const exact = { big: '9007199254740993', unsigned: '18446744073709551615', seen: '03:04:05.123456' };
    expect(answer.exact).toEqual(exact);
    return answer;
  }

  test('of Parquet, with types', async () => {
    const { types, one } = await answered('parquet');
    expect(types).toEqual({
      upload_timestamp: 'timestamp',
      upload_id: 'string',
      big: 'bigint',
      unsigned: 'decimal(20,0)',
      id: 'bigint',
      name: 'string',
      seen: 'timestamp',
      at: 'timestamp_ntz',
      score: 'double',
      active: 'boolean',
      profile: 'string',
      note: 'string',
      day: 'date',
      tag: 'string',
      tenancy: 'string',
      year: 'int',
      month: 'int',
    });
    expect(one).toMatchObject({
      upload_timestamp: '2026-02-01T00:00:00.000Z',
      name: 'Zoë, "5"\n🦊',
      at: '2026-01-02T03:04:05.000',
      score: 0.625,
      active: false,
      profile: '{"tags":[5],"tenancy":"x"}',
      day: '2026-02-28',
    });
  });

  test('of NDJSON, as the vendor sent it', async () => {
    const { types, one } = await answered('ndjson');
    expect(types).toMatchObject({ big: 'bigint', profile: 'struct<tags:array<bigint>,tenancy:string>', year: 'int' });
    expect(one).toMatchObject({ name: 'Zoë, "5"\n🦊', profile: { tags: [5], tenancy: 'x' }, score: 0.625 });
  });

  test('of CSV, as texts', async () => {
    const { one } = await answered('csv');
    expect(one).toMatchObject({ unsigned: '18446744073709551615', name: 'Zoë, "5"\n🦊', active: 'false' });
  });
});
