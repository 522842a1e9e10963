/** What went wrong, by what the operator has to do about it. */
export type ErrorCode =
  | 'config' // a setting, flag or template is wrong: mend it
  | 'credentials' // the vendor or store does not accept who we are
  | 'denied' // known, but a permission or licence is missing
  | 'throttled' // the vendor's limit, longer than we may wait
  | 'network' // no connection, or it broke
  | 'timeout' // connected, but silent
  | 'vendor' // an answer that is an error or makes no sense
  | 'incomplete' // answers that contradict themselves: totals, loops, lost cursors
  | 'expired' // a cursor died: the list has to start again
  | 'refused' // refused by us: a foreign host, plain http, a body over the limit
  | 'store' // a destination did not take the data
  | 'locked' // another run holds the lock
  | 'deadline' // --deadline has passed
  | 'aborted' // a signal
  | 'defect'; // ours

/** The heading a problem is filed under; the first four are the older tool's messages. */
const TITLES: Readonly<Record<ErrorCode, string>> = {
  config: 'Environment variable not set',
  credentials: 'Permission denied',
  denied: 'Permission denied',
  throttled: 'Rate limit',
  network: 'Network timeout',
  timeout: 'Network timeout',
  vendor: 'Vendor answer not understood',
  incomplete: 'Data incomplete',
  expired: 'Data incomplete',
  refused: 'Refused for safety',
  store: 'Storage failed',
  locked: 'Another run is active',
  deadline: 'Deadline passed',
  aborted: 'Interrupted',
  defect: 'Defect in cyber-collect',
};

interface Details {
  /** What to do about it, as one imperative clause. */
  readonly mend?: string;
  /** HTTP status that led here. */
  readonly status?: number;
  /** Overrides the code's heading. */
  readonly title?: string;
  readonly cause?: unknown;
}

/** An expected failure: one sentence for the operator, a code for the program. Never holds a body, header or secret. */
export class CollectError extends Error {
  readonly code: ErrorCode;
  readonly mend: string | undefined;
  readonly status: number | undefined;
  readonly title: string;

  constructor(code: ErrorCode, message: string, details: Details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'CollectError';
    this.code = code;
    this.mend = details.mend;
    this.status = details.status;
    this.title = details.title ?? TITLES[code];
  }
}

/** A finding that is listed with others rather than thrown: what, where, how to mend it. */
export interface Problem {
  readonly id: string;
  readonly severity: 'WARNING' | 'ERROR' | 'CRITICAL';
  readonly where: string;
  readonly message: string;
  readonly mend: string;
}

/** Several configuration problems, reported at once. */
export class ConfigError extends CollectError {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super('config', problems.map((problem) => `${problem.where}: ${problem.message}`).join('; '));
    this.problems = problems;
  }
}

/** A configuration problem. */
export function configProblem(
  where: string,
  message: string,
  mend: string,
  title = 'Configuration not valid',
): Problem {
  return { id: title, severity: 'ERROR', where, message, mend };
}

/** Any thrown value as a CollectError; what we did not expect is a defect. */
export function asCollectError(thrown: unknown): CollectError {
  if (thrown instanceof CollectError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new CollectError('defect', message, { cause: thrown, mend: 'report it with --verbose output' });
}

/** A thrown value filed as a problem of the place it came from. */
export function problemOf(where: string, thrown: unknown): Problem {
  const error = asCollectError(thrown);
  return {
    id: error.title,
    severity: error.code === 'defect' ? 'CRITICAL' : 'ERROR',
    where,
    message: error.message,
    mend: error.mend ?? 'run again; if it stays, run cyber-collect doctor',
  };
}
