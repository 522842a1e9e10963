import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { asCollectError, CollectError } from '../errors.ts';
import { type JsonObject, textAt } from '../json.ts';
import { type Accounts, openAccounts } from './_aws_accounts.ts';
import { isDenial, NO_HOST, NOT_ENABLED } from './_aws_errors.ts';
import { notEnabled, type Scope } from './_aws_scope.ts';
import { type AwsSettings, wants } from './_aws_settings.ts';
import type { Context, Custom } from './collector.ts';

/** Records that came together. */
export type Records = readonly JsonObject[];

/** What a dataset is read with. */
export interface Reading extends Pick<Context<AwsSettings>, 'settings' | 'signal' | 'warn' | 'sleep' | 'parents'> {
  /** Tells how many records an account or a region has declared. */
  declare(records: number): void;
}

/** Reads what a region, or an account, has. */
export type Read = (scope: Scope, reading: Reading) => AsyncIterable<Records>;

type Mechanics = Pick<Custom<AwsSettings>, 'path' | 'when' | 'adds' | 'collect'>;

const REGIONS_AT_ONCE = 4;
const ACCOUNTS_AT_ONCE = 4;

/** The field that says of which account a record is. */
export const ACCOUNT = { _account_id: 'the account that was asked' } as const;
/** The fields that say where a record is from. */
export const PLACE = { ...ACCOUNT, _region: 'the region that was asked' } as const;

/** How a dataset is read that every account has once. */
export function global(resource: string, action: string, read: Read): Mechanics {
  return {
    path: action,
    when: wants(resource),
    adds: ACCOUNT,
    collect: (context) =>
      reading(context, async function* (aws, given) {
        const lists = aws.homes.map((home) => () => placed(home, read(home, given), placeOfAccount));
        for await (const { records } of inOrder(lists, ACCOUNTS_AT_ONCE)) yield records;
      }),
  };
}

/** How a dataset is read that every region of every account has. */
export function regional(resource: string, action: string, read: Read, copied: readonly string[] = []): Mechanics {
  return {
    path: action,
    when: wants(resource),
    adds: PLACE,
    collect: (context) =>
      reading(context, async function* (aws, given) {
        const scopes = await aws.regions();
        const off: CollectError[] = [];
        const lists = scopes.map(
          (scope) => () => enabled(scope, placed(scope, read(scope, given), placeOfRegion), off),
        );
        const isCopy = copiesBy(copied);
        for await (const { scope, records } of inOrder(lists, REGIONS_AT_ONCE)) {
          yield copied.length === 0 ? records : records.filter((record) => !isCopy(record, scope));
        }
        if (off.length === scopes.length) throw nowhere(off, scopes);
        if (off.length > 0)
          given.warn(`nothing is read where it is not enabled, ${off.length} of ${scopes.length} regions`);
      }),
  };
}

/** Opens AWS for as long as a dataset is read. */
export async function* reading(
  context: Context<AwsSettings>,
  read: (aws: Accounts, given: Reading) => AsyncIterable<Records>,
): AsyncGenerator<Records> {
  const own = new AbortController();
  const signal = AbortSignal.any([context.signal, own.signal]);
  setMaxListeners(0, signal); // each call under way listens
  let declared = 0;
  const declare = (records: number) => {
    declared += records;
    context.expect(declared);
  };
  const { settings, warn, sleep, parents } = context;
  const aws = openAccounts({ settings, signal, warn });
  try {
    yield* read(await aws, { settings, signal, warn, sleep, parents, declare });
  } finally {
    own.abort(new CollectError('aborted', 'the dataset is no longer read'));
    await aws.then(
      ({ close }) => close(),
      () => undefined,
    );
  }
}

interface Placed {
  readonly scope: Scope;
  readonly records: Records;
}

function placeOfAccount({ account }: Scope): JsonObject {
  return { _account_id: account ?? null };
}

/** The fields of ours that say where a record of a region comes from. */
export function placeOfRegion({ account, region }: Scope): JsonObject {
  return { _account_id: account ?? null, _region: region };
}

async function* placed(
  scope: Scope,
  pages: AsyncIterable<Records>,
  place: (scope: Scope) => JsonObject,
): AsyncGenerator<Placed> {
  const added = place(scope);
  for await (const records of pages) yield { scope, records: records.map((record) => ({ ...record, ...added })) };
}

/** The pages of a region; none where the service is not enabled, or where AWS does not have it. */
async function* enabled(scope: Scope, pages: AsyncIterable<Placed>, off: CollectError[]): AsyncGenerator<Placed> {
  let begun = false;
  try {
    for await (const page of pages) {
      begun = true;
      yield page;
    }
  } catch (thrown) {
    const error = asCollectError(thrown);
    const isOff = error.title === NOT_ENABLED || (error.title === NO_HOST && (await isThere(scope)));
    if (begun || !isOff) throw error;
    off.push(error);
  }
}

/** Whether a region answers at all, so that a service without a host there is one that it does not have. */
async function isThere(scope: Scope): Promise<boolean> {
  const { DescribeRegionsCommand, EC2Client } = await import('@aws-sdk/client-ec2');
  const client = scope.open(EC2Client);
  try {
    await scope.ask('ec2:DescribeRegions', (options) => client.send(new DescribeRegionsCommand(), options));
    return true;
  } catch (error) {
    return isDenial(error);
  }
}

function nowhere(off: readonly CollectError[], scopes: readonly Scope[]): CollectError {
  const accounts = new Set(scopes.map(({ account }) => account)).size;
  const where = `${scopes.length} regions${accounts > 1 ? ` of ${accounts} accounts` : ''}`;
  return notEnabled(`skipped: not enabled in any of ${where} (${off[0]?.message})`);
}

/**
 * Tells a record that another region or account has brought before: services show what they gather from others beside
 * their own. The same record twice from one of them is no copy but a fault, and is left for the count of identities.
 */
function copiesBy(paths: readonly string[]): (record: JsonObject, scope: Scope) => boolean {
  const first = new Map<string, Scope>();
  return (record, scope) => {
    const values = paths.map((path) => textAt(record, path) ?? '');
    const key = createHash('sha1').update(JSON.stringify(values)).digest('base64');
    const before = first.get(key);
    if (before === undefined) first.set(key, scope);
    return before !== undefined && before !== scope;
  };
}

/** Runs several generators at once, each a page ahead, and hands on their pages in order. */
export async function* inOrder<T>(lists: readonly (() => AsyncGenerator<T>)[], most: number): AsyncGenerator<T> {
  const begun: { readonly list: AsyncGenerator<T>; readonly first: Promise<IteratorResult<T>> }[] = [];
  let started = 0;
  try {
    for (;;) {
      for (const open of lists.slice(started, started + most - begun.length)) {
        const list = open();
        const first = list.next();
        first.catch(() => undefined);
        begun.push({ list, first });
        started += 1;
      }
      const head = begun.shift();
      if (head === undefined) return;
      for (let step = await head.first; step.done !== true; step = await head.list.next()) yield step.value;
    }
  } finally {
    void Promise.allSettled(begun.map(({ list }) => list.return(undefined)));
  }
}
