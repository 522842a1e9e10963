import { awsAliases } from '../config/aws.ts';
import { optional, setting, text, type Values } from '../config/setting.ts';
import { type Layout, objectSink, objectTargets } from './_objects.ts';
import { bucketShape, connectionOf, openBucket } from './_s3.ts';
import { placeOf } from './_s3_errors.ts';
import { layoutSetting } from './_tabular.ts';
import { defineStore } from './store.ts';

const { STORE_AWS_S3_BUCKET, ...rest } = bucketShape;

const ENV = {
  STORE_AWS_S3_BUCKET,
  STORE_AWS_S3_KEY: setting(
    'Key template; the end picks the format: .json .ndjson .jsonl .csv, each also .gz or .zst; .parquet .sqlite .db; ' +
      'unset = only the backup',
    optional(),
  ),
  STORE_AWS_S3_KEY_EVENTS: setting(
    'Key template for events, which must name each run; unset = STORE_AWS_S3_KEY if that does, else no upload',
    optional(),
  ),
  STORE_AWS_S3_LAYOUT: layoutSetting(),
  STORE_AWS_S3_BACKUP: setting(
    'Key template of the last good copy, which is restored when a dataset fails',
    text('backup/%TAG/%TENANCY.json'),
  ),
  ...rest,
} as const;

type Settings = Values<typeof ENV>;

export default defineStore({
  name: 's3',
  title: 'AWS S3 and compatible stores',
  docs: 'https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html',
  env: ENV,
  aliases: { AWS_ENDPOINT_URL_S3: 'STORE_AWS_S3_ENDPOINT', ...awsAliases },
  example: { STORE_AWS_S3_BUCKET: 'acme-security', STORE_AWS_S3_KEY: 'data/%TAG/%YYYY/%MM/%DD/%UUID.json.gz' },
  targets(settings, kind, names) {
    connectionOf(settings);
    return objectTargets(layoutOf(settings), kind, names);
  },
  async open(settings, context) {
    const bucket = await openBucket(settings, context.warn);
    const sink = objectSink(bucket, layoutOf(settings), context);
    return {
      ...sink,
      async check() {
        const listable = await bucket.listable();
        await sink.check();
        if (listable) return;
        context.warn(
          `s3:ListBucket is missing on '${settings.STORE_AWS_S3_BUCKET}': no backup yet then looks like a refusal`,
        );
      },
    };
  },
});

function layoutOf(settings: Settings): Layout {
  return {
    key: settings.STORE_AWS_S3_KEY,
    events: settings.STORE_AWS_S3_KEY_EVENTS,
    backup: settings.STORE_AWS_S3_BACKUP,
    columns: settings.STORE_AWS_S3_LAYOUT,
    variables: {
      key: 'STORE_AWS_S3_KEY',
      events: 'STORE_AWS_S3_KEY_EVENTS',
      columns: 'STORE_AWS_S3_LAYOUT',
      backup: 'STORE_AWS_S3_BACKUP',
    },
    service: 'S3',
    deleting: 's3:DeleteObject',
    place: (key) => placeOf(settings.STORE_AWS_S3_BUCKET, key),
  };
}
