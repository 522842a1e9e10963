import { digits, mix, moment, person, pick, text, uuid } from './invent.ts';
import { nextUrl, none, type Page, type Records, type Request } from './paging.ts';
import { defineVendor } from './vendor.ts';

const TOKEN = 'canary-snyk-1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b';
const VERSION = '2024-08-25';

const orgsOf = (scale: number) => Math.max(4, Math.ceil(scale / 12));
const orgId = (index: number) => uuid(index, 71);
/** A project's id tells its organization as well. */
const projectId = (parent: number, index: number) => uuid(parent * 1000 + index, 72);
const projectsIn = (parent: number) => (parent === 1 ? 0 : (mix(parent, 1) % 6) + (parent === 0 ? 65 : 0));

function org(index: number): string {
  const record = {
    id: orgId(index),
    type: 'org',
    attributes: { group_id: uuid(0, 73), is_personal: false, name: `Équipe ${index}`, slug: `equipe-${index}` },
  };
  return text(record, index);
}

function member(parent: number, index: number): string {
  const { first, last, mail } = person(parent + index);
  const record = {
    id: uuid(index, 74),
    name: `${first} ${last}`,
    username: `"${first}"`,
    email: mail,
    role: pick(['admin', 'collaborator'], index, 2),
  };
  return text(record, parent + index);
}

function project(parent: number, index: number): string {
  const record = {
    type: 'project',
    id: projectId(parent, index),
    meta: { latest_issue_counts: { critical: index % 3, high: 1, medium: 0, low: digits('9007199254740993') } },
    attributes: {
      name: `größe/${index}:package.json`,
      type: pick(['npm', 'maven', 'sast', 'dockerfile'], index, 3),
      origin: pick(['github', 'cli'], index, 4),
      created: moment(index, 5),
      status: 'active',
      tags: [{ key: 'team', value: 'Ost\\West' }],
    },
    relationships: { target: { data: { type: 'target', id: uuid(index, 76) } } },
  };
  return text(record, parent + index);
}

function issue(parent: number, index: number): string {
  const record = {
    id: uuid(parent * 1000 + index, 75),
    type: 'issue',
    attributes: {
      title: 'Prototype pollution in «lodash»\n',
      type: pick(['package_vulnerability', 'license', 'code'], index, 6),
      effective_severity_level: pick(['critical', 'high', 'low'], index, 7),
      status: pick(['open', 'resolved'], index, 8),
      ignored: index % 9 === 0,
      key: `SNYK-JS-${index}`,
      created_at: moment(index, 9),
    },
    relationships: { scan_item: { data: { id: projectId(parent, 0), type: 'project' } } },
  };
  return text(record, parent + index);
}

function target(parent: number, index: number): string {
  const record = {
    id: uuid(parent * 1000 + index, 76),
    type: 'target',
    attributes: { display_name: `acme/depot-${index}-é`, url: `https://git.example/${index}`, is_private: true },
  };
  return text(record, parent + index);
}

function aggregated(project: number, index: number): string {
  const record = {
    id: `SNYK-JS-LODASH-${index}`,
    issueType: 'vuln',
    pkgName: 'lodash',
    pkgVersions: ['4.17.20'],
    issueData: { severity: 'high', description: '## Übersicht\n\n"Pollution"', cvssScore: digits('7.50') },
    introducedThrough: [{ kind: 'imageLayer', data: {} }],
    isPatched: false,
  };
  return text(record, project + index);
}

function orgIndex({ params }: Request, scale: number): number | undefined {
  const index = Number.parseInt((params.id ?? '').slice(-12), 16);
  return index < orgsOf(scale) && orgId(index) === params.id ? index : undefined;
}

function ofOrg(count: (parent: number) => number, at: (parent: number, index: number) => string) {
  return {
    records(scale: number, request: Request): Records | undefined {
      const parent = orgIndex(request, scale);
      return parent === undefined ? undefined : { count: count(parent), at: (index) => at(parent, index) };
    },
    *parents(scale: number): Generator<{ id: string }> {
      for (let index = 0; index < orgsOf(scale); index += 1) yield { id: orgId(index) };
    },
  };
}

function projectIssues(_: number, { params }: Request): Records | undefined {
  const index = Number.parseInt((params.project ?? '').slice(-12), 16);
  if (params.id !== orgId(Math.floor(index / 1000)) || params.project !== uuid(index, 72)) return undefined;
  return { count: mix(index, 10) % 3, at: (nth) => aggregated(index, nth) };
}

function* projects(scale: number): Generator<{ id: string; project: string }> {
  for (let parent = 0; parent < orgsOf(scale); parent += 1) {
    for (let index = 0; index < projectsIn(parent); index += 1) {
      yield { id: orgId(parent), project: projectId(parent, index) };
    }
  }
}

/** Next links take turns: a whole URL, a path, a path without its /rest. A foreign one stays whole. */
function wrap(array: string, { next, request, start, limit, total }: Page): string {
  const turn = Math.floor(start / limit) % 3;
  const own = next?.includes(String(request.headers.host)) === true;
  const path = next?.replace(/^https?:\/\/[^/]+/, '');
  const shown = !own || turn === 0 ? next : turn === 1 ? path : path?.replace(/^\/rest/, '');
  const meta = request.query.get('count') === 'true' ? `,"meta":{"count":${total}}` : '';
  return `{"jsonapi":{"version":"1.0"},"data":${array},"links":${JSON.stringify({ next: shown })}${meta}}`;
}

const rest = (request: Request) =>
  request.query.get('version') === VERSION && request.headers.accept === 'application/vnd.api+json';
const paging = nextUrl({ max: 100, fallback: 10, as: 'starting_after', strict: true });

export default defineVendor({
  name: 'snyk',
  env: (origin) => ({ SNYK_ENDPOINT: origin, SNYK_TOKEN: TOKEN }),
  credential: ({ headers }) => /^token (.+)$/.exec(String(headers.authorization))?.[1],
  key: TOKEN,
  error: (status, detail) =>
    JSON.stringify({ jsonapi: { version: '1.0' }, errors: [{ status: String(status), detail }] }),
  limitHeaders: () => ({}),
  headers: () => ({ 'snyk-version-served': VERSION }),
  routes: [
    {
      path: '/rest/orgs',
      resource: 'organizations',
      paging,
      when: rest,
      records: (scale) => ({ count: orgsOf(scale), at: org }),
      wrap,
    },
    {
      path: '/v1/org/{id}/members',
      resource: 'members',
      paging: none(),
      when: ({ query }) => query.get('includeGroupAdmins') === 'true',
      ...ofOrg((parent) => 1 + (mix(parent, 11) % 9), member),
    },
    { path: '/rest/orgs/{id}/projects', resource: 'projects', paging, when: rest, ...ofOrg(projectsIn, project), wrap },
    {
      path: '/rest/orgs/{id}/issues',
      resource: 'issues',
      paging,
      when: rest,
      ...ofOrg((parent) => (parent === 0 ? 70 : mix(parent, 12) % 12), issue),
      wrap,
    },
    {
      path: '/rest/orgs/{id}/targets',
      resource: 'targets',
      paging,
      total: true,
      when: (request) => rest(request) && request.query.get('exclude_empty') === 'false',
      ...ofOrg((parent) => (parent === 0 ? 68 : mix(parent, 13) % 9), target),
      whole: 'count=true',
      wrap,
    },
    {
      path: '/v1/org/{id}/project/{project}/aggregated-issues',
      method: 'POST',
      resource: 'aggregated_issues',
      paging: none(),
      records: projectIssues,
      parents: projects,
      wrap: (array) => `{"issues":${array}}`,
    },
  ],
});
