import { randomUUID } from 'node:crypto';
import { afterAll } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Sink } from '../../src/stores/store.ts';
import store from '../../src/stores/store_elasticsearch.ts';
import { storeSuite } from '../stores/suite.ts';
import { needed } from '../support/needed.ts';
import { searchReader } from '../support/search.ts';

const url = needed('TEST_ELASTICSEARCH_URL');
const stem = `t${randomUUID().slice(0, 8)}`;
const reader = searchReader(url);

afterAll(() => reader.wipe(stem));

async function open(env: Readonly<Record<string, string>> = {}, warnings: string[] = []): Promise<Sink> {
  const variables = { STORE_ELASTICSEARCH_URL: url, STORE_ELASTICSEARCH_INDEX: `${stem}-%TAG`, ...env };
  const { values, problems } = resolveShape(environmentOf(variables), store.name, store.env, store.aliases);
  if (values === undefined) throw new Error(JSON.stringify(problems));
  return store.open(values, { tenancy: 'acme', at: new Date(), warn: (said) => warnings.push(said) });
}

storeSuite(
  'elasticsearch',
  async () => ({
    open: (warnings) => open({}, warnings),
    read: (tag) => reader.records(`${stem}-${tag}`),
    exact: true,
    nul: 'kept',
    loneSurrogate: 'kept',
    secrets: [],
  }),
  { checksJson: true, remembers: true },
);
