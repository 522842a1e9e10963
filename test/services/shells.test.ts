import { execFile, spawn } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify, stripVTControlCharacters } from 'node:util';
import { beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { root } from '../support/build.ts';
import { temporaryFolder } from '../support/run.ts';

const call = promisify(execFile);
let folder: string;
let env: Readonly<Record<string, string>>;

beforeAll(async () => {
  folder = await temporaryFolder();
  await mkdir(join(folder, 'bin'));
  await symlink(join(root, 'bin', 'cyber-collect.js'), join(folder, 'bin', 'cyber-collect'));
  await writeFile(join(folder, 'acme.env'), '');
  env = { PATH: `${join(folder, 'bin')}:${process.env.PATH}`, HOME: folder, TERM: 'xterm', LC_ALL: 'C.UTF-8' };
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { stdout } = await call(join(folder, 'bin', 'cyber-collect'), ['completion', shell], { env });
    await writeFile(join(folder, shell === 'zsh' ? '_cyber-collect' : `completion.${shell}`), stdout);
  }
});

/** A shell at a terminal, ready for keys. */
async function terminal(command: string, setup: string) {
  const child = spawn('script', ['-qefc', command, '/dev/null'], { cwd: folder, env, stdio: 'pipe' });
  onTestFinished(() => void child.kill('SIGKILL'));
  let shown = '';
  child.stdout.on('data', (chunk) => {
    shown += chunk;
  });
  const sees = (text: string) =>
    vi.waitFor(() => expect(stripVTControlCharacters(shown).replaceAll('\u0007', '')).toContain(text), {
      timeout: 30_000,
      interval: 20,
    });
  child.stdin.write(`${setup}; PS1='at your''service> '\r`);
  await sees('at yourservice> ');
  return {
    /** Types keys and waits until the line shows what they became. */
    async types(keys: string, becomes: string): Promise<void> {
      shown = '';
      child.stdin.write(keys);
      await sees(becomes);
      shown = '';
      child.stdin.write('\u0015\r');
      await sees('service> ');
    },
  };
}

const LINES: readonly (readonly [string, string])[] = [
  ['cyber-collect exp\t', 'cyber-collect explain '],
  ['cyber-collect run --dr\t', 'cyber-collect run --dry-run '],
  ['cyber-collect run --output=ma\t', 'cyber-collect run --output=markdown '],
  ['cyber-collect run --only okta.group_m\t,aw\t', 'cyber-collect run --only okta.group_members,aws'],
  ['cyber-collect run --env-file ac\t', 'cyber-collect run --env-file acme.env'],
  ['cyber-collect run --env-file=ac\t', 'cyber-collect run --env-file=acme.env'],
];

test('bash completes at a terminal', async () => {
  const bash = await terminal('bash --norc --noprofile -i', 'source ./completion.bash');
  for (const [keys, line] of LINES) await bash.types(keys, line);
});

test('zsh completes at a terminal, from its function path', async () => {
  const setup = 'unsetopt prompt_sp zle_bracketed_paste; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D';
  const zsh = await terminal('zsh -f -i', setup);
  for (const [keys, line] of LINES) await zsh.types(keys, line);
});

test('zsh completes when the script is sourced', async () => {
  const setup = 'unsetopt prompt_sp; autoload -Uz compinit; compinit -u -D; source ./_cyber-collect';
  await (await terminal('zsh -f -i', setup)).types('cyber-collect exp\t', 'cyber-collect explain ');
});

test.each([
  ['exp', [expect.stringMatching(/^explain\t\S/)]],
  ['run --output=ma', ['--output=markdown']],
  ['run --output m', ['markdown']],
  ['run --only aws,okta.group_m', ['aws,okta.group_members\tOkta Workforce Identity']],
  ['run --env-file ac', ['acme.env']],
  ['run --env-file=ac', ['--env-file=acme.env']],
  ['run --tenancy ac', []],
])('fish completes %s', async (words, expected) => {
  const script = `source ./completion.fish; complete -C 'cyber-collect ${words}'`;
  const { stdout } = await call('fish', ['--no-config', '-c', script], { cwd: folder, env });
  expect(stdout.split('\n').filter((line) => line !== '')).toEqual(expected);
});

test('the manual page is fine for man and for mandoc', async () => {
  const page = join(root, 'man', 'cyber-collect.1');
  const { stdout, stderr } = await call('man', ['--warnings', '-l', page], { env: { ...env, MANWIDTH: '80' } });
  expect(stderr).toBe('');
  for (const text of ['CYBER-COLLECT(1)', '--accept-shrink', 'vendors’ limits', 'CYBER_COLLECT_STATE'])
    expect(stdout).toContain(text);
  const lint = await call('mandoc', ['-Tlint', '-Wstyle', page]).catch((error: { stdout: string }) => error);
  // It changes with what it says, not with the day on which it was written.
  expect(lint.stdout.split('\n').filter((line) => line !== '' && !line.endsWith('missing date, using "": TH'))).toEqual(
    [],
  );
});
