import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CollectError } from '../../src/errors.ts';
import {
  cursor,
  linkHeader,
  nextLink,
  nextUrl,
  offset,
  type Paginator,
  pageNumber,
  type Seen,
} from '../../src/http/paginate.ts';

function seen(facts: Partial<Omit<Seen, 'url'>> & { url?: string } = {}): Seen {
  const url = new URL(facts.url ?? 'https://vendor.example/list');
  return { headers: {}, body: null, records: 1, total: 1, sent: undefined, ...facts, url };
}

describe('Link headers', () => {
  it.each([
    ['<https://a.example/x?y=1>; rel="next"', 'https://a.example/x?y=1'],
    ['<https://a.example/self>; rel="self", <https://a.example/n>; rel="next"', 'https://a.example/n'],
    ['<https://a.example/n>;rel=next', 'https://a.example/n'],
    ['</n?a=1,2;3>; rel="next"', '/n?a=1,2;3'],
    ['<n>; rel="prev next"', 'n'],
    ['<n>; title="rel=\\"next\\""; rel="last"', undefined],
    ['<n>; title="a, b; c"; rel="next"', 'n'],
    ['<n>; REL="Next"', 'n'],
    ['<a>; rel="nextish", <b>; rel="x-next"', undefined],
    ['<a>; rel="self"', undefined],
    ['nonsense', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('%s', (link, next) => expect(nextLink(link)).toBe(next));

  it('are found among any others, in any place', () => {
    const target = fc.webUrl({ withQueryParameters: true }).filter((url) => !/[<>]/.test(url));
    const other = fc.tuple(target, fc.constantFrom('self', 'prev', 'first', 'last'));
    fc.assert(
      fc.property(target, fc.array(other), fc.nat(), (url, others, at) => {
        const links = others.map(([href, rel]) => `<${href}>; rel="${rel}"`);
        links.splice(at % (links.length + 1), 0, `<${url}>; rel="next"`);
        expect(linkHeader()(seen({ headers: { link: links.join(', ') } }))).toEqual({ url });
        expect(linkHeader()(seen({ headers: { link: links } }))).toEqual({ url });
      }),
    );
  });

  it('may end with an empty page', () => {
    const headers = { link: '<n>; rel="next"' };
    expect(linkHeader({ untilEmpty: true })(seen({ headers, records: 0 }))).toBeUndefined();
    expect(linkHeader({ untilEmpty: true })(seen({ headers }))).toEqual({ url: 'n' });
    expect(linkHeader()(seen({ headers, records: 0 }))).toEqual({ url: 'n' });
    expect(linkHeader({ untilEmpty: true }).fromHeaders).toBe(false);
  });
});

describe('next URL in the body', () => {
  it('is found at its path, dots in the key or not', () => {
    expect(nextUrl('@odata.nextLink')(seen({ body: { '@odata.nextLink': 'u' } }))).toEqual({ url: 'u' });
    expect(nextUrl('meta.next')(seen({ body: { meta: { next: 'u' } } }))).toEqual({ url: 'u' });
    for (const next of [null, '', {}]) expect(nextUrl('next')(seen({ body: { next } }))).toBeUndefined();
  });
});

describe('cursors', () => {
  const next = cursor('meta.after', { as: 'after', more: 'meta.more' });

  it.each([
    [{ meta: { after: 'x' } }, { query: { after: 'x' } }],
    [{ meta: { after: 17 } }, { query: { after: '17' } }],
    [{ meta: { after: 'x', more: true } }, { query: { after: 'x' } }],
    [{ meta: { after: 'x', more: false } }, undefined],
    [{ meta: { after: '' } }, undefined],
    [{ meta: {} }, undefined],
    [null, undefined],
  ])('%j', (body, expected) => expect(next(seen({ body }))).toEqual(expected));

  it('more without a cursor is an error', () => {
    expect(() => next(seen({ body: { meta: { more: true } } }))).toThrow(CollectError);
    expect(() => next(seen({ body: { meta: { more: true } } }))).toThrow('no cursor');
  });

  it('go into the body beside what was sent', () => {
    const inBody = cursor('next', { as: 'after', inBody: true });
    expect(inBody(seen({ body: { next: 'b' }, sent: { filter: 1, after: 'a' } }))).toEqual({
      body: { filter: 1, after: 'b' },
    });
    expect(inBody(seen({ body: { next: 'b' } }))).toEqual({ body: { after: 'b' } });
    expect(inBody(seen({ body: { next: 7 } }))).toEqual({ body: { after: 7 } });
    const deep = cursor('page.end', { as: 'variables.after', inBody: true });
    expect(deep(seen({ body: { page: { end: 'b' } }, sent: { query: 'q', variables: { first: 5 } } }))).toEqual({
      body: { query: 'q', variables: { first: 5, after: 'b' } },
    });
  });
});

describe('counted pages', () => {
  /** Records that a paginator finds in a list of `total`, where a page may hold fewer than asked for. */
  function walk(next: Paginator, name: string, first: number, total: number, size: number, told: boolean): number[] {
    const found: number[] = [];
    const url = new URL('https://vendor.example/list');
    for (let pages = 0; pages < 500; pages += 1) {
      const at = Number(url.searchParams.get(name) ?? first);
      const from = name === 'page' ? (at - first) * size : at;
      const records = Array.from({ length: Math.max(0, Math.min(size, total - from)) }, (_, n) => from + n);
      found.push(...records);
      const body = told ? { total } : {};
      const answer = next(seen({ url: url.href, body, records: records.length, total: found.length }));
      if (answer === undefined) return found;
      if (!('query' in answer)) throw new Error('a query was expected');
      for (const [key, value] of Object.entries(answer.query)) url.searchParams.set(key, String(value));
    }
    throw new Error('it never ended');
  }

  it.each(['offset', 'page'])('%s finds every record once, whatever the total', (kind) => {
    fc.assert(
      fc.property(fc.nat(300), fc.integer({ min: 1, max: 50 }), fc.boolean(), fc.nat(1), (total, size, told, first) => {
        const options = { as: kind, size, ...(told ? { total: 'total' } : {}) };
        const paginator = kind === 'page' ? pageNumber({ ...options, first }) : offset(options);
        const found = walk(paginator, kind, kind === 'page' ? first : 0, total, size, told);
        expect(found).toEqual(Array.from({ length: total }, (_, n) => n));
      }),
    );
  });

  it('offsets asked for at once cover what the first page left, once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 60 }), (total, size) => {
        const { ahead } = offset({ as: 'skip', total: 'total', size, parallel: true });
        const records = Math.min(size, total);
        const nexts = ahead?.(seen({ body: { total }, records, total: records })) ?? [];
        const covered = nexts.flatMap((next) => {
          const start = 'query' in next ? Number(next.query.skip) : Number.NaN;
          return Array.from({ length: Math.min(records, total - start) }, (_, n) => start + n);
        });
        expect(covered).toEqual(Array.from({ length: total - records }, (_, n) => records + n));
      }),
    );
  });

  it('are not asked for at once where no total is told', () => {
    expect(offset({ as: 'skip', size: 5, parallel: true }).ahead?.(seen({ records: 5 }))).toBeUndefined();
    expect(offset({ as: 'skip', size: 5, total: 't' }).ahead).toBeUndefined();
  });
});

it('every paginator says in a word what it does', () => {
  const all = [
    linkHeader(),
    nextUrl('a'),
    cursor('a', { as: 'b' }),
    offset({ as: 'a', size: 1 }),
    pageNumber({ as: 'a', size: 1 }),
  ];
  for (const paginator of all) expect(paginator.about).toMatch(/\w/);
});
