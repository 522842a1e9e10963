import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import pLimit from 'p-limit';
import type { Pool, PoolClient, PoolConfig } from 'pg';
import { choice, integer, optional, secret, setting, text, type Values } from '../config/setting.ts';
import { CollectError, type ErrorCode } from '../errors.ts';
import { LAYOUTS } from './_rows.ts';

/** The store's variables. */
export const postgresShape = {
  STORE_POSTGRES_HOST: setting('Host name, address, or folder of the Unix socket; switches the store on'),
  STORE_POSTGRES_PORT: setting('Port', integer(5432, 1, 65535)),
  STORE_POSTGRES_USER: setting('Login; unset = the name of the OS user', optional()),
  STORE_POSTGRES_PASSWORD: secret('Password', optional()),
  STORE_POSTGRES_DBNAME: setting('Database; unset = the name of the user', optional()),
  STORE_POSTGRES_SCHEMA: setting('Schema, created when missing', text('public')),
  STORE_POSTGRES_MODE: setting(
    'What a snapshot does to earlier ones: append keeps them, replace deletes those of its tenancy',
    choice(['append', 'replace'], 'append'),
  ),
  STORE_POSTGRES_LAYOUT: setting(
    'raw: records whole in json_data; typed: a column for each key; both: raw, and typed in <tag>_typed',
    choice(LAYOUTS, 'raw'),
  ),
  STORE_POSTGRES_SSLMODE: setting(
    'TLS: disable, prefer (if the server has it), require (unchecked), verify-ca, verify-full',
    choice(['disable', 'prefer', 'require', 'verify-ca', 'verify-full'], 'prefer'),
  ),
  STORE_POSTGRES_SSLROOTCERT: setting('Path of the PEM file of the certificate authority', optional()),
  STORE_POSTGRES_BATCH_SIZE: setting(
    'Without effect, as a dataset is one COPY; older settings stay valid',
    integer(5000, 1),
  ),
};

/** Their values. */
export type PostgresSettings = Values<typeof postgresShape>;

/** Who logs in, and to which database. */
export function loginOf(settings: PostgresSettings): { readonly user: string; readonly database: string } {
  const user = settings.STORE_POSTGRES_USER ?? userInfo().username;
  return { user, database: settings.STORE_POSTGRES_DBNAME ?? user };
}

// The connection

const CONNECTIONS = 4;

/** A server this store writes to. */
export interface Server {
  /** Runs work on a connection of its own, again where that can help; work asks first what an earlier try has done. */
  repeat<T>(target: string, work: (client: PoolClient) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** A server, connected to on use. */
export function serverOf(settings: PostgresSettings): Server {
  // The pool's own queue would count waiting as part of the time to connect.
  const enter = pLimit(CONNECTIONS);
  let pool: Promise<Pool> | undefined;
  async function use<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    pool ??= poolOf(settings);
    const opened = pool;
    const client = await opened.then(
      (ready) => ready.connect(),
      (error) => {
        if (pool === opened) pool = undefined;
        throw error;
      },
    );
    return borrow(client, work);
  }
  return {
    async repeat(target, work) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await enter(() => use(work));
        } catch (cause) {
          const wait = patience(cause, attempt);
          if (wait === undefined) throw storeError(settings, target, cause);
          await pause(wait);
        }
      }
    },
    async close() {
      const closing = pool;
      pool = undefined;
      await closing?.then((ready) => ready.end()).catch(() => undefined);
    },
  };
}

async function borrow<T>(client: PoolClient, work: (client: PoolClient) => Promise<T>): Promise<T> {
  let broken = true;
  try {
    const result = await work(client);
    broken = false;
    return result;
  } finally {
    client.release(broken);
  }
}

async function poolOf(settings: PostgresSettings): Promise<Pool> {
  const { default: pg } = await import('pg');
  const { user, database } = loginOf(settings);
  const config: PoolConfig = {
    host: settings.STORE_POSTGRES_HOST,
    port: settings.STORE_POSTGRES_PORT,
    user,
    database,
    ...(settings.STORE_POSTGRES_PASSWORD === undefined ? {} : { password: settings.STORE_POSTGRES_PASSWORD }),
    application_name: 'cyber-collect',
    connectionTimeoutMillis: 30_000,
    keepAlive: true,
    max: CONNECTIONS,
  };
  async function start(ssl: PoolConfig['ssl']): Promise<Pool> {
    const pool = new pg.Pool({ ...config, ssl: ssl ?? false });
    // A lost connection fails the query under way as well; without these an idle one would end the process.
    pool.on('error', () => undefined);
    pool.on('connect', (client) => client.on('error', () => undefined));
    try {
      (await pool.connect()).release();
      return pool;
    } catch (cause) {
      await pool.end();
      throw cause;
    }
  }
  const ssl = await tlsOf(settings);
  if (settings.STORE_POSTGRES_SSLMODE !== 'prefer') return start(ssl);
  return start(ssl).catch((cause: unknown) => {
    if (isWithoutTls(cause)) return start(false);
    throw cause;
  });
}

async function tlsOf(settings: PostgresSettings): Promise<PoolConfig['ssl']> {
  const mode = settings.STORE_POSTGRES_SSLMODE;
  if (mode === 'disable' || settings.STORE_POSTGRES_HOST.startsWith('/')) return false;
  const path = settings.STORE_POSTGRES_SSLROOTCERT;
  if (mode === 'prefer' || (mode === 'require' && path === undefined)) return { rejectUnauthorized: false };
  const authority = path === undefined ? {} : { ca: await certificate(path) };
  if (mode === 'verify-full') return { ...authority, rejectUnauthorized: true };
  return { ...authority, rejectUnauthorized: true, checkServerIdentity: () => undefined };
}

async function certificate(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CollectError('config', `STORE_POSTGRES_SSLROOTCERT: ${path} cannot be read (${cause.code})`, {
      mend: 'set it to the PEM file of the authority that signed the server certificate',
    });
  });
}

function isWithoutTls(cause: unknown): boolean {
  return cause instanceof Error && cause.message.includes('does not support SSL');
}

// What can go wrong

const TRANSIENT = /^(53000|53200|53300|53400|57P03|40001|40P01|55P03)$/;
const LOST = /^(08...|57P01|57P02|ECONNRESET|EPIPE)$/;

function codeOf(cause: unknown): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : '';
}

function isLost(cause: unknown): boolean {
  return (
    LOST.test(codeOf(cause)) || (cause instanceof Error && /Connection terminated|not queryable/.test(cause.message))
  );
}

/** How long to wait before the work is tried again; undefined when that would not help. */
function patience(cause: unknown, attempt: number): number | undefined {
  if (cause instanceof CollectError) return undefined;
  if (TRANSIENT.test(codeOf(cause))) return attempt <= 5 ? 125 * 2 ** attempt : undefined;
  return isLost(cause) && attempt === 1 ? 250 : undefined;
}

type Sentence = readonly [code: ErrorCode, what: string, mend: string];

const SENTENCES: Readonly<Record<string, Sentence>> = {
  '28P01': ['credentials', 'refuses the password', 'set STORE_POSTGRES_USER and STORE_POSTGRES_PASSWORD'],
  '28000': ['credentials', 'refuses the login', 'check STORE_POSTGRES_USER and the lines of pg_hba.conf'],
  '3D000': ['config', 'has no such database', 'create it or set STORE_POSTGRES_DBNAME'],
  '42501': [
    'denied',
    'lacks a privilege of this user',
    'grant CREATE on the database or schema, SELECT, INSERT and DELETE on its tables',
  ],
  '42P01': ['store', 'lost a table meanwhile', 'run again'],
  '42703': ['store', 'has a table with other columns', 'rename that table'],
  '42P07': ['store', 'has something else of that name', 'rename it'],
  '42809': ['store', 'has something of that name that is no table', 'rename it'],
  '2BP01': ['store', 'has something that rests on a view which has to change', 'drop it, or let it rest on the table'],
  '54011': ['store', 'has no room for more columns in the table', 'set STORE_POSTGRES_LAYOUT=raw'],
  '23502': ['store', 'has a table with further columns that must be set', 'rename that table or give them defaults'],
  '53100': ['store', 'has no space left', 'free space on the disk of the server'],
  '57014': ['store', 'cancelled the statement', 'raise statement_timeout for this user'],
  '25006': ['store', 'is read-only', 'set STORE_POSTGRES_HOST to the primary server'],
  ECONNREFUSED: [
    'network',
    'does not answer: connection refused',
    'check STORE_POSTGRES_HOST, STORE_POSTGRES_PORT and that the server runs',
  ],
  ENOTFOUND: ['network', 'is an unknown host', 'check STORE_POSTGRES_HOST'],
  EAI_AGAIN: ['network', 'is a host whose name cannot be resolved now', 'check STORE_POSTGRES_HOST and the DNS'],
  EHOSTUNREACH: ['network', 'cannot be reached', 'check the route and firewall'],
  ENETUNREACH: ['network', 'cannot be reached', 'check the route and firewall'],
  ETIMEDOUT: ['timeout', 'does not answer', 'check the route and firewall'],
  ENOENT: ['network', 'has no socket there', 'check STORE_POSTGRES_HOST and that the server runs'],
  EACCES: ['network', 'has a socket this user may not open', 'check the rights on STORE_POSTGRES_HOST'],
};

/** A sentence for what the server or the connection said, without its words where they may quote data. */
function storeError(settings: PostgresSettings, target: string, cause: unknown): unknown {
  if (cause instanceof CollectError || !(cause instanceof Error)) return cause;
  const code = codeOf(cause);
  if (SENTENCES[code] === undefined && /^22|^54/.test(code)) return refusedRecord(target, cause, code);
  const known = SENTENCES[code] ?? sentenceOf(settings, cause);
  if (known !== undefined) return new CollectError(known[0], `${target}: the server ${known[1]}`, { mend: known[2] });
  if (/^[0-9A-Z]{5}$/.test(code)) {
    const mend = 'look the SQLSTATE up in the manual of PostgreSQL';
    return new CollectError('store', `${target}: the server refused the upload (SQLSTATE ${code})`, { mend });
  }
  return cause;
}

function sentenceOf(settings: PostgresSettings, cause: Error): Sentence | undefined {
  const code = codeOf(cause);
  if (isLost(cause)) return ['network', 'broke the connection twice', 'check its log and the network'];
  if (TRANSIENT.test(code))
    return ['store', `stayed busy (SQLSTATE ${code})`, 'run again later or raise max_connections'];
  if (/SASL|password must be a string/.test(cause.message)) return SENTENCES['28P01'];
  if (/timeout/i.test(cause.message)) return SENTENCES.ETIMEDOUT;
  if (isWithoutTls(cause))
    return ['config', 'has no TLS', 'set STORE_POSTGRES_SSLMODE=prefer where the network is trusted'];
  if (/CERT|SIGNATURE|SELF_SIGNED|^ERR_TLS|^ERR_SSL|^EPROTO/.test(code)) {
    const mode = settings.STORE_POSTGRES_SSLMODE;
    return ['network', `has a certificate that ${mode} does not accept (${code})`, 'set STORE_POSTGRES_SSLROOTCERT'];
  }
  return undefined;
}

const REFUSED: Readonly<Record<string, string>> = {
  '22021': 'it is no valid UTF-8',
  '22P02': 'it is no valid JSON',
  '22P04': 'it holds raw control characters',
  '22P05': 'the encoding of the database cannot hold it; create the database with UTF8',
  '22003': 'it holds a number that is too large',
  '22001': 'a column is too short',
  '54000': 'it is too large for jsonb',
  '54001': 'it is nested too deep',
};

function refusedRecord(target: string, cause: Error, code: string): CollectError {
  const line = 'where' in cause ? /^COPY .*?, line (\d+)/m.exec(String(cause.where))?.[1] : undefined;
  const which = line === undefined ? 'a value' : `record ${line}`;
  const why = REFUSED[code] ?? 'its value does not fit';
  return new CollectError('store', `${target}: PostgreSQL refuses ${which}: ${why} (SQLSTATE ${code})`, {
    mend: 'nothing of this upload was stored; report the record to the vendor or exclude the resource',
  });
}
