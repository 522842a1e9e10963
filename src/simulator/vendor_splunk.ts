import { address, digits, hex, mix, person, pick, text, uuid } from './invent.ts';
import { type Ask, type Records, type Request, single, span } from './paging.ts';
import { defineVendor } from './vendor.ts';

const TOKEN = 'canary-splunk.eyJraWQiOiJzcGx1bmsuc2VjcmV0In0.9f8e7d6c5b4a';
const STARTED = Math.floor(Date.now() / 1000);
const DAY = 86_400;

/** When an event was indexed, in whole seconds: the last twenty days, the newest first. */
function indexed(index: number, scale: number): number {
  return STARTED - 600 - Math.floor((index * 20 * DAY) / scale);
}

/** Its own time, to the millisecond: some come hours late, some are dated ahead. */
function happened(index: number, scale: number): number {
  const late = index % 11 === 0 ? 7 * 3600 : index % 13 === 0 ? -3 * DAY : 2;
  return indexed(index, scale) - late - (mix(index, 201) % 1000) / 1000;
}

function event(index: number, scale: number): string {
  const { first, mail } = person(index);
  const time = new Date(happened(index, scale) * 1000).toISOString().replace('Z', '+00:00');
  const bucket = mix(index, 202) % 40;
  const record = {
    _bkt: `main~${bucket}~${uuid(7, 203).toUpperCase()}`,
    _cd: `${bucket}:${index * 512}`,
    _indextime: String(indexed(index, scale)),
    _raw: `{"user":"${mail}","note":"${first}\\t🦉 | stats [\\"x\\"]","n":${9_007_199_254_740_993n + BigInt(index)}}`,
    _serial: String(index),
    _si: ['idx-1', 'main'],
    _sourcetype: 'acme:json',
    _time: time,
    host: pick(['web-01', 'büro-02', '東京-03'], index, 204),
    index: 'main',
    linecount: '1',
    source: `/var/log/acme/${hex(index, 205, 6)}.log`,
    sourcetype: 'acme:json',
    splunk_server: 'idx-1',
    src_ip: address(index, 206),
    bytes: digits(String(9_007_199_254_740_995n + BigInt(index) * 2n)),
    tags: index % 3 === 0 ? ['ünder', 'two'] : 'one',
  };
  return text(record, index);
}

const NUMBER = /^\d+(\.\d{1,3})?$/;

/** The events between the bounds of a search; all of them where none is asked for. */
function found(scale: number, { body }: Request): Records {
  const form = new URLSearchParams(body);
  const bound = (name: string, fallback: number) => Number(form.get(name) ?? fallback);
  const from = { event: bound('earliest_time', 0), index: bound('index_earliest', 0) };
  const to = { event: bound('latest_time', 2 ** 31), index: bound('index_latest', 2 ** 31) };
  const hits = span(0, scale).filter((index) => {
    const at = { event: happened(index, scale), index: indexed(index, scale) };
    return at.event >= from.event && at.event < to.event && at.index >= from.index && at.index < to.index;
  });
  return { count: hits.length, at: (nth) => event(hits[nth] ?? 0, scale) };
}

/** What is wrong with a request. */
function fault({ body, headers }: Request): string | undefined {
  const form = new URLSearchParams(body);
  const get = (name: string) => form.get(name) ?? '';
  if (headers['content-type'] !== 'application/x-www-form-urlencoded') return 'the body is no form';
  if (!/^\s*(search\s|\|)/.test(get('search'))) return 'Unknown search command';
  if (get('output_mode') !== 'json' || get('preview') !== 'false') return 'output_mode or preview is not as it must be';
  const bounds = [
    'earliest_time',
    'latest_time',
    ...(form.has('index_latest') ? ['index_earliest', 'index_latest'] : []),
  ];
  if (bounds.some((name) => !NUMBER.test(get(name)))) return 'Invalid time bounds';
  const unknown = [...form.keys()].find((name) => ![...bounds, 'search', 'output_mode', 'preview'].includes(name));
  return unknown === undefined ? undefined : `Argument "${unknown}" is not supported by this handler.`;
}

/** Messages that stand in the stream, by the variant of the vendor. */
const SAID: Readonly<Record<string, readonly [type: string, text: string]>> = {
  quota: ['FATAL', 'The maximum number of concurrent historical searches on this instance has been reached.'],
  fatal: ['FATAL', "Error in 'search' command: Unable to parse the search."],
  peer: ['WARN', 'Search results might be incomplete: the search process on the peer idx-2 ended prematurely.'],
  finalized: ['INFO', 'Search auto-finalized after disk usage limit (100MB) reached.'],
  times: ['INFO', 'Your timerange was substituted based on your search string'],
  slow: ['WARN', 'The search was slow\u0007 today'],
};

const message = (type: string, text: string) => JSON.stringify({ messages: [{ type, text }] });

/** A line for each result, the last one marked; a search without any has a line for that alone. */
function stream({ request, session, records, fault: struck }: Ask) {
  const refused = fault(request);
  if (refused !== undefined) return session.fail(400, refused);
  const said = SAID[session.settings.messages ?? ''] ?? (['INFO', 'Nothing to tell'] as const);
  const once = session.settings.messages === 'quota' && session.serial() > 1;
  const count = struck?.name === 'empty-list' ? 0 : records.count;
  const lines = span(0, count).map((index) => {
    const last = index === count - 1 ? ',"lastrow":true' : '';
    return `{"preview":false,"offset":${index}${last},"result":${records.at(index)}}`;
  });
  if (count === 0) lines.push('{"preview":false,"lastrow":true}');
  return { status: 200, body: `${[...lines, '', ...(once ? [] : [message(...said)])].join('\n')}\n` };
}

const route = { method: 'POST', paging: single('none', stream), records: found } as const;

export default defineVendor({
  name: 'splunk',
  env: (origin) => ({
    SPLUNK_URL: origin,
    SPLUNK_AUTH_TOKEN: TOKEN,
    SPLUNK_INDEX: 'main',
    SPLUNK_TIMESPAN: 'P30D',
    SPLUNK_NUM_PARTITIONS: '3',
  }),
  credential: ({ headers }) => {
    const [, scheme, shown = ''] = /^(Splunk|Bearer|Basic) (.+)$/.exec(String(headers.authorization)) ?? [];
    return scheme === 'Basic'
      ? Buffer.from(shown, 'base64')
          .toString()
          .replace(/^reader:/, '')
      : shown;
  },
  key: TOKEN,
  error: (_, what) => message('ERROR', what),
  limitHeaders: () => ({}),
  headers: () => ({ server: 'Splunkd', 'x-content-type-options': 'nosniff' }),
  routes: [
    { ...route, path: '/services/search/v2/jobs/export', resource: 'events' },
    { ...route, path: '/services/search/jobs/export', resource: 'older_events' },
    {
      path: '/services/authentication/current-context',
      resource: 'context',
      paging: single('none', () => ({ status: 200, body: '{"entry":[{"content":{"username":"reader"}}]}' })),
    },
  ],
});
