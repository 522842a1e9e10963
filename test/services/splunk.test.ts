import { randomUUID } from 'node:crypto';
import { mkdtemp, open as openFile, rm, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { inspect } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Sink } from '../../src/stores/store.ts';
import splunk from '../../src/stores/store_splunk.ts';
import { storeSuite } from '../stores/suite.ts';
import { datasetOf } from '../support/dataset.ts';
import { killOverAndOver } from '../support/killed.ts';
import { needed } from '../support/needed.ts';

type Variables = Readonly<Record<string, string>>;

const url = needed('TEST_HEC_URL');
const received = needed('TEST_HEC_RECEIVED');
const TOKEN = 'hunter2-hunter2';

/** An event as it was sent, and taken. */
interface Taken {
  readonly fields: Readonly<Record<string, string>>;
  /** The JSON text of the record. */
  readonly record: string;
}

/** The real receiver keeps numbers as doubles and sorts keys; what it was sent and took is seen at a door before it. */
interface Door {
  readonly url: string;
  readonly taken: readonly Taken[];
}

const door: { url: string; taken: Taken[] } = { url: '', taken: [] };
const front = createServer(async (incoming, answer) => {
  const body = await whole(incoming).catch(() => undefined);
  if (body === undefined) return; // its writer was killed
  const { authorization = '', 'content-encoding': encoding } = incoming.headers;
  const sent = encoding === 'gzip' ? gunzipSync(body) : body;
  const passed = await fetch(new URL(incoming.url ?? '/', url), {
    method: 'POST',
    headers: { authorization, ...(encoding === undefined ? {} : { 'content-encoding': encoding }) },
    body: new Uint8Array(body),
  });
  const said = await passed.text();
  if (passed.status === 200) for (const line of linesOf(sent)) door.taken.push(takenOf(line));
  answer.writeHead(passed.status, { 'content-type': 'application/json' }).end(said);
});
let folder = '';
let before = 0;

beforeAll(async () => {
  before = await stat(received).then(
    ({ size }) => size,
    () => 0,
  );
  folder = await mkdtemp(join(tmpdir(), 'cc-splunk-'));
  await new Promise<void>((done) => front.listen(0, '127.0.0.1', done));
  door.url = `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
});

afterAll(async () => {
  front.closeAllConnections();
  await new Promise((done) => front.close(done));
  await rm(folder, { recursive: true, force: true });
});

async function whole(incoming: IncomingMessage): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of incoming) parts.push(part);
  return Buffer.concat(parts);
}

function linesOf(body: Buffer): readonly string[] {
  return body.toString('utf8').split('\n').slice(0, -1);
}

/** Everything of an event stands before its record. */
function takenOf(line: string): Taken {
  const at = line.indexOf(',"event":');
  const { fields } = JSON.parse(`${line.slice(0, at)}}`) as { fields: Taken['fields'] };
  const event = line.slice(at + ',"event":'.length, -1);
  return { fields, record: event.startsWith('"') ? (JSON.parse(event) as string) : event };
}

/** The records of the newest upload that is there whole, each once. */
function newest({ taken }: Door, tag: string, complete: boolean): readonly string[] {
  const uploads = new Map<string, Map<string, Taken>>();
  for (const one of taken) {
    if (one.fields.upload_tag !== tag) continue;
    const id = `${one.fields.upload_timestamp} ${one.fields.upload_id}`;
    const upload = uploads.get(id) ?? new Map<string, Taken>();
    uploads.set(id, upload.set(one.fields.upload_record ?? '', one));
  }
  const readable = [...uploads].filter(([, records]) => {
    const [first] = records.values();
    return !complete || first?.fields.upload_records === String(records.size);
  });
  const [, records] = readable.sort(([a], [b]) => (a < b ? -1 : 1)).at(-1) ?? [];
  return [...(records?.values() ?? [])].map(({ record }) => record);
}

function settings(more: Variables = {}) {
  const variables = { STORE_SPLUNK_URL: url, STORE_SPLUNK_TOKEN: TOKEN, ...more };
  const resolved = resolveShape(environmentOf(variables), 'splunk', splunk.env, splunk.aliases);
  if (resolved.values === undefined) throw new Error(inspect(resolved));
  return resolved.values;
}

function open(more: Variables, warnings: string[] = []): Promise<Sink> {
  return splunk.open(settings(more), { tenancy: 'acme', at: new Date(), warn: (said) => warnings.push(said) });
}

storeSuite(
  'splunk',
  async () => ({
    open: (warnings) => open({ STORE_SPLUNK_URL: door.url }, warnings),
    read: async (tag) => newest(door, tag, false),
    exact: true,
    nul: 'kept',
    loneSurrogate: 'kept',
    secrets: [TOKEN],
  }),
  { gradual: true },
);

interface Value {
  readonly stringValue?: string;
  readonly doubleValue?: number;
  readonly kvlistValue?: { readonly values: readonly Attribute[] };
}

interface Attribute {
  readonly key: string;
  readonly value: Value;
}

interface Logged {
  readonly resource: Readonly<Record<string, string | undefined>>;
  readonly fields: Readonly<Record<string, string | undefined>>;
  readonly body: Value;
  readonly time: string | undefined;
}

/** What the receiver has written since the tests began; what it wrote before may be any amount. */
async function receivedSince(): Promise<string> {
  const file = await openFile(received);
  try {
    const { size } = await file.stat();
    const { buffer } = await file.read(Buffer.alloc(Math.max(0, size - before)), 0, undefined, before);
    return buffer.toString('utf8');
  } finally {
    await file.close();
  }
}

/** What the receiver has written of a source, as soon as that is as much as is awaited. */
async function logged(source: string, count: number): Promise<readonly Logged[]> {
  for (let tries = 0; tries < 200; tries += 1) {
    const found = (await receivedSince())
      .split('\n')
      .filter((line) => line.includes(source) && line.endsWith(']}'))
      .flatMap(recordsOf);
    if (found.length >= count) return found;
    await pause(50);
  }
  throw new Error(`the receiver has not written ${count} events of ${source}`);
}

function recordsOf(line: string): readonly Logged[] {
  const { resourceLogs } = JSON.parse(line);
  const texts = (list: readonly Attribute[] = []) =>
    Object.fromEntries(list.map(({ key, value }) => [key, value.stringValue]));
  return resourceLogs.flatMap(({ resource, scopeLogs }: never) => {
    const { attributes } = resource as { attributes: readonly Attribute[] };
    return (scopeLogs as { logRecords: never[] }[]).flatMap(({ logRecords }) =>
      logRecords.map((record: { attributes?: readonly Attribute[]; body: Value; timeUnixNano?: string }) => ({
        resource: texts(attributes),
        fields: texts(record.attributes),
        body: record.body,
        time: record.timeUnixNano,
      })),
    );
  });
}

describe('the receiver', () => {
  test('has each event with its labels, time, indexed fields and upload', async () => {
    const mark = `mark-${randomUUID()}`;
    const sink = await open({
      STORE_SPLUNK_INDEX: 'inventory',
      STORE_SPLUNK_SOURCE: `${mark}:%TAG`,
      STORE_SPLUNK_HOST: '%TENANCY.example',
      STORE_SPLUNK_SOURCETYPE: 'okta:user',
      STORE_SPLUNK_TIME_COLUMN: 'seen.last',
      STORE_SPLUNK_INDEXED_FIELDS: 'login,size,none',
      STORE_SPLUNK_REMOVE_INDEXED_FIELDS: 'true',
    });
    const records = [
      '{"login":"zoe","size":12345678901234567890,"seen":{"last":"2026-03-04T05:06:07.500Z"},"n":1}',
      '{"login":"al","seen":{"last":1700000000.5},"n":2}',
    ];
    const dataset = await datasetOf(folder, records, { tag: 'okta_users' });
    await sink.write(dataset);
    const events = await logged(mark, 2);
    expect(events.map(({ resource }) => resource)).toEqual(
      Array(2).fill({
        'com.splunk.source': `${mark}:okta_users`,
        'com.splunk.sourcetype': 'okta:user',
        'com.splunk.index': 'inventory',
        'host.name': 'acme.example',
        'com.splunk.hec.access_token': TOKEN,
      }),
    );
    expect(events.map(({ time }) => time)).toEqual(['1772600767500000000', '1700000000500000000']);
    const { upload_id, timestamp } = dataset.metadata;
    const upload = { upload_tenancy: 'acme', upload_tag: 'okta_users', upload_id, upload_timestamp: timestamp };
    expect(events.map(({ fields }) => fields)).toEqual([
      { ...upload, upload_records: '2', upload_record: '1', login: 'zoe', size: '12345678901234567890' },
      { ...upload, upload_records: '2', upload_record: '2', login: 'al' },
    ]);
    const keys = events.map(({ body }) => body.kvlistValue?.values.map(({ key }) => key));
    expect(keys).toEqual([
      ['n', 'seen'],
      ['n', 'seen'],
    ]);
    await sink.close?.();
  });

  test('has one field alone as the event, and whole records without it', async () => {
    const mark = `mark-${randomUUID()}`;
    const warnings: string[] = [];
    const sink = await open({ STORE_SPLUNK_SOURCE: mark, STORE_SPLUNK_SINGLE_EVENT_COLUMN: 'line' }, warnings);
    const records = ['{"line":"<13>Mar 4 é \\"x\\"","n":1}', '{"line":"","n":2}', '{"n":3}'];
    await sink.write(await datasetOf(folder, records, { tag: 'syslog' }));
    const events = await logged(mark, 3);
    expect(events[0]?.body).toEqual({ stringValue: '<13>Mar 4 é "x"' });
    expect(events[0]?.resource['com.splunk.sourcetype']).toBe('text');
    expect(events.slice(1).map(({ body }) => body.kvlistValue?.values.at(-1)?.value.doubleValue)).toEqual([2, 3]);
    expect(warnings).toEqual(["syslog: records without text in 'line', which were sent whole: 2"]);
    await sink.close?.();
  });

  test('has bare lines where they are asked for', async () => {
    const mark = `mark-${randomUUID()}`;
    const sink = await open({ STORE_SPLUNK_SOURCE: `${mark} %TAG`, STORE_SPLUNK_RAW: 'true' });
    const records = ['{"id":12345678901234567890,"a":1.50}', '{"b":"é"}'];
    await sink.write(await datasetOf(folder, records, { tag: 'okta_users' }));
    const events = await logged(mark, 2);
    expect(events.map(({ body }) => body.stringValue)).toEqual(records);
    expect(events[0]?.resource['com.splunk.source']).toBe(`${mark} okta_users`);
    expect(events[0]?.fields).toEqual({});
    await sink.close?.();
  });
});

test('whenever a writer is killed, a reader who waits for all of an upload sees the old or the new whole', async () => {
  const seen = await killOverAndOver({
    store: 'splunk',
    env: { STORE_SPLUNK_URL: door.url, STORE_SPLUNK_TOKEN: TOKEN, STORE_SPLUNK_BATCH_SIZE: '400' },
    folder,
    kills: 10,
    read: async () => {
      await pause(5); // lets the door take what is being sent
      return newest(door, 'okta_killed', true);
    },
  });
  expect(seen.wrong).toEqual([]);
  expect(seen.generations).toBeGreaterThan(1);
});
