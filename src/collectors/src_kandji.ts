import { baseUrl, secret, setting } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { staticHeaders } from '../http/auth.ts';
import { rawValue } from '../http/fields.ts';
import { resetHeader } from '../http/pace.ts';
import { nextUrl, paginator } from '../http/paginate.ts';
import { RecordSplitter, type Split } from '../http/records.ts';
import type { Rule } from '../http/retry.ts';
import { numberAt, textAt } from '../json.ts';
import { defineCollector } from './collector.ts';

/** The device was deleted since it was listed. */
const gone: readonly Rule[] = [{ status: 404, as: 'empty' }];

/** The server may cut a page short, so only an empty one is the last. */
const untilEmpty = paginator('offset until an empty page', ({ url, records }) => {
  if (records === 0) return undefined;
  return { query: { offset: Number(url.searchParams.get('offset') ?? 0) + records } };
});

/** A next URL where there is one, else page numbers up to the declared total. */
const pages = paginator('next URL or page number', ({ url, body, records, total }) => {
  const next = textAt(body, 'next');
  if (next !== undefined) return { url: next };
  const more = records > 0 && total < (numberAt(body, 'total') ?? Number.POSITIVE_INFINITY);
  return more ? { query: { page: Number(url.searchParams.get('page') ?? 1) + 1 } } : undefined;
});

export default defineCollector({
  name: 'kandji',
  title: 'Iru Endpoint Management (Kandji)',
  docs: 'https://api-docs.kandji.io/',
  env: {
    KANDJI_API_URL: setting(
      'API URL of the tenant, such as https://acme.api.kandji.io or https://acme.api.eu.kandji.io',
    ),
    KANDJI_API_TOKEN: secret('API token with the read permissions that the resources need'),
  },
  http: ({ KANDJI_API_URL, KANDJI_API_TOKEN }) => ({
    baseUrl: baseUrl(KANDJI_API_URL.replace(/\/api(\/v1)?\/*$/, '')),
    auth: staticHeaders({ authorization: `Bearer ${KANDJI_API_TOKEN}` }),
    pace: [
      resetHeader('ratelimit-remaining', 'ratelimit-reset', 'ratelimit-limit', 1),
      resetHeader('x-ratelimit-remaining-hour', undefined, 'x-ratelimit-limit-hour', 3600),
    ],
  }),
  resources: {
    devices: {
      about: 'Enrolled devices of every platform',
      path: '/api/v1/devices',
      query: { limit: 300, offset: 0, ordering: 'serial_number' },
      paginate: untilEmpty,
      id: 'device_id',
      needs: 'Device list',
    },
    device_details: {
      about: 'What each device reports of its hardware, encryption and management',
      each: 'devices',
      path: '/api/v1/devices/{device_id}/details',
      single: true,
      split: detailed,
      keep: { _device_id: 'device_id' },
      id: '_device_id',
      needs: 'Device details',
      secrets: [
        'activation_lock.bypass_code',
        'activation_lock.device_based_albc',
        'activation_lock.user_based_albc',
        'lost_mode.bypass_code',
      ],
      errors: gone,
    },
    device_parameters: {
      about: 'State of each parameter that a blueprint sets on a device',
      each: 'devices',
      path: '/api/v1/devices/{device_id}/parameters',
      records: 'parameters',
      keep: { _device_id: 'device_id' },
      id: ['_device_id', 'item_id'],
      needs: 'Device parameters',
      errors: gone,
    },
    device_library_items: {
      about: 'State of each library item on a device, with its log',
      each: 'devices',
      path: '/api/v1/devices/{device_id}/status',
      records: 'library_items',
      keep: { _device_id: 'device_id' },
      id: ['_device_id', 'id'],
      needs: 'Device status',
      errors: gone,
    },
    blueprints: {
      about: 'Blueprints, which say what a device is to have',
      path: '/api/v1/blueprints',
      query: { limit: 100, offset: 0 },
      records: 'results',
      paginate: nextUrl('next'),
      total: 'count',
      id: 'id',
      needs: 'Blueprint list',
      secrets: ['enrollment_code.code'],
      errors: [{ status: 400, body: /cursor|offset/i, as: 'expired', because: 'the next link has expired' }],
    },
    vulnerabilities: {
      about: 'Vulnerabilities found on devices, one record a CVE',
      path: '/api/v1/vulnerability-management/vulnerabilities',
      query: { page: 1, size: 50, sort_by: 'cve_id' },
      records: 'results',
      paginate: pages,
      total: 'total',
      id: 'cve_id',
      needs: 'Vulnerability management list',
      errors: [{ status: [403, 404], as: 'unlicensed', because: 'vulnerability management is an add-on' }],
    },
  },
});

/** An error with status 200 would look like a device: all devices have the section `general`. */
function detailed(bounds: Parameters<Split>[0]): RecordSplitter {
  const edit = (record: Uint8Array) => {
    if (rawValue(record, ['general']) === undefined)
      throw new CollectError('vendor', 'the answer holds no details of a device');
    return bounds.edit?.(record) ?? record;
  };
  return new RecordSplitter({ ...bounds, path: '', edit });
}
