import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A certificate authority of a test and one certificate of it for loopback. */
export interface Certificates {
  readonly caFile: string;
  readonly cert: string;
  readonly key: string;
  /** Another authority, which has nothing to do with it. */
  readonly strangerFile: string;
  remove(): Promise<void>;
}

/** Makes an authority and a certificate for `localhost` and 127.0.0.1, by openssl, in a temporary folder. */
export async function makeCertificates(subject = 'localhost'): Promise<Certificates> {
  const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-tls-'));
  const path = (name: string) => join(folder, name);
  const openssl = (...args: readonly string[]) => run('openssl', [...args], { cwd: folder });
  const authority = (name: string) =>
    openssl(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.pem`],
    );
  await Promise.all([authority('ca'), authority('stranger')]);
  await openssl(
    ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', `/CN=${subject}`],
    ...['-keyout', 'server.key', '-out', 'server.csr'],
  );
  await writeFile(path('server.ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  await openssl(
    ...['x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2'],
    ...['-extfile', 'server.ext', '-out', 'server.pem'],
  );
  return {
    caFile: path('ca.pem'),
    cert: await readFile(path('server.pem'), 'utf8'),
    key: await readFile(path('server.key'), 'utf8'),
    strangerFile: path('stranger.pem'),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
