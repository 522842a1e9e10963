// The program at the work that is measured. Each job checks what was stored, record for record, before it hands out its figures.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpuOf, measure } from './measure.mjs';
import { digestOf } from './serve.mjs';

const cli = new URL('../../bin/cyber-collect.js', import.meta.url).pathname;

/** Stops the benchmark where something is not as it must be. */
export function must(fine, what) {
  if (!fine) throw new Error(`bench: ${what}`);
}

/** The program's run over a vendor, with nothing of this shell's environment but where programs are. */
export function collect({ origin, folder }, extra, flags = ['--only', 'okta.users']) {
  const env = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    OKTA_DOMAIN: origin,
    OKTA_TOKEN: 'bench-token',
    CYBER_COLLECT_STATE: join(folder, 'state'),
    STORE_FILE: 'none',
    ...extra,
  };
  const args = ['run', '--output', 'json', '--quiet', '--fresh', '--accept-shrink', '*', ...flags];
  return measure(process.execPath, [cli, ...args], env, folder);
}

/** The program with other arguments, and nothing configured. */
export function start({ folder }, ...args) {
  return measure(process.execPath, args.length > 0 ? [cli, ...args] : ['-e', '0'], { PATH: process.env.PATH }, folder);
}

/** The NDJSON that a run must end with, asked of the vendor itself and kept in a file. */
export async function truth({ origin, folder }) {
  const hash = createHash('sha256');
  const path = join(folder, 'truth.ndjson');
  writeFileSync(path, '');
  let url = `${origin}/api/v1/users?limit=200`;
  while (url !== undefined) {
    const answer = await fetch(url);
    const lines = `${(await answer.text()).slice(1, -1).replaceAll('},{"id":"00u', '}\n{"id":"00u')}\n`;
    hash.update(lines);
    writeFileSync(path, lines, { flag: 'a' });
    url = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1];
  }
  return { sha: hash.digest('hex'), ndjson: path };
}

async function ndjson(job) {
  const path = join(job.folder, 'okta_users.ndjson');
  const result = await collect(job, { STORE_FILE: join(job.folder, '%TAG.ndjson') });
  if (result.code === 0) must((await digestOf(path)) === job.sha, 'the NDJSON is not what the vendor sent');
  return result;
}

/** An envelope, whose records are the vendor's lines with commas between them. */
async function envelope(job) {
  const path = join(job.folder, 'okta_users.json');
  const result = await collect(job, { STORE_FILE: join(job.folder, '%TAG.json') });
  if (result.code !== 0) return result;
  const said = readFileSync(path).subarray(-4096).toString();
  must(said.includes(`"records":${job.records},`), 'the envelope does not count its records');
  must(said.includes(`"sha256":"${job.sha}"`), 'the records of the envelope are not what the vendor sent');
  return result;
}

function packed(ending, unpack) {
  return async (job) => {
    const path = join(job.folder, `okta_users.ndjson.${ending}`);
    const result = await collect(job, { STORE_FILE: join(job.folder, `%TAG.ndjson.${ending}`) });
    if (result.code !== 0) return result;
    const plain = join(job.folder, 'unpacked.ndjson');
    must(spawnSync('sh', ['-c', `${unpack} < '${path}' > '${plain}'`]).status === 0, `${path} cannot be unpacked`);
    must((await digestOf(plain)) === job.sha, 'what is in it is not what the vendor sent');
    rmSync(plain);
    return result;
  };
}

function duckdb(layout) {
  return async (job) => {
    const path = join(job.folder, 'bench.duckdb');
    rmSync(path, { force: true });
    const result = await collect(job, { STORE_DUCKDB: path, STORE_DUCKDB_LAYOUT: layout });
    if (result.code === 0) await counted(job, path, layout === 'raw' ? `json_data->>'$.id'` : 'id');
    return result;
  };
}

async function parquet(job) {
  const path = join(job.folder, 'okta_users.parquet');
  const result = await collect(job, { STORE_FILE: join(job.folder, '%TAG.parquet') });
  if (result.code === 0) await counted(job, ':memory:', 'id', `read_parquet('${path}')`);
  return result;
}

async function counted({ records }, path, id, table = 'okta_users') {
  const { DuckDBInstance } = await import('@duckdb/node-api');
  const instance = await DuckDBInstance.create(path);
  const connection = await instance.connect();
  const rows = await connection.runAndReadAll(`select count(*)::int, count(distinct ${id})::int from ${table}`);
  connection.closeSync();
  instance.closeSync();
  const [count, ids] = rows.getRows()[0];
  must(count === records && ids === records, `${table} holds ${count} records of ${ids} ids, not ${records}`);
}

async function postgres(job) {
  const { postgres: server, records } = job;
  await server.query('drop schema if exists bench cascade');
  const before = cpuOf(server.pid);
  const result = await collect(job, { ...server.env, STORE_POSTGRES_SCHEMA: 'bench' });
  const used = cpuOf(server.pid) - before;
  if (result.code !== 0) return result;
  const ids = `count(distinct json_data->>'id')::int`;
  const [row] = await server.query(`select count(*)::int as n, ${ids} as ids from bench.okta_users`);
  must(row.n === records && row.ids === records, `Postgres holds ${row.n} of ${records} records`);
  return { ...result, server: used };
}

/** Four stores at once, and the backup; the bucket is the one that TEST_S3_* name. */
async function everything(job) {
  const { postgres: server, folder } = job;
  const path = join(folder, 'every.duckdb');
  rmSync(path, { force: true });
  await server.query('drop schema if exists bench cascade');
  const before = cpuOf(server.pid);
  const result = await collect(job, {
    STORE_FILE: join(folder, '%TAG.ndjson'),
    STORE_DUCKDB: path,
    ...server.env,
    STORE_POSTGRES_SCHEMA: 'bench',
    ...(await bucket()),
  });
  const used = cpuOf(server.pid) - before;
  if (result.code === 0) {
    must((await digestOf(join(folder, 'okta_users.ndjson'))) === job.sha, 'the NDJSON is not what the vendor sent');
    await counted(job, path, `json_data->>'$.id'`);
    const stores = JSON.parse(result.stdout).datasets[0].stores;
    must(stores.length === 5 && stores.every(({ records }) => records === job.records), 'a store lacks records');
  }
  return { ...result, server: used };
}

const s3 = async (job) => collect(job, await bucket());

/** The variables of a bucket, which is made if it is not there. */
async function bucket() {
  const { TEST_S3_ENDPOINT: endpoint, TEST_S3_ACCESS_KEY_ID: id, TEST_S3_SECRET_ACCESS_KEY: key } = process.env;
  must(endpoint !== undefined, 'set TEST_S3_ENDPOINT, TEST_S3_ACCESS_KEY_ID and TEST_S3_SECRET_ACCESS_KEY for s3');
  const { CreateBucketCommand, S3Client } = await import('@aws-sdk/client-s3');
  const credentials = { accessKeyId: id, secretAccessKey: key };
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  await client.send(new CreateBucketCommand({ Bucket: 'bench' })).catch((error) => {
    if (!/AlreadyOwnedByYou|AlreadyExists/.test(error.name)) throw error;
  });
  return {
    STORE_AWS_S3_BUCKET: 'bench',
    STORE_AWS_S3_ENDPOINT: endpoint,
    STORE_AWS_S3_FORCE_PATH_STYLE: 'true',
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: id,
    AWS_SECRET_ACCESS_KEY: key,
  };
}

/** Jobs over many users without latency, by name. */
export const jobs = {
  ndjson,
  envelope,
  gzip: packed('gz', 'gzip -dc'),
  zstd: packed('zst', 'zstd -dc'),
  duckdb: duckdb('raw'),
  typed: duckdb('typed'),
  parquet,
  postgres,
  s3,
  everything,
};

/** A list whose pages may be asked for at once, eight of them, by a room of its own. */
export async function atOnce({ origin, folder, sha }) {
  const rooms = join(folder, 'offsets');
  mkdirSync(rooms, { recursive: true });
  writeFileSync(join(rooms, 'src_offsets.js'), OFFSETS);
  const path = join(folder, 'offsets_users.ndjson');
  const env = { COLLECTORS_PATH: rooms, OFFSETS_HOST: origin, STORE_FILE: join(folder, '%TAG.ndjson') };
  const result = await collect({ folder }, { ...env, CYBER_COLLECT_REQUESTS: '8' }, ['--only', 'offsets']);
  if (result.code === 0) must((await digestOf(path)) === sha, 'the NDJSON is not what the vendor sent');
  return result;
}

const OFFSETS = `import { staticHeaders } from 'cyber-collect/http/auth';
import { offset } from 'cyber-collect/http/paginate';
import { baseUrl, setting } from 'cyber-collect/setting';
import { defineCollector } from 'cyber-collect/collector';
export default defineCollector({
  name: 'offsets', title: 'Offsets', docs: 'https://bench.example', env: { OFFSETS_HOST: setting('Host') },
  http: (settings) => ({ baseUrl: baseUrl(settings.OFFSETS_HOST), auth: staticHeaders({}) }),
  resources: {
    users: {
      about: 'Users', path: '/api/v1/users', query: { limit: 200, offset: 0 }, records: 'users', total: 'total', id: 'id',
      paginate: offset({ as: 'offset', total: 'total', size: 200, parallel: true }),
    },
  },
});
`;

const COLLECTORS = 60;
const DATASETS = 5;

/** Sixty collectors of five datasets each, all of the vendor's users. */
export async function sixty({ origin, folder, records }) {
  const rooms = join(folder, 'rooms');
  const env = { COLLECTORS_PATH: rooms, STORE_FILE: join(folder, 'sixty', '%TAG.ndjson') };
  rmSync(join(folder, 'sixty'), { recursive: true, force: true });
  mkdirSync(rooms, { recursive: true });
  for (let n = 1; n <= COLLECTORS; n += 1) {
    env[`BENCH${n}_HOST`] = origin;
    writeFileSync(join(rooms, `src_bench${n}.js`), roomOf(n));
  }
  const result = await collect({ origin: undefined, folder }, env, [
    '--only',
    'bench*',
    '--concurrency',
    String(COLLECTORS),
  ]);
  if (result.code !== 0) return result;
  const { datasets } = JSON.parse(result.stdout);
  must(datasets.length === COLLECTORS * DATASETS, `${datasets.length} datasets came`);
  must(
    datasets.every((dataset) => dataset.records === records),
    'a dataset is not whole',
  );
  must(readdirSync(join(folder, 'sixty')).length === datasets.length, 'a file is missing');
  return result;
}

function roomOf(n) {
  const resource = (letter) =>
    `users_${letter}: { about: 'Users', path: '/api/v1/users', query: { limit: 200 }, id: 'id' }`;
  return `import { staticHeaders } from 'cyber-collect/http/auth';
import { linkHeader } from 'cyber-collect/http/paginate';
import { baseUrl, setting } from 'cyber-collect/setting';
import { defineCollector } from 'cyber-collect/collector';
export default defineCollector({
  name: 'bench${n}', title: 'Bench ${n}', docs: 'https://bench.example',
  env: { BENCH${n}_HOST: setting('Host') },
  http: (settings) => ({ baseUrl: baseUrl(settings.BENCH${n}_HOST), auth: staticHeaders({}), paginate: linkHeader() }),
  resources: { ${[...'abcde'].slice(0, DATASETS).map(resource).join(', ')} },
});
`;
}
