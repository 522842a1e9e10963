import { CLIENT, graphVendor, TENANT } from './graph.ts';
import { address, digits, mix, person, pick, text, uuid } from './invent.ts';
import { type Ask, type Records, type Request, single, span } from './paging.ts';
import { defineVendor } from './vendor.ts';

const SECRET = 'canary-azure-monitor~5f4E3d2C1b0A9z8Y7x6W';
const WORKSPACE = '3c0de000-0000-4000-a000-0000000c0de3';
const STARTED = Date.now();
const MINUTE = 60_000;
const DAY = 86_400_000;

/** Seven digits behind the second, so that moments can be compared as text. */
const exact = (moment: string) => moment.replace(/(?:\.(\d+))?Z$/, (_, part = '') => `.${part.padEnd(7, '0')}Z`);
const stamp = (time: number, ticks: number) =>
  new Date(time).toISOString().replace('Z', `${String(ticks % 10_000).padStart(4, '0')}Z`);

/** When a row came: over the last twenty days. */
function came(index: number, scale: number): string {
  return stamp(STARTED - 20 * MINUTE - Math.floor((index * 20 * DAY) / scale), mix(index, 301));
}

/** Its own time: some rows come a day and a half late. */
function generated(index: number, scale: number): string {
  const late = index % 10 === 0 ? 1.5 * DAY : MINUTE;
  return stamp(Date.parse(came(index, scale)) - late, mix(index, 302));
}

const COLUMNS = [
  ['TimeGenerated', 'datetime'],
  ['Computer', 'string'],
  ['Größe', 'long'],
  ['Weight', 'real'],
  ['Account', 'string'],
  ['Details', 'dynamic'],
  ['Succeeded', 'bool'],
  ['_ItemId', 'string'],
] as const;

function valuesOf(index: number, scale: number): readonly unknown[] {
  const { first, last, mail } = person(index);
  return [
    generated(index, scale),
    pick(['srv-01', 'büro-02', '東京-03'], index, 303),
    digits(String(9_007_199_254_740_993n + BigInt(index) * 2n)),
    index % 8 === 0 ? 'NaN' : digits(pick(['1.50', '2E-7', '12.0'], index, 304)),
    `${first} "${last}"\\${mail}`,
    JSON.stringify({ ip: address(index, 305), tags: ['a', 'ü'], n: index }),
    index % 3 === 0 ? null : index % 2 === 0,
    uuid(index, 306),
  ];
}

function row(index: number, scale: number): string {
  return text(valuesOf(index, scale), index);
}

function record(index: number, scale: number): string {
  const values = valuesOf(index, scale);
  const named = Object.fromEntries(COLUMNS.map(([name], nth) => [name, values[nth]]));
  // The keys are not escaped: they come from the table's head.
  return text(named, index).replace('"Gr\\u00f6\\u00dfe"', '"Größe"');
}

interface Asked {
  readonly query?: unknown;
  readonly timespan?: unknown;
}

function asked(body: string): Asked {
  try {
    return JSON.parse(body) as Asked;
  } catch {
    return {};
  }
}

const CAME = 'coalesce(ingestion_time(), TimeGenerated)';
const WITHIN =
  /where (coalesce\(ingestion_time\(\), TimeGenerated\)|\w+) >= datetime\((\S+Z)\) and \1 < datetime\((\S+Z)\)/;

/** The rows that a query's window and timespan let through, the newest first; all where nothing is asked. */
function found(scale: number, { body }: Request): Records {
  const { query, timespan } = asked(body);
  const [, clock = CAME, from = '', to = '~'] = WITHIN.exec(String(query)) ?? [];
  const [least = '', most = '~'] = typeof timespan === 'string' ? timespan.split('/') : [];
  const hits = span(0, scale).filter((index) => {
    const own = generated(index, scale);
    const moment = clock === CAME ? came(index, scale) : own;
    const spanned = own >= (least && exact(least)) && own <= (most === '~' ? most : exact(most));
    return spanned && moment >= (from && exact(from)) && moment < (to === '~' ? to : exact(to));
  });
  return { count: hits.length, at: (nth) => record(hits[nth] ?? 0, scale) };
}

const failure = (code: string, message: string, inner: object) =>
  JSON.stringify({ error: { message, code, innererror: inner } });

const PARTIAL = {
  large: {
    code: '-2133196797',
    message:
      'The results of this query exceed the set limit of 64000000 bytes (E_QUERY_RESULT_SET_TOO_LARGE, 0x80DA0003).',
  },
  other: { code: '-2133196799', message: 'Query execution exceeded its quota (E_SHARD_UNAVAILABLE).' },
};

const partial = (innererror: object) =>
  JSON.stringify({ code: 'PartialError', message: 'There were some errors.', details: [{ innererror }] });

const columns = JSON.stringify(COLUMNS.map(([name, type]) => ({ name, type })));
const tableOf = (rows: readonly string[]) => `{"name":"PrimaryResult","columns":${columns},"rows":[${rows.join(',')}]}`;

/** As many rows as fit; where they do not, an error stands beside those that do. */
function result({ request, session, records, fault }: Ask) {
  const { query, timespan } = asked(request.body);
  if (request.headers.prefer !== 'wait=600' || typeof query !== 'string' || query.includes('{{'))
    return session.fail(400, 'The request had some invalid properties');
  if (timespan !== undefined && !/^\S+Z\/\S+Z$/.test(String(timespan))) return session.fail(400, 'timespan');
  const variant = session.settings.answer;
  if (variant === 'timeout' && records.count > 20) return session.fail(504, 'The query timed out');
  const scale = session.scale;
  const indexes = new Map(span(0, scale).map((index) => [record(index, scale), index]));
  const total = fault?.name === 'empty-list' ? 0 : records.count;
  const count = Math.min(total, session.pageSize);
  const rows = span(0, count).map((nth) => row(indexes.get(records.at(nth)) ?? 0, scale));
  const tables = [tableOf(rows), ...(variant === 'tables' ? [tableOf([])] : [])];
  const inner = variant === 'partial' ? PARTIAL.other : count < total ? PARTIAL.large : undefined;
  const error = inner === undefined ? '' : `,"error":${partial(inner)}`;
  return { status: 200, body: `{"tables":[${tables.join(',')}]${error}}` };
}

const CODES: Readonly<Record<number, string>> = {
  400: 'BadArgumentError',
  401: 'InvalidTokenError',
  403: 'InsufficientAccessError',
  404: 'WorkspaceNotFoundError',
  429: 'TooManyRequests',
  504: 'GatewayTimeout',
};

const { token, credential } = graphVendor(SECRET);
const route = { method: 'POST', paging: single('none', result), records: found } as const;

export default defineVendor({
  name: 'azure_monitor',
  env: (origin) => ({
    AZURE_MONITOR_URL: origin,
    AZURE_MONITOR_AUTHORITY_HOST: origin,
    AZURE_MONITOR_TENANT_ID: TENANT,
    AZURE_MONITOR_CLIENT_ID: CLIENT,
    AZURE_MONITOR_CLIENT_SECRET: SECRET,
    AZURE_MONITOR_WORKSPACE_ID: WORKSPACE,
    AZURE_MONITOR_QUERY: 'SecurityEvent | where Computer != "x | y"',
    AZURE_MONITOR_TIMESPAN: 'P30D',
  }),
  credential,
  error: (status, what) => failure(CODES[status] ?? 'UnknownError', what, { code: 'Detail', message: what }),
  limitHeaders: () => ({}),
  routes: [
    token,
    { ...route, path: `/v1/workspaces/${WORKSPACE}/query`, resource: 'logs' },
    { ...route, path: '/v1/subscriptions/{subscription}/resourceGroups/{group}/query', resource: 'resource_logs' },
  ],
});
