import { baseUrl, integer, secret, setting } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { staticHeaders } from '../http/auth.ts';
import { resetHeader } from '../http/pace.ts';
import { linkHeader } from '../http/paginate.ts';
import type { Rule } from '../http/retry.ts';
import { defineCollector } from './collector.ts';

/** The parent was deleted since it was listed. */
const vanished: readonly Rule[] = [{ status: 404, as: 'empty' }];

export default defineCollector({
  name: 'okta',
  title: 'Okta Workforce Identity',
  docs: 'https://developer.okta.com/docs/api/',
  env: {
    OKTA_DOMAIN: setting('Org domain or URL, such as acme.okta.com'),
    OKTA_TOKEN: secret('API token of a read-only administrator'),
    OKTA_CONCURRENCY: setting('Requests at once; Okta allows 75 for a whole org', integer(5, 1, 75)),
  },
  http: ({ OKTA_DOMAIN, OKTA_TOKEN, OKTA_CONCURRENCY }) => ({
    baseUrl: org(OKTA_DOMAIN),
    auth: staticHeaders({ authorization: `SSWS ${OKTA_TOKEN}` }),
    paginate: linkHeader(),
    pace: resetHeader('x-rate-limit-remaining', 'x-rate-limit-reset', 'x-rate-limit-limit'),
    concurrency: OKTA_CONCURRENCY,
  }),
  errors: [{ status: 400, body: /after|cursor/i, as: 'expired', because: 'the cursor has expired' }],
  resources: {
    users: {
      about: 'Accounts, but for deprovisioned ones',
      path: '/api/v1/users',
      query: { limit: 200 },
      id: 'id',
      needs: 'okta.users.read',
    },
    deprovisioned_users: {
      about: 'Accounts that were deactivated, which the list of users leaves out',
      path: '/api/v1/users',
      query: { limit: 200, filter: 'status eq "DEPROVISIONED"' },
      id: 'id',
      needs: 'okta.users.read',
    },
    groups: {
      about: 'Groups of every type',
      path: '/api/v1/groups',
      query: { limit: 200 },
      id: 'id',
      needs: 'okta.groups.read',
    },
    devices: {
      about: 'Devices registered in Identity Engine',
      path: '/api/v1/devices',
      query: { limit: 200 },
      id: 'id',
      needs: 'okta.devices.read',
      errors: [
        {
          status: [401, 403, 404],
          body: /E0000(015|022|006|004)/,
          as: 'unlicensed',
          because: 'devices need Identity Engine',
        },
      ],
    },
    device_users: {
      about: 'Who uses which device',
      each: 'devices',
      path: '/api/v1/devices/{id}/users',
      keep: { _device_id: 'id' },
      id: ['_device_id', 'user.id'],
      needs: 'okta.devices.read',
      errors: vanished,
    },
    group_members: {
      about: 'Who belongs to which group',
      each: 'groups',
      path: '/api/v1/groups/{id}/users',
      query: { limit: 200 },
      keep: { _group_id: 'id' },
      id: ['_group_id', 'id'],
      needs: 'okta.groups.read',
      errors: vanished,
    },
    user_factors: {
      about: 'Second factors of each account',
      each: 'users',
      path: '/api/v1/users/{id}/factors',
      keep: { _user_id: 'id' },
      id: ['_user_id', 'id'],
      needs: 'okta.factors.read',
      errors: vanished,
    },
    user_roles: {
      about: 'Administrator roles of each account',
      each: 'users',
      path: '/api/v1/users/{id}/roles',
      keep: { _user_id: 'id' },
      id: ['_user_id', 'id'],
      needs: 'okta.roles.read',
      errors: vanished,
    },
  },
});

function org(domain: string): URL {
  const url = baseUrl(domain);
  const admin = /^([^.]+)-admin(\..+)$/.exec(url.hostname);
  if (admin === null) return url;
  throw new CollectError('config', `OKTA_DOMAIN names the admin console, ${url.hostname}`, {
    mend: `write ${admin[1]}${admin[2]}`,
  });
}
