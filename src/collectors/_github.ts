import { createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { CollectError } from '../errors.ts';
import { type Auth, bearer, staticHeaders } from '../http/auth.ts';
import type { Http, ListRequest } from '../http/client.ts';
import { keeping } from '../http/fields.ts';
import { header } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import { nextLink } from '../http/paginate.ts';
import { type JsonObject, numberAt, textAt } from '../json.ts';
import type { Context } from './collector.ts';

/** What the room is set to. */
export interface Settings {
  readonly GITHUB_TOKEN: string;
  readonly GITHUB_ORGS: readonly string[];
  readonly GITHUB_APP_ID?: string | undefined;
  readonly GITHUB_APP_INSTALLATION_ID?: string | undefined;
}

/** How GitHub says that a feature is switched off, not bought, or has nothing to show. */
export const OFF =
  /no analysis found|(is|are) (disabled|not available|not enabled)|must be enabled|not enabled for|upgrade to github/i;

const LISTED = { per_page: 100 };

/** An app, with the key that it signs with. */
interface App {
  readonly id: string;
  readonly installation: string;
  readonly key: KeyObject;
}

/**
 * A personal token as it is; for an app, tokens of its installation, which live an hour.
 * @throws {CollectError} config when what an app needs is not all there
 */
export function credentials(settings: Settings, now = Date.now): Auth {
  const app = appOf(settings);
  if (app === undefined) return staticHeaders({ authorization: `Bearer ${settings.GITHUB_TOKEN}` });
  const path = `/app/installations/${encodeURIComponent(app.installation)}/access_tokens`;
  return bearer(
    async (exchange) => {
      const answer = await exchange({ path, headers: { authorization: `Bearer ${jwt(app, now())}` } });
      const value = textAt(answer.body, 'token');
      if (value === undefined) throw new CollectError('vendor', 'the token answer holds no token');
      return { value, lifetime: lifetimeOf(textAt(answer.body, 'expires_at'), header(answer.headers, 'date'), now()) };
    },
    300,
    now,
  );
}

/** Seconds, by the vendor's own clock. */
function lifetimeOf(until: string | undefined, date: string | undefined, now: number): number {
  const from = Date.parse(date ?? '');
  const left = (Date.parse(until ?? '') - (Number.isNaN(from) ? now : from)) / 1000;
  return left > 0 ? left : 3600;
}

function appOf(settings: Settings): App | undefined {
  const { GITHUB_APP_ID: id, GITHUB_APP_INSTALLATION_ID: installation, GITHUB_TOKEN } = settings;
  const pem = GITHUB_TOKEN.trim().replaceAll('\\n', '\n');
  if (id === undefined && !pem.startsWith('-----BEGIN')) return undefined;
  if (id === undefined || installation === undefined) {
    throw new CollectError('config', 'an app’s key needs the app and its installation', {
      mend: 'set GITHUB_APP_ID and GITHUB_APP_INSTALLATION_ID',
    });
  }
  try {
    return { id, installation, key: createPrivateKey(pem) };
  } catch {
    throw new CollectError('config', 'GITHUB_TOKEN holds no private key that can be read', {
      mend: 'set it to the text of the .pem file of the app, or unset GITHUB_APP_ID',
    });
  }
}

/** What an app shows to get tokens: good for ten minutes at most; a minute back, for clocks that are ahead. */
function jwt({ id, key }: App, now: number): string {
  const seconds = Math.floor(now / 1000);
  const parts = [
    { alg: 'RS256', typ: 'JWT' },
    { iat: seconds - 60, exp: seconds + 540, iss: id },
  ];
  const text = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`;
}

/** Those that GITHUB_ORGS names; else the app's; else the user's, when the token lets all of them be seen. */
export async function* organizations({ http, settings }: Context<Settings>): AsyncGenerator<Page> {
  const app = appOf(settings);
  if (app !== undefined || settings.GITHUB_ORGS.length > 0) {
    const logins = settings.GITHUB_ORGS.length > 0 ? settings.GITHUB_ORGS : [await accountOf(http, app)];
    const pages = logins.map((login) =>
      http.page({ path: `/orgs/${encodeURIComponent(login)}`, records: '', single: true }),
    );
    for (const page of pages) page.catch(() => undefined);
    for (const page of pages) yield await page;
    return;
  }
  let records = 0;
  for await (const page of http.pages({ path: '/user/orgs', query: LISTED, records: '' })) {
    assertAuthorised(page);
    records += page.records;
    yield page;
  }
  if (records > 0 || !settings.GITHUB_TOKEN.startsWith('github_pat_')) return;
  throw new CollectError('config', 'a fine-grained token is never told the organizations it may read', {
    mend: 'name them in GITHUB_ORGS',
  });
}

async function accountOf(http: Http, app: App | undefined): Promise<string> {
  if (app === undefined) throw new CollectError('defect', 'there is no app');
  const path = `/app/installations/${encodeURIComponent(app.installation)}`;
  const { body } = await http.json({ path, headers: { authorization: `Bearer ${jwt(app, Date.now())}` } });
  const login = textAt(body, 'account.login');
  if (login === undefined) throw new CollectError('vendor', `GET ${path} names no account`);
  return login;
}

/** Organizations with single sign-on that the token was not authorised for are left out of lists. */
function assertAuthorised({ headers }: Page): void {
  const left = /^partial-results;\s*organizations=([\d,\s]+)/.exec(header(headers, 'x-github-sso') ?? '')?.[1];
  if (left === undefined) return;
  throw new CollectError('denied', `left out are organizations with single sign-on, by number: ${left}`, {
    title: 'Single sign-on',
    mend: 'authorise the token for their single sign-on, or name in GITHUB_ORGS those to read',
  });
}

/** The repositories of each organization, held against the number it tells owners. */
export async function* repositories({ http, parents, settings, warn }: Context<Settings>): AsyncGenerator<Page> {
  // Tokens of these kinds may be limited to some repositories on purpose.
  const limited = settings.GITHUB_APP_ID !== undefined || settings.GITHUB_TOKEN.startsWith('github_pat_');
  for await (const org of parents()) {
    const login = textAt(org, 'login') ?? '';
    const path = `/orgs/${encodeURIComponent(login)}/repos`;
    const request = { path, query: { type: 'all', ...LISTED }, records: '', edit: keeping({ _org: login }) };
    let records = 0;
    for await (const page of http.pages(request)) {
      assertAuthorised(page);
      records += page.records;
      yield page;
    }
    const declared = (numberAt(org, 'public_repos') ?? 0) + (numberAt(org, 'total_private_repos') ?? 0);
    if (records >= Math.floor(declared * 0.99)) continue;
    const said = `${path}: ${records} repositories came of ${declared} that the organization has`;
    if (!limited) throw new CollectError('incomplete', said, { mend: 'give the token the scope repo' });
    warn(`${said}; the token is limited to some`);
  }
}

/** The members of each organization. Who is outside of it is led to the public ones, which are not all. */
export async function* members({ http, parents }: Context<Settings>, role: 'all' | 'admin'): AsyncGenerator<Page> {
  for await (const org of parents()) {
    const login = textAt(org, 'login') ?? '';
    const path = `/orgs/${encodeURIComponent(login)}/members`;
    const query = role === 'all' ? LISTED : { ...LISTED, role };
    for await (const page of http.pages({ path, query, records: '', edit: keeping({ _org: login }) })) {
      if (page.url.pathname.endsWith('/public_members')) {
        await page.discard();
        throw new CollectError('denied', `${login} shows only its public members to who is outside`);
      }
      yield page;
    }
  }
}

/** A list of each repository or branch. */
interface Lists {
  readonly path: (parent: JsonObject) => string;
  readonly query?: Readonly<Record<string, string | number>>;
  readonly keep: (parent: JsonObject) => JsonObject;
  /** A 404 without a word means none, also of a repository that is there. */
  readonly absent?: true;
}

/** The list of each parent: none where the feature is off or the repository is gone, but an error where it is hidden. */
export async function* ofEach({ http, parents }: Context<Settings>, lists: Lists): AsyncGenerator<Page> {
  const flights: { readonly parent: JsonObject; readonly first: Promise<Page | undefined> }[] = [];
  for await (const parent of parents()) {
    const first = firstOf(http, lists, parent);
    first.catch(() => undefined);
    flights.push({ parent, first });
    const flight = flights.length < http.concurrency ? undefined : flights.shift();
    if (flight !== undefined) yield* wholeOf(http, lists, flight.parent, await flight.first);
  }
  for (const { parent, first } of flights) yield* wholeOf(http, lists, parent, await first);
}

async function* wholeOf(http: Http, lists: Lists, parent: JsonObject, first: Page | undefined): AsyncGenerator<Page> {
  if (first === undefined) return;
  const link = nextLink(header(first.headers, 'link'));
  yield first;
  if (link === undefined) return;
  yield* http.pages({ path: new URL(link, first.url).href, records: '', edit: keeping(lists.keep(parent)) });
}

async function firstOf(http: Http, lists: Lists, parent: JsonObject): Promise<Page | undefined> {
  const path = lists.path(parent);
  const request: ListRequest = {
    path,
    query: { ...lists.query, ...LISTED },
    records: '',
    absent: 'empty',
    accept: [404],
    errors: [
      { status: 403, body: OFF, as: 'empty' },
      { status: 451, as: 'empty' }, // taken down by law
    ],
    edit: keeping(lists.keep(parent)),
  };
  const page = await http.page(request);
  if (page.found && page.status !== 404) return page;
  await page.discard();
  if (page.status !== 404) throw new CollectError('vendor', `GET ${path}: the answer holds no list of records`);
  const said = textAt(page.body, 'message') ?? '';
  if (page.body === null || OFF.test(said) || lists.absent === true) return undefined;
  const repository = path.split('/').slice(0, 4).join('/');
  const { status } = await http.json({ path: repository, accept: [404] });
  if (status === 404) return undefined;
  throw new CollectError('denied', `GET ${path} was answered with 404, though the repository is there`);
}
