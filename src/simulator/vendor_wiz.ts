import { address, digits, hex, mix, moment, person, pick, text, uuid } from './invent.ts';
import { graphqlOf, type Page, type Paging, type Request, type Route, relay, single } from './paging.ts';
import { defineVendor } from './vendor.ts';

const ID = 'canarywizclient0a1b2c3d4e5f60718293a4b5c6d7e8f9';
const SECRET = 'canaryWizSecret0a1b2c3d4e5f60718293a4b5c6d7e8f9';

const SEVERITIES = ['CRITICAL', 'HIGH', 'MEDIUM', 'LOW', 'INFORMATIONAL'] as const;
const CLOUDS = ['AWS', 'Azure', 'GCP'] as const;

function project(index: number): object {
  const name = pick(['Zahlungen', 'Équipe "data"', '基盤'], index, 1);
  return { id: uuid(index % 3, 2), name, slug: `project-${index % 3}`, businessUnit: '' };
}

function issue(index: number): object {
  const resolved = index % 4 === 1;
  return {
    id: uuid(index, 3),
    type: pick(['TOXIC_COMBINATION', 'THREAT_DETECTION', 'CLOUD_CONFIGURATION'], index, 4),
    status: resolved ? 'RESOLVED' : pick(['OPEN', 'IN_PROGRESS'], index, 5),
    severity: pick(SEVERITIES, index, 6),
    createdAt: moment(index, 7),
    updatedAt: moment(index, 8),
    statusChangedAt: moment(index, 9),
    dueAt: null,
    resolvedAt: resolved ? moment(index, 9) : null,
    resolutionReason: resolved ? 'OBJECT_DELETED' : null,
    sourceRule: {
      __typename: 'Control',
      id: `wc-id-${index % 40}`,
      name: 'Publicly exposed VM with a "high" severity finding',
      description: 'One line\nand another\\',
      resolutionRecommendation: '1. Öffnen\n2. Schließen',
    },
    projects: index % 5 === 0 ? null : [project(index)],
    entitySnapshot: {
      id: uuid(index, 10),
      type: 'VIRTUAL_MACHINE',
      name: `vm-${person(index).first}-${index}`,
      cloudPlatform: pick(CLOUDS, index, 11),
      region: 'eu-central-1',
      tags: { Besitzer: person(index).last },
    },
    serviceTickets: [],
    notes:
      index % 6 === 0 ? [{ createdAt: moment(index, 12), text: 'seen 🦉', user: { name: person(index).first } }] : [],
  };
}

function resource(index: number): object {
  return {
    id: uuid(index, 13),
    name: pick(['fonction-à-jour', 'bucket "α"', '倉庫'], index, 14),
    type: pick(['BUCKET', 'SERVERLESS', 'VIRTUAL_MACHINE'], index, 15),
    subscriptionId: uuid(index % 4, 16),
    subscriptionExternalId: String(100_000_000_000 + (mix(index, 17) % 899_999_999)),
    graphEntity: {
      id: uuid(index, 18),
      providerUniqueId: `arn:aws:lambda:eu-central-1::function:f-${index}`,
      name: 'f',
      type: 'SERVERLESS',
      projects: [{ id: uuid(index % 3, 2) }],
      properties: {
        _vertexID: uuid(index, 18),
        ipAddresses: [address(index, 19)],
        memoryBytes: digits(String(9_007_199_254_740_993n + BigInt(index) * 2n)),
        environment: { LOG_LEVEL: 'info', nested: { a: [1, { b: null }] } },
      },
      firstSeen: moment(index, 20),
      lastSeen: moment(index, 21),
    },
  };
}

function finding(index: number): object {
  return {
    id: uuid(index, 22),
    name: `CVE-2025-${10_000 + (mix(index, 23) % 40_000)}`,
    detailedName: pick(['openssl', 'libxml2', 'größe'], index, 24),
    description: 'The package `openssl` version `3.0.2` was detected in\n\t"/usr/lib"',
    CVEDescription: null,
    CVSSSeverity: pick(SEVERITIES, index, 25),
    severity: pick(SEVERITIES, index, 25),
    vendorSeverity: pick(SEVERITIES, index, 26),
    score: digits(`${mix(index, 27) % 10}.${mix(index, 28) % 10}0`),
    hasExploit: index % 7 === 0,
    hasCisaKevExploit: false,
    epssProbability: digits('1.0E-4'),
    status: index % 3 === 0 ? 'RESOLVED' : 'OPEN',
    version: '3.0.2',
    fixedVersion: index % 4 === 0 ? null : '3.0.7',
    detectionMethod: 'PACKAGE',
    firstDetectedAt: moment(index, 29),
    lastDetectedAt: moment(index, 30),
    projects: [project(index)],
    vulnerableAsset: {
      id: uuid(index, 10),
      type: 'VIRTUAL_MACHINE',
      name: `vm-${hex(index, 31, 6)}`,
      cloudPlatform: pick(CLOUDS, index, 32),
      tags: { Büro: 'Łódź' },
    },
  };
}

interface List {
  readonly resource: string;
  /** The name of the list in the answer, and what is asked for. */
  readonly as: string;
  readonly field: string;
  readonly filters: string;
  readonly record: (index: number) => object;
}

function asks({ query, variables }: ReturnType<typeof graphqlOf>, { field, filters }: List): boolean {
  const whole = ['nodes {', 'pageInfo { hasNextPage endCursor }', 'totalCount', `$filterBy: ${filters}`];
  return (
    new RegExp(`\\b${field}\\(first: \\$first, after: \\$after, filterBy: \\$filterBy\\)`).test(query) &&
    whole.every((part) => query.includes(part)) &&
    'filterBy' in variables
  );
}

function listed(list: List): Route {
  const around = (records: string, { next, total }: Page) =>
    `{"data":{"${list.as}":{"nodes":${records},"pageInfo":${JSON.stringify({
      hasNextPage: next !== undefined,
      endCursor: next ?? null,
    })},"totalCount":${total}}}}`;
  return {
    path: '/graphql',
    method: 'POST',
    resource: list.resource,
    total: true,
    paging: bounded(relay({ max: 500, fallback: 10 })),
    when: (request: Request) => asks(graphqlOf(request), list),
    records: (scale) => ({ count: scale, at: (index) => text(list.record(index), index) }),
    wrap: around,
    expired: () => ({ status: 200, body: failure('BAD_USER_INPUT', 'invalid cursor') }),
  };
}

function bounded(paging: Paging): Paging {
  const answer: Paging['answer'] = (ask) => {
    const { variables } = graphqlOf(ask.request);
    const first = 'first' in variables ? Number(variables.first) : Number.NaN;
    if (first > 0 && first <= 500) return paging.answer(ask);
    return { status: 400, body: failure('BAD_USER_INPUT', 'first must be from 1 to 500') };
  };
  return { ...paging, answer };
}

function failure(code: string, message: string, more: object = {}): string {
  return JSON.stringify({ errors: [{ message, extensions: { code, ...more } }], data: null });
}

const token = single('none', ({ request, session }) => {
  const form = new URLSearchParams(request.body);
  const right =
    form.get('grant_type') === 'client_credentials' &&
    form.get('audience') === (session.settings.audience ?? 'wiz-api') &&
    form.get('client_id') === ID &&
    form.get('client_secret') === SECRET;
  if (!right)
    return { status: 401, body: JSON.stringify({ error: 'access_denied', error_description: 'Unauthorized' }) };
  const body = { access_token: session.issue(), expires_in: 86_400, token_type: 'Bearer' };
  return { status: 200, body: JSON.stringify(body) };
});

const CODES: Readonly<Record<number, string>> = { 401: 'UNAUTHENTICATED', 403: 'UNAUTHORIZED', 200: 'BAD_USER_INPUT' };

export default defineVendor({
  name: 'wiz',
  env: (origin) => ({
    WIZ_CLIENT_ID: ID,
    WIZ_CLIENT_SECRET: SECRET,
    WIZ_API_ENDPOINT: `${origin}/graphql`,
    WIZ_TOKEN_URL: `${origin}/oauth/token`,
  }),
  credential: ({ headers }) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
  error: (status, what) =>
    status === 429
      ? failure('RATE_LIMIT_EXCEEDED', what, { retryAfter: 1 })
      : failure(CODES[status] ?? 'INTERNAL', what),
  limitHeaders: () => ({}),
  routes: [
    { path: '/oauth/token', method: 'POST', resource: 'token', paging: token },
    listed({
      resource: 'cloud_security_issues',
      as: 'issues',
      field: 'issues: issuesV2',
      filters: 'IssueFilters',
      record: issue,
    }),
    listed({
      resource: 'inventory',
      as: 'cloudResources',
      field: 'cloudResources',
      filters: 'CloudResourceFilters',
      record: resource,
    }),
    listed({
      resource: 'vulnerabilities',
      as: 'vulnerabilityFindings',
      field: 'vulnerabilityFindings',
      filters: 'VulnerabilityFindingFilters',
      record: finding,
    }),
  ],
});
