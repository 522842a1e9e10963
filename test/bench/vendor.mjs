// A vendor in its own process: Okta's users, rendered once, served from memory as fast as Node can.
// With offset= a page is asked for by its place, and tells how many records there are in all.
// usage: node vendor.mjs RECORDS [LATENCY_MS] [--gzip] [--limit N] [--one] [--big BYTES]; prints its port.
// --limit: so many requests in each second; --one: all records in one answer; --big: one answer with one record of so many bytes.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';

const records = Number(process.argv[2]);
const latency = Number(process.argv[3] ?? 0);
const gzip = process.argv.includes('--gzip');
const one = process.argv.includes('--one');
const numberAfter = (flag) => (process.argv.includes(flag) ? Number(process.argv[process.argv.indexOf(flag) + 1]) : 0);
const big = numberAfter('--big');
const perSecond = numberAfter('--limit');
const LIMIT = 200;
const PAGES = 50; // pages rendered; the ids alone differ from lap to lap and are written in place

const pad = (n) => String(n).padStart(10, '0');
const user = (n) => {
  const login = `user.${n}@acme.example`;
  const profile = {
    login,
    email: login,
    firstName: 'Zoë',
    lastName: `Müller ${n}`,
    mobilePhone: '+61 400 000 000',
    secondEmail: null,
  };
  for (let i = 0; i < 22; i += 1) profile[`attribute${i}`] = `some value of an attribute ${i} ${n % 97}`;
  return JSON.stringify({
    id: `00u${pad(n)}abcdefg`,
    status: 'ACTIVE',
    created: '2024-01-02T03:04:05.000Z',
    lastLogin: '2026-10-11T12:13:14.000Z',
    type: { id: 'oty1fks6v7DgQ5j4e5d7' },
    profile,
    credentials: {
      password: {},
      emails: [{ value: login, status: 'VERIFIED', type: 'PRIMARY' }],
      provider: { type: 'OKTA', name: 'OKTA' },
    },
    _links: { self: { href: `https://acme.okta.example/api/v1/users/00u${pad(n)}abcdefg` } },
  });
};

const rendered = Array.from({ length: PAGES }, (_, page) => {
  const body = Buffer.from(`[${Array.from({ length: LIMIT }, (_, i) => user(page * LIMIT + i)).join(',')}]`);
  const places = [];
  for (let at = body.indexOf('"id":"00u'); at >= 0; at = body.indexOf('"id":"00u', at + 1)) places.push(at + 9);
  return { body, places };
});

function pageOf(first, count) {
  const { body, places } = rendered[(first / LIMIT) % PAGES];
  const copy = Buffer.from(body);
  for (let i = 0; i < count; i += 1) copy.write(pad(first + i), places[i], 'latin1');
  if (count === LIMIT) return copy;
  const end = copy.lastIndexOf('},{"id"', places[count]);
  return Buffer.concat([copy.subarray(0, end + 1), Buffer.from(']')]);
}

/** One answer, written as fast as it is taken. */
async function stream(response) {
  response.writeHead(200, { 'content-type': 'application/json' });
  const write = async (bytes) => {
    if (!response.write(bytes)) await once(response, 'drain');
  };
  await write('[');
  if (big > 0) {
    await write('{"id":"00ubig","text":"');
    for (let left = big; left > 0; left -= 65_536) await write('x'.repeat(Math.min(left, 65_536)));
    await write('"}');
  }
  for (let first = 0; one && first < records; first += LIMIT) {
    const page = pageOf(first, Math.min(LIMIT, records - first));
    await write(first === 0 ? page.subarray(1, -1) : Buffer.concat([Buffer.from(','), page.subarray(1, -1)]));
  }
  response.end(']');
}

/** Pages packed once, so that packing them is not what is measured. */
const packed = new Map();
function packedPage(first, count) {
  if (!packed.has(first)) packed.set(first, gzipSync(pageOf(first, count), { level: 6 }));
  return packed.get(first);
}
if (gzip) for (let first = 0; first < records; first += LIMIT) packedPage(first, Math.min(LIMIT, records - first));

const seen = { taken: 0, refused: 0, first: 0, last: 0 };
const window = { second: 0, used: 0 };

/** What the vendor says of its limit, as Okta does: windows begin with each second of the clock. */
function limitHeaders() {
  const second = Math.floor(Date.now() / 1000);
  if (window.second !== second) Object.assign(window, { second, used: 0 });
  window.used += 1;
  return {
    'x-rate-limit-limit': perSecond,
    'x-rate-limit-remaining': Math.max(0, perSecond - window.used),
    'x-rate-limit-reset': second + 1,
  };
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://vendor');
  if (url.pathname === '/seen') return response.end(JSON.stringify(seen));
  if (url.pathname !== '/api/v1/users') return response.writeHead(404).end('{}');
  const limits = perSecond > 0 ? limitHeaders() : {};
  if (perSecond > 0 && window.used > perSecond) {
    seen.refused += 1;
    return response.writeHead(429, limits).end('{}');
  }
  seen.taken += 1;
  seen.last = Date.now();
  if (!url.searchParams.has('after')) seen.first = seen.last;
  if (one || big > 0) return stream(response);
  const place = url.searchParams.get('offset');
  const first = Number(place ?? url.searchParams.get('after') ?? 0);
  const count = Math.min(LIMIT, records - first);
  if (latency > 0) await sleep(latency);
  const origin = `http://127.0.0.1:${server.address().port}`;
  const next = first + count;
  const page = gzip ? packedPage(first, count) : pageOf(first, count);
  const body =
    place === null ? page : Buffer.concat([Buffer.from(`{"total":${records},"users":`), page, Buffer.from('}')]);
  const links = [`<${origin}/api/v1/users?limit=${LIMIT}>; rel="self"`];
  if (next < records) links.push(`<${origin}/api/v1/users?after=${next}&limit=${LIMIT}>; rel="next"`);
  response.writeHead(200, {
    'content-type': 'application/json',
    'content-length': body.length,
    link: links,
    ...limits,
    ...(gzip ? { 'content-encoding': 'gzip' } : {}),
  });
  response.end(body);
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`));
