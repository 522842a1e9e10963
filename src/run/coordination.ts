import { hostname } from 'node:os';
import { awsAliases } from '../config/aws.ts';
import { type Environment, resolveShape } from '../config/environment.ts';
import type { programShape } from '../config/program.ts';
import type { Values } from '../config/setting.ts';
import { ConfigError } from '../errors.ts';
import { bucketShape, openSmallObjects, type SmallObjects } from '../stores/_s3.ts';
import { fileSlots, type Locks, leases } from './lock.ts';
import { postgresLocks } from './lock_postgres.ts';
import { openState, type State } from './state.ts';
import { bucketSlots, sharedState } from './state_s3.ts';

/** What runs know of each other. */
export interface Coordination {
  readonly state: State;
  readonly locks: Locks;
  close(): void;
}

/**
 * Opens the state, and the locks where they are kept: in PostgreSQL, in a bucket, or else in the state's folder.
 * @throws {ConfigError | CollectError} for settings that are not valid, or a folder that cannot be made
 */
export async function openCoordination(
  environment: Environment,
  program: Values<typeof programShape>,
): Promise<Coordination> {
  const local = await openState(program.CYBER_COLLECT_STATE);
  const { CYBER_COLLECT_STATE_S3: place, CYBER_COLLECT_LOCK_POSTGRES: postgres } = program;
  const [, bucket = '', prefix = ''] = /^s3:\/\/([^/]+)\/?(.*)$/.exec(place ?? '') ?? [];
  const objects = place === undefined ? undefined : await objectsOf(environment, bucket);
  const folder = prefix.replace(/\/$/, '');
  return {
    state: objects === undefined ? local : sharedState(local, objects, folder),
    locks:
      postgres === undefined
        ? leases(objects === undefined ? fileSlots(local) : bucketSlots(objects, folder, bucket), hostname())
        : postgresLocks(postgres),
    close: () => objects?.close(),
  };
}

/** The bucket is reached as the S3 store reaches its own. */
async function objectsOf(environment: Environment, bucket: string): Promise<SmallObjects> {
  const { STORE_AWS_S3_BUCKET: _, ...shape } = bucketShape;
  const { values, problems } = resolveShape(environment, 'state', shape, awsAliases);
  if (values === undefined) throw new ConfigError(problems);
  return openSmallObjects({ ...values, STORE_AWS_S3_BUCKET: bucket });
}
