import { optional, setting, text, type Values } from '../config/setting.ts';
import { connectionOf, gcsShape, openGcs, placeOf } from './_gcs.ts';
import { type Layout, objectSink, objectTargets } from './_objects.ts';
import { layoutSetting } from './_tabular.ts';
import { defineStore } from './store.ts';

const { STORE_GCS_BUCKET, ...rest } = gcsShape;

const ENV = {
  STORE_GCS_BUCKET,
  STORE_GCS_KEY: setting(
    'Object name template; the end picks the format: .json .ndjson .jsonl, each also .gz or .zst; .parquet .csv .sqlite; unset = only the backup',
    optional(),
  ),
  STORE_GCS_KEY_EVENTS: setting(
    'Object name template for events, which must name each run; unset = STORE_GCS_KEY if that does, else no upload',
    optional(),
  ),
  STORE_GCS_LAYOUT: layoutSetting(),
  STORE_GCS_BACKUP: setting(
    'Object name template of the last good copy, which is restored when a dataset fails',
    text('backup/%TAG/%TENANCY.json'),
  ),
  ...rest,
} as const;

/** Each dataset is an object that is uploaded in blocks, unseen up to the last, over the generation that was there. */
export default defineStore({
  name: 'gcs',
  title: 'Google Cloud Storage',
  docs: 'https://cloud.google.com/storage/docs/performing-resumable-uploads',
  env: ENV,
  example: { STORE_GCS_BUCKET: 'acme-security', STORE_GCS_KEY: 'data/%TAG/%TENANCY.ndjson.gz' },
  packages: () => ['@google-cloud/storage'],
  targets(settings, kind, names) {
    connectionOf(settings);
    return objectTargets(layoutOf(settings), kind, names);
  },
  open: async (settings, context) => objectSink(await openGcs(settings), layoutOf(settings), context),
});

function layoutOf(settings: Values<typeof ENV>): Layout {
  return {
    key: settings.STORE_GCS_KEY,
    events: settings.STORE_GCS_KEY_EVENTS,
    backup: settings.STORE_GCS_BACKUP,
    columns: settings.STORE_GCS_LAYOUT,
    variables: {
      key: 'STORE_GCS_KEY',
      events: 'STORE_GCS_KEY_EVENTS',
      columns: 'STORE_GCS_LAYOUT',
      backup: 'STORE_GCS_BACKUP',
    },
    service: 'Google Cloud Storage',
    deleting: 'storage.objects.delete',
    place: (key) => placeOf(settings.STORE_GCS_BUCKET, key),
  };
}
