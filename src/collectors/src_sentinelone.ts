import { baseUrl, list, secret, setting } from '../config/setting.ts';
import { staticHeaders } from '../http/auth.ts';
import { cursor } from '../http/paginate.ts';
import type { Rule } from '../http/retry.ts';
import { defineCollector } from './collector.ts';

const API = '/web/api/v2.1';
const TOTAL = 'pagination.totalItems';
const NEEDS = 'role Viewer in the account';

/** Cloud detection is a module of its own. */
const UNLICENSED: Rule = {
  status: [403, 404],
  body: /licen[sc]|not enabled|not found|feature/i,
  as: 'unlicensed',
  because: 'cloud detection alerts are not there on this console',
};

interface Scope {
  readonly SENTINELONE_SITE_IDS: readonly string[];
  readonly SENTINELONE_ACCOUNT_IDS: readonly string[];
}

export default defineCollector({
  name: 'sentinelone',
  title: 'SentinelOne Singularity',
  docs: 'https://usea1-partners.sentinelone.net/api-doc/overview',
  env: {
    SENTINELONE_CONSOLE_URL: setting('URL of the console, such as https://usea1-acme.sentinelone.net'),
    SENTINELONE_API_TOKEN: secret('API token of a service user'),
    SENTINELONE_SITE_IDS: setting('Only these sites, by id', list().default([])),
    SENTINELONE_ACCOUNT_IDS: setting('Only these accounts, by id', list().default([])),
  },
  http: ({ SENTINELONE_CONSOLE_URL, SENTINELONE_API_TOKEN }) => ({
    baseUrl: consoleOf(SENTINELONE_CONSOLE_URL),
    auth: staticHeaders({ authorization: `ApiToken ${SENTINELONE_API_TOKEN}` }),
    paginate: cursor('pagination.nextCursor', { as: 'cursor' }),
    concurrency: 3,
  }),
  errors: [{ status: 400, body: /cursor/i, as: 'expired', because: 'the cursor has expired' }],
  resources: {
    agents: {
      about: 'Agents, decommissioned ones too, which the list leaves out by itself',
      path: `${API}/agents`,
      query: (settings) => ({ limit: 1000, isDecommissioned: 'true,false', ...scopeOf(settings) }),
      records: 'data',
      total: TOTAL,
      id: 'id',
      needs: NEEDS,
      secrets: ['licenseKey'],
    },
    threats: {
      about: 'Threats, resolved or not',
      path: `${API}/threats`,
      query: (settings) => ({ limit: 1000, ...scopeOf(settings) }),
      records: 'data',
      total: TOTAL,
      id: 'id',
      needs: NEEDS,
    },
    alerts: {
      about: 'Alerts of cloud detection and custom rules',
      path: `${API}/cloud-detection/alerts`,
      query: (settings) => ({ limit: 1000, ...scopeOf(settings) }),
      records: 'data',
      total: TOTAL,
      id: 'alertInfo.alertId',
      needs: NEEDS,
      errors: [UNLICENSED],
    },
    sites: {
      about: 'Sites with their licences',
      path: `${API}/sites`,
      query: (settings) => ({ limit: 1000, ...scopeOf(settings) }),
      records: 'data.sites',
      total: TOTAL,
      id: 'id',
      needs: NEEDS,
      secrets: ['registrationToken'],
    },
    groups: {
      about: 'Groups of agents',
      path: `${API}/groups`,
      // Other lists take 1000; here more than this is refused on some consoles.
      query: (settings) => ({ limit: 100, ...scopeOf(settings) }),
      records: 'data',
      total: TOTAL,
      id: 'id',
      needs: NEEDS,
      secrets: ['registrationToken'],
    },
    installed_applications: {
      about: 'Applications found on agents',
      path: `${API}/installed-applications`,
      query: (settings) => ({ limit: 1000, ...scopeOf(settings) }),
      records: 'data',
      total: TOTAL,
      id: 'id',
      needs: NEEDS,
    },
  },
});

function scopeOf({ SENTINELONE_SITE_IDS: sites, SENTINELONE_ACCOUNT_IDS: accounts }: Scope): Record<string, string> {
  return {
    ...(sites.length === 0 ? {} : { siteIds: sites.join(',') }),
    ...(accounts.length === 0 ? {} : { accountIds: accounts.join(',') }),
  };
}

function consoleOf(address: string): URL {
  return baseUrl(address.replace(/\/+$/, '').replace(/\/web\/api\/v2\.1$/, ''));
}
