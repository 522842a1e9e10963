import { randomUUID } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { DuckDBInstance } from '@duckdb/node-api';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { needed } from '../support/needed.ts';
import { collectOnce, resultOf, temporaryFolder } from '../support/run.ts';

const endpoint = needed('TEST_S3_ENDPOINT');
const credentials = {
  accessKeyId: needed('TEST_S3_ACCESS_KEY_ID'),
  secretAccessKey: needed('TEST_S3_SECRET_ACCESS_KEY'),
};
const region = needed('TEST_S3_REGION');
const database = new URL(needed('TEST_POSTGRES_URL'));
const bucket = `cc-fallback-${randomUUID()}`;
const schema = `fallback_${randomUUID().replaceAll('-', '')}`;
const only = ['okta.users', 'okta.groups'];
let reader: pg.Pool;

beforeAll(async () => {
  reader = new pg.Pool({ connectionString: database.href });
  const admin = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  await admin.send(new CreateBucketCommand({ Bucket: bucket }));
  admin.destroy();
});

afterAll(async () => {
  await reader.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  await reader.end();
});

function everywhere(folder: string): Record<string, string> {
  return {
    STORE_FILE: join(folder, 'data', '%TAG.json'),
    STORE_DUCKDB: join(folder, 'all.duckdb'),
    STORE_POSTGRES_HOST: database.hostname,
    STORE_POSTGRES_PORT: database.port,
    STORE_POSTGRES_USER: decodeURIComponent(database.username),
    STORE_POSTGRES_DBNAME: database.pathname.slice(1),
    STORE_POSTGRES_SCHEMA: schema,
    STORE_AWS_S3_BUCKET: bucket,
    STORE_AWS_S3_KEY: 'data/%TAG/%YYYY/%MM/%DD/%UUID.ndjson.gz',
    STORE_AWS_S3_ENDPOINT: endpoint,
    STORE_AWS_S3_FORCE_PATH_STYLE: 'true',
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    AWS_REGION: region,
  };
}

async function inDuckdb(path: string): Promise<number> {
  const instance = await DuckDBInstance.create(path);
  const connection = await instance.connect();
  const rows = await connection.runAndReadAll('select count(*)::int from okta_users_latest');
  connection.closeSync();
  instance.closeSync();
  return Number(rows.getRows()[0]?.[0]);
}

async function inPostgres(): Promise<number> {
  return (await reader.query(`select count(*)::int as n from ${schema}.okta_users_latest`)).rows[0].n;
}

test('every store side by side; when the vendor fails, the backup fills what is missing and overwrites nothing', async () => {
  const folder = await temporaryFolder();
  const stores = everywhere(folder);
  const good = await startVendor(okta, { scale: 120 });
  const first = await collectOnce({ env: { ...good.env, ...stores }, only, folder });
  await good.close();
  expect(first.summary.exit_code).toBe(0);
  expect(resultOf(first.summary, 'okta_users').stores.map(({ store }) => store)).toEqual([
    'duckdb',
    'file',
    'postgres',
    's3',
    's3 backup',
  ]);
  const before = await readFile(join(folder, 'data', 'okta_users.json'), 'utf8');

  // A new machine: files and DuckDB are gone, Postgres still holds the upload.
  await rm(join(folder, 'data'), { recursive: true });
  await rm(join(folder, 'all.duckdb'));
  const bad = await startVendor(okta, { scale: 120, faults: [{ name: '403', resource: 'users' }] });
  const second = await collectOnce({ env: { ...bad.env, ...stores }, only, folder });
  await bad.close();

  expect(second.summary.exit_code).toBe(3);
  const users = resultOf(second.summary, 'okta_users');
  const uploaded = resultOf(first.summary, 'okta_users').upload_id;
  expect(users).toMatchObject({ verdict: 'restored', cause: 'denied', stale: true, records: 120, upload_id: uploaded });
  expect(users.stores.find(({ store }) => store === 'postgres')?.at).toMatch(/^\(kept/);
  expect(users.stores.some(({ store }) => store.startsWith('s3'))).toBe(false);
  const after = JSON.parse(await readFile(join(folder, 'data', 'okta_users.json'), 'utf8'));
  expect(after.data).toEqual(JSON.parse(before).data);
  expect(after.metadata).toEqual({
    ...JSON.parse(before).metadata,
    stale: true,
    restored_from: `s3://${bucket}/backup/okta_users/default.json`,
  });
  expect(await inDuckdb(join(folder, 'all.duckdb'))).toBe(120);
  expect(await inPostgres()).toBe(120);
  expect(resultOf(second.summary, 'okta_groups').verdict).toBe('complete');
});

test('without a backup yet, a dataset that fails has failed', async () => {
  const folder = await temporaryFolder();
  const bad = await startVendor(okta, { faults: [{ name: '401-forever' }] });
  const env = { ...bad.env, ...everywhere(folder), STORE_AWS_S3_BACKUP: 'other/%TAG.json' };
  const { summary } = await collectOnce({ env, only: ['okta.devices'], folder });
  await bad.close();
  expect(summary.exit_code).toBe(4);
  expect(resultOf(summary, 'okta_devices')).toMatchObject({ verdict: 'failed', stores: [] });
  expect(summary.problems).toEqual([]);
});
