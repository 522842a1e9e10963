import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type RunningVendor, startVendor } from '../../src/simulator/vendor.ts';
import crowdstrike from '../../src/simulator/vendor_crowdstrike.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { root } from './build.ts';
import { filesBelow } from './run.ts';

/** A folder with tenants, two vendors, and a queue. */
export interface Fleet {
  readonly folder: string;
  readonly tenants: readonly string[];
  readonly vendors: readonly RunningVendor[];
  /** Runs the program to its end. */
  program(...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }>;
  /** Starts a worker. */
  worker(...args: readonly string[]): ChildProcess;
  /** Upload ids of what is stored, by tenancy and dataset. */
  stored(): Promise<ReadonlyMap<string, string>>;
}

/** Makes one. What a vendor's answers take is so long that runs are under way when something is killed. */
export async function makeFleet(
  folder: string,
  queue: string,
  count: number,
  extra: Readonly<Record<string, string>> = {},
): Promise<Fleet> {
  const options = { scale: 30, pageSize: 10, latencyMs: 20 };
  const vendors = await Promise.all([startVendor(okta, options), startVendor(crowdstrike, options)]);
  const variables = Object.assign({}, ...vendors.map(({ env }) => env), extra);
  const text = Object.entries(variables).map(([name, value]) => `${name}='${value}'\n`);
  const tenants = Array.from({ length: count }, (_, n) => `tenant-${n}`);
  await mkdir(join(folder, 'tenants'), { recursive: true });
  for (const name of tenants) await writeFile(join(folder, 'tenants', `${name}.env`), text.join(''), { mode: 0o600 });
  const env = {
    PATH: process.env.PATH,
    STORE_FILE: join(folder, 'data', '%TENANCY', '%TAG.json'),
    CYBER_COLLECT_STATE: join(folder, 'state'),
    CYBER_COLLECT_QUEUE: queue,
  };
  const start = (args: readonly string[]) =>
    spawn(process.execPath, ['--', join(root, 'bin', 'cyber-collect.js'), ...args], { cwd: folder, env });
  return {
    folder,
    tenants,
    vendors,
    async program(...args) {
      const child = start(args);
      let [stdout, stderr] = ['', ''];
      child.stdout.on('data', (chunk) => {
        stdout += chunk;
      });
      child.stderr.on('data', (chunk) => {
        stderr += chunk;
      });
      const [code] = (await once(child, 'close')) as [number];
      return { code, stdout, stderr };
    },
    worker: (...args) => {
      const child = start(['worker', '--tenants', 'tenants/*.env', ...args]);
      child.stdout.resume();
      child.stderr.resume();
      return child;
    },
    async stored() {
      const files = await filesBelow(join(folder, 'data')).catch(() => []);
      const found = await Promise.all(
        files.map(async (path) => {
          const { metadata } = JSON.parse(await readFile(path, 'utf8')) as { metadata: Record<string, string> };
          return [`${metadata.tenancy} ${metadata.tag}`, metadata.upload_id ?? ''] as const;
        }),
      );
      return new Map(found);
    },
  };
}
