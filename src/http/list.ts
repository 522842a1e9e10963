import { hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { CollectError } from '../errors.ts';
import type { Json } from '../json.ts';
import type { ListRequest } from './client.ts';
import type { Headers } from './pace.ts';
import type { Page } from './page.ts';
import type { Next, Paginator, Seen } from './paginate.ts';

/** A page to ask for. */
export interface Asked {
  readonly request: ListRequest;
  readonly url: URL;
}

/** Where a list goes on. */
export interface Place {
  readonly url: string;
  readonly body?: Json | undefined;
  /** Records of the list before it. */
  readonly records: number;
  /** Epoch milliseconds up to which the vendor is believed to know it. */
  readonly until: number;
}

/** What reading a list needs of its client. */
export interface ListSource {
  readonly paginate: Paginator | undefined;
  readonly concurrency: number;
  readonly maxPages: number;
  /** Reads a page; `heard` is told the headers of the answer, and what it returns comes before the body. */
  page(asked: Asked, heard: (headers: Headers) => Promise<void> | undefined): Promise<Page>;
  /**
   * The request behind a paginator's answer.
   * @throws {CollectError} refused when it leads to a host that is not the vendor's
   */
  follow(asked: Asked, next: Next): Asked;
}

/** A page under way; its headers come first. */
interface Flight {
  readonly asked: Asked;
  readonly page: Promise<Page>;
  readonly headers: Promise<Headers>;
}

/**
 * A list's pages in order, the next one asked for as early as the vendor's paging lets us.
 * @param before records of the list that an earlier reading has
 */
export async function* readList(source: ListSource, first: Asked, before = 0): AsyncGenerator<Page> {
  const { paginate } = source;
  const ledger = ledgerOf(source.maxPages, before);
  const seenOf = (asked: Asked, page: Pick<Page, 'headers' | 'body' | 'records'>): Seen => ({
    headers: page.headers,
    body: page.body,
    records: page.records,
    total: ledger.records(),
    url: asked.url,
    sent: asked.request.body,
  });
  const nextOf = (asked: Asked, page: Pick<Page, 'headers' | 'body' | 'records'>): Asked | undefined => {
    const next = paginate?.(seenOf(asked, page));
    return next === undefined ? undefined : source.follow(asked, next);
  };
  /** The page behind, asked for as soon as this one's headers tell of it. */
  const guess = async ({ asked, headers }: Flight): Promise<Flight | undefined> => {
    const next = nextOf(asked, { headers: await headers, body: null, records: 1 });
    return next === undefined ? undefined : ask(source, next);
  };
  for (let flight: Flight | undefined = ask(source, first); flight !== undefined; ) {
    const guessing: Promise<Flight | undefined> | undefined =
      paginate?.fromHeaders === true ? guess(flight) : undefined;
    guessing?.catch(() => undefined);
    const page: Page = await flight.page;
    ledger.note(page, flight.asked);
    const ahead = ledger.pages() === 1 ? paginate?.ahead?.(seenOf(flight.asked, page)) : undefined;
    if (ahead !== undefined) {
      const asked = ahead.map((next) => source.follow(first, next));
      yield placed(source, page, asked[0], ledger.records());
      let done = 0;
      for await (const later of readAhead(source, asked)) {
        ledger.note(later, asked[done] as Asked);
        done += 1;
        yield placed(source, later, asked[done], ledger.records());
      }
      return;
    }
    const next: Asked | undefined = nextOf(flight.asked, page);
    // The headers that led ahead may be those of a try that failed later: only the page that came decides.
    const guessed: Flight | undefined = await guessing;
    flight = next === undefined ? undefined : guessed?.asked.url.href === next.url.href ? guessed : ask(source, next);
    yield placed(source, page, next, ledger.records());
  }
}

/** Seconds, where the paginator does not say. */
const CURSOR_LIVES = 3600;

/** Has a page tell how to go on behind it; it stays the same page to whoever counts it. */
function placed({ paginate }: ListSource, page: Page, next: Asked | undefined, records: number): Page {
  if (next === undefined) return Object.assign(page, { next: null });
  const { url, request } = next;
  const until = Date.now() + (paginate?.lives ?? CURSOR_LIVES) * 1000;
  const body = request.body === undefined ? {} : { body: request.body };
  return Object.assign(page, { next: { url: url.href, ...body, records, until } });
}

function ask(source: ListSource, asked: Asked): Flight {
  let heard: (headers: Headers) => void = () => undefined;
  const headers = new Promise<Headers>((resolve) => {
    heard = resolve;
  });
  const page = source.page(asked, (told) => {
    heard(told);
    return source.paginate?.fromHeaders === true ? written() : undefined;
  });
  page.then((whole) => heard(whole.headers)).catch(() => undefined);
  return { asked, page, headers };
}

/** Until a request that is made now has been written, which takes two turns of the event loop. */
async function written(): Promise<void> {
  await setImmediate();
  await setImmediate();
}

/** Pages that are here and wait for an earlier one, at most: each may take mebibytes. */
const EARLY = 2;

/** Pages that may be asked for at once, handed on in order. */
async function* readAhead(source: ListSource, asked: readonly Asked[]): AsyncGenerator<Page> {
  const flights: Flight[] = [];
  let started = 0;
  let underWay = 0;
  const fill = () => {
    for (; underWay < source.concurrency && flights.length < source.concurrency + EARLY; started += 1) {
      const next = asked[started];
      if (next === undefined) return;
      const flight = ask(source, next);
      flights.push(flight);
      underWay += 1;
      const landed = () => {
        underWay -= 1;
        fill();
      };
      flight.page.then(landed, () => undefined); // who waits for it is told
    }
  };
  try {
    for (fill(); flights.length > 0; fill()) yield await (flights.shift() as Flight).page;
  } finally {
    started = asked.length;
  }
}

interface Ledger {
  note(page: Page, asked: Asked): void;
  pages(): number;
  records(): number;
}

/** Pages in a row that are the same under other addresses before the vendor is taken to ignore what is asked. */
const SAME_IN_A_ROW = 3;

/** Counts pages, and knows one that was there before: the same cursor alone is no loop, with the same page it is. */
function ledgerOf(maxPages: number, before: number): Ledger {
  const known = new Set<string>();
  let last = '';
  let same = 0;
  let records = before;
  let pages = 0;
  return {
    note(page, { url, request }) {
      pages += 1;
      records += page.records;
      const key = hash('sha1', `${page.fingerprint} ${url.href} ${JSON.stringify(request.body) ?? ''}`, 'base64');
      const where = `${request.method ?? 'GET'} ${url.pathname}`;
      same = page.records > 0 && page.fingerprint === last ? same + 1 : 1;
      last = page.fingerprint;
      if (known.has(key) || same >= SAME_IN_A_ROW)
        throw new CollectError('incomplete', `${where}: the same page comes again and again`);
      known.add(key);
      if (pages > maxPages) {
        const mend = 'raise CYBER_COLLECT_MAX_PAGES';
        throw new CollectError('refused', `${where}: the list has more than ${maxPages} pages`, { mend });
      }
    },
    pages: () => pages,
    records: () => records,
  };
}
