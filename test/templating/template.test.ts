import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CollectError } from '../../src/errors.ts';
import { assertSafe, parseTemplate, type TemplateValues } from '../../src/templating/template.ts';

const VALUES: TemplateValues = {
  uuid: '3f0c9a52-7a35-4a36-9d2a-0f6a3a0f6a3a',
  tag: 'okta_users',
  tenancy: 'acme',
  at: new Date(Date.UTC(2026, 2, 4, 5, 6, 7)),
};

function render(source: string, values: Partial<TemplateValues> = {}): string {
  return parseTemplate(source).render({ ...VALUES, ...values });
}

function failure(work: () => unknown): CollectError {
  try {
    work();
  } catch (error) {
    if (error instanceof CollectError) return error;
    throw error;
  }
  throw new Error('this should have failed');
}

const NAMES = ['%UUID', '%TAG', '%TENANCY', '%YYYY', '%MM', '%DD', '%hh', '%mm', '%ss'];

describe('a template', () => {
  it.each([
    ['../data/source/%TAG/%TENANCY.json', '../data/source/okta_users/acme.json'],
    ['%YYYY-%MM-%DD/%hh%mm%ss.json', '2026-03-04/050607.json'],
    ['%UUID', VALUES.uuid],
    ['%TAG%TAG', 'okta_usersokta_users'],
    ['%%TAG', '%TAG'],
    ['100%%', '100%'],
    ['%%%TAG%%', '%okta_users%'],
    ['no names', 'no names'],
    ['%TAG_x', 'okta_users_x'],
    ['price$1/%TAG', 'price$1/okta_users'],
    ['$tag', '$tag'],
  ])('%s', (source, rendered) => expect(render(source)).toBe(rendered));

  it('is in UTC', () => {
    expect(render('%YYYY-%MM-%DD %hh', { at: new Date('2026-01-01T01:30:00+03:00') })).toBe('2025-12-31 22');
    expect(render('%YYYY', { at: new Date(Date.UTC(987, 0, 1)) })).toBe('0987');
  });

  it.each([
    ['%TAG.json', false],
    ['%%UUID', false],
    ['%UUID.json', true],
    ['%TAG/%ss', true],
    ['%YYYY', true],
  ])('%s renders another target each run: %s', (source, perRun) => expect(parseTemplate(source).perRun).toBe(perRun));

  it('names what it uses', () => {
    expect([...parseTemplate('%TAG/%TENANCY/%TAG/%%MM').names]).toEqual(['TAG', 'TENANCY']);
  });
});

describe('an unknown name is an error that says what to write', () => {
  it.each(['%tag', '%TAGS', '%Y', '%YYYYMM', '%', 'a%/b', '%1', 'x/%constructor', '%toString'])('%s', (source) => {
    const error = failure(() => parseTemplate(source));
    expect(error).toMatchObject({ code: 'config', message: expect.stringContaining(source) });
    for (const name of [...NAMES, '%%']) expect(error.mend).toContain(name);
  });

  it.each(['$TAG', `\${TAG}`, 'a/$TENANCY.json', '$YYYY'])('%s, as other tools write it', (source) => {
    expect(failure(() => parseTemplate(source)).mend).toMatch(/^write %(TAG|TENANCY|YYYY)$/);
  });

  it.each(['', '  '])('%j is empty', (source) => expect(failure(() => parseTemplate(source)).code).toBe('config'));

  it('whatever stands there, it is rendered or refused', () => {
    const piece = fc.oneof(fc.constantFrom(...NAMES, '%%', '$', '{', '}'), fc.string({ maxLength: 6 }));
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1 }), (pieces) => {
        const source = pieces.join('');
        try {
          expect(typeof render(source)).toBe('string');
        } catch (error) {
          expect(error).toBeInstanceOf(CollectError);
          expect((error as CollectError).code).toBe('config');
          expect((error as CollectError).mend).toMatch(/^(use|write) .*%/);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it.each(['$constructor', '$valueOf', '$hasOwnProperty/%TAG'])('%s is no name of ours', (source) => {
    expect(render(source)).toBe(source.replace('%TAG', 'okta_users'));
  });
});

describe('values', () => {
  it('text between the names is kept as it is', () => {
    const literal = fc.string().filter((text) => !/[%$]/.test(text));
    fc.assert(
      fc.property(literal, literal, (before, after) => {
        fc.pre(`${before}${after}`.trim() !== '' && !/^[A-Za-z]/.test(after));
        expect(render(`${before}%TAG${after}`)).toBe(`${before}okta_users${after}`);
      }),
    );
  });

  it('are never read as templates themselves', () => {
    expect(render('%TENANCY/%TAG', { tenancy: '%TAG%%$1$&' })).toBe('%TAG%%$1$&/okta_users');
  });

  it.each([...['', '.', '..', '...', 'a..b', 'a/b', '/etc', 'a\\b', 'a\nb', 'a\0', '\u007f', 'a\u0085b', '\u009b2J']])(
    '%j is refused',
    (value) => {
      expect(failure(() => render('%TENANCY', { tenancy: value })).mend).toContain('%TENANCY');
      expect(failure(() => render('%TAG', { tag: value })).code).toBe('config');
    },
  );

  it('that are rendered never leave their place', () => {
    const value = fc.oneof(fc.string(), fc.stringMatching(/^[./\\a-z]{0,8}$/), fc.string({ unit: 'binary' }));
    fc.assert(
      fc.property(value, (tenancy) => {
        let path: string;
        try {
          path = render('data/%TENANCY/%TAG.json', { tenancy });
        } catch (error) {
          expect(error).toBeInstanceOf(CollectError);
          return;
        }
        expect(path.split(/[/\\]/)).toEqual(['data', tenancy, 'okta_users.json']);
        expect(new URL(`file:///root/${path.split('/').map(encodeURIComponent).join('/')}`).pathname).toMatch(
          /^\/root\/data\/[^/]+\/okta_users\.json$/,
        );
        expect(tenancy).not.toMatch(/\p{Cc}/u);
      }),
      { numRuns: 1000 },
    );
  });

  it('two tenancies or tags never render one target where both are named', () => {
    const word = fc.stringMatching(/^[a-z0-9_]{1,6}$/);
    fc.assert(
      fc.property(word, word, word, word, (tag, tenancy, otherTag, otherTenancy) => {
        fc.pre(tag !== otherTag || tenancy !== otherTenancy);
        const source = 'data/%TAG/%TENANCY.json';
        expect(render(source, { tag, tenancy })).not.toBe(render(source, { tag: otherTag, tenancy: otherTenancy }));
      }),
    );
  });

  it('good names pass', () => {
    for (const name of ['acme', 'Acme-1', 'a.b', 'ä', 'a b', '-', '_x', '日本']) assertSafe('TENANCY', name);
  });
});
