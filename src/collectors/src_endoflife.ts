import { baseUrl, setting, text, type Values } from '../config/setting.ts';
import type { Page } from '../http/page.ts';
import { at, isObject, type JsonObject } from '../json.ts';
import { missing, releases } from './_endoflife.ts';
import { type Context, defineCollector } from './collector.ts';

const ENV = {
  ENDOFLIFE_PRODUCTS: setting(
    'Products whose cycles to bring, such as nodejs,ubuntu; all unless set',
    text('').transform((value) => value.split(/[\s,;]+/).filter((word) => word !== '')),
  ),
  ENDOFLIFE_URL: setting('Base URL of the API', text('https://endoflife.date/api/v1')),
} as const;

export default defineCollector({
  name: 'endoflife',
  title: 'endoflife.date',
  docs: 'https://endoflife.date/docs/api/v1/',
  env: ENV,
  // No limit is published: one request at a time.
  http: ({ ENDOFLIFE_URL }) => ({ baseUrl: baseUrl(ENDOFLIFE_URL), concurrency: 1 }),
  errors: [{ status: 404, as: 'failed', because: 'endoflife.date knows no product of that name' }],
  resources: {
    products: {
      about: 'Products whose life is followed',
      path: '/products',
      records: 'result',
      total: 'total',
      paginate: null,
      id: 'name',
    },
    cycles: {
      about: 'Release cycles of products and when their support ends',
      path: '/products/full',
      id: ['_product', 'name'],
      adds: { _product: 'name of the product', _product_label: 'its title' },
      probe: { path: '/products' },
      collect: cycles,
    },
  },
});

async function* cycles({ http, settings }: Context<Values<typeof ENV>>): AsyncGenerator<Page | readonly JsonObject[]> {
  const named = new Set(settings.ENDOFLIFE_PRODUCTS);
  if (named.size === 0) yield* http.pages({ path: '/products/full', records: 'result', split: releases });
  for (const name of named) {
    const { body } = await http.json({ path: `/products/${encodeURIComponent(name)}` });
    const list = at(body, 'result.releases');
    if (!Array.isArray(list)) throw missing(name);
    const label = at(body, 'result.label') ?? null;
    yield list.filter(isObject).map((release) => ({ ...release, _product: name, _product_label: label }));
  }
}
