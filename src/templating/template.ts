import { CollectError } from '../errors.ts';

/** What a template may name. */
export interface TemplateValues {
  readonly uuid: string;
  readonly tag: string;
  readonly tenancy: string;
  /** The run's start: every name of date and time is its UTC part. */
  readonly at: Date;
}

type Part = (values: TemplateValues) => string;

const PARTS: Readonly<Record<string, Part>> = {
  UUID: (values) => safe('UUID', values.uuid),
  TAG: (values) => safe('TAG', values.tag),
  TENANCY: (values) => safe('TENANCY', values.tenancy),
  YYYY: ({ at }) => String(at.getUTCFullYear()).padStart(4, '0'),
  MM: ({ at }) => two(at.getUTCMonth() + 1),
  DD: ({ at }) => two(at.getUTCDate()),
  hh: ({ at }) => two(at.getUTCHours()),
  mm: ({ at }) => two(at.getUTCMinutes()),
  ss: ({ at }) => two(at.getUTCSeconds()),
};

const TIMES = ['YYYY', 'MM', 'DD', 'hh', 'mm', 'ss'];

/** A target path or key with names still in it. */
export interface Template {
  readonly source: string;
  readonly names: ReadonlySet<string>;
  render(values: TemplateValues): string;
  /** Whether each run renders another target, as events need. */
  readonly perRun: boolean;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

function safe(name: string, value: string): string {
  assertSafe(`%${name}`, value);
  return value;
}

/**
 * Refuses a value that would leave its place in a path: empty, `.`, `..`, separators, control characters.
 * @throws {CollectError} config
 */
export function assertSafe(name: string, value: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (value.trim() === '' || value === '.' || value.includes('..') || /[/\\\u0000-\u001f\u007f-\u009f]/.test(value)) {
    throw new CollectError(
      'config',
      `the value of ${name} is empty or holds a separator, '..' or a control character`,
      {
        mend: `use letters, digits, '-', '_' and '.' for ${name}`,
      },
    );
  }
}

/**
 * Reads a template. `%%` is a percent sign.
 * @throws {CollectError} config for an unknown `%NAME`, and for `$TAG` where `%TAG` is meant
 */
export function parseTemplate(source: string): Template {
  if (source.trim() === '')
    throw new CollectError('config', 'the template is empty', { mend: 'write a path such as data/%TAG.json' });
  const dollar = /\$\{?([A-Za-z]+)\}?/g;
  for (const [found, name] of source.matchAll(dollar)) {
    if (name !== undefined && Object.hasOwn(PARTS, name)) {
      throw new CollectError('config', `'${source}' holds ${found}, which is not replaced`, { mend: `write %${name}` });
    }
  }
  const names = new Set<string>();
  const pieces: Part[] = [];
  let last = 0;
  for (const match of source.matchAll(/%(%|[A-Za-z]*)/g)) {
    const name = match[1] ?? '';
    const literal = source.slice(last, match.index);
    pieces.push(() => literal);
    last = match.index + match[0].length;
    const part = name === '%' ? () => '%' : PARTS[name];
    if (part === undefined || !(name === '%' || Object.hasOwn(PARTS, name))) {
      throw new CollectError('config', `'${source}' holds '%${name}', which is no known name`, {
        mend: `use ${Object.keys(PARTS)
          .map((known) => `%${known}`)
          .join(' ')}, or %% for a percent sign`,
      });
    }
    if (name !== '%') names.add(name);
    pieces.push(part);
  }
  const rest = source.slice(last);
  pieces.push(() => rest);
  return {
    source,
    names,
    perRun: names.has('UUID') || TIMES.some((name) => names.has(name)),
    render: (values) => pieces.map((piece) => piece(values)).join(''),
  };
}
