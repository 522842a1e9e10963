import { execFile } from 'node:child_process';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { root } from './support/build.ts';
import { program } from './support/program.ts';
import { temporaryFolder } from './support/run.ts';

const call = promisify(execFile);

async function versionIn(folder: string): Promise<string> {
  return (JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as { version: string }).version;
}

test('--version is the version alone; --verbose adds what was built and where it runs', async () => {
  const folder = await temporaryFolder();
  const said = async (...args: string[]) => (await program(folder, args).ended).stdout;
  const [plain, verbose, turned] = await Promise.all([
    said('--version'),
    said('--version', '--verbose'),
    said('--verbose', '-V'),
  ]);
  expect(plain).toBe(`${await versionIn(root)}\n`);
  expect(turned).toBe(verbose);
  const [first, commit, ...rest] = verbose.trimEnd().split('\n');
  expect(first).toBe(plain.trim());
  expect(commit).toMatch(/^commit (unknown|[0-9a-f]{40}\+?)$/);
  expect(rest).toEqual([`node ${process.version}`, `platform ${process.platform} ${process.arch}`]);
});

test('a build knows its commit: from git, from whoever builds, or not at all', async () => {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'dist'));
  for (const file of ['package.json', 'dist/version.js']) await copyFile(join(root, file), join(folder, file));
  const built = async (given = '') => {
    const url = JSON.stringify(new URL(`file://${join(folder, 'dist', 'version.js')}`));
    const code = `import(${url}).then(async (v) => { await v.keepCommit(process.argv[1]); console.log(v.build()); })`;
    const { stdout } = await call(process.execPath, ['-e', code, given]);
    return stdout.split('\n')[1];
  };
  expect(await built()).toBe('commit unknown');
  expect(await built('0123456789abcdef0123456789abcdef01234567')).toBe(
    'commit 0123456789abcdef0123456789abcdef01234567',
  );
  const git = (...args: string[]) =>
    call('git', ['-c', 'user.name=Test', '-c', 'user.email=test@example.com', ...args], { cwd: folder });
  await git('init', '-q');
  await writeFile(join(folder, '.gitignore'), 'dist\n');
  await git('add', '.');
  await git('commit', '-q', '-m', 'one');
  const head = (await git('rev-parse', 'HEAD')).stdout.trim();
  expect(await built()).toBe(`commit ${head}`);
  await writeFile(join(folder, 'package.json'), (await readFile(join(folder, 'package.json'), 'utf8')).concat('\n'));
  expect(await built()).toBe(`commit ${head}+`);
});
