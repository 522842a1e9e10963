import type { Lag } from '../collectors/collector.ts';
import type { Problem } from '../errors.ts';
import type { Drift } from '../report/drift.ts';
import type { Delivery } from './deliver.ts';

/** How a dataset ended. */
export type DatasetVerdict = 'complete' | 'empty' | 'failed' | 'denied' | 'restored' | 'quarantined';

/** One dataset of a run, as users, scripts and the run record see it. */
export interface DatasetResult {
  readonly tag: string;
  readonly collector: string;
  readonly resource: string;
  readonly verdict: DatasetVerdict;
  /** What went wrong before the backup stepped in. */
  readonly cause?: 'failed' | 'denied' | 'quarantined';
  readonly records: number;
  readonly expected?: number;
  /** Records that the settings leave out. */
  readonly left_out?: number;
  /** How far reading was behind what was written, once the stores had it. */
  readonly lag?: Lag;
  readonly pages: number;
  readonly requests: number;
  readonly retries: number;
  readonly waited_ms: number;
  /** Received from the vendor. */
  readonly bytes: number;
  readonly duration_ms: number;
  readonly reason?: string;
  readonly mend?: string;
  /** Heading of what went wrong. */
  readonly title?: string;
  readonly upload_id: string;
  readonly sha256?: string;
  readonly stale?: true;
  /** It, or a part of it, comes from a run that was interrupted. */
  readonly resumed?: true;
  /** Age of a restored copy in seconds. */
  readonly age_s?: number;
  /** How its fields differ from those of the last good upload. */
  readonly drift?: Drift;
  readonly stores: readonly Delivery[];
}

/** A store, when the run has ended. */
export interface StoreResult {
  readonly store: string;
  /** Uploads that wait for it in the outbox. */
  readonly uploads: number;
  /** Why it did not take those of earlier runs. */
  readonly error?: string;
}

/** A run, as `--output json` prints it and the run record keeps it. */
export interface RunSummary {
  readonly run_id: string;
  readonly version: string;
  readonly tenancy: string;
  readonly started_at: string;
  readonly finished_at: string;
  readonly exit_code: number;
  readonly datasets: readonly DatasetResult[];
  readonly stores: readonly StoreResult[];
  readonly problems: readonly Problem[];
  /** The record of this run. */
  readonly head?: { readonly sequence: number; readonly sha256: string };
}

/** Whether a run brought nothing and all is well. */
export function isIdle({ exit_code, datasets, problems }: RunSummary): boolean {
  return (
    exit_code === 0 &&
    problems.length === 0 &&
    datasets.every(({ verdict, left_out = 0 }) => verdict === 'empty' && left_out === 0)
  );
}

/** What decides the exit code beside the datasets. */
export interface Ending {
  /** 130 or 143 after a signal. */
  readonly signal?: number | undefined;
  readonly deadline: boolean;
  readonly defect: boolean;
  readonly locked: boolean;
  readonly misconfigured: boolean;
  /** Whether uploads wait in the outbox. */
  readonly behind: boolean;
  /** Collectors that were active, and those of them whose credentials were refused. */
  readonly active: number;
  readonly refused: number;
}

/** The documented exit code: the first that applies of 130/143, 1, 8, 2, 124, 4, 3, 6, 5, 0. */
export function exitCode(ending: Ending, datasets: readonly DatasetResult[]): number {
  if (ending.signal !== undefined) return ending.signal;
  if (ending.defect) return 1;
  if (ending.locked) return 8;
  if (ending.misconfigured) return 2;
  if (ending.deadline) return 124;
  if (ending.active > 0 && ending.refused === ending.active) return 4;
  if (datasets.some(({ verdict }) => verdict !== 'complete' && verdict !== 'empty')) return 3;
  if (ending.behind || datasets.some(({ stores }) => stores.some(({ error }) => error !== undefined))) return 6;
  return ending.active === 0 ? 5 : 0;
}
