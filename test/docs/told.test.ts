import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { root } from '../support/build.ts';
import { codeOf, documentation, fencesOf } from '../support/pages.ts';
import { program } from '../support/program.ts';
import { temporaryFolder } from '../support/run.ts';

const pages = new Map((await documentation()).map(({ path, text }) => [path, text]));

interface Told {
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

type IsGenuine = (headers: Told['headers'], body: string, secret: string, now?: number) => boolean;

/** A receiver of webhooks. */
async function receiver() {
  const told: Told[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      told.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
      response.end();
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return { told, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` };
}

test('what a page gives to check a webhook with, checks what is sent; metrics are those of the page', async () => {
  const vendor = await startVendor(okta, { scale: 20, pageSize: 10, faults: [{ name: '403', resource: 'devices' }] });
  onTestFinished(() => vendor.close());
  const folder = await temporaryFolder();
  const { told, url } = await receiver();
  const secret = `whsec_${Buffer.from('a key of twenty bytes').toString('base64')}`;
  const { code } = await program(folder, ['run', '--only', 'okta.users,okta.devices'], {
    ...vendor.env,
    STORE_FILE: './data/%TAG.json',
    NOTIFY_WEBHOOK_URL: url,
    NOTIFY_WEBHOOK_SECRET: secret,
    CYBER_COLLECT_PROMETHEUS_FILE: './%TENANCY.prom',
  }).ended;
  expect(code).toBe(3);

  const page = pages.get('docs/notifications.md') ?? '';
  const block = fencesOf(page).find(({ language }) => language === 'js')?.text ?? '';
  await writeFile(join(folder, 'check.mjs'), block);
  const { isGenuine } = (await import(pathToFileURL(join(folder, 'check.mjs')).href)) as { isGenuine: IsGenuine };
  expect(told).toHaveLength(2);
  for (const { headers, body } of told) {
    expect(isGenuine(headers, body, secret)).toBe(true);
    expect(isGenuine(headers, `${body} `, secret)).toBe(false);
    expect(isGenuine(headers, body, 'whsec_YW5vdGhlcg==')).toBe(false);
    expect(isGenuine(headers, body, secret, Date.now() + 3_600_000)).toBe(false);
  }
  const [begun, ended] = told.map(({ body }) => JSON.parse(body) as Record<string, unknown>);
  const shown = fencesOf(page).find(({ text }) => text.startsWith('{"event":"run.started"'))?.text ?? '{}';
  expect(Object.keys(begun ?? {})).toEqual(Object.keys(JSON.parse(shown) as object));
  const named = /At its end `event` is [^\n]+/.exec(page)?.[0] ?? '';
  for (const key of Object.keys(ended ?? {})) expect(named).toContain(`\`${key}\``);
  const [one] = (ended?.wrong ?? []) as readonly object[];
  for (const key of Object.keys(one ?? {})) expect(named).toContain(`\`${key}\``);

  const metrics = await readFile(join(folder, 'default.prom'), 'utf8');
  const families = [...metrics.matchAll(/^# TYPE (\S+) gauge$/gm)].map(([, name]) => name ?? '');
  const words = new Set(codeOf(pages.get('docs/telemetry.md') ?? ''));
  expect(families.length).toBeGreaterThan(15);
  expect(families.filter((name) => !words.has(name))).toEqual([]);
}, 120_000);

test('metrics of OpenTelemetry are those of the page', async () => {
  const source = await readFile(join(root, 'src', 'report', 'telemetry.ts'), 'utf8');
  const counters = [...source.matchAll(/= counter\('(\w+)'/g)].map(([, name]) => `cyber_collect.${name}`);
  const others = [...source.matchAll(/create(?:Histogram|Gauge)\('([\w.]+)'/g)].map(([, name]) => name ?? '');
  const words = codeOf(pages.get('docs/telemetry.md') ?? '');
  const part = words.filter((word) => /^cyber_collect\.[a-z_.]+$/.test(word));
  expect(new Set(part)).toEqual(new Set([...counters, ...others]));
});
