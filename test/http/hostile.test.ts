import { lstat, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineCollector } from '../../src/collectors/collector.ts';
import { baseUrl, setting } from '../../src/config/setting.ts';
import { ConfigError } from '../../src/errors.ts';
import store from '../../src/stores/store_file.ts';
import { openClient } from '../support/client.ts';
import { datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { collectOnce, resultOf } from '../support/run.ts';
import { json, serve } from '../support/server.ts';

const LIST = { path: '/users', records: '' };

/** Lists and their children. */
const acme = defineCollector({
  name: 'acme',
  title: 'Acme',
  docs: 'https://acme.example/docs',
  env: { ACME_URL: setting('Base URL') },
  http: ({ ACME_URL }) => ({ baseUrl: baseUrl(ACME_URL) }),
  resources: {
    groups: { about: 'Groups', path: '/groups' },
    members: { about: 'Members', each: 'groups', path: '/groups/{id}/members' },
  },
});

describe('a vendor that means harm', () => {
  it('floods us with headers: an error, and no more than a few tries', async () => {
    const server = await serve((_request, response) => {
      for (let n = 0; n < 40; n += 1) response.setHeader(`x-flood-${n}`, 'x'.repeat(4096));
      json(response, []);
    });
    const { http } = await openClient(server.origin);
    const error = await failureOf(http.page(LIST));
    expect(error.message).toMatch(/^GET \/users/);
    expect(server.received.length).toBeLessThanOrEqual(3);
  });

  it('sends a body without end: refused at the limit, once, and nothing is left', async () => {
    const server = await serve((_request, response) => {
      response.write('[{"a":1}');
      const more = () => {
        while (!response.destroyed && response.write(`,{"a":"${'x'.repeat(8000)}"}`));
        response.once('drain', more);
      };
      more();
    });
    const { http, scratched } = await openClient(server.origin, { maxBody: 32 * 2 ** 20 });
    expect(await failureOf(http.page(LIST))).toMatchObject({ code: 'refused' });
    expect(server.received.length).toBe(1);
    expect(await scratched()).toEqual([]);
  });

  it('sends what is nested beyond sense: an error, no crash', async () => {
    const server = await serve((_request, response) => response.end(`[${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}]`));
    const { http } = await openClient(server.origin);
    expect((await failureOf(http.page(LIST))).code).toBe('vendor');
  });

  it.each(['..', '.'])('names a parent %j: it is not asked for', async (id) => {
    const server = await serve(({ url }, response) =>
      json(response, url.pathname === '/groups' ? [{ id }] : [{ id: 'stolen' }]),
    );
    const { summary } = await collectOnce({ env: { ACME_URL: server.origin.href }, collectors: [acme as never] });
    expect(resultOf(summary, 'acme_members')).toMatchObject({ verdict: 'failed', reason: expect.stringContaining(id) });
    expect(server.received.map(({ url }) => url.pathname)).toEqual(['/groups']);
  });

  it('names a parent with separators: it stays within its path', async () => {
    const server = await serve(({ url }, response) =>
      json(response, url.pathname === '/groups' ? [{ id: '../admin?x=1#y' }] : []),
    );
    await collectOnce({ env: { ACME_URL: server.origin.href }, collectors: [acme as never] });
    expect(server.received[1]?.url.pathname).toBe('/groups/..%2Fadmin%3Fx%3D1%23y/members');
  });
});

describe('a machine that means harm', () => {
  it('has a link where a file is to go: refused, what it leads to is untouched', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-link-'));
    const [victim, target] = [join(folder, 'victim'), join(folder, 'okta_users.json')];
    await writeFile(victim, 'precious');
    await symlink(victim, target);
    const settings = z.object(store.env).parse({ STORE_FILE: join(folder, '%TAG.json') });
    const sink = await store.open(settings, { tenancy: 'acme', at: new Date(), warn: () => undefined });
    const error = await failureOf(sink.write(await datasetOf(folder, ['{"id":1}'])));
    expect(error).toMatchObject({ code: 'refused', message: `${target} is a symbolic link` });
    expect(await readFile(victim, 'utf8')).toBe('precious');
    expect((await lstat(target)).isSymbolicLink()).toBe(true);
    await rm(folder, { recursive: true });
  });

  it.each(['../x', 'a/b', 'a\nb', '\u001b[2J', ' ', '..'])(
    'a tenancy of %j is refused in one sentence',
    async (tenancy) => {
      const env = { TENANCY: tenancy, OKTA_DOMAIN: 'acme.okta.com', OKTA_TOKEN: 'x' };
      await expect(collectOnce({ env, only: ['okta'] })).rejects.toThrow(ConfigError);
    },
  );
});
