import { optional, setting, text, type Values } from '../config/setting.ts';
import { blobShape, connectionOf, openContainer } from './_azure_blob.ts';
import { type Layout, objectSink, objectTargets } from './_objects.ts';
import { layoutSetting } from './_tabular.ts';
import { defineStore } from './store.ts';

const { STORE_AZURE_BLOB_CONTAINER, ...rest } = blobShape;

const ENV = {
  STORE_AZURE_BLOB_CONTAINER,
  STORE_AZURE_BLOB_KEY: setting(
    'Blob name template; the end picks the format: .json .ndjson .jsonl, each also .gz or .zst; .parquet .csv .sqlite; unset = only the backup',
    optional(),
  ),
  STORE_AZURE_BLOB_KEY_EVENTS: setting(
    'Blob name template for events, which must name each run; unset = STORE_AZURE_BLOB_KEY if that does, else no upload',
    optional(),
  ),
  STORE_AZURE_BLOB_LAYOUT: layoutSetting(),
  STORE_AZURE_BLOB_BACKUP: setting(
    'Blob name template of the last good copy, which is restored when a dataset fails',
    text('backup/%TAG/%TENANCY.json'),
  ),
  ...rest,
} as const;

/** Each dataset is a block blob: its blocks are staged unseen, and one list of them makes the blob at once. */
export default defineStore({
  name: 'azure_blob',
  title: 'Azure Blob Storage',
  docs: 'https://learn.microsoft.com/rest/api/storageservices/put-block-list',
  env: ENV,
  aliases: {
    AZURE_STORAGE_ACCOUNT: 'STORE_AZURE_BLOB_ACCOUNT',
    AZURE_STORAGE_KEY: 'STORE_AZURE_BLOB_ACCOUNT_KEY',
    AZURE_STORAGE_SAS_TOKEN: 'STORE_AZURE_BLOB_SAS_TOKEN',
    AZURE_STORAGE_CONNECTION_STRING: 'STORE_AZURE_BLOB_CONNECTION_STRING',
  },
  example: {
    STORE_AZURE_BLOB_CONTAINER: 'security',
    STORE_AZURE_BLOB_ACCOUNT: 'acmedata',
    STORE_AZURE_BLOB_KEY: 'data/%TAG/%TENANCY.ndjson.gz',
  },
  packages: () => ['@azure/storage-blob'],
  targets: (settings, kind, names) => objectTargets(layoutOf(settings), kind, names),
  open: async (settings, context) => objectSink(await openContainer(settings), layoutOf(settings), context),
});

function layoutOf(settings: Values<typeof ENV>): Layout {
  const { place } = connectionOf(settings);
  return {
    key: settings.STORE_AZURE_BLOB_KEY,
    events: settings.STORE_AZURE_BLOB_KEY_EVENTS,
    backup: settings.STORE_AZURE_BLOB_BACKUP,
    columns: settings.STORE_AZURE_BLOB_LAYOUT,
    variables: {
      key: 'STORE_AZURE_BLOB_KEY',
      events: 'STORE_AZURE_BLOB_KEY_EVENTS',
      columns: 'STORE_AZURE_BLOB_LAYOUT',
      backup: 'STORE_AZURE_BLOB_BACKUP',
    },
    service: 'Azure',
    deleting: 'the right to delete blobs',
    place,
  };
}
