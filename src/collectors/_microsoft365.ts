import { asCollectError } from '../errors.ts';
import { keeping, rawValue } from '../http/fields.ts';
import type { Page } from '../http/page.ts';
import type { Rule } from '../http/retry.ts';
import { at, type Json, type JsonObject, textAt } from '../json.ts';
import { directoryUsers, graphErrors } from './_graph.ts';
import { batched, type Part } from './_graph_batch.ts';
import type { Context } from './collector.ts';

/** What the generators need of the variables. */
interface Settings {
  readonly MICROSOFT365_LICENSES: readonly string[];
  readonly MICROSOFT365_DEVICE_FIELDS: readonly string[];
  readonly MICROSOFT365_URL_SLICING: number;
  readonly MICROSOFT365_TOOMANYREQUEST_SLEEP: number;
}

/** `skuId=label`; written as a JSON object it is taken as well. */
const LABEL = /^[{\s]*"?([^"=:\s]+)"?\s*[=:]\s*"?([^"]+?)"?[\s}]*$/;

/** Whether each of some words is a SKU's id and its label. */
export function areLabels(words: readonly string[]): boolean {
  return words.every((word) => LABEL.test(word));
}

function labelsOf(words: readonly string[]): Map<string, string> {
  return new Map(
    words.map((word) => {
      const [, id = '', label = ''] = LABEL.exec(word) ?? [];
      return [id.toLowerCase(), label];
    }),
  );
}

const USER_FIELDS = [
  'id',
  'displayName',
  'userPrincipalName',
  'mail',
  'accountEnabled',
  'userType',
  'department',
  'jobTitle',
  'companyName',
  'createdDateTime',
  'lastPasswordChangeDateTime',
  'usageLocation',
  'assignedLicenses',
  'assignedPlans',
  'onPremisesSyncEnabled',
] as const;

/** Users with the labels of their licences: the chosen one, else the SKU's name, else its id. */
export async function* licensedUsers(context: Context<Settings>): AsyncGenerator<Page> {
  const labels = new Map([...(await skuNames(context)), ...labelsOf(context.settings.MICROSOFT365_LICENSES)]);
  yield* directoryUsers(context, USER_FIELDS, (record) => {
    const ids = skuIdsIn(rawValue(record, ['assignedLicenses']));
    return keeping({ _licenses: ids.map((id) => labels.get(id.toLowerCase()) ?? id) })(record);
  });
}

function skuIdsIn(licenses: Uint8Array | undefined): string[] {
  const list = licenses === undefined ? null : (JSON.parse(Buffer.from(licenses).toString('utf8')) as Json);
  return Array.isArray(list) ? list.flatMap((license) => textAt(license, 'skuId') ?? []) : [];
}

/** A gateway or a cloud without this list. */
const absent: readonly Rule[] = [{ status: [404, 501], as: 'unlicensed', because: 'there is no list of SKUs' }];

async function skuNames({ http, warn }: Context<Settings>): Promise<Map<string, string>> {
  try {
    const { body } = await http.json({ path: '/v1.0/subscribedSkus', errors: absent });
    const skus = at(body, 'value');
    const names = Array.isArray(skus) ? skus : [];
    return new Map(
      names.map((sku) => [(textAt(sku, 'skuId') ?? '').toLowerCase(), textAt(sku, 'skuPartNumber') ?? '']),
    );
  } catch (thrown) {
    const error = asCollectError(thrown);
    if (error.code !== 'denied') throw error;
    warn(`licences that MICROSOFT365_LICENSES does not name keep their ids in _licenses: ${error.message}`);
    return new Map();
  }
}

/** The device was removed since it was listed. */
const gone: readonly Rule[] = [{ status: 404, as: 'empty' }];

/** The apps found on each device, one record a device and app. */
export async function* deviceApps(context: Context<Settings>): AsyncGenerator<Page> {
  const { MICROSOFT365_URL_SLICING, MICROSOFT365_TOOMANYREQUEST_SLEEP } = context.settings;
  const throttled: Rule = { status: 429, as: 'throttled', wait: MICROSOFT365_TOOMANYREQUEST_SLEEP };
  yield* batched(context, appLists(context), {
    version: 'beta',
    slice: MICROSOFT365_URL_SLICING,
    errors: [...gone, throttled, ...graphErrors],
  });
}

async function* appLists({ parents, settings }: Context<Settings>): AsyncGenerator<Part> {
  const fields = deviceFields(settings.MICROSOFT365_DEVICE_FIELDS);
  for await (const device of parents()) {
    const url = `/deviceManagement/managedDevices/${encodeURIComponent(textAt(device, 'id') ?? '')}/detectedApps`;
    const chosen: JsonObject = {};
    for (const field of fields) {
      if (device[field] !== undefined) chosen[field] = device[field];
    }
    yield { url, keep: { _device: chosen } };
  }
}

/** The chosen fields of a device, its id among them. */
export function deviceFields(chosen: readonly string[]): readonly string[] {
  return [...new Set(['id', ...chosen])];
}
