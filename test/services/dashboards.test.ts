import { execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Client } from 'cassandra-driver';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { recordOf, zoneOf } from '../../src/collectors/_syslog.ts';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Shape } from '../../src/config/setting.ts';
import { isObject } from '../../src/json.ts';
import { metricsOf } from '../../src/report/prometheus.ts';
import type { DatasetResult, RunSummary } from '../../src/run/summary.ts';
import type { Sink, Store } from '../../src/stores/store.ts';
import cassandra from '../../src/stores/store_cassandra.ts';
import elasticsearch from '../../src/stores/store_elasticsearch.ts';
import postgres from '../../src/stores/store_postgres.ts';
import { admin, dropKeyspace, variablesOf } from '../support/cassandra.ts';
import { datasetOf } from '../support/dataset.ts';
import {
  type Dashboard,
  dashboardFile,
  dashboardOf,
  expanded,
  interpolated,
  listOf,
  objectOf,
  searchOf,
  type Target,
  type Values,
} from '../support/grafana.ts';
import { needed } from '../support/needed.ts';
import { searchReader } from '../support/search.ts';
import { freePort } from '../support/server.ts';

const NAMES = ['postgres', 'elasticsearch', 'cassandra', 'health'] as const;
const own = `d${randomUUID().slice(0, 8)}`;
const url = new URL(needed('TEST_POSTGRES_URL'));
const reader = new pg.Pool({ connectionString: url.href });
const search = searchReader(needed('TEST_ELASTICSEARCH_URL'));
const rows: Client = admin();
const now = Date.now();
const range = { from: new Date(now - 6 * 3_600_000), to: new Date(now + 60_000) };
const values: Values = { schema: own, keyspace: own, tenancy: ['acme', "o'hara"], device: ['web-1', 'db-1'] };
let folder = '';
let boards: Readonly<Record<(typeof NAMES)[number], Dashboard>>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cc-dashboards-'));
  const read = await Promise.all(NAMES.map(async (name) => [name, await dashboardOf(name)] as const));
  boards = Object.fromEntries(read) as typeof boards;
  await rows.connect();
});

afterAll(async () => {
  await reader.query(`DROP SCHEMA IF EXISTS ${own} CASCADE`);
  await reader.end();
  await search.wipe(own);
  await dropKeyspace(rows, own);
  await rm(folder, { recursive: true, force: true });
});

// What is stored: lines as the collector of log files makes them, and what detect makes of them

const EVENTS = Array.from({ length: 60 }, (_, n) => {
  const at = new Date(now - n * 300_000);
  const line = `<${n % 8}>1 ${at.toISOString()} ${n % 2 ? 'web-1' : 'db-1'} sshd 12 - - Failed password ${n}`;
  const context = {
    file: '/var/log/syslog',
    offset: n * 100,
    fingerprint: own,
    host: 'here',
    written: now,
    year: 2026,
  };
  return recordOf(line, { ...context, zone: zoneOf('UTC') });
});

const ALERTS = EVENTS.filter((_, n) => n % 5 === 0).map((event, n) => ({
  alert_id: randomUUID(),
  ...{ device_name: event.device_name, date: event.date, event_id: event.event_id, data: event.data },
  ...(n % 2
    ? { indicator: '198.51.100.7', kind: 'address', list: 'bad.txt', line: '3', field: 'data', from: 1, to: 13 }
    : { indicator: '7c0f2b6e', kind: 'rule', title: 'Failed logins', level: 'high', field: 'data' }),
}));

const METRICS = [1, 2, 3].map((n) => ({
  ...{ id: randomUUID(), memory: n, cpu: 2 * n, priviledge_escalation: n, events: 20 * n, alerts: n, source: own },
  date: new Date(now - n * 3_600_000).toISOString(),
}));

async function fill(sink: Sink): Promise<void> {
  const stored = { syslog_events: EVENTS, syslog_alerts: ALERTS, syslog_metrics: METRICS };
  const metadata = { timestamp: new Date(now).toISOString() };
  for (const [tag, records] of Object.entries(stored)) {
    const lines = records.map((record) => JSON.stringify(record));
    await sink.write(await datasetOf(folder, lines, { tag, kind: 'events', metadata }));
  }
  for (const [count, hours] of [
    [30, 5],
    [20, 2],
  ] as const) {
    // the second has shrunk
    const lines = Array.from({ length: count }, (_, n) => JSON.stringify({ id: `u${n}` }));
    const timestamp = new Date(now - hours * 3_600_000).toISOString();
    await sink.write(await datasetOf(folder, lines, { tag: 'okta_users', metadata: { timestamp } }));
  }
}

async function filled<S extends Shape>(store: Store<S>, variables: Readonly<Record<string, string>>): Promise<void> {
  const resolved = resolveShape(environmentOf(variables), store.name, store.env, store.aliases);
  if (resolved.values === undefined) throw new Error(JSON.stringify(resolved.problems));
  const said: string[] = [];
  const sink = await store.open(resolved.values, { tenancy: 'acme', at: new Date(), warn: (text) => said.push(text) });
  onTestFinished(() => sink.close?.());
  await fill(sink);
  expect(said).toEqual([]);
}

async function fillPostgres(): Promise<void> {
  await filled(postgres, {
    STORE_POSTGRES_HOST: url.hostname,
    STORE_POSTGRES_PORT: url.port,
    STORE_POSTGRES_USER: decodeURIComponent(url.username),
    STORE_POSTGRES_DBNAME: url.pathname.slice(1),
    STORE_POSTGRES_SCHEMA: own,
    ...(url.password === '' ? {} : { STORE_POSTGRES_PASSWORD: decodeURIComponent(url.password) }),
  });
}

type Row = Readonly<Record<string, unknown>>;

/** Each query brings rows, and no column of them all is empty. */
function assertTold({ panel }: Target, found: readonly Row[], mayBeEmpty: readonly string[] = []): void {
  expect(found.length, panel).toBeGreaterThan(0);
  for (const column of Object.keys(found[0] ?? {})) {
    if (mayBeEmpty.includes(column)) continue;
    expect(
      found.some((row) => row[column] !== null && row[column] !== undefined),
      `${panel}: ${column}`,
    ).toBe(true);
  }
}

describe('PostgreSQL', () => {
  async function asked({ query, panel }: Target): Promise<readonly Row[]> {
    const sql = expanded(interpolated(String(query.rawSql ?? query.query), values), range);
    const { rows: found } = await reader.query<Row>(sql).catch((cause: Error) => {
      throw new Error(`${panel}: ${cause.message}: ${sql}`);
    });
    return found;
  }

  test('every query of logs, alerts, counts and uploads brings rows', async () => {
    await fillPostgres();
    const targets = [...boards.postgres.targets, ...boards.health.targets].filter(({ query }) => 'rawSql' in query);
    expect(targets.length).toBeGreaterThan(14);
    for (const target of targets) {
      const found = await asked(target);
      assertTold(target, found);
      if (target.query.format === 'time_series')
        expect(Object.keys(found[0] ?? {})).toEqual(['time', 'metric', 'value']);
    }
    const one = async (panel: string) => asked(only(boards.postgres, panel));
    expect(await one('Log lines')).toEqual([{ lines: '60' }]);
    expect(await one('Alerts')).toEqual([{ alerts: '12' }]);
    expect(await one('Devices')).toEqual([{ devices: '2' }]);
    expect((await one('What was found most')).map(({ found, alerts }) => [found, alerts]).sort()).toEqual([
      ['198.51.100.7', '6'],
      ['Failed logins', '6'],
    ]);
    expect(await asked(only(boards.health, 'What changed most'))).toMatchObject([
      { tag: 'okta_users', before: '30', records: '20', percent: '-33.3' },
    ]);
  });

  test('variables have values', async () => {
    for (const variable of boards.postgres.variables) assertTold(variable, await asked(variable));
  });
});

/** The one query of a panel. */
function only(board: Dashboard, panel: string): Target {
  const [target, ...others] = board.targets.filter((one) => one.panel === panel);
  if (target === undefined || others.length > 0) throw new Error(`there is not one query of ${panel}`);
  return target;
}

describe('Elasticsearch', () => {
  const asked = async ({ query, source }: Target): Promise<unknown> => {
    const lucene = interpolated(String(query.query), values, 'lucene');
    return search.ask('POST', `/${own}-syslog_${source}/_search`, searchOf(query, lucene, range));
  };

  /** The innermost buckets of an answer, and how many documents are behind them. */
  function leaves(aggregation: unknown): readonly Row[] {
    if (!isObject(aggregation)) return [];
    const { buckets } = aggregation;
    if (!Array.isArray(buckets)) return Object.values(aggregation).flatMap(leaves);
    const inner = buckets.flatMap(leaves);
    return inner.length > 0 ? inner : buckets.filter(isObject);
  }

  test('every query brings documents or buckets', async () => {
    await filled(elasticsearch, {
      STORE_ELASTICSEARCH_URL: needed('TEST_ELASTICSEARCH_URL'),
      STORE_ELASTICSEARCH_INDEX: `${own}-%TAG`,
    });
    await search.ask('POST', `/${own}-*/_refresh`);
    expect(boards.elasticsearch.targets.length).toBeGreaterThan(12);
    for (const target of boards.elasticsearch.targets) {
      const answer = objectOf(await asked(target));
      const hits = listOf(objectOf(answer.hits).hits);
      const buckets = leaves(answer.aggregations);
      expect(hits.length + buckets.length, target.panel).toBeGreaterThan(0);
      for (const { id, type } of listOf(target.query.metrics)) {
        if (['count', 'raw_data', 'logs'].includes(String(type))) continue;
        const told = buckets.map((bucket) => objectOf(bucket[String(id)]).value);
        expect(
          told.some((value) => typeof value === 'number' && value > 0),
          target.panel,
        ).toBe(true);
      }
    }
    const count = async (panel: string) => {
      const answer = objectOf(await asked(only(boards.elasticsearch, panel)));
      return leaves(answer.aggregations).reduce((sum, bucket) => sum + Number(bucket.doc_count), 0);
    };
    expect([await count('Log lines'), await count('Alerts')]).toEqual([60, 12]);
    expect([await count('Lines over time, by severity'), await count('Alerts over time, by kind')]).toEqual([60, 12]);
    expect(await count('What was found most')).toBe(12);
  });

  test('variables have values', async () => {
    for (const { query, source } of boards.elasticsearch.variables) {
      const { find, field, size } = objectOf(JSON.parse(String(query.query)));
      expect(find).toBe('terms');
      const body = { size: 0, aggs: { 1: { terms: { field, size } } } };
      const answer = objectOf(await search.ask('POST', `/${own}-syslog_${source}/_search`, body));
      expect(leaves(answer.aggregations).map(({ key }) => key)).not.toEqual([]);
    }
  });
});

describe('Cassandra', () => {
  const asked = async ({ query }: Target): Promise<readonly Row[]> => {
    const text = typeof query.target === 'string' ? query.target : String(objectOf(query.query).query);
    const times = { __timeFrom: range.from, __timeTo: range.to };
    const cql = interpolated(text, values).replace(/\$(__timeFrom|__timeTo)\b/g, (_, name: keyof typeof times) =>
      String(times[name].getTime()),
    );
    expect(cql).not.toContain('$');
    return (await rows.execute(cql, [], { prepare: false })).rows;
  };

  test('every query brings rows, the first column of which tells series apart', async () => {
    await filled(cassandra, variablesOf(own));
    const { targets } = boards.cassandra;
    expect(targets.length).toBeGreaterThan(6);
    for (const target of targets) {
      const found = await asked(target);
      assertTold(
        target,
        found.map((row) => ({ ...row })),
      );
      expect(typeof Object.values({ ...found[0] })[0], target.panel).toBe('string');
    }
    const counts = async (panel: string, column: string) =>
      (await asked(only(boards.cassandra, panel))).map((row) => [row.device_name, Number(row[column])]).sort();
    expect(await counts('Log lines', 'lines')).toEqual([
      ['db-1', 30],
      ['web-1', 30],
    ]);
    expect(await counts('Alert count', 'alerts')).toEqual([
      ['db-1', 6],
      ['web-1', 6],
    ]);
    const [sums] = await asked(only(boards.cassandra, 'Lines that were counted'));
    expect(sums).toMatchObject({ memory: 6, cpu: 12, priviledge_escalation: 6 });
  });

  test('variables have values', async () => {
    for (const variable of boards.cassandra.variables) assertTold(variable, await asked(variable));
  });
});

describe('Prometheus', () => {
  const at = new Date(now - 600_000).toISOString();
  const dataset: DatasetResult = {
    ...{ tag: 'okta_users', collector: 'okta', resource: 'users', verdict: 'complete', records: 90, expected: 100 },
    ...{ pages: 1, requests: 4, retries: 1, waited_ms: 1500, bytes: 9000, duration_ms: 2000, upload_id: own },
    stores: [{ store: 'file', at: 'x', records: 90 }],
  };
  const groups: DatasetResult = { ...dataset, tag: 'okta_groups', resource: 'groups', verdict: 'quarantined' };
  const summary: RunSummary = {
    ...{ run_id: own, version: '1', tenancy: 'acme', started_at: at, finished_at: new Date(now).toISOString() },
    ...{ exit_code: 3, datasets: [dataset, groups], stores: [{ store: 'file', uploads: 2 }], problems: [] },
  };
  const asked = { collector: 'okta', resource: 'users', asked: at, success: at };
  const text = metricsOf(summary, { datasets: { okta_users: asked }, wrong: {} });

  test('every expression names what is written, and the real server answers it', async () => {
    const written = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name));
    const targets = boards.health.targets.filter(({ type }) => type === 'prometheus');
    expect(targets.length).toBeGreaterThan(10);
    const server = await startPrometheus();
    for (const { panel, query } of targets) {
      const expression = interpolated(String(query.expr), values);
      const names = expression.match(/\bcyber_collect_\w+/g) ?? [];
      expect(names.length, panel).toBeGreaterThan(0);
      for (const name of names) expect(written, panel).toContain(name);
      const found = await server(expression);
      expect(found.length, `${panel}: ${expression}`).toBeGreaterThan(0);
    }
    const unwhole = await server(
      interpolated(String(only(boards.health, 'Datasets that are not whole').query.expr), values),
    );
    expect(unwhole.map((one) => objectOf(one.metric))).toEqual([
      { tenancy: 'acme', dataset: 'okta_groups', verdict: 'quarantined' },
    ]);
  });

  /** Debian's Prometheus, which has scraped the metrics; answers expressions. */
  async function startPrometheus(): Promise<(expression: string) => Promise<readonly Record<string, unknown>[]>> {
    const target = createServer((_, response) => response.setHeader('content-type', 'text/plain').end(text));
    await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
    const address = target.address();
    const [port, home] = [await freePort(), await mkdtemp(join(folder, 'prometheus-'))];
    const scrape = {
      job_name: 'own',
      static_configs: [{ targets: [`127.0.0.1:${isObject(address) ? address.port : 0}`] }],
    };
    const config = { global: { scrape_interval: '1s', scrape_timeout: '1s' }, scrape_configs: [scrape] };
    await writeFile(join(home, 'prometheus.yml'), JSON.stringify(config));
    const flags = [`--config.file=${home}/prometheus.yml`, `--storage.tsdb.path=${home}/data`];
    const child = spawn('prometheus', [...flags, `--web.listen-address=127.0.0.1:${port}`], { stdio: 'ignore' });
    const ended = new Promise<Error>((resolve) => {
      child.once('error', () => resolve(new Error('prometheus is not installed: apt-get install prometheus')));
      child.once('exit', (code) => resolve(new Error(`prometheus ended with ${code}`)));
    });
    onTestFinished(async () => {
      child.kill('SIGKILL');
      await ended;
      target.closeAllConnections();
      target.close();
    });
    const ask = async (expression: string) => {
      const body = new URLSearchParams({ query: expression });
      const answer = await fetch(`http://127.0.0.1:${port}/api/v1/query`, { method: 'POST', body });
      const said = objectOf(await answer.json());
      if (said.status !== 'success') throw new Error(`${expression}: ${JSON.stringify(said)}`);
      return listOf(objectOf(said.data).result);
    };
    const scraped = async (): Promise<void> => {
      while ((await ask('cyber_collect_info').catch(() => [])).length === 0) await nextTick();
    };
    const failed = await Promise.race([ended, scraped()]);
    if (failed instanceof Error) throw failed;
    return ask;
  }
});

/** Lets what else is going on go on, between two looks. */
function nextTick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 100));
}

describe('files', () => {
  test('are as the types of Grafana have them, to the last key', async () => {
    const types = await grafanaTypes();
    const source = join(types, `${own}.ts`);
    onTestFinished(() => rm(source, { force: true }));
    await writeFile(source, checkedSource());
    const whole = checkedSource();
    const wrong = [
      ['"schemaVersion"', '"schemaVersions"'],
      ['"gridPos":{"h"', '"gridPos":{"height"'],
      ['"drawStyle":"bars"', '"drawStyle":"beams"'],
      ['"type":"date_histogram"', '"type":"histograms"'],
      ['"legendFormat"', '"legend"'],
    ] as const;
    const faults = wrong.map(([right, other]) => whole.replaceAll(right, other));
    expect(faults).not.toContain(whole);
    const said: string[] = [];
    for (const text of [whole, ...faults]) {
      await writeFile(source, text);
      said.push(await compiled(source));
    }
    expect(said[0]).toBe('');
    expect(said.slice(1).map((one) => one.includes('error TS'))).toEqual(faults.map(() => true));
  });

  /** What the compiler says of a file. */
  async function compiled(source: string): Promise<string> {
    const tsc = fileURLToPath(new URL('../../node_modules/typescript/bin/tsc', import.meta.url));
    const flags = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022'];
    const modules = ['--module', 'esnext', '--moduleResolution', 'bundler'];
    return promisify(execFile)(process.execPath, [tsc, ...flags, ...modules, source]).then(
      () => '',
      (error: { readonly stdout: string }) => error.stdout,
    );
  }

  /** Every dashboard and each part of its panels as constants of Grafana's types. */
  function checkedSource(): string {
    const kinds = ['stat', 'timeseries', 'table', 'logs'];
    const parts = NAMES.flatMap((name) => {
      const { json } = boards[name];
      const { panels, ...rest } = json;
      const bare = listOf(panels).map((panel) => {
        const { targets, ...others } = panel;
        return others;
      });
      const options = listOf(panels).flatMap((panel) => {
        if (panel.type === 'row') return [];
        const type = String(panel.type);
        expect(kinds).toContain(type);
        const { custom } = objectOf(objectOf(panel.fieldConfig).defaults);
        return [
          `const _: Plain<${type}.Options> = ${JSON.stringify(panel.options)};`,
          ...(custom === undefined ? [] : [`const _: Plain<${type}.FieldConfig> = ${JSON.stringify(custom)};`]),
          ...listOf(panel.targets).flatMap((target) => targetSource(target)),
        ];
      });
      return [`const _: Plain<dashboard.Dashboard> = ${JSON.stringify({ ...rest, panels: bare })};`, ...options];
    });
    const imports = [...kinds, 'dashboard', 'elasticsearch', 'prometheus'].map(
      (kind) => `import type * as ${kind} from '@grafana/grafana-foundation-sdk/${kind}';`,
    );
    const plain = `type Plain<T> = T extends string ? \`\${T}\` : T extends readonly (infer U)[] ? readonly Plain<U>[] :
      T extends object ? { [K in keyof T as K extends \`_implements\${string}\` ? never : K]: Plain<T[K]> } : T;`;
    return [...imports, plain, ...parts.map((part, n) => part.replace('const _', `export const c${n}`))].join('\n');
  }

  function targetSource(target: Readonly<Record<string, unknown>>): readonly string[] {
    const { type } = objectOf(target.datasource);
    if (type === 'prometheus') return [`const _: Plain<prometheus.Dataquery> = ${JSON.stringify(target)};`];
    if (type === 'elasticsearch') return [`const _: Plain<elasticsearch.dataquery> = ${JSON.stringify(target)};`];
    return [];
  }

  /** A folder in which the types of Grafana are found; they are installed once. */
  async function grafanaTypes(): Promise<string> {
    const home = join(homedir(), '.cache', 'cyber-collect-tests', 'grafana-foundation-sdk-0.0.21');
    const whole = join(home, 'installed');
    const there = await access(whole).then(
      () => true,
      () => false,
    );
    if (there) return home;
    await mkdir(home, { recursive: true });
    const flags = ['install', '--prefix', home, '--ignore-scripts', '--no-audit', '--no-fund'];
    await promisify(execFile)('npm', [...flags, '@grafana/grafana-foundation-sdk@0.0.21'], { cwd: home });
    await writeFile(whole, '');
    return home;
  }

  test('name each panel once, and use the variables they define and no others', () => {
    const uids = NAMES.map((name) => boards[name].json.uid);
    expect(new Set(uids).size).toBe(NAMES.length);
    for (const name of NAMES) {
      const { json } = boards[name];
      const panels = listOf(json.panels);
      expect(new Set(panels.map(({ id }) => id)).size, name).toBe(panels.length);
      const defined = listOf(objectOf(json.templating).list).map((variable) => String(variable.name));
      const text = JSON.stringify(panels) + JSON.stringify(json.templating);
      const used = [...text.matchAll(/\$\{?(?!__)([a-z]\w*)/g)].map(([, variable = '']) => variable);
      expect([...new Set(used)].sort(), name).toEqual([...new Set(defined)].sort());
      expect(overlaps(panels.map(({ gridPos }) => objectOf(gridPos) as unknown as Place)), name).toEqual([]);
    }
  });

  interface Place {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  }

  function overlaps(places: readonly Place[]): readonly (readonly [Place, Place])[] {
    const meet = (a: Place, b: Place) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
    const pairs = places.flatMap((a, n) => places.slice(n + 1).map((b) => [a, b] as const));
    return [
      ...places.filter((one) => one.x + one.w > 24).map((one) => [one, one] as const),
      ...pairs.filter(([a, b]) => meet(a, b)),
    ];
  }

  test('are provisioned: each kind of data source that a dashboard asks has a file', async () => {
    const folderOf = fileURLToPath(new URL('../../dashboards/provisioning/datasources', import.meta.url));
    const sources = await Promise.all(
      (await readdir(folderOf)).map(async (name) => parse(await dashboardFile(`provisioning/datasources/${name}`))),
    );
    const all = sources.flatMap((one) => listOf(one.datasources));
    expect(new Set(all.map(({ uid }) => uid)).size).toBe(all.length);
    const types = new Set(all.map(({ type }) => type));
    for (const name of NAMES) for (const { type } of boards[name].targets) expect(types).toContain(type);
    const variables = listOf(objectOf(boards.elasticsearch.json.templating).list);
    for (const { regex, type } of variables.filter((variable) => variable.type === 'datasource')) {
      const pattern = new RegExp(String(regex).replace(/^\/|\/i$/g, ''), 'i');
      expect(
        all.filter((one) => one.type === 'elasticsearch' && pattern.test(String(one.name))),
        `${type}`,
      ).toHaveLength(1);
    }
    const secrets = all.flatMap((one) => Object.values(objectOf(one.secureJsonData ?? {})));
    for (const secret of secrets) expect(secret).toMatch(/^\$\{[A-Z_]+\}$/);
    const { providers } = parse(await dashboardFile('provisioning/dashboards/cyber-collect.yaml'));
    expect(listOf(providers).map(({ type }) => type)).toEqual(['file']);
  });
});
