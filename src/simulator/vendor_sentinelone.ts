import { address, digits, hex, mix, moment, person, pick, text, uuid } from './invent.ts';
import { cursor, type Page, type Request, type Route } from './paging.ts';
import { defineVendor } from './vendor.ts';

const TOKEN = 'canary-sentinelone-0a1b2c3d4e5f60718293a4b5';
const API = '/web/api/v2.1';

const id = (index: number, salt: number) =>
  String(1_000_000_000_000_000_000n + BigInt(salt) * 10n ** 12n + BigInt(index));

const pagination = ({ total, next }: Page) => JSON.stringify({ totalItems: total, nextCursor: next ?? null });

function list(resource: string, path: string, max: number, record: (index: number) => object): Route {
  return {
    path: `${API}/${path}`,
    resource,
    paging: cursor({ max, as: 'cursor', fallback: 10, strict: true }),
    total: true,
    whole: 'isDecommissioned=true,false',
    wrap: (records, page) => `{"data":${records},"pagination":${pagination(page)}}`,
    records: (scale) => ({ count: scale, at: (index) => text(record(index), index) }),
  };
}

function agent(index: number): object {
  return {
    id: id(index, 1),
    uuid: uuid(index, 1),
    computerName: `${person(index).first}’s ${pick(['laptop', 'Büro "PC"', '端末'], index)}`,
    externalIp: address(index, 2),
    osType: pick(['windows', 'macos', 'linux'], index, 3),
    isDecommissioned: index % 11 === 5,
    totalMemory: digits(String(9_007_199_254_740_993n + BigInt(index) * 2n)),
    createdAt: moment(index, 4),
  };
}

function threat(index: number): object {
  return {
    id: id(index, 2),
    agentRealtimeInfo: { agentId: id(index, 1), agentComputerName: person(index).last },
    threatInfo: {
      sha1: hex(index, 5, 40),
      filePath: `\\Device\\Users\\${person(index).first}\\x.exe`,
      incidentStatus: pick(['resolved', 'unresolved'], index, 6),
    },
  };
}

function group(index: number): object {
  return { id: id(index, 5), name: `Équipe ${index}`, siteId: id(mix(index, 7) % 9, 4), inherits: index % 2 === 0 };
}

function application(index: number): object {
  const name = pick(['Übersicht', 'Editor\nPro', '7-Zip'], index, 8);
  return { id: id(index, 6), agentUuid: uuid(index, 1), name, size: 1024 + index };
}

const sites: Route = {
  ...list('sites', 'sites', 1000, (index) => ({ id: id(index, 4), name: `Site ${index} 🏢`, state: 'active' })),
  wrap: (records, page) =>
    `{"data":{"allSites":{"totalLicenses":9},"sites":${records}},"pagination":${pagination(page)}}`,
};

const agents: Route = {
  ...list('agents', 'agents', 1000, agent),
  when: ({ query }: Request) => query.get('isDecommissioned') === 'true,false',
};

export default defineVendor({
  name: 'sentinelone',
  env: (origin) => ({ SENTINELONE_CONSOLE_URL: `${origin}/web/api/v2.1/`, SENTINELONE_API_TOKEN: TOKEN }),
  credential: ({ headers }) => /^ApiToken (.+)$/.exec(String(headers.authorization))?.[1],
  key: TOKEN,
  error: (status, what) =>
    JSON.stringify({ errors: [{ code: status * 10_000 + 10, title: 'Error', detail: what }], data: null }),
  limitHeaders: () => ({}),
  routes: [
    agents,
    list('threats', 'threats', 1000, threat),
    list('alerts', 'cloud-detection/alerts', 1000, (index) => ({
      alertInfo: { alertId: id(index, 3), createdAt: moment(index, 9) },
      ruleInfo: { name: `Règle ${index}` },
    })),
    sites,
    list('groups', 'groups', 200, group),
    list('installed_applications', 'installed-applications', 1000, application),
  ],
});
