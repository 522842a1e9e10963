import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { address, digits, hex, mix, moment, person, pick, text } from './invent.ts';
import { cursor, none, type Page, type Route, single } from './paging.ts';
import { defineVendor } from './vendor.ts';

const ACCOUNT = 'reader@canary-project.example';
const ADMIN = 'admin@acme.example';
const CUSTOMER = 'my_customer';
const API = '/admin/directory/v1';
const SCOPE = 'https://www.googleapis.com/auth/';
const STARTED = Date.now();
const DAY = 86_400_000;

let pem: string | undefined;

/** The private key of the account; made once, when somebody asks. */
function privateKey(): string {
  pem ??= generateKeyPairSync('rsa', { modulusLength: 2048 })
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString();
  return pem;
}

const id = (index: number, salt: number) =>
  String(100_000_000_000_000_000_000n + BigInt(salt) * 10n ** 12n + BigInt(index));
const etag = (index: number) => `"${hex(index, 1, 20)}/${hex(index, 2, 20)}"`;

function user(index: number): object {
  const { first, last, mail } = person(index);
  return {
    kind: 'admin#directory#user',
    id: id(index, 1),
    etag: etag(index),
    primaryEmail: mail,
    name: { givenName: first, familyName: last, fullName: `${first} ${last}` },
    isAdmin: index % 20 === 0,
    lastLoginTime: index % 5 === 0 ? '1970-01-01T00:00:00.000Z' : moment(index, 3),
    creationTime: moment(index, 4),
    suspended: index % 9 === 4,
    isEnrolledIn2Sv: index % 3 > 0,
    orgUnitPath: pick(['/', '/Büro Zürich', '/営業'], index, 5),
    customSchemas: {
      HR: { number: digits(String(9_007_199_254_740_993n + BigInt(index) * 2n)), note: 'a "b" \\ c\n' },
    },
  };
}

const groupId = (index: number) => `0${hex(index, 6, 10)}${index}`;

function group(index: number): object {
  return {
    kind: 'admin#directory#group',
    id: groupId(index),
    etag: etag(index),
    email: `group.${index}@acme.example`,
    name: pick(['Équipe "réseau"', 'IT\\Ops', '監査'], index, 7),
    directMembersCount: String(mix(index, 8) % 4),
    description: 'first line\nsecond 🦉',
    adminCreated: index % 2 === 0,
  };
}

/** Everybody is in the first group; some groups have nobody. */
const membersIn = (index: number, scale: number) =>
  index === 0 ? scale : index % 4 === 3 ? 0 : 1 + (mix(index, 8) % 4);

function member(of: number, index: number): object {
  const on = of * 7 + index;
  return {
    kind: 'admin#directory#member',
    etag: etag(on),
    id: id(on, 1),
    email: person(on).mail,
    role: pick(['MEMBER', 'MANAGER', 'OWNER'], on, 9),
    type: 'USER',
    status: 'ACTIVE',
  };
}

function role(index: number): object {
  return {
    kind: 'admin#directory#role',
    etag: etag(index),
    roleId: String(3_894_208_461_012_993n + BigInt(index)),
    roleName: pick(['_SEED_ADMIN_ROLE', 'Prüfer', '監査 "read"'], index, 10),
    rolePrivileges: [{ serviceId: '00haapch16h1ysv', privilegeName: 'USERS_RETRIEVE' }],
    isSystemRole: index < 5,
  };
}

function assignment(index: number): object {
  return {
    kind: 'admin#directory#roleAssignment',
    etag: etag(index),
    roleAssignmentId: String(3_894_208_461_013_993n + BigInt(index)),
    roleId: String(3_894_208_461_012_993n + BigInt(index % 7)),
    assignedTo: id(index, 1),
    scopeType: 'CUSTOMER',
  };
}

function orgUnit(index: number): object {
  const name = pick(['Büro', 'Łódź "A"', '営業'], index, 11);
  return {
    kind: 'admin#directory#orgUnit',
    etag: etag(index),
    name,
    orgUnitPath: `/${name}/${index}`,
    orgUnitId: `id:03ph8a2z${hex(index, 12, 6)}${index}`,
    parentOrgUnitPath: `/${name}`,
  };
}

function mobile(index: number): object {
  return {
    kind: 'admin#directory#mobiledevice',
    resourceId: `AFiQxQ8${hex(index, 13, 30)}${index}`,
    deviceId: hex(index, 14, 16),
    name: [`${person(index).first} ${person(index).last}`],
    model: pick(['Pixel 8', 'iPhone "15"', '富士通'], index, 15),
    os: 'Android 15',
    status: pick(['APPROVED', 'BLOCKED', 'PENDING'], index, 16),
    lastSync: moment(index, 17),
  };
}

function chromebook(index: number): object {
  return {
    kind: 'admin#directory#chromeosdevice',
    deviceId: `${hex(index, 18, 24)}${index}`,
    serialNumber: hex(index, 19, 10).toUpperCase(),
    status: pick(['ACTIVE', 'DEPROVISIONED', 'DISABLED'], index, 20),
    annotatedUser: person(index).mail,
    notes: 'Gerät\tim\\Lager',
    systemRamTotal: String(8_000_000_000 + index),
  };
}

const stampOf = (index: number) => STARTED - DAY - index * 61_001;

function activity(application: string, index: number): object {
  return {
    kind: 'admin#reports#activity',
    id: {
      time: new Date(stampOf(index)).toISOString(),
      uniqueQualifier: String(-9_007_199_254_740_993n - BigInt(mix(index, 21))),
      applicationName: application,
      customerId: 'C0canary1',
    },
    etag: etag(index),
    actor: { email: person(index).mail, profileId: id(index, 1) },
    ipAddress: address(index, 22),
    events: [{ type: application, name: 'something_happened', parameters: [{ name: 'wert', value: 'Größe "1"\n' }] }],
  };
}

/** A list that has nothing is left out of the answer. */
function around(kind: string, field: string) {
  return (records: string, { next }: Page) =>
    JSON.stringify({ kind, etag: etag(0) }).slice(0, -1) +
    (records === '[]' ? '' : `,"${field}":${records}`) +
    (next === undefined ? '' : `,"nextPageToken":${JSON.stringify(next)}`) +
    '}';
}

interface List {
  readonly resource: string;
  readonly path: string;
  readonly field: string;
  readonly max: number;
  readonly record: (index: number) => object;
  readonly needs?: Readonly<Record<string, string>>;
}

const expired = () => ({ status: 400, body: failure(400, 'invalid', 'Invalid Input: pageToken') });
const paged = (max: number) => cursor({ as: 'pageToken', limit: 'maxResults', max, fallback: 100, strict: true });

function listed({ resource, path, field, max, record, needs = {} }: List): Route {
  return {
    path,
    resource,
    paging: max === 0 ? none() : paged(max),
    when: ({ query }) => Object.entries(needs).every(([name, value]) => query.get(name) === value),
    records: (scale) => ({ count: scale, at: (index) => text(record(index), index) }),
    wrap: around('admin#directory#list', field),
    expired,
  };
}

const members: Route = {
  path: `${API}/groups/{id}/members`,
  resource: 'group_members',
  paging: paged(200),
  parents: (scale) => Array.from({ length: scale }, (_, index) => ({ id: groupId(index) })),
  records(scale, { params: { id: asked = '' } }) {
    const of = Number(asked.slice(11));
    if (groupId(of) !== asked || of >= scale) return undefined;
    return { count: membersIn(of, scale), at: (index) => text(member(of, index), index) };
  },
  wrap: around('admin#directory#members', 'members'),
  expired,
};

function log(application: string): Route {
  return {
    path: `/admin/reports/v1/activity/users/all/applications/${application}`,
    resource: `${application}_activities`,
    paging: paged(1000),
    when: ({ query }) => query.has('startTime') && query.has('endTime'),
    records(scale, { query }) {
      const least = Date.parse(query.get('startTime') ?? '2000-01-01T00:00:00Z');
      const most = Date.parse(query.get('endTime') ?? '2999-01-01T00:00:00Z');
      const found: number[] = [];
      for (let index = 0; index < scale; index += 1) {
        if (stampOf(index) >= least && stampOf(index) <= most) found.push(index);
      }
      return { count: found.length, at: (place) => text(activity(application, found[place] ?? 0), found[place]) };
    },
    wrap: around('admin#reports#activities', 'items'),
    expired,
  };
}

/** The claims of an assertion that the account has signed. */
function claimsOf(assertion: string): Readonly<Record<string, unknown>> | undefined {
  const [head = '', claims = '', signature = ''] = assertion.split('.');
  const key = createPublicKey(privateKey());
  if (!verify('sha256', Buffer.from(`${head}.${claims}`), key, Buffer.from(signature, 'base64url'))) return undefined;
  return JSON.parse(Buffer.from(claims, 'base64url').toString()) as Record<string, unknown>;
}

const refused = (status: number, error: string) => ({
  status,
  body: JSON.stringify({ error, error_description: 'The request is refused.' }),
});

const token = single('none', ({ request, session }) => {
  const form = new URLSearchParams(request.body);
  if (form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:jwt-bearer')
    return refused(400, 'unsupported_grant_type');
  const claims = claimsOf(form.get('assertion') ?? '');
  const right = claims?.iss === ACCOUNT && claims.sub === ADMIN && claims.aud === `${session.origin}/token`;
  if (claims === undefined || !right) return refused(400, 'invalid_grant');
  const scopes = String(claims.scope).split(' ');
  const missing = (session.settings.unauthorised ?? '').split(' ').map((scope) => SCOPE + scope);
  if (scopes.some((scope) => missing.includes(scope) || !scope.startsWith(SCOPE)))
    return refused(401, 'unauthorized_client');
  const body = { access_token: session.issue(), expires_in: 3599, token_type: 'Bearer' };
  return { status: 200, body: JSON.stringify(body) };
});

function failure(code: number, reason: string, message: string): string {
  return JSON.stringify({ error: { code, message, errors: [{ message, domain: 'global', reason }] } });
}

const REASONS: Readonly<Record<number, string>> = {
  401: 'authError',
  403: 'forbidden',
  404: 'notFound',
  429: 'rateLimitExceeded',
};

const OF_CUSTOMER = `${API}/customer/${CUSTOMER}`;
const customer = { customer: CUSTOMER };

export default defineVendor({
  name: 'google_workspace',
  env: (origin) => ({
    GOOGLE_WORKSPACE_SERVICE_ACCOUNT_JSON_PATH: JSON.stringify({
      type: 'service_account',
      client_email: ACCOUNT,
      private_key: privateKey(),
      token_uri: `${origin}/token`,
    }),
    GOOGLE_WORKSPACE_ADMIN_EMAIL: ADMIN,
    GOOGLE_WORKSPACE_BASE_URL: origin,
  }),
  credential: ({ headers }) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
  error: (status, what) => failure(status, REASONS[status] ?? 'backendError', what),
  limitHeaders: () => ({}),
  routes: [
    { path: '/token', method: 'POST', resource: 'token', paging: token },
    listed({
      resource: 'users',
      path: `${API}/users`,
      field: 'users',
      max: 500,
      record: user,
      needs: { ...customer, projection: 'full' },
    }),
    listed({ resource: 'groups', path: `${API}/groups`, field: 'groups', max: 200, record: group, needs: customer }),
    members,
    listed({ resource: 'roles', path: `${OF_CUSTOMER}/roles`, field: 'items', max: 100, record: role }),
    listed({
      resource: 'role_assignments',
      path: `${OF_CUSTOMER}/roleassignments`,
      field: 'items',
      max: 200,
      record: assignment,
    }),
    listed({
      resource: 'org_units',
      path: `${OF_CUSTOMER}/orgunits`,
      field: 'organizationUnits',
      max: 0,
      record: orgUnit,
      needs: { type: 'all' },
    }),
    listed({
      resource: 'mobile_devices',
      path: `${OF_CUSTOMER}/devices/mobile`,
      field: 'mobiledevices',
      max: 100,
      record: mobile,
      needs: { projection: 'FULL' },
    }),
    listed({
      resource: 'chromeos_devices',
      path: `${OF_CUSTOMER}/devices/chromeos`,
      field: 'chromeosdevices',
      max: 300,
      record: chromebook,
      needs: { projection: 'FULL' },
    }),
    log('login'),
    log('admin'),
    log('token'),
  ],
});
