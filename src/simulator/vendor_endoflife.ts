import { digits, mix, moment, pick, text } from './invent.ts';
import { none, type Records, type Request, single, span } from './paging.ts';
import { defineVendor } from './vendor.ts';

const day = (index: number, salt: number) => moment(index, salt).slice(0, 10);
const nameOf = (index: number) => `product-${index}`;
const cyclesOf = (product: number) => 1 + (mix(product, 3) % 6);

function facts(index: number): object {
  return {
    name: nameOf(index),
    aliases: index % 4 === 0 ? [`alias-${index}`] : [],
    label: `${pick(['Étoile', '日本語 Linux', 'Acme "Core"', 'Back\\Slash'], index, 1)} ${index}`,
    category: pick(['os', 'lang', 'framework', 'database'], index, 2),
    tags: ['acme'],
    uri: `https://endoflife.example/api/v1/products/${nameOf(index)}`,
  };
}

function release(product: number, nth: number): string {
  const index = product * 8 + nth;
  const record = {
    name: `${nth}.0`,
    codename: nth % 2 === 0 ? null : `Café ${index}`,
    label: `${nth}.0`,
    releaseDate: day(index, 4),
    isLts: nth === 0,
    ltsFrom: null,
    ...(product % 3 === 0 ? {} : { isEoas: true, eoasFrom: day(index, 5) }),
    isEol: nth > 2,
    eolFrom: day(index, 6),
    isMaintained: nth <= 2,
    latest: { name: `${nth}.0.${mix(index, 7) % 90}`, date: day(index, 8), link: null },
    custom: index % 5 === 0 ? { build: digits(String(9_007_199_254_740_993n + BigInt(index))) } : null,
  };
  return text(record, index);
}

function releasesOf(product: number): string[] {
  return span(0, cyclesOf(product)).map((nth) => release(product, nth));
}

const full = (index: number) => `${text(facts(index), index).slice(0, -1)},"releases":[${releasesOf(index)}]}`;

/** Every release, as the truth of the list of products. */
function everyRelease(scale: number): Records {
  const all = span(0, scale).flatMap(releasesOf);
  return { count: all.length, at: (index) => all[index] ?? '' };
}

function oneProduct(scale: number, { params }: Request): Records | undefined {
  const index = span(0, scale).find((one) => nameOf(one) === params.name);
  return index === undefined ? undefined : { count: 1, at: () => full(index) };
}

function wrapped(result: string, total: number): string {
  return `{"schema_version":"1.2.0","generated_at":"2026-01-01T00:00:00+00:00","total":${total},"result":${result}}`;
}

export default defineVendor({
  name: 'endoflife',
  env: (origin) => ({ ENDOFLIFE_URL: `${origin}/api/v1` }),
  credential: () => 'none',
  key: 'none',
  error: (status, what) => JSON.stringify({ message: `${status} ${what}` }),
  limitHeaders: () => ({}),
  routes: [
    {
      path: '/api/v1/products',
      resource: 'products',
      paging: none(),
      total: true,
      records: (scale) => ({ count: scale, at: (index) => text(facts(index), index) }),
      wrap: (records, { total }) => wrapped(records, total),
    },
    {
      path: '/api/v1/products/full',
      resource: 'cycles',
      paging: single('none', ({ session: { scale }, fault }) => {
        const count = fault?.name === 'empty-list' ? 0 : scale;
        return { status: 200, body: wrapped(`[${span(0, count).map(full)}]`, count) };
      }),
      records: everyRelease,
    },
    {
      path: '/api/v1/products/{name}',
      resource: 'product',
      when: ({ params }) => params.name !== 'full',
      paging: single('none', ({ records }) => ({
        status: 200,
        body: `{"schema_version":"1.2.0","result":${records.at(0)}}`,
      })),
      records: oneProduct,
    },
  ],
});
