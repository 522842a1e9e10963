import { createHmac } from 'node:crypto';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { FaultName } from '../../src/simulator/faults.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { formsOf } from '../support/forms.ts';
import { runIn } from '../support/notified.ts';
import { stateOf, temporaryFolder } from '../support/run.ts';
import { json, serve } from '../support/server.ts';
import { serveMail } from '../support/smtp.ts';

async function vendorWith(fault?: FaultName, resource = 'groups') {
  const faults = fault === undefined ? {} : { faults: [{ name: fault, resource }] };
  const vendor = await startVendor(okta, { scale: 20, ...faults });
  onTestFinished(() => vendor.close());
  return vendor;
}

/** A server that takes everything and tells what it was told. */
async function listener(status = 200) {
  const server = await serve((_, response) => json(response, {}, status));
  return { ...server, url: (path: string) => new URL(path, server.origin).href };
}

interface Told {
  readonly event: string;
  readonly text: string;
  readonly changed: boolean;
  readonly wrong: readonly { what: string; message: string; mend: string; since: string }[];
  readonly mended: readonly { what: string }[];
  readonly run: { exit_code: number; started_at: string; datasets: readonly { tag: string }[] };
}

const told = ({ body }: { readonly body: string }) => JSON.parse(body) as Told;

describe('the webhook', () => {
  test('is told of start and end with the facts of the summary, signed', async () => {
    const [vendor, hook] = [await vendorWith('403'), await listener()];
    const key = `whsec_${Buffer.from('canary-signing-key').toString('base64')}`;
    const env = { ...vendor.env, NOTIFY_WEBHOOK_URL: hook.url('/in'), NOTIFY_WEBHOOK_SECRET: key };
    expect((await runIn(await temporaryFolder(), env)).code).toBe(3);
    expect(hook.received.map((request) => [request.method, told(request).event])).toEqual([
      ['POST', 'run.started'],
      ['POST', 'run.finished'],
    ]);
    const end = told(hook.received[1] ?? { body: '' });
    expect(end.run).toMatchObject({ exit_code: 3, datasets: [{ tag: 'okta_users' }, { tag: 'okta_groups' }] });
    expect(end.wrong).toEqual([
      {
        what: 'okta_groups',
        severity: 'ERROR',
        message: expect.stringContaining('denied: GET /api/v1/groups was answered with 403'),
        mend: 'give the credentials the permission okta.groups.read',
        since: end.run.started_at,
      },
    ]);
    for (const { headers, body } of hook.received) {
      const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
      const mac = createHmac('sha256', 'canary-signing-key').update(signed).digest('base64');
      expect(headers['webhook-signature']).toBe(`v1,${mac}`);
    }
    expect(new Set(hook.received.map(({ headers }) => headers['webhook-id'])).size).toBe(2);
  });

  test('is asked once more after a passing fault, and not where it refuses', async () => {
    const vendor = await vendorWith();
    const passing = await serve((_, response, nth) => json(response, {}, nth === 1 ? 503 : 200));
    const refusing = await listener(404);
    const first = await runIn(await temporaryFolder(), {
      ...vendor.env,
      NOTIFY_ON: 'change',
      NOTIFY_HEARTBEAT_URL: passing.origin.href,
    });
    expect(first.said).not.toContain('not told');
    expect(passing.received).toHaveLength(2);
    const second = await runIn(await temporaryFolder(), { ...vendor.env, NOTIFY_HEARTBEAT_URL: refusing.url('/x') });
    expect(second).toMatchObject({
      code: 0,
      said: expect.stringContaining('the heartbeat was not told: it answered 404'),
    });
    expect(refusing.received).toHaveLength(1);
  });

  test('is not sent over plain http to other machines, and a redirect is not followed', async () => {
    const vendor = await vendorWith();
    const there = await listener();
    const here = await serve((_, response) => response.writeHead(302, { location: there.origin.href }).end());
    const env = {
      ...vendor.env,
      NOTIFY_WEBHOOK_URL: 'http://hooks.example/in',
      NOTIFY_HEARTBEAT_URL: here.origin.href,
    };
    const { code, said } = await runIn(await temporaryFolder(), env);
    expect(code).toBe(0);
    expect(said).toContain('would send credentials unencrypted');
    expect(said).toContain('the heartbeat was not told: it answered 302');
    expect(there.received).toEqual([]);
  });
});

describe('NOTIFY_ON', () => {
  const events = (requests: readonly { readonly body: string }[]) =>
    requests.map((request) => [told(request).event, told(request).wrong?.map(({ what }) => what)]);

  test('change: told once when something goes wrong, once when it is mended, with since when it was so', async () => {
    const [good, bad, hook] = [await vendorWith(), await vendorWith('403'), await listener()];
    const folder = await temporaryFolder();
    const settings = { NOTIFY_WEBHOOK_URL: hook.url('/in'), NOTIFY_ON: 'change' };
    const heard: Told[][] = [];
    for (const vendor of [good, bad, bad, good, good]) {
      const before = hook.received.length;
      await runIn(folder, { ...vendor.env, ...settings });
      heard.push(hook.received.slice(before).map(told));
    }
    expect(heard.map((all) => all.map(({ wrong, mended }) => [wrong.length, mended.length]))).toEqual([
      [],
      [[1, 0]],
      [],
      [[0, 1]],
      [],
    ]);
    const since = heard[1]?.[0]?.run.started_at;
    expect(heard[3]?.[0]?.mended).toEqual([{ what: 'okta_groups', since }]);
  });

  test('change: a run of other datasets neither mends nor forgets what is wrong', async () => {
    const [bad, hook] = [await vendorWith('403'), await listener()];
    const folder = await temporaryFolder();
    const env = { ...bad.env, NOTIFY_WEBHOOK_URL: hook.url('/in'), NOTIFY_ON: 'change' };
    for (const only of [['okta.groups'], ['okta.users'], ['okta.groups']]) await runIn(folder, env, only);
    expect(events(hook.received)).toEqual([['run.finished', ['okta_groups']]]);
  });

  test('problems: told of each run with any, and since when', async () => {
    const [good, bad, hook] = [await vendorWith(), await vendorWith('403'), await listener()];
    const folder = await temporaryFolder();
    const settings = { NOTIFY_WEBHOOK_URL: hook.url('/in'), NOTIFY_ON: 'problems' };
    for (const vendor of [good, bad]) await runIn(folder, { ...vendor.env, ...settings });
    const standing = join(stateOf(folder), 'standing', 'default.json');
    const old = '2026-01-02T03:04:05Z';
    const first = told(hook.received[0] ?? { body: '' });
    expect(first).toMatchObject({ changed: true, wrong: [{ what: 'okta_groups', since: first.run.started_at }] });
    const wrong = JSON.stringify(first.run.started_at);
    const text = await readFile(standing, 'utf8');
    await writeFile(standing, text.replace(`denied": ${wrong}`, `denied": "${old}"`));
    await runIn(folder, { ...bad.env, ...settings });
    const [, second, ...more] = hook.received.map(told);
    expect(more).toEqual([]);
    expect(second).toMatchObject({ changed: false, wrong: [{ what: 'okta_groups', since: old }] });
  });

  test('a run that cannot begin is told, too; on change only once', async () => {
    const [vendor, hook, beats] = [await vendorWith(), await listener(), await listener()];
    const folder = await temporaryFolder();
    const env = {
      ...vendor.env,
      STORE_FILE: '%NOTHING.json',
      NOTIFY_WEBHOOK_URL: hook.url('/in'),
      NOTIFY_HEARTBEAT_URL: beats.url('/ping/canary'),
      NOTIFY_ON: 'change',
    };
    for (const _ of [1, 2]) expect((await runIn(folder, env)).code).toBe('config');
    const good = join(folder, '%TAG.json');
    expect((await runIn(folder, { ...env, STORE_FILE: good })).code).toBe(0);
    expect(hook.received.map(told)).toMatchObject([
      { changed: true, wrong: [{ what: 'store file', message: expect.stringContaining('%NOTHING') }], mended: [] },
      { changed: true, wrong: [], mended: [{ what: expect.stringContaining('store file') }] },
    ]);
    expect(beats.received.map(({ url }) => url.pathname)).toEqual([
      '/ping/canary/fail',
      '/ping/canary/fail',
      '/ping/canary',
    ]);
  });
});

describe('the heartbeat', () => {
  test.each([
    ['/ping/1', '/fail', '/ping/1/fail'],
    ['/ping/1?rid=7', '/fail', '/ping/1/fail?rid=7'],
    ['/push/1?status=up&msg=ok', '?status=down', '/push/1?status=down&msg=ok'],
    ['/ping/1', 'none', undefined],
  ])('%s with %s asks for %s where the run is not complete', async (path, suffix, expected) => {
    const [bad, beats] = [await vendorWith('403'), await listener()];
    const env = {
      ...bad.env,
      NOTIFY_HEARTBEAT_URL: beats.url(path),
      NOTIFY_HEARTBEAT_FAIL: suffix,
      NOTIFY_ON: 'change',
    };
    await runIn(await temporaryFolder(), env);
    await runIn(await temporaryFolder(), env, ['okta.users']);
    const asked = beats.received.map(({ method, url }) => `${method} ${url.pathname}${url.search}`);
    expect(asked).toEqual([...(expected === undefined ? [] : [`GET ${expected}`]), `GET ${path}`]);
  });
});

describe('e-mail', () => {
  const addresses = { NOTIFY_EMAIL_FROM: 'collect@acme.example', NOTIFY_EMAIL_TO: 'soc@acme.example, it@acme.example' };

  test('tells everyone at the end what is wrong, since when and what to do', async () => {
    const [bad, mail] = [await vendorWith('403'), await serveMail()];
    const env = { ...bad.env, ...addresses, NOTIFY_SMTP_URL: `smtp://robot:canary%2Dpass@127.0.0.1:${mail.port}` };
    const { code, said } = await runIn(await temporaryFolder(), env);
    expect([code, said.includes('not told')]).toEqual([3, false]);
    expect(mail.commands.filter((line) => /^(MAIL|RCPT)/.test(line))).toEqual([
      expect.stringContaining('<collect@acme.example>'),
      expect.stringContaining('<soc@acme.example>'),
      expect.stringContaining('<it@acme.example>'),
    ]);
    const login = mail.commands.find((line) => line.startsWith('AUTH PLAIN ')) ?? '';
    expect(Buffer.from(login.slice(11), 'base64').toString()).toBe('\0robot\0canary-pass');
    expect(mail.messages).toHaveLength(1);
    const text = (mail.messages[0] ?? '').replaceAll('=\n', '');
    expect(text).toMatch(/^Subject: cyber-collect ended for default with exit code 3: 1 of 2/m);
    expect(text).toContain('okta_groups: denied:');
    expect(text).toContain('(new). To mend: give the credentials the permission okta.groups.read');
  });

  test('a server that refuses is one warning, without what it wrote or the password', async () => {
    const mail = await serveMail((line) => (/^AUTH/.test(line) ? '535 no: robot canary-pass' : undefined));
    const env = { ...(await vendorWith()).env, ...addresses };
    const server = `smtp://robot:canary-pass@127.0.0.1:${mail.port}`;
    const { code, said, unredacted } = await runIn(await temporaryFolder(), { ...env, NOTIFY_SMTP_URL: server });
    expect(code).toBe(0);
    expect(said).toContain('e-mail was not told: EAUTH (535)');
    expect(formsOf('canary-pass').filter((form) => unredacted.join('\n').includes(form))).toEqual([]);
  });

  test('half set is exit 2 before any vendor is called, and says what is missing', async () => {
    const vendor = await vendorWith();
    const env = { ...vendor.env, NOTIFY_SMTP_URL: 'smtp://mail.example', NOTIFY_EMAIL_FROM: 'a@acme.example' };
    expect((await runIn(await temporaryFolder(), env)).code).toBe('config');
    expect(vendor.requests).toEqual([]);
  });
});

test.each([
  ['a webhook', async (silent: string) => ({ NOTIFY_WEBHOOK_URL: silent, NOTIFY_ON: 'problems' })],
  ['a heartbeat', async (silent: string) => ({ NOTIFY_HEARTBEAT_URL: silent })],
  [
    'a mail server',
    async () => ({
      NOTIFY_SMTP_URL: `smtp://127.0.0.1:${(await serveMail(undefined, true)).port}`,
      NOTIFY_EMAIL_FROM: 'a@acme.example',
      NOTIFY_EMAIL_TO: 'b@acme.example',
    }),
  ],
])('%s that never answers delays the run by a few seconds and changes nothing', async (_, settings) => {
  const bad = await vendorWith('403');
  const silent = await serve(() => undefined);
  const { code, ms, said } = await runIn(await temporaryFolder(), {
    ...bad.env,
    ...(await settings(silent.origin.href)),
  });
  expect(code).toBe(3);
  expect(said.match(/was not told/g)).toHaveLength(1);
  expect(ms).toBeLessThan(12_000);
});

test('what a vendor wrote calls nobody in Slack', async () => {
  const [vendor, hook] = [await vendorWith('html-forever'), await listener()];
  const env = { ...vendor.env, SLACK_WEBHOOK_URL: hook.url('/in'), OKTA_DOMAIN: vendor.env.OKTA_DOMAIN ?? '' };
  const folder = await temporaryFolder();
  await runIn(folder, { ...env, STORE_FILE: join(folder, '<!channel>', '%NOTHING.json') });
  const texts = hook.received.map(({ body }) => (JSON.parse(body) as { text: string }).text).join('\n');
  expect(texts).toContain('&lt;!channel&gt;');
  expect(texts).not.toContain('<!channel>');
});

describe('GitHub Actions', () => {
  test('has the run on the job’s page', async () => {
    const folder = await mkdtemp(join(await temporaryFolder(), 'job-'));
    const page = join(folder, 'summary.md');
    await writeFile(page, 'before\n');
    const bad = await vendorWith('403');
    await runIn(folder, { ...bad.env, GITHUB_ACTIONS: 'true', GITHUB_STEP_SUMMARY: page });
    const text = await readFile(page, 'utf8');
    expect(text).toMatch(/^before\n## cyber-collect ended for default with exit code 3: 1 of 2 datasets complete\n/);
    expect(text).toContain('- **okta\\_groups**: denied:');
    expect(text).toContain('| okta_users | complete | 20 |');
    await runIn(folder, { ...bad.env, GITHUB_STEP_SUMMARY: page });
    expect(await readFile(page, 'utf8')).toBe(text);
  });
});
