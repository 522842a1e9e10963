import { asCollectError, ConfigError, configProblem, type Problem } from '../errors.ts';
import { problemLine } from '../report/log.ts';
import { activate, type Plan } from '../run/activate.ts';
import type { Session } from './session.ts';

const NO_UPLOAD = '00000000-0000-4000-8000-000000000000';

/** Events that no collector of this plan brings. */
interface Brought {
  readonly tenancy: string | undefined;
  readonly tag: string;
  /** What is wrong with how they are asked for. */
  readonly problems?: readonly Problem[];
}

/**
 * Where events from elsewhere go: every store that is configured.
 * @throws {ConfigError} for what is wrong with them, or with where a store would write them
 */
export function deliveryPlan({ environment, rooms, log }: Session, { tenancy, tag, problems = [] }: Brought): Plan {
  const wanted = { only: [], exclude: [], tenancy };
  const plan = activate(environment, { ...rooms, collectors: [] }, wanted, new Date());
  for (const problem of plan.problems) log(problem.severity, 'config.problem', problemLine(problem));
  const names = { uuid: NO_UPLOAD, tag, tenancy: plan.tenancy, at: plan.at };
  const refused = plan.stores.flatMap(({ store, settings }): readonly Problem[] => {
    try {
      store.targets(settings, 'events', names);
      return [];
    } catch (thrown) {
      const { message, mend = 'correct it' } = asCollectError(thrown);
      return [configProblem(`store ${store.name}`, message, mend)];
    }
  });
  if (refused.length + problems.length > 0) throw new ConfigError([...refused, ...problems]);
  return plan;
}
