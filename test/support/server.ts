import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { onTestFinished } from 'vitest';

/** A request as the server got it. */
export interface Received {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Answers a request; `nth` counts them from 1. */
export type Route = (request: Received, response: ServerResponse, nth: number) => unknown;

/** A server on loopback that answers as told and remembers what it was asked. */
export interface ScriptedServer {
  readonly origin: URL;
  readonly received: readonly Received[];
  /** Requests that were under way at once, at most. */
  readonly peak: () => number;
}

/** Serves until the test is over; with a certificate over TLS. */
export async function serve(...how: Parameters<typeof serveOn>): Promise<ScriptedServer> {
  const server = await serveOn(...how);
  onTestFinished(() => server.close());
  return server;
}

/** Serves until it is closed; with a certificate over TLS. */
export async function serveOn(
  route: Route,
  tls?: { readonly cert: string; readonly key: string },
  host = '127.0.0.1',
): Promise<ScriptedServer & { close(): Promise<void> }> {
  const received: Received[] = [];
  let active = 0;
  let peak = 0;
  const server = tls === undefined ? createServer() : createTlsServer(tls);
  server.on('request', async (request, response) => {
    active += 1;
    peak = Math.max(peak, active);
    response.on('close', () => {
      active -= 1;
    });
    const url = new URL(request.url ?? '/', origin);
    const parts: Uint8Array[] = [];
    for await (const chunk of request) parts.push(chunk);
    const body = Buffer.concat(parts).toString();
    const got: Received = { method: request.method ?? '', url, headers: request.headers, body };
    received.push(got);
    await route(got, response, received.length);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  };
  const { port } = server.address() as AddressInfo;
  const origin = new URL(`${tls === undefined ? 'http' : 'https'}://${host}:${port}`);
  return { origin, received, peak: () => peak, close };
}

/** Answers with JSON. */
export function json(
  response: ServerResponse,
  body: unknown,
  status = 200,
  headers: Readonly<Record<string, string>> = {},
): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(text)),
    ...headers,
  });
  response.end(text);
}

/** Sends a part of a body and breaks the connection. */
export function reset(response: ServerResponse, part = ''): void {
  if (part === '') {
    response.socket?.destroy();
    return;
  }
  response.writeHead(200, { 'content-type': 'application/json' });
  response.write(part, () => response.socket?.destroy());
}

/** A promise that another place resolves. */
export function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

/** A port on loopback that nobody listens to now. */
export async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
