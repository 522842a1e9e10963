import { baseUrl, choice, optional, secret, setting, text, type Values } from '../config/setting.ts';
import { resetHeader } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import { cursor, offset } from '../http/paginate.ts';
import { CLOUDS, detailed, discoveringAuth, listErrors, tokenAuth } from './_crowdstrike.ts';
import { type Context, defineCollector } from './collector.ts';

const ENV = {
  FALCON_CLIENT_ID: setting('Client id of an API client'),
  FALCON_SECRET: secret('Secret of the API client'),
  FALCON_CLOUD: setting(
    'Cloud of the tenant; auto finds all but the government ones',
    choice(['auto', 'us-1', 'us-2', 'eu-1', 'us-gov-1', 'us-gov-2'], 'auto'),
  ),
  FALCON_BASE_URL: setting('Base URL, where it is none of the clouds’', optional()),
  FALCON_VULN_FILTER: setting(
    'FQL filter of the vulnerabilities; Spotlight demands one',
    text("cve.id:!['']+last_seen_within:'14'"),
  ),
} as const;

type Settings = Values<typeof ENV>;

/** Hosts' ids per look-up. */
const HOSTS = 5000;
/** Ids per look-up that keep the URL short. */
const ASSESSMENTS = 100;

export default defineCollector({
  name: 'crowdstrike',
  title: 'CrowdStrike Falcon',
  docs: 'https://developer.crowdstrike.com/docs/openapi/',
  env: ENV,
  aliases: { CROWDSTRIKE_CLIENT_ID: 'FALCON_CLIENT_ID', CROWDSTRIKE_CLIENT_SECRET: 'FALCON_SECRET' },
  http: ({ FALCON_CLIENT_ID, FALCON_SECRET, FALCON_CLOUD, FALCON_BASE_URL }) => ({
    baseUrl: baseUrl(FALCON_BASE_URL ?? (CLOUDS.get(FALCON_CLOUD === 'auto' ? 'us-1' : FALCON_CLOUD) as string)),
    auth:
      FALCON_BASE_URL === undefined && FALCON_CLOUD === 'auto'
        ? discoveringAuth({ client_id: FALCON_CLIENT_ID, client_secret: FALCON_SECRET })
        : tokenAuth({ client_id: FALCON_CLIENT_ID, client_secret: FALCON_SECRET }),
    trusted: ['crowdstrike.com', 'crowdstrike.mil'],
    pace: resetHeader('x-ratelimit-remaining', 'x-ratelimit-retryafter', 'x-ratelimit-limit', 5),
  }),
  errors: listErrors,
  resources: {
    hosts: {
      about: 'Endpoints with a sensor',
      path: '/devices/entities/devices/v2',
      id: 'device_id',
      needs: 'Hosts: read',
      collect: hosts,
    },
    host_groups: {
      about: 'Groups of hosts and their rules',
      path: '/devices/combined/host-groups/v1',
      query: { limit: 500 },
      records: 'resources',
      paginate: offset({ as: 'offset', total: 'meta.pagination.total', size: 500 }),
      total: 'meta.pagination.total',
      id: 'id',
      needs: 'Host groups: read',
    },
    vulnerabilities: {
      about: 'Spotlight findings with their CVE, host and remediation',
      path: '/spotlight/combined/vulnerabilities/v1',
      query: ({ FALCON_VULN_FILTER }) => ({
        filter: FALCON_VULN_FILTER,
        limit: 400,
        sort: 'updated_timestamp|asc',
        facet: ['cve', 'host_info', 'remediation'],
      }),
      records: 'resources',
      paginate: cursor('meta.pagination.after', { as: 'after' }),
      total: 'meta.pagination.total',
      // The total of an open filter moves while its pages are read.
      drift: 0.005,
      id: 'id',
      needs: 'Vulnerabilities: read',
    },
    zero_trust_assessment: {
      about: 'Zero Trust score of each assessed host, with its signals',
      path: '/zero-trust-assessment/entities/assessments/v1',
      id: 'aid',
      needs: 'Zero Trust Assessment: read',
      collect: assessments,
    },
  },
});

/** Ids by scrolling, details while the scroll's offset still lives: it dies after two minutes. */
function hosts(context: Context<Settings>): AsyncGenerator<Page> {
  return detailed(context, {
    list: {
      path: '/devices/queries/devices-scroll/v1',
      query: { limit: HOSTS },
      records: 'resources',
      paginate: cursor('meta.pagination.offset', { as: 'offset', untilEmpty: true }),
    },
    id: '',
    size: HOSTS,
    ask: (ids) => ({ path: '/devices/entities/devices/v2', method: 'POST', repeatable: true, body: { ids: [...ids] } }),
  });
}

/** Only hosts that have an assessment are listed. */
function assessments(context: Context<Settings>): AsyncGenerator<Page> {
  return detailed(context, {
    list: {
      path: '/zero-trust-assessment/queries/assessments/v1',
      query: { filter: 'score:>=0', limit: 1000 },
      records: 'resources',
      paginate: cursor('meta.pagination.after', { as: 'after' }),
    },
    id: 'aid',
    size: ASSESSMENTS,
    ask: (ids) => ({ path: '/zero-trust-assessment/entities/assessments/v1', query: { ids } }),
  });
}
