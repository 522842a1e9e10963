import type { Reply } from './faults.ts';
import { mix, person, pick, uuid } from './invent.ts';
import { type Ask, nextUrl, type Page, type Paging, type Request, single } from './paging.ts';
import type { Vendor } from './vendor.ts';

/** The one tenant. */
export const TENANT = '6c0de000-0000-4000-a000-00000000c0de';
/** The one app that is known. */
export const CLIENT = '7a9b0000-0000-4000-a000-000000009a9b';

const CODES: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'InvalidAuthenticationToken',
  403: 'Authorization_RequestDenied',
  404: 'Request_ResourceNotFound',
  429: 'TooManyRequests',
};

/** Graph's own error. */
export function graphError(status: number, message: string): string {
  const innerError = { date: '2026-02-03T04:05:06', 'request-id': uuid(1, 90), 'client-request-id': uuid(1, 91) };
  return JSON.stringify({ error: { code: CODES[status] ?? 'UnknownError', message, innerError } });
}

const CREDENTIALS = 'AADSTS7000215: Invalid client secret provided.';

/** Tokens of the one app, for Graph. */
function tokens(secret: string): Paging {
  return single('none', ({ request: { body }, session }) => {
    const form = new URLSearchParams(body);
    if (form.get('grant_type') !== 'client_credentials' || form.get('scope')?.includes('/.default') !== true)
      return { status: 400, body: JSON.stringify({ error: 'invalid_request', error_description: 'AADSTS90014' }) };
    if (form.get('client_id') !== CLIENT || form.get('client_secret') !== secret)
      return { status: 401, body: JSON.stringify({ error: 'invalid_client', error_description: CREDENTIALS }) };
    const token = { token_type: 'Bearer', expires_in: 3599, ext_expires_in: 3599, access_token: session.issue() };
    return { status: 200, body: JSON.stringify(token) };
  });
}

/** What every vendor behind Graph has. */
export function graphVendor(secret: string) {
  return {
    credential: ({ headers }: Request) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
    error: graphError,
    limitHeaders: ({ limit, remaining }) => (remaining * 5 > limit ? {} : { 'x-ms-throttle-limit-percentage': '0.9' }),
    token: { path: `/${TENANT}/oauth2/v2.0/token`, method: 'POST', resource: 'token', paging: tokens(secret) },
  } as const satisfies Partial<Vendor> & { readonly token: Vendor['routes'][number] };
}

/** Pages of a list of Graph. */
export function pages(max: number, fallback = 100): Paging {
  return nextUrl({ as: '$skiptoken', limit: '$top', max, fallback, strict: true });
}

/** The body around a list; the first page declares how many there are, where that was asked for. */
export function around(array: string, { next, request, start, total }: Page): string {
  const counted = request.query.get('$count') === 'true' && start === 0 ? `"@odata.count":${total},` : '';
  const on = next === undefined ? '' : `"@odata.nextLink":${JSON.stringify(next)},`;
  return `{"@odata.context":"https://graph.microsoft.com/$metadata#list",${counted}${on}"value":${array}}`;
}

/** The answer to one part of a batch; `body` is JSON. */
export interface PartReply {
  readonly status: number;
  readonly headers?: object;
  readonly body: string;
}

/** Batches of parts whose URLs look like this. They come back in another order than they were asked for. */
export function batch(known: RegExp, part: (ask: Ask, url: string) => PartReply): Paging {
  return single('ids', (ask) => {
    const { requests } = JSON.parse(ask.request.body) as { requests: { id: string; method: string; url: string }[] };
    const good = requests.every(({ method, url }) => method === 'GET' && known.test(url));
    if (!good || requests.length > 20 || new Set(requests.map(({ id }) => id)).size < requests.length)
      return { status: 400, body: graphError(400, 'invalid batch payload') };
    const parts = requests.map(({ id, url }) => {
      const { status, headers = {}, body } = part(ask, url);
      return `{"id":${JSON.stringify(id)},"status":${status},"headers":${JSON.stringify(headers)},"body":${body}}`;
    });
    return { status: 200, body: `{"responses":[${parts.reverse().join(',')}]}` };
  });
}

/** The answer to a next link that has died. */
export function expired(): Reply {
  const error = { code: 'Directory_ExpiredPageToken', message: 'The specified page token value has expired.' };
  return { status: 400, body: JSON.stringify({ error }) };
}

/** Whether a request asks for users as a whole list of the directory is asked for. */
export function countsUsers({ query, headers }: Request): boolean {
  const counted = query.get('$count') === 'true' && headers.consistencylevel === 'eventual';
  return counted && (query.get('$select') ?? '').includes('userPrincipalName');
}

/** Ids of SKUs. */
export const SKUS = [
  ['05e9a617-0261-4cee-bb44-138d3ef5d965', 'SPE_E3'],
  ['26124093-3d78-432b-b5dc-48bf992543d5', 'IDENTITY_THREAT_PROTECTION'],
  ['f30db892-07e9-47e9-837c-80727f46fd3d', 'FLOW_FREE'],
] as const;

/** A user of the directory. */
export function graphUser(index: number): object {
  const { first, last, mail } = person(index);
  const skus = index % 4 === 0 ? [] : SKUS.filter((_, nth) => (mix(index, 60) >> nth) % 2 === 0);
  return {
    id: uuid(index, 61),
    displayName: `${first} ${last}`,
    userPrincipalName: mail,
    mail: index % 9 === 0 ? null : mail,
    accountEnabled: index % 7 > 0,
    userType: index % 11 === 0 ? 'Guest' : 'Member',
    department: pick(['Direction générale', '営業部', 'R&D "Nord"', 'Ost\\West'], index, 62),
    assignedLicenses: skus.map(([skuId]) => ({ disabledPlans: [], skuId })),
    onPremisesSyncEnabled: index % 3 === 0 ? true : null,
  };
}
