import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import {
  assertEncrypted,
  baseUrl,
  choice,
  defaultOf,
  factsOf,
  flag,
  integer,
  isRequired,
  list,
  optional,
  secret,
  setting,
  text,
} from '../../src/config/setting.ts';
import { CollectError } from '../../src/errors.ts';

describe('a variable', () => {
  it('knows its sentence and whether it is a secret', () => {
    expect(factsOf(setting('Name of the org'))).toEqual({ about: 'Name of the org', secret: false });
    expect(factsOf(secret('Its token', optional()))).toEqual({ about: 'Its token', secret: true });
    expect(() => factsOf(z.string())).toThrow('setting() or secret()');
  });

  it.each([
    [setting('a'), true, undefined],
    [setting('a', optional()), false, undefined],
    [setting('a', text('b')), false, 'b'],
    [setting('a', integer(7)), false, '7'],
    [setting('a', flag()), false, 'false'],
    [setting('a', choice(['x', 'y'], 'y')), false, 'y'],
    [setting('a', list()), true, undefined],
    [setting('a', list().default(['p', 'q'])), false, 'p,q'],
  ])('is required or has a default (%#)', (type, required, fallback) => {
    expect(isRequired(type)).toBe(required);
    expect(defaultOf(type)).toBe(fallback);
  });
});

describe('types', () => {
  it('integers keep their bounds, and say them', () => {
    const type = integer(5, 1, 9);
    fc.assert(
      fc.property(fc.oneof(fc.integer().map(String), fc.string()), (value) => {
        const good = /^[0-9]+$/.test(value) && Number(value) >= 1 && Number(value) <= 9;
        const parsed = type.safeParse(value);
        expect(parsed.success).toBe(good);
        if (!parsed.success) expect(parsed.error.issues[0]?.message).toBe('must be a whole number from 1 to 9');
      }),
    );
  });

  it.each([
    ['true', true],
    ['YES', true],
    ['1', true],
    ['false', false],
    ['No', false],
    ['0', false],
  ])('flag %s', (value, expected) => expect(flag().parse(value)).toBe(expected));

  it.each(['', 'on', 'tru', '2', 'true '])('flag %j is not valid', (value) =>
    expect(flag().safeParse(value).error?.issues[0]?.message).toBe('must be true or false'),
  );

  it('choices are named when another is written', () => {
    expect(choice(['us', 'eu'], 'us').safeParse('uk').error?.issues[0]?.message).toBe('must be one of us, eu');
  });

  it.each([
    ['a,b', ['a', 'b']],
    [' a ; b,, c;', ['a', 'b', 'c']],
    [' , ', []],
  ])('list %j', (value, words) => expect(list().parse(value)).toEqual(words));
});

describe('a base URL', () => {
  it.each([
    ['acme.okta.com', 'https://acme.okta.com/'],
    ['acme.okta.com:8443', 'https://acme.okta.com:8443/'],
    ['https://acme.okta.com/', 'https://acme.okta.com/'],
    ['https://gw.example/falcon//', 'https://gw.example/falcon'],
    ['HTTPS://GW.example/Falcon', 'https://gw.example/Falcon'],
    ['http://127.0.0.1:8080', 'http://127.0.0.1:8080/'],
    ['http://localhost/x/', 'http://localhost/x'],
    ['http://[::1]:9', 'http://[::1]:9/'],
  ])('%s', (value, url) => expect(assertEncrypted(baseUrl(value), false).href).toBe(url));

  it.each(['http://vendor.example', 'http://127.0.0.1.evil.example', 'http://localhost.example', 'http://10.0.0.1'])(
    'plain http to another machine is refused: %s',
    (value) => {
      const refused = expect.objectContaining({ code: 'refused', mend: expect.stringContaining('ALLOW_HTTP') });
      expect(() => assertEncrypted(baseUrl(value), false)).toThrow(refused);
      expect(assertEncrypted(baseUrl(value), true).protocol).toBe('http:');
    },
  );

  it.each(['ftp://vendor.example', 'file:///etc/passwd', 'ws://vendor.example'])(
    'another scheme is refused: %s',
    (value) => {
      expect(() => baseUrl(value)).toThrow(expect.objectContaining({ code: 'config' }));
    },
  );

  it.each([
    'https://user:hunter2@vendor.example',
    'https://vendor.example/?key=hunter2',
    'https://vendor.example/#hunter2',
  ])('credentials have no place in it, nor in the error', (value) => {
    let said = '';
    try {
      baseUrl(value);
    } catch (error) {
      said = error instanceof CollectError ? `${error.message} ${error.mend}` : '';
    }
    expect(said).toContain('vendor.example');
    expect(said).not.toContain('hunter2');
  });

  it.each(['', 'https://', 'two words', 'https://a b'])('%j is none', (value) =>
    expect(() => baseUrl(value)).toThrow('is no URL'),
  );
});
