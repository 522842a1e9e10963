import { CollectError } from '../errors.ts';
import { type JsonObject, numberAt, textAt } from '../json.ts';
import type { Headers } from './pace.ts';

/** What is about to be sent. */
export interface Outgoing {
  readonly method: string;
  readonly url: URL;
  readonly body: string | undefined;
}

/** An answer read whole. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

/** Asks for a token: the client's own way to the vendor, without credentials of its own. */
export type Exchange = (request: {
  readonly path: string;
  /** POST unless told. */
  readonly method?: 'GET' | 'POST';
  readonly form?: Readonly<Record<string, string>>;
  readonly body?: JsonObject;
  readonly headers?: Readonly<Record<string, string>>;
}) => Promise<Answer>;

/** How requests prove who we are. Called for each try, so signatures and renewed tokens are fresh. */
export interface Auth {
  headers(outgoing: Outgoing, exchange: Exchange): Promise<Readonly<Record<string, string>>>;
  /** Forgets what was refused; false when there is nothing to renew. */
  renew?(refused: Readonly<Record<string, string>>): boolean;
  /** Another base URL that the vendor named with the token. */
  base?(): string | undefined;
}

/** Headers that never change. */
export function staticHeaders(headers: Readonly<Record<string, string>>): Auth {
  return { headers: async () => headers };
}

/** HTTP Basic. */
export function basic(user: string, password: string): Auth {
  return staticHeaders({ authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` });
}

/** A token and how long it lives. */
export interface Token {
  readonly value: string;
  /** Seconds from now. */
  readonly lifetime: number;
  /** Base URL for everything else, where the vendor moves us. */
  readonly base?: string;
}

/** A bearer token that is fetched when needed, renewed before it ends and once when it is refused; all requests share one renewal. */
export function bearer(fetchToken: (exchange: Exchange) => Promise<Token>, margin = 300, now = Date.now): Auth {
  let current: Promise<{ token: Token; until: number }> | undefined;
  let base: string | undefined;
  async function renewed(exchange: Exchange): Promise<{ token: Token; until: number }> {
    const token = await fetchToken(exchange);
    base = token.base ?? base;
    // A token that lives shorter than the margin is used for half its life.
    return { token, until: now() + Math.max(token.lifetime - margin, token.lifetime / 2) * 1000 };
  }
  return {
    async headers(_outgoing, exchange) {
      for (let held = current; held !== undefined; held = current) {
        const { token, until } = await held;
        if (until > now()) return { authorization: `Bearer ${token.value}` };
        if (current === held) current = undefined;
      }
      current = renewed(exchange).catch((error) => {
        current = undefined;
        throw error;
      });
      return { authorization: `Bearer ${(await current).token.value}` };
    },
    renew(refused) {
      const held = current;
      if (held === undefined) return true;
      current = held.then((got) =>
        refused.authorization === `Bearer ${got.token.value}` ? { ...got, until: 0 } : got,
      );
      current.catch(() => {
        current = undefined;
      });
      return true;
    },
    base: () => base,
  };
}

/** Options of OAuth 2 client credentials. */
interface ClientCredentials {
  /** Token endpoint: a path of the base URL, or a URL. */
  readonly path: string;
  /** What is sent, as a form. */
  readonly form: Readonly<Record<string, string>>;
  /** Base URL read off the token's answer. */
  readonly base?: (headers: Headers) => string | undefined;
}

/** OAuth 2 client credentials (RFC 6749, 4.4). */
export function clientCredentials({ path, form, base }: ClientCredentials): Auth {
  return bearer(async (exchange) => {
    const answer = await exchange({ path, form });
    const value = textAt(answer.body, 'access_token');
    if (value === undefined) throw new CollectError('vendor', 'the token answer holds no access_token');
    const moved = base?.(answer.headers);
    return {
      value,
      lifetime: numberAt(answer.body, 'expires_in') ?? 1800,
      ...(moved === undefined ? {} : { base: moved }),
    };
  });
}
