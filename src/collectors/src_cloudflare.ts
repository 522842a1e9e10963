import { baseUrl, secret, setting, text } from '../config/setting.ts';
import { staticHeaders } from '../http/auth.ts';
import { limit } from '../http/pace.ts';
import type { Rule } from '../http/retry.ts';
import { accounts, numbered } from './_cloudflare.ts';
import { defineCollector } from './collector.ts';

/** The parent was deleted since it was listed. */
const gone: readonly Rule[] = [{ status: 404, as: 'empty' }];

export default defineCollector({
  name: 'cloudflare',
  title: 'Cloudflare',
  docs: 'https://developers.cloudflare.com/api/',
  env: {
    CLOUDFLARE_API_TOKEN: secret('API token with read permissions for all zones and accounts'),
    CLOUDFLARE_API_URL: setting('Base URL of the API', text('https://api.cloudflare.com/client/v4')),
  },
  http: ({ CLOUDFLARE_API_TOKEN, CLOUDFLARE_API_URL }) => ({
    baseUrl: baseUrl(CLOUDFLARE_API_URL),
    auth: staticHeaders({ authorization: `Bearer ${CLOUDFLARE_API_TOKEN}` }),
    paginate: numbered({ blind: false }),
    // Whoever goes over it is blocked for five minutes, in the dashboard too.
    pace: limit(1200, 300),
  }),
  errors: [
    { status: 429, as: 'throttled', wait: 300 },
    { status: 400, body: /"code":\s*(6003|6111)\b/, as: 'credentials', because: 'the token is not well-formed' },
    { status: 200, body: /"success":\s*false/, as: 'failed', because: 'the answer says success: false' },
  ],
  resources: {
    zones: {
      about: 'Domains, whatever their status',
      path: '/zones',
      query: { page: 1, per_page: 50 },
      records: 'result',
      total: 'result_info.total_count',
      id: 'id',
      needs: 'Zone: Read',
      secrets: ['verification_key'],
    },
    dns_records: {
      about: 'DNS records of each zone; those with proxied true are behind the CDN',
      each: 'zones',
      path: '/zones/{id}/dns_records',
      query: { page: 1, per_page: 1000 },
      records: 'result',
      total: 'result_info.total_count',
      keep: { _zone_id: 'id', _zone_name: 'name' },
      id: ['_zone_id', 'id'],
      needs: 'DNS: Read',
      errors: gone,
    },
    workers_routes: {
      about: 'URL patterns of each zone that a Worker answers',
      each: 'zones',
      path: '/zones/{id}/workers/routes',
      records: 'result',
      paginate: null,
      total: 'result_info.total_count',
      keep: { _zone_id: 'id', _zone_name: 'name' },
      id: ['_zone_id', 'id'],
      needs: 'Workers Routes: Read',
      errors: gone,
    },
    accounts: {
      about: 'Accounts that the token may read',
      path: '/accounts',
      each: 'zones',
      id: 'id',
      needs: 'Account Settings: Read',
      probe: { path: '/accounts', query: { page: 1, per_page: 50 } },
      collect: accounts,
    },
    pages_projects: {
      about: 'Pages projects of each account, without the values of their variables',
      each: 'accounts',
      path: '/accounts/{id}/pages/projects',
      records: 'result',
      paginate: numbered({ blind: true }),
      total: 'result_info.total_count',
      keep: { _account_id: 'id', _account_name: 'name' },
      id: ['_account_id', 'id'],
      needs: 'Cloudflare Pages: Read',
      secrets: [
        'deployment_configs.*.env_vars.*.value',
        'latest_deployment.env_vars.*.value',
        'canonical_deployment.env_vars.*.value',
        'build_config.web_analytics_token',
        'latest_deployment.build_config.web_analytics_token',
        'canonical_deployment.build_config.web_analytics_token',
      ],
      // A list without result_info is asked for one page more, which this code refuses.
      errors: [...gone, { status: 400, body: /8000024/, as: 'empty' }],
    },
    workers_scripts: {
      about: 'Worker scripts of each account, without their code',
      each: 'accounts',
      path: '/accounts/{id}/workers/scripts',
      records: 'result',
      paginate: null,
      total: 'result_info.total_count',
      keep: { _account_id: 'id', _account_name: 'name' },
      id: ['_account_id', 'id'],
      needs: 'Workers Scripts: Read',
      errors: gone,
    },
  },
});
