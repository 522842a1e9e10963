import type { CollectError } from '../errors.ts';

/** What an answer means for whoever asked. */
export type Outcome =
  | 'ok'
  | 'retry' // a passing fault
  | 'throttled' // the vendor's limit
  | 'credentials' // not recognised: renew once, then give up
  | 'denied' // recognised, not allowed
  | 'unlicensed' // the product is not there for this tenant
  | 'empty' // nothing there, and that is fine
  | 'expired' // the cursor died: the list starts again
  | 'failed';

/** A vendor's own way of saying something, declared by its collector. The first rule that matches decides. */
export interface Rule {
  readonly status?: number | readonly number[];
  /** Matched against an error's text, or what stands outside the records of a good answer. */
  readonly body?: RegExp;
  readonly as: Outcome;
  /** What to tell the operator, as a clause. */
  readonly because?: string;
  /** Seconds to wait where the answer tells none. */
  readonly wait?: number;
  /** Finds the seconds to wait in the text, as its first group. */
  readonly told?: RegExp;
}

/** A verdict on one answer. */
export interface Verdict {
  readonly outcome: Outcome;
  readonly because?: string;
  readonly wait?: number;
}

const RETRYABLE = new Set([408, 425, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529]);

/** What an answer means, by the collector's rules, else by its status. */
export function classify(status: number, text: string, rules: readonly Rule[]): Verdict {
  for (const rule of rules) {
    const statuses = typeof rule.status === 'number' ? [rule.status] : rule.status;
    if (statuses !== undefined && !statuses.includes(status)) continue;
    if (statuses === undefined && rule.body === undefined) continue;
    if (rule.body !== undefined && !rule.body.test(text)) continue;
    const { as: outcome, because } = rule;
    const seconds = rule.told?.exec(text)?.[1];
    const wait = seconds === undefined ? rule.wait : Number(seconds);
    return { outcome, ...(because === undefined ? {} : { because }), ...(wait === undefined ? {} : { wait }) };
  }
  if (status >= 200 && status < 300) return { outcome: 'ok' };
  if (status === 401) return { outcome: 'credentials' };
  if (status === 403) return { outcome: 'denied' };
  if (status === 429) return { outcome: 'throttled' };
  return { outcome: RETRYABLE.has(status) || status >= 500 ? 'retry' : 'failed' };
}

/** Milliseconds before the next try after `tries` failed ones: doubling from a second, a minute at most, plus up to a quarter. */
export function backoff(tries: number, random = Math.random): number {
  const base = Math.min(60_000, 1000 * 2 ** (tries - 1));
  return base + random() * base * 0.25;
}

/**
 * Epoch milliseconds that a `Retry-After` names: seconds (fractions too) or an HTTP date, which is on the vendor's clock
 * and so moved by the answer's `Date` header; undefined when it is neither.
 */
export function retryAfter(value: string | undefined, now: number, date: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const trimmed = value.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return now + Math.ceil(Number(trimmed) * 1000);
  const at = /[a-z]{3}/i.test(trimmed) ? Date.parse(trimmed) : Number.NaN;
  return Number.isNaN(at) ? undefined : at + skewOf(now, date);
}

/**
 * Milliseconds that our clock is ahead of the vendor's. A Date header is cut to the second, so this may be a second too
 * much: what is moved by it is late rather than early.
 */
function skewOf(now: number, date: string | undefined): number {
  const vendorNow = date === undefined ? Number.NaN : Date.parse(date);
  return Number.isNaN(vendorNow) ? 0 : now - vendorNow;
}

/**
 * Epoch milliseconds of a vendor's reset header, by size: epoch milliseconds, epoch seconds, or seconds from now. Epochs
 * are on the vendor's clock, so they are moved by the answer's `Date` header.
 */
export function resetAt(value: string | undefined, now: number, date: string | undefined): number | undefined {
  if (value === undefined || !/^\d+(\.\d+)?$/.test(value.trim())) return retryAfter(value, now, date);
  const number = Number(value);
  if (number < 1e8) return now + Math.ceil(number * 1000);
  return (number < 1e11 ? number * 1000 : number) + skewOf(now, date);
}

/** Whether an error of the connection or of a body is worth another try. */
export function isPassing(error: CollectError): boolean {
  return error.code === 'network' || error.code === 'timeout' || error.code === 'vendor';
}
