import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { domainToASCII } from 'node:url';
import { CollectError, type Problem } from '../errors.ts';
import { parseAddress, parseRange } from './addresses.ts';
import { readCsv } from './csv.ts';
import { readMisp } from './misp.ts';
import { readStix } from './stix.ts';

/** What an indicator is. */
export type IndicatorKind = 'address' | 'range' | 'domain' | 'url' | 'hash' | 'string' | 'regex';

/** Something whose being there says that something is wrong, or on an allow-list, that it is not. */
export interface Indicator {
  readonly kind: IndicatorKind;
  /** As it is compared: without brackets against clicking, hosts and hashes in lower case. */
  readonly value: string;
  /** Name of the list it stands in. */
  readonly list: string;
  /** Where in that list: `line 12`, or the id of an object. */
  readonly at: string;
  /** What the list says of it. */
  readonly note?: string;
}

/** A list as it was read; what was not understood does not keep the rest from being used. */
export interface IndicatorList {
  readonly indicators: readonly Indicator[];
  /** The first hundred entries that were not understood, by file and line. */
  readonly problems: readonly Problem[];
  /** How many entries were not understood in all. */
  readonly refused: number;
  /** Entries that are revoked, expired, deleted, or marked as not for detection. */
  readonly skipped: number;
}

/** An entry of a list before it is understood. */
export interface Entry {
  readonly text: string;
  /** What the list calls it, in its own words or ours. */
  readonly type?: string | undefined;
  readonly at: string;
  readonly note?: string | undefined;
  /** Why it is no indicator, where its format tells that already. */
  readonly wrong?: string;
  /** It is not to be used. */
  readonly skip?: true;
}

/** How a list is to be read, where its file does not say. */
export interface ListChoice {
  /** What every line is; otherwise what it looks like. */
  readonly kind?: IndicatorKind;
  /** Name in hits; unless told the file's. */
  readonly name?: string;
  /** Entries that ended before are skipped; unless told now. */
  readonly now?: Date;
}

const MOST_BYTES = 512 * 2 ** 20;
const MOST_PROBLEMS = 100;
/** A shorter text is found in every line. */
const LEAST_STRING = 3;

/**
 * Reads a list: plain lines, CSV, STIX 2.1 or MISP, told by its end and what it begins with.
 * @throws {CollectError} config for a file that cannot be read, or JSON that is neither STIX nor MISP
 */
export async function loadIndicators(path: string, choice: ListChoice = {}): Promise<IndicatorList> {
  const { size } = await stat(path).catch((cause: NodeJS.ErrnoException) => unreadable(path, cause.code));
  if (size > MOST_BYTES) throw new CollectError('config', `${path} is larger than 512 MiB`, { mend: 'split it' });
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => unreadable(path, cause.code));
  return parseIndicators(text.replace(/^\uFEFF/, ''), path, choice);
}

function unreadable(path: string, code: string | undefined): never {
  throw new CollectError('config', `${path} cannot be read (${code})`, { mend: 'correct the path' });
}

/** Reads a list from its text; `path` is for its name, its format and for messages. */
export async function parseIndicators(text: string, path: string, choice: ListChoice = {}): Promise<IndicatorList> {
  const list = choice.name ?? basename(path);
  const indicators: Indicator[] = [];
  const problems: Problem[] = [];
  let refused = 0;
  let skipped = 0;
  for (const entry of entriesOf(text, path, choice.now ?? new Date())) {
    if (entry.skip === true) {
      skipped += 1;
      continue;
    }
    const meant = entry.wrong ?? understood(entry, list, choice.kind);
    const found = typeof meant === 'string' ? meant : ((await wrongPattern(meant)) ?? meant);
    if (typeof found !== 'string') indicators.push(...found);
    else {
      refused += 1;
      if (problems.length < MOST_PROBLEMS) problems.push(problemOf(path, entry.at, found));
    }
  }
  return { indicators, problems, refused, skipped };
}

async function wrongPattern(indicators: readonly Indicator[]): Promise<string | undefined> {
  const patterns = indicators.filter(({ kind }) => kind === 'regex');
  if (patterns.length === 0) return undefined;
  const { RE2JS } = await import('re2js');
  try {
    for (const { value } of patterns) RE2JS.compile(value);
    return undefined;
  } catch {
    return 'it is no regular expression of RE2, which has neither look-around nor back-references';
  }
}

function problemOf(path: string, at: string, message: string): Problem {
  const where = `${path}:${at.replace(/^line /, '')}`;
  const mend = 'correct the entry, or write what it is before it, such as string: or regex:';
  return { id: 'Indicator not understood', severity: 'WARNING', where, message, mend };
}

function entriesOf(text: string, path: string, now: Date): Iterable<Entry> {
  const isJson = /\.(json|stix2?)$/i.test(path) || /^\s*\{/.test(text);
  if (!isJson) return /\.csv$/i.test(path) ? readCsv(text) : readLines(text);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new CollectError('config', `${path} is no JSON`, { mend: 'fetch it again; it may have been cut' });
  }
  const entries = readStix(json, now) ?? readMisp(json);
  if (entries !== undefined) return entries;
  throw new CollectError('config', `${path} is neither a STIX bundle nor a MISP event`, {
    mend: 'export it as STIX 2.1 or MISP JSON, or as lines',
  });
}

/** Lines, without comments; of a hosts file the names. */
function* readLines(text: string): Generator<Entry> {
  let number = 0;
  for (const line of text.split('\n')) {
    number += 1;
    const trimmed = line.trim();
    if (trimmed === '' || /^(#|;|\/\/)/.test(trimmed)) continue;
    const [plain = '', ...comment] = /^(string|regex):/.test(trimmed) ? [trimmed] : trimmed.split(/\s+[#;]\s*/);
    const hosts = /^(?:0\.0\.0\.0|127\.0\.0\.1|::1?)\s+(\S.*)$/.exec(plain)?.[1];
    const note = comment.length === 0 ? {} : { note: comment.join(' ') };
    for (const name of hosts?.split(/\s+/) ?? [plain]) yield { text: name, at: `line ${number}`, ...note };
  }
}

// What an entry is

const KINDS: Readonly<Record<string, IndicatorKind>> = {
  ...{ ip: 'address', address: 'address', ipv4: 'address', ipv6: 'address', 'ipv4-addr': 'address' },
  ...{ 'ipv6-addr': 'address', 'ip-src': 'address', 'ip-dst': 'address', 'ip address': 'address' },
  ...{ cidr: 'range', range: 'range', subnet: 'range', netblock: 'range' },
  ...{ domain: 'domain', hostname: 'domain', host: 'domain', fqdn: 'domain', 'domain-name': 'domain' },
  ...{ url: 'url', uri: 'url', link: 'url' },
  ...{ hash: 'hash', md5: 'hash', sha1: 'hash', 'sha-1': 'hash', sha256: 'hash', 'sha-256': 'hash' },
  ...{ sha512: 'hash', 'sha-512': 'hash', filehash: 'hash', 'filehash-md5': 'hash', 'filehash-sha1': 'hash' },
  ...{ 'filehash-sha256': 'hash', md5_hash: 'hash', sha1_hash: 'hash', sha256_hash: 'hash' },
  ...{ string: 'string', text: 'string', keyword: 'string', filename: 'string', email: 'string' },
  ...{ regex: 'regex', regexp: 'regex' },
};

/** The indicators of an entry, or why it is none. */
function understood(entry: Entry, list: string, wanted: IndicatorKind | undefined): readonly Indicator[] | string {
  const prefix = /^([a-z][\w-]*):(?!\/\/)\s*(.+)$/is.exec(entry.text);
  const named = entry.type === undefined ? KINDS[prefix?.[1]?.toLowerCase() ?? ''] : undefined;
  const type = KINDS[entry.type?.toLowerCase() ?? ''] ?? named ?? wanted;
  const text = named === undefined ? entry.text : (prefix?.[2] ?? '');
  const note = entry.note === undefined || entry.note === '' ? {} : { note: entry.note };
  const found = type === undefined ? guessed(text) : indicatorOf(type, text);
  if (typeof found === 'string') return found;
  return [{ ...found, list, at: entry.at, ...note }];
}

type Found = Pick<Indicator, 'kind' | 'value'>;

function guessed(text: string): Found | string {
  const pattern = /^\/(.+)\/(i?)$/s.exec(text);
  if (pattern !== null) return indicatorOf('regex', `${pattern[2] === 'i' ? '(?i)' : ''}${pattern[1]}`);
  for (const kind of ['address', 'hash', 'url', 'domain'] as const) {
    const found = indicatorOf(kind, text);
    if (typeof found !== 'string') return found;
  }
  return 'it is no address, range, domain, URL or hash';
}

function indicatorOf(kind: IndicatorKind, text: string): Found | string {
  switch (kind) {
    case 'address':
    case 'range':
      return addressOf(refanged(text));
    case 'domain':
      return domainOf(refanged(text));
    case 'url':
      return urlOf(refanged(text));
    case 'hash':
      return hashOf(text.trim());
    case 'string':
      if (Buffer.byteLength(text) < LEAST_STRING) return `it is shorter than ${LEAST_STRING} bytes`;
      return /[\n\r]/.test(text) ? 'it holds a line break' : { kind, value: text };
    case 'regex':
      return text === '' ? 'it is empty' : { kind, value: text };
  }
}

/** Undoes what people write so that nobody clicks: `hxxps://evil[.]example`, `evil(dot)example`. */
export function refanged(text: string): string {
  return text
    .trim()
    .replace(/^["'<]+|["'>]+$/g, '')
    .replace(/^(?:hxxp|h\*\*p|hXXp|htxp)(s?)(?=[:[])/i, 'http$1')
    .replace(/\[:\/\/\]|\[:\]\/\//g, '://')
    .replace(/\[:\]/g, ':')
    .replace(/\s*[[({]\s*(?:\.|dot)\s*[\])}]\s*/gi, '.')
    .replace(/\[\.|\.\]/g, '.')
    .replace(/\\\./g, '.')
    .replace(/[[({](?:@|at)[\])}]/gi, '@');
}

function addressOf(text: string): Found | string {
  if (parseAddress(text) !== undefined) return { kind: 'address', value: text.toLowerCase() };
  const range = parseRange(text);
  if (range === undefined) return 'it is no address or range';
  return { kind: range.isHost ? 'address' : 'range', value: range.text };
}

function domainOf(text: string): Found | string {
  const name = text.replace(/^\*\./, '').replace(/\.$/, '').toLowerCase();
  const ascii = /^[\x20-\x7e]*$/.test(name) ? name : domainToASCII(name);
  const labels = ascii.split('.');
  const fits = labels.every((label) => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label));
  if (labels.length < 2 || !fits || ascii.length > 253) return 'it is no domain of two labels or more';
  return /^\d+$/.test(labels.at(-1) ?? '') ? 'its last label is a number' : { kind: 'domain', value: ascii };
}

/** A URL without its scheme and fragment: `host[:port]/path?query`, which others may continue. */
function urlOf(text: string): Found | string {
  const match =
    /^(?:([a-z][a-z0-9+.-]*):\/\/)?(?:[^/?#@\s]*@)?(\[[\da-f:.]+\]|[^/?#:\s]+)(?::(\d{1,5}))?([/?][^#\s]*)?(?:#\S*)?$/i.exec(
      text,
    );
  const [, scheme, host = '', port, rest = ''] = match ?? [];
  const isRange = scheme === undefined && /^[\d.]+\/\d+$/.test(text); // of a length that there is not
  if (match === null || isRange || (scheme === undefined && rest === '')) return 'it is no URL';
  const bare = host.replace(/^\[|\]$/g, '');
  const known = parseAddress(bare) === undefined ? domainOf(bare) : { value: host.toLowerCase() };
  if (typeof known === 'string') return known;
  const implied = port === undefined || port === '80' || port === '443';
  const path = rest.replace(/\/+$/, '');
  return { kind: 'url', value: `${known.value}${implied ? '' : `:${port}`}${path === '' ? '/' : path}` };
}

function hashOf(text: string): Found | string {
  if (/^(?:[\da-f]{32}|[\da-f]{40}|[\da-f]{64}|[\da-f]{128})$/i.test(text)) {
    return { kind: 'hash', value: text.toLowerCase() };
  }
  return 'it is no MD5, SHA-1, SHA-256 or SHA-512';
}
