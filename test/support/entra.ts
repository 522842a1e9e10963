import { json, type Route, serve } from './server.ts';

/** A tenant of one's own, behind a token that it gives to everyone, and the variables that lead there. */
export async function tenantOf(variables: string, route: Route, names = { url: 'BASE_URL', authority: 'AUTHORITY' }) {
  const { origin, received } = await serve((request, response, nth) => {
    if (request.url.pathname !== '/t/oauth2/v2.0/token') return route(request, response, nth);
    return json(response, { token_type: 'Bearer', expires_in: 3599, access_token: `token-${nth}` });
  });
  const env: Record<string, string> = {
    [`${variables}_${names.url}`]: origin.href,
    [`${variables}_${names.authority}`]: origin.href,
    [`${variables}_TENANT_ID`]: 't',
    [`${variables}_CLIENT_ID`]: 'c',
    [`${variables}_CLIENT_SECRET`]: 's',
  };
  return { origin, received, env };
}
