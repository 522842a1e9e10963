import { CollectError } from '../errors.ts';
import type { Http } from '../http/client.ts';
import { keeping, rawValue } from '../http/fields.ts';
import type { Page } from '../http/page.ts';
import { paginator, type Seen } from '../http/paginate.ts';
import type { Rule } from '../http/retry.ts';
import { type JsonObject, textAt } from '../json.ts';
import type { Context } from './collector.ts';

/** An organization that the token may not read, or that is gone. */
const SKIPPED: readonly Rule[] = [{ status: [403, 404], as: 'empty' }];

/** `links.next`: a URL or a path, the path with or without its `/rest`, as text or as `href`. */
export const linked = paginator('next link in links.next', ({ url, body }) => {
  const next = textAt(body, 'links.next') ?? textAt(body, 'links.next.href');
  return next === undefined ? undefined : { url: resolved(next, url) };
});

function resolved(next: string, url: Seen['url']): string {
  const [prefix = ''] = url.pathname.split('/rest/');
  const to = new URL(next, url);
  if (to.origin !== url.origin) return to.href;
  const path = to.pathname.slice(to.pathname.startsWith(`${prefix}/`) ? prefix.length : 0);
  to.pathname = `${prefix}${path.startsWith('/rest/') ? '' : '/rest'}${path}`;
  const version = url.searchParams.get('version');
  if (version !== null && !to.searchParams.has('version')) to.searchParams.set('version', version);
  return to.href;
}

interface Settings {
  readonly SNYK_VERSION: string;
  readonly SNYK_ORG_IDS: readonly string[];
}

/** Every organization; one that SNYK_ORG_IDS names and that is not among them is an error. */
export async function* organizations({ http, settings }: Context<Settings>): AsyncGenerator<Page> {
  const missing = new Set(settings.SNYK_ORG_IDS.map((id) => JSON.stringify(id)));
  const edit = (record: Uint8Array) => {
    missing.delete(Buffer.from(rawValue(record, ['id']) ?? []).toString());
    return record;
  };
  const query = { version: settings.SNYK_VERSION, limit: 100 };
  yield* http.pages({ path: '/rest/orgs', query, records: 'data', edit });
  if (missing.size === 0) return;
  throw new CollectError('denied', `SNYK_ORG_IDS names what GET /rest/orgs does not list: ${[...missing].join(', ')}`);
}

/** The members of each organization. One that may not be read is left out and told; when none may be, that is an error. */
export async function* members(
  { http, parents, warn }: Context<unknown>,
  wanted: (org: JsonObject) => boolean,
): AsyncGenerator<Page> {
  let asked = 0;
  const skipped: string[] = [];
  for await (const orgs of batches(parents(), wanted, http.concurrency)) {
    asked += orgs.length;
    const pages = await Promise.all(orgs.map((id) => membersOf(http, id)));
    for (const [index, page] of pages.entries()) {
      if (page.status === 200) yield page;
      else skipped.push(orgs[index] ?? '');
    }
  }
  if (skipped.length === 0) return;
  if (skipped.length === asked) throw new CollectError('denied', 'no organization lets its members be read');
  warn(`left out are the members of ${skipped.length} organizations that may not be read: ${skipped.join(', ')}`);
}

function membersOf(http: Http, id: string): Promise<Page> {
  return http.page({
    path: `/v1/org/${encodeURIComponent(id)}/members`,
    query: { includeGroupAdmins: true },
    headers: { accept: 'application/json' },
    records: '',
    errors: SKIPPED,
    edit: keeping({ _org_id: id }),
  });
}

async function* batches(
  parents: AsyncIterable<JsonObject>,
  wanted: (org: JsonObject) => boolean,
  size: number,
): AsyncGenerator<readonly string[]> {
  let batch: string[] = [];
  for await (const org of parents) {
    const id = textAt(org, 'id');
    if (id === undefined || !wanted(org)) continue;
    batch.push(id);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
