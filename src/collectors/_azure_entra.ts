import type { Page } from '../http/page.ts';
import { numberAt } from '../json.ts';
import type { Context } from './collector.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;

/** A log of the tenant, and the field of its moments. */
interface Log {
  readonly path: string;
  readonly field: string;
}

/** How far back the first run reads, and how far each stays behind now. */
interface Span {
  readonly days: number;
  readonly minutes: number;
}

/** What a log holds since the last run, a day at a time: next links into long spans die. */
export async function* logged(
  { http, cursor, at: now }: Pick<Context<unknown>, 'http' | 'cursor' | 'at'>,
  { path, field }: Log,
  { days, minutes }: Span,
): AsyncGenerator<Page> {
  const until = now.getTime() - minutes * MINUTE;
  const since = numberAt(await cursor.read(), 'until') ?? now.getTime() - days * DAY;
  if (since >= until) return;
  for (let from = since; from < until; from += DAY) {
    const to = Math.min(from + DAY, until);
    // Graph knows no `lt` here; its moments have seven digits behind the second.
    const last = new Date(to - 1).toISOString().replace('Z', '9999Z');
    const filter = `${field} ge ${new Date(from).toISOString()} and ${field} le ${last}`;
    yield* http.pages({ path, query: { $filter: filter, $top: 999 }, records: 'value' });
  }
  cursor.save({ until });
}
