import { readdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { breaks, type Fault, FaultList, type FaultName, type Reply, replacing, sendBody } from './faults.ts';
import type { Request, Route, Session } from './paging.ts';

/** A vendor's limit, as it stands for one request. */
export interface LimitState {
  readonly limit: number;
  readonly remaining: number;
  /** Epoch milliseconds when it is whole again. */
  readonly resetAt: number;
  /** Whether this request is over it. */
  readonly over: boolean;
}

/** A vendor that computes its answers. */
export interface Vendor {
  /** The collector it answers to. */
  readonly name: string;
  /** The variables that lead the collector here; the credentials are canaries. */
  env(origin: string): Readonly<Record<string, string>>;
  /** The credential a request shows. */
  credential(request: Request): string | undefined;
  /** The one credential that is right; without it, the tokens that the token endpoint issued are. */
  readonly key?: string;
  /** The body of an error, as this vendor writes it. */
  error(status: number, what: string): string;
  limitHeaders(state: LimitState): Readonly<Record<string, string>>;
  /** Headers of every answer. */
  headers?(settings: Readonly<Record<string, string>>): Readonly<Record<string, string>>;
  readonly routes: readonly Route[];
}

/** How a vendor is run. */
export interface VendorOptions {
  /** Records of the main lists; 450 unless told. */
  readonly scale?: number;
  /** Most records on a page, whatever is asked for; 200 unless told, so that a small scale has several pages. */
  readonly pageSize?: number;
  readonly limit?: { readonly requests: number; readonly seconds: number };
  readonly latencyMs?: number;
  /** Data requests that a token is good for. */
  readonly tokenLife?: number;
  /** Whether answers are compressed for clients that take it. */
  readonly gzip?: boolean;
  readonly faults?: readonly Fault[];
  /** Variants of the vendor, by name. */
  readonly settings?: Readonly<Record<string, string>>;
  /** The port; a free one unless told. */
  readonly port?: number;
}

/** A request that came, and what it got. */
export interface Seen {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  status: number;
  /** Epoch milliseconds. */
  readonly at: number;
  fault?: FaultName;
}

/** A vendor that is listening. */
export interface RunningVendor {
  readonly origin: string;
  readonly env: Readonly<Record<string, string>>;
  readonly requests: readonly Seen[];
  /** Requests that no route answers: they got a 501. */
  readonly unexpected: readonly string[];
  /** The text of each record of a resource in the list's order; of all parents, or of the one the parameters name. */
  truth(resource: string, params?: Readonly<Record<string, string>>): string[];
  count429(): number;
  close(): Promise<void>;
  /** Closes, and throws if anything unexpected was asked. */
  finish(): Promise<void>;
}

/** Checks a vendor's types; returns it. */
export function defineVendor(vendor: Vendor): Vendor {
  return vendor;
}

/** Every vendor beside this file, by name. */
export async function vendors(): Promise<Vendor[]> {
  const files = (await readdir(new URL('.', import.meta.url))).filter((file) => /^vendor_\w+\.(js|ts)$/.test(file));
  const loaded = files
    .sort()
    .map((file) => import(new URL(file, import.meta.url).href) as Promise<{ default: Vendor }>);
  return (await Promise.all(loaded)).map((module) => module.default);
}

interface Running {
  readonly vendor: Vendor;
  readonly options: VendorOptions;
  readonly session: Session;
  readonly faults: FaultList;
  readonly routes: readonly { readonly route: Route; readonly pattern: RegExp }[];
  readonly tokens: Map<string, number>;
  readonly dead: Set<string>;
  readonly requests: Seen[];
  readonly unexpected: string[];
  readonly window: { until: number; used: number };
}

/** Starts a vendor on loopback. */
export async function startVendor(vendor: Vendor, options: VendorOptions = {}): Promise<RunningVendor> {
  const server = createServer({ keepAliveTimeout: 60_000 });
  await new Promise<void>((listening, failed) => {
    server.once('error', failed).listen(options.port ?? 0, '127.0.0.1', listening);
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const running = runningOf(vendor, options, origin);
  const { requests, unexpected, session } = running;
  server.on('request', (incoming, response) => {
    respond(running, incoming, response).catch(() => response.destroy());
  });
  const close = () => closed(server);
  return {
    origin,
    env: vendor.env(origin),
    requests,
    unexpected,
    truth: (resource, params) => truthOf(vendor, session.scale, resource, params),
    count429: () => requests.filter(({ status }) => status === 429).length,
    close,
    async finish() {
      await close();
      if (unexpected.length > 0)
        throw new Error(`the ${vendor.name} simulator has no answer for ${unexpected.join(', ')}`);
    },
  };
}

function runningOf(vendor: Vendor, options: VendorOptions, origin: string): Running {
  const tokens = new Map<string, number>();
  let serial = 0;
  const session: Session = {
    origin,
    scale: options.scale ?? 450,
    pageSize: options.pageSize ?? 200,
    settings: options.settings ?? {},
    passes: new Map(),
    jobs: new Map(),
    serial: () => ++serial,
    issue() {
      const token = `canary-${vendor.name}-token-${++serial}`;
      tokens.set(token, 0);
      return token;
    },
    fail: (status, what) => ({ status, body: vendor.error(status, what) }),
  };
  return {
    vendor,
    options,
    session,
    faults: new FaultList(options.faults ?? []),
    routes: vendor.routes.map((route) => ({ route, pattern: patternOf(route.path) })),
    tokens,
    dead: new Set(),
    requests: [],
    unexpected: [],
    window: { until: 0, used: 0 },
  };
}

function patternOf(path: string): RegExp {
  return new RegExp(`^${path.replace(/[.$]/g, '\\$&').replace(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`);
}

function closed(server: Server): Promise<void> {
  return new Promise((done) => {
    server.close(() => done());
    server.closeAllConnections();
  });
}

function truthOf(vendor: Vendor, scale: number, resource: string, params?: Request['params']): string[] {
  const route = vendor.routes.find(
    (one) => one.resource === resource && one.leads !== true && one.records !== undefined,
  );
  if (route === undefined) throw new Error(`the ${vendor.name} simulator has no resource '${resource}'`);
  const out: string[] = [];
  for (const of of params === undefined ? (route.parents?.(scale) ?? [{}]) : [params]) {
    const request = {
      method: 'GET',
      path: route.path,
      query: new URLSearchParams(route.whole),
      headers: {},
      body: '',
      params: of,
    };
    const records = route.records?.(scale, request);
    for (let index = 0; index < (records?.count ?? 0); index += 1) out.push(records?.at(index) ?? '');
  }
  return out;
}

async function respond(running: Running, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(incoming.url ?? '/', running.session.origin);
  const method = incoming.method ?? 'GET';
  const seen: Seen = { method, path: url.pathname + url.search, status: 0, at: Date.now() };
  running.requests.push(seen);
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks).toString();
  const request = { method, path: url.pathname, query: url.searchParams, headers: incoming.headers, body, params: {} };
  const { options, vendor } = running;
  const { reply, fault } = replyTo(running, request, seen);
  seen.status = reply.status;
  if (fault !== undefined) seen.fault = fault;
  if (options.latencyMs !== undefined) await new Promise((later) => setTimeout(later, options.latencyMs));
  response.statusCode = reply.status;
  const type = reply.body.startsWith('<') ? 'text/html; charset=utf-8' : 'application/json';
  const headers = { 'content-type': type, ...vendor.headers?.(running.session.settings), ...reply.headers };
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  const text = fault === 'truncated' ? reply.body.slice(0, reply.body.length / 2) : reply.body;
  const packed = options.gzip === true && /\bgzip\b/.test(String(incoming.headers['accept-encoding'] ?? ''));
  if (packed) response.setHeader('content-encoding', 'gzip');
  if (!breaks(fault)) reply.sent?.();
  await sendBody(response, packed ? gzipSync(text) : Buffer.from(text), fault);
}

interface Answered {
  readonly reply: Reply;
  readonly fault?: FaultName;
}

function replyTo(running: Running, request: Request, seen: Seen): Answered {
  const { vendor, session } = running;
  const found = routeOf(running, request);
  if (found === undefined) {
    running.unexpected.push(`${seen.method} ${seen.path}`);
    return { reply: session.fail(501, 'not simulated') };
  }
  const { route, asked } = found;
  const state = limitState(running, seen.at);
  const extra = state === undefined ? {} : vendor.limitHeaders(state);
  const answered =
    state?.over === true ? { reply: session.fail(429, 'too many requests') } : answer(running, route, asked);
  return { ...answered, reply: { ...answered.reply, headers: { ...extra, ...answered.reply.headers } } };
}

function routeOf({ routes }: Running, request: Request): { route: Route; asked: Request } | undefined {
  for (const { route, pattern } of routes) {
    if ((route.method ?? 'GET') !== request.method) continue;
    const match = pattern.exec(request.path);
    if (match === null) continue;
    const params = Object.fromEntries(
      Object.entries(match.groups ?? {}).map(([name, value]) => [name, decodeURIComponent(value)]),
    );
    const asked = { ...request, params };
    if (route.when?.(asked) ?? true) return { route, asked };
  }
  return undefined;
}

/** Counts the request in its window; what is over the limit is not counted. */
function limitState({ options: { limit }, window }: Running, now: number): LimitState | undefined {
  if (limit === undefined) return undefined;
  if (now >= window.until) {
    // Limits that are told in whole seconds end on one.
    window.until = Math.ceil(now / 1000) * 1000 + limit.seconds * 1000;
    window.used = 0;
  }
  const over = window.used >= limit.requests;
  if (!over) window.used += 1;
  return { limit: limit.requests, remaining: limit.requests - window.used, resetAt: window.until, over };
}

function answer(running: Running, route: Route, request: Request): Answered {
  const { session, vendor, faults } = running;
  const shown = vendor.credential(request) ?? '';
  if (route.resource !== 'token' && !accepted(running, shown))
    return { reply: session.fail(401, 'invalid credentials') };
  const fault = faults.take(route, route.paging.page(request, session));
  const hit = fault === undefined ? {} : { fault: fault.name };
  if (fault?.name === 'expired-token' && vendor.key === undefined) running.dead.add(shown);
  const instead = fault && replacing(fault.name, request.path, (status) => vendor.error(status, `${fault.name} fault`));
  if (instead !== undefined) return { reply: instead, ...hit };
  const records = route.records === undefined ? { count: 0, at: () => '' } : route.records(session.scale, request);
  if (records === undefined)
    return { reply: session.fail(404, `not found: ${Object.values(request.params).join(', ')}`), ...hit };
  return { reply: route.paging.answer({ request, session, route, records, fault }), ...hit };
}

function accepted({ vendor, tokens, dead, options }: Running, shown: string): boolean {
  if (vendor.key !== undefined) return shown === vendor.key;
  const used = tokens.get(shown);
  if (used === undefined || dead.has(shown) || used >= (options.tokenLife ?? Number.POSITIVE_INFINITY)) return false;
  tokens.set(shown, used + 1);
  return true;
}
