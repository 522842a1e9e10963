import { baseUrl, list, secret, setting, text } from '../config/setting.ts';
import { staticHeaders } from '../http/auth.ts';
import { limit } from '../http/pace.ts';
import type { Rule } from '../http/retry.ts';
import { at, type JsonObject } from '../json.ts';
import { linked, members, organizations } from './_snyk.ts';
import { defineCollector } from './collector.ts';

/** The parent was deleted since it was listed, or is of a kind that has none. */
const none: readonly Rule[] = [{ status: 404, as: 'empty' }];

const chosen = (org: JsonObject, { SNYK_ORG_IDS }: { readonly SNYK_ORG_IDS: readonly string[] }) =>
  SNYK_ORG_IDS.length === 0 || SNYK_ORG_IDS.includes(String(at(org, 'id')));

const listed = ({ SNYK_VERSION }: { readonly SNYK_VERSION: string }) => ({ version: SNYK_VERSION, limit: 100 });

const ofOrg = {
  each: 'organizations',
  records: 'data',
  keep: { _org_id: 'id' },
  id: ['_org_id', 'id'],
  where: chosen,
} as const;

export default defineCollector({
  name: 'snyk',
  title: 'Snyk',
  docs: 'https://docs.snyk.io/snyk-api',
  env: {
    SNYK_TOKEN: secret('API token of a service account with the role Org Viewer or Group Viewer'),
    SNYK_ENDPOINT: setting('Base URL of the region, such as https://api.eu.snyk.io', text('https://api.snyk.io')),
    SNYK_VERSION: setting('Version date of the REST API', text('2024-08-25')),
    SNYK_ORG_IDS: setting('Organizations to read, by id; all of them unless set', list().default([])),
  },
  http: ({ SNYK_TOKEN, SNYK_ENDPOINT }) => ({
    baseUrl: baseUrl(SNYK_ENDPOINT.replace(/\/(rest|v1)\/*$/, '')),
    auth: staticHeaders({ authorization: `token ${SNYK_TOKEN}` }),
    headers: { accept: 'application/vnd.api+json' },
    paginate: linked,
    pace: limit(1620, 60),
  }),
  errors: [
    // Everything is refused until requests pause for the rest of the minute.
    { status: 429, as: 'throttled', wait: 60 },
    { status: 400, body: /cursor|starting_after/i, as: 'expired', because: 'the cursor has expired' },
    { status: 410, as: 'failed', because: 'this version of the API is gone, set SNYK_VERSION to a later date' },
  ],
  resources: {
    organizations: {
      about: 'Organizations that the token may read',
      path: '/rest/orgs',
      id: 'id',
      needs: 'View Organization',
      probe: { path: '/rest/orgs', query: { version: '2024-08-25', limit: 10 } },
      collect: organizations,
    },
    members: {
      about: 'Who belongs to which organization, administrators of the group included',
      each: 'organizations',
      path: '/v1/org/{id}/members',
      adds: { _org_id: 'the organization’s id' },
      id: ['_org_id', 'id'],
      needs: 'View Organization Memberships',
      collect: (context) => members(context, (org) => chosen(org, context.settings)),
    },
    projects: {
      ...ofOrg,
      about: 'Projects of each organization, with counts of their latest issues',
      path: '/rest/orgs/{id}/projects',
      query: (settings) => ({
        ...listed(settings),
        'meta.latest_issue_counts': true,
        'meta.latest_dependency_total': true,
      }),
      needs: 'View Projects',
    },
    issues: {
      ...ofOrg,
      about: 'Issues of each organization: open, resolved and ignored',
      path: '/rest/orgs/{id}/issues',
      query: listed,
      needs: 'View Organization, View Projects and View Project history',
    },
    targets: {
      ...ofOrg,
      about: 'What was imported to be scanned, without projects too',
      path: '/rest/orgs/{id}/targets',
      query: (settings) => ({ ...listed(settings), exclude_empty: false, count: true }),
      total: 'meta.count',
      needs: 'View Organization',
    },
    aggregated_issues: {
      about: 'Issues of each project with the paths they come in by; a request per project',
      each: 'projects',
      path: '/v1/org/{_org_id}/project/{id}/aggregated-issues',
      method: 'POST',
      headers: { accept: 'application/json' },
      body: { includeDescription: true, includeIntroducedThrough: true },
      records: 'issues',
      paginate: null,
      keep: { _org_id: '_org_id', _project_id: 'id' },
      id: ['_project_id', 'id'],
      needs: 'View Projects and View Project history',
      errors: none,
    },
  },
});
