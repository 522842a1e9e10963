import { join, relative } from 'node:path';
import { flush, hostOf, importsOf, pageOf, type Room, type RoomPlan, testHead, titleOf } from './room.ts';

/** A store and its test. */
export function newStore(plan: RoomPlan): Room {
  return plan.house ? inHouse(plan) : outside(plan);
}

function inHouse(plan: RoomPlan): Room {
  const { name, folder } = plan;
  const [room, test] = [`src/stores/store_${name}.ts`, `test/stores/${name}.test.ts`];
  return {
    files: [
      { path: join(folder, room), text: roomText(plan) },
      { path: join(folder, test), text: houseTest(plan) },
    ],
    next: [
      `write put() in ${room} for your destination; docs/writing-a-store.md says what a store promises`,
      `npm run build && npx vitest run ${test} test/house.test.ts`,
      'npx cyber-collect docs writes its page, npm run check must pass',
    ],
  };
}

function outside(plan: RoomPlan): Room {
  const { name, folder, language } = plan;
  const variable = `STORE_${name.toUpperCase()}`;
  const here = `./${relative(process.cwd(), folder)}`;
  const page = pageOf(plan, [
    `A store of our own for [cyber-collect](https://github.com/OWNER/cyber-collect): \`store_${name}.${language}\`.`,
    `It is switched on by \`${variable}\`, and found where \`STORES_PATH\` names its folder:`,
    `\`\`\`bash\nexport STORES_PATH=${here} ${variable}=./data/%TAG/%UUID.ndjson\nnpx cyber-collect doctor\nnpx cyber-collect run\n\`\`\``,
    `\`node --test ${here}/${name}.test.mjs\` stores records that it makes up.`,
  ]);
  return {
    files: [
      { path: join(folder, `store_${name}.${language}`), text: roomText(plan) },
      { path: join(folder, `${name}.test.mjs`), text: outsideTest(plan) },
      page,
    ],
    next: [
      'npm install cyber-collect, if this folder has none: the test and the types need it',
      `write put() in store_${name}.${language} for your destination`,
      `node --test ${here}/${name}.test.mjs`,
      `STORES_PATH=${here} ${variable}=./data/%TAG/%UUID.ndjson npx cyber-collect run --dry-run`,
    ],
  };
}

const NODE = flush(`
  |import { createWriteStream } from 'node:fs';
  |import { mkdir, rename, rm } from 'node:fs/promises';
  |import { dirname, resolve } from 'node:path';
  |import { pipeline } from 'node:stream/promises';
  |`);

function roomText(plan: RoomPlan): string {
  const { name } = plan;
  const variable = `STORE_${name.toUpperCase()}`;
  const example = './data/%TAG/%UUID.ndjson';
  const typed = (type: string) => (plan.language === 'ts' ? type : '');
  const own = importsOf(plan, {
    setting: ['setting'],
    'envelope/spool': ['spoolChunks'],
    errors: ['CollectError'],
    template: ['parseTemplate', 'type TemplateValues'],
    store: ['type Dataset', 'defineStore', 'type Kind', 'namesOf'],
  });
  return flush(`
    |${NODE}${own}
    |export default defineStore({
    |  name: '${name}',
    |  title: '${titleOf(name)}',
    |  docs: 'https://${hostOf(name)}.example/docs',
    |  env: {
    |    ${variable}: setting('Path template, such as ${example}'),
    |  },
    |  example: { ${variable}: '${example}' },
    |  targets: (settings, kind, names) => [placeOf(settings.${variable}, kind, names)],
    |  open: async (settings, context) => ({
    |    async write(dataset) {
    |      const place = placeOf(settings.${variable}, dataset.kind, namesOf(dataset, context));
    |      await put(place, dataset);
    |      return { at: place, records: dataset.metadata.records };
    |    },
    |  }),
    |});
    |
    |${worksText(typed)}`);
}

function worksText(typed: (type: string) => string): string {
  return flush(`
    |function placeOf(source${typed(': string')}, kind${typed(': Kind')}, names${typed(': TemplateValues')})${typed(': string')} {
    |  const template = parseTemplate(source);
    |  if (kind === 'snapshot' || template.perRun) return resolve(template.render(names));
    |  throw new CollectError('config', \`'\${source}' is one place for every run, which would overwrite events\`, {
    |    mend: 'add %UUID',
    |  });
    |}
    |
    |/** Writes beside the place and renames, so that a reader sees the old dataset whole, or the new one. */
    |async function put(place${typed(': string')}, dataset${typed(': Dataset')})${typed(': Promise<void>')} {
    |  const temporary = \`\${place}.\${dataset.metadata.upload_id}.tmp\`;
    |  try {
    |    await mkdir(dirname(place), { recursive: true });
    |    await pipeline(spoolChunks(dataset.spool), createWriteStream(temporary, { mode: 0o600 }));
    |    await dataset.confirm(); // throws where this run has lost its lock meanwhile
    |    await rename(temporary, place);
    |  } catch (cause) {
    |    await rm(temporary, { force: true });
    |    if (cause instanceof CollectError) throw cause;
    |    throw new CollectError('store', \`\${place} cannot be written\`, { mend: 'check the path and its disk', cause });
    |  }
    |}
    |`);
}

function houseTest({ name }: RoomPlan): string {
  const variable = `STORE_${name.toUpperCase()}`;
  return flush(`
    |import { mkdtemp, readFile, rm } from 'node:fs/promises';
    |import { tmpdir } from 'node:os';
    |import { join } from 'node:path';
    |import { afterAll } from 'vitest';
    |import store from '../../src/stores/store_${name}.ts';
    |import { storeSuite } from './suite.ts';
    |
    |const folders: string[] = [];
    |
    |async function setUp() {
    |  const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-${hostOf(name)}-'));
    |  folders.push(folder);
    |  const settings = { ${variable}: join(folder, '%TAG.ndjson') };
    |  return {
    |    open: (warnings: string[]) =>
    |      store.open(settings, { tenancy: 'acme', at: new Date(), warn: (message) => warnings.push(message) }),
    |    read: async (tag: string) => (await readFile(join(folder, \`\${tag}.ndjson\`), 'utf8')).split('\\n').slice(0, -1),
    |    exact: true,
    |    nul: 'kept',
    |    loneSurrogate: 'kept',
    |    secrets: [],
    |  } as const;
    |}
    |
    |afterAll(async () => {
    |  for (const folder of folders) await rm(folder, { recursive: true, force: true });
    |});
    |
    |storeSuite('${name}', setUp, {});
    |`);
}

const TEST_IMPORTS = flush(`
  |import assert from 'node:assert/strict';
  |import { execFile } from 'node:child_process';
  |import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
  |import { createRequire } from 'node:module';
  |import { tmpdir } from 'node:os';
  |import { dirname, join } from 'node:path';
  |import { test } from 'node:test';
  |`);

function outsideTest({ name }: RoomPlan): string {
  const variable = `STORE_${name.toUpperCase()}`;
  return flush(`
    |${testHead(TEST_IMPORTS)}
    |/** A collector of a list and of one that is empty. */
    |const PROBE = \`
    |import { defineCollector } from 'cyber-collect/collector';
    |import { setting } from 'cyber-collect/setting';
    |
    |export default defineCollector({
    |  name: 'probe',
    |  title: 'Probe',
    |  docs: 'https://probe.example',
    |  env: { PROBE: setting('Anything') },
    |  resources: {
    |    letters: { about: 'Letters', path: '/', id: 'id', collect: async function* () { yield [{ id: 1, text: 'Zoë' }, { id: 2, text: 'a\\\\\\\\nb' }]; } },
    |    nothing: { about: 'Nothing', path: '/', id: 'id', collect: async function* () {} },
    |  },
    |});
    |\`;
    |
    |test('what is collected is stored as it is', async (context) => {
    |  const folder = await mkdtemp(join(tmpdir(), '${hostOf(name)}-'));
    |  context.after(() => rm(folder, { recursive: true, force: true }));
    |  await writeFile(join(folder, 'src_probe.js'), PROBE);
    |  const env = {
    |    COLLECTORS_PATH: folder,
    |    STORES_PATH: import.meta.dirname,
    |    STORE_FILE: 'none',
    |    PROBE: 'on',
    |    ${variable}: join(folder, '%TAG', '%UUID.ndjson'),
    |  };
    |  const { code, stdout, stderr } = await cyberCollect(folder, env, 'run', '--output', 'json');
    |  assert.equal(code, 0, stderr);
    |  const places = JSON.parse(stdout).datasets.map(({ stores }) => stores[0].at);
    |  const texts = await Promise.all(places.map((place) => readFile(place, 'utf8')));
    |  assert.deepEqual(texts, ['{"id":1,"text":"Zoë"}\\n{"id":2,"text":"a\\\\\\\\nb"}\\n', '']);
    |});
    |`);
}
