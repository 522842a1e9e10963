import { appendFile, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { DuckDBInstance } from '@duckdb/node-api';
import { expect, test, vi } from 'vitest';
import { program } from '../support/program.ts';
import { collectOnce, filesBelow, storedEvents, temporaryFolder } from '../support/run.ts';

const LIST = ['evil[.]example # phishing', '203.0.113.7', 'string:C:\\Temp\\x.exe', ''].join('\n');
const LINES = [
  'Mar  1 10:00:00 web1 sshd[1]: memory of 203.0.113.7 is low',
  'Mar  1 10:00:01 web2 sudo: cpu, 203.0.113.7 and 203.0.113.7 asked a.evil.example',
  'Mar  1 10:00:02 web1 cron[3]: memory and memory, nothing else',
];

interface Alert {
  readonly [name: string]: unknown;
  readonly alert_id: string;
}

/** A folder with a list and a log of these lines. */
async function folderWith(lines: readonly string[] = LINES): Promise<string> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'list.txt'), LIST);
  await writeFile(join(folder, 'app.log'), lines.map((line) => `${line}\n`).join(''));
  return folder;
}

function launch(
  folder: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  stdin: 'ignore' | 'pipe' = 'ignore',
) {
  const stores = { STORE_FILE: './data/%TAG.ndjson', STORE_FILE_EVENTS: './data/%TAG/%UUID.ndjson' };
  const all = { HOME: folder, SYSLOG_TIMEZONE: 'UTC', SYSLOG_YEAR: '2026', ...stores, ...env };
  return program(folder, ['detect', '--indicators', 'list.txt', ...args], all, stdin);
}

function detect(folder: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return launch(folder, args, env).ended;
}

/** The records of a dataset, of every upload. */
async function stored(folder: string, tag: string): Promise<readonly Alert[]> {
  const files: readonly string[] = await filesBelow(join(folder, 'data', tag)).catch(() => []);
  const texts = await Promise.all(files.toSorted().map((path) => readFile(path, 'utf8')));
  return texts.flatMap((text) => text.trimEnd().split('\n')).map((line) => JSON.parse(line) as Alert);
}

test('lines in which an indicator stands become alerts, and words are counted', async () => {
  const folder = await folderWith();
  const { code, stdout, stderr } = await detect(folder, ['--from', 'lines:*.log', '-o', 'json']);
  expect(stderr).not.toContain('ERROR');
  expect(code).toBe(0);
  const counts = { memory: 2, cpu: 1, priviledge_escalation: 1 };
  expect(JSON.parse(stdout)).toMatchObject({ events: 3, alerts: 3, counts, exit_code: 0, problems: [] });
  const alerts = await stored(folder, 'syslog_alerts');
  const found = alerts.map(({ device_name, date, indicator, list, line }) => [
    device_name,
    date,
    indicator,
    list,
    line,
  ]);
  expect(found).toEqual([
    ['web1', '2026-03-01T10:00:00Z', '203.0.113.7', 'list.txt', '2'],
    ['web2', '2026-03-01T10:00:01Z', '203.0.113.7', 'list.txt', '2'],
    ['web2', '2026-03-01T10:00:01Z', 'evil.example', 'list.txt', '1'],
  ]);
  expect(alerts.map(({ matched }) => matched)).toEqual(['203.0.113.7', '203.0.113.7', 'a.evil.example']);
  for (const { data, from, to, matched } of alerts) expect(String(data).slice(Number(from), Number(to))).toBe(matched);
  expect(alerts[2]).toMatchObject({ kind: 'domain', note: 'phishing', field: 'data', data: LINES[1] });
  const [metrics] = await stored(folder, 'syslog_metrics');
  expect(metrics).toMatchObject({ ...counts, events: 3, alerts: 3 });
});

test('the events are those that the syslog collector stores', async () => {
  const folder = await folderWith();
  const env = { SYSLOG_PATHS: join(folder, 'app.log'), SYSLOG_TIMEZONE: 'UTC', SYSLOG_YEAR: '2026' };
  await collectOnce({ env, only: ['syslog'], folder });
  await detect(folder, ['--from', 'lines:*.log']);
  const [file = ''] = await filesBelow(join(folder, 'events', 'syslog_events'));
  const events = (await readFile(file, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Alert);
  const ids = new Set(events.map(({ event_id }) => event_id));
  const alerts = await stored(folder, 'syslog_alerts');
  expect(alerts).toHaveLength(3);
  for (const { event_id } of alerts) expect(ids).toContain(event_id);
  // So an event that was read in one place is not told again from another.
  const again = await detect(folder, ['--from', 'file:events/syslog_events/*', '-o', 'json']);
  expect(JSON.parse(again.stdout)).toMatchObject({ events: 3, alerts: 0 });
});

/** Date and id of each event that was stored, by its text. */
function knownBy(events: readonly Alert[]) {
  return events.map(({ data, date, event_id }) => `${data} ${date} ${event_id}`).toSorted();
}

test('lines without a stamp have the ids and dates that the syslog collector stores, over runs and rotations', async () => {
  const folder = await folderWith([]);
  const log = join(folder, 'app.log');
  const env = { SYSLOG_PATHS: log, SYSLOG_TIMEZONE: 'UTC', SYSLOG_YEAR: '2026' };
  const both = async () => {
    await collectOnce({ env, only: ['syslog'], folder });
    expect((await detect(folder, ['--from', 'lines:app.log'])).code).toBe(0);
    const lines = (await storedEvents(folder, 'syslog_events')) ?? [];
    const events = knownBy(lines.map((line) => JSON.parse(line) as Alert));
    expect(knownBy(await stored(folder, 'syslog_alerts'))).toEqual(events);
    return events.length;
  };
  // More than is read at once stands behind a stamp.
  const trace = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, n) => `  at 203.0.113.7 ${'x'.repeat(200)} ${from + n}\n`).join('');
  const stamped = 'Mar  1 10:00:00 web1 x: 203.0.113.7';
  await writeFile(log, '<13>1 - web1 x - - - before any stamp, 203.0.113.7\n203.0.113.7\n');
  expect(await both()).toBe(2);
  await appendFile(log, `still before any stamp, 203.0.113.7\n${stamped}\n${trace(0, 3000)}`);
  expect(await both()).toBe(3004);
  await appendFile(log, `${trace(3000, 3002)}<13>1 - web1 x - - - without one, 203.0.113.7\n${trace(3002, 3003)}`);
  expect(await both()).toBe(3008);
  await appendFile(log, `2026-03-02 10:00:00,5 203.0.113.7\n`);
  expect(await both()).toBe(3009);
  await appendFile(log, trace(3003, 3004));
  await rename(log, `${log}.1`);
  await writeFile(log, trace(3004, 3005));
  expect(await both()).toBe(3011);
});

test('only what is new is read, and with --full nothing is told twice', async () => {
  const folder = await folderWith();
  const args = ['--from', 'lines:*.log', '-o', 'json'];
  await detect(folder, args);
  expect(JSON.parse((await detect(folder, args)).stdout)).toMatchObject({ events: 0, alerts: 0 });
  await appendFile(join(folder, 'app.log'), 'Mar  1 10:00:03 web1 x: 203.0.113.7 again\nMar  1 10:00:04 web1 x: 203.0');
  expect(JSON.parse((await detect(folder, args)).stdout)).toMatchObject({ events: 1, alerts: 1 });
  await appendFile(join(folder, 'app.log'), '.113.7, the other half\n');
  expect(JSON.parse((await detect(folder, args)).stdout)).toMatchObject({ events: 1, alerts: 1 });
  expect(JSON.parse((await detect(folder, [...args, '--full'])).stdout)).toMatchObject({ events: 5, alerts: 0 });
  const ids = (await stored(folder, 'syslog_alerts')).map(({ alert_id }) => alert_id);
  expect(new Set(ids).size).toBe(5);
  expect(ids).toHaveLength(5);
});

test('a later list finds in old events what it brings, and no more', async () => {
  const folder = await folderWith();
  await detect(folder, ['--from', 'lines:*.log']);
  await writeFile(join(folder, 'list.txt'), `${LIST}string:nothing else\n`);
  const { stdout } = await detect(folder, ['--from', 'lines:*.log', '--full', '-o', 'json']);
  expect(JSON.parse(stdout)).toMatchObject({ alerts: 1, by: [{ indicator: 'nothing else', alerts: 1 }] });
});

test('alerts are a failure only where they are to be', async () => {
  const folder = await folderWith();
  const { code } = await detect(folder, ['--from', 'lines:*.log', '--fail-on-alert']);
  expect(code).toBe(9);
  expect((await detect(folder, ['--from', 'lines:*.log', '--fail-on-alert'])).code).toBe(0);
});

test('what is allowed is no alert, and an entry that is not understood is named', async () => {
  const folder = await folderWith();
  await writeFile(join(folder, 'allow.txt'), '203.0.113.0/24\nwhat is this\n');
  const { stdout, stderr } = await detect(folder, ['--from', 'lines:*.log', '--allow', 'allow.txt', '-o', 'json']);
  expect(JSON.parse(stdout)).toMatchObject({ alerts: 1, by: [{ indicator: 'evil.example' }] });
  expect(stderr).toContain(`${join(folder, 'allow.txt')}:2`);
});

test('own counters stand beside those of the older tool', async () => {
  const folder = await folderWith();
  const counters = 'logins=(?i)SSHD|CRON; cpu=(?i)CPU|low';
  const { stdout } = await detect(folder, ['--from', 'lines:*.log', '-o', 'json', '--counters', counters]);
  expect(JSON.parse(stdout).counts).toEqual({ memory: 2, cpu: 2, priviledge_escalation: 1, logins: 2 });
  const wrong = await detect(folder, ['--from', 'lines:*.log', '--counters', 'Big=x;ok=(']);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toContain("'Big' is no name");
  expect(wrong.stderr).toContain('ok: it is no regular expression');
});

test('datasets of any kind are read out of files: NDJSON, envelopes and arrays, also compressed', async () => {
  const folder = await folderWith();
  const records = [
    { uuid: 'a1', published: '2026-03-01T10:00:00Z', client: { ip: '203.0.113.7', note: 'é "C:\\Temp\\x.exe"\nx' } },
    { uuid: 'a2', published: '2026-03-01T10:00:01Z', client: { ip: '198.51.100.1' }, big: 12345678901234567890n },
  ];
  const texts = records.map((record) =>
    JSON.stringify(record, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
  );
  await mkdir(join(folder, 'in'));
  await writeFile(join(folder, 'in', 'a.json'), `{"data":[${texts.join(',')}],"metadata":{"tag":"okta_system_log"}}\n`);
  await writeFile(join(folder, 'in', 'b.json.gz'), gzipSync(`[${texts[0]?.replace('a1', 'b1')}]`));
  await writeFile(join(folder, 'in', 'c.ndjson'), `${texts.join('\n').replaceAll('"a', '"c')}\n`);
  await writeFile(join(folder, 'in', 'd.json'), '{"data":[{"ip":"203.0.113.7"},');
  const args = ['--from', 'file:in/*', '--dataset', 'okta.system_log', '-o', 'json'];
  const { code, stdout } = await detect(folder, args);
  const result = JSON.parse(stdout);
  expect(code).toBe(3);
  expect(result.problems).toMatchObject([{ where: join(folder, 'in', 'd.json') }]);
  const alerts = await stored(folder, 'syslog_alerts');
  const found = alerts.filter(({ data }) => String(data).includes('"uuid":"a1"'));
  expect(found.map(({ field, matched, from, to }) => ({ field, matched, from, to }))).toEqual([
    { field: 'client.ip', matched: '203.0.113.7', from: 0, to: 11 },
    { field: 'client.note', matched: 'C:\\Temp\\x.exe', from: 3, to: 16 },
  ]);
  expect(found[0]).toMatchObject({ date: '2026-03-01T10:00:00Z', device_name: 'okta_system_log' });
  expect(alerts.filter(({ data }) => String(data).includes('b1'))).toHaveLength(2);
  // What was damaged is read again, and nothing else.
  await writeFile(join(folder, 'in', 'd.json'), '{"data":[{"ip":"203.0.113.7"}],"metadata":{}}');
  expect(JSON.parse((await detect(folder, args)).stdout)).toMatchObject({ events: 1, exit_code: 0 });
});

test('what cannot be read is named, and the rest is read', async () => {
  const folder = await folderWith();
  await writeFile(join(folder, 'binary.log'), Buffer.from(Array.from({ length: 5000 }, (_, n) => (n * 7) % 8)));
  await writeFile(join(folder, 'long.log'), `${'x'.repeat(1_500_000)} 203.0.113.7 ${'é'.repeat(10)}\nshort\n`);
  const { code, stdout } = await detect(folder, ['--from', 'lines:*.log', '-o', 'json']);
  const { events, alerts, problems } = JSON.parse(stdout);
  expect({ code, events, alerts }).toEqual({ code: 3, events: 5, alerts: 4 });
  expect(problems).toMatchObject([{ where: join(folder, 'binary.log') }]);
  const long = (await stored(folder, 'syslog_alerts')).find(({ from }) => from === 1_500_001);
  expect(String(long?.data)).toHaveLength(65_536);
});

/** Takes uploads as a database does, each once; hangs behind that until it is killed, or told not to. */
const DRAWER = `
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
export default {
  name: 'drawer', title: 'A drawer', docs: 'https://drawer.example', env: {},
  targets: () => ['drawer'],
  open: async () => ({
    async write({ metadata }) {
      appendFileSync('drawer', metadata.tag + ' ' + metadata.upload_id + '\\n');
      if (metadata.tag === process.argv.at(-1)) await new Promise(() => setInterval(() => {}, 1000));
      return { at: 'drawer', records: metadata.records };
    },
  }),
};
`;

test.each(['syslog_alerts', 'syslog_metrics'])('killed behind the store and before the state: %s', async (hangs) => {
  const folder = await folderWith();
  await writeFile(join(folder, 'store_drawer.js'), DRAWER);
  const args = ['--from', 'lines:app.log', '-o', 'json'];
  const env = { STORES_PATH: folder, STORE_DUCKDB: join(folder, 'data.duckdb') };
  const first = launch(folder, [...args, '--tenancy', hangs], env);
  const drawer = () => readFile(join(folder, 'drawer'), 'utf8').catch(() => '');
  await vi.waitFor(async () => expect(await drawer()).toContain(hangs), { timeout: 20_000, interval: 20 });
  first.child.kill('SIGKILL');
  await first.ended;
  const second = await detect(folder, ['--tenancy', hangs, ...args], env);
  expect(JSON.parse(second.stdout)).toMatchObject({ events: 3, alerts: 3, exit_code: 0 });
  const uploads = (await drawer()).trimEnd().split('\n');
  expect(new Set(uploads).size).toBe(2);
  expect(uploads.length).toBeGreaterThan(2);
  expect(await countIn(join(folder, 'data.duckdb'))).toEqual({ alerts: 3, ids: 3, metrics: 1 });
  expect(await stored(folder, 'syslog_alerts')).toHaveLength(3);
  const third = await detect(folder, ['--tenancy', hangs, ...args], env);
  expect(JSON.parse(third.stdout)).toMatchObject({ events: 0, alerts: 0 });
});

async function countIn(path: string) {
  const instance = await DuckDBInstance.create(path);
  const connection = await instance.connect();
  const rows = await connection.runAndReadAll(`SELECT
    (SELECT count(*) FROM syslog_alerts)::INTEGER AS alerts,
    (SELECT count(DISTINCT json_data->>'alert_id') FROM syslog_alerts)::INTEGER AS ids,
    (SELECT count(*) FROM syslog_metrics)::INTEGER AS metrics`);
  connection.closeSync();
  instance.closeSync();
  return rows.getRowObjects()[0];
}

test('uploads are read out of DuckDB, each once, while alerts are written to the same file', async () => {
  const folder = await folderWith();
  const env = { STORE_DUCKDB: join(folder, 'data.duckdb'), SYSLOG_PATHS: join(folder, 'app.log'), SYSLOG_YEAR: '2026' };
  const collect = () => collectOnce({ env, only: ['syslog'], folder });
  await collect();
  const args = ['-o', 'json'];
  expect(JSON.parse((await detect(folder, args, env)).stdout)).toMatchObject({ events: 3, alerts: 3 });
  await appendFile(join(folder, 'app.log'), 'Mar  1 10:00:03 web1 x: "C:\\Temp\\x.exe", 203.0.113.7\n');
  await collect();
  expect(JSON.parse((await detect(folder, args, env)).stdout)).toMatchObject({ events: 1, alerts: 2 });
  expect(JSON.parse((await detect(folder, [...args, '--full'], env)).stdout)).toMatchObject({ events: 4, alerts: 0 });
  expect(await countIn(join(folder, 'data.duckdb'))).toEqual({ alerts: 5, ids: 5, metrics: 3 });
});

test('a live stream is stored as it comes, and its end ends it', async () => {
  const folder = await folderWith();
  const { child, ended } = launch(folder, ['--from', '-', '--every', '1s', '-o', 'json'], {}, 'pipe');
  child.stdin?.write(`${LINES[0]}\n${LINES[1]}\nMar  1 10:0`);
  await vi.waitFor(async () => expect(await stored(folder, 'syslog_alerts')).toHaveLength(3), { timeout: 20_000 });
  child.stdin?.end('0:09 web1 x: evil.example');
  const { stdout } = await ended;
  expect(JSON.parse(stdout)).toMatchObject({ events: 3, alerts: 4 });
  expect(await stored(folder, 'syslog_alerts')).toHaveLength(4);
});

test('a stream that is told to stop keeps what it has brought', async () => {
  const folder = await folderWith();
  const { child, ended } = launch(folder, ['--from', '-', '--every', '1h'], {}, 'pipe');
  child.stdin?.on('error', () => undefined); // nobody reads the rest
  for (let n = 0; n < 3000; n += 1) child.stdin?.write(`Mar  1 10:00:00 web1 x: ${n} 203.0.113.7 ${'x'.repeat(900)}\n`);
  const draft = async () => {
    const files = await filesBelow(join(folder, '.cyber-collect', 'detect')).catch(() => []);
    const sizes = await Promise.all(files.map(async (path) => (await stat(path)).size));
    return Math.max(0, ...sizes);
  };
  await vi.waitFor(async () => expect(await draft()).toBeGreaterThan(0), { timeout: 20_000, interval: 20 });
  child.kill('SIGTERM');
  expect((await ended).code).toBe(143);
  expect((await stored(folder, 'syslog_alerts')).length).toBeGreaterThan(500);
});

test('rules find what they describe, in lines and in datasets', async () => {
  const folder = await folderWith();
  await writeFile(
    join(folder, 'rules.yml'),
    `title: Somebody became root
id: 7a1e2c30-5d2b-4b0e-9f61-0c9a4a1d8b77
level: high
logsource: { product: linux, service: sudo }
detection: { a: { app_name: sudo }, condition: a }
---
title: A sign-in from there
level: low
logsource: { product: okta, service: okta }
detection: { a: { client.ip: 203.0.113.7 }, condition: a }
---
title: Broken
detection: { a: { b: c }, condition: nothing }
`,
  );
  const { stdout, stderr } = await detect(folder, ['--from', 'lines:*.log', '--rules', 'rules.yml', '-o', 'json']);
  expect(JSON.parse(stdout)).toMatchObject({ alerts: 4 });
  expect(stderr).toContain('Rule not used');
  const alerts = await stored(folder, 'syslog_alerts');
  expect(alerts.filter(({ kind }) => kind === 'rule')).toMatchObject([
    {
      indicator: '7a1e2c30-5d2b-4b0e-9f61-0c9a4a1d8b77',
      title: 'Somebody became root',
      level: 'high',
      field: 'app_name',
      device_name: 'web2',
    },
  ]);
  await writeFile(
    join(folder, 'okta.ndjson'),
    '{"uuid":"1","client":{"ip":"203.0.113.7"}}\n{"uuid":"2","client":{}}\n',
  );
  const args = ['--from', 'file:okta.ndjson', '--dataset', 'okta.system_log', '--rules', 'rules.yml', '-o', 'json'];
  expect(JSON.parse((await detect(folder, args)).stdout)).toMatchObject({ events: 2, alerts: 2 });
});

test('many alerts are stored in windows; killed between them, none is lost and none is there twice', async () => {
  const folder = await folderWith([]);
  const lines = Array.from({ length: 120_000 }, (_, n) => `Mar  1 10:00:00 web1 x: ${n} from 203.0.113.7\n`);
  await writeFile(join(folder, 'app.log'), lines.join(''));
  const args = ['--from', 'lines:*.log', '-o', 'json'];
  const first = launch(folder, args);
  const metrics = () => filesBelow(join(folder, 'data', 'syslog_metrics')).catch(() => []);
  await vi.waitFor(async () => expect(await metrics()).not.toHaveLength(0), { timeout: 60_000, interval: 5 });
  first.child.kill('SIGKILL');
  await first.ended;
  expect((await detect(folder, args)).code).toBe(0);
  const ids = (await stored(folder, 'syslog_alerts')).map(({ alert_id }) => alert_id);
  expect(ids).toHaveLength(120_000);
  expect(new Set(ids).size).toBe(120_000);
  const counted = (await stored(folder, 'syslog_metrics')).map(({ events }) => Number(events));
  expect(counted.length).toBeGreaterThan(1);
  expect(counted.reduce((sum, events) => sum + events, 0)).toBe(120_000);
}, 120_000);

test('what a store does not take waits in the outbox, and detect goes on', async () => {
  const folder = await folderWith();
  const env = { STORE_DUCKDB: join(folder, 'list.txt', 'data.duckdb') };
  const args = ['--from', 'lines:*.log', '-o', 'json'];
  const first = await detect(folder, args, env);
  expect(first.code).toBe(6);
  expect(JSON.parse(first.stdout).stores).toMatchObject([
    { store: 'duckdb', waits: true },
    { store: 'duckdb', waits: true },
  ]);
  const mended = { STORE_DUCKDB: join(folder, 'data.duckdb') };
  expect(JSON.parse((await detect(folder, args, mended)).stdout)).toMatchObject({ events: 0, alerts: 0 });
  expect(await countIn(join(folder, 'data.duckdb'))).toEqual({ alerts: 3, ids: 3, metrics: 1 });
});

test('a source is read by one at a time', async () => {
  const folder = await folderWith();
  const { child } = launch(folder, ['--from', '-'], {}, 'pipe');
  const lock = async () => (await filesBelow(join(folder, '.cyber-collect', 'locks')).catch(() => [])).length;
  await vi.waitFor(async () => expect(await lock()).toBeGreaterThan(0), { timeout: 20_000, interval: 20 });
  expect((await detect(folder, ['--from', '-'])).code).toBe(8);
  expect(child.exitCode).toBe(null);
});
