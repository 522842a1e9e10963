import type { Collector } from '../collectors/collector.ts';
import { defaultOf, factsOf, isRequired, type Shape } from '../config/setting.ts';
import type { Store } from '../stores/store.ts';

/** What somebody chose to collect, and where it goes. */
export interface Choice {
  readonly tenancy: string;
  readonly collectors: readonly Collector[];
  readonly stores: readonly Store[];
  /** Variables of the program that the choice needs, such as COLLECTORS_PATH. */
  readonly program: Readonly<Record<string, string>>;
}

/** A variable as it is written down. */
export interface Variable {
  readonly name: string;
  /** One sentence: what to set it to. */
  readonly about: string;
  readonly secret: boolean;
  readonly required: boolean;
  /** False where it is only shown, commented out. */
  readonly live: boolean;
  /** Empty where somebody has to fill it in. */
  readonly value: string;
}

/** The variables of one room. */
export interface Section {
  readonly title: string;
  readonly variables: readonly Variable[];
}

/** Files of this machine lie in the folder that is run in. */
const FILES: Readonly<Record<string, string>> = {
  STORE_FILE: './data/%TAG/%TENANCY.json',
  STORE_FILE_EVENTS: './data/%TAG/%TENANCY/%YYYY-%MM-%DD/%UUID.json',
};

/** The variables of what was chosen, room by room, the required ones first, each once. */
export function sectionsOf({ tenancy, collectors, stores, program }: Choice): readonly Section[] {
  const own = Object.entries({ TENANCY: tenancy, ...program }).map(([name, value]) =>
    fixed(name, value, name === 'TENANCY' ? 'Name of the tenant or organisation' : 'Folders of rooms of your own'),
  );
  const noFiles = { title: 'Local files', variables: [fixed('STORE_FILE', 'none', 'No files on this machine')] };
  const rooms = [
    { title: 'The program', variables: own },
    ...collectors.map((room) => sectionOf(room)),
    ...stores.map((room) => sectionOf(room, room.example)),
    ...(stores.some(({ name }) => name === 'file') ? [] : [noFiles]),
  ];
  const seen = new Set<string>();
  return rooms.map(({ title, variables }) => {
    const fresh = variables.filter(({ name }) => !seen.has(name));
    for (const { name } of fresh) seen.add(name);
    return { title, variables: fresh };
  });
}

/** Every section, or only what a file does not say yet, as text of a file of variables. */
export function environmentText(sections: readonly Section[], said: ReadonlySet<string> = new Set()): string {
  const parts = sections.flatMap(({ title, variables }) => {
    const missing = variables.filter(({ name }) => !said.has(name));
    return missing.length === 0 ? [] : [`# --- ${title}`, ...missing.flatMap(linesOf), ''];
  });
  return parts.join('\n');
}

/** Names of the variables that a text sets, or shows commented out. */
export function namesIn(text: string): ReadonlySet<string> {
  return new Set(
    [...text.matchAll(/^\s*(?:#\s?)?(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=/gm)].map((match) => match[1] ?? ''),
  );
}

function linesOf({ name, about, secret, required, live, value }: Variable): readonly string[] {
  const marks = [...(required ? ['required'] : []), ...(secret ? ['secret'] : [])].join(', ');
  return [`# ${about}${marks === '' ? '' : ` (${marks})`}`, `${live ? '' : '#'}${name}=${value}`];
}

function fixed(name: string, value: string, about: string): Variable {
  return { name, about, secret: false, required: false, live: true, value };
}

function sectionOf({ title, env }: Collector | Store, example: Readonly<Record<string, string>> = {}): Section {
  const shape = env as Shape;
  const requires = Object.values(shape).some(isRequired);
  const variables = Object.entries(shape).map(([name, type]): Variable => {
    const { about, secret, wakes } = factsOf(type);
    const required = isRequired(type);
    const given = FILES[name] ?? (isTemplate(example[name]) ? example[name] : undefined);
    // Of a room that requires nothing, what switches it on has to be filled in.
    const live = required || given !== undefined || (!requires && (wakes !== undefined || name in example));
    const value = given ?? (live ? '' : (defaultOf(type) ?? example[name] ?? ''));
    return { name, about: aboutOf(about, live ? example[name] : undefined, value), secret, required, live, value };
  });
  const first = variables.filter(({ live }) => live);
  return { title, variables: [...first, ...variables.filter(({ live }) => !live)] };
}

/** Whether an example suits everybody: a template or a path, no address or name of somebody's. */
function isTemplate(example: string | undefined): example is string {
  return example !== undefined && /^(\.\/|[^:]*%[A-Z])/.test(example);
}

function aboutOf(about: string, example: string | undefined, value: string): string {
  return example === undefined || value !== '' || about.includes('such as') ? about : `${about}, such as ${example}`;
}
