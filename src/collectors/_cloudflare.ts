import { CollectError } from '../errors.ts';
import { rawValue } from '../http/fields.ts';
import type { Page } from '../http/page.ts';
import { type Paginator, paginator } from '../http/paginate.ts';
import { type JsonObject, numberAt, textAt } from '../json.ts';
import type { Context } from './collector.ts';

/**
 * Page numbers as far as `result_info` tells of pages or records. Without it the list is over, or, `blind`, goes on
 * until a page is empty.
 */
export function numbered({ blind }: { readonly blind: boolean }): Paginator {
  return paginator('page number', ({ url, body, records, total }) => {
    const page = Number(url.searchParams.get('page') ?? 1);
    const pages = numberAt(body, 'result_info.total_pages');
    const declared = numberAt(body, 'result_info.total_count');
    const more =
      pages !== undefined ? page < pages : records > 0 && (declared === undefined ? blind : total < declared);
    return more ? { query: { page: page + 1 } } : undefined;
  });
}

/** Every account. A token without permission on any is told so: its list is empty, though its zones name accounts. */
export async function* accounts({ http, parents, expect, warn }: Context<unknown>): AsyncGenerator<Page> {
  const listed = new Set<string>();
  const edit = (record: Uint8Array) => {
    listed.add(Buffer.from(rawValue(record, ['id']) ?? []).toString());
    return record;
  };
  const request = { path: '/accounts', query: { page: 1, per_page: 50 }, records: 'result', edit };
  for await (const page of http.pages(request)) {
    expect(numberAt(page.body, 'result_info.total_count') ?? 0);
    yield page;
  }
  const missing = await missingOf(parents(), listed);
  if (missing.size === 0) return;
  if (listed.size === 0) throw new CollectError('denied', 'GET /accounts lists none, though the zones belong to some');
  warn(`the token may not read ${missing.size} of the accounts that its zones belong to: ${[...missing].join(', ')}`);
}

async function missingOf(zones: AsyncIterable<JsonObject>, listed: ReadonlySet<string>): Promise<Set<string>> {
  const missing = new Set<string>();
  for await (const zone of zones) {
    const id = textAt(zone, 'account.id');
    if (id !== undefined && !listed.has(JSON.stringify(id))) missing.add(id);
  }
  return missing;
}
