import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { root } from '../support/build.ts';
import { program } from '../support/program.ts';
import { filesBelow, temporaryFolder } from '../support/run.ts';

const run = promisify(execFile);
const require = createRequire(import.meta.url);
const node = (cwd: string, ...args: readonly string[]) =>
  run(process.execPath, args, { cwd, env: { PATH: process.env.PATH, NO_COLOR: '1' }, maxBuffer: 2 ** 26 });

/** Runs a tool of this project; what it printed is in the error where it fails. */
async function tool(cwd: string, bin: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await node(cwd, bin, ...args).catch((error: { stdout: string; stderr: string }) => {
    throw new Error(`${bin} ${args.join(' ')}: ${error.stdout}${error.stderr}`);
  });
  return stdout;
}

const binOf = (name: string, path: string) => join(dirname(require.resolve(`${name}/package.json`)), path);
const TSC = binOf('typescript', 'bin/tsc');
const BIOME = binOf('@biomejs/biome', 'bin/biome');
const VITEST = binOf('vitest', 'vitest.mjs');

/** A folder of a user’s, in which this program is installed. */
async function office(): Promise<string> {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'node_modules', '@types'), { recursive: true });
  await symlink(root, join(folder, 'node_modules', 'cyber-collect'));
  await symlink(dirname(require.resolve('@types/node/package.json')), join(folder, 'node_modules', '@types', 'node'));
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  return folder;
}

/** The sources of this project as somebody else has them. */
async function checkout(): Promise<string> {
  const folder = await temporaryFolder();
  const parts = ['src', 'test/house.test.ts', 'test/support', 'test/collectors', 'test/stores/suite.ts'];
  for (const part of [...parts, 'docs', 'bin', 'package.json', 'tsconfig.json', 'biome.json', '.gitignore'])
    await cp(join(root, part), join(folder, part), { recursive: true });
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  await writeFile(join(folder, 'vitest.config.ts'), 'export default { test: { testTimeout: 60_000 } };\n');
  return folder;
}

const made = async (folder: string, ...args: readonly string[]) => {
  const { code, stdout, stderr } = await program(folder, ['new', ...args]).ended;
  expect(code, stderr).toBe(0);
  return stdout.trimEnd().split('\n');
};

test.each([[[]], [['--js']]])(
  'rooms of one’s own work at once, and their tests see it: %j',
  async (flags) => {
    const folder = await office();
    const end = flags.length === 0 ? 'ts' : 'js';
    const collector = await made(folder, 'collector', 'acme_cloud', ...flags);
    expect(collector).toEqual([
      `collectors/src_acme_cloud.${end}`,
      'collectors/acme_cloud.test.mjs',
      'collectors/acme_cloud.md',
    ]);
    const store = await made(folder, 'store', 'shelf', ...flags);
    expect(store).toEqual([`stores/store_shelf.${end}`, 'stores/shelf.test.mjs', 'stores/shelf.md']);
    const said = await tool(
      folder,
      '--test',
      '--test-reporter=tap',
      'collectors/acme_cloud.test.mjs',
      'stores/shelf.test.mjs',
    );
    expect(said).toMatch(/^# pass 3$/m);
    expect(said).toMatch(/^# fail 0$/m);
    if (end === 'js') return;
    const options = ['--noEmit', '--strict', '--target', 'es2023', '--module', 'nodenext', '--types', 'node'];
    await tool(folder, TSC, ...options, '--skipLibCheck', collector[0] ?? '', store[0] ?? '');
  },
  300_000,
);

test('a test that is written so finds a collector that brings too little', async () => {
  const folder = await office();
  await made(folder, 'collector', 'acme', '--js');
  const path = join(folder, 'collectors', 'src_acme.js');
  const room = await readFile(path, 'utf8');
  await writeFile(path, room.replace(/ *paginate:.*\n/, '').replace(/ *total:.*\n/, ''));
  await expect(tool(folder, '--test', 'collectors/acme.test.mjs')).rejects.toThrow('every record is stored');
}, 120_000);

test.each(['x1', 'a_name_of_thirty_letters_as_is'])(
  'in a checkout they keep every rule: %s',
  async (name) => {
    const folder = await checkout();
    const files = [...(await made(folder, 'collector', name)), ...(await made(folder, 'store', name))];
    expect(files).toEqual([
      `src/collectors/src_${name}.ts`,
      `src/simulator/vendor_${name}.ts`,
      `test/collectors/${name}.test.ts`,
      `src/stores/store_${name}.ts`,
      `test/stores/${name}.test.ts`,
    ]);
    await tool(folder, BIOME, 'ci', '--colors=off', '--error-on-warnings', ...files);
    const include = JSON.stringify({ extends: './tsconfig.json', include: files });
    await writeFile(join(folder, 'tsconfig.new.json'), include);
    await tool(folder, TSC, '-p', 'tsconfig.new.json');
    const tests = ['test/house.test.ts', ...files.filter((file) => file.startsWith('test/'))];
    const said = await tool(folder, VITEST, 'run', '--reporter=json', ...tests);
    expect(JSON.parse(said.slice(said.indexOf('{')))).toMatchObject({
      success: true,
      numFailedTests: 0,
      numTotalTestSuites: expect.any(Number),
    });
  },
  600_000,
);

test('a folder that is named already takes them', async () => {
  const folder = await office();
  await writeFile(join(folder, '.env'), 'COLLECTORS_PATH=./rooms, ./more\n', { mode: 0o600 });
  expect(await made(folder, 'collector', 'acme')).toContain('rooms/src_acme.ts');
});

test('what is there is never overwritten, and a name has rules', async () => {
  const folder = await office();
  await made(folder, 'collector', 'acme');
  const before = await filesBelow(join(folder, 'collectors'));
  const texts = await Promise.all(before.map((path) => readFile(path, 'utf8')));
  for (const [args, said] of [
    [['collector', 'acme'], /src_acme\.ts: it is there already.*\n.*acme\.test\.mjs: it is there already/],
    [['collector', 'acme', '--js'], /src_acme\.ts: it is there already/],
    [
      ['collector', 'Acme-Cloud 2'],
      /'Acme-Cloud 2' is no name: it is not in snake_case. To mend: call it acme_cloud_2/,
    ],
    [['collector', 'a'.repeat(31)], /is no name: it has more than 30 letters/],
    [['collector', '../acme'], /is no name.*call it acme/],
    [['collector', 'okta'], /there is a room called okta already/],
    [['store', 'postgres'], /there is a room called postgres already/],
    [['collector', 'store_rest'], /STORE_REST_URL is a variable of another room/],
    [['thing', 'acme'], /Allowed choices are collector, store/],
  ] as const) {
    const { code, stderr } = await program(folder, ['new', ...args]).ended;
    expect(stderr).toMatch(said);
    expect(code).toBe(2);
  }
  expect(await filesBelow(join(folder, 'collectors'))).toEqual(before);
  expect(await Promise.all(before.map((path) => readFile(path, 'utf8')))).toEqual(texts);
}, 120_000);
