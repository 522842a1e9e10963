import { describe, expect, test } from 'vitest';
import slack from '../../src/collectors/src_slack.ts';
import vendor from '../../src/simulator/vendor_slack.ts';
import { collectOnce, interruptedRun, resultOf, storedEvents, storedLines } from '../support/run.ts';
import { json, type Route, serve } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor);

const env = (origin: URL) => ({ SLACK_URL: `${origin.origin}/api`, SLACK_TOKEN: 'xoxp-t' });
const methodOf = (url: URL) => url.pathname.replace('/api/', '');

/** A run of some datasets over a server that answers so. */
async function run(only: readonly string[], route: Route, more: Readonly<Record<string, string>> = {}) {
  const { origin, received } = await serve(route);
  const result = await collectOnce({ env: { ...env(origin), ...more }, only, deadline: 30 });
  return { ...result, received };
}

describe('the base URLs', () => {
  const settings = { SLACK_TOKEN: 't', SLACK_LOG_DAYS: 90 };

  test.each([
    ['https://slack.com/api', undefined, 'https://slack.com/api', 'https://api.slack.com/audit/v1'],
    ['slack-gov.com', undefined, 'https://slack-gov.com/api', 'https://api.slack-gov.com/audit/v1'],
    ['https://gate.example/api', undefined, 'https://gate.example/api', 'https://gate.example/audit/v1'],
    ['https://gate.example/api', 'https://a.example/v1', 'https://gate.example/api', 'https://a.example/v1'],
  ])('%s and %s', (url, audit, base, other) => {
    const given = { ...settings, SLACK_URL: url, ...(audit === undefined ? {} : { SLACK_AUDIT_URL: audit }) };
    const http = slack.http?.(given);
    expect(http?.baseUrl.href).toBe(base);
    expect(http?.others?.map(({ href }) => href)).toEqual([other]);
  });
});

test('every resource comes whole and byte for byte, and nothing twice', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['slack'] });
  expect(summary.datasets.filter(({ verdict }) => verdict !== 'complete')).toEqual([]);
  expect(summary.exit_code).toBe(0);
  for (const { resource, tag } of summary.datasets) {
    const lines = (await (resource === 'audit_logs' ? storedEvents : storedLines)(folder, tag)) ?? [];
    expect(lines.map((line) => line.replace(/,"_channel_id":"\w+"}$/, '}'))).toEqual(running.truth(resource));
  }
});

test('an organization with nothing in it is empty', async () => {
  const { summary } = await run(['slack.users', 'slack.channel_members', 'slack.audit_logs'], ({ url }, response) => {
    const list = { 'admin.users.list': 'users', 'admin.conversations.search': 'conversations' }[methodOf(url)];
    json(response, { ok: true, [list ?? 'entries']: [], total_count: 0, response_metadata: { next_cursor: '' } });
  });
  expect(summary.exit_code).toBe(0);
  for (const { verdict } of summary.datasets) expect(verdict).toBe('empty');
});

test('a page without users leads on, and so does the end of the active ones', async () => {
  const { folder, received } = await run(['slack.users'], ({ url }, response) => {
    const [active, at] = [url.searchParams.get('is_active'), url.searchParams.get('cursor')];
    const users = active === 'false' ? [{ id: 'U2', is_active: false }] : at === null ? [] : [{ id: 'U1' }];
    json(response, {
      ok: true,
      users,
      response_metadata: { next_cursor: active === 'true' && at === null ? 'n=' : '' },
    });
  });
  expect(await storedLines(folder, 'slack_users')).toEqual(['{"id":"U1"}', '{"id":"U2","is_active":false}']);
  expect(received.map(({ url }) => url.searchParams.get('cursor'))).toEqual([null, 'n=', null]);
  expect(received[0]?.headers.authorization).toBe('Bearer xoxp-t');
  expect(received[0]?.url.search).not.toContain('xoxp');
});

test.each([3, 8])('a run that was interrupted goes on in the pass it was in, after %i requests', async (requests) => {
  const running = await start({ pageSize: 10, latencyMs: 30 });
  const choice = { env: running.env, only: ['slack.users'] };
  const { folder } = await interruptedRun(choice, () => running.requests.length >= requests);
  const { summary } = await collectOnce({ ...choice, folder });
  expect(summary.datasets).toMatchObject([{ verdict: 'complete', resumed: true }]);
  expect(await storedLines(folder, 'slack_users')).toEqual(running.truth('users'));
  expect(running.requests.filter(({ path }) => !path.includes('cursor=')).length).toBe(2);
});

test('the cursor of the search of channels is read from either place, its total is held against what came', async () => {
  const page = (at: string | null) => {
    if (at === null) return { conversations: [{ id: 'C1' }], next_cursor: 'a', total_count: 3 };
    if (at === 'a') return { conversations: [{ id: 'C2' }], response_metadata: { next_cursor: 'b' }, total_count: 3 };
    return { conversations: [], next_cursor: '', total_count: 3 };
  };
  const { summary } = await run(['slack.channels'], ({ url }, response) =>
    json(response, { ok: true, ...page(url.searchParams.get('cursor')) }),
  );
  expect(resultOf(summary, 'slack_channels')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
  expect(resultOf(summary, 'slack_channels').reason).toContain('2 records came of 3');
});

test('addresses that post into a channel are not stored', async () => {
  const found = [{ id: 'C1', channel_email_addresses: [{ address: 'canary@acme.slack.example' }], name: 'a' }];
  const { folder } = await run(['slack.channels'], (_, response) =>
    json(response, { ok: true, conversations: found, total_count: 1, next_cursor: '' }),
  );
  expect(await storedLines(folder, 'slack_channels')).toEqual(['{"id":"C1","name":"a"}']);
});

describe('members of channels', () => {
  const over = (unseen: readonly string[]): Route => {
    return ({ url }, response) => {
      if (methodOf(url) === 'admin.conversations.search')
        return json(response, { ok: true, conversations: [{ id: 'C1' }, { id: 'C2' }], total_count: 2 });
      if (unseen.includes(url.searchParams.get('channel') ?? ''))
        return json(response, { ok: false, error: 'channel_not_found' });
      return json(response, { ok: true, members: ['U1', 'U2'], response_metadata: { next_cursor: '' } });
    };
  };

  test('that may not be seen are left out and told', async () => {
    const { summary, folder, said } = await run(['slack.channel_members'], over(['C2']));
    expect(summary.exit_code).toBe(0);
    expect(await storedLines(folder, 'slack_channel_members')).toEqual([
      '{"user_id":"U1","_channel_id":"C1"}',
      '{"user_id":"U2","_channel_id":"C1"}',
    ]);
    expect(said.join('\n')).toContain('may not see the members of 1 of 2 channels');
  });

  test('of which none may be seen are denied', async () => {
    const { summary } = await run(['slack.channel_members'], over(['C1', 'C2']));
    expect(resultOf(summary, 'slack_channel_members').verdict).toBe('denied');
  });
});

test('an organization’s workspace is named to the methods that need one, and to no other', async () => {
  const { received } = await run(
    ['slack.user_groups', 'slack.apps', 'slack.workspaces', 'slack.users'],
    ({ url }, response) =>
      json(response, { ok: true, usergroups: [], approved_apps: [], users: [], team: { id: 'T1' } }, 200, {
        'x-method': methodOf(url),
      }),
    { SLACK_TEAM_ID: 'T1' },
  );
  const asked = new Map(received.map(({ url }) => [methodOf(url), url.searchParams]));
  expect(asked.get('usergroups.list')?.get('team_id')).toBe('T1');
  expect(asked.get('admin.apps.approved.list')?.get('team_id')).toBe('T1');
  expect(asked.get('team.info')?.get('team')).toBe('T1');
  expect(asked.get('admin.users.list')?.has('team_id')).toBe(false);
});

describe('an answer with status 200 that is an error', () => {
  test.each([
    ['invalid_auth', 'failed', 'Permission denied', 4],
    ['token_revoked', 'failed', 'Permission denied', 4],
    ['missing_scope', 'denied', 'Permission denied', 3],
    ['feature_not_enabled', 'denied', 'Not licensed', 3],
    ['not_allowed_token_type', 'denied', 'Permission denied', 3],
    ['missing_argument', 'failed', 'Vendor answer not understood', 3],
    ['something_new', 'failed', 'Vendor answer not understood', 3],
  ])('%s', async (error, verdict, title, code) => {
    const { summary } = await run(['slack.user_groups'], (_, response) =>
      json(response, { ok: false, error, needed: 'usergroups:read', provided: 'identify' }),
    );
    expect(resultOf(summary, 'slack_user_groups')).toMatchObject({ verdict, title });
    expect(summary.exit_code).toBe(code);
  });

  test('missing_scope on one resource leaves the others alone and names what is needed', async () => {
    const { summary } = await run(['slack.user_groups', 'slack.teams'], ({ url }, response) =>
      json(
        response,
        methodOf(url) === 'admin.teams.list'
          ? { ok: false, error: 'missing_scope', needed: 'admin.teams:read' }
          : { ok: true, usergroups: [{ id: 'S1' }] },
      ),
    );
    expect(resultOf(summary, 'slack_teams')).toMatchObject({ verdict: 'denied' });
    expect(resultOf(summary, 'slack_teams').mend).toContain('admin.teams:read');
    expect(resultOf(summary, 'slack_user_groups').verdict).toBe('complete');
  });

  test('a fault passes, and an invalid cursor begins the list anew', async () => {
    const { summary, received } = await run(['slack.teams'], ({ url }, response, nth) => {
      if (nth === 1) return json(response, { ok: false, error: 'internal_error' });
      if (nth === 3) return json(response, { ok: false, error: 'invalid_cursor' });
      const more = url.searchParams.has('cursor');
      json(response, {
        ok: true,
        teams: [{ id: more ? 'T2' : 'T1' }],
        response_metadata: { next_cursor: more ? '' : 'x' },
      });
    });
    expect(resultOf(summary, 'slack_teams')).toMatchObject({ verdict: 'complete', records: 2 });
    expect(received).toHaveLength(5);
  });
});

test('a method that is throttled is waited for, the others go on meanwhile', async () => {
  const times = new Map<string, number[]>();
  const { summary } = await run(['slack.user_groups', 'slack.teams'], ({ url }, response) => {
    const asked = times.get(methodOf(url)) ?? [];
    times.set(methodOf(url), [...asked, Date.now()]);
    if (methodOf(url) === 'usergroups.list') {
      if (asked.length === 0) return json(response, { ok: false, error: 'ratelimited' }, 429, { 'retry-after': '2' });
      return json(response, { ok: true, usergroups: [{ id: 'S1' }] });
    }
    const more = asked.length < 2;
    json(response, {
      ok: true,
      teams: [{ id: `T${asked.length}` }],
      response_metadata: { next_cursor: more ? `c${asked.length}` : '' },
    });
  });
  expect(summary.exit_code).toBe(0);
  const [first = 0, second = 0] = times.get('usergroups.list') ?? [];
  expect(second - first).toBeGreaterThanOrEqual(2000);
  expect(Math.max(...(times.get('admin.teams.list') ?? []))).toBeLessThan(second);
});

describe('audit logs', () => {
  test('go on behind the last run, without a gap and without repeats', async () => {
    const spans: (readonly [number, number])[] = [];
    const { origin } = await serve(({ url }, response) => {
      expect(url.pathname).toBe('/audit/v1/logs');
      const [oldest, latest] = [Number(url.searchParams.get('oldest')), Number(url.searchParams.get('latest'))];
      spans.push([oldest, latest]);
      json(response, { entries: [{ id: `e${spans.length}`, date_create: latest }] });
    });
    const choice = { env: { ...env(origin), SLACK_LOG_DAYS: '2' }, only: ['slack.audit_logs'] };
    const { folder, summary } = await collectOnce(choice);
    expect(summary.exit_code).toBe(0);
    const [[oldest, latest] = [0, 0]] = spans;
    expect(latest - oldest).toBe(2 * 86_400);
    expect(Date.now() / 1000 - latest).toBeGreaterThanOrEqual(300);
    await collectOnce({ ...choice, folder });
    // The second run came at once: there is a second to read, or nothing.
    if (spans[1] !== undefined) expect(spans[1][0]).toBe(latest + 1);
    expect(await storedEvents(folder, 'slack_audit_logs')).toHaveLength(spans.length);
  });

  test('need an Enterprise plan', async () => {
    const { summary } = await run(['slack.audit_logs'], (_, response) =>
      json(response, { ok: false, error: 'team_not_authorized' }, 403),
    );
    expect(resultOf(summary, 'slack_audit_logs')).toMatchObject({ verdict: 'denied', title: 'Not licensed' });
  });
});
