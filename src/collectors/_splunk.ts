import { CollectError } from '../errors.ts';
import { rawValue } from '../http/fields.ts';
import type { Split, Splitter } from '../http/records.ts';
import type { Rule } from '../http/retry.ts';
import { at, isObject, type Json, textAt } from '../json.ts';

/** What is searched for: a whole query, or an index with what narrows it. */
export interface Wanted {
  readonly query: string;
  readonly index: string;
  readonly sourcetype: string;
  readonly filter: string;
}

/**
 * The search that a room's settings ask for.
 * @throws {CollectError} config when a part of it could be read as another command
 */
export function searchOf({ query, index, sourcetype, filter }: Wanted): string {
  if (query !== '') return /^\s*(search\b|\|)/i.test(query) ? query : `search ${query}`;
  assertMatches('SPLUNK_INDEX', index, /^[A-Za-z0-9_-]+$/, 'letters, digits, _ and -');
  if (sourcetype !== '') {
    assertMatches('SPLUNK_SOURCETYPE', sourcetype, /^[A-Za-z0-9:_-]+$/, 'letters, digits, :, _ and -');
  }
  assertMatches('SPLUNK_SEARCH_FILTER', filter, /^[^|`$;[\]\r\n]*$/, 'a filter without | ` $ ; [ ] and line ends');
  const parts = [`index="${index}"`, sourcetype === '' ? '' : `sourcetype="${sourcetype}"`, filter.trim()];
  return `search ${parts.filter((part) => part !== '').join(' ')}`;
}

function assertMatches(name: string, value: string, pattern: RegExp, allowed: string): void {
  if (pattern.test(value)) return;
  const mend = `write only ${allowed}; a whole search goes into SPLUNK_QUERY`;
  throw new CollectError('config', `${name} holds what does not belong there`, { mend });
}

/** What messages in a stream that began with 200 mean: its results are partial. */
export const MESSAGES: readonly Rule[] = [
  { status: 200, body: /"fault":"quota"/, as: 'throttled', because: 'the quota of searches or of disk is used up' },
  { status: 200, body: /"fault":"failed"/, as: 'failed', because: 'the search failed or its results are partial' },
];

const LF = 0x0a;

/**
 * Takes the results out of an export's stream: a line an object, previews left out. A stream without the mark of its
 * last row was cut off.
 */
export const exportLines: Split = ({ edit, maxRecord = 64 * 2 ** 20 }): Splitter => {
  let rest: Uint8Array = new Uint8Array();
  let records = 0;
  let ended = false;
  let fault: 'quota' | 'failed' | undefined;
  const take = (line: Uint8Array): readonly Uint8Array[] => {
    if (line.length > maxRecord) throw new CollectError('refused', `a record is larger than ${maxRecord} bytes`);
    const text = Buffer.from(line).toString();
    if (text.trim() === '') return [];
    const row = parsed(text);
    fault = faultOf(row) ?? fault;
    if (row.preview === true) return [];
    if (row.lastrow === true) ended = true;
    const result = isObject(row.result) ? rawValue(line, ['result']) : undefined;
    if (result === undefined) return [];
    records += 1;
    return [edit?.(result) ?? result, Uint8Array.of(LF)];
  };
  return {
    write(chunk) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      const out: Uint8Array[] = [];
      let from = 0;
      for (let to = bytes.indexOf(LF); to >= 0; to = bytes.indexOf(LF, from)) {
        out.push(...take(bytes.subarray(from, to)));
        from = to + 1;
      }
      rest = bytes.subarray(from);
      if (rest.length > maxRecord) throw new CollectError('refused', `a record is larger than ${maxRecord} bytes`);
      return out;
    },
    end() {
      if (Buffer.from(rest).toString().trim() !== '') throw new CollectError('vendor', 'the stream ends within a line');
      if (!ended && fault === undefined) throw new CollectError('vendor', 'the stream ends without its last row');
      return { records, found: true, body: fault === undefined ? {} : { fault } };
    },
  };
};

function parsed(line: string): { readonly [key: string]: Json } {
  try {
    const row: unknown = JSON.parse(line);
    if (isObject(row)) return row;
  } catch {
    // The parser's own error quotes the line.
  }
  throw new CollectError('vendor', 'a line of the stream is no JSON object');
}

function faultOf(row: unknown): 'quota' | 'failed' | undefined {
  const messages = at(row, 'messages');
  if (!Array.isArray(messages)) return undefined;
  const bad = messages.filter((message) => /^(ERROR|FATAL)$/i.test(textAt(message, 'type') ?? ''));
  if (bad.length === 0) return undefined;
  return bad.some((message) => /quota|concurrent/i.test(textAt(message, 'text') ?? '')) ? 'quota' : 'failed';
}
