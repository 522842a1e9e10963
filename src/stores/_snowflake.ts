import type { Binds, Connection, ConnectionOptions } from 'snowflake-sdk';
import { programShape } from '../config/program.ts';
import {
  assertEncrypted,
  baseUrl,
  choice,
  matching,
  optional,
  secret,
  setting,
  text,
  type Values,
} from '../config/setting.ts';
import { CollectError, type ErrorCode } from '../errors.ts';
import { isBroken, type Outlook, patiently } from './_patience.ts';

const NAME = /^[A-Za-z_][\w$]{0,254}$/;

/** The store's variables. */
export const snowflakeShape = {
  STORE_SNOWFLAKE_ACCOUNT: setting(
    'Account identifier, such as acme-eu1; with user and database it switches the store on',
    matching(/^[A-Za-z0-9_.-]+$/, 'must be an account identifier alone, without https://'),
  ),
  STORE_SNOWFLAKE_USERNAME: setting('Login of a service user'),
  STORE_SNOWFLAKE_DATABASE: setting('Database', matching(NAME, 'must be the name of a database')),
  STORE_SNOWFLAKE_SCHEMA: setting(
    'Schema, created when missing',
    matching(NAME, 'must be the name of a schema').default('PUBLIC'),
  ),
  STORE_SNOWFLAKE_RECORD: setting(
    'Type of the column json_data in new tables: variant, or text, which keeps decimals of any length',
    choice(['variant', 'text'], 'variant'),
  ),
  STORE_SNOWFLAKE_WAREHOUSE: setting('Warehouse that loads; unset = the user’s own', optional()),
  STORE_SNOWFLAKE_ROLE: setting('Role; unset = the user’s own', optional()),
  STORE_SNOWFLAKE_PASSWORD: secret('Password, where the account still lets service users have one', optional()),
  STORE_SNOWFLAKE_PRIVATE_KEY: secret('Private key in PEM (PKCS 8), whose public one the user has', optional()),
  STORE_SNOWFLAKE_PRIVATE_KEY_PASS: secret('Passphrase of that key', optional()),
  STORE_SNOWFLAKE_TOKEN: secret('Programmatic access token, in place of a key', optional()),
  STORE_SNOWFLAKE_ACCESS_URL: setting(
    'Base URL, for private links; unset = https://<account>.snowflakecomputing.com',
    optional(),
  ),
  STORE_SNOWFLAKE_APPLICATION: setting('Name that Snowflake lists the sessions by', text('cyber_collect')),
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
} as const;

/** Their values. */
export type SnowflakeSettings = Values<typeof snowflakeShape>;

/**
 * How the account is reached, and as whom: key, token, password.
 * @throws {CollectError} config, refused
 */
export function connectionOf(settings: SnowflakeSettings): ConnectionOptions {
  const url = settings.STORE_SNOWFLAKE_ACCESS_URL;
  const accessUrl =
    url === undefined ? undefined : assertEncrypted(baseUrl(url), settings.CYBER_COLLECT_ALLOW_HTTP).href;
  const { STORE_SNOWFLAKE_WAREHOUSE: warehouse, STORE_SNOWFLAKE_ROLE: role } = settings;
  return {
    account: settings.STORE_SNOWFLAKE_ACCOUNT,
    username: settings.STORE_SNOWFLAKE_USERNAME,
    database: settings.STORE_SNOWFLAKE_DATABASE,
    application: settings.STORE_SNOWFLAKE_APPLICATION,
    clientSessionKeepAlive: true,
    sfRetryMaxLoginRetries: 1, // a whole session is tried again here
    ...(accessUrl === undefined ? {} : { accessUrl: accessUrl.replace(/\/$/, '') }),
    ...(warehouse === undefined ? {} : { warehouse }),
    ...(role === undefined ? {} : { role }),
    ...loginOf(settings),
  };
}

function loginOf(settings: SnowflakeSettings): Partial<ConnectionOptions> {
  const { STORE_SNOWFLAKE_PRIVATE_KEY: privateKey, STORE_SNOWFLAKE_PRIVATE_KEY_PASS: pass } = settings;
  if (privateKey !== undefined) {
    return { authenticator: 'SNOWFLAKE_JWT', privateKey, ...(pass === undefined ? {} : { privateKeyPass: pass }) };
  }
  const { STORE_SNOWFLAKE_TOKEN: token, STORE_SNOWFLAKE_PASSWORD: password } = settings;
  if (token !== undefined) return { authenticator: 'PROGRAMMATIC_ACCESS_TOKEN', token };
  if (password !== undefined) return { password };
  throw new CollectError('config', 'STORE_SNOWFLAKE_ACCOUNT is set, but nothing to log in with', {
    mend: 'set STORE_SNOWFLAKE_PRIVATE_KEY, STORE_SNOWFLAKE_TOKEN or STORE_SNOWFLAKE_PASSWORD',
  });
}

/** A row: column names in capitals. */
export type Row = Readonly<Record<string, unknown>>;

/** One session; what is temporary in it ends with it. */
export interface Session {
  run(sql: string, binds?: readonly string[]): Promise<readonly Row[]>;
}

/** An account one may log in to; every error is a sentence. */
export interface Account {
  /** Does work in a session of its own, again where that can help; work asks first what an earlier try has done. */
  session<T>(work: (session: Session) => Promise<T>): Promise<T>;
}

/** Opens an account; nothing is sent yet. */
export async function openAccount(settings: SnowflakeSettings): Promise<Account> {
  const options = connectionOf(settings);
  const { default: snowflake } = await import('snowflake-sdk').catch((cause: unknown) => {
    throw new CollectError('config', 'the Snowflake store needs snowflake-sdk, which is not installed', {
      mend: 'npm install snowflake-sdk',
      cause,
    });
  });
  snowflake.configure({ logLevel: 'OFF', additionalLogToConsole: false }); // else it writes snowflake.log
  const place = `snowflake://${settings.STORE_SNOWFLAKE_ACCOUNT}/${settings.STORE_SNOWFLAKE_DATABASE}`;
  async function once<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const connection = snowflake.createConnection(options);
    await connected(connection);
    try {
      return await work({ run: (sql, binds = []) => executed(connection, sql, binds) });
    } finally {
      await new Promise<void>((resolve) => connection.destroy(() => resolve()));
    }
  }
  return {
    async session(work) {
      // The library itself sends again what a busy or lost server did not answer; a new session is for what is left.
      return patiently(() => once(work), outlookOf).catch((thrown: unknown) =>
        Promise.reject(explained(thrown, place)),
      );
    },
  };
}

function connected(connection: Connection): Promise<void> {
  return new Promise((resolve, reject) => {
    connection.connect((error) => {
      if (error === undefined || error === null) resolve();
      else reject(error);
    });
  });
}

function executed(connection: Connection, sqlText: string, binds: readonly string[]): Promise<readonly Row[]> {
  return new Promise((resolve, reject) => {
    connection.execute({
      sqlText,
      ...(binds.length === 0 ? {} : { binds: [...binds] as Binds }),
      complete(error, _statement, rows) {
        if (error) reject(error);
        else resolve(rows ?? []);
      },
    });
  });
}

// What can go wrong

function codeOf(thrown: unknown): string {
  return String((thrown as { code?: unknown }).code ?? '');
}

/** Node's word for what happened to the connection, which the library keeps inside. */
function brokenBy(thrown: unknown): string | undefined {
  for (let error: unknown = thrown, depth = 0; error instanceof Error && depth < 4; depth += 1) {
    const code = codeOf(error);
    if (isBroken(code) || code === 'ENOTFOUND' || /CERT|UNABLE_TO_/.test(code)) return code;
    error = error.cause;
  }
  return undefined;
}

const SESSION_GONE = /^(390111|390112|390114|390195|000607)$/;
const BUSY = /^(000625|000626|000629|390601|401001|401002)$/;

function outlookOf(thrown: unknown): Outlook {
  if (thrown instanceof CollectError) return { mayPass: false };
  const broken = brokenBy(thrown);
  return { mayPass: (broken !== undefined && isBroken(broken)) || SESSION_GONE.test(codeOf(thrown)) };
}

type Sentence = readonly [code: ErrorCode, what: string, mend: string];

const LOGIN = 'check STORE_SNOWFLAKE_USERNAME and its key, token or password';

const SENTENCES: Readonly<Record<string, Sentence>> = {
  '390100': ['credentials', 'refuses the user or password', LOGIN],
  '390102': ['credentials', 'has disabled this user', LOGIN],
  '390144': ['credentials', 'refuses the key', 'give the user the public key of STORE_SNOWFLAKE_PRIVATE_KEY'],
  '394300': ['credentials', 'refuses the key', 'give the user the public key of STORE_SNOWFLAKE_PRIVATE_KEY'],
  '394304': ['credentials', 'refuses the key', 'give the user the public key of STORE_SNOWFLAKE_PRIVATE_KEY'],
  '394400': ['credentials', 'refuses the token', 'make a new one and set STORE_SNOWFLAKE_TOKEN'],
  '394508': ['credentials', 'refuses the token as it has expired', 'make a new one and set STORE_SNOWFLAKE_TOKEN'],
  '390422': ['denied', 'does not let this address in', 'add it to the network policy of the user'],
  '390189': ['config', 'does not know the role, or not for this user', 'check STORE_SNOWFLAKE_ROLE'],
  '390201': ['config', 'does not know the database or warehouse', 'check STORE_SNOWFLAKE_DATABASE and _WAREHOUSE'],
  '003001': [
    'denied',
    'lacks a privilege of this role',
    'grant USAGE on database, schema and warehouse, and CREATE TABLE and CREATE STAGE on the schema',
  ],
  '002003': [
    'store',
    'does not know the database, schema or table, or not for this role',
    'check the names and grants',
  ],
  '002043': ['store', 'does not know the database or schema, or not for this role', 'check the names and grants'],
  '000606': ['config', 'has no warehouse for this session', 'set STORE_SNOWFLAKE_WAREHOUSE'],
  '090073': ['store', 'cannot resume the warehouse', 'check its resource monitor'],
  '000604': ['store', 'cancelled the statement', 'raise STATEMENT_TIMEOUT_IN_SECONDS for this user'],
  '000630': ['store', 'ended the statement at its time limit', 'raise STATEMENT_TIMEOUT_IN_SECONDS for this user'],
};

const REFUSED_RECORD = /^(100069|100038|100071|100078|100080|100082|100096|100132|100183|100200)$/;

/** A sentence for what Snowflake said, without its words where they may quote data. */
function explained(thrown: unknown, place: string): unknown {
  if (thrown instanceof CollectError || !(thrown instanceof Error)) return thrown;
  const code = codeOf(thrown);
  const told = (sentence: Sentence) => {
    return new CollectError(sentence[0], `${place}: Snowflake ${sentence[1]}`, { mend: sentence[2] });
  };
  if (REFUSED_RECORD.test(code)) {
    const line = /\bline (\d+)/.exec(thrown.message)?.[1];
    return told([
      'store',
      `refuses ${line === undefined ? 'a value' : `line ${line} of a part`} (${code})`,
      'nothing of this upload was stored; report the record to the vendor or exclude the resource',
    ]);
  }
  const known = SENTENCES[code.padStart(6, '0')];
  if (known !== undefined) return told(known);
  const broken = brokenBy(thrown);
  if (broken !== undefined && /CERT|UNABLE_TO_/.test(broken)) {
    const mend = 'name a file with the certificate of its authority in NODE_EXTRA_CA_CERTS';
    return told(['network', `has a certificate that is not trusted (${broken})`, mend]);
  }
  if (broken !== undefined || BUSY.test(code)) {
    const mend = 'check STORE_SNOWFLAKE_ACCOUNT and the network';
    return told(['network', `does not answer (${broken ?? code})`, mend]);
  }
  if (code === '') return thrown;
  return told(['store', `refused the upload (code ${code})`, 'look the code up in its documentation']);
}
