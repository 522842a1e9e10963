import { randomUUID } from 'node:crypto';
import {
  assertEncrypted,
  baseUrl,
  flag,
  integer,
  list,
  optional,
  secret,
  setting,
  text,
  type Values,
} from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { at, numberAt } from '../json.ts';
import { parseTemplate, type TemplateValues } from '../templating/template.ts';
import { assertIntact, type Batch, batchesOf, bodyOf, type Send, sendAll } from './_batches.ts';
import { networkAliases, networkShape, type Reply, refused, type Sender, senderOf } from './_send.ts';
import { eventsOf, type Oddities } from './_splunk.ts';
import { type Acknowledgements, acknowledgements } from './_splunk_ack.ts';
import { judged, judgedEmpty } from './_splunk_answers.ts';
import { type Dataset, defineStore, namesOf, type OpenContext } from './store.ts';

const ENV = {
  STORE_SPLUNK_URL: setting('URL of the HTTP Event Collector; without a path, /services/collector/event is meant'),
  STORE_SPLUNK_TOKEN: secret('Token of the HTTP Event Collector'),
  STORE_SPLUNK_INDEX: setting('Index; unset = the default of the token', optional()),
  STORE_SPLUNK_SOURCE: setting('Source, a template such as cyber-collect:%TAG', optional()),
  STORE_SPLUNK_HOST: setting('Host, a template', optional()),
  STORE_SPLUNK_SOURCETYPE: setting(
    'Source type, a template; _json becomes text where STORE_SPLUNK_SINGLE_EVENT_COLUMN is set',
    text('_json'),
  ),
  STORE_SPLUNK_SINGLE_EVENT_COLUMN: setting(
    'Field whose text alone is the event; unset = the whole record',
    optional(),
  ),
  STORE_SPLUNK_TIME_COLUMN: setting(
    'Field with the time of the event, epoch seconds or ISO 8601; unset = the start of the run',
    optional(),
  ),
  STORE_SPLUNK_INDEXED_FIELDS: setting('Fields to index beside the event, separated by commas', list().default([])),
  STORE_SPLUNK_REMOVE_INDEXED_FIELDS: setting('Take these out of the event', flag()),
  STORE_SPLUNK_BATCH_SIZE: setting('Events of a request, at most', integer(50, 1, 100_000)),
  STORE_SPLUNK_BATCH_BYTES: setting('Bytes of a request before compression, at most', integer(921_600, 1024)),
  STORE_SPLUNK_CONCURRENCY: setting('Requests at once', integer(4, 1, 64)),
  STORE_SPLUNK_GZIP: setting('Compress requests', flag(true)),
  STORE_SPLUNK_RAW: setting('Send bare lines that nothing is added to, not even the upload they are part of', flag()),
  STORE_SPLUNK_ACK: setting('Wait until the indexers have acknowledged what they were sent', flag()),
  STORE_SPLUNK_ACK_TIMEOUT: setting('Seconds to wait for that before sending again', integer(300, 1, 3600)),
  STORE_SPLUNK_CA_BUNDLE: setting('PEM file of the authority that signed the server’s certificate', optional()),
  ...networkShape,
} as const;

type Settings = Values<typeof ENV>;

const TRIES = 8;
const UNACKNOWLEDGED = 1000;
const HELD = 24 * 2 ** 20;
const RESENDS = 3;

export default defineStore({
  name: 'splunk',
  title: 'Splunk HTTP Event Collector',
  docs: 'https://docs.splunk.com/Documentation/Splunk/latest/Data/UsetheHTTPEventCollector',
  env: ENV,
  aliases: networkAliases,
  example: {
    STORE_SPLUNK_URL: 'https://http-inputs-acme.splunkcloud.com',
    STORE_SPLUNK_INDEX: 'inventory',
    STORE_SPLUNK_SOURCE: 'cyber-collect:%TAG',
  },
  targets(settings, _kind, names) {
    labelsOf(settings, names);
    return [targetOf(settings, names)];
  },
  async open(settings, context) {
    const splunk = await connect(settings);
    return {
      write: (dataset) => write(splunk, dataset, context),
      check: () => splunk.probe(),
      close: () => splunk.close(),
    };
  },
});

interface Labels {
  readonly host: string | undefined;
  readonly source: string | undefined;
  readonly sourcetype: string | undefined;
  readonly index: string | undefined;
}

interface Splunk {
  readonly settings: Settings;
  post(labels: Labels): Send;
  probe(): Promise<void>;
  close(): Promise<void>;
}

function labelsOf(settings: Settings, names: TemplateValues): Labels {
  const render = (template: string | undefined) =>
    template === undefined ? undefined : parseTemplate(template).render(names);
  const single = settings.STORE_SPLUNK_SINGLE_EVENT_COLUMN !== undefined;
  const type = settings.STORE_SPLUNK_SOURCETYPE;
  return {
    host: render(settings.STORE_SPLUNK_HOST),
    source: render(settings.STORE_SPLUNK_SOURCE),
    sourcetype: render(single && type === '_json' ? 'text' : type),
    index: render(settings.STORE_SPLUNK_INDEX),
  };
}

type Endpoint = 'event' | 'raw' | 'ack';

/** Beside the collector's own path, a gateway may have one of its own for events. */
function endpoint(settings: Settings, which: Endpoint): URL {
  const url = assertEncrypted(baseUrl(settings.STORE_SPLUNK_URL), settings.CYBER_COLLECT_ALLOW_HTTP);
  const known = /^(.*\/services\/collector)(\/(event|raw))?(\/1\.0)?$/.exec(url.pathname)?.[1];
  if (known === undefined && which !== 'event' && url.pathname !== '/') {
    throw new CollectError('config', `STORE_SPLUNK_URL leads to ${url.pathname}, where only events may be sent`, {
      mend: 'end it in /services/collector, or unset STORE_SPLUNK_RAW and STORE_SPLUNK_ACK',
    });
  }
  if (known !== undefined) url.pathname = `${known}/${which}`;
  else if (url.pathname === '/') url.pathname = `/services/collector/${which}`;
  return url;
}

function targetOf(settings: Settings, { tenancy, tag }: TemplateValues): string {
  if (settings.STORE_SPLUNK_ACK) endpoint(settings, 'ack');
  const { href } = endpoint(settings, settings.STORE_SPLUNK_RAW ? 'raw' : 'event');
  const index = settings.STORE_SPLUNK_INDEX === undefined ? '' : ` index=${settings.STORE_SPLUNK_INDEX}`;
  return `${href}${index} (${tag} of ${tenancy})`;
}

async function connect(settings: Settings): Promise<Splunk> {
  const channel = randomUUID();
  const sender = await senderOf({
    network: settings,
    gzip: settings.STORE_SPLUNK_GZIP,
    concurrency: settings.STORE_SPLUNK_CONCURRENCY,
    tries: TRIES,
    timeout: 60,
    ca: { variable: 'STORE_SPLUNK_CA_BUNDLE', path: settings.STORE_SPLUNK_CA_BUNDLE },
  });
  const headers = {
    authorization: `Splunk ${settings.STORE_SPLUNK_TOKEN}`,
    'content-type': 'application/json',
    ...(settings.STORE_SPLUNK_ACK || settings.STORE_SPLUNK_RAW ? { 'x-splunk-request-channel': channel } : {}),
  };
  const acks = settings.STORE_SPLUNK_ACK ? acknowledged(sender, headers, channel, settings) : undefined;
  return {
    settings,
    post: (labels) => posting({ settings, sender, headers, acks }, labels),
    async probe() {
      const url = endpoint(settings, 'event');
      const judge = (reply: Reply) => judgedEmpty(reply, `POST ${url.pathname}`);
      await sender.send({ url, method: 'POST', headers, body: Buffer.alloc(0), judge });
    },
    async close() {
      acks?.close();
      await sender.close();
    },
  };
}

interface Connection {
  readonly settings: Settings;
  readonly sender: Sender;
  readonly headers: Readonly<Record<string, string>>;
  readonly acks: Acknowledgements | undefined;
}

/** Sends portions: each until it is taken or, where that is asked for, acknowledged. */
function posting({ settings, sender, headers, acks }: Connection, labels: Labels): Send {
  const url = settings.STORE_SPLUNK_RAW ? rawUrl(settings, labels) : endpoint(settings, 'event');
  const what = `POST ${url.pathname}`;
  return async (batch, signal) => {
    const body = bodyOf(batch, '\n', '', '\n');
    for (let sendings = 0; sendings < RESENDS; sendings += 1) {
      const judge = (reply: Reply) => judged(reply, what, batch, acks !== undefined);
      const { judged: taken, reply } = await sender.send({ url, method: 'POST', headers, body, judge }, signal);
      if (taken === 'halve' || acks === undefined) return taken;
      if (await acks.indexed(numberAt(reply.json, 'ackId') ?? -1, signal)) return 'taken';
    }
    throw unindexed(batch, settings);
  };
}

function rawUrl(settings: Settings, labels: Labels): URL {
  const url = endpoint(settings, 'raw');
  for (const [name, value] of Object.entries(labels)) if (value !== undefined) url.searchParams.set(name, value);
  return url;
}

function acknowledged(
  sender: Sender,
  headers: Readonly<Record<string, string>>,
  channel: string,
  settings: Settings,
): Acknowledgements {
  const url = endpoint(settings, 'ack');
  url.searchParams.set('channel', channel);
  const what = `POST ${url.pathname}`;
  return acknowledgements(async (ids, signal) => {
    const body = Buffer.from(JSON.stringify({ acks: ids }));
    const judge = (reply: Reply) =>
      reply.status === 200 && at(reply.json, 'acks') === undefined
        ? refused(what, 200, 'it says nothing of acknowledgements')
        : judged(reply, what, [], false);
    const { reply } = await sender.send({ url, method: 'POST', headers, body, judge }, signal);
    return new Set(ids.filter((id) => at(at(reply.json, 'acks'), String(id)) === true));
  }, settings.STORE_SPLUNK_ACK_TIMEOUT * 1000);
}

function unindexed(batch: Batch, settings: Settings): CollectError {
  const seconds = settings.STORE_SPLUNK_ACK_TIMEOUT;
  const said = `records from ${batch[0]?.number} on were taken but not acknowledged in ${seconds} seconds`;
  return new CollectError('store', `${said}, ${RESENDS} times`, { mend: 'look at the queues of the indexers' });
}

async function write(splunk: Splunk, dataset: Dataset, context: OpenContext) {
  const { settings } = splunk;
  const names = namesOf(dataset, context);
  const labels = labelsOf(settings, names);
  const met: Oddities = { whole: 0, timeless: 0, long: 0 };
  await assertIntact(dataset);
  await dataset.confirm();
  const bounds = { count: settings.STORE_SPLUNK_BATCH_SIZE, bytes: settings.STORE_SPLUNK_BATCH_BYTES };
  const events = eventsOf(dataset, makingOf(settings, labels), met);
  const frame = settings.STORE_SPLUNK_RAW ? (record: Buffer) => record : events;
  const width = settings.STORE_SPLUNK_ACK
    ? { batches: UNACKNOWLEDGED, bytes: HELD }
    : { batches: settings.STORE_SPLUNK_CONCURRENCY, bytes: HELD };
  await sendAll(batchesOf(dataset, bounds, frame), width, splunk.post(labels));
  tell(dataset.tag, settings, met, context);
  return { at: targetOf(settings, names), records: dataset.metadata.records };
}

function makingOf(settings: Settings, labels: Labels) {
  return {
    ...labels,
    single: settings.STORE_SPLUNK_SINGLE_EVENT_COLUMN,
    time: settings.STORE_SPLUNK_TIME_COLUMN,
    indexed: settings.STORE_SPLUNK_INDEXED_FIELDS,
    remove: settings.STORE_SPLUNK_REMOVE_INDEXED_FIELDS,
  };
}

function tell(tag: string, settings: Settings, { whole, timeless, long }: Oddities, { warn }: OpenContext): void {
  const { STORE_SPLUNK_SINGLE_EVENT_COLUMN: single, STORE_SPLUNK_TIME_COLUMN: time } = settings;
  if (whole > 0) warn(`${tag}: records without text in '${single}', which were sent whole: ${whole}`);
  if (timeless > 0) warn(`${tag}: records without a time in '${time}', which got that of the run: ${timeless}`);
  if (long > 0) warn(`${tag}: events over 10,000 bytes, which Splunk cuts unless TRUNCATE is raised: ${long}`);
}
