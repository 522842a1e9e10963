import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { schemas } from '../../src/report/schemas.ts';
import { program } from '../support/program.ts';
import { temporaryFolder } from '../support/run.ts';

const CANARY = 'canary-0f8b2d71c6';

async function folder(): Promise<string> {
  const path = await temporaryFolder();
  const files = {
    'cyber-collect.config.yaml': [
      'run: { only: [okta.users], headroom: 20 }',
      `collectors: { okta: { domain: acme.okta.com, token: { env: MY_TOKEN } }, duo: { secretKey: ${CANARY} } }`,
      `program: { httpsProxy: 'http://me:${CANARY}@proxy.example:3128' }`,
      `stores: { postgres: { host: db, password: { file: password } } }`,
      '',
    ].join('\n'),
    '.env': `NOTIFY_ON=problems\nNOTIFY_WEBHOOK_URL=https://hooks.example/${CANARY}\n`,
    password: `${CANARY}\n`,
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text, { mode: 0o600 });
  return path;
}

const env = { MY_TOKEN: `${CANARY}-token`, CYBER_COLLECT_REQUESTS: '3', SLACK_WEBHOOK: `https://slack/${CANARY}` };

test('explain --config: every variable in effect, its value and its origin, and no part of a secret', async () => {
  const at = await folder();
  const explain = (...args: readonly string[]) => program(at, ['explain', '--config', ...args], env).ended;
  const { code, stdout, stderr } = await explain('--tenancy', 'acme', '--output', 'json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const { file, variables } = schemas.settings.parse(JSON.parse(stdout));
  expect(file).toBe(join(at, 'cyber-collect.config.yaml'));
  const shown = Object.fromEntries(variables.map(({ name, value, from }) => [name, [value, from]]));
  const place = (path: string) => `cyber-collect.config.yaml: ${path}`;
  expect(shown).toMatchObject({
    TENANCY: ['acme', 'flag'],
    CYBER_COLLECT_REQUESTS: ['3', 'environment'],
    CYBER_COLLECT_HEADROOM: ['20', place('run.headroom')],
    CYBER_COLLECT_STATE: ['.cyber-collect', 'default'],
    HTTPS_PROXY: ['http://[secret]@proxy.example:3128', place('program.httpsProxy')],
    NOTIFY_ON: ['problems', '.env'],
    NOTIFY_WEBHOOK_URL: ['[secret]', '.env'],
    SLACK_WEBHOOK_URL: ['[secret]', 'environment'],
    OKTA_DOMAIN: ['acme.okta.com', place('collectors.okta.domain')],
    OKTA_TOKEN: ['[secret]', `MY_TOKEN by ${place('collectors.okta.token')}`],
    DUO_SECRET_KEY: ['[secret]', place('collectors.duo.secretKey')],
    STORE_POSTGRES_PASSWORD: ['[secret]', 'password'],
    STORE_POSTGRES_PORT: ['5432', 'default'],
    'run.only': ['okta.users', place('run.only')],
  });
  expect(new Set(variables.map(({ unit }) => unit))).toEqual(
    new Set(['program', 'duo', 'okta', 'file', 'postgres', 'run']),
  );
  for (const output of ['table', 'markdown']) {
    const other = await explain('--output', output);
    expect(other.stdout).toMatch(/VARIABLE\s+\|?\s*VALUE\s+\|?\s*FROM/);
    expect(other.stdout).not.toContain('canary');
  }
  expect(stdout).not.toContain('canary');
}, 60_000);

test('explain NAME --config shows those of one room; without either it says what is missing', async () => {
  const at = await folder();
  const one = await program(at, ['explain', 'postgres', '--config', '-o', 'json'], env).ended;
  const { variables } = schemas.settings.parse(JSON.parse(one.stdout));
  expect(new Set(variables.map(({ unit }) => unit))).toEqual(new Set(['postgres']));
  const none = await program(at, ['explain'], env).ended;
  expect(none).toMatchObject({ code: 2, stdout: '' });
  expect(none.stderr).toContain('explain needs a name');
  const unknown = await program(at, ['explain', 'postgress', '--config'], env).ended;
  expect(unknown).toMatchObject({ code: 2, stdout: '' });
  expect(unknown.stderr).toContain('did you mean postgres?');
  await writeFile(join(at, 'other.yaml'), 'tenancy: other\n');
  const other = await program(at, ['explain', '--config', 'other.yaml'], env).ended;
  expect(other.stdout).toMatch(/TENANCY +other +other\.yaml: tenancy/);
}, 60_000);
