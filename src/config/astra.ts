import { optional, secret, setting, text } from './setting.ts';

/** The variables of an Astra database that its two stores share. */
export const astraShape = {
  ASTRA_DB_APPLICATION_TOKEN: secret('Token of the database, AstraCS:..., of a role that may write', optional()),
  ASTRA_DB_KEYSPACE: setting('Keyspace', text('logs')),
} as const;
