import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { rootCertificates } from 'node:tls';
import type { Agent, Dispatcher } from 'undici';
import { CollectError } from '../errors.ts';

const load = createRequire(import.meta.url);

/** undici's agent alone: the whole brings fetch, cookies and mocks as well, which takes a run 60 ms to load. */
function agent(): typeof Agent {
  try {
    return load('undici/lib/dispatcher/agent.js') as typeof Agent;
  } catch {
    return (load('undici') as typeof import('undici')).Agent; // no contract says where its parts lie
  }
}

/** How the machine reaches the network. */
export interface NetworkSettings {
  readonly httpProxy?: string | undefined;
  readonly httpsProxy?: string | undefined;
  readonly noProxy?: string | undefined;
  readonly caFile?: string | undefined;
  /** Another PEM file of authorities, and the variable that names it. */
  readonly moreAuthorities?: { readonly variable: string; readonly path: string };
  readonly clientCert?: string | undefined;
  readonly clientKey?: string | undefined;
  /** Seconds. */
  readonly headersTimeout: number;
  /** Seconds. */
  readonly bodyTimeout: number;
  /** Connections to one origin. */
  readonly connections: number;
}

/**
 * One pool per origin, kept alive; through the proxies, trusting the extra authorities. `NODE_EXTRA_CA_CERTS` is Node's
 * own and works without us.
 * @throws {CollectError} config when a PEM file cannot be read
 */
export function createDispatcher(network: NetworkSettings): Dispatcher {
  const { caFile, moreAuthorities: more } = network;
  const authorities = [
    ...(caFile === undefined ? [] : [pem('CYBER_COLLECT_CA_FILE', caFile)]),
    ...(more === undefined ? [] : [pem(more.variable, more.path)]),
  ];
  const connect = {
    ...(authorities.length === 0 ? {} : { ca: [...rootCertificates, ...authorities] }),
    ...(network.clientCert === undefined ? {} : { cert: pem('CYBER_COLLECT_CLIENT_CERT', network.clientCert) }),
    ...(network.clientKey === undefined ? {} : { key: pem('CYBER_COLLECT_CLIENT_KEY', network.clientKey) }),
  };
  const options: Agent.Options = {
    connections: network.connections,
    headersTimeout: network.headersTimeout * 1000,
    bodyTimeout: network.bodyTimeout * 1000,
    keepAliveTimeout: 10_000,
    connect: { timeout: 30_000, ...connect },
  };
  if (network.httpProxy === undefined && network.httpsProxy === undefined) return new (agent())(options);
  const { EnvHttpProxyAgent } = load('undici') as typeof import('undici'); // which works only in the whole
  return new EnvHttpProxyAgent({
    ...options,
    requestTls: connect,
    proxyTls: connect,
    ...(network.httpProxy === undefined ? {} : { httpProxy: network.httpProxy }),
    ...(network.httpsProxy === undefined ? {} : { httpsProxy: network.httpsProxy }),
    noProxy: network.noProxy ?? '',
  });
}

function pem(variable: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new CollectError('config', `${variable} names ${path}, which cannot be read (${code})`, {
      mend: 'correct the path',
    });
  }
}

const TLS = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|TLS_|SSL/;

/** An error of the connection in the program's own terms. `lasting`: more tries will hardly help. */
export function networkError(
  cause: unknown,
  place: string,
): { readonly error: CollectError; readonly lasting: boolean } {
  if (cause instanceof CollectError) return { error: cause, lasting: false };
  const inner = (cause as { cause?: { code?: string } }).cause;
  const code = (cause as { code?: string }).code ?? inner?.code ?? (cause as Error).name;
  if (/TIMEOUT|ETIMEDOUT/i.test(code)) {
    return {
      error: new CollectError('timeout', `${place}: no answer in time (${code})`, {
        mend: 'check the network and the firewall',
        cause,
      }),
      lasting: false,
    };
  }
  if (TLS.test(code)) {
    const mend =
      'if a proxy or gateway of yours signs certificates, name its CA in NODE_EXTRA_CA_CERTS or CYBER_COLLECT_CA_FILE';
    return {
      error: new CollectError('network', `${place}: the certificate is not trusted (${code})`, { mend, cause }),
      lasting: true,
    };
  }
  if (code === 'UND_ERR_HEADERS_OVERFLOW' || code === 'HPE_HEADER_OVERFLOW') {
    return { error: new CollectError('refused', `${place}: the answer's headers are too large`), lasting: true };
  }
  const lasting = code === 'ENOTFOUND' || code === 'ECONNREFUSED';
  const mend = lasting ? 'check the host name, the network and HTTPS_PROXY' : 'check the network and the firewall';
  return { error: new CollectError('network', `${place}: the connection failed (${code})`, { mend, cause }), lasting };
}
