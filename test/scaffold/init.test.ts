import { execFile } from 'node:child_process';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { promisify } from 'node:util';
import { Cron } from 'croner';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { minuteOf } from '../../src/scaffold/schedule.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { program } from '../support/program.ts';
import { filesBelow, temporaryFolder } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const start = starter(okta, { scale: 30, pageSize: 20 });
const CHOICE = ['init', '--only', 'okta,crowdstrike', '--store', 'file,s3,postgres', '--tenancy', 'acme'];

let folder = '';

vi.setConfig({ testTimeout: 120_000 }); // some start the program several times

beforeEach(async () => {
  folder = join(await temporaryFolder(), "o'ffice 100% $HOME");
  await mkdir(folder);
});

const run = (...args: readonly string[]) => program(folder, args).ended;
const read = (path: string) => readFile(join(folder, path), 'utf8');

/** Fills in lines of the file of variables. */
async function fill(values: Readonly<Record<string, string>>): Promise<void> {
  let text = await read('.env');
  for (const [name, value] of Object.entries(values)) {
    expect(text).toMatch(new RegExp(`^#?${name}=`, 'm'));
    text = text.replace(new RegExp(`^#?${name}=.*$`, 'm'), `${name}=${value}`);
  }
  await writeFile(join(folder, '.env'), text);
}

describe('the file of variables', () => {
  test('has the chosen rooms, required ones first, is private, and is taken once it is filled in', async () => {
    const { code, stdout, stderr } = await run(...CHOICE);
    expect(code).toBe(0);
    expect(stdout).toBe('.env\n');
    expect((await stat(join(folder, '.env'))).mode & 0o777).toBe(0o600);
    const text = await read('.env');
    expect(text).toContain('TENANCY=acme\n');
    const ours = [
      'OKTA_DOMAIN',
      'OKTA_TOKEN',
      'FALCON_CLIENT_ID',
      'FALCON_SECRET',
      'STORE_POSTGRES_HOST',
      'STORE_AWS_S3_BUCKET',
    ];
    const empty = [...text.matchAll(/^(\w+)=$/gm)].map((match) => match[1]);
    expect(empty.sort()).toEqual(ours.sort());
    for (const name of ours) expect(stderr).toContain(name);
    expect(text.indexOf('\nOKTA_TOKEN=')).toBeLessThan(text.indexOf('\n#OKTA_'));
    expect(text).toMatch(/^# API token .* \(required, secret\)\nOKTA_TOKEN=$/m);
    await fill({
      ...{ OKTA_DOMAIN: 'acme.okta.com', OKTA_TOKEN: 'not-a-token-1', FALCON_CLIENT_ID: 'ab12', FALCON_SECRET: 'cd34' },
      ...{ STORE_POSTGRES_HOST: 'localhost', STORE_AWS_S3_BUCKET: 'acme-security' },
    });
    const dry = await run('run', '--dry-run', '--output', 'json');
    expect(dry.stderr).toBe('');
    expect(dry.code).toBe(0);
    for (const name of ['okta_users', 'crowdstrike_hosts', 'acme-security']) expect(dry.stdout).toContain(name);
  });

  test('is never overwritten; what it lacks can be added', async () => {
    await writeFile(join(folder, '.env'), 'OKTA_DOMAIN=acme.okta.com', { mode: 0o600 });
    const refused = await run(...CHOICE, '--for', 'cron');
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/^ERROR: .*\.env: it is there already.*--append.*\n$/);
    expect(await filesBelow(folder)).toEqual([join(folder, '.env')]);
    expect((await run(...CHOICE, '--append')).code).toBe(0);
    const text = await read('.env');
    expect(text.startsWith('OKTA_DOMAIN=acme.okta.com\n\n')).toBe(true);
    expect(text.match(/OKTA_DOMAIN=/g)).toHaveLength(1);
    expect(text).toContain('\nOKTA_TOKEN=\n');
    expect((await run(...CHOICE, '--append')).stdout).toBe('');
    expect(await read('.env')).toBe(text);
    expect((await run(...CHOICE, '--file', 'acme.env')).code).toBe(0);
  });

  test('turns files off where they are not chosen', async () => {
    await run('init', '--only', 'okta', '--store', 's3');
    expect(await read('.env')).toContain('\nSTORE_FILE=none\n');
  });

  test('names the folder of a room of one’s own that is chosen', async () => {
    expect((await run('new', 'collector', 'acme', '--js')).code).toBe(0);
    const init = ['init', '--only', 'acme', '--store', 'file'];
    expect((await program(folder, init, { COLLECTORS_PATH: './collectors' }).ended).code).toBe(0);
    expect(await read('.env')).toMatch(/\nCOLLECTORS_PATH=\.\/collectors\n[\s\S]*\nACME_URL=\n/);
    await fill({ ACME_URL: 'https://acme.example', ACME_TOKEN: 'not-a-token-1' });
    const dry = await run('run', '--dry-run', '--output', 'json');
    expect([dry.code, dry.stderr]).toEqual([0, '']);
    expect(dry.stdout).toContain('acme_users');
  });

  test('what a command line gets wrong is told at once, and nothing is written', async () => {
    const { code, stderr } = await run('init', '--only', 'octa', '--store', 'fil', '--for', 'crn', '--tenancy', 'acme');
    expect(code).toBe(2);
    expect(stderr).toMatch(/--only: nothing is called 'octa'.*did you mean okta\?/);
    expect(stderr).toMatch(/--store: nothing is called 'fil'.*did you mean file\?/);
    expect(stderr).toMatch(/--for: nothing is called 'crn'.*cron, systemd/);
    const none = await run('init');
    expect(none.stderr).toMatch(/--only: nothing is chosen.*\n.*--store: nothing is chosen/);
    expect(none.code).toBe(2);
    const quoted = await run('init', '--only', 'okta', '--store', 'file', '--tenancy', 'a"b');
    expect([quoted.code, quoted.stderr]).toEqual([2, expect.stringContaining('the tenancy holds characters')]);
    const forgetful = await run('init', '--only', 'okta', '--store', 'file', '--for', 'github');
    expect([forgetful.code, forgetful.stderr]).toEqual([2, expect.stringContaining('github forgets its files')]);
    expect(await filesBelow(folder)).toEqual([]);
  });
});

test('a terminal is asked, again where the answer is not understood', async () => {
  const { init } = await import('../../src/commands/init.ts');
  const [input, output] = [new PassThrough(), new PassThrough()];
  let shown = '';
  output.on('data', (chunk) => {
    shown += chunk;
  });
  vi.spyOn(process, 'cwd').mockReturnValue(folder);
  const printed = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const flags = { only: [], store: [], for: [], file: join(folder, '.env') };
  const ended = init(flags, { input, output });
  const answer = async (question: RegExp, line: string) => {
    await vi.waitFor(() => expect(shown).toMatch(question), { timeout: 20_000, interval: 5 });
    shown = '';
    input.write(`${line}\n`);
  };
  await answer(/okta +Okta Workforce Identity[\s\S]*Collectors .*: $/, 'octa');
  await answer(/nothing is called 'octa': did you mean okta\?\nCollectors .*: $/, 'okta, crowdstrike');
  await answer(/postgres +PostgreSQL[\s\S]*Stores .*: $/, '');
  await answer(/nothing is chosen[\s\S]*Stores .*: $/, 's3');
  await answer(/organisation \[default\]: $/, 'acme');
  await answer(/Files for a schedule .*: $/, 'cron github');
  await answer(/nothing is called 'cron github'.*\nFiles/, 'cron,github');
  expect(await ended).toBe(0);
  const texts = { printed: printed.mock.calls.join(''), said: said.mock.calls.join('') };
  vi.restoreAllMocks();
  expect(texts.printed).toBe('.env\ncyber-collect-acme.cron\n.github/workflows/cyber-collect-acme.yml\n');
  expect(texts.said).toContain('- cron: (crontab -l; cat cyber-collect-acme.cron) | crontab -\n');
  const names = (await filesBelow(folder)).map((path) => path.slice(folder.length + 1)).sort();
  expect(names).toEqual(['.env', '.github/workflows/cyber-collect-acme.yml', 'cyber-collect-acme.cron']);
  expect(await read('.env')).toContain('\nSTORE_FILE=none\n');
});

test('a dialogue that is broken off writes nothing', async () => {
  const { init } = await import('../../src/commands/init.ts');
  const input = new PassThrough();
  const ended = init(
    { only: [], store: [], for: [], file: join(folder, '.env') },
    { input, output: new PassThrough() },
  );
  input.end();
  expect(await ended).toBe(130);
  expect(await filesBelow(folder)).toEqual([]);
});

const reference = (to: string) => `\${{ ${to} }}`;

describe('schedules', () => {
  const ALL = ['--for', 'cron,systemd,github', '--for', 'gitlab,kubernetes,airflow'];

  test('all say one odd minute, which is the tenancy’s', async () => {
    expect((await run(...CHOICE, ...ALL)).code).toBe(0);
    const minute = minuteOf('acme');
    expect(minute % 2).toBe(1);
    const cron = `${minute} * * * *`;
    const workflow = parse(await read('.github/workflows/cyber-collect-acme.yml'));
    expect(workflow.on.schedule).toEqual([{ cron }]);
    const [, job] = parseAllDocuments(await read('cyber-collect-acme.yaml')).map((document) => document.toJS());
    expect(job.spec.schedule).toBe(cron);
    expect(await read('.gitlab-ci.yml')).toContain(`"${cron}"`);
    expect(await read('cyber_collect_acme.py')).toContain(`schedule="${cron}"`);
    expect(await read('cyber-collect-acme.timer')).toContain(
      `OnCalendar=*-*-* *:${String(minute).padStart(2, '0')}:00`,
    );
    const line = (await read('cyber-collect-acme.cron')).split('\n')[1] ?? '';
    const times = new Cron(line.split(' ').slice(0, 5).join(' ')).nextRuns(2, '2026-11-21T00:00:00Z');
    expect(times.map((time) => time.getUTCMinutes())).toEqual([minute, minute]);
    expect((times[1]?.getTime() ?? 0) - (times[0]?.getTime() ?? 0)).toBe(3_600_000);
    const again = await run(...CHOICE, ...ALL, '--append');
    expect(again.code).toBe(2);
    expect(again.stderr.match(/it is there already/g)).toHaveLength(7);
  });

  test('of a thousand tenancies no minute has more than a few', () => {
    const counts = new Map<number, number>();
    for (let n = 0; n < 1000; n += 1) {
      const minute = minuteOf(`tenancy-${n}`);
      counts.set(minute, (counts.get(minute) ?? 0) + 1);
    }
    expect(counts.size).toBe(30);
    expect(Math.max(...counts.values())).toBeLessThan(60);
    expect(counts.get(0)).toBeUndefined();
  });

  test('hold references in place of values', async () => {
    await run(...CHOICE, ...ALL);
    const { env } = parse(await read('.github/workflows/cyber-collect-acme.yml')).jobs.collect.steps.at(-2);
    expect(env.OKTA_TOKEN).toBe(reference('secrets.OKTA_TOKEN'));
    expect(env.STORE_POSTGRES_PASSWORD).toBe(reference('secrets.STORE_POSTGRES_PASSWORD'));
    expect(env.OKTA_DOMAIN).toBe(reference('vars.OKTA_DOMAIN'));
    expect(env.TENANCY).toBe('acme');
    const [claim, { spec }] = parseAllDocuments(await read('cyber-collect-acme.yaml')).map((one) => one.toJS());
    const { template, podFailurePolicy } = spec.jobTemplate.spec;
    const [container] = template.spec.containers;
    expect(container.envFrom).toEqual([{ secretRef: { name: 'cyber-collect-acme' } }]);
    expect(container.securityContext.readOnlyRootFilesystem).toBe(true);
    expect(template.spec.securityContext.runAsNonRoot).toBe(true);
    expect(podFailurePolicy.rules[0].onExitCodes.values).toEqual([1, 2, 4, 5, 8]);
    expect(podFailurePolicy.rules[0].onExitCodes.containerName).toBe(container.name);
    expect(template.spec.volumes[0].persistentVolumeClaim.claimName).toBe(claim.metadata.name);
    const gitlab = parse(await read('.gitlab-ci.yml')).collect;
    expect(Object.keys(gitlab.variables).sort()).toEqual([
      'STORE_AWS_S3_KEY',
      'STORE_FILE',
      'STORE_FILE_EVENTS',
      'TENANCY',
    ]);
  });

  test('name the collectors where one runs only when it is named', async () => {
    await run('init', '--only', 'okta,endoflife', '--store', 's3', '--for', 'kubernetes');
    const [, { spec }] = parseAllDocuments(await read('cyber-collect.yaml')).map((one) => one.toJS());
    const { args } = spec.jobTemplate.spec.template.spec.containers[0];
    expect(args.join(' ')).toContain('--only endoflife,okta');
  });

  test('what cron is given collects, whatever the folder is called', async () => {
    const vendor = await start();
    await run('init', '--only', 'okta', '--store', 'file', '--for', 'cron', '--tenancy', 'acme');
    await fill(vendor.env);
    const line = (await read('cyber-collect-acme.cron')).split('\n')[1] ?? '';
    // As cron does: what is behind the fifth word, each escaped percent sign a plain one.
    const command = line.split(' ').slice(5).join(' ').replaceAll('\\%', '%');
    await promisify(execFile)('/bin/sh', ['-c', command], { cwd: '/', env: { PATH: '/usr/bin:/bin' } });
    const { metadata } = JSON.parse(await read('data/okta_users/acme.json'));
    expect(metadata).toMatchObject({ tenancy: 'acme', records: vendor.truth('users').length });
    expect((await stat(join(folder, 'cyber-collect-acme.log'))).mode & 0o077).toBe(0);
    await fill({ OKTA_TOKEN: '' });
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', command], { cwd: '/' });
    expect(stdout).toBe('cyber-collect-acme ended with exit code 2\n');
  });
});
