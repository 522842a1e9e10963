import { createServer, type IncomingHttpHeaders, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** A call as it comes. */
interface Incoming {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
}

/** A call that goes through. */
export interface Call extends Incoming {
  /** What the server does at it, in the words of who looks. */
  readonly kind: string;
  /** How many of its kind there were, with this one. */
  readonly nth: number;
}

/** An answer instead of the server's. */
export interface Refusal {
  readonly status: number;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What is done to a call: `lost` breaks the connection instead of the answer, `cut` in the middle of its body. */
export type Fault = Refusal | 'lost' | 'cut' | undefined;

/** A way to a server that looks at what passes it. */
export interface Front {
  readonly origin: string;
  readonly calls: readonly Call[];
  kinds(): readonly string[];
}

const CUT = 6 * 2 ** 20;

/** A way to the server through a port of its own, until the test is over, which breaks or answers some calls itself. */
export async function frontOf(
  target: string,
  kindOf: (call: Incoming) => string,
  faults: (call: Call) => Fault = () => undefined,
): Promise<Front> {
  const calls: Call[] = [];
  const server = createServer((incoming, answer) => {
    const url = new URL(incoming.url ?? '/', target);
    const come = { method: incoming.method ?? '', url, headers: incoming.headers };
    const kind = kindOf(come);
    const call = { ...come, kind, nth: calls.filter((one) => one.kind === kind).length + 1 };
    calls.push(call);
    const fault = faults(call);
    if (typeof fault === 'object') refuse(incoming, answer, fault);
    else pass({ incoming, answer, origin }, call, fault);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { origin, calls, kinds: () => calls.map(({ kind }) => kind) };
}

function refuse(incoming: IncomingMessage, answer: ServerResponse, { status, body, headers }: Refusal): void {
  incoming.resume().once('end', () => answer.writeHead(status, headers).end(body));
}

interface Passage {
  readonly incoming: IncomingMessage;
  readonly answer: ServerResponse;
  readonly origin: string;
}

function pass({ incoming, answer, origin }: Passage, { method, url, headers }: Call, fault: Fault): void {
  const { expect: _, ...kept } = headers;
  const outgoing = request(url, { method, headers: kept }, (response) => {
    if (fault === 'lost') {
      response.resume().once('end', () => incoming.socket.destroy());
      return;
    }
    const { location } = response.headers;
    const ours = location === undefined ? {} : { location: location.replace(url.origin, origin) };
    response.pipe(answer.writeHead(response.statusCode ?? 500, { ...response.headers, ...ours }));
  });
  outgoing.on('error', () => answer.destroy());
  incoming.on('error', () => outgoing.destroy());
  if (fault === 'cut') cut(incoming, () => outgoing.end());
  incoming.pipe(outgoing);
}

function cut(incoming: IncomingMessage, end: () => void): void {
  let passed = 0;
  incoming.on('data', (chunk: Buffer) => {
    passed += chunk.length;
    if (passed < CUT) return;
    end();
    incoming.socket.resetAndDestroy();
  });
}
