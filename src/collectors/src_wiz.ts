import { baseUrl, integer, optional, secret, setting, text, type Values } from '../config/setting.ts';
import { clientCredentials } from '../http/auth.ts';
import { limit } from '../http/pace.ts';
import { cursor } from '../http/paginate.ts';
import { asking, assertFilters, audienceOf, issues, resources, rules, vulnerabilities } from './_wiz.ts';
import { defineCollector } from './collector.ts';

function filterSetting(list: string) {
  return setting(`GraphQL filterBy of the ${list} as JSON, in place of WIZ_FILTER`, optional());
}

function list(field: string) {
  return {
    path: '/graphql',
    method: 'POST',
    records: `data.${field}.nodes`,
    total: `data.${field}.totalCount`,
    // How long a cursor lives is not published; some minutes are seen.
    paginate: cursor(`data.${field}.pageInfo.endCursor`, {
      as: 'variables.after',
      inBody: true,
      more: `data.${field}.pageInfo.hasNextPage`,
      lives: 300,
    }),
    id: 'id',
  } as const;
}

const env = {
  WIZ_CLIENT_ID: setting('Client id of a service account of the type Custom Integration (GraphQL API)'),
  WIZ_CLIENT_SECRET: secret('Client secret of that service account'),
  WIZ_API_ENDPOINT: setting('API endpoint of the tenant, such as https://api.us1.app.wiz.io/graphql'),
  WIZ_TOKEN_URL: setting('Token URL of the tenant', text('https://auth.app.wiz.io/oauth/token')),
  WIZ_AUDIENCE: setting('Audience of the token; without it the one that belongs to the token URL', optional()),
  WIZ_PAGE_SIZE: setting('Records a page; fewer where Wiz times out', integer(500, 1, 500)),
  WIZ_FILTER: setting('GraphQL filterBy of every list as JSON', text('{}')),
  WIZ_FILTER_CLOUD_SECURITY_ISSUES: filterSetting('issues'),
  WIZ_FILTER_INVENTORY: filterSetting('inventory'),
  WIZ_FILTER_VULNERABILITIES: filterSetting('vulnerabilities'),
};

export default defineCollector({
  name: 'wiz',
  title: 'Wiz',
  docs: 'https://docs.wiz.io/wiz-docs/docs/using-the-wiz-api',
  env,
  http: (settings) => {
    assertFilters(settings);
    return {
      baseUrl: endpointOf(settings.WIZ_API_ENDPOINT),
      auth: accountOf(settings),
      // The limit is not published; ten a second for a service account is what others report.
      pace: limit(10, 1),
      concurrency: 3,
    };
  },
  errors: rules,
  resources: {
    cloud_security_issues: {
      about: 'Issues of every type and status, with rule, entity, tickets and notes',
      ...list('issues'),
      body: asking(issues, 'WIZ_FILTER_CLOUD_SECURITY_ISSUES'),
      needs: 'read:issues',
    },
    inventory: {
      about: 'Cloud resources with their properties, but for those named as keys, tokens, passwords or secrets',
      ...list('cloudResources'),
      body: asking(resources, 'WIZ_FILTER_INVENTORY'),
      needs: 'read:resources (on newer tenants read:inventory)',
      secrets: ['secret', 'password', 'token', 'key'].flatMap((word) => [
        `graphEntity.properties.*${word}*`,
        `graphEntity.properties.*.*${word}*`,
      ]),
    },
    vulnerabilities: {
      about: 'Findings of vulnerabilities, resolved ones too, with the asset they are on',
      ...list('vulnerabilityFindings'),
      body: asking(vulnerabilities, 'WIZ_FILTER_VULNERABILITIES'),
      needs: 'read:vulnerabilities',
    },
  },
});

function endpointOf(address: string): URL {
  return baseUrl(address.replace(/\/+$/, '').replace(/\/graphql$/, ''));
}

function accountOf(settings: Values<typeof env>) {
  const url = baseUrl(settings.WIZ_TOKEN_URL);
  return clientCredentials({
    path: url.href,
    form: {
      grant_type: 'client_credentials',
      client_id: settings.WIZ_CLIENT_ID,
      client_secret: settings.WIZ_CLIENT_SECRET,
      audience: settings.WIZ_AUDIENCE ?? audienceOf(url),
    },
  });
}
