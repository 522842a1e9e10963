import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRedactor } from '../../src/report/redact.ts';

function redacted(secrets: readonly string[], text: string): string {
  const redactor = createRedactor();
  for (const secret of secrets) redactor.add(secret);
  return redactor.redact(text);
}

const SECRET = 'p&ss wörd/+"\\1=';
const bytes = Buffer.from(SECRET);

describe('a secret', () => {
  it.each([
    ['as it is', SECRET],
    ['in JSON', JSON.stringify({ token: SECRET })],
    ['in a URL', `https://vendor.example/?key=${encodeURIComponent(SECRET)}&x=1`],
    ['in a form', new URLSearchParams({ key: SECRET }).toString()],
    ['in a path', encodeURI(SECRET)],
    ['in base64', bytes.toString('base64')],
    ['in base64url', bytes.toString('base64url')],
    ['in hexadecimal', bytes.toString('hex')],
    ['in capital hexadecimal', bytes.toString('hex').toUpperCase()],
    ['behind a user name in Basic', Buffer.from(`user:${SECRET}`).toString('base64')],
  ])('%s is taken out', (_name, text) => {
    const out = redacted([SECRET], `before ${text} after`);
    expect(out).toMatch(/^before .*\[secret\].* after$/);
    for (const part of [
      'rd/+',
      'w%C3%B6',
      'w\\u00f6',
      bytes.toString('base64').slice(4, 12),
      bytes.toString('hex').slice(4),
    ]) {
      expect(out.toLowerCase()).not.toContain(part.toLowerCase());
    }
  });

  it('never comes through, whatever stands around it', () => {
    const text = fc.string({ maxLength: 20 });
    const secret = fc.string({ minLength: 4, maxLength: 40 }).filter((value) => !'[secret]'.includes(value));
    fc.assert(
      fc.property(text, secret, text, (before, value, after) => {
        expect(redacted([value], before + value + after)).not.toContain(value);
        const json = JSON.stringify(value).slice(1, -1);
        expect(redacted([value], JSON.stringify({ a: before + value + after }))).not.toContain(json);
        const core = Buffer.from(value).toString('base64url').slice(0, -2);
        const encoded = Buffer.from(value + after).toString('base64url');
        if (core.length >= 8) expect(redacted([value], encoded)).not.toContain(core);
      }),
    );
  });

  it('is found at each of the three places it may begin in base64', () => {
    for (const before of ['', 'a', 'ab', 'abc', 'abcd']) {
      const out = redacted(['hunter2hunter2'], Buffer.from(`${before}hunter2hunter2:x`).toString('base64'));
      expect(Buffer.from(out.replace('[secret]', ''), 'base64').toString()).not.toContain('hunter');
      expect(out).toContain('[secret]');
    }
  });

  it('that holds another one is taken out whole', () => {
    expect(redacted(['abcd', 'abcd-efgh'], 'x abcd-efgh abcd y')).toBe('x [secret] [secret] y');
  });

  it('of many lines is taken out of JSON and of text', () => {
    const key = '-----BEGIN KEY-----\nabc\ndef\n-----END KEY-----';
    expect(redacted([key], `key ${key}!`)).toBe('key [secret]!');
    expect(redacted([key], JSON.stringify(key))).toBe('"[secret]"');
  });
});

it('words too short to be secrets leave text readable', () => {
  expect(redacted(['', 'a', 'yes'], 'yes, a day')).toBe('yes, a day');
});

it('without secrets nothing changes', () => {
  fc.assert(fc.property(fc.string(), (text) => createRedactor().redact(text) === text));
});
