import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { root } from './support/build.ts';
import { program } from './support/program.ts';
import { temporaryFolder } from './support/run.ts';

const call = promisify(execFile);

let folder: string;

beforeAll(async () => {
  folder = await temporaryFolder();
  await mkdir(join(folder, 'tenants'));
  await mkdir(join(folder, 'bin'));
  await symlink(join(root, 'bin', 'cyber-collect.js'), join(folder, 'bin', 'cyber-collect'));
  for (const name of ['acme.env', 'tenants/one.env', 'tenants/two.env']) await writeFile(join(folder, name), '');
  const { stdout } = await call(process.execPath, ['--', join(root, 'bin', 'cyber-collect.js'), 'completion', 'bash']);
  await writeFile(join(folder, 'completion.bash'), stdout);
});

/** What bash itself would offer for the last of some words. */
async function offered(...words: readonly string[]): Promise<readonly string[]> {
  const script = `
    source ./completion.bash
    [[ $(complete -p cyber-collect) == *' -F _cyber_collect '* ]] || exit 9
    COMP_WORDS=(cyber-collect "$@") COMP_CWORD=$#
    _cyber_collect cyber-collect "\${!#}" "\${COMP_WORDS[COMP_CWORD-1]}"
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const env = { PATH: `${join(folder, 'bin')}:${process.env.PATH}`, HOME: folder };
  const run = call('bash', ['--norc', '-c', script, 'bash', ...words], { cwd: folder, env });
  const { stdout, stderr } = await run;
  expect(stderr).toBe('');
  return stdout.split('\n').filter((line) => line !== '');
}

test('commands, also those below another', async () => {
  const all = await offered('');
  expect(all).toEqual(expect.arrayContaining(['run', 'wrapper', 'list', 'doctor', 'fleet', 'completion']));
  expect(all).not.toContain('__complete');
  expect(await offered('do')).toEqual(['doctor', 'docs']);
  expect(await offered('fleet', 's')).toEqual(['submit', 'status']);
  expect(await offered('nonsense', '')).toEqual([]);
});

test('flags of the command, without switches that are on already', async () => {
  expect(await offered('run', '--dr')).toEqual(['--dry-run']);
  expect(await offered('run', '--dry-run', '--dr')).toEqual([]);
  expect(await offered('run', '--only', 'okta', '--on')).toEqual(['--only']);
  expect(await offered('fleet', 'submit', '--sp')).toEqual(['--spread']);
  expect(await offered('run', '--', '--dr')).toEqual([]);
  expect(await offered('run', '')).toContain('--deadline');
});

test('choices, in all ways of writing them', async () => {
  expect(await offered('run', '--output', '')).toEqual(['table', 'json', 'markdown']);
  expect(await offered('run', '-o', 'j')).toEqual(['json']);
  expect(await offered('run', '--output', '=', 'm')).toEqual(['markdown']); // bash cuts --output=m so
  expect(await offered('run', '--output', '=')).toEqual(['table', 'json', 'markdown']);
  expect(await offered('run', '--output=m')).toEqual(['--output=markdown']); // zsh and fish do not
  expect(await offered('completion', '')).toEqual(['bash', 'zsh', 'fish']);
  expect(await offered('drain', 'pulsar', '--type', 'Key')).toEqual(['Key_Shared']);
});

test('names of collectors, then of their datasets, by dot or as tags, one after another', async () => {
  const collectors = await offered('run', '--only', '');
  expect(collectors).toEqual(expect.arrayContaining(['okta', 'aws', 'syslog']));
  expect(collectors.filter((name) => name.includes('.'))).toEqual([]);
  const okta = await offered('run', '--only', 'ok');
  expect(okta).toEqual(expect.arrayContaining(['okta', 'okta.users', 'okta.group_members']));
  expect(okta.every((name) => name.startsWith('okta'))).toBe(true);
  expect(await offered('run', '--exclude', 'okta.group_m')).toEqual(['okta.group_members']);
  expect(await offered('explain', 'okta_group_m')).toEqual(['okta_group_members']);
  expect(await offered('run', '--only', 'aws,okta.group_m')).toEqual(['aws,okta.group_members']);
  expect(await offered('run', '--only', '=', 'aws,okta.group_m')).toEqual(['aws,okta.group_members']);
  expect(await offered('peek', 'okta.group_m')).toEqual(['okta.group_members']);
  expect(await offered('worker', '--only', 'ok')).toEqual(['okta']);
  expect(await offered('fleet', 'pause', 'ok')).toEqual(['okta']);
  expect(await offered('replay', '--store', 'duckdb,post')).toEqual(['duckdb,postgres']);
});

test('files where a file is asked for, and only there', async () => {
  expect(await offered('run', '--env-file', 'ac')).toEqual(['acme.env']);
  expect((await offered('run', '--tenants', 'tenants/')).toSorted()).toEqual(['tenants/one.env', 'tenants/two.env']);
  expect((await offered('fleet', 'submit', 'tenants/one.env', 'tenants/t')).toSorted()).toEqual(['tenants/two.env']);
  expect(await offered('run', '--env-file', '=', 'ac')).toEqual(['acme.env']);
  expect(await offered('run', '--tenancy', 'ac')).toEqual([]);
});

test('candidates tell what they are', async () => {
  const { code, stdout } = await program(folder, ['__complete', '--', 'run', '--only', 'okta.group_m']).ended;
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: ':open\nokta.group_members\tOkta Workforce Identity\n',
  });
});

test('a shell that is not known is exit 2 with those that are', async () => {
  const { code, stdout, stderr } = await program(folder, ['completion', 'tcsh']).ended;
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain('bash, zsh, fish');
});
