import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { environmentOf } from '../../src/config/environment.ts';
import { ConfigError } from '../../src/errors.ts';
import { readBridges, withFile } from '../../src/run/bridges.ts';
import { cardOf } from '../../src/run/cards.ts';
import { discoverCollectors } from '../../src/run/discover.ts';
import { root } from '../support/build.ts';
import { OLDER_CONFIG } from '../support/older.ts';
import { temporaryFolder } from '../support/run.ts';

const cards = (await discoverCollectors()).map(cardOf);

async function read(content: string | object) {
  const path = join(await temporaryFolder(), 'config.json');
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  const file = readBridges(path, cards);
  return { file, path };
}

/** What is said of a file, without its path. */
async function saidOf(content: string | object): Promise<readonly string[]> {
  const path = join(await temporaryFolder(), 'config.json');
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  try {
    readBridges(path, cards);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const where = (text: string) => text.replace(path, '').replace(/^: /, '');
    return error.problems.map((problem) => `${where(problem.where)}: ${problem.message}; ${problem.mend}`);
  }
  return [];
}

test('the older config.json is read as it stands in its documents, dots and all', async () => {
  const { file, path } = await read(OLDER_CONFIG);
  expect(file.bridges).toEqual([
    { name: 'ms_users', collector: 'microsoft365', only: ['microsoft365.users'], timing: { sleep: 3600 } },
    { name: 'ms_device_apps', collector: 'microsoft365', only: ['microsoft365.device_apps'], timing: { sleep: 3600 } },
  ]);
  expect(file.all).toEqual({ failSleep: 0.2 });
  expect(file.others).toBeUndefined();
  expect(Object.fromEntries([...file.variables].map(([name, { value }]) => [name, value]))).toEqual({
    MICROSOFT365_LICENSES:
      '26124093-3d78-432b-b5dc-48bf992543d5=threat_protection,05e9a617-0261-4cee-bb44-138d3ef5d965=E3,' +
      'e0dfc8b9-9531-4ec8-94b4-9fec23b05fc8=x-account',
    MICROSOFT365_DEVICE_FIELDS:
      'id,deviceName,userId,userDisplayName,emailAddress,operatingSystem,osVersion,lastSyncDateTime',
    MICROSOFT365_SLEEP: '0.1',
    MICROSOFT365_TOOMANYREQUEST_SLEEP: '25',
    MICROSOFT365_TIMEOUT: '60',
    MICROSOFT365_URL_SLICING: '60',
    STORE_ELASTICSEARCH_SLEEP: '0.8',
    STORE_ELASTICSEARCH_THRESHOLD: '1000',
    STORE_FILE_SLEEP: '0.8',
    STORE_FILE_THRESHOLD: '1000',
    STORE_FILE: './archived/%TAG.json',
    STORE_FILE_EVENTS: './archived/%TAG/%YYYY-%MM-%DD/%UUID.json',
    STORE_FILE_MERGE: 'true',
  });
  const environment = withFile(environmentOf({ MICROSOFT365_TIMEOUT: '9', STORE_FILE_SLEEP: '' }), file);
  expect(environment.get('MICROSOFT365_TIMEOUT')).toEqual({ value: '9', from: 'environment' });
  expect(environment.get('STORE_FILE_SLEEP')).toEqual({ value: '0.8', from: `${path}: json_filesystem.sleep` });
});

test('a dataset goes to the bridge that names it alone, the rest of its collector to that which names the collector', async () => {
  const bridges = { okta: { cron: '0 * * * *', timezone: 'UTC' }, 'okta.users': {}, okta_groups: { sleep: 60 } };
  const { file } = await read({ bridges: { ...bridges, '*': { sleep: 5 } } });
  const of = (name: string) => file.bridges.find((bridge) => bridge.name === name);
  expect(of('okta.users')?.only).toEqual(['okta.users']);
  expect(of('okta_groups')).toMatchObject({ only: ['okta.groups'], timing: { sleep: 60 } });
  expect(of('okta')?.only).toContain('okta.deprovisioned_users');
  expect(of('okta')?.only).not.toContain('okta.users');
  expect(of('okta')?.timing).toEqual({ cron: '0 * * * *', timezone: 'UTC' });
  expect(file.others).toEqual({ sleep: 5 });
});

test('a file without bridges leaves every active collector as one', async () => {
  expect((await read({ bridges: { sleep: 60, fail_sleep: 1 } })).file).toMatchObject({
    bridges: [],
    others: {},
    all: { sleep: 60, failSleep: 1 },
  });
});

test.each([
  ['no JSON', '{"bridges": ', ': it is no JSON; check its commas, quotation marks and brackets'],
  ['a list', '[]', ': it must be an object, and is a list; correct it'],
  ['an unknown section', { elkk: {} }, 'elkk: there is no such key; did you mean elk?'],
  ['a key of every object', '{"constructor": {}}', 'constructor: there is no such key; write one of bridges, ms_graph'],
  [
    'an unknown setting',
    { ms_graph: { toomanyrequests_sleep: 1 } },
    'ms_graph.toomanyrequests_sleep: there is no such key; did you mean toomanyrequest_sleep?',
  ],
  ['an unknown bridge', { bridges: { ms_user: {} } }, 'bridges.ms_user: there is no such key; did you mean ms_users?'],
  [
    'an unknown timing',
    { bridges: { fail_slep: 1 } },
    'bridges.fail_slep: there is no such key; did you mean fail_sleep?',
  ],
  [
    'an unknown key of a bridge',
    { bridges: { ms_users: { licences: {} } } },
    'bridges.ms_users.licences: there is no such key; did you mean licenses?',
  ],
  [
    'a setting of another bridge',
    { bridges: { okta: { licenses: {} } } },
    'bridges.okta.licenses: there is no such key; write one of sleep, fail_sleep, cron, timezone',
  ],
  [
    'a text for seconds',
    { bridges: { ms_users: { sleep: '3600' } } },
    'bridges.ms_users.sleep: it must be a number of seconds, and is a text; correct it',
  ],
  ['a negative sleep', { elk: { sleep: -1 } }, 'elk.sleep: it must be a number of seconds, and is -1; correct it'],
  ['half a record', { elk: { threshold: 0.5 } }, 'elk.threshold: it must be a whole number, and is 0.5; correct it'],
  [
    'fields that are no list',
    { bridges: { ms_device_apps: { device_fields: 'id' } } },
    'bridges.ms_device_apps.device_fields: it must be a list of names of fields, and is a text; correct it',
  ],
  [
    'a label with a comma',
    { bridges: { ms_users: { licenses: { a: 'E3, E5' } } } },
    'bridges.ms_users.licenses: it must be an object of SKU ids and labels without comma, semicolon or quotation mark; correct it',
  ],
  [
    'both sleep and cron',
    { bridges: { okta: { sleep: 1, cron: '0 * * * *' } } },
    'bridges.okta.cron: it goes with no sleep; leave one of them out',
  ],
  [
    'a dataset twice',
    { bridges: { ms_users: {}, 'microsoft365.users': {} } },
    'bridges.microsoft365.users: it is microsoft365.users, which bridges.ms_users is too; leave one of them out',
  ],
  [
    'an empty path',
    { json_filesystem: { path: ' ' } },
    'json_filesystem.path: it must be the path of a folder, and is a text',
  ],
])('%s is one sentence that names the place', async (_what, content, said) => {
  const found = await saidOf(content);
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(said);
});

test('everything that is wrong is said at once', async () => {
  expect(await saidOf({ bridges: { sleep: '1', okat: {} }, elk: 5 })).toHaveLength(3);
});

test('a file that is not there is said', () => {
  expect(() => readBridges('/no/such/config.json', cards)).toThrow(/the file cannot be read \(ENOENT\)/);
});

test('the example of the documents is a good one', async () => {
  const page = await readFile(join(root, 'docs', 'watch.md'), 'utf8');
  const [, example = ''] = /```json\n(.*?)```/s.exec(page) ?? [];
  const { file } = await read(example);
  expect(file.bridges.map(({ name }) => name)).toEqual(['okta.users', 'okta']);
  expect(file.others).toEqual({ sleep: 3600, failSleep: 600 });
});
