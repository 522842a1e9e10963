import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Sink } from '../../src/stores/store.ts';
import splunk from '../../src/stores/store_splunk.ts';
import { makeCertificates } from '../support/certificates.ts';
import { datasetOf } from '../support/dataset.ts';
import { failureOf } from '../support/failure.ts';
import { openStore, targetsOf } from '../support/open.ts';
import { gate, json, type Received, reset, type ScriptedServer, serve } from '../support/server.ts';

const TOKEN = 'hunter2-hunter2';
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-splunk-'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

function open(server: ScriptedServer, more: Readonly<Record<string, string>> = {}, warnings?: string[]): Promise<Sink> {
  const variables = { STORE_SPLUNK_URL: server.origin.href, STORE_SPLUNK_TOKEN: TOKEN, STORE_SPLUNK_GZIP: 'false' };
  return openStore(splunk, { ...variables, ...more }, warnings);
}

function records(count: number): readonly string[] {
  return Array.from({ length: count }, (_, n) => `{"n":${n + 1}}`);
}

function dataset(count: number) {
  return datasetOf(folder, records(count));
}

/** The numbers of the records that a request holds. */
function numbersOf({ body }: Received): readonly number[] {
  return body
    .split('\n')
    .slice(0, -1)
    .map((line) => Number((JSON.parse(line) as { fields: { upload_record: string } }).fields.upload_record));
}

const FINE = { text: 'Success', code: 0 };

describe('requests', () => {
  test('hold as many events as they may, by count and by bytes', async () => {
    const server = await serve((_, response) => json(response, FINE));
    const sink = await open(server, { STORE_SPLUNK_BATCH_SIZE: '4', STORE_SPLUNK_CONCURRENCY: '1' });
    await sink.write(await dataset(10));
    expect(server.received.map(numbersOf)).toEqual([
      [1, 2, 3, 4],
      [5, 6, 7, 8],
      [9, 10],
    ]);
    const [first] = server.received;
    expect(first?.url.pathname).toBe('/services/collector/event');
    expect(first?.headers.authorization).toBe(`Splunk ${TOKEN}`);
    const small = await open(server, { STORE_SPLUNK_BATCH_BYTES: '1024', STORE_SPLUNK_CONCURRENCY: '1' });
    await small.write(await datasetOf(folder, [...records(5), `{"pad":"${'x'.repeat(3000)}"}`, ...records(3)]));
    const sizes = server.received.slice(3).map(({ body }) => body.length);
    expect(sizes.filter((size) => size > 1024)).toHaveLength(1);
    expect(server.received.slice(3).flatMap(numbersOf)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test('are under way side by side, no more than told', async () => {
    const full = gate();
    const server = await serve(async (_, response, nth) => {
      if (nth === 3) full.open();
      await full.opened;
      json(response, FINE);
    });
    const sink = await open(server, { STORE_SPLUNK_BATCH_SIZE: '1', STORE_SPLUNK_CONCURRENCY: '3' });
    await sink.write(await dataset(12));
    expect(server.peak()).toBe(3);
    expect(server.received.flatMap(numbersOf).toSorted((a, b) => a - b)).toEqual(records(12).map((_, n) => n + 1));
  });

  test('are made again as they were when the server is busy, and not before it says', async () => {
    const times: number[] = [];
    const server = await serve((_, response, nth) => {
      times.push(performance.now());
      if (nth === 1) json(response, { text: 'Server is busy', code: 9 }, 503, { 'retry-after': '0.3' });
      else json(response, FINE);
    });
    await (await open(server)).write(await dataset(3));
    expect(server.received.map(numbersOf)).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(299);
  });

  test('are made again when the connection breaks; each event says which record it is', async () => {
    const server = await serve((_, response, nth) => (nth === 1 ? reset(response) : json(response, FINE)));
    await (await open(server)).write(await dataset(2));
    expect(server.received.map(numbersOf)).toEqual([
      [1, 2],
      [1, 2],
    ]);
    expect(server.received[1]?.body).toBe(server.received[0]?.body);
  });

  test('are not made again when they were taken with a warning', async () => {
    const server = await serve((_, response) => json(response, { text: 'Queue is near capacity', code: 24 }));
    expect((await (await open(server)).write(await dataset(2))).records).toBe(2);
    expect(server.received).toHaveLength(1);
  });

  test('are halved when they are too large', async () => {
    const server = await serve((request, response) =>
      numbersOf(request).length > 3 ? json(response, {}, 413) : json(response, FINE),
    );
    await (await open(server)).write(await dataset(10));
    const taken = server.received.map(numbersOf).filter((numbers) => numbers.length <= 3);
    expect(taken.flat()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });
});

describe('events', () => {
  test('have the time of a field, or of the run where that cannot be read', async () => {
    const server = await serve((_, response) => json(response, FINE));
    const warnings: string[] = [];
    const sink = await open(server, { STORE_SPLUNK_TIME_COLUMN: 'at' }, warnings);
    const times = ['1700000000', '1700000000.125', '1700000000123', '"1700000001"', '"2026-01-02T03:04:05"'];
    const dates = ['"2026-01-02 03:04:05.5"', '"2026-01-02T03:04:05+02:00"', '"2026-01-02"', '"soon"', 'null'];
    const lines = [...times, ...dates].map((at) => `{"at":${at}}`);
    await sink.write(await datasetOf(folder, lines, { metadata: { timestamp: '2026-03-04T05:06:07Z' } }));
    const lineTimes = server.received[0]?.body
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line).time);
    const [day, run] = [Date.UTC(2026, 0, 2) / 1000, Date.UTC(2026, 2, 4, 5, 6, 7) / 1000];
    const clock = day + 3 * 3600 + 4 * 60 + 5;
    expect(lineTimes).toEqual([
      ...[1700000000, 1700000000.125, 1700000000.123, 1700000001, clock],
      ...[clock + 0.5, clock - 7200, day, run, run],
    ]);
    expect(warnings).toEqual(["okta_users: records without a time in 'at', which got that of the run: 2"]);
  });

  test('that Splunk may cut are told of', async () => {
    const server = await serve((_, response) => json(response, FINE));
    const warnings: string[] = [];
    const sink = await open(server, {}, warnings);
    await sink.write(await datasetOf(folder, [`{"pad":"${'x'.repeat(10_000)}"}`, '{}']));
    expect(warnings).toEqual(['okta_users: events over 10,000 bytes, which Splunk cuts unless TRUNCATE is raised: 1']);
  });
});

describe('a write fails', () => {
  test.each([
    [403, { text: 'Invalid token', code: 4 }, 'credentials', /credentials are not accepted/],
    [401, { text: 'Token is required', code: 2 }, 'credentials', /credentials are not accepted/],
    [400, { text: 'Incorrect index', code: 7 }, 'config', /may not write to that index/],
    [400, { text: 'Data channel is missing', code: 10 }, 'config', /wants acknowledgements/],
    [404, {}, 'store', /answered with 404/],
    [418, { text: 'no' }, 'store', /answered with 418/],
    [200, { text: 'odd', code: 3 }, 'store', /code 3/],
  ])('at once for %i %j', async (status, body, code, message) => {
    const server = await serve((_, response) => json(response, body, status));
    const sink = await open(server);
    const error = await failureOf(async () => sink.write(await dataset(2)));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.mend).toBeDefined();
    expect(server.received).toHaveLength(1);
    expect(inspect(error, { depth: 9 })).not.toContain(TOKEN);
  });

  test('for an event that is refused, which is named', async () => {
    const answer = { text: 'Event field is required', code: 12, 'invalid-event-number': 1 };
    const server = await serve((request, response) =>
      numbersOf(request).includes(5) ? json(response, answer, 400) : json(response, FINE),
    );
    const sink = await open(server, { STORE_SPLUNK_BATCH_SIZE: '3', STORE_SPLUNK_CONCURRENCY: '1' });
    const error = await failureOf(async () => sink.write(await dataset(300)));
    expect(error.message).toMatch(/record 5 was refused/);
    expect(server.received.length).toBeLessThan(4);
  });

  test('for a record that is too large alone, which is named', async () => {
    const server = await serve((request, response) =>
      numbersOf(request).includes(3) ? json(response, {}, 413) : json(response, FINE),
    );
    const sink = await open(server);
    expect((await failureOf(async () => sink.write(await dataset(4)))).message).toMatch(/record 3 is larger/);
  });

  test('at once when the server asks for a day', async () => {
    const server = await serve((_, response) => json(response, {}, 429, { 'retry-after': '86400' }));
    const error = await failureOf(async () => (await open(server)).write(await dataset(1)));
    expect(error.code).toBe('throttled');
    expect(server.received).toHaveLength(1);
  });

  test('when a redirect leads away, which the token does not follow', async () => {
    const other = await serve((_, response) => json(response, FINE));
    const server = await serve((_, response) => json(response, {}, 307, { location: other.origin.href }));
    const error = await failureOf(async () => (await open(server)).write(await dataset(1)));
    expect(error.code).toBe('refused');
    expect(other.received).toHaveLength(0);
  });

  test('when the store is closed while it waits', async () => {
    const asked = gate();
    const server = await serve((_, response) => {
      json(response, {}, 503, { 'retry-after': '600' });
      asked.open();
    });
    const sink = await open(server);
    const failing = failureOf(async () => sink.write(await dataset(1)));
    await asked.opened;
    await sink.close?.();
    expect((await failing).code).toBe('aborted');
  });
});

describe('acknowledgement', () => {
  test('is waited for, on one channel', async () => {
    const polled = new Map<number, number>();
    const server = await serve(({ url, body }, response, nth) => {
      if (url.pathname !== '/services/collector/ack') return json(response, { ...FINE, ackId: nth });
      const { acks } = JSON.parse(body) as { acks: readonly number[] };
      const told = acks.map((id) => {
        polled.set(id, (polled.get(id) ?? 0) + 1);
        return [id, (polled.get(id) ?? 0) > 1];
      });
      json(response, { acks: Object.fromEntries(told) });
    });
    const sink = await open(server, { STORE_SPLUNK_ACK: 'true', STORE_SPLUNK_BATCH_SIZE: '2' });
    expect((await sink.write(await dataset(6))).records).toBe(6);
    expect([...polled.values()]).toEqual([2, 2, 2]);
    const polls = server.received.filter(({ url }) => url.pathname === '/services/collector/ack');
    const channels = server.received.map(({ headers }) => headers['x-splunk-request-channel']);
    expect(new Set([...channels, ...polls.map(({ url }) => url.searchParams.get('channel'))]).size).toBe(1);
    expect(polls[0]?.headers.authorization).toBe(`Splunk ${TOKEN}`);
  });

  test('that does not come makes the events go again, and then the write fail', async () => {
    const server = await serve(({ url }, response, nth) =>
      url.pathname.endsWith('/ack') ? json(response, { acks: {} }) : json(response, { ...FINE, ackId: nth }),
    );
    const sink = await open(server, { STORE_SPLUNK_ACK: 'true', STORE_SPLUNK_ACK_TIMEOUT: '1' });
    const error = await failureOf(async () => sink.write(await dataset(2)));
    expect(error.message).toMatch(/not acknowledged in 1 seconds, 3 times/);
    expect(server.received.filter(({ url }) => url.pathname.endsWith('/event')).map(numbersOf)).toEqual([
      [1, 2],
      [1, 2],
      [1, 2],
    ]);
  });

  test('that the token does not have is a wrong setting', async () => {
    const server = await serve((_, response) => json(response, FINE));
    const sink = await open(server, { STORE_SPLUNK_ACK: 'true' });
    const error = await failureOf(async () => sink.write(await dataset(1)));
    expect(error.code).toBe('config');
    expect(error.mend).toMatch(/STORE_SPLUNK_ACK/);
  });

  test('that two requests share is not trusted', async () => {
    const server = await serve(({ url }, response) =>
      url.pathname.endsWith('/ack') ? json(response, { acks: {} }) : json(response, { ...FINE, ackId: 7 }),
    );
    const sink = await open(server, { STORE_SPLUNK_ACK: 'true', STORE_SPLUNK_BATCH_SIZE: '1' });
    expect((await failureOf(async () => sink.write(await dataset(2)))).message).toMatch(/the same acknowledgement/);
  });
});

describe('check', () => {
  test('knows a good token by an empty request, which leaves nothing', async () => {
    const server = await serve((_, response) => json(response, { text: 'No data', code: 5 }, 400));
    await (await open(server)).check?.();
    expect(server.received.map(({ body }) => body)).toEqual(['']);
  });

  test('knows a wrong one', async () => {
    const server = await serve((_, response) => json(response, { text: 'Invalid token', code: 4 }, 403));
    const sink = await open(server);
    expect((await failureOf(() => sink.check?.())).code).toBe('credentials');
  });

  test('trusts the authority of STORE_SPLUNK_CA_BUNDLE, and none without', async () => {
    const tls = await makeCertificates();
    const server = await serve((_, response) => json(response, { text: 'No data', code: 5 }, 400), tls);
    await (await open(server, { STORE_SPLUNK_CA_BUNDLE: tls.caFile })).check?.();
    const sink = await open(server, { STORE_SPLUNK_CA_BUNDLE: tls.strangerFile });
    expect((await failureOf(() => sink.check?.())).message).toMatch(/certificate is not trusted/);
    const missing = failureOf(() => open(server, { STORE_SPLUNK_CA_BUNDLE: join(folder, 'none.pem') }));
    expect((await missing).message).toMatch(/^STORE_SPLUNK_CA_BUNDLE names/);
    await tls.remove();
  });
});

describe('the target', () => {
  const base = { STORE_SPLUNK_TOKEN: TOKEN };

  test.each([
    ['https://splunk.example:8088', 'https://splunk.example:8088/services/collector/event (okta_users of acme)'],
    ['splunk.example', 'https://splunk.example/services/collector/event (okta_users of acme)'],
    ['https://gw.example/a/services/collector', 'https://gw.example/a/services/collector/event (okta_users of acme)'],
    ['https://gw.example/hec/events', 'https://gw.example/hec/events (okta_users of acme)'],
  ])('of %s is %s', (url, target) => {
    expect(targetsOf(splunk, { ...base, STORE_SPLUNK_URL: url })).toEqual([target]);
  });

  test('is refused where the token would go in the clear, and where templates or paths are wrong', async () => {
    const wrong = [
      { STORE_SPLUNK_URL: 'http://splunk.example:8088' },
      { STORE_SPLUNK_URL: 'https://splunk.example', STORE_SPLUNK_SOURCE: '%TAGS' },
      { STORE_SPLUNK_URL: 'https://gw.example/hec/events', STORE_SPLUNK_ACK: 'true' },
    ];
    for (const more of wrong) {
      const error = await failureOf(() => targetsOf(splunk, { ...base, ...more }));
      expect(['config', 'refused']).toContain(error.code);
    }
  });
});
