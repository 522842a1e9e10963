import { CollectError } from '../errors.ts';
import { systemClock } from '../http/pace.ts';

/** When a bridge runs. */
export interface Timing {
  /** Seconds between the end of a run and the next one. */
  readonly sleep?: number;
  /** Seconds behind a run that was not complete. */
  readonly failSleep?: number;
  /** A cron expression instead of `sleep`. */
  readonly cron?: string;
  /** The time zone of the expression; the machine's unless told. */
  readonly timezone?: string;
}

/** A run that has ended; moments are epoch milliseconds. */
export interface Past {
  /** When it was to begin. */
  readonly due: number;
  readonly ended: number;
  readonly failed: boolean;
}

/** What comes behind it. */
export interface Next {
  /** Epoch milliseconds; infinite when it never comes. */
  readonly at: number;
  /** A moment of the expression that passed during the run: it is made up for once. */
  readonly overdue?: number;
}

/** Says when a bridge runs next. */
export interface Schedule {
  first(now: number): number;
  next(past: Past): Next;
}

/**
 * The schedule of a timing whose every value is known.
 * @throws {CollectError} config for an expression or a time zone that is none
 */
export async function scheduleOf({ sleep = 0, failSleep = 0, cron, timezone }: Timing): Promise<Schedule> {
  if (cron !== undefined) return cronSchedule(cron, timezone, failSleep);
  return {
    first: (now) => now,
    next: ({ ended, failed }) => ({ at: ended + (failed ? failSleep : sleep) * 1000 }),
  };
}

async function cronSchedule(expression: string, timezone: string | undefined, failSleep: number): Promise<Schedule> {
  const { Cron } = await import('croner');
  if (timezone !== undefined && !isTimeZone(timezone))
    throw new CollectError('config', `'${timezone}' is no time zone`, { mend: 'write one such as Europe/Madrid' });
  const wrong = (why: string) =>
    new CollectError('config', `'${expression}' ${why}`, {
      mend: "write minute, hour, day, month and weekday, such as '15 * * * *'",
    });
  let pattern: InstanceType<typeof Cron>;
  try {
    pattern = new Cron(expression, { mode: '5-or-6-parts', ...(timezone === undefined ? {} : { timezone }) });
  } catch {
    throw wrong('is no cron expression');
  }
  const after = (moment: number) => pattern.nextRun(new Date(moment))?.getTime() ?? Number.POSITIVE_INFINITY;
  if (after(Date.now()) === Number.POSITIVE_INFINITY) throw wrong('never comes');
  return {
    first: after,
    next({ due, ended, failed }) {
      const missed = after(due);
      const overdue = missed <= ended ? { overdue: missed } : {};
      if (failed) return { at: Math.min(after(ended), ended + failSleep * 1000), ...overdue };
      return { at: Math.max(missed, ended), ...overdue };
    },
  };
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

/** Clocks are set now and then, and machines sleep: it is looked at this often, in milliseconds. */
const LOOK = 60_000;

/** Waits until a moment; true when it came, false when the signal did. */
export async function sleepUntil(moment: number, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    const left = moment - Date.now();
    if (left <= 0) return true;
    await systemClock.sleep(Math.min(left, LOOK), signal).catch(() => undefined);
  }
  return false;
}
