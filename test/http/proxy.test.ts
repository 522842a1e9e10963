import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createDispatcher } from '../../src/http/dispatcher.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { root } from '../support/build.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { openClient, recordsOf } from '../support/client.ts';
import { failureOf } from '../support/failure.ts';
import { temporaryFolder } from '../support/run.ts';
import { json, serve } from '../support/server.ts';

let certificates: Certificates;
beforeAll(async () => {
  certificates = await makeCertificates();
});
afterAll(() => certificates.remove());

const LIST = { path: '/users', records: '' };

/** A CONNECT proxy on loopback that notes where it was asked to go. */
async function proxyServer(answer = 200): Promise<{ readonly url: string; readonly asked: readonly string[] }> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(500).end();
  });
  server.on('connect', (request, socket: Socket) => {
    asked.push(`CONNECT ${request.url}`);
    sockets.add(socket);
    if (answer !== 200) return void socket.end(`HTTP/1.1 ${answer} No\r\n\r\n`);
    const [host = '', port = ''] = (request.url ?? '').split(':');
    const upstream = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      upstream.pipe(socket).pipe(upstream);
    });
    sockets.add(upstream);
    for (const end of [socket, upstream]) end.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

describe('a proxy', () => {
  it('is asked to connect to the vendor, whose certificate is checked against the CA file', async () => {
    const [proxy, server] = [
      await proxyServer(),
      await serve((_q, response) => json(response, [{ id: 1 }]), certificates),
    ];
    const { http } = await openClient(server.origin, {
      network: { httpsProxy: proxy.url, caFile: certificates.caFile },
    });
    expect(await recordsOf(await http.page(LIST))).toEqual([{ id: 1 }]);
    expect(proxy.asked).toEqual([`CONNECT ${server.origin.host}`]);
  });

  it.each(['127.0.0.1', 'other.example, 127.0.0.1', '*'])('is left out for hosts of NO_PROXY: %s', async (noProxy) => {
    const [proxy, server] = [
      await proxyServer(),
      await serve((_q, response) => json(response, [{ id: 1 }]), certificates),
    ];
    const { http } = await openClient(server.origin, {
      network: { httpsProxy: proxy.url, noProxy, caFile: certificates.caFile },
    });
    expect(await recordsOf(await http.page(LIST))).toEqual([{ id: 1 }]);
    expect(proxy.asked).toEqual([]);
  });

  it('serves the program by itself, which loads no more of the HTTP client than it needs', async () => {
    const [proxy, vendor, folder] = [
      await proxyServer(),
      await startVendor(okta, { scale: 20 }),
      await temporaryFolder(),
    ];
    onTestFinished(() => vendor.close());
    const args = [join(root, 'bin', 'cyber-collect.js'), 'run', '--quiet', '--only', 'okta.users', '--output', 'json'];
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      cwd: folder,
      env: { ...vendor.env, PATH: process.env.PATH, STORE_FILE: join(folder, '%TAG.json'), HTTP_PROXY: proxy.url },
      timeout: 30_000,
    });
    expect(JSON.parse(stdout)).toMatchObject({ exit_code: 0, datasets: [{ verdict: 'complete', records: 20 }] });
    expect(proxy.asked.length).toBeGreaterThan(0);
  });

  it('serves hosts that NO_PROXY does not name', async () => {
    const [proxy, server] = [await proxyServer(), await serve((_q, response) => json(response, []), certificates)];
    const network = { httpsProxy: proxy.url, noProxy: 'vendor.example,10.0.0.1', caFile: certificates.caFile };
    const { http } = await openClient(server.origin, { network });
    await http.page(LIST);
    expect(proxy.asked.length).toBe(1);
  });

  it('does not make a stranger’s certificate good', async () => {
    const [proxy, server] = [await proxyServer(), await serve((_q, response) => json(response, []), certificates)];
    const { http } = await openClient(server.origin, {
      network: { httpsProxy: proxy.url, caFile: certificates.strangerFile },
    });
    expect(await failureOf(http.page(LIST))).toMatchObject({ message: expect.stringContaining('certificate') });
    expect(server.received).toEqual([]);
  });

  it('that refuses is an error of the network, without its own credentials', async () => {
    const proxy = await proxyServer(407);
    const server = await serve((_q, response) => json(response, []), certificates);
    const { http } = await openClient(server.origin, {
      network: { httpsProxy: proxy.url.replace('//', '//user:s3cret-value@'), caFile: certificates.caFile },
    });
    const error = await failureOf(http.page(LIST));
    expect(error.code).toBe('network');
    expect(error.message).not.toContain('s3cret-value');
    expect(server.received).toEqual([]);
  });
});

describe('PEM files', () => {
  it.each([
    ['caFile', 'CYBER_COLLECT_CA_FILE'],
    ['clientCert', 'CYBER_COLLECT_CLIENT_CERT'],
    ['clientKey', 'CYBER_COLLECT_CLIENT_KEY'],
  ])('that cannot be read are a setting to mend: %s', (name, variable) => {
    const network = { headersTimeout: 1, bodyTimeout: 1, connections: 1, [name]: '/nowhere/x.pem' };
    expect(() => createDispatcher(network)).toThrow(`${variable} names /nowhere/x.pem, which cannot be read (ENOENT)`);
  });
});
