import { baseUrl } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { HttpOptions, ListRequest } from '../http/client.ts';
import type { Page } from '../http/page.ts';
import { nextUrl } from '../http/paginate.ts';
import type { Rule } from '../http/retry.ts';
import { isObject, numberAt } from '../json.ts';
import { entra } from './_entra.ts';
import type { Context } from './collector.ts';

/** An app registration, and the cloud it lives in. */
export interface GraphApp {
  readonly tenant: string;
  readonly client: string;
  readonly secret: string;
  /** Such as https://graph.microsoft.com, with or without a version. */
  readonly url: string;
  /** Such as https://login.microsoftonline.com */
  readonly authority: string;
}

/** Graph in the public cloud. */
export const GRAPH = 'https://graph.microsoft.com';
/** Where the public cloud's tokens come from. */
export const AUTHORITY = 'https://login.microsoftonline.com';

/** What a variable that sets Graph's base URL is to be set to. */
export const ABOUT_GRAPH =
  'Base URL of Microsoft Graph: https://graph.microsoft.us for the US government, https://microsoftgraph.chinacloudapi.cn in China';
/** What a variable that sets the authority is to be set to. */
export const ABOUT_AUTHORITY =
  'Where tokens come from: https://login.microsoftonline.us for the US government, https://login.chinacloudapi.cn in China';

/** Microsoft Graph as an app speaks to it. */
export function graph({ tenant, client, secret, url, authority }: GraphApp): HttpOptions {
  const base = baseUrl(url.replace(/\/(v1\.0|beta)\/*$/, ''));
  const login = baseUrl(authority);
  return {
    baseUrl: base,
    auth: entra({ tenant, client, secret, authority: login, scope: `${audienceOf(base, login)}/.default` }),
    paginate: nextUrl('@odata.nextLink'),
  };
}

/** Whose tokens are asked for: a gateway before Graph passes on those of Graph itself. */
function audienceOf(base: URL, login: URL): string {
  if (/(^|\.|-)graph\.microsoft\.(com|us)$|^microsoftgraph\.chinacloudapi\.cn$/.test(base.hostname)) return base.origin;
  if (login.hostname.endsWith('.us')) return 'https://graph.microsoft.us';
  return login.hostname.endsWith('.cn') ? 'https://microsoftgraph.chinacloudapi.cn' : GRAPH;
}

/** Intune often throttles without telling for how long: seconds. */
export const THROTTLED = 25;

/** How Graph says what. */
export const graphErrors: readonly Rule[] = [
  { status: [400, 410], body: /PageToken|skip_?token/i, as: 'expired', because: 'the next link has expired' },
  // Intune says with 401 that a permission is missing.
  { status: 401, body: /ErrorCode\W+Forbidden/, as: 'denied', because: 'Intune does not allow it' },
  {
    status: [400, 401, 403],
    body: /not applicable to target tenant|NonPremiumTenant|not licen[sc]ed|licen[sc]e (is )?(required|missing)/i,
    as: 'unlicensed',
    because: 'the tenant has no licence for it',
  },
  { status: 501, as: 'failed', because: 'a field that was selected can be read of a single record only' },
  { status: 429, as: 'throttled', wait: THROTTLED },
];

/** Share of the users that may be gone by the time their page is read; below a page of any tenant to 999,000. */
const DRIFT = 0.001;

/** In tenants of Azure AD B2C nothing can be counted. */
const uncounted: readonly Rule[] = [{ status: 400, body: /UnsupportedQuery|\$count/, as: 'empty' }];

/** The users of the directory, held against the count that Graph declares on the first page. */
export async function* directoryUsers(
  { http, expect, from }: Pick<Context<unknown>, 'http' | 'expect' | 'from'>,
  select: readonly string[],
  edit: (record: Uint8Array) => Uint8Array = (record) => record,
): AsyncGenerator<Page> {
  const plain: ListRequest = {
    path: '/v1.0/users',
    query: { $top: 999, $select: select.join(',') },
    records: 'value',
    edit,
  };
  const counted: ListRequest = {
    ...plain,
    query: { ...plain.query, $count: true },
    headers: { consistencylevel: 'eventual' },
    errors: uncounted,
  };
  let declared = numberAt(from, 'declared');
  let records = numberAt(from, 'records') ?? 0;
  for await (const page of http.pages(from === undefined ? counted : { ...counted, from })) {
    if (page.status === 404) {
      if (records > 0) throw new CollectError('expired', 'the next link has expired');
      yield* http.pages(plain);
      return;
    }
    declared ??= numberAt(page.body, '@odata.count');
    if (declared !== undefined) expect(declared);
    records += page.records;
    const { next } = page;
    yield isObject(next) && declared !== undefined ? { ...page, next: { ...next, declared } } : page;
  }
  // The count is of the moment the reading began.
  if (declared !== undefined && records < declared && records >= declared * (1 - DRIFT)) expect(records);
}
