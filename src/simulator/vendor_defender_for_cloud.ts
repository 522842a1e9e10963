import { CLIENT, graphVendor, TENANT } from './graph.ts';
import { digits, hex, mix, moment, pick, text, uuid } from './invent.ts';
import { nextUrl, type Page, type Records, type Request, type Route } from './paging.ts';
import { defineVendor } from './vendor.ts';

const SECRET = 'canary-defender-for-cloud~9tY3uP6sW1xC4vM8qJ2f';
/** The subscriptions there are. */
const SUBSCRIPTIONS = ['5ab50000-0000-4000-a000-00000000ab50', '5ab50000-0000-4000-a000-00000000ab51'];

const CODES: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'InvalidAuthenticationToken',
  403: 'AuthorizationFailed',
  404: 'SubscriptionNotFound',
  429: 'SubscriptionRequestsThrottled',
};

const error = (status: number, message: string) =>
  JSON.stringify({ error: { code: CODES[status] ?? 'InternalServerError', message } });

const LETTERS = ['Größe "XL"', 'C:\\Données', '監視を有効にする', 'Zażółć', 'plain'] as const;

function resourceId(subscription: string, index: number): string {
  return `/subscriptions/${subscription}/resourceGroups/rg-é${index % 7}/providers/Microsoft.Compute/virtualMachines/vm-${index}`;
}

type Make = (subscription: string, index: number) => object;

const score: Make = (subscription, index) => ({
  id: `/subscriptions/${subscription}/providers/Microsoft.Security/secureScores/${index === 0 ? 'ascScore' : uuid(index, 300)}`,
  name: index === 0 ? 'ascScore' : uuid(index, 300),
  type: 'Microsoft.Security/secureScores',
  properties: {
    displayName: `Initiative ${pick(LETTERS, index, 301)}`,
    score: { max: 60, current: digits(`${mix(index, 302) % 60}.10`), percentage: digits('0.4170000000000000001') },
    weight: digits(String(9_007_199_254_740_993n + BigInt(index))),
  },
});

const control: Make = (subscription, index) => ({
  id: `/subscriptions/${subscription}/providers/Microsoft.Security/secureScores/ascScore/secureScoreControls/${uuid(index, 303)}`,
  name: uuid(index, 303),
  type: 'Microsoft.Security/secureScores/secureScoreControls',
  properties: {
    displayName: pick(LETTERS, index, 304),
    healthyResourceCount: mix(index, 305) % 90,
    definition: { id: `/providers/Microsoft.Security/secureScoreControlDefinitions/${uuid(index, 303)}`, type: 'x' },
  },
});

const KINDS = 140;
const kindOf = (index: number) => uuid(index % KINDS, 306);

/** One in three has no metadata, as the list does not promise any. */
const assessment: Make = (subscription, index) => ({
  id: `${resourceId(subscription, index)}/providers/Microsoft.Security/assessments/${kindOf(index)}`,
  name: kindOf(index),
  type: 'Microsoft.Security/assessments',
  properties: {
    resourceDetails: { source: 'Azure', id: resourceId(subscription, index) },
    displayName: pick(LETTERS, index, 307),
    status: { code: pick(['Healthy', 'Unhealthy', 'NotApplicable'], index, 308), cause: index % 4 === 0 ? null : 'x' },
    ...(index % 3 === 0 ? {} : { metadata: { severity: 'High', description: 'Müßte\n"an" sein' } }),
  },
});

const metadata: Make = (_, index) => ({
  id: `/providers/Microsoft.Security/assessmentMetadata/${kindOf(index)}`,
  name: kindOf(index),
  type: 'Microsoft.Security/assessmentMetadata',
  properties: { displayName: pick(LETTERS, index, 309), severity: pick(['Low', 'Medium', 'High'], index, 310) },
});

const finding: Make = (subscription, index) => ({
  id: `${resourceId(subscription, index % 20)}/providers/Microsoft.Security/assessments/${kindOf(0)}/subassessments/${uuid(index, 311)}`,
  name: uuid(index, 311),
  properties: {
    id: `CVE-2024-${1000 + index}`,
    displayName: pick(LETTERS, index, 312),
    additionalData: { imageDigest: `sha256:${hex(index, 313, 64)}`, cvss: digits(`${mix(index, 314) % 10}.0`) },
    timeGenerated: moment(index, 315),
  },
});

const alert: Make = (subscription, index) => ({
  id: `/subscriptions/${subscription}/providers/Microsoft.Security/locations/westeurope/alerts/${index}_${uuid(index, 316)}`,
  name: `${index}_${uuid(index, 316)}`,
  type: 'Microsoft.Security/Locations/alerts',
  properties: {
    status: pick(['Active', 'Resolved', 'Dismissed', 'InProgress'], index, 317),
    severity: pick(['Informational', 'Low', 'Medium', 'High'], index, 318),
    alertDisplayName: `[${pick(LETTERS, index, 319)}] 😱`,
    startTimeUtc: moment(index, 320),
    extendedProperties: { 'user name': null, 'process id': '0x4d2' },
  },
});

const standard: Make = (subscription, index) => ({
  id: `/subscriptions/${subscription}/providers/Microsoft.Security/regulatoryComplianceStandards/Norm-${index}`,
  name: `Norm-${index}`,
  type: 'Microsoft.Security/regulatoryComplianceStandards',
  properties: { state: pick(['Passed', 'Failed', 'Skipped'], index, 321), passedControls: mix(index, 322) % 50 },
});

/** The first subscription has the most. */
function recordsOf(make: Make) {
  return (scale: number, { params }: Request): Records | undefined => {
    const subscription = params.subscription ?? '';
    const nth = SUBSCRIPTIONS.indexOf(subscription);
    if (nth < 0) return undefined;
    return { count: nth === 0 ? scale : Math.ceil(scale / 4), at: (index) => text(make(subscription, index), index) };
  };
}

const pages = nextUrl({ as: '$skipToken', max: 1000 });

function list(resource: string, path: string, version: string, make: Make, expand: string | null = null): Route {
  return {
    path: `/subscriptions/{subscription}/providers/Microsoft.Security/${path}`,
    resource,
    paging: pages,
    when: ({ query }) => query.get('api-version') === version && query.get('$expand') === expand,
    records: recordsOf(make),
    parents: () => SUBSCRIPTIONS.map((subscription) => ({ subscription })),
    wrap: (records: string, { next }: Page) =>
      next === undefined ? `{"value":${records}}` : `{"value":${records},"nextLink":${JSON.stringify(next)}}`,
    expired: () => ({ status: 400, body: error(400, 'The provided $skipToken is invalid or has expired.') }),
  };
}

const { token, credential } = graphVendor(SECRET);

export default defineVendor({
  name: 'defender_for_cloud',
  env: (origin) => ({
    DEFENDER_FOR_CLOUD_BASE_URL: origin,
    DEFENDER_FOR_CLOUD_AUTHORITY: origin,
    DEFENDER_FOR_CLOUD_TENANT_ID: TENANT,
    DEFENDER_FOR_CLOUD_CLIENT_ID: CLIENT,
    DEFENDER_FOR_CLOUD_CLIENT_SECRET: SECRET,
    DEFENDER_FOR_CLOUD_SUBSCRIPTION_ID: SUBSCRIPTIONS.join(', '),
  }),
  credential,
  error,
  limitHeaders: ({ remaining, over }): Readonly<Record<string, string>> => ({
    'x-ms-ratelimit-remaining-subscription-reads': String(remaining),
    ...(over ? { 'retry-after': '1' } : {}),
  }),
  routes: [
    token,
    list('secure_scores', 'secureScores', '2020-01-01', score),
    list('secure_score_controls', 'secureScoreControls', '2020-01-01', control, 'definition'),
    list('assessments', 'assessments', '2021-06-01', assessment, 'metadata'),
    {
      ...list('assessments', 'assessmentMetadata', '2021-06-01', metadata),
      leads: true,
      records: (_, { params }) => ({ count: KINDS, at: (index) => text(metadata(params.subscription ?? '', index)) }),
    },
    list('sub_assessments', 'subAssessments', '2019-01-01-preview', finding),
    list('alerts', 'alerts', '2022-01-01', alert),
    list('regulatory_compliance_standards', 'regulatoryComplianceStandards', '2019-01-01-preview', standard),
  ],
});
