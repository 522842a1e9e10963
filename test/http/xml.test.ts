import { expect, test } from 'vitest';
import { xmlRecords } from '../../src/http/xml.ts';

const split = xmlRecords({ record: 'A/L/R', within: 'A', lists: ['T'] });

function read(text: string, step = text.length, maxRecord = 1 << 20) {
  const splitter = split({ maxRecord });
  const bytes = Buffer.from(text);
  const lines: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; from += step)
    lines.push(...splitter.write(bytes.subarray(from, from + step)));
  return { ...splitter.end(), text: Buffer.concat(lines).toString() };
}

const WHOLE = `\uFEFF<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE A SYSTEM "https://elsewhere.invalid/a.dtd">
<A><L><R id="1"><T>é💻</T><N> 1 </N><E/></R><R>&lt;<![CDATA[<b>&amp;]]></R><R><X>1</X><X>2</X></R></L><W k="v">t</W></A>`;

test.each([1, 2, 3, 7, 1000])('records come out of pieces of %i bytes, what stands around them as the body', (step) => {
  const { text, records, found, body } = read(WHOLE, step);
  expect(text).toBe('{"@id":"1","T":["é💻"],"N":"1","E":null}\n{"#text":"<<b>&amp;"}\n{"X":["1","2"]}\n');
  expect({ records, found }).toEqual({ records: 3, found: true });
  expect(JSON.parse(JSON.stringify(body))).toEqual({ A: { L: null, W: { '@k': 'v', '#text': 't' } } });
});

test.each([
  ['cut off', '<A><L><R>1</R>'],
  ['nothing', ''],
  ['a wrong end', '<A><L></A></L>'],
  ['an unknown entity', '<A>&secret;</A>'],
  ['two roots', '<A/><A/>'],
])('%s is an error', (_, text) => {
  expect(() => read(text)).toThrow(/no XML/);
});

test('a document type that declares entities is refused', () => {
  expect(() => read('<!DOCTYPE A [<!ENTITY x "y">]><A>&x;</A>')).toThrow(/document type/);
});

test('a record over the limit is refused, before it has ended too', () => {
  const large = 'x'.repeat(4000);
  expect(() => read(`<A><L><R>${large}</R></L></A>`, 10_000, 1000)).toThrow(/larger than/);
  expect(() => read(`<A><L><R>${large}`, 100, 1000)).toThrow(/larger than/);
});

test('what stands outside the records is bounded altogether, however many pieces it comes in', () => {
  const bounded = xmlRecords({ record: 'A/L/R', maxOutside: 1000 });
  const feed = (text: string) => bounded({}).write(Buffer.from(text));
  const between = (count: number) => '<L><R>1</R></L><W k="v">text</W>'.repeat(count);
  expect(() => feed(`<A>${between(100)}</A>`)).toThrow(/1000 characters stand outside/);
  expect(() => feed(`<A>${'<W/>'.repeat(100)}</A>`)).toThrow(/stand outside/);
  expect(feed(`<A>${between(10)}<L><R>${'x'.repeat(5000)}</R></L></A>`)).toHaveLength(22);
});

test('another root than the one told is no list', () => {
  expect(read('<SIMPLE_RETURN><CODE>999</CODE></SIMPLE_RETURN>').found).toBe(false);
});
