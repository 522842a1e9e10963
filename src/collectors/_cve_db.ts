import { CollectError } from '../errors.ts';
import type { ListRequest } from '../http/client.ts';
import type { Page } from '../http/page.ts';
import { numberAt } from '../json.ts';
import type { Context } from './collector.ts';

/** A list and where its answers declare how long it is. */
interface Feed extends ListRequest {
  readonly total: string;
}

/** The pages of a public feed. None of them is ever empty, so an empty answer is a fault, whatever total it declares. */
export async function* feed({ http, from, expect }: Context<unknown>, list: Feed): AsyncGenerator<Page> {
  const { total, ...request } = list;
  let records = numberAt(from, 'records') ?? 0;
  for await (const page of http.pages(from === undefined ? request : { ...request, from })) {
    const declared = numberAt(page.body, total);
    if (declared !== undefined) expect(declared);
    records += page.records;
    yield page;
  }
  if (records === 0) throw new CollectError('incomplete', `${request.path}: the feed came without a record`);
}
