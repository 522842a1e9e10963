// npm run rooms: writes docs/rooms.md, a line a collector and a store: how much code it takes, how it signs in and pages.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const source = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const linesOf = (text) => text.split('\n').filter((line) => line.trim() !== '').length;
const importsOf = (text, folder) =>
  [...text.matchAll(/from '\.\/(_[a-z_]+)\.ts'/g)].map(([, name]) => `src/${folder}/${name}.ts`);

const AUTHS = [
  [/@aws-sdk\//, 'AWS signatures, by the SDK'],
  [/_entra\.ts|clientCredentials/, 'OAuth 2 client credentials'],
  [/\bbearer\(/, 'token that is exchanged'],
  [/google\.ts|serviceAccount|JWT/, 'signed JWT'],
  [/\bsigned\(|hmac/i, 'signature of each request'],
  [/\bbasic\(/, 'basic'],
  [/staticHeaders\(/, 'header'],
];

/** Every file of a room, its own first, those that rooms share behind. */
function filesOf(path, folder) {
  const found = [path];
  for (const file of found) found.push(...importsOf(source(file), folder).filter((other) => !found.includes(other)));
  return found;
}

const users = new Map();
const rooms = (folder, prefix) =>
  readdirSync(new URL(`../../src/${folder}/`, import.meta.url))
    .filter((file) => file.startsWith(prefix))
    .map((file) => {
      const files = filesOf(`src/${folder}/${file}`, folder);
      for (const one of files) users.set(one, (users.get(one) ?? 0) + 1);
      return { name: file.slice(prefix.length, -3), files };
    });

const collectors = rooms('collectors', 'src_');
const stores = rooms('stores', 'store_');
const sum = (files) => files.reduce((lines, file) => lines + linesOf(source(file)), 0);
const own = ({ files }) => sum(files.slice(0, 1));
const beside = ({ files }) => sum(files.slice(1).filter((file) => users.get(file) === 1));
const shared = ({ files }) => sum(files.slice(1).filter((file) => users.get(file) > 1));

const dist = new URL('../../dist/', import.meta.url);
const rows = await Promise.all(
  collectors.map(async (room) => {
    const { default: collector } = await import(new URL(`collectors/src_${room.name}.js`, dist));
    const text = room.files.map(source).join('\n');
    const auth = AUTHS.find(([pattern]) => pattern.test(text))?.[1] ?? 'none';
    const resources = Object.values(collector.resources);
    const custom = resources.filter(({ collect }) => collect !== undefined).length;
    const words = [
      ...source(room.files[0]).matchAll(
        /\b(linkHeader|cursor|nextUrl|offset|pageNumber|paginator|exportJob|ids|batches|slicedPages|pages)\(/g,
      ),
    ];
    const paging = [...new Set(words.map(([, word]) => word))];
    if (custom > 0) paging.push(`own (${custom} of ${resources.length})`);
    return [
      collector.title,
      own(room),
      beside(room),
      shared(room),
      resources.length,
      auth,
      paging.join(', ') || 'none',
    ];
  }),
);
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const storeRows = stores.map((room) => [room.name, own(room), beside(room), shared(room)]);
const table = (heads, lines) =>
  [
    `| ${heads.join(' | ')} |`,
    `|${heads.map(() => '---|').join('')}`,
    ...lines.map((line) => `| ${line.join(' | ')} |`),
  ].join('\n');
writeFileSync(
  new URL('../../docs/rooms.md', import.meta.url),
  `<!-- Written by \`npm run rooms\`. Do not edit. -->

# What a room takes

Lines that are not empty: of the room, of files beside it that are its alone, and of files that several rooms share. The median collector has ${median(rows.map(([, lines]) => lines))} lines, the longest ${Math.max(...rows.map(([, lines]) => lines))}.

## Collectors

${table(['Product', 'Room', 'Beside it', 'Shared', 'Resources', 'Signs in by', 'Paging'], rows)}

## Stores

${table(['Store', 'Room', 'Beside it', 'Shared'], storeRows)}
`,
);
