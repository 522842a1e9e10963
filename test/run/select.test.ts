import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { namesFor, nearest, patternsOf, selects } from '../../src/run/select.ts';

describe('patterns of a flag', () => {
  it.each([
    [
      ['okta', 'aws'],
      ['okta', 'aws'],
    ],
    [['okta, aws;crowdstrike'], ['okta', 'aws', 'crowdstrike']],
    [['okta,', ' ,', ''], ['okta']],
    [[], []],
  ])('%j', (values, patterns) => expect(patternsOf(values)).toEqual(patterns));
});

describe('what a pattern names', () => {
  it.each([
    ['okta', true],
    ['okta.users', true],
    ['okta_users', true],
    ['OKTA_Users', true],
    ['okta.*', true],
    ['okta*', true],
    ['*users', true],
    ['*', true],
    ['okt?', true],
    ['okta?users', true],
    ['users', false],
    ['okt', false],
    ['oktausers', false],
    ['okta.user', false],
    ['okta.groups', false],
    ['(okta|x).users', false],
    ['[o]kta', false],
    ['okta\\.users', false],
    ['', false],
  ])('%s', (pattern, yes) => expect(selects(pattern, 'okta', 'users')).toBe(yes));

  it('a dot is a dot', () => expect(selects('okta.users', 'oktaxusers', 'oktaxusers')).toBe(false));

  it('a resource named as its collector has the one name', () => {
    expect(namesFor('domain', 'domain')).toEqual(['domain', 'domain.domain', 'domain']);
    expect(selects('domain', 'domain', 'domain')).toBe(true);
  });

  it('any text is a pattern, and a dataset’s own names select it', () => {
    const word = fc.stringMatching(/^[a-z][a-z0-9_]{0,12}$/);
    fc.assert(
      fc.property(fc.string(), word, word, (pattern, collector, resource) => {
        expect(typeof selects(pattern, collector, resource)).toBe('boolean');
        for (const name of namesFor(collector, resource)) expect(selects(name, collector, resource)).toBe(true);
      }),
    );
  });
});

describe('the nearest word', () => {
  const known = ['okta', 'okta_users', 'okta.users', 'crowdstrike', 'tenableio'];
  it.each([
    ['okat', 'okta'],
    ['Okta_Users', 'okta_users'],
    ['okta.user', 'okta.users'],
    ['croudstrike', 'crowdstrike'],
    ['tenable', 'tenableio'],
    ['splunk', undefined],
    ['zzzzzzzzzzzz', undefined],
  ])('to %s is %s', (word, found) => expect(nearest(word, known)).toBe(found));

  it('is none where nothing is known', () => expect(nearest('okta', [])).toBeUndefined());
});
