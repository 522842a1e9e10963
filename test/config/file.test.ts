import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { program } from '../support/program.ts';
import { filesBelow, temporaryFolder } from '../support/run.ts';

async function start() {
  const running = await startVendor(okta, { scale: 20, pageSize: 10 });
  onTestFinished(() => running.close());
  return { ...running, domain: running.env.OKTA_DOMAIN ?? '', token: running.env.OKTA_TOKEN ?? '' };
}

async function folderWith(files: Readonly<Record<string, string>>, mode = 0o600): Promise<string> {
  const folder = await temporaryFolder();
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text, { mode });
  }
  return folder;
}

const cli = (folder: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  program(folder, args, env).ended;

const stored = async (folder: string, ...parts: readonly string[]) =>
  (await filesBelow(join(folder, ...parts)).catch(() => [])).map((path) => path.slice(folder.length + 1)).sort();

const YAML = 'cyber-collect.config.yaml';

const yaml = (domain: string) => `# yaml-language-server: $schema=x
$schema: ./config.json
tenancy: acme
run:
  only: [okta.users]
  concurrency: 2
  deadline: 10m
  headroom: 0
program:
  requests: 4
collectors:
  okta:
    domain: ${domain}
    token: { env: MY_OKTA_TOKEN }
stores:
  file: ./data/%TENANCY/%TAG.ndjson
`;

test('a run has all that it needs from YAML, JSON, TypeScript or JavaScript', async () => {
  const vendor = await start();
  const content = {
    tenancy: 'acme',
    run: { only: ['okta.users'], deadline: 600 },
    collectors: { okta: { domain: vendor.domain, token: { file: 'token' }, concurrency: 2 } },
    stores: { file: { file: './data/%TENANCY/%TAG.ndjson', format: 'ndjson' } },
  };
  const json = JSON.stringify(content, null, '\t');
  const module = `import { readFileSync } from 'node:fs';
    const token: string = readFileSync('token', 'utf8');
    export default { ...${json}, collectors: { okta: { domain: '${vendor.domain}', token } } };`;
  const script = `module.exports = ${json};`;
  const forms = { [YAML]: yaml(vendor.domain), 'cyber-collect.config.json': json };
  const modules = { 'cyber-collect.config.ts': module, 'cyber-collect.config.js': script };
  for (const [name, text] of Object.entries({
    ...forms,
    ...modules,
    'cyber-collect.config.yml': yaml(vendor.domain),
  })) {
    const folder = await folderWith({ token: vendor.token, [name]: text });
    const { code, stderr } = await cli(folder, ['run'], { MY_OKTA_TOKEN: vendor.token });
    expect(stderr, name).not.toContain('clear');
    expect(code, stderr).toBe(0);
    expect(await stored(folder, 'data'), name).toEqual(['data/acme/okta_users.ndjson']);
  }
}, 60_000);

test('flag, environment, env file, file, default: each wins over what stands behind it', async () => {
  const folder = await folderWith({
    [YAML]: 'tenancy: file\nstores: { file: { file: "./file/%TENANCY.json", layout: raw } }\n',
    'some.env': 'TENANCY=dotenv\nSTORE_FILE=./dotenv/%TENANCY.json\n',
  });
  const target = async (args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    const { stdout } = await cli(folder, ['explain', 'okta.users', '--output', 'json', ...args], env);
    const [{ targets }] = JSON.parse(stdout) as [{ targets: readonly string[] }];
    return targets.map((path) => path.slice(folder.length + 1));
  };
  expect(await target([])).toEqual(['file/file.json']);
  expect(await target(['--env-file', 'some.env'])).toEqual(['dotenv/dotenv.json']);
  expect(await target(['--env-file', 'some.env'], { TENANCY: 'shell' })).toEqual(['dotenv/shell.json']);
  expect(await target(['--tenancy', 'flag'], { TENANCY: 'shell' })).toEqual(['file/flag.json']);
  const other = await folderWith({ [YAML]: 'tenancy: file\n' });
  const { stdout } = await cli(other, ['explain', 'okta.users', '--output', 'json']);
  expect(stdout).toContain('data/source/okta_users/file.json');
});

test('what the environment sets by another name, or by a file, is not taken from the configuration', async () => {
  const vendor = await start();
  const folder = await folderWith({
    token: vendor.token,
    [YAML]: `collectors: { okta: { domain: ${vendor.domain}, token: { env: NOT_SET } } }\nrun: { only: okta.users }\n`,
  });
  const run = (env: Readonly<Record<string, string>>) => cli(folder, ['run'], { STORE_FILE: './d/%TAG.json', ...env });
  expect(await run({ OKTA_TOKEN_FILE: 'token' })).toMatchObject({ code: 0 });
  const empty = await run({});
  expect(empty).toMatchObject({ code: 2, stdout: '' });
  expect(empty.stderr).toContain(`${YAML}:1: collectors.okta.token: the variable NOT_SET is not set`);
});

test('flags of run: those on the command line win over the section run', async () => {
  const vendor = await start();
  const folder = await folderWith({ [YAML]: 'run: { only: [okta.users], output: json, concurrency: 1 }\n' });
  const env = { ...vendor.env, STORE_FILE: './data/%TAG.json' };
  const one = await cli(folder, ['run'], env);
  expect(JSON.parse(one.stdout)).toMatchObject({ exit_code: 0, datasets: [{ tag: 'okta_users' }] });
  const two = await cli(folder, ['run', '--only', 'okta.groups', '--output', 'table'], env);
  expect(two.stdout).toMatch(/^DATASET[\s\S]*okta_groups/);
  expect(two.stdout).not.toContain('okta_users');
});

test('every unknown key and every wrong value is told at once, with its line and the nearest key', async () => {
  const lines = [
    'tenancyy: acme', // 1
    'run: { deadline: soon, concurency: 2, full: maybe }',
    'program: { requests: 0, allowHttp: 3 }',
    'okta: { token: hunter2-canary }',
    'collectors:', // 5
    '  oktaa: {}',
    '  okta:',
    '    OKTA_DOMAIN: acme.okta.com',
    '    tokn: hunter2-canary',
    '    concurrency: many-hunter2', // 10
    '    domain: [a, b]',
    '  duo: yes please',
    'stores:',
    '  file: { layout: column, path: x }',
    'notify: { on: never, webhookUrl: hunter2-canary, emailTo: [a@x.example, "b;c"] }', // 15
    '$schema: 5',
  ];
  const folder = await folderWith({ [YAML]: lines.join('\n') });
  for (const command of ['run', 'list', 'doctor']) {
    const { code, stdout, stderr } = await cli(folder, [command]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).not.toContain('hunter2');
    for (const said of [
      ":1: tenancyy: nothing is called 'tenancyy' here. To mend: did you mean tenancy?",
      ':2: run.deadline: must be a duration such as 90s, 30m or 6h',
      ":2: run.concurency: nothing is called 'concurency' here. To mend: did you mean run.concurrency?",
      ':2: run.full: must be true or false',
      ':3: program.requests: must be a whole number from 1 to 256',
      ':3: program.allowHttp: must be true or false',
      ":4: okta: nothing is called 'okta' here. To mend: did you mean collectors.okta?",
      ":6: collectors.oktaa: nothing is called 'oktaa' here. To mend: did you mean collectors.okta?",
      ":8: collectors.okta.OKTA_DOMAIN: nothing is called 'OKTA_DOMAIN' here. To mend: did you mean collectors.okta.domain?",
      ":9: collectors.okta.tokn: nothing is called 'tokn' here. To mend: did you mean collectors.okta.token?",
      ':10: collectors.okta.concurrency: must be a whole number',
      ':11: collectors.okta.domain: must be one value, no list',
      ':12: collectors.duo: must be a section of keys and values',
      ':14: stores.file.layout: must be one of typed, raw',
      ":14: stores.file.path: nothing is called 'path' here",
      ':15: notify.on: must be one of always, problems, change',
      ':15: notify.webhookUrl: must be a URL that begins with https:// or http://',
      ':15: notify.emailTo: must be a list of words without commas and semicolons',
      ':16: $schema: must be text',
    ])
      expect(stderr).toContain(`${YAML}${said}`);
    expect(stderr.trim().split('\n')).toHaveLength(19);
  }
}, 60_000);

test.each([
  [
    'a quote that is never closed',
    YAML,
    'tenancy: "hunter2\n',
    /config\.yaml:\d: a quote, bracket or comma is missing/,
  ],
  [
    'a key that stands twice',
    YAML,
    'tenancy: hunter2\nrun: {}\ntenancy: b\n',
    /config\.yaml:3: a key stands there twice/,
  ],
  ['a tag', YAML, 'tenancy: !hunter2 x\n', /config\.yaml:1: a tag is not known/],
  ['a list', 'cyber-collect.config.json', '["hunter2"]', /config\.json: it holds no sections/],
  ['no default export', 'cyber-collect.config.ts', 'export const a = "hunter2";', /config\.ts: it exports no config/],
  [
    'a module that is none',
    'cyber-collect.config.ts',
    'export default { token: "hunter2" \n',
    /cannot be loaded: line 2 is not understood/,
  ],
  ['a module that needs another', 'cyber-collect.config.js', 'require("nowhere")', /Cannot find module 'nowhere'/],
  [
    'a module that throws',
    'cyber-collect.config.js',
    'throw new RangeError("hunter2")',
    /cannot be loaded: RangeError\./,
  ],
])('%s is one sentence without a word of the file', async (_what, name, text, said) => {
  const { code, stderr } = await cli(await folderWith({ [name]: text }), ['list']);
  expect(stderr).toMatch(said);
  expect(stderr).not.toContain('hunter2');
  expect(code).toBe(2);
});

test('which file: the flag, then CYBER_COLLECT_CONFIG, then the one of the folder; two are one too many', async () => {
  const folder = await folderWith({
    'a.yaml': 'stores: { file: a/%TAG.json }\n',
    'b.json': '{"stores": {"file": "b/%TAG.json"}}',
    [YAML]: 'stores: { file: c/%TAG.json }\n',
  });
  const first = async (args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    const { stdout, stderr } = await cli(folder, ['explain', 'okta.users', '-o', 'json', ...args], env);
    return stdout === '' ? stderr : ((JSON.parse(stdout)[0].targets[0] as string).slice(folder.length + 1)[0] ?? '');
  };
  expect(await first(['--config', 'a.yaml'], { CYBER_COLLECT_CONFIG: 'b.json' })).toBe('a');
  expect(await first([], { CYBER_COLLECT_CONFIG: 'b.json' })).toBe('b');
  expect(await first([])).toBe('c');
  expect(await first(['--config', 'none.yaml'])).toMatch(/none\.yaml: the configuration cannot be read \(ENOENT\)/);
  expect(await first(['--config', 'a.toml'])).toMatch(/a\.toml: a configuration ends with \.json/);
  await writeFile(join(folder, 'cyber-collect.config.json'), '{}');
  expect(await first([])).toMatch(/there is more than one configuration/);
});

test('a secret in clear is warned of, and refused where everyone can read it; a reference is neither', async () => {
  const vendor = await start();
  const file = (token: string) => ({
    [YAML]: `collectors: { okta: { domain: ${vendor.domain}, token: ${token} } }\nrun: { only: okta.users }\n`,
  });
  const env = { STORE_FILE: './data/%TAG.json', MY_TOKEN: vendor.token };
  const clear = await cli(await folderWith(file(vendor.token)), ['run'], env);
  expect(clear.stderr).toContain(`${YAML}:1: collectors.okta.token is a secret in clear`);
  expect(clear.stdout + clear.stderr).not.toContain(vendor.token);
  expect(clear.code).toBe(0);
  const open = await cli(await folderWith(file(vendor.token), 0o644), ['run'], env);
  expect(open.stderr).toContain('it holds secrets, and everyone on this machine can read it');
  expect(open.code).toBe(2);
  const named = await cli(await folderWith(file('{ env: MY_TOKEN }'), 0o644), ['run'], env);
  expect(named.stderr).not.toContain('clear');
  expect(named.code).toBe(0);
  const reference = await cli(await folderWith(file('"vault://kv/okta#token"'), 0o644), ['run'], env);
  expect(reference.stderr).toMatch(/OKTA_TOKEN: vault:\/\/kv\/okta#token cannot be looked up: VAULT_ADDR is not set/);
});

test('no credential of the configuration reaches a tenant; what tenants share does, also by reference', async () => {
  const vendor = await start();
  const folder = await folderWith({
    [YAML]: `tenancy: mine
run: { only: [okta.users] }
collectors: { okta: { domain: ${vendor.domain}, token: ${vendor.token}, concurrency: 1 } }
stores: { file: { env: WHERE }, s3: { awsAccessKeyId: AKIA, awsSecretAccessKey: x } }
`,
    'tenants/full.env': `OKTA_DOMAIN=${vendor.domain}\nOKTA_TOKEN='${vendor.token}'\n`,
    'tenants/half.env': `OKTA_DOMAIN=${vendor.domain}\n`,
  });
  const env = { WHERE: './data/%TENANCY/%TAG.ndjson' };
  for (const args of [
    ['--tenants', 'tenants/half.env'],
    ['--tenant', 'tenants/half.env'],
  ]) {
    const { code, stderr } = await cli(folder, ['run', ...args], env);
    expect(stderr).toContain('OKTA_TOKEN is missing, the rest is set');
    expect(stderr).not.toContain('clear');
    expect(code).toBe(2);
  }
  expect(vendor.requests).toEqual([]);
  const { code, stderr } = await cli(folder, ['run', '--tenants', 'tenants/full.env'], env);
  expect(code, stderr).toBe(0);
  expect(await stored(folder, 'data')).toEqual(['data/full/okta_users.ndjson']);
  const one = await cli(folder, ['run', '--tenant', 'tenants/full.env', '--only', 'okta.groups'], env);
  expect(one.code, one.stderr).toBe(0);
  expect(await stored(folder, 'data')).toEqual(['data/full/okta_groups.ndjson', 'data/full/okta_users.ndjson']);
}, 60_000);
