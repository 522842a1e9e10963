// A vendor in a process of its own, and digests of what came of it.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** Starts vendor.mjs with its arguments. */
export async function startVendor(...args) {
  const child = spawn(process.execPath, [new URL('vendor.mjs', import.meta.url).pathname, ...args.map(String)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  process.once('exit', () => child.kill());
  const port = await new Promise((resolve) => child.stdout.once('data', (data) => resolve(Number(data))));
  const origin = `http://127.0.0.1:${port}`;
  return {
    origin,
    pid: child.pid,
    /** Pages that were asked for so far. */
    requests: async () => (await (await fetch(`${origin}/seen`)).json()).taken,
    /** Requests taken and refused, and when a list was begun and last read, in epoch milliseconds. */
    seen: async () => (await fetch(`${origin}/seen`)).json(),
    stop: () => child.kill(),
  };
}

/** SHA-256 of a file, in hex. */
export async function digestOf(path) {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}
