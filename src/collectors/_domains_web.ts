import http from 'node:http';
import https from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';

/** How a host is reached. */
export interface Reach {
  /** Addresses that the DNS gave for the domain. */
  readonly addresses: readonly string[];
  /** Milliseconds. */
  readonly timeout: number;
  readonly signal: AbortSignal;
  readonly headers?: Readonly<Record<string, string>>;
  readonly maxBody?: number;
}

/** An answer of the web; the body only as far as it was asked for. */
export interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly url: URL;
  readonly redirects: readonly string[];
  readonly body: string;
}

const REDIRECTS = 5;

/** GETs a URL without credentials and follows its redirects; certificates are judged elsewhere unless `strict`. */
export async function get(start: URL, reach: Reach, strict = false): Promise<Reply> {
  const redirects: string[] = [];
  for (let url = start; ; ) {
    const own = url.hostname === start.hostname ? reach : { ...reach, addresses: [] };
    const answer = await getOnce(url, own, strict);
    const { location } = answer.headers;
    const on = answer.status >= 300 && answer.status < 400 && location !== undefined;
    if (!on || !URL.canParse(location, url.href)) return { ...answer, url, redirects };
    url = new URL(location, url);
    if (!/^https?:$/.test(url.protocol)) return { ...answer, url, redirects };
    redirects.push(url.href);
    if (redirects.length > REDIRECTS) throw new CollectError('vendor', `more than ${REDIRECTS} redirects`);
  }
}

function getOnce(url: URL, reach: Reach, strict: boolean): Promise<Pick<Reply, 'status' | 'headers' | 'body'>> {
  const { timeout, maxBody = 0, headers = {} } = reach;
  const signal = AbortSignal.any([reach.signal, AbortSignal.timeout(timeout)]);
  return new Promise((resolve, reject) => {
    const options = { headers, signal, agent: false, rejectUnauthorized: strict, ...lookupOf(reach.addresses) };
    const request = (url.protocol === 'https:' ? https : http).get(url, options, (response) => {
      const { statusCode: status = 0, headers: got } = response;
      response.on('error', reject);
      if (maxBody === 0) {
        response.destroy();
        resolve({ status, headers: got, body: '' });
        return;
      }
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        chunks.push(chunk);
        if (size > maxBody) request.destroy(new CollectError('refused', `the body has more than ${maxBody} bytes`));
      });
      response.on('end', () => resolve({ status, headers: got, body: Buffer.concat(chunks).toString('utf8') }));
    });
    request.on('error', reject);
  });
}

/** The DNS was asked already: its answers are used rather than the system's. */
function lookupOf(addresses: readonly string[]): { lookup?: LookupFunction } {
  if (addresses.length === 0) return {};
  const found = addresses.map((address) => ({ address, family: isIP(address) }));
  const lookup: LookupFunction = (_, { all }, done) => {
    const [first] = found;
    if (all === true) done(null, found);
    else done(null, first?.address ?? '', first?.family ?? 4);
  };
  return { lookup };
}

/** Why something did not work, in a word: a system's code, or a timeout. */
export function codeOf(thrown: unknown, signal: AbortSignal): string {
  signal.throwIfAborted();
  const { code, name, message, errors } = thrown as NodeJS.ErrnoException & { errors?: readonly unknown[] };
  if (name === 'TimeoutError' || name === 'AbortError' || code === 'ABORT_ERR') return 'ETIMEDOUT';
  if (thrown instanceof CollectError) return message;
  if (code !== undefined) return code;
  return errors?.[0] === undefined ? message : codeOf(errors[0], signal);
}

/** The certificate that a domain shows, and whether it is good for the domain. */
export function certificateOf(domain: string, port: number, reach: Reach): Promise<JsonObject> {
  const signal = AbortSignal.any([reach.signal, AbortSignal.timeout(reach.timeout)]);
  return new Promise((resolve, reject) => {
    const options = { host: domain, servername: domain, port, rejectUnauthorized: false, ...lookupOf(reach.addresses) };
    const socket = connect(options, () => {
      resolve(factsOf(socket));
      socket.destroy();
    });
    const stop = () => socket.destroy(signal.reason as Error);
    signal.addEventListener('abort', stop, { once: true });
    socket.on('error', reject);
    socket.on('close', () => {
      signal.removeEventListener('abort', stop);
      reject(new CollectError('vendor', 'the connection was closed during the handshake'));
    });
    if (signal.aborted) stop();
  });
}

function factsOf(socket: TLSSocket): JsonObject {
  const certificate = socket.getPeerCertificate(true);
  return {
    subject: nameOf(certificate.subject),
    issuer: nameOf(certificate.issuer),
    san: (certificate.subjectaltname ?? '').split(', ').filter((name) => name !== ''),
    valid_from: dateOf(certificate.valid_from),
    valid_to: dateOf(certificate.valid_to),
    serial_number: certificate.serialNumber,
    fingerprint256: certificate.fingerprint256,
    bits: certificate.bits ?? null,
    protocol: socket.getProtocol(),
    cipher: socket.getCipher().name,
    chain: chainOf(certificate).map(nameOf),
    authorized: socket.authorized,
    authorization_error: reasonOf(socket.authorizationError),
  };
}

/** Typed an error, in truth a code. */
function reasonOf(reason: unknown): string | null {
  if (reason === null || reason === undefined) return null;
  return reason instanceof Error ? ((reason as NodeJS.ErrnoException).code ?? reason.message) : String(reason);
}

function chainOf(leaf: ReturnType<TLSSocket['getPeerCertificate']>): PeerCertificate['subject'][] {
  const chain: PeerCertificate['subject'][] = [];
  const seen = new Set<string>();
  let one: (PeerCertificate & { issuerCertificate?: PeerCertificate }) | undefined = leaf;
  while (one?.fingerprint256 !== undefined && !seen.has(one.fingerprint256)) {
    seen.add(one.fingerprint256);
    chain.push(one.subject);
    one = one.issuerCertificate;
  }
  return chain;
}

function nameOf(name: PeerCertificate['subject'] | undefined): JsonObject {
  return Object.fromEntries(Object.entries(name ?? {}).map(([key, value]) => [key, value ?? null])) as JsonObject;
}

function dateOf(value: string): string {
  return new Date(value).toISOString();
}
