import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DatasetResult, RunSummary } from '../../src/run/summary.ts';

const HOUR = 3_600_000;

/** A moment so many hours ago, as run records write it. */
export function hoursAgo(hours: number): string {
  return new Date(Date.now() - hours * HOUR).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** A dataset's result: whole and stored in a file unless told. */
export function resultFor(tag: string, choice: Partial<DatasetResult> = {}): DatasetResult {
  const [collector = '', ...resource] = tag.split('_');
  const stored = { store: 'file', at: `/data/${tag}.json`, records: choice.records ?? 100 };
  return {
    tag,
    collector,
    resource: resource.join('_'),
    verdict: 'complete',
    records: 100,
    pages: 1,
    requests: 2,
    retries: 0,
    waited_ms: 0,
    bytes: 5000,
    duration_ms: 1500,
    upload_id: randomUUID(),
    stores: choice.verdict === undefined || choice.verdict === 'complete' ? [stored] : [],
    ...choice,
  };
}

/** What a vendor's refusal leaves in a record. */
export const denied = {
  verdict: 'denied',
  records: 0,
  title: 'Permission denied',
  reason: 'GET /api/v1/groups answered 403',
  mend: 'give the credentials the permission okta.groups.read',
} as const;

/** Puts the record of a run into a state folder; returns its path. */
export async function keepRun(
  state: string,
  hours: number,
  datasets: readonly DatasetResult[],
  choice: Partial<RunSummary> & { readonly chain?: { readonly sequence: number } } = {},
): Promise<string> {
  const started = choice.started_at ?? hoursAgo(hours);
  const summary: RunSummary = {
    run_id: randomUUID(),
    version: '0.0.0',
    tenancy: 'default',
    started_at: started,
    finished_at: hoursAgo(hours - 0.1),
    exit_code: datasets.every(({ verdict }) => verdict === 'complete') ? 0 : 3,
    datasets,
    stores: [],
    problems: [],
    ...choice,
  };
  const folder = join(state, 'runs', summary.tenancy);
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${started.replaceAll(':', '')}-${summary.run_id}.json`);
  await writeFile(path, JSON.stringify(summary));
  return path;
}
