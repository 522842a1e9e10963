import { address, digits, hex, mix, moment, pick, text } from './invent.ts';
import { none, type Page, type PageOptions, pageNumber, type Records, type Request } from './paging.ts';
import { defineVendor } from './vendor.ts';

const TOKEN = 'canary-cloudflare-7Zk2q9YxPpWn4LrTd8VbQm3s';

/** An id of Cloudflare's shape that ends with its index. */
const id = (salt: number, index: number) => `${hex(index, salt, 26)}${index.toString(16).padStart(6, '0')}`;

const zonesOf = (scale: number) => Math.max(4, Math.ceil(scale / 5));
const accountsOf = (scale: number) => Math.max(3, Math.ceil(scale / 15));

function zone(scale: number, index: number): string {
  const account = index % accountsOf(scale);
  const record = {
    id: id(61, index),
    name: index % 5 === 0 ? `münchen-${index}.example` : `zone-${index}.example`,
    status: pick(['active', 'pending', 'moved'], index, 1),
    paused: false,
    type: pick(['full', 'partial'], index, 2),
    development_mode: digits(String(-9_007_199_254_740_993n - BigInt(index))),
    name_servers: ['dora.ns.example', 'kirk.ns.example'],
    modified_on: moment(index, 3),
    created_on: moment(index, 4),
    meta: { step: 2, page_rule_quota: 3, phishing_detected: false },
    owner: { id: null, type: 'user', email: null },
    account: { id: id(62, account), name: accountName(account) },
    permissions: ['#zone:read', '#dns_records:read'],
    plan: { id: id(63, index % 3), name: 'Free Website', price: digits('0.00') },
  };
  return text(record, index);
}

const accountName = (index: number) => `Bücher & Söhne №${index}`;

function account(index: number): string {
  const record = {
    id: id(62, index),
    name: accountName(index),
    type: 'standard',
    settings: { enforce_twofactor: index % 2 === 0, api_access_enabled: null },
    created_on: moment(index, 5),
  };
  return text(record, index);
}

function dnsRecord(parent: number, index: number): string {
  const record = {
    id: id(64, parent * 1000 + index),
    name: `host-${index}.zone-${parent}.example`,
    type: pick(['A', 'TXT', 'CNAME'], index, 6),
    content: index % 3 === 0 ? '"v=spf1 \\"include\\" -all"' : address(index, 7),
    proxied: index % 4 === 0,
    ttl: 1,
    comment: index % 6 === 0 ? 'alte Adresse\n“do not touch”' : null,
    tags: [],
    created_on: moment(index, 8),
  };
  return text(record, parent + index);
}

function route(parent: number, index: number): string {
  const script = pick(['edge', 'auth\\gate'], index, 9);
  return text(
    { id: id(65, parent * 100 + index), pattern: `zone-${parent}.example/päth/${index}/*`, script },
    parent + index,
  );
}

function project(parent: number, index: number): string {
  const variables = { API_BASE: { type: 'plain_text' }, KEY: { type: 'secret_text' } };
  const record = {
    id: id(66, parent * 100 + index),
    name: `site-${parent}-${index}`,
    subdomain: `site-${parent}-${index}.pages.example`,
    domains: [`www.größe-${index}.example`],
    build_config: { build_command: 'npm run "build"', web_analytics_tag: hex(index, 10, 32) },
    deployment_configs: { preview: { env_vars: variables }, production: { env_vars: variables } },
    latest_deployment: index % 3 === 0 ? null : { id: id(67, index), env_vars: variables },
    created_on: moment(index, 11),
  };
  return text(record, parent + index);
}

function script(parent: number, index: number): string {
  const record = {
    id: `worker-${parent}-${index}`,
    etag: hex(parent * 100 + index, 12, 64),
    handlers: ['fetch', 'scheduled'],
    modified_on: moment(index, 13),
    usage_model: 'standard',
    tags: ['öffentlich'],
  };
  return text(record, parent + index);
}

function indexOf(salt: number, given: string | undefined, count: number): number | undefined {
  const index = Number.parseInt((given ?? '').slice(-6), 16);
  return index < count && id(salt, index) === given ? index : undefined;
}

interface Family {
  readonly salt: number;
  readonly parents: (scale: number) => number;
}

const ofZone: Family = { salt: 61, parents: zonesOf };
const ofAccount: Family = { salt: 62, parents: accountsOf };

function children({ salt, parents }: Family, count: (parent: number) => number, at: (p: number, i: number) => string) {
  return {
    records(scale: number, { params }: Request): Records | undefined {
      const parent = indexOf(salt, params.id, parents(scale));
      return parent === undefined ? undefined : { count: count(parent), at: (index) => at(parent, index) };
    },
    *parents(scale: number): Generator<{ id: string }> {
      for (let index = 0; index < parents(scale); index += 1) yield { id: id(salt, index) };
    },
  };
}

function envelope(array: string, info = ''): string {
  return `{"result":${array},"success":true,"errors":[],"messages":[]${info}}`;
}

function paged(array: string, { start, limit, total }: Page): string {
  const info = `"page":${start / limit + 1},"per_page":${limit},"total_pages":${Math.ceil(total / limit)}`;
  return envelope(array, `,"result_info":{${info},"count":${Math.min(limit, total - start)},"total_count":${total}}`);
}

const numbered = (options: PageOptions) => pageNumber({ as: 'page', limit: 'per_page', strict: true, ...options });

/** What is listed without page parameters, of which only `page` is taken. */
const plain = ({ query }: Request) => !query.has('per_page');

export default defineVendor({
  name: 'cloudflare',
  env: (origin) => ({ CLOUDFLARE_API_URL: `${origin}/client/v4`, CLOUDFLARE_API_TOKEN: TOKEN }),
  credential: ({ headers }) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
  key: TOKEN,
  error(status, message) {
    const code = { 401: 10_000, 403: 9109, 404: 7003, 429: 10_429 }[status] ?? 10_001;
    return JSON.stringify({ result: null, success: false, errors: [{ code, message }], messages: [] });
  },
  limitHeaders: ({ resetAt }) => ({ 'retry-after': String(Math.max(0, Math.ceil((resetAt - Date.now()) / 1000))) }),
  routes: [
    {
      path: '/client/v4/zones',
      resource: 'zones',
      paging: numbered({ max: 50 }),
      total: true,
      records: (scale) => ({ count: zonesOf(scale), at: (index) => zone(scale, index) }),
      wrap: paged,
    },
    {
      path: '/client/v4/zones/{id}/dns_records',
      resource: 'dns_records',
      paging: numbered({ max: 5_000_000, fallback: 100 }),
      total: true,
      ...children(ofZone, (parent) => (parent === 1 ? 0 : (mix(parent, 14) % 20) + (parent === 0 ? 60 : 0)), dnsRecord),
      wrap: paged,
    },
    {
      path: '/client/v4/zones/{id}/workers/routes',
      resource: 'workers_routes',
      paging: none(),
      when: plain,
      ...children(ofZone, (parent) => mix(parent, 15) % 5, route),
      wrap: (array) => envelope(array),
    },
    {
      path: '/client/v4/accounts',
      resource: 'accounts',
      paging: numbered({ max: 50 }),
      total: true,
      records: (scale) => ({ count: accountsOf(scale), at: account }),
      wrap: paged,
    },
    {
      path: '/client/v4/accounts/{id}/pages/projects',
      resource: 'pages_projects',
      paging: numbered({ max: 25 }),
      when: plain,
      total: true,
      ...children(ofAccount, (parent) => (parent === 0 ? 70 : mix(parent, 16) % 4), project),
      wrap: paged,
    },
    {
      path: '/client/v4/accounts/{id}/workers/scripts',
      resource: 'workers_scripts',
      paging: none(),
      when: plain,
      ...children(ofAccount, (parent) => mix(parent, 17) % 20, script),
      wrap: (array) => envelope(array),
    },
  ],
});
