import { CollectError } from '../errors.ts';
import { type Auth, basic, staticHeaders } from '../http/auth.ts';
import type { ListRequest } from '../http/client.ts';
import { rawValue } from '../http/fields.ts';
import type { Page } from '../http/page.ts';
import type { Split, Splitter } from '../http/records.ts';
import type { Rule } from '../http/retry.ts';
import type { Window } from '../http/slices.ts';
import { at, isObject, type Json, textAt } from '../json.ts';
import { searched, sliceSize } from './_log_search.ts';
import type { Context } from './collector.ts';

/** What a search needs of the variables. */
export interface SplunkSettings {
  readonly SPLUNK_QUERY: string;
  readonly SPLUNK_INDEX: string;
  readonly SPLUNK_SOURCETYPE: string;
  readonly SPLUNK_SEARCH_FILTER: string;
  readonly SPLUNK_TIMESPAN: string;
  readonly SPLUNK_START_TIME?: string | undefined;
  readonly SPLUNK_END_TIME?: string | undefined;
  readonly SPLUNK_LOOKBACK_DAYS: number;
  readonly SPLUNK_SAFETY_LAG_SECONDS: number;
  readonly SPLUNK_NUM_PARTITIONS: number;
  readonly SPLUNK_PARTITION_DURATION: number;
  readonly SPLUNK_ALLOW_TRANSFORMING: boolean;
  readonly SPLUNK_CONCURRENCY: number;
}

/** The header of each scheme; basic takes `user:password`. */
export function authOf(scheme: 'Splunk' | 'Bearer' | 'Basic', token: string): Auth {
  if (scheme !== 'Basic') return staticHeaders({ authorization: `${scheme} ${token}` });
  const colon = token.indexOf(':');
  if (colon > 0) return basic(token.slice(0, colon), token.slice(colon + 1));
  throw new CollectError('config', 'SPLUNK_AUTH_TOKEN is no user and password', { mend: 'write it as user:password' });
}

const EXPORT = '/services/search/v2/jobs/export';
/** Before 9.0.1. */
const OLDER_EXPORT = '/services/search/jobs/export';
const ABSENT: Rule = { status: 404, as: 'empty' };

/** What a search finds of the events that were indexed since the last run. */
export function exported(context: Context<SplunkSettings>): AsyncGenerator<Page> {
  const { settings } = context;
  const search = searchOf(settings);
  const slices = { seconds: settings.SPLUNK_PARTITION_DURATION, parts: settings.SPLUNK_NUM_PARTITIONS };
  const whole = isTransforming(search) && !settings.SPLUNK_ALLOW_TRANSFORMING;
  return searched(context, {
    what: search,
    timespan: settings.SPLUNK_TIMESPAN,
    start: settings.SPLUNK_START_TIME,
    end: settings.SPLUNK_END_TIME,
    lag: settings.SPLUNK_SAFETY_LAG_SECONDS,
    size: (window, first) => (whole ? window.to - window.from : sliceSize(window, first, slices)),
    least: 1000, // index times are whole seconds
    concurrency: settings.SPLUNK_CONCURRENCY,
    setting: 'SPLUNK_PARTITION_DURATION',
    read: reader(context, search),
  });
}

function reader({ http, settings, warn }: Context<SplunkSettings>, search: string) {
  let path = EXPORT;
  const ask = (form: Readonly<Record<string, string>>, errors: readonly Rule[]) => {
    const request: ListRequest = { path, method: 'POST', repeatable: true, form, records: '', split: exportLines };
    return http.page({ ...request, errors: [...errors, ...MESSAGES] });
  };
  return async (window: Window): Promise<Page> => {
    const form = { search, ...timesOf(window, settings), output_mode: 'json', preview: 'false' };
    let page = path === EXPORT ? await ask(form, [ABSENT]) : undefined;
    if (page === undefined || page.status === 404) {
      path = OLDER_EXPORT;
      page = await ask(form, []);
    }
    const warnings = at(page.body, 'warnings');
    if (Array.isArray(warnings)) for (const warning of warnings) warn(`Splunk says: ${warning}`);
    return page;
  };
}

/** The largest moment that Splunk knows: events may be dated ahead. */
const EVER = '2147483647';

/**
 * The bounds of a slice, the later one excluded. Events come late, so what is new goes by the time of indexing; a
 * window that ends goes by the events' own time.
 */
function timesOf(window: Window, settings: SplunkSettings): Readonly<Record<string, string>> {
  const [from, to] = [window.from / 1000, window.to / 1000];
  if (settings.SPLUNK_END_TIME !== undefined) return { earliest_time: from.toFixed(3), latest_time: to.toFixed(3) };
  const days = settings.SPLUNK_LOOKBACK_DAYS;
  const earliest = days === 0 ? 0 : Math.max(0, Math.floor(from) - days * 86_400);
  const indexed = { index_earliest: String(Math.floor(from)), index_latest: String(Math.floor(to)) };
  return { earliest_time: String(earliest), latest_time: EVER, ...indexed };
}

/** What is searched for: a whole query, or an index with what narrows it. */
type Wanted = Pick<SplunkSettings, 'SPLUNK_QUERY' | 'SPLUNK_INDEX' | 'SPLUNK_SOURCETYPE' | 'SPLUNK_SEARCH_FILTER'>;

/**
 * The search that the settings ask for.
 * @throws {CollectError} config when there is none, when it sets times of its own, or when a part of it could be read
 * as another command
 */
export function searchOf(wanted: Wanted): string {
  const { SPLUNK_QUERY: query, SPLUNK_INDEX: index } = wanted;
  if (query.trim() === '' && index === '') {
    throw new CollectError('config', 'nothing to search for', { mend: 'set SPLUNK_INDEX or SPLUNK_QUERY' });
  }
  const search = query.trim() === '' ? simple(wanted) : /^\s*(search\b|\|)/i.test(query) ? query : `search ${query}`;
  if (!/(?<!\w)(_index_)?(earliest|latest)\s*=/i.test(outermost(search))) return search;
  const mend = 'leave earliest= and latest= out; SPLUNK_TIMESPAN, SPLUNK_START_TIME and SPLUNK_END_TIME say when';
  throw new CollectError('config', 'the search sets times of its own', { mend });
}

function simple({ SPLUNK_INDEX: index, SPLUNK_SOURCETYPE: sourcetype, SPLUNK_SEARCH_FILTER: filter }: Wanted): string {
  assertMatches('SPLUNK_INDEX', index, /^[A-Za-z0-9_-]+$/, 'letters, digits, _ and -');
  if (sourcetype !== '') {
    assertMatches('SPLUNK_SOURCETYPE', sourcetype, /^[A-Za-z0-9:_-]+$/, 'letters, digits, :, _ and -');
  }
  assertMatches('SPLUNK_SEARCH_FILTER', filter, /^[^|`$;[\]\r\n]*$/, 'a filter without | ` $ ; [ ] and line ends');
  const parts = [`index="${index}"`, sourcetype === '' ? '' : `sourcetype="${sourcetype}"`, filter.trim()];
  return `search ${parts.filter((part) => part !== '').join(' ')}`;
}

/** A search without its strings and subsearches. */
function outermost(search: string): string {
  let text = search.replace(/"(?:\\.|[^"\\])*"/g, '""');
  for (let inner = ''; inner !== text; text = text.replace(/\[[^[\]]*\]/g, '')) inner = text;
  return text;
}

const MAKES_ONE =
  /\|\s*(stats|chart|timechart|top|rare|transaction|tstats|mstats|inputlookup|makeresults|metadata|rest)\b/i;

/** Whether a search makes one result of many events, or reads what knows no time: its slices do not add up. */
export function isTransforming(search: string): boolean {
  return MAKES_ONE.test(outermost(search));
}

/**
 * Refuses slices of a search that they would falsify.
 * @throws {CollectError} config
 */
export function assertSliceable(settings: SplunkSettings): void {
  const { SPLUNK_NUM_PARTITIONS: parts, SPLUNK_PARTITION_DURATION: seconds } = settings;
  if (!isTransforming(searchOf(settings)) || settings.SPLUNK_ALLOW_TRANSFORMING || (parts === 1 && seconds === 0))
    return;
  throw new CollectError('config', 'the search computes over all events, so it cannot be read in slices', {
    mend: 'leave SPLUNK_NUM_PARTITIONS and SPLUNK_PARTITION_DURATION out, or set SPLUNK_ALLOW_TRANSFORMING=true',
  });
}

function assertMatches(name: string, value: string, pattern: RegExp, allowed: string): void {
  if (pattern.test(value)) return;
  const mend = `write only ${allowed}; a whole search goes into SPLUNK_QUERY`;
  throw new CollectError('config', `${name} holds what does not belong there`, { mend });
}

/** What messages in a stream that began with 200 mean: its results are partial. */
export const MESSAGES: readonly Rule[] = [
  { status: 200, body: /"fault":"quota"/, as: 'throttled', because: 'the quota of searches or of disk is used up' },
  { status: 200, body: /"fault":"failed"/, as: 'failed', because: 'the search failed or its results are partial' },
  { status: 200, body: /"fault":"times"/, as: 'failed', because: 'the search sets times of its own' },
  { status: 400, as: 'failed', because: 'Splunk does not accept the search' },
  { status: 503, body: /quota|concurrent/i, as: 'throttled', because: 'the quota of searches is used up' },
];

type Fault = 'quota' | 'failed' | 'times';

const LF = 0x0a;

/**
 * Takes the results out of an export's stream: a line an object, previews left out. A stream without the mark of its
 * last row was cut off.
 */
export const exportLines: Split = ({ edit, maxRecord = 64 * 2 ** 20 }): Splitter => {
  let rest: Uint8Array = new Uint8Array();
  let records = 0;
  let ended = false;
  let fault: Fault | undefined;
  const warnings = new Set<string>();
  const take = (line: Uint8Array): readonly Uint8Array[] => {
    if (line.length > maxRecord) throw new CollectError('refused', `a record is larger than ${maxRecord} bytes`);
    const text = Buffer.from(line).toString();
    if (text.trim() === '') return [];
    const row = parsed(text);
    for (const message of messagesOf(row)) {
      fault = faultOf(message) ?? fault;
      if (message.type === 'WARN' && warnings.size < MOST_WARNINGS) warnings.add(message.text);
    }
    if (row.preview === true) return [];
    if (row.lastrow === true) ended = true;
    const result = isObject(row.result) ? rawValue(line, ['result']) : undefined;
    if (result === undefined) return [];
    records += 1;
    return [edit?.(result) ?? result, Uint8Array.of(LF)];
  };
  return {
    write(chunk) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      const out: Uint8Array[] = [];
      let from = 0;
      for (let to = bytes.indexOf(LF); to >= 0; to = bytes.indexOf(LF, from)) {
        out.push(...take(bytes.subarray(from, to)));
        from = to + 1;
      }
      rest = bytes.subarray(from);
      if (rest.length > maxRecord) throw new CollectError('refused', `a record is larger than ${maxRecord} bytes`);
      return out;
    },
    end() {
      if (Buffer.from(rest).toString().trim() !== '') throw new CollectError('vendor', 'the stream ends within a line');
      if (!ended && fault === undefined) throw new CollectError('vendor', 'the stream ends without its last row');
      const told = warnings.size === 0 ? {} : { warnings: [...warnings] };
      return { records, found: true, body: fault === undefined ? told : { fault } };
    },
  };
};

function parsed(line: string): { readonly [key: string]: Json } {
  try {
    const row: unknown = JSON.parse(line);
    if (isObject(row)) return row;
  } catch {
    // The parser's own error quotes the line.
  }
  throw new CollectError('vendor', 'a line of the stream is no JSON object');
}

interface Message {
  readonly type: string;
  readonly text: string;
}

const MOST_WARNINGS = 5;
const MOST_TEXT = 300;

function messagesOf(row: unknown): readonly Message[] {
  const messages = at(row, 'messages');
  if (!Array.isArray(messages)) return [];
  return messages.map((message) => ({
    type: (textAt(message, 'type') ?? '').toUpperCase(),
    text: (textAt(message, 'text') ?? '').replace(/\p{C}+/gu, ' ').slice(0, MOST_TEXT),
  }));
}

/** What Splunk tells at whatever level when peers, time or memory cut the results short. */
const PARTIAL =
  /incomplete|partial result|truncat|auto-?finali[sz]|prematurely|timed out|unable to distribute|did not exit/i;

function faultOf({ type, text }: Message): Fault | undefined {
  if (/time ?range was substituted/i.test(text)) return 'times';
  if (type !== 'ERROR' && type !== 'FATAL') return type !== 'DEBUG' && PARTIAL.test(text) ? 'failed' : undefined;
  return /quota|concurrent/i.test(text) ? 'quota' : 'failed';
}
