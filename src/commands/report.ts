import { rename, rm, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { CollectError, ConfigError } from '../errors.ts';
import { readDetections } from '../report/detected.ts';
import { pageOf, type ReportFacts } from '../report/page.ts';
import { activate, type Plan, type PlannedDataset, programOf } from '../run/activate.ts';
import { openCoordination } from '../run/coordination.ts';
import { patternsOf, selects } from '../run/select.ts';
import { version } from '../version.ts';
import { openSession, type Session, type SessionFlags } from './session.ts';
import { readStandings } from './status.ts';

/** Flags of `report`. */
export interface ReportFlags extends SessionFlags {
  readonly only: readonly string[];
  readonly exclude: readonly string[];
  /** Seconds from which on a dataset is too old. */
  readonly maxAge?: number;
  /** Where the page goes; stdout unless told. */
  readonly html?: string;
}

/** Makes one HTML page of what the run records tell; returns the exit code. */
export async function report(flags: ReportFlags, given?: Session): Promise<number> {
  const session = given ?? (await openSession({ ...flags, only: [] }));
  session.progress.stop();
  const now = new Date();
  const standings = await readStandings(session, flags, now);
  const detected = await detections(session, flags.tenancy);
  if (standings.length === 0 && detected.length === 0) {
    session.log('WARNING', 'report.nothing', 'no run is recorded in the state folder, so there is nothing to report');
    return 5;
  }
  const facts: ReportFacts = {
    at: now.toISOString(),
    version: version(),
    standings,
    maxAge: flags.maxAge,
    detected,
    ...planned(session, flags, now),
  };
  const redacted = JSON.parse(session.redactor.redact(JSON.stringify(facts))) as ReportFacts;
  const page = pageOf(redacted);
  if (flags.html === undefined) session.print(page);
  else session.log('INFO', 'report.written', `${await write(flags.html, page)} is written`);
  return 0;
}

async function detections({ environment }: Session, tenancy: string | undefined): Promise<ReportFacts['detected']> {
  const { state, close } = await openCoordination(environment, programOf(environment, []));
  try {
    return await readDetections(state, tenancy);
  } finally {
    close();
  }
}

/** What is switched on now, and what is wrong with that. */
function planned(
  { environment, rooms }: Session,
  flags: ReportFlags,
  now: Date,
): Pick<ReportFacts, 'configured' | 'problems'> {
  try {
    const plan = activate(environment, rooms, { only: [], exclude: [], tenancy: flags.tenancy }, now);
    return {
      configured: plan.collectors.length === 0 ? undefined : configuredOf(plan, flags),
      problems: plan.problems,
    };
  } catch (thrown) {
    if (!(thrown instanceof ConfigError)) throw thrown;
    return { configured: undefined, problems: thrown.problems };
  }
}

function configuredOf({ tenancy, collectors, stores }: Plan, flags: ReportFlags): ReportFacts['configured'] {
  const [only, exclude] = [patternsOf(flags.only), patternsOf(flags.exclude)];
  const datasets = collectors.flatMap((active) => active.datasets.filter(({ stored }) => stored));
  const isNamed = (patterns: readonly string[], { collector, resource }: PlannedDataset) =>
    patterns.some((pattern) => selects(pattern, collector, resource));
  const chosen = datasets.filter((one) => (only.length === 0 || isNamed(only, one)) && !isNamed(exclude, one));
  const tagsOf = (of: readonly PlannedDataset[]) => of.map(({ tag }) => tag);
  return { tenancy, tags: tagsOf(datasets), chosen: tagsOf(chosen), stores: stores.map(({ store }) => store.name) };
}

/** @throws {CollectError} config for a place that cannot be written */
async function write(file: string, page: string): Promise<string> {
  const path = resolve(file);
  try {
    await writeFile(`${path}.tmp`, page, { mode: 0o600 });
    await rename(`${path}.tmp`, path);
  } catch (cause) {
    await rm(`${path}.tmp`, { force: true });
    const code = (cause as NodeJS.ErrnoException).code;
    throw new CollectError('config', `${path} cannot be written (${code})`, { mend: 'name another file with --html' });
  }
  return path;
}
