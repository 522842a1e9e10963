import { readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { State } from './state.ts';

/** The sign of life of a watch. */
export interface Beat {
  /** ISO 8601. */
  readonly at: string;
  readonly pid: number;
  readonly host: string;
  readonly bridges: readonly BridgeBeat[];
}

/** How a bridge stands. */
export interface BridgeBeat {
  readonly name: string;
  /** Exit code of its last run; absent before the first has ended. */
  readonly exit_code?: number;
  /** When its next run begins, ISO 8601; absent while it runs, and where it never does. */
  readonly next?: string;
}

/** Milliseconds between two signs. */
export const BEAT = 15_000;
/** Seconds after which a watch that gave none is taken for dead. */
export const BEAT_LASTS = 60;

const placeOf = (tenancy: string) => ['watch', `${tenancy}.json`] as const;

/** Gives a sign of life. */
export async function writeBeat(state: State, tenancy: string, beat: Beat): Promise<void> {
  await state.write(beat, ...placeOf(tenancy));
}

/** The last sign of life; undefined where there is none that can be read. */
export async function readBeat(folder: string, tenancy: string): Promise<Beat | undefined> {
  try {
    return JSON.parse(await readFile(join(resolve(folder), ...placeOf(tenancy)), 'utf8')) as Beat;
  } catch {
    return undefined;
  }
}

/** Says that the watch has ended. */
export async function removeBeat(state: State, tenancy: string): Promise<void> {
  await rm(join(state.folder, ...placeOf(tenancy)), { force: true });
}
