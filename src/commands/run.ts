import { CollectError } from '../errors.ts';
import { problemLine } from '../report/log.ts';
import { notifySlack } from '../report/notify.ts';
import { printPlan, printSummary } from '../report/tables.ts';
import { activate } from '../run/activate.ts';
import { openCoordination } from '../run/coordination.ts';
import { patternsOf } from '../run/select.ts';
import { runPlan } from '../run/wrapper.ts';
import { version } from '../version.ts';
import { openSecretSession, type Session, type SessionFlags, useColour } from './session.ts';

/** Flags of `run`. */
export interface RunFlags extends SessionFlags {
  readonly only: readonly string[];
  readonly exclude: readonly string[];
  readonly dryRun?: boolean;
  readonly concurrency: number;
  readonly deadline: number;
  readonly acceptShrink: readonly string[];
  readonly full?: boolean;
  readonly fresh?: boolean;
  readonly headroom?: string;
  readonly output: 'table' | 'json' | 'markdown';
}

/** Collects what is configured; returns the exit code. */
export async function run(flags: RunFlags, session?: Session): Promise<number> {
  const { environment, collectors, stores, log, progress, print, redactor } =
    session ?? (await openSecretSession(flags));
  const colour = useColour(environment, process.stdout.isTTY);
  try {
    const plan = activate(environment, { collectors, stores }, flags, new Date());
    for (const problem of plan.problems) log(problem.severity, 'config.problem', problemLine(problem));
    if (flags.dryRun === true) {
      print(printPlan(plan, flags.output, colour));
      return plan.problems.length > 0 ? 2 : plan.collectors.length === 0 ? 5 : 0;
    }
    if (plan.collectors.length === 0 && plan.problems.length === 0) {
      log(
        'WARNING',
        'run.idle',
        'no collector is configured: set the variables of a product you use. See cyber-collect list',
      );
    }
    const coordination = await openCoordination(environment, plan.program);
    const { state, locks } = coordination;
    const interruption = listenForSignals((name) =>
      log('WARNING', 'run.interrupted', `${name}: ending cleanly; once more ends at once`),
    );
    await notifySlack(plan.program, redactor, log, { started: plan });
    try {
      const summary = await runPlan(plan, {
        version: version(),
        state,
        locks,
        log,
        redactor,
        progress,
        concurrency: flags.concurrency,
        deadline: flags.deadline,
        acceptShrink: patternsOf(flags.acceptShrink),
        full: flags.full === true,
        resume: flags.fresh === true ? 0 : plan.program.CYBER_COLLECT_RESUME_HOURS * 3600,
        signal: interruption.signal,
        signalCode: interruption.code,
      });
      progress.stop();
      await notifySlack(plan.program, redactor, log, { finished: summary });
      print(printSummary(summary, flags.output, colour));
      return summary.exit_code;
    } finally {
      interruption.stop();
      coordination.close();
    }
  } finally {
    progress.stop();
  }
}

interface Interruption {
  readonly signal: AbortSignal;
  code(): number | undefined;
  stop(): void;
}

/** The first signal ends the run cleanly, the second at once. */
function listenForSignals(said: (name: string) => void): Interruption {
  const controller = new AbortController();
  let code: number | undefined;
  const listen = (name: 'SIGINT' | 'SIGTERM', exit: number) => () => {
    if (code !== undefined) process.exit(exit);
    code = exit;
    said(name);
    controller.abort(new CollectError('aborted', `the run was interrupted by ${name}`, { mend: 'run again' }));
  };
  const interrupted = listen('SIGINT', 130);
  const terminated = listen('SIGTERM', 143);
  process.on('SIGINT', interrupted);
  process.on('SIGTERM', terminated);
  return {
    signal: controller.signal,
    code: () => code,
    stop: () => {
      process.off('SIGINT', interrupted);
      process.off('SIGTERM', terminated);
    },
  };
}
