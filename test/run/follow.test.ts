import { once } from 'node:events';
import { appendFile, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { program } from '../support/program.ts';
import { storedEvents, temporaryFolder } from '../support/run.ts';
import { json, serve } from '../support/server.ts';

async function logFolder(): Promise<{ folder: string; log: string }> {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'logs'));
  return { folder, log: join(folder, 'logs', 'app.log') };
}

function launch(folder: string, settings: Readonly<Record<string, string>>, ...flags: readonly string[]) {
  return program(folder, ['run', '--output', 'json', ...flags], {
    SYSLOG_PATHS: join(folder, 'logs', '*.log'),
    STORE_FILE_EVENTS: join(folder, 'events', '%TAG', '%UUID.ndjson'),
    CYBER_COLLECT_STATE: join(folder, 'state'),
    ...settings,
  });
}

const follow = (folder: string) => launch(folder, {}, '--only', 'syslog', '--follow', '0.1');

const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, n) => `Oct 11 22:14:15 host app[1]: message ${from + n}`);
const textOf = (from: number, to: number) => `${lines(from, to).join('\n')}\n`;

async function stored(folder: string): Promise<string[]> {
  const events = (await storedEvents(folder, 'syslog_events')) ?? [];
  const numberOf = (line: string) => Number(/\d+$/.exec(line)?.[0]);
  return events.map((line) => String(JSON.parse(line).data)).sort((a, b) => numberOf(a) - numberOf(b));
}

const until = (folder: string, count: number) =>
  vi.waitFor(async () => expect((await stored(folder)).length).toBeGreaterThanOrEqual(count), { timeout: 20_000 });

test('new lines come as further uploads until a signal, and a later run goes on behind them', async () => {
  const { folder, log } = await logFolder();
  await writeFile(log, textOf(0, 10));
  const { child, ended } = follow(folder);
  await until(folder, 10);
  await appendFile(log, textOf(10, 20));
  await until(folder, 20);
  await rename(log, `${log}.1`);
  await appendFile(`${log}.1`, textOf(20, 25));
  await writeFile(log, textOf(25, 30));
  await until(folder, 30);
  await vi.waitFor(async () => {
    const cursor = await readFile(join(folder, 'state', 'cursors', 'default', 'syslog_events.json'), 'utf8');
    expect(JSON.parse(cursor)[log]).toHaveLength(2);
  });
  child.kill('SIGTERM');
  const { code, stdout, stderr } = await ended;
  expect(stderr).toContain('SIGTERM: ending cleanly');
  expect([0, 143]).toContain(code);
  const rounds = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const uploads = rounds.flatMap(({ datasets }) => datasets.map((dataset: { upload_id: string }) => dataset.upload_id));
  expect(new Set(uploads).size).toBe(uploads.length);
  expect(uploads.length).toBeGreaterThanOrEqual(3);
  expect((await readdir(join(folder, 'state', 'runs', 'default'))).length).toBeLessThanOrEqual(uploads.length);
  await appendFile(log, textOf(30, 40));
  for (let n = 0; n < 2; n += 1) expect(await launch(folder, {}, '--only', 'syslog').ended).toMatchObject({ code: 0 });
  expect(await stored(folder)).toEqual(lines(0, 40));
}, 60_000);

test.each([
  ['a kill at any moment', () => ({})],
  ['and whatever was set anew afterwards', (round: number) => ({ SYSLOG_MAX_LINE: `${5000 + round}` })],
])(
  '%s loses and doubles no line',
  async (_name, settings) => {
    const { folder, log } = await logFolder();
    await writeFile(log, '');
    let written = 0;
    for (let round = 0; round < 5; round += 1) {
      const { child, ended } = launch(folder, settings(round), '--only', 'syslog', '--follow', '0.1');
      const before = (await stored(folder)).length;
      for (; written < before + 2000; written += 50) await appendFile(log, textOf(written, written + 50));
      await until(folder, before + 1);
      child.kill('SIGKILL');
      await ended;
    }
    for (let n = 0; n < 2; n += 1)
      expect(await launch(folder, {}, '--only', 'syslog').ended).toMatchObject({ code: 0 });
    expect(await stored(folder)).toEqual(lines(0, written));
  },
  60_000,
);

test('a signal between two rounds ends with the code of the last, 0 when all is stored', async () => {
  const { folder, log } = await logFolder();
  await writeFile(log, textOf(0, 3));
  const { child, ended } = launch(folder, {}, '--only', 'syslog', '--follow', '1h');
  await once(child.stdout, 'data'); // a round is printed when it has ended
  child.kill('SIGTERM');
  expect((await ended).code).toBe(0);
});

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('%s again ends what is slow to end at once, with %i', async (signal, code) => {
  const { folder, log } = await logFolder();
  await writeFile(log, textOf(0, 3));
  const isEnd = ({ body }: { readonly body: string }) => body.includes('run.finished');
  const hook = await serve((request, response) => (isEnd(request) ? undefined : json(response, {})));
  const told = { NOTIFY_WEBHOOK_URL: hook.origin.href };
  const { child, ended } = launch(folder, told, '--only', 'syslog', '--follow', '1h');
  await once(child.stdout, 'data');
  child.kill(signal);
  await vi.waitFor(() => expect(hook.received.some(isEnd)).toBe(true), { timeout: 20_000, interval: 10 });
  child.kill(signal);
  expect(await ended).toMatchObject({ code, stderr: expect.stringContaining(`${signal}: ending cleanly; once more`) });
});

test('rounds ask for the heartbeat once a minute and at the end, and tell the webhook of start and end alone', async () => {
  const { folder, log } = await logFolder();
  const [beats, hook] = [1, 2].map(() => serve((_, response) => json(response, {})));
  const settings = {
    NOTIFY_HEARTBEAT_URL: (await beats)?.origin.href ?? '',
    NOTIFY_WEBHOOK_URL: (await hook)?.origin.href ?? '',
  };
  await writeFile(log, textOf(0, 1));
  const { child, ended } = launch(folder, settings, '--only', 'syslog', '--follow', '0.1');
  for (const n of [1, 2, 3]) {
    await until(folder, n);
    await appendFile(log, textOf(n, n + 1));
  }
  await until(folder, 4);
  child.kill('SIGTERM');
  const suffix = (await ended).code === 0 ? '/' : '/fail';
  expect((await beats)?.received.map(({ url }) => url.pathname)).toEqual(['/', suffix]);
  const events = (await hook)?.received.map(({ body }) => (JSON.parse(body) as { event: string }).event);
  expect(events).toEqual(['run.started', 'run.finished']);
}, 60_000);

test('what is no events cannot be followed', async () => {
  const folder = await temporaryFolder();
  const { code, stderr } = await launch(folder, {}, '--only', 'endoflife', '--follow').ended;
  expect(code).toBe(2);
  expect(stderr).toMatch(/only events can be followed, not endoflife_products/);
});
