import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type Indicator, parseIndicators } from '../../src/detect/indicators.ts';
import { literalOf } from '../../src/detect/literals.ts';
import { matcherOf, matchLines } from '../../src/detect/matcher.ts';
import { substringsOf } from '../../src/detect/substrings.ts';

async function listed(...lines: readonly string[]): Promise<readonly Indicator[]> {
  const { indicators, problems } = await parseIndicators(lines.join('\n'), 'bad.txt');
  expect(problems).toEqual([]);
  return indicators;
}

/** What is found in a line, as texts. */
async function found(line: string, indicators: readonly string[], allowed: readonly string[] = []) {
  const matcher = await matcherOf(await listed(...indicators), await listed(...allowed));
  const bytes = Buffer.from(line);
  return matcher.find(bytes).map(({ start, end }) => bytes.subarray(start, end).toString());
}

describe('addresses', () => {
  const v4 = ['198.51.100.7', '203.0.113.0/24', '10.0.0.0/8'];
  test.each<[string, readonly string[]]>([
    ['from 198.51.100.7 port 22', ['198.51.100.7']],
    ['198.51.100.7', ['198.51.100.7']],
    ['to 198.51.100.7.', ['198.51.100.7']],
    ['(198.51.100.7:443)', ['198.51.100.7']],
    ['src=198.51.100.7,dst=203.0.113.255', ['198.51.100.7', '203.0.113.255']],
    ['http://198.51.100.7/x', ['198.51.100.7']],
    ['::ffff:198.51.100.7', ['198.51.100.7']],
    ['10.255.0.1-10.255.0.9', ['10.255.0.1', '10.255.0.9']],
    ['ip_198.51.100.7_in', ['198.51.100.7']],
    ['ip-198.51.100.7', ['198.51.100.7']],
    ['198.51.100.70', []],
    ['1198.51.100.7', []],
    ['198.51.100.7.1', []],
    ['version 198.51.0100.7', []],
    ['198.51.100', []],
    ['11.0.0.1 203.0.114.1', []],
    ['198.51.100.7.evil.example', []],
    ['999.51.100.7', []],
  ])('%s', async (line, expected) => {
    expect(await found(line, v4)).toEqual(expected);
  });

  const v6 = ['2001:db8::1', '2001:db8:bad::/48', '::1'];
  test.each<[string, readonly string[]]>([
    ['from 2001:db8::1 port', ['2001:db8::1']],
    ['[2001:DB8:0:0:0:0:0:1]:443', ['2001:DB8:0:0:0:0:0:1']],
    ['addr 2001:db8:bad:1::9, next', ['2001:db8:bad:1::9']],
    ['addr 2001:db8::1: hello', ['2001:db8::1']],
    ['on ::1.', ['::1']],
    ['at 12:34:56 2001:db8::2', []],
    ['2001:db8::12', []],
    ['mac 00:11:22:33:44:55', []],
  ])('%s', async (line, expected) => {
    expect(await found(line, v6)).toEqual(expected);
  });

  test('every range length', async () => {
    for (let bits = 0; bits <= 32; bits += 1) {
      expect(await found('x 198.51.100.7 y', [`198.51.100.7/${bits}`])).toEqual(['198.51.100.7']);
    }
    expect(await found('x 128.0.0.1 y', ['0.0.0.0/1'])).toEqual([]);
  });
});

describe('domains', () => {
  test.each<[string, readonly string[]]>([
    ['query evil.example IN A', ['evil.example']],
    ['query: A.Sub.EVIL.example.', ['A.Sub.EVIL.example']],
    ['mail to who@evil.example;', ['evil.example']],
    ['https://sub.evil.example:8443/x', ['sub.evil.example']],
    ['host="evil.example"', ['evil.example']],
    ['_dmarc.evil.example', ['_dmarc.evil.example']],
    ['notevil.example evil.example.org evilxexample', []],
    ['my-evil.example', []],
    ['evil.example_backup', []],
    ['see _evil.example_', ['evil.example']],
    ['_tcp.other.example.net', ['_tcp.other.example.net']],
  ])('%s', async (line, expected) => {
    expect(await found(line, ['evil.example', '_tcp.other.example.net'])).toEqual(expected);
  });
});

describe('hashes', () => {
  const hashes = ['d41d8cd98f00b204e9800998ecf8427e', 'a'.repeat(40), 'b'.repeat(64), 'c'.repeat(128)];
  test.each<[string, readonly string[]]>([
    ['md5=D41D8CD98F00B204E9800998ECF8427E size', ['D41D8CD98F00B204E9800998ECF8427E']],
    ['/tmp/d41d8cd98f00b204e9800998ecf8427e.exe', ['d41d8cd98f00b204e9800998ecf8427e']],
    [`sha1-${'a'.repeat(40)}`, ['a'.repeat(40)]],
    [`x:${'b'.repeat(64)},`, ['b'.repeat(64)]],
    ['c'.repeat(128), ['c'.repeat(128)]],
    [`${'b'.repeat(65)} ${'a'.repeat(39)} xd41d8cd98f00b204e9800998ecf8427e`, []],
  ])('%s', async (line, expected) => {
    expect(await found(line, hashes)).toEqual(expected);
  });
});

describe('URLs', () => {
  const urls = [
    'http://evil.example/a/b',
    'https://evil.example:8443/',
    'http://worse.example/',
    'evil.example/get?id=7',
    'http://198.51.100.7/x',
  ];
  test.each<[string, readonly string[]]>([
    ['GET http://evil.example/a/b HTTP', ['evil.example/a/b']],
    ['"https://EVIL.example/a/b/"', ['EVIL.example/a/b', 'EVIL.example/a/b/'].slice(0, 1)],
    ['evil.example/a/b/c?d', ['evil.example/a/b']],
    ['evil.example/a/b?x=1', ['evil.example/a/b']],
    ['see http://evil.example/a/b.', ['evil.example/a/b']],
    ['http://evil.example:80/a/b', ['evil.example:80/a/b']],
    ['http://evil.example/get?id=7&x', ['evil.example/get?id=7']],
    ['https://evil.example:8443/anything', ['evil.example:8443/']],
    ['http://worse.example', ['worse.example']],
    ['http://worse.example/anything', ['worse.example/']],
    ['http://198.51.100.7/x#y', ['198.51.100.7/x']],
    ['http://evil.example/a/bc', []],
    ['http://evil.example/A/b', []],
    ['http://evil.example/a/b.php', []],
    ['http://evil.example/get?id=77', []],
    ['http://evil.example:9/a/b', []],
    ['http://sub.evil.example/a/b', []],
    ['worse.example without a scheme', []],
    ['http://evil.example/a', []],
  ])('%s', async (line, expected) => {
    expect(await found(line, urls)).toEqual(expected);
  });

  test('of an IPv6 host', async () => {
    expect(await found('GET http://[2001:DB8::1]:8080/x', ['http://[2001:db8::1]:8080/x'])).toEqual([
      '[2001:DB8::1]:8080/x',
    ]);
  });
});

describe('texts', () => {
  test.each<[string, readonly string[], readonly string[]]>([
    ['run rm -rf / now', ['string:rm -rf /'], ['rm -rf /']],
    ['xxabcabcabcxx', ['string:abcabc'], ['abcabc', 'abcabc']],
    ['abc', ['string:abc'], ['abc']],
    ['日本🦊', ['string:🦊'], ['🦊']],
    ['Abc ABC', ['string:abc'], []],
    ['mimikatz.exe', ['string:mimikatz', 'string:katz', 'string:mimikatz.exe'], ['mimikatz', 'mimikatz.exe', 'katz']],
  ])('%s', async (line, indicators, expected) => {
    expect(await found(line, indicators)).toEqual(expected);
  });

  test('are found as a plain search would find them, of any length and number', () => {
    const alphabet = 'ab';
    for (let round = 0; round < 300; round += 1) {
      const bytes = Buffer.from(Array.from(randomBytes(200), (byte) => alphabet[byte % 2] ?? '').join(''));
      const texts = Array.from({ length: 1 + (round % 40) }, (_, id) => {
        const [at = 0, length = 0] = randomBytes(2);
        return {
          id,
          bytes: Buffer.from(bytes.subarray(at % 150, (at % 150) + 1 + (length % 40))),
          folds: round % 2 === 0,
        };
      });
      const expected = texts.flatMap(({ id, bytes: text }) => {
        const places: string[] = [];
        for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1)) places.push(`${id} ${at}`);
        return places;
      });
      const seen: string[] = [];
      substringsOf(texts).search(bytes, 0, bytes.length, (id, start) => seen.push(`${id} ${start}`));
      expect(seen.sort()).toEqual(expected.sort());
    }
  });
});

describe('regular expressions', () => {
  test.each<[string, string, readonly string[]]>([
    ['regex:Failed password for \\w+', 'x Failed password for root from', ['Failed password for root']],
    ['/CMD\\.EXE/i', 'ran cmd.exe and Cmd.Exe', ['cmd.exe', 'Cmd.Exe']],
    ['regex:^\\d+ x$', '17 x', ['17 x']],
    ['regex:a|b', 'cab', ['a', 'b']],
    ['regex:(evil)+', 'evilevil', ['evilevil']],
    ['/größe\\d/i', 'GRÖSSE1 größe2', ['größe2']],
  ])('%s', async (indicator, line, expected) => {
    expect(await found(line, [indicator])).toEqual(expected);
  });

  test('are matched line by line', async () => {
    const matcher = await matcherOf(await listed('regex:root.*end', 'regex:^x'));
    const bytes = Buffer.from('root one\nend root two end\nx\n');
    expect(matcher.find(bytes).map(({ start, end }) => bytes.subarray(start, end).toString())).toEqual([
      'root two end',
      'x',
    ]);
    expect(matcher.slow.map(({ value }) => value)).toEqual(['^x']);
  });

  test('cost no more than time in proportion', async () => {
    const matcher = await matcherOf(await listed('regex:(a+)+b', 'regex:(x*)*y'));
    const started = performance.now();
    expect(matcher.find(Buffer.from(`${'a'.repeat(20_000)}c${'x'.repeat(20_000)}`))).toEqual([]);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test.each<[string, string | undefined]>([
    ['abc', 'abc'],
    ['abc\\.def', 'abc.def'],
    ['ab?cdef', 'cdef'],
    ['abcd*efg', 'abc'],
    ['abc+def', 'abc'],
    ['[abc]defg(hijk)', 'defg'],
    ['abc|def', undefined],
    ['(abc|def)', undefined],
    ['a.b.c', undefined],
    ['\\Qabc\\E', undefined],
    ['[[:alpha:]]xyz[]a]', 'xyz'],
    ['\\pLabc\\p{Greek}', 'abc'],
    ['abcd{0,3}efgh', 'efgh'],
    ['abcd{2}', 'abcd'],
  ])('%s holds %s', (pattern, text) => {
    expect(literalOf(pattern)?.text).toBe(text);
  });
});

describe('an allow-list', () => {
  test.each<[string, readonly string[], readonly string[], readonly string[]]>([
    ['10.1.2.3 10.1.2.4', ['10.0.0.0/8'], ['10.1.2.3'], ['10.1.2.4']],
    ['203.0.113.9 203.0.114.9', ['203.0.113.9', '203.0.114.9'], ['203.0.113.0/24'], ['203.0.114.9']],
    ['good.evil.example bad.evil.example', ['evil.example'], ['good.evil.example'], ['bad.evil.example']],
    [
      'http://fine.example/x http://evil.example/x',
      ['http://fine.example/x', 'http://evil.example/x'],
      ['fine.example'],
      ['evil.example/x'],
    ],
    [
      'http://evil.example/x http://evil.example/y',
      ['http://evil.example/x', 'http://evil.example/y'],
      ['http://evil.example/x'],
      ['evil.example/y'],
    ],
    [
      'd41d8cd98f00b204e9800998ecf8427e',
      ['d41d8cd98f00b204e9800998ecf8427e'],
      ['D41D8CD98F00B204E9800998ECF8427E'],
      [],
    ],
    ['wget http://fine.example', ['string:wget http://fine.example'], ['fine.example'], ['wget http://fine.example']],
    ['wget x', ['string:wget'], ['string:wget'], []],
  ])('%s', async (line, indicators, allowed, expected) => {
    expect(await found(line, indicators, allowed)).toEqual(expected);
  });
});

describe('a hit', () => {
  test('names each list that has the indicator', async () => {
    const first = (await parseIndicators('evil.example\n', 'one.txt')).indicators;
    const second = (await parseIndicators('value,note\nEVIL.example,bad\n', 'two.csv')).indicators;
    const hits = (await matcherOf([...first, ...second])).find(Buffer.from('at evil.example'));
    expect(hits).toEqual([
      { indicator: { kind: 'domain', value: 'evil.example', list: 'one.txt', at: 'line 1' }, start: 3, end: 15 },
      {
        indicator: { kind: 'domain', value: 'evil.example', list: 'two.csv', at: 'line 2', note: 'bad' },
        start: 3,
        end: 15,
      },
    ]);
  });

  test.each([1, 2, 3, 7, 50, 1000])('has its line and place however the bytes come (%i at once)', async (size) => {
    const text = 'fine\nat evil.example 198.51.100.7\r\n\nlong '.concat(
      'x'.repeat(300),
      ' evil.example\nfine\n日 evil.example',
    );
    const bytes = Buffer.from(text);
    const chunks = async function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    };
    const matcher = await matcherOf(await listed('evil.example', '198.51.100.7'));
    const seen: string[] = [];
    for await (const { line, offset, text: held, hits } of matchLines(chunks(), matcher)) {
      expect(bytes.subarray(offset, offset + held.length).equals(held)).toBe(true);
      for (const { start, end, indicator } of hits) {
        expect(held.subarray(start, end).toString()).toBe(indicator.value);
        seen.push(`${line}:${start}`);
      }
    }
    expect(seen).toEqual(['2:3', '2:16', '4:306', '6:4']);
  });

  test('is found in bytes that are no text', async () => {
    const matcher = await matcherOf(await listed('evil.example'));
    const bytes = Buffer.concat([Buffer.from([0, 255, 254, 32]), Buffer.from('evil.example'), Buffer.from([0, 10])]);
    expect(matcher.find(bytes)).toHaveLength(1);
  });
});
