import type { ServerResponse } from 'node:http';
import { json, type Received, type ScriptedServer, serveOn } from './server.ts';

type Document = Readonly<Record<string, unknown>>;

/** A command as it came. */
export interface Command {
  readonly name: string;
  readonly target: string | undefined;
  readonly body: { readonly documents?: readonly Document[]; readonly filter?: Document };
  /** Commands of this name before it. */
  readonly before: number;
}

/** Answers instead of the database, where it returns true. */
export type Interference = (command: Command, response: ServerResponse) => boolean;

/** A Data API that holds what it is given in memory, by the rules of the real one that a writer can meet. */
export interface FakeDataApi {
  readonly server: ScriptedServer;
  readonly keyspace: string;
  readonly token: string;
  /** Documents of a table or collection. */
  documents(target: string): readonly Document[];
  commands(name: string): readonly Command[];
  close(): Promise<void>;
}

interface Store {
  readonly keys: readonly string[];
  readonly columns: readonly string[] | undefined;
  readonly rows: Map<string, Document>;
}

const PAGE = 20;
const MOST_DOCUMENTS = 100;
const MOST_BODY = 1_000_000;

/** Serves until it is closed. `existing` are tables with their columns, the key first. */
export async function dataApi(
  interfere: Interference = () => false,
  existing: Readonly<Record<string, { readonly keys: readonly string[]; readonly columns: readonly string[] }>> = {},
): Promise<FakeDataApi> {
  const keyspace = 'logs';
  const token = 'AstraCS:hush-hush-0007';
  const stores = new Map<string, Store>(
    Object.entries(existing).map(([name, { keys, columns }]) => [name, { keys, columns, rows: new Map() }]),
  );
  const seen: Command[] = [];
  const server = await serveOn((request, response) => {
    const failed = refusal(request, token, keyspace);
    if (failed !== undefined) return json(response, failed.body, failed.status);
    const [name = '', body] = Object.entries(JSON.parse(request.body) as Record<string, Command['body']>)[0] ?? [];
    const target = request.url.pathname.split('/')[5];
    const before = seen.filter((command) => command.name === name).length;
    const command: Command = { name, target, body: body ?? {}, before };
    seen.push(command);
    if (interfere(command, response)) return undefined;
    return json(response, answerTo(command, stores));
  });
  return {
    server,
    close: () => server.close(),
    keyspace,
    token,
    documents: (target) => [...(stores.get(target)?.rows.values() ?? [])],
    commands: (name) => seen.filter((command) => command.name === name),
  };
}

function refusal(request: Received, token: string, keyspace: string): { body: unknown; status: number } | undefined {
  if (request.headers.token !== token) return { body: errors('UNAUTHENTICATED_REQUEST'), status: 401 };
  if (Buffer.byteLength(request.body) > MOST_BODY) return { body: {}, status: 413 };
  if (request.method !== 'POST' || !request.url.pathname.startsWith(`/api/json/v1/${keyspace}`)) {
    return { body: {}, status: 404 };
  }
  return undefined;
}

/** An answer that is an error with status 200. */
export function errors(...codes: readonly string[]): unknown {
  return { errors: codes.map((errorCode) => ({ errorCode, message: 'quotes "hush-hush-0001"' })) };
}

function answerTo({ name, target, body }: Command, stores: Map<string, Store>): unknown {
  if (name === 'createTable' || name === 'createCollection') return create(body, stores);
  const store = stores.get(target ?? '');
  if (store === undefined) return errors('COLLECTION_NOT_EXIST');
  const found = [...store.rows].filter(([, row]) => matches(row, body.filter ?? {}));
  switch (name) {
    case 'insertMany':
      return insert(store, body.documents ?? []);
    case 'find':
      return page(
        found.map(([, row]) => row),
        body,
      );
    case 'deleteOne':
      for (const [key] of found.slice(0, 1)) store.rows.delete(key);
      return { status: { deletedCount: Math.min(1, found.length) } };
    case 'deleteMany': {
      const gone = store.columns === undefined ? found.slice(0, PAGE) : found;
      for (const [key] of gone) store.rows.delete(key);
      const more = gone.length < found.length ? { moreData: true } : {};
      return { status: { deletedCount: store.columns === undefined ? gone.length : -1, ...more } };
    }
    default:
      return errors('COMMAND_UNKNOWN');
  }
}

function create(body: Document, stores: Map<string, Store>): unknown {
  const { name, definition } = body as {
    name: string;
    definition?: {
      columns: Record<string, string>;
      primaryKey: { partitionBy: string[]; partitionSort: Record<string, number> };
    };
  };
  if (!stores.has(name)) {
    const key = definition?.primaryKey;
    const keys = key === undefined ? ['_id'] : [...key.partitionBy, ...Object.keys(key.partitionSort)];
    const columns = definition === undefined ? undefined : Object.keys(definition.columns);
    stores.set(name, { keys, columns, rows: new Map() });
  }
  return { status: { ok: 1 } };
}

function insert({ keys, columns, rows }: Store, documents: readonly Document[]): unknown {
  if (documents.length > MOST_DOCUMENTS) return errors('REQUEST_STRUCTURE_MISMATCH');
  const codes: string[] = [];
  const documentResponses = documents.map((document) => {
    const key = JSON.stringify(keys.map((name) => document[name]));
    const unknown = columns !== undefined && Object.keys(document).some((name) => !columns.includes(name));
    const code = unknown
      ? 'UNKNOWN_TABLE_COLUMNS'
      : columns === undefined && rows.has(key)
        ? 'DOCUMENT_ALREADY_EXISTS'
        : undefined;
    if (code === undefined) {
      rows.set(key, document);
      return { _id: document._id ?? keys.map((name) => document[name]), status: 'OK' };
    }
    codes.push(code);
    return { _id: document._id, status: 'ERROR', errorsIdx: codes.length - 1 };
  });
  return { status: { documentResponses }, ...(codes.length === 0 ? {} : (errors(...codes) as object)) };
}

function matches(row: Document, filter: Document): boolean {
  return Object.entries(filter).every(([name, value]) => row[name] === value);
}

function page(found: readonly Document[], body: Command['body']): unknown {
  const { sort, options } = body as { sort?: Record<string, number>; options?: { pageState?: string; limit?: number } };
  const by = Object.keys(sort ?? {})[0];
  const sorted = by === undefined ? found : found.toSorted((a, b) => (String(a[by]) < String(b[by]) ? 1 : -1));
  const from = Number(options?.pageState ?? 0);
  const documents = sorted.slice(from, from + Math.min(PAGE, options?.limit ?? PAGE));
  const next = from + PAGE < sorted.length && by === undefined ? String(from + PAGE) : null;
  return { data: { documents, nextPageState: next } };
}
