import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll } from 'vitest';
import { z } from 'zod';
import store from '../../src/stores/store_postgres.ts';
import { storeSuite } from '../stores/suite.ts';
import { needed } from '../support/needed.ts';

const url = new URL(needed('TEST_POSTGRES_URL'));
const schema = `suite_${randomUUID().replaceAll('-', '')}`;
const reader = new pg.Pool({ connectionString: url.href });

afterAll(async () => {
  await reader.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  await reader.end();
});

storeSuite(
  'postgres',
  async () => ({
    open: (warnings) => {
      const settings = z.object(store.env).parse({
        STORE_POSTGRES_HOST: url.hostname,
        STORE_POSTGRES_PORT: url.port,
        STORE_POSTGRES_USER: decodeURIComponent(url.username),
        STORE_POSTGRES_PASSWORD: url.password === '' ? undefined : decodeURIComponent(url.password),
        STORE_POSTGRES_DBNAME: url.pathname.slice(1),
        STORE_POSTGRES_SCHEMA: schema,
      });
      return store.open(settings, { tenancy: 'acme', at: new Date(), warn: (said) => warnings.push(said) });
    },
    read: async (tag) => {
      const { rows } = await reader.query(`SELECT json_data::text AS record FROM ${schema}."${tag}_latest"`);
      return rows.map((row) => String(row.record).replace(/([:,]) /g, '$1'));
    },
    exact: false,
    nul: 'replaced',
    loneSurrogate: 'replaced',
    secrets: [],
  }),
  { checksJson: true, remembers: true },
);
