import { textAt } from '../json.ts';
import { inOrder, placeOfRegion, type Records, reading } from './_aws.ts';
import { organizationAccounts } from './_aws_accounts.ts';
import { notEnabled, recordOf, type Scope } from './_aws_scope.ts';
import type { AwsSettings } from './_aws_settings.ts';
import type { Context } from './collector.ts';

/** Virtual machines, whatever their state. */
export async function* instances(scope: Scope): AsyncGenerator<Records> {
  const action = 'ec2:DescribeInstances';
  const { DescribeInstancesCommand, EC2Client } = await import('@aws-sdk/client-ec2');
  const client = scope.open(EC2Client);
  const list = scope.pages({
    action,
    send: (NextToken, given) => client.send(new DescribeInstancesCommand({ NextToken, MaxResults: 1000 }), given),
    next: ({ NextToken }) => NextToken,
  });
  for await (const { Reservations } of list) {
    if (Reservations === undefined) throw scope.lacking(action, 'reservationSet');
    yield Reservations.flatMap(({ OwnerId, ReservationId, Instances = [] }) =>
      Instances.map((one) => recordOf(one, { _owner_id: OwnerId ?? null, _reservation_id: ReservationId ?? null })),
    );
  }
}

/** Security groups with their rules. */
export async function* securityGroups(scope: Scope): AsyncGenerator<Records> {
  const action = 'ec2:DescribeSecurityGroups';
  const { DescribeSecurityGroupsCommand, EC2Client } = await import('@aws-sdk/client-ec2');
  const client = scope.open(EC2Client);
  const list = scope.pages({
    action,
    send: (NextToken, given) => client.send(new DescribeSecurityGroupsCommand({ NextToken, MaxResults: 1000 }), given),
    next: ({ NextToken }) => NextToken,
  });
  for await (const { SecurityGroups } of list) {
    if (SecurityGroups === undefined) throw scope.lacking(action, 'securityGroupInfo');
    yield SecurityGroups.map((group) => recordOf(group, {}));
  }
}

/** Rules of AWS Config; a region without a rule and without a recorder does not use it. */
export async function* configRules(scope: Scope): AsyncGenerator<Records> {
  const action = 'config:DescribeConfigRules';
  const { ConfigServiceClient, DescribeConfigRulesCommand, DescribeConfigurationRecordersCommand } = await import(
    '@aws-sdk/client-config-service'
  );
  const client = scope.open(ConfigServiceClient);
  const list = scope.pages({
    action,
    send: (NextToken, given) => client.send(new DescribeConfigRulesCommand({ NextToken }), given),
    next: ({ NextToken }) => NextToken,
  });
  let count = 0;
  for await (const { ConfigRules } of list) {
    if (ConfigRules === undefined) throw scope.lacking(action, 'ConfigRules');
    count += ConfigRules.length;
    if (ConfigRules.length > 0) yield ConfigRules.map((rule) => recordOf(rule, {}));
  }
  if (count > 0) return;
  const recorders = 'config:DescribeConfigurationRecorders';
  const { ConfigurationRecorders } = await scope.ask(recorders, (given) =>
    client.send(new DescribeConfigurationRecordersCommand({}), given),
  );
  if (ConfigurationRecorders === undefined) throw scope.lacking(recorders, 'ConfigurationRecorders');
  if (ConfigurationRecorders.length === 0) throw notEnabled(`AWS Config has no recorder in ${scope.region}`);
}

const RULES_AT_ONCE = 4;

/** What each rule says of each resource. */
export function configCompliance(context: Context<AwsSettings>): AsyncIterable<Records> {
  return reading(context, async function* (aws, { parents }) {
    const places = new Map<string, Promise<Compliance>>();
    const lists: (() => AsyncGenerator<Records>)[] = [];
    for await (const rule of parents()) {
      const account = textAt(rule, '_account_id') ?? '';
      const region = textAt(rule, '_region') ?? '';
      const place = `${account} ${region}`;
      const compliance = places.get(place) ?? complianceIn(aws.in(account, region));
      places.set(place, compliance);
      const name = textAt(rule, 'ConfigRuleName') ?? '';
      lists.push(async function* ofRule() {
        yield* (await compliance)(name);
      });
    }
    yield* inOrder(lists, RULES_AT_ONCE);
  });
}

type Compliance = (ConfigRuleName: string) => AsyncGenerator<Records>;

const GONE = 'NoSuchConfigRuleException';

async function complianceIn(scope: Scope): Promise<Compliance> {
  const action = 'config:GetComplianceDetailsByConfigRule';
  const { ConfigServiceClient, GetComplianceDetailsByConfigRuleCommand } = await import(
    '@aws-sdk/client-config-service'
  );
  const client = scope.open(ConfigServiceClient);
  const place = placeOfRegion(scope);
  return async function* ofRule(ConfigRuleName) {
    const input = { ConfigRuleName, ComplianceTypes: ['NON_COMPLIANT' as const, 'COMPLIANT' as const], Limit: 100 };
    const list = scope.pages({
      action,
      send: (NextToken, given) =>
        client
          .send(new GetComplianceDetailsByConfigRuleCommand({ ...input, NextToken }), given)
          .catch((error: Error) => {
            // The rule was deleted since it was listed.
            if (error.name === GONE && NextToken === undefined) return { EvaluationResults: [], NextToken };
            throw error;
          }),
      next: ({ NextToken }) => NextToken,
    });
    for await (const { EvaluationResults } of list) {
      if (EvaluationResults === undefined) throw scope.lacking(action, 'EvaluationResults');
      yield EvaluationResults.map((result) => recordOf(result, place));
    }
  };
}

/** Accounts of the organization; an account in none has none. */
export function accounts(context: Context<AwsSettings>): AsyncIterable<Records> {
  return reading(context, async function* (aws) {
    for await (const page of organizationAccounts(aws.own)) {
      yield page.map((account) => recordOf(account, { _account_id: aws.own.account ?? null }));
    }
  });
}
