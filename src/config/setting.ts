import type { z } from 'zod';
import { CollectError } from '../errors.ts';
import { secondsOf } from './duration.ts';
import { oneOf, registry, string } from './zod.ts';

/** What a variable is, beside its type. */
export interface Facts {
  /** One sentence: what to set it to. */
  readonly about: string;
  /** Whether its value must never be shown. */
  readonly secret: boolean;
  /** Switches on a collector that requires nothing, unless one of these is set, which uses the variable too. */
  readonly wakes?: { readonly unless: readonly string[] };
}

/** A zod shape whose keys are the names of environment variables. */
export type Shape = Readonly<Record<string, z.ZodType>>;

/** The parsed values of a shape. */
export type Values<S extends Shape> = z.infer<z.ZodObject<S>>;

/** One for all copies of this module: a room in a package of its own may bring another. */
const REGISTRY = Symbol.for('cyber-collect.facts');
const shared = globalThis as { [REGISTRY]?: ReturnType<typeof registry<Facts>> };
shared[REGISTRY] ??= registry<Facts>();
const facts = shared[REGISTRY];

/** A variable that may be shown. Without a type it is required text. */
export function setting(about: string): z.ZodString;
export function setting<T extends z.ZodType>(about: string, type: T): T;
export function setting(about: string, type: z.ZodType = string()): z.ZodType {
  return type.register(facts, { about, secret: false });
}

/** A variable whose value is never shown, in no encoding. */
export function secret(about: string): z.ZodString;
export function secret<T extends z.ZodType>(about: string, type: T): T;
export function secret(about: string, type: z.ZodType = string()): z.ZodType {
  return type.register(facts, { about, secret: true });
}

/** A declared variable that switches on a collector which requires none, unless one of some others is set. */
export function waking<T extends z.ZodType>(type: T, unless: readonly string[] = []): T {
  facts.add(type, { ...factsOf(type), wakes: { unless } });
  return type;
}

/** The facts of a declared variable. */
export function factsOf(type: z.ZodType): Facts {
  const found = facts.get(type);
  if (found === undefined) throw new CollectError('defect', 'a variable is declared without setting() or secret()');
  return found;
}

/** Whether a variable must be set for its unit to work. */
export function isRequired(type: z.ZodType): boolean {
  return !type.safeParse(undefined).success;
}

/** The value a variable has when it is not set, as text; undefined when there is none. */
export function defaultOf(type: z.ZodType): string | undefined {
  const parsed = type.safeParse(undefined);
  if (!parsed.success || parsed.data === undefined) return undefined;
  return Array.isArray(parsed.data) ? parsed.data.join(',') : String(parsed.data);
}

/** How a value is written where it is more than text, as in a configuration file. */
export type Form =
  | { readonly kind: 'text' | 'flag' | 'list' | 'duration' }
  | { readonly kind: 'integer'; readonly least: number; readonly most: number }
  | { readonly kind: 'choice'; readonly words: readonly string[] };

const FORMS = Symbol.for('cyber-collect.forms');
const registered = globalThis as { [FORMS]?: ReturnType<typeof registry<Form>> };
registered[FORMS] ??= registry<Form>();
const forms = registered[FORMS];

/** The form of a declared variable's value. */
export function formOf(type: z.ZodType): Form {
  const { innerType, in: from, entries } = type.def as unknown as Inside;
  const form = forms.get(type);
  if (form !== undefined) return form;
  if (entries !== undefined) return { kind: 'choice', words: Object.values(entries) };
  const inner = innerType ?? from;
  return inner === undefined ? { kind: 'text' } : formOf(inner);
}

/** What zod keeps of a type that is made of another. */
interface Inside {
  readonly innerType?: z.ZodType;
  readonly in?: z.ZodType;
  readonly entries?: Readonly<Record<string, string>>;
}

/** Optional text. */
export function optional(): z.ZodOptional<z.ZodString> {
  return string().optional();
}

/** Text of a form. */
export function matching(form: RegExp, message: string): z.ZodString {
  return string().regex(form, message);
}

/** Text that is as a test says. */
export function such(test: (value: string) => boolean, message: string): z.ZodString {
  return string().refine(test, message);
}

/** Text with a default. */
export function text(fallback: string): z.ZodDefault<z.ZodString> {
  return string().default(fallback);
}

/** A whole number between two bounds. */
export function integer(fallback: number, least = 0, most = Number.MAX_SAFE_INTEGER) {
  const message = `must be a whole number from ${least} to ${most}`;
  return string()
    .regex(/^\d+$/, message)
    .register(forms, { kind: 'integer', least, most })
    .transform(Number)
    .refine((value) => value >= least && value <= most, message)
    .default(fallback);
}

/** Seconds up to an hour, with parts of one. */
export function seconds(fallback = 0) {
  const message = 'must be a number of seconds up to 3600, such as 0.8';
  return string()
    .regex(/^\d{1,4}(\.\d{1,3})?$/, message)
    .transform(Number)
    .refine((value) => value <= 3600, message)
    .default(fallback);
}

/** `true` or `false` (also 1, 0, yes, no). */
export function flag(fallback = false) {
  return string()
    .regex(/^(true|false|1|0|yes|no)$/i, 'must be true or false')
    .register(forms, { kind: 'flag' })
    .transform((value) => /^(true|1|yes)$/i.test(value))
    .default(fallback);
}

/** One of some words. */
export function choice<const W extends readonly [string, ...string[]]>(words: W, fallback: W[number]) {
  return oneOf(words, `must be one of ${words.join(', ')}`).default(fallback as never);
}

/** Words separated by commas or semicolons. */
export function list() {
  return string()
    .register(forms, { kind: 'list' })
    .transform((value) =>
      value
        .split(/[,;]/)
        .map((word) => word.trim())
        .filter((word) => word !== ''),
    );
}

/** Seconds, written as 90s, 30m or 6h. */
export function duration() {
  const message = 'must be a duration such as 90s, 30m or 6h';
  return string()
    .refine((value) => secondsOf(value) !== undefined, message)
    .register(forms, { kind: 'duration' })
    .transform((value) => secondsOf(value) ?? 0);
}

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/**
 * The origin and path of a base URL, without a trailing slash. A bare host gets `https://`.
 * @throws {CollectError} config
 */
export function baseUrl(value: string): URL {
  const candidate = /^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `https://${value}`;
  if (!URL.canParse(candidate)) {
    throw new CollectError('config', `'${value}' is no URL`, { mend: 'write it as https://host' });
  }
  const url = new URL(candidate);
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new CollectError('config', `the URL of '${url.host}' holds more than a host and a path`, {
      mend: 'write only https://host/path and set credentials in their own variables',
    });
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new CollectError('config', `${url.protocol}//${url.host} is no web address`, { mend: 'write https://' });
  }
  url.pathname = url.pathname.replace(/\/+$/, '');
  return url;
}

/**
 * Refuses plain http to anything but loopback, unless that is allowed; returns the URL.
 * @throws {CollectError} refused
 */
export function assertEncrypted(url: URL, allowHttp: boolean): URL {
  if (url.protocol === 'https:' || allowHttp || LOOPBACK.test(url.hostname)) return url;
  throw new CollectError('refused', `${url.protocol}//${url.host} would send credentials unencrypted`, {
    mend: 'write https://, or set CYBER_COLLECT_ALLOW_HTTP=true where the network is trusted',
  });
}
