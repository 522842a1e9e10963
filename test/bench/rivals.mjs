// What the program is held against, each at the same work on the same machine: curl, psql's \copy, posture.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { cpuOf, measure } from './measure.mjs';

const CACHE = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
const VERSION = '1.12.2';

/** Whether a program is there. */
export function has(program) {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
}

/** curl, every page into one file that is overwritten, or to which all are added; several at once with `parallel`. */
export function curl({ origin, records, folder }, { parallel = 0, by = 'after', keep = false } = {}) {
  const pages = Array.from({ length: records / 200 }, (_, n) => `${origin}/api/v1/users?limit=200&${by}=${n * 200}`);
  const config = join(folder, 'curl.txt');
  const out = join(folder, 'curl.json');
  const output = keep ? '' : `\noutput = "${out}"`;
  writeFileSync(config, pages.map((url) => `url = "${url}"${output}`).join('\n'));
  rmSync(out, { force: true });
  const how = parallel > 0 ? ['-Z', '--parallel-max', String(parallel)] : [];
  const args = ['-sS', '--no-progress-meter', ...how, '-K', config];
  return keep
    ? measure('sh', ['-c', 'exec curl "$@" > curl.json', 'sh', ...args], process.env, folder)
    : measure('curl', args, process.env, folder);
}

/** psql's \copy of the same records, which lie in a file already. */
export async function copy({ ndjson, folder, postgres }) {
  await postgres.query('drop table if exists copied; create table copied (json_data jsonb)');
  const script = join(folder, 'copy.sql');
  writeFileSync(script, `\\copy copied from '${ndjson}' with (format csv, quote e'\\x01', delimiter e'\\x02')`);
  const before = cpuOf(postgres.pid);
  const result = await measure('psql', ['-q', '-f', script, postgres.url], process.env, folder);
  return { ...result, server: cpuOf(postgres.pid) - before };
}

/** The rival's interpreter, in an environment of its own, made at its first use. */
export function posturePython() {
  const venv = join(CACHE, 'cyber-collect', `posture-${VERSION}`);
  const python = join(venv, 'bin', 'python');
  if (existsSync(join(venv, 'made'))) return python;
  must(spawnSync('python3', ['-m', 'venv', venv]), 'no virtual environment can be made');
  must(spawnSync(python, ['-m', 'pip', 'install', '-q', `posture==${VERSION}`]), 'posture cannot be installed');
  writeFileSync(join(venv, 'made'), '');
  return python;
}

/** The rival, into one of its stores. */
export async function posture(kind, { origin, folder, postgres }) {
  const target = kind === 'postgres' ? JSON.stringify({ dsn: postgres.url }) : join(folder, `posture-${kind}`);
  const before = postgres === undefined ? 0 : cpuOf(postgres.pid);
  const env = { ...process.env, OKTA_DOMAIN: origin, OKTA_TOKEN: 'bench-token' };
  const script = new URL('rival.py', import.meta.url).pathname;
  const result = await measure(posturePython(), [script, kind, target], env, folder);
  return { ...result, server: postgres === undefined ? 0 : cpuOf(postgres.pid) - before };
}

function must({ status, stderr }, said) {
  if (status !== 0) throw new Error(`bench: ${said}: ${stderr}`);
}
