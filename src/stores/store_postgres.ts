import type { PoolClient } from 'pg';
import { CollectError } from '../errors.ts';
import { assertSafe } from '../templating/template.ts';
import { loginOf, type PostgresSettings, postgresShape, serverOf } from './_postgres.ts';
import { copySpool, instant, uuid } from './_postgres_copy.ts';
import { type Expansion, expand, prepareTyped } from './_postgres_typed.ts';
import { damaged, latestOf, quoted, tableOf, typedOf, UPLOADS } from './_rows.ts';
import { type Dataset, defineStore, type Held } from './store.ts';

export default defineStore({
  name: 'postgres',
  title: 'PostgreSQL',
  docs: 'https://www.postgresql.org/docs/current/sql-copy.html',
  env: postgresShape,
  example: {
    STORE_POSTGRES_HOST: 'localhost',
    STORE_POSTGRES_USER: 'collector',
    STORE_POSTGRES_DBNAME: 'security_metrics',
  },
  targets(settings, _kind, { tag }) {
    const { target, typed } = placeOf(settings, tag);
    return typed === undefined || typed.target === target ? [target] : [target, typed.target];
  },
  async open(settings, context) {
    const server = serverOf(settings);
    return {
      async write(dataset) {
        const place = placeOf(settings, dataset.tag);
        const notes = await server.repeat(place.target, (client) => store(client, place, dataset));
        for (const note of notes) context.warn(`${place.target}: ${note}`);
        return { at: place.target, records: dataset.spool.records };
      },
      async latest(tag) {
        const place = placeOf(settings, tag);
        return server.repeat(place.target, (client) => newest(client, place, context.tenancy));
      },
      async check() {
        const place = placeOf(settings, 'cyber_collect_probe');
        await server.repeat(place.target, (client) => probe(client, place));
      },
      close: () => server.close(),
    };
  },
});

/** Where a tag lives, with the SQL names of it. */
interface Place {
  readonly target: string;
  readonly schema: string;
  readonly tag: string;
  readonly table: string;
  readonly uploads: string;
  readonly view: string;
  readonly replaces: boolean;
  /** Whether records are kept whole; else the names are those of the table with columns. */
  readonly raw: boolean;
  /** The table that has a column for each key. */
  readonly typed: Pick<Place, 'target' | 'table' | 'view'> | undefined;
}

function placeOf(settings: PostgresSettings, tag: string): Place {
  const schema = settings.STORE_POSTGRES_SCHEMA;
  if (schema === '' || Buffer.byteLength(schema) > 63) {
    throw new CollectError('config', 'STORE_POSTGRES_SCHEMA is empty or longer than 63 bytes', {
      mend: 'set a shorter name',
    });
  }
  const host = settings.STORE_POSTGRES_HOST;
  const inSchema = (name: string) => `${quoted(schema)}.${quoted(name)}`;
  const server = `postgres://${host}:${settings.STORE_POSTGRES_PORT}/${loginOf(settings).database}`;
  const layout = settings.STORE_POSTGRES_LAYOUT;
  const named = (name: string) => ({
    target: `${server} ${schema}.${tableOf(name)}`,
    table: inSchema(name),
    view: inSchema(latestOf(name)),
  });
  return {
    ...named(tag),
    schema,
    tag,
    uploads: inSchema(UPLOADS),
    replaces: settings.STORE_POSTGRES_MODE === 'replace',
    raw: layout !== 'typed',
    typed: layout === 'raw' ? undefined : named(layout === 'typed' ? tag : typedOf(tag)),
  };
}

// The data

/** What a table's columns are; the older tool's lack the upload and may be of other types. */
interface Layout {
  readonly upload: boolean;
  readonly zone: boolean;
  readonly jsonb: boolean;
}

const COLUMNS: Readonly<Record<string, readonly string[]>> = {
  upload_timestamp: ['timestamp with time zone', 'timestamp without time zone'],
  tenancy: ['text', 'character varying'],
  json_data: ['jsonb', 'json', 'text'],
};

interface Found {
  readonly schema: boolean;
  readonly uploads: boolean;
  readonly view: boolean;
  readonly columns: Readonly<Record<string, string>> | null;
}

/** Stores a dataset in one transaction; returns what the operator should know. */
async function store(client: PoolClient, place: Place, dataset: Dataset): Promise<readonly string[]> {
  const layout = await prepared(client, place);
  return transaction(client, async () => {
    const { tenancy, upload_id, timestamp } = dataset.metadata;
    await client.query('SELECT pg_advisory_xact_lock(hashtext($1), hashtext($2))', [place.schema, place.tag]);
    const known = await client.query(`SELECT FROM ${place.uploads} WHERE tag = $1 AND upload_id = $2`, [
      place.tag,
      upload_id,
    ]);
    if (known.rowCount !== 0) return [];
    if (place.replaces && dataset.kind === 'snapshot') {
      const tables = new Set([place.table, ...(place.typed === undefined ? [] : [place.typed.table])]);
      for (const table of tables) await client.query(`DELETE FROM ${table} WHERE tenancy = $1`, [tenancy]);
      await client.query(`DELETE FROM ${place.uploads} WHERE tag = $1 AND tenancy = $2`, [place.tag, tenancy]);
    }
    const notes = dataset.spool.records === 0 ? [] : await fill(client, place, dataset, layout);
    await client.query(
      `INSERT INTO ${place.uploads} (tenancy, tag, upload_id, upload_timestamp, records, metadata)
       VALUES ($1, $2, $3, $4, $5, $6)`,
      [tenancy, place.tag, upload_id, timestamp, dataset.spool.records, JSON.stringify(dataset.metadata)],
    );
    await dataset.confirm();
    return notes;
  });
}

const STAGE = 'pg_temp.cyber_collect_stage';

async function fill(client: PoolClient, place: Place, dataset: Dataset, layout: Layout): Promise<readonly string[]> {
  const { tenancy, upload_id, timestamp } = dataset.metadata;
  assertSafe('TENANCY', tenancy);
  const columns = ['upload_timestamp', 'tenancy', ...(layout.upload ? ['upload_id'] : []), 'json_data'].join(', ');
  const before = [instant(timestamp), Buffer.from(tenancy), ...(layout.upload ? [uuid(upload_id)] : [])];
  if (!place.raw) await client.query(`CREATE TEMP TABLE cyber_collect_stage (json_data jsonb) ON COMMIT DROP`);
  const filling = place.raw
    ? {
        into: `${place.table} (${columns})`,
        before,
        jsonb: layout.jsonb,
        mends: layout.jsonb || place.typed !== undefined,
      }
    : { into: STAGE, before: [], jsonb: true, mends: true };
  const { rows, replaced } = await copySpool(client, filling, dataset.spool);
  if (rows !== dataset.spool.records) throw damaged(dataset.tag, `${rows} of ${dataset.spool.records} records`);
  const notes =
    replaced === 0 ? [] : [`${replaced} escapes of NUL or lone surrogates became U+FFFD, as jsonb refuses them`];
  const expansion = expansionOf(place, dataset, layout);
  if (expansion === undefined) return notes;
  return [...notes, ...(await expand(client, expansion, dataset, () => viewOfTyped(place)))];
}

/** Where the records of an upload are found whole, for the table that has a column for each key. */
function expansionOf(place: Place, { metadata }: Dataset, layout: Layout): Expansion | undefined {
  const { typed } = place;
  if (typed === undefined) return undefined;
  if (!place.raw) return { ...typed, records: `SELECT json_data AS r FROM ${STAGE}`, values: [] };
  const upload = layout.upload ? ' AND upload_id = $3' : '';
  return {
    ...typed,
    records: `SELECT json_data::jsonb AS r FROM ${place.table}
      WHERE tenancy = $1 AND upload_timestamp = $2::timestamptz${layout.zone ? '' : " AT TIME ZONE 'UTC'"}${upload}`,
    values: [metadata.tenancy, metadata.timestamp, ...(layout.upload ? [metadata.upload_id] : [])],
  };
}

/** The layout of tables that this store made. */
const OWN: Layout = { upload: true, zone: true, jsonb: true };

function viewOfTyped(place: Place): string {
  return viewSql({ ...place, ...place.typed }, OWN);
}

async function transaction<T>(client: PoolClient, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN');
  try {
    const result = await work();
    await client.query('COMMIT');
    return result;
  } catch (cause) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw cause;
  }
}

/** Makes what is missing of schema, tables and view, and tells how the dataset's table is laid out. */
async function prepared(client: PoolClient, place: Place): Promise<Layout> {
  const found = await look(client, place);
  const { typed } = place;
  if (typed === undefined && found.columns !== null && found.uploads && found.view) {
    return layoutOf(place, found.columns);
  }
  return transaction(client, async () => {
    await client.query('SELECT pg_advisory_xact_lock(hashtext($1), hashtext($2))', [place.schema, '']);
    const { schema, uploads, columns, view } = await look(client, place);
    if (!schema) await client.query(`CREATE SCHEMA ${quoted(place.schema)}`);
    if (!uploads) await client.query(uploadsSql(place));
    if (place.typed !== undefined) await prepareTyped(client, place.typed, () => viewOfTyped(place));
    if (!place.raw) return OWN;
    if (columns === null) await client.query(tableSql(place));
    const layout = columns === null ? OWN : layoutOf(place, columns);
    if (!view) await client.query(viewSql(place, layout));
    return layout;
  });
}

async function look(client: PoolClient, { schema, table, uploads, view }: Place): Promise<Found> {
  const { rows } = await client.query<Found>(
    `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS schema,
       to_regclass($2) IS NOT NULL AS uploads, to_regclass($3) IS NOT NULL AS view,
       (SELECT json_object_agg(attname, format_type(atttypid, NULL)) FROM pg_attribute
        WHERE attrelid = to_regclass($4) AND attnum > 0 AND NOT attisdropped) AS columns`,
    [schema, uploads, view, table],
  );
  return rows[0] ?? { schema: false, uploads: false, view: false, columns: null };
}

function layoutOf(place: Place, columns: Readonly<Record<string, string>>): Layout {
  for (const [name, types] of Object.entries(COLUMNS)) {
    const type = columns[name];
    if (type !== undefined && types.includes(type)) continue;
    const is = type === undefined ? `has no column ${name}` : `has a column ${name} of type ${type}`;
    throw new CollectError('store', `${place.target} ${is}, which does not fit`, {
      mend: `rename that table, or give it ${name} as ${types.join(' or ')}`,
    });
  }
  return {
    upload: columns.upload_id === 'uuid',
    zone: columns.upload_timestamp === 'timestamp with time zone',
    jsonb: columns.json_data === 'jsonb',
  };
}

function uploadsSql({ uploads }: Place): string {
  return `CREATE TABLE ${uploads} (tenancy text NOT NULL, tag text NOT NULL, upload_id uuid NOT NULL,
    upload_timestamp timestamptz NOT NULL, records bigint NOT NULL, metadata jsonb NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (tag, upload_id))`;
}

function tableSql({ table }: Place): string {
  return `CREATE TABLE ${table} (upload_timestamp timestamptz NOT NULL, tenancy text NOT NULL, upload_id uuid NOT NULL,
    json_data jsonb NOT NULL); CREATE INDEX ON ${table} (tenancy, upload_timestamp)`;
}

/** Rows of each tenancy's newest upload: by the list of uploads, or by time where rows do not name their upload. */
function viewSql({ view, table, uploads, tag }: Place, layout: Layout): string {
  if (layout.upload) {
    return `CREATE VIEW ${view} AS SELECT t.* FROM ${table} t JOIN (SELECT DISTINCT ON (tenancy) tenancy,
      upload_timestamp, upload_id FROM ${uploads} WHERE tag = '${tag}'
      ORDER BY tenancy, upload_timestamp DESC, stored_at DESC) u ON t.tenancy = u.tenancy
      AND t.upload_timestamp = u.upload_timestamp${layout.zone ? '' : " AT TIME ZONE 'UTC'"}
      AND t.upload_id = u.upload_id`;
  }
  return `CREATE VIEW ${view} AS SELECT t.* FROM ${table} t JOIN (SELECT tenancy, max(upload_timestamp) AS newest
    FROM (SELECT tenancy::text, upload_timestamp FROM ${table} UNION ALL
      SELECT tenancy, upload_timestamp${layout.zone ? '' : " AT TIME ZONE 'UTC'"}
      FROM ${uploads} WHERE tag = '${tag}') a
    GROUP BY tenancy) u ON t.tenancy::text = u.tenancy AND t.upload_timestamp = u.newest`;
}

async function newest(client: PoolClient, place: Place, tenancy: string): Promise<Held | undefined> {
  if (!(await look(client, place)).uploads) return undefined;
  const { rows } = await client.query<Held>(
    `SELECT upload_id, to_char(upload_timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS timestamp
     FROM ${place.uploads} WHERE tag = $1 AND tenancy = $2 ORDER BY upload_timestamp DESC, stored_at DESC LIMIT 1`,
    [place.tag, tenancy],
  );
  return rows[0];
}

async function probe(client: PoolClient, place: Place): Promise<void> {
  await client.query('BEGIN');
  try {
    if (!(await look(client, place)).schema) await client.query(`CREATE SCHEMA ${quoted(place.schema)}`);
    await client.query(tableSql(place));
    await client.query(`INSERT INTO ${place.table} SELECT now(), 'probe', '${NO_UPLOAD}', '{}'`);
    await client.query(`ALTER TABLE ${place.table} RENAME TO cyber_collect_probed`);
    await client.query(`DROP TABLE ${quoted(place.schema)}.cyber_collect_probed`);
  } finally {
    await client.query('ROLLBACK');
  }
}

const NO_UPLOAD = '00000000-0000-0000-0000-000000000000';
