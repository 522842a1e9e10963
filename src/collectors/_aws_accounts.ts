import type { Account } from '@aws-sdk/client-organizations';
import { awsIdentity } from '../config/aws.ts';
import { asCollectError, CollectError } from '../errors.ts';
import { isDenial } from './_aws_errors.ts';
import { type Credentials, type Scope, scopeOf } from './_aws_scope.ts';
import type { AwsSettings } from './_aws_settings.ts';

/** AWS as one dataset reads it. */
export interface Accounts {
  /** The account of our own credentials. */
  readonly own: Scope;
  /** The home region of each account, where is asked for what has no region. */
  readonly homes: readonly Scope[];
  /** Every region to read of every account. */
  regions(): Promise<readonly Scope[]>;
  /** A region of an account. */
  in(account: string, region: string): Scope;
  close(): void;
}

interface Opening {
  readonly settings: AwsSettings;
  readonly signal: AbortSignal;
  warn(message: string): void;
}

type Provider = () => Promise<Credentials>;

const ACCOUNTS_AT_ONCE = 8;
const SESSION_SECONDS = 3600;
/** Milliseconds before their end at which credentials are renewed. */
const EARLY = 300_000;
const NOT_IN_USE = 'AWSOrganizationsNotInUseException';

/**
 * Finds out who we are, and takes on the role in every account that is to be read.
 * @throws {CollectError} that names the accounts where that fails
 */
export async function openAccounts({ settings, signal, warn }: Opening): Promise<Accounts> {
  const opened: { destroy(): void }[] = [];
  const close = () => {
    for (const client of opened) client.destroy();
  };
  const roles = new Map<string, Provider>();
  const home = settings.AWS_REGION;
  const scope = (region: string, account?: string) => {
    const credentials = roles.get(account ?? '');
    const identity = { ...awsIdentity(settings), ...(credentials === undefined ? {} : { credentials }) };
    return scopeOf({ settings, signal, opened, region, account, identity });
  };
  try {
    const { account, partition } = await whoWeAre(scope(home));
    const own = scope(home, account);
    const ids = await chosenAccounts(own, settings, warn);
    for (const id of ids.filter((other) => other !== account)) roles.set(id, assuming(own, settings, partition, id));
    await assertAssumable(roles, settings);
    const homes = ids.map((id) => scope(home, id));
    const regions = async () => {
      const found = await inTurns(homes, ACCOUNTS_AT_ONCE, (one) => regionsOf(one, settings.AWS_REGIONS, warn));
      const scopes = found.flatMap((names, n) => names.map((name) => scope(name, homes[n]?.account)));
      if (scopes.length > 0) return scopes;
      throw new CollectError('config', 'no region that AWS_REGIONS names is enabled', { mend: 'correct AWS_REGIONS' });
    };
    return { own, homes, regions, in: (id, region) => scope(region, id), close };
  } catch (error) {
    close();
    throw error;
  }
}

async function whoWeAre(scope: Scope): Promise<{ readonly account: string; readonly partition: string }> {
  const action = 'sts:GetCallerIdentity';
  const { GetCallerIdentityCommand, STSClient } = await import('@aws-sdk/client-sts');
  const client = scope.open(STSClient);
  const { Account, Arn } = await scope.ask(action, (given) => client.send(new GetCallerIdentityCommand(), given));
  const partition = Arn?.split(':')[1];
  if (Account === undefined || partition === undefined) throw scope.lacking(action, 'Account and Arn');
  return { account: Account, partition };
}

async function chosenAccounts(
  own: Scope,
  { AWS_ACCOUNTS }: AwsSettings,
  warn: Opening['warn'],
): Promise<readonly string[]> {
  if (AWS_ACCOUNTS.length === 0) return own.account === undefined ? [] : [own.account];
  const ids = new Set<string>();
  const closed: string[] = [];
  for (const word of AWS_ACCOUNTS) {
    if (word !== 'organization') ids.add(word);
    else {
      for await (const accounts of organizationAccounts(own)) {
        for (const { Id = '', State, Status } of accounts) {
          if ((State ?? Status) === 'ACTIVE') ids.add(Id);
          else closed.push(Id);
        }
      }
    }
  }
  if (closed.length > 0) warn(`accounts that are not active are left out: ${closed.join(', ')}`);
  if (ids.size > 0) return [...ids];
  throw new CollectError('config', 'there is no organization whose accounts AWS_ACCOUNTS could mean', {
    mend: 'name accounts by their ids, or unset AWS_ACCOUNTS',
  });
}

/** The accounts of the organization, page by page; none where there is no organization. */
export async function* organizationAccounts(scope: Scope): AsyncGenerator<readonly Account[]> {
  const action = 'organizations:ListAccounts';
  const { ListAccountsCommand, OrganizationsClient } = await import('@aws-sdk/client-organizations');
  const client = scope.open(OrganizationsClient);
  const list = scope.pages({
    action,
    send: async (NextToken, given) => {
      const asked = client.send(new ListAccountsCommand({ NextToken, MaxResults: 20 }), given);
      return asked.catch((error: unknown) => {
        if ((error as Error).name === NOT_IN_USE && NextToken === undefined) return { Accounts: [], NextToken };
        throw error;
      });
    },
    next: ({ NextToken }) => NextToken,
  });
  for await (const { Accounts } of list) {
    if (Accounts === undefined) throw scope.lacking(action, 'Accounts');
    yield Accounts;
  }
}

/** Credentials of the role in another account, renewed before they end. */
function assuming(own: Scope, settings: AwsSettings, partition: string, id: string): Provider {
  const role = settings.AWS_ACCOUNTS_ROLE;
  if (role === undefined) {
    throw new CollectError('config', `nothing says as whom to read account ${id}`, {
      mend: 'set AWS_ACCOUNTS_ROLE to the name of a role that exists in each account',
    });
  }
  let last: Promise<Credentials> | undefined;
  let until = 0;
  return () => {
    if (last !== undefined && Date.now() < until - EARLY) return last;
    until = Number.POSITIVE_INFINITY; // one at a time
    const renewed = assume(own, `arn:${partition}:iam::${id}:role/${role}`, settings.AWS_ACCOUNTS_EXTERNAL_ID);
    renewed.then(
      ({ expiration }) => {
        until = expiration?.getTime() ?? 0;
      },
      () => {
        until = 0;
      },
    );
    last = renewed;
    return renewed;
  };
}

async function assume(own: Scope, RoleArn: string, ExternalId: string | undefined): Promise<Credentials> {
  const action = 'sts:AssumeRole';
  const { AssumeRoleCommand, STSClient } = await import('@aws-sdk/client-sts');
  const client = own.open(STSClient);
  const command = new AssumeRoleCommand({
    RoleArn,
    ExternalId,
    RoleSessionName: 'cyber-collect',
    DurationSeconds: SESSION_SECONDS,
  });
  const { Credentials: given } = await own.ask(action, (options) => client.send(command, options));
  const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = given ?? {};
  if (AccessKeyId === undefined || SecretAccessKey === undefined || SessionToken === undefined) {
    throw own.lacking(action, 'Credentials');
  }
  return {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    sessionToken: SessionToken,
    ...(Expiration === undefined ? {} : { expiration: Expiration }),
  };
}

const MOST_NAMED = 10;

/** Takes on every role before anything is read, so that all that fail are told at once. */
async function assertAssumable(
  roles: ReadonlyMap<string, Provider>,
  { AWS_ACCOUNTS_ROLE }: AwsSettings,
): Promise<void> {
  const failed: { readonly id: string; readonly error: CollectError }[] = [];
  await inTurns([...roles], ACCOUNTS_AT_ONCE, async ([id, provider]) => {
    await provider().catch((thrown: unknown) => failed.push({ id, error: asCollectError(thrown) }));
  });
  const [first] = failed;
  if (first === undefined) return;
  const ids = failed.map(({ id }) => id);
  const more = ids.length > MOST_NAMED ? ` and ${ids.length - MOST_NAMED} more` : '';
  const which = `${ids.length === 1 ? 'account' : 'accounts'} ${ids.slice(0, MOST_NAMED).join(', ')}${more}`;
  const { code, message, title, mend } = first.error;
  throw new CollectError(code, `${which} cannot be read as ${AWS_ACCOUNTS_ROLE}: ${message}`, {
    ...(isDenial(first.error)
      ? {
          title: 'Account not readable',
          mend: 'let the role trust these credentials, or leave the account out of AWS_ACCOUNTS',
        }
      : { title, ...(mend === undefined ? {} : { mend }) }),
  });
}

/** The regions of an account that are enabled and wanted. */
async function regionsOf(home: Scope, wanted: readonly string[], warn: Opening['warn']): Promise<readonly string[]> {
  const action = 'ec2:DescribeRegions';
  const { DescribeRegionsCommand, EC2Client } = await import('@aws-sdk/client-ec2');
  const client = home.open(EC2Client);
  const command = new DescribeRegionsCommand({ AllRegions: true });
  const answer = await home
    .ask(action, (given) => client.send(command, given))
    .catch((error: unknown) => {
      if (!isDenial(error) || wanted.length === 0) throw error;
      return undefined; // what is wanted is known all the same; where it is off, its services will say so
    });
  if (answer === undefined) return wanted;
  const regions = (answer.Regions ?? []).flatMap(({ RegionName, OptInStatus }) =>
    RegionName === undefined ? [] : [{ name: RegionName, on: OptInStatus !== 'not-opted-in' }],
  );
  if (regions.length === 0) throw home.lacking(action, 'Regions');
  const unknown = wanted.filter((one) => !regions.some(({ name }) => name === one));
  if (unknown.length > 0) {
    throw new CollectError('config', `AWS_REGIONS names what AWS does not know: ${unknown.join(', ')}`, {
      mend: 'correct AWS_REGIONS',
    });
  }
  const off = wanted.filter((one) => regions.some(({ name, on }) => name === one && !on));
  if (off.length > 0) warn(`account ${home.account} has not enabled ${off.join(', ')}`);
  return regions.filter(({ name, on }) => on && (wanted.length === 0 || wanted.includes(name))).map(({ name }) => name);
}

/** Does something with each, so many at once; results in order. */
export async function inTurns<T, R>(
  all: readonly T[],
  most: number,
  work: (one: T) => Promise<R>,
): Promise<readonly R[]> {
  const results: R[] = [];
  for (let from = 0; from < all.length; from += most) {
    results.push(...(await Promise.all(all.slice(from, from + most).map(work))));
  }
  return results;
}
