import { createHash, createHmac } from 'node:crypto';
import { address, digits, hex, mix, moment, person, pick, text, uuid } from './invent.ts';
import { cursor, offset, type Page, type Paging, type Records, type Request } from './paging.ts';
import { defineVendor } from './vendor.ts';

const INTEGRATION = 'DICANARY0A1B2C3D4E5F';
const SECRET = 'canaryduo0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5';
const STARTED = Date.now();
const DAY = 86_400_000;

const CODES: Readonly<Record<number, readonly [code: number, message: string]>> = {
  400: [40002, 'Invalid request parameters'],
  401: [40103, 'Invalid signature in request credentials'],
  403: [40301, 'Access forbidden'],
  404: [40401, 'Resource not found'],
  429: [42901, 'Too Many Requests'],
};

const id = (prefix: string, index: number) =>
  `${prefix}${hex(index, prefix.charCodeAt(1), 10).toUpperCase()}${index.toString(36).toUpperCase().padStart(8, '0')}`;
const epoch = (index: number, salt: number) => Math.floor(Date.parse(moment(index, salt)) / 1000);

function group(index: number): object {
  const name = pick(['Équipe réseau', 'IT "Tier 2"', '営業', 'Sales\\Ops'], index);
  return {
    desc: `Line one\nline two of ${index}`,
    group_id: id('DG', index),
    mobile_otp_enabled: false,
    name,
    push_enabled: index % 2 === 0,
    sms_enabled: false,
    status: pick(['Active', 'Bypass', 'Disabled'], index, 2),
    voice_enabled: false,
  };
}

function phone(index: number): object {
  return {
    activated: index % 5 > 0,
    capabilities: ['auto', 'push', 'sms', 'mobile_otp'],
    encrypted: 'Encrypted',
    extension: '',
    fingerprint: 'Configured',
    last_seen: index % 4 === 0 ? '' : moment(index, 3).slice(0, 19),
    model: pick(['Apple iPhone 15', 'Pixel 8', '富士通 arrows'], index, 4),
    name: '',
    number: `+1555${String(mix(index, 5) % 10_000_000).padStart(7, '0')}`,
    phone_id: id('DP', index),
    platform: pick(['Apple iOS', 'Google Android'], index, 6),
    tampered: 'Not tampered',
    type: 'Mobile',
  };
}

function user(index: number): object {
  const { first, last, mail } = person(index);
  return {
    alias1: null,
    aliases: { alias1: `${first}.${index}` },
    created: epoch(index, 7),
    email: mail,
    firstname: first,
    groups: index % 3 === 0 ? [] : [group(index % 4)],
    is_enrolled: index % 6 > 0,
    last_login: index % 9 === 0 ? null : epoch(index, 8),
    lastname: last,
    notes: 'said "no"\\\tonce 🦉',
    phones: [phone(index)],
    realname: `${first} ${last}`,
    serial: digits(String(9_007_199_254_740_993n + BigInt(index) * 2n)),
    status: pick(['active', 'active', 'bypass', 'disabled', 'locked out', 'pending deletion'], index, 9),
    tokens: [],
    user_id: id('DU', index),
    username: mail,
    webauthncredentials: [],
  };
}

function endpoint(index: number): object {
  return {
    browsers: [
      { browser_family: 'Firefox', browser_version: '128.0', flash_version: null, last_used: epoch(index, 10) },
    ],
    computer_sid: `S-1-5-21-${mix(index, 11)}-${mix(index, 12)}-1001`,
    device_name: `${person(index).first}’s laptop`,
    email: person(index).mail,
    epkey: id('EP', index),
    os_family: pick(['Windows', 'Mac OS X', 'Linux'], index, 13),
    trusted_endpoint: pick(['yes', 'no', 'unknown'], index, 14),
    type: 'laptop',
  };
}

function admin(index: number): object {
  const { first, last, mail } = person(index);
  return {
    admin_id: id('DE', index),
    admin_units: [],
    created: epoch(index, 15),
    email: mail,
    last_login: index % 4 === 0 ? null : epoch(index, 16),
    name: `${first} ${last}`,
    password_change_required: false,
    restricted_by_admin_units: false,
    role: pick(['Owner', 'Read-only', 'Help Desk', 'Security Analyst'], index, 17),
    status: 'Active',
  };
}

function integration(index: number): object {
  return {
    adminapi_admins: 0,
    greeting: '',
    integration_key: id('DI', index),
    name: pick(['VPN – Zürich', 'Unix "ssh"', 'Microsoft RDP'], index, 18),
    networks_for_api_access: '',
    type: pick(['adminapi', 'unix', 'rdp'], index, 19),
    username_normalization_policy: 'Simple',
    user_access: 'ALL_USERS',
  };
}

const stampOf = (index: number) => STARTED - DAY - index * 61_001;

function authentication(index: number): object {
  const { mail } = person(index);
  return {
    access_device: { browser: 'Chrome', ip: address(index, 20), location: { city: 'Łódź', country: 'Poland' } },
    application: { key: id('DI', index % 5), name: 'VPN – Zürich' },
    event_type: 'authentication',
    factor: pick(['duo_push', 'webauthn_credential', 'not_available'], index, 21),
    isotimestamp: new Date(stampOf(index)).toISOString(),
    reason: pick(['user_approved', 'user_marked_fraud', 'no_response'], index, 22),
    result: pick(['success', 'success', 'denied', 'fraud'], index, 23),
    timestamp: Math.floor(stampOf(index) / 1000),
    txid: uuid(index, 24),
    user: { groups: ['Équipe réseau'], key: id('DU', index), name: mail },
  };
}

/** The newest first; both ends of the span belong to it. */
function logOf(scale: number, { query }: Request): Records {
  const [least, most] = [Number(query.get('mintime') ?? 0), Number(query.get('maxtime') ?? STARTED)];
  const found: number[] = [];
  for (let index = 0; index < scale; index += 1) {
    if (stampOf(index) >= least && stampOf(index) <= most) found.push(index);
  }
  return { count: found.length, at: (place) => text(authentication(found[place] ?? 0), found[place]) };
}

const inLog = cursor({ as: 'next_offset', max: 1000, fallback: 100, strict: true });

/** The offset is a moment and a transaction, joined by a comma. */
function bare(request: Request): Request {
  const query = new URLSearchParams(request.query);
  const given = query.get('next_offset');
  if (given !== null) query.set('next_offset', given.split(',')[1] ?? 'none');
  return { ...request, query };
}

const logPaging: Paging = {
  ...inLog,
  page: (request, session) => inLog.page(bare(request), session),
  answer: (ask) => inLog.answer({ ...ask, request: bare(ask.request) }),
};

function aroundLog(records: string, { next, total }: Page): string {
  const on = next === undefined ? null : [String(STARTED), next];
  const metadata = JSON.stringify({ next_offset: on, total_objects: total });
  return `{"response":{"authlogs":${records},"metadata":${metadata}},"stat":"OK"}`;
}

function around(records: string, { start, limit, total }: Page): string {
  const next = start + limit < total ? { next_offset: start + limit } : {};
  const before = start > 0 ? { prev_offset: Math.max(0, start - limit) } : {};
  return `{"metadata":${JSON.stringify({ ...before, ...next, total_objects: total })},"response":${records},"stat":"OK"}`;
}

function listed(resource: string, path: string, max: number, record: (index: number) => object, share = 1) {
  return {
    path,
    resource,
    total: true,
    paging: offset({ as: 'offset', max, fallback: 100, strict: true }),
    records: (scale: number) => ({
      count: Math.ceil(scale * share),
      at: (index: number) => text(record(index), index),
    }),
    wrap: around,
  };
}

/** The secret key, if it is what the request was signed with not long ago. */
function signer({ method, path, query, headers }: Request): string | undefined {
  const [user, hash] = Buffer.from(String(headers.authorization).replace(/^Basic /, ''), 'base64')
    .toString()
    .split(':');
  const date = String(headers.date);
  if (user !== INTEGRATION || !(Math.abs(Date.parse(date) - Date.now()) < 300_000)) return undefined;
  const sorted = [...query].map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).sort();
  const lines = [date, method, String(headers.host).toLowerCase(), path, sorted.join('&')];
  const nothing = createHash('sha512').digest('hex');
  const two = createHmac('sha1', SECRET).update(lines.join('\n')).digest('hex');
  const five = createHmac('sha512', SECRET)
    .update([...lines, nothing, nothing].join('\n'))
    .digest('hex');
  return hash === two || hash === five ? SECRET : undefined;
}

export default defineVendor({
  name: 'duo',
  env: (origin) => ({ DUO_API_HOSTNAME: origin, DUO_INTEGRATION_KEY: INTEGRATION, DUO_SECRET_KEY: SECRET }),
  credential: signer,
  key: SECRET,
  error(status, what) {
    const [code, message] = CODES[status] ?? [50000, 'Internal error'];
    return JSON.stringify({ code, message, message_detail: what, stat: 'FAIL' });
  },
  limitHeaders: () => ({}),
  routes: [
    listed('users', '/admin/v1/users', 300, user),
    listed('groups', '/admin/v1/groups', 100, group, 0.5),
    listed('phones', '/admin/v1/phones', 500, phone),
    listed('endpoints', '/admin/v1/endpoints', 500, endpoint),
    listed('admins', '/admin/v1/admins', 500, admin, 0.5),
    listed('integrations', '/admin/v3/integrations', 500, integration, 0.5),
    {
      path: '/admin/v2/logs/authentication',
      resource: 'authentications',
      total: true,
      paging: logPaging,
      when: ({ query }) => query.has('mintime') && query.has('maxtime'),
      records: logOf,
      wrap: aroundLog,
    },
  ],
});
