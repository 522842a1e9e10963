import { baseUrl, choice, integer, secret, setting } from '../config/setting.ts';
import { cursor } from '../http/paginate.ts';
import { authentications, signed } from './_duo.ts';
import { defineCollector } from './collector.ts';

const list = { records: 'response', total: 'metadata.total_objects' } as const;

export default defineCollector({
  name: 'duo',
  title: 'Cisco Duo',
  docs: 'https://duo.com/docs/adminapi',
  env: {
    DUO_API_HOSTNAME: setting('API hostname of the Admin API application, such as api-xxxxxxxx.duosecurity.com'),
    DUO_INTEGRATION_KEY: setting('Integration key (client ID) of that application'),
    DUO_SECRET_KEY: secret('Secret key of that application'),
    DUO_SIG_VERSION: setting('Signature: 2 is HMAC-SHA1, 5 is HMAC-SHA512', choice(['2', '5'], '2')),
    DUO_LOG_DAYS: setting('Days of authentications that the first run reads; Duo keeps 180', integer(180, 1, 180)),
  },
  http: ({ DUO_API_HOSTNAME, DUO_INTEGRATION_KEY, DUO_SECRET_KEY, DUO_SIG_VERSION }) => ({
    baseUrl: baseUrl(DUO_API_HOSTNAME),
    auth: signed({ integration: DUO_INTEGRATION_KEY, secret: DUO_SECRET_KEY, version: DUO_SIG_VERSION }),
    paginate: cursor('metadata.next_offset', { as: 'offset', lives: 300 }),
    // The limit is not published.
    concurrency: 1,
  }),
  errors: [
    { status: 401, body: /40105/, as: 'credentials', because: 'the clock of this machine is off' },
    { status: 429, as: 'throttled' },
    { status: 200, body: /"stat":\s*"FAIL"/, as: 'failed', because: 'the answer says FAIL' },
  ],
  resources: {
    users: {
      about: 'Users, with their groups, phones, tokens and security keys',
      path: '/admin/v1/users',
      query: { limit: 300, offset: 0 },
      ...list,
      id: 'user_id',
      needs: 'Grant resource - Read',
    },
    groups: {
      about: 'Groups and their status',
      path: '/admin/v1/groups',
      query: { limit: 100, offset: 0 },
      ...list,
      id: 'group_id',
      needs: 'Grant resource - Read',
    },
    phones: {
      about: 'Phones and tablets that users authenticate with',
      path: '/admin/v1/phones',
      query: { limit: 500, offset: 0 },
      ...list,
      id: 'phone_id',
      needs: 'Grant resource - Read',
    },
    endpoints: {
      about: 'Devices that were seen at authentications',
      path: '/admin/v1/endpoints',
      query: { limit: 500, offset: 0 },
      ...list,
      id: 'epkey',
      needs: 'Grant resource - Read',
      errors: [
        { status: 404, as: 'unlicensed', because: 'endpoints need Duo Advantage or Premier' },
        { status: 403, body: /edition|plan\b|licen[cs]e/i, as: 'unlicensed', because: 'the edition has no endpoints' },
      ],
    },
    admins: {
      about: 'Administrators and their roles',
      path: '/admin/v1/admins',
      query: { limit: 500, offset: 0 },
      ...list,
      id: 'admin_id',
      needs: 'Grant administrators - Read',
    },
    integrations: {
      about: 'Protected applications, without their secret keys',
      path: '/admin/v3/integrations',
      query: { limit: 500, offset: 0 },
      ...list,
      id: 'integration_key',
      needs: 'Grant applications - Read',
      secrets: ['secret_key'],
    },
    authentications: {
      about: 'Authentications and how they ended',
      kind: 'events',
      path: '/admin/v2/logs/authentication',
      id: 'txid',
      needs: 'Grant read log',
      collect: (context) => authentications(context, context.settings.DUO_LOG_DAYS),
    },
  },
});
