import { CollectError } from '../errors.ts';
import type { Rule } from '../http/retry.ts';
import { isObject, type Json, type JsonObject } from '../json.ts';

/** Where GraphQL errors are told apart; they come with 200, or 400 where the query itself is not taken. */
export const rules: readonly Rule[] = [
  {
    status: [200, 400, 403, 429],
    body: /RATE_LIMIT_EXCEEDED|"errors"\s*:\s*\[.*(rate limit|too many requests)/is,
    as: 'throttled',
    told: /"retryAfter"\s*:\s*"?(\d+(?:\.\d+)?)/,
  },
  {
    status: [200, 400],
    body: /"errors"\s*:\s*\[.*cursor/is,
    as: 'expired',
    because: 'the cursor is not taken any more',
  },
  { status: [200, 400], body: errorOf('UNAUTHENTICATED'), as: 'credentials', because: 'the token is not accepted' },
  {
    status: [200, 400],
    body: errorOf('UNAUTHORIZED|FORBIDDEN'),
    as: 'denied',
    because: 'the service account lacks a scope',
  },
  { status: 200, body: errorOf('INTERNAL\\w*|TIMEOUT\\w*'), as: 'retry', because: 'Wiz names an error of its own' },
  {
    status: [200, 400],
    body: /Cannot query field|Unknown (type|argument)|GRAPHQL_VALIDATION_FAILED/,
    as: 'failed',
    because: 'the tenant’s schema does not have what is asked for, or not the filter',
  },
  {
    status: [200, 400],
    body: /"errors"\s*:\s*\[\s*\{/,
    as: 'failed',
    because: 'GraphQL errors, so the data may be partial',
  },
];

function errorOf(codes: string): RegExp {
  return new RegExp(`"errors"\\s*:\\s*\\[.*"code"\\s*:\\s*"(${codes})"`, 's');
}

/** Tenants that still sign in at auth.wiz.io or auth0.gov.wiz.io have another audience. */
export function audienceOf(tokenUrl: URL): string {
  return /^(auth|auth0\.gov)\.wiz\.io$/.test(tokenUrl.hostname) ? 'beyond-api' : 'wiz-api';
}

/** What narrows the lists: JSON as it was written. */
export interface Filters {
  readonly WIZ_FILTER: string;
  readonly WIZ_FILTER_CLOUD_SECURITY_ISSUES?: string | undefined;
  readonly WIZ_FILTER_INVENTORY?: string | undefined;
  readonly WIZ_FILTER_VULNERABILITIES?: string | undefined;
}

/**
 * The `filterBy` that a variable holds, else the one of every list.
 * @throws {CollectError} config when it is no JSON object
 */
function filterOf(settings: Filters, name: keyof Filters): JsonObject {
  const own = settings[name];
  const filter = jsonOf(own ?? settings.WIZ_FILTER);
  if (isObject(filter)) return filter;
  throw new CollectError('config', `${own === undefined ? 'WIZ_FILTER' : name} is no JSON object`, {
    mend: 'write it as {"severity":["CRITICAL"]}',
  });
}

/** @throws {CollectError} config when one of the filters is no JSON object */
export function assertFilters(settings: Filters): void {
  filterOf(settings, 'WIZ_FILTER');
  filterOf(settings, 'WIZ_FILTER_CLOUD_SECURITY_ISSUES');
  filterOf(settings, 'WIZ_FILTER_INVENTORY');
  filterOf(settings, 'WIZ_FILTER_VULNERABILITIES');
}

function jsonOf(written: string): unknown {
  try {
    return JSON.parse(written);
  } catch {
    return undefined;
  }
}

/** A function of the settings that makes a list's first call. */
export function asking(query: string, filter: keyof Filters) {
  return (settings: Filters & { readonly WIZ_PAGE_SIZE: number }): Json => ({
    query,
    variables: { first: settings.WIZ_PAGE_SIZE, filterBy: filterOf(settings, filter) },
  });
}

function listQuery(field: string, filters: string, nodes: string): string {
  const on = field.split(':')[0];
  return `query ${on}($first: Int, $after: String, $filterBy: ${filters}) {
  ${field}(first: $first, after: $after, filterBy: $filterBy) {
    nodes { ${nodes} }
    pageInfo { hasNextPage endCursor }
    totalCount
  }
}`;
}

const RULE = 'id name description';

/** Issues; the older field `issues` has gone from the schema, the name stays as an alias. */
export const issues: string = listQuery(
  'issues: issuesV2',
  'IssueFilters',
  `id type status severity createdAt updatedAt statusChangedAt dueAt resolvedAt resolutionReason
    sourceRule {
      __typename
      ... on Control { ${RULE} resolutionRecommendation }
      ... on CloudEventRule { ${RULE} }
      ... on CloudConfigurationRule { ${RULE} remediationInstructions }
    }
    projects { id name slug businessUnit riskProfile { businessImpact } }
    entitySnapshot {
      id type nativeType name status cloudPlatform cloudProviderURL providerId region resourceGroupExternalId
      subscriptionExternalId subscriptionName subscriptionTags tags createdAt externalId
    }
    serviceTickets { externalId name url }
    notes { createdAt updatedAt text user { name email } serviceAccount { name } }`,
);

/** Cloud resources with all their properties. */
export const resources: string = listQuery(
  'cloudResources',
  'CloudResourceFilters',
  `id name type subscriptionId subscriptionExternalId
    graphEntity { id providerUniqueId name type projects { id } properties firstSeen lastSeen }`,
);

/** Findings of vulnerabilities, each with the asset it is on. */
export const vulnerabilities: string = listQuery(
  'vulnerabilityFindings',
  'VulnerabilityFindingFilters',
  `id name detailedName description CVEDescription CVSSSeverity severity vendorSeverity score exploitabilityScore
    impactScore hasExploit hasCisaKevExploit epssSeverity epssPercentile epssProbability status version fixedVersion
    detectionMethod firstDetectedAt lastDetectedAt resolvedAt resolutionReason remediation link locationPath portalUrl
    projects { id name slug businessUnit }
    vulnerableAsset {
      ... on VulnerableAssetBase {
        id type name region providerUniqueId cloudProviderURL cloudPlatform status
        subscriptionName subscriptionExternalId subscriptionId tags
      }
    }`,
);
