import { asCollectError, type CollectError, ConfigError, type ErrorCode, type Problem, problemOf } from '../errors.ts';
import { type Log, problemLine } from '../report/log.ts';

const CODES: Readonly<Partial<Record<ErrorCode, number>>> = {
  config: 2,
  refused: 2,
  locked: 8,
  defect: 1,
  store: 6,
  credentials: 4,
  deadline: 124,
};

/** Says why a command ended before it began its work; returns the exit code. */
export function fail(thrown: unknown): number {
  const error = asCollectError(thrown);
  for (const problem of problemsOf(error)) process.stderr.write(`${problem.severity}: ${problemLine(problem)}\n`);
  if (error.code === 'defect' && process.argv.includes('--verbose'))
    process.stderr.write(`${(error.cause as Error | undefined)?.stack ?? ''}\n`);
  return exitCodeOf(error);
}

/** The exit code of a command that ended before it began its work. */
export function exitCodeOf({ code }: CollectError): number {
  return CODES[code] ?? 3;
}

/** What an error tells of: each problem by itself. */
export function problemsOf(error: CollectError): readonly Problem[] {
  return error instanceof ConfigError ? error.problems : [problemOf('cyber-collect', error)];
}

/** Says that nothing is switched on, which is no error. */
export function tellIdle(log: Log): void {
  log(
    'WARNING',
    'run.idle',
    'no collector is configured: set the variables of a product you use. See cyber-collect list',
  );
}
