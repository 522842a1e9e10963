// npm run bench [-- --jobs ndjson,duckdb] [--records 100000,1000000] [--rounds 3] [--json FILE] [--compare FILE]
// Every job in turn, several rounds, medians; what was stored is checked before a figure is printed.
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cpuOf, measure } from './measure.mjs';
import { startPostgres } from './postgres.mjs';
import { digestOf, startVendor } from './serve.mjs';

const root = new URL('../../', import.meta.url).pathname;
const cli = join(root, 'bin/cyber-collect.js');
const { values: flags } = parseArgs({
  options: {
    jobs: { type: 'string', default: 'curl,ndjson,envelope,gzip,duckdb,postgres,latency,start' },
    records: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'string' },
    compare: { type: 'string' },
  },
});
const folder = mkdtempSync(join(tmpdir(), 'cyber-collect-bench-'));
const wanted = new Set(flags.jobs.split(','));
const postgres = wanted.has('postgres') ? await startPostgres() : undefined;

function environment(origin, extra) {
  return {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    OKTA_DOMAIN: origin,
    OKTA_TOKEN: 'bench-token',
    CYBER_COLLECT_STATE: join(folder, 'state'),
    STORE_FILE: 'none',
    ...extra,
  };
}

const collect = (origin, extra) =>
  measure(
    process.execPath,
    [cli, 'run', '--only', 'okta.users', '--output', 'json', '--quiet', '--accept-shrink', '*'],
    environment(origin, extra),
    folder,
  );

/** The NDJSON that a run must end with, asked of the vendor itself. */
async function truth(origin) {
  const hash = createHash('sha256');
  let url = `${origin}/api/v1/users?limit=200`;
  while (url !== undefined) {
    const answer = await fetch(url);
    hash.update((await answer.text()).slice(1, -1).replaceAll('},{"id":"00u', '}\n{"id":"00u'));
    hash.update('\n');
    url = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1];
  }
  return hash.digest('hex');
}

function must(fine, what) {
  if (!fine) throw new Error(`bench: ${what}`);
}

const jobs = {
  curl: async ({ origin, records }) => {
    const out = join(folder, 'curl.json');
    const urls = Array.from(
      { length: records / 200 },
      (_, n) => `url = "${origin}/api/v1/users?limit=200&after=${n * 200}"\noutput = "${out}"`,
    );
    writeFileSync(join(folder, 'curl.txt'), urls.join('\n'));
    return measure('curl', ['-s', '-K', join(folder, 'curl.txt')], process.env, folder);
  },
  ndjson: async ({ origin, sha }) => {
    const result = await collect(origin, { STORE_FILE: join(folder, '%TAG.ndjson') });
    must((await digestOf(join(folder, 'okta_users.ndjson'))) === sha, 'the NDJSON is not what the vendor sent');
    return result;
  },
  envelope: async ({ origin, records }) => {
    const result = await collect(origin, { STORE_FILE: join(folder, '%TAG.json') });
    must(
      readFileSync(join(folder, 'okta_users.json')).subarray(-4096).toString().includes(`"records":${records}`),
      'the envelope does not count its records',
    );
    return result;
  },
  gzip: async ({ origin }) => {
    const result = await collect(origin, { STORE_FILE: join(folder, '%TAG.ndjson.gz') });
    must(statSync(join(folder, 'okta_users.ndjson.gz')).size > 0, 'nothing was written');
    return result;
  },
  duckdb: (job) => duckdb(job, 'raw'),
  typed: (job) => duckdb(job, 'typed'),
  postgres: async ({ origin, records }) => {
    await postgres.query('drop schema if exists bench cascade');
    const before = cpuOf(postgres.pid);
    const result = await collect(origin, { ...postgres.env, STORE_POSTGRES_SCHEMA: 'bench' });
    const server = cpuOf(postgres.pid) - before;
    const [row] = await postgres.query(
      `select count(*)::int as n, count(distinct json_data->>'id')::int as ids from bench.okta_users`,
    );
    must(row.n === records && row.ids === records, `Postgres holds ${row.n} of ${records} records`);
    return { ...result, server };
  },
};

async function duckdb({ origin, records }, columns) {
  const path = join(folder, 'bench.duckdb');
  rmSync(path, { force: true });
  const result = await collect(origin, { STORE_DUCKDB: path, STORE_DUCKDB_COLUMNS: columns });
  const { DuckDBInstance } = await import('@duckdb/node-api');
  const instance = await DuckDBInstance.create(path);
  const connection = await instance.connect();
  const id = columns === 'typed' ? 'id' : "json_data->>'$.id'";
  const rows = await connection.runAndReadAll(`select count(*)::int, count(distinct ${id})::int from okta_users`);
  connection.closeSync();
  instance.closeSync();
  const [count, ids] = rows.getRows()[0];
  must(count === records && ids === records, `DuckDB holds ${count} of ${records} records`);
  return result;
}

const table = [];
function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

async function rounds(name, records, once) {
  const results = [];
  for (let round = 0; round < Number(flags.rounds); round += 1) {
    const result = await once();
    must(result.code === 0, `${name} ended with ${result.code}: ${result.stderr}`);
    results.push(result);
  }
  const of = (key) => ({
    min: Math.min(...results.map((r) => r[key] ?? 0)),
    median: median(results.map((r) => r[key] ?? 0)),
    max: Math.max(...results.map((r) => r[key] ?? 0)),
  });
  const row = {
    name,
    records,
    wall: of('wall'),
    cpu: of('cpu'),
    server: of('server'),
    vendor: of('vendor'),
    peak: of('peak'),
  };
  table.push(row);
  process.stderr.write(
    `${name} ${records}: wall ${row.wall.median.toFixed(2)} s, CPU ${row.cpu.median.toFixed(2)} s, peak ${row.peak.median.toFixed(0)} MB\n`,
  );
}

try {
  for (const records of flags.records.split(',').map(Number)) {
    const serving = await startVendor(records);
    const job = { ...serving, records, sha: await truth(serving.origin) };
    for (const [name, once] of Object.entries(jobs)) {
      if (!wanted.has(name)) continue;
      await rounds(name, records, async () => {
        const before = cpuOf(serving.pid);
        return { ...(await once(job)), vendor: cpuOf(serving.pid) - before };
      });
    }
    serving.stop();
  }
  if (wanted.has('latency')) {
    const far = await startVendor(20_000, 50);
    await rounds('latency 50 ms: curl', 20_000, () => jobs.curl({ ...far, records: 20_000 }));
    await rounds('latency 50 ms: ndjson', 20_000, () =>
      collect(far.origin, { STORE_FILE: join(folder, '%TAG.ndjson') }),
    );
    far.stop();
  }
  if (wanted.has('start')) {
    await rounds('bare node', 0, () => measure(process.execPath, ['-e', '0'], process.env, folder));
    await rounds('--help', 0, () => measure(process.execPath, [cli, '--help'], process.env, folder));
    await rounds('list', 0, () => measure(process.execPath, [cli, 'list'], process.env, folder));
  }
} finally {
  await postgres?.stop();
  rmSync(folder, { recursive: true, force: true });
}

const cell = ({ min, median: middle, max }, digits = 2) =>
  `${middle.toFixed(digits)} (${min.toFixed(digits)}-${max.toFixed(digits)})`;
const perMillion = ({ cpu, records }) => (records === 0 ? '' : ((cpu.median / records) * 1e6).toFixed(1));
const old = flags.compare === undefined ? [] : JSON.parse(readFileSync(flags.compare, 'utf8')).rows;
const was = ({ name, records }) => old.find((row) => row.name === name && row.records === records);
process.stdout.write(
  `${cpus()[0]?.model ?? 'CPU'}, ${cpus().length} cores, Node ${process.version}; median (min-max) of ${flags.rounds} rounds\n\n`,
);
process.stdout.write(
  '| job | records | wall s | records/s | CPU s | CPU s per M | server CPU s | vendor CPU s | peak MB | CPU before |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n',
);
for (const row of table) {
  const cells = [
    row.name,
    row.records,
    cell(row.wall),
    row.records === 0 ? '' : Math.round(row.records / row.wall.median),
    cell(row.cpu),
    perMillion(row),
    cell(row.server, 1),
    cell(row.vendor, 1),
    cell(row.peak, 0),
    was(row)?.cpu.median.toFixed(2) ?? '',
  ];
  process.stdout.write(`| ${cells.join(' | ')} |\n`);
}
if (flags.json !== undefined)
  writeFileSync(flags.json, JSON.stringify({ node: process.version, cpu: cpus()[0]?.model, rows: table }, null, 1));
