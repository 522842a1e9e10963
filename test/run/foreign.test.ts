import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { root } from '../support/build.ts';
import { temporaryFolder } from '../support/run.ts';

const COLLECTOR = `
import { type Collector, defineCollector } from 'cyber-collect/collector';
import { secret } from 'cyber-collect/setting';

async function* badges() {
  yield [{ id: 1, name: 'Zoë' }, { id: 2, name: 'Ann' }];
}

export default defineCollector({
  name: 'NAME',
  title: 'Badge readers',
  docs: 'https://badges.example/docs',
  env: { NAME_TOKEN: secret('Token') },
  resources: { badges: { about: 'Badges', path: '/badges', id: 'id', collect: badges } },
}) satisfies Collector;
`;

const STORE = `
import { appendFile } from 'node:fs/promises';
import { spoolChunks } from 'cyber-collect/envelope/spool';
import { setting } from 'cyber-collect/setting';
import { defineStore } from 'cyber-collect/store';

export default defineStore({
  name: 'drawer',
  title: 'A drawer',
  docs: 'https://drawer.example',
  env: { STORE_DRAWER: setting('Path') },
  targets: (settings, _kind, { tag }) => [settings.STORE_DRAWER + tag],
  open: async (settings) => ({
    async write({ tag, spool, metadata }) {
      for await (const chunk of spoolChunks(spool)) await appendFile(settings.STORE_DRAWER + tag, chunk);
      return { at: settings.STORE_DRAWER + tag, records: metadata.records };
    },
  }),
});
`;

async function folderWith(files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await temporaryFolder();
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
  return folder;
}

function program(cwd: string, env: Readonly<Record<string, string>>, ...args: readonly string[]) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const all = { PATH: process.env.PATH, STORE_FILE: join(cwd, 'data', '%TAG.ndjson'), ...env };
    const child = execFile(
      process.execPath,
      ['--', join(root, 'bin', 'cyber-collect.js'), ...args],
      { cwd, env: all },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

const named = (name: string) => COLLECTOR.replaceAll('NAME_TOKEN', `${name.toUpperCase()}_TOKEN`).replace('NAME', name);

test('collectors and stores of one’s own, in TypeScript and JavaScript, work like those of the house', async () => {
  const folder = await folderWith({ 'rooms/src_badges.ts': named('badges'), 'more/store_drawer.js': STORE });
  const env = {
    COLLECTORS_PATH: 'rooms',
    STORES_PATH: join(folder, 'more'),
    STORE_DRAWER: `${folder}/drawer-`,
    BADGES_TOKEN: 'hush-badges-1',
  };
  const { code, stderr, stdout } = await program(folder, env, 'run', '--output', 'json');
  expect(stderr).not.toContain('hush-badges-1');
  expect(JSON.parse(stdout).datasets).toMatchObject([{ tag: 'badges', verdict: 'complete', records: 2 }]);
  expect(code).toBe(0);
  const lines = '{"id":1,"name":"Zoë"}\n{"id":2,"name":"Ann"}\n';
  expect(await readFile(join(folder, 'data', 'badges.ndjson'), 'utf8')).toBe(lines);
  expect(await readFile(join(folder, 'drawer-badges'), 'utf8')).toBe(lines);
});

test('a store of one’s own that refuses its settings stops no other command', async () => {
  const refusing = STORE.replace("setting('Path')", "setting('Path', optional())")
    .replace('{ setting }', '{ optional, setting }')
    .replace('[settings.STORE_DRAWER + tag]', '[settings.STORE_DRAWER.trim() + tag]');
  const folder = await folderWith({ 'stores/store_drawer.ts': refusing });
  const listed = await program(folder, { STORES_PATH: join(folder, 'stores') }, 'list', '--output', 'json');
  expect(listed.stderr).toBe('');
  expect(listed.code).toBe(0);
});

test('packages by their names are found in the working directory', async () => {
  const folder = await folderWith({
    'node_modules/cyber-collect-src-door-locks/package.json': '{"type":"module","exports":"./index.js"}',
    'node_modules/cyber-collect-src-door-locks/index.js': named('door_locks')
      .replace('type Collector, ', '')
      .replace(' satisfies Collector', '')
      .replaceAll(/'cyber-collect\/(\w+)'/g, (_all, what) => {
        const file = { collector: 'collectors/collector', setting: 'config/setting' }[String(what)];
        return `'${join(root, 'dist', `${file}.js`)}'`;
      }),
  });
  const { code, stdout } = await program(folder, { DOOR_LOCKS_TOKEN: 'x' }, 'list', '--output', 'json');
  expect(code).toBe(0);
  const { collectors } = JSON.parse(stdout) as { collectors: { name: string; state: string; datasets: string[] }[] };
  const found = collectors.find(({ name }) => name === 'door_locks');
  expect(found).toMatchObject({ state: 'active', datasets: ['door_locks_badges'] });
});

test.each([
  [
    'that exports nothing of its name',
    { 'rooms/src_badges.ts': 'export default 1;' },
    /src_badges\.ts: it exports no room/,
  ],
  ['with a fault', { 'rooms/src_badges.ts': 'import "nowhere";' }, /src_badges\.ts: it cannot be loaded/],
  ['of a name that is taken', { 'rooms/src_okta.ts': named('okta') }, /src_okta\.ts: there is a room called okta/],
  ['in no folder', {}, /COLLECTORS_PATH: .*rooms cannot be read \(ENOENT\)/],
])('a room %s is one sentence', async (_what, files, said) => {
  const { code, stderr } = await program(await folderWith(files), { COLLECTORS_PATH: 'rooms' }, 'list');
  expect(stderr).toMatch(said);
  expect(code).toBe(2);
});
