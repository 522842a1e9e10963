import { digits, hex, mix, moment, person, pick, text } from './invent.ts';
import { linkHeader, none, type Paging, type Records, type Request } from './paging.ts';
import { defineVendor } from './vendor.ts';

const TOKEN = 'ghp_canary0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c';
const API = 'https://api.github.example';

const orgsOf = (scale: number) => Math.max(4, Math.ceil(scale / 10));
const login = (org: number) => `acme-${org}`;
const reposOf = (org: number) => (org === 1 ? 0 : (mix(org, 1) % 5) + (org === 0 ? 62 : 1));
const repoName = (repo: number) => `depot.${repo}`;
const branchesOf = (org: number, repo: number) =>
  repo === 1 ? 0 : org + repo === 0 ? 61 : 1 + (mix(org + repo, 2) % 2);
const branchName = (branch: number) => (branch === 0 ? 'main' : `fix/größe #${branch}`);
const big = (index: number) => digits(String(9_007_199_254_740_993n + BigInt(index) * 2n));

function org(index: number): object {
  return {
    login: login(index),
    id: 1000 + index,
    node_id: `O_${hex(index, 3, 10)}`,
    url: `${API}/orgs/${login(index)}`,
    description: `Ärzte & "Söhne" ${index}\n`,
  };
}

function repo(org: number, index: number): object {
  return {
    id: big(org * 1000 + index),
    name: repoName(index),
    full_name: `${login(org)}/${repoName(index)}`,
    private: index % 2 === 0,
    owner: { login: login(org), id: 1000 + org, type: 'Organization' },
    description: index % 5 === 0 ? null : 'Fräsen\\Drehen — 工場',
    archived: index % 9 === 4,
    visibility: pick(['public', 'private', 'internal'], index, 4),
    pushed_at: moment(index, 5),
    topics: ['größe'],
    default_branch: 'main',
  };
}

function member(index: number, admin: boolean): object {
  return {
    login: `${person(index).first.toLowerCase()}-${index}`,
    id: 5000 + index,
    node_id: `U_${hex(index, 6, 10)}`,
    type: 'User',
    site_admin: false,
    user_view_type: admin ? 'private' : 'public',
  };
}

function alert(of: number, index: number): object {
  return {
    number: index + 1,
    created_at: moment(of + index, 7),
    state: pick(['open', 'fixed', 'dismissed'], index, 8),
    url: `${API}/alerts/${of}/${index}`,
    dismissed_comment: 'Faux positif: «test»',
  };
}

function codeAlert(of: number, index: number): object {
  const rule = { id: 'js/xss', severity: 'error', security_severity_level: pick(['high', 'low'], index, 9) };
  return { ...alert(of, index), rule, tool: { name: 'CodeQL', version: '2.19.0' }, analysis: big(index) };
}

function dependabotAlert(of: number, index: number): object {
  const advisory = { ghsa_id: `GHSA-${hex(index, 10, 4)}`, summary: 'Débordement', cvss: { score: digits('9.80') } };
  return { ...alert(of, index), security_advisory: advisory, dependency: { package: { name: '@acme/größe' } } };
}

function secretAlert(org: number, index: number, told: boolean): object {
  return {
    ...alert(org, index),
    secret_type: 'acme_key',
    ...(told ? { secret: `plain-secret-${index}` } : {}),
    repository: { id: big(index), full_name: `${login(org)}/${repoName(index % 3)}` },
  };
}

function branch(of: number, index: number): object {
  return { name: branchName(index), commit: { sha: hex(of + index, 11, 40) }, protected: index === 0 };
}

function rule(index: number): object {
  return {
    type: pick(['deletion', 'non_fast_forward', 'pull_request'], index, 12),
    ruleset_source_type: 'Organization',
    ruleset_source: login(0),
    ruleset_id: 42 + index,
    parameters: { required_approving_review_count: 2 },
  };
}

const numbered = (name: string | undefined, prefix: string) => {
  const rest = name?.startsWith(prefix) === true ? name.slice(prefix.length) : '';
  return /^\d+$/.test(rest) ? Number(rest) : Number.NaN;
};

/** The organization and repository that a path names. */
function placeOf(scale: number, { params }: Request): { readonly org: number; readonly repo: number } | undefined {
  const org = numbered(params.org, 'acme-');
  const repo = numbered(params.repo ?? repoName(0), 'depot.');
  return org < orgsOf(scale) && (params.repo === undefined || repo < reposOf(org)) ? { org, repo } : undefined;
}

function* orgs(scale: number): Generator<{ org: string }> {
  for (let index = 0; index < orgsOf(scale); index += 1) yield { org: login(index) };
}

function* repos(scale: number): Generator<{ org: string; repo: string }> {
  for (let org = 0; org < orgsOf(scale); org += 1) {
    for (let index = 0; index < reposOf(org); index += 1) yield { org: login(org), repo: repoName(index) };
  }
}

function* branches(scale: number): Generator<{ org: string; repo: string; branch: string }> {
  for (const place of repos(scale)) {
    const { org, repo } = placeOf(scale, { params: place } as unknown as Request) ?? { org: 0, repo: 0 };
    for (let index = 0; index < branchesOf(org, repo); index += 1) yield { ...place, branch: branchName(index) };
  }
}

/** The records of a place, by their number and how one is made. */
function listOf(
  count: (org: number, repo: number, request: Request) => number,
  make: (of: number, index: number, request: Request) => object,
) {
  return (scale: number, request: Request): Records | undefined => {
    const place = placeOf(scale, request);
    if (place === undefined) return undefined;
    const of = place.org * 100 + place.repo;
    return {
      count: count(place.org, place.repo, request),
      at: (index) => text(make(of, index, request), of + index),
    };
  };
}

/** Some repositories say that the feature is off, in the feature's own words. */
function unlessOff(paging: Paging, status: number, words: string): Paging {
  const off = ({ params }: Request) => numbered(params.repo, 'depot.') % 9 === 4;
  return {
    ...paging,
    answer: (ask) =>
      off(ask.request) && ask.fault === undefined ? ask.session.fail(status, words) : paging.answer(ask),
  };
}

const alertsOf = (salt: number) => (org: number, repo: number) => {
  if (repo % 9 === 4) return 0;
  return org + repo === 0 ? 62 : mix(org * 100 + repo, salt) % 3;
};
const owners = ({ query }: Request) => query.get('role') === 'admin';
const asked = ({ query, headers }: Request) =>
  query.get('per_page') === '100' &&
  headers['x-github-api-version'] === '2022-11-28' &&
  headers.accept === 'application/vnd.github+json' &&
  headers['user-agent'] !== undefined;
const paging = linkHeader({ max: 100, fallback: 30, limit: 'per_page', as: 'page' });
const byCursor = linkHeader({ max: 100, fallback: 30, limit: 'per_page', as: 'after' });

export default defineVendor({
  name: 'github',
  env: (origin) => ({ GITHUB_ENDPOINT: origin, GITHUB_TOKEN: TOKEN }),
  credential: ({ headers }) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
  key: TOKEN,
  error: (status, message) =>
    JSON.stringify({ message, documentation_url: 'https://docs.github.com/rest', status: String(status) }),
  limitHeaders: ({ limit, remaining, resetAt }) => ({
    'x-ratelimit-limit': String(limit),
    'x-ratelimit-remaining': String(remaining),
    'x-ratelimit-reset': String(Math.ceil(resetAt / 1000)),
    'x-ratelimit-resource': 'core',
  }),
  headers: () => ({ 'x-github-media-type': 'github.v3; format=json', 'x-github-api-version-selected': '2022-11-28' }),
  routes: [
    {
      path: '/user/orgs',
      resource: 'organizations',
      paging,
      when: asked,
      records: (scale) => ({ count: orgsOf(scale), at: (index) => text(org(index), index) }),
    },
    {
      path: '/orgs/{org}/repos',
      resource: 'repositories',
      paging,
      when: (request) => asked(request) && request.query.get('type') === 'all',
      records: listOf(reposOf, (of, index) => repo(Math.floor(of / 100), index)),
      parents: orgs,
    },
    // What a 404 of a repository's alerts is held against.
    {
      path: '/repos/{org}/{repo}',
      resource: 'repository',
      leads: true,
      paging: { ...none(), answer: ({ records }) => ({ status: 200, body: records.at(0) }) },
      records: listOf(
        () => 1,
        (of) => repo(Math.floor(of / 100), of % 100),
      ),
    },
    {
      path: '/orgs/{org}/members',
      resource: 'owners',
      paging,
      when: (request) => asked(request) && owners(request),
      records: listOf(
        (org) => (org === 0 ? 61 : 1),
        (of, index) => member(of + index, true),
      ),
      parents: orgs,
    },
    {
      path: '/orgs/{org}/members',
      resource: 'members',
      paging,
      when: (request) => asked(request) && !request.query.has('role'),
      records: listOf(
        (org) => (org === 0 ? 130 : 1 + (mix(org, 13) % 9)),
        (of, index) => member(of + index, false),
      ),
      parents: orgs,
    },
    {
      path: '/repos/{org}/{repo}/code-scanning/alerts',
      resource: 'code_scanning_alerts',
      paging: unlessOff(paging, 404, 'no analysis found'),
      when: asked,
      records: listOf(alertsOf(14), codeAlert),
      parents: repos,
    },
    {
      path: '/repos/{org}/{repo}/dependabot/alerts',
      resource: 'dependabot_alerts',
      paging: unlessOff(byCursor, 403, 'Dependabot alerts are not available for archived repositories.'),
      when: asked,
      records: listOf(alertsOf(15), dependabotAlert),
      parents: repos,
    },
    {
      path: '/orgs/{org}/secret-scanning/alerts',
      resource: 'secret_scanning_alerts',
      paging: byCursor,
      when: (request) => asked(request) && request.query.get('hide_secret') === 'true',
      // Older servers do not know `hide_secret`; the truth, which nobody asks for over the wire, is without.
      records: listOf(
        (org) => (org === 0 ? 64 : mix(org, 16) % 5),
        (of, index, { headers }) => secretAlert(Math.floor(of / 100), index, headers.authorization !== undefined),
      ),
      parents: orgs,
    },
    {
      path: '/repos/{org}/{repo}/branches',
      resource: 'branches',
      paging,
      when: asked,
      records: listOf(branchesOf, branch),
      parents: repos,
    },
    {
      path: '/repos/{org}/{repo}/rules/branches/{branch}',
      resource: 'branch_protection_rules',
      paging: unlessOff(paging, 403, 'Upgrade to GitHub Pro or make this repository public to enable this feature.'),
      when: asked,
      records: listOf(
        (org, repo, { params }) => (repo % 9 === 4 || params.branch !== 'main' ? 0 : org + repo === 0 ? 62 : repo % 2),
        (_, index) => rule(index),
      ),
      parents: branches,
    },
  ],
});
