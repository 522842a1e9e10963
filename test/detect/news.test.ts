import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { program } from '../support/program.ts';
import { temporaryFolder } from '../support/run.ts';
import { json, serve } from '../support/server.ts';

const LINE = 'Mar  1 10:00:00 web1 <script>alert(1)</script> 203.0.113.7 ';

async function folderWith(): Promise<string> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'list.txt'), '203.0.113.7\nevil.example\n');
  await writeFile(join(folder, 'app.log'), `${LINE}${'x'.repeat(500)} canary\nevil.example\nevil.example again\n`);
  return folder;
}

function launch(folder: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return program(folder, args, { HOME: folder, STORE_FILE: './data/%TAG.ndjson', ...env }).ended;
}

const DETECT = ['detect', '--from', 'lines:*.log', '--indicators', 'list.txt'];

test('alerts are told in one message with counts, and no text of an event', async () => {
  const folder = await folderWith();
  const hook = await serve((_, response) => json(response, {}));
  const env = {
    SLACK_WEBHOOK_URL: new URL('/slack', hook.origin).href,
    NOTIFY_WEBHOOK_URL: new URL('/hook', hook.origin).href,
    NOTIFY_HEARTBEAT_URL: new URL('/beat', hook.origin).href,
    NOTIFY_ON: 'problems',
  };
  expect((await launch(folder, DETECT, env)).code).toBe(0);
  const bodies = new Map(hook.received.map(({ url, body }) => [url.pathname, body]));
  expect([...bodies.keys()].sort()).toEqual(['/hook', '/slack']);
  expect(JSON.parse(bodies.get('/hook') ?? '')).toMatchObject({
    ...{ event: 'alerts.raised', tenancy: 'default', alerts: 3, events: 3 },
    by: [
      { indicator: 'evil.example', kind: 'domain', list: 'list.txt', alerts: 2 },
      { indicator: '203.0.113.7', alerts: 1 },
    ],
  });
  const { text } = JSON.parse(bodies.get('/slack') ?? '') as { text: string };
  expect(text).toContain('3 alerts in 3 events');
  expect(text).toContain('- evil.example (domain, list.txt): 2');
  expect([...bodies.values()].join()).not.toContain('script');
  // Nothing new is nothing to tell.
  await launch(folder, DETECT, env);
  expect(hook.received).toHaveLength(2);
});

test('the report shows what was found, escaped and short', async () => {
  const folder = await folderWith();
  await launch(folder, DETECT);
  expect((await launch(folder, ['report', '--html', 'page.html'])).code).toBe(0);
  const page = await readFile(join(folder, 'page.html'), 'utf8');
  expect(page).toContain('<h2 id="detections">Indicators and rules</h2>');
  expect(page).toContain('<th scope="row">evil.example</th>');
  expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
  expect(page).not.toContain('<script');
  expect(page).not.toContain('canary');
  expect(page).toMatch(/<caption>Days of default, the newest first<\/caption>/);
});
