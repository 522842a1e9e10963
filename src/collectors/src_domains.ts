import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { assertEncrypted, baseUrl, integer, list, setting, text, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';
import { type Dns, type Faults, openDns, recordsOf } from './_domains_dns.ts';
import { bootstrapOf, type Registries, registrationOf, UNREGISTERED } from './_domains_registration.ts';
import { certificateOf, codeOf, get, type Reach } from './_domains_web.ts';
import { type Context, defineCollector } from './collector.ts';

const ENV = {
  DOMAINS: setting(
    'Domains to look at, such as acme.example;müller.example',
    list()
      .transform((names) => names.map((name) => domainToASCII(name.replace(/\.$/, '')).toLowerCase() || name))
      .refine((names) => names.length > 0 && names.every(isDomain), 'must be bare domain names: no URL, no wildcard')
      .refine((names) => new Set(names).size === names.length, 'names a domain twice'),
  ),
  DOMAINS_RESOLVERS: setting(
    'Addresses of the DNS servers to ask, such as 9.9.9.9,[::1]:5353; those of the system unless set',
    list()
      .refine((servers) => servers.every(isServer), 'must be IP addresses, with or without a port')
      .default([]),
  ),
  DOMAINS_TIMEOUT: setting('Seconds for each look-up, connection and answer', integer(10, 1, 300)),
  DOMAINS_CONCURRENCY: setting('Domains looked at together; registries limit by address', integer(4, 1, 16)),
  DOMAINS_RDAP_BOOTSTRAP: setting(
    'URL of the list of RDAP servers',
    text('https://data.iana.org/rdap/dns.json').refine((url) => URL.canParse(url), 'must be a URL'),
  ),
  DOMAINS_WHOIS: setting('WHOIS server that knows the others, host or host:port', text('whois.iana.org')),
  DOMAINS_HTTP_PORT: setting('Port of http', integer(80, 1, 65_535)),
  DOMAINS_HTTPS_PORT: setting('Port of https, where the certificate is looked at', integer(443, 1, 65_535)),
} as const;

type Settings = Values<typeof ENV>;

export default defineCollector({
  name: 'domains',
  title: 'Domains: registration, DNS, certificate and web headers',
  docs: 'https://www.rfc-editor.org/rfc/rfc9083',
  env: ENV,
  resources: {
    domains: {
      about:
        'What registry, DNS, certificate and web server say of each domain; `errors` tells what could not be learnt',
      path: 'DOMAINS',
      id: 'domain',
      secrets: ['headers.*.set-cookie'],
      needs: 'the way out to DNS, http, https and TCP 43',
      collect: domains,
    },
  },
});

interface Work {
  readonly settings: Settings;
  readonly dns: Dns;
  readonly registries: Registries;
  readonly servers: ReadonlyMap<string, URL>;
}

async function* domains(context: Context<Settings>): AsyncGenerator<readonly JsonObject[]> {
  const { settings, signal, sleep, warn } = context;
  const timeout = settings.DOMAINS_TIMEOUT * 1000;
  const bootstrap = assertEncrypted(baseUrl(settings.DOMAINS_RDAP_BOOTSTRAP), false);
  const registries = { bootstrap, whois: settings.DOMAINS_WHOIS, reach: { timeout, signal }, sleep };
  const dns = openDns(settings.DOMAINS_RESOLVERS, timeout);
  signal.addEventListener('abort', dns.cancel, { once: true });
  context.expect(settings.DOMAINS.length);
  try {
    const servers = await bootstrapOf(registries).catch((thrown: unknown) => {
      warn(`no list of RDAP servers (${codeOf(thrown, signal)}), so registrations are asked for by WHOIS`);
      return new Map<string, URL>();
    });
    const work = { settings, dns, registries, servers };
    let unknown = 0;
    for (let from = 0; from < settings.DOMAINS.length; from += settings.DOMAINS_CONCURRENCY) {
      const some = settings.DOMAINS.slice(from, from + settings.DOMAINS_CONCURRENCY);
      const records = await Promise.all(some.map((domain) => lookAt(domain, work)));
      unknown += records.filter(({ registered }) => registered === null).length;
      yield records;
    }
    if (unknown < settings.DOMAINS.length) return;
    throw new CollectError('network', 'the registration of not one domain could be learnt', {
      mend: 'let this machine out to https and TCP 43, or set DOMAINS_RDAP_BOOTSTRAP and DOMAINS_WHOIS',
    });
  } finally {
    signal.removeEventListener('abort', dns.cancel);
    dns.cancel();
  }
}

/** One domain's record. What we could not learn is null and told in `errors`. */
async function lookAt(domain: string, { settings, dns, registries, servers }: Work): Promise<JsonObject> {
  const { signal } = registries.reach;
  const errors: Faults = {};
  const attempt = <T>(part: string, task: Promise<T>): Promise<T | undefined> =>
    task.catch((thrown: unknown) => {
      errors[part] = codeOf(thrown, signal);
      return undefined;
    });
  const [registration, records] = await Promise.all([
    attempt('registration', registrationOf(domain, servers, registries)),
    recordsOf(dns, domain, errors),
  ]);
  signal.throwIfAborted();
  const addresses = [records.a, records.aaaa].flat() as string[];
  const reach: Reach = { ...registries.reach, addresses };
  const { DOMAINS_HTTP_PORT, DOMAINS_HTTPS_PORT } = settings;
  const there = addresses.length > 0;
  const [tls, plain, secure] = there
    ? await Promise.all([
        attempt('tls', certificateOf(domain, DOMAINS_HTTPS_PORT, reach)),
        attempt('http', get(new URL(`http://${domain}:${DOMAINS_HTTP_PORT}/`), reach)),
        attempt('https', get(new URL(`https://${domain}:${DOMAINS_HTTPS_PORT}/`), reach)),
      ])
    : [];
  return {
    domain,
    ...(registration ?? { ...UNREGISTERED, registered: null }),
    ...records,
    tls: tls ?? null,
    headers: { http: { ...plain?.headers } as JsonObject, https: { ...secure?.headers } as JsonObject },
    web: { http: webOf(plain), https: webOf(secure) },
    errors,
  };
}

function webOf(reply: Awaited<ReturnType<typeof get>> | undefined): JsonObject | null {
  return reply === undefined ? null : { status: reply.status, url: reply.url.href, redirects: [...reply.redirects] };
}

function isDomain(name: string): boolean {
  const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
  return (
    name.includes('.') && name.length <= 253 && isIP(name) === 0 && name.split('.').every((one) => label.test(one))
  );
}

function isServer(server: string): boolean {
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(server)?.[1] ?? server;
  return isIP(bare) !== 0 || isIP(bare.replace(/:\d+$/, '')) === 4;
}
