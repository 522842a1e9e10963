import { appendFile, mkdir, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { transformOf } from '../../src/collectors/_syslog_transform.ts';
import { asCollectError } from '../../src/errors.ts';
import type { JsonObject } from '../../src/json.ts';
import { collectOnce, resultOf, storedEvents, temporaryFolder } from '../support/run.ts';

async function fileOf(steps: unknown, name = 'steps.json'): Promise<string> {
  const path = join(await temporaryFolder(), name);
  await writeFile(path, typeof steps === 'string' ? steps : JSON.stringify(steps));
  return path;
}

const event = (message: string, more: JsonObject = {}): JsonObject => ({
  device_name: 'web01',
  date: '2026-01-02T03:04:05Z',
  event_id: '0',
  data: `Jan  2 03:04:05 web01 app: ${message}`,
  app_name: 'app',
  message,
  ...more,
});

async function transformed(steps: unknown, ...records: JsonObject[]) {
  const transform = await transformOf(await fileOf(steps));
  return records.map(transform);
}

const LOGIN = { user: 'ann', src: '10.0.0.1, "nat"', note: '', a: 'b=c' };
const SSH = 'Failed password for root from 10.1.2.3 port 4711 ssh2';
const SSHED = { user: 'root', ip: '10.1.2.3', port: '4711' };

describe('steps', () => {
  test('drop what they say, all of the fields having to match, unless they are excepted', async () => {
    const steps = [
      { when: { app_name: '^(CRON|systemd)$' }, drop: true },
      { when: { app_name: 'sshd', message: 'debug' }, unless: { message: 'root' }, drop: true },
    ];
    const dropped = await transformed(
      steps,
      event('x', { app_name: 'CRON' }),
      event('x', { app_name: 'CRONIE' }),
      event('debug a', { app_name: 'sshd' }),
      event('debug root', { app_name: 'sshd' }),
      event('debug', { app_name: null }),
    );
    expect(dropped.map((one) => one === undefined)).toEqual([true, false, true, false, false]);
  });

  test.each([
    ['json', {}, '@cee: {"user":"ann","n":{"a":[1]}}', { user: 'ann', n: { a: [1] } }],
    ['json', {}, '{"user":', undefined],
    ['json', {}, '[1]', undefined],
    ['json', {}, `{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`, undefined],
    ['keyvalue', {}, 'login user=ann src="10.0.0.1, \\"nat\\"" note=, a=b=c', LOGIN],
    ['keyvalue', {}, 'key="never ends', { key: '' }],
    ['keyvalue', {}, '__proto__=x constructor=y', JSON.parse('{"__proto__":"x","constructor":"y"}')],
    ['keyvalue', {}, 'no pair', undefined],
    ['pattern', { pattern: 'for (?P<user>\\S+) from (?P<ip>\\S+)( port (?P<port>\\d+))?' }, SSH, SSHED],
    ['pattern', { pattern: 'for (?P<user>\\S+)' }, 'else', undefined],
  ])('parse %s %j of %s', async (as, more, message, fields) => {
    const [found] = await transformed([{ parse: { as, ...more } }], event(message));
    expect(found?.parsed).toEqual(fields);
    expect(found?.message).toBe(message);
  });

  test('rename, bring to the top and add, each behind the other', async () => {
    const [found] = await transformed(
      [
        { parse: { as: 'keyvalue', into: 'fields' } },
        { rename: { app_name: 'program', 'fields.user': 'user' } },
        { when: { user: '^ann$' }, add: { site: 'berlin', floor: 3, shipper: '%HOST' } },
      ],
      event('user=ann'),
    );
    expect(found).toMatchObject({ program: 'app', user: 'ann', site: 'berlin', floor: 3, shipper: hostname() });
    expect(found).not.toHaveProperty('app_name');
  });

  test('are read as YAML too, where a backslash stands for itself', async () => {
    const path = await fileOf(
      "- parse:\n    as: pattern\n    pattern: 'port (?P<port>\\d+)'\n    into: net\n",
      'steps.yaml',
    );
    expect((await transformOf(path))(event('port 22'))).toMatchObject({ net: { port: '22' } });
  });

  test('take no longer for a line made to slow them down', async () => {
    const transform = await transformOf(
      await fileOf([{ parse: { as: 'keyvalue' } }, { when: { message: '(a+)+$' }, drop: true }]),
    );
    const started = Date.now();
    for (const text of [
      'a'.repeat(100_000),
      `k="${'a'.repeat(1_000_000)}`,
      'a="\\'.repeat(100_000),
      '='.repeat(500_000),
    ]) {
      transform(event(`${text}!`));
    }
    expect(Date.now() - started).toBeLessThan(10_000);
  });
});

test.each([
  ['- drop: [', /is neither YAML nor JSON/],
  [{}, /the file: .*array/i],
  [[], /the file: holds no step/],
  [[{ drop: true }], /\[0\]: would drop every line/],
  [[{ when: { message: 'x' } }], /\[0\]: needs one of drop, parse, rename, add/],
  [[{ when: { message: '(?=x)' }, drop: true }], /\[0\]\.when\.message: is no regular expression of RE2/],
  [[{ add: { a: 1 } }, { parse: { as: 'pattern' } }], /\[1\]\.parse: needs as: pattern and pattern/],
  [[{ parse: { as: 'pattern', pattern: 'x' } }], /\[0\]\.parse: has a pattern without a named group/],
  [[{ rename: { event_id: 'id' } }], /\[0\]\.rename.*every event keeps/],
  [[{ add: { data: 'x' } }], /\[0\]\.add.*every event keeps/],
  [[{ parse: { as: 'json', into: '__proto__' } }], /\[0\]\.parse\.into: is no name of a field/],
  [[{ ad: { a: 1 } }], /\[0\]: .*ad/],
])('a file that is not right is told with its place: %j', async (steps, finding) => {
  const error = await transformOf(await fileOf(steps)).then(() => undefined, asCollectError);
  expect(error).toMatchObject({ code: 'config', message: expect.stringMatching(finding) });
  expect(error?.message).toMatch(/^SYSLOG_TRANSFORM: \/.*steps\.json: /);
});

test('a run applies them, says how many lines they leave out, and every event keeps its id', async () => {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'logs'));
  const log = join(folder, 'logs', 'app.log');
  const line = (app: string, n: number) => `Oct 11 22:14:15 host ${app}[1]: user=u${n}\n`;
  await writeFile(log, Array.from({ length: 2500 }, (_, n) => line(n % 5 === 0 ? 'CRON' : 'app', n)).join(''));
  const steps = [{ when: { app_name: '^CRON$' }, drop: true }, { parse: { as: 'keyvalue' } }, { add: { site: 'x' } }];
  const plain = { SYSLOG_PATHS: log };
  const env = { ...plain, SYSLOG_TRANSFORM: await fileOf(steps) };
  const first = await collectOnce({ env, folder });
  expect(resultOf(first.summary, 'syslog_events')).toMatchObject({ verdict: 'complete', records: 2000, left_out: 500 });
  expect(first.said.join('\n')).toContain('2000 records, 500 left out by the settings');
  const shipped = ((await storedEvents(folder, 'syslog_events')) ?? []).map((text) => JSON.parse(text) as JsonObject);
  expect(shipped[1]).toMatchObject({ parsed: { user: 'u2' }, site: 'x' });
  const whole = await collectOnce({ env: plain });
  const read = ((await storedEvents(whole.folder, 'syslog_events')) ?? []).map(
    (text) => JSON.parse(text) as JsonObject,
  );
  expect(shipped.map(({ event_id }) => event_id)).toEqual(
    read.filter(({ app_name }) => app_name !== 'CRON').map(({ event_id }) => event_id),
  );
  await appendFile(log, line('CRON', 1));
  const second = await collectOnce({ env, folder });
  expect(resultOf(second.summary, 'syslog_events')).toMatchObject({ verdict: 'empty', records: 0, left_out: 1 });
  await writeFile(env.SYSLOG_TRANSFORM, '[{"drop":true}]');
  const third = await collectOnce({ env, folder });
  expect(resultOf(third.summary, 'syslog_events').reason).toMatch(/SYSLOG_TRANSFORM.*\[0\]: would drop every line/);
});
