import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import okta from '../../src/simulator/vendor_okta.ts';
import build, { root } from '../support/build.ts';
import { fromGo, fromPython } from '../support/linters.ts';
import { program } from '../support/program.ts';
import { filesBelow, temporaryFolder } from '../support/run.ts';
import { starter } from '../support/vendor.ts';

const tool = promisify(execFile);
const start = starter(okta, { scale: 30, pageSize: 20 });

beforeAll(() => build(), 120_000);

/** What `init` writes for a choice, in a new folder. */
async function written(choice: readonly string[], name = 'office'): Promise<string> {
  const folder = join(await temporaryFolder(), name);
  await mkdir(folder);
  const { code, stderr } = await program(folder, ['init', ...choice]).ended;
  expect(code, stderr).toBe(0);
  return folder;
}

/** Choices that differ in what they write. */
const CHOICES = [
  ['one collector', ['--only', 'okta', '--store', 'file,s3', '--tenancy', 'acme']],
  [
    'names that need quoting',
    ['--only', 'github,aws,endoflife', '--store', 's3,postgres', '--tenancy', 'Ümläut + Söhne 100%'],
  ],
] as const;

/** Runs a linter that must be content, and then on a spoilt copy, which it must refuse. */
async function lint(
  path: string,
  [from, to]: readonly [string | RegExp, string],
  check: (path: string) => Promise<unknown>,
) {
  await check(path);
  const text = await readFile(path, 'utf8');
  const spoilt = text.replace(from, to);
  expect(spoilt).not.toBe(text);
  await writeFile(path, spoilt);
  await expect(check(path)).rejects.toThrow();
}

const only = async (folder: string, pattern: RegExp) => {
  const found = (await filesBelow(folder)).filter((path) => pattern.test(path));
  expect(found).toHaveLength(1);
  return found[0] ?? '';
};

test.each(CHOICES)(
  'actionlint and GitHub’s schema accept the workflow: %s',
  async (_what, choice) => {
    const actionlint = await fromGo('github.com/rhysd/actionlint/cmd/actionlint', '1.7.12');
    const path = await only(await written([...choice, '--for', 'github']), /workflows\/.*\.yml$/);
    const schema = join(await fromPython('check-jsonschema', '0.39.0'), 'check-jsonschema');
    await tool(schema, ['--builtin-schema', 'vendor.github-workflows', path]);
    await lint(path, ['github.run_id', 'github.no_such_thing'], (file) => tool(actionlint, [file]));
  },
  600_000,
);

test.each(CHOICES)(
  'GitLab’s schema accepts the pipeline: %s',
  async (_what, choice) => {
    const schema = join(await fromPython('check-jsonschema', '0.39.0'), 'check-jsonschema');
    const folder = await written([...choice, '--for', 'gitlab']);
    const args = ['--builtin-schema', 'vendor.gitlab-ci', '--data-transform', 'gitlab-ci'];
    await lint(join(folder, '.gitlab-ci.yml'), ['resource_group: ', 'resource_groop: '], (file) =>
      tool(schema, [...args, file]),
    );
  },
  600_000,
);

test.each(CHOICES)(
  'Kubernetes’ schema accepts the CronJob, strictly: %s',
  async (_what, choice) => {
    const validate = join(await fromPython('kubernetes-validate', '1.37.0'), 'kubernetes-validate');
    const path = await only(await written([...choice, '--for', 'kubernetes']), /\.yaml$/);
    const check = (file: string) => tool(validate, ['--strict', '-k', '1.31', file]);
    await lint(path, ['onExitCodes:', 'onExitCode:'], check);
  },
  600_000,
);

test.each(CHOICES)('systemd accepts the units: %s', async (_what, choice) => {
  const folder = await written([...choice, '--for', 'systemd'], 'an office 100%');
  const service = await only(folder, /\.service$/);
  const timer = await only(folder, /\.timer$/);
  const check = async (...files: readonly string[]) => {
    const { stdout, stderr } = await tool('systemd-analyze', ['verify', '--man=no', ...files]);
    // It warns of what it passes over, and ends well all the same.
    if (`${stdout}${stderr}` !== '') throw new Error(`${stdout}${stderr}`);
  };
  const calendar = /OnCalendar=(.*)/.exec(await readFile(timer, 'utf8'))?.[1] ?? '';
  const { stdout } = await tool('systemd-analyze', ['calendar', '--iterations=2', calendar], {
    env: { ...process.env, TZ: 'UTC' },
  });
  const times = [...stdout.matchAll(/(\d\d):(\d\d):00 UTC/g)].map((match) => match[2]);
  expect(new Set(times).size).toBe(1);
  await check(service, timer);
  await lint(service, ['ReadWritePaths=', 'ReadWritePath='], (file) => check(file, timer));
});

const DAG = `
import json, sys
from airflow.models.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1], include_examples=False)
answer = {"errors": bag.import_errors, "dags": []}
for dag in bag.dags.values():
    task = dag.get_task("collect")
    told = {"id": dag.dag_id, "schedule": dag.timetable.summary, "catchup": dag.catchup, "retries": task.retries}
    for name in ("first", "again"):
        try:
            task.execute({"run_id": "scheduled__2026-11-21T03:00:00+00:00"})
            told[name] = "fine"
        except Exception as error:
            told[name] = [type(error).__name__, str(error)]
    answer["dags"].append(told)
print("answer " + json.dumps(answer))
`;

/** What Airflow makes of a file of DAGs, and how two attempts at its task end. */
async function airflow(path: string) {
  const python = join(await fromPython('apache-airflow', '3.0.6'), 'python');
  const home = await temporaryFolder();
  const env = { ...process.env, AIRFLOW_HOME: home, AIRFLOW__CORE__LOAD_EXAMPLES: 'False' };
  const { stdout } = await tool(python, ['-c', DAG, path], { env, maxBuffer: 2 ** 26 });
  const line = stdout.split('\n').find((text) => text.startsWith('answer '));
  return JSON.parse(line?.slice('answer '.length) ?? '{}');
}

test('Airflow runs the DAG: the same upload at each attempt, and exit codes that decide about another', async () => {
  const vendor = await start();
  const folder = await written(['--only', 'okta', '--store', 'file', '--tenancy', 'acme', '--for', 'airflow']);
  const path = await only(folder, /\.py$/);
  const env = await readFile(join(folder, '.env'), 'utf8');
  const filled = (values: Readonly<Record<string, string>>) =>
    writeFile(
      join(folder, '.env'),
      Object.entries(values).reduce(
        (text, [name, value]) => text.replace(new RegExp(`^${name}=.*$`, 'm'), `${name}=${value}`),
        env,
      ),
    );
  const uploads = async () => {
    const { metadata } = JSON.parse(await readFile(join(folder, 'data', 'okta_users', 'acme.json'), 'utf8'));
    return metadata.upload_id as string;
  };
  await filled(vendor.env);
  const dag = {
    id: 'cyber-collect-acme',
    schedule: expect.stringMatching(/^\d+ \* \* \* \*$/),
    catchup: false,
    retries: 2,
  };
  expect(await airflow(path)).toEqual({ errors: {}, dags: [{ ...dag, first: 'fine', again: 'fine' }] });
  const first = await uploads();
  expect(first).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5/);
  await filled({ ...vendor.env, OKTA_TOKEN: 'not-a-token' });
  const refused = [
    'AirflowFailException',
    'cyber-collect ended with 4: the credentials of every collector were refused',
  ];
  expect(await airflow(path)).toEqual({ errors: {}, dags: [{ ...dag, first: refused, again: refused }] });
  await filled({ ...vendor.env, STORE_FILE: '/dev/null/%TAG.json' });
  const { dags } = await airflow(path);
  expect(dags[0].first).toEqual(['AirflowException', 'cyber-collect ended with 6: a store failed']);
}, 900_000);

test('a real terminal is asked', async () => {
  const folder = await temporaryFolder();
  const command = `${process.execPath} -- ${join(root, 'bin', 'cyber-collect.js')} init`;
  const child = execFile('script', ['-qec', command, '/dev/null'], { cwd: folder });
  let shown = '';
  const answers: [RegExp, string][] = [
    [/Collectors .*: $/, 'okta'],
    [/Stores .*: $/, 'file'],
    [/\[default\]: $/, 'acme'],
    [/Files for a schedule .*: $/, ''],
  ];
  child.stdout?.on('data', (chunk) => {
    shown += chunk;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal’s own signs
    if (!answers[0]?.[0].test(shown.replace(/\u001b\[[\d;]*[A-Za-z]/g, ''))) return;
    shown = '';
    child.stdin?.write(`${answers.shift()?.[1]}\r`);
  });
  const [code] = await once(child, 'close');
  expect(code).toBe(0);
  expect(await readFile(join(folder, '.env'), 'utf8')).toContain('\nOKTA_TOKEN=\n');
});
