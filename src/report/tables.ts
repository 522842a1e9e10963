import type { ActiveStore, Plan, PlannedDataset } from '../run/activate.ts';
import type { DatasetResult, RunSummary } from '../run/summary.ts';
import type { Paint } from './colour.ts';
import { driftText } from './drift.ts';
import { printable, problemLine } from './log.ts';

/** A format of stdout. */
export type Output = 'table' | 'json' | 'markdown';

/** Rows under headings as aligned text, or as a Markdown table. */
export function table(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  output: 'table' | 'markdown',
): string {
  const clean = rows.map((row) => row.map((cell) => printable(cell)));
  if (output === 'markdown') {
    const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
    return [line(headings), line(headings.map(() => '---')), ...clean.map(line)].join('\n');
  }
  const widths = headings.map((heading, n) => Math.max(heading.length, ...clean.map((row) => row[n]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, n) => cell.padEnd(widths[n] ?? 0))
      .join('  ')
      .trimEnd();
  return [headings, ...clean].map(line).join('\n');
}

/** What a run would do. */
export function printPlan(plan: Plan, output: Output, paint: Paint): string {
  const rows = plan.collectors.flatMap(({ datasets }) => datasets.filter(({ stored }) => stored));
  const described = rows.map((dataset) => ({
    tag: dataset.tag,
    kind: dataset.kind,
    endpoint: endpointOf(dataset),
    needs: dataset.definition.needs ?? '',
    targets: plan.stores.flatMap((store) => targetsOf(store, plan, dataset)),
  }));
  if (output === 'json') return JSON.stringify({ tenancy: plan.tenancy, datasets: described, problems: plan.problems });
  const text = table(
    ['DATASET', 'KIND', 'ENDPOINT', 'PERMISSION', 'TARGETS'],
    described.map(({ tag, kind, endpoint, needs, targets }) => [tag, kind, endpoint, needs, targets.join(' ')]),
    output,
  );
  return [paint.bold(`Plan for tenancy ${plan.tenancy}: ${rows.length} datasets`), text].join('\n');
}

/** The endpoint of a resource. */
function endpointOf({ definition }: Pick<PlannedDataset, 'definition'>): string {
  return `${definition.method ?? 'GET'} ${definition.path}`;
}

/** Where a store would put a dataset. */
function targetsOf(
  { store, settings }: ActiveStore,
  plan: Plan,
  { tag, kind, uploadId }: PlannedDataset,
): readonly string[] {
  return store.targets(settings, kind, { uuid: uploadId, tag, tenancy: plan.tenancy, at: plan.at }) ?? [];
}

/** How a run ended: one line a dataset, then what failed and how to mend it. */
export function printSummary(summary: RunSummary, output: Output, paint: Paint): string {
  if (output === 'json') return JSON.stringify(summary);
  const rows = summary.datasets.map((dataset) => [
    dataset.tag,
    dataset.cause === undefined ? dataset.verdict : `${dataset.verdict} (${dataset.cause})`,
    recordsOf(dataset),
    String(dataset.requests) + (dataset.retries === 0 ? '' : ` (${dataset.retries} again)`),
    `${(dataset.duration_ms / 1000).toFixed(1)} s`,
    dataset.stores.map(({ store, error }) => (error === undefined ? store : `${store} FAILED`)).join(', '),
  ]);
  const findings = summary.datasets.flatMap(findingsOf);
  const problems = summary.problems.map(problemLine);
  const good = summary.datasets.filter(({ verdict }) => verdict === 'complete' || verdict === 'empty').length;
  const last = `${good} of ${summary.datasets.length} datasets complete, exit code ${summary.exit_code}`;
  return [
    table(['DATASET', 'VERDICT', 'RECORDS', 'REQUESTS', 'TIME', 'STORES'], rows, output),
    ...(findings.length + problems.length > 0
      ? ['', ...[...findings, ...problems].map((line) => paint.red(printable(line)))]
      : []),
    ...summary.datasets.flatMap(({ tag, drift }) =>
      drift === undefined ? [] : [paint.yellow(printable(`Fields changed: ${tag}: ${driftText(drift)}.`))],
    ),
    ...summary.stores
      .filter(({ uploads }) => uploads > 0)
      .map(({ store, uploads }) => `${store} is behind by ${uploads} uploads, which wait in the outbox.`),
    ...(summary.head === undefined ? [] : ['', `Run record ${summary.head.sequence}, SHA-256 ${summary.head.sha256}`]),
    '',
    summary.exit_code === 0 ? paint.green(last) : paint.bold(last),
  ].join('\n');
}

function recordsOf({ records, expected, left_out }: DatasetResult): string {
  const declared = expected === undefined ? '' : ` of ${expected}`;
  return `${records}${declared}${left_out === undefined ? '' : `, ${left_out} left out`}`;
}

function findingsOf(dataset: DatasetResult): readonly string[] {
  const mended = (mend: string | undefined) => (mend === undefined ? '' : `. To mend: ${mend}`);
  const age = dataset.age_s === undefined ? '' : ` A copy ${ageOf(dataset.age_s)} old was restored.`;
  return [
    ...(dataset.reason === undefined
      ? []
      : [`${dataset.title}: ${dataset.tag}: ${dataset.reason}${mended(dataset.mend)}.${age}`]),
    ...dataset.stores.flatMap(({ store, error, mend }) =>
      error === undefined ? [] : [`Storage failed: ${dataset.tag}: ${store}: ${error}${mended(mend)}.`],
    ),
  ];
}

/** Seconds as people say them. */
export function ageOf(seconds: number): string {
  if (seconds < 5400) return `${Math.round(seconds / 60)} minutes`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} hours` : `${Math.round(seconds / 86_400)} days`;
}
