import { around, CLIENT, countsUsers, expired, graphUser, graphVendor, pages, TENANT } from './graph.ts';
import { address, digits, mix, person, pick, text, uuid } from './invent.ts';
import type { Records, Request } from './paging.ts';
import { defineVendor } from './vendor.ts';

const SECRET = 'canary-azure-entra~1a2B3c4D5e6F7g8H9i0J';
const STARTED = Date.now();
const MINUTE = 60_000;

/** A moment with seven digits behind the second: an event each ten minutes, the newest two hours ago. */
function stamp(index: number, salt: number): string {
  const moment = new Date(STARTED - 120 * MINUTE - index * 10 * MINUTE).toISOString();
  return moment.replace('Z', `${String(mix(index, salt) % 10_000).padStart(4, '0')}Z`);
}

function signIn(index: number): object {
  const { first, last, mail } = person(index);
  return {
    id: uuid(index, 97),
    createdDateTime: stamp(index, 98),
    userDisplayName: `${first} ${last}`,
    userPrincipalName: mail,
    appDisplayName: pick(['Azure Portal', 'Office "365"', '経費精算'], index, 99),
    ipAddress: address(index, 100),
    clientAppUsed: 'Browser',
    conditionalAccessStatus: pick(['success', 'failure', 'notApplied'], index, 101),
    isInteractive: true,
    autonomousSystemNumber: digits(String(9_007_199_254_740_993n + BigInt(index))),
    status: { errorCode: index % 6 === 0 ? 50126 : 0, failureReason: 'Other.', additionalDetails: null },
    location: { city: 'Łódź', countryOrRegion: 'PL', geoCoordinates: { latitude: digits('51.770'), longitude: 19 } },
  };
}

function audit(index: number): object {
  const { first, mail } = person(index);
  return {
    id: `Directory_${uuid(index, 102)}_${index}`,
    activityDateTime: stamp(index, 103),
    activityDisplayName: pick(['Update user', 'Add member to group', 'Consent to application'], index, 104),
    category: 'UserManagement',
    result: pick(['success', 'failure'], index, 105),
    resultReason: `Grund: "${first}"\\${index}`,
    initiatedBy: index % 3 === 0 ? { app: { displayName: 'Sync' }, user: null } : { user: { userPrincipalName: mail } },
    targetResources: [{ id: uuid(index, 106), type: 'User', modifiedProperties: [{ displayName: 'Name' }] }],
  };
}

/** A moment to the last digit, so that two can be compared as text. */
const exact = (moment: string) => moment.replace(/(?:\.(\d+))?Z$/, (_, part = '') => `.${part.padEnd(7, '0')}Z`);

function spanIn({ query }: Request, field: string): readonly [from: string, to: string] | undefined {
  const pattern = new RegExp(`^${field} ge (\\S+Z) and ${field} le (\\S+Z)$`);
  const [, from, to] = pattern.exec(query.get('$filter') ?? '') ?? [];
  return from === undefined || to === undefined ? undefined : [exact(from), exact(to)];
}

/** The newest first; both ends of the span belong to it. */
function log(field: string, salt: number, event: (index: number) => object) {
  return {
    paging: pages(999),
    when: (request: Request) => spanIn(request, field) !== undefined,
    records: (scale: number, request: Request): Records => {
      const [from, to] = spanIn(request, field) ?? ['', '~'];
      const found: number[] = [];
      for (let index = 0; index < scale; index += 1) {
        const moment = stamp(index, salt);
        if (moment >= from && moment <= to) found.push(index);
      }
      return { count: found.length, at: (nth) => text(event(found[nth] ?? 0), found[nth]) };
    },
    wrap: around,
    expired,
  };
}

const { token, ...common } = graphVendor(SECRET);

export default defineVendor({
  ...common,
  name: 'azure_entra',
  env: (origin) => ({
    AZURE_GRAPH_URL: origin,
    AZURE_AUTHORITY_HOST: origin,
    AZURE_TENANT_ID: TENANT,
    AZURE_CLIENT_ID: CLIENT,
    AZURE_CLIENT_SECRET: SECRET,
  }),
  routes: [
    token,
    {
      path: '/v1.0/users',
      resource: 'users',
      paging: pages(999),
      total: true,
      when: countsUsers,
      records: (scale) => ({ count: scale, at: (index) => text(graphUser(index), index) }),
      wrap: around,
      expired,
    },
    { path: '/v1.0/auditLogs/signIns', resource: 'signins', ...log('createdDateTime', 98, signIn) },
    { path: '/v1.0/auditLogs/directoryAudits', resource: 'audit_logs', ...log('activityDateTime', 103, audit) },
  ],
});
