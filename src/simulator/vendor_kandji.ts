import { address, digits, hex, mix, moment, person, pick, text, uuid } from './invent.ts';
import { nextUrl, none, offset, type Page, pageNumber, type Records, type Request } from './paging.ts';
import { defineVendor } from './vendor.ts';

const TOKEN = 'canary-kandji-5b1f2c3d-4e5f-4a7b-8c9d-0e1f2a3b4c5d';

const deviceId = (index: number) => uuid(index, 51);

function device(index: number): string {
  const platform = pick(['Mac', 'iPhone', 'iPad', 'AppleTV', 'Windows'], index, 1);
  const { first, last, mail } = person(index);
  const record = {
    device_id: deviceId(index),
    device_name: `${first}’s ${platform} 💻`,
    model: 'MacBook Air (Retina, 13-inch)',
    serial_number: hex(index, 2, 12).toUpperCase(),
    platform,
    os_version: '15.1',
    last_check_in: moment(index, 3),
    user: index % 4 === 0 ? '' : { email: mail, name: `${first} ${last}`, id: index, is_archived: false },
    asset_tag: digits(String(9_007_199_254_740_993n + BigInt(index) * 2n)),
    blueprint_id: uuid(index % 7, 52),
    mdm_enabled: true,
    agent_installed: index % 3 > 0,
    is_missing: false,
    is_removed: false,
    blueprint_name: 'Laptops "Ost"\\West',
    lost_mode_status: '',
  };
  return text(record, index);
}

function details(index: number): string {
  const record = {
    general: { device_id: deviceId(index), device_name: `Gerät ${index}`, platform: 'Mac', os_version: '15.1' },
    mdm: { mdm_enabled: 'True', supervised: 'True', install_date: moment(index, 4) },
    activation_lock: { bypass_code_failed: false, activation_lock_supported: true },
    filevault: { filevault_enabled: index % 5 > 0, filevault_recoverykey_type: 'Personal' },
    hardware_overview: { serial_number: hex(index, 2, 12).toUpperCase(), memory: '16 GB' },
    network: { local_hostname: `host-${index}`, ip_address: address(index, 5), mac_address: hex(index, 6, 12) },
    kandji_agent: { agent_installed: 'True', agent_version: '4.2.0 (5111)' },
    security_information: { remote_desktop_enabled: false },
  };
  return text(record, index);
}

function parameter(parent: number, index: number): string {
  const record = {
    item_id: uuid(index, 53),
    name: pick(['Enable Firewall', 'Gatekeeper für alle', 'Check “SIP”'], index, 7),
    status: pick(['PASS', 'ERROR', 'REMEDIATED'], parent + index, 8),
    category: 'Security',
    subcategory: 'Firewall',
    checked_at: moment(parent, 9 + index),
  };
  return text(record, parent + index);
}

function libraryItem(parent: number, index: number): string {
  const record = {
    id: uuid(index, 54),
    name: pick(['Chrome', 'Profil Wi-Fi', '更新'], index, 10),
    type: pick(['profile', 'custom-app', 'automatic-app'], index, 11),
    status: pick(['PASS', 'PENDING', 'ERROR'], parent + index, 12),
    reported_at: moment(parent, 13 + index),
    log: `first line of ${parent}\n"second"\tline\n`,
  };
  return text(record, parent + index);
}

function blueprint(index: number): string {
  const record = {
    id: uuid(index, 52),
    name: `Équipe ${index}`,
    icon: 'ss-files',
    description: 'Line one\nline two',
    params: { [uuid(index, 55)]: { mute: false, daily: false, details: '1' } },
    computers_count: mix(index, 14) % 90,
    enrollment_code: { is_active: index % 2 === 0 },
    type: pick(['classic', 'map'], index, 15),
  };
  return text(record, index);
}

function vulnerability(index: number): string {
  const record = {
    cve_id: `CVE-2024-${String(10_000 + index)}`,
    cvss_score: digits(pick(['9.80', '7.5', '4.0'], index, 16)),
    severity: pick(['Critical', 'High', 'Medium'], index, 17),
    description: 'A crafted «payload» may execute code',
    software: ['Chrome'],
    device_count: 1 + (mix(index, 18) % 40),
    first_detection_date: moment(index, 19),
    status: 'Active',
  };
  return text(record, index);
}

function indexOf(given: string | undefined, scale: number): number | undefined {
  const index = Number.parseInt((given ?? '').slice(-12), 16);
  return index < scale && deviceId(index) === given ? index : undefined;
}

function ofDevice(count: (parent: number) => number, at: (parent: number, index: number) => string) {
  return (scale: number, { params }: Request): Records | undefined => {
    const parent = indexOf(params.id, scale);
    return parent === undefined ? undefined : { count: count(parent), at: (index) => at(parent, index) };
  };
}

function* parents(scale: number): Generator<{ id: string }> {
  for (let index = 0; index < scale; index += 1) yield { id: deviceId(index) };
}

const around =
  (name: string) =>
  (array: string, { request }: Page) =>
    `{"device_id":"${request.params.id}","${name}":${array}}`;

export default defineVendor({
  name: 'kandji',
  env: (origin) => ({ KANDJI_API_URL: origin, KANDJI_API_TOKEN: TOKEN }),
  credential: ({ headers }) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
  key: TOKEN,
  error: (_, what) => JSON.stringify({ detail: what }),
  limitHeaders: ({ limit, remaining, resetAt }) => ({
    'ratelimit-limit': String(limit),
    'ratelimit-remaining': String(remaining),
    'ratelimit-reset': String(Math.max(0, Math.ceil((resetAt - Date.now()) / 1000))),
  }),
  headers: () => ({ 'x-ratelimit-limit-hour': '10000', 'x-ratelimit-remaining-hour': '9966' }),
  routes: [
    {
      path: '/api/v1/devices',
      resource: 'devices',
      paging: offset({ as: 'offset', max: 300, strict: true }),
      when: ({ query }) => query.has('limit') && query.get('ordering') === 'serial_number',
      records: (scale) => ({ count: scale, at: device }),
    },
    {
      path: '/api/v1/devices/{id}/details',
      resource: 'device_details',
      paging: none(),
      records: ofDevice(() => 1, details),
      parents,
      wrap: (array) => array.slice(1, -1),
    },
    {
      path: '/api/v1/devices/{id}/parameters',
      resource: 'device_parameters',
      paging: none(),
      records: ofDevice((parent) => mix(parent, 20) % 4, parameter),
      parents,
      wrap: around('parameters'),
    },
    {
      path: '/api/v1/devices/{id}/status',
      resource: 'device_library_items',
      paging: none(),
      records: ofDevice((parent) => mix(parent, 21) % 4, libraryItem),
      parents,
      wrap: around('library_items'),
    },
    {
      path: '/api/v1/blueprints',
      resource: 'blueprints',
      paging: nextUrl({ max: 100, as: 'offset_token' }),
      total: true,
      records: (scale) => ({ count: Math.max(3, Math.ceil(scale / 3)), at: blueprint }),
      wrap: (array, { total, next }) =>
        `{"count":${total},"next":${JSON.stringify(next ?? null)},"previous":null,"results":${array}}`,
    },
    {
      path: '/api/v1/vulnerability-management/vulnerabilities',
      resource: 'vulnerabilities',
      paging: pageNumber({ as: 'page', max: 50, limit: 'size', strict: true }),
      total: true,
      records: (scale) => ({ count: scale, at: vulnerability }),
      wrap: (array, { total, limit }) => `{"results":${array},"size":${limit},"total":${total}}`,
    },
  ],
});
