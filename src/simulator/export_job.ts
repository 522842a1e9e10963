import { pageOf, type Reply } from './faults.ts';
import { type Ask, arrayOf, type Job, type Paging, type Records, type Route, single, span } from './paging.ts';

/** What a job's status tells. */
export interface JobStatus extends Pick<Job, 'id' | 'state' | 'size'> {
  readonly available: readonly number[];
  readonly failed: readonly number[];
  /** Chunks of the whole job, as declared, and how many of them hold nothing. */
  readonly total: number;
  readonly empty: number;
}

/** Options of an export. */
export interface JobOptions {
  /** Where it is asked for. */
  readonly path: string;
  /** Where its status and chunks are, if elsewhere. */
  readonly home?: string;
  readonly resource: string;
  records(scale: number): Records;
  /** Whether the status declares how many chunks there are. */
  readonly total?: boolean;
  /** Records of a chunk, by the request's JSON body; text is why the request is refused. */
  size(body: Readonly<Record<string, unknown>>): number | string;
  /** What the same export asked for while it runs does: 409 with the running one, or the old one is cancelled. */
  readonly twice: 'refused' | 'cancels';
  /** Body of the last chunk, which holds no records; without it there is none such. */
  readonly emptyChunk?: '[]' | 'null';
  status(job: JobStatus): object;
}

/** An export: asked for, polled, fetched in chunks that become available out of order. Three routes. */
export function exportJob(options: JobOptions): readonly Route[] {
  const { path, home = path, resource, total = false } = options;
  const all = (scale: number) => options.records(scale);
  const chunk: Paging = {
    kind: 'job-chunk',
    page: ({ params }) => Number(params.chunk),
    answer: (ask) => chunkReply(options, ask),
  };
  return [
    { path, method: 'POST', resource, leads: true, paging: single('job-start', (ask) => startJob(options, ask)) },
    {
      path: `${home}/{job}/status`,
      resource,
      total,
      leads: true,
      records: all,
      paging: single('job-status', (ask) => statusReply(options, ask)),
    },
    { path: `${home}/{job}/chunks/{chunk}`, resource, records: all, paging: chunk },
  ];
}

function startJob({ path, size, twice }: JobOptions, { request, session }: Ask): Reply {
  let body: unknown;
  try {
    body = JSON.parse(request.body);
  } catch {
    return session.fail(415, 'a JSON body is mandatory');
  }
  const asked = size((body ?? {}) as Readonly<Record<string, unknown>>);
  if (typeof asked === 'string') return session.fail(400, asked);
  const running = [...session.jobs.values()].find(
    (job) => job.path === path && /^(QUEUED|PROCESSING)$/.test(job.state),
  );
  if (running !== undefined && twice === 'refused') {
    return {
      status: 409,
      body: JSON.stringify({ active_job_id: running.id, failure_reason: 'The same export is already running' }),
    };
  }
  if (running !== undefined) running.state = 'CANCELLED';
  const id = `e0${String(session.serial()).padStart(6, '0')}-0000-4000-a000-000000000000`;
  const job: Job = { id, path, size: Math.min(asked, session.pageSize), polls: 0, state: 'QUEUED', fault: undefined };
  session.jobs.set(id, job);
  return { status: 200, body: JSON.stringify({ export_uuid: id }) };
}

function jobOf(options: JobOptions, { request, session }: Ask): Job | undefined {
  const job = session.jobs.get(request.params.job ?? '');
  return job?.path === options.path ? job : undefined;
}

function chunksOf(options: JobOptions, records: Records, job: Job): { readonly full: number; readonly all: number } {
  const full = Math.ceil(records.count / job.size);
  return { full, all: full + (options.emptyChunk === undefined ? 0 : 1) };
}

/** Queued, then working with half the chunks there, then finished. */
function statusReply(options: JobOptions, ask: Ask): Reply {
  const job = jobOf(options, ask);
  if (job === undefined) return ask.session.fail(404, 'no such export');
  if (ask.fault?.name === 'job-error' || ask.fault?.name === 'chunk-failed' || ask.fault?.name === 'dropped-page')
    job.fault = ask.fault;
  job.polls += 1;
  if (job.fault?.name === 'job-error') job.state = 'ERROR';
  else if (job.state !== 'CANCELLED')
    job.state = job.polls === 1 ? 'QUEUED' : job.polls === 2 ? 'PROCESSING' : 'FINISHED';
  const name = ask.fault?.name;
  const { all, full } = chunksOf(options, ask.records, job);
  const order = span(1, all + 1).sort((one, other) => (one % 2) - (other % 2) || other - one);
  const lost = job.fault?.name === 'chunk-failed' || job.fault?.name === 'dropped-page' ? pageOf(job.fault) : 0;
  const there = { QUEUED: 0, PROCESSING: Math.ceil(all / 2), FINISHED: all, CANCELLED: 0, ERROR: 0 }[job.state];
  const available = name === 'empty-list' ? [] : order.slice(0, there).filter((id) => id !== lost);
  const failed = job.fault?.name === 'chunk-failed' && job.state === 'FINISHED' ? [lost] : [];
  const total = name === 'empty-list' ? 0 : all + (name === 'wrong-total' ? 7 : 0);
  const status = options.status({ ...job, available, failed, total, empty: name === 'empty-list' ? 0 : all - full });
  return { status: 200, body: JSON.stringify(status) };
}

function chunkReply(options: JobOptions, ask: Ask): Reply {
  const { fault, session, records, request } = ask;
  const job = jobOf(options, ask);
  const id = Number(request.params.chunk);
  if (job !== undefined && fault?.name === 'expired-cursor') session.jobs.delete(job.id);
  if (job === undefined || fault?.name === 'expired-cursor' || fault?.name === 'chunk-404')
    return session.fail(404, 'no such chunk');
  const { full, all } = chunksOf(options, records, job);
  if (job.polls < 2 || !(id >= 1 && id <= all)) return session.fail(404, 'no such chunk');
  if (id > full) return { status: 200, body: options.emptyChunk ?? '[]' };
  const start = (fault?.name === 'repeated-page' ? id - 2 : id - 1) * job.size;
  return { status: 200, body: arrayOf(records, span(start, Math.min(start + job.size, records.count)), fault) };
}
