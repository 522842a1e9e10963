import {
  ConfigServiceClient,
  PutConfigRuleCommand,
  PutConfigurationRecorderCommand,
} from '@aws-sdk/client-config-service';
import { CreateSecurityGroupCommand, EC2Client, RunInstancesCommand } from '@aws-sdk/client-ec2';
import { CreateUserCommand, IAMClient, UpdateAccountPasswordPolicyCommand } from '@aws-sdk/client-iam';
import { DisableCommand, EnableCommand, Inspector2Client } from '@aws-sdk/client-inspector2';
import { CreateAccountCommand, CreateOrganizationCommand, OrganizationsClient } from '@aws-sdk/client-organizations';
import { CreateBucketCommand, PutPublicAccessBlockCommand, S3Client } from '@aws-sdk/client-s3';
import { BatchImportFindingsCommand, EnableSecurityHubCommand, SecurityHubClient } from '@aws-sdk/client-securityhub';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { needed } from '../support/needed.ts';
import { collectOnce, type RunResult, resultOf, storedLines } from '../support/run.ts';

const endpoint = needed('TEST_AWS_ENDPOINT');
const ACCOUNT = '123456789012';
const USERS = 130;
const INSTANCES = 1100;
const FINDINGS = 250;
const BUCKETS = ['cc-assets', 'cc-logs', 'cc-public'];

const at = (region: string) => ({
  endpoint,
  region,
  credentials: { accessKeyId: 'AKIATEST', secretAccessKey: 'secret' },
  forcePathStyle: true,
});
const settings = {
  AWS_ENDPOINT_URL: endpoint,
  AWS_ACCESS_KEY_ID: 'AKIATEST',
  AWS_SECRET_ACCESS_KEY: 'canary-secret',
  AWS_REGIONS: 'eu-central-1,us-east-1',
};

const reset = () => fetch(new URL('/moto-api/reset', endpoint), { method: 'POST' });

function finding(n: number) {
  const now = '2026-01-02T03:04:05.678Z';
  return {
    SchemaVersion: '2018-10-08',
    Id: `finding-${n}`,
    ProductArn: `arn:aws:securityhub:eu-central-1:${ACCOUNT}:product/${ACCOUNT}/default`,
    GeneratorId: 'generator',
    AwsAccountId: ACCOUNT,
    Types: ['Software and Configuration Checks'],
    CreatedAt: now,
    UpdatedAt: now,
    Severity: { Label: 'HIGH' as const },
    Title: `Ünïcode 日本 "quoted" <${n}> 🦊`,
    Description: 'invented',
    Resources: [{ Type: 'AwsAccount', Id: `AWS::::Account:${ACCOUNT}` }],
    RecordState: 'ACTIVE' as const,
    Workflow: { Status: 'NEW' as const },
  };
}

async function seedGlobal(): Promise<void> {
  const iam = new IAMClient(at('us-east-1'));
  for (let n = 0; n < USERS; n += 1) await iam.send(new CreateUserCommand({ UserName: `user+${n}@acme.example` }));
  await iam.send(new UpdateAccountPasswordPolicyCommand({ MinimumPasswordLength: 14 }));
  const s3 = new S3Client(at('eu-central-1'));
  for (const Bucket of BUCKETS) {
    const CreateBucketConfiguration = { LocationConstraint: 'eu-central-1' as const };
    await s3.send(new CreateBucketCommand({ Bucket, CreateBucketConfiguration }));
  }
  const PublicAccessBlockConfiguration = { BlockPublicAcls: true, BlockPublicPolicy: true };
  await s3.send(new PutPublicAccessBlockCommand({ Bucket: BUCKETS[0], PublicAccessBlockConfiguration }));
  const organizations = new OrganizationsClient(at('us-east-1'));
  await organizations.send(new CreateOrganizationCommand({ FeatureSet: 'ALL' }));
  for (let n = 0; n < 25; n += 1) {
    const account = { AccountName: `Ünit ${n}`, Email: `unit-${n}@acme.example` };
    await organizations.send(new CreateAccountCommand(account));
  }
}

async function seedRegional(): Promise<void> {
  const ec2 = new EC2Client(at('eu-central-1'));
  for (let done = 0; done < INSTANCES; done += 100) {
    await ec2.send(new RunInstancesCommand({ ImageId: 'ami-12345678', MinCount: 100, MaxCount: 100 }));
  }
  await new EC2Client(at('us-east-1')).send(
    new CreateSecurityGroupCommand({ GroupName: 'wide-open', Description: 'a "group" & more' }),
  );
  const hub = new SecurityHubClient(at('eu-central-1'));
  await hub.send(new EnableSecurityHubCommand({}));
  for (let from = 0; from < FINDINGS; from += 50) {
    const Findings = Array.from({ length: 50 }, (_, n) => finding(from + n));
    await hub.send(new BatchImportFindingsCommand({ Findings }));
  }
  for (const region of ['eu-central-1', 'us-east-1']) {
    const inspector = new Inspector2Client(at(region));
    const wanted = { accountIds: [ACCOUNT], resourceTypes: ['EC2' as const] };
    await inspector.send(new EnableCommand(wanted));
    if (region === 'eu-central-1') await inspector.send(new DisableCommand(wanted));
  }
  const config = new ConfigServiceClient(at('us-east-1'));
  const ConfigurationRecorder = { name: 'default', roleARN: `arn:aws:iam::${ACCOUNT}:role/config` };
  await config.send(new PutConfigurationRecorderCommand({ ConfigurationRecorder }));
  const Source = { Owner: 'AWS' as const, SourceIdentifier: 'S3_BUCKET_VERSIONING_ENABLED' };
  await config.send(new PutConfigRuleCommand({ ConfigRule: { ConfigRuleName: 'versioning', Source } }));
}

let result: RunResult;

beforeAll(async () => {
  await reset();
  await Promise.all([seedGlobal(), seedRegional()]);
  // Compliance is not among what this server knows.
  result = await collectOnce({ env: settings, only: ['aws'], exclude: ['aws.config_compliance'] });
});

afterAll(async () => {
  await reset();
});

async function records(resource: string): Promise<readonly Record<string, unknown>[]> {
  return ((await storedLines(result.folder, `aws_${resource}`)) ?? []).map((line) => JSON.parse(line));
}

test('users come over all pages and as many as are declared, each in the credential report', async () => {
  expect(resultOf(result.summary, 'aws_iam_users')).toMatchObject({
    verdict: 'complete',
    records: USERS,
    expected: USERS,
  });
  const report = await records('credential_report');
  expect(new Set(report.map(({ user }) => user)).size).toBe(USERS);
  expect(report[0]).toMatchObject({ password_last_used: null, _account_id: ACCOUNT });
});

test('the password policy comes with the account’s numbers', async () => {
  expect(await records('iam_password_policy')).toMatchObject([
    { PasswordPolicy: { MinimumPasswordLength: 14 }, _summary: { Users: USERS }, _account_id: ACCOUNT },
  ]);
});

test('instances come over all pages of their region', async () => {
  const instances = await records('ec2_instances');
  expect(new Set(instances.map(({ InstanceId }) => InstanceId)).size).toBe(INSTANCES);
  expect(new Set(instances.map(({ _region }) => _region))).toEqual(new Set(['eu-central-1']));
});

test('security groups come of every region that is wanted', async () => {
  const groups = await records('ec2_security_groups');
  expect(new Set(groups.map(({ _region }) => _region))).toEqual(new Set(['eu-central-1', 'us-east-1']));
  expect(groups.filter(({ GroupName }) => GroupName === 'wide-open')).toMatchObject([
    { Description: 'a "group" & more', _region: 'us-east-1' },
  ]);
});

test('findings of Security Hub come over all pages', async () => {
  const findings = await records('securityhub_findings');
  expect(new Set(findings.map(({ Id }) => Id)).size).toBe(FINDINGS);
  expect(findings[7]).toMatchObject({ Title: 'Ünïcode 日本 "quoted" <7> 🦊' });
});

test('buckets come with their region and their public access block', async () => {
  const buckets = await records('s3_buckets');
  expect(buckets.map(({ Name }) => Name)).toEqual(BUCKETS);
  expect(buckets[0]).toMatchObject({ _region: 'eu-central-1', _public_access_block: { BlockPublicAcls: true } });
  expect(buckets[1]).toMatchObject({ _public_access_block: null, _errors: {} });
});

test('accounts of the organization come over all pages', async () => {
  expect(await records('organizations_accounts')).toHaveLength(26);
});

test('rules come of the region that has some', async () => {
  expect(await records('config_rules')).toMatchObject([{ ConfigRuleName: 'versioning', _region: 'us-east-1' }]);
});

test('what is not enabled anywhere is no empty dataset; in one region it is nothing there', async () => {
  expect(resultOf(result.summary, 'aws_guardduty_findings')).toMatchObject({ verdict: 'denied', title: 'Not enabled' });
  expect(resultOf(result.summary, 'aws_inspector2_findings')).toMatchObject({ verdict: 'empty' });
  expect(result.said.join('\n')).toContain('aws_inspector2_findings: nothing is read where it is not enabled, 1 of 2');
  expect(result.summary.exit_code).toBe(3);
});

test('every account of an organization is read as the role', async () => {
  const { summary, folder } = await collectOnce({
    env: { ...settings, AWS_ACCOUNTS: 'organization', AWS_ACCOUNTS_ROLE: 'audit' },
    only: ['aws.iam_password_policy'],
  });
  expect(summary.exit_code).toBe(0);
  const lines = (await storedLines(folder, 'aws_iam_password_policy')) ?? [];
  expect(lines).toHaveLength(26);
  expect(lines.filter((line) => JSON.parse(line).PasswordPolicy === null)).toHaveLength(25);
});

test('the secret key is in no line of talk', () => {
  expect(result.unredacted.join('\n')).not.toContain('canary-secret');
});
