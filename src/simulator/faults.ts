import type { ServerResponse } from 'node:http';

/** How a route hands out its records. */
export type PagingKind =
  | 'link' // Link header
  | 'next-url' // a URL in the body
  | 'cursor' // an opaque cursor in the body
  | 'scroll' // a cursor that stays the same while the vendor moves on
  | 'offset' // records to skip
  | 'page' // page number
  | 'ids' // the records of the ids asked for
  | 'job-start'
  | 'job-status'
  | 'job-chunk'
  | 'none'; // one answer

const EVERYWHERE = [
  '429',
  '429-bare',
  '429-forever',
  '500',
  '503',
  'reset',
  'truncated',
  'slow',
  'expired-token',
  '401-forever',
  '403',
  '404',
  'html',
  'html-forever',
  'error-200',
  'redirect-foreign',
] as const;
const LISTS = ['empty-list', 'empty-page', 'repeated-page', 'dropped-page', 'short-page', 'same-page'] as const;
const SOMEWHERE = [
  ...LISTS,
  'foreign-next',
  'wrong-total',
  'expired-cursor',
  'job-error',
  'chunk-failed',
  'chunk-404',
] as const;

/** What can go wrong. */
export type FaultName = (typeof EVERYWHERE)[number] | (typeof SOMEWHERE)[number];

/** Every fault. */
export const faultNames: readonly FaultName[] = [...EVERYWHERE, ...SOMEWHERE];

const CURSOR: readonly FaultName[] = [...LISTS, 'wrong-total', 'expired-cursor'];

/** The faults that apply to a paging kind, beside those that apply everywhere; `wrong-total` only where one is declared. */
const pagingFaults: Readonly<Record<PagingKind, readonly FaultName[]>> = {
  link: [...CURSOR, 'foreign-next'],
  'next-url': [...CURSOR, 'foreign-next'],
  cursor: CURSOR,
  scroll: CURSOR,
  offset: ['empty-list', 'repeated-page', 'short-page', 'same-page', 'wrong-total'],
  page: ['empty-list', 'repeated-page', 'short-page', 'same-page', 'wrong-total'],
  ids: ['empty-list', 'short-page'],
  'job-start': [],
  'job-status': ['empty-list', 'dropped-page', 'wrong-total', 'job-error', 'chunk-failed'],
  'job-chunk': ['repeated-page', 'short-page', 'expired-cursor', 'chunk-404'],
  none: ['empty-list'],
};

/** Faults that stay unless `times` says otherwise. */
const LASTING: ReadonlySet<FaultName> = new Set([
  '429-forever',
  '401-forever',
  '403',
  'html-forever',
  'error-200',
  'empty-list',
  'same-page',
  'foreign-next',
  'wrong-total',
] as const);

/** The page a fault is about, where it is not the first that comes by. */
const PAGE: Partial<Readonly<Record<FaultName, number>>> = {
  'empty-page': 2,
  'repeated-page': 1,
  'dropped-page': 2,
  'short-page': 2,
  'expired-cursor': 2,
};

/** Where a fault shows itself, counted from the page it is about. */
const SHIFT: Partial<Readonly<Record<FaultName, number>>> = { 'repeated-page': 1, 'dropped-page': -1 };

/** Something that goes wrong. */
export interface Fault {
  readonly name: FaultName;
  /** Only for this resource; `token` is the token endpoint, which no other fault touches. */
  readonly resource?: string;
  /** Only for the route with this path, as the vendor declares it. */
  readonly path?: string;
  /** Once, unless the fault lasts by its nature. */
  readonly times?: number | 'always';
  /** The page (from 1) or chunk it is about. */
  readonly page?: number;
}

interface Target {
  readonly path: string;
  readonly resource: string;
  readonly total?: boolean;
  readonly paging: { readonly kind: PagingKind };
}

/** Whether a fault can happen on a route. */
export function applies(fault: Fault, route: Target): boolean {
  if (fault.resource === undefined ? route.resource === 'token' : fault.resource !== route.resource) return false;
  if (fault.path !== undefined && fault.path !== route.path) return false;
  if ((EVERYWHERE as readonly string[]).includes(fault.name)) return true;
  if (fault.name === 'wrong-total' && route.total !== true) return false;
  return pagingFaults[route.paging.kind].includes(fault.name);
}

/** The faults of a running vendor, each with the times it has left. */
export class FaultList {
  readonly #left: { readonly fault: Fault; times: number }[];

  constructor(faults: readonly Fault[]) {
    this.#left = faults.map((fault) => {
      const times = fault.times ?? (LASTING.has(fault.name) ? 'always' : 1);
      return { fault, times: times === 'always' ? Number.POSITIVE_INFINITY : times };
    });
  }

  /** The fault that hits a request, used up by one. */
  take(route: Target, page: number): Fault | undefined {
    const hit = this.#left.find(({ fault, times }) => times > 0 && applies(fault, route) && hits(fault, route, page));
    if (hit === undefined) return undefined;
    hit.times -= 1;
    return hit.fault;
  }
}

function hits(fault: Fault, route: Target, page: number): boolean {
  if (route.paging.kind === 'job-status') return true; // it has no pages: the fault names a chunk
  const meant = fault.page ?? (route.paging.kind === 'ids' ? undefined : PAGE[fault.name]);
  return meant === undefined || meant + (SHIFT[fault.name] ?? 0) === page;
}

/** The page or chunk a fault is about. */
export function pageOf(fault: Fault): number {
  return fault.page ?? PAGE[fault.name] ?? 1;
}

/** An answer, before it is sent. */
export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body: string;
  /** Called when the answer went out whole. */
  readonly sent?: () => void;
}

/** Where a foreign link leads. */
export const FOREIGN = 'http://attacker.invalid';

const SIGN_IN =
  '<!DOCTYPE html><html><head><title>Sign in</title></head><body><form action="/login"></form></body></html>';

/** The answer that a fault puts in place of the vendor's, if it is of that sort; `error` writes the vendor's own. */
export function replacing(name: FaultName, path: string, error: (status: number) => string): Reply | undefined {
  const failed = (status: number, headers = {}) => ({ status, headers, body: error(status) });
  switch (name) {
    case '429':
      return failed(429, { 'retry-after': '1' });
    case '429-bare':
    case '429-forever':
      return failed(429);
    case '500':
    case '503':
    case '403':
    case '404':
      return failed(Number(name));
    case 'expired-token':
    case '401-forever':
      return failed(401);
    case 'html':
    case 'html-forever':
      return { status: 200, body: SIGN_IN };
    case 'error-200':
      return failed(200);
    case 'redirect-foreign':
      return { status: 302, headers: { location: FOREIGN + path }, body: '' };
    default:
      return undefined;
  }
}

/** Whether a fault breaks the answer on its way. */
export function breaks(name: FaultName | undefined): boolean {
  return name === 'reset' || name === 'truncated';
}

/** Sends a body as a fault of the connection would; the headers are set but for the length. */
export async function sendBody(response: ServerResponse, body: Buffer, name: FaultName | undefined): Promise<void> {
  response.setHeader('content-length', body.length);
  if (name === 'reset') {
    await new Promise((written) => response.write(body.subarray(0, body.length / 2), written));
    response.socket?.destroy();
  } else if (name === 'slow') {
    const piece = Math.ceil(body.length / 10);
    for (let from = 0; from < body.length; from += piece) {
      response.write(body.subarray(from, from + piece));
      await new Promise((later) => setTimeout(later, 100));
    }
    response.end();
  } else response.end(body);
}
