import { CLIENT, expired, graphVendor, TENANT } from './graph.ts';
import { address, digits, hex, mix, moment, person, pick, text } from './invent.ts';
import { nextUrl, offset, type Page, type Paging, type Route } from './paging.ts';
import { defineVendor } from './vendor.ts';

const SECRET = 'canary-mde~5hR1tQ9vX3zL7wB2nK8d';
const CONTEXT = 'https://api.securitycenter.microsoft.com/api/$metadata#';

const machineId = (index: number) => `${hex(index, 200, 32)}${index.toString(16).padStart(8, '0')}`;
const cve = (index: number) => `CVE-20${15 + (mix(index, 201) % 11)}-${1000 + index}`;

function machine(index: number): object {
  return {
    id: machineId(index),
    computerDnsName: `${person(index).first}-büro.acme.example`,
    firstSeen: moment(index, 202),
    lastSeen: moment(index, 203),
    osPlatform: pick(['Windows11', 'Windows10', 'macOS', 'Linux'], index, 204),
    osBuild: index % 5 === 0 ? null : 22_631,
    lastIpAddress: address(index, 205),
    healthStatus: pick(['Active', 'Inactive', 'NoSensorData'], index, 206),
    machineTags: index % 3 === 0 ? ['Étage 3', '本社', 'C:\\"quoted"'] : [],
    rbacGroupId: index % 9,
    aadDeviceId: null,
  };
}

function vulnerability(index: number): object {
  return {
    id: cve(index),
    name: cve(index),
    description: `Überlauf in "parser\\core" — 第${index}版`,
    severity: pick(['Low', 'Medium', 'High', 'Critical'], index, 207),
    cvssV3: digits(`${mix(index, 208) % 10}.${mix(index, 209) % 10}0`),
    epss: digits(`0.${String(mix(index, 210) % 100_000).padStart(5, '0')}`),
    exposedMachines: mix(index, 211) % 500,
    publishedOn: moment(index, 212),
    publicExploit: index % 4 === 0,
    exploitTypes: index % 4 === 0 ? ['PrivilegeEscalation'] : [],
  };
}

/** A device may have several rows. */
function health(index: number): object {
  return {
    id: `${machineId(index >> 1)}_${index % 2}`,
    machineId: machineId(index >> 1),
    computerDnsName: `${person(index >> 1).last}.acme.example`,
    avMode: pick(['Active', 'Passive', 'EDRBlocked'], index, 213),
    avIsSignatureUpToDate: pick(['True', 'False', 'Unknown'], index, 214),
    fullScanTime: index % 3 === 0 ? '0001-01-01T00:00:00Z' : moment(index, 215),
    rbacGroupName: 'Siège — Nord',
  };
}

const PRODUCTS = [
  ['mozilla', 'firefox'],
  ['søren', 'éditeur'],
  ['7-zip', '7-zip'],
] as const;

function finding(index: number): object {
  const [vendor, name] = pick<readonly [string, string]>(PRODUCTS, index, 216);
  const version = `${index % 90}.0.${mix(index, 217) % 100}`;
  const found = index % 6 === 0 ? null : cve(index);
  return {
    id: `${machineId(index % 40)}_${vendor}_${name}_${version}_${found ?? ''}_${index}`,
    deviceId: machineId(index % 40),
    deviceName: `${person(index).first}’s "laptop"`,
    softwareVendor: vendor,
    softwareName: name,
    softwareVersion: version,
    cveId: found,
    vulnerabilitySeverityLevel: found === null ? null : 'High',
    diskPaths: [`C:\\Program Files\\${name}\\${name}.exe`],
    lastSeenTimestamp: moment(index, 218).replace('T', ' ').replace('Z', ''),
    rbacGroupId: digits(String(9_007_199_254_740_993n + BigInt(index))),
  };
}

function list(resource: string, path: string, paging: Paging, record: (index: number) => object): Route {
  return {
    path: `/api/${path}`,
    resource,
    paging,
    records: (scale) => ({ count: scale, at: (index) => text(record(index), index) }),
    wrap: (records: string, { next }: Page) => {
      const on = next === undefined ? '' : `,"@odata.nextLink":${JSON.stringify(next)}`;
      return `{"@odata.context":"${CONTEXT}${resource}","value":${records}${on}}`;
    },
    expired,
  };
}

const skipping = (max: number) => offset({ as: '$skip', limit: '$top', max, strict: true });
const exported = nextUrl({ as: '$skiptoken', limit: 'pageSize', max: 200_000, fallback: 50_000, strict: true });
const linked = nextUrl({ as: '$skiptoken', limit: '$top', max: 10_000, fallback: 20, strict: true });
const { token, ...common } = graphVendor(SECRET);

export default defineVendor({
  ...common,
  name: 'mde',
  env: (origin) => ({
    MDE_BASE_URL: `${origin}/api`,
    MDE_AUTHORITY: origin,
    MDE_TENANT_ID: TENANT,
    MDE_CLIENT_ID: CLIENT,
    MDE_CLIENT_SECRET: SECRET,
  }),
  limitHeaders: ({ over, resetAt }): Readonly<Record<string, string>> =>
    over ? { 'retry-after': String(Math.max(1, Math.ceil((resetAt - Date.now()) / 1000))) } : {},
  routes: [
    token,
    list('machines', 'machines', skipping(10_000), machine),
    list('vulnerabilities', 'vulnerabilities', skipping(8000), vulnerability),
    list('device_av_info', 'deviceavinfo', linked, health),
    {
      ...list('machine_vulnerabilities', 'machines/SoftwareVulnerabilitiesByMachine', exported, finding),
      when: ({ query }) => !query.has('$top'),
    },
  ],
});
