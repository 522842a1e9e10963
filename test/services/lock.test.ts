import { randomUUID } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Environment, environmentOf } from '../../src/config/environment.ts';
import { programOf } from '../../src/run/activate.ts';
import { type Coordination, openCoordination } from '../../src/run/coordination.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { failureOf } from '../support/failure.ts';
import { needed } from '../support/needed.ts';
import { collectOnce, storedLines, temporaryFolder } from '../support/run.ts';

/** The program's own way to a bucket of its own on the real server. */
async function bucketEnvironment(): Promise<Readonly<Record<string, string>>> {
  const bucket = `cc-state-${randomUUID()}`;
  const env = {
    AWS_ACCESS_KEY_ID: needed('TEST_S3_ACCESS_KEY_ID'),
    AWS_SECRET_ACCESS_KEY: needed('TEST_S3_SECRET_ACCESS_KEY'),
    AWS_REGION: needed('TEST_S3_REGION'),
    STORE_AWS_S3_ENDPOINT: needed('TEST_S3_ENDPOINT'),
    STORE_AWS_S3_FORCE_PATH_STYLE: 'true',
  };
  const { S3Client, CreateBucketCommand } = await import('@aws-sdk/client-s3');
  const client = new S3Client({
    region: env.AWS_REGION,
    endpoint: env.STORE_AWS_S3_ENDPOINT,
    forcePathStyle: true,
    credentials: { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY },
  });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
  return { ...env, CYBER_COLLECT_STATE_S3: `s3://${bucket}/collect` };
}

const PLACES: readonly (readonly [string, () => Promise<Readonly<Record<string, string>>>])[] = [
  ['a bucket', bucketEnvironment],
  ['PostgreSQL', async () => ({ CYBER_COLLECT_LOCK_POSTGRES: needed('TEST_POSTGRES_URL') })],
];

/** What one of several machines sees: a state folder of its own, locks it shares. */
async function machine(shared: Readonly<Record<string, string>>): Promise<Coordination> {
  const environment: Environment = environmentOf({ ...shared, CYBER_COLLECT_STATE: await temporaryFolder() });
  const opened = await openCoordination(environment, programOf(environment, []));
  onTestFinished(() => opened.close());
  return opened;
}

describe.each(PLACES)('locks in %s', (_name, place) => {
  test('are held by one machine of several, and let go', async () => {
    const shared = await place();
    const tenancy = randomUUID();
    const [one, two] = await Promise.all([machine(shared), machine(shared)]);
    const lock = await one.locks.take(tenancy, 'okta');
    await lock.confirm();
    expect((await failureOf(two.locks.take(tenancy, 'okta'))).code).toBe('locked');
    await (await two.locks.take(tenancy, 'crowdstrike')).release();
    await lock.release();
    await (await two.locks.take(tenancy, 'okta')).release();
  });

  test('are taken by one of many at once', async () => {
    const shared = await place();
    const tenancy = randomUUID();
    const machines = await Promise.all(Array.from({ length: 8 }, () => machine(shared)));
    const ends = await Promise.allSettled(machines.map(({ locks }) => locks.take(tenancy, 'okta')));
    const won = ends.filter((end) => end.status === 'fulfilled');
    expect(won.length).toBe(1);
    await won[0]?.value.release();
  });
});

test('a bucket’s lock that was taken over is noticed', async () => {
  const shared = await bucketEnvironment();
  const one = await machine(shared);
  const lock = await one.locks.take('acme', 'okta');
  await lock.release();
  const error = await failureOf(lock.confirm());
  expect(error).toMatchObject({ code: 'locked', message: expect.stringContaining('taken over') });
});

test('a connection that PostgreSQL has closed is a lock that is lost', async () => {
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString: needed('TEST_POSTGRES_URL') });
  await client.connect();
  onTestFinished(() => client.end());
  const one = await machine({ CYBER_COLLECT_LOCK_POSTGRES: needed('TEST_POSTGRES_URL') });
  const lock = await one.locks.take(randomUUID(), 'okta');
  await client.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cyber-collect lock'",
  );
  expect((await failureOf(lock.confirm())).code).toBe('locked');
  await lock.release();
});

test('a machine that forgets finds baselines in the bucket: a loss is noticed there', async () => {
  const shared = await bucketEnvironment();
  const full = await startVendor(okta, { scale: 60 });
  const less = await startVendor(okta, { scale: 20 });
  onTestFinished(async () => {
    await full.close();
    await less.close();
  });
  const first = await collectOnce({ env: { ...shared, ...full.env, STORE_AWS_S3_BUCKET: '' }, only: ['okta.users'] });
  expect(first.summary.exit_code).toBe(0);
  expect(await storedLines(first.folder, 'okta_users')).toHaveLength(60);
  const second = await collectOnce({ env: { ...shared, ...less.env, STORE_AWS_S3_BUCKET: '' }, only: ['okta.users'] });
  expect(second.folder).not.toBe(first.folder);
  expect(second.summary.datasets).toMatchObject([{ verdict: 'quarantined' }]);
});
