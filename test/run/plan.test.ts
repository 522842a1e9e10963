import { once } from 'node:events';
import { readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { schemas } from '../../src/report/schemas.ts';
import { root } from '../support/build.ts';
import { program } from '../support/program.ts';
import { temporaryFolder } from '../support/run.ts';

/** A server that counts who connects. */
async function listener() {
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  return { port: String(port), url: `http://127.0.0.1:${port}`, count: () => connections };
}

async function listing(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true });
  const times = await Promise.all(
    ['.', ...entries].map(async (name) => [name, await stat(join(folder, name))] as const),
  );
  return times.map(([name, { mtimeMs, size }]) => `${name} ${mtimeMs} ${size}`).sort();
}

async function planned(folder: string, args: readonly string[], env: Readonly<Record<string, string>>) {
  const before = await listing(folder);
  const ended = await program(folder, ['run', '--dry-run', '--output', 'json', ...args], env).ended;
  expect(await listing(folder)).toEqual(before);
  const { datasets, problems } = schemas.plan.parse(JSON.parse(ended.stdout));
  return { ...ended, datasets, problems: problems.map(({ where, message, mend }) => `${where}: ${message} > ${mend}`) };
}

/** Everything that a run may call, at one address. */
const everywhere = ({ url, port }: { readonly url: string; readonly port: string }) => ({
  OKTA_DOMAIN: url,
  OKTA_TOKEN: 'vault://kv/okta#token',
  VAULT_ADDR: url,
  VAULT_TOKEN: 'hvs.x',
  STORE_POSTGRES_HOST: '127.0.0.1',
  STORE_POSTGRES_PORT: port,
  STORE_POSTGRES_PASSWORD: 'x',
  STORE_AWS_S3_BUCKET: 'b',
  STORE_AWS_S3_ENDPOINT: url,
  AWS_ACCESS_KEY_ID: 'a',
  AWS_SECRET_ACCESS_KEY: 'b',
  CYBER_COLLECT_STATE_S3: 's3://b/state',
  NOTIFY_WEBHOOK_URL: 'vault://kv/hooks#url',
  SLACK_WEBHOOK_URL: `${url}/slack`,
  NOTIFY_HEARTBEAT_URL: `${url}/beat`,
  OTEL_EXPORTER_OTLP_ENDPOINT: url,
});

test('a plan opens no connection and changes no file, and tells what a run would do', async () => {
  const [folder, server] = [await temporaryFolder(), await listener()];
  const env = { ...everywhere(server), STORE_FILE: './data/%TAG.json', STORE_DUCKDB: './data/x y.duckdb' };
  const { code, datasets, problems, stderr } = await planned(folder, ['--only', 'okta.users'], env);
  expect(problems).toEqual([]);
  expect(code, stderr).toBe(0);
  expect(datasets.map(({ tag }) => tag)).toEqual(['okta_users']);
  expect(datasets[0]?.targets).toHaveLength(4);
  expect(server.count()).toBe(0);
});

test('every problem is told at once, and nothing is opened or changed', async () => {
  const [folder, server] = [await temporaryFolder(), await listener()];
  const files = {
    '.env': 'OKTA_TOKN=hunter2-canary\nSTORE_FILES=./x\nno assignment here\n',
    'cyber-collect.config.yaml':
      'run: { deadline: soon, concurrencyy: 2 }\ncollectors: { duo: { secretKey: { env: UNSET } } }\n',
    plain: 'a file',
    hook: '',
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text, { mode: 0o600 });
  await symlink(join(folder, 'plain'), join(folder, 'link.json'));
  const { VAULT_ADDR: _, ...others } = everywhere(server);
  const env = {
    ...others,
    OKTA_TOKEN: 'vault://kv/okta',
    NODE_OPTIONS: `--import ${pathToFileURL(join(root, 'test', 'support', 'without.mjs')).href}`,
    WITHOUT: 'snowflake-sdk',
    STORE_SNOWFLAKE_ACCOUNT: 'a',
    STORE_SNOWFLAKE_USERNAME: 'u',
    STORE_SNOWFLAKE_DATABASE: 'd',
    STORE_SNOWFLAKE_PASSWORD: 'p',
    STORE_FILE: './plain/%TAG.json',
    STORE_DUCKDB: './$TAG.duckdb',
    CYBER_COLLECT_STATE: './plain/state',
    CYBER_COLLECT_PROMETHEUS_FILE: './plain/x.prom',
    CYBER_COLLECT_REQUESTS: 'many',
    CLOUDFLARE_API_TOKEN_FILE: './no/such/token',
    SNYK_TOKE: 'x',
    DUO_API_HOSTNAME: 'api.duo.example',
  };
  const names = ['--only', 'okta.users,okta.usres,duo,cloudflare', '--headroom', '100'];
  const { code, problems, stdout, stderr } = await planned(folder, names, env);
  expect(code).toBe(2);
  expect(stdout + stderr).not.toContain('hunter2');
  for (const said of [
    /^\.env:3: the line is no assignment > write NAME=value$/,
    /^OKTA_TOKN: nothing knows this variable \(from \.env\) > did you mean OKTA_TOKEN\?$/,
    /^STORE_FILES: nothing knows this variable \(from \.env\) > did you mean STORE_FILE\?$/,
    /^SNYK_TOKE: nothing knows this variable \(from environment\) > did you mean SNYK_TOKEN\?$/,
    /^cyber-collect\.config\.yaml:1: run\.deadline: must be a duration/,
    /^cyber-collect\.config\.yaml:1: run\.concurrencyy: .* > did you mean run\.concurrency\?$/,
    /^cyber-collect\.config\.yaml:2: collectors\.duo\.secretKey: the variable UNSET is not set/,
    /^OKTA_TOKEN: its reference needs VAULT_ADDR/,
    /^OKTA_TOKEN: a secret of Vault is read by its field/,
    /^duo: DUO_INTEGRATION_KEY, DUO_SECRET_KEY are missing/,
    /no\/such\/token: the env file cannot be read \(ENOENT\)/,
    /^--only: nothing is called 'okta\.usres' > did you mean okta\.users\?$/,
    /^--headroom: '100' is no share of a limit/,
    /^CYBER_COLLECT_REQUESTS: must be a whole number from 1 to 256/,
    /^store duckdb: '.*' holds \$TAG, which is not replaced > write %TAG$/,
    /^store file: .*plain\/okta_users\.json cannot be written: .*plain is no folder/,
    /^store snowflake: it needs snowflake-sdk, which is not installed > npm install snowflake-sdk$/,
  ])
    expect(problems).toContainEqual(expect.stringMatching(said));
  expect(new Set(problems).size).toBe(problems.length);
  expect(server.count()).toBe(0);
});

test('places that cannot be written are found without writing', async () => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'plain'), '');
  await symlink(join(folder, 'plain'), join(folder, 'link.json'));
  const env = { OKTA_DOMAIN: 'a.example', OKTA_TOKEN: 'b' };
  const faults = async (more: Readonly<Record<string, string>>) =>
    (await planned(folder, ['--only', 'okta.users'], { ...env, ...more })).problems;
  const state = await faults({ STORE_FILE: './new/%TAG.json', CYBER_COLLECT_STATE: './plain/state' });
  expect(state).toEqual([
    expect.stringMatching(/^CYBER_COLLECT_STATE: .*\/plain\/state cannot be .*plain is no folder/),
  ]);
  const metrics = await faults({ STORE_FILE: './new/%TAG.json', CYBER_COLLECT_PROMETHEUS_FILE: './plain/a.prom' });
  expect(metrics).toEqual([expect.stringMatching(/^CYBER_COLLECT_PROMETHEUS_FILE: .*plain is no folder/)]);
  expect(await faults({ STORE_FILE: './link.json' })).toEqual([expect.stringMatching(/it is a symbolic link/)]);
  expect(await faults({ STORE_FILE: '.' })).toEqual([expect.stringMatching(/it is a folder/)]);
  expect(await faults({ STORE_FILE: './new/%TAG.json', STORE_DUCKDB: './plain/x.duckdb' })).toEqual([
    expect.stringMatching(/^store duckdb: .*plain is no folder/),
  ]);
  expect(await faults({ STORE_FILE: './new/%TAG.json' })).toEqual([]);
}, 60_000);

test('a variable of someone else’s in the environment is a warning; what is well mistyped in a file is not', async () => {
  const folder = await temporaryFolder();
  const env = { OKTA_DOMAIN: 'a.example', OKTA_TOKEN: 'b', STORE_FILE: './%TAG.json', GITHUB_REF: 'x', AWS_PAGER: '' };
  const only = ['--only', 'okta.users'];
  expect(await planned(folder, only, env)).toMatchObject({ code: 0, problems: [] });
  const near = await planned(folder, only, { ...env, OKTA_TOKENS: 'x' });
  expect(near).toMatchObject({ code: 0, problems: [expect.stringContaining('did you mean OKTA_TOKEN?')] });
  expect(near.stderr).toContain('WARNING');
  await writeFile(join(folder, '.env'), 'OKTA_TOKENS=x\nMY_OWN=1\n', { mode: 0o600 });
  expect(await planned(folder, only, env)).toMatchObject({
    code: 2,
    problems: [expect.stringContaining('OKTA_TOKENS')],
  });
}, 60_000);

test('a secret file that everyone can read, and a tenant’s file of another tenancy', async () => {
  const folder = await temporaryFolder();
  const lines = 'OKTA_DOMAIN=a.example\nOKTA_TOKEN=b\nTENANCY=two\n';
  await writeFile(join(folder, 'one.env'), lines, { mode: 0o644 });
  const { code, problems } = await planned(folder, ['--tenant', 'one.env'], { STORE_FILE: './%TENANCY/%TAG.json' });
  expect(code).toBe(2);
  expect(problems).toEqual([
    expect.stringMatching(/one\.env: it holds secrets, and everyone on this machine can read it/),
    expect.stringMatching(/^one\.env: TENANCY is two, but the file is called one/),
  ]);
});

test('a secret that is to be read from a file that is not there is a problem of a run, too', async () => {
  const folder = await temporaryFolder();
  const env = { OKTA_DOMAIN_FILE: 'none', OKTA_TOKEN_FILE: 'none', STORE_FILE: './%TAG.json' };
  const { code, stderr } = await program(folder, ['run'], env).ended;
  expect(stderr).toMatch(/none: the env file cannot be read \(ENOENT\)/);
  expect(code).toBe(2);
});
