import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { environmentOf, loadEnvironment, lookUp, resolveShape } from '../../src/config/environment.ts';
import { programAliases, programShape } from '../../src/config/program.ts';
import { integer, optional, secret, setting, text } from '../../src/config/setting.ts';
import { ConfigError } from '../../src/errors.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-env-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function file(name: string, content: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

function problemsOf(work: () => unknown) {
  try {
    work();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error('this should have failed');
}

const shape = {
  ACME_DOMAIN: setting('Domain'),
  ACME_TOKEN: secret('Token'),
  ACME_REGION: setting('Region', text('eu')),
  ACME_LIMIT: setting('Limit', integer(5, 1, 9)),
  ACME_NOTE: setting('Note', optional()),
};
const aliases = { ACME_API_TOKEN: 'ACME_TOKEN' };
const both = { ACME_DOMAIN: 'acme.example', ACME_TOKEN: 't0ken' };

function resolve(variables: Record<string, string>) {
  return resolveShape(environmentOf(variables), 'acme', shape, aliases);
}

describe('a unit’s variables', () => {
  it('are all there: it is active, with defaults for the rest', () => {
    const { state, values } = resolve(both);
    expect(state).toBe('active');
    expect(values).toEqual({ ...both, ACME_REGION: 'eu', ACME_LIMIT: 5, ACME_NOTE: undefined });
  });

  it.each([{}, { ACME_REGION: 'us' }, { ACME_DOMAIN: '', ACME_TOKEN: '' }, { ACME_LIMIT: 'many' }])(
    'none required is set: it is idle %j',
    (variables: Record<string, string>) => {
      expect(resolve(variables)).toMatchObject({ state: 'idle', problems: [], missing: ['ACME_DOMAIN', 'ACME_TOKEN'] });
    },
  );

  it('some are set: the missing ones are named', () => {
    const { state, missing, problems } = resolve({ ACME_DOMAIN: 'acme.example' });
    expect({ state, missing }).toEqual({ state: 'partial', missing: ['ACME_TOKEN'] });
    expect(problems).toMatchObject([{ where: 'acme', mend: 'set ACME_TOKEN', id: 'Environment variable not set' }]);
  });

  it('one that is not valid is named with where it came from, and its value is not shown', () => {
    const { state, problems } = resolve({ ...both, ACME_LIMIT: 'hunter2' });
    expect(state).toBe('invalid');
    expect(problems).toMatchObject([
      {
        where: 'ACME_LIMIT',
        message: 'must be a whole number from 1 to 9 (from environment)',
        mend: 'correct ACME_LIMIT',
      },
    ]);
    expect(JSON.stringify(problems)).not.toContain('hunter2');
  });

  it('all that is wrong is said at once', () => {
    const more = { ...shape, ACME_PORT: setting('Port', integer(1, 1, 2)) };
    const { problems } = resolveShape(environmentOf({ ...both, ACME_LIMIT: 'x', ACME_PORT: 'y' }), 'acme', more);
    expect(problems.map(({ where }) => where)).toEqual(['ACME_LIMIT', 'ACME_PORT']);
  });

  it('a unit without required ones is always active', () => {
    const { state, values } = resolveShape(environmentOf({}), 'x', { ACME_REGION: setting('Region', text('eu')) });
    expect({ state, values }).toEqual({ state: 'active', values: { ACME_REGION: 'eu' } });
  });
});

describe('the text of a variable', () => {
  it('its own name comes before an alias, and an empty value counts as not set', () => {
    const look = (variables: Record<string, string>) => lookUp(environmentOf(variables), 'ACME_TOKEN', aliases)?.value;
    expect(look({ ACME_TOKEN: 'own', ACME_API_TOKEN: 'alias' })).toBe('own');
    expect(look({ ACME_TOKEN: '', ACME_API_TOKEN: 'alias' })).toBe('alias');
    expect(look({})).toBeUndefined();
  });

  it('may lie in a file that NAME_FILE names, without its last line end', async () => {
    const path = await file('token', 'from file\n');
    const dos = await file('token-dos', 'line 1\r\nline 2\r\n');
    expect(resolve({ ACME_DOMAIN: 'a', ACME_TOKEN_FILE: path }).values?.ACME_TOKEN).toBe('from file');
    expect(resolve({ ACME_DOMAIN: 'a', ACME_API_TOKEN_FILE: dos }).values?.ACME_TOKEN).toBe('line 1\r\nline 2');
    expect(resolve({ ...both, ACME_TOKEN_FILE: path }).values?.ACME_TOKEN).toBe('t0ken');
  });

  it('a file that cannot be read is a problem that names it', () => {
    const { problems } = resolve({ ...both, ACME_NOTE_FILE: '/nowhere/note' });
    expect(problems).toMatchObject([{ where: '/nowhere/note', message: expect.stringContaining('ENOENT') }]);
  });
});

describe('env files', () => {
  it('the environment comes first, then the files in turn', async () => {
    const one = await file('one.env', 'CC_TEST_A=one\nCC_TEST_B=one\nPATH=/nowhere\n');
    const two = await file('two.env', 'CC_TEST_B=two\nCC_TEST_C=two\n');
    const environment = loadEnvironment([one, two], folder);
    expect(environment.get('CC_TEST_A')).toMatchObject({ value: 'one', from: one });
    expect(environment.get('CC_TEST_B')?.value).toBe('one');
    expect(environment.get('CC_TEST_C')?.value).toBe('two');
    expect(environment.get('PATH')?.from).toBe('environment');
    expect(environment.get('CC_TEST_D')).toBeUndefined();
  });

  it('.env is read when there is one and none is named', async () => {
    const own = await mkdtemp(join(folder, 'cwd-'));
    expect(loadEnvironment([], own).get('CC_TEST_A')).toBeUndefined();
    await writeFile(join(own, '.env'), 'CC_TEST_A=dotenv\n');
    expect(loadEnvironment([], own).get('CC_TEST_A')).toMatchObject({ value: 'dotenv', from: '.env' });
    const other = await file('other.env', 'CC_TEST_B=x\n');
    expect(loadEnvironment([other], own).get('CC_TEST_A')).toBeUndefined();
  });

  it('quotes, comments, export, a byte order mark and values of several lines are understood', async () => {
    const lines = [
      '\uFEFF# a comment',
      '',
      'export CC_A = "a b"  # why',
      "CC_B='x#y'",
      'CC_C=plain # note',
      'CC_D="one',
      'two = 2',
      'three"',
      'CC_E=',
    ];
    const environment = loadEnvironment([await file('all.env', lines.join('\n'))], folder);
    const values = ['CC_A', 'CC_B', 'CC_C', 'CC_D', 'CC_E'].map((name) => environment.get(name)?.value);
    expect(values).toEqual(['a b', 'x#y', 'plain', 'one\ntwo = 2\nthree', '']);
  });

  it('a line that is no assignment is an error with its number, not a variable lost', async () => {
    const path = await file('bad.env', 'CC_A=1\nCC B=2\n\nhunter2\n');
    const problems = problemsOf(() => loadEnvironment([path], folder));
    expect(problems.map(({ where }) => where)).toEqual([`${path}:2`, `${path}:4`]);
    expect(JSON.stringify(problems)).not.toContain('hunter2');
  });

  it('a quote that is never closed is an error at its line', async () => {
    const path = await file('open.env', 'CC_A=1\nCC_B="two\nCC_C=3\n');
    expect(problemsOf(() => loadEnvironment([path], folder))).toMatchObject([{ where: `${path}:2` }]);
  });

  it('one that is named and not there is an error', () => {
    const [problem] = problemsOf(() => loadEnvironment(['missing.env'], folder));
    expect(problem).toMatchObject({ where: join(folder, 'missing.env'), message: expect.stringContaining('ENOENT') });
  });
});

describe('the program’s variables', () => {
  it('need nothing, and know the names of other tools', () => {
    const environment = environmentOf({
      https_proxy: 'http://proxy.example:3128',
      SLACK_WEBHOOK: 'https://hooks.example/x',
    });
    const { state, values } = resolveShape(environment, 'program', programShape, programAliases);
    expect(state).toBe('active');
    expect(values).toMatchObject({
      TENANCY: 'default',
      CYBER_COLLECT_STATE: '.cyber-collect',
      CYBER_COLLECT_REQUESTS: 8,
      HTTPS_PROXY: 'http://proxy.example:3128',
      SLACK_WEBHOOK_URL: 'https://hooks.example/x',
    });
  });
});
