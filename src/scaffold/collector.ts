import { join, relative } from 'node:path';
import { flush, hostOf, importsOf, pageOf, type Room, type RoomPlan, testHead, titleOf } from './room.ts';

/** A collector, its test, and what the test reads from. */
export function newCollector(plan: RoomPlan): Room {
  return plan.house ? inHouse(plan) : outside(plan);
}

function inHouse(plan: RoomPlan): Room {
  const { name, folder } = plan;
  const [room, vendor, test] = [
    `src/collectors/src_${name}.ts`,
    `src/simulator/vendor_${name}.ts`,
    `test/collectors/${name}.test.ts`,
  ];
  return {
    files: [
      { path: join(folder, room), text: roomText(plan) },
      { path: join(folder, vendor), text: vendorText(plan) },
      { path: join(folder, test), text: houseTest(plan) },
    ],
    next: [
      `write ${room} and ${vendor} after the vendor's documentation; docs/writing-a-collector.md has every field`,
      `npm run build && npx vitest run ${test} test/house.test.ts`,
      'npx cyber-collect docs writes its page, npm run check must pass',
    ],
  };
}

function outside(plan: RoomPlan): Room {
  const { name, folder, language } = plan;
  const variable = name.toUpperCase();
  const here = `./${relative(process.cwd(), folder)}`;
  const run = `COLLECTORS_PATH=${here} npx cyber-collect`;
  const page = pageOf(plan, [
    `A collector of our own for [cyber-collect](https://github.com/OWNER/cyber-collect): \`src_${name}.${language}\`.`,
    `It is active where \`${variable}_URL\` and \`${variable}_TOKEN\` are set, and found where \`COLLECTORS_PATH\` names its folder:`,
    `\`\`\`bash\nexport COLLECTORS_PATH=${here}\nnpx cyber-collect explain ${name}\nnpx cyber-collect peek ${name}.users\nnpx cyber-collect run --only ${name}\n\`\`\``,
    `\`node --test ${here}/${name}.test.mjs\` collects from a vendor on this machine, which that file makes up.`,
  ]);
  return {
    files: [
      { path: join(folder, `src_${name}.${language}`), text: roomText(plan) },
      { path: join(folder, `${name}.test.mjs`), text: outsideTest(plan) },
      page,
    ],
    next: [
      'npm install cyber-collect, if this folder has none: the test and the types need it',
      `write src_${name}.${language}, and what ${name}.test.mjs answers, after the vendor's documentation`,
      `node --test ${here}/${name}.test.mjs`,
      `${run} explain ${name}, then with ${variable}_URL and ${variable}_TOKEN: peek ${name}.users, run --only ${name}`,
    ],
  };
}

const IMPORTS = {
  collector: ['defineCollector'],
  'http/auth': ['staticHeaders'],
  'http/pace': ['limit'],
  'http/paginate': ['cursor'],
  setting: ['baseUrl', 'secret', 'setting'],
};

function roomText(plan: RoomPlan): string {
  const { name } = plan;
  const variable = name.toUpperCase();
  return flush(`
    |${importsOf(plan, IMPORTS)}
    |export default defineCollector({
    |  name: '${name}',
    |  title: '${titleOf(name)}',
    |  docs: 'https://developer.${hostOf(name)}.example/api',
    |  env: {
    |    ${variable}_URL: setting('Base URL, such as https://${hostOf(name)}.example'),
    |    ${variable}_TOKEN: secret('API token that may read and nothing else'),
    |  },
    |  http: ({ ${variable}_URL, ${variable}_TOKEN }) => ({
    |    baseUrl: baseUrl(${variable}_URL),
    |    auth: staticHeaders({ authorization: \`Bearer \${${variable}_TOKEN}\` }),
    |    // Or linkHeader, nextUrl, offset, pageNumber; paginator makes one of any function.
    |    paginate: cursor('next', { as: 'cursor' }),
    |    // Requests and seconds, as the vendor allows.
    |    pace: limit(100, 60),
    |  }),
    |  resources: {
    |    users: {
    |      about: 'Accounts, active or not',
    |      path: '/v1/users',
    |      query: { limit: 200 },
    |      records: 'data',
    |      total: 'total',
    |      id: 'id',
    |      needs: 'users:read',
    |    },
    |  },
    |});
    |`);
}

function vendorText({ name }: RoomPlan): string {
  const variable = name.toUpperCase();
  return flush(`
    |import { person, text } from './invent.ts';
    |import { cursor, type Page } from './paging.ts';
    |import { defineVendor } from './vendor.ts';
    |
    |const TOKEN = 'canary-${hostOf(name)}-0123456789abcdef';
    |
    |const around = (records: string, { next = '', total }: Page) =>
    |  \`{"data":\${records},"next":\${next === '' ? 'null' : JSON.stringify(next)},"total":\${total}}\`;
    |
    |export default defineVendor({
    |  name: '${name}',
    |  env: (origin) => ({ ${variable}_URL: origin, ${variable}_TOKEN: TOKEN }),
    |  credential: ({ headers }) => /^Bearer (.+)$/.exec(String(headers.authorization))?.[1],
    |  key: TOKEN,
    |  error: (status, what) => JSON.stringify({ status, error: what }),
    |  limitHeaders: () => ({}),
    |  routes: [
    |    {
    |      path: '/v1/users',
    |      resource: 'users',
    |      paging: cursor({ max: 200, as: 'cursor' }),
    |      total: true,
    |      wrap: around,
    |      records: (scale) => ({ count: scale, at: (index) => text({ id: index + 1, ...person(index) }, index) }),
    |    },
    |  ],
    |});
    |`);
}

function houseTest({ name }: RoomPlan): string {
  return flush(`
    |import { expect, test } from 'vitest';
    |import vendor from '../../src/simulator/vendor_${name}.ts';
    |import { collectOnce, resultOf, storedLines } from '../support/run.ts';
    |import { starter } from '../support/vendor.ts';
    |
    |const start = starter(vendor);
    |
    |test('the list comes whole and byte for byte, by cursor', async () => {
    |  const running = await start();
    |  const { summary, folder } = await collectOnce({ env: running.env, only: ['${name}'] });
    |  expect(summary.exit_code).toBe(0);
    |  expect(await storedLines(folder, '${name}_users')).toEqual(running.truth('users'));
    |  expect(resultOf(summary, '${name}_users').expected).toBe(60);
    |});
    |
    |test('a total that is not reached is a failure', async () => {
    |  const running = await start({ faults: [{ name: 'dropped-page', resource: 'users', times: 'always' }] });
    |  const { summary } = await collectOnce({ env: running.env, only: ['${name}'] });
    |  expect(summary.exit_code).toBe(3);
    |});
    |`);
}

const TEST_IMPORTS = flush(`
  |import assert from 'node:assert/strict';
  |import { execFile } from 'node:child_process';
  |import { once } from 'node:events';
  |import { mkdtemp, readFile, rm } from 'node:fs/promises';
  |import { createServer } from 'node:http';
  |import { createRequire } from 'node:module';
  |import { tmpdir } from 'node:os';
  |import { dirname, join } from 'node:path';
  |import { test } from 'node:test';
  |`);

const ANSWER = flush(`
  |/** What the vendor answers: write it after the vendor's documentation, not after the collector. */
  |function answer({ url, headers }, response) {
  |  const { pathname, searchParams } = new URL(url, 'http://vendor');
  |  const send = (status, body) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  |  if (headers.authorization !== \`Bearer \${TOKEN}\`) return send(401, { error: 'unknown token' });
  |  if (pathname !== '/v1/users') return send(404, { error: 'no such list' });
  |  const start = Number(searchParams.get('cursor') ?? 0);
  |  const end = start + Number(searchParams.get('limit') ?? 100);
  |  const next = end < USERS.length ? String(end) : null;
  |  return send(200, { data: USERS.slice(start, end), next, total: USERS.length });
  |}
  |`);

function outsideTest({ name }: RoomPlan): string {
  const variable = name.toUpperCase();
  return flush(`
    |${testHead(TEST_IMPORTS)}
    |const TOKEN = 'canary-${hostOf(name)}';
    |const USERS = Array.from({ length: 450 }, (_, n) => ({ id: n + 1, name: \`Person \${n + 1}\` }));
    |
    |${ANSWER}
    |/** Collects from the vendor into a new folder. */
    |async function collect(context, token) {
    |  const server = createServer(answer).listen(0, '127.0.0.1');
    |  await once(server, 'listening');
    |  const folder = await mkdtemp(join(tmpdir(), '${hostOf(name)}-'));
    |  context.after(async () => {
    |    server.closeAllConnections();
    |    server.close();
    |    await rm(folder, { recursive: true, force: true });
    |  });
    |  const env = {
    |    COLLECTORS_PATH: import.meta.dirname,
    |    STORE_FILE: join(folder, '%TAG.ndjson'),
    |    ${variable}_URL: \`http://127.0.0.1:\${server.address().port}\`,
    |    ${variable}_TOKEN: token,
    |  };
    |  return { folder, ...(await cyberCollect(folder, env, 'run', '--only', '${name}', '--output', 'json')) };
    |}
    |
    |test('every record is stored', async (context) => {
    |  const { code, stderr, folder } = await collect(context, TOKEN);
    |  assert.equal(code, 0, stderr);
    |  const lines = (await readFile(join(folder, '${name}_users.ndjson'), 'utf8')).trimEnd().split('\\n');
    |  assert.deepEqual(lines.map((line) => JSON.parse(line)), USERS);
    |});
    |
    |test('a token that is refused is told, and nothing is stored', async (context) => {
    |  const { code, stdout } = await collect(context, 'wrong');
    |  assert.equal(code, 4);
    |  assert.equal(JSON.parse(stdout).datasets[0].verdict, 'failed');
    |});
    |`);
}
