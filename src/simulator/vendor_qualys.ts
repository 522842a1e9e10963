import { address, mix, moment, pick } from './invent.ts';
import { none, offset, type Page, type Request, single } from './paging.ts';
import { defineVendor } from './vendor.ts';

const USER = 'acme_ro1';
const PASSWORD = 'canary-qualys-password-Zürich';
const KEY = Buffer.from(`${USER}:${PASSWORD}`).toString('base64');

type Value = string | null | readonly Value[] | { readonly [name: string]: Value };

function host(index: number): string {
  return JSON.stringify({
    ID: String(index),
    ASSET_ID: String(9_007_199_254_740_993n + BigInt(index) * 2n),
    IP: address(index, 1),
    TRACKING_METHOD: pick(['IP', 'AGENT', 'EC2'], index, 2),
    DNS: `${pick(['zürich', 'kyōto', 'paris'], index, 3)}-${index}.acme.example`,
    OS: 'Windows 11 <Pro> & "Büro"',
    COMMENTS: index % 3 === 0 ? null : 'first line\nsecond line ]]>',
    LAST_VULN_SCAN_DATETIME: moment(index, 4),
    ...(index % 4 === 0
      ? {}
      : { TAGS: { TAG: tags(index % 4).map((n) => ({ TAG_ID: `${n}`, NAME: `Büro ${n} 💻` })) } }),
  });
}

const tags = (count: number) => Array.from({ length: count }, (_, n) => n);

function vulnerability(index: number): string {
  return JSON.stringify({
    QID: String(38_000 + index),
    VULN_TYPE: 'Vulnerability',
    SEVERITY_LEVEL: String(1 + (mix(index, 5) % 5)),
    TITLE: 'OpenSSL «Heartbleed» & others',
    DIAGNOSIS: '<P>A peer may read <B>memory</B>.\n<P>"Quoted"',
    CVE_LIST: { CVE: [{ ID: `CVE-2024-${10_000 + index}`, URL: 'http://cve.example/?a=1&b=2' }] },
    CVSS: { BASE: { '@source': 'service', '#text': '7.5' }, TEMPORAL: '5.9' },
    PCI_FLAG: String(index % 2),
  });
}

function detected(index: number): string {
  const detections = tags(1 + (index % 3)).map((n) => ({
    UNIQUE_VULN_ID: String(index * 10 + n),
    QID: String(38_000 + n),
    TYPE: 'Confirmed',
    SEVERITY: '4',
    PORT: '443',
    STATUS: pick(['New', 'Active', 'Re-Opened', 'Fixed'], index + n, 6),
    FIRST_FOUND_DATETIME: moment(index, 7 + n),
  }));
  return JSON.stringify({ ID: String(index), IP: address(index, 1), DETECTION_LIST: { DETECTION: detections } });
}

const escaped = (text: string) => text.replace(/[<>&"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** A value as an element; text in which there is much to escape as CDATA. */
function element(name: string, value: Value): string {
  if (value === null) return `<${name}/>`;
  if (typeof value === 'string') {
    const cdata = value.includes('<') && !value.includes(']]>');
    return `<${name}>${cdata ? `<![CDATA[${value}]]>` : escaped(value)}</${name}>`;
  }
  if (isList(value)) return value.map((one) => element(name, one)).join('\n');
  const members = Object.entries(value);
  const attributes = members
    .filter(([key]) => key.startsWith('@'))
    .map(([key, held]) => ` ${key.slice(1)}="${escaped(String(held))}"`);
  const inside = members
    .filter(([key]) => !key.startsWith('@'))
    .map(([key, held]) => (key === '#text' ? escaped(String(held)) : element(key, held)));
  return `<${name}${attributes.join('')}>${inside.join('')}</${name}>`;
}

function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

function document(root: string, inside: string): string {
  const dtd = `<!DOCTYPE ${root} SYSTEM "https://qualysapi.example/api/5.0/fo/${root.toLowerCase()}.dtd">`;
  return `<?xml version="1.0" encoding="UTF-8" ?>\n${dtd}\n<${root}>\n${inside}\n</${root}>\n`;
}

/** The answer; a list that is cut leads on by id. */
function around(root: string, list: string, record: string) {
  return (array: string, { request, start, limit, total }: Page): string => {
    const found = JSON.parse(array) as Value[];
    const items = found.map((one) => element(record, one)).join('\n');
    const rest = new URLSearchParams(request.query);
    rest.set('id_min', String(start + limit));
    const url = `${request.path}?${rest}`; // the real one names the host too
    const warning =
      start + limit < total
        ? element('WARNING', { CODE: '1980', TEXT: `${limit} record limit exceeded. Use URL to get next.`, URL: url })
        : '';
    const held = found.length === 0 ? '' : `<${list}>\n${items}\n</${list}>\n`;
    return document(root, `<RESPONSE>\n<DATETIME>2026-01-02T03:04:05Z</DATETIME>\n${held}${warning}</RESPONSE>`);
  };
}

const paging = offset({ as: 'id_min', limit: 'truncation_limit', max: 10_000 });
const listed = ({ query, headers }: Request) =>
  query.get('action') === 'list' && headers['x-requested-with'] !== undefined;

export default defineVendor({
  name: 'qualys',
  env: (origin) => ({ QUALYS_BASE_URL: origin, QUALYS_USERNAME: USER, QUALYS_PASSWORD: PASSWORD }),
  credential: ({ headers }) => /^Basic (.+)$/.exec(String(headers.authorization))?.[1],
  key: KEY,
  error: (status, what) =>
    document(
      'SIMPLE_RETURN',
      `<RESPONSE><DATETIME>2026-01-02T03:04:05Z</DATETIME><CODE>${status === 200 ? 999 : 1905}</CODE>${element('TEXT', what)}</RESPONSE>`,
    ),
  limitHeaders: ({ limit, remaining, resetAt, over }) => ({
    'x-ratelimit-limit': String(limit),
    'x-ratelimit-remaining': String(remaining),
    'x-ratelimit-towait-sec': String(over ? Math.max(1, Math.ceil((resetAt - Date.now()) / 1000)) : 0),
  }),
  headers: () => ({ 'content-type': 'text/xml;charset=UTF-8', 'x-concurrency-limit-limit': '2' }),
  routes: [
    {
      path: '/api/5.0/fo/asset/host/',
      resource: 'hosts',
      paging,
      when: listed,
      records: (scale) => ({ count: scale, at: host }),
      wrap: around('HOST_LIST_OUTPUT', 'HOST_LIST', 'HOST'),
    },
    {
      path: '/api/5.0/fo/knowledge_base/vuln/',
      resource: 'vulnerabilities',
      paging: none(),
      when: (request) => listed(request) && !request.query.has('truncation_limit'),
      records: (scale) => ({ count: scale, at: vulnerability }),
      wrap: around('KNOWLEDGE_BASE_VULN_LIST_OUTPUT', 'VULN_LIST', 'VULN'),
    },
    {
      path: '/api/5.0/fo/asset/host/vm/detection/',
      resource: 'host_detections',
      paging,
      when: (request) => listed(request) && /Fixed/.test(request.query.get('status') ?? ''),
      records: (scale) => ({ count: scale, at: detected }),
      wrap: around('HOST_LIST_VM_DETECTION_OUTPUT', 'HOST_LIST', 'HOST'),
    },
    ...['asset/host/', 'knowledge_base/vuln/', 'asset/host/vm/detection/'].map((path) => ({
      path: `/api/{version}/fo/${path}`,
      resource: 'older_versions',
      paging: single('none', ({ session }) => session.fail(404, 'this version has ended')),
    })),
  ],
});
