import { createPrivateKey, sign } from 'node:crypto';
import { CollectError } from '../errors.ts';
import { numberAt, textAt } from '../json.ts';
import { type Auth, bearer } from './auth.ts';

/** A service account, and what its tokens are for. */
export interface GoogleAccount {
  /** The text of the key file. */
  readonly key: string;
  readonly scopes: readonly string[];
  /** Who is acted for, by domain-wide delegation. */
  readonly subject?: string;
}

const GRANT = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const MEND = 'download a new JSON key of the service account';

/**
 * Tokens of a Google service account (RFC 7523), signed with its key. The token endpoint is the key file's.
 * @throws {CollectError} config when the key file is none
 */
export function googleAccount({ key, scopes, subject }: GoogleAccount, now = Date.now): Auth {
  const file = parsed(key);
  const iss = textAt(file, 'client_email');
  const pem = textAt(file, 'private_key');
  const path = textAt(file, 'token_uri') ?? 'https://oauth2.googleapis.com/token';
  if (iss === undefined || pem === undefined) {
    throw new CollectError('config', 'the key file holds no client_email or no private_key', { mend: MEND });
  }
  const privateKey = keyOf(pem);
  return bearer(
    async (exchange) => {
      const iat = Math.floor(now() / 1000);
      const claims = { iss, scope: scopes.join(' '), aud: path, iat, exp: iat + 3600 };
      const parts = [{ alg: 'RS256', typ: 'JWT' }, subject === undefined ? claims : { ...claims, sub: subject }];
      const text = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
      const assertion = `${text}.${sign('sha256', Buffer.from(text), privateKey).toString('base64url')}`;
      const answer = await exchange({ path, form: { grant_type: GRANT, assertion } });
      const value = textAt(answer.body, 'access_token');
      if (value === undefined) throw new CollectError('vendor', 'the token answer holds no access_token');
      return { value, lifetime: numberAt(answer.body, 'expires_in') ?? 3599 };
    },
    300,
    now,
  );
}

function parsed(key: string): unknown {
  try {
    return JSON.parse(key);
  } catch {
    throw new CollectError('config', 'the key file is no JSON', { mend: MEND });
  }
}

function keyOf(pem: string) {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new CollectError('config', 'the private_key of the key file cannot be read', { mend: MEND });
  }
}
