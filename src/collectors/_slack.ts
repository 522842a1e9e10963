import { baseUrl } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { Http } from '../http/client.ts';
import { keeping } from '../http/fields.ts';
import { limit, type Pace } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import { paginator, type Query } from '../http/paginate.ts';
import type { Outcome, Rule } from '../http/retry.ts';
import { at, isObject, type JsonObject, numberAt, textAt } from '../json.ts';
import type { Context } from './collector.ts';

/** Requests that a minute allows of each method: https://docs.slack.dev/apis/web-api/rate-limits */
const TIERS: readonly (readonly [requests: number, methods: readonly string[]])[] = [
  [20, ['admin.apps.approved.list', 'admin.apps.restricted.list', 'admin.conversations.search']],
  [20, ['conversations.list', 'usergroups.list', 'users.list']],
  [50, ['admin.teams.list', 'team.info']],
  [100, ['admin.users.list', 'conversations.members']],
];

/** The Web API's base URL. */
export function apiOf(url: string): URL {
  const base = baseUrl(url);
  if (base.pathname === '/') base.pathname = '/api';
  return base;
}

/** The Audit Logs API's base URL: Slack has it on a host of its own. */
export function auditOf(url: string, own: string | undefined): URL {
  if (own !== undefined) return baseUrl(own);
  const { origin, hostname, protocol } = apiOf(url);
  const slack = /^slack(-gov)?\.com$/.test(hostname);
  return new URL('/audit/v1', slack ? `${protocol}//api.${hostname}` : origin);
}

/** Each method has its limit, and to be told to wait holds for it alone. */
export function pacesOf(api: URL, audit: URL): readonly Pace[] {
  const methods = TIERS.flatMap(([requests, names]) =>
    names.map((name) => limit(requests, 60, new URL(`${api.pathname}/${name}`, api))),
  );
  return [...methods, limit(50, 60, audit)].map((pace) => ({ ...pace, alone: true }));
}

/** Most methods have their cursor in `response_metadata`, the search of channels beside its records. */
export const nextCursor = paginator('cursor next_cursor -> cursor', ({ body }) => {
  const next = textAt(body, 'next_cursor') ?? textAt(body, 'response_metadata.next_cursor');
  return next === undefined ? undefined : { query: { cursor: next } };
});

/** Errors come with status 200 and say what they are by a word. */
function says(words: string, as: Outcome, because: string): Rule {
  return { body: new RegExp(`"error":\\s*"(${words})"`), as, because };
}

/** What Slack's words mean. */
export const rules: readonly Rule[] = [
  says('rate_?limited', 'throttled', 'the limit of this method is reached'),
  says('invalid_cursor', 'expired', 'the cursor is not taken any more'),
  says('token_expired', 'credentials', 'the token has expired; tokens that rotate are not supported'),
  says('invalid_auth|not_authed|token_revoked|account_inactive', 'credentials', 'the token is not accepted'),
  says(
    'feature_not_enabled|not_an_enterprise|unsupported_team_type|invalid_workspace|team_not_authorized',
    'unlicensed',
    'it needs an Enterprise plan',
  ),
  says('missing_scope', 'denied', 'the token lacks a scope'),
  says('not_allowed_token_type', 'denied', 'tokens of this type may not read it: it takes a user token (xoxp-)'),
  says(
    'no_permission|not_an_admin|not_allowed|access_denied|restricted_action|user_not_authorized|ekm_access_denied',
    'denied',
    'the user of the token may not read it',
  ),
  says('team_access_not_granted|org_login_required|enterprise_is_restricted', 'denied', 'the app is not let in there'),
  says('accesslimited', 'denied', 'the network is not among those that are allowed'),
  says('missing_argument|team_not_found', 'failed', 'an organization’s token needs SLACK_TEAM_ID for it'),
  says(
    'internal_error|fatal_error|service_unavailable|request_timeout|team_added_to_org|fetch_members_failed',
    'retry',
    'Slack has a fault',
  ),
  { status: 200, body: /"ok":\s*false/, as: 'failed', because: 'the answer is an error' },
];

/** A list of which no single call has everything. */
interface Passes {
  readonly path: string;
  readonly query: Query;
  readonly records: string;
  /** What is asked beside, once each. */
  readonly each: readonly Query[];
}

/** The whole of a list that is read in several passes, from where an interrupted run was. */
export async function* passes(context: Context<unknown>, list: Passes): AsyncGenerator<Page> {
  const { http, from } = context;
  const first = numberAt(from, 'pass') ?? 0;
  for (let pass = first; pass < list.each.length; pass += 1) {
    const { path, records } = list;
    const inside = pass === first ? at(from, 'from') : undefined;
    const request = { path, records, query: { ...list.query, ...list.each[pass] } };
    for await (const page of http.pages(inside === undefined ? request : { ...request, from: inside })) {
      const after = pass + 1 === list.each.length ? null : { pass: pass + 1 };
      yield { ...page, next: isObject(page.next) ? { pass, from: page.next } : after };
    }
  }
}

/** A private channel that the token's user is not in, or one that is gone. */
const UNSEEN: readonly Rule[] = [
  says('channel_not_found|not_in_channel|method_not_supported_for_channel_type', 'empty', 'it is not to be seen'),
];

/** The members of each channel. One that may not be seen is left out and told; when none may be, that is an error. */
export async function* members({ http, parents, warn }: Context<unknown>): AsyncGenerator<Page> {
  let asked = 0;
  let unseen = 0;
  for await (const channels of batches(parents(), http.concurrency)) {
    asked += channels.length;
    for (const pages of await Promise.all(channels.map((id) => membersOf(http, id)))) {
      if (pages[0]?.status === 200) yield* pages;
      else unseen += 1;
    }
  }
  if (unseen === 0) return;
  const said = `the token’s user may not see the members of ${unseen} of ${asked} channels`;
  if (unseen === asked) throw new CollectError('denied', said);
  warn(`left out: ${said}`);
}

async function membersOf(http: Http, channel: string): Promise<readonly Page[]> {
  const keep = keeping({ _channel_id: channel });
  // A member is a bare id.
  const edit = (id: Uint8Array) => keep(Buffer.concat([Buffer.from('{"user_id":'), id, Buffer.from('}')]));
  const pages: Page[] = [];
  const request = { path: '/conversations.members', query: { channel, limit: 999 }, records: 'members', edit };
  for await (const page of http.pages({ ...request, errors: UNSEEN })) {
    if (page.status !== 200 && pages.length > 0)
      throw new CollectError('incomplete', `the channel ${channel} was gone before its members had come`);
    pages.push(page);
  }
  return pages;
}

async function* batches(channels: AsyncIterable<JsonObject>, size: number): AsyncGenerator<readonly string[]> {
  let batch: string[] = [];
  for await (const channel of channels) {
    batch.push(textAt(channel, 'id') ?? '');
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** The workspace itself, which stands alone in its answer. */
export async function* workspace(
  { http }: Context<unknown>,
  team: string | undefined,
): AsyncGenerator<readonly JsonObject[]> {
  const { body } = await http.json({ path: '/team.info', query: { team } });
  const found = at(body, 'team');
  if (!isObject(found)) throw new CollectError('vendor', 'GET /team.info: the answer holds no team');
  yield [found];
}

/** Entries may come in late; Slack does not say by how much. */
const DELAY = 300;
const DAY = 86_400;

/** Entries since the last run, at first as far back as told; both ends of the span belong to it. */
export async function* auditLogs(
  { http, cursor, at: now }: Context<unknown>,
  api: URL,
  days: number,
): AsyncGenerator<Page> {
  const until = Math.floor(now.getTime() / 1000) - DELAY;
  const since = numberAt(await cursor.read(), 'until');
  const from = since === undefined ? until - days * DAY : since + 1;
  if (from > until) return;
  const query = { oldest: from, latest: until, limit: 1000 };
  yield* http.pages({ path: `${api.href}/logs`, query, records: 'entries' });
  cursor.save({ until });
}
