import { baseUrl, secret, setting, text } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { limit } from '../http/pace.ts';
import { type Paginator, paginator } from '../http/paginate.ts';
import type { Rule } from '../http/retry.ts';
import { textAt } from '../json.ts';
import { entra } from './_entra.ts';
import { ABOUT_AUTHORITY, AUTHORITY } from './_graph.ts';
import { defineCollector } from './collector.ts';

/** The largest pages. Of `deviceavinfo` one has 20 rows unless told. */
const MACHINES = 10_000;
const VULNERABILITIES = 8000;
const HEALTH = 10_000;

/** Defender says so when there are no rows; a proxy's page is no such answer. */
const NONE: Rule = { status: 404, body: /^\s*(\{|$)/, as: 'empty' };

export default defineCollector({
  name: 'mde',
  title: 'Microsoft Defender for Endpoint',
  docs: 'https://learn.microsoft.com/defender-endpoint/api/exposed-apis-list',
  env: {
    MDE_TENANT_ID: setting('Directory (tenant) ID of the app registration'),
    MDE_CLIENT_ID: setting('Application (client) ID of the app registration'),
    MDE_CLIENT_SECRET: secret('Client secret of the app registration'),
    MDE_BASE_URL: setting(
      'Base URL of the API; a nearer one is https://eu.api.security.microsoft.com (or us, uk, au, swa, ina), and the US government has its own',
      text('https://api.security.microsoft.com'),
    ),
    MDE_AUTHORITY: setting(ABOUT_AUTHORITY, text(AUTHORITY)),
  },
  http: ({ MDE_TENANT_ID, MDE_CLIENT_ID, MDE_CLIENT_SECRET, MDE_BASE_URL, MDE_AUTHORITY }) => {
    const base = baseUrl(MDE_BASE_URL.replace(/\/api\/*$/, ''));
    const app = { tenant: MDE_TENANT_ID, client: MDE_CLIENT_ID, secret: MDE_CLIENT_SECRET };
    const slow = ['deviceavinfo', 'machines/SoftwareVulnerabilitiesByMachine'].map(
      (path) => new URL(`${base.href.replace(/\/$/, '')}/api/${path}`),
    );
    return {
      baseUrl: base,
      auth: entra({ ...app, authority: baseUrl(MDE_AUTHORITY), scope: `${audienceOf(base)}/.default` }),
      pace: [
        limit(100, 60),
        limit(1500, 3600),
        ...slow.flatMap((under) => [limit(30, 60, under), limit(1000, 3600, under)]),
      ],
      // Next links may lead to the region that holds the data.
      trusted: ['api.security.microsoft.com', 'securitycenter.microsoft.com', 'securitycenter.windows.com'],
      timeout: 180,
    };
  },
  errors: [
    NONE,
    {
      status: [400, 410],
      body: /page_?token|skip_?token/i,
      as: 'expired',
      because: 'the snapshot behind the next link is gone',
    },
    { status: 403, body: /licen[sc]e/i, as: 'unlicensed', because: 'the tenant has no licence for it' },
  ],
  resources: {
    machines: {
      about: 'Devices seen within the retention period',
      path: '/api/machines',
      query: { $top: MACHINES, $skip: 0 },
      records: 'value',
      paginate: pages(MACHINES, true),
      id: 'id',
      needs: 'Machine.Read.All',
    },
    vulnerabilities: {
      about: 'Catalogue of CVEs, with the number of devices exposed to each',
      path: '/api/vulnerabilities',
      query: { $top: VULNERABILITIES, $skip: 0 },
      records: 'value',
      paginate: pages(VULNERABILITIES, true),
      id: 'id',
      needs: 'Vulnerability.Read.All',
    },
    device_av_info: {
      about: 'Antivirus health of devices: mode, versions, last scans',
      path: '/api/deviceavinfo',
      query: { $top: HEALTH },
      records: 'value',
      paginate: pages(HEALTH, false),
      id: 'id',
      needs: 'Machine.Read.All',
    },
    machine_vulnerabilities: {
      about: 'Software on each device with its CVEs, one record a device, software, version and CVE',
      path: '/api/machines/SoftwareVulnerabilitiesByMachine',
      // With $top there would be no next link, and the rest would be missing.
      query: { pageSize: 10_000 },
      records: 'value',
      paginate: pages(Number.POSITIVE_INFINITY, false),
      id: 'id',
      needs: 'Vulnerability.Read.All',
    },
  },
});

/** Next links where there are any, else so many rows skipped: until an empty page where the server may cut pages short. */
function pages(top: number, untilEmpty: boolean): Paginator {
  return paginator('next link or $skip', ({ url, body, records, total }) => {
    const link = textAt(body, '@odata.nextLink');
    if (link !== undefined) return { url: link };
    const linked = url.searchParams.has('$skiptoken');
    if (body === null && total > 0 && (linked || total % top === 0 || !untilEmpty))
      throw new CollectError('incomplete', `the page behind ${total} records is not there`);
    if (linked || records === 0 || (records < top && !untilEmpty)) return undefined;
    return { query: { $skip: Number(url.searchParams.get('$skip') ?? 0) + records } };
  });
}

/** Whose tokens are asked for: those of every public region are the same. */
function audienceOf({ hostname, origin }: URL): string {
  return hostname.endsWith('.microsoft.us') ? origin : 'https://api.securitycenter.microsoft.com';
}
