import { dirname } from 'node:path/posix';
import { awsAliases } from '../config/aws.ts';
import { optional, setting, text, type Values } from '../config/setting.ts';
import { compressionOf } from '../envelope/encoding.ts';
import { envelopeChunks, envelopeLength } from '../envelope/envelope.ts';
import { spoolChunks } from '../envelope/spool.ts';
import { CollectError } from '../errors.ts';
import { parseTemplate, type Template, type TemplateValues } from '../templating/template.ts';
import { type Bucket, bucketShape, type Content, connectionOf, openBucket } from './_s3.ts';
import { placeOf } from './_s3_errors.ts';
import { type Backup, type Dataset, defineStore, type Kind, namesOf, type OpenContext } from './store.ts';

const { STORE_AWS_S3_BUCKET, ...rest } = bucketShape;

const ENV = {
  STORE_AWS_S3_BUCKET,
  STORE_AWS_S3_KEY: setting(
    'Key template; the end picks the format: .json .ndjson .jsonl, each also .gz or .zst; unset = only the backup',
    optional(),
  ),
  STORE_AWS_S3_KEY_EVENTS: setting(
    'Key template for events, which must name each run; unset = STORE_AWS_S3_KEY if that does, else no upload',
    optional(),
  ),
  STORE_AWS_S3_BACKUP: setting(
    'Key template of the last good copy, which is restored when a dataset fails',
    text('backup/%TAG/%TENANCY.json'),
  ),
  ...rest,
} as const;

type Settings = Values<typeof ENV>;

const MOST_KEY = 1024;
const PROBE = '.cyber-collect-probe'; // one name: where deleting is not allowed, one object stays and not many

export default defineStore({
  name: 's3',
  title: 'AWS S3 and compatible stores',
  docs: 'https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html',
  env: ENV,
  aliases: { AWS_ENDPOINT_URL_S3: 'STORE_AWS_S3_ENDPOINT', ...awsAliases },
  example: { STORE_AWS_S3_BUCKET: 'acme-security', STORE_AWS_S3_KEY: 'data/%TAG/%YYYY/%MM/%DD/%UUID.json.gz' },
  targets(settings, kind, names) {
    connectionOf(settings);
    const { main, backup } = keysOf(settings, kind, names);
    return [main, kind === 'events' ? undefined : backup]
      .filter((key) => key !== undefined)
      .map((key) => placeOf(settings.STORE_AWS_S3_BUCKET, key));
  },
  async open(settings, context) {
    const bucket = await openBucket(settings, context.warn);
    const place = (key: string) => placeOf(settings.STORE_AWS_S3_BUCKET, key);
    return {
      async write(dataset) {
        const { main, backup } = keysOf(settings, dataset.kind, namesOf(dataset, context));
        if (main !== undefined) {
          await dataset.confirm();
          await bucket.put(contentOf(dataset, main));
          return { at: place(main), records: dataset.metadata.records };
        }
        if (dataset.kind === 'events') return { at: '(not uploaded: STORE_AWS_S3_KEY_EVENTS is not set)', records: 0 };
        return { at: `(backup only) ${place(backup)}`, records: dataset.metadata.records };
      },
      async latest(tag) {
        const template = mainTemplate(settings, 'snapshot');
        if (template === undefined || template.perRun) return undefined;
        const held = await bucket.head(keyOf(template, probeNames(context, tag)));
        const upload = held?.['upload-id'];
        return upload === undefined || held?.timestamp === undefined
          ? undefined
          : { upload_id: upload, timestamp: held.timestamp };
      },
      check: () => probe(bucket, settings, context),
      close: async () => bucket.close(),
      backup: backupOf(bucket, settings, context),
    };
  },
});

function backupOf(bucket: Bucket, settings: Settings, context: OpenContext): Backup {
  const place = (key: string) => placeOf(settings.STORE_AWS_S3_BUCKET, key);
  return {
    async save(dataset) {
      const { backup } = keysOf(settings, dataset.kind, namesOf(dataset, context));
      await dataset.confirm();
      await bucket.put(contentOf(dataset, backup));
      return { at: place(backup), records: dataset.metadata.records };
    },
    async note(name, text) {
      const bytes = Buffer.from(text);
      const key = keyOf(backupTemplate(settings), probeNames(context, name));
      const chunks = async function* () {
        yield bytes;
      };
      await bucket.put({ key, type: 'application/json', metadata: {}, length: bytes.length, chunks });
    },
    async load(names) {
      const { backup } = keysOf(settings, 'snapshot', names);
      const body = await bucket.get(backup);
      return body === undefined ? undefined : { at: place(backup), body };
    },
  };
}

/** Both keys of a dataset; a main key that is the backup's would be taken for the last good copy. */
function keysOf(
  settings: Settings,
  kind: Kind,
  names: TemplateValues,
): { readonly main?: string; readonly backup: string } {
  const backup = keyOf(backupTemplate(settings), names);
  const template = mainTemplate(settings, kind);
  if (template === undefined) return { backup };
  const main = keyOf(template, names);
  if (main === backup) {
    throw new CollectError('config', `STORE_AWS_S3_KEY and STORE_AWS_S3_BACKUP both render ${main}`, {
      mend: 'write another STORE_AWS_S3_KEY, such as data/%TAG/%TENANCY.json, or unset it to keep only the backup',
    });
  }
  return { main, backup };
}

function mainTemplate(settings: Settings, kind: Kind): Template | undefined {
  const main = settings.STORE_AWS_S3_KEY === undefined ? undefined : parseTemplate(settings.STORE_AWS_S3_KEY);
  if (kind === 'snapshot') return main;
  if (settings.STORE_AWS_S3_KEY_EVENTS === undefined) return main?.perRun ? main : undefined;
  const events = parseTemplate(settings.STORE_AWS_S3_KEY_EVENTS);
  if (events.perRun) return events;
  throw new CollectError(
    'config',
    `STORE_AWS_S3_KEY_EVENTS '${events.source}' renders one key for every run, which would overwrite events`,
    {
      mend: 'add %UUID or a time such as %YYYY-%MM-%DD/%hh%mm%ss',
    },
  );
}

function backupTemplate(settings: Settings): Template {
  const template = parseTemplate(settings.STORE_AWS_S3_BACKUP);
  if (template.perRun) {
    throw new CollectError(
      'config',
      `STORE_AWS_S3_BACKUP '${template.source}' renders another key for each run, so none would find the copy`,
      {
        mend: 'leave %UUID and the times out, and turn on versioning of the bucket to keep earlier copies',
      },
    );
  }
  if (isLines(template.source)) {
    throw new CollectError(
      'config',
      `STORE_AWS_S3_BACKUP '${template.source}' ends like a file of lines, but the backup is an envelope`,
      {
        mend: 'end it in .json, .json.gz or .json.zst',
      },
    );
  }
  return template;
}

function keyOf(template: Template, names: TemplateValues): string {
  const key = template.render(names);
  const size = Buffer.byteLength(key);
  if (size <= MOST_KEY) return key;
  throw new CollectError('config', `'${template.source}' renders a key of ${size} bytes, S3 takes ${MOST_KEY}`, {
    mend: 'write a shorter template',
  });
}

function isLines(key: string): boolean {
  return /\.(ndjson|jsonl)(\.gz|\.zst)?$/.test(key);
}

function contentOf({ spool, metadata }: Dataset, key: string): Content {
  const { upload_id, timestamp, sha256, records } = metadata;
  const lines = isLines(key);
  return {
    key,
    type: typeOf(key),
    metadata: { 'upload-id': upload_id, timestamp, sha256, records: String(records) },
    length: lines ? spool.bytes : envelopeLength(spool, metadata),
    chunks: () => (lines ? spoolChunks(spool) : envelopeChunks(spool, metadata)),
  };
}

function typeOf(key: string): string {
  const compression = compressionOf(key);
  if (compression !== 'none') return `application/${compression}`;
  return isLines(key) ? 'application/x-ndjson' : 'application/json';
}

function probeNames(context: OpenContext, tag: string): TemplateValues {
  return { uuid: '00000000-0000-4000-8000-000000000000', tag, tenancy: context.tenancy, at: context.at };
}

/** Puts, looks up and deletes a small object beside the backups. */
async function probe(bucket: Bucket, settings: Settings, context: OpenContext): Promise<void> {
  const listable = await bucket.listable();
  const key = `${dirname(keyOf(backupTemplate(settings), probeNames(context, 'probe')))}/${PROBE}`.replace(/^\.\//, '');
  const place = placeOf(settings.STORE_AWS_S3_BUCKET, key);
  await bucket.put({ key, type: 'text/plain', metadata: {}, length: PROBE.length, chunks: probeChunks });
  if ((await bucket.head(key)) === undefined) {
    throw new CollectError('store', `${place} was written but is not there`, {
      mend: 'check what the bucket does with new objects',
    });
  }
  await bucket.delete(key).catch((error: unknown) => {
    if (!(error instanceof CollectError) || error.code !== 'denied') throw error;
    context.warn(`${place} stays, as these credentials lack s3:DeleteObject; only this check uses it`);
  });
  if (!listable) {
    context.warn(
      `s3:ListBucket is missing on '${settings.STORE_AWS_S3_BUCKET}': no backup yet then looks like a refusal`,
    );
  }
}

async function* probeChunks(): AsyncGenerator<Uint8Array> {
  yield Buffer.from(PROBE);
}
