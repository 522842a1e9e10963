import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CollectError } from '../errors.ts';
import { activate } from '../run/activate.ts';
import { clientOf, clientSettings } from '../run/client.ts';
import { sample } from '../run/sample.ts';
import { version } from '../version.ts';
import { openSecretSession, type SessionFlags } from './session.ts';

/** Flags of `peek`. */
export interface PeekFlags extends SessionFlags {
  /** Records. */
  readonly n: number;
}

const PATIENCE = 600;

/** Prints the first records of a dataset, one a line; stores nothing. Returns the exit code. */
export async function peek(name: string, flags: PeekFlags): Promise<number> {
  const { environment, rooms, log, progress, print } = await openSecretSession({ ...flags, only: [name] });
  progress.stop();
  const plan = activate(
    environment,
    { ...rooms, stores: [] },
    { only: [name], exclude: [], tenancy: flags.tenancy },
    new Date(),
  );
  const scratch = await mkdtemp(join(tmpdir(), 'cyber-collect-'));
  const settings = clientSettings(plan, { version: version(), deadline: PATIENCE, scratch });
  const signal = AbortSignal.timeout(PATIENCE * 1000);
  try {
    for (const active of plan.collectors) {
      const client = clientOf(active, settings, plan);
      for (const dataset of active.datasets.filter(({ stored }) => stored)) {
        const warn = (message: string) => log('WARNING', 'dataset.warning', message);
        for (const record of await sample(dataset, flags.n, { active, client, signal, at: plan.at, scratch, warn }))
          print(record);
      }
    }
  } finally {
    await settings.dispatcher.close().catch(() => undefined);
    await rm(scratch, { recursive: true, force: true });
  }
  if (plan.problems.length > 0)
    throw new CollectError('config', plan.problems[0]?.message ?? '', { mend: plan.problems[0]?.mend ?? '' });
  return 0;
}
