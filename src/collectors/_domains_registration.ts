import { connect } from 'node:net';
import { CollectError } from '../errors.ts';
import { at, isObject, type Json, type JsonObject, textAt } from '../json.ts';
import { get, type Reach } from './_domains_web.ts';

/** Where registrations are looked up. */
export interface Registries {
  readonly bootstrap: URL;
  /** host or host:port */
  readonly whois: string;
  readonly reach: Omit<Reach, 'addresses'>;
  sleep(seconds: number): Promise<void>;
}

const MAX_BODY = 4 * 2 ** 20;
const TRIES = 4;
const LONGEST_WAIT = 60;

/** The registries' RDAP servers by top-level domain. */
export async function bootstrapOf(registries: Registries): Promise<ReadonlyMap<string, URL>> {
  const { status, body } = await rdap(registries.bootstrap, registries);
  const services = status === 200 ? at(JSON.parse(body), 'services') : undefined;
  if (!Array.isArray(services)) throw new CollectError('vendor', `the RDAP bootstrap answered ${status}`);
  const servers = new Map<string, URL>();
  for (const service of services) {
    const [suffixes, urls] = service as [string[], string[]];
    const url = urls.find((one) => one.startsWith('https:')) ?? urls[0];
    if (url === undefined) continue;
    for (const suffix of suffixes) servers.set(suffix.toLowerCase(), new URL(url.endsWith('/') ? url : `${url}/`));
  }
  return servers;
}

/** A GET that is asked again where the registry says so, or is out of order. */
async function rdap(url: URL, { reach, sleep }: Registries): Promise<{ status: number; body: string }> {
  for (let tries = 1; ; tries += 1) {
    const headers = { accept: 'application/rdap+json, application/json' };
    const answer = await get(url, { ...reach, addresses: [], headers, maxBody: MAX_BODY }, true);
    const passing = answer.status === 429 || answer.status >= 500;
    const wait = Number(answer.headers['retry-after'] ?? 2 ** tries);
    if (!passing || tries === TRIES || !(wait <= LONGEST_WAIT)) return answer;
    await sleep(wait);
  }
}

const EVENTS: Readonly<Record<string, string>> = {
  registration: 'creation_date',
  expiration: 'expiration_date',
  'last changed': 'updated_date',
};

/** A domain and what is above it, down to two labels. */
function candidatesOf(domain: string): string[] {
  const labels = domain.split('.');
  return labels.slice(0, Math.max(1, labels.length - 1)).map((_, from) => labels.slice(from).join('.'));
}

/** What nobody has registered. */
export const UNREGISTERED: JsonObject = {
  registered: false,
  registered_domain: null,
  creation_date: null,
  updated_date: null,
  expiration_date: null,
  registrar: null,
  status: [],
  dnssec: null,
  name_servers: [],
};

/** The registration of a domain, or of the one it is below, by RDAP; by WHOIS where its registry has none. */
export async function registrationOf(
  domain: string,
  servers: ReadonlyMap<string, URL>,
  registries: Registries,
): Promise<JsonObject> {
  const labels = domain.split('.');
  const suffix = labels.map((_, from) => labels.slice(from).join('.')).find((one) => servers.has(one));
  const server = suffix === undefined ? undefined : servers.get(suffix);
  for (const name of candidatesOf(domain)) {
    const found = server === undefined ? await byWhois(name, registries) : await byRdap(name, server, registries);
    if (found !== undefined) return { ...found, registered_domain: name };
  }
  return UNREGISTERED;
}

async function byRdap(name: string, server: URL, registries: Registries): Promise<JsonObject | undefined> {
  const { status, body } = await rdap(new URL(`domain/${name}`, server), registries);
  if (status === 404) return undefined;
  if (status !== 200) throw new CollectError('vendor', `RDAP at ${server.host} answered ${status}`);
  const answer = parsed(body, server.host);
  const list = (path: string) => (at(answer, path) ?? []) as Json[];
  const dates: JsonObject = {};
  for (const event of list('events')) {
    const field = EVENTS[textAt(event, 'eventAction') ?? ''];
    if (field !== undefined) dates[field] = at(event, 'eventDate') ?? null;
  }
  const registrar = list('entities').find((one) => ((at(one, 'roles') ?? []) as Json[]).includes('registrar'));
  return {
    ...UNREGISTERED,
    ...dates,
    registered: true,
    registrar: vcardName(registrar) ?? textAt(registrar, 'handle') ?? null,
    status: list('status'),
    dnssec: at(answer, 'secureDNS.delegationSigned') ?? null,
    name_servers: list('nameservers').flatMap((one) => textAt(one, 'ldhName')?.toLowerCase() ?? []),
    source: 'rdap',
  };
}

function parsed(body: string, host: string): JsonObject {
  try {
    const answer: unknown = JSON.parse(body);
    if (isObject(answer) && answer.objectClassName === 'domain') return answer;
  } catch {
    // told below: the parser's own error quotes the body
  }
  throw new CollectError('vendor', `RDAP at ${host} answered with what is no domain`);
}

/** RFC 7095: ["vcard", [["fn", {}, "text", "Name"], ...]] */
function vcardName(entity: Json | undefined): string | undefined {
  const fields = (at(entity, 'vcardArray') as Json[] | undefined)?.[1];
  const name = Array.isArray(fields) ? fields.find((field) => Array.isArray(field) && field[0] === 'fn') : undefined;
  return Array.isArray(name) && typeof name[3] === 'string' && name[3] !== '' ? name[3] : undefined;
}

const LIMITED = /limit exceeded|quota|too many|try again later|rate limit/i;
const UNKNOWN = /no match|not found|no entries|no data found|no object found|status:\s*(free|available)|is available/i;

async function byWhois(name: string, registries: Registries): Promise<JsonObject | undefined> {
  const top = name.split('.').at(-1) ?? name;
  const referral = await whois(registries.whois, top, registries);
  const server = lineOf(referral, /^(?:refer|whois):[ \t]*(\S+)/im);
  if (server === undefined) throw new CollectError('vendor', `no RDAP and no WHOIS server is known for .${top}`);
  const answer = await whois(server, name, registries);
  const date = (label: RegExp) => lineOf(answer, label) ?? null;
  const created = date(/^\s*(?:creation date|created(?: on)?|registered(?: on)?|registration date):[ \t]*(.+)$/im);
  const expires = date(/^\s*(?:registr\w+ expir\w+ date|expir\w+(?: date| on)?|paid-till|renewal date):[ \t]*(.+)$/im);
  const updated = date(/^\s*(?:updated date|last[ -](?:updated|modified)|changed|modified):[ \t]*(.+)$/im);
  const servers = [...answer.matchAll(/^\s*(?:name servers?|nserver):[ \t]*(\S+)/gim)].map((found) => found[1] ?? '');
  if (created === null && expires === null && servers.length === 0) {
    if (LIMITED.test(answer)) throw new CollectError('throttled', `WHOIS at ${server} answers no more for now`);
    if (UNKNOWN.test(answer)) return undefined;
    throw new CollectError('vendor', `the answer of WHOIS at ${server} is not understood`);
  }
  return {
    ...UNREGISTERED,
    registered: true,
    creation_date: created,
    updated_date: updated,
    expiration_date: expires,
    registrar: date(/^\s*registrar(?: name)?:[ \t]*(.+)$/im),
    status: [...answer.matchAll(/^\s*(?:domain )?status:[ \t]*(\S+)/gim)].map((found) => found[1] ?? ''),
    name_servers: servers.map((one) => one.toLowerCase().replace(/\.$/, '')),
    source: 'whois',
  };
}

function lineOf(text: string, label: RegExp): string | undefined {
  return label.exec(text)?.[1]?.trim();
}

/** RFC 3912: a line is sent, text comes until the server closes. */
function whois(server: string, query: string, { reach }: Registries): Promise<string> {
  const [host = '', port = '43'] = server.split(':');
  const signal = AbortSignal.any([reach.signal, AbortSignal.timeout(reach.timeout)]);
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port), signal }, () => socket.write(`${query}\r\n`));
    const chunks: Buffer[] = [];
    let size = 0;
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > MAX_BODY) socket.destroy(new CollectError('refused', `WHOIS at ${host} does not end`));
    });
    socket.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    socket.on('error', reject);
  });
}
