import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** Azure's own emulator of Blob Storage, on loopback, in memory. */
export interface Azurite {
  readonly endpoint: string;
  readonly account: string;
  readonly key: string;
  stop(): Promise<void>;
}

/** Starts it; with a certificate it serves TLS and takes tokens of Entra. */
export async function startAzurite(tls?: { readonly cert: string; readonly key: string }): Promise<Azurite> {
  const require = createRequire(import.meta.url);
  const main = join(require.resolve('azurite/package.json'), '..', 'dist/src/blob/main.js');
  const account = 'acmedata';
  const key = randomBytes(64).toString('base64');
  const options = [
    '--blobPort',
    '0',
    '--inMemoryPersistence',
    '--skipApiVersionCheck',
    '--disableTelemetry',
    '--silent',
  ];
  const secure = tls === undefined ? [] : ['--cert', tls.cert, '--key', tls.key, '--oauth', 'basic'];
  const child = spawn(process.execPath, [main, ...options, ...secure], {
    env: { ...process.env, AZURITE_ACCOUNTS: `${account}:${key}` },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const endpoint = `${await listening(child)}/${account}`;
  return { endpoint, account, key, stop: () => stopped(child) };
}

function listening(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.on('exit', (code) => reject(new Error(`azurite ended with ${code}: ${said}`)));
    child.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const origin = /listens? on (https?:\/\/\S+)|listening (?:at|on) (https?:\/\/\S+)/.exec(said);
      const found = origin?.[1] ?? origin?.[2];
      if (found !== undefined) resolve(found);
    });
  });
}

function stopped(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.removeAllListeners('exit');
    child.on('exit', () => resolve());
    child.kill();
  });
}
