import { randomUUID } from 'node:crypto';
import { appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import cassandra from 'cassandra-driver';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import store from '../../src/stores/store_cassandra.ts';
import build from '../support/build.ts';
import { admin, bundleFor, dropKeyspace, login, variablesOf } from '../support/cassandra.ts';
import { makeCertificates } from '../support/certificates.ts';
import { datasetOf } from '../support/dataset.ts';
import { needed } from '../support/needed.ts';
import { program } from '../support/program.ts';
import { temporaryFolder } from '../support/run.ts';

const id = randomUUID().slice(0, 8);
const keyspace = `detect_${id}`;
const reader = admin();
const { hostname, port, username, password, pathname } = new URL(needed('TEST_POSTGRES_URL'));
const database = new pg.Pool({ connectionString: needed('TEST_POSTGRES_URL') });

const CASSANDRA = variablesOf(keyspace);
const POSTGRES = {
  STORE_POSTGRES_HOST: hostname,
  STORE_POSTGRES_PORT: port === '' ? '5432' : port,
  STORE_POSTGRES_USER: decodeURIComponent(username),
  ...(password === '' ? {} : { STORE_POSTGRES_PASSWORD: decodeURIComponent(password) }),
  STORE_POSTGRES_DBNAME: pathname.slice(1),
  STORE_POSTGRES_SCHEMA: keyspace,
};

beforeAll(async () => {
  await build();
  await reader.connect();
});

afterAll(async () => {
  await dropKeyspace(reader, keyspace);
  await database.query(`DROP SCHEMA IF EXISTS ${keyspace} CASCADE`);
  await database.end();
});

/** A folder with a list and a log of 3000 lines, of which ten are bad. */
async function folderWith(): Promise<string> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'list.txt'), '203.0.113.7\nevil.example\n');
  const lines = Array.from({ length: 3000 }, (_, n) => {
    const bad = n % 300 === 0 ? 'from 203.0.113.7' : 'by sudo';
    return `2026-03-01T10:${String(Math.floor(n / 60)).padStart(2, '0')}:${String(n % 60).padStart(2, '0')}Z web${n % 3} app: memory ${n} ${bad}\n`;
  });
  await writeFile(join(folder, 'app.log'), lines.join(''));
  return folder;
}

async function run(folder: string, args: readonly string[], env: Readonly<Record<string, string>>) {
  const all = { HOME: folder, STORE_FILE: 'none', SYSLOG_PATHS: './*.log', SYSLOG_TIMEZONE: 'UTC', ...env };
  const { code, stdout, stderr } = await program(folder, [...args, '-o', 'json'], all).ended;
  if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
  return JSON.parse(stdout);
}

const DETECT = ['detect', '--indicators', 'list.txt'];
const FOUND = { events: 3000, alerts: 10, counts: { memory: 3000, cpu: 0, priviledge_escalation: 2990 } };

describe('Cassandra', () => {
  test('alerts and metrics lie in the older tool’s tables, each once', async () => {
    const folder = await folderWith();
    await run(folder, ['run', '--only', 'syslog'], CASSANDRA);
    expect(await run(folder, DETECT, CASSANDRA)).toMatchObject(FOUND);
    const alerts = await reader.execute(`SELECT * FROM ${keyspace}.alerts`);
    const ids = new Set<string>();
    for await (const { event_id } of await reader.execute(`SELECT event_id FROM ${keyspace}.events`))
      ids.add(String(event_id));
    expect(ids.size).toBe(3000);
    expect(alerts.rows).toHaveLength(10);
    for (const { event_id, data } of alerts.rows) {
      expect(ids).toContain(String(event_id));
      expect(data).toContain('203.0.113.7');
    }
    const { rows } = await reader.execute(`SELECT * FROM ${keyspace}.metrics`);
    expect(rows.map(({ memory, cpu, priviledge_escalation: sudo }) => [memory, cpu, sudo])).toEqual([[3000, 0, 2990]]);
    expect(await run(folder, DETECT, CASSANDRA)).toMatchObject({ events: 0, alerts: 0 });
    expect(await run(folder, [...DETECT, '--full'], CASSANDRA)).toMatchObject({ events: 3000, alerts: 0 });
    expect((await reader.execute(`SELECT * FROM ${keyspace}.alerts`)).rows).toHaveLength(10);
  });

  test('late events and clocks that jump are found, however they are dated', async () => {
    const folder = await folderWith();
    const own = { ...CASSANDRA, STORE_CASSANDRA_KEYSPACE: `${keyspace}` };
    await run(folder, DETECT, own);
    for (const date of ['1970-01-01T00:00:00Z', '2099-12-31T23:59:59Z', 'Mar  1 10:00:00']) {
      await reader.execute(`INSERT INTO ${keyspace}.events (device_name, date, event_id, data) VALUES (?, ?, ?, ?)`, [
        ...['late', date, cassandra.types.TimeUuid.now(), `${date} late app: evil.example`],
      ]);
    }
    expect(await run(folder, DETECT, own)).toMatchObject({ events: 3, alerts: 3 });
    // Written before what was read last: still under way then.
    const before = Date.now() * 1000 - 60_000_000;
    await reader.execute(
      `INSERT INTO ${keyspace}.events (device_name, date, event_id, data) VALUES (?, ?, ?, ?) USING TIMESTAMP ?`,
      [
        'late',
        '2026',
        cassandra.types.TimeUuid.now(),
        'late app: 203.0.113.7',
        cassandra.types.Long.fromNumber(before),
      ],
    );
    expect(await run(folder, DETECT, own)).toMatchObject({ alerts: 1 });
  });

  test('Astra is read through its bundle, and not without', async () => {
    const folder = await folderWith();
    const certificates = await makeCertificates('127.0.0.1');
    onTestFinished(() => certificates.remove());
    const astra = {
      STORE_ASTRA_BUNDLE: await bundleFor(login, certificates, folder),
      ASTRA_DB_APPLICATION_TOKEN: 'AstraCS:invented',
      STORE_CASSANDRA_USERNAME: login.user,
      STORE_CASSANDRA_PASSWORD: login.password,
      STORE_CASSANDRA_KEYSPACE: keyspace,
    };
    const full = [...DETECT, '--from', 'astra', '--full'];
    expect((await run(folder, full, astra)).events).toBeGreaterThanOrEqual(3000);
    const api = { ASTRA_DB_ID: 'x', ASTRA_DB_REGION: 'y', ASTRA_DB_APPLICATION_TOKEN: 'AstraCS:invented' };
    await expect(run(folder, DETECT, api)).rejects.toThrow(/exit 2: .*STORE_ASTRA_BUNDLE/s);
  });

  test('any dataset is read out of its uploads', async () => {
    const folder = await folderWith();
    await expect(run(folder, [...DETECT, '--dataset', 'okta.system_log'], CASSANDRA)).rejects.toThrow('exit 2');
    const { values } = resolveShape(environmentOf(CASSANDRA), 'cassandra', store.env);
    if (values === undefined) throw new Error('the settings are not valid');
    const sink = await store.open(values, { tenancy: 'default', at: new Date(), warn: () => undefined });
    const record = (uuid: string, ip: string) => JSON.stringify({ uuid, client: { ip, agent: 'é'.repeat(700_000) } });
    const choice = {
      tag: 'okta_system_log',
      kind: 'events',
      metadata: { tenancy: 'default', tag: 'okta_system_log' },
    } as const;
    await sink.write(await datasetOf(folder, [record('a', '203.0.113.7'), record('b', '192.0.2.1')], choice));
    const args = [...DETECT, '--dataset', 'okta.system_log'];
    expect(await run(folder, args, CASSANDRA)).toMatchObject({ events: 2, alerts: 1 });
    await sink.write(await datasetOf(folder, [record('c', '203.0.113.7'), record('a', '203.0.113.7')], choice));
    await sink.close?.();
    expect(await run(folder, args, CASSANDRA)).toMatchObject({ events: 2, alerts: 1 });
  });
});

describe('PostgreSQL', () => {
  test('uploads are read once, alerts lie there once', async () => {
    const folder = await folderWith();
    await run(folder, ['run', '--only', 'syslog'], POSTGRES);
    expect(await run(folder, DETECT, POSTGRES)).toMatchObject(FOUND);
    await appendFile(
      join(folder, 'app.log'),
      '2026-03-02T10:00:00Z web1 app: "C:\\evil.example\\x" from 203.0.113.7\n',
    );
    await run(folder, ['run', '--only', 'syslog'], POSTGRES);
    expect(await run(folder, DETECT, POSTGRES)).toMatchObject({ events: 1, alerts: 2 });
    expect(await run(folder, [...DETECT, '--full'], POSTGRES)).toMatchObject({ events: 3001, alerts: 0 });
    const { rows } = await database.query(
      `SELECT count(*)::int AS alerts, count(DISTINCT json_data->>'alert_id')::int AS ids,
         count(*) FILTER (WHERE substr(json_data->>'data', (json_data->>'from')::int + 1,
           (json_data->>'to')::int - (json_data->>'from')::int) = json_data->>'matched')::int AS placed
       FROM ${keyspace}.syslog_alerts`,
    );
    expect(rows).toEqual([{ alerts: 12, ids: 12, placed: 12 }]);
  });

  test('a dataset that is not there is said to be missing', async () => {
    const folder = await folderWith();
    await expect(run(folder, [...DETECT, '--dataset', 'okta.system_log'], POSTGRES)).rejects.toThrow(
      /exit 2: .*okta_system_log of whole records/s,
    );
  });
});
