import pLimit from 'p-limit';
import { processEnvironment } from '../config/environment.ts';
import { CollectError } from '../errors.ts';
import { printable } from '../report/log.ts';
import { table } from '../report/tables.ts';
import { runChild } from '../run/child.ts';
import { worstCode } from '../run/exit.ts';
import type { RunSummary } from '../run/summary.ts';
import { isOfShard, shardFrom, type Tenant, tenantsOf } from '../run/tenants.ts';
import { untilSignal } from './interruption.ts';
import type { RunFlags } from './run.ts';
import { sharedSettings } from './session.ts';

/** Milliseconds that a tenant's run is given to end once it is asked to; the run itself needs 5 s. */
const GRACE = 15_000;

/** How one tenant's run ended. */
interface TenantResult extends Tenant {
  readonly code: number;
  /** Undefined where it did not come to its end. */
  readonly summary: RunSummary | undefined;
}

/** Runs each tenant in a process of its own, some at once; returns the exit code. */
export async function runTenants(flags: RunFlags & { readonly tenants: readonly string[] }): Promise<number> {
  if (flags.follow !== undefined || flags.dryRun === true) {
    throw new CollectError('config', '--tenants goes with neither --follow nor --dry-run', {
      mend: 'run one tenant with --tenant FILE',
    });
  }
  const { env, environment } = await sharedSettings(flags);
  const metrics = environment.get('CYBER_COLLECT_PROMETHEUS_FILE')?.value ?? '';
  if (metrics !== '' && !metrics.includes('%TENANCY')) {
    throw new CollectError('config', 'tenants would overwrite each other’s CYBER_COLLECT_PROMETHEUS_FILE', {
      mend: 'write %TENANCY in its name',
    });
  }
  const all = await tenantsOf(flags.tenants);
  const shard = flags.shard === undefined ? { index: 0, of: 1 } : shardFrom(flags.shard, processEnvironment());
  const turn = pLimit(flags.jobs ?? 4);
  const until = Date.now() + flags.deadline * 1000;
  const said = () => undefined; // each run says it itself
  return untilSignal(said, async ({ signal, signalCode }) => {
    const tenants = all.filter(({ tenancy }) => isOfShard(tenancy, shard));
    const results = await Promise.all(
      tenants.map((tenant) =>
        turn(async () => {
          const result = await runTenant(tenant, flags, { env, until, signal });
          if (flags.output === 'json' && result.summary !== undefined) {
            process.stdout.write(`${JSON.stringify(result.summary)}\n`);
          }
          return result;
        }),
      ),
    );
    if (flags.output !== 'json') process.stdout.write(`${summaryOf(results, flags.output)}\n`);
    return signalCode() ?? worstCode(results.map(({ code }) => code));
  });
}

interface Means {
  readonly env: Readonly<Record<string, string>>;
  /** Epoch milliseconds. */
  readonly until: number;
  readonly signal: AbortSignal;
}

async function runTenant(tenant: Tenant, flags: RunFlags, { env, until, signal }: Means): Promise<TenantResult> {
  if (signal.aborted) return { ...tenant, code: 143, summary: undefined };
  const left = Math.floor((until - Date.now()) / 1000);
  if (left < 1) return { ...tenant, code: 124, summary: undefined };
  // GitHub Actions finds its commands at the start of a line alone.
  const say = (line: string) =>
    process.stderr.write(line.startsWith('::') ? `${line}\n` : `${printable(tenant.tenancy)}: ${line}\n`);
  const args = ['run', '--tenant', tenant.file, '--output', 'json', '--deadline', String(left), ...argumentsOf(flags)];
  const { code, stdout } = await runChild(args, { env, say, signal, grace: GRACE });
  return { ...tenant, code, summary: summaryIn(stdout) };
}

/** The flags that a tenant's run has too. */
function argumentsOf(flags: RunFlags): readonly string[] {
  const texts = { only: flags.only, exclude: flags.exclude, 'accept-shrink': flags.acceptShrink };
  const switches = { full: flags.full, fresh: flags.fresh, quiet: flags.quiet, verbose: flags.verbose };
  return [
    ...Object.entries(texts).flatMap(([name, values]) => values.flatMap((value) => [`--${name}`, value])),
    ...Object.entries(switches).flatMap(([name, on]) => (on === true ? [`--${name}`] : [])),
    ...(flags.headroom === undefined ? [] : ['--headroom', flags.headroom]),
    ...(typeof flags.config === 'string' ? ['--config', flags.config] : []),
    ...(flags.slot === undefined ? [] : ['--slot', flags.slot]),
    '--concurrency',
    String(flags.concurrency),
    '--log-format',
    flags.logFormat,
  ];
}

function summaryIn(stdout: string): RunSummary | undefined {
  try {
    return JSON.parse(stdout) as RunSummary;
  } catch {
    return undefined; // it ended before it had anything to tell; why is on stderr
  }
}

function summaryOf(results: readonly TenantResult[], output: 'table' | 'markdown'): string {
  const rows = results.map(({ tenancy, code, summary }) => {
    const datasets = summary?.datasets ?? [];
    const good = datasets.filter(({ verdict }) => verdict === 'complete' || verdict === 'empty');
    const records = datasets.reduce((sum, dataset) => sum + dataset.records, 0);
    const bad = datasets.filter((dataset) => !good.includes(dataset)).map(({ tag, verdict }) => `${tag} ${verdict}`);
    const problems = summary?.problems.map(({ message }) => message) ?? [];
    return [
      tenancy,
      String(code),
      `${good.length} of ${datasets.length}`,
      String(records),
      [...bad, ...problems].join('; '),
    ];
  });
  const fine = results.filter(({ code }) => code === 0).length;
  const heads = ['TENANCY', 'EXIT', 'COMPLETE', 'RECORDS', 'WHAT IS WRONG'];
  return `${table(heads, rows, output)}\n\n${fine} of ${results.length} tenants complete`;
}
