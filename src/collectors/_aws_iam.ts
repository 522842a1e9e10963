import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';
import type { Reading, Records } from './_aws.ts';
import { isDenial, placeOf } from './_aws_errors.ts';
import { jsonOf, recordOf, type Scope } from './_aws_scope.ts';

const POLL_SECONDS = 2;
const MOST_SECONDS = 120;
/** AWS's words, on the wire and in the SDK, for a report that is to be asked for again. */
const NO_REPORT = [
  'ReportNotPresent',
  'CredentialReportNotPresentException',
  'ReportExpired',
  'CredentialReportExpiredException',
  'ReportInProgress',
  'CredentialReportNotReadyException',
];
const NO_VALUE = new Set(['N/A', 'no_information', 'not_supported']);

/** IAM users, held against the number that the account declares. */
export async function* iamUsers(scope: Scope, { declare, warn }: Reading): AsyncGenerator<Records> {
  const action = 'iam:ListUsers';
  const { IAMClient, ListUsersCommand } = await import('@aws-sdk/client-iam');
  const client = scope.open(IAMClient);
  const summary = await summaryOf(scope).catch((error: unknown) => {
    if (!isDenial(error)) throw error;
    warn(`nothing to hold the number of users of account ${scope.account} against: ${(error as Error).message}`);
    return undefined;
  });
  if (summary?.Users !== undefined) declare(summary.Users);
  const list = scope.pages({
    action,
    send: (Marker, given) => client.send(new ListUsersCommand({ Marker, MaxItems: 1000 }), given),
    next({ IsTruncated, Marker }) {
      if (IsTruncated !== true || Marker !== undefined) return IsTruncated === true ? Marker : undefined;
      throw new CollectError('incomplete', `${action} of account ${scope.account}: more is told of, but not where`);
    },
  });
  for await (const { Users } of list) {
    if (Users === undefined) throw scope.lacking(action, 'Users');
    yield Users.map((user) => recordOf(user, {}));
  }
}

async function summaryOf(scope: Scope): Promise<Record<string, number>> {
  const action = 'iam:GetAccountSummary';
  const { GetAccountSummaryCommand, IAMClient } = await import('@aws-sdk/client-iam');
  const client = scope.open(IAMClient);
  const { SummaryMap } = await scope.ask(action, (given) => client.send(new GetAccountSummaryCommand(), given));
  if (SummaryMap === undefined) throw scope.lacking(action, 'SummaryMap');
  return SummaryMap;
}

/** An account's password policy, null where it has none of its own, with the account's numbers. */
export async function* passwordPolicy(scope: Scope): AsyncGenerator<Records> {
  const action = 'iam:GetAccountPasswordPolicy';
  const { GetAccountPasswordPolicyCommand, IAMClient } = await import('@aws-sdk/client-iam');
  const client = scope.open(IAMClient);
  const answer = await scope.askUnless(['NoSuchEntity', 'NoSuchEntityException'], action, (given) =>
    client.send(new GetAccountPasswordPolicyCommand(), given),
  );
  const policy = typeof answer === 'string' ? null : answer.PasswordPolicy;
  if (policy === undefined) throw scope.lacking(action, 'PasswordPolicy');
  yield [{ PasswordPolicy: jsonOf(policy), _summary: jsonOf(await summaryOf(scope)) }];
}

/** The rows of the credential report, which AWS makes anew every four hours. */
export async function* credentialReport(scope: Scope, { sleep }: Reading): AsyncGenerator<Records> {
  const { GenerateCredentialReportCommand, GetCredentialReportCommand, IAMClient } = await import(
    '@aws-sdk/client-iam'
  );
  const client = scope.open(IAMClient);
  for (let waited = 0; waited <= MOST_SECONDS; waited += POLL_SECONDS) {
    const { State } = await scope.ask('iam:GenerateCredentialReport', (given) =>
      client.send(new GenerateCredentialReportCommand(), given),
    );
    const action = 'iam:GetCredentialReport';
    const answer =
      State === 'COMPLETE'
        ? await scope.askUnless(NO_REPORT, action, (given) => client.send(new GetCredentialReportCommand(), given))
        : 'STARTED';
    if (typeof answer !== 'string') {
      if (answer.Content === undefined) throw scope.lacking(action, 'Content');
      yield rowsOf(Buffer.from(answer.Content).toString('utf8'), scope);
      return;
    }
    await sleep(POLL_SECONDS);
  }
  throw new CollectError('timeout', `the credential report of account ${scope.account} is not ready`, {
    mend: 'run again in some minutes',
  });
}

/** @throws {CollectError} incomplete where it is no whole report */
function rowsOf(csv: string, { account = '', region }: Scope): Records {
  const [header = [], ...rows] = cellsOf(csv);
  const place = placeOf({ action: 'iam:GetCredentialReport', region, account });
  if (header[0] !== 'user' || header[1] !== 'arn') {
    throw new CollectError('incomplete', `${place}: the answer is no credential report`);
  }
  // The root user always has a row.
  if (rows.length === 0 || rows.some((row) => row.length !== header.length)) {
    throw new CollectError('incomplete', `${place}: the report is cut off`);
  }
  return rows.map((row) => {
    const cells = row.map((cell, n): [string, string | null] => [header[n] ?? '', NO_VALUE.has(cell) ? null : cell]);
    return Object.fromEntries(cells) satisfies JsonObject;
  });
}

/** The cells of CSV, quoted or not, line by line. */
function cellsOf(csv: string): string[][] {
  const lines: string[][] = [];
  let line: string[] = [];
  for (const [, quoted, plain = '', end] of csv.matchAll(/(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r?\n|$)/g)) {
    if (end === '' && line.length === 0 && quoted === undefined && plain === '') break;
    line.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === ',') continue;
    lines.push(line);
    line = [];
    if (end === '') break;
  }
  return lines;
}
