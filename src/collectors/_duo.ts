import { createHash, createHmac } from 'node:crypto';
import type { Auth, Outgoing } from '../http/auth.ts';
import { type Paginator, paginator } from '../http/paginate.ts';
import type { Rule } from '../http/retry.ts';
import { at, numberAt } from '../json.ts';
import type { Context } from './collector.ts';

/** The keys of an Admin API application. */
export interface DuoKeys {
  readonly integration: string;
  readonly secret: string;
  readonly version: '2' | '5';
}

/** Signs each try: the date is part of what is signed, and Duo takes none older than five minutes. */
export function signed({ integration, secret, version }: DuoKeys, now = Date.now): Auth {
  return {
    headers: async (outgoing) => {
      const date = new Date(now()).toUTCString().replace('GMT', '-0000');
      const lines = version === '5' ? [...linesOf(outgoing, date), sha512(''), sha512('')] : linesOf(outgoing, date);
      const hash = createHmac(version === '5' ? 'sha512' : 'sha1', secret)
        .update(lines.join('\n'))
        .digest('hex');
      const authorization = `Basic ${Buffer.from(`${integration}:${hash}`).toString('base64')}`;
      return { date, authorization };
    },
  };
}

function linesOf({ method, url }: Outgoing, date: string): readonly string[] {
  return [date, method.toUpperCase(), url.host.toLowerCase(), url.pathname, canonical(url.searchParams)];
}

function canonical(query: URLSearchParams): string {
  const pairs = [...query].map(([name, value]) => `${rfc3986(name)}=${rfc3986(value)}`);
  return pairs.sort().join('&');
}

function rfc3986(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}

function sha512(text: string): string {
  return createHash('sha512').update(text).digest('hex');
}

/** Duo brings out new log lines two minutes late. */
const DELAY = 120_000;
const DAY = 86_400_000;

const DEAD: Rule = {
  status: 400,
  body: /next_offset|40002/,
  as: 'expired',
  because: 'the offset into the log is not taken any more',
};

/** The log's offset is a list of two, sent back joined by a comma. */
const logOffset: Paginator = paginator('cursor response.metadata.next_offset -> next_offset', ({ body }) => {
  const next = at(body, 'response.metadata.next_offset');
  if (next === undefined || next === null || next === '') return undefined;
  return { query: { next_offset: Array.isArray(next) ? next.join(',') : String(next) } };
});

/** Authentications since the last run, at first as far back as told; both ends of the span belong to it. */
export async function* authentications({ http, cursor, at: now, expect }: Context<unknown>, days: number) {
  const until = now.getTime() - DELAY;
  const since = numberAt(await cursor.read(), 'until');
  const from = since === undefined ? now.getTime() - days * DAY : since + 1;
  if (from > until) return;
  let declared = false;
  const pages = http.pages({
    path: '/admin/v2/logs/authentication',
    query: { mintime: from, maxtime: until, limit: 1000 },
    records: 'response.authlogs',
    paginate: logOffset,
    errors: [DEAD],
  });
  for await (const page of pages) {
    const total = numberAt(page.body, 'response.metadata.total_objects');
    if (!declared && total !== undefined) expect(total);
    declared = true;
    yield page;
  }
  cursor.save({ until });
}
