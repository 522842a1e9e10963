// npm run prove -- [--kills 100] [--records 1000000] [--latency 20]
// A collection that is killed at random moments and started again, over and over: what is stored in the end must equal
// what an uninterrupted run stores, and hardly a request may have been asked twice.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { digestOf, startVendor } from '../bench/serve.mjs';

const cli = new URL('../../bin/cyber-collect.js', import.meta.url).pathname;
const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '100' },
    records: { type: 'string', default: '1000000' },
    latency: { type: 'string', default: '20' },
  },
});
const kills = Number(values.kills);
const folder = mkdtempSync(join(tmpdir(), 'cyber-collect-prove-'));

function start(vendor, name) {
  return spawn(process.execPath, ['--', cli, 'run', '--only', 'okta.users', '--output', 'json', '--quiet'], {
    env: {
      PATH: process.env.PATH,
      OKTA_DOMAIN: vendor.origin,
      OKTA_TOKEN: 'invented',
      CYBER_COLLECT_STATE: join(folder, `${name}-state`),
      STORE_FILE: join(folder, `${name}.ndjson`),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

async function finish(child) {
  let text = '';
  const ended = once(child, 'exit');
  for await (const chunk of child.stdout) text += chunk;
  await ended;
  const summary = JSON.parse(text);
  if (summary.exit_code !== 0) throw new Error(text);
  return summary.datasets[0];
}

const vendor = await startVendor(values.records, values.latency);
try {
  const began = Date.now();
  const whole = await finish(start(vendor, 'whole'));
  const took = Date.now() - began;
  const needed = await vendor.requests();
  const expected = await digestOf(join(folder, 'whole.ndjson'));
  rmSync(join(folder, 'whole.ndjson'));
  let killed = 0;
  while (killed < kills) {
    const child = start(vendor, 'killed');
    const ended = once(child, 'exit').then(() => 'ended');
    // A start and reading again what is there take time of their own.
    const moment = 300 + Math.random() * 2 * (took / kills);
    if ((await Promise.race([sleep(moment, 'kill'), ended])) === 'ended') break;
    child.kill('SIGKILL');
    await ended;
    killed += 1;
  }
  const dataset = await finish(start(vendor, 'killed'));
  const asked = (await vendor.requests()) - needed;
  const digest = await digestOf(join(folder, 'killed.ndjson'));
  const twice = asked - needed;
  const share = ((100 * twice) / needed).toFixed(2);
  process.stdout.write(
    `${killed} kills, ${dataset.records} records: ${digest === expected ? 'the same' : 'ANOTHER'} digest, ` +
      `${twice} of ${needed} requests asked twice (${share} %), ${whole.records} records without a kill\n`,
  );
  process.exitCode = digest === expected && killed === kills && twice <= needed * 0.02 ? 0 : 1;
} finally {
  vendor.stop();
  rmSync(folder, { recursive: true, force: true });
}
