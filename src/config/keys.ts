import { detectShape } from './detect.ts';
import { managersShape } from './managers.ts';
import { programShape } from './program.ts';
import { choice, duration, factsOf, flag, integer, list, type Shape, setting } from './setting.ts';

/** A room, as far as a file names its variables. */
export interface Declared {
  readonly name: string;
  /** Its variables. */
  readonly env: Readonly<Record<string, unknown>>;
}

/** The two kinds of rooms, as sections of a file. */
export type RoomKind = 'collectors' | 'stores';

/** What a file may set in place of flags of `run`. */
export const runShape = {
  concurrency: setting('Collectors at once', integer(4, 1)),
  deadline: setting('Stop cleanly after this long, such as 90s, 30m, 6h', duration()),
  only: setting('Only these: okta, okta.users, okta_users, globs', list()),
  exclude: setting('But not these; wins over only', list()),
  acceptShrink: setting('Datasets that may have lost many records', list()),
  full: setting('Read events from the start, whatever was read before', flag()),
  fresh: setting('Collect everything anew, whatever an interrupted run left', flag()),
  jobs: setting('Tenants at once', integer(4, 1)),
  quiet: setting('Say only warnings and errors', flag()),
  verbose: setting('Say every detail', flag()),
  logFormat: setting('Format of what is said on stderr', choice(['text', 'json'], 'text')),
  output: setting('Format of what is printed on stdout', choice(['table', 'json', 'markdown'], 'table')),
} as const;

/** Variables of the program that a section holds, by the beginning that is left out; what stands first counts. */
const PREFIXES: readonly (readonly [section: string, prefix: string])[] = [
  ['detect', 'DETECT_'],
  ['notify', 'NOTIFY_'],
  ['otel', 'OTEL_'],
  ['secrets', 'SECRETS_'],
  ['vault', 'VAULT_'],
  ['program', 'CYBER_COLLECT_'],
];

/** Places that the beginning of the name does not tell. */
const PLACES: Readonly<Record<string, readonly [section: string, key: string]>> = {
  TENANCY: ['', 'tenancy'],
  CYBER_COLLECT_HEADROOM: ['run', 'headroom'],
  SLACK_WEBHOOK_URL: ['notify', 'slackWebhookUrl'],
};

/** Variables that only the environment sets: where the file is, and what each run is a part of. */
const NOT_IN_FILES: readonly string[] = ['CYBER_COLLECT_CONFIG', 'TRACEPARENT'];

/** The program's variables that a file may set. */
export const fileShape: Shape = Object.fromEntries(
  Object.entries({ ...programShape, ...detectShape, ...managersShape }).filter(
    ([name]) => !NOT_IN_FILES.includes(name) && !name.startsWith('AWS_'),
  ),
);

/** The variables of the program by section and key; those of section `` stand at the top. */
export function programKeys(): ReadonlyMap<string, ReadonlyMap<string, string>> {
  const sections = new Map<string, Map<string, string>>();
  for (const name of Object.keys(fileShape)) {
    const [section, key] = placeOf(name);
    sections.set(section, (sections.get(section) ?? new Map<string, string>()).set(key, name));
  }
  return sections;
}

function placeOf(name: string): readonly [section: string, key: string] {
  const [section, prefix] = PREFIXES.find(([, start]) => name.startsWith(start)) ?? ['program', ''];
  return PLACES[name] ?? [section, camel(name.slice(prefix.length))];
}

/** A room's variables by their keys in its section. */
export function roomKeys(kind: RoomKind, { name, env }: Declared): ReadonlyMap<string, string> {
  const prefix = prefixOf(kind, { name, env });
  return new Map(ownOf(env).map((variable) => [keyOf(variable, prefix, name), variable]));
}

/** The variable that a room's section sets when it is a value itself, as in `file: ./data/%TAG.json`; few have one. */
export function mainOf(kind: RoomKind, room: Declared): string | undefined {
  const prefix = prefixOf(kind, room);
  return Object.hasOwn(room.env, prefix) ? prefix : undefined;
}

function keyOf(variable: string, prefix: string, name: string): string {
  if (variable === prefix) return camel(name);
  return camel(variable.startsWith(`${prefix}_`) ? variable.slice(prefix.length + 1) : variable);
}

/** What a room's variables begin with: its name, or else the words that they share. */
function prefixOf(kind: RoomKind, { name, env }: Declared): string {
  const all = ownOf(env);
  const named = kind === 'stores' ? `STORE_${name.toUpperCase()}` : name.toUpperCase();
  if (all.some((variable) => variable === named || variable.startsWith(`${named}_`))) return named;
  const [first = [], ...others] = all
    .filter((variable) => kind === 'collectors' || variable.startsWith('STORE_'))
    .map((variable) => variable.split('_'));
  const differs = first.findIndex((word, n) => others.some((words) => words[n] !== word));
  return (differs < 0 ? first.slice(0, -1) : first.slice(0, differs)).join('_');
}

/** The variables that are not the program's. */
function ownOf(env: Declared['env']): readonly string[] {
  return Object.keys(env).filter((name) => !Object.hasOwn(programShape, name));
}

function camel(name: string): string {
  return name.toLowerCase().replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** Where a file says what a variable says, as `collectors.okta.token`. */
export function pathIn(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('.');
}

/** Whether a value of this variable is never to be shown. */
export function isSecret(shape: Shape, name: string): boolean {
  const type = shape[name];
  return type !== undefined && factsOf(type).secret;
}
