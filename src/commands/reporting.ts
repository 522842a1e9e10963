import { randomUUID } from 'node:crypto';
import { appendFile } from 'node:fs/promises';
import type { programShape } from '../config/program.ts';
import type { Values } from '../config/setting.ts';
import { timestampOf } from '../envelope/metadata.ts';
import { asCollectError } from '../errors.ts';
import { annotations, stepSummary } from '../report/actions.ts';
import { headline, type News } from '../report/news.ts';
import { openNotify } from '../report/notify.ts';
import { metricsOf, writeMetrics } from '../report/prometheus.ts';
import { type Change, changeOf, keepStanding, readStanding, type Standing, standingAfter } from '../report/standing.ts';
import { openTelemetry } from '../report/telemetry.ts';
import type { Span } from '../report/trace.ts';
import { metricsFile, type Plan, programOf } from '../run/activate.ts';
import { dispatcherOf } from '../run/client.ts';
import { openCoordination } from '../run/coordination.ts';
import type { State } from '../run/state.ts';
import type { RunSummary } from '../run/summary.ts';
import { version } from '../version.ts';
import { exitCodeOf, problemsOf } from './fail.ts';
import type { Session } from './session.ts';

/** Tells everyone who is to know of runs; what it cannot tell is a warning, never a fault. */
export interface Reporting {
  started(plan: Begun): void;
  /** Carries out a run, for whoever follows where it spends its time. */
  follow(work: (span: Span) => Promise<RunSummary>): Promise<RunSummary>;
  /**
   * A run has ended; `aloud` also tells those who are called by it. Metrics are of `together`, where this run was of a
   * part of what is collected again and again.
   */
  finished(summary: RunSummary, aloud: boolean, together?: RunSummary): Promise<void>;
  close(): Promise<void>;
}

/** What is told of at the start. */
export interface Begun extends Pick<Plan, 'tenancy' | 'at'> {
  readonly collectors: readonly { readonly collector: { readonly name: string } }[];
}

/** What telling needs. */
export interface ReportingMeans {
  readonly session: Session;
  readonly program: Values<typeof programShape>;
  readonly tenancy: string;
  /** Undefined where it cannot be had: nothing is known of earlier runs then. */
  readonly state: State | undefined;
}

/**
 * Opens whatever is configured to be told of runs.
 * @throws {CollectError} config where a package that this needs is not installed
 */
export async function openReporting({ session, program, tenancy, state }: ReportingMeans): Promise<Reporting> {
  const { log, redactor } = session;
  const dispatcher = dispatcherOf(program);
  const notify = await openNotify({ program, redactor, log, dispatcher });
  const telemetry = await openTelemetry({ program, version: version(), redactor, log });
  let standing = state === undefined ? { datasets: {}, wrong: {} } : await readStanding(state, tenancy);
  let telling: Promise<unknown> = Promise.resolve();
  return {
    started(plan) {
      const collectors = plan.collectors.map(({ collector }) => collector.name);
      const at = timestampOf(plan.at);
      const news: News = { event: 'run.started', tenancy: plan.tenancy, version: version(), at, collectors };
      log('INFO', 'run.started', headline(news), { tenancy: plan.tenancy, collectors });
      telling = notify(news);
    },
    async follow(work) {
      const span = telemetry.begin('run', { tenancy });
      const summary = await work(span);
      const { run_id, exit_code } = summary;
      span.end({ run_id, exit_code }, exit_code === 0 ? undefined : `exit code ${exit_code}`);
      return summary;
    },
    async finished(summary, aloud, together = summary) {
      const change = changeOf(standing, summary);
      standing = standingAfter(standing, summary);
      await keepMetrics(session, program, together, standing);
      const recorded = telemetry.record(summary, standing);
      const news: News = { event: 'run.finished', summary, change };
      if (!aloud) return void (await Promise.all([recorded, notify(news, true)]));
      log(summary.exit_code === 0 ? 'INFO' : 'WARNING', 'run.finished', headline(news), countsOf(summary));
      await telling; // who is told of the end has been told of the start
      await Promise.all([recorded, notify(news), tellActions(session, summary, change)]);
    },
    async close() {
      await Promise.all([telling, telemetry.close()]);
      await dispatcher.destroy();
    },
  };
}

function countsOf({ run_id, tenancy, exit_code, datasets, started_at, finished_at }: RunSummary) {
  return {
    run_id,
    tenancy,
    exit_code,
    complete: datasets.filter(({ verdict }) => verdict === 'complete' || verdict === 'empty').length,
    datasets: datasets.length,
    records: datasets.reduce((sum, { records }) => sum + records, 0),
    duration_ms: Date.parse(finished_at) - Date.parse(started_at),
  };
}

/** The file that Prometheus' textfile collector reads. */
async function keepMetrics(
  { log, redactor }: Session,
  program: ReportingMeans['program'],
  summary: RunSummary,
  standing: Standing,
): Promise<void> {
  try {
    const path = metricsFile(program, summary.tenancy, new Date(summary.started_at));
    if (path !== undefined) await writeMetrics(path, redactor.redact(metricsOf(summary, standing)));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    log('WARNING', 'telemetry.failed', `CYBER_COLLECT_PROMETHEUS_FILE was not written: ${code ?? message}`);
  }
}

/** The page and the notes of a job of GitHub Actions. */
async function tellActions({ environment, redactor, log }: Session, summary: RunSummary, change: Change) {
  if (environment.get('GITHUB_ACTIONS')?.value !== 'true') return;
  for (const line of annotations(summary, change)) process.stderr.write(`${redactor.redact(line)}\n`);
  const page = environment.get('GITHUB_STEP_SUMMARY')?.value ?? '';
  if (page === '') return;
  await appendFile(page, redactor.redact(stepSummary(summary, change))).catch((error: NodeJS.ErrnoException) => {
    log('WARNING', 'notify.failed', `the job's summary was not written: ${error.code}`);
  });
}

/** Tells of a run that did not come to its end: why is one or more problems. */
export async function reportBroken(session: Session, wanted: string | undefined, thrown: unknown): Promise<void> {
  const { environment, log } = session;
  const program = programOf(environment, []);
  const tenancy = wanted ?? program.TENANCY;
  const error = asCollectError(thrown);
  const at = timestampOf(new Date());
  const summary: RunSummary = {
    run_id: randomUUID(),
    version: version(),
    tenancy,
    started_at: at,
    finished_at: at,
    exit_code: exitCodeOf(error),
    datasets: [],
    stores: [],
    problems: problemsOf(error),
  };
  try {
    const coordination = await openCoordination(environment, program).catch(() => undefined);
    const reporting = await openReporting({ session, program, tenancy, state: coordination?.state });
    await reporting.finished(summary, true);
    if (coordination !== undefined) await keepStanding(coordination.state, summary).catch(() => undefined);
    await reporting.close();
    coordination?.close();
  } catch (fault) {
    log('WARNING', 'notify.failed', `nobody was told: ${asCollectError(fault).message}`);
  }
}
