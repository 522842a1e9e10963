import { exportJob, type JobStatus } from './export_job.ts';
import { address, digits, hex, mix, moment, person, pick, text, uuid } from './invent.ts';
import type { Records } from './paging.ts';
import { defineVendor } from './vendor.ts';

const ACCESS = 'canary0tenable0access0000000000000000000000000000000000000000000';
const SECRET = 'canary0tenable0secret0000000000000000000000000000000000000000000';

const host = (index: number) => `srv-${index}.büro.acme.example`;
const big = (index: number) => digits(String(9_007_199_254_740_993n + BigInt(index) * 2n));

function vulnerability(index: number): object {
  const asset = mix(index, 90) % (index + 1);
  const severity = pick(['low', 'medium', 'high', 'critical'], index, 91);
  return {
    asset: {
      uuid: uuid(asset, 92),
      hostname: host(asset),
      fqdn: host(asset),
      ipv4: address(asset, 93),
      operating_system: ['Ubuntu 24.04'],
      tracked: true,
      network_id: uuid(0, 94),
    },
    output: `The remote host answers:\n\n  Version : ${mix(index, 95) % 20}.0 — "läuft"\t\\o/\n`,
    plugin: {
      id: 10_000 + index,
      name: `Mise à jour n° ${index} < 2.4.62`,
      family: pick(['Web Servers', 'Ubuntu Local Security Checks'], index, 96),
      cve: [`CVE-2024-${10_000 + (mix(index, 97) % 40_000)}`],
      cvss3_base_score: digits(pick(['9.80', '7.5', '6.0E0'], index, 98)),
      description: 'The remote host is affected by a vulnerability. '.repeat(4),
      solution: 'Upgrade.',
      see_also: [`https://advisories.example/${index}`],
      publication_date: moment(index, 99),
      vpr: {
        score: digits('7.40'),
        drivers: { age_of_vuln: { lower_bound: 0, upper_bound: 7 }, threat_sources_last28: ['No recorded events'] },
      },
    },
    port: { port: pick([443, 22, 8443], index, 100), protocol: 'TCP', service: 'www' },
    scan: {
      completed_at: moment(index, 101),
      schedule_uuid: `template-${uuid(1, 102)}`,
      started_at: moment(index, 103),
      uuid: uuid(index % 9, 104),
    },
    severity,
    severity_id: 2,
    state: pick(['OPEN', 'REOPENED'], index, 105),
    finding_id: uuid(index, 106),
    sequence: big(index),
    first_found: moment(index, 107),
    last_found: moment(index, 108),
    indexed: moment(index, 109),
  };
}

function asset(index: number): object {
  return {
    id: uuid(index, 92),
    has_agent: index % 2 === 0,
    has_plugin_results: true,
    created_at: moment(index, 110),
    updated_at: moment(index, 111),
    deleted_at: null,
    first_seen: moment(index, 112),
    last_seen: moment(index, 113),
    fqdns: [host(index)],
    hostnames: [host(index), person(index).last],
    ipv4s: [address(index, 93)],
    ipv6s: [],
    mac_addresses: (hex(index, 114, 12).match(/../g) ?? []).slice(0, 1),
    operating_systems: ['Ubuntu 24.04 “Noble”'],
    network_id: uuid(0, 94),
    network_name: 'Default',
    agent_names: [],
    sources: [{ name: 'NESSUS_AGENT', first_seen: moment(index, 115), last_seen: moment(index, 116) }],
    tags: [
      {
        uuid: uuid(index % 5, 117),
        key: 'Standort',
        value: 'Zürich',
        added_by: uuid(1, 118),
        added_at: moment(index, 119),
      },
    ],
    network_interfaces: [{ name: 'eth0', virtual: false, ipv4s: [address(index, 93)], fqdns: [host(index)] }],
    acr_score: digits('5.0'),
    exposure_score: big(index),
  };
}

function complianceFinding(index: number): object {
  return {
    asset_uuid: uuid(index % 90, 92),
    asset: { id: uuid(index % 90, 92), ipv4_addresses: [address(index % 90, 93)], name: host(index % 90) },
    first_seen: moment(index, 120),
    last_seen: moment(index, 121),
    audit_file: 'CIS_Ubuntu_24.04_v1.0.0_L1.audit',
    check_id: hex(index, 122, 64),
    check_name: `1.${index % 9}.${index} Ensure « noexec » is set`,
    check_info: 'The noexec mount option forbids running programs. '.repeat(5),
    expected_value: 'noexec\nnodev',
    actual_value: `rw,relatime "${index}"`,
    status: pick(['PASSED', 'FAILED', 'WARNING'], index, 123),
    reference: [{ framework: 'CSF', control: 'PR.IP-1' }],
    plugin_id: 21_157,
    state: 'ACTIVE',
    sequence: big(index),
    indexed_at: moment(index, 124),
  };
}

function webFinding(index: number): object {
  return {
    finding_id: uuid(index, 125),
    url: `https://shop.acme.example/käse?item=${index}`,
    input_type: 'cookie',
    input_name: 'session',
    http_info: { request_headers: 'GET / HTTP/1.1\r\nHost: shop.acme.example', response_headers: 'HTTP/1.1 200 OK' },
    proof: '<script>alert("x")</script>',
    output: 'réponse '.repeat(30),
    asset: { uuid: uuid(index % 7, 126), fqdn: 'shop.acme.example', ipv4: address(index % 7, 127) },
    plugin: {
      id: 98_000 + (index % 300),
      name: 'Missing header',
      family: 'HTTP Security Header',
      risk_factor: 'low',
      cvss3: { base_score: digits('3.10') },
    },
    scan: { uuid: uuid(index % 4, 128), completed_at: moment(index, 129) },
    severity: 'low',
    state: 'OPEN',
    sequence: big(index),
    first_found: moment(index, 130),
    last_found: moment(index, 131),
  };
}

const listOf =
  (record: (index: number) => object) =>
  (scale: number): Records => ({ count: scale, at: (index) => text(record(index), index) });

/** A size that is cut to its bounds. */
function within(name: string, least: number, most: number, fallback: number) {
  return (body: Readonly<Record<string, unknown>>) =>
    Math.min(most, Math.max(least, Number(body[name] ?? fallback) || fallback));
}

function chunkSize({ chunk_size: size }: Readonly<Record<string, unknown>>): number | string {
  return typeof size === 'number' && size >= 100 && size <= 10_000 ? size : 'chunk_size must be from 100 to 10000';
}

function briefly({ state, available, failed }: JobStatus): object {
  return { status: state, chunks_available: available, chunks_failed: failed, chunks_cancelled: [] };
}

function fully(job: JobStatus): object {
  const counts = {
    total_chunks: job.total,
    chunks_available_count: job.available.length,
    empty_chunks_count: job.empty,
    finished_chunks: job.available.length,
  };
  return {
    uuid: job.id,
    ...briefly(job),
    ...counts,
    num_assets_per_chunk: job.size,
    filters: '{}',
    created: 1_735_689_600_000,
  };
}

const perAssets = within('num_assets', 50, 5000, 50);

export default defineVendor({
  name: 'tenableio',
  env: (origin) => ({ TIO_URL: origin, TIO_ACCESS_KEY: ACCESS, TIO_SECRET_KEY: SECRET, TIO_POLL_SECONDS: '1' }),
  credential: ({ headers }) => String(headers['x-apikeys'] ?? '').replace(/\s|;\s*$/g, ''),
  key: `accessKey=${ACCESS};secretKey=${SECRET}`,
  error(status, what) {
    if (status === 429) return '<html><head><title>429 Too Many Requests</title></head><body></body></html>';
    return JSON.stringify({ statusCode: status === 200 ? 500 : status, error: what, message: what });
  },
  limitHeaders: ({ resetAt, over }): Readonly<Record<string, string>> =>
    over ? { 'retry-after': String(Math.max(1, Math.ceil((resetAt - Date.now()) / 1000))) } : {},
  routes: [
    ...exportJob({
      path: '/vulns/export',
      resource: 'vulnerabilities',
      records: listOf(vulnerability),
      total: true,
      size: perAssets,
      twice: 'refused',
      emptyChunk: '[]',
      status: fully,
    }),
    ...exportJob({
      path: '/assets/export',
      resource: 'assets',
      records: listOf(asset),
      size: chunkSize,
      twice: 'cancels',
      status: briefly,
    }),
    ...exportJob({
      path: '/compliance/export',
      resource: 'findings',
      records: listOf(complianceFinding),
      total: true,
      size: within('num_findings', 50, 10_000, 5000),
      twice: 'refused',
      emptyChunk: 'null',
      status: fully,
    }),
    ...exportJob({
      path: '/was/v1/export/vulns',
      resource: 'was',
      records: listOf(webFinding),
      total: true,
      size: perAssets,
      twice: 'refused',
      status: fully,
    }),
  ],
});
