import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { createServer } from 'node:net';
import { inspect } from 'node:util';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { bearer, staticHeaders } from '../../src/http/auth.ts';
import { limit, resetHeader } from '../../src/http/pace.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { openClient, recordsOf, textOf } from '../support/client.ts';
import { fakeClock } from '../support/clock.ts';
import { failureOf } from '../support/failure.ts';
import { gate, json, reset, serve } from '../support/server.ts';

const LIST = { path: '/users', records: '' };
const USERS = [{ id: 1 }, { id: 2 }];

/** Answers to the first requests, then users. */
function failing(...first: readonly ((response: ServerResponse) => void)[]) {
  return (_request: unknown, response: ServerResponse, nth: number) => {
    const answer = first[nth - 1];
    if (answer === undefined) json(response, USERS);
    else answer(response);
  };
}

describe('what passes is tried again', () => {
  const html = '<!DOCTYPE html><html><body>Scheduled maintenance</body></html>';
  it.each<[string, (response: ServerResponse) => void]>([
    ['a 500', (response) => json(response, {}, 500)],
    ['a 503', (response) => json(response, {}, 503)],
    ['a 408', (response) => json(response, {}, 408)],
    ['a reset before the answer', (response) => reset(response)],
    ['a reset inside the body', (response) => reset(response, '[{"id":1},{"id"')],
    ['a reset between two records', (response) => reset(response, '[{"id":1}')],
    ['a body cut short', (response) => response.end('[{"id":1},{"i')],
    ['a body without its end', (response) => response.end('[{"id":1}')],
    ['an empty body', (response) => response.end()],
    ['HTML with status 200', (response) => response.writeHead(200, { 'content-type': 'text/html' }).end(html)],
    [
      'a gzip body cut short',
      (response) => {
        response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(JSON.stringify(USERS)).subarray(0, 20));
      },
    ],
    ['a gzip body that is none', (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('[]')],
  ])('%s', async (_name, answer) => {
    const server = await serve(failing(answer));
    const { http, meter, clock, scratched } = await openClient(server.origin);
    expect(await recordsOf(await http.page(LIST))).toEqual(USERS);
    expect(meter).toMatchObject({ requests: 2, retries: 1 });
    expect(clock.slept.length).toBe(1);
    expect(clock.slept[0]).toBeGreaterThanOrEqual(1000);
    expect(await scratched()).toEqual([]);
  });

  it('waits longer each time and gives up at the eighth try', async () => {
    const server = await serve((_request, response) => json(response, {}, 502));
    const { http, meter, clock } = await openClient(server.origin);
    const error = await failureOf(http.page(LIST));
    expect(error).toMatchObject({ code: 'vendor', status: 502 });
    expect(server.received.length).toBe(8);
    expect(meter).toMatchObject({ requests: 8, retries: 7 });
    for (const [n, waited] of clock.slept.entries()) {
      const base = Math.min(60_000, 1000 * 2 ** n);
      expect(waited).toBeGreaterThanOrEqual(base);
      expect(waited).toBeLessThanOrEqual(base * 1.25);
    }
  });

  it('gives up at the eighth 429 too, where nobody else gets through', async () => {
    const server = await serve((_request, response) => json(response, {}, 429, { 'retry-after': '1' }));
    const { http } = await openClient(server.origin);
    expect((await failureOf(http.page(LIST))).code).toBe('throttled');
    expect(server.received.length).toBe(8);
  });

  it('gives up early where more tries will hardly help', async () => {
    const server = await serve((_request, response) => response.end('not JSON'));
    const { http } = await openClient(server.origin);
    expect((await failureOf(http.page(LIST))).code).toBe('vendor');
    expect(server.received.length).toBe(3);
    const closed = createServer().listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = closed.address() as { port: number };
    closed.close();
    await once(closed, 'close');
    const away = await openClient(new URL(`http://127.0.0.1:${port}`));
    const error = await failureOf(away.http.page(LIST));
    expect(error).toMatchObject({ code: 'network', message: expect.stringContaining('ECONNREFUSED') });
    expect(away.meter.requests).toBe(3);
  });

  it('a silent server is a timeout', async () => {
    const server = await serve(() => undefined);
    const { http, meter } = await openClient(server.origin, { network: { headersTimeout: 0.05 }, concurrency: 1 });
    const error = await failureOf(http.json({ path: '/x', method: 'POST', body: {} }));
    expect(error).toMatchObject({ code: 'timeout', message: expect.stringContaining('POST /x') });
    expect(meter.requests).toBe(1);
  });

  it.each([400, 404, 403])('a %i is not tried again', async (status) => {
    const server = await serve((_request, response) => json(response, {}, status));
    const { http } = await openClient(server.origin);
    expect((await failureOf(http.page(LIST))).status).toBe(status);
    expect(server.received.length).toBe(1);
  });
});

describe('a call that must not be repeated', () => {
  const create = { path: '/exports', method: 'POST', body: { kind: 'all' } } as const;

  it.each<[string, (response: ServerResponse) => void]>([
    ['a reset', (response) => reset(response)],
    ['a broken body', (response) => reset(response, '{"id"')],
    ['a 500', (response) => json(response, {}, 500)],
    ['an answer that is no JSON', (response) => response.end('<html>')],
  ])('is sent once in spite of %s', async (_name, answer) => {
    const server = await serve((_request, response) => answer(response));
    const { http } = await openClient(server.origin);
    await failureOf(http.json(create));
    expect(server.received.length).toBe(1);
  });

  it('is sent again after a 429, which did nothing', async () => {
    const server = await serve(failing((response) => json(response, {}, 429, { 'retry-after': '3' })));
    const { http } = await openClient(server.origin);
    await http.json(create);
    expect(server.received.map(({ method, body }) => [method, body])).toEqual([
      ['POST', '{"kind":"all"}'],
      ['POST', '{"kind":"all"}'],
    ]);
  });

  it('is sent again after a reset where the collector says that it does no harm', async () => {
    const server = await serve(failing((response) => reset(response)));
    const { http } = await openClient(server.origin);
    await http.json({ ...create, repeatable: true });
    expect(server.received.length).toBe(2);
  });
});

describe('a wait that the vendor tells is obeyed', () => {
  interface Told {
    /** Headers of the 429, from the vendor's clock. */
    headers(vendorNow: number): Readonly<Record<string, string>>;
    /** Vendor's moment from which on it answers. */
    until(vendorNow: number): number;
  }
  const seconds = fc.double({ min: 0, max: 4000, noNaN: true });
  const told: fc.Arbitrary<Told> = fc.oneof(
    fc
      .nat(4000)
      .map((s) => ({ headers: () => ({ 'retry-after': String(s) }), until: (now: number) => now + s * 1000 })),
    seconds.map((s) => ({
      headers: () => ({ 'retry-after': s.toFixed(3) }),
      until: (now: number) => now + Number(s.toFixed(3)) * 1000,
    })),
    seconds.map((s) => {
      const until = (now: number) => Math.ceil((now + s * 1000) / 1000) * 1000;
      return { headers: (now: number) => ({ 'retry-after': new Date(until(now)).toUTCString() }), until };
    }),
    seconds.map((s) => {
      const until = (now: number) => Math.ceil((now + s * 1000) / 1000) * 1000;
      return { headers: (now: number) => ({ 'x-left': '0', 'x-reset': String(until(now) / 1000) }), until };
    }),
    seconds.map((s) => {
      const until = (now: number) => Math.ceil(now + s * 1000);
      return { headers: (now: number) => ({ 'x-left': '0', 'x-reset': String(until(now)) }), until };
    }),
    seconds.map((s) => ({
      headers: () => ({ 'x-left': '0', 'x-reset': s.toFixed(2) }),
      until: (now: number) => now + Number(s.toFixed(2)) * 1000,
    })),
  );
  const skew = fc.oneof(
    fc.constant(0),
    fc.integer({ min: -3000, max: 3000 }),
    fc.integer({ min: -7_200_000, max: 7_200_000 }),
  );

  it('never early, however it is told and however wrong the vendor’s clock is', { timeout: 300_000 }, async () => {
    let now: { readonly vendor: number; readonly told: Told } | undefined;
    let opensAt = 0;
    let secondAt = 0;
    const clock = fakeClock(Date.UTC(2026, 4, 1) + 417);
    const server = await serve((_request, response) => {
      if (now === undefined) {
        secondAt = clock.now();
        return json(response, USERS);
      }
      const { vendor, told } = now;
      opensAt = clock.now() + told.until(vendor) - vendor;
      now = undefined;
      response.sendDate = false;
      json(response, {}, 429, { date: new Date(vendor).toUTCString(), ...told.headers(vendor) });
    });
    const pace = resetHeader('x-left', 'x-reset');
    await fc.assert(
      fc.asyncProperty(told, skew, async (choice, wrong) => {
        const { http, meter } = await openClient(server.origin, { clock, http: { pace } });
        now = { vendor: clock.now() + wrong, told: choice };
        await http.page(LIST);
        expect(secondAt).toBeGreaterThanOrEqual(opensAt);
        // A Date header is cut to the second, and jitter is added.
        expect(secondAt).toBeLessThanOrEqual(opensAt + 1000 + 250 + 1000);
        expect(meter).toMatchObject({ requests: 2, retries: 1 });
      }),
      { numRuns: Number(process.env.PROVE_EVENTS ?? 300) },
    );
  });

  it('by everyone: a parallel request waits too', async () => {
    const clock = fakeClock();
    const starts: number[] = [];
    const server = await serve(({ url }, response, nth) => {
      starts.push(clock.now());
      json(response, [{ at: url.pathname }], nth === 1 ? 429 : 200, { 'retry-after': '30' });
    });
    const { http } = await openClient(server.origin, { clock, concurrency: 1 });
    await Promise.all(['/a', '/b', '/c'].map((path) => http.page({ path, records: '' })));
    expect(starts.length).toBe(4);
    for (const start of starts.slice(1)) expect(start).toBeGreaterThanOrEqual((starts[0] ?? 0) + 30_000);
  });

  it('unless it is past the deadline: that fails now', async () => {
    const server = await serve((_request, response) => json(response, {}, 429, { 'retry-after': '60' }));
    const clock = fakeClock();
    const { http } = await openClient(server.origin, { clock, deadline: clock.now() + 59_000 });
    const error = await failureOf(http.page(LIST));
    expect(error).toMatchObject({ code: 'throttled', message: expect.stringMatching(/6[01] s/) });
    expect(error.mend).toContain('--deadline');
    expect(clock.slept).toEqual([]);
    expect(server.received.length).toBe(1);
  });

  it('an empty limit makes the next request wait for its reset, before a 429', async () => {
    const clock = fakeClock();
    const starts: number[] = [];
    const server = await serve((_request, response, nth) => {
      starts.push(clock.now());
      json(response, USERS, 200, { 'x-left': nth === 1 ? '0' : '50', 'x-reset': '45' });
    });
    const { http } = await openClient(server.origin, { clock, http: { pace: resetHeader('x-left', 'x-reset') } });
    await http.page(LIST);
    await http.page(LIST);
    expect((starts[1] ?? 0) - (starts[0] ?? 0)).toBeGreaterThanOrEqual(45_000);
  });

  it('limits of requests hold together', async () => {
    const clock = fakeClock();
    const starts: number[] = [];
    const server = await serve((_request, response) => json(response, USERS));
    const auth = {
      async headers() {
        starts.push(clock.now()); // the last thing before a request is sent
        return {};
      },
    };
    const { http } = await openClient(server.origin, { clock, http: { auth, pace: [limit(5, 1), limit(20, 10)] } });
    await Promise.all(Array.from({ length: 50 }, () => http.page(LIST)));
    const most = (milliseconds: number) =>
      Math.max(...starts.map((from) => starts.filter((at) => at >= from && at < from + milliseconds).length));
    expect(most(1000)).toBeLessThanOrEqual(5);
    expect(most(10_000)).toBeLessThanOrEqual(20);
  });
});

describe('credentials', () => {
  /** A vendor whose newest token alone is good. */
  async function vendor(lifetime = 3600) {
    let issued = 0;
    let dead = 0;
    const server = await serve(({ url, headers, body }, response) => {
      if (url.pathname === '/token') {
        if (body !== 'secret=s3cret-value') return json(response, {}, 400);
        issued += 1;
        return json(response, { access_token: `token-${issued}`, expires_in: lifetime });
      }
      const good = headers.authorization === `Bearer token-${issued}` && issued > dead;
      json(response, USERS, good ? 200 : 401);
    });
    const auth = (now?: () => number, secret = 's3cret-value') =>
      bearer(
        async (exchange) => {
          const answer = await exchange({ path: '/token', form: { secret } });
          const body = answer.body as { access_token: string; expires_in: number };
          return { value: body.access_token, lifetime: body.expires_in };
        },
        300,
        now,
      );
    const expire = () => {
      dead = issued;
    };
    const tokens = () => server.received.filter(({ url }) => url.pathname === '/token').length;
    return { server, auth, expire, tokens };
  }

  it('one token serves parallel requests, and one renewal after a 401, without a wait', async () => {
    const { server, auth, expire, tokens } = await vendor();
    const { http, clock } = await openClient(server.origin, { http: { auth: auth() } });
    const eight = () => Promise.all(Array.from({ length: 8 }, () => http.page(LIST)));
    await eight();
    expect(tokens()).toBe(1);
    expire();
    await eight();
    expect(tokens()).toBe(2);
    expect(clock.slept).toEqual([]);
  });

  it('a token is renewed before it ends', async () => {
    const { server, auth, tokens } = await vendor(1000);
    const clock = fakeClock();
    const { http } = await openClient(server.origin, { clock, http: { auth: auth(clock.now) } });
    await http.page(LIST);
    await clock.sleep(699_000);
    await http.page(LIST);
    expect(tokens()).toBe(1);
    await clock.sleep(2000);
    await http.page(LIST);
    expect(tokens()).toBe(2);
    expect(server.received.length).toBe(5);
  });

  it('a second 401 is an error, not a loop', async () => {
    const server = await serve((_request, response) => json(response, {}, 401));
    const { http } = await openClient(server.origin, { http: { auth: staticHeaders({ authorization: 'SSWS x' }) } });
    expect((await failureOf(http.page(LIST))).code).toBe('credentials');
    expect(server.received.length).toBe(2);
  });

  it('a refused secret is said at once, and never shown', async () => {
    const { server, auth } = await vendor();
    const { http } = await openClient(server.origin, { http: { auth: auth(undefined, 'wr0ng-value') } });
    const error = await failureOf(http.page(LIST));
    expect(error).toMatchObject({ code: 'credentials', message: expect.stringContaining('POST /token') });
    expect(inspect(error, { depth: 9 })).not.toContain('wr0ng-value');
    expect(server.received.length).toBe(1);
  });

  it('a token endpoint that fails in passing is asked again', async () => {
    let asked = 0;
    const server = await serve(({ url }, response) => {
      if (url.pathname !== '/token') return json(response, USERS);
      asked += 1;
      if (asked === 1) return reset(response);
      if (asked === 2) return json(response, {}, 503);
      json(response, { access_token: 'a' });
    });
    const auth = bearer(async (exchange) => {
      await exchange({ path: '/token', form: { a: 'b' } });
      return { value: 'a', lifetime: 60 };
    });
    const { http } = await openClient(server.origin, { http: { auth } });
    await http.page(LIST);
    expect(asked).toBe(3);
  });
});

describe('other hosts', () => {
  let certificates: Certificates;
  beforeAll(async () => {
    certificates = await makeCertificates();
  });
  afterAll(() => certificates.remove());
  const auth = staticHeaders({ authorization: 'SSWS s3cret-value' });

  it('a redirect to another origin takes no credentials along', async () => {
    const other = await serve((_request, response) => json(response, USERS), certificates);
    const server = await serve(
      ({ url }, response) => response.writeHead(302, { location: `${other.origin.origin}${url.pathname}` }).end(),
      certificates,
    );
    const { http } = await openClient(server.origin, {
      network: { caFile: certificates.caFile },
      http: { auth, headers: { 'x-api-key': 's3cret-value' } },
    });
    const page = await http.page({ ...LIST, headers: { cookie: 's3cret-value' } });
    expect(await recordsOf(page)).toEqual(USERS);
    expect(server.received[0]?.headers.authorization).toBe('SSWS s3cret-value');
    expect(JSON.stringify(other.received[0]?.headers)).not.toContain('s3cret-value');
  });

  it('a redirect within the origin, or to a trusted host, keeps them', async () => {
    const other = await serve((_request, response) => json(response, USERS), certificates, 'localhost');
    const server = await serve(({ url }, response) => {
      const location = url.pathname === '/users' ? '/moved' : `${other.origin.origin}/users`;
      response.writeHead(307, { location }).end();
    }, certificates);
    const { http } = await openClient(server.origin, {
      network: { caFile: certificates.caFile },
      http: { auth, trusted: ['localhost'] },
    });
    await http.page(LIST);
    for (const { headers } of [...server.received, ...other.received]) {
      expect(headers.authorization).toBe('SSWS s3cret-value');
    }
    expect(server.received.length).toBe(2);
  });

  it.each([
    ['a POST', 'https', 'POST'],
    ['a GET to plain http', 'http', 'GET'],
  ] as const)('a redirect of %s to another origin is refused', async (_name, scheme, method) => {
    const other = await serve(
      (_request, response) => json(response, USERS),
      scheme === 'http' ? undefined : certificates,
    );
    const server = await serve(
      (_request, response) => response.writeHead(307, { location: other.origin.href }).end(),
      certificates,
    );
    const { http } = await openClient(server.origin, { network: { caFile: certificates.caFile }, http: { auth } });
    const error = await failureOf(http.json({ path: '/x', method, ...(method === 'POST' ? { body: { a: 1 } } : {}) }));
    expect(error).toMatchObject({ code: 'refused', message: expect.stringContaining(other.origin.host) });
    expect(other.received).toEqual([]);
    expect(server.received.length).toBe(1);
  });

  it('redirects without end are refused', async () => {
    const server = await serve((_request, response) => response.writeHead(302, { location: '/users' }).end());
    const { http } = await openClient(server.origin);
    expect((await failureOf(http.page(LIST))).code).toBe('refused');
    expect(server.received.length).toBeLessThan(10);
  });

  it('a whole URL of another host is not asked for', async () => {
    const other = await serve((_request, response) => json(response, USERS));
    const server = await serve((_request, response) => json(response, USERS));
    const { http } = await openClient(server.origin, { http: { auth } });
    expect((await failureOf(http.json({ path: `${other.origin.origin}/users` }))).code).toBe('refused');
    expect(other.received).toEqual([]);
  });

  it('a certificate that nobody trusts is said as such, three times asked', async () => {
    const server = await serve((_request, response) => json(response, USERS), certificates);
    const { http, meter } = await openClient(server.origin, { network: { caFile: certificates.strangerFile } });
    const error = await failureOf(http.page(LIST));
    expect(error).toMatchObject({ code: 'network', message: expect.stringContaining('certificate') });
    expect(error.mend).toContain('CYBER_COLLECT_CA_FILE');
    expect(meter.requests).toBe(3);
    expect(server.received).toEqual([]);
  });
});

describe('bodies', () => {
  it('gzip is asked for, inflated and counted as it came', async () => {
    const many = Array.from({ length: 5000 }, (_, id) => ({ id, name: 'the same words again' }));
    const zipped = gzipSync(JSON.stringify(many));
    const server = await serve((_request, response) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(zipped),
    );
    const { http, meter } = await openClient(server.origin);
    expect(await recordsOf(await http.page(LIST))).toEqual(many);
    expect(server.received[0]?.headers['accept-encoding']).toContain('gzip');
    expect(meter.bytes).toBe(zipped.length);
  });

  it('a small gzip that inflates without end is refused, once', async () => {
    const bomb = gzipSync(`[{"a":"${'x'.repeat(8 * 2 ** 20)}"}]`);
    expect(bomb.length).toBeLessThan(2 ** 16);
    const server = await serve((_request, response) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb),
    );
    const { http, scratched } = await openClient(server.origin, { maxBody: 2 ** 20, maxRecord: 2 ** 30 });
    const error = await failureOf(http.page(LIST));
    expect(error).toMatchObject({ code: 'refused', message: expect.stringContaining('larger than 1 MiB') });
    expect(server.received.length).toBe(1);
    expect(await scratched()).toEqual([]);
  });

  it('a record over the limit is refused, once', async () => {
    const server = await serve((_request, response) => json(response, [{ id: 1 }, { id: 'x'.repeat(2 ** 21) }]));
    const { http } = await openClient(server.origin, { maxRecord: 2 ** 20 });
    const error = await failureOf(http.page(LIST));
    expect(error).toMatchObject({ code: 'refused', message: expect.stringContaining('record') });
    expect(error.mend).toContain('CYBER_COLLECT_MAX_RECORD_MIB');
    expect(server.received.length).toBe(1);
  });

  it('a list that is absent is an error, and empty where that is declared', async () => {
    const server = await serve((_request, response) => json(response, { resources: null, ok: true }));
    const { http } = await openClient(server.origin);
    const list = { path: '/users', records: 'resources' };
    expect(await failureOf(http.page(list))).toMatchObject({
      code: 'vendor',
      message: expect.stringContaining("'resources'"),
    });
    expect((await http.page({ ...list, absent: 'empty' })).records).toBe(0);
  });

  it('rules see what stands outside the records of a good answer, not the records', async () => {
    const server = await serve((_request, response, nth) =>
      json(response, { ok: nth > 1, data: [{ note: '"ok":false' }] }),
    );
    const { http } = await openClient(server.origin, { rules: [{ status: 200, body: /"ok":false/, as: 'retry' }] });
    expect((await http.page({ path: '/users', records: 'data' })).records).toBe(1);
    expect(server.received.length).toBe(2);
  });

  it.each([
    ['throttled', 'throttled', 8],
    ['denied', 'denied', 1],
    ['unlicensed', 'denied', 1],
    ['expired', 'expired', 1],
    ['failed', 'vendor', 1],
    ['credentials', 'credentials', 2],
  ] as const)('a rule makes a 403 %s', async (as, code, times) => {
    const server = await serve((_request, response) => json(response, { code: 'E17' }, 403));
    const { http } = await openClient(server.origin, { rules: [{ status: 403, body: /E17/, as, because: 'of E17' }] });
    const error = await failureOf(http.page(LIST));
    expect(error.code).toBe(code);
    expect(error.message).toBe('GET /users was answered with 403: of E17');
    expect(server.received.length).toBe(times);
  });

  it('a rule makes a 404 an empty page', async () => {
    const server = await serve((_request, response) => json(response, {}, 404));
    const { http } = await openClient(server.origin, { rules: [{ status: 404, as: 'empty' }] });
    const page = await http.page(LIST);
    expect(page).toMatchObject({ records: 0, status: 404 });
    expect(await textOf(page)).toBe('');
  });
});

describe('a signal', () => {
  const wish = new Error('enough');
  it.each(['before the headers', 'inside the body', 'in a wait', 'in the queue', 'beforehand'])(
    'ends it promptly %s',
    async (when) => {
      const stop = new AbortController();
      const server = await serve((_request, response) => {
        if (when === 'in a wait') {
          json(response, {}, 429, { 'retry-after': '600' });
          response.on('close', () => setImmediate(() => stop.abort(wish)));
          return;
        }
        if (when === 'inside the body') response.writeHead(200).write('[{"id":1},');
        setImmediate(() => stop.abort(wish));
      });
      const { http } = await openClient(server.origin, { signal: stop.signal, realClock: true, concurrency: 1 });
      if (when === 'beforehand') stop.abort(wish);
      const calls = when === 'in the queue' ? 3 : 1;
      const started = performance.now();
      const ends = await Promise.allSettled(Array.from({ length: calls }, () => http.page(LIST)));
      for (const end of ends) expect(end).toEqual({ status: 'rejected', reason: wish });
      expect(performance.now() - started).toBeLessThan(2000);
      expect(server.received.length).toBe(when === 'beforehand' ? 0 : 1);
    },
  );
});

describe('requests at once', () => {
  it('are bounded', async () => {
    const waiting: (() => void)[] = [];
    const server = await serve(async ({ url }, response) => {
      if (url.pathname === '/knock') return json(response, {});
      const { opened, open } = gate();
      waiting.push(open);
      if (waiting.length === 4) {
        // Whatever was sent beyond the bound arrives before this does.
        await fetch(new URL('/knock', server.origin));
        for (const release of waiting.splice(0)) release();
      }
      await opened;
      json(response, USERS);
    });
    const { http } = await openClient(server.origin, { concurrency: 4 });
    await Promise.all(Array.from({ length: 24 }, (_, n) => http.page({ path: `/users/${n}`, records: '' })));
    expect(server.peak()).toBe(5); // four and the knock
  });

  it('are as few as the vendor allows', async () => {
    const server = await serve((_request, response) => json(response, USERS));
    const { http } = await openClient(server.origin, { concurrency: 8, http: { concurrency: 1 } });
    expect(http.concurrency).toBe(1);
    await Promise.all(Array.from({ length: 10 }, () => http.page(LIST)));
    expect(server.peak()).toBe(1);
  });

  it('may be many without a warning of Node’s', async () => {
    const warnings: Error[] = [];
    const note = (warning: Error) => void warnings.push(warning);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    const server = await serve((_request, response) => json(response, USERS));
    const { http } = await openClient(server.origin);
    await Promise.all(Array.from({ length: 60 }, () => http.page(LIST)));
    await new Promise(setImmediate);
    expect(warnings).toEqual([]);
  });

  it('an error frees its place', async () => {
    const server = await serve((_request, response) => json(response, {}, 400));
    const { http } = await openClient(server.origin, { concurrency: 2 });
    const ends = await Promise.allSettled(Array.from({ length: 10 }, () => http.page(LIST)));
    expect(ends.every(({ status }) => status === 'rejected')).toBe(true);
    expect(server.received.length).toBe(10);
  });
});

describe('errors', () => {
  const SECRET = 'hunter2hunter2';
  const secrets = `{"token":"${SECRET}"`;
  it.each<[string, (response: ServerResponse) => void]>([
    ['an error status', (response) => json(response, { secret: SECRET }, 400)],
    ['a denial', (response) => json(response, { secret: SECRET }, 403)],
    ['a refusal', (response) => json(response, { secret: SECRET }, 401, { 'www-authenticate': SECRET })],
    ['a body that is no JSON', (response) => response.end(`${SECRET} is what you sent`)],
    ['a body that breaks behind its start', (response) => response.end(`${secrets} nonsense`)],
    ['HTML', (response) => response.writeHead(200, { 'content-type': 'text/html' }).end(`<p>${SECRET}</p>`)],
    ['a reset', (response) => reset(response)],
    ['a reset inside the body', (response) => reset(response, secrets)],
    [
      'a redirect elsewhere',
      (response) => response.writeHead(302, { location: `http://other.invalid/${SECRET}` }).end(),
    ],
  ])('after %s hold method and path, never a secret of query, header or body', async (_name, answer) => {
    const server = await serve((_request, response) => answer(response));
    const { http } = await openClient(server.origin, {
      http: { headers: { 'x-key': SECRET }, auth: staticHeaders({ authorization: SECRET }) },
    });
    const query = { key: SECRET };
    for (const work of [
      () => http.json({ path: '/v1/things', query }),
      () => http.page({ path: '/v1/things', query, records: '' }),
      () => http.json({ path: '/v1/things', method: 'POST', body: { secret: SECRET }, query }),
    ]) {
      const error = await failureOf(work());
      expect(error.message).toMatch(/^(GET|POST) \/v1\/things\b/);
      expect(error.message).not.toMatch(/\?|\n/);
      expect(inspect(error, { depth: 9 })).not.toContain(SECRET.slice(0, 5));
    }
  });

  it('hold the status', async () => {
    const server = await serve((_request, response) => json(response, {}, 418));
    const { http } = await openClient(server.origin);
    const error = await failureOf(http.page(LIST));
    expect(error.message).toContain('418');
    expect(error.status).toBe(418);
  });
});
