import { access, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type RunningVendor, startVendor, type VendorOptions } from '../src/simulator/vendor.ts';
import vendor from '../src/simulator/vendor_okta.ts';
import { root } from './support/build.ts';
import { type Ended, program } from './support/program.ts';
import { filesBelow, temporaryFolder } from './support/run.ts';

const vendorsRunning: RunningVendor[] = [];

afterEach(async () => {
  await Promise.all(vendorsRunning.splice(0).map((running) => running.close()));
});

async function start(options: VendorOptions = {}): Promise<RunningVendor> {
  const running = await startVendor(vendor, { scale: 20, pageSize: 10, ...options });
  vendorsRunning.push(running);
  return running;
}

/** The program, with its files in a folder. */
function launch(cwd: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return program(cwd, args, { HOME: cwd, STORE_FILE: './data/%TAG/%TENANCY.json', ...env });
}

function cli(cwd: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return launch(cwd, args, env).ended;
}

interface Envelope {
  readonly data: readonly unknown[];
  readonly metadata: { readonly upload_id: string; readonly records: number };
}

async function envelope(path: string): Promise<Envelope> {
  return JSON.parse(await readFile(path, 'utf8')) as Envelope;
}

describe('what needs no vendor', () => {
  test('--help and --version', async () => {
    const folder = await temporaryFolder();
    const [help, version, manifest] = await Promise.all([
      cli(folder, ['--help']),
      cli(folder, ['--version']),
      readFile(join(root, 'package.json'), 'utf8'),
    ]);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    for (const verb of ['run|wrapper', 'list', 'explain', 'doctor', 'peek', 'demo', 'docs'])
      expect(help.stdout).toContain(verb);
    expect(version.stdout.trim()).toBe((JSON.parse(manifest) as { version: string }).version);
    expect(await readdir(folder)).toEqual([]);
  });

  test('an unknown command or flag is exit 2', async () => {
    const folder = await temporaryFolder();
    const [command, flag, duration] = await Promise.all([
      cli(folder, ['collect']),
      cli(folder, ['run', '--onyl', 'okta']),
      cli(folder, ['run', '--deadline', 'soon']),
    ]);
    expect([command.code, flag.code, duration.code]).toEqual([2, 2, 2]);
    expect(flag.stderr).toContain('--only');
    expect(duration.stderr).toContain('90s, 30m or 6h');
  });

  test('list: idle, active and half set', async () => {
    const folder = await temporaryFolder();
    const states = async (env: Record<string, string>) => {
      const { code, stdout } = await cli(folder, ['list', '--output', 'json'], env);
      expect(code).toBe(0);
      const { collectors } = JSON.parse(stdout) as {
        collectors: { name: string; state: string; datasets: string[] }[];
      };
      return collectors.find(({ name }) => name === 'okta');
    };
    expect(await states({})).toMatchObject({
      state: 'idle',
      datasets: expect.arrayContaining(['okta_users', 'okta_group_members']),
    });
    expect(await states({ OKTA_DOMAIN: 'acme.okta.com' })).toMatchObject({
      state: 'half set',
      missing: ['OKTA_TOKEN'],
    });
    expect(await states({ OKTA_DOMAIN: 'acme.okta.com', OKTA_TOKEN: 'abcd' })).toMatchObject({ state: 'active' });
  });

  test('explain: endpoint, permission, parent, target; an unknown name is exit 2 with a suggestion', async () => {
    const folder = await temporaryFolder();
    const { code, stdout } = await cli(folder, ['explain', 'okta.group_members', '--output', 'json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject([
      {
        tag: 'okta_group_members',
        endpoint: 'GET /api/v1/groups/{id}/users',
        permission: 'okta.groups.read',
        parent: 'groups',
        adds: '_group_id',
        state: 'idle',
        targets: [expect.stringMatching(/data\/okta_group_members\/default\.json$/)],
      },
    ]);
    const unknown = await cli(folder, ['explain', 'okta.usres']);
    expect(unknown).toMatchObject({ code: 2, stdout: '' });
    expect(unknown.stderr).toContain('did you mean okta.users?');
  });

  test('docs writes the pages, docs --check tells which are not what the program says', async () => {
    const folder = await temporaryFolder();
    const unwritten = await cli(folder, ['docs', '--check']);
    expect(unwritten.code).toBe(1);
    expect(await readdir(folder)).toEqual([]);
    expect((await cli(folder, ['docs'])).code).toBe(0);
    expect(await cli(folder, ['docs', '--check'])).toMatchObject({ code: 0, stdout: '' });
    await writeFile(join(folder, 'docs', 'collectors', 'okta.md'), 'something else\n');
    const stale = await cli(folder, ['docs', '--check']);
    expect(stale).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^docs\/collectors\/okta\.md: out of date .*\n$/),
    });
  });
});

describe('run', () => {
  test('--output json: one object on stdout, talk on stderr, no secret on either', async () => {
    const [folder, org] = await Promise.all([
      temporaryFolder(),
      start({ faults: [{ name: '403', resource: 'groups' }] }),
    ]);
    const { code, stdout, stderr } = await cli(
      folder,
      ['run', '--only', 'okta.users,okta.groups', '--output', 'json', '--verbose'],
      org.env,
    );
    expect(code).toBe(3);
    const summary = JSON.parse(stdout) as { exit_code: number; datasets: { tag: string; verdict: string }[] };
    expect(stdout.trim().split('\n')).toHaveLength(1);
    expect(summary.exit_code).toBe(3);
    expect(summary.datasets.map(({ tag, verdict }) => [tag, verdict])).toEqual([
      ['okta_users', 'complete'],
      ['okta_groups', 'denied'],
    ]);
    expect(stderr).toContain('okta_users: complete, 20 records');
    expect(stderr).toContain('okta_groups: denied');
    expect(stdout + stderr).not.toContain(org.env.OKTA_TOKEN);
  });

  test('--log-format json: every line on stderr is an object', async () => {
    const [folder, org] = await Promise.all([temporaryFolder(), start()]);
    const { code, stderr } = await cli(folder, ['run', '--only', 'okta.users', '--log-format', 'json'], org.env);
    expect(code).toBe(0);
    const events = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string });
    expect(events.map(({ event }) => event)).toContain('dataset.complete');
  });

  test('twice: the same records under a new upload, and the alias does the same', async () => {
    const [folder, org] = await Promise.all([temporaryFolder(), start()]);
    const path = join(folder, 'data', 'okta_users', 'default.json');
    expect((await cli(folder, ['run', '--only', 'okta.users'], org.env)).code).toBe(0);
    const first = await envelope(path);
    expect((await cli(folder, ['wrapper', '--only', 'okta.users'], org.env)).code).toBe(0);
    const second = await envelope(path);
    expect(second.data).toEqual(first.data);
    expect(second.data).toHaveLength(20);
    expect(second.metadata.upload_id).not.toBe(first.metadata.upload_id);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(folder, '.cyber-collect'))).mode & 0o777).toBe(0o700);
    expect(await readdir(join(folder, '.cyber-collect', 'runs', 'default'))).toHaveLength(2);
  });

  test('at the same time: the second is exit 8 and leaves the first alone', async () => {
    const [folder, org] = await Promise.all([temporaryFolder(), start({ latencyMs: 4000, scale: 60 })]);
    const first = launch(folder, ['run', '--only', 'okta.users'], org.env);
    await vi.waitFor(() => expect(org.requests.length).toBeGreaterThan(0), { timeout: 20_000, interval: 10 });
    const asked = ['run', '--only', 'okta.users', '--output', 'json'];
    const second = await cli(folder, asked, org.env);
    expect(second.code).toBe(8);
    expect(JSON.parse(second.stdout)).toMatchObject({ exit_code: 8, datasets: [] });
    expect((await first.ended).code).toBe(0);
    expect((await envelope(join(folder, 'data', 'okta_users', 'default.json'))).data).toHaveLength(60);
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s: exit %i, the old copy whole, nothing half written, the lock let go', async (signal, exit) => {
    const folder = await temporaryFolder();
    const before = await start();
    const args = ['run', '--only', 'okta.users', '--output', 'json'];
    expect((await cli(folder, args, before.env)).code).toBe(0);
    const path = join(folder, 'data', 'okta_users', 'default.json');
    const old = await readFile(path, 'utf8');
    const slow = await start({ scale: 2000, latencyMs: 20 });
    const { child, ended } = launch(folder, args, slow.env);
    await vi.waitFor(() => expect(slow.requests.length).toBeGreaterThan(3), { timeout: 20_000, interval: 5 });
    child.kill(signal);
    const { code, stdout } = await ended;
    expect(code).toBe(exit);
    expect(JSON.parse(stdout)).toMatchObject({ exit_code: exit, datasets: [{ tag: 'okta_users', verdict: 'failed' }] });
    expect(await readFile(path, 'utf8')).toBe(old);
    const kept = join(folder, '.cyber-collect', 'work'); // what the next run goes on from
    const left = (await filesBelow(folder)).filter(
      (file) => /\.tmp$|\.lock$|\/spool\//.test(file) && !file.startsWith(kept),
    );
    expect(left).toEqual([]);
  });

  test('--dry-run shows the plan, calls nobody, writes nothing', async () => {
    const [folder, org] = await Promise.all([temporaryFolder(), start()]);
    const { code, stdout } = await cli(
      folder,
      ['run', '--dry-run', '--only', 'okta.users', '--output', 'json'],
      org.env,
    );
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      datasets: [{ tag: 'okta_users', needs: 'okta.users.read' }],
      problems: [],
    });
    expect(org.requests).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
  });

  test('nothing configured is exit 5 and says where to look', async () => {
    const { code, stderr } = await cli(await temporaryFolder(), ['run']);
    expect(code).toBe(5);
    expect(stderr).toContain('cyber-collect list');
  });
});

describe('env files', () => {
  test('.env of the working directory is read, the environment wins', async () => {
    const [folder, org] = await Promise.all([temporaryFolder(), start()]);
    const file = `OKTA_DOMAIN=${org.origin}\nOKTA_TOKEN='${org.env.OKTA_TOKEN}'\nTENANCY=from-file\n`;
    await writeFile(join(folder, '.env'), file, { mode: 0o600 });
    const { code } = await cli(folder, ['run', '--only', 'okta.users'], { TENANCY: 'from-shell' });
    expect(code).toBe(0);
    await access(join(folder, 'data', 'okta_users', 'from-shell.json'));
  });

  test('a line that is no assignment is exit 2 with its number, and its text is not shown', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, '.env'), '# settings\nOKTA_DOMAIN=acme.okta.com\nOKTA_TOKEN canary-without-sign\n');
    const { code, stdout, stderr } = await cli(folder, ['run']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('.env:3: the line is no assignment');
    expect(stderr).not.toContain('canary');
    expect(await readdir(folder)).toEqual(['.env']);
  });

  test('a file that is named and not there is exit 2', async () => {
    const { code, stderr } = await cli(await temporaryFolder(), ['run', '--env-file', 'prod.env']);
    expect(code).toBe(2);
    expect(stderr).toContain('prod.env: the env file cannot be read (ENOENT)');
  });
});

test('demo: real collectors into ./data, as files and in DuckDB', async () => {
  const folder = await temporaryFolder();
  const { code, stdout } = await cli(folder, ['demo', '--records', '100']);
  expect(code, stdout).toBe(0);
  expect((await envelope(join(folder, 'data', 'okta_users', 'demo.json'))).data).toHaveLength(10);
  await access(join(folder, 'data', 'demo.duckdb'));
  await rm(join(folder, 'data'), { recursive: true });
  expect(await readdir(folder)).toEqual([]);
}, 60_000);
