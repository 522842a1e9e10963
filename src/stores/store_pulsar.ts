import { createHash, randomUUID } from 'node:crypto';
import { choice, integer, optional, setting, text, type Values } from '../config/setting.ts';
import { assertWhole } from '../envelope/spool.ts';
import { parseTemplate, type TemplateValues } from '../templating/template.ts';
import { assertPulsar, nameOf, type Pulsar, pulsarOf, pulsarShape, type Topic, topicOf } from './_pulsar.ts';
import { publish } from './_pulsar_producer.ts';
import { messagesOf } from './_pulsar_records.ts';
import { defineStore, namesOf } from './store.ts';

const { STORE_PULSAR_URL, ...rest } = pulsarShape;

const ENV = {
  STORE_PULSAR_URL,
  STORE_PULSAR_TOPIC: setting('Topic, such as persistent://acme/security/%TAG; knows the names of templates'),
  STORE_PULSAR_SHAPE: setting(
    'Messages: record is the record as it is; event is device_name, date, event_id and data as texts',
    choice(['record', 'event'], 'record'),
  ),
  STORE_PULSAR_KEY: setting('Field whose value is the key of the message, such as id or host.name', optional()),
  STORE_PULSAR_BATCH_SIZE: setting('Messages that the service may put into one entry', integer(1000, 1, 100_000)),
  STORE_PULSAR_MAX_PENDING: setting('Messages that may be without an answer', integer(500, 1, 50_000)),
  STORE_PULSAR_PRODUCER_NAME: setting('How names of producers begin; the upload follows', text('cyber-collect')),
  ...rest,
} as const;

type Settings = Values<typeof ENV>;

export default defineStore({
  name: 'pulsar',
  title: 'Apache Pulsar and Astra Streaming',
  docs: 'https://pulsar.apache.org/docs/client-libraries-websocket/',
  env: ENV,
  example: {
    STORE_PULSAR_URL: 'wss://broker.acme.com:8443',
    STORE_PULSAR_TOPIC: 'persistent://acme/security/%TAG',
  },
  targets(settings, _kind, names) {
    assertPulsar(settings);
    return [`${nameOf(topicFor(settings, names))} (${names.tag})`];
  },
  async open(settings, context) {
    const pulsar = pulsarOf(settings);
    return {
      async write(dataset) {
        const topic = topicFor(settings, namesOf(dataset, context));
        const { upload_id, records } = dataset.metadata;
        await assertWhole(dataset.spool);
        await dataset.confirm();
        const to = {
          topic: await partitionFor(pulsar, topic, settings, upload_id),
          series: `${settings.STORE_PULSAR_PRODUCER_NAME}-${upload_id}`,
          batch: settings.STORE_PULSAR_BATCH_SIZE,
          pending: settings.STORE_PULSAR_MAX_PENDING,
          warn: context.warn,
        };
        const making = { shape: settings.STORE_PULSAR_SHAPE, key: settings.STORE_PULSAR_KEY };
        await publish(pulsar, to, messagesOf(dataset, making));
        return { at: `${pulsar.host} ${nameOf(topic)} (${dataset.tag})`, records };
      },
      async check() {
        const { tenancy, at } = context;
        const topic = topicFor(settings, { uuid: randomUUID(), tag: 'cyber_collect_probe', tenancy, at });
        await probe(pulsar, topic);
      },
      close: () => pulsar.close(),
    };
  },
});

function topicFor(settings: Settings, names: TemplateValues): Topic {
  return topicOf(parseTemplate(settings.STORE_PULSAR_TOPIC).render(names));
}

/**
 * The partition that an upload goes to, so that another attempt finds what the first has left. Keys choose their
 * partitions by themselves.
 */
async function partitionFor(pulsar: Pulsar, topic: Topic, settings: Settings, upload: string): Promise<Topic> {
  if (settings.STORE_PULSAR_KEY !== undefined || /-partition-\d+$/.test(topic.name)) return topic;
  const count = (await pulsar.partitions(topic)) ?? 0;
  if (count === 0) return topic;
  const chosen = createHash('sha256').update(upload).digest().readUInt32BE(0) % count;
  return { ...topic, name: `${topic.name}-partition-${chosen}` };
}

/** A producer that connects and sends nothing: a message could not be taken back. */
async function probe(pulsar: Pulsar, topic: Topic): Promise<void> {
  const socket = await pulsar.connect(
    { kind: 'producer', topic, parameters: {} },
    { message: () => undefined, closed: () => undefined },
  );
  await socket.close();
}
