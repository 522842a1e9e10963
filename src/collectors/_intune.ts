import type { Page } from '../http/page.ts';
import type { Rule } from '../http/retry.ts';
import { textAt } from '../json.ts';
import { graphErrors } from './_graph.ts';
import { batched, type Part } from './_graph_batch.ts';
import type { Context } from './collector.ts';

/** Fields of configurations that hold what they set on devices: passwords, keys and whole profiles. */
export const CONFIGURATION_SECRETS = [
  'omaSettings.*.value',
  'payload',
  'password',
  'wifiPassword',
  'proxyPassword',
  'preSharedKey',
  '*sharedsecret*',
  'kioskModeExitCode',
  'productKey',
  'license',
  'advancedThreatProtectionOnboardingBlob',
  'advancedThreatProtectionOffboardingBlob',
] as const;

/** Where a record is read alone. */
interface Detail {
  readonly version: 'v1.0' | 'beta';
  /** Below the version; the id goes behind. */
  readonly under: string;
  readonly select?: readonly string[];
}

/** It was removed since it was listed. */
const gone: readonly Rule[] = [{ status: 404, as: 'empty' }];

/** Requests that are open at once: three calls of twenty. */
const SLICE = 60;

/** Each record of the parent as it is when it is read alone. */
export function details(context: Context<unknown>, { version, under, select }: Detail): AsyncGenerator<Page> {
  const query = select === undefined ? '' : `?$select=${select.join(',')}`;
  async function* parts(): AsyncGenerator<Part> {
    for await (const parent of context.parents()) {
      yield { url: `${under}/${encodeURIComponent(textAt(parent, 'id') ?? '')}${query}`, keep: {} };
    }
  }
  return batched(context, parts(), { version, slice: SLICE, single: 'id', errors: [...gone, ...graphErrors] });
}
