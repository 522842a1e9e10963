import { CollectError } from '../errors.ts';
import { verdictError } from '../http/call.ts';
import { keeping, rawValue } from '../http/fields.ts';
import { header } from '../http/pace.ts';
import type { Page } from '../http/page.ts';
import { RecordSplitter, type Split, type Splitter } from '../http/records.ts';
import { backoff, classify, type Rule, retryAfter, type Verdict } from '../http/retry.ts';
import { at, isObject, type Json, type JsonObject, numberAt, textAt } from '../json.ts';
import type { Context } from './collector.ts';

/** One GET in a batch. */
export interface Part {
  /** Below the version, such as /users/1 */
  readonly url: string;
  /** What each of its records keeps. */
  readonly keep: JsonObject;
}

/** How parts are asked for and read. */
export interface BatchOptions {
  readonly version: 'v1.0' | 'beta';
  /** Parts that are open at once; Graph takes 20 in a call. */
  readonly slice: number;
  /** A part's answer is one record, which has this field; without it the records stand in its `value`. */
  readonly single?: string;
  /** What a part's answer means. */
  readonly errors: readonly Rule[];
}

/** A part that has to be asked for, not before a moment. */
interface Open extends Part {
  readonly tries: number;
  /** Epoch milliseconds. */
  readonly at: number;
  /** Pages of it that were asked for. */
  readonly seen: ReadonlySet<string>;
}

const IN_A_CALL = 20;
const MAX_TRIES = 8;

/** A part's own 401 is the token's, unless it is a permission's. */
const batchErrors: readonly Rule[] = [
  { status: 200, body: /ErrorCode\W+Forbidden/, as: 'ok' },
  { status: 200, body: /"status":401\b/, as: 'credentials' },
];

/**
 * The records of many small GETs, twenty in a call. Each part is judged as an answer of its own: one that is throttled is
 * asked for again when its own Retry-After is over, one with a next link goes on, one that fails fails them all.
 */
export async function* batched(
  { http, sleep }: Pick<Context<unknown>, 'http' | 'sleep'>,
  parts: AsyncIterable<Part>,
  options: BatchOptions,
): AsyncGenerator<Page> {
  const coming = parts[Symbol.asyncIterator]();
  const waiting: Open[] = [];
  for (;;) {
    await fill(waiting, coming, options.slice);
    if (waiting.length === 0) return;
    const now = Date.now();
    const ready = waiting.filter((open) => open.at <= now);
    if (ready.length === 0) {
      await sleep((Math.min(...waiting.map((open) => open.at)) - now) / 1000);
      continue;
    }
    const later = waiting.splice(0).filter((open) => open.at > now);
    waiting.push(...later);
    const calls = Array.from({ length: Math.ceil(ready.length / IN_A_CALL) }, (_, nth) =>
      ready.slice(nth * IN_A_CALL, (nth + 1) * IN_A_CALL),
    );
    const pages = await Promise.all(calls.map((call) => send(http, call, options)));
    for (const [nth, page] of pages.entries()) {
      waiting.push(...stillOpen(page, calls[nth] ?? [], options));
      yield page;
    }
  }
}

async function fill(waiting: Open[], coming: AsyncIterator<Part>, most: number): Promise<void> {
  while (waiting.length < most) {
    const next = await coming.next();
    if (next.done === true) return;
    waiting.push({ ...next.value, tries: 0, at: 0, seen: new Set([next.value.url]) });
  }
}

function send(http: Context<unknown>['http'], call: readonly Open[], options: BatchOptions): Promise<Page> {
  return http.page({
    path: `/${options.version}/$batch`,
    method: 'POST',
    repeatable: true,
    body: { requests: call.map(({ url }, id) => ({ id: String(id), method: 'GET', url })) },
    records: 'responses',
    split: (bounds) => partsOf(call, options, bounds),
    errors: batchErrors,
  });
}

/** Takes the records out of each part that is good; what is left of the parts stays in the body. */
function partsOf(call: readonly Open[], { single }: BatchOptions, bounds: Parameters<Split>[0]): Splitter {
  const lines: Uint8Array[] = [];
  const rests = new Map<number, JsonObject>();
  let records = 0;
  const take = (part: Uint8Array): Uint8Array => {
    const id = Number(textAt(parsed(rawValue(part, ['id'])), '') ?? Number.NaN);
    const asked = call[id];
    if (asked === undefined || rests.has(id)) throw new CollectError('vendor', 'a batch is answered by other parts');
    const status = Number(parsed(rawValue(part, ['status'])));
    const body = rawValue(part, ['body']);
    if (status < 200 || status > 299 || body === undefined) {
      rests.set(id, { status, headers: parsed(rawValue(part, ['headers'])), body: parsed(body) });
      return part;
    }
    const keep = keeping(asked.keep);
    const edit = (record: Uint8Array) => keep(bounds.edit?.(record) ?? record);
    const inner = new RecordSplitter({ ...bounds, path: single === undefined ? 'value' : '', edit });
    const text = single === undefined ? [body] : [Buffer.from('['), body, Buffer.from(']')];
    // Copied, for a splitter changes what it reads.
    lines.push(...inner.write(Buffer.concat(text)));
    const { body: rest, found, records: came } = inner.end();
    const whole = found && (single === undefined || rawValue(body, [single]) !== undefined);
    records += came;
    rests.set(id, { status, whole, body: rest });
    return part;
  };
  const outer = new RecordSplitter({ ...bounds, path: 'responses', edit: take });
  return {
    write(chunk) {
      outer.write(chunk);
      return lines.splice(0);
    },
    end() {
      const { found } = outer.end();
      return { records, found, body: { responses: call.map((_, id) => rests.get(id) ?? null) } };
    },
  };
}

function parsed(bytes: Uint8Array | undefined): Json {
  return bytes === undefined ? null : (JSON.parse(Buffer.from(bytes).toString('utf8')) as Json);
}

/** What has to be asked for again, or further. */
function stillOpen(page: Page, call: readonly Open[], { errors, version }: BatchOptions): Open[] {
  const responses = at(page.body, 'responses');
  const rests = Array.isArray(responses) ? responses : [];
  const verdicts = call.map((_, nth) => verdictOf(rests[nth] ?? null, errors));
  const progress = verdicts.some(({ outcome }) => outcome === 'ok');
  return call.flatMap((part, nth) => {
    const verdict = verdicts[nth] ?? { outcome: 'retry' };
    const rest = rests[nth] ?? null;
    if (verdict.outcome === 'empty') return [];
    if (verdict.outcome === 'ok') return further(page, part, rest, version);
    const { outcome } = verdict;
    const tries = outcome === 'throttled' && progress ? 1 : part.tries + 1;
    if ((outcome !== 'retry' && outcome !== 'throttled') || tries >= MAX_TRIES) {
      const where = `GET /${version}${part.url.replace(/\?.*/s, '')} in $batch`;
      throw verdictError(verdict, where, numberAt(rest, 'status') ?? 0);
    }
    return [{ ...part, tries, at: momentOf(page, rest, verdict, tries) }];
  });
}

function verdictOf(rest: Json, errors: readonly Rule[]): Verdict {
  const status = numberAt(rest, 'status');
  if (status === undefined) return { outcome: 'retry', because: 'it is not among the answers' };
  const verdict = classify(status, JSON.stringify(at(rest, 'body') ?? null), errors);
  if (verdict.outcome === 'ok' && at(rest, 'whole') !== true)
    throw new CollectError('vendor', 'a part of a batch holds not what was asked for');
  return verdict;
}

/** When to ask again: never before the told moment. */
function momentOf({ headers }: Page, rest: Json, { wait }: Verdict, tries: number): number {
  const now = Date.now();
  const own = at(rest, 'headers');
  const found = isObject(own) ? Object.entries(own).find(([name]) => /^retry-after$/i.test(name))?.[1] : undefined;
  const told = found === undefined ? undefined : retryAfter(String(found), now, header(headers, 'date'));
  return told ?? now + (wait === undefined ? backoff(tries) : wait * 1000);
}

/** The next page of a part, if it has one. */
function further({ url: asked }: Page, part: Open, rest: Json, version: string): Open[] {
  const next = textAt(at(rest, 'body'), '@odata.nextLink');
  if (next === undefined) return [];
  const to = new URL(next, asked);
  const root = asked.pathname.slice(0, -'/$batch'.length);
  if (to.origin !== asked.origin || !to.pathname.startsWith(`${root}/`)) {
    throw new CollectError('refused', `the next link leads to another host or version than ${version}, ${to.host}`, {
      mend: 'nothing was sent there; tell the vendor, or check a proxy between',
    });
  }
  const url = to.pathname.slice(root.length) + to.search;
  if (part.seen.has(url)) throw new CollectError('incomplete', `${to.pathname}: the same page comes again and again`);
  return [{ ...part, url, tries: 0, at: 0, seen: new Set([...part.seen, url]) }];
}
