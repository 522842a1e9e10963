import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { hostname, userInfo } from 'node:os';
import { join } from 'node:path';
import { isObject, type JsonObject, numberAt, textAt } from '../json.ts';
import type { State } from '../run/state.ts';
import type { RunSummary } from '../run/summary.ts';
import type { Redactor } from './redact.ts';

/** The last run record of a tenancy: whoever knows it can tell whether any record before was changed. */
export interface Head {
  readonly sequence: number;
  /** SHA-256 of the record's file, in hex. */
  readonly sha256: string;
}

/** A run record as it lies in the state folder. */
export interface RunRecord {
  readonly path: string;
  readonly sha256: string;
  /** Undefined when the file holds no JSON object. */
  readonly content: JsonObject | undefined;
}

/**
 * Keeps a run's summary in the state folder, chained to the record before by its hash. Only one may append at a time.
 */
export async function appendRunRecord(state: State, summary: RunSummary, redactor: Redactor): Promise<Head> {
  const { tenancy, started_at, run_id } = summary;
  const before = await state.read<Head>('chain', `${tenancy}.json`);
  const chain = { sequence: (before?.sequence ?? 0) + 1, previous: before?.sha256 ?? null };
  const redacted = JSON.parse(redactor.redact(JSON.stringify(summary))) as JsonObject;
  const record = { ...redacted, by: `${userName()}@${hostname()}`, chain };
  const path = await state.write(record, 'runs', tenancy, `${started_at.replaceAll(':', '')}-${run_id}.json`);
  const head = { sequence: chain.sequence, sha256: sha256(await readFile(path)) };
  await state.write(head, 'chain', `${tenancy}.json`);
  return head;
}

/** The run records of a tenancy in the order of their chain; what has no place in it comes first. */
export async function readRunRecords(state: State, tenancy: string): Promise<readonly RunRecord[]> {
  const folder = join(state.folder, 'runs', tenancy);
  const names = await readdir(folder).catch(() => []);
  const records = await Promise.all(
    names
      .filter((name) => name.endsWith('.json'))
      .map(async (name) => {
        const bytes = await readFile(join(folder, name));
        return { path: join(folder, name), sha256: sha256(bytes), content: objectIn(bytes) };
      }),
  );
  return records.sort((a, b) => sequenceOf(a) - sequenceOf(b));
}

/** Where a record stands in its chain; 0 when it does not say. */
export function sequenceOf({ content }: RunRecord): number {
  return numberAt(content, 'chain.sequence') ?? 0;
}

/** The hash of the record before; undefined for the first. */
export function previousOf({ content }: RunRecord): string | undefined {
  return textAt(content, 'chain.previous');
}

function objectIn(bytes: Buffer): JsonObject | undefined {
  try {
    const content: unknown = JSON.parse(bytes.toString('utf8'));
    return isObject(content) ? content : undefined;
  } catch {
    return undefined;
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'unknown'; // a container's user may have no name
  }
}
