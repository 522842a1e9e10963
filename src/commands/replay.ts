import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asCollectError, CollectError, ConfigError, configProblem } from '../errors.ts';
import { problemLine } from '../report/log.ts';
import { type Output, table } from '../report/tables.ts';
import { activate, type Plan } from '../run/activate.ts';
import { openCoordination } from '../run/coordination.ts';
import { deliverRestored, type OpenStore, openStores } from '../run/deliver.ts';
import { type Delivered, type Outbox, openOutbox } from '../run/outbox.ts';
import { restore } from '../run/restore.ts';
import { nearest, patternsOf } from '../run/select.ts';
import { openSecretSession, type Session, type SessionFlags } from './session.ts';

/** Flags of `replay`. */
export interface ReplayFlags extends SessionFlags {
  readonly only: readonly string[];
  readonly exclude: readonly string[];
  /** Stores to deliver to; all unless told. */
  readonly store: readonly string[];
  /** Only what this run left. */
  readonly run?: string;
  /** Delivers the copies in the backup instead of the outbox. */
  readonly fromBackup?: boolean;
  readonly output: Output;
}

/** What became of one store. */
interface Replayed extends Omit<Delivered, 'error'> {
  readonly store: string;
  readonly error?: string;
}

/** Delivers what waits in the outbox, or the backup's copies, to the stores; no vendor is called. Returns the exit code. */
export async function replay(flags: ReplayFlags, session?: Session): Promise<number> {
  const { environment, rooms, log, print, progress } = session ?? (await openSecretSession(flags));
  progress.stop();
  const plan = activate(environment, rooms, flags, new Date());
  const chosen = chosenStores(plan, patternsOf(flags.store));
  for (const problem of plan.problems) log(problem.severity, 'config.problem', problemLine(problem));
  const coordination = await openCoordination(environment, plan.program);
  const outbox = openOutbox(coordination.state, plan.tenancy, plan.program.CYBER_COLLECT_OUTBOX_MIB * 2 ** 20);
  const warn = (message: string) => log('WARNING', 'store.warning', message);
  // Nothing waits in this one, so that opening the stores delivers nothing yet.
  const untouched: Outbox = { ...outbox, deliver: async () => ({ delivered: 0, left: 0 }) };
  const opened = await openStores(plan.stores, { tenancy: plan.tenancy, at: plan.at, warn }, untouched);
  try {
    const wanted = opened.filter(({ name }) => chosen.includes(name));
    const done =
      flags.fromBackup === true ? await fromBackup(plan, opened, wanted) : await fromOutbox(outbox, wanted, flags.run);
    if (flags.output === 'json') print(JSON.stringify({ tenancy: plan.tenancy, stores: done }));
    else {
      const rows = done.map(({ store, delivered, left, error }) => [
        store,
        String(delivered),
        String(left),
        error ?? '',
      ]);
      print(table(['STORE', 'DELIVERED', 'LEFT', 'FINDING'], rows, flags.output));
    }
    return done.some(({ left, error }) => left > 0 || error !== undefined) ? 6 : 0;
  } finally {
    await Promise.allSettled(opened.map(({ sink }) => sink.close?.()));
    coordination.close();
  }
}

/** @throws {ConfigError} for a name that no configured store has */
function chosenStores({ stores }: Plan, names: readonly string[]): readonly string[] {
  const known = stores.map(({ store }) => store.name);
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new ConfigError(
      unknown.map((name) => {
        const close = nearest(name, known);
        const mend = close === undefined ? `configured are ${known.join(', ')}` : `did you mean ${close}?`;
        return configProblem('--store', `no store '${name}' is configured`, mend);
      }),
    );
  }
  return names.length === 0 ? known : names;
}

function fromOutbox(outbox: Outbox, stores: readonly OpenStore[], run: string | undefined): Promise<Replayed[]> {
  return Promise.all(
    stores.map(async (store) => {
      const { error, ...counts } = await outbox.deliver(store, (entry) => run === undefined || entry.run_id === run);
      return { store: store.name, ...counts, ...(error === undefined ? {} : { error: error.message }) };
    }),
  );
}

/** The last good copy of each chosen snapshot, to every chosen store that holds no newer one. */
async function fromBackup(plan: Plan, opened: readonly OpenStore[], wanted: readonly OpenStore[]): Promise<Replayed[]> {
  if (opened.every(({ sink }) => sink.backup === undefined)) {
    throw new CollectError('config', 'no configured store keeps a backup', { mend: 'set STORE_AWS_S3_BUCKET' });
  }
  const counts = new Map(wanted.map(({ name }) => [name, { delivered: 0, left: 0, errors: [] as string[] }]));
  const scratch = await mkdtemp(join(tmpdir(), 'cyber-collect-'));
  try {
    const datasets = plan.collectors.flatMap((active) => active.datasets);
    for (const dataset of datasets.filter(({ stored, kind }) => stored && kind === 'snapshot')) {
      const names = { uuid: dataset.uploadId, tag: dataset.tag, tenancy: plan.tenancy, at: plan.at };
      const copy = await restore(dataset, opened, names, join(scratch, `${dataset.tag}.ndjson`)).catch(asCollectError);
      if (copy === undefined) continue;
      const deliveries =
        copy instanceof CollectError
          ? wanted.map(({ name }) => ({ store: name, error: `${dataset.tag}: ${copy.message}` }))
          : await deliverRestored({ ...copy, confirm: async () => undefined }, wanted);
      for (const { store, error } of deliveries) {
        const count = counts.get(store);
        if (error === undefined && count !== undefined) count.delivered += 1;
        else count?.errors.push(error ?? '');
      }
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return [...counts].map(([store, { delivered, errors }]) => ({
    store,
    delivered,
    left: errors.length,
    ...(errors.length === 0 ? {} : { error: errors.join('; ') }),
  }));
}
