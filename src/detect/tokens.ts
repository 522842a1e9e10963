import { maskedTo, parseAddress, parseRange } from './addresses.ts';
import { backwards, filterOf, forwards, mixed, START } from './filter.ts';
import type { Indicator } from './indicators.ts';
import type { Found } from './substrings.ts';

/** Looks for what stands in lines as a word of its own: addresses, domains, URLs and hashes. */
export interface Tokens {
  search(bytes: Buffer, from: number, to: number, found: Found): void;
}

const DIGIT = 1;
const HEX = 2;
const LETTER = 4;
const DOT = 8;
const DASH = 16;
const WORD = DIGIT | HEX | LETTER;
const LEAST_HASH = 32;
const [SLASH, COLON, QUESTION, UNDERSCORE] = [47, 58, 63, 95];

/** What a byte is in a word; 0 ends one. */
const CLASS = Uint8Array.from({ length: 256 }, (_, byte) => {
  const char = String.fromCharCode(byte);
  if (/\d/.test(char)) return DIGIT;
  if (/[a-f]/i.test(char)) return HEX;
  if (/[a-z]/i.test(char) || byte >= 128) return LETTER;
  if (char === '.') return DOT;
  return char === '-' || char === '_' ? DASH : 0;
});
/** Bytes that end a URL. */
const STOPS = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte <= 32 || '"\'<>`|\\^{}[]'.includes(String.fromCharCode(byte)) ? 1 : 0,
);
/** Bytes before which a URL may end and another may go on. */
const JOINTS = new Set(Buffer.from('/?#&;='));
const TRAILING = new Set(Buffer.from('.,;:!)'));

type Ids = readonly number[];

/** Indicators by kind, each as it is looked up. */
interface Lookup {
  readonly domains: Map<string, number[]>;
  readonly urls: Map<string, number[]>;
  readonly hashes: Map<string, number[]>;
  readonly v4: Map<number, number[]>;
  /** bits -> network -> indicators */
  readonly v4Ranges: Map<number, Map<number, number[]>>;
  /** bits -> network in hex -> indicators; addresses have 128. */
  readonly v6: Map<number, Map<string, number[]>>;
}

function push<K>(map: Map<K, number[]>, key: K, id: number): void {
  const ids = map.get(key);
  if (ids === undefined) map.set(key, [id]);
  else ids.push(id);
}

function inner<K, L>(map: Map<K, Map<L, number[]>>, key: K): Map<L, number[]> {
  const found = map.get(key) ?? new Map<L, number[]>();
  map.set(key, found);
  return found;
}

/** Bytes as a text of which each character is one byte: the keys of tables. */
function keyOf(text: string): string {
  return Buffer.from(text).toString('latin1');
}

function numberOf(bytes: readonly number[]): number {
  return bytes.reduce((number, byte) => ((number << 8) | byte) >>> 0, 0);
}

function lookupOf(indicators: readonly Indicator[]): Lookup {
  const lookup: Lookup = {
    ...{ domains: new Map(), urls: new Map(), hashes: new Map(), v4: new Map(), v4Ranges: new Map(), v6: new Map() },
  };
  for (const [id, { kind, value }] of indicators.entries()) {
    if (kind === 'domain') push(lookup.domains, keyOf(value), id);
    else if (kind === 'hash') push(lookup.hashes, keyOf(value), id);
    else if (kind === 'url') push(lookup.urls, keyOf(value), id);
    else if (kind === 'address' || kind === 'range') addAddress(lookup, value, id);
  }
  return lookup;
}

function addAddress(lookup: Lookup, value: string, id: number): void {
  const range = parseRange(value);
  const bytes = range?.bytes ?? parseAddress(value);
  if (bytes === undefined) return;
  const bits = range?.bits ?? bytes.length * 8;
  if (bytes.length === 16) push(inner(lookup.v6, bits), Buffer.from(bytes).toString('hex'), id);
  else if (bits === 32) push(lookup.v4, numberOf(bytes), id);
  else push(inner(lookup.v4Ranges, bits), numberOf(bytes), id);
}

/** Looks for the indicators that are words. */
export function tokensOf(indicators: readonly Indicator[]): Tokens {
  const lookup = lookupOf(indicators);
  const names = namesOf(lookup);
  const addresses = addressesOf(lookup);
  const urls = urlsOf(lookup);
  const hasV6 = lookup.v6.size > 0;
  const hasHashes = lookup.hashes.size > 0;
  const hasUrls = lookup.urls.size > 0;
  return {
    search(bytes, from, to, found) {
      let flags = 0;
      let start = from;
      let v6End = from;
      for (let at = from; at <= to; at += 1) {
        const byte = at < to ? (bytes[at] as number) : 0;
        const kind = CLASS[byte] as number;
        if (kind !== 0) {
          flags |= kind;
          continue;
        }
        if ((flags & DOT) !== 0) {
          let [first, end] = [start, at];
          while (
            first < end &&
            ((CLASS[bytes[first] as number] as number) & WORD) === 0 &&
            bytes[first] !== UNDERSCORE
          ) {
            first += 1;
          }
          while (end > first && ((CLASS[bytes[end - 1] as number] as number) & WORD) === 0) end -= 1;
          if ((flags & (HEX | LETTER)) !== 0) names.domain(bytes, first, end, found);
          else if ((flags & DASH) === 0) addresses.v4(bytes, first, end, found);
          if ((flags & (DASH | DIGIT)) === (DASH | DIGIT)) addresses.within(bytes, first, end, found);
          if (hasUrls && end > first) urls.from(bytes, first, end, to, found);
        }
        if (hasHashes && at - start >= LEAST_HASH) names.hashes(bytes, start, at, found);
        if (hasV6 && byte === COLON && at >= v6End && (flags & ~(DIGIT | HEX)) === 0 && at - start <= 4) {
          v6End = addresses.v6(bytes, start, to, found);
        }
        flags = 0;
        start = at + 1;
      }
    },
  };
}

function tell(ids: Ids | undefined, start: number, end: number, found: Found): void {
  if (ids !== undefined) for (const id of ids) found(id, start, end);
}

// Domains and hashes

function namesOf({ domains, hashes }: Lookup) {
  const filter = filterOf(domains.size + hashes.size);
  for (const key of [...domains.keys(), ...hashes.keys()]) filter.add(backwards(Buffer.from(key, 'latin1')));
  function hashOf(bytes: Buffer, start: number, end: number, found: Found): void {
    const length = end - start;
    if (length !== 32 && length !== 40 && length !== 64 && length !== 128) return;
    let hash = START;
    for (let at = end - 1; at >= start; at -= 1) hash = mixed(hash, bytes[at] as number);
    if (filter.has(hash)) tell(hashes.get(bytes.toString('latin1', start, end).toLowerCase()), start, end, found);
  }
  return {
    /** The domain and those above it; a hit is told with the whole name. */
    domain(bytes: Buffer, start: number, end: number, found: Found): void {
      let hash = START;
      let labels = 0;
      for (let at = end - 1; at >= start; at -= 1) {
        const byte = bytes[at] as number;
        if (byte === 46) {
          labels += 1;
          if (labels > 1 && filter.has(hash)) {
            tell(domains.get(bytes.toString('latin1', at + 1, end).toLowerCase()), start, end, found);
          }
        }
        // Some names begin so, and some texts write it round a name.
        if (byte === UNDERSCORE && at === start && labels > 0 && filter.has(hash)) {
          tell(domains.get(bytes.toString('latin1', at + 1, end).toLowerCase()), at + 1, end, found);
        }
        hash = mixed(hash, byte);
      }
      if (filter.has(hash)) tell(domains.get(bytes.toString('latin1', start, end).toLowerCase()), start, end, found);
    },
    /** Runs of hexadecimal digits that are as long as a hash. */
    hashes(bytes: Buffer, start: number, end: number, found: Found): void {
      let run = start;
      let flags = 0;
      for (let at = start; at <= end; at += 1) {
        const kind = at < end ? (CLASS[bytes[at] as number] as number) : 0;
        if ((kind & WORD) !== 0) {
          flags |= kind;
          continue;
        }
        if (at - run >= LEAST_HASH && (flags & LETTER) === 0) hashOf(bytes, run, at, found);
        run = at + 1;
        flags = 0;
      }
    },
  };
}

// Addresses

function addressesOf({ v4, v4Ranges, v6 }: Lookup) {
  const spread = (value: number, bits: number) => Math.imul(value ^ (bits << 3), 0x85ebca6b);
  const ranges = [...v4Ranges].map(([bits, networks]) => ({
    bits,
    networks,
    mask: bits === 0 ? 0 : -1 << (32 - bits),
  }));
  const filter = filterOf(v4.size + ranges.reduce((sum, { networks }) => sum + networks.size, 0));
  for (const address of v4.keys()) filter.add(spread(address, 32));
  for (const { bits, networks } of ranges) for (const network of networks.keys()) filter.add(spread(network, bits));
  function lookFor(bytes: Buffer, start: number, end: number, found: Found): void {
    const value = v4At(bytes, start, end);
    if (value < 0) return;
    if (filter.has(spread(value, 32))) tell(v4.get(value), start, end, found);
    for (const { bits, networks, mask } of ranges) {
      const network = (value & mask) >>> 0;
      if (filter.has(spread(network, bits))) tell(networks.get(network), start, end, found);
    }
  }
  return {
    v4: lookFor,
    /** Addresses between dashes or underscores, as in `10.0.0.1-10.0.0.9`. */
    within(bytes: Buffer, start: number, end: number, found: Found): void {
      for (let from = start, at = start; at <= end; at += 1) {
        if (at < end && ((CLASS[bytes[at] as number] as number) & DASH) === 0) continue;
        if (at - from >= 7) lookFor(bytes, from, at, found);
        from = at + 1;
      }
    },
    /** The address that begins here; returns where it ends. */
    v6(bytes: Buffer, start: number, to: number, found: Found): number {
      let end = start;
      while (end < to && end - start < 46 && isV6(bytes[end] as number)) end += 1;
      let last = end;
      while (last > start && bytes[last - 1] === 46) last -= 1;
      if (bytes[last - 1] === COLON && bytes[last - 2] !== COLON) last -= 1;
      const parsed = last - start < 2 ? undefined : parseAddress(bytes.toString('latin1', start, last));
      if (parsed?.length !== 16) return end;
      for (const [bits, networks] of v6) {
        tell(networks.get(Buffer.from(maskedTo(parsed, bits)).toString('hex')), start, last, found);
      }
      return end;
    },
  };
}

function isV6(byte: number): boolean {
  return byte === COLON || byte === 46 || ((CLASS[byte] as number) & (DIGIT | HEX)) !== 0;
}

/** The number of an IPv4 address, or -1 where there is none. */
function v4At(bytes: Buffer, start: number, end: number): number {
  if (end - start < 7 || end - start > 15) return -1;
  let [value, octet, digits, dots] = [0, 0, 0, 0];
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] as number;
    if (byte === 46) {
      if (digits === 0) return -1;
      dots += 1;
      value = value * 256 + octet;
      octet = 0;
      digits = 0;
      continue;
    }
    if (byte < 48 || byte > 57 || (digits > 0 && octet === 0)) return -1;
    octet = octet * 10 + byte - 48;
    digits += 1;
    if (octet > 255) return -1;
  }
  return dots === 3 && digits > 0 ? value * 256 + octet : -1;
}

// URLs

function urlsOf({ urls }: Lookup) {
  const hosts = filterOf(urls.size);
  const filter = filterOf(urls.size);
  for (const key of urls.keys()) {
    filter.add(forwards(Buffer.from(key, 'latin1')));
    hosts.add(forwards(Buffer.from(/^[^/?:]*/.exec(key)?.[0] ?? '', 'latin1')));
  }
  return {
    /** A URL whose host ends at `end`: the whole, and each beginning of it that another might go on from. */
    from(bytes: Buffer, start: number, end: number, to: number, found: Found): void {
      const next = bytes[end];
      const schemed =
        start >= 3 && bytes[start - 1] === SLASH && bytes[start - 2] === SLASH && bytes[start - 3] === COLON;
      if (next !== SLASH && next !== QUESTION && next !== COLON && !schemed) return;
      let hash = START;
      for (let at = start; at < end; at += 1) hash = mixed(hash, bytes[at] as number);
      if (!hosts.has(hash)) return;
      let path = end;
      if (next === COLON) {
        path += 1;
        while (path < to && path - end < 7 && ((CLASS[bytes[path] as number] as number) & DIGIT) !== 0) path += 1;
      }
      const port = bytes.toString('latin1', end, path);
      const implied = port === ':' || port === ':80' || port === ':443';
      const head = `${bytes.toString('latin1', start, end).toLowerCase()}${implied ? '' : port}`;
      if (!implied) for (let at = end; at < path; at += 1) hash = mixed(hash, bytes[at] as number);
      walk(bytes, { start, path, to, head, hash }, found);
    },
  };
  function walk(
    bytes: Buffer,
    { start, path, to, head, hash: first }: { start: number; path: number; to: number; head: string; hash: number },
    found: Found,
  ): void {
    const probe = (hash: number, end: number) => {
      if (filter.has(hash)) tell(urls.get(head + bytes.toString('latin1', path, end)), start, end, found);
    };
    let hash = first;
    let word = path;
    let wordHash = hash;
    let at = path;
    for (; at < to && STOPS[bytes[at] as number] === 0; at += 1) {
      const byte = bytes[at] as number;
      if (at > path && JOINTS.has(byte)) probe(hash, at);
      hash = mixed(hash, byte);
      if (at === path && byte === SLASH) probe(hash, at + 1);
      if (TRAILING.has(byte)) continue;
      word = at + 1;
      wordHash = hash;
    }
    if (at === path) {
      if (filter.has(mixed(hash, SLASH))) tell(urls.get(`${head}/`), start, path, found);
      return;
    }
    if (at > path + 1) probe(hash, at);
    if (word < at && word > path + 1) probe(wordHash, word);
  }
}
