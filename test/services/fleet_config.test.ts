import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { needed } from '../support/needed.ts';
import { program } from '../support/program.ts';
import { filesBelow, temporaryFolder } from '../support/run.ts';

const queue = `${needed('TEST_REDIS_URL')}/8`;

test('a fleet has its queue and its stores from a configuration file, also what that takes from variables', async () => {
  const [folder, vendor] = [await temporaryFolder(), await startVendor(okta, { scale: 10 })];
  const redis = new Redis(queue);
  onTestFinished(async () => {
    await vendor.close();
    redis.disconnect();
  });
  await redis.flushdb();
  const { OKTA_DOMAIN = '', OKTA_TOKEN = '' } = vendor.env;
  const config = `program: { queue: '${queue}' }
collectors: { okta: { domain: nowhere.invalid, token: none } }
stores: { file: { file: { env: WHERE }, format: ndjson } }
run: { only: okta.users }
`;
  await mkdir(join(folder, 'tenants'));
  const files = { 'fleet.yaml': config, 'tenants/a.env': `OKTA_DOMAIN=${OKTA_DOMAIN}\nOKTA_TOKEN='${OKTA_TOKEN}'\n` };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text, { mode: 0o600 });
  const cli = (...args: readonly string[]) =>
    program(folder, [...args, '--config', 'fleet.yaml'], { WHERE: './data/%TENANCY/%TAG.json' }).ended;
  expect(await cli('fleet', 'submit', 'tenants/*.env', '--spread', '0')).toMatchObject({ code: 0, stderr: '' });
  const worked = await cli('worker', '--tenants', 'tenants/*.env', '--idle-exit', '2s');
  expect(worked.code, worked.stderr).toBe(0);
  const stored = (await filesBelow(join(folder, 'data', 'a'))).map((path) => path.slice(folder.length));
  expect(stored).toContain('/data/a/okta_users.json');
}, 60_000);
