import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { type Collector, tagOf } from '../collectors/collector.ts';
import { detectShape } from '../config/detect.ts';
import { programShape } from '../config/program.ts';
import { defaultOf, factsOf, isRequired, type Shape } from '../config/setting.ts';
import { configSchema } from '../report/config_schema.ts';
import { events } from '../report/events.ts';
import { schemas } from '../report/schemas.ts';
import { table } from '../report/tables.ts';
import { discoverCollectors, discoverStores } from '../run/discover.ts';
import type { Store } from '../stores/store.ts';
import { manualPage } from './_manual.ts';
import { resourceFacts } from './explain.ts';

/** Flags of `docs`. */
export interface DocsFlags {
  readonly check?: boolean;
}

const GENERATED = '<!-- Written by `cyber-collect docs`. Do not edit. -->';

/** Writes the generated pages, or says which are out of date; returns the exit code. */
export async function docs(flags: DocsFlags, program: Command): Promise<number> {
  const stale: string[] = [];
  for (const [path, content] of await pages(program)) {
    const old = await readFile(path, 'utf8').catch(() => undefined);
    if (old === content) continue;
    stale.push(path);
    if (flags.check === true) continue;
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  }
  const what = flags.check === true ? 'out of date (run `npx cyber-collect docs`)' : 'written';
  for (const path of stale) process.stdout.write(`${path}: ${what}\n`);
  return flags.check === true && stale.length > 0 ? 1 : 0;
}

/** Every generated file: path -> content. */
async function pages(program: Command): Promise<ReadonlyMap<string, string>> {
  const [collectors, stores] = await Promise.all([discoverCollectors(), discoverStores()]);
  return new Map([
    ['.env.example', envExample(collectors, stores)],
    ['docs/collectors.md', collectorIndex(collectors)],
    ['docs/stores.md', storeIndex(stores)],
    [
      'docs/settings.md',
      `${GENERATED}\n\n# Settings of the program\n\n${variables(programShape)}\n\n## Of detect\n\n${variables(detectShape)}\n`,
    ],
    ['docs/events.md', eventsPage()],
    ['man/cyber-collect.1', manualPage(program)],
    ...Object.entries(schemas).map(([name, schema]): [string, string] => [
      `docs/schemas/${name}.json`,
      schemaPage(schema),
    ]),
    ['docs/schemas/config.json', `${JSON.stringify(configSchema(collectors, stores), null, 2)}\n`],
    ...collectors.map((collector): [string, string] => [
      `docs/collectors/${collector.name}.md`,
      collectorPage(collector),
    ]),
    ...stores.map((store): [string, string] => [`docs/stores/${store.name}.md`, storePage(store)]),
  ]);
}

function eventsPage(): string {
  const rows = Object.entries(events).map(([name, about]) => [`\`${name}\``, about]);
  const intro =
    'What `--log-format json` says on stderr: an object a line with `at`, `severity`, `event` and `message`.';
  return `${GENERATED}\n\n# Events of the log\n\n${intro}\n\n${table(['Event', 'Said when'], rows, 'markdown')}\n`;
}

function schemaPage(schema: z.ZodType): string {
  return `${JSON.stringify(z.toJSONSchema(schema), null, 2)}\n`;
}

function envExample(collectors: readonly Collector[], stores: readonly Store[]): string {
  const part = (title: string, shape: Shape) => [
    '',
    `# --- ${title}`,
    ...Object.entries(shape).flatMap(([name, type]) => [
      `# ${factsOf(type).about}${isRequired(type) ? ' (required)' : ''}`,
      `#${name}=${exampleOf(name, type)}`,
    ]),
  ];
  return [
    '# Every variable cyber-collect knows. Copy to .env and uncomment what you use; values stand without quotes.',
    '# NAME_FILE=/path reads the value of NAME from a file.',
    '',
    'STORE_FILE=./data/%TAG/%TENANCY.json',
    ...part('The program', programShape),
    ...part('detect', detectShape),
    ...stores.flatMap((store) => part(`Store: ${store.title}`, store.env)),
    ...collectors.flatMap((collector) => part(`Collector: ${collector.title}`, collector.env)),
    '',
  ].join('\n');
}

function exampleOf(name: string, type: Shape[string]): string {
  return name === 'STORE_FILE' ? './data/%TAG/%TENANCY.json' : (defaultOf(type) ?? '');
}

function variables(shape: Shape, aliases: Readonly<Record<string, string>> = {}): string {
  const rows = Object.entries(shape).map(([name, type]) => {
    const others = Object.keys(aliases).filter((alias) => aliases[alias] === name);
    const { about, secret } = factsOf(type);
    const fallback = defaultOf(type);
    return [
      `\`${name}\``,
      isRequired(type) ? 'yes' : 'no',
      `${about}${secret ? ' (secret)' : ''}`,
      fallback === undefined || fallback === '' ? '' : `\`${fallback}\``,
      others.map((other) => `\`${other}\``).join(' '),
    ];
  });
  return table(['Variable', 'Required', 'Meaning', 'Default', 'Also'], rows, 'markdown');
}

function collectorIndex(collectors: readonly Collector[]): string {
  const rows = collectors.map((collector) => [
    `[${collector.title}](collectors/${collector.name}.md)`,
    `\`${collector.name}\``,
    Object.keys(collector.env)
      .filter((name) => isRequired(collector.env[name] as Shape[string]))
      .map((name) => `\`${name}\``)
      .join(' '),
    Object.keys(collector.resources).join(', '),
  ]);
  return `${GENERATED}\n\n# Collectors\n\n${table(['Product', 'Name', 'Required variables', 'Resources'], rows, 'markdown')}\n`;
}

function collectorPage(collector: Collector): string {
  const rows = Object.entries(collector.resources).map(([resource, definition]) => {
    const facts = resourceFacts(collector, definition);
    return [
      `\`${tagOf(collector.name, resource)}\``,
      facts.about,
      facts.kind,
      `\`${facts.endpoint}\``,
      facts.permission ?? '',
      facts.identity ?? '',
      facts.adds ?? '',
      facts.drops ?? '',
    ];
  });
  const headings = ['Dataset', 'Records', 'Kind', 'Endpoint', 'Least permission', 'Identity', 'Adds', 'Leaves out'];
  return [
    GENERATED,
    `# ${collector.title}`,
    `Run it alone with \`cyber-collect run --only ${collector.name}\`. The vendor's documentation: <${collector.docs}>.`,
    '## Variables',
    variables(collector.env, collector.aliases),
    '## Datasets',
    table(headings, rows, 'markdown'),
    '',
  ]
    .join('\n\n')
    .trimEnd()
    .concat('\n');
}

function storeIndex(stores: readonly Store[]): string {
  const rows = stores.map((store) => [
    `[${store.title}](stores/${store.name}.md)`,
    `\`${store.name}\``,
    switchedOnBy(store),
  ]);
  return `${GENERATED}\n\n# Stores\n\n${table(['Destination', 'Name', 'Switched on by'], rows, 'markdown')}\n`;
}

function switchedOnBy(store: Store): string {
  const required = Object.keys(store.env).filter((name) => isRequired(store.env[name] as Shape[string]));
  return required.map((name) => `\`${name}\``).join(' ');
}

function storePage(store: Store): string {
  const first = Object.keys(store.env)[0] ?? '';
  const example = store.example ?? { [first]: '' };
  const on = switchedOnBy(store);
  const lines = Object.entries(example).map(([name, value]) => `export ${name}='${value}'`);
  return [
    GENERATED,
    `# ${store.title}`,
    `${on === '' ? 'Always on' : `Switched on by ${on}`}. Documentation of the destination: <${store.docs}>.`,
    '## Variables',
    variables(store.env, store.aliases),
    '## Example',
    `\`\`\`bash\n${lines.join('\n')}\nnpx cyber-collect doctor\nnpx cyber-collect run\n\`\`\``,
  ]
    .join('\n\n')
    .concat('\n');
}
