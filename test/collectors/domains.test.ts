import { createSocket } from 'node:dgram';
import { createServer as createHttp, type RequestListener } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer as createTcp, type Server } from 'node:net';
import { type Answer, decode, encode } from 'dns-packet';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ConfigError } from '../../src/errors.ts';
import { makeCertificates } from '../support/certificates.ts';
import { collectOnce, resultOf, storedLines } from '../support/run.ts';

const closers: (() => void | Promise<void>)[] = [];
let env: Readonly<Record<string, string>>;
/** Answers that RDAP gives before its own, one a request. */
const instead: number[] = [];

const WHOIS: Readonly<Record<string, string>> = {
  'firm.old': 'domain: firm.old\r\ncreated: 1999-01-02\r\npaid-till: 2031-01-02\r\nnserver: NS1.firm.old.\r\n',
  'free.old': 'No entries found\r\n',
  'busy.old': 'Query limit exceeded, try again later\r\n',
};

const RCODES: Readonly<Record<string, number>> = { 'broken.test': 2, 'gone.test': 3 };

const ADDRESSED = new Set(['acme.test', 'xn--mller-kva.test', 'www.acme.test', 'firm.old', 'busy.old']);

function answersOf(name: string, type: string): Answer[] {
  if (type === 'A' && ADDRESSED.has(name)) return [{ name, type: 'A', ttl: 1, data: '127.0.0.1' }];
  if (name === '_dmarc.acme.test' && type === 'TXT') {
    return [{ name, type: 'TXT', ttl: 1, data: ['v=DMARC1; p=reject'] }];
  }
  if (name !== 'acme.test') return [];
  if (type === 'NS') return [{ name, type: 'NS', ttl: 1, data: 'ns1.acme.test' }];
  if (type === 'TXT') return [{ name, type: 'TXT', ttl: 1, data: ['v=spf1 ip4:192.0', '.2.1 -all'] }];
  if (type === 'MX') {
    return [20, 10].map((preference) => ({
      name,
      type: 'MX',
      ttl: 1,
      data: { preference, exchange: `mx${preference}.acme.test` },
    }));
  }
  if (type === 'CAA') return [{ name, type: 'CAA', ttl: 1, data: { flags: 0, tag: 'issue', value: 'ca.example' } }];
  return [];
}

async function startDns(): Promise<string> {
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => {
    const { id, questions = [] } = decode(message);
    const [{ name, type } = { name: '', type: 'A' }] = questions;
    if (name === 'silent.test' || name === '_dmarc.silent.test') return;
    const code = RCODES[name] ?? (RCODES[name.replace('_dmarc.', '')] || (name.startsWith('_dmarc.gone') ? 3 : 0));
    const answers = answersOf(name, type);
    const flags = 0x0180 | code;
    socket.send(
      encode({ type: 'response', ...(id === undefined ? {} : { id }), flags, questions, answers }),
      from.port,
      from.address,
    );
  });
  await new Promise<void>((listening) => socket.bind(0, '127.0.0.1', listening));
  closers.push(() => void socket.close());
  return `127.0.0.1:${socket.address().port}`;
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  closers.push(() => void server.close());
  return String((server.address() as AddressInfo).port);
}

const registry: RequestListener = (request, response) => {
  const url = request.url ?? '';
  if (url === '/dns.json') {
    const base = `http://${request.headers.host}/rdap/`;
    response.end(JSON.stringify({ services: [[['test'], [base]]] }));
    return;
  }
  const status = instead.shift();
  if (status !== undefined) {
    response.writeHead(status, { 'retry-after': '0' }).end('{}');
    return;
  }
  const name = url.replace('/rdap/domain/', '');
  if (name !== 'acme.test') {
    response.writeHead(404).end('{}');
    return;
  }
  const events = [
    { eventAction: 'registration', eventDate: '2001-02-03T04:05:06Z' },
    { eventAction: 'expiration', eventDate: '2031-02-03T04:05:06Z' },
  ];
  const entities = [{ roles: ['registrar'], vcardArray: ['vcard', [['fn', {}, 'text', 'Étoile Registrar']]] }];
  const rest = {
    status: ['active'],
    secureDNS: { delegationSigned: true },
    nameservers: [{ ldhName: 'NS1.acme.test' }],
  };
  response.end(JSON.stringify({ objectClassName: 'domain', ldhName: name, events, entities, ...rest }));
};

const site: RequestListener = (_, response) => {
  response.setHeader('strict-transport-security', 'max-age=31536000');
  response.setHeader('set-cookie', 'session=canary-cookie');
  response.end('hello');
};

beforeAll(async () => {
  const certificates = await makeCertificates();
  closers.push(() => certificates.remove());
  const secure = await listen(createHttps({ cert: certificates.cert, key: certificates.key }, site));
  const moved: RequestListener = (request, response) => {
    const host = request.headers.host?.split(':')[0];
    response.writeHead(301, { location: `https://${host}:${secure}/` }).end();
  };
  const plain = await listen(createHttp(moved));
  const rdap = await listen(createHttp(registry));
  const whois = await listen(
    createTcp((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', (line) => {
        const query = line.toString().trim();
        const refer = `refer: 127.0.0.1:${(socket.address() as AddressInfo).port}\r\n`;
        socket.end(query.includes('.') ? (WHOIS[query] ?? 'No match\r\n') : refer);
      });
    }),
  );
  env = {
    DOMAINS_RESOLVERS: await startDns(),
    DOMAINS_RDAP_BOOTSTRAP: `http://127.0.0.1:${rdap}/dns.json`,
    DOMAINS_WHOIS: `127.0.0.1:${whois}`,
    DOMAINS_HTTP_PORT: plain,
    DOMAINS_HTTPS_PORT: secure,
    DOMAINS_TIMEOUT: '2',
  };
});

afterAll(async () => {
  for (const close of closers.splice(0)) await close();
});

async function look(DOMAINS: string, more: Readonly<Record<string, string>> = {}) {
  const result = await collectOnce({ env: { ...env, ...more, DOMAINS } });
  const lines = (await storedLines(result.folder, 'domains')) ?? [];
  return { ...result, lines, records: lines.map((line) => JSON.parse(line)) };
}

test('a domain’s registration, records, certificate and headers stand in one record, its cookies do not', async () => {
  const { summary, records, lines } = await look('ACME.test');
  expect(summary.exit_code).toBe(0);
  expect(records[0]).toMatchObject({
    domain: 'acme.test',
    registered: true,
    registrar: 'Étoile Registrar',
    expiration_date: '2031-02-03T04:05:06Z',
    dnssec: true,
    name_servers: ['ns1.acme.test'],
    a: ['127.0.0.1'],
    aaaa: [],
    ns: ['ns1.acme.test'],
    mx: [
      { exchange: 'mx10.acme.test', priority: 10 },
      { exchange: 'mx20.acme.test', priority: 20 },
    ],
    spf: 'v=spf1 ip4:192.0.2.1 -all',
    dmarc: 'v=DMARC1; p=reject',
    caa: [{ critical: 0, issue: 'ca.example' }],
    tls: { subject: { CN: 'localhost' }, issuer: { CN: 'ca' }, authorized: false },
    headers: { https: { 'strict-transport-security': 'max-age=31536000' } },
    web: { http: { status: 200, redirects: [`https://acme.test:${env.DOMAINS_HTTPS_PORT}/`] } },
    errors: {},
  });
  expect(records[0].tls.authorization_error).toMatch(/^[A-Z_]+$/);
  expect(lines[0]).not.toContain('canary-cookie');
});

test('a name that does not exist and one that its servers cannot tell of are facts, and the others come', async () => {
  const { summary, records } = await look('gone.test;broken.test,acme.test');
  expect(summary.exit_code).toBe(0);
  expect(records[0]).toMatchObject({ exists: false, registered: false, tls: null, errors: { dns: 'ENOTFOUND' } });
  expect(records[1]).toMatchObject({ a: [], errors: { a: 'ESERVFAIL', txt: 'ESERVFAIL' } });
  expect(records[2]).toMatchObject({ exists: true, registered: true });
});

test('a name below a registered one has its registration; one in letters beyond ASCII is looked up in punycode', async () => {
  const { records } = await look('www.acme.test,müller.test');
  expect(records[0]).toMatchObject({ domain: 'www.acme.test', registered: true, registered_domain: 'acme.test' });
  expect(records[1]).toMatchObject({ domain: 'xn--mller-kva.test', registered: false, a: ['127.0.0.1'] });
});

test('where a registry has no RDAP, WHOIS is asked; a limit is no absence', async () => {
  const { summary, records } = await look('firm.old,free.old,busy.old');
  expect(summary.exit_code).toBe(0);
  expect(records[0]).toMatchObject({ registered: true, creation_date: '1999-01-02', expiration_date: '2031-01-02' });
  expect(records[0].name_servers).toEqual(['ns1.firm.old']);
  expect(records[1]).toMatchObject({ registered: false, errors: {} });
  expect(records[2].registered).toBeNull();
  expect(records[2].errors.registration).toMatch(/answers no more/);
});

test('a registry that asks for patience is asked again', async () => {
  instead.push(429, 503);
  const { records } = await look('acme.test');
  expect(instead).toEqual([]);
  expect(records[0]).toMatchObject({ registered: true, errors: {} });
});

test('when not one registration could be learnt, nothing is stored', async () => {
  const { summary, lines } = await look('busy.old');
  expect(summary.exit_code).toBe(3);
  expect(resultOf(summary, 'domains').reason).toMatch(/not one domain/);
  expect(lines).toEqual([]);
});

test('a closed port is a fact of the domain', async () => {
  const { summary, records } = await look('acme.test', { DOMAINS_HTTPS_PORT: '1' });
  expect(summary.exit_code).toBe(0);
  expect(records[0]).toMatchObject({ tls: null, errors: { tls: 'ECONNREFUSED', https: 'ECONNREFUSED' } });
});

test('a name whose servers are silent is told apart from a resolver that is', async () => {
  const { summary, records } = await look('silent.test,acme.test', { DOMAINS_TIMEOUT: '1' });
  expect(summary.exit_code).toBe(0);
  expect(records[0].errors).toMatchObject({ a: 'ETIMEOUT' });
  const dead = await look('acme.test', { DOMAINS_RESOLVERS: '127.0.0.1:1', DOMAINS_TIMEOUT: '1' });
  expect(dead.summary.exit_code).toBe(3);
  expect(resultOf(dead.summary, 'domains').reason).toMatch(/no DNS resolver answers/);
  expect(dead.lines).toEqual([]);
});

test.each(['https://acme.test', '*.acme.test', 'acme.test,ACME.test.', '192.0.2.1', 'localhost'])(
  '%s is refused',
  async (given) => {
    const outcome = await look(given).then(
      ({ summary }) => ({ code: summary.exit_code, text: JSON.stringify(summary.problems) }),
      (error: ConfigError) => ({ code: 2, text: error.message }),
    );
    expect(outcome).toMatchObject({ code: 2, text: expect.stringMatching(/DOMAINS/) });
  },
);
