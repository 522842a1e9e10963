import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { paint, plain } from '../../src/report/colour.ts';
import { createLog, type LogOptions, printable, problemLine, type Severity } from '../../src/report/log.ts';
import { createRedactor } from '../../src/report/redact.ts';

function logOf(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const redactor = createRedactor();
  redactor.add('hunter2"x');
  const write = (line: string) => lines.push(line);
  const log = createLog({ format: 'text', least: 'INFO', paint: plain, redactor, write, ...options });
  return { log, lines };
}

const SEVERITIES: readonly Severity[] = ['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'];

describe('a log', () => {
  it.each(SEVERITIES)('from %s on leaves out what is less grave', (least) => {
    const { log, lines } = logOf({ least });
    for (const severity of SEVERITIES) log(severity, 'store.warning', severity);
    expect(lines.length).toBe(SEVERITIES.length - SEVERITIES.indexOf(least));
  });

  it('says time, severity and message in text', () => {
    const { log, lines } = logOf();
    log('WARNING', 'store.warning', 'something happened', { n: 1 });
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d WARNING {2}something happened$/);
  });

  it('says facts in JSON', () => {
    const { log, lines } = logOf({ format: 'json' });
    log('INFO', 'dataset.complete', 'stored', { tag: 'okta_users', records: 7 });
    expect(JSON.parse(lines[0] ?? '')).toEqual({
      at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      severity: 'INFO',
      event: 'dataset.complete',
      message: 'stored',
      tag: 'okta_users',
      records: 7,
    });
  });

  it.each(['text', 'json'] as const)('takes secrets out of everything, in %s', (format) => {
    const { log, lines } = logOf({ format });
    log('ERROR', 'store.warning', 'sent hunter2"x away', { header: 'Bearer hunter2"x', deep: { list: ['hunter2"x'] } });
    expect(lines[0]).toContain('[secret]');
    expect(lines[0]).not.toContain('hunter2');
    if (format === 'json') expect(JSON.parse(lines[0] ?? '').header).toBe('Bearer [secret]');
  });

  it.each(['text', 'json'] as const)('takes out a secret of several lines, in %s', (format) => {
    const redactor = createRedactor();
    redactor.add('BEGIN\nhunter2\u0007\nEND');
    const { log, lines } = logOf({ format, redactor });
    log('ERROR', 'store.warning', 'the key BEGIN\nhunter2\u0007\nEND is not valid');
    expect(lines[0]).toContain('the key [secret] is not valid');
  });

  it.each(['text', 'json'] as const)(
    'is one line an event, and no message can draw on the terminal, in %s',
    (format) => {
      fc.assert(
        fc.property(fc.string({ unit: 'binary', maxLength: 30 }), (message) => {
          const { log, lines } = logOf({ format });
          log('INFO', 'store.warning', `a\nb\r\u001b[2J\u009b${message}`);
          expect(lines.length).toBe(1);
          for (const control of ['\n', '\r', '\u001b']) expect(lines[0]).not.toContain(control);
          if (format === 'text') expect(lines[0]).not.toMatch(/(?!\t)\p{Cc}/u);
        }),
      );
    },
  );

  it('is coloured where that is wanted, and only there', async () => {
    const uncoloured = logOf({ paint: await paint(false) });
    const coloured = logOf({ paint: await paint(true) });
    for (const { log } of [uncoloured, coloured]) log('ERROR', 'store.warning', 'x');
    expect(uncoloured.lines[0]).not.toContain('\u001b');
    expect(coloured.lines[0]).toContain('\u001b[');
  });
});

it('a problem is a line that says how to mend it', () => {
  const problem = { id: 'Rate limit', severity: 'ERROR', where: 'okta', message: 'too many', mend: 'wait' } as const;
  expect(problemLine(problem)).toBe('Rate limit: okta: too many. To mend: wait.');
});

it('printable text keeps letters, tabs and line ends', () => {
  expect(printable('ä\t日本\n🙂')).toBe('ä\t日本\n🙂');
  expect(printable('\u001b]0;title\u0007\r\u0000\u007f')).toBe('?]0;title????');
});
