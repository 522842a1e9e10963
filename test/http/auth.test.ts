import { describe, expect, it } from 'vitest';
import {
  type Answer,
  type Auth,
  basic,
  bearer,
  clientCredentials,
  type Exchange,
  staticHeaders,
} from '../../src/http/auth.ts';
import { gate } from '../support/server.ts';

const outgoing = { method: 'GET', url: new URL('https://vendor.example/x'), body: undefined };
const noExchange: Exchange = () => Promise.reject(new Error('no token was to be asked for'));

function answering(body: unknown, headers = {}): Exchange {
  return async (): Promise<Answer> => ({ status: 200, headers, body });
}

/** Tokens that count up; `ask` is called for each. */
function counted(lifetime: number, now: () => number, margin = 300): { auth: Auth; asked: () => number } {
  let asked = 0;
  const auth = bearer(
    async () => {
      asked += 1;
      return { value: `t${asked}`, lifetime };
    },
    margin,
    now,
  );
  return { auth, asked: () => asked };
}

describe('headers that never change', () => {
  it('are sent as they are', async () => {
    expect(await staticHeaders({ 'x-key': 'k' }).headers(outgoing, noExchange)).toEqual({ 'x-key': 'k' });
  });

  it('basic holds user and password in UTF-8', async () => {
    const { authorization } = await basic('üser', 'pa:ss').headers(outgoing, noExchange);
    expect(Buffer.from((authorization ?? '').replace('Basic ', ''), 'base64').toString()).toBe('üser:pa:ss');
  });
});

describe('a bearer token', () => {
  it.each([
    [3600, 300, 3299, 3301],
    [400, 300, 199, 201], // shorter than the margin leaves: half its life
    [60, 300, 29, 31],
  ])('of %i s with a margin of %i is good after %i s and renewed after %i', async (lifetime, margin, good, over) => {
    let time = 0;
    const { auth, asked } = counted(lifetime, () => time, margin);
    await auth.headers(outgoing, noExchange);
    time = good * 1000;
    await auth.headers(outgoing, noExchange);
    expect(asked()).toBe(1);
    time = over * 1000;
    expect(await auth.headers(outgoing, noExchange)).toEqual({ authorization: 'Bearer t2' });
    expect(asked()).toBe(2);
  });

  it('is asked for once by many, also when all find it over', async () => {
    let time = 0;
    const { auth, asked } = counted(3600, () => time);
    await Promise.all(Array.from({ length: 20 }, () => auth.headers(outgoing, noExchange)));
    expect(asked()).toBe(1);
    time = 3_600_000;
    await Promise.all(Array.from({ length: 20 }, () => auth.headers(outgoing, noExchange)));
    expect(asked()).toBe(2);
  });

  it('that was refused is renewed once, though many were refused with it', async () => {
    const { auth, asked } = counted(3600, () => 0);
    const refused = await auth.headers(outgoing, noExchange);
    for (let n = 0; n < 20; n += 1) {
      expect(auth.renew?.(refused)).toBe(true);
      await auth.headers(outgoing, noExchange);
    }
    expect(asked()).toBe(2);
    expect(await auth.headers(outgoing, noExchange)).toEqual({ authorization: 'Bearer t2' });
  });

  it('that could not be had is asked for again next time', async () => {
    let asked = 0;
    const auth = bearer(async () => {
      asked += 1;
      if (asked === 1) throw new Error('down');
      return { value: 'good', lifetime: 3600 };
    });
    const both = await Promise.allSettled([auth.headers(outgoing, noExchange), auth.headers(outgoing, noExchange)]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(asked).toBe(1);
    auth.renew?.({});
    expect(await auth.headers(outgoing, noExchange)).toEqual({ authorization: 'Bearer good' });
  });

  it('refused while its successor is under way costs no third one', async () => {
    const slow = gate();
    let asked = 0;
    const auth = bearer(async () => {
      asked += 1;
      if (asked === 2) await slow.opened;
      return { value: `t${asked}`, lifetime: 3600 };
    });
    const first = await auth.headers(outgoing, noExchange);
    auth.renew?.(first);
    const second = auth.headers(outgoing, noExchange);
    await Promise.resolve();
    auth.renew?.(first); // a late answer to the first token
    slow.open();
    expect(await second).toEqual({ authorization: 'Bearer t2' });
    expect(await auth.headers(outgoing, noExchange)).toEqual({ authorization: 'Bearer t2' });
    expect(asked).toBe(2);
  });
});

describe('client credentials', () => {
  const options = { path: '/token', form: { grant_type: 'client_credentials' } };

  it('take token, life and the new base from the answer', async () => {
    const auth = clientCredentials({ ...options, base: (headers) => headers['x-base'] as string });
    expect(auth.base?.()).toBeUndefined();
    const exchange = answering({ access_token: 'abc', expires_in: '1799' }, { 'x-base': 'https://eu.vendor.example' });
    expect(await auth.headers(outgoing, exchange)).toEqual({ authorization: 'Bearer abc' });
    expect(auth.base?.()).toBe('https://eu.vendor.example');
  });

  it('send the form to the token’s path', async () => {
    const asked: unknown[] = [];
    await clientCredentials(options).headers(outgoing, async (request) => {
      asked.push(request);
      return { status: 200, headers: {}, body: { access_token: 'abc' } };
    });
    expect(asked).toEqual([{ path: '/token', form: { grant_type: 'client_credentials' } }]);
  });

  it.each([{}, null, [], { access_token: '' }])('an answer of %j is no token', async (body) => {
    await expect(clientCredentials(options).headers(outgoing, answering(body))).rejects.toMatchObject({
      code: 'vendor',
      message: expect.stringContaining('access_token'),
    });
  });
});
