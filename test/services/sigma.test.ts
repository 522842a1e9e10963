import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readSigma } from '../../src/detect/sigma.ts';

const PACKAGES = ['pysigma==2.0.1', 'pysigma-backend-sqlite==2.1.1'];

type Event = Readonly<Record<string, string | number>>;

interface Case {
  readonly rule: string;
  readonly events: readonly Event[];
}

/** The interpreter that has pySigma; where it is not there yet it is installed with pip, into a folder of this user. */
async function python(): Promise<string> {
  const folder = join(homedir(), '.cache', 'cyber-collect-tests', 'pysigma-2.0.1');
  const program = join(folder, 'bin', 'python');
  const whole = join(folder, 'installed');
  const there = await access(whole).then(
    () => true,
    () => false,
  );
  if (there) return program;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await promisify(execFile)('python3', ['-m', 'venv', folder]);
  await promisify(execFile)(program, ['-m', 'pip', 'install', '-q', ...PACKAGES], { maxBuffer: 2 ** 24 });
  await writeFile(whole, PACKAGES.join('\n'));
  return program;
}

/** What pySigma says of each case. */
async function judged(cases: readonly Case[]): Promise<readonly (readonly boolean[] | string)[]> {
  const script = fileURLToPath(new URL('../support/sigma_oracle.py', import.meta.url));
  const child = spawn(await python(), [script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  child.stdin.end(JSON.stringify(cases));
  const said = await text(child.stdout);
  expect(await ended).toEqual([0, null]);
  return JSON.parse(said);
}

// Random rules and events of few letters, so that they often meet

const letter = fc.constantFrom('a', 'A', 'b', '-', '/', ' ', '%', '_', '\\', '[', '1');
const value = fc.string({ unit: letter, maxLength: 6 });
const wild = fc.string({ unit: fc.oneof({ weight: 4, arbitrary: letter }, fc.constantFrom('*', '?')), maxLength: 5 });
const plain = fc.string({ unit: fc.constantFrom('a', 'A', 'b', ' ', '1'), minLength: 1, maxLength: 4 });
const field = fc.constantFrom('a', 'b', 'c');
const several = <T>(one: fc.Arbitrary<T>) => fc.oneof(one, fc.array(one, { minLength: 2, maxLength: 3 }));
const event: fc.Arbitrary<Event> = fc.record(
  { a: value, b: value, c: value, n: fc.integer({ min: -3, max: 3 }) },
  { requiredKeys: [] },
);

const modified = (modifiers: string, one: fc.Arbitrary<unknown>) =>
  fc.tuple(field, one).map(([name, wanted]) => [`${name}${modifiers}`, wanted] as const);
const regex = fc.constantFrom('a+b', '^a', '[bA]$', '(a|b)1', 'A?', '^$', '-{2}', '\\s', '[^a]');
const item = fc.oneof(
  ...['', '|contains', '|startswith', '|endswith', '|cased', '|contains|cased', '|startswith|cased'].map((modifiers) =>
    modified(modifiers, several(wild)),
  ),
  modified('|contains|all', fc.array(wild, { minLength: 2, maxLength: 3 })),
  modified('|windash|contains', fc.constantFrom('-a', ' /b', 'a -b', 'a-b', '-1')),
  ...['|re', '|re|i'].map((modifiers) => modified(modifiers, several(regex))),
  modified('|exists', fc.boolean()),
  modified('', fc.constant(null)),
  ...['|fieldref|startswith', '|fieldref|endswith', '|fieldref|contains'].map((modifiers) =>
    modified(modifiers, field),
  ),
  fc
    .tuple(fc.constantFrom('n', 'n|gt', 'n|gte', 'n|lt', 'n|lte'), fc.integer({ min: -3, max: 3 }))
    .map((pair) => pair as readonly [string, unknown]),
);
const map = fc.array(item, { minLength: 1, maxLength: 3 }).map((items) => Object.fromEntries(items));
const search = fc.oneof(
  { weight: 4, arbitrary: map },
  fc.array(map, { minLength: 2, maxLength: 3 }),
  fc.array(plain, { minLength: 1, maxLength: 3 }),
  fc.record({ '|all': fc.array(plain, { minLength: 2, maxLength: 3 }) }),
);
const leaf = fc.constantFrom('sel_a', 'sel_b', 'other', '1 of sel_*', 'all of sel_*', '1 of them', 'all of them');
const { condition } = fc.letrec<{ condition: string }>((tie) => ({
  condition: fc.oneof(
    { maxDepth: 3 },
    leaf,
    leaf.map((one) => `not ${one}`),
    tie('condition').map((one) => `not (${one})`),
    fc
      .tuple(tie('condition'), fc.constantFrom('and', 'or'), tie('condition'), fc.boolean())
      .map(([left, word, right, wrapped]) => (wrapped ? `(${left}) ${word} (${right})` : `${left} ${word} ${right}`)),
  ),
}));

const one: fc.Arbitrary<Case> = fc
  .record({ sel_a: search, sel_b: search, other: search, condition, events: fc.array(event, { minLength: 12 }) })
  .map(({ events, ...detection }) => {
    const rule = { title: 'A rule', logsource: { product: 'linux' }, detection };
    return { rule: JSON.stringify(rule), events };
  });

test('random rules match the events that pySigma says they match', async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const cases = fc.sample(one, { numRuns: 1000, seed });
  const judgements = await judged(cases);
  const tally = { compared: 0, matched: 0, refused: 0 };
  for (const [n, { rule, events }] of cases.entries()) {
    const judgement = judgements[n];
    if (!Array.isArray(judgement)) {
      tally.refused += 1;
      continue;
    }
    const { rules, refused } = readSigma(rule, 'rule.json');
    expect(refused, rule).toEqual([]);
    const found = events.map((record) => rules[0]?.matches(record) !== undefined);
    for (const [at, record] of events.entries()) {
      expect(found[at], `seed ${seed}: ${rule} on ${JSON.stringify(record)}`).toBe(judgement[at]);
    }
    tally.compared += events.length;
    tally.matched += found.filter(Boolean).length;
  }
  expect(tally.refused).toBeLessThan(cases.length / 20);
  expect(tally.matched).toBeGreaterThan(tally.compared / 10);
  expect(tally.matched).toBeLessThan((tally.compared * 9) / 10);
}, 600_000);
