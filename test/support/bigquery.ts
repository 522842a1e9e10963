import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A table of the scripted BigQuery. */
interface Table {
  readonly fields: readonly { readonly name: string; readonly type: string }[];
  readonly expires: boolean;
  rows: readonly Row[];
}

/** A row: texts, and the record as it came. */
type Row = Readonly<Record<string, string>>;

/** A call, for faults. */
export interface Called {
  /** Such as `POST jobs`, `PUT upload`, `GET datasets/x/tables/y`. */
  readonly what: string;
  /** The SQL of a query. */
  readonly sql: string;
}

/** What the server does instead: an answer, a job that fails, or `lost`: it does it, and breaks the connection. */
export type BigQueryFault =
  | 'lost'
  | { readonly status: number; readonly reason: string; readonly headers?: Readonly<Record<string, string>> }
  | { readonly job: { readonly reason: string; readonly message: string } }
  | undefined;

/** A BigQuery on loopback that knows the statements of the store and refuses all others. */
export interface ScriptedBigQuery {
  readonly endpoint: string;
  readonly tables: ReadonlyMap<string, Table>;
  readonly datasets: ReadonlyMap<string, { readonly location: string }>;
  readonly calls: readonly string[];
  /** Asked at each call. */
  faults: (called: Called) => BigQueryFault;
  stop(): Promise<void>;
}

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly body: Buffer;
  readonly headers: IncomingMessage['headers'];
}

interface Reply {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

type Config = Readonly<Record<string, unknown>> & {
  readonly load?: { readonly destinationTable: { readonly tableId: string } };
  readonly query?: {
    readonly query: string;
    readonly queryParameters: readonly { readonly name: string; readonly parameterValue: { readonly value: string } }[];
  };
};

interface JobBody {
  readonly configuration: Config;
  readonly jobReference: { readonly projectId: string; readonly jobId?: string; readonly location?: string };
}

interface Job {
  readonly jobReference: { readonly projectId: string; readonly jobId: string; readonly location: string };
  readonly status: {
    readonly state: string;
    readonly errorResult?: { readonly reason: string; readonly message: string };
  };
  readonly statistics?: unknown;
  readonly rows?: unknown;
}

/** Starts it. */
export async function startBigQuery(): Promise<ScriptedBigQuery> {
  const tables = new Map<string, Table>();
  const datasets = new Map<string, { readonly location: string }>();
  const jobs = new Map<string, Job>();
  const uploads = new Map<string, { readonly body: JobBody; parts: Buffer[] }>();
  const calls: string[] = [];
  const state = { faults: (_: Called): BigQueryFault => undefined };
  const origin = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  function finish(body: JobBody, fault: BigQueryFault, work: () => Partial<Job>): Job {
    const { projectId, jobId = `job_${jobs.size}`, location = 'US' } = body.jobReference;
    const jobReference = { projectId, jobId, location };
    const failed = typeof fault === 'object' && 'job' in fault ? fault.job : undefined;
    const done = failed === undefined ? work() : { status: { state: 'DONE', errorResult: failed } };
    const job = { jobReference, status: { state: 'DONE' }, ...done };
    jobs.set(jobId, job);
    return job;
  }

  function answer({ method, path, body, headers }: Asked, fault: BigQueryFault): Reply {
    const [, rest = ''] = /\/projects\/acme-security\/([^?]*)/.exec(path) ?? [];
    const parsed = () => JSON.parse(body.toString()) as Record<string, never>;
    if (path.startsWith('/upload/')) return upload(method, path, body, headers, fault);
    const [kind = '', name = '', , table = ''] = rest.split('/');
    if (kind === 'jobs' || kind === 'queries') return ofJobs(method, kind, name, body, fault);
    if (method === 'POST' && rest === 'datasets') {
      const made = parsed() as unknown as { datasetReference: { datasetId: string }; location?: string };
      datasets.set(made.datasetReference.datasetId, { location: made.location ?? 'US' });
      return { status: 200, body: {} };
    }
    const dataset = datasets.get(name);
    if (dataset === undefined) return refused(404, 'notFound');
    if (method === 'GET' && table === '') return { status: 200, body: { location: dataset.location } };
    if (method === 'POST') {
      const made = parsed() as unknown as {
        tableReference: { tableId: string };
        schema: { fields: Table['fields'] };
        expirationTime?: string;
      };
      const { tableId } = made.tableReference;
      if (tables.has(tableId)) return refused(409, 'duplicate');
      tables.set(tableId, { fields: made.schema.fields, rows: [], expires: made.expirationTime !== undefined });
      return { status: 200, body: {} };
    }
    const found = tables.get(table);
    if (found === undefined) return refused(404, 'notFound');
    if (method === 'DELETE') tables.delete(table);
    return { status: 200, body: { schema: { fields: found.fields } } };
  }

  function ofJobs(method: string, kind: string, id: string, body: Buffer, fault: BigQueryFault): Reply {
    if (method === 'GET') {
      const job = jobs.get(id);
      if (job === undefined) return refused(404, 'notFound');
      return { status: 200, body: kind === 'jobs' ? job : { jobComplete: true, rows: job.rows } };
    }
    const asked = JSON.parse(body.toString()) as JobBody;
    if (asked.jobReference.jobId !== undefined && jobs.has(asked.jobReference.jobId)) return refused(409, 'duplicate');
    const { query } = asked.configuration;
    if (query === undefined) return refused(400, 'invalid');
    const values = Object.fromEntries(query.queryParameters.map((one) => [one.name, one.parameterValue.value]));
    const job = finish(asked, fault, () => {
      const rows = select(tables, query.query, values) ?? transaction(tables, query.query, values);
      if (rows !== undefined) return { rows: rows.map((row) => ({ f: row.map((v) => ({ v })) })) };
      return { status: { state: 'DONE', errorResult: { reason: 'invalidQuery', message: `unknown: ${query.query}` } } };
    });
    // As the real one, it is not over at once.
    return { status: 200, body: { ...job, status: { state: 'RUNNING' } } };
  }

  function upload(
    method: string,
    path: string,
    body: Buffer,
    headers: IncomingMessage['headers'],
    fault: BigQueryFault,
  ): Reply {
    if (method === 'POST') {
      const id = String(uploads.size);
      uploads.set(id, { body: JSON.parse(body.toString()) as JobBody, parts: [] });
      return { status: 200, body: {}, headers: { location: `${origin()}${path.split('?')[0]}?upload_id=${id}` } };
    }
    const under = uploads.get(new URL(path, origin()).searchParams.get('upload_id') ?? '');
    if (under === undefined) return refused(404, 'notFound');
    under.parts.push(body);
    const stored = under.parts.reduce((sum, part) => sum + part.length, 0);
    if (String(headers['content-range']).endsWith('/*')) {
      return { status: 308, body: '', headers: stored === 0 ? {} : { range: `bytes=0-${stored - 1}` } };
    }
    const job = finish(under.body, fault, () => load(tables, under.body, Buffer.concat(under.parts)));
    return { status: 200, body: { ...job, status: { state: 'RUNNING' } } };
  }

  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const path = request.url ?? '';
    const what = `${request.method} ${/^\/upload/.test(path) ? 'upload' : path.replace(/.*acme-security\/|\?.*/g, '')}`;
    calls.push(what);
    const body = Buffer.concat(parts);
    const sql = what === 'POST jobs' ? ((JSON.parse(body.toString()) as JobBody).configuration.query?.query ?? '') : '';
    const fault = state.faults({ what, sql });
    const given = typeof fault === 'object' && 'status' in fault ? fault : undefined;
    if (given !== undefined)
      return send(response, { ...refused(given.status, given.reason), headers: given.headers ?? {} });
    const reply = answer({ method: request.method ?? '', path, body, headers: request.headers }, fault);
    if (fault === 'lost') request.socket.destroy();
    else send(response, reply);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    endpoint: origin(),
    tables,
    datasets,
    calls,
    get faults() {
      return state.faults;
    },
    set faults(faults) {
      state.faults = faults;
    },
    stop() {
      server.closeAllConnections();
      return new Promise((done) => server.close(() => done()));
    },
  };
}

function send(response: ServerResponse, { status, body, headers }: Reply): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

function refused(code: number, reason: string): Reply {
  return { status: code, body: { error: { code, message: 'refused', errors: [{ reason, message: 'refused' }] } } };
}

/** Replaces a table's rows; refuses lines that are no JSON, and numbers that JSON columns cannot hold. */
function load(tables: Map<string, Table>, { configuration }: JobBody, bytes: Buffer): Partial<Job> {
  const table = tables.get(configuration.load?.destinationTable.tableId ?? '');
  if (table === undefined) return failed('notFound', 'no table');
  const asText = table.fields.some(({ name, type }) => name === 'json_data' && type === 'STRING');
  const rows: Row[] = [];
  for (const [n, line] of bytes.toString().split('\n').slice(0, -1).entries()) {
    const where = `; line_number: ${n + 1} byte_offset_to_start_of_line: 0`;
    let row: Record<string, unknown>;
    try {
      row = JSON.parse(line) as Record<string, unknown>;
    } catch {
      return failed('invalid', `Error while reading data, error message: Failed to parse JSON: ${line}${where}`);
    }
    const record = line.slice(line.indexOf('"json_data":') + '"json_data":'.length, -1);
    if (!asText && /\d{20}|\d\.\d{18}/.test(record)) {
      return failed(
        'invalid',
        `Error while reading data: Input number cannot round-trip through string: ${line}${where}`,
      );
    }
    rows.push({ ...(row as Row), json_data: asText ? String(row.json_data) : record });
  }
  table.rows = rows;
  return { statistics: { load: { outputRows: String(rows.length) } } };
}

function failed(reason: string, message: string): Partial<Job> {
  return { status: { state: 'DONE', errorResult: { reason, message } } };
}

type Values = Readonly<Record<string, string>>;

const UPLOADS = 'cyber_collect_uploads';

function select(tables: ReadonlyMap<string, Table>, sql: string, values: Values): string[][] | undefined {
  if (!sql.startsWith('SELECT')) return undefined;
  const rows = (name: string) => tables.get(name)?.rows ?? [];
  const probed = /^SELECT n FROM `(\w+)`$/.exec(sql)?.[1];
  if (probed !== undefined) return rows(probed).map(({ n }) => [String(n)]);
  const tagged = rows(UPLOADS).filter(({ tag }) => tag === values.tag);
  if (/^SELECT upload_id FROM \w+ WHERE tag = @tag AND upload_id = @upload_id LIMIT 1$/.test(sql)) {
    return tagged.filter(({ upload_id }) => upload_id === values.upload_id).map((row) => [row.upload_id ?? '']);
  }
  if (!/WHERE tag = @tag AND tenancy = @tenancy ORDER BY upload_timestamp DESC, stored_at DESC LIMIT 1$/.test(sql)) {
    return undefined;
  }
  const own = tagged.filter(({ tenancy }) => tenancy === values.tenancy);
  return own
    .toSorted((a, b) => (a.upload_timestamp ?? '').localeCompare(b.upload_timestamp ?? ''))
    .slice(-1)
    .map((row) => [row.upload_id ?? '', row.upload_timestamp ?? '']);
}

/** Every statement or none. */
function transaction(tables: Map<string, Table>, sql: string, values: Values): string[][] | undefined {
  const statements = sql.split(';\n').map((one) => one.replace(/;$/, ''));
  if (statements.shift() !== 'BEGIN TRANSACTION' || statements.pop() !== 'COMMIT TRANSACTION') return undefined;
  const after = new Map<string, readonly Row[]>();
  const rows = (name: string) => after.get(name) ?? tables.get(name)?.rows;
  for (const statement of statements) {
    const emptied = /^DELETE FROM `(\w+)` WHERE tenancy = @tenancy$/.exec(statement)?.[1];
    const [, to, from] = /^INSERT INTO `(\w+)` \([\w, ]+\) SELECT [\w, ]+ FROM `(\w+)`$/.exec(statement) ?? [];
    if (emptied !== undefined && rows(emptied) !== undefined) {
      after.set(
        emptied,
        (rows(emptied) ?? []).filter(({ tenancy }) => tenancy !== values.tenancy),
      );
    } else if (to !== undefined && from !== undefined && rows(to) !== undefined && rows(from) !== undefined) {
      after.set(to, [...(rows(to) ?? []), ...(rows(from) ?? [])]);
    } else if (new RegExp(`^INSERT INTO ${UPLOADS} `).test(statement)) {
      after.set(UPLOADS, [...(rows(UPLOADS) ?? []), values]);
    } else return undefined;
  }
  for (const [name, made] of after) {
    const table = tables.get(name);
    if (table !== undefined) table.rows = made;
  }
  return [];
}
