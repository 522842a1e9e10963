import { address, digits, hex, mix, moment, person, pick, text } from './invent.ts';
import { cursor, none, type Page, type Records, type Request, type Route } from './paging.ts';
import { defineVendor } from './vendor.ts';

const TOKEN = 'xoxp-canary-slack-1234567890-abcdef';

/** Slack's words for what is wrong. */
const WORDS: Readonly<Record<number, string>> = {
  200: 'invalid_arguments',
  400: 'invalid_cursor',
  401: 'invalid_auth',
  403: 'missing_scope',
  404: 'unknown_method',
  429: 'ratelimited',
  500: 'internal_error',
  503: 'service_unavailable',
};

/** An id of Slack's shape that ends with its index. */
function id(letter: string, index: number): string {
  return `${letter}0${hex(index, letter.charCodeAt(0), 4).toUpperCase()}${index.toString(36).toUpperCase().padStart(5, '0')}`;
}

const TEAM = id('T', 0);
const seconds = (index: number, salt: number) => Math.floor(Date.parse(moment(index, salt)) / 1000);
const channelsOf = (scale: number) => Math.ceil(scale / 3);
const half = (scale: number) => Math.ceil(scale / 2);

function adminUser(index: number, active: boolean): string {
  const { first, last, mail } = person(index);
  const record = {
    id: id('U', index),
    email: mail,
    username: `person.${index}`,
    full_name: `${first} ${last} 🦄`,
    is_admin: index % 50 === 1,
    is_owner: index % 90 === 2,
    is_primary_owner: index === 2,
    is_restricted: index % 11 === 0,
    is_ultra_restricted: false,
    is_bot: false,
    is_active: active,
    has_2fa: index % 3 > 0,
    has_sso: true,
    date_created: seconds(index, 1),
    deactivated_ts: active ? 0 : seconds(index, 2),
    expiration_ts: 0,
    workspaces: [TEAM, id('T', 1 + (index % 3))],
  };
  return text(record, index);
}

function team(index: number): string {
  const record = {
    id: id('T', index),
    name: `${pick(['Büro', 'Équipe', '営業'], index, 3)} ${index}`,
    discoverability: pick(['hidden', 'open', 'invite_only'], index, 4),
    primary_owner: { user_id: id('U', 2), email: person(2).mail },
    team_url: `https://acme-${index}.slack.example/`,
  };
  return text(record, index);
}

function channel(index: number): string {
  const record = {
    id: id('C', index),
    name: pick(['général', 'incidents', '雑談'], index, 5) + index,
    purpose: 'What we "say"\nhere \\ there',
    member_count: 1 + (index % 9),
    created: seconds(index, 6),
    creator_id: id('U', index % 7),
    is_private: index % 4 === 3,
    is_archived: index % 9 === 8,
    is_general: index === 0,
    last_activity_ts: digits(String(1_700_000_000_123_456n + BigInt(index))),
    is_ext_shared: false,
    internal_team_ids: [TEAM],
    connected_team_ids: [],
  };
  return text(record, index);
}

function userGroup(index: number): string {
  const users = [id('U', index), id('U', index + 1)];
  const record = {
    id: id('S', index),
    team_id: TEAM,
    is_usergroup: true,
    name: `Groupe ${index} — sécurité`,
    handle: `groupe-${index}`,
    description: '',
    is_external: false,
    date_create: seconds(index, 7),
    date_delete: index % 6 === 5 ? seconds(index, 8) : 0,
    auto_type: null,
    user_count: String(users.length),
    users,
    prefs: { channels: [id('C', 0)], groups: [] },
  };
  return text(record, index);
}

function app(index: number, certified: boolean): string {
  const record = {
    app: {
      id: id('A', index),
      name: pick(['Kalender für Slack', 'Météo', '天気'], index, 9),
      description: 'Reads & "writes"',
      is_app_directory_approved: certified,
      is_internal: !certified && index % 2 === 0,
      additional_info: '',
    },
    scopes: [{ name: 'chat:write', description: 'Send messages', is_sensitive: false, token_type: 'bot' }],
    date_updated: seconds(index, 10),
    last_resolved_by: { actor_id: id('U', 2), actor_type: 'user' },
  };
  return text(record, index);
}

function member(index: number): string {
  const { first, last, mail } = person(index);
  const record = {
    id: id('U', index),
    team_id: TEAM,
    name: `person.${index}`,
    deleted: index % 8 === 7,
    real_name: `${first} ${last}`,
    tz: 'Europe/Berlin',
    tz_offset: 3600,
    profile: { real_name: `${first} ${last}`, email: mail, status_text: 'à midi 🍜', avatar_hash: hex(index, 11, 12) },
    is_bot: index % 13 === 12,
    updated: seconds(index, 12),
    locale: 'fr-FR',
  };
  return text(record, index);
}

function conversation(index: number): string {
  const record = {
    id: id('C', index),
    name: `salon-${index}`,
    is_channel: true,
    is_private: index % 4 === 3,
    is_archived: index % 9 === 8,
    created: seconds(index, 13),
    topic: { value: 'Größe', creator: id('U', 1), last_set: seconds(index, 14) },
    purpose: { value: '', creator: '', last_set: 0 },
    num_members: mix(index, 15) % 900,
  };
  return text(record, index);
}

const WORKSPACE = JSON.stringify({
  id: TEAM,
  name: 'Büro 0',
  domain: 'acme-0',
  email_domain: 'acme.example',
  plan: '',
});

/** Entries are a minute apart, the newest an hour old. */
const NEWEST = Math.floor(Date.now() / 1000) - 3600;

function entry(index: number): string {
  const user = { id: id('U', index % 40), name: person(index % 40).first, email: person(index % 40).mail };
  const record = {
    id: `${hex(index, 16, 8)}-0000-4000-a000-${index.toString(16).padStart(12, '0')}`,
    date_create: NEWEST - index * 60,
    action: pick(['user_login', 'file_downloaded', 'app_installed'], index, 17),
    actor: { type: 'user', user },
    entity: { type: 'user', user },
    context: {
      location: { type: 'workspace', id: TEAM, name: 'Büro 0', domain: 'acme-0' },
      ua: 'Mozilla/5.0 ("Test")',
      ip_address: address(index, 18),
      session_id: digits(String(9_007_199_254_740_993n + BigInt(index))),
    },
  };
  return text(record, index);
}

/** The entries of a span, the newest first. */
function entriesOf(scale: number, { query }: Request): Records {
  const [oldest, latest] = [Number(query.get('oldest') ?? 0), Number(query.get('latest') ?? NEWEST)];
  const first = Math.max(0, Math.ceil((NEWEST - latest) / 60));
  const last = Math.min(scale - 1, Math.floor((NEWEST - oldest) / 60));
  return { count: Math.max(0, last - first + 1), at: (index) => entry(first + index) };
}

/** Two lists that one parameter tells apart; without it, one behind the other. */
function inTwo(name: string, first: string, at: (index: number, first: boolean) => string) {
  return (scale: number, { query }: Request): Records => {
    const asked = query.get(name);
    const rest = half(scale);
    if (asked === null) return { count: scale + rest, at: (index) => at(index, index < scale) };
    if (asked === first) return { count: scale, at: (index) => at(index, true) };
    return { count: rest, at: (index) => at(scale + index, false) };
  };
}

function membersOf(scale: number, { params, query }: Request): Records | undefined {
  const asked = params.channel ?? query.get('channel') ?? '';
  const index = Number.parseInt(asked.slice(6), 36);
  if (!(index < channelsOf(scale)) || id('C', index) !== asked) return undefined;
  const count = index === 0 ? scale : index === 1 ? 0 : 1 + (mix(index, 19) % 6);
  // The answer has bare ids, the dataset a record of each.
  const shown = (user: string) => (params.channel === undefined ? `"${user}"` : `{"user_id":"${user}"}`);
  return { count, at: (place) => shown(id('U', (index * 5 + place) % scale)) };
}

function* channelIds(scale: number): Generator<{ readonly channel: string }> {
  for (let index = 0; index < channelsOf(scale); index += 1) yield { channel: id('C', index) };
}

const around =
  (list: string) =>
  (array: string, { next }: Page) =>
    `{"ok":true,"${list}":${array},"response_metadata":{"next_cursor":${JSON.stringify(next ?? '')}}}`;

function aroundSearch(array: string, { next, total }: Page): string {
  return `{"ok":true,"conversations":${array},"total_count":${total},"next_cursor":${JSON.stringify(next ?? '')}}`;
}

const paged = (max: number) => cursor({ as: 'cursor', max });

function apps(resource: string, path: string, list: string, salt: number): Route {
  return {
    path: `/api/${path}`,
    resource,
    paging: paged(1000),
    when: ({ query }) => /^(true|false)$/.test(query.get('certified') ?? ''),
    records: inTwo('certified', 'false', (index, first) => app(index + salt, !first)),
    wrap: around(list),
  };
}

export default defineVendor({
  name: 'slack',
  env: (origin) => ({ SLACK_URL: `${origin}/api`, SLACK_TOKEN: TOKEN }),
  credential: ({ headers }) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
  key: TOKEN,
  error: (status, what) => JSON.stringify({ ok: false, error: WORDS[status] ?? 'fatal_error', what }),
  limitHeaders: ({ over, resetAt }) => ({
    ...(over ? { 'retry-after': String(Math.max(1, Math.ceil((resetAt - Date.now()) / 1000))) } : {}),
  }),
  headers: () => ({ 'x-oauth-scopes': 'admin.users:read,auditlogs:read', 'x-slack-req-id': 'canary-request' }),
  routes: [
    {
      path: '/api/admin.users.list',
      resource: 'users',
      paging: paged(200),
      when: ({ query }) => /^(true|false)$/.test(query.get('is_active') ?? ''),
      records: inTwo('is_active', 'true', adminUser),
      wrap: around('users'),
    },
    {
      path: '/api/admin.teams.list',
      resource: 'teams',
      paging: paged(1000),
      records: (scale) => ({ count: channelsOf(scale), at: team }),
      wrap: around('teams'),
    },
    {
      path: '/api/admin.conversations.search',
      resource: 'channels',
      paging: cursor({ as: 'cursor', max: 20, fallback: 10, strict: true }),
      total: true,
      when: ({ query }) => query.get('sort') === 'created',
      records: (scale) => ({ count: channelsOf(scale), at: channel }),
      wrap: aroundSearch,
    },
    {
      path: '/api/conversations.members',
      resource: 'channel_members',
      paging: cursor({ as: 'cursor', max: 999, strict: true }),
      records: membersOf,
      parents: channelIds,
      wrap: around('members'),
    },
    {
      path: '/api/usergroups.list',
      resource: 'user_groups',
      paging: none(),
      when: ({ query }) => query.get('include_disabled') === 'true',
      records: (scale) => ({ count: half(scale), at: userGroup }),
      wrap: (array) => `{"ok":true,"usergroups":${array}}`,
    },
    apps('apps', 'admin.apps.approved.list', 'approved_apps', 0),
    apps('restricted_apps', 'admin.apps.restricted.list', 'restricted_apps', 100_000),
    {
      path: '/api/team.info',
      resource: 'workspaces',
      paging: none(),
      records: () => ({ count: 1, at: () => WORKSPACE }),
      wrap: (array) => `{"ok":true,"team":${array === '[]' ? 'null' : array.slice(1, -1)}}`,
    },
    {
      path: '/api/users.list',
      resource: 'workspace_users',
      paging: paged(1000),
      records: (scale) => ({ count: scale, at: member }),
      wrap: around('members'),
    },
    {
      path: '/api/conversations.list',
      resource: 'workspace_channels',
      paging: paged(1000),
      when: ({ query }) => query.get('types') === 'public_channel,private_channel',
      records: (scale) => ({ count: half(scale), at: conversation }),
      wrap: around('channels'),
    },
    {
      path: '/audit/v1/logs',
      resource: 'audit_logs',
      paging: paged(9999),
      when: ({ query }) => query.has('oldest') && query.has('latest'),
      records: entriesOf,
      wrap: around('entries'),
    },
  ],
});
