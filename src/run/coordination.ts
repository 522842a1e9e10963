import { hostname } from 'node:os';
import type { Environment } from '../config/environment.ts';
import type { programShape } from '../config/program.ts';
import type { Values } from '../config/setting.ts';
import { fileSlots, type Locks, leases } from './lock.ts';
import { openState, type State } from './state.ts';

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
  const shared =
    place === undefined ? undefined : await (await import('./state_s3.ts')).openShared(environment, place, local);
  return {
    state: shared?.state ?? local,
    locks:
      postgres === undefined
        ? leases(shared?.slots ?? fileSlots(local), hostname())
        : (await import('./lock_postgres.ts')).postgresLocks(postgres),
    close: () => shared?.close(),
  };
}
