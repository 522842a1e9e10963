import type { Reply } from './faults.ts';
import { address, digits, mix, moment, person, pick, text } from './invent.ts';
import { type Ask, cursor, type Page, type Paging, pageNumber, type Records, type Request } from './paging.ts';
import { defineVendor } from './vendor.ts';

const TOKEN = 'canary-knowbe4.eyJ0eXAiOiJKV1QifQ.Zm9vYmFyYmF6cXV4';

const testsOf = (scale: number) => Math.max(4, Math.ceil(scale / 12));
const pstId = (index: number) => 509_000 + index;

function named(index: number) {
  const { first, last, mail } = person(index);
  return { id: 667_500 + index, first_name: first, last_name: last, email: mail };
}

function enrollment(index: number): string {
  const record = {
    enrollment_id: digits(String(9_007_199_254_740_993n + BigInt(index) * 2n)),
    content_type: 'Uploaded Policy',
    module_name: pick(['Politique d’usage', 'Phishing "Basics"', 'Ethik\\Recht'], index, 1),
    user: named(index),
    campaign_name: `New Employees №${index % 4}`,
    enrollment_date: moment(index, 2),
    completion_date: index % 3 === 0 ? null : moment(index, 3),
    status: pick(['Passed', 'In Progress', 'Not Started'], index, 4),
    time_spent: mix(index, 5) % 4000,
    policy_acknowledged: false,
  };
  return text(record, index);
}

function campaign(index: number): string {
  const record = {
    campaign_id: 4000 + index,
    name: `Einführung ${index}`,
    groups: [{ group_id: 0, name: 'All Users' }],
    status: pick(['Completed', 'In Progress'], index, 6),
    content: [{ store_purchase_id: 7, content_type: 'Store Purchase', name: '«Kevin»\n2026' }],
    duration_type: 'Specific End Date',
    start_date: moment(index, 7),
    completion_percentage: index % 101,
  };
  return text(record, index);
}

function user(index: number): string {
  const record = {
    ...named(index),
    employee_number: `${1000 + index}`,
    phish_prone_percentage: digits('14.235'),
    current_risk_score: digits('45.742'),
    groups: [3264, 1 + (index % 9)],
    aliases: [`alias_${index}@acme.example`],
    status: index % 8 === 0 ? 'archived' : 'active',
    joined_on: moment(index, 8),
    location: pick(['Zürich', 'Łódź', '東京'], index, 9),
  };
  return text(record, index);
}

function test(index: number): string {
  const record = {
    campaign_id: 3000 + (index % 5),
    pst_id: pstId(index),
    status: 'Closed',
    name: `Corporate Test “${index}”`,
    groups: [{ group_id: 16_342, name: 'Comptabilité' }],
    phish_prone_percentage: digits('0.50'),
    started_at: moment(index, 10),
    categories: [{ category_id: 4237, name: 'Current Events' }],
    template: { id: 11_428, name: 'CNN Alert: Breaking News' },
    delivered_count: 60 + index,
    clicked_count: index % 9,
  };
  return text(record, index);
}

function recipient(parent: number, index: number): string {
  const record = {
    recipient_id: 3_077_742 + parent * 1000 + index,
    pst_id: pstId(parent),
    user: named(index),
    template: { id: 2, name: 'Your "Amazon" Order' },
    scheduled_at: moment(index, 11),
    delivered_at: moment(index, 12),
    clicked_at: index % 7 === 0 ? moment(index, 13) : null,
    reported_at: null,
    ip: address(index, 14),
    browser: 'Chrome',
  };
  return text(record, parent + index);
}

const options = { max: 500, fallback: 100, limit: 'per_page' };
const byCursor = cursor({ ...options, as: 'cursor' });
const byNumber = pageNumber({ ...options, as: 'page' });

/** `cursor=0` begins a list that goes on by cursors. */
function begun(request: Request): Request {
  const query = new URLSearchParams(request.query);
  if (query.get('cursor') === '0') query.delete('cursor');
  return { ...request, query };
}

/** By cursors, or with `paging=numbers` as it was before: then a cursor asked for is not known. */
const paging: Paging = {
  kind: 'cursor',
  page: (request, session) =>
    session.settings.paging === 'numbers' ? byNumber.page(request, session) : byCursor.page(begun(request), session),
  answer(ask: Ask): Reply {
    if (ask.session.settings.paging !== 'numbers') return byCursor.answer({ ...ask, request: begun(ask.request) });
    return byNumber.answer({ ...ask, route: {} });
  },
};

function wrap(array: string, { next, limit }: Page): string {
  return `{"data":${array},"pagination":{"nextCursor":${JSON.stringify(next ?? null)},"perPage":${limit}}}`;
}

function recipients(scale: number, { params }: Request): Records | undefined {
  const parent = Number(params.id) - pstId(0);
  if (!(parent >= 0 && parent < testsOf(scale))) return undefined;
  const count = parent === 1 ? 0 : (mix(parent, 15) % 12) + (parent === 0 ? 60 : 0);
  return { count, at: (index) => recipient(parent, index) };
}

function* tests(scale: number): Generator<{ id: string }> {
  for (let index = 0; index < testsOf(scale); index += 1) yield { id: String(pstId(index)) };
}

const list = (at: (index: number) => string) => (scale: number) => ({ count: scale, at });

export default defineVendor({
  name: 'knowbe4',
  env: (origin) => ({ KNOWBE4_ENDPOINT: `${origin}/v1/training/enrollments`, KNOWBE4_TOKEN: TOKEN }),
  credential: ({ headers }) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
  key: TOKEN,
  error: (status, what) => JSON.stringify({ status, message: what }),
  limitHeaders: ({ resetAt }) => ({ 'retry-after': String(Math.max(0, Math.ceil((resetAt - Date.now()) / 1000))) }),
  routes: [
    { path: '/v1/training/enrollments', resource: 'enrollments', paging, records: list(enrollment), wrap },
    {
      path: '/v1/training/campaigns',
      resource: 'training_campaigns',
      paging,
      records: (scale) => ({ count: Math.max(4, Math.ceil(scale / 3)), at: campaign }),
      wrap,
    },
    { path: '/v1/users', resource: 'users', paging, records: list(user), wrap },
    {
      path: '/v1/phishing/security_tests',
      resource: 'psts',
      paging,
      records: (scale) => ({ count: testsOf(scale), at: test }),
      wrap,
    },
    {
      path: '/v1/phishing/security_tests/{id}/recipients',
      resource: 'pst_recipients',
      paging,
      records: recipients,
      parents: tests,
      wrap,
    },
  ],
});
