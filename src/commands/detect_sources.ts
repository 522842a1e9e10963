import { zoneOf } from '../collectors/_syslog.ts';
import syslog from '../collectors/src_syslog.ts';
import type { DetectSettings } from '../config/detect.ts';
import { resolveShape } from '../config/environment.ts';
import type { DuckdbSettings } from '../detect/from_duckdb.ts';
import type { LineSettings } from '../detect/from_lines.ts';
import type { Origin } from '../detect/from_records.ts';
import type { Source } from '../detect/source.ts';
import { ConfigError, configProblem } from '../errors.ts';
import type { Plan } from '../run/activate.ts';
import type { CassandraSettings } from '../stores/_cassandra.ts';
import type { PostgresSettings } from '../stores/_postgres.ts';
import type { Session } from './session.ts';

/** Where events are read. @throws {ConfigError} where that is not told, or not possible */
export async function sourceOf(session: Session, plan: Plan, settings: DetectSettings): Promise<Source> {
  const from = settings.DETECT_FROM ?? usual(plan);
  const [, kind = from, rest = ''] = /^(file|lines):(.*)$/s.exec(from) ?? [];
  const origin = originOf(settings, plan);
  const patterns = rest.split(',').filter((pattern) => pattern !== '');
  switch (kind) {
    case '-':
      return (await import('../detect/from_stream.ts')).streamSource(process.stdin, linesOf(session), origin);
    case 'lines':
      if (patterns.length > 0) return (await import('../detect/from_lines.ts')).linesSource(patterns, linesOf(session));
      break;
    case 'file':
      if (patterns.length > 0) return (await import('../detect/from_files.ts')).filesSource(patterns, origin);
      break;
    case 'cassandra':
    case 'astra':
    case 'postgres':
    case 'duckdb':
      return storeSource(kind, session, plan, origin.tag);
  }
  const mend = 'write cassandra, astra, postgres, duckdb, file:GLOB, lines:GLOB or -';
  throw new ConfigError([configProblem('--from', `events cannot be read from '${from}'`, mend)]);
}

/** A dataset where a store keeps it. */
async function storeSource(kind: string, session: Session, plan: Plan, tag: string): Promise<Source> {
  const { uploadsSource } = await import('../detect/from_uploads.ts');
  const { tenancy, at } = plan;
  const settings = storeSettings(kind === 'astra' ? 'cassandra' : kind, session, plan);
  if (kind === 'postgres') {
    const { postgresUploads } = await import('../detect/from_postgres.ts');
    return uploadsSource(postgresUploads(settings as PostgresSettings, tenancy, tag), tag);
  }
  if (kind === 'duckdb') {
    const { duckdbUploads } = await import('../detect/from_duckdb.ts');
    return uploadsSource(duckdbUploads(settings as DuckdbSettings, tenancy, tag, at), tag);
  }
  const { clusterFor, eventsSource, cassandraUploads } = await import('../detect/from_cassandra.ts');
  const cluster = await clusterFor(settings as CassandraSettings);
  if (tag === 'syslog_events') return eventsSource(cluster, settings as CassandraSettings);
  return uploadsSource(cassandraUploads(cluster, tenancy, tag), tag);
}

/** The settings of the store; one that is read need not be one that is written to. */
function storeSettings(name: string, { environment, rooms }: Session, { stores }: Plan): unknown {
  const active = stores.find(({ store }) => store.name === name);
  if (active !== undefined) return active.settings;
  const room = rooms.stores.find((store) => store.name === name);
  const { values, missing = [] } =
    room === undefined ? {} : resolveShape(environment, room.name, room.env, room.aliases);
  if (values !== undefined) return values;
  const mend = missing.length === 0 ? `set the variables of the store ${name}` : `set ${missing.join(', ')}`;
  throw new ConfigError([configProblem('--from', `${name} is not configured`, mend)]);
}

const DATABASES = ['cassandra', 'astra', 'postgres', 'duckdb'];

/** The database that is configured; else the files of the file store. */
function usual({ stores, tenancy }: Plan): string {
  const names = stores.map(({ store }) => store.name).filter((name) => DATABASES.includes(name));
  if (names.length > 1) {
    throw new ConfigError([configProblem('--from', `${names.join(' and ')} are configured`, 'say which with --from')]);
  }
  const [only] = names;
  if (only !== undefined) return only;
  const file = stores.find(({ store }) => store.name === 'file')?.settings.STORE_FILE_EVENTS;
  if (typeof file === 'string') {
    const named = file.replaceAll('%TENANCY', tenancy).replaceAll('%TAG', 'syslog_events');
    return `file:${named.replace(/%[A-Za-z]+/g, '*')}`;
  }
  throw new ConfigError([configProblem('--from', 'it is not told where events are read', 'name it with --from')]);
}

/** Lines mean what they mean to the syslog collector. */
function linesOf({ environment }: Session): LineSettings {
  const { SYSLOG_TIMEZONE, SYSLOG_YEAR, SYSLOG_MAX_LINE } = syslog.env;
  const shape = { SYSLOG_TIMEZONE, SYSLOG_YEAR, SYSLOG_MAX_LINE };
  const { values, problems } = resolveShape(environment, 'detect', shape);
  if (values === undefined) throw new ConfigError(problems);
  const { SYSLOG_TIMEZONE: zone, SYSLOG_YEAR: year, SYSLOG_MAX_LINE: most } = values as Record<string, unknown>;
  return {
    zone: zoneOf(String(zone)),
    year: year === 'auto' ? undefined : Number(year),
    most: Number(most),
  };
}

function originOf({ DETECT_DATASET: dataset }: DetectSettings, { at }: Plan): Origin {
  const tag = dataset.replace('.', '_');
  if (!/^[a-z][a-z0-9_]{0,62}$/.test(tag)) {
    throw new ConfigError([configProblem('--dataset', `'${dataset}' is no dataset`, 'write it as okta.system_log')]);
  }
  return { tag, at: at.toISOString() };
}
