import { randomUUID } from 'node:crypto';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { WebSocket } from 'undici';
import { afterAll } from 'vitest';
import { positionOf } from '../../src/stores/_pulsar.ts';
import { needed } from './needed.ts';

/** Where the WebSocket service is. */
export const service = needed('TEST_PULSAR_WS');
const admin = needed('TEST_PULSAR_ADMIN');

/** A message as a reader gets it. */
export interface Seen {
  readonly payload: Buffer;
  readonly properties: Readonly<Record<string, string>>;
  readonly key: string | undefined;
  /** Whether it is the last one of its entry. */
  readonly ends: boolean;
  readonly ledger: bigint;
  readonly entry: bigint;
  readonly partition: number | undefined;
}

/** A call to the administration. */
export async function administer(method: string, path: string, body?: unknown): Promise<Response> {
  const headers = { 'content-type': 'application/json' };
  return fetch(`${admin}/admin/v2/${path}`, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

/** A namespace that is removed behind the tests of the file; its brokers de-duplicate if told so. */
export async function namespaceOf(deduplicates: boolean): Promise<string> {
  const namespace = `public/cc-${randomUUID()}`;
  const made = await administer('PUT', `namespaces/${namespace}`);
  const told = await administer('POST', `namespaces/${namespace}/deduplication`, deduplicates);
  if (!made.ok || !told.ok) throw new Error(`the namespace cannot be made: ${made.status}, ${told.status}`);
  afterAll(() => administer('DELETE', `namespaces/${namespace}?force=true`));
  return namespace;
}

/** The place of the newest message of a topic. */
export async function lastOf(namespace: string, name: string): Promise<string> {
  return (await administer('GET', `persistent/${namespace}/${name}/lastMessageId`)).text();
}

/** Every message of a topic as it is now, oldest first; none where there is no topic. */
export async function readTopic(namespace: string, name: string): Promise<readonly Seen[]> {
  const answer = await administer('GET', `persistent/${namespace}/${name}/lastMessageId`);
  if (answer.status === 404) return [];
  const last = (await answer.json()) as { ledgerId: number; entryId: number };
  if (last.entryId < 0) return [];
  const socket = new WebSocket(`${service}/ws/v2/reader/persistent/${namespace}/${name}?messageId=earliest`);
  const seen: Seen[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener('close', ({ code }) => reject(new Error(`the reader of ${name} was closed: ${code}`)));
    socket.addEventListener('message', ({ data }) => {
      const message = JSON.parse(String(data));
      socket.send(JSON.stringify({ messageId: message.messageId }));
      const found = seenOf(message);
      seen.push(found);
      const past = found.ledger > BigInt(last.ledgerId) || found.entry >= BigInt(last.entryId);
      if (past && found.ledger >= BigInt(last.ledgerId) && found.ends) resolve();
    });
  });
  socket.close();
  return seen;
}

function seenOf(message: {
  messageId: string;
  payload: string;
  properties: Record<string, string>;
  key?: string;
}): Seen {
  const { index, batch, ...place } = positionOf(message.messageId);
  const { properties, key } = message;
  return { ...place, ends: index >= batch - 1, payload: Buffer.from(message.payload, 'base64'), properties, key };
}

/** The records of messages, those in parts put together, as texts. */
export function recordsIn(messages: readonly Seen[]): readonly string[] {
  const records: string[] = [];
  let parts: Buffer[] = [];
  for (const { payload, properties } of messages) {
    parts.push(payload);
    if (properties.part !== undefined && properties.part !== properties.parts) continue;
    records.push(Buffer.concat(parts).toString());
    parts = [];
  }
  return records;
}

/** A way to the service that can be cut. */
export interface Bridge {
  readonly url: string;
  /** Breaks every connection; new ones are refused until it is mended. */
  cut(): void;
  mend(): void;
  /** Lets nothing come back any more on the connections there are. */
  mute(): void;
  /** Bytes that went to the service so far. */
  readonly passed: () => number;
  close(): Promise<void>;
}

/** Puts a bridge before the service. */
export async function bridge(): Promise<Bridge> {
  const { hostname, port } = new URL(service);
  const sockets = new Set<Socket>();
  const answering = new Set<Socket>();
  let whole = true;
  let passed = 0;
  const server = createServer((near) => {
    if (!whole) {
      near.destroy();
      return;
    }
    const far = connect(Number(port), hostname);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.on('data', (chunk) => {
      passed += chunk.length;
    });
    answering.add(near);
    far.on('data', (chunk) => {
      if (answering.has(near)) near.write(chunk);
    });
    near.pipe(far);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = () => {
    whole = false;
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    mend: () => {
      whole = true;
    },
    mute: () => answering.clear(),
    passed: () => passed,
    async close() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
