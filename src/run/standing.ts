import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type DatasetHistory, type RunFacts, readHistory, type Unreadable } from '../report/history.ts';
import { type Backlog, backlogOf } from './outbox.ts';
import { selects } from './select.ts';
import type { State } from './state.ts';
import { readBaseline } from './verify.ts';

/** How a dataset stands. */
export interface DatasetStanding extends DatasetHistory {
  /** Seconds since the run that brought the last good upload began; undefined where there was none. */
  readonly age_s: number | undefined;
}

/** How a tenancy stands. */
export interface Standing {
  readonly tenancy: string;
  /** Run records that were read. */
  readonly runs: number;
  /** Whether older ones were left aside. */
  readonly older: boolean;
  readonly last: RunFacts | undefined;
  readonly datasets: readonly DatasetStanding[];
  /** Stores for which something waits. */
  readonly stores: readonly Backlog[];
  readonly unreadable: readonly Unreadable[];
}

/** The tenancies of which the state folder knows, by name. */
export async function tenanciesIn(state: State): Promise<readonly string[]> {
  const names = await Promise.all(['runs', 'outbox'].map((part) => foldersIn(join(state.folder, part))));
  return [...new Set(names.flat())].sort();
}

async function foldersIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

/** How a tenancy stands at a moment, by its run records, baselines and outbox; files that are damaged are named. */
export async function standingOf(state: State, tenancy: string, now: Date): Promise<Standing> {
  const { datasets, unreadable, ...history } = await readHistory(state, tenancy);
  const backlog = await backlogOf(state, tenancy);
  const damaged: Unreadable[] = [...unreadable, ...backlog.unreadable];
  const standings: DatasetStanding[] = [];
  for (const dataset of datasets) {
    const baseline = await readBaseline(state, tenancy, dataset.tag).catch((error: Error) => {
      damaged.push({ path: join(state.folder, 'baselines', tenancy, `${dataset.tag}.json`), finding: error.message });
      return undefined;
    });
    const goodAt = [dataset.goodAt, baseline?.timestamp].filter(isMoment).sort().at(-1);
    const age_s = goodAt === undefined ? undefined : Math.round((now.getTime() - Date.parse(goodAt)) / 1000);
    standings.push({ ...dataset, goodAt, age_s });
  }
  return { tenancy, ...history, datasets: standings, stores: backlog.stores, unreadable: damaged };
}

function isMoment(text: string | undefined): text is string {
  return text !== undefined && !Number.isNaN(Date.parse(text));
}

/** The datasets of a standing that patterns choose, as `--only` and `--exclude` do. */
export function chosenOf(standing: Standing, only: readonly string[], exclude: readonly string[]): Standing {
  const named = (patterns: readonly string[], { collector, resource }: DatasetStanding) =>
    patterns.some((pattern) => selects(pattern, collector, resource));
  const datasets = standing.datasets.filter(
    (dataset) => (only.length === 0 || named(only, dataset)) && !named(exclude, dataset),
  );
  return { ...standing, datasets };
}
