import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readSigma } from '../../src/detect/sigma.ts';
import { fold, piecesOf, wildcardTest } from '../../src/detect/wildcards.ts';

type Event = Readonly<Record<string, unknown>>;

const HEAD = 'title: A rule\nlogsource:\n  product: linux\n';

/** A rule of one detection, written as YAML's subset JSON. */
function ruleOf(detection: unknown): string {
  return `${HEAD}detection: ${JSON.stringify(detection)}\n`;
}

/** The fields by which an event matches one search, or undefined. */
function matched(search: unknown, event: Event, condition: unknown = 'selection') {
  const { rules, refused } = readSigma(ruleOf({ selection: search, condition }), 'rule.yml');
  expect(refused).toEqual([]);
  return rules[0]?.matches(event);
}

/** Why a detection is refused. */
function why(detection: unknown): string | undefined {
  const { rules, refused } = readSigma(ruleOf(detection), 'rule.yml');
  expect(rules).toEqual([]);
  expect(refused).toHaveLength(1);
  return refused[0]?.why;
}

describe('values', () => {
  test.each<[string, unknown, Event, boolean]>([
    ['a text is compared whole', { Image: 'cmd.exe' }, { Image: 'cmd.exe' }, true],
    ['not in part', { Image: 'cmd.exe' }, { Image: 'C:\\cmd.exe' }, false],
    ['without case', { Image: 'CMD.exe' }, { Image: 'cmd.EXE' }, true],
    ['also beyond ASCII', { User: 'JÜRGEN Σίσυφος' }, { User: 'jürgen σίσυφοΣ' }, true],
    ['unless cased', { 'Image|cased': 'CMD.exe' }, { Image: 'cmd.exe' }, false],
    ['and cased with the same case', { 'Image|cased|contains': 'CMD' }, { Image: 'C:\\CMD.exe' }, true],
    ['a number is as its digits', { EventID: 4688 }, { EventID: '4688' }, true],
    ['a number is a number', { EventID: 4688 }, { EventID: 4688 }, true],
    ['digits in quotes are the number', { EventID: '4688' }, { EventID: 4688 }, true],
    ['another number', { EventID: 4688 }, { EventID: 46880 }, false],
    ['true and false', { Success: true }, { Success: true }, true],
    ['true as text', { Success: true }, { Success: 'True' }, true],
    ['the other', { Success: true }, { Success: false }, false],
    ['one of a list', { EventID: [1, 2, 3] }, { EventID: 2 }, true],
    ['none of a list', { EventID: [1, 2, 3] }, { EventID: 4 }, false],
    ['all fields of a map', { a: 1, b: 2 }, { a: 1, b: 2 }, true],
    ['not only some', { a: 1, b: 2 }, { a: 1, b: 3 }, false],
    ['one map of a list', [{ a: 1, b: 2 }, { c: 3 }], { a: 1, c: 3 }, true],
    ['no map of a list', [{ a: 1, b: 2 }, { c: 3 }], { a: 1, c: 4 }, false],
    ['null is a field that is null', { a: null }, { a: null }, true],
    ['or is not there', { a: null }, { b: 1 }, true],
    ['but not an empty text', { a: null }, { a: '' }, false],
    ['nor an object', { a: null }, { a: { b: null } }, false],
    ['null among others', { a: [null, 'x'] }, { a: 'x' }, true],
    ['an empty text', { a: '' }, { a: '' }, true],
    ['is not a missing field', { a: '' }, {}, false],
    ['a field below others', { 'a.b.c': 'x' }, { a: { b: { c: 'x' } } }, true],
    ['a field whose name holds dots', { 'a.b.c': 'x' }, { 'a.b': { c: 'x' } }, true],
    ['any element of a list', { 'a.b': 'x' }, { a: [{ b: 'y' }, { b: ['z', 'x'] }] }, true],
    ['no element of a list', { 'a.b': 'x' }, { a: [{ b: 'y' }, { c: 'x' }] }, false],
    ['a text is no object', { a: '[object Object]' }, { a: {} }, false],
    ['what every object has is no field', { 'constructor|contains': 'native' }, {}, false],
  ])('%s', (_, search, event, held) => {
    expect(matched(search, event) !== undefined).toBe(held);
  });

  test('whole numbers keep their digits', () => {
    const text = `${HEAD}detection:\n  s:\n    id: 9007199254740993\n  condition: s\n`;
    const [rule] = readSigma(text, 'rule.yml').rules;
    expect(rule?.matches({ id: '9007199254740993' })).toEqual(['id']);
    expect(rule?.matches({ id: '9007199254740992' })).toBeUndefined();
  });
});

describe('wildcards', () => {
  test.each<[string, string, boolean]>([
    ['prog?.exe', 'progA.exe', true],
    ['prog?.exe', 'prog.exe', false],
    ['antivirus_V*.exe', 'antivirus_V21.2.1.exe', true],
    ['*\\cmd.exe', 'C:\\Windows\\cmd.exe', true],
    ['C:\\Windows\\x', 'c:\\windows\\X', true],
    ['a\\\\b', 'a\\b', true],
    ['a\\*b', 'a*b', true],
    ['a\\*b', 'axb', false],
    ['a\\?', 'a?', true],
    ['a\\?', 'ab', false],
    ['a\\\\*', 'a\\bc', true],
    ['a\\\\*', 'abc', false],
    ['a\\\\\\*', 'a\\*', true],
    ['a\\\\\\*', 'a\\b', false],
    ['\\\\\\\\srv', '\\\\srv', true],
    ['\\\\\\srv', '\\\\srv', true],
    ['end\\', 'end\\', true],
    ['?', '😀', true],
    ['??', '😀', false],
    ['*?', '😀', true],
    ['?*?', '😀', false],
    ['*', '', true],
    ['?', '', false],
  ])('%s on %s', (pattern, text, held) => {
    expect(matched({ f: pattern }, { f: text }) !== undefined).toBe(held);
  });

  /** Tries every way, so only for short texts. */
  function naive(pattern: readonly string[], text: readonly string[]): boolean {
    const [first, ...rest] = pattern;
    if (first === undefined) return text.length === 0;
    if (first === '*') return text.some((_, n) => naive(rest, text.slice(n))) || naive(rest, []);
    return text.length > 0 && (first === '?' || first === text[0]) && naive(rest, text.slice(1));
  }

  test('are as every way of reading them', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '😀', '\u0301'), maxLength: 9 });
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '😀', '*', '?', '*', '?'), maxLength: 7 });
    fc.assert(
      fc.property(pattern, text, (wild, read) => {
        expect(wildcardTest(piecesOf(wild))(read)).toBe(naive([...wild], [...read]));
      }),
      { numRuns: 20_000 },
    );
  });

  test('any text matches itself with its backslashes and wildcards escaped', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(matched({ f: text.replace(/[\\*?]/g, '\\$&') }, { f: text })).toEqual(['f']);
      }),
    );
  });

  test('a letter in another case is the same, and nothing else is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        expect(fold(fold(text))).toBe(fold(text));
        expect([...fold(text)]).toHaveLength([...text].length);
        for (const char of text) {
          expect([char, char.toLowerCase(), char.toUpperCase().toLowerCase()]).toContain(fold(char));
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('take no time that grows with the square of the text', () => {
    const text = 'a'.repeat(200_000);
    const started = performance.now();
    expect(matched({ f: `${'*a'.repeat(50)}*b` }, { f: text })).toBeUndefined();
    expect(matched({ 'f|re': '(a*)*b' }, { f: text })).toBeUndefined();
    expect(matched({ 'f|gt': 5 }, { f: `${'1'.repeat(200_000)}x` })).toBeUndefined();
    expect(performance.now() - started).toBeLessThan(5000);
  });
});

describe('modifiers', () => {
  test.each<[string, unknown, Event, boolean]>([
    ['contains', { 'f|contains': 'who' }, { f: 'run whoami now' }, true],
    ['contains nothing of it', { 'f|contains': 'who' }, { f: 'run now' }, false],
    ['contains with a wildcard', { 'f|contains': 'r?n*now' }, { f: 'x run it now y' }, true],
    ['startswith', { 'f|startswith': 'run' }, { f: 'run whoami' }, true],
    ['startswith elsewhere', { 'f|startswith': 'who' }, { f: 'run whoami' }, false],
    ['endswith', { 'f|endswith': '\\cmd.exe' }, { f: 'C:\\CMD.EXE' }, true],
    ['endswith elsewhere', { 'f|endswith': 'run' }, { f: 'run whoami' }, false],
    ['contains all', { 'f|contains|all': ['-a', '-b'] }, { f: 'x -b -a' }, true],
    ['contains not all', { 'f|contains|all': ['-a', '-b'] }, { f: 'x -b' }, false],
    ['all of a list in any elements', { 'f|all': ['a', 'b'] }, { f: ['b', 'c', 'a'] }, true],
    ['re finds anywhere', { 'f|re': 'w.o' }, { f: 'run whoami' }, true],
    ['re minds the case', { 'f|re': 'W.O' }, { f: 'run whoami' }, false],
    ['re|i does not', { 'f|re|i': 'W.OAMI' }, { f: 'run whoami' }, true],
    ['re with anchors', { 'f|re': '^who$' }, { f: 'run\nwho' }, false],
    ['re|m', { 'f|re|m': '^who$' }, { f: 'run\nwho' }, true],
    ['re without s', { 'f|re': 'run.who' }, { f: 'run\nwho' }, false],
    ['re|s', { 'f|re|s': 'run.who' }, { f: 'run\nwho' }, true],
    ['re knows no wildcards', { 'f|re': 'a*' }, { f: 'b' }, true],
    ['re on a number', { 'f|re': '^46' }, { f: 4688 }, true],
    ['cidr', { 'f|cidr': '10.0.0.0/8' }, { f: '10.255.1.2' }, true],
    ['outside of cidr', { 'f|cidr': '10.0.0.0/8' }, { f: '11.0.0.1' }, false],
    ['cidr in a text is none', { 'f|cidr': '10.0.0.0/8' }, { f: 'from 10.1.2.3' }, false],
    ['cidr of version 6', { 'f|cidr': ['fe80::/10', '2001:db8::/32'] }, { f: '2001:DB8::1' }, true],
    ['cidr of one address', { 'f|cidr': '192.0.2.1' }, { f: '192.0.2.1' }, true],
    ['exists', { 'f|exists': true }, { f: null }, true],
    ['exists not', { 'f|exists': true }, { g: 1 }, false],
    ['exists false', { 'f|exists': false }, { g: 1 }, true],
    ['exists below', { 'f.g|exists': true }, { f: { g: {} } }, true],
    ['gt', { 'f|gt': 5 }, { f: 6 }, true],
    ['gt the same', { 'f|gt': 5 }, { f: 5 }, false],
    ['gte the same', { 'f|gte': 5 }, { f: '5' }, true],
    ['lt', { 'f|lt': 5.5 }, { f: '-1e3' }, true],
    ['lte', { 'f|lte': 5 }, { f: 5.01 }, false],
    ['lt a text', { 'f|lt': 5 }, { f: 'few' }, false],
    ['gt beyond exact numbers', { 'f|gt': 9007199254740992 }, { f: '9007199254740993' }, true],
    ['fieldref', { 'f|fieldref': 'g' }, { f: 'Alice', g: 'alice' }, true],
    ['fieldref of another value', { 'f|fieldref': 'g' }, { f: 'alice', g: 'bob' }, false],
    ['fieldref of no field', { 'f|fieldref': 'g' }, {}, false],
    ['fieldref has no wildcards', { 'f|fieldref': 'g' }, { f: 'alice', g: 'al*' }, false],
    ['fieldref with startswith', { 'f|fieldref|startswith': 'g' }, { f: 'alice', g: 'AL' }, true],
    ['fieldref cased', { 'f|fieldref|cased': 'g' }, { f: 'Alice', g: 'alice' }, false],
    ['windash', { 'f|windash|contains': ' -enc ' }, { f: 'x.exe /enc abc' }, true],
    ['windash of another dash', { 'f|contains|windash': ' -enc ' }, { f: 'x.exe –enc abc' }, true],
    ['windash not in a word', { 'f|windash': 'a-b' }, { f: 'a/b' }, false],
    ['base64', { 'f|base64|contains': 'whoami' }, { f: 'x d2hvYW1p y' }, true],
    ['wide base64', { 'f|wide|base64': 'a' }, { f: 'YQA=' }, true],
    ['utf16 has a byte order mark', { 'f|utf16|base64': 'a' }, { f: '//5hAA==' }, true],
    ['utf16be', { 'f|utf16be|base64': 'a' }, { f: 'AGE=' }, true],
  ])('%s', (_, search, event, held) => {
    expect(matched(search, event) !== undefined).toBe(held);
  });

  test('base64offset finds a text wherever it stands in what was encoded', () => {
    fc.assert(
      fc.property(fc.string(), fc.string({ minLength: 4 }), fc.string(), (before, text, after) => {
        fc.pre(!/[\\*?]/.test(text));
        const encoded = Buffer.from(before + text + after).toString('base64');
        expect(matched({ 'f|base64offset|contains': text }, { f: encoded })).toEqual(['f']);
      }),
    );
  });

  test.each<[string, unknown, string]>([
    ['an unknown one', { 'f|near': 1 }, "the modifier 'near' is not supported"],
    ['what every object has', { 'f|constructor': 1 }, "the modifier 'constructor' is not supported"],
    ['an empty one', { 'f|': 1 }, "the modifier '' is not supported"],
    ['placeholders', { 'f|expand': '%x%' }, "the modifier 'expand' is not supported"],
    ['neq', { 'f|neq': 1 }, "the modifier 'neq' is not supported; say it with 'not'"],
    ['re and contains', { 'f|re|contains': 'x' }, "the modifier 'contains' cannot be joined with 're'"],
    ['two kinds', { 'f|gt|lt': 1 }, "the modifier 'lt' cannot be joined with 'gt'"],
    ['a flag alone', { 'f|i': 'x' }, "'i', 'm' and 's' come after 're'"],
    ['twice the same', { 'f|contains|contains': 'x' }, 'a modifier stands there twice'],
    ['look-around', { 'f|re': '(?=x)' }, 'it is no regular expression of RE2, which has neither'],
    ['a number as expression', { 'f|re': 1 }, 'a regular expression is a text'],
    ['a range that is none', { 'f|cidr': '10.0.0.0/33' }, 'the value of cidr is no range of addresses'],
    ['an order of texts', { 'f|gt': 'x' }, 'the value of gt is no number'],
    ['exists of texts', { 'f|exists': 'yes' }, "the value of 'exists' is true or false"],
    ['exists of no field', { '|exists': true }, "'exists' needs a field"],
    ['fieldref of a number', { 'f|fieldref': 1 }, "the value of 'fieldref' is a field's name"],
    ['null with a modifier', { 'f|contains': null }, 'null can have no modifier'],
    ['no values', { f: [] }, 'the list of values is empty'],
    ['a map as value', { f: { g: 1 } }, 'a value is neither text, number, true, false nor null'],
    ['a wildcard encoded', { 'f|base64': 'a*' }, 'what is encoded can have no wildcards'],
    ['encoded after contains', { 'f|contains|base64': 'a' }, 'an encoding is one of wide and utf16 at most'],
    ['only wide', { 'f|wide': 'a' }, 'an encoding is one of wide and utf16 at most'],
  ])('refuses %s', (_, search, said) => {
    expect(why({ selection: search, condition: 'selection' })).toContain(said);
  });
});

describe('keywords', () => {
  const event = { message: 'sshd: Failed password', data: { host: ['web-1', { port: 22 }] }, ok: true };
  test.each<[unknown, boolean]>([
    [['failed PASSWORD', 'x'], true],
    [['WEB-1'], true],
    [[22], true],
    ['failed*word', true],
    [['accepted'], false],
    [['host'], false],
    [{ '|all': ['failed', 'web'] }, true],
    [{ '|all': ['failed', 'mail'] }, false],
    [{ '|re': ['F.iled'] }, true],
    [{ '|cased': 'failed' }, false],
    [['nothing', { 'data.host': 'web-1' }], true],
  ])('%j', (search, held) => {
    expect(matched(search, event) !== undefined).toBe(held);
  });

  test('are not empty', () => {
    expect(why({ selection: ['a', ''], condition: 'selection' })).toBe('a keyword is empty');
  });
});

describe('conditions', () => {
  const detection = { sel_a: { a: 1 }, sel_b: { b: 1 }, filter: { c: 1 }, _hidden: { d: 1 } };
  const NAMES = ['a', 'b', 'c', 'd'];
  function eventOf(names: string): Event {
    return Object.fromEntries(NAMES.map((name) => [name, names.includes(name) ? 1 : 0]));
  }

  test.each<[unknown, string, boolean]>([
    ['sel_a', 'a', true],
    ['not sel_a', 'a', false],
    ['not not sel_a', 'a', true],
    ['sel_a and sel_b', 'a', false],
    ['sel_a or sel_b', 'b', true],
    ['sel_a or sel_b and filter', 'a', true],
    ['(sel_a or sel_b) and filter', 'a', false],
    ['not sel_a or sel_b', 'ab', true],
    ['not (sel_a or sel_b)', 'b', false],
    ['not sel_a and sel_b', 'b', true],
    ['sel_a AND NOT filter', 'a', true],
    ['1 of them', 'c', true],
    ['1 of them', 'd', false],
    ['any of sel*', 'b', true],
    ['1 of sel_*', 'cd', false],
    ['all of sel_*', 'ab', true],
    ['all of sel_*', 'a', false],
    ['all of *_b', 'b', true],
    ['1 of _*', 'd', true],
    ['1 of sel_a', 'a', true],
    ['1 of sel* and not 1 of filter*', 'bc', false],
    ['1 of sel* and not 1 of filter*', 'b', true],
    ['all of them', 'abc', true],
    [['filter', 'sel_a and sel_b'], 'ab', true],
    [['filter', 'sel_a and sel_b'], 'a', false],
  ])('%s on %s', (condition, names, held) => {
    const { rules, refused } = readSigma(ruleOf({ ...detection, condition }), 'rule.yml');
    expect(refused).toEqual([]);
    expect(rules[0]?.matches(eventOf(names)) !== undefined).toBe(held);
  });

  test('are as JavaScript reads them, whatever their brackets', () => {
    const leaf = fc.constantFrom('sel_a', 'sel_b', 'filter', '_hidden');
    const { node } = fc.letrec<{ node: string }>((tie) => ({
      node: fc.oneof(
        { maxDepth: 4 },
        leaf,
        tie('node').map((one) => `not ${one}`),
        fc
          .tuple(tie('node'), fc.constantFrom('and', 'or'), tie('node'), fc.boolean())
          .map(([left, word, right, wrapped]) => (wrapped ? `(${left} ${word} ${right})` : `${left} ${word} ${right}`)),
      ),
    }));
    const javascript: Readonly<Record<string, string>> = {
      ...{ sel_a: 'e.a', sel_b: 'e.b', filter: 'e.c', _hidden: 'e.d', and: '&&', or: '||', not: '!' },
    };
    fc.assert(
      fc.property(node, fc.subarray(NAMES), (condition, names) => {
        const { rules } = readSigma(ruleOf({ ...detection, condition }), 'rule.yml');
        const event = eventOf(names.join(''));
        const code = condition.replace(/[a-z_]+/g, (word) => javascript[word] ?? '');
        const expected = Boolean(new Function('e', `return ${code}`)(event));
        expect(rules[0]?.matches(event) !== undefined, condition).toBe(expected);
      }),
      { numRuns: 500 },
    );
  });

  test.each<[unknown, string]>([
    ['sel_a | count() > 5', 'an aggregation over several events is not supported'],
    ['sel_a near sel_b', "'near' is not supported"],
    ['sel_a sel_b', "the condition has 'sel_b' where 'and' or 'or' is expected"],
    ['sel_a and', 'the condition ends where a search is expected'],
    ['(sel_a', 'the condition opens a bracket and does not close it'],
    ['sel_a)', "the condition has ')' where 'and' or 'or' is expected"],
    ['selection', "the condition names 'selection', which the detection does not define"],
    ['2 of sel*', "'2 of' is not supported, only 1, any and all"],
    ['1 of other*', "'1 of other*' means no search of the detection"],
    ['', 'the condition ends where a search is expected'],
    [`${'('.repeat(200)}sel_a${')'.repeat(200)}`, 'the condition is nested deeper than 100'],
    [[], 'it has no condition'],
    [5, 'it has no condition'],
  ])('refuses %j', (condition, said) => {
    expect(why({ ...detection, condition })).toBe(said);
  });
});

describe('what matched', () => {
  const detection = { a: { x: 1, 'y|contains': 'b' }, b: [{ z: 1 }, { w: 1 }], k: ['word'], f: { n: 1 } };

  test('is told by field, once', () => {
    const { rules } = readSigma(ruleOf({ ...detection, condition: '(a or b or k) and not f' }), 'rule.yml');
    const [rule] = rules;
    expect(rule?.matches({ x: 1, y: 'abc', z: 2 })).toEqual(['x', 'y']);
    expect(rule?.matches({ x: 1, y: 'word', z: 1, w: 1 })).toEqual(['z', 'w', '']);
    expect(rule?.matches({ x: 1, y: 'b', n: 1 })).toBeUndefined();
  });

  test('is told of each event anew', () => {
    const { rules } = readSigma(ruleOf({ a: { 'x|contains': 'b' }, condition: 'a' }), 'rule.yml');
    const events = ['abc', 'xyz', 'b'].map((x) => ({ x }));
    for (const _ of [1, 2]) expect(events.map((event) => rules[0]?.matches(event))).toEqual([['x'], undefined, ['x']]);
  });

  test('is nothing where a rule says only what is not there', () => {
    const [rule] = readSigma(ruleOf({ f: { n: 1 }, condition: 'not f' }), 'rule.yml').rules;
    expect(rule?.matches({})).toEqual([]);
  });
});

describe('files', () => {
  const whole = [
    'title: Failed logins',
    'id: 7c0f2b6e-63a0-4a4a-9f0b-3d1f6f2b7a10',
    'status: test',
    'level: high',
    'tags: [attack.t1110]',
    'falsepositives: Typing errors',
    'fields: [user]',
    'date: 2026-01-02',
    'logsource: { product: linux, service: sshd }',
    'detection: { keywords: [Failed password], condition: keywords }',
  ].join('\n');

  test('a rule says what it is', () => {
    const { rules, refused } = readSigma(`\uFEFF${whole}`, 'rules/ssh.yml');
    expect(refused).toEqual([]);
    expect(rules[0]).toMatchObject({
      id: '7c0f2b6e-63a0-4a4a-9f0b-3d1f6f2b7a10',
      title: 'Failed logins',
      level: 'high',
      status: 'test',
      tags: ['attack.t1110'],
      falsepositives: ['Typing errors'],
      fields: ['user'],
      logsource: { product: 'linux', service: 'sshd' },
    });
    expect(rules[0]?.matches({ message: 'sshd: failed password for root' })).toEqual(['']);
  });

  test('what is refused is told with its line, and the rest is used', () => {
    const text = [
      `${HEAD}detection:\n  s:\n    f: 1\n    g|near: 2\n  condition: s`, // the modifier is in line 7
      'title: No detection\nlogsource: {}', // begins in line 10
      whole,
      'title: [',
      'correlation: { type: event_count }\ntitle: Many',
      `${HEAD}detection:\n  s: [a]\n  condition: s | count() > 5`,
    ].join('\n---\n');
    const { rules, refused } = readSigma(text, 'rules/mixed.yml');
    expect(rules.map(({ title }) => title)).toEqual(['Failed logins']);
    const lines = text.split('\n');
    expect(refused.map(({ file, line = 0, why }) => [file, lines[line - 1], why])).toEqual([
      ['rules/mixed.yml', '    g|near: 2', "the modifier 'near' is not supported"],
      ['rules/mixed.yml', 'title: No detection', 'it has no detection'],
      ['rules/mixed.yml', expect.any(String), expect.stringContaining('it is no YAML: ')],
      ['rules/mixed.yml', expect.stringContaining('correlation'), expect.stringContaining("'correlation' is not")],
      ['rules/mixed.yml', '  condition: s | count() > 5', 'an aggregation over several events is not supported'],
    ]);
  });

  test.each<[string, string, string]>([
    ['a list', '- a', 'it is no map'],
    ['no title', 'logsource: {}', 'it has no title'],
    ['no logsource', 'title: x\ndetection: { a: [b], condition: a }', 'it has no logsource'],
    ['a list as logsource', `title: x\nlogsource: { product: [a] }\ndetection: { a: [b], condition: a }`, 'is no text'],
    ['a level of its own', `${HEAD}level: huge\ndetection: { a: [b], condition: a }`, "the level 'huge' is none of"],
    ['a field twice', `${HEAD}detection: { a: { f: 1, f: 2 }, condition: a }`, 'it is no YAML: '],
    ['a time frame', `${HEAD}detection: { a: [b], timeframe: 5m, condition: a }`, 'a timeframe over several events'],
    ['an empty search', `${HEAD}detection: { a: {}, condition: a }`, 'the search is empty'],
    ['a list in a list', `${HEAD}detection: { a: [[b]], condition: a }`, 'a list in a list is not supported'],
    ['an unsupported rule', `${HEAD}status: unsupported\ndetection: { a: [b], condition: a }`, 'its own status'],
    ['what nests deeply', `a: ${'['.repeat(50_000)}`, 'it is no YAML: '],
    ['aliases of aliases', bomb(), 'too many aliases'],
  ])('refuses %s', (_, text, said) => {
    const { rules, refused } = readSigma(text, 'rule.yml');
    expect(rules).toEqual([]);
    expect(refused[0]?.why).toContain(said);
  });

  function bomb(): string {
    const names = [...'abcdefgh'];
    const list = (name: string) => Array.from({ length: 9 }, () => `*${name}`).join(', ');
    return names.map((name, n) => `${name}: &${name} [${n === 0 ? 'x' : list(names[n - 1] ?? '')}]`).join('\n');
  }

  test('an empty file has no rules', () => {
    expect(readSigma('', 'rule.yml')).toEqual({ rules: [], refused: [] });
    expect(readSigma('# nothing\n---\n', 'rule.yml')).toEqual({ rules: [], refused: [] });
  });

  test('nothing that is written makes it fail', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), fc.string(), (detection, condition) => {
        const rule = ruleOf({ s: detection, condition });
        const { rules, refused } = readSigma(rule, 'rule.yml');
        expect(rules.length + refused.length).toBe(1);
        rules[0]?.matches({ a: [1, { b: null }], c: 'x' });
      }),
      { numRuns: 2000 },
    );
  });
});
