import { expect, test } from 'vitest';
import { exportLines, MESSAGES, searchOf } from '../../src/collectors/_splunk.ts';
import { classify } from '../../src/http/retry.ts';

const none = { query: '', index: '', sourcetype: '', filter: '' };

function read(text: string, size: number) {
  const splitter = exportLines({});
  const bytes = Buffer.from(text);
  const out: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; from += size) {
    out.push(...splitter.write(Uint8Array.from(bytes.subarray(from, from + size))).map((part) => Buffer.from(part)));
  }
  return { ...splitter.end(), text: Buffer.concat(out).toString() };
}

const RESULTS = [
  '{"_raw":"a \\"q\\" | b","_time":"2026-01-01T00:00:00.000+00:00"}',
  '{"n":9007199254740993,"ü":["x","y"]}',
];
const STREAM = [
  '{"preview":true,"offset":0,"lastrow":true,"result":{"_raw":"not yet"}}',
  `{"preview":false,"offset":0,"result":${RESULTS[0]}}`,
  '',
  '{"messages":[{"type":"WARN","text":"slow"}]}',
  `{"preview":false,"offset":1,"lastrow":true,"result":${RESULTS[1]}}`,
  '',
].join('\n');

test.each([1, 2, 7, 64, 4096])('results leave an export byte for byte, in pieces of %i bytes', (size) => {
  expect(read(STREAM, size)).toEqual({ records: 2, found: true, body: {}, text: `${RESULTS.join('\n')}\n` });
});

test('a stream that was cut anywhere is no whole one', () => {
  const bytes = Buffer.from(STREAM);
  for (let end = 0; end < bytes.length; end += 1) expect(() => read(bytes.subarray(0, end).toString(), 99)).toThrow();
});

test.each([
  ['FATAL', 'Unknown search command', 'failed'],
  ['ERROR', 'The maximum number of concurrent historical searches has been reached', 'throttled'],
])('a message of level %s makes good results partial ones', (type, text, outcome) => {
  const { body } = read(`${JSON.stringify({ preview: false, messages: [{ type, text }] })}\n${STREAM}`, 50);
  expect(classify(200, JSON.stringify(body), MESSAGES).outcome).toBe(outcome);
});

test('a search is built of a query or of an index', () => {
  expect(searchOf({ ...none, query: 'index=main' })).toBe('search index=main');
  expect(searchOf({ ...none, query: '| tstats count' })).toBe('| tstats count');
  expect(searchOf({ ...none, index: 'main', sourcetype: 'aws:cloudtrail', filter: 'status=5*' })).toBe(
    'search index="main" sourcetype="aws:cloudtrail" status=5*',
  );
});

test.each([
  ['index', 'main" | delete'],
  ['index', 'a|b'],
  ['sourcetype', 'x"'],
  ['filter', '[search index=secret]'],
  ['filter', 'a | outputlookup b'],
  ['filter', '`macro`'],
])('an injection in %s is refused: %s', (name, value) => {
  expect(() => searchOf({ ...none, index: 'main', [name]: value })).toThrow(
    expect.objectContaining({ code: 'config' }),
  );
});
