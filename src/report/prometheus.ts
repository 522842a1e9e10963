import { chmod, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Delivery } from '../run/deliver.ts';
import type { DatasetResult, DatasetVerdict, RunSummary } from '../run/summary.ts';
import type { DatasetStanding, Standing } from './standing.ts';
import { wrongIn } from './wrong.ts';

type Labels = Readonly<Record<string, string>>;
type Sample = readonly [Labels, number | undefined];

const VERDICTS: readonly DatasetVerdict[] = ['complete', 'empty', 'failed', 'denied', 'restored', 'quarantined'];

/** A name, what it means, and its values. */
type Family = readonly [string, string, readonly Sample[]];

/**
 * A run for Prometheus' textfile collector: https://github.com/prometheus/node_exporter#textfile-collector. What is of
 * one run is a gauge, since each run counts from nothing. Datasets that this run was not asked for keep their times.
 */
export function metricsOf(summary: RunSummary, standing: Standing): string {
  const families = [...ofRun(summary), ...ofDatasets(summary), ...ofTimes(summary, standing), ...ofStores(summary)];
  return families.map(([name, help, samples]) => family(`cyber_collect_${name}`, help, samples)).join('');
}

function ofRun(summary: RunSummary): readonly Family[] {
  const { tenancy, version, started_at, finished_at, exit_code } = summary;
  const [started, finished] = [secondsOf(started_at), secondsOf(finished_at)];
  const one = (value: number): readonly Sample[] => [[{ tenancy }, value]];
  return [
    ['info', 'The version that ran', [[{ tenancy, version }, 1]]],
    ['run_exit_code', 'Exit code of the last run; 0 is complete', one(exit_code)],
    ['run_start_timestamp_seconds', 'When the last run began', one(started)],
    ['run_end_timestamp_seconds', 'When the last run ended', one(finished)],
    ['run_duration_seconds', 'How long the last run took', one(finished - started)],
    ['run_wrong', 'How many things are wrong behind the last run', one(wrongIn(summary).length)],
  ];
}

function ofDatasets({ tenancy, datasets }: RunSummary): readonly Family[] {
  const each = (value: (dataset: DatasetResult) => number | undefined): readonly Sample[] =>
    datasets.map((dataset) => [labelsOf(tenancy, dataset.tag, dataset), value(dataset)]);
  const verdicts = datasets.flatMap((dataset) =>
    VERDICTS.map((verdict): Sample => {
      const labels = labelsOf(tenancy, dataset.tag, dataset);
      return [{ ...labels, verdict }, Number(dataset.verdict === verdict)];
    }),
  );
  return [
    ['dataset_verdict', 'Whether the dataset ended so in the last run', verdicts],
    ['dataset_records', 'Records that the last run brought', each(({ records }) => records)],
    ['dataset_expected_records', 'Records that the vendor declared', each(({ expected }) => expected)],
    ['dataset_left_out_records', 'Records that the settings left out', each(({ left_out }) => left_out)],
    ['dataset_lag_bytes', 'Bytes written behind what was read', each(({ lag }) => lag?.bytes)],
    ['dataset_lag_lines', 'Lines written behind what was read', each(({ lag }) => lag?.lines)],
    ['dataset_lag_seconds', 'From the last reading to the newest line', each(({ lag }) => lag?.seconds)],
    ['dataset_pages', 'Pages that the last run read', each(({ pages }) => pages)],
    ['dataset_requests', 'Requests that the last run sent', each(({ requests }) => requests)],
    ['dataset_retries', 'Requests that the last run sent again', each(({ retries }) => retries)],
    ['dataset_received_bytes', 'Bytes that the vendor sent', each(({ bytes }) => bytes)],
    ['dataset_waited_seconds', 'Spent waiting for limits or between tries', each(({ waited_ms }) => waited_ms / 1000)],
    ['dataset_duration_seconds', 'How long the dataset took', each(({ duration_ms }) => duration_ms / 1000)],
    ['dataset_restored_age_seconds', 'Age of the copy that stands in', each(({ age_s }) => age_s)],
  ];
}

/** Of every dataset that is still asked for, by whichever runs. */
function ofTimes({ tenancy }: RunSummary, standing: Standing): readonly Family[] {
  const each = (value: (one: DatasetStanding) => string | undefined): readonly Sample[] =>
    Object.entries(standing.datasets).map(([tag, one]) => {
      const at = value(one);
      return [labelsOf(tenancy, tag, one), at === undefined ? undefined : secondsOf(at)];
    });
  const success = each((one) => one.success);
  const asked = each((one) => one.asked);
  return [
    ['dataset_last_success_timestamp_seconds', 'Start of the last run that brought the dataset whole', success],
    ['dataset_last_run_timestamp_seconds', 'Start of the last run that was asked for the dataset', asked],
  ];
}

function ofStores({ tenancy, datasets, stores }: RunSummary): readonly Family[] {
  const waiting = stores.map(({ store, uploads }): Sample => [{ tenancy, store }, uploads]);
  const failed = stores.map(({ store }): Sample => {
    const isFailed = (delivery: Delivery) => delivery.store === store && delivery.error !== undefined;
    return [{ tenancy, store }, datasets.filter((dataset) => dataset.stores.some(isFailed)).length];
  });
  return [
    ['store_outbox_uploads', 'Uploads that wait for the store', waiting],
    ['store_failed_datasets', 'Datasets that the store did not take in the last run', failed],
  ];
}

function labelsOf(
  tenancy: string,
  dataset: string,
  { collector, resource }: { readonly collector: string; readonly resource: string },
): Labels {
  return { tenancy, collector, resource, dataset };
}

function family(name: string, help: string, samples: readonly Sample[]): string {
  const lines = samples.flatMap(([labels, value]) => {
    const pairs = Object.entries(labels).map(([key, text]) => `${key}="${escaped(text)}"`);
    return value === undefined ? [] : [`${name}{${pairs.join(',')}} ${value}\n`];
  });
  return lines.length === 0 ? '' : `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${lines.join('')}`;
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function secondsOf(timestamp: string): number {
  return Date.parse(timestamp) / 1000;
}

/** Replaces a file of metrics whole, so that whoever reads it finds the old or the new one; everyone may read it. */
export async function writeMetrics(path: string, text: string): Promise<void> {
  // The collector of textfiles passes over what does not end in .prom.
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  try {
    await writeFile(temporary, text);
    await chmod(temporary, 0o644);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
