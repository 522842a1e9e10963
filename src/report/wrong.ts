import type { Problem } from '../errors.ts';
import type { DatasetResult, RunSummary } from '../run/summary.ts';

/** One thing that is wrong, as people and machines are told of it. */
export interface Wrong {
  /** Stays the same from run to run as long as the same is wrong: `dataset okta_users denied`, `store postgres`. */
  readonly key: string;
  readonly severity: 'WARNING' | 'ERROR' | 'CRITICAL';
  /** `okta_users`, `store postgres`, or where the problem is. */
  readonly what: string;
  readonly message: string;
  readonly mend?: string;
}

/** Everything that is wrong behind a run: datasets, stores, problems, and the run where nothing else says so. */
export function wrongIn(summary: RunSummary): readonly Wrong[] {
  const found = [
    ...summary.datasets.flatMap(ofDataset),
    ...summary.stores.flatMap(({ store }) => ofStore(store, summary)),
    ...summary.problems.map(ofProblem),
  ];
  if (found.length > 0 || summary.exit_code === 0) return found;
  const idle = summary.exit_code === 5;
  const message = idle ? 'no collector is configured' : `the run ended with exit code ${summary.exit_code}`;
  const mend = idle ? 'set the variables of a product you use' : 'run again';
  return [{ key: `run ${summary.exit_code}`, severity: 'ERROR', what: 'the run', message, mend }];
}

function ofProblem({ id, severity, where, message, mend }: Problem): Wrong {
  return { key: `problem ${where} ${id}`, severity, what: where, message: `${id}: ${message}`, mend };
}

function ofDataset({ tag, verdict, cause, reason, mend, age_s }: DatasetResult): readonly Wrong[] {
  if (verdict === 'complete' || verdict === 'empty') return [];
  const age = age_s === undefined ? '' : `; a copy ${hours(age_s)} old stands in`;
  const ended = cause === undefined ? verdict : `${verdict} (${cause})`;
  return [
    {
      key: `dataset ${tag} ${cause === undefined ? verdict : `${verdict}-${cause}`}`,
      severity: 'ERROR',
      what: tag,
      message: `${ended}: ${reason ?? 'it did not come whole'}${age}`,
      ...(mend === undefined ? {} : { mend }),
    },
  ];
}

/** A store and its backup are one thing: a store that is down would else be told of once a dataset. */
function ofStore(store: string, { datasets, stores }: RunSummary): readonly Wrong[] {
  const failed = datasets
    .flatMap((dataset) => dataset.stores)
    .filter((delivery) => delivery.error !== undefined && [store, `${store} backup`].includes(delivery.store));
  const { uploads = 0, error } = stores.find((result) => result.store === store) ?? {};
  const [first] = failed;
  if (first === undefined && error === undefined && uploads === 0) return [];
  const counts = [
    ...(failed.length > 0 ? [`${failed.length} datasets were not stored`] : []),
    ...(uploads > 0 ? [`${uploads} uploads wait in the outbox`] : []),
  ];
  const why = first?.error ?? error;
  const message = [counts.join(', '), why].filter((part) => part !== undefined && part !== '').join(': ');
  const mend = first?.mend ?? 'see cyber-collect doctor; what waits is delivered by the next run or by replay';
  return [{ key: `store ${store}`, severity: 'ERROR', what: `store ${store}`, message, mend }];
}

function hours(seconds: number): string {
  return seconds < 5400 ? `${Math.round(seconds / 60)} minutes` : `${Math.round(seconds / 3600)} hours`;
}
