import { CollectError } from '../errors.ts';
import type { State } from './state.ts';

/** The last good upload of a dataset: what the next one is held against. */
export interface Baseline {
  readonly upload_id: string;
  readonly records: number;
  readonly timestamp: string;
}

/** From where on a loss of records is held back. Both must be reached. */
export interface ShrinkGuard {
  readonly records: number;
  /** Percent. */
  readonly percent: number;
}

/** Why a dataset is held back, if it is: it lost too many records since its last good upload. */
export function shrinkage(
  records: number,
  baseline: Baseline | undefined,
  guard: ShrinkGuard,
): CollectError | undefined {
  if (baseline === undefined) return undefined;
  const lost = baseline.records - records;
  if (lost < guard.records || lost * 100 < baseline.records * guard.percent) return undefined;
  return new CollectError(
    'incomplete',
    `${records} records, where the last good upload of ${baseline.timestamp} had ${baseline.records}`,
    {
      mend: 'check the scope of the credentials; if the loss is real, run once with --accept-shrink',
      title: 'Dataset shrank',
    },
  );
}

/** The baseline of a dataset. */
export function readBaseline(state: State, tenancy: string, tag: string): Promise<Baseline | undefined> {
  return state.read<Baseline>('baselines', tenancy, `${tag}.json`);
}

/** Remembers a good upload. */
export async function writeBaseline(state: State, tenancy: string, tag: string, baseline: Baseline): Promise<void> {
  await state.write(baseline, 'baselines', tenancy, `${tag}.json`);
}
