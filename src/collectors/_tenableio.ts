import { CollectError } from '../errors.ts';
import { type ExportJob, exportPages, type JobStatus } from '../http/exportjob.ts';
import type { Page } from '../http/page.ts';
import type { Rule } from '../http/retry.ts';
import { at, type Json, numberAt, textAt } from '../json.ts';
import type { Context } from './collector.ts';

/** How long an export may take. */
export interface ExportSettings {
  readonly TIO_POLL_SECONDS: number;
  readonly TIO_EXPORT_TIMEOUT: number;
}

/** The records of an export that is asked for at a path. */
export function exported(
  context: Context<ExportSettings>,
  path: string,
  body: Json,
  errors: readonly Rule[] = [],
): AsyncGenerator<Page> {
  const { TIO_POLL_SECONDS: poll, TIO_EXPORT_TIMEOUT: timeout } = context.settings;
  return exportPages(context, jobAt(path, body, errors), { poll, timeout, setting: 'TIO_EXPORT_TIMEOUT' });
}

function jobAt(path: string, body: Json, errors: readonly Rule[]): ExportJob {
  const home = (id: string) => `${path}/${encodeURIComponent(id)}`;
  return {
    start: { path, method: 'POST', body, errors },
    id: 'export_uuid',
    running: 'active_job_id',
    status: (id) => ({
      path: `${home(id)}/status`,
      errors: [{ status: 404, as: 'expired', because: 'the export is gone' }],
    }),
    read: statusOf,
    // A chunk is a list, or null for none.
    chunk: (id, chunk) => ({
      path: `${home(id)}/chunks/${encodeURIComponent(chunk)}`,
      records: '',
      absent: 'empty',
      errors: [{ status: 200, body: /^[^[n]/, as: 'failed', because: 'a chunk is no list' }],
    }),
    cancel: (id) => ({ path: `${home(id)}/cancel`, method: 'POST' }),
  };
}

const STATES: ReadonlyMap<string, JobStatus['state']> = new Map([
  ['QUEUED', 'working'],
  ['PROCESSING', 'working'],
  ['FINISHED', 'finished'],
  ['CANCELLED', 'failed'],
  ['ERROR', 'failed'],
]);

function statusOf(body: unknown): JobStatus {
  const state = STATES.get(textAt(body, 'status')?.toUpperCase() ?? '');
  if (state === undefined) throw new CollectError('vendor', 'the status of an export is none that is known');
  return {
    state,
    chunks: numbersAt(body, 'chunks_available'),
    lost: numbersAt(body, 'chunks_failed').length + numbersAt(body, 'chunks_cancelled').length,
    declared: numberAt(body, 'chunks_available_count'),
    total: numberAt(body, 'total_chunks'),
    empty: numberAt(body, 'empty_chunks_count'),
  };
}

function numbersAt(body: unknown, path: string): readonly string[] {
  const found = at(body, path);
  if (!Array.isArray(found)) return [];
  const chunks = found.map(String);
  if (chunks.every((chunk) => /^\d+$/.test(chunk))) return chunks;
  throw new CollectError('vendor', 'a chunk of an export has no number');
}
