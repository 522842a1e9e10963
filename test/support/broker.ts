import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { vi } from 'vitest';
import { needed } from './needed.ts';

/** A Pulsar of one's own, which may be killed: the one that other tests share may not. */
export interface Broker {
  /** Address of its WebSocket service. */
  readonly url: string;
  /** Starts it, and waits until it answers. */
  start(): Promise<void>;
  /** Ends it at once. */
  kill(): Promise<void>;
  /** A call to its administration. */
  administer(method: string, path: string, body?: unknown): Promise<Response>;
}

const PATIENCE = { timeout: 120_000, interval: 200 };

/** A broker over a folder; `TEST_PULSAR_HOME` is where Pulsar was unpacked. */
export async function brokerIn(folder: string): Promise<Broker> {
  const home = needed('TEST_PULSAR_HOME');
  const [service = 0, web = 0, bookie = 0, storage = 0] = await freePorts(4);
  await mkdir(join(folder, 'logs'), { recursive: true });
  const config = join(folder, 'standalone.conf');
  await writeFile(config, configured(await readFile(join(home, 'conf', 'standalone.conf'), 'utf8'), service, web));
  const flags = ['--config', config, '-nss', '-nfw', '-a', '127.0.0.1', '--bookkeeper-port', String(bookie)];
  const places = ['--metadata-dir', join(folder, 'metadata'), '--bookkeeper-dir', join(folder, 'bookkeeper')];
  const env = {
    ...process.env,
    PULSAR_STANDALONE_CONF: config,
    PULSAR_LOG_DIR: join(folder, 'logs'),
    PULSAR_MEM: '-Xms256m -Xmx512m -XX:MaxDirectMemorySize=512m -XX:TieredStopAtLevel=1',
  };
  const administer = (method: string, path: string, body?: unknown) =>
    fetch(`http://127.0.0.1:${web}/admin/v2/${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  let running: ChildProcess | undefined;
  return {
    url: `ws://127.0.0.1:${web}`,
    administer,
    async start() {
      const args = ['standalone', ...flags, ...places, '--stream-storage-port', String(storage)];
      // A group of its own: the script has Java as a child.
      running = spawn(join(home, 'bin', 'pulsar'), args, { cwd: folder, env, detached: true, stdio: 'ignore' });
      for (const path of ['brokers/health', 'namespaces/public/default'])
        await vi.waitFor(async () => assertFine(await administer('GET', path)), PATIENCE);
    },
    async kill() {
      if (running?.pid === undefined || running.exitCode !== null || running.signalCode !== null) return;
      const gone = once(running, 'exit');
      process.kill(-running.pid, 'SIGKILL');
      await gone;
    },
  };
}

function configured(text: string, service: number, web: number): string {
  const set = {
    bindAddress: '127.0.0.1',
    brokerServicePort: service,
    webServicePort: web,
    webSocketServiceEnabled: true,
    listeningInterface: 'lo',
    allowLoopback: true,
  };
  const kept = text.split('\n').filter((line) => !((line.split('=')[0] ?? '') in set));
  return [...kept, ...Object.entries(set).map(([name, value]) => `${name}=${value}`), ''].join('\n');
}

function assertFine({ ok, status }: Response): void {
  if (!ok) throw new Error(`the broker answers ${status}`);
}

/** Ports that nobody has at the moment. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
