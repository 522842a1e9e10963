// npm run bench [-- --jobs ndjson,duckdb] [--against curl,posture,copy] [--records 100000,1000000] [--rounds 3]
//               [--json FILE] [--compare FILE] [--markdown FILE]
// Every job in turn, round by round, medians; what was stored is checked before a figure is printed.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { atOnce, collect, jobs, must, sixty, start, truth } from './jobs.mjs';
import { cpuOf } from './measure.mjs';
import { startPostgres } from './postgres.mjs';
import { copy, curl, has, posture } from './rivals.mjs';
import { startVendor } from './serve.mjs';

const { values: flags } = parseArgs({
  options: {
    jobs: {
      type: 'string',
      default: 'ndjson,envelope,gzip,duckdb,typed,parquet,postgres,latency,gunzip,limit,sixty,start',
    },
    against: { type: 'string', default: 'curl' },
    records: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'string' },
    compare: { type: 'string' },
    markdown: { type: 'string' },
  },
});
const folder = mkdtempSync(join(tmpdir(), 'cyber-collect-bench-'));
const wanted = flags.jobs.split(',');
const against = flags.against.split(',').filter((name) => name !== '');
const known = [...Object.keys(jobs), 'latency', 'gunzip', 'limit', 'sixty', 'start'];
must(
  wanted.every((name) => known.includes(name)),
  `--jobs are of ${known.join(', ')}`,
);
must(
  against.every((name) => ['curl', 'posture', 'copy'].includes(name)),
  '--against are of curl, posture, copy',
);
const needsPostgres = ['postgres', 'everything'].some((name) => wanted.includes(name));
const postgres = needsPostgres ? await startPostgres() : undefined;
const results = [];

/** Does each of some work once a round, in turn; `before` makes the vendor of all. */
async function inTurn(records, vendor, work) {
  for (let round = 1; round <= Number(flags.rounds); round += 1) {
    for (const [name, once] of Object.entries(work)) {
      const served = cpuOf(vendor.pid);
      const result = await once();
      must(result.code === 0, `${name} ended with ${result.code}: ${result.stderr}${result.stdout.slice(-2000)}`);
      results.push({ name, records, ...result, vendor: cpuOf(vendor.pid) - served });
      process.stderr.write(
        `${round}. ${name} ${records}: ${result.wall.toFixed(2)} s, CPU ${result.cpu.toFixed(2)} s\n`,
      );
    }
  }
}

/** The rivals that have something to show beside the jobs that are wanted. */
function rivals(job) {
  const work = {};
  if (against.includes('curl') && has('curl')) {
    work.curl = () => curl(job);
    work['curl, all pages kept'] = () => curl(job, { keep: true });
    work['curl, two at once: the vendor’s pace'] = () => curl(job, { parallel: 2 });
  }
  if (against.includes('copy') && wanted.includes('postgres') && has('psql')) work['\\copy'] = () => copy(job);
  const stores = { ndjson: 'json', duckdb: 'duckdb', parquet: 'parquet', postgres: 'postgres' };
  for (const [name, kind] of Object.entries(stores)) {
    if (against.includes('posture') && wanted.includes(name)) work[`posture, ${kind}`] = () => posture(kind, job);
  }
  return work;
}

async function many(records) {
  const vendor = await startVendor(records);
  const job = { ...vendor, folder, records, postgres };
  Object.assign(job, await truth(job));
  const own = Object.entries(jobs).filter(([name]) => wanted.includes(name));
  await inTurn(records, vendor, {
    ...rivals(job),
    ...Object.fromEntries(own.map(([name, once]) => [name, () => once(job)])),
  });
  vendor.stop();
}

const NEAR = 20_000;

async function latency() {
  const far = await startVendor(NEAR, 50);
  const job = { ...far, folder, records: NEAR };
  await inTurn(NEAR, far, {
    '50 ms a request: curl': () => curl(job),
    '50 ms a request: ndjson': () => collect(job, { STORE_FILE: join(folder, '%TAG.ndjson') }),
  });
  far.stop();
}

/** Five times as many, since eight pages are asked for at once. */
async function abreast() {
  const records = 5 * NEAR;
  const near = await startVendor(records);
  const { sha } = await truth({ ...near, folder });
  near.stop();
  const far = await startVendor(records, 50);
  const job = { ...far, folder, records, sha };
  await inTurn(records, far, {
    '50 ms, eight at once: curl': () => curl(job, { parallel: 8, by: 'offset' }),
    '50 ms, eight at once: ndjson': () => atOnce(job),
  });
  far.stop();
}

async function gunzip() {
  const vendor = await startVendor(100_000, 0, '--gzip');
  const job = { ...vendor, folder, records: 100_000 };
  Object.assign(job, await truth(job));
  await inTurn(100_000, vendor, { 'gzip bodies: ndjson': () => jobs.ndjson(job) });
  vendor.stop();
}

const PER_SECOND = 10;

/** A vendor that takes ten requests a second: how many of those it would take are used, and that none is refused. */
async function limit() {
  const records = 60_000;
  const vendor = await startVendor(records, 0, '--limit', PER_SECOND);
  const env = { STORE_FILE: join(folder, '%TAG.ndjson'), CYBER_COLLECT_HEADROOM: '0' };
  await inTurn(records, vendor, {
    [`${PER_SECOND} requests a second: ndjson`]: async () => {
      const before = await vendor.seen();
      const result = await collect({ ...vendor, folder }, env);
      const after = await vendor.seen();
      must(after.refused === before.refused, `${after.refused - before.refused} requests were refused`);
      const seconds = Math.floor(after.last / 1000) - Math.floor(after.first / 1000) + 1;
      const share = (after.taken - before.taken) / (PER_SECOND * seconds);
      return { ...result, share };
    },
  });
  vendor.stop();
}

async function many60() {
  const vendor = await startVendor(1000);
  const job = { ...vendor, folder, records: 1000 };
  await inTurn(1000, vendor, { '60 collectors, 300 datasets of 1,000': () => sixty(job) });
  vendor.stop();
}

function startUp() {
  const alone = { pid: process.pid };
  return inTurn(0, alone, {
    'bare node': () => start({ folder }),
    '--help': () => start({ folder }, '--help'),
    '--version': () => start({ folder }, '--version'),
    list: () => start({ folder }, 'list'),
  });
}

try {
  if (wanted.some((name) => name in jobs))
    for (const records of flags.records.split(',').map(Number)) await many(records);
  if (wanted.includes('latency')) {
    await latency();
    await abreast();
  }
  if (wanted.includes('gunzip')) await gunzip();
  if (wanted.includes('limit')) await limit();
  if (wanted.includes('sixty')) await many60();
  if (wanted.includes('start')) await startUp();
} finally {
  await postgres?.stop();
  rmSync(folder, { recursive: true, force: true });
}

const spread = (values) => {
  const sorted = values.filter((value) => value !== undefined).toSorted((a, b) => a - b);
  return { min: sorted[0], median: sorted[Math.floor(sorted.length / 2)], max: sorted.at(-1) };
};
const rows = [...new Set(results.map(({ name, records }) => `${records} ${name}`))].map((key) => {
  const own = results.filter(({ name, records }) => `${records} ${name}` === key);
  const of = (field) => spread(own.map((result) => result[field]));
  const { name, records } = own[0];
  const fields = ['wall', 'cpu', 'server', 'vendor', 'peak', 'share'];
  return { name, records, ...Object.fromEntries(fields.map((field) => [field, of(field)])) };
});

const cell = ({ min, median, max }, digits = 2) =>
  median === undefined ? '' : `${median.toFixed(digits)} (${min.toFixed(digits)}-${max.toFixed(digits)})`;
const old = flags.compare === undefined ? [] : JSON.parse(readFileSync(flags.compare, 'utf8')).rows;
const before = ({ name, records }) => old.find((row) => row.name === name && row.records === records)?.cpu.median;
const machine = `${cpus()[0]?.model ?? 'CPU'}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}`;
const HEAD = [
  'job',
  'records',
  'wall s',
  'records/s',
  'CPU s',
  'CPU s per M',
  'server CPU s',
  'vendor CPU s',
  'peak MB',
];
const table = [
  `${machine}; median (least-most) of ${flags.rounds} rounds`,
  '',
  `| ${[...HEAD, ...(old.length > 0 ? ['CPU s before'] : [])].join(' | ')} |`,
  `|---|${'--:|'.repeat(HEAD.length - 1 + (old.length > 0 ? 1 : 0))}`,
  ...rows.map((row) => {
    const { name, records, wall, cpu, server, vendor, peak, share } = row;
    const used = share.median === undefined ? '' : `, ${(share.median * 100).toFixed(1)} % of what is allowed used`;
    const figures = [
      `${name}${used}`,
      records === 0 ? '' : records.toLocaleString('en'),
      cell(wall),
      records === 0 ? '' : Math.round(records / wall.median).toLocaleString('en'),
      cell(cpu),
      records === 0 ? '' : ((cpu.median / records) * 1e6).toFixed(1),
      cell(server, 1),
      cell(vendor, 1),
      cell(peak, 0),
    ];
    return `| ${[...figures, ...(old.length > 0 ? [before(row)?.toFixed(2) ?? ''] : [])].join(' | ')} |`;
  }),
  '',
].join('\n');
process.stdout.write(table);
if (flags.markdown !== undefined) writeFileSync(flags.markdown, table);
if (flags.json !== undefined)
  writeFileSync(flags.json, JSON.stringify({ machine, rounds: Number(flags.rounds), rows }, null, 1));
