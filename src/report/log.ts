import type { Problem } from '../errors.ts';
import type { Paint } from './colour.ts';
import type { EventName } from './events.ts';
import type { Redactor } from './redact.ts';

/** How grave a line is. */
export type Severity = 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR' | 'CRITICAL';

/** What happened, for machines, beside the event's name. */
export type Facts = Readonly<Record<string, unknown>>;

/** Talk, on stderr: a line an event. */
export type Log = (severity: Severity, event: EventName, message: string, facts?: Facts) => void;

/** How to talk. */
export interface LogOptions {
  readonly format: 'text' | 'json';
  readonly least: Severity;
  readonly paint: Paint;
  readonly redactor: Redactor;
  /** Writes a line. */
  readonly write: (line: string) => void;
}

const RANK: Readonly<Record<Severity, number>> = { DEBUG: 0, INFO: 1, WARNING: 2, ERROR: 3, CRITICAL: 4 };

/** A log that redacts whatever passes through it. */
export function createLog({ format, least, paint, redactor, write }: LogOptions): Log {
  const colours: Readonly<Record<Severity, (text: string) => string>> = {
    DEBUG: paint.dim,
    INFO: paint.cyan,
    WARNING: paint.yellow,
    ERROR: paint.red,
    CRITICAL: paint.bgRed,
  };
  return (severity, event, message, facts = {}) => {
    if (RANK[severity] < RANK[least]) return;
    const at = new Date().toISOString();
    const text =
      format === 'json'
        ? JSON.stringify({ at, severity, event, message, ...facts })
        : `${paint.dim(at.slice(11, 19))} ${colours[severity](severity.padEnd(8))} ${oneLine(redactor.redact(message))}`;
    write(redactor.redact(text));
  };
}

/** A problem as one line: title, where, what, how to mend it. */
export function problemLine(problem: Problem): string {
  return `${problem.id}: ${problem.where}: ${problem.message}. To mend: ${problem.mend}.`;
}

function oneLine(text: string): string {
  return printable(text).replaceAll('\n', ' ');
}

/** Text from elsewhere without control characters, which could rewrite a terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '?');
}
