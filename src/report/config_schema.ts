import { type Declared, fileShape, mainOf, programKeys, type RoomKind, roomKeys, runShape } from '../config/keys.ts';
import { defaultOf, type Form, factsOf, formOf, type Shape } from '../config/setting.ts';
import type { JsonObject } from '../json.ts';

/** A room with the types of its variables. */
export interface Typed extends Declared {
  readonly title: string;
  readonly env: Shape;
}

const ELSEWHERE: JsonObject = { $ref: '#/$defs/elsewhere' };

/** The JSON Schema of a configuration file, out of what the program and its rooms declare. */
export function configSchema(collectors: readonly Typed[], stores: readonly Typed[]): JsonObject {
  const sections = Object.fromEntries(
    [...programKeys()].filter(([name]) => name !== '').map(([name, keys]) => [name, section(keys, fileShape)]),
  );
  const { run, ...others } = sections;
  const flags = Object.entries(runShape).map(([key, type]) => [key, value(type, factsOf(type).about)] as const);
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Configuration of cyber-collect',
    ...object({
      $schema: { type: 'string' },
      ...propertiesOf(programKeys().get('') ?? new Map(), fileShape),
      run: object({ ...Object.fromEntries(flags), ...(run?.properties as JsonObject | undefined) }),
      ...others,
      collectors: rooms('collectors', collectors),
      stores: rooms('stores', stores),
    }),
    $defs: {
      elsewhere: {
        description: 'Where the value is, or nothing',
        anyOf: [
          { type: 'null' },
          { ...object({ env: named('Variable that holds it') }), required: ['env'], type: 'object' },
          { ...object({ file: named('File that holds it') }), required: ['file'], type: 'object' },
        ],
      },
    },
  };
}

function named(description: string): JsonObject {
  return { type: 'string', minLength: 1, description };
}

function object(properties: JsonObject): JsonObject {
  return { type: ['object', 'null'], properties, additionalProperties: false };
}

function rooms(kind: RoomKind, some: readonly Typed[]): JsonObject {
  return object(
    Object.fromEntries(
      some.map((room) => {
        const own: JsonObject = { description: room.title, ...section(roomKeys(kind, room), room.env) };
        const main = mainOf(kind, room);
        if (main === undefined) return [room.name, own];
        return [room.name, { anyOf: [...formsOf(room.env[main] as Shape[string]), own] }];
      }),
    ),
  );
}

function section(keys: ReadonlyMap<string, string>, shape: Shape): JsonObject {
  return object(propertiesOf(keys, shape));
}

function propertiesOf(keys: ReadonlyMap<string, string>, shape: Shape): JsonObject {
  return Object.fromEntries(
    [...keys].map(([key, variable]) => {
      const type = shape[variable] as Shape[string];
      const { about, secret } = factsOf(type);
      const { anyOf, ...own } = value(type, `${about}${secret ? ' (secret)' : ''}: ${variable}`);
      return [key, { ...own, anyOf: [...(anyOf as JsonObject[]), ELSEWHERE] }];
    }),
  );
}

function value(type: Shape[string], description: string): JsonObject {
  const fallback = defaultOf(type);
  const form = formOf(type);
  return {
    description,
    ...(fallback === undefined || fallback === '' ? {} : { default: written(fallback, form) }),
    anyOf: formsOf(type),
  };
}

function written(fallback: string, { kind }: Form): JsonObject[string] {
  if (kind === 'integer') return Number(fallback);
  if (kind === 'list') return fallback.split(',');
  return kind === 'flag' ? fallback === 'true' : fallback;
}

/** How a value may be written. */
function formsOf(type: Shape[string]): JsonObject[] {
  const form = formOf(type);
  if (form.kind === 'integer') {
    const { least, most } = form;
    return [
      { type: 'integer', minimum: least, maximum: most },
      { type: 'string', pattern: '^[0-9]+$' },
    ];
  }
  if (form.kind === 'flag') return [{ type: 'boolean' }, { enum: ['true', 'false', 'yes', 'no'] }];
  if (form.kind === 'choice') {
    const numbers = form.words.filter((word) => /^\d+$/.test(word)).map(Number);
    return [{ enum: [...form.words, ...numbers] }];
  }
  if (form.kind === 'duration')
    return [
      { type: 'string', pattern: '^[0-9]+(\\.[0-9]+)?[smhd]?$' },
      { type: 'number', exclusiveMinimum: 0 },
    ];
  const text: JsonObject = { type: ['string', 'number'] };
  return form.kind === 'list' ? [text, { type: 'array', items: { ...text, pattern: '^[^,;]*$' } }] : [text];
}
