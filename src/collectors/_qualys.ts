import { CollectError } from '../errors.ts';
import type { Page } from '../http/page.ts';
import { type Next, paginator, type Query, type Seen } from '../http/paginate.ts';
import type { Split } from '../http/records.ts';
import { xmlRecords } from '../http/xml.ts';
import { at, isObject, textAt } from '../json.ts';
import type { Context } from './collector.ts';

/** The newest first; each is switched off some time after the next has come. */
const VERSIONS = ['5.0', '4.0', '3.0', '2.0'];
/** Elements that may be there more than once. */
const LISTS = [
  ...['DETECTION', 'TAG', 'CVE', 'VENDOR_REFERENCE', 'BUGTRAQ', 'SOFTWARE', 'COMPLIANCE', 'ATTRIBUTE', 'QDS_FACTOR'],
  ...['EXPLT_SRC', 'EXPLT', 'MW_SRC', 'MW_INFO', 'AUTH_TYPE', 'THREAT_INTEL', 'CHANGE_LOG_INFO'],
];

/** The URL goes on by id, which is good at any time; seconds. */
const KEYS_LIVE = 86_400;

/** A list that was cut says so in a warning, with the next request whole. */
export const warned = paginator('URL in the XML warning', next, { lives: KEYS_LIVE });

function next({ body }: Seen): Next | undefined {
  const root = isObject(body) ? Object.values(body)[0] : undefined;
  const found = at(root, 'RESPONSE.WARNING');
  for (const warning of Array.isArray(found) ? found : [found ?? null]) {
    const url = textAt(warning, 'URL');
    if (url !== undefined) return { url };
    if (textAt(warning, 'CODE') === '1980')
      throw new CollectError('incomplete', 'the vendor cut the list but does not say how to go on');
  }
  return undefined;
}

/** Takes the records out of an answer: the element around them, and their path in its response. */
export function records(root: string, path: string): Split {
  return xmlRecords({ record: `${root}/RESPONSE/${path}`, within: `${root}/RESPONSE`, lists: LISTS });
}

/** The list by the newest version of the API that this platform has, from where an interrupted run was. */
export async function* newest(
  context: Context<unknown>,
  path: string,
  split: Split,
  query: Query,
): AsyncGenerator<Page> {
  const { http, from } = context;
  const begun = textAt(from, 'url');
  for (const version of VERSIONS) {
    const list = { path: `/api/${version}/fo/${path}`, query: { action: 'list', ...query }, records: '', split };
    if (begun?.includes(list.path) === false) continue;
    const request = from === undefined ? list : { ...list, from };
    let pages = from === undefined ? 0 : 1;
    let missing = false;
    for await (const page of http.pages({ ...request, errors: [{ status: 404, as: 'empty' }] })) {
      if (page.status === 404 && pages > 0)
        throw new CollectError('incomplete', `${request.path}: a page that the vendor named is not there`);
      missing = page.status === 404;
      pages += 1;
      if (!missing) yield page;
    }
    if (!missing) return;
  }
  throw new CollectError('vendor', `this platform has no version of ${path} that is known here`);
}
