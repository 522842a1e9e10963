import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { defineConfig } from '../../src/config/define.ts';
import { type Declared, fileShape, mainOf, programKeys, type RoomKind, roomKeys } from '../../src/config/keys.ts';
import { programShape } from '../../src/config/program.ts';
import { configSchema, type Typed } from '../../src/report/config_schema.ts';
import { discoverCollectors, discoverStores } from '../../src/run/discover.ts';
import { root } from '../support/build.ts';
import { program } from '../support/program.ts';
import { temporaryFolder } from '../support/run.ts';

let rooms: Readonly<Record<RoomKind, readonly Typed[]>>;
let accepts: (config: unknown) => boolean;

beforeAll(async () => {
  const [collectors, stores] = await Promise.all([discoverCollectors(), discoverStores()]);
  rooms = { collectors: collectors as readonly Typed[], stores: stores as readonly Typed[] };
  const validate = new Ajv2020({ allowUnionTypes: true }).compile(configSchema(rooms.collectors, rooms.stores));
  accepts = (config) => validate(config);
});

async function examples(kind: string): Promise<readonly string[]> {
  const page = await readFile(join(root, 'docs', 'configuration.md'), 'utf8');
  return [...page.matchAll(new RegExp(`^\`\`\`${kind}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, text = '']) => text);
}

test('the examples of the page are what the schema and the program accept', async () => {
  const [yaml, json] = [await examples('yaml'), await examples('json')];
  expect([yaml.length, json.length]).toEqual([1, 1]);
  for (const text of [...yaml, ...json]) expect(accepts(parse(text)), text).toBe(true);
  for (const [end, [text = '']] of [['yaml', yaml] as const, ['json', json] as const]) {
    const folder = await temporaryFolder();
    await writeFile(join(folder, `cyber-collect.config.${end}`), text, { mode: 0o600 });
    const { code, stdout, stderr } = await program(folder, ['list', '-o', 'json']).ended;
    expect(code, stderr).toBe(0);
    const { collectors } = JSON.parse(stdout) as { collectors: readonly { name: string; state: string }[] };
    // Its token comes from a variable that is not set here.
    expect(collectors.find(({ name }) => name === 'okta')).toMatchObject({ state: 'half set' });
  }
});

test.each<[unknown]>([
  [{ tenancyy: 'a' }],
  [{ tenancy: ['a'] }],
  [{ run: { deadline: 'soon' } }],
  [{ run: { concurrency: 0 } }],
  [{ run: { only: { env: 'X' } } }],
  [{ program: { requests: 257 } }],
  [{ program: { config: 'x' } }],
  [{ collectors: { okta: { tokn: 'x' } } }],
  [{ collectors: { okta: 'x' } }],
  [{ collectors: { okta: { token: { env: 'X', file: 'y' } } } }],
  [{ collectors: { okta: { token: { env: '' } } } }],
  [{ collectors: { okta: { concurrency: true } } }],
  [{ collectors: { domains: ['a,b'] } }],
  [{ stores: { duckdb: { mode: 'delete' } } }],
  [{ stores: { s3: { ACCESS: 1 } } }],
  [{ notify: { emailTo: [['a']] } }],
  [[]],
])('the schema and the program refuse %j', async (config) => {
  expect(accepts(config)).toBe(false);
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'cyber-collect.config.json'), JSON.stringify(config), { mode: 0o600 });
  expect((await program(folder, ['list']).ended).code).toBe(2);
});

test('every variable has one key in its section, and each key leads to it', () => {
  const withoutPlace: string[] = [];
  for (const kind of ['collectors', 'stores'] as const) {
    for (const room of rooms[kind] as readonly Declared[]) {
      const keys = roomKeys(kind, room);
      const variables = Object.keys(room.env).filter((name) => !Object.hasOwn(programShape, name));
      expect([...keys.values()].sort(), room.name).toEqual(variables.sort());
      for (const key of keys.keys()) expect(key, room.name).toMatch(/^[a-z][A-Za-z0-9]*$/);
      withoutPlace.push(...variables.filter((name) => name === mainOf(kind, room)));
    }
  }
  expect(withoutPlace.sort()).toEqual(['DOMAINS', 'STORE_DUCKDB', 'STORE_FILE']);
  const own = [...programKeys().values()].flatMap((keys) => [...keys.values()]);
  expect(own.sort()).toEqual(Object.keys(fileShape).sort());
});

test('names are those of the page', () => {
  const room = (kind: RoomKind, name: string) => rooms[kind].find((one) => one.name === name) as Typed;
  const keyed = (kind: RoomKind, name: string) => Object.fromEntries(roomKeys(kind, room(kind, name)));
  expect(keyed('collectors', 'okta')).toMatchObject({ domain: 'OKTA_DOMAIN', token: 'OKTA_TOKEN' });
  expect(keyed('collectors', 'crowdstrike')).toMatchObject({ clientId: 'FALCON_CLIENT_ID', secret: 'FALCON_SECRET' });
  expect(keyed('collectors', 'azure_entra')).toMatchObject({ tenantId: 'AZURE_TENANT_ID' });
  expect(keyed('collectors', 'cve_db')).toMatchObject({ nvdApiKey: 'NVD_API_KEY', kevBaseUrl: 'KEV_BASE_URL' });
  expect(keyed('stores', 's3')).toMatchObject({ bucket: 'STORE_AWS_S3_BUCKET', awsRegion: 'AWS_REGION' });
  expect(keyed('stores', 'file')).toMatchObject({ file: 'STORE_FILE', layout: 'STORE_FILE_LAYOUT' });
});

test('a typed configuration has the keys of the schema', () => {
  const config = defineConfig({
    $schema: 'x',
    tenancy: { env: 'WHO' },
    run: { concurrency: 2, deadline: '6h', only: ['okta.*'], full: true, headroom: '10,okta=30', logFormat: 'json' },
    program: { state: 's', stateS3: 's3://b', maxRecordMib: 64, httpsProxy: 'http://p', collectorsPath: ['a', 'b'] },
    notify: { on: 'change', slackWebhookUrl: { file: 'f' }, emailTo: ['a@x.example'] },
    otel: { exporterOtlpEndpoint: 'https://c', sdkDisabled: false },
    vault: { addr: 'https://v' },
    collectors: { okta: { domain: 'd', token: null }, domains: ['a.example'] },
    stores: { file: 'none', duckdb: { duckdb: 'x.duckdb', mode: 'replace' } },
  });
  expect(accepts(config)).toBe(true);
  // @ts-expect-error: an unknown key
  expect(accepts(defineConfig({ program: { stat: 's' } }))).toBe(false);
});
