import { describe, expect, test } from 'vitest';
import { type Collector, defineCollector, type Resource } from '../../src/collectors/collector.ts';
import { baseUrl, secret, setting } from '../../src/config/setting.ts';
import type { HttpOptions } from '../../src/http/client.ts';
import type { Split } from '../../src/http/records.ts';
import type { Rule } from '../../src/http/retry.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';
import { json, type Route, serve } from '../support/server.ts';

type Settings = { readonly ACME_URL: string; readonly ACME_TOKEN: string };

function acme(resources: Readonly<Record<string, Resource<Settings>>>, http: Partial<HttpOptions> = {}): Collector {
  return defineCollector({
    name: 'acme',
    title: 'Acme',
    docs: 'https://acme.example/docs',
    env: { ACME_URL: setting('Base URL'), ACME_TOKEN: secret('Token') },
    http: ({ ACME_URL }) => ({ baseUrl: baseUrl(ACME_URL), ...http }),
    resources,
  }) as unknown as Collector;
}

async function collectAcme(route: Route, resources: Parameters<typeof acme>[0], http?: Partial<HttpOptions>) {
  const server = await serve(route);
  const env = { ACME_URL: server.origin.href, ACME_TOKEN: 'invented' };
  const { summary, folder } = await collectOnce({ env, collectors: [acme(resources, http)] });
  return { server, summary, lines: (resource: string) => storedLines(folder, `acme_${resource}`) };
}

const SITES = { about: 'Sites', path: '/sites' } as const;

test('a body that is one record, per parent', async () => {
  const { lines } = await collectAcme(
    ({ url }, response) =>
      url.pathname === '/sites'
        ? json(response, [{ id: 1 }, { id: 2 }])
        : response.end(`{\n "site": "${url.pathname}",\n "n": 12345678901234567890\n}\n`),
    {
      sites: SITES,
      details: { about: 'Details', each: 'sites', path: '/sites/{id}', single: true, keep: { _id: 'id' } },
    },
  );
  const line = (n: number) => `{  "site": "/sites/${n}",  "n": 12345678901234567890 ,"_id":${n}}`;
  expect(await lines('details')).toEqual([line(1), line(2)]);
});

test('a body that should be one record and is empty is a fault', async () => {
  const { summary } = await collectAcme((_request, response) => response.end(), {
    status: { about: 'Status', path: '/status', single: true },
  });
  expect(resultOf(summary, 'acme_status')).toMatchObject({
    verdict: 'failed',
    reason: expect.stringContaining('empty'),
  });
});

test('the total of one parent is not made up for by another’s', async () => {
  const { summary } = await collectAcme(
    ({ url }, response) => {
      if (url.pathname === '/sites') return json(response, [{ id: 1 }, { id: 2 }]);
      const total = url.pathname === '/sites/1/rooms' ? 3 : 1;
      json(response, { total, rooms: [{ id: 'a' }, { id: 'b' }] });
    },
    {
      sites: SITES,
      rooms: { about: 'Rooms', each: 'sites', path: '/sites/{id}/rooms', records: 'rooms', total: 'total' },
    },
  );
  expect(resultOf(summary, 'acme_rooms')).toMatchObject({
    verdict: 'failed',
    reason: expect.stringContaining('/sites/1/rooms: 2 records came of 3'),
  });
});

test('the totals of all parents add up', async () => {
  const { summary } = await collectAcme(
    ({ url }, response) =>
      url.pathname === '/sites'
        ? json(response, [{ id: 1 }, { id: 2 }, { id: 3 }])
        : json(response, { total: 2, rooms: [{ id: 1 }, { id: 2 }] }),
    {
      sites: SITES,
      rooms: { about: 'Rooms', each: 'sites', path: '/sites/{id}/rooms', records: 'rooms', total: 'total' },
    },
  );
  expect(resultOf(summary, 'acme_rooms')).toMatchObject({ verdict: 'complete', records: 6, expected: 6 });
});

describe('secrets', () => {
  const secrets = ['env.*.value', 'tokens.*.text'];
  const record = {
    id: 1,
    env: { A: { type: 'plain', value: 'canary-one' }, B: { value: 'canary-two', type: 'secret' } },
    tokens: [{ text: 'canary-three', name: 'x' }, { name: 'y' }],
  };
  const kept = '{"id":1,"env":{"A":{"type":"plain"},"B":{"type":"secret"}},"tokens":[{"name":"x"},{"name":"y"}]}';

  test('under any key and in any element are never stored, whoever brings the record', async () => {
    const { lines } = await collectAcme((_request, response) => json(response, [record]), {
      listed: { about: 'By path', path: '/x', secrets },
      paged: {
        about: 'By a generator’s pages',
        path: '/x',
        secrets,
        collect: ({ http }) => http.pages({ path: '/x', records: '' }),
      },
      made: {
        about: 'By a generator’s own records',
        path: '/x',
        secrets,
        collect: async function* ({ http }) {
          yield [(await http.json({ path: '/x' })).body as never].flat();
        },
      },
    });
    for (const resource of ['listed', 'paged', 'made']) expect(await lines(resource)).toEqual([kept]);
  });
});

test('headers of one resource, and another base URL of the vendor’s', async () => {
  const other = await serve((_request, response) => json(response, [{ id: 'there' }]));
  const { lines, server } = await collectAcme(
    (_request, response) => json(response, [{ id: 'here' }]),
    {
      here: { about: 'Here', path: '/x', headers: { 'x-version': '2' } },
      there: { about: 'There', path: new URL('/y', other.origin).href },
    },
    { others: [other.origin] },
  );
  expect(server.received[0]?.headers['x-version']).toBe('2');
  expect(await lines('here')).toEqual(['{"id":"here"}']);
  expect(await lines('there')).toEqual(['{"id":"there"}']);
});

const SLOW: Rule = { status: 429, as: 'throttled', wait: 0.3 };

test('statuses that are answers, and a wait where the vendor tells none', async () => {
  const { summary, server } = await collectAcme(
    (_request, response, nth) => json(response, { nth }, nth === 1 ? 429 : 409),
    {
      jobs: {
        about: 'Jobs',
        path: '/jobs',
        collect: async function* ({ http }) {
          const { status, body } = await http.json({ path: '/jobs', accept: [409], errors: [SLOW] });
          yield [{ status, body: body as never }];
        },
      },
    },
  );
  expect(resultOf(summary, 'acme_jobs')).toMatchObject({ verdict: 'complete', retries: 1 });
  expect(resultOf(summary, 'acme_jobs').waited_ms).toBeGreaterThanOrEqual(300);
  expect(resultOf(summary, 'acme_jobs').waited_ms).toBeLessThan(900);
  expect(server.received).toHaveLength(2);
});

test('another format than JSON has a splitter of its own', async () => {
  const words: Split = () => {
    let text = '';
    return {
      write: (chunk) => {
        text += Buffer.from(chunk).toString();
        return [];
      },
      end: () => ({ records: 0, body: { words: text.split(' ').length }, found: true }),
    };
  };
  const { summary } = await collectAcme((_request, response) => response.end('one two three'), {
    words: { about: 'Words', path: '/words', split: words, total: 'words' },
  });
  expect(resultOf(summary, 'acme_words')).toMatchObject({ reason: expect.stringContaining('0 records came of 3') });
});
