import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { type Collector, parentOf, tagOf } from '../src/collectors/collector.ts';
import { astraShape } from '../src/config/astra.ts';
import { awsShape } from '../src/config/aws.ts';
import { programAliases, programShape } from '../src/config/program.ts';
import { factsOf, isRequired, type Shape } from '../src/config/setting.ts';
import type { Store } from '../src/stores/store.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** A module of the program. */
interface Module {
  /** Path from the root, such as `src/http/client.ts`. */
  readonly path: string;
  /** Its folder under `src`, or its own name without `.ts` where it stands there itself. */
  readonly room: string;
  readonly source: string;
  /** The source without comments. */
  readonly code: string;
  readonly imports: readonly Import[];
}

interface Import {
  /** A path from the root, a package, or `node:...`. */
  readonly of: string;
  /** Types alone, which are gone at run time. */
  readonly types: boolean;
  readonly dynamic: boolean;
}

/** Whatever names variables: a collector, a store, or the program itself. */
interface Unit {
  readonly name: string;
  readonly env: Shape;
  readonly aliases: Readonly<Record<string, string>>;
}

let modules: readonly Module[];
let collectors: readonly Collector[];
let stores: readonly Store[];
let units: readonly Unit[];

beforeAll(async () => {
  modules = await readModules();
  collectors = await readRooms<Collector>('src/collectors/src_');
  stores = await readRooms<Store>('src/stores/store_');
  const unit = ({ name, env, aliases = {} }: Collector | Store): Unit => ({ name, env, aliases });
  units = [...[...collectors, ...stores].map(unit), { name: 'program', env: programShape, aliases: programAliases }];
});

async function readModules(): Promise<readonly Module[]> {
  const entries = await readdir(join(ROOT, 'src'), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.ts'));
  return Promise.all(
    files.map(async (entry) => {
      const path = relative(ROOT, join(entry.parentPath, entry.name));
      const source = await readFile(join(ROOT, path), 'utf8');
      const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');
      const parts = path.split('/');
      const room = parts.length > 2 ? (parts[1] ?? '') : entry.name.replace(/\.ts$/, '');
      return { path, room, source, code, imports: importsOf(path, code) };
    }),
  );
}

function importsOf(path: string, code: string): readonly Import[] {
  const target = (name: string) => (name.startsWith('.') ? relative(ROOT, resolve(ROOT, dirname(path), name)) : name);
  const fixed = [...code.matchAll(/^(?:import|export)\s+(type\s)?(?:[^;'"]*?\sfrom\s+)?'([^']+)'/gm)].map((match) => ({
    of: target(match[2] ?? ''),
    types: match[1] !== undefined,
    dynamic: false,
  }));
  const onUse = [...code.matchAll(/(typeof\s+)?\bimport\('([^']+)'\)(\.\w)?/g)].map((match) => ({
    of: target(match[2] ?? ''),
    types: match[1] !== undefined,
    dynamic: true,
  }));
  return [...fixed, ...onUse];
}

async function readRooms<T>(prefix: string): Promise<readonly T[]> {
  const rooms = modules.filter(({ path }) => path.startsWith(prefix));
  return Promise.all(
    rooms.map(async ({ path }) => ((await import(pathToFileURL(join(ROOT, path)).href)) as { default: T }).default),
  );
}

/** Fails with every finding at once, and with what the rule is for. */
function keep(findings: readonly string[], rule: string): void {
  expect(findings, `${rule}\n  ${findings.join('\n  ')}\n`).toEqual([]);
}

/** The keys that stand out of order, or that the order does not know. */
function disorder(room: object, order: readonly string[]): string | undefined {
  const keys = Object.keys(room);
  const unknown = keys.find((key) => !order.includes(key));
  if (unknown !== undefined) return `has '${unknown}', which the contract does not know`;
  const sorted = order.filter((key) => keys.includes(key));
  const wrong = keys.findIndex((key, n) => key !== sorted[n]);
  return wrong < 0 ? undefined : `has '${keys[wrong]}' where '${sorted[wrong]}' is expected`;
}

function resourcesOf(collector: Collector) {
  return Object.entries(collector.resources).map(([name, resource]) => ({
    where: `src_${collector.name}.ts, ${name}`,
    name,
    resource,
  }));
}

/** The files that a scan picks up, and what they export. */
const DEFINES: readonly (readonly [RegExp, string])[] = [
  [/^src\/collectors\/src_[a-z0-9_]+\.ts$/, 'defineCollector'],
  [/^src\/stores\/store_[a-z0-9_]+\.ts$/, 'defineStore'],
  [/^src\/simulator\/vendor_[a-z0-9_]+\.ts$/, 'defineVendor'],
];

describe('rooms', () => {
  it('there are some', () => {
    expect(collectors.length).toBeGreaterThan(0);
    expect(stores.length).toBeGreaterThan(0);
  });

  it('are named as their files', () => {
    const found = modules.flatMap(({ path }) => /\/((?:src|store)_[a-z0-9_]+)\.ts$/.exec(path)?.[1] ?? []);
    const names = [...collectors.map(({ name }) => `src_${name}`), ...stores.map(({ name }) => `store_${name}`)];
    keep(
      found.filter((file) => !names.includes(file)).map((file) => `${file}.ts says another name`),
      'A room is found by its file name: src_<name>.ts and store_<name>.ts say the same `name`.',
    );
  });

  it('export one define...() by default, and nothing else does', () => {
    const count = ({ code }: Module) => [...code.matchAll(/^export default\b|\bas default\b/gm)].length;
    const wrong = modules.flatMap((module) => {
      const define = DEFINES.find(([path]) => path.test(module.path))?.[1];
      if (define === undefined) return count(module) === 0 ? [] : [`${module.path} has a default export`];
      const good = count(module) === 1 && new RegExp(`^export default ${define}\\(`, 'm').test(module.code);
      return good ? [] : [`${module.path} does not say: export default ${define}({ ... })`];
    });
    keep(wrong, 'The scan takes the default export of a room for the room; elsewhere names are clearer.');
  });

  it('have their keys in one order', () => {
    const forCollectors = ['name', 'title', 'docs', 'env', 'aliases', 'http', 'errors', 'resources'];
    const forStores = ['name', 'title', 'docs', 'env', 'aliases', 'example', 'packages', 'targets', 'open'];
    const wrong = [
      ...collectors.map((room) => ({ file: `src_${room.name}.ts`, why: disorder(room, forCollectors) })),
      ...stores.map((room) => ({ file: `store_${room.name}.ts`, why: disorder(room, forStores) })),
    ].filter(({ why }) => why !== undefined);
    keep(
      wrong.map(({ file, why }) => `${file} ${why}`),
      `Whoever knows one room finds their way in all. Collectors: ${forCollectors}. Stores: ${forStores}.`,
    );
  });

  it('have a title and a link to the vendor’s documentation', () => {
    const wrong = [...collectors, ...stores].filter(
      ({ title, docs }) => title.trim() === '' || !URL.canParse(docs) || !docs.startsWith('https://'),
    );
    keep(
      wrong.map(({ name }) => name),
      '`title` is the product’s name, `docs` an https:// link to what the room was written from.',
    );
  });

  it('every collector has a test of its name', async () => {
    const tests = await readdir(join(ROOT, 'test/collectors'));
    keep(
      collectors.filter(({ name }) => !tests.includes(`${name}.test.ts`)).map(({ name }) => name),
      'Write test/collectors/<name>.test.ts: what is particular about the vendor, against the simulator.',
    );
  });
});

describe('resources', () => {
  it('are in snake_case, and their tags are good names for files and tables, each once', () => {
    const all = collectors.flatMap((collector) =>
      resourcesOf(collector).map(({ where, name }) => ({ where, name, tag: tagOf(collector.name, name) })),
    );
    const tags = all.map(({ tag }) => tag);
    keep(
      all
        .filter(({ name, tag }, n) => {
          const good = /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(name) && /^[a-z][a-z0-9_]{0,62}$/.test(tag);
          return !good || tags.indexOf(tag) !== n;
        })
        .map(({ where, tag }) => `${where}: ${tag}`),
      'The tag <collector>_<resource> is the same word in file, table, key, log and docs: a-z, 0-9, _, at most 63.',
    );
  });

  it('say in one clause what their records are', () => {
    const wrong = collectors
      .flatMap(resourcesOf)
      .filter(({ resource: { about } }) => !/^[A-Z0-9][^\n]*[^.\s]$/.test(about));
    keep(
      wrong.map(({ where, resource: { about } }) => `${where}: '${about}'`),
      'about: one clause that begins with a capital and ends without a full stop; list, explain and docs print it.',
    );
  });

  it('name the least permission that reads them, where the collector has credentials', () => {
    const wrong = collectors
      .filter(({ env }) => Object.values(env).some((type) => factsOf(type).secret && isRequired(type)))
      .flatMap(resourcesOf)
      .filter(({ resource: { needs = '' } }) => needs.trim() === '');
    keep(
      wrong.map(({ where }) => where),
      'needs: whoever makes the credentials wants to give as little as possible, and a 403 names what is missing.',
    );
  });

  it('have parents that are there', () => {
    const wrong = collectors.flatMap((collector) =>
      resourcesOf(collector).filter(({ name, resource }) => {
        const parent = parentOf(resource);
        return parent !== undefined && (parent === name || !(parent in collector.resources));
      }),
    );
    keep(
      wrong.map(({ where, resource }) => `${where}: each: '${parentOf(resource)}'`),
      '`each` names another resource of the same collector.',
    );
  });

  it('mark what they add to a vendor’s record', () => {
    const wrong = collectors.flatMap(resourcesOf).flatMap(({ where, resource }) => {
      const added = { ...('keep' in resource ? resource.keep : {}), ...('adds' in resource ? resource.adds : {}) };
      return Object.keys(added)
        .filter((field) => !/^_[a-z][a-z0-9_]*$/.test(field))
        .map((field) => `${where}: ${field}`);
    });
    keep(wrong, 'A field of ours starts with _ and is in snake_case, so that nobody takes it for the vendor’s.');
  });
});

describe('variables', () => {
  it('have a sentence, and names in capitals', () => {
    const wrong = units.flatMap(({ name, env }) =>
      Object.entries(env)
        .filter(([variable, type]) => {
          const { about } = factsOf(type); // throws where neither setting() nor secret() was used
          return !/^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$/.test(variable) || !/^\S[^\n]*[^.\s]$/.test(about);
        })
        .map(([variable, type]) => `${name}: ${variable}: '${factsOf(type).about}'`),
    );
    keep(
      wrong,
      'A variable is declared by setting() or secret() with what to set it to, on one line without full stop.',
    );
  });

  it('belong to one unit, or are declared once for all in src/config', () => {
    const shared = new Map<string, z.ZodType>(
      [awsShape, astraShape, programShape].flatMap((shape) => Object.entries<z.ZodType>(shape)),
    );
    const all = units.flatMap(({ name, env }) =>
      Object.entries(env).map(([variable, type]) => ({ name, variable, type })),
    );
    const owners = new Map(all.map(({ variable }) => [variable, all.filter((one) => one.variable === variable)]));
    const wrong = [...owners].filter(
      ([variable, owning]) => owning.length > 1 && owning.some(({ type }) => type !== shared.get(variable)),
    );
    keep(
      wrong.map(([variable, owning]) => `${variable}: ${owning.map(({ name }) => name).join(', ')}`),
      'Two units that read one variable would explain it twice; what they share is declared in src/config.',
    );
  });

  it('have aliases that lead to them, and to nothing else', () => {
    const names = new Set(units.flatMap(({ env }) => Object.keys(env)));
    const targets = new Map<string, string>();
    const wrong = units.flatMap(({ name, env, aliases }) =>
      Object.entries(aliases)
        .filter(([alias, target]) => {
          const other = targets.get(alias);
          targets.set(alias, target);
          return names.has(alias) || !(target in env) || (other !== undefined && other !== target);
        })
        .map(([alias, target]) => `${name}: ${alias} -> ${target}`),
    );
    keep(wrong, 'An alias is another name of a variable of the same unit; it is no variable itself.');
  });

  it('leave NAME_FILE free, which names a file with the value of NAME', () => {
    const names = new Set(units.flatMap(({ env, aliases }) => [...Object.keys(env), ...Object.keys(aliases)]));
    keep(
      [...names].filter((name) => names.has(`${name}_FILE`)),
      'A variable called <another>_FILE would be read as the file that holds the other one.',
    );
  });

  it('that hold a secret are declared by secret()', () => {
    const named = /(TOKEN|SECRET|PASSWORD|PASSPHRASE|API_KEY|SECRET_KEY|PRIVATE_KEY|WEBHOOK_URL)$/;
    const wrong = units.flatMap(({ name, env }) =>
      Object.entries(env)
        .filter(([variable, type]) => named.test(variable) && !factsOf(type).secret)
        .map(([variable]) => `${name}: ${variable}`),
    );
    keep(wrong, 'Only what is declared by secret() is taken out of logs, errors and docs.');
  });
});

/** What each room of src may import. Everyone may import errors.ts, json.ts and itself. */
const MAY: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  json: [],
  version: [],
  config: [],
  templating: [],
  envelope: [],
  http: ['config', 'envelope'],
  collectors: ['config', 'http', 'envelope'],
  stores: ['config', 'envelope', 'templating', 'http'],
  simulator: [],
  detect: ['config', 'envelope', 'http', 'templating', 'collectors', 'stores'],
  report: ['config'],
  run: ['config', 'templating', 'envelope', 'http', 'collectors', 'stores', 'detect', 'report'],
  fleet: ['config', 'http', 'report', 'run'],
  scaffold: ['config'],
  commands: [
    'fleet',
    'scaffold',
    'config',
    'templating',
    'envelope',
    'http',
    'collectors',
    'stores',
    'detect',
    'report',
    'run',
    'simulator',
    'version',
  ],
  cli: ['commands', 'config', 'version'],
};

/** Types that a room may know beyond that: the report shows what a run is made of. */
const MAY_KNOW: Readonly<Record<string, readonly string[]>> = {
  report: ['run', 'http', 'collectors', 'stores'],
  scaffold: ['collectors', 'stores'],
};

describe('imports', () => {
  it('go one way', () => {
    const wrong = modules.flatMap(({ path, room, imports }) =>
      imports
        .filter(({ of }) => of.startsWith('src/'))
        .filter(({ of, types }) => {
          const to = of.split('/').length > 2 ? (of.split('/')[1] ?? '') : of.slice('src/'.length, -'.ts'.length);
          const allowed = ['errors', 'json', room, ...(MAY[room] ?? []), ...(types ? (MAY_KNOW[room] ?? []) : [])];
          return !allowed.includes(to);
        })
        .map(({ of }) => `${path} -> ${of}`),
    );
    keep(
      wrong,
      'Data goes one way and imports with it: collectors -> http, stores -> envelope, templating and http, run -> all of them, only fleet and commands -> run. A store never sees a collector, a collector never sees a store.',
    );
  });

  it('every folder of src is a known room', () => {
    const rooms = [...new Set(modules.map(({ room }) => room))];
    keep(
      rooms.filter((room) => MAY[room] === undefined),
      'A new room says in this test what it may import, and in docs/architecture.md what is in it.',
    );
  });

  it('have no cycles', () => {
    const edges = new Map(
      modules.map(({ path, imports }) => [
        path,
        imports.filter(({ of, types, dynamic }) => of.startsWith('src/') && !types && !dynamic).map(({ of }) => of),
      ]),
    );
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) {
        cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
        return;
      }
      if (done.has(path)) return;
      for (const next of edges.get(path) ?? []) visit(next, [...trail, path]);
      done.add(path);
    };
    for (const path of edges.keys()) visit(path, []);
    keep(cycles, 'Modules that need each other are one module, or share a third. Types may go in a circle.');
  });

  it('of collectors are the contract, the family, config, http, encodings, json, errors and Node', () => {
    const allowed =
      /^(src\/collectors\/(collector|_[a-z0-9_]+)\.ts|src\/(config|http)\/[a-z]+\.ts|src\/envelope\/encoding\.ts|src\/(json|errors)\.ts|node:.+)$/;
    const sdk = /^(@aws-sdk\/|(@azure\/msal-node|yaml|zod|re2js)$)/; // a vendor's own, or what reads rules of the user's, on use
    const wrong = modules
      .filter(({ room }) => room === 'collectors')
      .flatMap(({ path, imports }) =>
        imports
          .filter(({ of, dynamic, types }) => !allowed.test(of) && !(sdk.test(of) && (dynamic || types)))
          .map(({ of }) => `${path} -> ${of}`),
      );
    keep(
      wrong,
      'What a collector needs of the house comes through these; a vendor’s SDK only with a reason, imported on use.',
    );
  });

  it('of heavy packages happen on use', () => {
    const light = /^(node:.*|undici|zod|dotenv|chalk|commander|p-limit|saxes)$/;
    const wrong = modules.flatMap(({ path, imports }) =>
      imports
        .filter(({ of, types, dynamic }) => !of.startsWith('src/') && !light.test(of) && !types && !dynamic)
        .map(({ of }) => `${path} -> ${of}`),
    );
    keep(wrong, 'Databases’ and clouds’ clients cost more to load than Node itself: await import(...) inside open().');
  });

  it('pass through no barrel', () => {
    const wrong = modules.filter(
      ({ path, code }) => /(^|\/)index\.ts$/.test(path) || /^export\s.*\sfrom\s/m.test(code),
    );
    keep(
      wrong.map(({ path }) => path),
      'Import a thing from where it is written.',
    );
  });

  it('name the file with its ending', () => {
    const wrong = modules.flatMap(({ path, code }) =>
      [...code.matchAll(/from '(\.[^']*)'/g)]
        .filter(([, of]) => !of?.endsWith('.ts'))
        .map(([, of]) => `${path}: ${of}`),
    );
    keep(wrong, 'Node runs the sources as they are: ./file.ts.');
  });
});

describe('sources', () => {
  function saying(pattern: RegExp, except: RegExp): readonly string[] {
    return modules.filter(({ path, code }) => !except.test(path) && pattern.test(code)).map(({ path }) => path);
  }

  it('talk through the log alone', () => {
    keep(saying(/\bconsole\s*\./, /^$/), 'console knows no redaction and no --output json: take a log or a warn().');
    keep(
      saying(/\bprocess\s*\.\s*(stdout|stderr)\b/, /^src\/commands\//),
      'stdout is data and stderr is talk: only the commands decide which is which.',
    );
  });

  it('read the environment in src/config alone', () => {
    keep(
      saying(/\bprocess\s*\.\s*env\b|\benv\b[^;]*from 'node:process'/, /^src\/config\//),
      'A variable read elsewhere has no sentence, no type, no _FILE and no redaction: declare it with setting().',
    );
  });

  it('end the process in the executable alone', () => {
    keep(
      saying(/\bprocess\s*\.\s*exit\s*\(/, /^src\/commands\//),
      'process.exit() cuts writes short: return an exit code.',
    );
  });

  it('of collectors neither sleep nor send by themselves', () => {
    const own = /\b(setTimeout|setInterval)\b|node:timers|\bfetch\s*\(|from '(undici|node:https?)'/;
    keep(
      // What a domain's web server answers is itself the data: its faults are facts, on whatever host it leads to.
      saying(own, /^src\/(?!collectors\/)|^src\/collectors\/_domains_web\.ts$/),
      'Retry, pace and waits are the kit’s: context.http asks, context.sleep() waits for an export.',
    );
  });

  it('say what each exported thing is', () => {
    const wrong = modules.flatMap(({ path, source }) => {
      const lines = source.split('\n');
      return lines.flatMap((line, n) => {
        const name = /^export (?:async )?(?:function\*?|const|class|interface|type) (\w+)/.exec(line)?.[1];
        const before = lines[n - 1] ?? '';
        const overload = new RegExp(`^export function ${name}\\b`).test(before);
        return name === undefined || before.endsWith('*/') || overload ? [] : [`${path}:${n + 1} ${name}`];
      });
    });
    keep(wrong, 'One doc sentence on each exported thing: /** ... */ on the line above.');
  });

  it('have no suppressed rules without a reason', () => {
    const wrong = modules.filter(({ source }) =>
      /@ts-(ignore|nocheck|expect-error)|biome-ignore [^:\n]*:?\s*$/m.test(source),
    );
    keep(
      wrong.map(({ path }) => path),
      'A rule that does not fit is answered with a reason behind the colon.',
    );
  });
});

describe('folders', () => {
  it('are named by what is in them', async () => {
    const banned = new Set(['utils', 'util', 'helpers', 'helper', 'common', 'lib', 'core', 'types', 'misc', 'shared']);
    const found: string[] = [];
    for (const top of ['src', 'test', 'docs', 'bin']) {
      for (const entry of await readdir(join(ROOT, top), { recursive: true, withFileTypes: true })) {
        const word = entry.name.replace(/(\.test)?\.[a-z]+$/, '');
        if (banned.has(word)) found.push(relative(ROOT, join(entry.parentPath, entry.name)));
      }
    }
    keep(
      found,
      'A name such as utils or common says nothing, so everything ends up there: put it with its first user.',
    );
  });

  it('hold only files that have a place there', () => {
    const places: Readonly<Record<string, RegExp>> = {
      collectors: /^(collector|src_[a-z0-9_]+|_[a-z0-9_]+)\.ts$/,
      stores: /^(store|store_[a-z0-9_]+|_[a-z0-9_]+)\.ts$/,
    };
    const wrong = modules.filter(({ path, room }) => {
      const place = places[room];
      return place !== undefined && path.split('/').length > 2 && !place.test(path.split('/').slice(2).join('/'));
    });
    keep(
      wrong.map(({ path }) => path),
      'A room is src_<vendor>.ts or store_<name>.ts; what several share is _<family>.ts, which no scan picks up.',
    );
  });
});
