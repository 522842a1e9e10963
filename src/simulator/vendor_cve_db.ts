import { digits, mix, moment, pick, text } from './invent.ts';
import { none, offset, type Request } from './paging.ts';
import { defineVendor } from './vendor.ts';

const KEY = 'canary-cve_db-key';
const CVES = '/nvd/rest/json/cves/2.0';
const KEV = '/cisa/sites/default/files/feeds/known_exploited_vulnerabilities.json';
const EPSS = '/first/data/v1/epss';

const cveOf = (index: number) => `CVE-${1999 + (index % 28)}-${String(index + 1).padStart(4, '0')}`;
const stamp = (index: number, salt: number) => moment(index, salt).replace('Z', '');
const fraction = (index: number, salt: number) => (mix(index, salt) % 100_000) / 100_000;

function cve(index: number): string {
  const record = {
    cve: {
      id: cveOf(index),
      sourceIdentifier: 'cna@acme.example',
      published: stamp(index, 1),
      lastModified: stamp(index, 2),
      vulnStatus: pick(['Analyzed', 'Modified', 'Awaiting Analysis', 'Rejected'], index, 3),
      cveTags: [],
      descriptions: [
        { lang: 'en', value: `A "quoted" flaw in C:\\Acme\\${index}` },
        { lang: 'es', value: `Una vulnerabilidad en la versión ${index}` },
      ],
      metrics: index % 4 === 0 ? {} : { cvssMetricV31: [{ type: 'Primary', cvssData: { baseScore: digits('9.80') } }] },
      weaknesses: [{ source: 'nvd@nist.example', type: 'Primary', description: [{ lang: 'en', value: 'CWE-79' }] }],
      references: [{ url: `https://acme.example/${index}`, source: 'cna@acme.example' }],
      serial: digits(String(9_007_199_254_740_993n + BigInt(index))),
    },
  };
  return text(record, index);
}

function exploited(index: number): string {
  const record = {
    cveID: cveOf(index * 3),
    vendorProject: pick(['Ácme', '株式会社', 'Acme "Core"', 'Back\\Slash'], index, 4),
    product: `Product ${index}`,
    vulnerabilityName: `Acme Product ${index} Injection Vulnerability`,
    dateAdded: stamp(index, 5).slice(0, 10),
    shortDescription: 'Acme’s product has a flaw',
    requiredAction: 'Apply updates per vendor instructions.',
    dueDate: stamp(index, 6).slice(0, 10),
    knownRansomwareCampaignUse: pick(['Known', 'Unknown'], index, 7),
    notes: `https://acme.example/${index}`,
    cwes: index % 5 === 0 ? [] : ['CWE-94'],
  };
  return text(record, index);
}

function score(index: number): string {
  const epss = fraction(index, 8).toFixed(9);
  return text({ cve: cveOf(index), epss, percentile: fraction(index, 9).toFixed(9), date: '2026-01-02' }, index);
}

/** The NVD's key is never shown to the others. */
function credential({ path, headers }: Request): string {
  const shown = String(headers.apikey ?? KEY);
  return path === CVES || headers.apikey === undefined ? shown : 'the key of the NVD';
}

export default defineVendor({
  name: 'cve_db',
  env: (origin) => ({
    NVD_API_KEY: KEY,
    NVD_BASE_URL: `${origin}/nvd`,
    KEV_BASE_URL: `${origin}/cisa`,
    EPSS_BASE_URL: `${origin}/first/`,
  }),
  credential,
  key: KEY,
  error: (status, what) => JSON.stringify({ status: 'ERROR', 'status-code': status, message: what }),
  limitHeaders: () => ({}),
  routes: [
    {
      path: CVES,
      resource: 'cves',
      paging: offset({ as: 'startIndex', limit: 'resultsPerPage', max: 2000, strict: true }),
      total: true,
      records: (scale) => ({ count: scale, at: cve }),
      wrap: (records, { start, limit, total }) =>
        `{"resultsPerPage":${limit},"startIndex":${start},"totalResults":${total},"format":"NVD_CVE","version":"2.0",` +
        `"timestamp":"2026-01-02T03:04:05.678","vulnerabilities":${records}}`,
    },
    {
      path: KEV,
      resource: 'known_exploited',
      paging: none(),
      records: (scale) => ({ count: Math.ceil(scale / 3), at: exploited }),
      wrap: (records, { total }) =>
        `{\n  "title": "CISA Catalog of Known Exploited Vulnerabilities",\n  "catalogVersion": "2026.01.02",\n` +
        `  "dateReleased": "2026-01-02T15:00:00.0000Z",\n  "count": ${total},\n  "vulnerabilities": ${records}\n}`,
    },
    {
      path: EPSS,
      resource: 'epss_scores',
      paging: offset({ as: 'offset', max: 10_000, fallback: 100 }),
      total: true,
      records: (scale) => ({ count: scale, at: score }),
      wrap: (records, { start, limit, total }) =>
        `{"status":"OK","status-code":200,"version":"1.0","access":"public","total":${total},"offset":${start},` +
        `"limit":${limit},"data":${records}}`,
    },
  ],
});
