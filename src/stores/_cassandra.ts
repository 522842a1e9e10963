import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Client, DseClientOptions, QueryOptions, types } from 'cassandra-driver';
import { astraShape } from '../config/astra.ts';
import { choice, flag, integer, list, optional, secret, setting, text, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { cassandraError, isOverload, patience } from './_cassandra_errors.ts';

const LEVELS = ['localQuorum', 'quorum', 'eachQuorum', 'all', 'localOne', 'one', 'two', 'three'] as const;

/** The store's variables. */
export const cassandraShape = {
  STORE_CASSANDRA_CONTACT_POINTS: setting('Hosts to begin with; switches the store on', list().optional()),
  STORE_CASSANDRA_LOCAL_DC: setting('Name of the data center to write to', optional()),
  STORE_ASTRA_BUNDLE: setting(
    'Path of the secure connect bundle (zip) of an Astra database; switches the store on, without contact points',
    optional(),
  ),
  STORE_CASSANDRA_PORT: setting('CQL port', integer(9042, 1, 65_535)),
  STORE_CASSANDRA_USERNAME: setting('Login, where the cluster asks for one', optional()),
  STORE_CASSANDRA_PASSWORD: secret('Password', optional()),
  STORE_CASSANDRA_TLS: setting(
    'TLS to the nodes: off, on, or unchecked (encrypted, to whoever answers)',
    choice(['off', 'on', 'unchecked'], 'off'),
  ),
  STORE_CASSANDRA_TLS_CA: setting('PEM file of the certificate authority of the nodes', optional()),
  STORE_CASSANDRA_KEYSPACE: setting('Keyspace; unset = ASTRA_DB_KEYSPACE', optional()),
  STORE_CASSANDRA_TABLE: setting('Table of syslog events; other datasets have a table of ours', text('events')),
  STORE_CASSANDRA_CONCURRENCY: setting('Statements under way at once', integer(64, 1, 1024)),
  STORE_CASSANDRA_CONSISTENCY: setting(
    'Consistency of writes; those who read whole uploads need localQuorum too',
    choice(LEVELS, 'localQuorum'),
  ),
  STORE_CASSANDRA_TTL: setting('Seconds after which rows expire; 0 = never', integer(0, 0, 630_720_000)),
  STORE_CASSANDRA_KEEP: setting('Earlier uploads of a snapshot to keep, for readers that are at them', integer(1)),
  STORE_CASSANDRA_CREATE: setting('Make the keyspace and tables where they are missing', flag()),
  ...astraShape,
} as const;

/** Their values. */
export type CassandraSettings = Values<typeof cassandraShape>;

/** A prepared statement and its values; a Buffer is a value that is encoded already. */
export interface Statement {
  readonly query: string;
  readonly params: readonly unknown[];
}

/** A cluster this store writes to; what fails in passing is tried again, as every statement may be repeated. */
export interface Cluster {
  /** Where it is, as a person would look for it. */
  readonly place: string;
  readonly keyspace: string;
  run(query: string, params?: readonly unknown[]): Promise<types.ResultSet>;
  /** Statements of one partition: applied together or not at all. */
  together(statements: readonly Statement[]): Promise<void>;
  /** Starts statements of one partition once there is room; their end, and their fault, is told by the tally. */
  push(tally: Tally, statements: readonly Statement[], bytes: number, what: string): Promise<void>;
  close(): Promise<void>;
}

/** What one upload has under way. */
export interface Tally {
  readonly running: Set<Promise<void>>;
  failure?: { readonly cause: unknown };
}

/**
 * Name of the cluster in messages, or undefined when the store is off.
 * @throws {CollectError} config
 */
export function placeOf(settings: CassandraSettings): string | undefined {
  const points = settings.STORE_CASSANDRA_CONTACT_POINTS ?? [];
  if (settings.STORE_ASTRA_BUNDLE !== undefined) {
    if (points.length > 0) {
      throw new CollectError('config', 'STORE_ASTRA_BUNDLE and STORE_CASSANDRA_CONTACT_POINTS are both set', {
        mend: 'set the bundle for Astra, or the contact points for a cluster',
      });
    }
    if (settings.ASTRA_DB_APPLICATION_TOKEN === undefined && settings.STORE_CASSANDRA_PASSWORD === undefined) {
      throw new CollectError('config', 'STORE_ASTRA_BUNDLE is set, ASTRA_DB_APPLICATION_TOKEN is not', {
        mend: 'set ASTRA_DB_APPLICATION_TOKEN',
      });
    }
    return `astra ${basename(settings.STORE_ASTRA_BUNDLE)}`;
  }
  if (points.length === 0) return undefined;
  if (settings.STORE_CASSANDRA_LOCAL_DC === undefined) {
    throw new CollectError('config', 'STORE_CASSANDRA_CONTACT_POINTS is set, STORE_CASSANDRA_LOCAL_DC is not', {
      mend: 'set STORE_CASSANDRA_LOCAL_DC to what nodetool status prints behind Datacenter:',
    });
  }
  return `cassandra://${points[0]}`;
}

/**
 * A name in CQL, which does not tell capitals apart.
 * @throws {CollectError} config
 */
export function nameOf(variable: string, name: string): string {
  if (/^[A-Za-z]\w{0,47}$/.test(name)) return name.toLowerCase();
  throw new CollectError('config', `${variable} is no name of at most 48 letters, digits and underscores`, {
    mend: `correct ${variable}`,
  });
}

/** The keyspace that is written to. */
export function keyspaceOf(settings: CassandraSettings): string {
  const { STORE_CASSANDRA_KEYSPACE: own, ASTRA_DB_KEYSPACE: shared } = settings;
  return own === undefined ? nameOf('ASTRA_DB_KEYSPACE', shared) : nameOf('STORE_CASSANDRA_KEYSPACE', own);
}

const TRIES_TO_CONNECT = 3;
const BYTES_UNDER_WAY = 16 * 2 ** 20;

/** A cluster, connected to on use. */
export async function clusterOf(settings: CassandraSettings, place: string): Promise<Cluster> {
  const driver = await import('cassandra-driver').catch(notInstalled);
  const consistency = driver.types.consistencies[settings.STORE_CASSANDRA_CONSISTENCY];
  const options: QueryOptions = { prepare: true, isIdempotent: true, consistency, fetchSize: 1000 };
  const gate = gateOf(settings.STORE_CASSANDRA_CONCURRENCY);
  const { repeat, close } = connectionOf(() => connect(driver.Client, settings), gate, place);
  const batch = (statements: readonly Statement[], what?: string) =>
    repeat(
      (ready) => ready.batch(statements as { query: string; params: unknown[] }[], { ...options, logged: false }),
      what,
    );
  return {
    place,
    keyspace: keyspaceOf(settings),
    close,
    run: (query, params = []) => repeat((ready) => ready.execute(query, [...params], options)),
    async together(statements) {
      await batch(statements);
    },
    async push(tally, statements, bytes, what) {
      const release = await gate.enter(bytes);
      if (tally.failure !== undefined) return release();
      const running: Promise<void> = batch(statements, what)
        .then(() => undefined)
        .catch((cause: unknown) => {
          tally.failure ??= { cause };
        })
        .finally(() => {
          tally.running.delete(running);
          release();
        });
      tally.running.add(running);
    },
  };
}

function notInstalled(cause: NodeJS.ErrnoException): never {
  if (cause.code !== 'ERR_MODULE_NOT_FOUND') throw cause;
  throw new CollectError('config', 'this store uses the package cassandra-driver, which is not installed', {
    mend: 'npm install cassandra-driver',
  });
}

interface Connection {
  /** Does work with a client, again where that can help. `what` names the work in errors. */
  repeat<T>(work: (client: Client) => Promise<T>, what?: string): Promise<T>;
  close(): Promise<void>;
}

function connectionOf(open: () => Promise<Client>, gate: Gate, place: string): Connection {
  let connected: Promise<Client> | undefined;
  function client(): Promise<Client> {
    const opening = connected ?? open();
    connected = opening;
    return opening.catch((cause) => {
      if (connected === opening) connected = undefined;
      throw cause;
    });
  }
  return {
    async repeat(work, what) {
      for (let tries = 1; ; tries += 1) {
        try {
          const result = await work(await client());
          gate.went();
          return result;
        } catch (cause) {
          if (isOverload(cause)) gate.slow();
          const wait = connected === undefined && tries >= TRIES_TO_CONNECT ? undefined : patience(cause, tries);
          if (wait === undefined) throw cassandraError(place, cause, what);
          await pause(wait);
        }
      }
    },
    async close() {
      const closing = connected;
      connected = undefined;
      await closing?.then((ready) => ready.shutdown()).catch(() => undefined);
    },
  };
}

/** Waits for what is under way. @throws what the first failure was */
export async function settled(tally: Tally): Promise<void> {
  while (tally.running.size > 0) await Promise.all(tally.running);
  if (tally.failure !== undefined) throw tally.failure.cause;
}

interface Gate {
  enter(bytes: number): Promise<() => void>;
  /** Halves what may be under way. */
  slow(): void;
  /** Lets it grow again, by one for as many as went well. */
  went(): void;
}

/** Bounds what is under way, in statements and in bytes; a large one goes when it is alone. */
function gateOf(most: number): Gate {
  const waiting: (() => void)[] = [];
  let allowed = most;
  let count = 0;
  let size = 0;
  const wake = () => {
    for (const go of waiting.splice(0)) go();
  };
  return {
    async enter(bytes) {
      while (count > 0 && (count >= allowed || size + bytes > BYTES_UNDER_WAY)) {
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
      count += 1;
      size += bytes;
      return () => {
        count -= 1;
        size -= bytes;
        wake();
      };
    },
    slow() {
      allowed = Math.max(1, Math.floor(allowed / 2));
    },
    went() {
      allowed = Math.min(most, allowed + 1 / allowed);
    },
  };
}

async function connect(Driver: typeof Client, settings: CassandraSettings): Promise<Client> {
  const client = new Driver(await optionsOf(settings));
  try {
    await client.connect();
    return client;
  } catch (cause) {
    await client.shutdown().catch(() => undefined);
    const bundle = settings.STORE_ASTRA_BUNDLE;
    // Errors of the network have a code, the driver's own have info: what is left is about what is in the file.
    if (bundle === undefined || 'code' in (cause as Error) || 'info' in (cause as Error)) throw cause;
    throw new CollectError('config', `${bundle} is no secure connect bundle`, {
      mend: 'download it again from the portal of Astra',
    });
  }
}

async function optionsOf(settings: CassandraSettings): Promise<DseClientOptions> {
  const { STORE_CASSANDRA_USERNAME: username, STORE_CASSANDRA_PASSWORD: password } = settings;
  const common: DseClientOptions = {
    applicationName: 'cyber-collect',
    monitorReporting: { enabled: false },
    pooling: { warmup: true },
  };
  const bundle = settings.STORE_ASTRA_BUNDLE;
  if (bundle !== undefined) {
    await readable('STORE_ASTRA_BUNDLE', bundle, stat);
    const token = settings.ASTRA_DB_APPLICATION_TOKEN ?? '';
    const credentials = { username: username ?? 'token', password: password ?? token };
    return { ...common, cloud: { secureConnectBundle: bundle }, credentials };
  }
  return {
    ...common,
    contactPoints: [...(settings.STORE_CASSANDRA_CONTACT_POINTS ?? [])],
    localDataCenter: settings.STORE_CASSANDRA_LOCAL_DC ?? '',
    protocolOptions: { port: settings.STORE_CASSANDRA_PORT },
    ...(username === undefined ? {} : { credentials: { username, password: password ?? '' } }),
    ...(await tlsOf(settings)),
  };
}

async function tlsOf(settings: CassandraSettings): Promise<Pick<DseClientOptions, 'sslOptions'>> {
  const { STORE_CASSANDRA_TLS: mode, STORE_CASSANDRA_TLS_CA: path } = settings;
  if (mode === 'off') return {};
  const sslOptions = { rejectUnauthorized: mode === 'on' };
  if (path === undefined) return { sslOptions };
  const ca = await readable('STORE_CASSANDRA_TLS_CA', path, readFile);
  // Nodes are called by their addresses, which their certificates rarely name: an authority of one's own decides.
  return { sslOptions: { ...sslOptions, ca, checkServerIdentity: () => undefined } };
}

async function readable<T>(variable: string, path: string, read: (path: string) => Promise<T>): Promise<T> {
  return read(path).catch((cause: NodeJS.ErrnoException) => {
    throw new CollectError('config', `${variable}: ${path} cannot be read (${cause.code})`, {
      mend: 'correct the path',
    });
  });
}
