import { baseUrl, choice, integer, list, optional, secret, setting, text, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { type Auth, basic, clientCredentials } from '../http/auth.ts';
import { keeping } from '../http/fields.ts';
import { header, resetHeader } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import { nextLink, paginator, type Query } from '../http/paginate.ts';
import { type Context, defineCollector } from './collector.ts';

const API = '/api/now/table';
const TOTAL = 'x-total-count';
/** Columns of the customer's own may hold credentials in plain text. */
const SECRETS = ['*password*', '*passwd*', '*secret*', '*api_key*', '*private_key*', 'u_token'];

const env = {
  SERVICENOW_INSTANCE: setting('Instance, such as acme for acme.service-now.com, or its whole host'),
  SERVICENOW_USERNAME: setting('User with read access to the tables, best in the time zone UTC'),
  SERVICENOW_PASSWORD: secret('Password of that user'),
  SERVICENOW_AUTH_TYPE: setting(
    'oauth2, which needs a client id and secret too, or basic',
    choice(['oauth2', 'basic'], 'oauth2'),
  ),
  SERVICENOW_CLIENT_ID: setting('Client id of an OAuth application', optional()),
  SERVICENOW_CLIENT_SECRET: secret('Client secret of that application', optional()),
  SERVICENOW_TABLES: setting('Further tables to read, separated by commas', list().default([])),
  SERVICENOW_QUERY: setting('Encoded query that every table is filtered by', text('')),
  SERVICENOW_PAGE_SIZE: setting('Records of a page', integer(500, 1, 10_000)),
};

type Settings = Values<typeof env>;

/** Rows that access rules hide make pages short before the end, so the offset moves by what was asked for. */
const rows = paginator(
  'Link header or offset',
  ({ url, headers, records }) => {
    const link = nextLink(header(headers, 'link'));
    if (link !== undefined) return { url: link };
    const start = Number(url.searchParams.get('sysparm_offset') ?? 0);
    const reached = start + Number(url.searchParams.get('sysparm_limit'));
    const total = header(headers, TOTAL);
    const more = total === undefined ? records > 0 : reached < Number(total);
    return more ? { query: { sysparm_offset: reached } } : undefined;
  },
  { fromHeaders: true, lives: 300 },
);

export default defineCollector({
  name: 'servicenow',
  title: 'ServiceNow',
  docs: 'https://www.servicenow.com/docs/bundle/api-reference/page/integrate/inbound-rest/concept/c_TableAPI.html',
  env,
  http: (settings) => ({
    baseUrl: instanceOf(settings.SERVICENOW_INSTANCE),
    auth: authOf(settings),
    paginate: rows,
    pace: resetHeader('x-ratelimit-remaining', 'x-ratelimit-reset', 'x-ratelimit-limit', 3600),
    // More wait in the instance's queue for integrations, which others use too.
    concurrency: 4,
  }),
  errors: [
    { status: 404, body: /No Record found/i, as: 'empty' },
    // A table that takes too long ends in the middle, with status 200 and the error behind the records.
    { body: /transaction cancell?ed|maximum execution time/i, as: 'retry', because: 'the instance ran out of time' },
    { status: 200, body: /"status":"failure"/, as: 'failed', because: 'the answer holds an error' },
  ],
  resources: {
    cmdb_ci: {
      about: 'Configuration items of every class',
      path: `${API}/cmdb_ci`,
      query: rowsOf,
      records: 'result',
      total: { header: TOTAL },
      id: 'sys_id',
      needs: 'cmdb_read or itil',
      secrets: SECRETS,
    },
    cmdb_ci_service: {
      about: 'Services in the configuration database',
      path: `${API}/cmdb_ci_service`,
      query: rowsOf,
      records: 'result',
      total: { header: TOTAL },
      id: 'sys_id',
      needs: 'cmdb_read or itil',
      secrets: SECRETS,
    },
    cmdb_rel_ci: {
      about: 'Relations between configuration items, by sys_id',
      path: `${API}/cmdb_rel_ci`,
      query: rowsOf,
      records: 'result',
      total: { header: TOTAL },
      id: 'sys_id',
      needs: 'cmdb_read or itil',
      secrets: SECRETS,
    },
    records: {
      about: 'Records of the tables in SERVICENOW_TABLES',
      path: `${API}/{table}`,
      id: ['_table', 'sys_id'],
      needs: 'read access to each of the tables',
      secrets: SECRETS,
      adds: { _table: 'the table it is of' },
      collect: tables,
    },
  },
});

/** Every column, references as plain ids, in an order that stays. */
function rowsOf({ SERVICENOW_QUERY: filter, SERVICENOW_PAGE_SIZE: size }: Settings): Query {
  return {
    sysparm_query: `${filter === '' ? '' : `${filter}^`}ORDERBYsys_id`,
    sysparm_display_value: false,
    sysparm_exclude_reference_link: true,
    sysparm_limit: size,
    sysparm_offset: 0,
  };
}

async function* tables({ settings, http, expect }: Context<Settings>): AsyncGenerator<Page> {
  let declared = 0;
  for (const table of new Set(settings.SERVICENOW_TABLES)) {
    if (!/^[a-z0-9_]+$/.test(table)) throw new CollectError('config', `SERVICENOW_TABLES: '${table}' is no table`);
    const path = `${API}/${table}`;
    let total: number | undefined;
    let came = 0;
    const edit = keeping({ _table: table });
    for await (const page of http.pages({ path, query: rowsOf(settings), records: 'result', edit })) {
      const told = header(page.headers, TOTAL);
      total = told === undefined ? total : Number(told);
      came += page.records;
      yield page;
    }
    if (total !== undefined && came < total)
      throw new CollectError('incomplete', `${path}: ${came} records came of ${total} that the vendor declared`);
    declared += total ?? came;
    expect(declared);
  }
}

function instanceOf(instance: string): URL {
  return baseUrl(/^[\w-]+$/.test(instance) ? `${instance}.service-now.com` : instance);
}

function authOf(settings: Settings): Auth {
  const { SERVICENOW_USERNAME: username, SERVICENOW_PASSWORD: password } = settings;
  const { SERVICENOW_CLIENT_ID: id, SERVICENOW_CLIENT_SECRET: key } = settings;
  if (settings.SERVICENOW_AUTH_TYPE === 'basic') return basic(username, password);
  if (id === undefined || key === undefined) {
    throw new CollectError('config', 'OAuth needs SERVICENOW_CLIENT_ID and SERVICENOW_CLIENT_SECRET', {
      mend: 'set both, or SERVICENOW_AUTH_TYPE=basic',
    });
  }
  const form = { grant_type: 'password', client_id: id, client_secret: key, username, password };
  return clientCredentials({ path: '/oauth_token.do', form });
}
