import { readFileSync } from 'node:fs';
import { CollectError } from '../errors.ts';
import type { Auth } from '../http/auth.ts';
import { googleAccount } from '../http/google.ts';
import type { Page } from '../http/page.ts';
import type { Rule } from '../http/retry.ts';
import { numberAt } from '../json.ts';
import type { Context } from './collector.ts';

/** The Directory API. */
export const DIRECTORY = '/admin/directory/v1';
const AUDIT = 'admin.reports.audit.readonly';

/** What each part of the API is read with, without its prefix. */
const SCOPES: readonly (readonly [path: RegExp, scope: string])[] = [
  [/\/users$/, 'admin.directory.user.readonly'],
  [/\/members$/, 'admin.directory.group.member.readonly'],
  [/\/groups$/, 'admin.directory.group.readonly'],
  [/\/(roles|roleassignments)$/, 'admin.directory.rolemanagement.readonly'],
  [/\/orgunits$/, 'admin.directory.orgunit.readonly'],
  [/\/devices\/mobile$/, 'admin.directory.device.mobile.readonly'],
  [/\/devices\/chromeos$/, 'admin.directory.device.chromeos.readonly'],
  [/\/admin\/reports\//, AUDIT],
];

/** Google tells its limits with 403 too. */
export const rules: readonly Rule[] = [
  { status: [403, 429], body: /"(rateLimitExceeded|userRateLimitExceeded|quotaExceeded)"/, as: 'throttled' },
  { status: 403, body: /"dailyLimitExceeded"/, as: 'failed', because: 'the quota of the day is used up' },
  {
    status: 403,
    body: /accessNotConfigured|SERVICE_DISABLED/,
    as: 'denied',
    because: 'the Admin SDK API is not enabled in the project of the key',
  },
  { status: 403, body: /domainCannotUseApis/, as: 'denied', because: 'the domain does not allow access by API' },
  { status: 412, as: 'denied', because: 'a policy of the domain forbids it' },
  { status: 400, body: /page ?token/i, as: 'expired', because: 'the page token is not taken any more' },
  { status: 200, body: /"error"\s*:\s*\{/, as: 'failed', because: 'the answer is an error' },
];

/**
 * The text of a key file, by its path or as it is.
 * @throws {CollectError} config when it cannot be read
 */
function keyOf(written: string): string {
  if (written.trimStart().startsWith('{')) return written;
  try {
    return readFileSync(written, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new CollectError('config', `the key file of the service account cannot be read (${code})`, {
      mend: 'set GOOGLE_WORKSPACE_SERVICE_ACCOUNT_JSON_PATH to the path of its JSON key',
    });
  }
}

/** Acts for an administrator, with a token for each scope: a single one that is not authorised fails a whole exchange. */
export function delegated(written: string, subject: string): Auth {
  const key = keyOf(written);
  const accounts = new Map(
    [...new Set(SCOPES.map(([, scope]) => scope))].map((scope) => [
      scope,
      googleAccount({ key, subject, scopes: [`https://www.googleapis.com/auth/${scope}`] }),
    ]),
  );
  return {
    async headers(outgoing, exchange) {
      const scope = SCOPES.find(([path]) => path.test(outgoing.url.pathname))?.[1] ?? AUDIT;
      try {
        return (await accounts.get(scope)?.headers(outgoing, exchange)) ?? {};
      } catch (error) {
        throw error instanceof CollectError && error.status === 401 ? unauthorised(scope) : error;
      }
    },
    renew(refused) {
      for (const account of accounts.values()) account.renew?.(refused);
      return true;
    },
  };
}

function unauthorised(scope: string): CollectError {
  return new CollectError('denied', `domain-wide delegation does not give the service account ${scope}`, {
    status: 401,
    mend: 'authorise the scope for the client id of the service account in the Admin console',
  });
}

/** What the lists of a customer need to know. */
interface Customer {
  readonly GOOGLE_WORKSPACE_CUSTOMER_ID: string;
}

/** Lists that have the customer in their path. */
export function ofCustomer(list: string, records: string, query: Readonly<Record<string, string | number>>) {
  return ({ http, settings, from }: Context<Customer>): AsyncIterable<Page> =>
    http.pages({
      path: `${DIRECTORY}/customer/${encodeURIComponent(settings.GOOGLE_WORKSPACE_CUSTOMER_ID)}/${list}`,
      query,
      records,
      absent: 'empty',
      ...(from === undefined ? {} : { from }),
    });
}

/** Google brings out some lines hours late. */
const LATE = 3 * 3_600_000;
const DAY = 86_400_000;

/** A log of one application since the last run, at first as far back as told; both ends of the span belong to it. */
export function activities(application: string) {
  return async function* read(context: Context<Customer & { readonly GOOGLE_WORKSPACE_LOG_DAYS: number }>) {
    const { http, cursor, at: now, settings } = context;
    const until = now.getTime() - LATE;
    const since = numberAt(await cursor.read(), 'until');
    const from = since === undefined ? until - settings.GOOGLE_WORKSPACE_LOG_DAYS * DAY : since + 1;
    if (from > until) return;
    const customer = settings.GOOGLE_WORKSPACE_CUSTOMER_ID;
    yield* http.pages({
      path: `/admin/reports/v1/activity/users/all/applications/${application}`,
      query: {
        startTime: new Date(from).toISOString(),
        endTime: new Date(until).toISOString(),
        maxResults: 1000,
        ...(customer === 'my_customer' ? {} : { customerId: customer }),
      },
      records: 'items',
      absent: 'empty',
    });
    cursor.save({ until });
  };
}
