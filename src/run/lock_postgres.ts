import type { Client } from 'pg';
import { CollectError } from '../errors.ts';
import type { Lock, Locks } from './lock.ts';

/** Each lock has a connection of its own, and lives as long as that. */
const SETTLE_MS = 10_000;

/**
 * PostgreSQL's advisory locks, for runs on several machines: the server itself lets go of the lock of one that is gone.
 * @throws {CollectError} store when the server cannot be reached
 */
export function postgresLocks(connectionString: string): Locks {
  const connected = async (): Promise<Client> => {
    const { default: pg } = await import('pg');
    const client = new pg.Client({
      connectionString,
      application_name: 'cyber-collect lock',
      connectionTimeoutMillis: SETTLE_MS,
      keepAlive: true,
    });
    client.on('error', () => undefined); // a lost connection shows at the next question
    await client.connect().catch(unreachable);
    return client;
  };
  return {
    async take(tenancy, name) {
      const client = await connected();
      if (await tryLock(client, tenancy, name).catch(unreachable)) return held(client, tenancy, name);
      await client.end();
      throw new CollectError('locked', `${name} of tenancy ${tenancy} is being collected by another run`, {
        mend: "wait for it; pg_locks and pg_stat_activity, application 'cyber-collect lock', show whose it is",
      });
    },
  };
}

async function tryLock(client: Client, tenancy: string, name: string): Promise<boolean> {
  const question = 'select pg_try_advisory_lock(hashtextextended($1, 0)) as taken';
  const { rows } = await client.query<{ taken: boolean }>(question, [`cyber-collect/${tenancy}/${name}`]);
  return rows[0]?.taken === true;
}

function held(client: Client, tenancy: string, name: string): Lock {
  return {
    async confirm() {
      await client.query('select 1').catch(() => {
        throw new CollectError(
          'locked',
          `the connection that holds the lock of ${name} of tenancy ${tenancy} is lost`,
          {
            mend: 'nothing was changed; see why the server closed it, and run again',
          },
        );
      });
    },
    async release() {
      await client.end().catch(() => undefined);
    },
  };
}

/** The driver's words may quote the connection string. */
function unreachable(cause: unknown): never {
  const code = (cause as { readonly code?: string }).code ?? 'no code';
  throw new CollectError('store', `the server of CYBER_COLLECT_LOCK_POSTGRES cannot be used (${code})`, {
    mend: 'check the connection string, and that the server is up',
    cause,
  });
}
