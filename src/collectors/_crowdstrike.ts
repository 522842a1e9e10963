import { CollectError } from '../errors.ts';
import { type Auth, bearer, clientCredentials, type Exchange, type Token } from '../http/auth.ts';
import type { ListRequest } from '../http/client.ts';
import { header } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import type { Rule } from '../http/retry.ts';
import { at, type Json, numberAt, textAt } from '../json.ts';
import type { Context } from './collector.ts';

/** Base URL of each cloud. */
export const CLOUDS: ReadonlyMap<string, string> = new Map([
  ['us-1', 'https://api.crowdstrike.com'],
  ['us-2', 'https://api.us-2.crowdstrike.com'],
  ['eu-1', 'https://api.eu-1.crowdstrike.com'],
  ['us-gov-1', 'https://api.laggar.gcw.crowdstrike.com'],
  ['us-gov-2', 'https://api.us-gov-2.crowdstrike.mil'],
]);

/** Clouds that know of each other's tenants; the government's do not. */
const DISCOVERED = ['us-1', 'us-2', 'eu-1'];

const TOKEN = '/oauth2/token';

type Form = Readonly<Record<string, string>>;

/** A token of the one cloud that was chosen. */
export function tokenAuth(form: Form): Auth {
  return clientCredentials({ path: TOKEN, form });
}

/**
 * A token of whichever cloud the tenant lives in: any cloud issues one and names the tenant's in X-Cs-Region, or
 * redirects, and no cloud but the tenant's accepts it.
 */
export function discoveringAuth(form: Form): Auth {
  let found: string | undefined;
  return bearer(async (exchange) => {
    const token = found === undefined ? await firstToken(exchange, form) : await tokenOf(exchange, found, form);
    found = token.base;
    return token;
  });
}

/** Asks the clouds in turn: a redirect is not followed with a secret, so the next one is asked instead. */
async function firstToken(exchange: Exchange, form: Form): Promise<Token> {
  let refused: unknown;
  for (const cloud of DISCOVERED) {
    try {
      return await tokenOf(exchange, CLOUDS.get(cloud) as string, form);
    } catch (error) {
      if (!(error instanceof CollectError) || error.code !== 'refused') throw error;
      refused = error;
    }
  }
  throw refused;
}

async function tokenOf(exchange: Exchange, base: string, form: Form): Promise<Token> {
  const { headers, body } = await exchange({ path: base + TOKEN, form });
  const value = textAt(body, 'access_token');
  if (value === undefined) throw new CollectError('vendor', 'the token answer holds no access_token');
  const region = header(headers, 'x-cs-region')?.trim().toLowerCase();
  return { value, lifetime: numberAt(body, 'expires_in') ?? 1799, base: CLOUDS.get(region ?? '') ?? base };
}

/** What a list may say, whatever its status: errors can stand beside records, and a dead cursor looks like the end. */
export const listErrors: readonly Rule[] = [
  { status: [200, 404], body: /context (has )?expired/i, as: 'expired', because: 'the cursor has expired' },
  { status: 200, body: /"errors":\[\{/, as: 'expired', because: 'errors stand beside the records' },
  { status: 200, body: /^(?!.*"pagination":)/s, as: 'failed', because: 'it tells no total' },
  { status: 404, as: 'retry', because: 'mostly a passing fault' },
];

/** Errors of a batch are looked at one by one; an answer that is refused for some of its ids is asked for in halves. */
const batchErrors: readonly Rule[] = [
  { status: 200, as: 'ok' },
  { status: [400, 404], body: /"resources":\s*\[/, as: 'empty' },
  { status: 404, as: 'retry', because: 'mostly a passing fault' },
];

/** Records that are listed by id, and asked for by their ids. */
export interface Details {
  readonly list: ListRequest;
  /** Path of the id in what is listed; '' when that is the id. */
  readonly id: string;
  /** Ids asked for in one call. */
  readonly size: number;
  ask(ids: readonly string[]): Omit<ListRequest, 'records'>;
}

/** Share of the listed ids that may be gone when they are asked for. */
const GONE = 0.01;

/** The records behind a list of ids. The details of a page are fetched, several calls at once, before the next is read. */
export async function* detailed(
  { http, expect, warn, from }: Pick<Context<unknown>, 'http' | 'expect' | 'warn' | 'from'>,
  { list, id, size, ask }: Details,
): AsyncGenerator<Page> {
  let declared = numberAt(from, 'declared') ?? 0;
  let listed = numberAt(from, 'listed') ?? 0;
  let gone = numberAt(from, 'gone') ?? 0;
  const place = at(from, 'list');
  const request = { absent: 'empty', ...list, errors: listErrors } as const;
  const fetched = async (ids: readonly string[]): Promise<readonly Page[]> => {
    const page = await http.page({ absent: 'empty', ...ask(ids), records: 'resources', errors: batchErrors });
    assertOnlyMissing(page);
    if (page.records >= ids.length) return [page];
    await page.discard();
    if (ids.length > 1) {
      const half = Math.ceil(ids.length / 2);
      return [...(await fetched(ids.slice(0, half))), ...(await fetched(ids.slice(half)))];
    }
    gone += 1;
    if (gone <= declared * GONE) return [];
    throw new CollectError('incomplete', `${gone} of ${declared} that were listed do not come when asked for`);
  };
  const pages = place === null ? [] : http.pages(place === undefined ? request : { ...request, from: place });
  for await (const page of pages) {
    declared = Math.max(declared, numberAt(page.body, 'meta.pagination.total') ?? 0);
    expect(declared);
    const ids = await idsIn(page, id);
    listed += ids.length;
    const behind = () => ({ list: page.next ?? null, declared, listed, gone });
    yield* placedLast(inOrder(batches(ids, size).map(fetched)), behind);
  }
  if (listed < declared) {
    throw new CollectError('incomplete', `${listed} ids came of ${declared} that the vendor declared`);
  }
  if (gone > 0) warn(`${gone} of ${declared} were removed while they were read`);
  expect(listed - gone);
}

/** Pages of which the last tells how to go on behind them all. */
async function* placedLast(pages: AsyncIterable<Page>, next: () => Json): AsyncGenerator<Page> {
  let held: Page | undefined;
  for await (const page of pages) {
    if (held !== undefined) yield held;
    const { next: _, ...unplaced } = page;
    held = unplaced;
  }
  if (held !== undefined) yield { ...held, next: next() };
}

/** What was asked for at once, in the order it was asked for. */
async function* inOrder(coming: Promise<readonly Page[]>[]): AsyncGenerator<Page> {
  for (const batch of coming) batch.catch(() => undefined);
  try {
    for (let batch = coming.shift(); batch !== undefined; batch = coming.shift()) yield* await batch;
  } finally {
    for (const batch of coming) batch.then((pages) => pages.map((unread) => unread.discard())).catch(() => undefined);
  }
}

function assertOnlyMissing(page: Page): void {
  const errors = at(page.body, 'errors');
  const other = Array.isArray(errors) ? errors.find((error: Json) => numberAt(error, 'code') !== 404) : undefined;
  if (other === undefined) return;
  const code = numberAt(other, 'code') ?? 'no code';
  throw new CollectError('incomplete', `${page.url.pathname} was answered with an error (${code}) beside the records`);
}

async function idsIn(page: Page, path: string): Promise<readonly string[]> {
  const parts: Uint8Array[] = [];
  for await (const lines of page.lines()) parts.push(...lines);
  const lines = Buffer.concat(parts).toString('utf8').split('\n').slice(0, -1);
  return lines.map((line) => {
    const id = textAt(parsed(line), path);
    if (id === undefined) throw new CollectError('vendor', `${page.url.pathname} lists something without an id`);
    return id;
  });
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // The parser's own error quotes the line.
    throw new CollectError('vendor', 'a listed id is no JSON');
  }
}

function batches(ids: readonly string[], size: number): (readonly string[])[] {
  return Array.from({ length: Math.ceil(ids.length / size) }, (_, n) => ids.slice(n * size, (n + 1) * size));
}
