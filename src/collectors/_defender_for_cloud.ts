import { asCollectError, CollectError } from '../errors.ts';
import type { ListRequest } from '../http/client.ts';
import { keeping, rawValue } from '../http/fields.ts';
import type { Page } from '../http/page.ts';
import type { Rule } from '../http/retry.ts';
import { isObject, type Json, type JsonObject, textAt } from '../json.ts';
import type { Context, Custom } from './collector.ts';

/** What the generators need of the variables. */
interface Settings {
  readonly DEFENDER_FOR_CLOUD_SUBSCRIPTION_ID: readonly string[];
}

/** A list that each subscription has. */
interface SubscriptionList extends Pick<Custom<Settings>, 'about' | 'secrets' | 'errors' | 'adds'> {
  /** Under the provider. */
  readonly list: string;
  /** The `api-version`. */
  readonly version: string;
  readonly expand?: string;
  /** The generator of one subscription's pages, where it is not the plain list. */
  readonly pages?: (context: Context<Settings>, request: ListRequest) => AsyncIterable<Page>;
}

/** How an error is headed whose rule says `unlicensed`. */
const UNLICENSED = 'Not licensed';

const NEEDS = 'Security Reader (or Reader) on each subscription';

/** The resource that brings a list of every subscription. */
export function ofSubscriptions(facts: SubscriptionList): Custom<Settings> {
  const { list, version, expand, pages = plain, ...rest } = facts;
  const request = (subscription: string): ListRequest => ({
    path: providerOf(subscription, list),
    query: { 'api-version': version, $expand: expand },
    records: 'value',
    ...(facts.errors === undefined ? {} : { errors: facts.errors }),
  });
  return {
    ...rest,
    path: providerOf('{subscription}', list),
    id: 'id',
    needs: NEEDS,
    resumes: true,
    collect: (context) => eachSubscription(context, (one, from) => pages(context, { ...request(one), ...from })),
  };
}

function providerOf(subscription: string, list: string): string {
  return `/subscriptions/${subscription}/providers/Microsoft.Security/${list}`;
}

function plain({ http }: Context<Settings>, request: ListRequest): AsyncIterable<Page> {
  return http.pages(request);
}

type Read = (subscription: string, from: { readonly from?: Json }) => AsyncIterable<Page>;

/** One subscription behind the other. What one has not enabled is left out while another has it. */
async function* eachSubscription(context: Context<Settings>, read: Read): AsyncGenerator<Page> {
  const subscriptions = context.settings.DEFENDER_FOR_CLOUD_SUBSCRIPTION_ID;
  const left = remaining(subscriptions, context.from);
  let lacking: CollectError | undefined;
  let had = context.from !== undefined;
  for (const [index, { subscription, place }] of left.entries()) {
    const later = left[index + 1]?.subscription;
    let pages = 0;
    try {
      for await (const page of read(subscription, place === undefined ? {} : { from: place })) {
        pages += 1;
        had = true;
        yield { ...page, next: placeOf(subscription, page.next, later) };
      }
    } catch (thrown) {
      const error = asCollectError(thrown);
      if (error.title !== UNLICENSED || pages > 0 || place !== undefined) throw error;
      context.warn(`subscription ${subscription} has none of it: ${error.message}`);
      lacking = error;
    }
  }
  if (!had && lacking !== undefined) throw lacking;
}

/** How to go on behind a page: in its list, else in the next subscription; `null` at the end of all. */
function placeOf(subscription: string, next: Json | undefined, later: string | undefined): Json {
  if (next !== undefined && next !== null) return { subscription, place: next };
  return later === undefined ? null : { subscription: later };
}

interface Remaining {
  readonly subscription: string;
  readonly place?: Json | undefined;
}

function remaining(subscriptions: readonly string[], from: Json | undefined): readonly Remaining[] {
  const at = isObject(from) ? subscriptions.indexOf(textAt(from, 'subscription') ?? '') : 0;
  if (at < 0) throw new CollectError('expired', 'the subscription where the interrupted reading stopped is not set');
  const place = isObject(from) ? from.place : undefined;
  return subscriptions.slice(at).map((subscription, index) => (index > 0 ? { subscription } : { subscription, place }));
}

/** Assessments; where the list leaves their metadata out, they get it from the list of metadata. */
export async function* withMetadata(context: Context<Settings>, request: ListRequest): AsyncGenerator<Page> {
  let metadata: ReadonlyMap<string, JsonObject> | undefined;
  let bare = false;
  const edit = (record: Uint8Array) => {
    if (rawValue(record, ['properties', 'metadata']) !== undefined) return record;
    bare = true;
    const name = JSON.parse(Buffer.from(rawValue(record, ['name']) ?? 'null').toString()) as Json;
    const found = typeof name === 'string' ? metadata?.get(name) : undefined;
    return found === undefined ? record : keeping({ _metadata: found })(record);
  };
  let from = request.from;
  do {
    bare = false;
    for await (const page of context.http.pages({ ...request, edit, ...(from === undefined ? {} : { from }) })) {
      if (bare && metadata === undefined) {
        await page.discard();
        break;
      }
      from = page.next;
      yield page;
    }
    if (!bare || metadata !== undefined) return;
    metadata = await metadataOf(context, request);
  } while (from !== null);
}

/** A cloud or a gateway without this list. */
const absent: readonly Rule[] = [{ status: [404, 501], as: 'unlicensed', because: 'there is no list of metadata' }];

async function metadataOf(context: Context<Settings>, request: ListRequest): Promise<ReadonlyMap<string, JsonObject>> {
  const found = new Map<string, JsonObject>();
  const { $expand: _, ...query } = request.query ?? {};
  const path = request.path.replace(/\w+$/, 'assessmentMetadata');
  try {
    for await (const page of context.http.pages({ path, query, records: 'value', errors: absent })) {
      const parts: Uint8Array[] = [];
      for await (const lines of page.lines()) parts.push(...lines);
      for (const line of Buffer.concat(parts).toString().split('\n').slice(0, -1)) {
        const { name, properties } = JSON.parse(line) as JsonObject;
        if (typeof name === 'string' && isObject(properties)) found.set(name, properties);
      }
    }
  } catch (thrown) {
    const error = asCollectError(thrown);
    if (error.title !== UNLICENSED) throw error;
    context.warn(`assessments come without metadata: ${error.message}`);
  }
  return found;
}
