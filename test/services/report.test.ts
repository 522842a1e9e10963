import { execFile } from 'node:child_process';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import build, { root } from '../support/build.ts';
import { needed } from '../support/needed.ts';
import { denied, keepRun, resultFor } from '../support/records.ts';
import { temporaryFolder } from '../support/run.ts';
import { serve } from '../support/server.ts';

const HOSTILE = '<script>window.pwned=1</script>"\'><img src=x onerror=window.pwned=2>&lt;';

let browser: Browser;
let path: string;

beforeAll(async () => {
  await build();
  browser = await chromium.launch({ executablePath: needed('TEST_CHROMIUM'), args: ['--no-sandbox'] });
  path = await page();
});
afterAll(() => browser?.close());

/** A report of two tenancies with every fault there is, and names that are no friends. */
async function page(): Promise<string> {
  const folder = await temporaryFolder();
  const state = join(folder, 'state');
  const failed = { store: HOSTILE, at: '', records: 0, error: HOSTILE, mend: HOSTILE, waits: true as const };
  const drift = { new: [HOSTILE], vanished: ['b'], retyped: [{ field: 'c', from: ['string'], to: [HOSTILE] }] };
  for (let hours = 200; hours > 0; hours -= 8) {
    const records = 1000 + ((hours * 7919) % 90);
    const long = `${'crowdstrike_'.repeat(5)}vulnerabilities`;
    const datasets = [
      resultFor('okta_users', { records, requests: 1200, retries: 4, waited_ms: 90_000, duration_ms: 120_000 }),
      resultFor('okta_groups', hours < 40 ? denied : { records: 80 }),
      resultFor('mde_alerts', { records: hours, ...(hours === 8 ? { drift } : {}) }),
      resultFor(long, { records: 7 }),
      resultFor(HOSTILE, { ...denied, title: HOSTILE, reason: HOSTILE, mend: HOSTILE, stores: [failed] }),
    ];
    const problems = [{ id: HOSTILE, severity: 'ERROR' as const, where: HOSTILE, message: HOSTILE, mend: HOSTILE }];
    await keepRun(state, hours, datasets, { tenancy: 'acme', problems });
    await keepRun(state, hours, datasets.slice(0, 1), { tenancy: 'beta' });
  }
  await writeFile(join(state, 'runs', 'acme', '9999-<b>.json'), '{');
  await mkdir(join(state, 'outbox', 'acme', 's3', '001700000000000-x'), { recursive: true });
  const args = ['--', join(root, 'bin', 'cyber-collect.js'), 'report', '--html', 'page.html', '--max-age', '26h'];
  const env = { PATH: process.env.PATH ?? '', CYBER_COLLECT_STATE: state };
  await promisify(execFile)(process.execPath, args, { cwd: folder, env });
  return join(folder, 'page.html');
}

/** The page in a browser, with all that it asks for and complains of. */
async function opened(scheme: 'light' | 'dark', width = 1280) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height: 900 } });
  const shown: Page = await context.newPage();
  const [requests, complaints]: [string[], string[]] = [[], []];
  shown.on('request', (request) => requests.push(request.url()));
  shown.on('console', (message) => complaints.push(message.text()));
  shown.on('pageerror', (error) => complaints.push(error.message));
  await shown.goto(pathToFileURL(path).href);
  await shown.waitForLoadState('networkidle');
  return { shown, requests, complaints, close: () => context.close() };
}

/** Texts whose colour is too near to what is behind them: WCAG 2.2, 1.4.3. */
const FAINT = `(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if ((found[3] ?? 1) === 1) return found;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  for (let node; (node = walker.nextNode()); ) if (node.data.trim() !== '') texts.push(node.parentElement);
  const ratio = (element) => {
    const [a, b] = [channels(getComputedStyle(element).color), behind(element)].map(luminance).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const least = Math.min(...texts.map(ratio));
  const faint = texts.filter((one) => ratio(one) < 4.5).map((one) => one.className + ': ' + one.textContent.slice(0, 40));
  return { count: texts.length, least, faint };
})()`;

interface Contrast {
  readonly count: number;
  readonly least: number;
  readonly faint: readonly string[];
}

describe.each(['light', 'dark'] as const)('in %s', (scheme) => {
  test('asks nothing of any other place, and complains of nothing', async () => {
    const { requests, complaints, close } = await opened(scheme);
    expect(requests).toEqual([pathToFileURL(path).href]);
    expect(complaints).toEqual([]);
    await close();
  });

  test('every text can be told from what is behind it', async () => {
    const { shown, close } = await opened(scheme);
    const { count, least, faint } = await shown.evaluate<Contrast>(FAINT);
    expect(count).toBeGreaterThan(150);
    expect(faint).toEqual([]);
    expect(least).toBeGreaterThan(4.5);
    const paper = await shown.evaluate<string>('getComputedStyle(document.body).backgroundColor');
    expect(paper).toBe(scheme === 'dark' ? 'rgb(17, 22, 28)' : 'rgb(255, 255, 255)');
    const shot = join(path, '..', `${scheme}.png`);
    await shown.screenshot({ path: shot, fullPage: true });
    expect((await stat(shot)).size).toBeGreaterThan(20_000);
    await close();
  });
});

test('text of vendors is text: no script of theirs runs, and no element of theirs is there', async () => {
  const { shown, close } = await opened('light');
  expect(await shown.evaluate('window.pwned')).toBeUndefined();
  expect(await shown.evaluate('document.querySelectorAll("script, img, iframe, object, form, base").length')).toBe(0);
  const handlers =
    '[...document.querySelectorAll("*")].flatMap((e) => [...e.attributes]).filter((a) => /^on|^style$/.test(a.name)).length';
  expect(await shown.evaluate(handlers)).toBe(0);
  expect(await shown.evaluate<string>('document.body.innerText')).toContain(HOSTILE);
  // Even a script that came into the page would be held back.
  await shown.evaluate(
    '{ const s = document.createElement("script"); s.textContent = "window.pwned = 3"; document.body.append(s); }',
  );
  expect(await shown.evaluate('window.pwned')).toBeUndefined();
  await close();
});

test('landmarks, headings and tables say what they are', async () => {
  const { shown, close } = await opened('light');
  for (const role of ['banner', 'navigation', 'main', 'contentinfo'] as const) {
    expect(await shown.getByRole(role).count(), role).toBe(1);
  }
  const levels = await shown.evaluate<number[]>(
    '[...document.querySelectorAll("h1,h2,h3,h4")].map((h) => Number(h.tagName[1]))',
  );
  expect(levels.filter((level) => level === 1)).toHaveLength(1);
  for (const [n, level] of levels.entries()) expect(level - (levels[n - 1] ?? 0)).toBeLessThanOrEqual(1);
  const names = await shown.getByRole('heading', { level: 2 }).allTextContents();
  expect(names).toEqual([
    'Freshness',
    'Failures',
    'Counts over time',
    'Coverage',
    'Requests, retries and waits',
    'Schema drift',
    'Alerts',
  ]);
  for (const name of names) expect(await shown.getByRole('region', { name, exact: true }).count(), name).toBe(1);
  const tables = '[...document.querySelectorAll("table")].map((t) => t.caption?.innerText ?? "")';
  const captions = await shown.evaluate<string[]>(tables);
  expect(captions.length).toBeGreaterThan(6);
  expect(captions.filter((caption) => caption === '')).toEqual([]);
  expect(await shown.evaluate('document.querySelectorAll("th:not([scope])").length')).toBe(0);
  const charts = await shown.getByRole('img').all();
  expect(charts.length).toBeGreaterThan(5);
  for (const chart of charts) expect(await chart.getAttribute('aria-label')).toMatch(/records over \d+ runs, /);
  const broken =
    '[...document.querySelectorAll("a")].filter((a) => !document.querySelector(a.getAttribute("href"))).length';
  expect(await shown.evaluate(broken)).toBe(0);
  expect(await shown.evaluate('document.documentElement.lang')).toBe('en');
  await close();
});

test('the keyboard reaches everything that moves', async () => {
  const { shown, close } = await opened('light', 500);
  const focused = () => shown.evaluate<string>('document.activeElement.className || document.activeElement.tagName');
  await shown.keyboard.press('Tab');
  expect(await focused()).toBe('skip');
  const box = await shown.locator('.skip').boundingBox();
  expect(box?.x).toBeGreaterThanOrEqual(0);
  await shown.keyboard.press('Enter');
  expect(await focused()).toBe('MAIN');
  await shown.keyboard.press('Tab');
  expect(await focused()).toBe('wide');
  const outline = await shown.evaluate<string>('getComputedStyle(document.activeElement).outlineStyle');
  expect(outline).toBe('solid');
  await close();
});

test.each([320, 768])('at %i pixels only tables scroll sideways', async (width) => {
  const { shown, close } = await opened('light', width);
  expect(await shown.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
  await close();
});

test('on paper it is dark on white, without what only a screen can do', async () => {
  const { shown, close } = await opened('dark');
  await shown.emulateMedia({ media: 'print', colorScheme: 'dark' });
  expect(await shown.getByRole('navigation').isVisible()).toBe(false);
  expect((await shown.evaluate<Contrast>(FAINT)).faint).toEqual([]);
  expect(await shown.evaluate<string>('getComputedStyle(document.body).backgroundColor')).toBe('rgb(255, 255, 255)');
  expect((await shown.pdf()).subarray(0, 5).toString()).toBe('%PDF-');
  await close();
});

test('from a web server it is one request', async () => {
  const source = await readFile(path);
  const server = await serve((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/html' });
    response.end(source);
  });
  const context = await browser.newContext();
  const shown = await context.newPage();
  await shown.goto(server.origin.href, { waitUntil: 'networkidle' });
  expect(await shown.title()).toBe('Security data: what was collected');
  expect(server.received.map(({ url }) => url.pathname)).toEqual(['/']);
  await context.close();
});
