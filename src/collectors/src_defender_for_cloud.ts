import { baseUrl, list, secret, setting, text } from '../config/setting.ts';
import { resetHeader } from '../http/pace.ts';
import { nextUrl } from '../http/paginate.ts';
import type { Rule } from '../http/retry.ts';
import { ofSubscriptions, withMetadata } from './_defender_for_cloud.ts';
import { entra } from './_entra.ts';
import { ABOUT_AUTHORITY, AUTHORITY } from './_graph.ts';
import { defineCollector } from './collector.ts';

const PUBLIC = 'https://management.azure.com';

/** A subscription without a paid plan has no standards. */
const free: readonly Rule[] = [
  { status: 400, body: /standard pricing bundle/i, as: 'unlicensed', because: 'the subscription has no paid plan' },
  {
    status: 404,
    body: /^(?![\s\S]*SubscriptionNotFound)/,
    as: 'unlicensed',
    because: 'the subscription has no paid plan',
  },
];

export default defineCollector({
  name: 'defender_for_cloud',
  title: 'Microsoft Defender for Cloud',
  docs: 'https://learn.microsoft.com/rest/api/defenderforcloud/',
  env: {
    DEFENDER_FOR_CLOUD_TENANT_ID: setting('Directory (tenant) ID of the app registration'),
    DEFENDER_FOR_CLOUD_CLIENT_ID: setting('Application (client) ID of the app registration'),
    DEFENDER_FOR_CLOUD_CLIENT_SECRET: secret('Client secret of the app registration'),
    DEFENDER_FOR_CLOUD_SUBSCRIPTION_ID: setting(
      'Subscriptions to read, by id, separated by commas',
      list()
        .refine((ids) => ids.length > 0 && ids.every((id) => /^[\w-]+$/.test(id)), 'must be ids of subscriptions')
        .transform((ids) => [...new Set(ids)]),
    ),
    DEFENDER_FOR_CLOUD_BASE_URL: setting(
      'Base URL of Azure Resource Manager: https://management.usgovcloudapi.net for the US government, https://management.chinacloudapi.cn in China',
      text(PUBLIC),
    ),
    DEFENDER_FOR_CLOUD_AUTHORITY: setting(ABOUT_AUTHORITY, text(AUTHORITY)),
  },
  http: (settings) => {
    const base = baseUrl(settings.DEFENDER_FOR_CLOUD_BASE_URL);
    return {
      baseUrl: base,
      auth: entra({
        tenant: settings.DEFENDER_FOR_CLOUD_TENANT_ID,
        client: settings.DEFENDER_FOR_CLOUD_CLIENT_ID,
        secret: settings.DEFENDER_FOR_CLOUD_CLIENT_SECRET,
        authority: baseUrl(settings.DEFENDER_FOR_CLOUD_AUTHORITY),
        scope: `${audienceOf(base)}/.default`,
      }),
      paginate: nextUrl('nextLink'),
      // A bucket that 25 reads a second flow into.
      pace: resetHeader('x-ms-ratelimit-remaining-subscription-reads', undefined, undefined, 1),
    };
  },
  errors: [
    {
      status: 404,
      body: /SubscriptionNotFound/,
      as: 'denied',
      because: 'the subscription is not there, or the app has no role on it',
    },
    {
      status: [400, 403, 404, 409],
      body: /MissingSubscriptionRegistration|Subscription ?Not ?Registered/i,
      as: 'unlicensed',
      because: 'the provider Microsoft.Security is not registered on the subscription',
    },
    { status: [400, 410], body: /skip_?token/i, as: 'expired', because: 'the next link has expired' },
    { status: 400, body: /InvalidApiVersion/, as: 'failed', because: 'the API version is no longer there' },
  ],
  resources: {
    secure_scores: ofSubscriptions({
      about: 'Secure score of each subscription and initiative',
      list: 'secureScores',
      version: '2020-01-01',
    }),
    secure_score_controls: ofSubscriptions({
      about: 'Controls that make up the secure score, with their definitions',
      list: 'secureScoreControls',
      version: '2020-01-01',
      expand: 'definition',
    }),
    assessments: ofSubscriptions({
      about: 'Recommendations as they stand for each resource',
      list: 'assessments',
      version: '2021-06-01',
      expand: 'metadata',
      pages: withMetadata,
      adds: { _metadata: 'severity, description and the rest of the metadata, where the list has none' },
      secrets: [
        'properties.partnersData.secret',
        'properties.metadata.partnerData.secret',
        'properties.partnerData.secret',
      ],
    }),
    sub_assessments: ofSubscriptions({
      about: 'Findings beneath the recommendations, such as vulnerabilities of images and servers',
      list: 'subAssessments',
      version: '2019-01-01-preview',
    }),
    alerts: ofSubscriptions({
      about: 'Security alerts, whatever their status',
      list: 'alerts',
      version: '2022-01-01',
    }),
    regulatory_compliance_standards: ofSubscriptions({
      about: 'Standards such as PCI DSS, with how many of their controls pass',
      list: 'regulatoryComplianceStandards',
      version: '2019-01-01-preview',
      errors: free,
    }),
  },
});

/** Whose tokens are asked for: a gateway before the API passes on those of the API itself. */
function audienceOf({ hostname, origin }: URL): string {
  return /^management\.(azure\.com|usgovcloudapi\.net|chinacloudapi\.cn)$/.test(hostname) ? origin : PUBLIC;
}
