import type { Problem } from '../errors.ts';
import { problemLine } from '../report/log.ts';
import { printPlan } from '../report/tables.ts';
import { draft } from '../run/activate.ts';
import { preflight } from '../run/preflight.ts';
import { tellIdle } from './fail.ts';
import { notFollowed, ofAnotherTenancy, type RunFlags, withTenancy } from './run.ts';
import { openDraftSession, paintFor, type Session } from './session.ts';

/** Shows what a run would do and everything that is wrong; calls nobody and writes nothing. Returns the exit code. */
export async function planRun(said: RunFlags, given?: Session): Promise<number> {
  const own = said.tenant === undefined ? said : withTenancy(said, said.tenant);
  const opened = given === undefined ? await openDraftSession(own) : { session: given, flags: own, problems: [] };
  const { session, flags } = opened;
  const { environment, rooms, log, progress, print } = session;
  progress.stop();
  const { plan, fatal } = draft(environment, rooms, flags, new Date());
  const other = flags.tenant === undefined ? [] : ofAnotherTenancy(environment, flags.tenant);
  const found = [...opened.problems, ...other, ...fatal, ...notFollowed(plan, flags), ...plan.problems];
  const problems = onceEach([...found, ...preflight(plan)]);
  for (const problem of problems) log(problem.severity, 'config.problem', problemLine(problem));
  if (plan.collectors.length === 0 && problems.length === 0) tellIdle(log);
  // Where something forbids to run, nothing would be collected; machines find the problems in an empty plan.
  const shown = { ...plan, collectors: fatal.length === 0 ? plan.collectors : [], problems };
  if (fatal.length === 0 || flags.output === 'json')
    print(printPlan(shown, flags.output, await paintFor(environment, process.stdout)));
  if (problems.some(({ severity }) => severity !== 'WARNING')) return 2;
  return plan.collectors.length === 0 ? 5 : 0;
}

function onceEach(problems: readonly Problem[]): readonly Problem[] {
  return [...new Map(problems.map((problem) => [problemLine(problem), problem])).values()];
}
