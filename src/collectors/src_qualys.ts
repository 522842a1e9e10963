import { baseUrl, integer, optional, secret, setting, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { basic } from '../http/auth.ts';
import { resetHeader } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import { paginator, type Query } from '../http/paginate.ts';
import type { Split } from '../http/records.ts';
import { xmlRecords } from '../http/xml.ts';
import { at, isObject, textAt } from '../json.ts';
import { type Context, defineCollector } from './collector.ts';

/** The newest first; each is switched off some time after the next has come. */
const VERSIONS = ['5.0', '4.0', '3.0', '2.0'];
const NEEDS = 'role Reader with access to the API and to all asset groups';
/** Elements that may be there more than once. */
const LISTS = [
  ...['DETECTION', 'TAG', 'CVE', 'VENDOR_REFERENCE', 'BUGTRAQ', 'SOFTWARE', 'COMPLIANCE', 'ATTRIBUTE', 'QDS_FACTOR'],
  ...['EXPLT_SRC', 'EXPLT', 'MW_SRC', 'MW_INFO', 'AUTH_TYPE', 'THREAT_INTEL', 'CHANGE_LOG_INFO'],
];

const env = {
  QUALYS_BASE_URL: setting('API server of the platform, such as https://qualysapi.qg2.apps.qualys.eu'),
  QUALYS_USERNAME: setting('User with access to the API, without single sign-on'),
  QUALYS_PASSWORD: secret('Password of that user'),
  QUALYS_PAGE_SIZE: setting('Hosts of a page', integer(1000, 1, 10_000)),
  QUALYS_KB_MODIFIED_AFTER: setting('Only vulnerabilities changed after this date, YYYY-MM-DD', optional()),
};

type Settings = Values<typeof env>;

/** A list that was cut says so in a warning, with the next request whole. */
const warned = paginator('URL in the XML warning', ({ body }) => {
  const root = isObject(body) ? Object.values(body)[0] : undefined;
  const found = at(root, 'RESPONSE.WARNING');
  for (const warning of Array.isArray(found) ? found : [found ?? null]) {
    const url = textAt(warning, 'URL');
    if (url !== undefined) return { url };
    if (textAt(warning, 'CODE') === '1980')
      throw new CollectError('incomplete', 'the vendor cut the list but does not say how to go on');
  }
  return undefined;
});

export default defineCollector({
  name: 'qualys',
  title: 'Qualys VMDR',
  docs: 'https://docs.qualys.com/en/vm/api/',
  env,
  http: ({ QUALYS_BASE_URL, QUALYS_USERNAME, QUALYS_PASSWORD }) => ({
    baseUrl: apiServer(QUALYS_BASE_URL),
    auth: basic(QUALYS_USERNAME, QUALYS_PASSWORD),
    headers: { 'x-requested-with': 'cyber-collect', accept: 'application/xml' },
    paginate: warned,
    pace: resetHeader('x-ratelimit-remaining', 'x-ratelimit-towait-sec', 'x-ratelimit-limit', 3600),
    concurrency: 1,
    // The KnowledgeBase is put together before its first byte comes.
    timeout: 600,
  }),
  errors: [
    { status: 409, body: /<CODE>2003</, as: 'failed', because: 'the registration of the account is not complete' },
    { status: [403, 409], body: /<CODE>2012</, as: 'unlicensed', because: 'the account may not use this API' },
    // 1965: too many calls; 1960: another call of this API is under way.
    { status: 409, as: 'throttled', because: 'the limit of calls is reached', wait: 30 },
    { body: /"SIMPLE_RETURN":/, as: 'failed', because: 'the answer is an error' },
  ],
  resources: {
    hosts: {
      about: 'Hosts with their asset groups, tags and cloud metadata',
      path: '/api/5.0/fo/asset/host/',
      id: 'ID',
      needs: NEEDS,
      collect: (context) =>
        newest(context, 'asset/host/', records('HOST_LIST_OUTPUT', 'HOST_LIST/HOST'), {
          details: 'All/AGs',
          show_tags: 1,
          host_metadata: 'all',
          truncation_limit: context.settings.QUALYS_PAGE_SIZE,
        }),
    },
    vulnerabilities: {
      about: 'The KnowledgeBase: every vulnerability that Qualys looks for',
      path: '/api/5.0/fo/knowledge_base/vuln/',
      id: 'QID',
      needs: 'role Reader and the right to download the KnowledgeBase',
      collect: (context) =>
        newest(context, 'knowledge_base/vuln/', records('KNOWLEDGE_BASE_VULN_LIST_OUTPUT', 'VULN_LIST/VULN'), {
          details: 'All',
          last_modified_after: context.settings.QUALYS_KB_MODIFIED_AFTER,
        }),
    },
    host_detections: {
      about: 'Hosts with the vulnerabilities found on them, fixed ones too, without scan results',
      path: '/api/5.0/fo/asset/host/vm/detection/',
      id: 'ID',
      needs: NEEDS,
      collect: (context) =>
        newest(context, 'asset/host/vm/detection/', records('HOST_LIST_VM_DETECTION_OUTPUT', 'HOST_LIST/HOST'), {
          status: 'New,Active,Re-Opened,Fixed',
          // Results may quote credentials that a scan has found.
          show_results: 0,
          truncation_limit: context.settings.QUALYS_PAGE_SIZE,
        }),
    },
  },
});

function records(root: string, path: string): Split {
  return xmlRecords({ record: `${root}/RESPONSE/${path}`, within: `${root}/RESPONSE`, lists: LISTS });
}

/** The list by the newest version of the API that this platform has. */
async function* newest({ http }: Context<Settings>, path: string, split: Split, query: Query): AsyncGenerator<Page> {
  for (const version of VERSIONS) {
    const request = { path: `/api/${version}/fo/${path}`, query: { action: 'list', ...query }, records: '', split };
    let pages = 0;
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

function apiServer(address: string): URL {
  const url = baseUrl(address);
  const other = /^(gateway|qualysguard)\./.exec(url.hostname)?.[1];
  if (other === undefined) return url;
  throw new CollectError('config', `QUALYS_BASE_URL names ${url.hostname}, which is no API server`, {
    mend: `write ${url.hostname.replace(other, 'qualysapi')}`,
  });
}
