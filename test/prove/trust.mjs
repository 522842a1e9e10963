// npm run trust [-- --figures FILE]
// Runs the tests behind each promise and writes docs/trust.md: promise, proof, figure. Figures of the long runs
// (npm run prove, npm run prove:memory, npm run test:faults) stay those of the last time they were run.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';

const root = new URL('../../', import.meta.url).pathname;
const figures = JSON.parse(readFileSync(new URL('figures.json', import.meta.url), 'utf8'));

/** Each promise: what is promised, the files that prove it, and the figure to show. */
const PROMISES = [
  [
    'What came is held against what the vendor declared; no run ends with 0 with less than the truth',
    ['test/run/faults.test.ts', 'test/http/lists.test.ts', 'test/run/identities.test.ts'],
    figures.faults,
  ],
  [
    'A dataset that shrinks beyond the guard is held back, the last good copy stands',
    ['test/run/verify.test.ts', 'test/run/wrapper.test.ts'],
    '5 records and 20 % unless set; an empty answer after a full one is such a case',
  ],
  ['A run that is killed goes on from its last page', ['test/run/resume.test.ts'], figures.kills],
  [
    'A reader sees the old whole or the new whole, whenever the writer is killed',
    [
      'test/stores/file.test.ts',
      'test/stores/duckdb.test.ts',
      'test/stores/postgres.test.ts',
      'test/services/s3.test.ts',
    ],
    '12 kills a file format, 8 each for DuckDB and PostgreSQL, 10 for S3; a reader looked throughout',
  ],
  [
    'One run at a time; a lock that is lost is noticed before anything is changed',
    ['test/run/lock.test.ts', 'test/run/spools.test.ts', 'test/services/lock.test.ts'],
    '20 overlapping runs stopped at random in each pass',
  ],
  ['What a store does not take waits, and comes to it without the vendor', ['test/run/outbox.test.ts'], undefined],
  [
    'A vendor’s wait is never cut short, and a share of its limit is left to others',
    ['test/http/client.test.ts', 'test/http/pace.test.ts', 'test/run/budget.test.ts'],
    figures.waits,
  ],
  ['Memory has a ceiling', ['test/http/pagebuffer.test.ts'], figures.memory],
  [
    'No secret stands in a log, error, record, message or file, in eight encodings',
    [
      'test/run/canaries.test.ts',
      'test/report/redact.test.ts',
      'test/run/secrets.test.ts',
      'test/services/secrets.test.ts',
    ],
    'in every cell of the fault suite as well',
  ],
  [
    'Run records are chained: what is changed, dropped, put elsewhere or cut off is found',
    ['test/report/audit.test.ts'],
    undefined,
  ],
  [
    'Hostile answers and machines are refused in a sentence',
    ['test/http/hostile.test.ts', 'test/http/client.test.ts', 'test/templating/template.test.ts'],
    undefined,
  ],
  [
    'A bad network loses nothing and doubles nothing',
    ['test/services/network.test.ts'],
    'latency, slow close, slices, bandwidth, resets and cuts, through Toxiproxy',
  ],
];

const folder = mkdtempSync(join(tmpdir(), 'cyber-collect-trust-'));

/** Tests passed and failed in each file; the real servers' ones only where they are there. */
function results(files, config) {
  const out = join(folder, 'out.json');
  const args = [
    'vitest',
    'run',
    ...(config === undefined ? [] : ['--config', config]),
    '--reporter=json',
    `--outputFile=${out}`,
  ];
  spawnSync('npx', ['--no-install', ...args, ...files], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  if (!existsSync(out)) throw new Error('the tests did not run');
  const { testResults } = JSON.parse(readFileSync(out, 'utf8'));
  rmSync(out);
  return testResults.map(({ name, assertionResults }) => {
    const count = (status) => assertionResults.filter((one) => one.status === status).length;
    return [relative(root, name), { passed: count('passed'), failed: count('failed') }];
  });
}

const files = [...new Set(PROMISES.flatMap(([, proofs]) => proofs))];
const services = files.filter((file) => file.startsWith('test/services/'));
const real = process.env.TEST_TOXIPROXY_URL === undefined ? [] : results(services, 'vitest.services.config.ts');
const known = new Map([...results(files.filter((file) => !services.includes(file))), ...real]);
rmSync(folder, { recursive: true });

const proofOf = (file) => {
  const found = known.get(file);
  if (found === undefined) return `${file}: on real servers, not run here`;
  return `${file}: ${found.passed} passed${found.failed === 0 ? '' : `, ${found.failed} FAILED`}`;
};
const lines = PROMISES.map(
  ([promise, proofs, figure = '']) => `| ${promise} | ${proofs.map(proofOf).join('<br>')} | ${figure} |`,
);
writeFileSync(
  join(root, 'docs/trust.md'),
  `# What can be trusted, and how it is proven

Written by \`npm run trust\`, which runs the tests that are named. The long runs are \`npm run prove\` (kills), \`npm run prove:memory\`, \`npm run test:faults\`; their figures are those of the last time.

| Promise | Proof | Figure |
| --- | --- | --- |
${lines.join('\n')}

What stays out of sight: a loss that a vendor's answers cannot reveal and that is smaller than the shrink guard; see [what each collector can miss](faults.md). A chain of run records shows nothing that was done by someone who can write the state folder, unless a hash of it is
kept elsewhere.
`,
);
const failed = [...known.values()].reduce((sum, one) => sum + one.failed, 0);
process.stdout.write(`docs/trust.md: ${files.length} files, ${failed} tests failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
