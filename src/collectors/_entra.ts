import type { INetworkModule, NetworkRequestOptions, NetworkResponse } from '@azure/msal-node';
import { CollectError } from '../errors.ts';
import { type Auth, bearer, type Exchange } from '../http/auth.ts';

/** An app registration: it proves itself with a secret, or with a certificate. */
export interface App {
  readonly tenant: string;
  readonly client: string;
  readonly secret?: string | undefined;
  /** PEM. */
  readonly certificate?: { readonly thumbprint: string; readonly key: string } | undefined;
  /** Where tokens come from, such as https://login.microsoftonline.com */
  readonly authority: URL;
  /** What the token is for, such as https://graph.microsoft.com/.default */
  readonly scope: string;
}

/** A token of Microsoft Entra ID for an app, through msal-node. */
export function entra(app: App): Auth {
  return bearer(async (exchange) => {
    const { ConfidentialClientApplication } = await import('@azure/msal-node');
    const root = authorityOf(app);
    let cause: unknown;
    const told: Exchange = async (request) => {
      try {
        return await exchange(request);
      } catch (error) {
        cause = error;
        throw error;
      }
    };
    const client = new ConfidentialClientApplication({
      auth: {
        clientId: app.client,
        authority: root,
        knownAuthorities: [app.authority.host],
        // Known beforehand, so that nothing is looked up at hosts of other clouds.
        authorityMetadata: JSON.stringify(metadataOf(root)),
        ...proofOf(app),
      },
      system: { networkClient: networkOf(app.authority, told) },
    });
    const asked = client.acquireTokenByClientCredential({ scopes: [app.scope], skipCache: true });
    // msal puts an error of its own in the place of ours, which says what to do.
    const token = await asked.catch((error: unknown) => {
      throw cause ?? error;
    });
    // msal takes an answer without a token for one.
    if (token === null || !token.accessToken)
      throw new CollectError('vendor', 'the token answer holds no access token');
    const until = token.expiresOn?.getTime() ?? Date.now() + 1_800_000;
    return { value: token.accessToken, lifetime: (until - Date.now()) / 1000 };
  });
}

/** msal accepts https alone; the network module turns it back into what was asked for. */
function authorityOf({ authority, tenant }: App): string {
  return `https://${authority.host}/${encodeURIComponent(tenant)}`;
}

function metadataOf(root: string): Readonly<Record<string, string>> {
  return {
    issuer: `${root}/v2.0`,
    authorization_endpoint: `${root}/oauth2/v2.0/authorize`,
    token_endpoint: `${root}/oauth2/v2.0/token`,
    jwks_uri: `${root}/discovery/v2.0/keys`,
  };
}

function proofOf({ secret, certificate }: App) {
  if (certificate !== undefined)
    return { clientCertificate: { thumbprintSha256: certificate.thumbprint, privateKey: certificate.key } };
  if (secret !== undefined) return { clientSecret: secret };
  throw new CollectError('config', 'the app has neither a client secret nor a certificate');
}

/** msal's requests go our way: proxies, CA files and retries hold for them too. */
function networkOf(authority: URL, exchange: Exchange): INetworkModule {
  async function send<T>(method: 'GET' | 'POST', asked: string, options?: NetworkRequestOptions) {
    const url = new URL(asked);
    if (url.host === authority.host) url.protocol = authority.protocol;
    const form = formOf(options?.body ?? '');
    const answer = await exchange({ path: url.href, method, ...(method === 'POST' ? { form } : {}) });
    return { status: answer.status, headers: {}, body: answer.body as T } satisfies NetworkResponse<T>;
  }
  return {
    sendGetRequestAsync: (url, options) => send('GET', url, options),
    sendPostRequestAsync: (url, options) => send('POST', url, options),
  };
}

/** A form's fields, but for those in which msal tells of itself and of this machine. */
function formOf(body: string): Readonly<Record<string, string>> {
  return Object.fromEntries([...new URLSearchParams(body)].filter(([name]) => !name.startsWith('x-')));
}
