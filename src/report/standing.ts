import type { State } from '../run/state.ts';
import type { RunSummary } from '../run/summary.ts';
import { type Wrong, wrongIn } from './wrong.ts';

/** What the runs of a tenancy have come to: how each dataset is, and since when what is wrong has been so. */
export interface Standing {
  readonly datasets: Readonly<Record<string, DatasetStanding>>;
  /** Since when, ISO 8601, by what `wrongIn` calls it. */
  readonly wrong: Readonly<Record<string, string>>;
}

/** How a dataset is. */
export interface DatasetStanding {
  readonly collector: string;
  readonly resource: string;
  /** Start of the last run that was asked for it. */
  readonly asked: string;
  /** Start of the last run that brought it whole. */
  readonly success?: string;
}

const NONE: Standing = { datasets: {}, wrong: {} };

/** How a tenancy stands; nothing is known where no run is recorded, or its file is no longer readable. */
export async function readStanding(state: State, tenancy: string): Promise<Standing> {
  const found = await state.read<Standing>('standing', `${tenancy}.json`).catch(() => undefined);
  return { ...NONE, ...found };
}

/** Keeps how a tenancy stands behind a run. Only one may do so at a time. */
export async function keepStanding(state: State, summary: RunSummary): Promise<void> {
  const after = standingAfter(await readStanding(state, summary.tenancy), summary);
  await state.write(after, 'standing', `${summary.tenancy}.json`);
}

/** Datasets that no run was asked for in so long are no longer anyone's. */
const KEPT = 30 * 86_400_000;

/** How a tenancy stands behind a run. What the run did not touch stays as it was: other runs may be of other datasets. */
export function standingAfter(before: Standing, summary: RunSummary): Standing {
  const at = summary.started_at;
  const found = wrongIn(summary);
  const touched = new Set([...summary.datasets.map(({ tag }) => tag), ...summary.stores.map(({ store }) => store)]);
  const left = Object.entries(before.wrong).filter(([key]) => {
    const [kind = '', of = ''] = key.split(' ');
    return (kind === 'dataset' || kind === 'store') && !touched.has(of);
  });
  const datasets = Object.fromEntries([
    ...Object.entries(before.datasets).filter(([, { asked }]) => Date.parse(at) - Date.parse(asked) < KEPT),
    ...summary.datasets.map(({ tag, collector, resource, verdict }) => {
      const whole = verdict === 'complete' || verdict === 'empty';
      const success = whole ? at : before.datasets[tag]?.success;
      return [tag, { collector, resource, asked: at, ...(success === undefined ? {} : { success }) }] as const;
    }),
  ]);
  const kept = left.filter(([key]) => key.startsWith('store ') || (key.split(' ')[1] ?? '') in datasets);
  return {
    datasets,
    wrong: Object.fromEntries([...kept, ...found.map(({ key }) => [key, before.wrong[key] ?? at])]),
  };
}

/** What is wrong behind a run, against what was so before. */
export interface Change {
  readonly wrong: readonly (Wrong & { readonly since: string })[];
  /** What no longer is. */
  readonly mended: readonly { readonly what: string; readonly since: string }[];
  /** Whether what is wrong is not what was wrong. */
  readonly changed: boolean;
}

/** Holds a run against how things stood before it. */
export function changeOf(before: Standing, summary: RunSummary): Change {
  const after = standingAfter(before, summary).wrong;
  const wrong = wrongIn(summary).map((one) => ({ ...one, since: after[one.key] ?? summary.started_at }));
  const gone = Object.entries(before.wrong).filter(([key]) => !(key in after));
  const mended = gone
    .map(([key, since]) => ({ what: whatOf(key), since }))
    .filter(({ what }) => !wrong.some((one) => one.what === what));
  return { wrong, mended, changed: gone.length > 0 || wrong.some(({ key }) => !(key in before.wrong)) };
}

/** What a key of `wrongIn` is about. */
function whatOf(key: string): string {
  const [kind = '', of = ''] = key.split(' ');
  if (kind === 'dataset') return of;
  return kind === 'problem' ? key.slice('problem '.length) : kind === 'run' ? 'the run' : key;
}
