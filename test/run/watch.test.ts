import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { BEAT_LASTS } from '../../src/run/beat.ts';
import type { RunSummary } from '../../src/run/summary.ts';
import { startVendor, type VendorOptions } from '../../src/simulator/vendor.ts';
import duo from '../../src/simulator/vendor_duo.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { program } from '../support/program.ts';
import { stateOf, storedEvents, temporaryFolder } from '../support/run.ts';
import { json, serve } from '../support/server.ts';

type Variables = Readonly<Record<string, string>>;

function launch(folder: string, args: readonly string[], env: Variables = {}) {
  const { child, said, ended } = program(folder, ['watch', '--output', 'json', ...args], {
    STORE_FILE: join(folder, 'data', '%TAG.ndjson'),
    STORE_FILE_EVENTS: join(folder, 'events', '%TAG', '%UUID.ndjson'),
    CYBER_COLLECT_STATE: stateOf(folder),
    ...env,
  });
  /** The runs that have ended so far. */
  const runs = () =>
    said()
      .stdout.split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as RunSummary);
  const of = (collector: string) => runs().filter(({ datasets }) => datasets[0]?.collector === collector);
  const until = (check: () => void | Promise<void>) => vi.waitFor(check, { timeout: 20_000, interval: 20 });
  return {
    runs,
    of,
    until,
    said: () => said().stderr,
    ended,
    async stop() {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

async function start(vendor: typeof okta, options: VendorOptions = {}) {
  const running = await startVendor(vendor, { scale: 20, pageSize: 10, ...options });
  onTestFinished(() => running.close());
  return running;
}

const ONLY = ['--only', 'okta.users,duo.users'];

test('every active collector goes on by itself, and one that fails stops no other', async () => {
  const [good, bad] = [await start(okta), await start(duo, { faults: [{ name: '403', resource: 'users' }] })];
  const env = { ...good.env, ...bad.env };
  const folder = await temporaryFolder();
  const watch = launch(folder, [...ONLY, '--every', '0.3', '--fail-every', '0.1'], env);
  await watch.until(() => {
    expect(watch.of('okta').length).toBeGreaterThan(2);
    expect(watch.of('duo').length).toBeGreaterThan(2);
  });
  const { code, stderr } = await watch.stop();
  expect([3, 143]).toContain(code);
  expect(new Set(watch.of('okta').map(({ exit_code }) => exit_code)).size).toBe(1);
  expect(watch.of('duo')[0]).toMatchObject({ exit_code: 3, datasets: [{ tag: 'duo_users', verdict: 'denied' }] });
  expect(stderr).toContain('watching duo, okta');
  expect(stderr).toMatch(/duo: not complete \(exit code 3\), next run at/);
  expect(stderr.match(/duo: not complete/g)).toHaveLength(1);
  const records = await readdir(join(stateOf(folder), 'runs', 'default'));
  expect(records).toHaveLength(watch.runs().filter(({ head }) => head !== undefined).length);
  expect(watch.of('duo').filter(({ head, exit_code }) => head !== undefined && exit_code === 3)).toHaveLength(1);
  expect((await readFile(join(folder, 'data', 'okta_users.ndjson'), 'utf8')).split('\n')).toHaveLength(21);
}, 60_000);

test('a bridge whose settings are wrong is said, and runs once they are mended; the others run meanwhile', async () => {
  const [one, two] = [await start(okta), await start(duo)];
  const folder = await temporaryFolder();
  const lines = (variables: Variables) => Object.entries(variables).map(([name, value]) => `${name}='${value}'\n`);
  const { DUO_SECRET_KEY, ...half } = two.env;
  expect(DUO_SECRET_KEY).toBeDefined();
  await writeFile(join(folder, '.env'), lines({ ...one.env, ...half }).join(''), { mode: 0o600 });
  const watch = launch(folder, [...ONLY, '--every', '0.2', '--fail-every', '0.2']);
  await watch.until(() => {
    expect(watch.of('okta').length).toBeGreaterThan(3);
    expect(watch.said()).toMatch(/DUO_SECRET_KEY is missing, the rest is set/);
  });
  expect(watch.of('duo')).toEqual([]);
  await writeFile(join(folder, '.env'), lines({ ...one.env, ...two.env }).join(''), { mode: 0o600 });
  await watch.until(() => expect(watch.of('duo').at(-1)?.exit_code).toBe(0));
  const { stderr } = await watch.stop();
  expect(stderr.match(/DUO_SECRET_KEY is missing/g)).toHaveLength(1);
}, 60_000);

test('two bridges of one collector take turns, and a bridge never overlaps itself: what was due meanwhile is done once', async () => {
  const vendor = await start(okta, { latencyMs: 700, pageSize: 20 });
  const folder = await temporaryFolder();
  const each = { cron: '* * * * * *' };
  await writeFile(join(folder, 'config.json'), JSON.stringify({ bridges: { 'okta.users': each, okta_groups: each } }));
  const watch = launch(folder, ['--config', 'config.json'], vendor.env);
  await watch.until(() => {
    expect(watch.of('okta').length).toBeGreaterThan(3);
    expect(watch.said()).toMatch(/okta.users: it was due at .*, while it ran: that is done once/);
  });
  await watch.stop();
  const runs = watch.runs().filter(({ exit_code }) => exit_code !== 143);
  expect(runs.map(({ exit_code }) => exit_code)).toEqual(runs.map(() => 0));
  expect(new Set(runs.map(({ datasets }) => datasets.map(({ tag }) => tag).join()))).toEqual(
    new Set(['okta_users', 'okta_groups']),
  );
}, 60_000);

test('a signal during a run ends it cleanly, and what it had read is gone on with', async () => {
  const vendor = await start(okta, { scale: 400, latencyMs: 50 });
  const folder = await temporaryFolder();
  const watch = launch(folder, ['--only', 'okta.users'], vendor.env);
  await watch.until(() => expect(vendor.requests.length).toBeGreaterThan(6));
  const { code, stderr } = await watch.stop();
  expect(code).toBe(143);
  expect(stderr).toContain('SIGTERM: ending cleanly');
  const before = vendor.requests.length;
  const again = launch(folder, ['--only', 'okta.users'], vendor.env);
  await again.until(() => expect(again.runs()).toHaveLength(1));
  expect(again.runs()[0]).toMatchObject({ exit_code: 0, datasets: [{ records: 400, resumed: true }] });
  expect(vendor.requests.length - before).toBeLessThan(40);
  expect((await again.stop()).code).toBe(0);
}, 60_000);

test('logs of this machine are followed', async () => {
  const folder = await temporaryFolder();
  const log = join(folder, 'app.log');
  await writeFile(log, 'Oct 11 22:14:15 host app[1]: one\n');
  const watch = launch(folder, ['--every', '1h'], { SYSLOG_PATHS: log });
  const stored = async () => (await storedEvents(folder, 'syslog_events'))?.length ?? 0;
  await watch.until(async () => expect(await stored()).toBe(1));
  await writeFile(log, 'Oct 11 22:14:16 host app[1]: two\n', { flag: 'a' });
  await watch.until(() => expect(watch.runs()).toHaveLength(2));
  expect(await stored()).toBe(2);
  expect((await watch.stop()).code).toBe(0);
  expect(watch.runs()).toHaveLength(2);
}, 60_000);

test('everybody is told of the start of failing and of its end, not of each try', async () => {
  const hook = await serve((_, response) => json(response, {}));
  const vendor = await start(okta, { faults: [{ name: '403', resource: 'users' }] });
  const env = { ...vendor.env, NOTIFY_WEBHOOK_URL: hook.origin.href };
  const metrics = join(await temporaryFolder(), 'metrics.prom');
  const watch = launch(await temporaryFolder(), ['--only', 'okta.users', '--fail-every', '0.1'], {
    ...env,
    CYBER_COLLECT_PROMETHEUS_FILE: metrics,
  });
  await watch.until(() => expect(watch.runs().length).toBeGreaterThan(3));
  await watch.stop();
  const events = hook.received.map(({ body }) => (JSON.parse(body) as { event: string }).event);
  expect(events[0]).toBe('run.started');
  expect(events.filter((event) => event === 'run.finished').length).toBeLessThan(3);
  expect(await readFile(metrics, 'utf8')).toContain('cyber_collect_run_exit_code{tenancy="default"}');
}, 60_000);

test('nothing configured is exit 5, and so is a file whose bridges are not', async () => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'config.json'), JSON.stringify({ bridges: { ms_users: { sleep: 1 } } }));
  for (const args of [[], ['--config', 'config.json']]) {
    const { code, stderr } = await launch(folder, args).ended;
    expect(code).toBe(5);
    expect(stderr).toContain('no collector is configured');
  }
});

test.each([
  ['a half set collector alone', [], { OKTA_DOMAIN: 'acme.okta.com' }, /OKTA_TOKEN is missing/],
  ['a collector that is named and not configured', ['--only', 'okta'], {}, /it is named but not configured/],
  ['a name that is none', ['--only', 'okat'], {}, /did you mean okta\?/],
  ['two ways to say when', ['--every', '1h', '--cron', '0 * * * *'], {}, /--cron.*cannot be used with.*--every/],
  [
    'an expression that is none',
    ['--cron', 'hourly'],
    { OKTA_DOMAIN: 'acme.okta.com', OKTA_TOKEN: 't' },
    /okta: 'hourly' is no cron expression/,
  ],
  [
    'a duration that is none',
    [],
    { CYBER_COLLECT_WATCH_EVERY: 'soon' },
    /CYBER_COLLECT_WATCH_EVERY: must be a duration/,
  ],
  ['a file that is not there', ['--config', 'no.json'], {}, /no\.json: the file cannot be read/],
  ['a template that is none', [], { OKTA_DOMAIN: 'acme.okta.com', OKTA_TOKEN: 't', STORE_FILE: './%TGA.json' }, /%TGA/],
])('%s is exit 2 at once', async (_what, args, env, said) => {
  const { code, stderr } = await launch(await temporaryFolder(), args, env).ended;
  expect(stderr).toMatch(said);
  expect(code).toBe(2);
});

test('a file without a bridge of what is asked for is exit 2', async () => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'config.json'), JSON.stringify({ bridges: { 'okta.users': {} } }));
  const { code, stderr } = await launch(folder, ['--config', 'config.json', '--only', 'duo']).ended;
  expect(stderr).toContain('no bridge is of duo');
  expect(code).toBe(2);
});

test('collectors that a file leaves out are named', async () => {
  const [one, two] = [await start(okta), await start(duo)];
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'config.json'), JSON.stringify({ bridges: { 'okta.users': {} } }));
  const env = { ...one.env, ...two.env, CYBER_COLLECT_WATCH_CONFIG: 'config.json' };
  const watch = launch(folder, [], env);
  await watch.until(() => expect(watch.runs()).toHaveLength(1));
  expect((await watch.stop()).stderr).toMatch(/names no bridge of duo: they do not run/);
  expect(two.requests).toEqual([]);
});

test('--health tells whether a watch is alive', async () => {
  const vendor = await start(okta);
  const folder = await temporaryFolder();
  const ask = () => launch(folder, ['--health']).ended;
  expect(await ask()).toMatchObject({ code: 3, stdout: expect.stringContaining('"alive":false') });
  const watch = launch(folder, ['--only', 'okta.users'], vendor.env);
  await watch.until(() => expect(watch.runs()).toHaveLength(1));
  await watch.until(async () => {
    const { code, stdout } = await ask();
    expect(code).toBe(0);
    const bridges = [{ name: 'okta', exit_code: 0, next: expect.any(String) }];
    expect(JSON.parse(stdout)).toMatchObject({ tenancy: 'default', alive: true, bridges });
  });
  const place = join(stateOf(folder), 'watch', 'default.json');
  const beat = JSON.parse(await readFile(place, 'utf8')) as object;
  await watch.stop();
  expect((await ask()).code).toBe(3);
  const old = new Date(Date.now() - (BEAT_LASTS + 1) * 1000).toISOString();
  await writeFile(place, JSON.stringify({ ...beat, at: old }));
  expect((await ask()).code).toBe(3);
}, 60_000);
