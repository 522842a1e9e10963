// npm run prove:fleet -- [--tenants 200] [--workers 4] [--kills 12] [--queue redis://127.0.0.1:6379/9]
// A fleet whose workers are killed at random: no run is lost, every dataset is stored under the upload id of its slot, a
// vendor that is limited over all machines refuses nothing, and some runs were done again (else the kills proved nothing).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const dist = new URL('../../dist/', import.meta.url);
const cli = new URL('../../bin/cyber-collect.js', import.meta.url).pathname;
const { startVendor } = await import(new URL('simulator/vendor.js', dist));
const { measure, ownCpuOf } = await import(new URL('../bench/measure.mjs', import.meta.url));
const { uploadIdOf } = await import(new URL('run/slot.js', dist));
const { values } = parseArgs({
  options: {
    tenants: { type: 'string', default: '200' },
    workers: { type: 'string', default: '4' },
    kills: { type: 'string', default: '12' },
    queue: { type: 'string', default: process.env.TEST_REDIS_URL ?? 'redis://127.0.0.1:6379/9' },
  },
});
const COLLECTORS = ['okta', 'crowdstrike', 'kandji', 'snyk', 'sentinelone'];
const LIMITED = 'kandji'; // its runs begin a second apart and never beside each other, over all machines
const LIMIT = { requests: 60, seconds: 1 };
const folder = mkdtempSync(join(tmpdir(), 'cyber-collect-fleet-'));
const slot = `prove-${Date.now()}`;
const env = {
  PATH: process.env.PATH,
  STORE_FILE: join(folder, 'data', '%TENANCY', '%TAG.json'),
  CYBER_COLLECT_STATE: join(folder, 'state'),
  CYBER_COLLECT_QUEUE: values.queue,
};

function program(...args) {
  return spawn(process.execPath, [cli, ...args], { cwd: folder, env, stdio: ['ignore', 'pipe', 'ignore'] });
}

async function answer(...args) {
  const child = program(...args, '-o', 'json');
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  return JSON.parse(text);
}

const vendors = new Map();
const variables = {};
for (const name of COLLECTORS) {
  const { default: vendor } = await import(new URL(`simulator/vendor_${name}.js`, dist));
  const limited = name === LIMITED ? { limit: LIMIT } : {};
  const running = await startVendor(vendor, { scale: 10, pageSize: 10, latencyMs: 20, ...limited });
  vendors.set(name, running);
  Object.assign(variables, running.env);
}
const secrets = Object.values(variables).filter((value) => !value.startsWith('http'));
const text = Object.entries(variables).map(([name, value]) => `${name}='${value}'\n`);
const tenants = Array.from({ length: Number(values.tenants) }, (_, n) => `tenant-${n}`);
mkdirSync(join(folder, 'tenants'));
for (const name of tenants) writeFileSync(join(folder, 'tenants', `${name}.env`), text.join(''), { mode: 0o600 });
writeFileSync(
  join(folder, 'limits.json'),
  JSON.stringify({ [LIMITED]: { starts: { most: 1, seconds: 1 }, atOnce: 1 } }),
);

/** Runs by where they are, of all collectors. */
async function counts() {
  const sum = { waiting: 0, delayed: 0, active: 0, completed: 0, failed: 0 };
  for (const row of await answer('fleet', 'status')) for (const key of Object.keys(sum)) sum[key] += row[key];
  return sum;
}

const only = ['--only', COLLECTORS.join(',')];
const work = ['worker', '--tenants', 'tenants/*.env', ...only, '--jobs', '10'];
/** A worker that finds nothing to do. */
const idle = await measure(process.execPath, [cli, ...work, '--idle-exit', '1s'], env, folder);
const began = Date.now();
const submitted = await answer(
  'fleet',
  'submit',
  'tenants/*.env',
  ...only,
  '--slot',
  slot,
  '--spread',
  '0',
  '--limits',
  'limits.json',
);
const submitting = Date.now() - began;
const again = await answer('fleet', 'submit', 'tenants/*.env', ...only, '--slot', slot, '--spread', '0');
const worker = () => program(...work);
const workers = Array.from({ length: Number(values.workers) }, worker);
let cpu = 0; // of workers that have ended, without their runs
for (let kill = 0; kill < Number(values.kills); kill += 1) {
  await sleep(3000 + Math.random() * 4000);
  const which = Math.floor(Math.random() * workers.length);
  cpu += ownCpuOf(workers[which].pid);
  workers[which].kill('SIGKILL');
  workers[which] = worker();
  process.stderr.write(`killed ${kill + 1}\n`);
}
let now = await counts();
while (now.waiting + now.delayed + now.active > 0) {
  process.stderr.write(`${JSON.stringify(now)}\n`);
  await sleep(5000);
  now = await counts();
}
const seconds = (Date.now() - began) / 1000;
for (const one of workers) cpu += ownCpuOf(one.pid);
for (const one of workers) one.kill('SIGTERM');
await Promise.all(workers.map((one) => (one.exitCode === null ? once(one, 'exit') : undefined)));

const stored = tenants.flatMap((tenancy) => {
  const place = join(folder, 'data', tenancy);
  return readdirSync(place).map((file) => JSON.parse(readFileSync(join(place, file), 'utf8')).metadata);
});
const records = tenants.flatMap((tenancy) => {
  const place = join(folder, 'state', 'runs', tenancy);
  return readdirSync(place).map((file) => JSON.parse(readFileSync(join(place, file), 'utf8')));
});
const wrong = stored.filter(({ tenancy, tag, upload_id: id }) => id !== uploadIdOf(slot, tenancy, tag));
const tags = new Set(stored.map(({ tag }) => tag));
const runs = tenants.length * COLLECTORS.length;
const requests = [...vendors.values()].reduce((sum, vendor) => sum + vendor.requests.length, 0);
const limited = vendors.get(LIMITED);
const refused = limited.count429();
const reruns = records.filter(({ datasets }) => datasets.some(({ resumed }) => resumed)).length;
const started = workers.length + Number(values.kills);
const queueing = ((cpu - started * idle.cpu) * 1000) / runs;
const lines = [
  `${runs} runs (${tenants.length} tenants x ${COLLECTORS.length} collectors), ${workers.length} workers, ${values.kills} kill -9, ${seconds.toFixed(0)} s`,
  `submitted ${submitted.collectors.reduce((sum, { added }) => sum + added, 0)} in ${submitting} ms, again ${again.collectors.reduce((sum, { added }) => sum + added, 0)}`,
  `completed ${now.completed}, failed ${now.failed}; ${stored.length} datasets stored, ${tenants.length * tags.size} expected, ${wrong.length} under another upload id`,
  `${records.length} runs came to their end, ${reruns} went on behind a killed one; ${requests} requests, ${limited.requests.length} of them ${LIMITED}’s, ${refused} over its limit of ${LIMIT.requests} a second`,
  `${queueing.toFixed(1)} ms of CPU a run in the worker, its start and the run itself aside; most of it begins the run’s process`,
];
process.stdout.write(`${lines.join('\n')}\n`);
const leaked = JSON.stringify(await answer('fleet', 'failed')).match(new RegExp(secrets.join('|')));
const fine =
  now.completed >= runs &&
  now.failed === 0 &&
  stored.length === tenants.length * tags.size &&
  wrong.length === 0 &&
  refused === 0 &&
  leaked === null;
for (const vendor of vendors.values()) await vendor.close();
rmSync(folder, { recursive: true, force: true });
process.exitCode = fine ? 0 : 1;
