import { readdir } from 'node:fs/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { type RunningVendor, startVendor, type VendorOptions, vendors } from '../../src/simulator/vendor.ts';
import crowdstrike from '../../src/simulator/vendor_crowdstrike.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import tenableio from '../../src/simulator/vendor_tenableio.ts';
import { arrayAt, ask, byLinks, split } from './reader.ts';

let running: RunningVendor | undefined;
afterEach(async () => {
  await running?.close();
});

async function start(vendor: typeof okta, options: VendorOptions = {}): Promise<RunningVendor> {
  running = await startVendor(vendor, options);
  return running;
}

const idOf = (record: string) => (JSON.parse(record) as { id: string }).id;

describe('every vendor', () => {
  test('is found by its file', async () => {
    const files = await readdir(new URL('../../src/simulator/', import.meta.url));
    const named = files.flatMap((file) => /^vendor_(\w+)\.ts$/.exec(file)?.[1] ?? []);
    expect((await vendors()).map(({ name }) => name)).toEqual(named.sort());
  });

  test.each([okta, crowdstrike, tenableio])(
    '$name computes the same records each time, whole and none twice',
    async (vendor) => {
      const first = await start(vendor, { scale: 60 });
      for (const resource of new Set(vendor.routes.map((route) => route.resource).filter((name) => name !== 'token'))) {
        const truth = first.truth(resource);
        expect(truth.length).toBeGreaterThan(0);
        for (const record of truth) expect(JSON.parse(record)).toBeTypeOf('object');
        if (!/factors|roles|members|device_users/.test(resource)) expect(new Set(truth).size).toBe(truth.length);
        const again = await startVendor(vendor, { scale: 60 });
        expect(again.truth(resource)).toEqual(truth);
        await again.close();
      }
    },
  );

  test.each([
    [okta, 'users'],
    [crowdstrike, 'hosts'],
    [crowdstrike, 'vulnerabilities'],
    [tenableio, 'vulnerabilities'],
  ] as const)(
    '%o %s are of real size, and hold Unicode and an integer no double can hold',
    async (vendor, resource) => {
      const truth = (await start(vendor)).truth(resource);
      expect(truth).toHaveLength(450);
      const size = Buffer.byteLength(truth.join('')) / truth.length;
      expect(size).toBeGreaterThan(1000);
      expect(size).toBeLessThan(2600);
      expect(truth.every((record) => (/:(\d{16,})[,}]/.exec(record)?.[1] ?? '') !== '')).toBe(true);
      expect(
        truth.every((record) => BigInt(/:(\d{16,})[,}]/.exec(record)?.[1] ?? 0) > BigInt(Number.MAX_SAFE_INTEGER)),
      ).toBe(true);
      expect(/[^\p{ASCII}]/u.test(truth.join(''))).toBe(true);
      expect(truth.some((record) => record.includes('\\u00'))).toBe(true);
    },
  );

  test('an unexpected request gets a 501 and fails the end', async () => {
    const vendor = await start(okta);
    expect((await ask(vendor, '/api/v1/apps?limit=1', { method: 'DELETE' })).status).toBe(501);
    expect(vendor.unexpected).toEqual(['DELETE /api/v1/apps?limit=1']);
    await expect(vendor.finish()).rejects.toThrow('DELETE /api/v1/apps?limit=1');
  });
});

describe('okta', () => {
  test('serves every list and child', async () => {
    const vendor = await start(okta);
    const headers = { authorization: `SSWS ${vendor.env.OKTA_TOKEN}` };
    for (const name of ['users', 'groups', 'devices'])
      expect(await byLinks(vendor, `/api/v1/${name}?limit=200`, headers)).toEqual(vendor.truth(name));
    expect(await byLinks(vendor, '/api/v1/users?filter=status%20eq%20%22DEPROVISIONED%22', headers)).toEqual(
      vendor.truth('deprovisioned_users'),
    );
    const [everyone = '', nobody = ''] = vendor.truth('groups').map(idOf);
    expect(await byLinks(vendor, `/api/v1/groups/${everyone}/users?limit=200`, headers)).toEqual(vendor.truth('users'));
    expect(await byLinks(vendor, `/api/v1/groups/${nobody}/users`, headers)).toEqual([]);
    for (const [parent, child, name] of [
      ['groups', 'users', 'group_members'],
      ['users', 'factors', 'user_factors'],
      ['users', 'roles', 'user_roles'],
      ['devices', 'users', 'device_users'],
    ] as const) {
      const of = await Promise.all(
        vendor
          .truth(parent)
          .slice(0, 40)
          .map(async (record) => byLinks(vendor, `/api/v1/${parent}/${idOf(record)}/${child}`, headers)),
      );
      expect(of.flat().length).toBeGreaterThan(0);
      expect(of.flat()).toEqual(
        vendor
          .truth(parent)
          .slice(0, 40)
          .flatMap((record) => vendor.truth(name, { id: idOf(record) })),
      );
    }
    await vendor.finish();
  });

  test('refuses other tokens, and parents it does not know', async () => {
    const vendor = await start(okta);
    const wrong = await ask(vendor, '/api/v1/users', { headers: { authorization: 'SSWS wrong' } });
    expect([wrong.status, JSON.parse(wrong.text)]).toMatchObject([401, { errorCode: 'E0000011' }]);
    const headers = { authorization: `SSWS ${vendor.env.OKTA_TOKEN}` };
    expect((await ask(vendor, '/api/v1/groups/00gnobody/users', { headers })).status).toBe(404);
  });

  test('compresses for who takes it, with the same bytes inside', async () => {
    const vendor = await start(okta, { gzip: true });
    const headers = { authorization: `SSWS ${vendor.env.OKTA_TOKEN}`, 'accept-encoding': 'gzip' };
    const answer = await ask(vendor, '/api/v1/users', { headers });
    expect(answer.headers.get('content-encoding')).toBe('gzip');
    expect(split(answer.text)).toEqual(vendor.truth('users').slice(0, 200));
  });
});

describe('crowdstrike', () => {
  async function started(options: VendorOptions = {}) {
    const vendor = await start(crowdstrike, options);
    const body = new URLSearchParams({
      client_id: vendor.env.FALCON_CLIENT_ID ?? '',
      client_secret: vendor.env.FALCON_SECRET ?? '',
    });
    const token = await ask(vendor, '/oauth2/token', { method: 'POST', body });
    const headers = { authorization: `Bearer ${(JSON.parse(token.text) as { access_token: string }).access_token}` };
    return { vendor, headers, region: token.headers.get('x-cs-region') };
  }

  interface Body<T> {
    readonly resources: readonly T[];
    readonly errors: readonly { readonly code: number; readonly message: string }[];
    readonly meta: {
      readonly pagination: { readonly offset?: string; readonly after?: string; readonly total: number };
    };
  }

  /** Follows a cursor of the given name. */
  async function list<T>(
    vendor: RunningVendor,
    headers: Record<string, string>,
    path: string,
    name: 'offset' | 'after',
  ): Promise<{ rows: T[]; texts: string[] }> {
    const [rows, texts]: [T[], string[]] = [[], []];
    for (let next: string | undefined = ''; next !== undefined; ) {
      const { text } = await ask(vendor, `${path}${next === '' ? '' : `&${name}=${next}`}`, { headers });
      const body = JSON.parse(text) as Body<T>;
      rows.push(...body.resources);
      texts.push(...split(arrayAt(text, 'resources')));
      next = body.meta.pagination[name] || undefined;
    }
    return { rows, texts };
  }

  test('scrolls ids and serves hosts in batches', async () => {
    const { vendor, headers, region } = await started({ settings: { region: 'eu-1' } });
    expect(region).toBe('eu-1');
    const { rows } = await list<string>(vendor, headers, '/devices/queries/devices-scroll/v1?limit=5000', 'offset');
    const answer = await ask(vendor, '/devices/entities/devices/v2', {
      method: 'POST',
      headers,
      body: JSON.stringify({ ids: rows }),
    });
    expect(split(arrayAt(answer.text, 'resources'))).toEqual(vendor.truth('hosts'));
    expect((await ask(vendor, '/devices/queries/devices-scroll/v1?limit=10001', { headers })).status).toBe(400);
  });

  test('leaves a finding’s parts out when their facets are not sent', async () => {
    const { vendor, headers } = await started();
    const path = '/spotlight/combined/vulnerabilities/v1?filter=x&limit=400';
    const whole = `${path}&facet=cve&facet=host_info&facet=remediation`;
    expect((await list(vendor, headers, whole, 'after')).texts).toEqual(vendor.truth('vulnerabilities'));
    const bare = JSON.parse((await ask(vendor, path, { headers })).text) as Body<Record<string, object>>;
    expect(Object.keys(bare.resources[0] ?? {})).not.toContain('host_info');
    expect(Object.keys(bare.resources[0]?.cve ?? {})).toEqual(['id']);
    expect((await ask(vendor, '/spotlight/combined/vulnerabilities/v1', { headers })).status).toBe(400);
  });

  test('says that a search context died in a good answer', async () => {
    const { vendor, headers } = await started({ faults: [{ name: 'expired-cursor', resource: 'vulnerabilities' }] });
    const path = '/spotlight/combined/vulnerabilities/v1?filter=x&limit=200';
    const first = JSON.parse((await ask(vendor, path, { headers })).text) as Body<object>;
    for (const _ of ['at once', 'and again']) {
      const expired = await ask(vendor, `${path}&after=${first.meta.pagination.after}`, { headers });
      expect([expired.status, JSON.parse(expired.text)]).toMatchObject([
        200,
        { resources: [], errors: [{ code: 404, message: 'Search context expired' }] },
      ]);
    }
  });

  test('assesses four hosts of five; others are left out, strangers named', async () => {
    const { vendor, headers } = await started();
    const path = '/zero-trust-assessment/queries/assessments/v1?filter=score:>=0&limit=1000';
    const { rows } = await list<{ aid: string }>(vendor, headers, path, 'after');
    expect(rows).toHaveLength(360);
    const ask100 = async (ids: string[]) => {
      const got = await ask(
        vendor,
        `/zero-trust-assessment/entities/assessments/v1?${ids.map((id) => `ids=${id}`).join('&')}`,
        { headers },
      );
      return {
        status: got.status,
        body: JSON.parse(got.text) as Body<{ aid: string }>,
        texts: split(arrayAt(got.text, 'resources')),
      };
    };
    expect((await ask100(rows.slice(0, 100).map(({ aid }) => aid))).texts).toEqual(
      vendor.truth('zero_trust_assessment').slice(0, 100),
    );
    const hosts = vendor.truth('hosts').map((host) => (JSON.parse(host) as { device_id: string }).device_id);
    expect((await ask100(hosts.slice(0, 5))).body.resources).toHaveLength(4);
    const stranger = await ask100([hosts[0] ?? '', 'stranger']);
    expect([stranger.status, stranger.body.resources.length, stranger.body.errors[0]?.code]).toEqual([404, 1, 404]);
  });
});

describe('tenableio', () => {
  test.each([
    ['vulnerabilities', '/vulns/export', { num_assets: 500 }],
    ['assets', '/assets/export', { chunk_size: 1000 }],
    ['findings', '/compliance/export', {}],
    ['was', '/was/v1/export/vulns', { num_assets: 500 }],
  ] as const)('exports %s', async (resource, path, body) => {
    const vendor = await start(tenableio);
    const headers = { 'x-apikeys': `accessKey=${vendor.env.TIO_ACCESS_KEY};secretKey=${vendor.env.TIO_SECRET_KEY}` };
    const begun = await ask(vendor, path, { method: 'POST', headers, body: JSON.stringify(body) });
    const job = (JSON.parse(begun.text) as { export_uuid: string }).export_uuid;
    let status = { status: '', chunks_available: [] as number[] };
    while (status.status !== 'FINISHED')
      status = JSON.parse((await ask(vendor, `${path}/${job}/status`, { headers })).text);
    const rows: string[] = [];
    for (const id of status.chunks_available.sort())
      rows.push(...split((await ask(vendor, `${path}/${job}/chunks/${id}`, { headers })).text));
    expect(rows).toEqual(vendor.truth(resource));
    await vendor.finish();
  });

  test('refuses a size out of bounds, and answers a limit in HTML', async () => {
    const vendor = await start(tenableio, { limit: { requests: 1, seconds: 30 } });
    const headers = { 'x-apikeys': `accessKey=${vendor.env.TIO_ACCESS_KEY}; secretKey=${vendor.env.TIO_SECRET_KEY};` };
    expect((await ask(vendor, '/assets/export', { method: 'POST', headers, body: '{"chunk_size":20}' })).status).toBe(
      400,
    );
    const over = await ask(vendor, '/assets/export', { method: 'POST', headers, body: '{"chunk_size":100}' });
    expect([over.status, over.text.startsWith('<html')]).toEqual([429, true]);
    expect(Number(over.headers.get('retry-after'))).toBeGreaterThan(28);
  });
});
