import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { program } from '../support/program.ts';
import { filesBelow, temporaryFolder } from '../support/run.ts';

/** Contents of all that was stored, by path. */
async function outputOf(folder: string): Promise<ReadonlyMap<string, string>> {
  const files = [...(await filesBelow(join(folder, 'data')))].sort();
  return new Map(
    await Promise.all(files.map(async (path) => [path.slice(folder.length), await readFile(path, 'utf8')] as const)),
  );
}

test('of a hundred tenants one fails, and no byte of the others changes', async () => {
  const vendor = await startVendor(okta, { scale: 40, pageSize: 20 });
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'tenants'));
  const lines = Object.entries(vendor.env).map(([name, value]) => `${name}='${value}'\n`);
  for (let n = 0; n < 100; n += 1) {
    const own = n === 57 ? [...lines, "OKTA_TOKEN='revoked'\n"] : lines;
    await writeFile(join(folder, 'tenants', `tenant-${n}.env`), own.join(''), { mode: 0o600 });
  }
  const run = () =>
    program(folder, ['run', '--tenants', 'tenants/*.env', '--only', 'okta.groups', '--jobs', '4', '--slot', 's1'], {
      STORE_FILE: join(folder, 'data', '%TENANCY', '%TAG.ndjson'),
      CYBER_COLLECT_STATE: join(folder, 'state'),
    }).ended;
  const failing = await run();
  expect(failing.code).toBe(4);
  expect(failing.stdout).toContain('99 of 100 tenants complete');
  const beside = await outputOf(folder);
  expect(beside.size).toBe(99);
  for (const path of ['data', 'state', 'tenants/tenant-57.env']) await rm(join(folder, path), { recursive: true });
  expect((await run()).code).toBe(0);
  expect(await outputOf(folder)).toEqual(beside);
  await vendor.close();
}, 300_000);
