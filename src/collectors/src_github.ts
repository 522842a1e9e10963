import { baseUrl, list, optional, secret, setting, text } from '../config/setting.ts';
import { limit, type Pace, resetHeader } from '../http/pace.ts';
import { linkHeader } from '../http/paginate.ts';
import { type JsonObject, textAt } from '../json.ts';
import { credentials, members, OFF, ofEach, organizations, repositories } from './_github.ts';
import { defineCollector } from './collector.ts';

const OF_ORG = { _org: 'login of the organization' };
const OF_REPOSITORY = { ...OF_ORG, _repo: 'name of the repository' };

export default defineCollector({
  name: 'github',
  title: 'GitHub',
  docs: 'https://docs.github.com/en/rest?apiVersion=2022-11-28',
  env: {
    GITHUB_TOKEN: secret('Personal access token; with GITHUB_APP_ID the private key of the app, as in its .pem file'),
    GITHUB_ENDPOINT: setting(
      'Root of the API; of GitHub Enterprise Server https://HOST/api/v3',
      text('https://api.github.com'),
    ),
    GITHUB_ORGS: setting('Organizations to read, by login; those of the user or app unless set', list().default([])),
    GITHUB_APP_ID: setting('Number or client id of a GitHub App', optional()),
    GITHUB_APP_INSTALLATION_ID: setting('Number of the app’s installation in the organization', optional()),
  },
  aliases: { GITHUB_APP_PRIVATE_KEY: 'GITHUB_TOKEN', GH_TOKEN: 'GITHUB_TOKEN' },
  http: (settings) => ({
    baseUrl: baseUrl(settings.GITHUB_ENDPOINT),
    headers: { accept: 'application/vnd.github+json', 'x-github-api-version': '2022-11-28' },
    auth: credentials(settings),
    paginate: linkHeader(),
    pace: pacesOf(baseUrl(settings.GITHUB_ENDPOINT)),
  }),
  errors: [
    // The first limit is told in headers; the second often is not, and then a minute is asked for.
    { status: [403, 429], body: /rate limit|abuse detection/i, as: 'throttled', wait: 60 },
    { status: 429, as: 'throttled', wait: 60 },
    { status: 403, body: /SAML/, as: 'denied', because: 'the token is not authorised for single sign-on' },
    { status: 403, body: /IP allow list/, as: 'denied', because: 'the address is not on the IP allow list' },
    { status: 404, as: 'denied', because: 'it is not there, or hidden from this token' },
    {
      status: [400, 422],
      body: /cursor|\b(after|before) /i,
      as: 'expired',
      because: 'the cursor is not valid any more',
    },
    { status: 400, body: /version/i, as: 'failed', because: 'version 2022-11-28 of the API is not served' },
  ],
  resources: {
    organizations: {
      about: 'Organizations that the token may read',
      path: '/user/orgs',
      id: 'id',
      // The permission of fine-grained tokens and apps, in brackets the scope of classic tokens; so below.
      needs: 'Metadata: read (read:org)',
      collect: organizations,
    },
    repositories: {
      about: 'Repositories of every kind, archived ones too',
      each: 'organizations',
      path: '/orgs/{login}/repos',
      adds: OF_ORG,
      id: 'id',
      needs: 'Metadata: read (repo)',
      secrets: ['temp_clone_token'],
      collect: repositories,
    },
    members: {
      about: 'Who belongs to which organization',
      each: 'organizations',
      path: '/orgs/{login}/members',
      adds: OF_ORG,
      id: ['_org', 'id'],
      needs: 'Members: read (read:org)',
      collect: (context) => members(context, 'all'),
    },
    owners: {
      about: 'Which members are owners of their organization',
      each: 'organizations',
      path: '/orgs/{login}/members',
      adds: OF_ORG,
      id: ['_org', 'id'],
      needs: 'Members: read (read:org)',
      collect: (context) => members(context, 'admin'),
    },
    code_scanning_alerts: {
      about: 'Alerts of code scanning, open, fixed or dismissed',
      each: 'repositories',
      path: '/repos/{_org}/{name}/code-scanning/alerts',
      adds: OF_REPOSITORY,
      id: ['_org', '_repo', 'number'],
      needs: 'Code scanning alerts: read (security_events)',
      collect: (context) => ofEach(context, ofRepository('code-scanning/alerts')),
    },
    dependabot_alerts: {
      about: 'Alerts of Dependabot, open, fixed or dismissed',
      each: 'repositories',
      path: '/repos/{_org}/{name}/dependabot/alerts',
      adds: OF_REPOSITORY,
      id: ['_org', '_repo', 'number'],
      needs: 'Dependabot alerts: read (security_events)',
      collect: (context) => ofEach(context, ofRepository('dependabot/alerts')),
    },
    secret_scanning_alerts: {
      about: 'Alerts of secret scanning, without the secrets; generic patterns are not among them',
      each: 'organizations',
      path: '/orgs/{login}/secret-scanning/alerts',
      query: { per_page: 100, hide_secret: true },
      keep: { _org: 'login' },
      id: ['_org', 'repository.full_name', 'number'],
      needs: 'Secret scanning alerts: read (security_events), as owner or security manager',
      secrets: ['secret'],
      errors: [{ status: [403, 404], body: OFF, as: 'empty' }],
    },
    branches: {
      about: 'Branches of each repository; a request per repository',
      each: 'repositories',
      path: '/repos/{_org}/{name}/branches',
      adds: OF_REPOSITORY,
      id: ['_org', '_repo', 'name'],
      needs: 'Contents: read (repo)',
      collect: (context) => ofEach(context, ofRepository('branches')),
    },
    branch_protection_rules: {
      about: 'Rules of rulesets that hold for each branch; a request per branch',
      each: 'branches',
      path: '/repos/{_org}/{_repo}/rules/branches/{name}',
      adds: { ...OF_REPOSITORY, _branch: 'name of the branch' },
      id: ['_org', '_repo', '_branch', 'ruleset_id', 'type'],
      needs: 'Metadata: read (repo)',
      // Plans and servers without rulesets know no such path.
      collect: (context) => ofEach(context, { path: rulesOf, keep: branchOf, absent: true }),
    },
  },
});

/** GitHub's own hosts take 900 GET requests a minute; a server of one's own has other limits or none. */
function pacesOf({ hostname }: URL): readonly Pace[] {
  const told = resetHeader('x-ratelimit-remaining', 'x-ratelimit-reset', 'x-ratelimit-limit');
  return /(^|\.)(github\.com|ghe\.com)$/.test(hostname) ? [told, limit(900, 60)] : [told];
}

function ofRepository(what: string) {
  return {
    path: (repository: JsonObject) => `/repos/${pathOf(repository, '_org', 'name')}/${what}`,
    keep: (repository: JsonObject) => fields(repository, { _org: '_org', _repo: 'name' }),
  };
}

function rulesOf(branch: JsonObject): string {
  return `/repos/${pathOf(branch, '_org', '_repo')}/rules/branches/${pathOf(branch, 'name')}`;
}

function branchOf(branch: JsonObject): JsonObject {
  return fields(branch, { _org: '_org', _repo: '_repo', _branch: 'name' });
}

function pathOf(parent: JsonObject, ...names: readonly string[]): string {
  return names.map((name) => encodeURIComponent(textAt(parent, name) ?? '')).join('/');
}

function fields(parent: JsonObject, from: Readonly<Record<string, string>>): JsonObject {
  return Object.fromEntries(Object.entries(from).map(([field, path]) => [field, textAt(parent, path) ?? null]));
}
