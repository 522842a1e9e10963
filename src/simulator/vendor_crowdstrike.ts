import { address, digits, hex, mix, moment, person, pick, text } from './invent.ts';
import { cursor, ids, offset, type Page, type Paging, type Records, type Request, scroll, single } from './paging.ts';
import { defineVendor } from './vendor.ts';

const ID = 'canary0crowdstrike0id0000000000a';
const SECRET = 'canary-crowdstrike-secret-0123456789abcd';
const META = '"query_time":0.008,"powered_by":"simulator","trace_id":"0c0ffee0-0000-4000-a000-000000000000"';

/** 32 hex digits of which the last eight are the index. */
function id(index: number, salt: number): string {
  return hex(index, salt, 24) + index.toString(16).padStart(8, '0');
}

function indexOf(given: string, salt: number, count: number): number | undefined {
  const index = Number.parseInt(given.slice(24), 16);
  return index < count && id(index, salt) === given ? index : undefined;
}

const aid = (index: number) => id(index, 50);
const hostName = (index: number) => `${pick(['PARIS', 'KØBENHAVN', '東京'], index, 51)}-${index}`;

/** Four hosts of five have an assessment. */
const assessedCount = (scale: number) => Math.floor(scale / 5) * 4 + Math.min(scale % 5, 4);
const assessedHost = (index: number) => Math.floor(index / 4) * 5 + (index % 4);

function policy(index: number, type: string): object {
  return {
    policy_type: type,
    policy_id: id(index % 5, 52),
    applied: true,
    settings_hash: hex(index, 53, 8),
    assigned_date: moment(index, 54),
    rule_groups: [],
  };
}

function host(index: number): string {
  const platform = pick(['Windows', 'Mac', 'Linux'], index, 55);
  const record = {
    device_id: aid(index),
    cid: id(0, 49),
    agent_load_flags: '1',
    agent_version: `7.${mix(index, 56) % 30}.17706.0`,
    bios_manufacturer: pick(['LENOVO', 'Apple Inc.', '富士通'], index, 57),
    config_id_base: '65994763',
    config_id_build: '17706',
    external_ip: `203.0.113.${index % 250}`,
    local_ip: address(index, 58),
    mac_address: (hex(index, 59, 12).match(/../g) ?? []).join('-'),
    hostname: hostName(index),
    last_login_user: person(index).mail,
    os_version: pick(['Windows 11', 'Sequoia (15)', 'Ubuntu 24.04'], index, 55),
    platform_name: platform,
    product_type_desc: pick(['Workstation', 'Server'], index, 60),
    system_product_name: 'ThinkPad "X1" \\ Carbon',
    first_seen: moment(index, 61),
    last_seen: moment(index, 62),
    modified_timestamp: moment(index, 63),
    status: 'normal',
    tags: ['SensorGroupingTags/Zürich', `FalconGroupingTags/t${index % 7}`],
    groups: [id(index % 11, 64)],
    group_hash: hex(index, 65, 64),
    instance_token: digits(String(9_223_372_036_854_775_807n - BigInt(index))),
    policies: [policy(index, 'prevention')],
    device_policies: { prevention: policy(index, 'prevention'), sensor_update: policy(index + 1, 'sensor-update') },
    meta: { version: String(mix(index, 66) % 5000), version_string: `9:${mix(index, 66)}` },
    ...(platform === 'Windows'
      ? { machine_domain: 'acme.example', ou: ['Arbeitsplätze', 'Büro'], site_name: 'HQ' }
      : {}),
  };
  return text(record, index);
}

function hostGroup(index: number): string {
  const dynamic = { group_type: 'dynamic', assignment_rule: `hostname:*'${hostName(index)}*'+platform_name:'Windows'` };
  const record = {
    id: id(index, 64),
    name: `Groupe n° ${index}`,
    description: 'hosts of\ttwo "sites"',
    ...(index % 2 === 0 ? dynamic : { group_type: 'static' }),
    created_by: person(index).mail,
    created_timestamp: moment(index, 67),
    modified_by: person(index + 1).mail,
    modified_timestamp: moment(index, 68),
    revision: digits(String(9_007_199_254_740_993n + BigInt(index))),
  };
  return text(record, index);
}

/** A finding; its parts come only with their facets. */
function vulnerability(index: number, scale: number, facets: readonly string[]): string {
  const cve = `CVE-20${20 + (index % 6)}-${10_000 + (mix(index, 69) % 50_000)}`;
  const on = mix(index, 70) % scale;
  const parts: Readonly<Record<string, object>> = {
    cve: {
      id: cve,
      base_score: digits(pick(['9.80', '7.5', '5.0E0'], index, 71)),
      severity: 'HIGH',
      exploit_status: 30,
      description: 'Dépassement de tampon — 远程代码执行',
      references: [`https://nvd.example/${cve}`],
    },
    host_info: {
      hostname: hostName(on),
      local_ip: address(on, 58),
      platform: 'Windows',
      os_version: 'Windows 11',
      groups: [],
      tags: ['Büro'],
      internet_exposure: 'No',
    },
    remediation: {
      ids: [id(index % 40, 72)],
      entities: [
        {
          id: id(index % 40, 72),
          reference: 'KB5030219',
          title: `Update ${index % 40}`,
          action: 'Install',
          vendor_url: '',
        },
      ],
    },
  };
  const kept = Object.entries(parts).map(([name, part]) => [
    name,
    facets.includes(name) ? part : name === 'cve' ? { id: cve } : undefined,
  ]);
  const record = {
    id: `${aid(on)}_${id(index, 73)}`,
    cid: id(0, 49),
    aid: aid(on),
    vulnerability_id: cve,
    created_timestamp: moment(index, 74),
    updated_timestamp: new Date(Date.UTC(2025, 0, 1) + index * 1000).toISOString(),
    status: pick(['open', 'reopen'], index, 75),
    confidence: 'confirmed',
    fingerprint: digits(String(9_007_199_254_740_993n + BigInt(mix(index, 76)))),
    apps: [
      {
        product_name_version: 'Größe 1.2',
        sub_status: 'open',
        evaluation_logic: { id: id(index, 77) },
        remediation: { ids: [id(index % 40, 72)] },
      },
    ],
    suppression_info: { is_suppressed: false },
    ...Object.fromEntries(kept.filter(([, part]) => part !== undefined)),
  };
  return text(record, index);
}

function assessment(index: number): string {
  const on = assessedHost(index);
  const signal = (name: string, salt: number) => ({
    signal_id: name,
    signal_name: `Signal ${name} é`,
    group_name: '',
    criteria: 'bool',
    meets_criteria: pick(['yes', 'no'], on, salt),
  });
  const record = {
    aid: aid(on),
    cid: id(0, 49),
    system_serial_number: hex(on, 78, 10),
    event_platform: 'Win',
    product_type_desc: 'Workstation',
    modified_time: moment(on, 79),
    sequence: digits(String(9_007_199_254_740_993n + BigInt(on))),
    assessment: {
      sensor_config: mix(on, 80) % 101,
      os: mix(on, 81) % 101,
      overall: mix(on, 82) % 101,
      version: '3.9.0',
    },
    assessment_items: {
      os_signals: [signal('firmware_is_uefi', 83), signal('secure_boot', 84)],
      sensor_signals: [signal('prevention', 85)],
    },
  };
  return text(record, index);
}

function wrap(pagination: (page: Page) => object | undefined): (records: string, page: Page) => string {
  return (records, page) => {
    const inner = pagination(page);
    const errors = page.missing.map((missing) => ({ code: 404, message: `no such resource: ${missing}` }));
    const meta = inner === undefined ? META : `${META},"pagination":${JSON.stringify(inner)}`;
    return `{"meta":{${meta}},"resources":${records},"errors":${JSON.stringify(errors)}}`;
  };
}

const withAfter = wrap(({ limit, total, next }) => ({ limit, total, after: next ?? '' }));
const noPagination = wrap(() => undefined);
const contextExpired = () => ({
  status: 200,
  body: `{"meta":{${META},"pagination":{"limit":0,"total":0,"after":""}},"resources":[],"errors":[{"code":404,"message":"Search context expired"}]}`,
});
/** Said without a word of error: only the total of the pages before tells. */
const scrollLost = () => ({
  status: 200,
  body: `{"meta":{${META},"pagination":{"limit":0,"total":0,"offset":""}},"resources":[],"errors":[]}`,
});

/** A paging that refuses requests without a filter. */
function filtered(paging: Paging): Paging {
  const answer: Paging['answer'] = (ask) =>
    (ask.request.query.get('filter') ?? '') === '' ? ask.session.fail(400, 'filter is mandatory') : paging.answer(ask);
  return { ...paging, answer };
}

const token = single('none', ({ request, session }) => {
  const form = new URLSearchParams(request.body);
  if (form.get('client_id') !== ID || form.get('client_secret') !== SECRET)
    return session.fail(401, 'access denied, invalid client');
  return {
    status: 201,
    body: JSON.stringify({ access_token: session.issue(), expires_in: 1799, token_type: 'bearer' }),
  };
});

function hostsOf(scale: number): Records {
  return { count: scale, at: host, find: (given) => indexOf(given, 50, scale) };
}

function assessmentsOf(scale: number): Records {
  const find = (given: string) => {
    const on = indexOf(given, 50, scale);
    return on === undefined ? undefined : on % 5 === 4 ? -1 : Math.floor(on / 5) * 4 + (on % 5);
  };
  return { count: assessedCount(scale), at: assessment, find };
}

function vulnerabilitiesOf(scale: number, { query }: Request): Records {
  const facets = query.getAll('facet');
  return { count: scale, at: (index) => vulnerability(index, scale, facets) };
}

const ZTA = '/zero-trust-assessment';

export default defineVendor({
  name: 'crowdstrike',
  env: (origin) => ({ FALCON_BASE_URL: origin, FALCON_CLIENT_ID: ID, FALCON_SECRET: SECRET }),
  credential: ({ headers }) => /^Bearer (.+)$/i.exec(String(headers.authorization))?.[1],
  error(status, what) {
    const messages: Readonly<Record<number, string>> = {
      401: 'access denied, invalid bearer token',
      403: 'access denied, authorization failed',
      429: 'API rate limit exceeded.',
    };
    const code = status === 200 ? 500 : status;
    return `{"meta":{${META}},"errors":[{"code":${code},"message":${JSON.stringify(messages[status] ?? what)}}]}`;
  },
  limitHeaders: ({ limit, remaining, resetAt, over }) => ({
    'x-ratelimit-limit': String(limit),
    'x-ratelimit-remaining': String(remaining),
    ...(over ? { 'x-ratelimit-retryafter': String(Math.ceil(resetAt / 1000)) } : {}),
  }),
  headers: ({ region = 'us-1' }) => ({ 'x-cs-region': region, 'x-cs-traceid': '0c0ffee0' }),
  routes: [
    { path: '/oauth2/token', method: 'POST', resource: 'token', paging: token },
    {
      path: '/devices/queries/devices-scroll/v1',
      resource: 'hosts',
      total: true,
      leads: true,
      paging: scroll({ as: 'offset', max: 10_000, fallback: 100, strict: true }),
      records: (scale) => ({ count: scale, at: (index) => JSON.stringify(aid(index)) }),
      wrap: wrap(({ limit, total, next }) => ({
        limit,
        total,
        offset: next ?? '',
        expires_at: next === undefined ? 0 : Date.now() * 1e6 + 120e9,
      })),
      expired: scrollLost,
    },
    {
      path: '/devices/entities/devices/v2',
      method: 'POST',
      resource: 'hosts',
      paging: ids({ max: 5000 }),
      records: hostsOf,
      wrap: noPagination,
    },
    {
      path: '/devices/combined/host-groups/v1',
      resource: 'host_groups',
      total: true,
      paging: offset({ as: 'offset', max: 5000, fallback: 100, strict: true }),
      records: (scale) => ({ count: Math.ceil(scale / 2), at: hostGroup }),
      wrap: wrap(({ start, limit, total }) => ({ offset: start, limit, total })),
    },
    {
      path: '/spotlight/combined/vulnerabilities/v1',
      resource: 'vulnerabilities',
      total: true,
      paging: filtered(cursor({ as: 'after', max: 5000, fallback: 100, strict: true })),
      records: vulnerabilitiesOf,
      whole: 'facet=cve&facet=host_info&facet=remediation',
      wrap: withAfter,
      expired: contextExpired,
    },
    {
      path: `${ZTA}/queries/assessments/v1`,
      resource: 'zero_trust_assessment',
      total: true,
      leads: true,
      paging: filtered(cursor({ as: 'after', max: 1000, fallback: 100, strict: true })),
      records: (scale) => ({
        count: assessedCount(scale),
        at: (index) => `{"aid":"${aid(assessedHost(index))}","score":${mix(index, 82) % 101}}`,
      }),
      wrap: withAfter,
      expired: contextExpired,
    },
    {
      path: `${ZTA}/entities/assessments/v1`,
      resource: 'zero_trust_assessment',
      paging: ids({ max: 500 }),
      records: assessmentsOf,
      wrap: noPagination,
    },
  ],
});
