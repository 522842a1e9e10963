import { setTimeout as pause } from 'node:timers/promises';
import type { BigQuery, BigQueryOptions } from '@google-cloud/bigquery';
import { programShape } from '../config/program.ts';
import {
  assertEncrypted,
  baseUrl,
  choice,
  matching,
  optional,
  secret,
  setting,
  type Values,
} from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { isObject, textAt } from '../json.ts';
import { credentialsOf, faultOf, googleError, googleOutlook, sendAll } from './_google.ts';
import { patiently } from './_patience.ts';

/** The store's variables. */
export const bigqueryShape = {
  STORE_BIGQUERY_PROJECT_ID: setting(
    'Project; with the dataset it switches the store on',
    matching(/^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$/, 'must be the id of a project'),
  ),
  STORE_BIGQUERY_DATASET: setting(
    'Dataset, created when missing',
    matching(/^\w{1,1024}$/, 'must be letters, digits and underscores'),
  ),
  STORE_BIGQUERY_LOCATION: setting('Location of a dataset that is created, such as EU; unset = US', optional()),
  STORE_BIGQUERY_RECORD: setting(
    'Type of the column json_data in new tables: json, or text, which keeps numbers of any length',
    choice(['json', 'text'], 'json'),
  ),
  STORE_BIGQUERY_CREDENTIALS: secret(
    'JSON key of a service account; unset = GOOGLE_APPLICATION_CREDENTIALS, gcloud, or the machine’s own',
    optional(),
  ),
  STORE_BIGQUERY_API_ENDPOINT: setting(
    'Base URL; unset = Google; plain http on loopback asks without a login',
    optional(),
  ),
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
} as const;

/** Their values. */
export type BigQuerySettings = Values<typeof bigqueryShape>;

/**
 * How the service is reached, and as whom.
 * @throws {CollectError} config, refused
 */
export function connectionOf(settings: BigQuerySettings): BigQueryOptions & { readonly apiEndpoint: string } {
  const credentials = credentialsOf('STORE_BIGQUERY_CREDENTIALS', settings.STORE_BIGQUERY_CREDENTIALS);
  const found = settings.STORE_BIGQUERY_API_ENDPOINT ?? 'https://bigquery.googleapis.com';
  const endpoint = assertEncrypted(baseUrl(found), settings.CYBER_COLLECT_ALLOW_HTTP);
  const anonymous = endpoint.protocol === 'http:' && credentials === undefined;
  return {
    projectId: settings.STORE_BIGQUERY_PROJECT_ID,
    apiEndpoint: endpoint.href.replace(/\/$/, ''),
    autoRetry: false,
    maxRetries: 0,
    ...(credentials === undefined ? {} : { credentials }),
    ...(anonymous ? { authClient: nobody() } : {}),
  };
}

/** A login that adds nothing to a request; the library knows none. */
function nobody(): NonNullable<BigQueryOptions['authClient']> {
  const client = { getRequestHeaders: async () => new Headers() };
  return client as unknown as NonNullable<BigQueryOptions['authClient']>;
}

/** A column. */
export interface Column {
  readonly name: string;
  readonly type: string;
}

/** What is asked of a query job. */
export interface Question {
  readonly sql: string;
  /** Named parameters, all text. */
  readonly values?: Readonly<Record<string, string>>;
  /** A name that only one job may have: whoever asks again gets that job’s outcome. */
  readonly once?: string;
}

/** A dataset of BigQuery; every error is a sentence. */
export interface Warehouse {
  /** The columns of a table; undefined when it is not there. */
  columns(table: string): Promise<readonly Column[] | undefined>;
  /** Makes a table, and the dataset for it, unless they are there. */
  create(table: string, columns: readonly Column[], more?: { readonly hours?: number }): Promise<void>;
  drop(table: string): Promise<void>;
  /** Replaces a table’s rows by these lines of JSON; how many rows came. */
  load(table: string, columns: readonly Column[], lines: AsyncIterable<Uint8Array>): Promise<number>;
  /** Runs SQL; the rows’ cells as text. */
  query(question: Question): Promise<readonly (readonly (string | null)[])[]>;
}

type Method = 'GET' | 'POST' | 'DELETE';

interface Reply {
  readonly body: unknown;
  readonly location: string | undefined;
}

type Ask = (method: Method, path: string, json?: object) => Promise<Reply>;

interface Job {
  readonly state: string | undefined;
  readonly failure: { readonly reason: string; readonly message: string } | undefined;
  readonly body: unknown;
}

/** Opens the dataset; nothing is sent yet. */
export async function openWarehouse(settings: BigQuerySettings): Promise<Warehouse> {
  const options = connectionOf(settings);
  const { BigQuery: Client } = await import('@google-cloud/bigquery').catch((cause: unknown) => {
    throw new CollectError('config', 'the BigQuery store needs @google-cloud/bigquery, which is not installed', {
      mend: 'npm install @google-cloud/bigquery',
      cause,
    });
  });
  const ask = asker(new Client(options), settings.STORE_BIGQUERY_PROJECT_ID);
  const place = `bigquery://${settings.STORE_BIGQUERY_PROJECT_ID}/${settings.STORE_BIGQUERY_DATASET}`;
  const explain = (thrown: unknown) => explained(thrown, place, new URL(options.apiEndpoint).host);
  const work = warehouseOf(ask, settings, `${options.apiEndpoint}/upload/bigquery/v2`);
  const told = <T>(promise: Promise<T>) => promise.catch((thrown: unknown) => Promise.reject(explain(thrown)));
  return {
    columns: (table) => told(work.columns(table)),
    create: (table, columns, more) => told(work.create(table, columns, more)),
    drop: (table) => told(work.drop(table)),
    load: (table, columns, lines) => told(work.load(table, columns, lines)),
    query: (question) => told(work.query(question)),
  };
}

function asker(client: BigQuery, project: string): Ask {
  return (method, path, json) => {
    const uri = path.startsWith('http') ? path : `/${path}`;
    const once = () =>
      new Promise<Reply>((resolve, reject) => {
        const asked = { method, uri, projectId: project, ...(json === undefined ? {} : { json }) };
        client.request(asked, (error, body, response) => {
          if (error !== null) reject(error);
          else
            resolve({ body, location: textAt((response as { headers?: unknown } | undefined)?.headers, 'location') });
        });
      });
    return patiently(once, googleOutlook);
  };
}

function warehouseOf(ask: Ask, settings: BigQuerySettings, upload: string): Warehouse {
  const projectId = settings.STORE_BIGQUERY_PROJECT_ID;
  const datasetId = settings.STORE_BIGQUERY_DATASET;
  const found = (path: string) => ask('GET', path).catch(unlessMissing);
  let known: Promise<string | undefined> | undefined;
  /** Where the dataset lies: jobs are asked for there. */
  async function location(): Promise<string | undefined> {
    known ??= found(`datasets/${datasetId}`).then((reply) => textAt(reply?.body, 'location'));
    const there = await known.catch(() => undefined);
    if (there === undefined) known = undefined;
    return there;
  }
  const jobs = jobsOf(ask, projectId, location);
  return {
    async columns(table) {
      const reply = await found(`datasets/${datasetId}/tables/${table}`);
      return reply === undefined ? undefined : columnsIn(reply.body);
    },
    async create(tableId, columns, more) {
      if ((await location()) === undefined) {
        const place = settings.STORE_BIGQUERY_LOCATION;
        const body = {
          datasetReference: { projectId, datasetId },
          ...(place === undefined ? {} : { location: place }),
        };
        await ask('POST', 'datasets', body).catch(unlessThere);
      }
      const expires = more?.hours === undefined ? {} : { expirationTime: String(Date.now() + more.hours * 3_600_000) };
      const clustered = columns.some(({ name }) => name === 'tenancy') ? { clustering: { fields: ['tenancy'] } } : {};
      const table = { tableReference: { projectId, datasetId, tableId }, schema: { fields: columns } };
      await ask('POST', `datasets/${datasetId}/tables`, { ...table, ...expires, ...clustered }).catch(unlessThere);
    },
    async drop(table) {
      await ask('DELETE', `datasets/${datasetId}/tables/${table}`).catch(unlessMissing);
    },
    async load(tableId, columns, lines) {
      const load = {
        destinationTable: { projectId, datasetId, tableId },
        schema: { fields: columns },
        sourceFormat: 'NEWLINE_DELIMITED_JSON',
        writeDisposition: 'WRITE_TRUNCATE',
        maxBadRecords: 0,
      };
      const job = { configuration: { load }, jobReference: { projectId, location: await location() } };
      const begun = await ask('POST', `${upload}/projects/${projectId}/jobs?uploadType=resumable`, job);
      if (begun.location === undefined)
        throw new CollectError('store', 'BigQuery begins no upload', { mend: 'run again' });
      const sent = await sendAll(begun.location, lines, async () => undefined);
      const done = await jobs.end(sent);
      const statistics = isObject(done.body) && isObject(done.body.statistics) ? done.body.statistics.load : undefined;
      return Number(textAt(statistics, 'outputRows') ?? Number.NaN);
    },
    async query({ sql, values = {}, once }) {
      const queryParameters = Object.entries(values).map(([name, value]) => ({
        name,
        parameterType: { type: 'STRING' },
        parameterValue: { value },
      }));
      const query = { query: sql, useLegacySql: false, parameterMode: 'NAMED', queryParameters };
      const defaultDataset = { projectId, datasetId };
      const job = await jobs.run({ query: { ...query, defaultDataset } }, once);
      return rowsIn((await ask('GET', `queries/${job}`)).body);
    },
  };
}

// Jobs

const MOST_TRIES = 5;
const LONGEST_MS = 2 * 3_600_000;

interface Jobs {
  /** Runs a job to its end; its id with the location, as an address. */
  run(configuration: object, once: string | undefined): Promise<string>;
  /** Waits for a job that was begun. */
  end(begun: unknown): Promise<Job>;
}

function jobsOf(ask: Ask, projectId: string, location: () => Promise<string | undefined>): Jobs {
  async function end(begun: unknown): Promise<Job> {
    const path = addressOf(begun);
    const until = Date.now() + LONGEST_MS;
    let job = jobIn(begun);
    for (let wait = 100; job.state !== 'DONE'; wait = Math.min(wait * 1.5, 5000)) {
      if (Date.now() > until)
        throw new CollectError('timeout', 'a job does not end', { mend: 'look at it in BigQuery' });
      await pause(wait);
      job = jobIn((await ask('GET', `jobs/${path}`)).body);
    }
    if (job.failure !== undefined) throw Object.assign(new Error(job.failure.message), { reason: job.failure.reason });
    return job;
  }
  return {
    end,
    async run(configuration, once) {
      const place = await location();
      for (let nth = 1; ; nth += 1) {
        // A failed job keeps its name, so the next try has another.
        const named = once === undefined ? {} : { jobId: `${once}_${nth}` };
        const job = { configuration, jobReference: { projectId, location: place, ...named } };
        const asked = await begin(ask, job, named.jobId, place);
        try {
          await end(asked.body);
          return addressOf(asked.body);
        } catch (thrown) {
          const again = asked.old || passesAgain(thrown);
          if (!again || nth === MOST_TRIES) throw thrown;
          if (!asked.old) await pause(250 * 2 ** nth);
        }
      }
    },
  };
}

/** Begins a job, or finds the one of that name. */
async function begin(
  ask: Ask,
  job: object,
  id: string | undefined,
  place: string | undefined,
): Promise<{ readonly body: unknown; readonly old: boolean }> {
  try {
    return { body: (await ask('POST', 'jobs', job)).body, old: false };
  } catch (thrown) {
    if (id === undefined || faultOf(thrown).status !== 409) throw thrown;
    const query = place === undefined ? '' : `?location=${encodeURIComponent(place)}`;
    return { body: (await ask('GET', `jobs/${id}${query}`)).body, old: true };
  }
}

/** Two that change one table at once: BigQuery gives up on one of them. */
function passesAgain(thrown: unknown): boolean {
  return (
    googleOutlook(thrown).mayPass || (thrown instanceof Error && /concurrent|serialize access/i.test(thrown.message))
  );
}

function addressOf(job: unknown): string {
  const reference = isObject(job) ? job.jobReference : undefined;
  const place = textAt(reference, 'location');
  return `${textAt(reference, 'jobId')}${place === undefined ? '' : `?location=${encodeURIComponent(place)}`}`;
}

function jobIn(body: unknown): Job {
  const status = isObject(body) ? body.status : undefined;
  const failure = isObject(status) ? status.errorResult : undefined;
  return {
    state: textAt(status, 'state'),
    failure: isObject(failure)
      ? { reason: textAt(failure, 'reason') ?? '', message: textAt(failure, 'message') ?? '' }
      : undefined,
    body,
  };
}

function columnsIn(body: unknown): readonly Column[] {
  const fields = isObject(body) && isObject(body.schema) ? body.schema.fields : undefined;
  if (!Array.isArray(fields)) return [];
  return fields.map((field) => ({ name: textAt(field, 'name') ?? '', type: textAt(field, 'type') ?? '' }));
}

function rowsIn(body: unknown): readonly (readonly (string | null)[])[] {
  const rows = isObject(body) ? body.rows : undefined;
  if (!Array.isArray(rows)) return [];
  return rows.map((row) =>
    (isObject(row) && Array.isArray(row.f) ? row.f : []).map((cell) => textAt(cell, 'v') ?? null),
  );
}

// What can go wrong

function unlessMissing(thrown: unknown): undefined {
  if (faultOf(thrown).status !== 404) throw thrown;
}

function unlessThere(thrown: unknown): undefined {
  if (faultOf(thrown).status !== 409) throw thrown;
}

const ROLES = 'BigQuery Job User on the project and BigQuery Data Editor on the dataset';

function explained(thrown: unknown, place: string, host: string): unknown {
  if (thrown instanceof CollectError || !(thrown instanceof Error)) return thrown;
  const fault = faultOf(thrown);
  if (fault.reason === 'invalid') return refusedRecord(thrown, place);
  if (fault.reason === 'invalidQuery' && passesAgain(thrown)) {
    return new CollectError('store', `${place} stays busy: others change the same table`, { mend: 'run again later' });
  }
  return googleError(thrown, {
    place,
    done: 'written',
    host,
    role: ROLES,
    credentials: 'STORE_BIGQUERY_CREDENTIALS',
    endpoint: 'STORE_BIGQUERY_API_ENDPOINT',
  });
}

/** The job's own words may quote the record, so only its number and what is wrong is told. */
function refusedRecord({ message }: Error, place: string): CollectError {
  const line = /line_number: (\d+)/.exec(message)?.[1];
  const which = line === undefined ? 'a value' : `record ${line}`;
  if (/round-trip/.test(message)) {
    return new CollectError('store', `${place}: BigQuery refuses ${which}: a number is too long for its type JSON`, {
      mend: 'nothing was stored; rename that table and set STORE_BIGQUERY_RECORD=text, or exclude the resource',
    });
  }
  return new CollectError('store', `${place}: BigQuery refuses ${which}: it is no JSON that it takes`, {
    mend: 'nothing of this upload was stored; report the record to the vendor or exclude the resource',
  });
}
