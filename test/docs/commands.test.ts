import { execFile } from 'node:child_process';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { discoverCollectors } from '../../src/run/discover.ts';
import { patternsOf, selects } from '../../src/run/select.ts';
import { type RunningVendor, startVendor } from '../../src/simulator/vendor.ts';
import crowdstrike from '../../src/simulator/vendor_crowdstrike.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { root } from '../support/build.ts';
import { codeOf, documentation, fencesOf, type ShellCommand, shellCommands } from '../support/pages.ts';
import { temporaryFolder } from '../support/run.ts';

/** What a command of the program takes, as its own help says. */
interface Usage {
  /** Flags, with what may stand behind each; undefined where nothing may. */
  readonly flags: ReadonlyMap<string, { readonly choices: readonly string[] } | undefined>;
  readonly most: number;
  readonly commands: readonly string[];
}

/** The program, to its end. */
function finished(cwd: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const whole = ['--', join(root, 'bin', 'cyber-collect.js'), ...args];
  const options = { cwd, env: { PATH: process.env.PATH, ...env }, timeout: 100_000, maxBuffer: 2 ** 26 };
  return new Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>((resolve) => {
    const child = execFile(process.execPath, whole, options, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

const usages = new Map<string, Usage>();

async function usageOf(words: readonly string[]): Promise<Usage> {
  const { stdout, code } = await finished(root, [...words, '--help']);
  expect([words, code]).toEqual([words, 0]);
  const [head = '', ...parts] = stdout.replaceAll(/\n {6,}/g, ' ').split(/\n(?=\w+:\n)/);
  const linesOf = (title: string) =>
    (parts.find((part) => part.startsWith(`${title}:`)) ?? '').split('\n').filter((line) => line.startsWith('  '));
  const flags = linesOf('Options').flatMap((line) => {
    const takes = /^ +(?:-\w, )?(?:-\w|--[\w-]+) [<[]/.test(line);
    const choices = /\(choices: ((?:"[^"]+"(?:, )?)+)/.exec(line)?.[1] ?? '';
    const value = takes ? { choices: [...choices.matchAll(/"([^"]+)"/g)].map(([, word]) => word ?? '') } : undefined;
    return [...(line.trim().split(/ {2,}/)[0] ?? '').matchAll(/--?[a-z][\w-]*/g)].map(
      ([flag]) => [flag, value] as const,
    );
  });
  const takes = /\[options\](.*)/.exec(head.split('\n')[0] ?? '')?.[1] ?? '';
  return {
    flags: new Map(flags),
    most: takes.includes('...') ? 99 : (takes.match(/[<[]/g) ?? []).length,
    commands: linesOf('Commands').flatMap((line) => line.trim().split(/[ ]/)[0]?.split('|') ?? []),
  };
}

beforeAll(async () => {
  const top = await usageOf([]);
  usages.set('', top);
  const verbs = top.commands.filter((verb) => verb !== 'help');
  await Promise.all(verbs.map(async (verb) => usages.set(verb, await usageOf([verb]))));
  const below = verbs.flatMap((verb) => (usages.get(verb)?.commands ?? []).map((inner) => [verb, inner]));
  const real = below.filter(([, inner]) => inner !== 'help');
  await Promise.all(real.map(async (words) => usages.set(words.join(' '), await usageOf(words))));
}, 60_000);

/** What is wrong with a command line, were it given. */
function faultsOf(words: readonly string[]): readonly string[] {
  const deeper = usages.get(words.slice(0, 2).join(' '));
  const verb = deeper === undefined ? words.slice(0, 1) : words.slice(0, 2);
  const usage = deeper ?? usages.get(verb.join(' '));
  if (words[0]?.startsWith('-') === true) return usages.get('')?.flags.has(words[0]) === true ? [] : [`no ${words[0]}`];
  if (usage === undefined) return [`there is no command ${words[0]}`];
  const faults: string[] = [];
  let operands = 0;
  const rest = words.slice(verb.length);
  for (let n = 0; n < rest.length; n += 1) {
    const [flag = '', ...joined] = (rest[n] ?? '').split('=');
    if (!flag.startsWith('-')) operands += 1;
    else if (!usage.flags.has(flag)) faults.push(`${verb.join(' ')} has no ${flag}`);
    else {
      const takes = usage.flags.get(flag);
      const value = joined.length > 0 ? joined.join('=') : rest[n + 1];
      if (takes === undefined) continue;
      if (joined.length === 0 && value !== undefined && !/^-./.test(value)) n += 1;
      if (takes.choices.length > 0 && value !== undefined && !takes.choices.includes(value))
        faults.push(`${flag} is not ${value}`);
    }
  }
  if (operands > usage.most && usage.commands.length === 0) faults.push(`${verb.join(' ')} takes less than that`);
  return faults;
}

/** What stands behind the program's name, however it is started; undefined for another program's command. */
function argumentsOf({ words }: Pick<ShellCommand, 'words'>): readonly string[] | undefined {
  const from = words.findIndex((word) => word === 'cyber-collect' || word.endsWith('/cyber-collect'));
  const before = words.slice(0, Math.max(from, 0));
  if (from < 0 || !before.every((word) => /^(npx|--yes|--no-install|\$|\/usr\/bin\/env)$/.test(word))) return undefined;
  return words.slice(from + 1);
}

const pages = await documentation();
const SHELLS = new Set(['sh', 'bash', 'console']);
const inShells = pages.flatMap(({ path, text }) =>
  fencesOf(text)
    .filter(({ language }) => SHELLS.has(language))
    .flatMap((fence) => shellCommands(fence.text).map((command) => ({ path, ...command }))),
);

/** Other programs that pages call, and what is theirs alone to test. */
const OTHERS = new Set(
  '(crontab . apt-get bin/pulsar-admin autoload brew cat cd chmod compinit cosign cp crontab curl docker duckdb echo eval export fish fpath gh git head journalctl jq kubectl ls man mkdir mv node npm printf rm sha256sum source sudo systemctl tail tee touch'.split(
    ' ',
  ),
);

/** Names in examples that stand for those of the reader. */
const PLACEHOLDER = /^(<.*>|acme(\.users)?|[A-Z][A-Z_]*|NAME.*|\.\.\.|crowdstrike_hosts)$/;

describe('what pages tell to type', () => {
  test('is the program’s, or one of a few well-known', () => {
    const strange = inShells.flatMap(({ path, words }) =>
      words.length === 0 ||
      argumentsOf({ words }) !== undefined ||
      OTHERS.has(words[0] ?? '') ||
      words[0]?.startsWith('$') === true
        ? []
        : [`${path}: ${words.join(' ')}`],
    );
    expect(strange).toEqual([]);
  });

  test('is understood, wherever it stands: in blocks, in lines of other files, in running text', () => {
    const lines = pages.flatMap(({ path, text }) => {
      const blocks = fencesOf(text).filter(({ language }) => !['text', 'json'].includes(language));
      const arrays = blocks.flatMap((fence) =>
        [...fence.text.matchAll(/^ *args: \[(.*)\]$/gm)].map(([, args]) => args),
      );
      return [
        ...[...blocks.map((fence) => fence.text), ...codeOf(text)].flatMap((code) =>
          [...code.matchAll(/(?:^|[\s;:(])(?:\S*\/)?cyber-collect ([a-z-][^\n]*)/gm)]
            .filter(([found]) => !/clone|docker|-t cyber|cd /.test(found) && !/docker (build|run|volume)/.test(code))
            .map(([, line]) => ({ path, words: shellCommands(line ?? '')[0]?.words ?? [] })),
        ),
        ...codeOf(text)
          .filter((code) => /^[a-z]+( [a-z]+)? --[a-z-]+/.test(code) && usages.has(code.split(' ')[0] ?? ''))
          .map((code) => ({ path, words: shellCommands(code)[0]?.words ?? [] })),
        ...arrays.map((args) => ({ path, words: shellCommands((args ?? '').replaceAll(', ', ' '))[0]?.words ?? [] })),
      ];
    });
    expect(lines.length).toBeGreaterThan(80);
    const faults = lines.flatMap(({ path, words }) =>
      faultsOf(words).map((fault) => `${path}: ${words.join(' ')}: ${fault}`),
    );
    expect(faults).toEqual([]);
  });

  test('names flags that there are', () => {
    const known = new Set([...usages.values()].flatMap(({ flags }) => [...flags.keys()]));
    // Docker's, Node's, Helm's and other tools' own.
    const others = /^-e$|^--(user|hostname|provenance|include|history|output|thread|env|debug|against|json|compare)$/;
    const strange = pages.flatMap(({ path, text }) =>
      codeOf(text)
        .map((code) => code.split(/[ =]/)[0] ?? '')
        .filter((flag) => /^--?[a-z]/.test(flag) && !known.has(flag) && !others.test(flag))
        .map((flag) => `${path}: ${flag}`),
    );
    expect(strange).toEqual([]);
  });

  test('names datasets that there are', async () => {
    const collectors = await discoverCollectors();
    const names = inShells.flatMap(({ path, words }) => {
      const args = argumentsOf({ words }) ?? [];
      const named = args.filter((_, n) => /^--(only|exclude|accept-shrink)$/.test(args[n - 1] ?? ''));
      const operand = /^(explain|peek)$/.test(args[0] ?? '')
        ? args.slice(1, 2).filter((word) => !word.startsWith('-'))
        : [];
      return patternsOf([...named, ...operand]).map((name) => ({ path, name }));
    });
    expect(names.length).toBeGreaterThan(10);
    const isKnown = (name: string) =>
      PLACEHOLDER.test(name) ||
      collectors.some(({ name: collector, resources }) =>
        Object.keys(resources).some((resource) => selects(name, collector, resource)),
      );
    expect(names.filter(({ name }) => !isKnown(name))).toEqual([]);
  });
});

/** How a command ends here, where it is not well: what it needs is not there. */
const ENDINGS: readonly (readonly [RegExp, number, RegExp])[] = [
  [/^(fleet|worker) /, 2, /CYBER_COLLECT_QUEUE is no address/],
  [/^drain pulsar/, 2, /no Pulsar is configured/],
  [/^replay .*--store (postgres|duckdb)/, 2, /no store '(postgres|duckdb)' is configured/],
  [/--shard 3\/20/, 5, /0 of 0 tenants/],
  [/--shard 20\b/, 2, /JOB_COMPLETION_INDEX/],
  [/^verify --head/, 3, /./],
  [/^run --only syslog/, 2, /SYSLOG_PATHS/],
  [/^detect .*--indicators/, 2, /no file matches/],
  [/^watch --health/, 3, /./],
];

/** Stays until it is told to end, or is tried with the first run. */
const ELSEWHERE = /^(demo( --serve)?$|watch (?!--health)|\S+.* acme(\.\w+)?\b|peek acme|explain acme|list.*acme)/;

const vendors: RunningVendor[] = [];
let prepared = '';
let env: Readonly<Record<string, string>> = {};

describe('what pages tell to type works', () => {
  beforeAll(async () => {
    for (const vendor of [okta, crowdstrike]) vendors.push(await startVendor(vendor, { scale: 20, pageSize: 10 }));
    env = Object.assign({ STORE_FILE: './data/%TAG/%TENANCY.json' }, ...vendors.map((vendor) => vendor.env));
    prepared = await temporaryFolder();
    const lines = Object.entries({ ...vendors[0]?.env, STORE_FILE: './data/%TENANCY/%TAG.json' });
    const text = lines.map(([name, value]) => `${name}='${value}'\n`).join('');
    await mkdir(join(prepared, 'tenants'));
    for (const file of ['acme.env', 'tenants/acme.env']) await writeFile(join(prepared, file), text, { mode: 0o600 });
    await writeFile(join(prepared, 'limits.json'), '{}');
    const { code, stderr } = await finished(prepared, ['run', '--only', 'okta.users'], env);
    expect([code, stderr]).toEqual([0, expect.any(String)]);
  });

  afterAll(async () => {
    for (const vendor of vendors) await vendor.close();
  });

  const distinct = new Map(
    inShells
      .filter(({ path }) => !/^docs\/(stores|collectors)\//.test(path))
      .flatMap((command) => {
        const words = argumentsOf(command);
        return words === undefined || ELSEWHERE.test(words.join(' ')) ? [] : [[words.join(' '), words] as const];
      }),
  );

  test.concurrent.each([...distinct])(
    '%s',
    async (line, words) => {
      const folder = await temporaryFolder();
      await cp(prepared, folder, { recursive: true });
      const [, wanted, said] = ENDINGS.find(([pattern]) => pattern.test(line)) ?? [undefined, 0, /^/];
      const { code, stdout, stderr } = await finished(folder, words, env);
      expect({ code, stderr }).toEqual({ code: wanted, stderr: expect.not.stringMatching(/^error: /m) });
      expect(stdout + stderr).toMatch(said);
    },
    120_000,
  );
});
