import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { isObject, type JsonObject } from '../../src/json.ts';

/** A query of a panel, in the words of its data source. */
export interface Target {
  readonly panel: string;
  /** `grafana-postgresql-datasource` and such. */
  readonly type: string;
  /** The variable that names the data source. */
  readonly source: string;
  readonly query: JsonObject;
}

/** A dashboard, as far as tests look. */
export interface Dashboard {
  readonly json: JsonObject;
  readonly targets: readonly Target[];
  /** Queries of its variables. */
  readonly variables: readonly Target[];
}

/** The text of a file of the folder of dashboards. */
export async function dashboardFile(name: string): Promise<string> {
  return readFile(fileURLToPath(new URL(`../../dashboards/${name}`, import.meta.url)), 'utf8');
}

/** Reads a dashboard; each panel that is no row has queries. */
export async function dashboardOf(name: string): Promise<Dashboard> {
  const json = objectOf(JSON.parse(await dashboardFile(`${name}.json`)));
  const panels = listOf(json.panels).filter((panel) => panel.type !== 'row');
  const targets = panels.flatMap((panel) => listOf(panel.targets).map((query) => targetOf(String(panel.title), query)));
  const variables = listOf(objectOf(json.templating).list)
    .filter((variable) => variable.type === 'query')
    .map((variable) => targetOf(String(variable.name), variable));
  return { json, targets, variables };
}

function targetOf(panel: string, query: JsonObject): Target {
  const { type, uid } = objectOf(query.datasource);
  return { panel, type: String(type), source: String(uid).replace(/^\$\{(\w+)\}$/, '$1'), query };
}

/** A value that is an object; whatever else it is fails the test. */
export function objectOf(value: unknown): JsonObject {
  if (!isObject(value)) throw new Error(`${JSON.stringify(value)} is no object`);
  return value;
}

/** A list of objects. */
export function listOf(value: unknown): readonly JsonObject[] {
  if (!Array.isArray(value)) throw new Error(`${JSON.stringify(value)} is no list`);
  return value.map(objectOf);
}

/** Values of variables; several are a list. */
export type Values = Readonly<Record<string, string | readonly string[]>>;

const FORMATS: Readonly<Record<string, (values: readonly string[]) => string>> = {
  sqlstring: (values) => values.map((value) => `'${value.replaceAll("'", "''")}'`).join(','),
  singlequote: (values) => values.map((value) => `'${value.replaceAll("'", "\\'")}'`).join(','),
  regex: (values) => (values.length === 1 ? values.map(escaped).join() : `(${values.map(escaped).join('|')})`),
  lucene: (values) => `(${values.map((value) => JSON.stringify(value)).join(' OR ')})`,
};

function escaped(value: string): string {
  return value.replace(/[\\^$*+?.()|[\]{}/]/g, '\\$&');
}

/** Puts variables into a query as Grafana does; what is left of `$name` and `${name}` is an error. */
export function interpolated(text: string, values: Values, plain = 'none'): string {
  const told = text.replace(/\$\{(\w+)(?::(\w+))?\}|\$(?!__)([a-z]\w*)/g, (_, braced, format, bare) => {
    const value = values[braced ?? bare];
    if (value === undefined) throw new Error(`the variable ${braced ?? bare} is not defined`);
    if (typeof value === 'string' && format === undefined) return value;
    const list = typeof value === 'string' ? [value] : value;
    const formatted = FORMATS[format ?? plain];
    if (formatted === undefined) throw new Error(`${braced ?? bare} of several values is used without a format`);
    return formatted(list);
  });
  return told;
}

/** A time range. */
export interface Range {
  readonly from: Date;
  readonly to: Date;
}

/**
 * Expands the macros of the PostgreSQL data source; as there, an argument ends at the first closing bracket.
 * https://grafana.com/docs/grafana/latest/datasources/postgres/query-editor/#macros
 */
export function expanded(sql: string, { from, to }: Range): string {
  const [first, last] = [from, to].map((at) => `'${at.toISOString()}'`);
  const told = sql.replaceAll('$__interval', '1m').replace(/\$(__\w+)\(([^)]*)\)/g, (_, name: string, list: string) => {
    const [column = '', every = ''] = list.split(',').map((argument) => argument.trim());
    const seconds = Number.parseInt(every, 10) * 60;
    if (name === '__timeFilter') return `${column} BETWEEN ${first} AND ${last}`;
    if (name === '__timeFrom') return String(first);
    if (name === '__timeTo') return String(last);
    if (name !== '__timeGroupAlias') throw new Error(`the macro ${name} is not known`);
    return `floor(extract(epoch from ${column})/${seconds})*${seconds} AS "time"`;
  });
  if (told.includes('$')) throw new Error(`something is not expanded: ${told}`);
  return told;
}

/** What Grafana asks Elasticsearch for by a query of its editor, as far as the dashboards use it. */
export function searchOf(query: JsonObject, lucene: string, { from, to }: Range): JsonObject {
  const time = String(query.timeField);
  const range = { [time]: { gte: from.getTime(), lte: to.getTime(), format: 'epoch_millis' } };
  const filter = [{ range }, { query_string: { analyze_wildcard: true, query: lucene } }];
  const metrics = listOf(query.metrics);
  const [metric] = metrics;
  const found = { query: { bool: { filter } } };
  if (metric?.type === 'raw_data' || metric?.type === 'logs') {
    const settings = objectOf(metric.settings);
    const size = Number(settings.size ?? settings.limit);
    return { ...found, size, sort: [{ [time]: { order: 'desc', unmapped_type: 'boolean' } }] };
  }
  const values = Object.fromEntries(
    metrics
      .filter(({ type }) => type !== 'count')
      .map(({ id, type, field }) => [String(id), { [String(type)]: { field } }]),
  ) as JsonObject;
  const aggs = listOf(query.bucketAggs).reduceRight<JsonObject>((inner, bucket) => {
    const own = bucketOf(bucket, time);
    return { [String(bucket.id)]: Object.keys(inner).length === 0 ? own : { ...own, aggs: inner } };
  }, values);
  return { ...found, size: 0, aggs } as JsonObject;
}

function bucketOf({ type, field, settings }: JsonObject, time: string): JsonObject {
  const { size = '10' } = objectOf(settings);
  if (type === 'terms') return { terms: { field: field ?? '', size: Number(size), order: { _count: 'desc' } } };
  if (type !== 'date_histogram') throw new Error(`the buckets ${String(type)} are not known`);
  return { date_histogram: { field: field ?? time, fixed_interval: '1m', min_doc_count: 0, format: 'epoch_millis' } };
}
