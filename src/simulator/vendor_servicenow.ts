import { address, digits, hex, moment, person, pick, text } from './invent.ts';
import { offset, type Paging, type Request, single } from './paging.ts';
import { defineVendor } from './vendor.ts';

const CLIENT = 'canary0servicenow0client0000000a';
const SECRET = 'canary-servicenow-secret-0123456789';
const USER = 'svc.collect';
const PASSWORD = 'canary-servicenow-password-Zürich';
const TABLES = ['incident', 'sys_user_group'];

/** Sorted by sys_id: the index stands in front. */
const sysId = (index: number, salt: number) => index.toString(16).padStart(8, '0') + hex(index, salt, 24);

function stamps(index: number): object {
  const when = (salt: number) => moment(index, salt).slice(0, 19).replace('T', ' ');
  return { sys_created_on: when(1), sys_updated_on: when(2), sys_created_by: person(index).mail, sys_mod_count: '3' };
}

function item(salt: number, kind: string): (index: number) => string {
  return (index) => {
    const record = {
      sys_id: sysId(index, salt),
      sys_class_name: kind,
      name: `${pick(['srv-zürich', 'ホスト', 'node "A"\\1'], index, 3)}-${index}`,
      ip_address: address(index, 4),
      serial_number: hex(index, 5, 12).toUpperCase(),
      operational_status: pick(['1', '2', '6'], index, 6),
      assigned_to: index % 3 === 0 ? '' : hex(index, 7, 32),
      disk_space: digits(String(9_007_199_254_740_993n + BigInt(index) * 2n)),
      comments: index % 4 === 0 ? 'first line\nsecond\tline' : '',
      ...stamps(index),
    };
    return text(record, index);
  };
}

function relation(index: number): string {
  const record = {
    sys_id: sysId(index, 12),
    parent: sysId(index, 10),
    child: sysId(index + 1, 10),
    type: pick([hex(1, 13, 32), hex(2, 13, 32)], index, 14),
    ...stamps(index),
  };
  return text(record, index);
}

const counted = offset({ as: 'sysparm_offset', limit: 'sysparm_limit', max: 10_000 });

/** Links and the total stand in headers. */
const rows: Paging = {
  ...counted,
  answer(ask) {
    const { request, session, records, fault } = ask;
    const reply = counted.answer(ask);
    const total = fault?.name === 'empty-list' ? 0 : records.count + (fault?.name === 'wrong-total' ? 7 : 0);
    const asked = Number(request.query.get('sysparm_limit'));
    const reached = Number(request.query.get('sysparm_offset')) + Math.min(asked, session.pageSize);
    const query = new URLSearchParams(request.query);
    query.set('sysparm_offset', String(reached));
    const link = `<${session.origin}${request.path}?${query}>;rel="next"`;
    const more = reached < total && fault?.name !== 'empty-list';
    return { ...reply, headers: { 'x-total-count': String(total), ...(more ? { link } : {}) } };
  },
};

const token = single('none', ({ request, session }) => {
  const form = new URLSearchParams(request.body);
  const given = [form.get('grant_type'), form.get('client_id'), form.get('client_secret'), form.get('username')];
  const right = given.join(' ') === `password ${CLIENT} ${SECRET} ${USER}` && form.get('password') === PASSWORD;
  if (!right) return { status: 401, body: '{"error_description":"access_denied","error":"server_error"}' };
  const life = { refresh_token: 'none', scope: 'useraccount', token_type: 'Bearer', expires_in: 1799 };
  return { status: 200, body: JSON.stringify({ access_token: session.issue(), ...life }) };
});

function sorted({ query }: Request): boolean {
  return (
    /(^|\^)ORDERBYsys_id$/.test(query.get('sysparm_query') ?? '') &&
    query.get('sysparm_exclude_reference_link') === 'true' &&
    query.get('sysparm_display_value') === 'false' &&
    /^\d+$/.test(query.get('sysparm_offset') ?? '')
  );
}

const table = (name: string, at: (index: number) => string) => ({
  path: `/api/now/table/${name}`,
  resource: name,
  paging: rows,
  total: true,
  when: sorted,
  records: (scale: number) => ({ count: scale, at }),
  wrap: (array: string) => `{"result":${array}}`,
});

export default defineVendor({
  name: 'servicenow',
  env: (origin) => ({
    SERVICENOW_INSTANCE: origin,
    SERVICENOW_USERNAME: USER,
    SERVICENOW_PASSWORD: PASSWORD,
    SERVICENOW_CLIENT_ID: CLIENT,
    SERVICENOW_CLIENT_SECRET: SECRET,
    SERVICENOW_TABLES: TABLES.join(','),
  }),
  credential: ({ headers }) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
  error: (_, what) => JSON.stringify({ error: { message: what, detail: null }, status: 'failure' }),
  limitHeaders: ({ limit, resetAt, over }) => ({
    'x-ratelimit-limit': String(limit),
    'x-ratelimit-reset': String(Math.ceil(resetAt / 1000)),
    ...(over ? { 'retry-after': String(Math.max(1, Math.ceil((resetAt - Date.now()) / 1000))) } : {}),
  }),
  routes: [
    { path: '/oauth_token.do', method: 'POST', resource: 'token', paging: token },
    table('cmdb_ci', item(10, 'cmdb_ci_linux_server')),
    table('cmdb_ci_service', item(11, 'cmdb_ci_service_auto')),
    table('cmdb_rel_ci', relation),
    {
      path: '/api/now/table/{table}',
      resource: 'records',
      paging: rows,
      total: true,
      when: sorted,
      parents: () => TABLES.map((name) => ({ table: name })),
      records: (scale, { params }) => {
        const salt = TABLES.indexOf(params.table ?? '');
        return salt < 0 ? undefined : { count: Math.ceil(scale / 2), at: item(20 + salt, params.table ?? '') };
      },
      wrap: (array) => `{"result":${array}}`,
    },
  ],
});
