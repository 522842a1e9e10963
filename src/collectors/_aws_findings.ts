import { CollectError } from '../errors.ts';
import type { Records } from './_aws.ts';
import { placeOf } from './_aws_errors.ts';
import { notEnabled, recordOf, type Scope } from './_aws_scope.ts';

const HUB_OFF = ['InvalidAccessException', 'ResourceNotFoundException'];

/** What Security Hub knows that is active and not yet dealt with. */
export async function* securityHubFindings(scope: Scope): AsyncGenerator<Records> {
  const action = 'securityhub:GetFindings';
  const { GetFindingsCommand, SecurityHubClient } = await import('@aws-sdk/client-securityhub');
  const client = scope.open(SecurityHubClient);
  const input = {
    MaxResults: 100,
    Filters: {
      RecordState: [{ Value: 'ACTIVE', Comparison: 'EQUALS' as const }],
      WorkflowStatus: ['NEW', 'NOTIFIED'].map((Value) => ({ Value, Comparison: 'EQUALS' as const })),
    },
    // What is updated meanwhile keeps its place in this order, so that nothing slips between two pages.
    SortCriteria: [{ Field: 'CreatedAt', SortOrder: 'asc' as const }],
  };
  const list = scope.pages({
    action,
    send: (NextToken, given) => client.send(new GetFindingsCommand({ ...input, NextToken }), given),
    next: ({ NextToken }) => NextToken,
    off: HUB_OFF,
  });
  for await (const { Findings } of list) {
    if (Findings === undefined) throw scope.lacking(action, 'Findings');
    yield Findings.map((finding) => recordOf(finding, {}));
  }
}

/** What GuardDuty found and nobody archived. */
export async function* guardDutyFindings(scope: Scope): AsyncGenerator<Records> {
  const { GetFindingsCommand, GuardDutyClient, ListDetectorsCommand, ListFindingsCommand } = await import(
    '@aws-sdk/client-guardduty'
  );
  const client = scope.open(GuardDutyClient);
  const detectors = scope.pages({
    action: 'guardduty:ListDetectors',
    send: (NextToken, given) => client.send(new ListDetectorsCommand({ NextToken }), given),
    next: ({ NextToken }) => NextToken,
  });
  const ids: string[] = [];
  for await (const { DetectorIds } of detectors) {
    if (DetectorIds === undefined) throw scope.lacking('guardduty:ListDetectors', 'detectorIds');
    ids.push(...DetectorIds);
  }
  if (ids.length === 0)
    throw notEnabled(`${placeOf({ ...scopeFacts(scope), action: 'guardduty:ListDetectors' })}: none`);
  const FindingCriteria = { Criterion: { 'service.archived': { Equals: ['false'] } } };
  for (const DetectorId of ids) {
    const list = scope.pages({
      action: 'guardduty:ListFindings',
      send: (NextToken, given) =>
        client.send(new ListFindingsCommand({ DetectorId, FindingCriteria, MaxResults: 50, NextToken }), given),
      next: ({ NextToken }) => NextToken,
    });
    for await (const { FindingIds } of list) {
      if (FindingIds === undefined) throw scope.lacking('guardduty:ListFindings', 'findingIds');
      if (FindingIds.length === 0) continue;
      const { Findings } = await scope.ask('guardduty:GetFindings', (given) =>
        client.send(new GetFindingsCommand({ DetectorId, FindingIds }), given),
      );
      if (Findings === undefined) throw scope.lacking('guardduty:GetFindings', 'findings');
      assertAll(FindingIds, Findings, scope);
      yield Findings.map((finding) => recordOf(finding, {}));
    }
  }
}

/** @throws {CollectError} incomplete where not every finding came that was asked for */
function assertAll(
  ids: readonly string[],
  findings: readonly { readonly Id?: string | undefined }[],
  scope: Scope,
): void {
  const came = new Set(findings.map(({ Id }) => Id));
  const lost = ids.filter((id) => !came.has(id)).length;
  if (lost === 0) return;
  const place = placeOf({ ...scopeFacts(scope), action: 'guardduty:GetFindings' });
  throw new CollectError('incomplete', `${place}: ${lost} of ${ids.length} findings did not come`);
}

function scopeFacts({ account, region }: Scope) {
  return { region, ...(account === undefined ? {} : { account }) };
}

/** What Inspector found that is not fixed. */
export async function* inspectorFindings(scope: Scope): AsyncGenerator<Records> {
  const action = 'inspector2:ListFindings';
  const { Inspector2Client, ListFindingsCommand } = await import('@aws-sdk/client-inspector2');
  await assertInspected(scope);
  const client = scope.open(Inspector2Client);
  const filterCriteria = { findingStatus: [{ comparison: 'EQUALS' as const, value: 'ACTIVE' }] };
  const list = scope.pages({
    action,
    send: (nextToken, given) =>
      client.send(new ListFindingsCommand({ filterCriteria, maxResults: 100, nextToken }), given),
    next: ({ nextToken }) => nextToken,
  });
  for await (const { findings } of list) {
    if (findings === undefined) throw scope.lacking(action, 'findings');
    yield findings.map((finding) => recordOf(finding, {}));
  }
}

/** Where Inspector is off, its list answers as if permissions were missing: so its state is asked for before. */
async function assertInspected(scope: Scope): Promise<void> {
  const action = 'inspector2:BatchGetAccountStatus';
  const { BatchGetAccountStatusCommand, Inspector2Client } = await import('@aws-sdk/client-inspector2');
  const client = scope.open(Inspector2Client);
  const command = new BatchGetAccountStatusCommand({ accountIds: scope.account === undefined ? [] : [scope.account] });
  const { accounts } = await scope.ask(action, (given) => client.send(command, given));
  const status = accounts?.[0]?.state?.status;
  if (status === undefined) throw scope.lacking(action, 'state');
  if (status !== 'DISABLED') return;
  throw notEnabled(`${placeOf({ ...scopeFacts(scope), action })}: ${status}`);
}
