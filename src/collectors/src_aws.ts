import { awsAliases } from '../config/aws.ts';
import { ACCOUNT, global, PLACE, regional } from './_aws.ts';
import { guardDutyFindings, inspectorFindings, securityHubFindings } from './_aws_findings.ts';
import { credentialReport, iamUsers, passwordPolicy } from './_aws_iam.ts';
import { accounts, configCompliance, configRules, instances, securityGroups } from './_aws_inventory.ts';
import { BUCKET_FIELDS, buckets } from './_aws_s3.ts';
import { awsEnv, endpointOf, wants } from './_aws_settings.ts';
import { defineCollector } from './collector.ts';

/** Where a finding may quote the environment of a function, a task or a build. */
const QUOTED = [
  'Resources.*.Details.AwsLambdaFunction.Environment.Variables',
  'Resources.*.Details.AwsEcsTaskDefinition.ContainerDefinitions.*.Environment',
  'Resources.*.Details.AwsCodeBuildProject.Environment.EnvironmentVariables',
  'Resources.*.Details.AwsRdsDbInstance.PendingModifiedValues.MasterUserPassword',
];

export default defineCollector({
  name: 'aws',
  title: 'Amazon Web Services',
  docs: 'https://docs.aws.amazon.com/',
  env: awsEnv,
  aliases: awsAliases,
  http: (settings) => ({ baseUrl: endpointOf(settings) }),
  resources: {
    credential_report: {
      about: 'What each user, and the root user, may sign in with and when they last did',
      id: 'arn',
      needs: 'iam:GenerateCredentialReport and iam:GetCredentialReport',
      ...global('credential_report', 'iam:GetCredentialReport', credentialReport),
    },
    iam_users: {
      about: 'IAM users of each account',
      id: 'Arn',
      needs: 'iam:ListUsers, and iam:GetAccountSummary for their number',
      ...global('iam_users', 'iam:ListUsers', iamUsers),
    },
    iam_password_policy: {
      about: 'Password policy of each account, null where it has none of its own, and its numbers of IAM',
      id: '_account_id',
      needs: 'iam:GetAccountPasswordPolicy and iam:GetAccountSummary',
      ...global('iam_password_policy', 'iam:GetAccountPasswordPolicy', passwordPolicy),
      adds: { ...ACCOUNT, _summary: 'how many of what IAM has, and whether root has MFA' },
    },
    securityhub_findings: {
      about: 'Findings in Security Hub that are active and new or notified, each once however it is aggregated',
      id: ['ProductArn', 'Id'],
      needs: 'securityhub:GetFindings and ec2:DescribeRegions',
      secrets: QUOTED,
      ...regional('securityhub_findings', 'securityhub:GetFindings', securityHubFindings, ['ProductArn', 'Id']),
    },
    guardduty_findings: {
      about: 'Findings of GuardDuty that are not archived',
      id: 'Arn',
      needs: 'guardduty:ListDetectors, guardduty:ListFindings, guardduty:GetFindings and ec2:DescribeRegions',
      ...regional('guardduty_findings', 'guardduty:GetFindings', guardDutyFindings, ['Arn']),
    },
    inspector2_findings: {
      about: 'Findings of Inspector that are active',
      id: 'findingArn',
      needs: 'inspector2:ListFindings, inspector2:BatchGetAccountStatus and ec2:DescribeRegions',
      ...regional('inspector2_findings', 'inspector2:ListFindings', inspectorFindings, ['findingArn']),
    },
    config_rules: {
      about: 'Rules of AWS Config',
      id: 'ConfigRuleArn',
      needs: 'config:DescribeConfigRules, config:DescribeConfigurationRecorders and ec2:DescribeRegions',
      ...regional('config_rules', 'config:DescribeConfigRules', configRules),
    },
    config_compliance: {
      about: 'Whether each resource complies with each rule of AWS Config',
      each: 'config_rules',
      path: 'config:GetComplianceDetailsByConfigRule',
      when: wants('config_compliance'),
      adds: PLACE,
      id: [
        '_account_id',
        '_region',
        'EvaluationResultIdentifier.EvaluationResultQualifier.ConfigRuleName',
        'EvaluationResultIdentifier.EvaluationResultQualifier.ResourceType',
        'EvaluationResultIdentifier.EvaluationResultQualifier.ResourceId',
        'EvaluationResultIdentifier.EvaluationResultQualifier.EvaluationMode',
        'EvaluationResultIdentifier.ResourceEvaluationId',
      ],
      needs: 'config:GetComplianceDetailsByConfigRule',
      collect: configCompliance,
    },
    ec2_instances: {
      about: 'Virtual machines of EC2, whatever their state',
      id: 'InstanceId',
      needs: 'ec2:DescribeInstances and ec2:DescribeRegions',
      ...regional('ec2_instances', 'ec2:DescribeInstances', instances),
      adds: { ...PLACE, _owner_id: 'the owner of its reservation', _reservation_id: 'its reservation' },
    },
    ec2_security_groups: {
      about: 'Security groups with their rules',
      // One that is shared is seen in several accounts.
      id: ['_account_id', 'GroupId'],
      needs: 'ec2:DescribeSecurityGroups and ec2:DescribeRegions',
      ...regional('ec2_security_groups', 'ec2:DescribeSecurityGroups', securityGroups),
    },
    s3_buckets: {
      about: 'Buckets with public access block, policy status, encryption, versioning and logging',
      id: 'Name',
      needs: `s3:ListAllMyBuckets, s3:GetBucketPublicAccessBlock, s3:GetBucketPolicyStatus,
        s3:GetEncryptionConfiguration, s3:GetBucketVersioning and s3:GetBucketLogging`.replace(/\s+/g, ' '),
      ...global('s3_buckets', 's3:ListBuckets', buckets),
      adds: { ...ACCOUNT, ...BUCKET_FIELDS },
    },
    organizations_accounts: {
      about: 'Accounts of the organization, whatever their state; none where there is no organization',
      id: 'Id',
      needs: 'organizations:ListAccounts, as the management account or a delegated administrator',
      path: 'organizations:ListAccounts',
      when: wants('organizations_accounts'),
      adds: ACCOUNT,
      collect: accounts,
    },
  },
});
