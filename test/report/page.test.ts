import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { html, sourceOf, tableOf } from '../../src/report/_page_markup.ts';
import { root } from '../support/build.ts';
import { denied, keepRun, resultFor } from '../support/records.ts';
import { temporaryFolder } from '../support/run.ts';

async function report(folder: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = spawn(process.execPath, ['--', join(root, 'bin', 'cyber-collect.js'), 'report', ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH, CYBER_COLLECT_STATE: join(folder, 'state'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const [code] = (await once(child, 'close')) as [number];
  return { code, stdout, stderr };
}

async function recorded(): Promise<string> {
  const folder = await temporaryFolder();
  const state = join(folder, 'state');
  const drift = { new: ['mfa'], vanished: [], retyped: [{ field: 'age', from: ['string'], to: ['number'] }] };
  await keepRun(state, 30, [resultFor('okta_users', { drift }), resultFor('okta_groups')]);
  const stores = [{ store: 's3', at: '', records: 0, error: 'no route', mend: 'open the port', waits: true as const }];
  await keepRun(state, 2, [
    resultFor('okta_users', { stores, requests: 7, retries: 3 }),
    resultFor('okta_groups', denied),
  ]);
  return folder;
}

describe('report', () => {
  it('goes to stdout, or whole into a private file', async () => {
    const folder = await recorded();
    const shown = await report(folder, []);
    expect(shown.code).toBe(0);
    expect(shown.stdout).toMatch(/^<!doctype html>[\s\S]*<\/html>\s*$/);
    const written = await report(folder, ['--html', 'out/../page.html']);
    expect(written).toMatchObject({ code: 0, stdout: '' });
    expect(written.stderr).toContain(`${join(folder, 'page.html')} is written`);
    expect(await readFile(join(folder, 'page.html'), 'utf8')).toContain('</html>');
    expect((await stat(join(folder, 'page.html'))).mode & 0o777).toBe(0o600);
    expect((await readdir(folder)).sort()).toEqual(['page.html', 'state']);
  });

  it('tells ages, causes and mends, stores, tries again and changed fields', async () => {
    const { stdout } = await report(await recorded(), ['--max-age', '26h']);
    for (const part of [
      'Permission denied: GET /api/v1/groups answered 403',
      'give the credentials the permission okta.groups.read',
      's3 did not take it: no route (it waits in the outbox)',
      'open the port',
      'new mfa; retyped age (string -&gt; number)',
      '30 hours ago, too old',
      'exit code 3: incomplete data',
    ])
      expect(stdout).toContain(part);
  });

  it('names what is configured and never came, and what is recorded and no longer configured', async () => {
    const folder = await recorded();
    const env = { OKTA_DOMAIN: 'acme.okta.example', OKTA_TOKEN: 'a-token-of-okta' };
    const { stdout } = await report(folder, [], env);
    expect(stdout).toMatch(/okta_devices<\/th><td>default<\/td><td><span class="bad">yes, but never run/);
    expect(stdout).not.toMatch(/okta_users<\/th><td>default<\/td><td><span class="bad">yes/);
    const one = await report(folder, ['--only', 'okta.users'], env);
    expect(one.stdout).not.toContain('okta_devices');
    await keepRun(join(folder, 'state'), 1, [resultFor('old_hosts')]);
    expect((await report(folder, [], env)).stdout).toMatch(
      /old_hosts<\/th><td>default<\/td><td><span class="warn">not now/,
    );
    const half = await report(folder, [], { OKTA_DOMAIN: 'acme.okta.example' });
    expect(half.stdout).toContain('OKTA_TOKEN is missing');
  });

  it('has alerts where there are such datasets', async () => {
    const folder = await recorded();
    expect((await report(folder, [])).stdout).not.toContain('id="alerts"');
    await keepRun(join(folder, 'state'), 26, [resultFor('mde_alerts', { records: 10 })]);
    await keepRun(join(folder, 'state'), 1, [resultFor('mde_alerts', { records: 14 })]);
    expect((await report(folder, [])).stdout).toMatch(/id="alerts"[\s\S]*mde_alerts[\s\S]*>14<[\s\S]*>\+4</);
  });

  it('with nothing recorded is exit 5, where it cannot be written exit 2', async () => {
    const folder = await temporaryFolder();
    const nothing = await report(folder, ['--html', 'page.html']);
    expect(nothing.code).toBe(5);
    expect(await readdir(folder)).not.toContain('page.html');
    await keepRun(join(folder, 'state'), 1, [resultFor('okta_users')]);
    await mkdir(join(folder, 'taken'));
    for (const place of ['taken', 'missing/page.html']) {
      const { code, stderr } = await report(folder, ['--html', place]);
      expect(code).toBe(2);
      expect(stderr).toContain('cannot be written');
    }
    expect(await readdir(folder)).toEqual(['state', 'taken']);
  });
});

describe('markup', () => {
  it('takes no text for markup', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const source = sourceOf(html`<p title="${text}">${text}</p>`);
        const inner = source.slice('<p title="'.length, -'</p>'.length);
        expect(inner.match(/[<>"']/g)).toEqual(['"', '>']);
        expect(inner).not.toMatch(/&(?!(amp|lt|gt|quot|#39);)/);
      }),
    );
  });

  it('keeps pieces as they are, in lists too', () => {
    const cells = ['<b>', html`<i>${'&'}</i>`, 7, undefined];
    expect(sourceOf(html`<p>${cells}</p>`)).toBe('<p>&lt;b&gt;<i>&amp;</i>7</p>');
  });

  it('makes tables that say what they are of', () => {
    const source = sourceOf(tableOf('Ages', ['Name', 'Age'], [['a', 1]], [1]));
    expect(source).toContain('<caption>Ages</caption>');
    expect(source).toContain('<th scope="row">a</th><td class="number">1</td>');
  });
});
