import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent } from 'undici';
import { expect, onTestFinished, test } from 'vitest';
import { send } from '../../src/http/send.ts';
import { serve } from '../support/server.ts';

const MIB = 2 ** 20;

function dispatcher(): Agent {
  const agent = new Agent();
  onTestFinished(() => agent.destroy());
  return agent;
}

async function get(origin: URL, signal = new AbortController().signal) {
  return send(dispatcher(), { origin, path: '/', method: 'GET' }, signal);
}

test('a body that is not read waits at the server, and comes whole all the same', async () => {
  const whole = 64;
  let sent = 0;
  const { origin } = await serve(async (_request, response) => {
    for (; sent < whole; sent += 1) if (!response.write(Buffer.alloc(MIB, sent))) await once(response, 'drain');
    response.end();
  });
  const { body } = await get(origin);
  for (let before = -1; before !== sent; await sleep(200)) before = sent;
  expect(sent).toBeLessThan(whole / 2);
  let bytes = 0;
  for await (const chunk of body) {
    expect(chunk.every((byte, n) => byte === Math.floor((bytes + n) / MIB))).toBe(true);
    bytes += chunk.length;
  }
  expect(bytes).toBe(whole * MIB);
});

/** A server that sends a part of its answer and no more, and what became of its connection. */
async function unfinished() {
  let closed: Promise<unknown> = Promise.resolve();
  const { origin } = await serve((_request, response: ServerResponse) => {
    closed = once(response, 'close');
    response.writeHead(200, { 'content-length': '100' });
    response.write('part');
  });
  return { origin, closed: () => closed };
}

test('who stops reading closes the connection', async () => {
  const { origin, closed } = await unfinished();
  const { body } = await get(origin);
  for await (const chunk of body) {
    expect(Buffer.from(chunk).toString()).toBe('part');
    break;
  }
  await closed();
});

test('a signal ends what is read with its own reason', async () => {
  const { origin, closed } = await unfinished();
  const stopping = new AbortController();
  const { body } = await get(origin, stopping.signal);
  await body.next();
  const rest = body.next();
  stopping.abort(new Error('enough'));
  await expect(rest).rejects.toThrow('enough');
  await closed();
});

test('a signal ends a request that is not answered', async () => {
  const stopping = new AbortController();
  const { origin } = await serve(() => stopping.abort(new Error('enough')));
  await expect(get(origin, stopping.signal)).rejects.toThrow('enough');
});

test('a signal that came before sends nothing', async () => {
  const server = await serve((_request, response) => response.end());
  await expect(get(server.origin, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  expect(server.received).toEqual([]);
});

test('a body that breaks off is an error behind what came', async () => {
  const { origin } = await serve((_request, response) => {
    response.writeHead(200, { 'content-length': '100' });
    response.write('part', () => response.destroy());
  });
  const { body } = await get(origin);
  const read = async () => {
    for await (const chunk of body) expect(chunk.length).toBeGreaterThan(0);
  };
  await expect(read()).rejects.toThrow(/other side closed|aborted|terminated/);
});
