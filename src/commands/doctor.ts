import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asCollectError, CollectError } from '../errors.ts';
import { type Headers, header } from '../http/pace.ts';
import { problemLine } from '../report/log.ts';
import { type Output, table } from '../report/tables.ts';
import { type ActiveCollector, type ActiveStore, activate, type Plan } from '../run/activate.ts';
import { clientOf, clientSettings } from '../run/client.ts';
import { probe } from '../run/sample.ts';
import { version } from '../version.ts';
import { openSecretSession, type SessionFlags, withSettings } from './session.ts';

/** Flags of `doctor`. */
export interface DoctorFlags extends SessionFlags {
  readonly only: readonly string[];
  readonly exclude: readonly string[];
  /** Flags that stand on the command line. */
  readonly told?: readonly string[];
  readonly output: Output;
}

/** One finding of `doctor`. */
interface Finding {
  /** `okta.users`, `store postgres`, `clock`. */
  readonly what: string;
  readonly state: 'fine' | 'denied' | 'credentials' | 'failed';
  readonly message: string;
  readonly mend?: string;
}

const PATIENCE = 300;

/** Tries every active dataset with the least call and every store with a probe; returns the exit code. */
export async function doctor(said: DoctorFlags): Promise<number> {
  const { only, exclude, file } = await withSettings(said);
  const flags = { ...said, only, exclude, file };
  const { environment, rooms, log, progress, print } = await openSecretSession(flags);
  progress.stop();
  const plan = activate(environment, rooms, flags, new Date());
  for (const problem of plan.problems) log(problem.severity, 'config.problem', problemLine(problem));
  const scratch = await mkdtemp(join(tmpdir(), 'cyber-collect-'));
  const settings = clientSettings(plan, { version: version(), deadline: PATIENCE, scratch });
  let skew: number | undefined;
  const observe = (headers: Headers) => {
    const date = Date.parse(header(headers, 'date') ?? '');
    if (!Number.isNaN(date)) skew = Date.now() - date;
  };
  const findings: Finding[] = [];
  try {
    for (const active of plan.collectors)
      findings.push(...(await examine(active, plan, { ...settings, observe }, scratch)));
    findings.push(...(await Promise.all(plan.stores.map((store) => examineStore(store, plan)))));
  } finally {
    await settings.dispatcher.close().catch(() => undefined);
    await rm(scratch, { recursive: true, force: true });
  }
  if (skew !== undefined) findings.push(clock(skew));
  if (flags.output === 'json') print(JSON.stringify({ findings, problems: plan.problems }));
  else {
    const rows = findings.map(({ what, state, message, mend }) => [
      what,
      state,
      mend === undefined ? message : `${message}. To mend: ${mend}`,
    ]);
    print(table(['WHAT', 'STATE', 'FINDING'], rows, flags.output));
  }
  return codeOf(plan, findings);
}

async function examine(
  active: ActiveCollector,
  plan: Plan,
  settings: ReturnType<typeof clientSettings>,
  scratch: string,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const client = clientOf(active, settings, plan);
  const signal = AbortSignal.timeout(PATIENCE * 1000);
  for (const dataset of active.datasets.filter(({ stored }) => stored)) {
    const what = `${dataset.collector}.${dataset.resource}`;
    try {
      await probe(dataset, { active, client, signal, at: plan.at, scratch, warn: () => undefined });
      findings.push({ what, state: 'fine', message: 'can be read' });
    } catch (thrown) {
      const error = asCollectError(thrown);
      const needs = dataset.definition.needs;
      const state = error.code === 'denied' || error.code === 'credentials' ? error.code : 'failed';
      const mend = error.code === 'denied' && needs !== undefined ? `grant ${needs}` : error.mend;
      findings.push({
        what,
        state,
        message: `${error.title}: ${error.message}`,
        ...(mend === undefined ? {} : { mend }),
      });
    }
  }
  return findings;
}

async function examineStore({ store, settings }: ActiveStore, plan: Plan): Promise<Finding> {
  const what = `store ${store.name}`;
  try {
    const sink = await store.open(settings, { tenancy: plan.tenancy, at: plan.at, warn: () => undefined });
    try {
      await sink.check?.();
    } finally {
      await sink.close?.();
    }
    return { what, state: 'fine', message: 'a probe was written and deleted' };
  } catch (thrown) {
    const error = thrown instanceof CollectError ? thrown : new CollectError('store', (thrown as Error).message);
    return {
      what,
      state: 'failed',
      message: `${error.title}: ${error.message}`,
      ...(error.mend === undefined ? {} : { mend: error.mend }),
    };
  }
}

const MOST_SKEW = 60_000;

function clock(skew: number): Finding {
  const seconds = Math.round(Math.abs(skew) / 1000);
  if (Math.abs(skew) < MOST_SKEW)
    return { what: 'clock', state: 'fine', message: `within ${seconds} s of the vendors'` };
  return {
    what: 'clock',
    state: 'failed',
    message: `this machine's clock is ${seconds} s ${skew > 0 ? 'ahead' : 'behind'}`,
    mend: 'synchronise it; signed requests and tokens depend on it',
  };
}

function codeOf(plan: Plan, findings: readonly Finding[]): number {
  if (plan.problems.length > 0) return 2;
  const vendors = findings.filter(({ what }) => !what.startsWith('store ') && what !== 'clock');
  if (vendors.length > 0 && vendors.every(({ state }) => state === 'credentials')) return 4;
  if (findings.some(({ what, state }) => state !== 'fine' && !what.startsWith('store '))) return 3;
  if (findings.some(({ state }) => state !== 'fine')) return 6;
  return vendors.length === 0 ? 5 : 0;
}
