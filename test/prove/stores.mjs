// npm run stores: the store suite over every store, on real servers (TEST_*), as docs/store-suite.md, a column a store.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = new URL('../../', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'cyber-collect-stores-'));

/** What the tests of a tier that use the suite say of each case. */
function casesOf(tier, config) {
  const files = readdirSync(join(root, 'test', tier))
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => join('test', tier, file))
    .filter((file) => /storeSuite\(/i.test(readFileSync(join(root, file), 'utf8')));
  const out = join(folder, `${tier}.json`);
  const args = ['vitest', 'run', '--config', config, '--reporter', 'json', '--outputFile', out, ...files];
  spawnSync('npx', args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  return JSON.parse(readFileSync(out, 'utf8')).testResults.flatMap(({ assertionResults }) => assertionResults);
}

const results = [...casesOf('stores', 'vitest.config.ts'), ...casesOf('services', 'vitest.services.config.ts')];
rmSync(folder, { recursive: true });
const SIGNS = { passed: 'yes', failed: '**NO**' };
const cells = new Map();
for (const { ancestorTitles, title, status } of results) {
  const store = ancestorTitles.map((name) => /^the (.+) store$/.exec(name)?.[1]).find((name) => name !== undefined);
  if (store === undefined) continue;
  if (!cells.has(store)) cells.set(store, new Map());
  if (status in SIGNS) cells.get(store).set(title, status);
}
const suite = readFileSync(join(root, 'test', 'stores', 'suite.ts'), 'utf8');
const titles = [...suite.matchAll(/^ +test\('([^']+)'/gm)].map(([, title]) => title);
const stores = [...cells.keys()].filter((store) => cells.get(store).has(titles[0])).sort();
const sign = (store, title) => SIGNS[cells.get(store).get(title)] ?? '';
const wrong = results.filter(({ status }) => status === 'failed').length;
const page = `<!-- Written by \`npm run stores\`. Do not edit. -->

# Every store through the same suite

\`test/stores/suite.ts\` holds what a store has to do; each of its cases runs over each store. An empty cell: the case does not apply, since
the store has no login, tells no newest upload, does not look into records, or only adds (then each record carries its upload). Kill tests, with a reader
that polls while writers are killed at random moments, are beside the suite: see [trust](trust.md) and [delivery](delivery.md).

| Case | ${stores.join(' | ')} |
|---|${stores.map(() => ':-:|').join('')}
${titles.map((title) => `| ${title} | ${stores.map((store) => sign(store, title)).join(' | ')} |`).join('\n')}
`;
writeFileSync(join(root, 'docs', 'store-suite.md'), page);
process.stdout.write(`${stores.length} stores, ${titles.length} cases, ${wrong} cases that failed\n`);
process.exitCode = wrong === 0 ? 0 : 1;
