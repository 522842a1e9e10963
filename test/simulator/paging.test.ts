import { afterEach, describe, expect, test } from 'vitest';
import { exportJob } from '../../src/simulator/export_job.ts';
import { applies, type FaultName, faultNames, type PagingKind } from '../../src/simulator/faults.ts';
import { text } from '../../src/simulator/invent.ts';
import {
  cursor,
  ids,
  linkHeader,
  nextUrl,
  none,
  offset,
  type Page,
  type Paging,
  pageNumber,
  scroll,
} from '../../src/simulator/paging.ts';
import { defineVendor, type RunningVendor, startVendor, type VendorOptions } from '../../src/simulator/vendor.ts';
import { arrayAt, ask, nextOf, split } from './reader.ts';

const records = (count: number) => ({
  count,
  at: (index: number) => text({ id: `r${index}`, name: `n° ${index}` }, index),
  find: (id: string) => (Number(id.slice(1)) < count ? Number(id.slice(1)) : undefined),
});

const wrap = (list: string, page: Page) =>
  JSON.stringify({ total: page.total, next: page.next }).replace('}', `,"data":${list}}`);
const route = (name: string, paging: Paging, total = true) => ({
  path: `/${name}`,
  resource: name,
  paging,
  total,
  wrap,
  records,
});
const size = { max: 100 };

const vendor = defineVendor({
  name: 'test',
  env: (origin) => ({ TEST_URL: origin }),
  credential: ({ headers }) => headers['x-key'] as string | undefined,
  key: 'canary',
  error: (status, what) => JSON.stringify({ error: status, what }),
  limitHeaders: ({ remaining }) => ({ 'x-left': String(remaining) }),
  routes: [
    { path: '/link', resource: 'link', paging: linkHeader(size), records },
    route('next-url', nextUrl(size)),
    route('cursor', cursor({ ...size, as: 'after' })),
    route('scroll', scroll({ ...size, as: 'at' })),
    route('offset', offset({ ...size, as: 'skip' })),
    route('page', pageNumber({ ...size, as: 'page' })),
    route('none', none(), false),
    { ...route('ids', ids({ max: 300 }), false), method: 'POST' },
    ...exportJob({
      path: '/export',
      resource: 'job',
      records,
      total: true,
      size: () => 100,
      twice: 'refused',
      emptyChunk: 'null',
      status: (job) => job,
    }),
  ],
});

interface Read {
  readonly pages: string[][];
  readonly total?: number;
  readonly stopped?: string;
}

const headers = { 'x-key': 'canary' };
const parse = (body: string) => JSON.parse(body) as { total: number; next?: string };

type Step = (body: string, got: Headers, rows: number, pages: number) => string | undefined;
const steps: Readonly<Record<string, Step>> = {
  link: (_, got) => nextOf(got),
  'next-url': (body) => parse(body).next,
  cursor: (body) => parse(body).next && `/cursor?after=${parse(body).next}`,
  scroll: (body) => parse(body).next && `/scroll?at=${parse(body).next}`,
  offset: (body, _, rows) => (rows < parse(body).total ? `/offset?skip=${rows}` : undefined),
  page: (body, _, rows, pages) => (rows < parse(body).total ? `/page?page=${pages + 1}` : undefined),
  none: () => undefined,
};

/** A client that believes everything it is told, but for other hosts. */
async function read(running: RunningVendor, kind: string, most = 9): Promise<Read> {
  const pages: string[][] = [];
  let [path, total]: [string | undefined, number] = [`/${kind}`, 0];
  while (path !== undefined && pages.length < most) {
    if (new URL(path, running.origin).origin !== running.origin) return { pages, total, stopped: path };
    const { status, text: body, headers: got } = await ask(running, path, { headers });
    if (status !== 200) return { pages, total, stopped: `${status} ${body}` };
    pages.push(split(kind === 'link' ? body : arrayAt(body, 'data')));
    if (kind !== 'link') total = parse(body).total;
    path = steps[kind]?.(body, got, pages.flat().length, pages.length);
  }
  return { pages, total, ...(path === undefined ? {} : { stopped: 'too many pages' }) };
}

let running: RunningVendor | undefined;
afterEach(async () => {
  await running?.finish();
  running = undefined;
});

async function start(options: VendorOptions = {}): Promise<RunningVendor> {
  running = await startVendor(vendor, { scale: 250, ...options });
  return running;
}

const idsOf = (rows: readonly string[]) => rows.map((row) => (JSON.parse(row) as { id: string }).id);
const numbers = (rows: readonly string[]) => idsOf(rows).map((id) => Number(id.slice(1)));

describe('paging kinds', () => {
  test.each(Object.keys(steps))('%s serves every record, byte for byte', async (kind) => {
    const on = await start();
    const { pages } = await read(on, kind);
    expect(pages.map((page) => page.length)).toEqual(kind === 'none' ? [250] : [100, 100, 50]);
    expect(pages.flat()).toEqual(on.truth(kind));
  });

  test.each(['link', 'cursor', 'scroll', 'offset'])(
    '%s ends cleanly on a full last page and on an empty list',
    async (kind) => {
      const full = await start({ scale: 200 });
      expect((await read(full, kind)).pages.map((page) => page.length)).toEqual([100, 100]);
      await full.finish();
      expect((await read(await start({ scale: 0 }), kind)).pages).toEqual([[]]);
    },
  );

  test('a page holds no more than asked, and no more than the option allows', async () => {
    const on = await start({ pageSize: 40 });
    expect(split((await ask(on, '/link?limit=30', { headers })).text)).toHaveLength(30);
    expect(split((await ask(on, '/link?limit=100', { headers })).text)).toHaveLength(40);
  });

  test('link keeps what else was asked, and repeats its header on even pages', async () => {
    const on = await start();
    const first = await ask(on, '/link?limit=50&expand=all', { headers });
    const next = new URL(nextOf(first.headers) ?? '');
    expect([next.searchParams.get('expand'), next.searchParams.get('limit')]).toEqual(['all', '50']);
    const raw = (path: string) => fetch(new URL(path, on.origin), { headers }).then((got) => got.headers.get('link'));
    expect(await raw(next.href)).toMatch(/rel="self", <.*rel="next"/);
  });

  test('scroll keeps one cursor, and a lost answer is served again', async () => {
    const on = await start({ faults: [{ name: 'reset', resource: 'scroll', page: 2 }] });
    const { next } = parse((await ask(on, '/scroll', { headers })).text);
    await expect(ask(on, `/scroll?at=${next}`, { headers })).rejects.toThrow();
    const second = await ask(on, `/scroll?at=${next}`, { headers });
    expect(parse(second.text).next).toBe(next);
    expect(numbers(split(arrayAt(second.text, 'data')))[0]).toBe(100);
  });

  test('ids serves what was asked for, in that order, and names what is unknown', async () => {
    const on = await start();
    const post = (list: string[]) => ask(on, '/ids', { method: 'POST', headers, body: JSON.stringify({ ids: list }) });
    expect(idsOf(split(arrayAt((await post(['r7', 'r3'])).text, 'data')))).toEqual(['r7', 'r3']);
    expect((await post(['r7', 'r999'])).status).toBe(404);
    expect((await post(Array.from({ length: 301 }, () => 'r1'))).status).toBe(400);
  });

  test('a cursor nobody issued is refused', async () => {
    expect((await ask(await start(), '/cursor?after=bm9uZTox', { headers })).status).toBe(400);
  });
});

interface Status {
  readonly state: string;
  readonly available: number[];
  readonly failed: number[];
  readonly total: number;
  readonly empty: number;
}

async function exported(
  on: RunningVendor,
): Promise<{ statuses: Status[]; rows: Map<number, string[]>; refused: number[] }> {
  const { text: started } = await ask(on, '/export', { method: 'POST', headers, body: '{}' });
  const job = (JSON.parse(started) as { export_uuid: string }).export_uuid;
  const [statuses, rows, refused]: [Status[], Map<number, string[]>, number[]] = [[], new Map(), []];
  while (!/FINISHED|ERROR|CANCELLED/.test(statuses.at(-1)?.state ?? '')) {
    statuses.push(JSON.parse((await ask(on, `/export/${job}/status`, { headers })).text) as Status);
  }
  for (const id of statuses.at(-1)?.available ?? []) {
    const got = await ask(on, `/export/${job}/chunks/${id}`, { headers });
    if (got.status === 200) rows.set(id, split(got.text));
    else refused.push(id);
  }
  return { statuses, rows, refused };
}

describe('export jobs', () => {
  const inOrder = (rows: Map<number, string[]>) =>
    [...rows].sort(([one], [other]) => one - other).flatMap(([, list]) => list);

  test('are queued, work out of order, and hold every record', async () => {
    const on = await start();
    const { statuses, rows } = await exported(on);
    expect(statuses.map(({ state }) => state)).toEqual(['QUEUED', 'PROCESSING', 'FINISHED']);
    expect(statuses.map(({ available }) => available)).toEqual([[], [4, 2], [4, 2, 3, 1]]);
    expect(statuses.at(-1)).toMatchObject({ total: 4, empty: 1, failed: [] });
    expect(inOrder(rows)).toEqual(on.truth('job'));
  });

  test('one that runs is named to who asks for it again', async () => {
    const on = await start();
    const post = () => ask(on, '/export', { method: 'POST', headers, body: '{}' });
    const first = JSON.parse((await post()).text) as { export_uuid: string };
    const second = await post();
    expect(second.status).toBe(409);
    expect(JSON.parse(second.text)).toMatchObject({ active_job_id: first.export_uuid });
    expect((await ask(on, '/export', { method: 'POST', headers })).status).toBe(415);
  });

  test('fail as their faults say', async () => {
    const faulty = async (name: FaultName) => {
      const on = await start({ faults: [{ name, resource: 'job' }] });
      const got = await exported(on);
      await on.finish();
      return { ...got, last: got.statuses.at(-1), found: numbers(inOrder(got.rows)) };
    };
    expect((await faulty('job-error')).last).toMatchObject({ state: 'ERROR', available: [] });
    expect((await faulty('chunk-failed')).last).toMatchObject({ state: 'FINISHED', failed: [1], available: [4, 2, 3] });
    expect((await faulty('dropped-page')).last).toMatchObject({
      state: 'FINISHED',
      failed: [],
      total: 4,
      available: [4, 3, 1],
    });
    expect((await faulty('wrong-total')).last).toMatchObject({ total: 11 });
    expect((await faulty('empty-list')).last).toMatchObject({ state: 'FINISHED', available: [], total: 0 });
    expect((await faulty('chunk-404')).refused).toEqual([4]);
    expect((await faulty('short-page')).found).toHaveLength(240);
    expect((await faulty('repeated-page')).found.filter((id) => id < 100)).toHaveLength(200);
    expect((await faulty('expired-cursor')).refused).toEqual([2, 3, 1]);
  });
});

describe('faults of a list', () => {
  const cases = Object.keys(steps).flatMap((kind) =>
    faultNames
      .filter((name) =>
        applies({ name }, { path: '/', resource: 'x', total: kind !== 'link', paging: { kind: kind as PagingKind } }),
      )
      .map((name) => [kind, name] as const),
  );
  const listed = cases.filter(([, name]) => /page|list|next|total|cursor/.test(name));
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);
  const [one, two, three] = [range(0, 100), range(100, 200), range(200, 250)] as const;

  test.each(listed)('%s: %s', async (kind, name) => {
    const on = await start({ faults: [{ name, resource: kind }] });
    const { pages, total, stopped } = await read(on, kind, 6);
    const got = pages.map(numbers);
    if (name === 'empty-page') expect(got).toEqual([one, [], two, three]);
    else if (name === 'repeated-page') expect(got).toEqual([one, one, three]);
    else if (name === 'dropped-page') expect(got).toEqual([one, three]);
    else if (name === 'short-page')
      expect(got.slice(0, 3).map((page) => page.length)).toEqual([100, 90, kind === 'offset' ? 60 : 50]);
    else if (name === 'same-page') expect(got.slice(0, 3)).toEqual([one, one, one]);
    else if (name === 'foreign-next') expect(stopped).toMatch(/^http:\/\/attacker\.invalid\//);
    else if (name === 'wrong-total') expect([total, got.slice(0, 3)]).toEqual([257, [one, two, three]]);
    else if (name === 'empty-list') expect([got, stopped]).toEqual([[[]], undefined]);
    else if (name === 'expired-cursor') expect([got, stopped]).toEqual([[one], expect.stringContaining('400')]);
    expect(on.requests.some(({ fault }) => fault === name)).toBe(true);
  });

  test('an expired cursor stays dead, and the list can be read again from its start', async () => {
    const on = await start({ faults: [{ name: 'expired-cursor', resource: 'cursor' }] });
    const { next } = parse((await ask(on, '/cursor', { headers })).text);
    for (const _ of [1, 2]) expect((await ask(on, `/cursor?after=${next}`, { headers })).status).toBe(400);
    expect((await read(on, 'cursor')).pages.flat()).toEqual(on.truth('cursor'));
  });
});
