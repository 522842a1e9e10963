import {
  around,
  batch,
  CLIENT,
  countsUsers,
  expired,
  graphError,
  graphUser,
  graphVendor,
  type PartReply,
  pages,
  SKUS,
  TENANT,
} from './graph.ts';
import { digits, hex, mix, moment, person, pick, text, uuid } from './invent.ts';
import { type Ask, arrayOf, none, type Records, type Request, span } from './paging.ts';
import { defineVendor } from './vendor.ts';

const SECRET = 'canary-microsoft365~8Q8aB7cD6eF5gH4iJ3kL2';

function sku(index: number): string {
  const [skuId, skuPartNumber] = SKUS[index % SKUS.length] ?? SKUS[0];
  const record = {
    id: `${TENANT}_${skuId}`,
    skuId: index < SKUS.length ? skuId : uuid(index, 63),
    skuPartNumber: index < SKUS.length ? skuPartNumber : `SKU_${index}_É`,
    capabilityStatus: 'Enabled',
    consumedUnits: mix(index, 64) % 900,
    prepaidUnits: { enabled: 1000, suspended: 0, warning: 0, lockedOut: 0 },
    servicePlans: [{ servicePlanId: uuid(index, 65), servicePlanName: 'INTUNE_A', appliesTo: 'User' }],
  };
  return text(record, index);
}

const deviceId = (index: number) => uuid(index, 66);

function device(index: number): string {
  const { first, last, mail } = person(index);
  const record = {
    id: deviceId(index),
    deviceName: `${first}’s "laptop" ${index}`,
    userId: uuid(index, 61),
    userDisplayName: `${first} ${last}`,
    emailAddress: mail,
    operatingSystem: pick(['Windows', 'macOS', 'iOS', 'Android'], index, 67),
    osVersion: '10.0.22631.3593',
    lastSyncDateTime: moment(index, 68),
  };
  return text(record, index);
}

function app(parent: number, index: number): string {
  const record = {
    id: `${hex(index, 69, 40)}${index}`,
    displayName: pick(['7-Zip', 'Visual Studio "Code"', 'Éditeur\\Texte', '一太郎'], index, 70),
    version: `${index}.0.${parent}`,
    sizeInByte: digits(String(9_007_199_254_740_993n + BigInt(index))),
    deviceCount: 0,
    publisher: index % 3 === 0 ? null : 'Søren & Söhne',
    platform: 'windows',
  };
  return text(record, parent + index);
}

const devicesOf = (scale: number) => Math.max(4, Math.ceil(scale / 2));
const appsOn = (parent: number) => (parent === 1 ? 0 : 1 + (mix(parent, 71) % 5));

function indexOf(id: string, scale: number): number | undefined {
  const index = Number.parseInt(id.slice(-12), 16);
  return index < devicesOf(scale) && deviceId(index) === id ? index : undefined;
}

function appsOf(scale: number, { params }: Request): Records {
  const parent = indexOf(params.id ?? '', scale);
  return { count: parent === undefined ? 0 : appsOn(parent), at: (index) => app(parent ?? 0, index) };
}

const APPS = /^\/deviceManagement\/managedDevices\/([^/?]+)\/detectedApps(?:\?\$skiptoken=(\d+))?$/;
/** Apps on a page. */
const A_PAGE = 3;

/** One part's answer; every fifth device is throttled at first where the settings say so. */
function part(ask: Ask, url: string): PartReply {
  const { session } = ask;
  const [, id = '', skip = '0'] = APPS.exec(url) ?? [];
  const parent = indexOf(decodeURIComponent(id), session.scale);
  if (parent === undefined) return { status: 404, body: graphError(404, 'no such device') };
  if (session.settings.parts === 'throttled' && parent % 5 === 0 && !session.passes.has(url)) {
    session.passes.set(url, 1);
    return { status: 429, headers: { 'Retry-After': '1' }, body: graphError(429, 'too many requests') };
  }
  const [from, count] = [Number(skip), appsOn(parent)];
  const to = Math.min(from + A_PAGE, count);
  const array = arrayOf({ count, at: (index) => app(parent, index) }, span(from, to), ask.fault);
  const on = `${session.origin}/beta${url.replace(/\?.*/, '')}?$skiptoken=${to}`;
  const next = to < count ? `,"@odata.nextLink":${JSON.stringify(on)}` : '';
  const body = `{"@odata.context":"https://graph.microsoft.com/beta/$metadata#list"${next},"value":${array}}`;
  return { status: 200, headers: { 'Content-Type': 'application/json' }, body };
}

function* devices(scale: number): Generator<{ id: string }> {
  for (let index = 0; index < devicesOf(scale); index += 1) yield { id: deviceId(index) };
}

const { token, ...common } = graphVendor(SECRET);

export default defineVendor({
  ...common,
  name: 'microsoft365',
  env: (origin) => ({
    MICROSOFT365_BASE_URL: origin,
    MICROSOFT365_AUTHORITY: origin,
    MICROSOFT365_TENANT_ID: TENANT,
    MICROSOFT365_CLIENT_ID: CLIENT,
    MICROSOFT365_CLIENT_SECRET: SECRET,
    MICROSOFT365_TOOMANYREQUEST_SLEEP: '1',
  }),
  routes: [
    token,
    {
      path: '/v1.0/users',
      resource: 'users',
      paging: pages(999),
      total: true,
      when: countsUsers,
      records: (scale) => ({ count: scale, at: (index) => text(graphUser(index), index) }),
      wrap: around,
      expired,
    },
    {
      path: '/v1.0/subscribedSkus',
      resource: 'subscribed_skus',
      paging: none(),
      when: ({ query }) => query.size === 0,
      records: (scale) => ({ count: Math.ceil(scale / 4), at: sku }),
      wrap: around,
      expired,
    },
    {
      path: '/v1.0/deviceManagement/managedDevices',
      resource: 'managed_devices',
      paging: pages(1000, 1000),
      when: ({ query }) => query.get('$select')?.split(',').includes('id') === true,
      records: (scale) => ({ count: devicesOf(scale), at: device }),
      wrap: around,
      expired,
    },
    {
      path: '/beta/$batch',
      method: 'POST',
      resource: 'device_apps',
      paging: batch(APPS, part),
      records: appsOf,
      parents: devices,
    },
  ],
});
