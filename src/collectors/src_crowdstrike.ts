import { baseUrl, choice, optional, secret, setting, text, type Values } from '../config/setting.ts';
import type { HttpOptions } from '../http/client.ts';
import { resetHeader } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import { cursor, offset } from '../http/paginate.ts';
import { CLOUDS, detailed, discoveringAuth, listErrors, tokenAuth } from './_crowdstrike.ts';
import { type Context, defineCollector } from './collector.ts';

const TOTAL = 'meta.pagination.total';
const SCROLL = '/devices/queries/devices-scroll/v1';
const DEVICES = '/devices/entities/devices/v2';
const ASSESSED = '/zero-trust-assessment/queries/assessments/v1';
const ASSESSMENTS = '/zero-trust-assessment/entities/assessments/v1';
/** The filter is mandatory; every assessed host has a score. */
const EVERY = 'score:>=0';

const env = {
  FALCON_CLIENT_ID: setting('Id of an API client'),
  FALCON_SECRET: secret('Secret of that API client'),
  FALCON_CLOUD: setting(
    'Cloud of the tenant: us-1, us-2, eu-1, us-gov-1, us-gov-2, or auto, which finds all but the government’s',
    choice(['auto', 'us-1', 'us-2', 'eu-1', 'us-gov-1', 'us-gov-2'], 'auto'),
  ),
  FALCON_BASE_URL: setting('Base URL of the API, where it is none of the clouds’', optional()),
  FALCON_VULN_FILTER: setting(
    'FQL filter of the vulnerabilities; Spotlight demands one',
    text("cve.id:!['']+last_seen_within:'14'"),
  ),
};

type Settings = Values<typeof env>;

export default defineCollector({
  name: 'crowdstrike',
  title: 'CrowdStrike Falcon',
  docs: 'https://developer.crowdstrike.com/',
  env,
  aliases: { CROWDSTRIKE_CLIENT_ID: 'FALCON_CLIENT_ID', CROWDSTRIKE_CLIENT_SECRET: 'FALCON_SECRET' },
  http: (settings) => ({
    ...cloudOf(settings),
    trusted: ['crowdstrike.com', 'crowdstrike.mil'],
    // 6000 a minute in a sliding window, told without a reset: ten seconds of silence free a sixth of it.
    pace: resetHeader('x-ratelimit-remaining', 'x-ratelimit-retryafter', 'x-ratelimit-limit', 10),
  }),
  resources: {
    hosts: {
      about: 'Devices with a sensor',
      path: DEVICES,
      method: 'POST',
      id: 'device_id',
      needs: 'Hosts: read',
      probe: { path: SCROLL, query: { limit: 1 } },
      resumes: true,
      collect: hosts,
    },
    host_groups: {
      about: 'Groups of hosts, static and dynamic',
      path: '/devices/combined/host-groups/v1',
      query: { limit: 500 },
      records: 'resources',
      absent: 'empty',
      paginate: offset({ as: 'offset', total: TOTAL, size: 500 }),
      total: TOTAL,
      id: 'id',
      needs: 'Host groups: read',
      errors: listErrors,
    },
    vulnerabilities: {
      about: 'Vulnerabilities of hosts (Spotlight) with CVE, host and remediation, as FALCON_VULN_FILTER selects them',
      path: '/spotlight/combined/vulnerabilities/v1',
      query: ({ FALCON_VULN_FILTER }) => ({
        filter: FALCON_VULN_FILTER,
        limit: 400,
        sort: 'updated_timestamp|asc',
        facet: ['cve', 'host_info', 'remediation'],
      }),
      records: 'resources',
      absent: 'empty',
      paginate: cursor('meta.pagination.after', { as: 'after', lives: 120 }),
      total: TOTAL,
      // Findings open and close while the list is read.
      drift: 0.01,
      id: 'id',
      needs: 'Vulnerabilities: read',
      errors: listErrors,
    },
    zero_trust_assessment: {
      about: 'Zero Trust assessments of the hosts that have one',
      path: ASSESSMENTS,
      id: 'aid',
      needs: 'Zero Trust Assessment: read',
      probe: { path: ASSESSED, query: { filter: EVERY, limit: 1 } },
      resumes: true,
      collect: assessments,
    },
  },
});

/** Where the API is, and who we are there. Only `auto` lets the vendor say where. */
function cloudOf(settings: Settings): Pick<HttpOptions, 'baseUrl' | 'auth'> {
  const { FALCON_CLOUD: name, FALCON_BASE_URL: url } = settings;
  const form = { client_id: settings.FALCON_CLIENT_ID, client_secret: settings.FALCON_SECRET };
  if (url !== undefined) return { baseUrl: baseUrl(url), auth: tokenAuth(form) };
  const discover = name === 'auto';
  const base = new URL(CLOUDS.get(discover ? 'us-1' : name) as string);
  return { baseUrl: base, auth: discover ? discoveringAuth(form) : tokenAuth(form) };
}

/** A scroll's offset dies after two minutes: the details between two of its pages have to come within them. */
function hosts(context: Context<Settings>): AsyncGenerator<Page> {
  return detailed(context, {
    list: {
      path: SCROLL,
      query: { limit: 5000 },
      records: 'resources',
      paginate: cursor('meta.pagination.offset', { as: 'offset', untilEmpty: true, lives: 120 }),
    },
    id: '',
    size: 1000,
    ask: (ids) => ({ path: DEVICES, method: 'POST', repeatable: true, body: { ids: [...ids] } }),
  });
}

/** A hundred ids keep the URL short. */
function assessments(context: Context<Settings>): AsyncGenerator<Page> {
  return detailed(context, {
    list: {
      path: ASSESSED,
      query: { filter: EVERY, limit: 1000 },
      records: 'resources',
      paginate: cursor('meta.pagination.after', { as: 'after' }),
    },
    id: 'aid',
    size: 100,
    ask: (ids) => ({ path: ASSESSMENTS, query: { ids } }),
  });
}
