import { address, digits, hex, mix, moment, person, pick, text, uuid } from './invent.ts';
import { linkHeader, none, type Records, type Request } from './paging.ts';
import { defineVendor } from './vendor.ts';

const HOME = 'https://acme.okta.example/api/v1';
const TOKEN = '00canary-okta-0a1b2c3d4e5f6a7b8c9d0e1f2a';
const DEPROVISIONED = 'status eq "DEPROVISIONED"';

const CODES: Readonly<Record<number, readonly [code: string, summary: string]>> = {
  400: ['E0000001', 'Api validation failed'],
  401: ['E0000011', 'Invalid token provided'],
  403: ['E0000006', 'You do not have permission to perform the requested action'],
  404: ['E0000007', 'Not found: Resource not found'],
  429: ['E0000047', 'API call exceeded rate limit due to too many requests.'],
  503: ['E0000010', 'Service is in read only mode.'],
};

/** An id of Okta's shape that ends with its index. */
function id(prefix: string, index: number): string {
  return `${prefix}${mix(index, prefix.length + 40)
    .toString(36)
    .padStart(8, '0')
    .slice(-8)}${index.toString(36).padStart(6, '0')}4x7`;
}

function indexOf(prefix: string, given: string | undefined, count: number): number | undefined {
  const index = Number.parseInt((given ?? '').slice(11, 17), 36);
  return index < count && id(prefix, index) === given ? index : undefined;
}

const groupsOf = (scale: number) => Math.max(3, Math.ceil(scale / 2));
const goneOf = (scale: number) => Math.ceil(scale / 50);

function user(index: number, status: string): string {
  const { first, last, mail } = person(index);
  const self = `${HOME}/users/${id('00u', index)}`;
  const lifecycle = [
    'suspend',
    'resetPassword',
    'expirePassword',
    'changeRecoveryQuestion',
    'changePassword',
    'deactivate',
  ];
  const record = {
    id: id('00u', index),
    status,
    created: moment(index, 3),
    activated: moment(index, 4),
    statusChanged: moment(index, 5),
    lastLogin: index % 9 === 0 ? null : moment(index, 6),
    lastUpdated: moment(index, 7),
    passwordChanged: moment(index, 8),
    type: { id: 'otycanary0000000004x6' },
    profile: {
      login: mail,
      email: mail,
      secondEmail: null,
      firstName: first,
      lastName: last,
      displayName: `${first} ${last} 🦉`,
      mobilePhone: null,
      title: pick(['Engineer', 'Analyst, "Tier 2"', 'Sales\\Ops', 'Comptable général'], index),
      department: pick(['IT', 'Forschung', 'Finance', '営業'], index, 9),
      payrollId: digits(String(9_007_199_254_740_993n + BigInt(index) * 2n)),
      fte: digits(pick(['1.00', '0.50', '8E-1'], index, 10)),
      manager: id('00u', mix(index, 11) % (index + 1)),
    },
    credentials: {
      emails: [{ value: mail, status: 'VERIFIED', type: 'PRIMARY' }],
      provider: { type: 'OKTA', name: 'OKTA' },
    },
    _links: {
      self: { href: self },
      ...Object.fromEntries(lifecycle.map((word) => [word, { href: `${self}/lifecycle/${word}`, method: 'POST' }])),
    },
  };
  return text(record, index);
}

const standing = (index: number) =>
  user(index, pick(['ACTIVE', 'ACTIVE', 'STAGED', 'SUSPENDED', 'PASSWORD_EXPIRED'], index, 12));

function group(index: number): string {
  const everyone = index === 0;
  const self = `${HOME}/groups/${id('00g', index)}`;
  const record = {
    id: id('00g', index),
    created: moment(index, 13),
    lastUpdated: moment(index, 14),
    lastMembershipUpdated: moment(index, 15),
    objectClass: ['okta:user_group'],
    type: everyone ? 'BUILT_IN' : 'OKTA_GROUP',
    profile: {
      name: everyone ? 'Everyone' : `Équipe ${index}`,
      description: everyone ? 'All users in your organization' : `Line one\nline two of ${index}`,
    },
    _links: { users: { href: `${self}/users` }, apps: { href: `${self}/apps` } },
  };
  return text(record, index);
}

function device(index: number): string {
  const platform = pick(['WINDOWS', 'MACOS', 'IOS', 'ANDROID'], index, 16);
  const self = `${HOME}/devices/${id('guo', index)}`;
  const record = {
    id: id('guo', index),
    status: pick(['ACTIVE', 'ACTIVE', 'DEACTIVATED'], index, 17),
    created: moment(index, 18),
    lastUpdated: moment(index, 19),
    profile: {
      displayName: `${person(index).first}’s ${platform.toLowerCase()}`,
      platform,
      manufacturer: pick(['Lenovo', 'Apple', '富士通'], index, 20),
      serialNumber: hex(index, 21, 12).toUpperCase(),
      sid: `S-1-5-21-${mix(index, 22)}-${mix(index, 23)}-1001`,
      udid: uuid(index, 24),
      lastAddress: address(index, 25),
      diskBytes: digits(String(9_007_199_254_740_995n + BigInt(index) * 4n)),
      registered: true,
      secureHardwarePresent: index % 3 > 0,
      diskEncryptionType: 'ALL_INTERNAL_VOLUMES',
    },
    resourceType: 'UDDevice',
    resourceDisplayName: { value: `Device ${index}`, sensitive: false },
    resourceAlternateId: null,
    resourceId: id('guo', index),
    _links: { self: { href: self }, users: { href: `${self}/users` } },
  };
  return text(record, index);
}

/** Few records that hang on a parent. */
function few(count: number, record: (index: number) => object): Records {
  return { count, at: (index) => text(record(index), index) };
}

function membersOf(scale: number, { params }: Request): Records | undefined {
  const parent = indexOf('00g', params.id, groupsOf(scale));
  if (parent === undefined) return undefined;
  const count = parent === 0 ? scale : parent === 1 ? 0 : Math.min(scale, mix(parent, 26) % 40);
  return { count, at: (index) => standing((parent * 7 + index) % scale) };
}

function factorsOf(scale: number, { params }: Request): Records | undefined {
  const parent = indexOf('00u', params.id, scale + goneOf(scale));
  if (parent === undefined) return undefined;
  const types = ['push', 'token:software:totp', 'webauthn'];
  return few(parent >= scale ? 0 : mix(parent, 27) % 4, (index) => ({
    id: id('opf', parent * 4 + index),
    factorType: types[index],
    provider: index === 2 ? 'FIDO' : 'OKTA',
    vendorName: index === 2 ? 'FIDO' : 'OKTA',
    status: 'ACTIVE',
    created: moment(parent, 28),
    lastUpdated: moment(parent, 29 + index),
    profile: { credentialId: person(parent).mail, name: 'Clé de sécurité' },
  }));
}

function rolesOf(scale: number, { params }: Request): Records | undefined {
  const parent = indexOf('00u', params.id, scale + goneOf(scale));
  if (parent === undefined) return undefined;
  return few(parent % 20 === 3 ? 1 : 0, () => ({
    id: id('ra1', parent),
    label: 'Read-only Administrator',
    type: 'READ_ONLY_ADMIN',
    status: 'ACTIVE',
    created: moment(parent, 33),
    lastUpdated: moment(parent, 34),
    assignmentType: 'USER',
    _links: { assignee: { href: `${HOME}/users/${params.id}` } },
  }));
}

function deviceUsersOf(scale: number, { params }: Request): Records | undefined {
  const parent = indexOf('guo', params.id, scale);
  if (parent === undefined) return undefined;
  return few(mix(parent, 35) % 3, (index) => ({
    created: moment(parent, 36),
    managementStatus: 'MANAGED',
    screenLockType: 'BIOMETRIC',
    user: {
      id: id('00u', (parent + index) % scale),
      realmId: null,
      profile: { login: person((parent + index) % scale).mail },
    },
  }));
}

function* ids(prefix: string, count: number): Generator<{ id: string }> {
  for (let index = 0; index < count; index += 1) yield { id: id(prefix, index) };
}

const userIds = (scale: number) => ids('00u', scale);
const paging = linkHeader({ max: 200 });

export default defineVendor({
  name: 'okta',
  env: (origin) => ({ OKTA_DOMAIN: origin, OKTA_TOKEN: TOKEN }),
  credential: ({ headers }) => /^SSWS (.+)$/.exec(String(headers.authorization))?.[1],
  key: TOKEN,
  error(status, what) {
    const [errorCode, errorSummary] = CODES[status] ?? ['E0000009', 'Internal Server Error'];
    return JSON.stringify({
      errorCode,
      errorSummary,
      errorLink: errorCode,
      errorId: `oae${hex(status, 2, 17)}`,
      errorCauses: [{ errorSummary: what }],
    });
  },
  limitHeaders: ({ limit, remaining, resetAt }) => ({
    'x-rate-limit-limit': String(limit),
    'x-rate-limit-remaining': String(remaining),
    'x-rate-limit-reset': String(Math.ceil(resetAt / 1000)),
  }),
  headers: () => ({ 'cache-control': 'no-cache, no-store', 'x-okta-request-id': 'canary-request' }),
  routes: [
    {
      path: '/api/v1/users',
      resource: 'users',
      paging,
      when: plain,
      records: (scale) => ({ count: scale, at: standing }),
    },
    {
      path: '/api/v1/users',
      resource: 'deprovisioned_users',
      paging,
      when: ({ query }) => query.get('filter') === DEPROVISIONED && !query.has('search'),
      records: (scale) => ({ count: goneOf(scale), at: (index) => user(scale + index, 'DEPROVISIONED') }),
    },
    {
      path: '/api/v1/groups',
      resource: 'groups',
      paging,
      when: plain,
      records: (scale) => ({ count: groupsOf(scale), at: group }),
    },
    {
      path: '/api/v1/devices',
      resource: 'devices',
      paging,
      when: plain,
      records: (scale) => ({ count: scale, at: device }),
    },
    {
      path: '/api/v1/groups/{id}/users',
      resource: 'group_members',
      paging,
      records: membersOf,
      parents: (scale) => ids('00g', groupsOf(scale)),
    },
    {
      path: '/api/v1/devices/{id}/users',
      resource: 'device_users',
      paging: none(),
      records: deviceUsersOf,
      parents: (scale) => ids('guo', scale),
    },
    {
      path: '/api/v1/users/{id}/factors',
      resource: 'user_factors',
      paging: none(),
      records: factorsOf,
      parents: userIds,
    },
    { path: '/api/v1/users/{id}/roles', resource: 'user_roles', paging: none(), records: rolesOf, parents: userIds },
  ],
});

function plain({ query }: Request): boolean {
  return !query.has('filter') && !query.has('search') && !query.has('q');
}
