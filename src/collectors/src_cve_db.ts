import { baseUrl, optional, secret, setting, text } from '../config/setting.ts';
import { limit } from '../http/pace.ts';
import { offset } from '../http/paginate.ts';
import type { Rule } from '../http/retry.ts';
import { feed } from './_cve_db.ts';
import { defineCollector } from './collector.ts';

const CVES = '/rest/json/cves/2.0';
const KEV = '/sites/default/files/feeds/known_exploited_vulnerabilities.json';
const EPSS = '/data/v1/epss';

const NVD_RULES: readonly Rule[] = [
  { status: 403, as: 'throttled', because: 'the firewall of the NVD holds requests back', wait: 30 },
  { status: 404, as: 'credentials', because: 'the NVD says so of an NVD_API_KEY that it does not know' },
];

export default defineCollector({
  name: 'cve_db',
  title: 'Public vulnerability feeds: NVD, CISA KEV, FIRST EPSS',
  docs: 'https://nvd.nist.gov/developers/vulnerabilities',
  env: {
    NVD_API_KEY: secret('API key of the NVD, which lets ten times as many requests through', optional()),
    NVD_BASE_URL: setting('Base URL of the NVD or a mirror of its API', text('https://services.nvd.nist.gov')),
    KEV_BASE_URL: setting('Base URL of CISA or a mirror of its catalog', text('https://www.cisa.gov')),
    EPSS_BASE_URL: setting('Base URL of the API of FIRST or a mirror', text('https://api.first.org')),
  },
  http: ({ NVD_API_KEY, NVD_BASE_URL, KEV_BASE_URL, EPSS_BASE_URL }) => {
    const nvd = baseUrl(NVD_BASE_URL);
    const cves = new URL(nvd.href.replace(/\/$/, '') + CVES);
    return {
      baseUrl: nvd,
      others: [baseUrl(KEV_BASE_URL), baseUrl(EPSS_BASE_URL)],
      // The key is the NVD's alone.
      auth: {
        headers: async ({ url }) =>
          NVD_API_KEY !== undefined && url.href.startsWith(cves.href) ? { apiKey: NVD_API_KEY } : {},
      },
      // https://nvd.nist.gov/developers/start-here: in 30 seconds 5 requests, with a key 50.
      pace: limit(NVD_API_KEY === undefined ? 5 : 50, 30, cves),
    };
  },
  resources: {
    cves: {
      about: 'Every CVE of the NVD with its scores, weaknesses and affected products',
      path: CVES,
      id: 'cve.id',
      resumes: true,
      probe: { path: CVES, query: { resultsPerPage: 1 }, errors: NVD_RULES },
      collect: (context) =>
        feed(context, {
          path: CVES,
          query: { resultsPerPage: 2000, startIndex: 0 },
          records: 'vulnerabilities',
          total: 'totalResults',
          paginate: offset({ as: 'startIndex', total: 'totalResults', size: 2000 }),
          errors: NVD_RULES,
        }),
    },
    known_exploited: {
      about: 'CVEs that are known to be exploited, with the date by which to act, as CISA lists them',
      path: KEV,
      id: 'cveID',
      collect: (context) =>
        feed(context, {
          path: baseUrl(context.settings.KEV_BASE_URL).href.replace(/\/$/, '') + KEV,
          records: 'vulnerabilities',
          total: 'count',
        }),
    },
    epss_scores: {
      about: 'Likelihood of each CVE to be exploited in the next 30 days, as FIRST scores it daily',
      path: EPSS,
      id: 'cve',
      resumes: true,
      collect: (context) =>
        feed(context, {
          path: baseUrl(context.settings.EPSS_BASE_URL).href.replace(/\/$/, '') + EPSS,
          query: { limit: 10_000, offset: 0 },
          records: 'data',
          total: 'total',
          paginate: offset({ as: 'offset', total: 'total', size: 10_000 }),
        }),
    },
  },
});
