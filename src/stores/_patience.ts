import { setTimeout as pause } from 'node:timers/promises';

/** What a failed try says about another one. */
export interface Outlook {
  /** Whether the same request may succeed when it is sent again. */
  readonly mayPass: boolean;
  /** The server's Retry-After: seconds or a date. */
  readonly retryAfter?: string | undefined;
}

const TRIES = 5;
const FIRST_MS = 500;
const LONGEST_MS = 120_000;

/** Does the work, again where that can help: sooner than the server asks never, and not at all when it asks for long. */
export async function patiently<T>(work: () => Promise<T>, outlook: (thrown: unknown) => Outlook): Promise<T> {
  for (let tried = 1; ; tried += 1) {
    try {
      return await work();
    } catch (thrown) {
      const { mayPass, retryAfter } = outlook(thrown);
      const wait = (told(retryAfter) ?? FIRST_MS * 2 ** (tried - 1)) + Math.random() * 250;
      if (!mayPass || tried === TRIES || wait > LONGEST_MS) throw thrown;
      await pause(wait);
    }
  }
}

function told(retryAfter: string | undefined): number | undefined {
  if (retryAfter === undefined || retryAfter.trim() === '') return undefined;
  const seconds = Number(retryAfter);
  if (!Number.isNaN(seconds)) return Math.max(0, seconds * 1000);
  const until = Date.parse(retryAfter);
  return Number.isNaN(until) ? undefined : Math.max(0, until - Date.now());
}

/** Whether a connection broke or was not made, by the code of Node's error; a certificate stays as it is. */
export function isBroken(code: unknown): boolean {
  return /^(ECONN|EPIPE|ETIMEDOUT|EAI_AGAIN|ENET|EHOST|HPE_|UND_ERR_|ESOCKET|ERR_STREAM_PREMATURE)/.test(String(code));
}

/** Whether an HTTP status is a passing one. */
export function passes(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}
