import { CollectError, type ErrorCode } from '../errors.ts';

/** Codes of the native protocol, section 9. */
const UNAVAILABLE = 0x1000;
const OVERLOADED = 0x1001;
const BOOTSTRAPPING = 0x1002;
const WRITE_TIMEOUT = 0x1100;
const READ_TIMEOUT = 0x1200;
const READ_FAILURE = 0x1300;
const WRITE_FAILURE = 0x1500;
const UNAUTHORIZED = 0x2100;
const PASSING: readonly (number | string)[] = [
  ...[UNAVAILABLE, OVERLOADED, BOOTSTRAPPING, WRITE_TIMEOUT, READ_TIMEOUT, READ_FAILURE, WRITE_FAILURE],
  ...['OperationTimedOutError', 'BusyConnectionError', 'NoHostAvailableError'],
  ...['ECONNRESET', 'EPIPE', 'ECONNREFUSED', 'ETIMEDOUT'],
];

const TRIES = 7;
const FIRST_WAIT = 250;
const LONGEST_WAIT = 10_000;

type Sentence = readonly [code: ErrorCode, what: string, mend: string];

const SENTENCES: Readonly<Record<string, Sentence>> = {
  AuthenticationError: [
    'credentials',
    'refuses the login',
    'check STORE_CASSANDRA_USERNAME and STORE_CASSANDRA_PASSWORD, for Astra ASTRA_DB_APPLICATION_TOKEN',
  ],
  ArgumentError: [
    'config',
    'has no data center of that name near the contact points',
    'set STORE_CASSANDRA_LOCAL_DC to what nodetool status prints behind Datacenter:',
  ],
  [UNAUTHORIZED]: [
    'denied',
    'lacks a permission of this role',
    'grant SELECT and MODIFY on the keyspace, and CREATE where tables are to be made',
  ],
  [UNAVAILABLE]: ['store', 'has too few live replicas', 'start the nodes, or lower STORE_CASSANDRA_CONSISTENCY'],
  [OVERLOADED]: ['throttled', 'stayed overloaded', 'lower STORE_CASSANDRA_CONCURRENCY, or run again later'],
  [WRITE_TIMEOUT]: ['timeout', 'did not confirm in time', 'lower STORE_CASSANDRA_CONCURRENCY, or run again later'],
  [WRITE_FAILURE]: ['store', 'failed on a replica', 'look into the log of the nodes'],
  OperationTimedOutError: ['timeout', 'does not answer', 'check the nodes, the route and the firewall'],
  BusyConnectionError: ['throttled', 'has no free connection', 'lower STORE_CASSANDRA_CONCURRENCY'],
  ECONNREFUSED: ['network', 'does not answer: connection refused', 'check the contact points and the port'],
  ENOTFOUND: ['network', 'is an unknown host', 'check STORE_CASSANDRA_CONTACT_POINTS'],
  EAI_AGAIN: ['network', 'is a host whose name cannot be resolved now', 'check the contact points and the DNS'],
  ETIMEDOUT: ['timeout', 'does not answer', 'check the route and the firewall'],
  ECONNRESET: ['network', 'breaks the connection', 'check the port, STORE_CASSANDRA_TLS and the network'],
};

/** How often and how long a statement is tried again; all of ours may be repeated. Undefined when that cannot help. */
export function patience(cause: unknown, tries: number): number | undefined {
  if (tries >= TRIES || !nearest(cause).some((key) => PASSING.includes(key))) return undefined;
  const base = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries - 1));
  return base + Math.random() * base * 0.25;
}

/** Whether the nodes are asked for more than they can do. */
export function isOverload(cause: unknown): boolean {
  return nearest(cause).some((key) => [OVERLOADED, WRITE_TIMEOUT, 'BusyConnectionError'].includes(key));
}

/** Whether a login was refused, which the driver tells as one error a host. */
function isLogin(keys: readonly (number | string)[]): boolean {
  return keys.includes('AuthenticationError');
}

/** What tells an error apart: its code and class, of a failure of every host also those of each host. */
function nearest(cause: unknown): readonly (number | string)[] {
  if (!(cause instanceof Error)) return [];
  const inner = 'innerErrors' in cause ? Object.values((cause.innerErrors as object | undefined) ?? {}) : [];
  const keys = inner.flatMap(nearest);
  if (isLogin(keys)) return ['AuthenticationError'];
  const code = 'code' in cause ? [cause.code as number | string] : [];
  return [...keys, ...code, cause.name];
}

/** A sentence for what the cluster or the driver said, without its words where they may quote data. */
export function cassandraError(target: string, cause: unknown, what = 'a statement'): unknown {
  if (cause instanceof CollectError || !(cause instanceof Error)) return cause;
  const keys = nearest(cause);
  const known = keys.map((key) => SENTENCES[String(key)]).find((sentence) => sentence !== undefined);
  if (known !== undefined) return new CollectError(known[0], `${target}: the cluster ${known[1]}`, { mend: known[2] });
  const tls = keys.find((key) => /CERT|SIGNATURE|SELF_SIGNED|^ERR_TLS|^ERR_SSL|^EPROTO/.test(String(key)));
  if (tls !== undefined) {
    return new CollectError('network', `${target}: the certificate or TLS of the cluster is not accepted (${tls})`, {
      mend: 'set STORE_CASSANDRA_TLS and STORE_CASSANDRA_TLS_CA as the cluster is set up',
    });
  }
  const code = keys.find((key) => typeof key === 'number');
  if (code !== undefined) {
    const hex = `0x${code.toString(16).padStart(4, '0')}`;
    return new CollectError('store', `${target}: the cluster refuses ${what} (code ${hex})`, {
      mend: 'compare the table with the one in the documentation, and look the code up in the native protocol',
    });
  }
  if (keys.includes('NoHostAvailableError')) {
    return new CollectError('network', `${target}: no node of the cluster answers`, {
      mend: 'check the contact points, the port and STORE_CASSANDRA_TLS',
    });
  }
  return cause;
}
