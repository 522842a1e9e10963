import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { metricsOf } from '../../src/report/prometheus.ts';
import type { FaultName } from '../../src/simulator/faults.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { runIn } from '../support/notified.ts';
import { temporaryFolder } from '../support/run.ts';

async function vendorWith(fault?: FaultName) {
  const faults = fault === undefined ? {} : { faults: [{ name: fault, resource: 'groups' }] };
  const vendor = await startVendor(okta, { scale: 20, pageSize: 10, ...faults });
  onTestFinished(() => vendor.close());
  return vendor;
}

/** Reads what the text format allows, and nothing else: series -> value. */
function parse(text: string): ReadonlyMap<string, number> {
  const series = new Map<string, number>();
  const done = new Set<string>();
  let current = '';
  for (const line of text.split('\n').slice(0, -1)) {
    const [, kind, name = ''] = /^# (HELP|TYPE) ([a-z_]+) \S.*$/.exec(line) ?? [];
    if (kind === 'HELP') {
      expect(done).not.toContain(name);
      done.add(name);
      current = name;
    } else if (kind === 'TYPE') {
      expect(line).toBe(`# TYPE ${current} gauge`);
    } else {
      const [, key = '', value = ''] = /^([a-z_]+\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*\}) (\S+)$/.exec(line) ?? [];
      expect(key.startsWith(`${current}{`), line).toBe(true);
      expect(series.has(key)).toBe(false);
      expect(Number.isFinite(Number(value)), line).toBe(true);
      series.set(key, Number(value));
    }
  }
  expect(text.endsWith('\n')).toBe(true);
  return series;
}

const users = 'tenancy="default",collector="okta",resource="users",dataset="okta_users"';
const groups = 'tenancy="default",collector="okta",resource="groups",dataset="okta_groups"';

test('what a collector of logs leaves out, and how far behind it is, are metrics too', async () => {
  const folder = await temporaryFolder();
  const [log, steps, file] = [join(folder, 'app.log'), join(folder, 'steps.json'), join(folder, 'run.prom')];
  await writeFile(log, 'one\ntwo\nhalf');
  await writeFile(steps, '[{"when":{"message":"one"},"drop":true}]');
  const settings = { SYSLOG_PATHS: log, SYSLOG_TRANSFORM: steps, CYBER_COLLECT_PROMETHEUS_FILE: file };
  expect((await runIn(folder, settings, ['syslog'])).code).toBe(0);
  const found = parse(await readFile(file, 'utf8'));
  const events = '{tenancy="default",collector="syslog",resource="events",dataset="syslog_events"}';
  expect(found.get(`cyber_collect_dataset_left_out_records${events}`)).toBe(1);
  expect(found.get(`cyber_collect_dataset_lag_bytes${events}`)).toBe(4);
  expect(found.get(`cyber_collect_dataset_lag_lines${events}`)).toBe(0);
  expect(found.get(`cyber_collect_dataset_lag_seconds${events}`)).toBe(0);
});

test('each run replaces the file; when a dataset last was whole outlives failures and runs of others', async () => {
  const [good, bad, folder] = [await vendorWith(), await vendorWith('403'), await temporaryFolder()];
  await mkdir(join(folder, 'textfile'));
  const settings = { CYBER_COLLECT_PROMETHEUS_FILE: join(folder, 'textfile', '%TENANCY.prom') };
  const file = join(folder, 'textfile', 'default.prom');
  expect((await runIn(folder, { ...good.env, ...settings })).code).toBe(0);
  const first = parse(await readFile(file, 'utf8'));
  expect(first.get('cyber_collect_run_exit_code{tenancy="default"}')).toBe(0);
  expect(first.get(`cyber_collect_dataset_records{${users}}`)).toBe(20);
  expect(first.get(`cyber_collect_dataset_requests{${users}}`)).toBeGreaterThanOrEqual(2);
  expect(first.get(`cyber_collect_dataset_received_bytes{${users}}`)).toBeGreaterThan(1000);
  expect(first.get(`cyber_collect_dataset_verdict{${groups},verdict="complete"}`)).toBe(1);
  const success = first.get(`cyber_collect_dataset_last_success_timestamp_seconds{${groups}}`);
  expect(Math.abs((success ?? 0) - Date.now() / 1000)).toBeLessThan(60);
  expect((await stat(file)).mode & 0o777).toBe(0o644);

  expect((await runIn(folder, { ...bad.env, ...settings })).code).toBe(3);
  const second = parse(await readFile(file, 'utf8'));
  expect(second.get('cyber_collect_run_wrong{tenancy="default"}')).toBe(1);
  expect(second.get(`cyber_collect_dataset_verdict{${groups},verdict="denied"}`)).toBe(1);
  expect(second.get(`cyber_collect_dataset_verdict{${groups},verdict="complete"}`)).toBe(0);
  expect(second.get(`cyber_collect_dataset_last_success_timestamp_seconds{${groups}}`)).toBe(success);

  await runIn(folder, { ...good.env, ...settings }, ['okta.users']);
  const third = parse(await readFile(file, 'utf8'));
  expect(third.has(`cyber_collect_dataset_records{${groups}}`)).toBe(false);
  expect(third.get(`cyber_collect_dataset_last_success_timestamp_seconds{${groups}}`)).toBe(success);
  expect(await readdir(join(folder, 'textfile'))).toEqual(['default.prom']);
});

test('the backlog of a store that is down', async () => {
  const [good, folder] = [await vendorWith(), await temporaryFolder()];
  const file = join(folder, 'metrics.prom');
  const down = { STORE_POSTGRES_HOST: '127.0.0.1', STORE_POSTGRES_PORT: '1', STORE_POSTGRES_USER: 'collector' };
  const { code } = await runIn(folder, { ...good.env, ...down, CYBER_COLLECT_PROMETHEUS_FILE: file });
  expect(code).toBe(6);
  const series = parse(await readFile(file, 'utf8'));
  expect(series.get('cyber_collect_store_outbox_uploads{tenancy="default",store="postgres"}')).toBe(2);
  expect(series.get('cyber_collect_store_failed_datasets{tenancy="default",store="postgres"}')).toBe(2);
  expect(series.get('cyber_collect_store_outbox_uploads{tenancy="default",store="file"}')).toBe(0);
});

test('a file that cannot be written is a warning; one of a bad name is exit 2 before any vendor is called', async () => {
  const [good, folder] = [await vendorWith(), await temporaryFolder()];
  const nowhere = { CYBER_COLLECT_PROMETHEUS_FILE: join(folder, 'nowhere', 'm.prom') };
  const warned = await runIn(folder, { ...good.env, ...nowhere });
  expect(warned).toMatchObject({ code: 0, said: expect.stringContaining('was not written: ENOENT') });
  const before = good.requests.length;
  expect((await runIn(folder, { ...good.env, CYBER_COLLECT_PROMETHEUS_FILE: '%TAG.prom' })).code).toBe('config');
  expect(good.requests).toHaveLength(before);
});

test('labels hold any text', () => {
  const at = '2026-11-21T03:00:00Z';
  const dataset = { collector: 'a"b\\c\nd', resource: 'r', asked: at };
  const summary = { ...{ run_id: 'r', version: '1', tenancy: 't', started_at: at, finished_at: at, exit_code: 5 } };
  const text = metricsOf(
    { ...summary, datasets: [], stores: [], problems: [] },
    { datasets: { x: dataset }, wrong: {} },
  );
  expect([...parse(text).keys()].join('\n')).toContain('collector="a\\"b\\\\c\\nd"');
});
