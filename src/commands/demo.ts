import { environmentOf, processEnvironment } from '../config/environment.ts';
import { discoverCollectors } from '../run/discover.ts';
import { type RunningVendor, startVendor, type Vendor, type VendorOptions, vendors } from '../simulator/vendor.ts';
import { run } from './run.ts';
import { openSession } from './session.ts';

/** Flags of `demo`. */
export interface DemoFlags {
  readonly serve?: boolean;
  /** Records of the largest list. */
  readonly records: number;
}

const STORES = {
  STORE_FILE: './data/%TAG/%TENANCY.json',
  STORE_FILE_EVENTS: './data/%TAG/%TENANCY/%YYYY-%MM-%DD/%UUID.json',
  STORE_DUCKDB: './data/demo.duckdb',
  CYBER_COLLECT_STATE: './data/.cyber-collect',
  TENANCY: 'demo',
};

const AFTERWARDS = `
The records are in ./data as files and in ./data/demo.duckdb. With DuckDB's command line, \`duckdb data/demo.duckdb\`, try:
  select json_data->>'$.status' as status, count(*) from okta_users_latest group by 1 order by 2 desc;
  select u.json_data->>'$.profile.login' as login, count(*) from okta_users_latest u join okta_group_members_latest m
    on m.json_data->>'$.id' = u.json_data->>'$.id' group by 1 order by 2 desc limit 10;
`;

/** Runs the real collectors against vendors on this machine, which is all it talks to; returns the exit code. */
export async function demo(flags: DemoFlags): Promise<number> {
  const running = await startVendors(flags);
  try {
    if (flags.serve === true) return await serve(running);
    const variables = Object.assign({}, STORES, ...running.map(({ env }) => env)) as Record<string, string>;
    const colours = Object.fromEntries(
      ['NO_COLOR', 'FORCE_COLOR'].map((name) => [name, processEnvironment().get(name)?.value]),
    );
    const session = await openSession(
      { envFile: [], logFormat: 'text' },
      environmentOf({ ...variables, ...colours }, 'demo'),
    );
    session.log(
      'INFO',
      'demo.start',
      `vendors on this machine answer: ${running.map(({ origin }) => origin).join(' ')}`,
    );
    const code = await run(
      {
        envFile: [],
        logFormat: 'text',
        only: [],
        exclude: [],
        concurrency: 4,
        deadline: 600,
        acceptShrink: ['*'],
        output: 'table',
      },
      session,
    );
    session.print(AFTERWARDS);
    return code;
  } finally {
    await Promise.all(running.map((vendor) => vendor.close()));
  }
}

/** Vendors whose limits let them show much in a few seconds. */
const QUICK = ['okta', 'crowdstrike', 'tenableio'];

/** Some vendors to look at, or every one that a collector here reads to be worked with; the first with a limit and a passing fault. */
async function startVendors({ serve: all, records }: DemoFlags): Promise<readonly RunningVendor[]> {
  const collectors = new Set((await discoverCollectors()).map(({ name }) => name));
  const known = (await vendors()).filter(({ name }) => (all === true ? collectors.has(name) : QUICK.includes(name)));
  return Promise.all(known.map((vendor) => startVendor(vendor, optionsFor(vendor, records))));
}

function optionsFor({ name }: Vendor, records: number): VendorOptions {
  if (name !== 'okta') return { scale: records };
  // Okta has a call per user and kind of detail, so its list is shorter.
  return {
    scale: Math.ceil(records / 10),
    limit: { requests: 400, seconds: 1 },
    faults: [{ name: '500', resource: 'users' }],
  };
}

function serve(running: readonly RunningVendor[]): Promise<number> {
  for (const { env } of running)
    for (const [name, value] of Object.entries(env)) process.stdout.write(`export ${name}='${value}'\n`);
  process.stderr.write('The vendors answer until you press Ctrl-C.\n');
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve(0));
    process.once('SIGTERM', () => resolve(0));
  });
}
