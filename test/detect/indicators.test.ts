import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type IndicatorKind,
  type ListChoice,
  loadIndicators,
  parseIndicators,
  refanged,
} from '../../src/detect/indicators.ts';
import { CollectError } from '../../src/errors.ts';

async function read(text: string, path = 'bad.txt', choice: ListChoice = {}) {
  const { indicators, problems, refused, skipped } = await parseIndicators(text, path, choice);
  return {
    found: indicators.map(({ kind, value }) => `${kind} ${value}`),
    notes: indicators.map(({ note }) => note),
    places: indicators.map(({ list, at }) => `${list} ${at}`),
    problems: problems.map(({ where, message }) => `${where} ${message}`),
    refused,
    skipped,
  };
}

describe('a plain list', () => {
  test.each<[string, string]>([
    ['203.0.113.9', 'address 203.0.113.9'],
    ['203.0.113.9/32', 'address 203.0.113.9'],
    ['203.0.113.77/24', 'range 203.0.113.0/24'],
    ['0.0.0.0/0', 'range 0.0.0.0/0'],
    ['2001:DB8::1', 'address 2001:db8::1'],
    ['2001:db8:1:2::/48', 'range 2001:db8:1::/48'],
    ['::ffff:203.0.113.9', 'address ::ffff:203.0.113.9'],
    ['Evil.Example', 'domain evil.example'],
    ['*.evil.example.', 'domain evil.example'],
    ['bücher.example', 'domain xn--bcher-kva.example'],
    ['_dmarc.evil.example', 'domain _dmarc.evil.example'],
    ['https://user@Evil.example:443/Path/?q=1#top', 'url evil.example/Path/?q=1'],
    ['http://evil.example/', 'url evil.example/'],
    ['http://evil.example', 'url evil.example/'],
    ['http://203.0.113.9:8080/x/', 'url 203.0.113.9:8080/x'],
    ['evil.example/path', 'url evil.example/path'],
    ['http://[2001:db8::1]:8080/x', 'url [2001:db8::1]:8080/x'],
    ['D41D8CD98F00B204E9800998ECF8427E', 'hash d41d8cd98f00b204e9800998ecf8427e'],
    ['a'.repeat(40), `hash ${'a'.repeat(40)}`],
    ['b'.repeat(64), `hash ${'b'.repeat(64)}`],
    ['c'.repeat(128), `hash ${'c'.repeat(128)}`],
    ['string:rm -rf / # all', 'string rm -rf / # all'],
    ['/cmd\\.exe \\d+/i', 'regex (?i)cmd\\.exe \\d+'],
    ['regex:a+b;c', 'regex a+b;c'],
    ['domain:evil.example', 'domain evil.example'],
    ['sha256: '.concat('d'.repeat(64)), `hash ${'d'.repeat(64)}`],
  ])('%s', async (line, expected) => {
    expect(await read(`${line}\n`)).toMatchObject({ found: [expected], refused: 0 });
  });

  test.each([
    ['hxxps://evil[.]example/a', 'https://evil.example/a'],
    ['hXXp[:]//evil(dot)example', 'http://evil.example'],
    ['http[://]evil{.}example', 'http://evil.example'],
    ['198[.]51[.]100[.]7', '198.51.100.7'],
    ['evil [dot] example', 'evil.example'],
    ['evil[.example', 'evil.example'],
    ['evil\\.example', 'evil.example'],
    ['who[at]evil[.]example', 'who@evil.example'],
    ['"evil.example"', 'evil.example'],
  ])('undoes %s', (text, expected) => {
    expect(refanged(text)).toBe(expected);
  });

  test('has comments, empty lines, Windows line ends and lines of a hosts file', async () => {
    const text = '\uFEFF# list\r\n\r\n; more\r\n// more\r\nevil.example # a note\r\n0.0.0.0 a.example b.example\r\n';
    const path = 'feeds/hosts.txt';
    const { found, notes, places } = await read(text.slice(1), path);
    expect(found).toEqual(['domain evil.example', 'domain a.example', 'domain b.example']);
    expect(notes).toEqual(['a note', undefined, undefined]);
    expect(places).toEqual(['hosts.txt line 5', 'hosts.txt line 6', 'hosts.txt line 6']);
  });

  test('names what it does not understand by file and line, and reads on', async () => {
    const lines = [
      'evil.example',
      'nonsense',
      '300.1.1.1',
      '10.0.0.0/40',
      'regex:(a',
      'string:ab',
      'a'.repeat(33),
      'x.y',
    ];
    const { found, problems, refused } = await read(lines.join('\n'), 'feeds/bad.txt');
    expect(found).toEqual(['domain evil.example', 'domain x.y']);
    expect(problems).toEqual([
      'feeds/bad.txt:2 it is no address, range, domain, URL or hash',
      'feeds/bad.txt:3 it is no address, range, domain, URL or hash',
      'feeds/bad.txt:4 it is no address, range, domain, URL or hash',
      'feeds/bad.txt:5 it is no regular expression of RE2, which has neither look-around nor back-references',
      'feeds/bad.txt:6 it is shorter than 3 bytes',
      'feeds/bad.txt:7 it is no address, range, domain, URL or hash',
    ]);
    expect(refused).toBe(6);
  });

  test('of nonsense alone is told by its first hundred lines', async () => {
    const { problems, refused } = await read('nonsense\n'.repeat(5000));
    expect(problems).toHaveLength(100);
    expect(refused).toBe(5000);
  });

  test('is of one kind where that is told', async () => {
    const kind: IndicatorKind = 'string';
    expect((await read('evil.example\nFailed password\n', 'bad.txt', { kind, name: 'mine' })).found).toEqual([
      'string evil.example',
      'string Failed password',
    ]);
    expect((await read('evil.example\n', 'bad.txt', { name: 'mine' })).places).toEqual(['mine line 1']);
  });
});

describe('a CSV file', () => {
  test('is read by the names of its columns', async () => {
    const text = [
      '# from somewhere',
      'first_seen,Type,Indicator,Description',
      '2026-01-01,domain,evil.example,"said ""bad"", often"',
      '2026-01-01,ip,198[.]51[.]100[.]7,"two',
      'lines"',
      '2026-01-01,sha256,short,x',
      '2026-01-01,yara,evil.example,unknown types are told by their looks',
    ].join('\n');
    const { found, notes, problems, places } = await read(text, 'feed.csv');
    expect(found).toEqual(['domain evil.example', 'address 198.51.100.7', 'domain evil.example']);
    expect(notes.slice(0, 2)).toEqual(['said "bad", often', 'two\nlines']);
    expect(places).toEqual(['feed.csv line 3', 'feed.csv line 4', 'feed.csv line 7']);
    expect(problems).toEqual(['feed.csv:6 it is no MD5, SHA-1, SHA-256 or SHA-512']);
  });

  test('may name its columns by what is in them, and separate them otherwise', async () => {
    const hash = 'e'.repeat(64);
    const { found } = await read(`sha256;dst_ip;comment\n${hash};198.51.100.7;a, b\n;198.51.100.8;\n`, 'feed.csv');
    expect(found).toEqual([`hash ${hash}`, 'address 198.51.100.7', 'address 198.51.100.8']);
  });

  test('without names is read by its first column', async () => {
    const { found, notes } = await read('evil.example,bad\n198.51.100.7,worse\n', 'feed.csv');
    expect(found).toEqual(['domain evil.example', 'address 198.51.100.7']);
    expect(notes).toEqual(['bad', 'worse']);
  });

  test('with a quote that is never closed loses that line alone', async () => {
    const { found, problems } = await read('value\nevil.example\n"open.example\nworse.example\n', 'feed.csv');
    expect(found).toEqual(['domain evil.example', 'domain worse.example']);
    expect(problems).toEqual(['feed.csv:3 a quote is opened and never closed']);
  });
});

describe('a STIX bundle', () => {
  const bundle = (...patterns: readonly (string | Readonly<Record<string, unknown>>)[]) =>
    JSON.stringify({
      type: 'bundle',
      id: 'bundle--1',
      objects: [
        { type: 'identity', id: 'identity--1', name: 'evil.example' },
        ...patterns.map((pattern, n) => ({
          ...{ type: 'indicator', spec_version: '2.1', id: `indicator--${n}`, name: `name ${n}`, pattern_type: 'stix' },
          ...(typeof pattern === 'string' ? { pattern } : pattern),
        })),
      ],
    });

  test.each<[string, readonly string[]]>([
    ["[ipv4-addr:value = '198.51.100.7']", ['address 198.51.100.7']],
    ["[ipv4-addr:value ISSUBSET '198.51.100.0/24']", ['range 198.51.100.0/24']],
    [
      "[ipv6-addr:value = '2001:db8::1'] OR [domain-name:value='Evil.example']",
      ['address 2001:db8::1', 'domain evil.example'],
    ],
    ["[url:value = 'https://evil.example/it\\'s']", ["url evil.example/it's"]],
    [
      `[file:hashes.'SHA-256' = '${'f'.repeat(64)}' OR file:hashes.MD5 = '${'f'.repeat(32)}']`,
      [`hash ${'f'.repeat(64)}`, `hash ${'f'.repeat(32)}`],
    ],
    ["[domain-name:value IN ('a.example', 'b.example')]", ['domain a.example', 'domain b.example']],
    ["[process:command_line MATCHES 'cmd\\\\.exe +/c']", ['regex cmd\\.exe +/c']],
    ["[(file:name = 'evil.exe')]", ['string evil.exe']],
  ])('%s', async (pattern, expected) => {
    const { found, places, notes } = await read(bundle(pattern), 'feed.json');
    expect(found).toEqual(expected);
    expect(places[0]).toBe('feed.json indicator--0');
    expect(notes[0]).toBe('name 0');
  });

  test.each([
    ["[ipv4-addr:value = '198.51.100.7' AND domain-name:value = 'evil.example']", 'several things at once'],
    ["[url:value = 'http://a.example/x'] FOLLOWEDBY [url:value = 'http://b.example/y']", 'several things at once'],
    ["[url:value = 'http://a.example/x'] WITHIN 300 SECONDS", 'qualified'],
    ["[network-traffic:dst_port = '443']", 'not looked for in lines'],
    ["[domain-name:value LIKE 'evil%']", 'other means'],
    ["[domain-name:value != 'evil.example']", 'other means'],
    ['[nonsense', 'not understood'],
    ['', 'not understood'],
    ["[domain-name:value = 'evil.example'] OR", 'not understood'],
  ])('%s is named, and the rest is read', async (pattern, why) => {
    const { found, problems } = await read(bundle(pattern, "[domain-name:value = 'evil.example']"), 'feed.json');
    expect(found).toEqual(['domain evil.example']);
    expect(problems).toEqual([expect.stringMatching(`feed.json:indicator--0 .*${why}`)]);
  });

  test('leaves out what is revoked or over', async () => {
    const pattern = "[domain-name:value = 'evil.example']";
    const text = bundle(
      { pattern, revoked: true },
      { pattern, valid_until: '2026-01-01T00:00:00Z' },
      { pattern, valid_until: '2027-01-01T00:00:00Z' },
    );
    const { found, skipped } = await read(text, 'feed.json', { now: new Date('2026-06-01') });
    expect(found).toHaveLength(1);
    expect(skipped).toBe(2);
  });

  test('names a pattern in another language', async () => {
    const { problems } = await read(bundle({ pattern: 'rule x {}', pattern_type: 'yara' }), 'feed.json');
    expect(problems[0]).toContain('of type yara');
  });
});

describe('a MISP event', () => {
  const attribute = (type: string, value: string, more: object = {}) => ({
    uuid: `u-${type}`,
    type,
    value,
    to_ids: true,
    ...more,
  });
  const event = {
    Event: {
      info: 'a campaign',
      Attribute: [
        attribute('ip-dst', '198.51.100.7', { comment: 'server' }),
        attribute('ip-dst|port', '198.51.100.8|443'),
        attribute('domain|ip', 'evil.example|198.51.100.9'),
        attribute('ip-src', '198.51.100.0/24'),
        attribute('filename|sha256', `evil.exe|${'1'.repeat(64)}`),
        attribute('url', 'http://evil.example/x'),
        attribute('md5', 'not a hash'),
        attribute('domain', 'fine.example', { to_ids: false }),
        attribute('domain', 'gone.example', { deleted: true }),
        attribute('threat-actor', 'somebody'),
        attribute('filename|sha1', 'evil.exe'),
      ],
      Object: [{ name: 'file', Attribute: [attribute('filename', 'worse.exe')] }],
    },
  };
  const expected = [
    ...['address 198.51.100.7', 'address 198.51.100.8', 'domain evil.example', 'address 198.51.100.9'],
    ...['range 198.51.100.0/24', `hash ${'1'.repeat(64)}`, 'url evil.example/x', 'string worse.exe'],
  ];

  test.each([
    ['alone', event],
    ['in a list', [event]],
    ['as the API answers', { response: [event] }],
  ])('%s', async (_, json) => {
    const { found, notes, problems, skipped } = await read(JSON.stringify(json), 'event.json');
    expect(found).toEqual(expected);
    expect(notes.slice(0, 2)).toEqual(['server', 'a campaign']);
    expect(problems).toEqual([
      'event.json:u-md5 it is no MD5, SHA-1, SHA-256 or SHA-512',
      'event.json:u-filename|sha1 it has fewer parts than its type names',
    ]);
    expect(skipped).toBe(3);
  });
});

describe('a file', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cc-indicators-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('is read from disk, without its byte order mark', async () => {
    await writeFile(join(folder, 'list.txt'), '\uFEFFevil.example\n');
    const { indicators } = await loadIndicators(join(folder, 'list.txt'));
    expect(indicators).toEqual([{ kind: 'domain', value: 'evil.example', list: 'list.txt', at: 'line 1' }]);
  });

  test.each([
    ['gone.txt', undefined, /gone.txt cannot be read \(ENOENT\)/],
    ['cut.json', '{"type":"bundle","objects":[', /cut.json is no JSON/],
    ['other.json', '{"a":1}', /other.json is neither a STIX bundle nor a MISP event/],
  ])('%s is an error', async (name, text, message) => {
    if (text !== undefined) await writeFile(join(folder, name), text);
    const error = await loadIndicators(join(folder, name)).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(CollectError);
    expect((error as CollectError).message).toMatch(message);
  });
});
