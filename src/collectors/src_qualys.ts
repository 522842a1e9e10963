import { baseUrl, integer, optional, secret, setting } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { basic } from '../http/auth.ts';
import { resetHeader } from '../http/pace.ts';
import { newest, records, warned } from './_qualys.ts';
import { defineCollector } from './collector.ts';

const NEEDS = 'role Reader with access to the API and to all asset groups';

const env = {
  QUALYS_BASE_URL: setting('API server of the platform, such as https://qualysapi.qg2.apps.qualys.eu'),
  QUALYS_USERNAME: setting('User with access to the API, without single sign-on'),
  QUALYS_PASSWORD: secret('Password of that user'),
  QUALYS_PAGE_SIZE: setting('Hosts of a page', integer(1000, 1, 10_000)),
  QUALYS_KB_MODIFIED_AFTER: setting('Only vulnerabilities changed after this date, YYYY-MM-DD', optional()),
};

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
    { body: /(<CODE>|"CODE":")19(60|65)\b/, as: 'throttled', because: 'the limit of calls is reached', wait: 30 },
    { status: 409, as: 'throttled', because: 'the limit of calls is reached', wait: 30 },
    { body: /"SIMPLE_RETURN":/, as: 'failed', because: 'the answer is an error' },
  ],
  resources: {
    hosts: {
      about: 'Hosts with their asset groups, tags and cloud metadata',
      path: '/api/5.0/fo/asset/host/',
      id: 'ID',
      needs: NEEDS,
      resumes: true,
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
      resumes: true,
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
      // They may quote credentials that a scan has found.
      secrets: ['DETECTION_LIST.DETECTION.*.RESULTS'],
      resumes: true,
      collect: (context) =>
        newest(context, 'asset/host/vm/detection/', records('HOST_LIST_VM_DETECTION_OUTPUT', 'HOST_LIST/HOST'), {
          status: 'New,Active,Re-Opened,Fixed',
          show_results: 0,
          truncation_limit: context.settings.QUALYS_PAGE_SIZE,
        }),
    },
  },
});

function apiServer(address: string): URL {
  const url = baseUrl(address);
  const other = /^(gateway|qualysguard)\./.exec(url.hostname)?.[1];
  if (other === undefined) return url;
  throw new CollectError('config', `QUALYS_BASE_URL names ${url.hostname}, which is no API server`, {
    mend: `write ${url.hostname.replace(other, 'qualysapi')}`,
  });
}
