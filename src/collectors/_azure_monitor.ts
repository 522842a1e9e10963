import { baseUrl } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { HttpOptions } from '../http/client.ts';
import { limit } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import type { Rule } from '../http/retry.ts';
import type { Window } from '../http/slices.ts';
import { tableRows } from '../http/tables.ts';
import { at, type Json } from '../json.ts';
import { entra } from './_entra.ts';
import { searched, sliceSize } from './_log_search.ts';
import type { Context } from './collector.ts';

/** What the collector needs of its variables. */
export interface AzureMonitorSettings {
  readonly AZURE_MONITOR_QUERY: string;
  readonly AZURE_MONITOR_WORKSPACE_ID: string;
  readonly AZURE_MONITOR_RESOURCE_ID: string;
  readonly AZURE_MONITOR_TENANT_ID: string;
  readonly AZURE_MONITOR_CLIENT_ID: string;
  readonly AZURE_MONITOR_CLIENT_SECRET: string;
  readonly AZURE_MONITOR_TIMESPAN: string;
  readonly AZURE_MONITOR_START_TIME?: string | undefined;
  readonly AZURE_MONITOR_END_TIME?: string | undefined;
  readonly AZURE_MONITOR_TIMESTAMP_COLUMN: string;
  readonly AZURE_MONITOR_SAFETY_LAG_SECONDS: number;
  readonly AZURE_MONITOR_NUM_PARTITIONS: number;
  readonly AZURE_MONITOR_PARTITION_DURATION: number;
  readonly AZURE_MONITOR_MIN_PARTITION_SECONDS: number;
  readonly AZURE_MONITOR_CONCURRENCY: number;
  readonly AZURE_MONITOR_CLOUD: 'public' | 'government' | 'china';
  readonly AZURE_MONITOR_URL?: string | undefined;
  readonly AZURE_MONITOR_AUTHORITY_HOST?: string | undefined;
}

/** Each cloud's API, what its tokens are for and where they come from. */
const CLOUDS = {
  public: ['https://api.loganalytics.azure.com', 'https://api.loganalytics.io', 'https://login.microsoftonline.com'],
  government: ['https://api.loganalytics.us', 'https://api.loganalytics.us', 'https://login.microsoftonline.us'],
  china: ['https://api.loganalytics.azure.cn', 'https://api.loganalytics.azure.cn', 'https://login.chinacloudapi.cn'],
} as const;

/** Rows of an answer: one that has so many may be cut off, whatever it says. */
const MOST_ROWS = 500_000;
/** Seconds that a query may run at most. */
const LONGEST = 600;

/** The query API of a cloud. */
export function queryApi(settings: AzureMonitorSettings): HttpOptions {
  queryOf(settings);
  pathOf(settings);
  const [api, audience, login] = CLOUDS[settings.AZURE_MONITOR_CLOUD];
  return {
    baseUrl: baseUrl(settings.AZURE_MONITOR_URL ?? api),
    auth: entra({
      tenant: settings.AZURE_MONITOR_TENANT_ID,
      client: settings.AZURE_MONITOR_CLIENT_ID,
      secret: settings.AZURE_MONITOR_CLIENT_SECRET,
      authority: baseUrl(settings.AZURE_MONITOR_AUTHORITY_HOST ?? login),
      scope: `${audience}/.default`,
    }),
    pace: limit(200, 30),
    concurrency: settings.AZURE_MONITOR_CONCURRENCY,
    timeout: LONGEST + 30,
  };
}

function pathOf({ AZURE_MONITOR_WORKSPACE_ID: workspace, AZURE_MONITOR_RESOURCE_ID: resource }: AzureMonitorSettings) {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(workspace)) return `/v1/workspaces/${workspace}/query`;
  if (workspace === '' && /^\/subscriptions(\/[\w.()-]*\w[\w.()-]*)+$/i.test(resource)) return `/v1${resource}/query`;
  throw new CollectError('config', 'there is no workspace to query', {
    mend: 'set AZURE_MONITOR_WORKSPACE_ID to its GUID, or AZURE_MONITOR_RESOURCE_ID to a path /subscriptions/...',
  });
}

/** What the service says instead of a whole result, by the mark that `judged` leaves. */
const QUERY_ERRORS: readonly Rule[] = [
  { status: 200, body: /"fault":"large"/, as: 'empty' },
  { status: 200, body: /"fault":"partial"/, as: 'failed', because: 'the results of the query are partial' },
  { status: 200, body: /"fault":"tables"/, as: 'failed', because: 'the query has several results' },
  { status: [413, 504], as: 'empty' }, // too large, or too long: the slice is read in halves
  {
    status: [400, 422, 500],
    body: /E_QUERY_RESULT_SET_TOO_LARGE|ResponsePayloadTooLarge|(Result|Response)SizeLimitExceeded/,
    as: 'empty',
  },
  { status: 400, as: 'failed', because: 'the query is not accepted' },
  { status: 404, as: 'failed', because: 'the workspace or resource is not known' },
];

const LARGE =
  /E_QUERY_RESULT_SET_TOO_LARGE|0x80DA0003|-2133196797|ResponsePayloadTooLarge|(Result|Response)SizeLimitExceeded/;

/** What stands around the rows, judged: an error beside them makes them partial. */
function judged(body: Json): Json {
  const error = at(body, 'error');
  if (error !== undefined && error !== null) return { fault: LARGE.test(JSON.stringify(error)) ? 'large' : 'partial' };
  const tables = at(body, 'tables');
  return Array.isArray(tables) && tables.length > 1 ? { fault: 'tables' } : {};
}

const rows = tableRows(judged);

/** What a query finds of the rows that came since the last run. */
export function queried(context: Context<AzureMonitorSettings>): AsyncGenerator<Page> {
  const { settings, http } = context;
  const query = queryOf(settings);
  const path = pathOf(settings);
  const slices = { seconds: settings.AZURE_MONITOR_PARTITION_DURATION, parts: settings.AZURE_MONITOR_NUM_PARTITIONS };
  return searched(context, {
    what: `${path} ${settings.AZURE_MONITOR_TIMESTAMP_COLUMN} ${settings.AZURE_MONITOR_QUERY}`,
    timespan: settings.AZURE_MONITOR_TIMESPAN,
    start: settings.AZURE_MONITOR_START_TIME,
    end: settings.AZURE_MONITOR_END_TIME,
    lag: settings.AZURE_MONITOR_SAFETY_LAG_SECONDS,
    size: (window, first) => (query.whole ? window.to - window.from : sliceSize(window, first, slices)),
    least: query.whole ? Number.MAX_SAFE_INTEGER : settings.AZURE_MONITOR_MIN_PARTITION_SECONDS * 1000,
    concurrency: settings.AZURE_MONITOR_CONCURRENCY,
    setting: 'AZURE_MONITOR_MIN_PARTITION_SECONDS, or place {{window}} in AZURE_MONITOR_QUERY',
    async read(window) {
      const body = { query: query.text(window), ...timespanOf(query.clock, window) };
      const headers = { prefer: `wait=${LONGEST}` };
      const request = { path, method: 'POST', repeatable: true, headers, body, records: 'rows', split: rows } as const;
      const page = await http.page({ ...request, errors: QUERY_ERRORS });
      if (page.status !== 404 && page.records < MOST_ROWS) return page;
      await page.discard();
      return undefined;
    },
  });
}

/** When rows came; a saved function knows no such time. */
const CAME = 'coalesce(ingestion_time(), TimeGenerated)';
const GENERATED = 'TimeGenerated';

interface WindowedQuery {
  /** By which slices are cut. */
  readonly clock: string;
  /** Slices would falsify it, or cannot be put into it. */
  readonly whole: boolean;
  text(window: Window): string;
}

const TABLE = /^((?:\s|\/\/[^\n]*\n)*(?!(?:union|search|find|print|range|let|set|datatable)\b)[A-Za-z_]\w*)\s*(\||$)/;
/** Strings of every kind, and comments. */
const TEXTS = /```[\s\S]*?```|@"[^"]*"|@'[^']*'|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\/\/[^\n]*/g;
const COMPUTES =
  /\|\s*(summarize|count|top(-nested|-hitters)?|take|limit|distinct|sample(-distinct)?|make-series|serialize|scan)\b/;

/**
 * The query with a place for a slice: the user's `{{window}}`, else behind the table that it begins with.
 * @throws {CollectError} config when slices are asked for and there is no place
 */
export function queryOf(settings: AzureMonitorSettings): WindowedQuery {
  const { AZURE_MONITOR_QUERY: query, AZURE_MONITOR_TIMESTAMP_COLUMN: column } = settings;
  const clock = column !== '' ? column : settings.AZURE_MONITOR_END_TIME === undefined ? CAME : GENERATED;
  if (query.includes('{{window}}')) {
    return { clock, whole: false, text: (window) => query.replaceAll('{{window}}', () => within(clock, window)) };
  }
  const code = query.replace(TEXTS, (text) => (text.startsWith('//') ? '' : '""'));
  const table = /\|\s*union\b|;\s*\S/.test(code) ? undefined : TABLE.exec(query)?.[1];
  const whole = table === undefined || COMPUTES.test(code);
  const { AZURE_MONITOR_NUM_PARTITIONS: parts, AZURE_MONITOR_PARTITION_DURATION: seconds } = settings;
  if (whole && (parts > 1 || seconds > 0)) {
    throw new CollectError('config', 'the query does not begin with a table, or computes over all rows', {
      mend: 'place {{window}} behind where, or leave AZURE_MONITOR_NUM_PARTITIONS and _PARTITION_DURATION out',
    });
  }
  if (table === undefined) return { clock: GENERATED, whole, text: () => query };
  const rest = query.slice(table.length);
  return { clock, whole, text: (window) => `${table}\n| where ${within(clock, window)}\n${rest}` };
}

const literal = (at: number) => new Date(at).toISOString();

function within(clock: string, { from, to }: Window): string {
  return `${clock} >= datetime(${literal(from)}) and ${clock} < datetime(${literal(to)})`;
}

const DAY = 86_400_000;

/**
 * What the service may look at: both ends belong to it, and times have seven digits behind the second. `TimeGenerated`
 * is at most two days before and one day behind the moment at which a row is received; see
 * https://learn.microsoft.com/azure/azure-monitor/logs/log-standard-columns
 */
function timespanOf(clock: string, { from, to }: Window): { readonly timespan?: string } {
  if (clock === CAME) return { timespan: `${literal(from - 4 * DAY)}/${literal(to + 2 * DAY)}` };
  return clock === GENERATED ? { timespan: `${literal(from)}/${literal(to - 1).replace('Z', '9999Z')}` } : {};
}
