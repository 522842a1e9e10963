// npm run prove:memory [-- --records 10000000]
// Peak memory of collections to NDJSON, with little room for V8: many records, one answer of 2 GB, one record of 20 MB.
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measure } from '../bench/measure.mjs';
import { startVendor } from '../bench/serve.mjs';

const cli = new URL('../../bin/cyber-collect.js', import.meta.url).pathname;
const { values } = parseArgs({ options: { records: { type: 'string', default: '10000000' } } });
const LIMIT_MB = 192;
const jobs = [
  [`${values.records} records, 200 a page`, [values.records], Number(values.records)],
  ['1,250,000 records, 2 GB, in one answer', ['1250000', '0', '--one'], 1_250_000],
  ['one record of 20 MB', ['0', '0', '--big', String(20 * 2 ** 20)], 1],
];

const rows = [];
for (const [name, args, records] of jobs) {
  const folder = mkdtempSync(join(tmpdir(), 'cyber-collect-memory-'));
  const vendor = await startVendor(...args);
  try {
    const env = {
      PATH: process.env.PATH,
      OKTA_DOMAIN: vendor.origin,
      OKTA_TOKEN: 'invented',
      CYBER_COLLECT_STATE: join(folder, 'state'),
      STORE_FILE: join(folder, '%TAG.ndjson'),
    };
    const flags = ['--max-old-space-size=64', '--', cli];
    const result = await measure(
      process.execPath,
      [...flags, 'run', '--only', 'okta.users', '--output', 'json', '--quiet'],
      env,
      folder,
    );
    const stored = result.code === 0 ? JSON.parse(result.stdout).datasets[0].records : 0;
    const bytes = result.code === 0 ? statSync(join(folder, 'okta_users.ndjson')).size : 0;
    rows.push({ name, peak: result.peak, fine: result.peak <= LIMIT_MB && stored === records });
    process.stdout.write(
      `${name}: exit ${result.code}, ${stored} records, ${(bytes / 1e9).toFixed(2)} GB, ${result.wall.toFixed(0)} s, ` +
        `peak ${result.peak.toFixed(0)} MB${result.code === 0 ? '' : `\n${result.stderr}`}\n`,
    );
  } finally {
    vendor.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
process.exitCode = rows.every(({ fine }) => fine) ? 0 : 1;
