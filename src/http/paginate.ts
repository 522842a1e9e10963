import { CollectError } from '../errors.ts';
import { at, isObject, type Json, type JsonObject, numberAt, textAt } from '../json.ts';
import { type Headers, header } from './pace.ts';

/** Query parameters; undefined ones are left out, a list is a parameter repeated. */
export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

/** What a paginator sees of an answer. */
export interface Seen {
  readonly url: URL;
  readonly headers: Headers;
  /** The body without its records. */
  readonly body: Json;
  /** Records on this page. */
  readonly records: number;
  /** Records of the list so far, this page's included. */
  readonly total: number;
  /** The JSON body that was sent, if any. */
  readonly sent: Json | undefined;
}

/** How to ask for the next page: another URL, other query parameters, or another body. */
export type Next = { readonly url: string } | { readonly query: Query } | { readonly body: Json };

/** Tells the next page from this one, or that there is none. A pure function. */
export interface Paginator {
  (seen: Seen): Next | undefined;
  /** In a word, for `explain` and the docs. */
  readonly about: string;
  /** Whether the headers alone tell: then the next page is asked for while this one's body still comes. */
  readonly fromHeaders?: boolean;
  /** The pages behind the first, where they can be asked for at once. */
  readonly ahead?: (first: Seen) => readonly Next[] | undefined;
  /** Seconds after which a reading that was interrupted does not go on but starts again; an hour unless told. */
  readonly lives?: number;
}

/** A paginator of one's own; `about` says in a word what it goes by. */
export function paginator(
  about: string,
  next: (seen: Seen) => Next | undefined,
  extra: Partial<Paginator> = {},
): Paginator {
  return Object.assign((seen: Seen) => next(seen), { about, ...extra });
}

/** How long a vendor knows its links, in seconds. */
interface Lives {
  readonly lives?: number;
}

interface LinkOptions extends Lives {
  readonly untilEmpty?: boolean;
}

/** RFC 8288: the `Link` header with `rel="next"`. `untilEmpty`: an empty page ends the list though it has a next link. */
export function linkHeader({ untilEmpty = false, ...lives }: LinkOptions = {}): Paginator {
  const next = (seen: Seen) => {
    if (untilEmpty && seen.records === 0) return undefined;
    const url = nextLink(header(seen.headers, 'link'));
    return url === undefined ? undefined : { url };
  };
  return paginator('Link header', next, { fromHeaders: !untilEmpty, ...lives });
}

/** The target of `rel="next"` in a `Link` header. */
export function nextLink(link: string | undefined): string | undefined {
  for (const match of (link ?? '').matchAll(/<([^<>]*)>((?:\s*;\s*[^\s=;,]+\s*(?:=\s*(?:"[^"]*"|[^\s",;]+))?)*)/g)) {
    const relation = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s",;]+))/i.exec(match[2] ?? '');
    if ((relation?.[1] ?? relation?.[2] ?? '').toLowerCase().split(/\s+/).includes('next')) return match[1];
  }
  return undefined;
}

/** The whole next URL stands in the body. */
export function nextUrl(path: string, lives: Lives = {}): Paginator {
  const next = ({ body }: Seen) => {
    const url = textAt(body, path);
    return url === undefined ? undefined : { url };
  };
  return paginator(`next URL in ${path}`, next, lives);
}

/** Options of a cursor. */
interface CursorOptions extends Lives {
  /** Name of the parameter it is sent back in; in a body a dotted path. */
  readonly as: string;
  /** Sent in the JSON body instead of the query. */
  readonly inBody?: boolean;
  /** Path of a boolean that says whether there is more; without a cursor then is an error. */
  readonly more?: string;
  /** An empty page ends the list though it has a cursor. */
  readonly untilEmpty?: boolean;
}

/** A cursor in the body, sent back as a parameter; its absence ends the list. */
export function cursor(path: string, options: CursorOptions): Paginator {
  const { as, inBody = false, more, untilEmpty = false, ...lives } = options;
  const next = ({ body, sent, records }: Seen) => {
    if (untilEmpty && records === 0) return undefined;
    const value = textAt(body, path);
    const promised = more === undefined ? undefined : at(body, more);
    if (promised === false) return undefined;
    if (value === undefined) {
      if (promised === true)
        throw new CollectError('incomplete', `the vendor says there is more (${more}) but gives no cursor (${path})`);
      return undefined;
    }
    return inBody ? { body: withValue(sent, as, at(body, path) ?? value) } : { query: { [as]: value } };
  };
  return paginator(`cursor ${path} -> ${as}`, next, lives);
}

/** A JSON object with another value at a dotted path. */
function withValue(object: Json | undefined, path: string, value: Json): JsonObject {
  const [key = '', ...rest] = path.split('.');
  const own = isObject(object) ? object : {};
  return { ...own, [key]: rest.length === 0 ? value : withValue(own[key], rest.join('.'), value) };
}

/** Options of counted pages. */
interface CountedOptions {
  readonly as: string;
  /** Path of the declared total; without one the first page that is not full ends the list. */
  readonly total?: string;
  /** Records a full page has. */
  readonly size: number;
  /** Whether pages may be asked for at once, once the total is known. */
  readonly parallel?: boolean;
}

/** What is added or removed meanwhile moves counted pages. */
const COUNTED_LIVES = 300;

/** An integer offset: records so far are skipped. */
export function offset({ as, total, size, parallel = false }: CountedOptions): Paginator {
  const next = (seen: Seen) => {
    const start = Number(seen.url.searchParams.get(as) ?? 0);
    const declared = total === undefined ? undefined : numberAt(seen.body, total);
    const reached = start + seen.records;
    if (seen.records === 0) return undefined;
    return (declared === undefined ? seen.records >= size : reached < declared)
      ? { query: { [as]: reached } }
      : undefined;
  };
  const ahead = (first: Seen) => {
    const declared = total === undefined ? undefined : numberAt(first.body, total);
    if (declared === undefined || first.records === 0) return undefined;
    const out: Next[] = [];
    const reached = Number(first.url.searchParams.get(as) ?? 0) + first.records;
    for (let start = reached; start < declared; start += first.records) out.push({ query: { [as]: start } });
    return out;
  };
  return paginator(`offset ${as}`, next, { lives: COUNTED_LIVES, ...(parallel ? { ahead } : {}) });
}

/** A page number that counts up. */
export function pageNumber({ as, total, size, first = 1 }: CountedOptions & { readonly first?: number }): Paginator {
  const next = (seen: Seen) => {
    const number = Number(seen.url.searchParams.get(as) ?? first);
    const pages = total === undefined ? undefined : numberAt(seen.body, total);
    const more = pages === undefined ? seen.records >= size : seen.total < pages && seen.records > 0;
    return more ? { query: { [as]: number + 1 } } : undefined;
  };
  return paginator(`page number ${as}`, next, { lives: COUNTED_LIVES });
}
