import type { Entry } from './indicators.ts';

interface Row {
  readonly fields: readonly string[];
  readonly line: number;
  /** A quote is opened and never closed. */
  readonly wrong?: true;
}

/** Rows of a CSV file (RFC 4180), each with the number of its line; lines that begin with # are comments. */
function* rowsOf(text: string): Generator<Row> {
  const separator = separatorOf(text);
  let line = 0;
  for (let at = 0; at < text.length; ) {
    const from = at;
    line += 1;
    if (text[at] === '#') {
      at = lineEnd(text, at) + 1;
      continue;
    }
    const row = rowAt(text, at, separator);
    at = row.end + 1;
    if (row.fields === undefined) yield { fields: [], line, wrong: true };
    else if (row.fields.some((field) => field !== '')) yield { fields: row.fields, line };
    line += text.slice(from, row.end).split('\n').length - 1;
  }
}

/** The separator that stands most often in the first line with text. */
function separatorOf(text: string): string {
  const first = text.split('\n', 100).find((line) => line.trim() !== '' && !line.startsWith('#')) ?? '';
  const count = (separator: string) => first.split(separator).length;
  return [',', ';', '\t'].reduce((best, other) => (count(other) > count(best) ? other : best));
}

function lineEnd(text: string, at: number): number {
  const end = text.indexOf('\n', at);
  return end < 0 ? text.length : end;
}

/** The fields up to the end of a row; none where a quote is not closed, so that the next line is read again. */
function rowAt(
  text: string,
  from: number,
  separator: string,
): { readonly fields: readonly string[] | undefined; readonly end: number } {
  const fields: string[] = [];
  for (let at = from; ; ) {
    const quoted = /^ *"/.test(text.slice(at, at + 16));
    const closed = quoted ? closing(text, text.indexOf('"', at)) : at;
    if (closed === undefined) return { fields: undefined, end: lineEnd(text, from) };
    const next = text.indexOf(separator, closed);
    const stop = lineEnd(text, closed);
    const end = next < 0 || next > stop ? stop : next;
    const field = text.slice(at, end).trim();
    fields.push(quoted ? field.replace(/^"|"$/g, '').replaceAll('""', '"') : field);
    if (end === stop) return { fields, end };
    at = end + 1;
  }
}

/** The place behind the quote that closes the one at `open`. */
function closing(text: string, open: number): number | undefined {
  for (let at = open + 1; ; at += 2) {
    at = text.indexOf('"', at);
    if (at < 0 || at - open > MOST_FIELD) return undefined;
    if (text[at + 1] !== '"') return at + 1;
  }
}

const MOST_FIELD = 65_536;

const VALUES = ['indicator', 'ioc', 'value', 'ioc_value', 'observable', 'indicator_value', 'pattern'];
const TYPES = ['type', 'kind', 'ioc_type', 'indicator_type', 'category'];
const NOTES = ['note', 'description', 'comment', 'malware', 'threat', 'tags', 'reference'];
/** Columns that hold one kind, as many feeds have it. */
const NAMED = [
  'ip',
  'ipv4',
  'ipv6',
  'dst_ip',
  'src_ip',
  'ip_address',
  'cidr',
  'domain',
  'hostname',
  'host',
  'url',
  'md5',
];
const HASHES = ['sha1', 'sha256', 'sha512', 'md5_hash', 'sha1_hash', 'sha256_hash', 'hash'];

/** Entries of a CSV file: by the names of its columns, or else its first column. */
export function* readCsv(text: string): Generator<Entry> {
  let header: readonly string[] | undefined;
  let isFirst = true;
  for (const { fields, line, wrong } of rowsOf(text)) {
    const at = `line ${line}`;
    const names = fields.map((field) => field.toLowerCase().replaceAll(' ', '_'));
    if (isFirst && names.some((name) => [...VALUES, ...NAMED, ...HASHES].includes(name))) header = names;
    else if (wrong === true) yield { text: '', at, wrong: 'a quote is opened and never closed' };
    else yield* entriesOf(fields, header, at);
    isFirst = false;
  }
}

function* entriesOf(fields: readonly string[], header: readonly string[] | undefined, at: string): Generator<Entry> {
  if (header === undefined) {
    yield { text: fields[0] ?? '', at, note: fields[1] };
    return;
  }
  const under = (names: readonly string[]) => names.map((name) => fields[header.indexOf(name)]).find((field) => field);
  const note = under(NOTES);
  const value = under(VALUES);
  if (value !== undefined) {
    yield { text: value, type: under(TYPES), at, note };
    return;
  }
  const named = header.flatMap((name, n) => {
    const field = fields[n] ?? '';
    if (field === '') return [];
    if (HASHES.includes(name)) return [{ text: field, type: 'hash', at, note }];
    return NAMED.includes(name) ? [{ text: field, at, note }] : [];
  });
  if (named.length === 0) yield { text: '', at, wrong: 'it has no value under any column that names one' };
  yield* named;
}
