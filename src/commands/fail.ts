import { asCollectError, ConfigError, type ErrorCode, problemOf } from '../errors.ts';
import { problemLine } from '../report/log.ts';

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
  const problems = error instanceof ConfigError ? error.problems : [problemOf('cyber-collect', error)];
  for (const problem of problems) process.stderr.write(`${problem.severity}: ${problemLine(problem)}\n`);
  if (error.code === 'defect' && process.argv.includes('--verbose'))
    process.stderr.write(`${(error.cause as Error | undefined)?.stack ?? ''}\n`);
  return CODES[error.code] ?? 3;
}
