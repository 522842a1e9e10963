import { CollectError, ConfigError, configProblem } from '../errors.ts';
import { driftText } from '../report/drift.ts';
import { printable } from '../report/log.ts';
import { sparkline } from '../report/sparkline.ts';
import { ageOf, type Output, table } from '../report/tables.ts';
import { programOf } from '../run/activate.ts';
import { openCoordination } from '../run/coordination.ts';
import { patternsOf } from '../run/select.ts';
import { chosenOf, type DatasetStanding, type Standing, standingOf, tenanciesIn } from '../run/standing.ts';
import type { State } from '../run/state.ts';
import { openSession, type Session, type SessionFlags } from './session.ts';

/** Flags of `status`. */
export interface StatusFlags extends SessionFlags {
  readonly only: readonly string[];
  readonly exclude: readonly string[];
  /** Seconds from which on a dataset is too old. */
  readonly maxAge?: number;
  readonly output: Output;
}

/** Tells how fresh every dataset is, what is wrong since when, and what waits for stores; returns the exit code. */
export async function status(flags: StatusFlags, given?: Session): Promise<number> {
  const session = given ?? (await openSession({ ...flags, only: [] }));
  session.progress.stop();
  const now = new Date();
  const standings = await readStandings(session, flags, now);
  const late = standings.flatMap(({ tenancy, datasets }) =>
    datasets.filter((dataset) => isLate(dataset, flags.maxAge)).map((dataset) => ({ tenancy, dataset })),
  );
  if (flags.output === 'json') session.print(JSON.stringify(shownOf(standings, flags.maxAge, now)));
  else if (standings.length > 0) session.print(printed(standings, flags));
  for (const { path, finding } of standings.flatMap(({ unreadable }) => unreadable))
    session.log('WARNING', 'status.unreadable', `${path} ${finding}`, { path });
  for (const { tenancy, dataset } of late) {
    const age = dataset.age_s === undefined ? 'has no good upload' : `is ${ageOf(dataset.age_s)} old`;
    session.log('ERROR', 'status.late', `${tenancy}: ${dataset.tag} ${age}`, { tenancy, tag: dataset.tag });
  }
  if (standings.length === 0) session.log('WARNING', 'status.nothing', 'no run is recorded in the state folder');
  return late.length > 0 ? 3 : standings.length === 0 ? 5 : 0;
}

/**
 * How the tenancies stand, all or the one that is named, in the datasets that are chosen.
 * @throws {CollectError | ConfigError} for a tenancy or a name of which nothing is recorded
 */
export async function readStandings(
  { environment }: Session,
  flags: Pick<StatusFlags, 'tenancy' | 'only' | 'exclude'>,
  now: Date,
): Promise<readonly Standing[]> {
  const { state, close } = await openCoordination(environment, programOf(environment, []));
  try {
    const tenancies = await namedTenancies(state, flags.tenancy);
    const [only, exclude] = [patternsOf(flags.only), patternsOf(flags.exclude)];
    const all: Standing[] = [];
    for (const tenancy of tenancies) all.push(await standingOf(state, tenancy, now));
    const nothing = only.filter((pattern) => all.every((one) => chosenOf(one, [pattern], []).datasets.length === 0));
    if (nothing.length > 0) {
      const problem = (name: string) =>
        configProblem('--only', `no run of '${name}' is recorded`, 'see cyber-collect status', 'Unknown name');
      throw new ConfigError(nothing.map(problem));
    }
    return all.map((one) => chosenOf(one, only, exclude));
  } finally {
    close();
  }
}

async function namedTenancies(state: State, named: string | undefined): Promise<readonly string[]> {
  const known = await tenanciesIn(state);
  if (named === undefined) return known;
  if (known.includes(named)) return [named];
  throw new CollectError('config', `no run of tenancy ${named} is recorded in ${state.folder}`, {
    mend: known.length === 0 ? 'run it first' : `name one of ${known.slice(0, 10).join(', ')}`,
  });
}

function isLate({ age_s }: DatasetStanding, maxAge: number | undefined): boolean {
  return maxAge !== undefined && (age_s === undefined || age_s > maxAge);
}

function shownOf(standings: readonly Standing[], maxAge: number | undefined, now: Date) {
  return {
    at: now.toISOString(),
    ...(maxAge === undefined ? {} : { max_age_s: maxAge }),
    tenancies: standings.map(({ tenancy, runs, last, datasets, stores, unreadable }) => ({
      tenancy,
      runs,
      ...(last === undefined ? {} : { last_run: lastOf(last) }),
      datasets: datasets.map((dataset) => shownDataset(dataset, maxAge)),
      stores,
      unreadable,
    })),
  };
}

function lastOf({ run_id, started_at, finished_at, exit_code }: NonNullable<Standing['last']>) {
  return { run_id, started_at, finished_at, exit_code };
}

function shownDataset(dataset: DatasetStanding, maxAge: number | undefined) {
  const { tag, collector, resource, goodAt, age_s, wrongSince, title, reason, mend, moments, drifts, stores } = dataset;
  const last = moments.at(-1);
  const [drift] = drifts;
  const facts = { good_at: goodAt, age_s, wrong_since: wrongSince, title, reason, mend };
  return {
    tag,
    collector,
    resource,
    verdict: last?.verdict ?? '',
    records: last?.records ?? 0,
    run_at: last?.at ?? '',
    ...Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined)),
    ...(maxAge === undefined ? {} : { late: isLate(dataset, maxAge) }),
    failing: stores.filter(({ error }) => error !== undefined).map(({ store, error }) => ({ store, error })),
    counts: moments.map(({ at, verdict, records }) => ({ at, verdict, records })),
    ...(drift === undefined ? {} : { drift: { at: drift.at, ...drift.drift } }),
  };
}

const TREND = 16;

function printed(standings: readonly Standing[], { maxAge, output }: StatusFlags): string {
  const format = output === 'markdown' ? 'markdown' : 'table';
  const rows = standings.flatMap(({ tenancy, datasets }) =>
    datasets.map((dataset) => {
      const { tag, age_s, moments } = dataset;
      const last = moments.at(-1);
      const age = age_s === undefined ? 'never' : ageOf(age_s);
      const trend = sparkline(moments.slice(-TREND).map(countOf));
      const late = isLate(dataset, maxAge) ? ' (too old)' : '';
      return [tenancy, tag, last?.verdict ?? '', `${age}${late}`, String(last?.records ?? 0), trend];
    }),
  );
  const behind = standings.flatMap(({ tenancy, stores }) =>
    stores.map(({ store, uploads, bytes, oldest }) => [
      tenancy,
      store,
      String(uploads),
      `${(bytes / 2 ** 20).toFixed(1)} MiB`,
      oldest,
    ]),
  );
  const findings = standings.flatMap(findingsOf);
  return [
    table(['TENANCY', 'DATASET', 'VERDICT', 'LAST GOOD', 'RECORDS', 'TREND'], rows, format),
    ...(behind.length === 0 ? [] : ['', table(['TENANCY', 'BEHIND', 'UPLOADS', 'SIZE', 'SINCE'], behind, format)]),
    ...(findings.length === 0 ? [] : ['', ...findings]),
  ].join('\n');
}

/** Undefined for a run that did not bring it whole. */
function countOf({ verdict, records }: DatasetStanding['moments'][number]): number | undefined {
  return verdict === 'complete' || verdict === 'empty' ? records : undefined;
}

/** What is wrong, and what changed, a line each. */
function findingsOf({ tenancy, datasets, older }: Standing): readonly string[] {
  const lines = datasets.flatMap(({ tag, wrongSince, moments, title, reason, mend, stores, drifts, right }) => {
    const where = `${tenancy}: ${tag}`;
    const oldest = older && !right ? ' or before' : '';
    const mended = (what: string | undefined) => (what === undefined ? '' : `. To mend: ${what}`);
    const why = reason === undefined ? [] : [`${title ?? 'Failed'}: ${reason}${mended(mend)}`];
    const failing = stores.flatMap((one) =>
      one.error === undefined ? [] : [`Storage failed: ${one.store}: ${one.error}${mended(one.mend)}`],
    );
    const wrong =
      wrongSince === undefined ? [] : [`${where}: since ${wrongSince}${oldest}: ${[...why, ...failing].join('; ')}.`];
    const drift = drifts[0]?.at === moments.at(-1)?.at ? drifts[0] : undefined;
    return [...wrong, ...(drift === undefined ? [] : [`${where}: fields changed: ${driftText(drift.drift)}.`])];
  });
  return lines.map(printable);
}
