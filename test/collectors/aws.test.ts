import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/errors.ts';
import { type AwsAnswer, type AwsCall, type AwsScript, assumed, ground, OWN, startAws } from '../support/aws.ts';
import { collectOnce, type RunChoice, resultOf, storedLines } from '../support/run.ts';

const REGIONS = ['eu-central-1', 'us-east-1'];
const ODD = 'Ünïcode 日本 "quoted" \\ & <tag> 🦊';

type Fields = Readonly<Record<string, unknown>>;
type Reply = (call: AwsCall) => AwsAnswer;

/** A list in pages: the token is the number of records before. */
function paged(
  records: readonly unknown[],
  size: number,
  token: unknown,
): { readonly page: readonly unknown[]; readonly next: string | undefined } {
  const from = Number(token ?? 0);
  const next = from + size < records.length ? String(from + size) : undefined;
  return { page: records.slice(from, from + size), next };
}

/** A list of a JSON service; `at` names its records, and the token going in and coming out. */
function listed(at: string, token: string, records: (call: AwsCall) => readonly unknown[], size = 2): Reply {
  return (call) => {
    const { page, next } = paged(records(call), size, call.input[token]);
    return { json: { [at]: page, ...(next === undefined ? {} : { [token]: next }) } };
  };
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

function named(region: string, what: string, count = 5): readonly string[] {
  return Array.from({ length: count }, (_, n) => `${what}-${region}-${n}`);
}

const hub = ({ region }: AwsCall): readonly Fields[] =>
  named(region, 'hub').map((Id) => ({
    Id,
    ProductArn: `arn:aws:securityhub:${region}::product/aws/securityhub`,
    Title: ODD,
    Region: region,
    CreatedAt: '2026-01-02T03:04:05.678Z',
    Resources: [
      {
        Type: 'AwsLambdaFunction',
        Id: `fn-${Id}`,
        Details: {
          AwsLambdaFunction: { Runtime: 'nodejs20.x', Environment: { Variables: { KEY: 'canary-variable' } } },
        },
      },
    ],
  }));

const duty = ({ region }: AwsCall): readonly Fields[] =>
  named(region, 'duty').map((id) => ({
    id,
    arn: `arn:aws:guardduty:${region}:${OWN}:detector/d${region.length}/finding/${id}`,
    title: ODD,
    severity: 7.5,
  }));

const inspected = ({ region }: AwsCall): readonly Fields[] =>
  named(region, 'inspector').map((id) => ({
    findingArn: `arn:aws:inspector2:${region}:${OWN}:finding/${id}`,
    title: ODD,
    firstObservedAt: 1_767_323_045.678,
  }));

const rules = ({ region }: AwsCall): readonly Fields[] =>
  named(region, 'rule', 3).map((name) => ({
    ConfigRuleName: name,
    ConfigRuleArn: `arn:aws:config:${region}:${OWN}:config-rule/${name}`,
    Source: { Owner: 'AWS', SourceIdentifier: 'S3_BUCKET_PUBLIC_READ_PROHIBITED' },
  }));

const results = ({ input }: AwsCall): readonly Fields[] =>
  named(String(input.ConfigRuleName), 'bucket', 3).map((ResourceId) => ({
    EvaluationResultIdentifier: {
      EvaluationResultQualifier: { ConfigRuleName: input.ConfigRuleName, ResourceType: 'AWS::S3::Bucket', ResourceId },
    },
    ComplianceType: 'NON_COMPLIANT',
    ResultRecordedTime: 1_767_323_045,
  }));

const USERS = ['ada', 'béatrice', 'carl+test', 'dora', 'emil'];
const BUCKETS = ['assets', 'backups', 'logs'];

const iamUsers: Reply = ({ input, account }) => {
  const { page, next } = paged(USERS, 2, input.Marker);
  const members = page.map(
    (
      name,
    ) => `<member><UserName>${name}</UserName><Arn>arn:aws:iam::${account}:user/${name}</Arn><UserId>AIDA${name}</UserId>
<Path>/</Path><CreateDate>2020-01-02T03:04:05Z</CreateDate></member>`,
  );
  const more =
    next === undefined ? '<IsTruncated>false</IsTruncated>' : `<IsTruncated>true</IsTruncated><Marker>${next}</Marker>`;
  return { xml: `<Users>${members.join('')}</Users>${more}` };
};

const instances: Reply = ({ region, input }) => {
  const { page, next } = paged(named(region, 'i'), 2, input.NextToken);
  const items = page.map(
    (id) => `<item><reservationId>r-${id}</reservationId><ownerId>${OWN}</ownerId><instancesSet><item>
<instanceId>${id}</instanceId><launchTime>2026-01-02T03:04:05.000Z</launchTime>
<tagSet><item><key>Name</key><value>${escaped(ODD)}</value></item></tagSet></item></instancesSet></item>`,
  );
  const more = next === undefined ? '' : `<nextToken>${next}</nextToken>`;
  return { xml: `<reservationSet>${items.join('')}</reservationSet>${more}` };
};

const groups: Reply = ({ region, input }) => {
  const { page, next } = paged(named(region, 'sg'), 2, input.NextToken);
  const items = page.map((id) => `<item><groupId>${id}</groupId><groupName>${escaped(ODD)}</groupName></item>`);
  const more = next === undefined ? '' : `<nextToken>${next}</nextToken>`;
  return { xml: `<securityGroupInfo>${items.join('')}</securityGroupInfo>${more}` };
};

const bucketList: Reply = ({ input }) => {
  const { page, next } = paged(BUCKETS, 2, input['continuation-token']);
  const items = page.map(
    (name) =>
      `<Bucket><Name>${name}</Name><CreationDate>2026-01-02T03:04:05Z</CreationDate><BucketRegion>eu-central-1</BucketRegion></Bucket>`,
  );
  const more = next === undefined ? '' : `<ContinuationToken>${next}</ContinuationToken>`;
  return { xml: `<ListAllMyBucketsResult><Buckets>${items.join('')}</Buckets>${more}</ListAllMyBucketsResult>` };
};

const organization = (ids: Readonly<Record<string, string>>): Reply => {
  const accounts = Object.entries(ids).map(([Id, State]) => ({ Id, State, Name: ODD, JoinedTimestamp: 1_767_323_045 }));
  return ({ input: { NextToken } }) => {
    // The first page is empty, which is legal.
    if (NextToken === undefined) return { json: { Accounts: [], NextToken: '0' } };
    const { page, next } = paged(accounts, 2, NextToken);
    return { json: { Accounts: page, NextToken: next ?? null } };
  };
};

const REPORT = [
  'user,arn,user_creation_time,password_enabled,password_last_used,mfa_active',
  `<root_account>,arn:aws:iam::${OWN}:root,2019-01-01T00:00:00+00:00,not_supported,no_information,true`,
  `"ada,lovelace",arn:aws:iam::${OWN}:user/ada,2020-01-02T03:04:05+00:00,true,N/A,false`,
].join('\n');

/** An account that has everything in both of its regions. */
const WORLD: AwsScript = {
  ...ground({ 'eu-central-1': true, 'me-south-1': false, 'us-east-1': true }),
  'iam:GetAccountSummary': () => ({
    xml: `<SummaryMap><entry><key>Users</key><value>${USERS.length}</value></entry></SummaryMap>`,
  }),
  'iam:ListUsers': iamUsers,
  'iam:GetAccountPasswordPolicy': () => ({
    xml: '<PasswordPolicy><MinimumPasswordLength>14</MinimumPasswordLength></PasswordPolicy>',
  }),
  'iam:GenerateCredentialReport': () => ({ xml: '<State>COMPLETE</State>' }),
  'iam:GetCredentialReport': () => ({
    xml: `<Content>${Buffer.from(REPORT).toString('base64')}</Content><ReportFormat>text/csv</ReportFormat>`,
  }),
  'securityhub:GetFindings': listed('Findings', 'NextToken', hub),
  'guardduty:ListDetectors': ({ region }) => ({ json: { detectorIds: [`d${region.length}`] } }),
  'guardduty:ListFindings': (call) => {
    const { page, next } = paged(duty(call), 2, call.input.nextToken);
    // GuardDuty ends its lists with an empty token.
    return { json: { findingIds: page.map((one) => (one as Fields).id), nextToken: next ?? '' } };
  },
  'guardduty:GetFindings': (call) => ({
    json: { findings: duty(call).filter(({ id }) => (call.input.findingIds as unknown[]).includes(id)) },
  }),
  'inspector2:BatchGetAccountStatus': ({ account }) => ({
    json: { accounts: [{ accountId: account, state: { status: 'ENABLED' }, resourceState: {} }] },
  }),
  'inspector2:ListFindings': listed('findings', 'nextToken', inspected),
  'config:DescribeConfigRules': listed('ConfigRules', 'NextToken', rules),
  'config:GetComplianceDetailsByConfigRule': listed('EvaluationResults', 'NextToken', results),
  'ec2:DescribeInstances': instances,
  'ec2:DescribeSecurityGroups': groups,
  's3:ListBuckets': bucketList,
  's3:GetPublicAccessBlock': ({ input }) =>
    input.Bucket === 'logs'
      ? { code: 'NoSuchPublicAccessBlockConfiguration', status: 404 }
      : {
          xml: '<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>',
        },
  's3:GetBucketPolicyStatus': () => ({ code: 'NoSuchBucketPolicy', status: 404 }),
  's3:GetBucketEncryption': () => ({
    xml: `<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>
</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>`,
  }),
  's3:GetBucketVersioning': () => ({
    xml: '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>',
  }),
  's3:GetBucketLogging': () => ({ xml: '<BucketLoggingStatus/>' }),
  'organizations:ListAccounts': organization({
    [OWN]: 'ACTIVE',
    '444455556666': 'ACTIVE',
    '777788889999': 'SUSPENDED',
  }),
};

/** A run over the world, with some answers changed. */
async function run(changed: AwsScript, only: string | readonly string[], choice: Partial<RunChoice> = {}) {
  const aws = await startAws({ ...WORLD, ...changed });
  const named = (typeof only === 'string' ? [only] : only).map((one) => (one === 'aws' ? one : `aws.${one}`));
  const result = await collectOnce({ ...choice, env: { ...aws.env, ...choice.env }, only: named });
  const records = async (resource: string) =>
    ((await storedLines(result.folder, `aws_${resource}`)) ?? []).map((line) => JSON.parse(line) as Fields);
  expect(aws.unexpected).toEqual([]);
  expect(result.unredacted.join('\n')).not.toContain('canary');
  return { ...result, aws, records, of: (resource: string) => resultOf(result.summary, `aws_${resource}`) };
}

const both = (what: string, count = 5) => REGIONS.flatMap((region) => named(region, what, count));

test('every dataset comes whole, of every enabled region and every page', async () => {
  const { summary, aws, records } = await run({}, 'aws');
  expect(summary.datasets.map(({ tag, verdict, reason }) => ({ tag, verdict, reason }))).toEqual(
    summary.datasets.map(({ tag }) => ({ tag, verdict: 'complete', reason: undefined })),
  );
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(12);
  expect((await records('iam_users')).map(({ UserName }) => UserName)).toEqual(USERS);
  expect((await records('securityhub_findings')).map(({ Id }) => Id)).toEqual(both('hub'));
  expect((await records('guardduty_findings')).map(({ Id }) => Id)).toEqual(both('duty'));
  expect(await records('inspector2_findings')).toHaveLength(10);
  expect((await records('config_rules')).map(({ ConfigRuleName }) => ConfigRuleName)).toEqual(both('rule', 3));
  expect(await records('config_compliance')).toHaveLength(18);
  expect((await records('ec2_instances')).map(({ InstanceId }) => InstanceId)).toEqual(both('i'));
  expect((await records('ec2_security_groups')).map(({ GroupId }) => GroupId)).toEqual(both('sg'));
  expect((await records('s3_buckets')).map(({ Name }) => Name)).toEqual(BUCKETS);
  expect((await records('organizations_accounts')).map(({ Id }) => Id)).toEqual([OWN, '444455556666', '777788889999']);
  expect(new Set(aws.calls.map(({ region }) => region))).toEqual(new Set(REGIONS));
});

test('records are what AWS answers, moments in ISO, with account and region', async () => {
  const { records } = await run({}, 'aws');
  expect((await records('ec2_instances'))[0]).toEqual({
    InstanceId: 'i-eu-central-1-0',
    LaunchTime: '2026-01-02T03:04:05.000Z',
    Tags: [{ Key: 'Name', Value: ODD }],
    _owner_id: OWN,
    _reservation_id: 'r-i-eu-central-1-0',
    _account_id: OWN,
    _region: 'eu-central-1',
  });
  expect((await records('inspector2_findings'))[0]).toMatchObject({
    title: ODD,
    firstObservedAt: '2026-01-02T03:04:05.678Z',
    _region: 'eu-central-1',
  });
  expect((await records('config_compliance'))[0]).toMatchObject({
    ComplianceType: 'NON_COMPLIANT',
    ResultRecordedTime: '2026-01-02T03:04:05.000Z',
    _account_id: OWN,
    _region: 'eu-central-1',
  });
  expect(await records('iam_password_policy')).toEqual([
    { PasswordPolicy: { MinimumPasswordLength: 14 }, _summary: { Users: USERS.length }, _account_id: OWN },
  ]);
  expect((await records('iam_users'))[0]).toMatchObject({ CreateDate: '2020-01-02T03:04:05.000Z', _account_id: OWN });
});

describe('faults', () => {
  /** Each dataset, the call that lists it, and the calls that go before it. */
  const LISTS: readonly (readonly [string, string])[] = [
    ['credential_report', 'iam:GetCredentialReport'],
    ['iam_users', 'iam:ListUsers'],
    ['iam_password_policy', 'iam:GetAccountPasswordPolicy'],
    ['securityhub_findings', 'securityhub:GetFindings'],
    ['guardduty_findings', 'guardduty:ListDetectors'],
    ['guardduty_findings', 'guardduty:ListFindings'],
    ['guardduty_findings', 'guardduty:GetFindings'],
    ['inspector2_findings', 'inspector2:BatchGetAccountStatus'],
    ['inspector2_findings', 'inspector2:ListFindings'],
    ['config_rules', 'config:DescribeConfigRules'],
    ['config_compliance', 'config:GetComplianceDetailsByConfigRule'],
    ['ec2_instances', 'ec2:DescribeInstances'],
    ['ec2_security_groups', 'ec2:DescribeSecurityGroups'],
    ['ec2_security_groups', 'ec2:DescribeRegions'],
    ['s3_buckets', 's3:ListBuckets'],
    ['s3_buckets', 's3:GetPublicAccessBlock'],
    ['s3_buckets', 's3:GetBucketVersioning'],
    ['organizations_accounts', 'organizations:ListAccounts'],
    ['iam_users', 'sts:GetCallerIdentity'],
  ];

  const usual = (action: string, call: AwsCall): AwsAnswer => WORLD[action]?.(call) ?? 'reset';

  /** Passing faults: all must come all the same. */
  const PASSING: Readonly<Record<string, (action: string, call: AwsCall) => AwsAnswer>> = {
    'a broken connection': (action, call) => (call.nth === 1 ? 'reset' : usual(action, call)),
    'a cut answer': (action, call) => (call.nth === 1 ? { cut: usual(action, call) } : usual(action, call)),
    'an internal error': (action, call) =>
      call.nth === 1 ? { code: 'InternalFailure', status: 500 } : usual(action, call),
  };

  /** Lasting faults: nothing may be stored. */
  const LASTING: Readonly<Record<string, (action: string, call: AwsCall) => AwsAnswer>> = {
    'cut answers': (action, call) => ({ cut: usual(action, call) }),
    'a gateway’s page with status 200': () => ({ body: '<html><body>Sign in</body></html>' }),
    'an empty object': () => ({ body: '{}' }),
    'an empty body': () => ({ body: '' }),
    'missing permission': () => ({ code: 'AccessDenied', status: 403 }),
  };

  describe.each(Object.keys(PASSING))('%s passes', (name) => {
    test.each(LISTS)('%s: %s', async (resource, action) => {
      const answer = PASSING[name];
      const { of, records } = await run({ [action]: (call) => answer?.(action, call) ?? 'reset' }, resource);
      expect(of(resource)).toMatchObject({ verdict: 'complete' });
      expect(await records(resource)).toEqual(await (await run({}, resource)).records(resource));
    });
  });

  // The SDK goes on very slowly once it was throttled, so each is throttled once.
  test.each([
    ['iam_users', 'iam:ListUsers', 'Throttling'],
    ['ec2_security_groups', 'ec2:DescribeRegions', 'RequestLimitExceeded'],
    ['s3_buckets', 's3:ListBuckets', 'SlowDown'],
    ['organizations_accounts', 'organizations:ListAccounts', 'TooManyRequestsException'],
  ])('throttling passes: %s: %s', async (resource, action, code) => {
    let throttled = false;
    const once = (call: AwsCall): AwsAnswer => {
      if (throttled) return usual(action, call);
      throttled = true;
      return { code, status: code === 'SlowDown' ? 503 : 400 };
    };
    const { of, records } = await run({ [action]: once }, resource);
    expect(of(resource)).toMatchObject({ verdict: 'complete' });
    expect(await records(resource)).toEqual(await (await run({}, resource)).records(resource));
  });

  describe.each(Object.keys(LASTING))('%s: nothing is passed off as whole', (name) => {
    test.each(LISTS)('%s: %s', async (resource, action) => {
      const answer = LASTING[name];
      const { of, summary, folder } = await run({ [action]: (call) => answer?.(action, call) ?? 'reset' }, resource);
      expect(['failed', 'denied']).toContain(of(resource).verdict);
      expect([3, 4]).toContain(summary.exit_code);
      expect(await storedLines(folder, `aws_${resource}`)).toBeUndefined();
    });
  });

  test.each([
    ['iam_users', 'iam:ListUsers'],
    ['ec2_instances', 'ec2:DescribeInstances'],
    ['securityhub_findings', 'securityhub:GetFindings'],
    ['guardduty_findings', 'guardduty:ListFindings'],
    ['inspector2_findings', 'inspector2:ListFindings'],
    ['config_rules', 'config:DescribeConfigRules'],
    ['config_compliance', 'config:GetComplianceDetailsByConfigRule'],
    ['s3_buckets', 's3:ListBuckets'],
    ['organizations_accounts', 'organizations:ListAccounts'],
  ])('a page token that comes again and again: %s', async (resource, action) => {
    const first = (call: AwsCall) => usual(action, { ...call, input: { ...call.input, NextToken: '0' } });
    const again = (call: AwsCall): AwsAnswer => {
      const answer = first({ ...call, input: {} });
      if ('json' in (answer as object)) {
        const { json } = answer as { json: Fields };
        return { json: { ...json, NextToken: '2', nextToken: '2' } };
      }
      return answer;
    };
    const { of } = await run({ [action]: again }, resource);
    expect(of(resource)).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
  });
});

describe('accounts', () => {
  const OTHER = '444455556666';
  const settings = {
    AWS_ACCOUNTS: 'organization',
    AWS_ACCOUNTS_ROLE: 'audit/reader',
    AWS_ACCOUNTS_EXTERNAL_ID: 'canary-id',
  };
  const assuming: Reply = ({ input }) => assumed(/::(\d{12}):/.exec(String(input.RoleArn))?.[1] ?? '');

  test('every active one of the organization is read as the role, our own as we are', async () => {
    const { aws, of, records, said } = await run({ 'sts:AssumeRole': assuming }, ['iam_users', 'ec2_instances'], {
      env: settings,
    });
    // The instances of this test have the same ids in both accounts, so they came twice.
    expect(of('ec2_instances')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
    expect(of('iam_users')).toMatchObject({ verdict: 'complete', records: 10, expected: 10 });
    const users = await records('iam_users');
    expect(new Set(users.map(({ _account_id }) => _account_id))).toEqual(new Set([OWN, OTHER]));
    const roles = aws.calls.filter(({ action }) => action === 'sts:AssumeRole').map(({ input }) => input);
    expect(roles[0]).toMatchObject({
      RoleArn: `arn:aws:iam::${OTHER}:role/audit/reader`,
      ExternalId: 'canary-id',
      RoleSessionName: 'cyber-collect',
    });
    expect(said.join('\n')).toContain('777788889999');
  });

  test('one whose role may not be assumed fails what is read of all, and is named', async () => {
    const accounts = { ...settings, AWS_ACCOUNTS: `${OWN},${OTHER},777788889999` };
    const answers: AwsScript = {
      'sts:AssumeRole': (call) =>
        String(call.input.RoleArn).includes(OTHER) ? assuming(call) : { code: 'AccessDenied', status: 403 },
    };
    const { of, summary, folder } = await run(answers, 'iam_users', { env: accounts });
    expect(of('iam_users')).toMatchObject({ verdict: 'denied', title: 'Account not readable' });
    expect(of('iam_users').reason).toMatch(/^account 777788889999 cannot be read as audit\/reader/);
    expect(summary.exit_code).toBe(3);
    expect(await storedLines(folder, 'aws_iam_users')).toBeUndefined();
  });

  test('one that lacks a permission is named with it', async () => {
    const answers: AwsScript = {
      'sts:AssumeRole': assuming,
      'ec2:DescribeSecurityGroups': (call) =>
        call.account === OTHER && call.region === 'us-east-1'
          ? { code: 'UnauthorizedOperation', status: 403 }
          : groups(call),
    };
    const { of } = await run(answers, 'ec2_security_groups', { env: settings });
    expect(of('ec2_security_groups')).toMatchObject({ verdict: 'denied' });
    expect(of('ec2_security_groups').reason).toContain(
      `ec2:DescribeSecurityGroups in us-east-1 of account ${OTHER}: these credentials lack ec2:DescribeSecurityGroups`,
    );
  });

  test('need a role', async () => {
    const { of } = await run({}, 'iam_users', { env: { AWS_ACCOUNTS: OTHER } });
    expect(of('iam_users')).toMatchObject({ verdict: 'failed' });
    expect(of('iam_users').mend).toContain('AWS_ACCOUNTS_ROLE');
  });

  test('of an organization that is not there are none, and none is read for it', async () => {
    const none: AwsScript = { 'organizations:ListAccounts': () => ({ code: 'AWSOrganizationsNotInUseException' }) };
    const alone = await run(none, 'organizations_accounts');
    expect(alone.of('organizations_accounts')).toMatchObject({ verdict: 'empty' });
    const { of } = await run(none, 'iam_users', { env: settings });
    expect(of('iam_users')).toMatchObject({ verdict: 'failed' });
  });

  test('are only told to the management account: another is refused', async () => {
    const { of } = await run(
      { 'organizations:ListAccounts': () => ({ code: 'AccessDeniedException' }) },
      'organizations_accounts',
    );
    expect(of('organizations_accounts')).toMatchObject({ verdict: 'denied' });
    expect(of('organizations_accounts').mend).toContain('management account');
  });
});

describe('credentials', () => {
  test.each([
    ['InvalidClientTokenId', /not accepted/],
    ['SignatureDoesNotMatch', /not accepted/],
    ['ExpiredToken', /expired/],
    ['RequestExpired', /clock/],
  ])('that are refused end the run with 4: %s', async (code, reason) => {
    const { summary, of } = await run({ 'sts:GetCallerIdentity': () => ({ code, status: 403 }) }, [
      'iam_users',
      'ec2_instances',
    ]);
    expect(summary.exit_code).toBe(4);
    expect(of('iam_users').reason).toMatch(reason);
  });

  test('that expire while a list is read leave nothing behind', async () => {
    const { of, folder } = await run(
      {
        'iam:ListUsers': (call) => (call.input.Marker === '2' ? { code: 'ExpiredToken', status: 403 } : iamUsers(call)),
      },
      'iam_users',
    );
    expect(of('iam_users')).toMatchObject({ verdict: 'failed' });
    expect(of('iam_users').reason).toContain('expired');
    expect(await storedLines(folder, 'aws_iam_users')).toBeUndefined();
  });
});

describe('permissions', () => {
  test('that one dataset lacks stop that one', async () => {
    const answers: AwsScript = {
      'securityhub:GetFindings': ({ region }) => ({
        code: 'AccessDeniedException',
        status: 403,
        message: `User: arn:aws:iam::${OWN}:user/reader is not authorized to perform: securityhub:GetFindings on ${region}`,
      }),
    };
    const { summary, of, folder } = await run(answers, 'aws');
    expect(summary.exit_code).toBe(3);
    expect(of('securityhub_findings')).toMatchObject({ verdict: 'denied', title: 'Permission denied' });
    expect(of('securityhub_findings').reason).toBe(
      `securityhub:GetFindings in eu-central-1 of account ${OWN}: these credentials lack securityhub:GetFindings (AccessDeniedException)`,
    );
    expect(await storedLines(folder, 'aws_securityhub_findings')).toBeUndefined();
    expect(summary.datasets.filter(({ verdict }) => verdict === 'complete')).toHaveLength(11);
  });

  test('Inspector’s refusal is no sign that it is off', async () => {
    const { of } = await run(
      { 'inspector2:ListFindings': () => ({ code: 'AccessDeniedException', status: 403 }) },
      'inspector2_findings',
    );
    expect(of('inspector2_findings')).toMatchObject({ verdict: 'denied', title: 'Permission denied' });
  });
});

describe('regions', () => {
  test('one that is down makes a dataset fail, and is named', async () => {
    const down: AwsScript = {
      'ec2:DescribeInstances': (call) =>
        call.region === 'us-east-1' ? { code: 'ServiceUnavailable', status: 503 } : instances(call),
    };
    const { of, folder } = await run(down, 'ec2_instances');
    expect(of('ec2_instances')).toMatchObject({ verdict: 'failed' });
    expect(of('ec2_instances').reason).toContain('ec2:DescribeInstances in us-east-1');
    expect(await storedLines(folder, 'aws_ec2_instances')).toBeUndefined();
  });

  test('one that refuses credentials which STS knows is not taken for an empty one', async () => {
    const off: AwsScript = {
      'ec2:DescribeInstances': (call) =>
        call.region === 'us-east-1' ? { code: 'AuthFailure', status: 401 } : instances(call),
    };
    const { of, summary } = await run(off, 'ec2_instances');
    expect(of('ec2_instances')).toMatchObject({ verdict: 'denied', title: 'Region not usable' });
    expect(summary.exit_code).toBe(3);
  });

  test('may be limited; what is global comes all the same', async () => {
    const { aws, of, records } = await run({}, ['ec2_instances', 'iam_users'], {
      env: { AWS_REGIONS: 'eu-central-1' },
    });
    expect(await records('ec2_instances')).toHaveLength(5);
    expect(of('iam_users').records).toBe(5);
    const asked = aws.calls.filter(({ action }) => action === 'ec2:DescribeInstances');
    expect(new Set(asked.map(({ region }) => region))).toEqual(new Set(['eu-central-1']));
  });

  test('that AWS does not know, or that are off, are told', async () => {
    const unknown = await run({}, 'ec2_instances', { env: { AWS_REGIONS: 'eu-central-1,eu-nowhere-9' } });
    expect(unknown.of('ec2_instances').reason).toContain('eu-nowhere-9');
    const off = await run({}, 'ec2_instances', { env: { AWS_REGIONS: 'eu-central-1,me-south-1' } });
    expect(off.of('ec2_instances')).toMatchObject({ verdict: 'complete', records: 5 });
    expect(off.said.join('\n')).toContain('me-south-1');
  });

  test('that may not be listed have to be named', async () => {
    const denied: AwsScript = { 'ec2:DescribeRegions': () => ({ code: 'UnauthorizedOperation', status: 403 }) };
    const all = await run(denied, 'ec2_instances');
    expect(all.of('ec2_instances')).toMatchObject({ verdict: 'denied' });
    expect(all.of('ec2_instances').reason).toContain('ec2:DescribeRegions');
    const some = await run(denied, 'ec2_instances', { env: { AWS_REGIONS: 'us-east-1' } });
    expect(some.of('ec2_instances')).toMatchObject({ verdict: 'complete', records: 5 });
  });
});

describe('a service that is not enabled', () => {
  const OFF: readonly (readonly [string, (region: string) => AwsScript])[] = [
    [
      'securityhub_findings',
      (off) => ({
        'securityhub:GetFindings': (call) =>
          call.region.startsWith(off)
            ? { code: 'InvalidAccessException', status: 401 }
            : listed('Findings', 'NextToken', hub)(call),
      }),
    ],
    [
      'guardduty_findings',
      (off) => ({
        'guardduty:ListDetectors': ({ region }) => ({
          json: { detectorIds: region.startsWith(off) ? [] : [`d${region.length}`] },
        }),
      }),
    ],
    [
      'inspector2_findings',
      (off) => ({
        'inspector2:BatchGetAccountStatus': ({ region, account }) => {
          const status = region.startsWith(off) ? 'DISABLED' : 'ENABLED';
          return { json: { accounts: [{ accountId: account, state: { status }, resourceState: {} }] } };
        },
      }),
    ],
    [
      'config_rules',
      (off) => ({
        'config:DescribeConfigRules': (call) =>
          call.region.startsWith(off) ? { json: { ConfigRules: [] } } : listed('ConfigRules', 'NextToken', rules)(call),
        'config:DescribeConfigurationRecorders': () => ({ json: { ConfigurationRecorders: [] } }),
      }),
    ],
  ];

  test.each(OFF)('in one region is nothing there, and is told: %s', async (resource, off) => {
    const { of, said, records } = await run(off('eu-central-1'), resource);
    expect(of(resource)).toMatchObject({ verdict: 'complete' });
    expect(new Set((await records(resource)).map(({ _region }) => _region))).toEqual(new Set(['us-east-1']));
    expect(said.join('\n')).toContain('1 of 2 regions');
  });

  test.each(OFF)('anywhere is no empty dataset but none: %s', async (resource, off) => {
    const { of, folder } = await run(off(''), resource);
    expect(of(resource)).toMatchObject({ verdict: 'denied', title: 'Not enabled' });
    expect(of(resource).reason).toContain('skipped: not enabled in any of 2 regions');
    expect(await storedLines(folder, `aws_${resource}`)).toBeUndefined();
  });

  test('that is switched off behind its first page has lost something', async () => {
    const { of } = await run(
      {
        'securityhub:GetFindings': (call) =>
          call.input.NextToken === undefined
            ? listed('Findings', 'NextToken', hub)(call)
            : { code: 'InvalidAccessException', status: 401 },
      },
      'securityhub_findings',
    );
    expect(of('securityhub_findings')).toMatchObject({ verdict: 'failed' });
  });

  test('but has a recorder is an empty AWS Config', async () => {
    const { of } = await run(
      {
        'config:DescribeConfigRules': () => ({ json: { ConfigRules: [] } }),
        'config:DescribeConfigurationRecorders': () => ({ json: { ConfigurationRecorders: [{ name: 'default' }] } }),
      },
      'config_rules',
    );
    expect(of('config_rules')).toMatchObject({ verdict: 'empty' });
  });
});

describe('findings', () => {
  test('that a region gathers from others come once', async () => {
    const gathering = (call: AwsCall) =>
      call.region === 'us-east-1' ? [...hub({ ...call, region: 'eu-central-1' }), ...hub(call)] : hub(call);
    const { of, records } = await run(
      { 'securityhub:GetFindings': listed('Findings', 'NextToken', gathering) },
      'securityhub_findings',
    );
    expect(of('securityhub_findings')).toMatchObject({ verdict: 'complete', records: 10 });
    expect((await records('securityhub_findings')).map(({ Id }) => Id)).toEqual(both('hub'));
  });

  test('that one region brings twice are a sign of others that did not come', async () => {
    const twice = (call: AwsCall) => [...hub(call), ...hub(call).slice(0, 1)];
    const { of } = await run(
      { 'securityhub:GetFindings': listed('Findings', 'NextToken', twice) },
      'securityhub_findings',
    );
    expect(of('securityhub_findings')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
  });

  test('that GuardDuty lists and does not hand out are missing', async () => {
    const short: Reply = (call) => ({
      json: { findings: duty(call).filter(({ id }) => (call.input.findingIds as unknown[])[0] === id) },
    });
    const { of } = await run({ 'guardduty:GetFindings': short }, 'guardduty_findings');
    expect(of('guardduty_findings')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
  });

  test('come without the variables of functions that they quote', async () => {
    const { folder } = await run({}, 'securityhub_findings');
    const lines = (await storedLines(folder, 'aws_securityhub_findings')) ?? [];
    expect(lines.join('\n')).toContain('nodejs20.x');
    expect(lines.join('\n')).not.toContain('canary-variable');
  });

  test('are read once more when their page token has died', async () => {
    let dead = true;
    const { of, records } = await run(
      {
        'inspector2:ListFindings': (call) => {
          if (call.input.nextToken !== '2' || !dead) return listed('findings', 'nextToken', inspected)(call);
          dead = false;
          return { code: 'InvalidNextTokenException' };
        },
      },
      'inspector2_findings',
    );
    expect(of('inspector2_findings')).toMatchObject({ verdict: 'complete' });
    expect(await records('inspector2_findings')).toHaveLength(10);
  });
});

describe('IAM', () => {
  test('users are held against the number that the account declares', async () => {
    const summary: Reply = () => ({ xml: '<SummaryMap><entry><key>Users</key><value>6</value></entry></SummaryMap>' });
    const { of } = await run({ 'iam:GetAccountSummary': summary }, 'iam_users');
    expect(of('iam_users')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
  });

  test('more users than there is a marker for are missing', async () => {
    const { of } = await run(
      { 'iam:ListUsers': () => ({ xml: '<Users></Users><IsTruncated>true</IsTruncated>' }) },
      'iam_users',
    );
    expect(of('iam_users')).toMatchObject({ verdict: 'failed', title: 'Data incomplete' });
  });

  test('an account without a password policy of its own has null', async () => {
    const { records } = await run(
      { 'iam:GetAccountPasswordPolicy': () => ({ code: 'NoSuchEntity', status: 404 }) },
      'iam_password_policy',
    );
    expect(await records('iam_password_policy')).toMatchObject([{ PasswordPolicy: null, _account_id: OWN }]);
  });

  test('the credential report is waited for, its cells without a value are null', async () => {
    let asked = 0;
    const { records, of } = await run(
      {
        'iam:GenerateCredentialReport': () => {
          asked += 1;
          return { xml: `<State>${asked === 1 ? 'STARTED' : 'COMPLETE'}</State>` };
        },
      },
      'credential_report',
    );
    expect(of('credential_report')).toMatchObject({ verdict: 'complete', records: 2 });
    expect(await records('credential_report')).toEqual([
      {
        user: '<root_account>',
        arn: `arn:aws:iam::${OWN}:root`,
        user_creation_time: '2019-01-01T00:00:00+00:00',
        password_enabled: null,
        password_last_used: null,
        mfa_active: 'true',
        _account_id: OWN,
      },
      {
        user: 'ada,lovelace',
        arn: `arn:aws:iam::${OWN}:user/ada`,
        user_creation_time: '2020-01-02T03:04:05+00:00',
        password_enabled: 'true',
        password_last_used: null,
        mfa_active: 'false',
        _account_id: OWN,
      },
    ]);
  });

  test.each(['', 'user,arn,mfa_active', `${REPORT}\neve,arn:aws`, 'something,else\n1,2'])(
    'a report that is none, or is cut off, is not taken: %#',
    async (report) => {
      const { of } = await run(
        { 'iam:GetCredentialReport': () => ({ xml: `<Content>${Buffer.from(report).toString('base64')}</Content>` }) },
        'credential_report',
      );
      expect(of('credential_report').verdict).toBe('failed');
    },
  );
});

describe('buckets', () => {
  test('have their settings beside, null where they are not set', async () => {
    const { records } = await run({}, 's3_buckets');
    const [assets, , logs] = await records('s3_buckets');
    expect(assets).toEqual({
      Name: 'assets',
      CreationDate: '2026-01-02T03:04:05.000Z',
      BucketRegion: 'eu-central-1',
      _region: 'eu-central-1',
      _public_access_block: { BlockPublicAcls: true },
      _policy_status: null,
      _encryption: { Rules: [{ ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'AES256' } }] },
      _versioning: { Status: 'Enabled' },
      _logging: {},
      _errors: {},
      _account_id: OWN,
    });
    expect(logs).toMatchObject({ _public_access_block: null });
  });

  test('that hide a setting say so; a setting that all hide is a permission that is missing', async () => {
    const hidden = (of: (bucket: unknown) => boolean): AwsScript => ({
      's3:GetBucketEncryption': (call) =>
        of(call.input.Bucket)
          ? { code: 'AccessDenied', status: 403 }
          : (WORLD['s3:GetBucketEncryption']?.(call) ?? 'reset'),
    });
    const one = await run(
      hidden((bucket) => bucket === 'logs'),
      's3_buckets',
    );
    expect(one.of('s3_buckets')).toMatchObject({ verdict: 'complete', records: 3 });
    expect((await one.records('s3_buckets'))[2]).toMatchObject({
      Name: 'logs',
      _encryption: null,
      _errors: { 's3:GetEncryptionConfiguration': 'AccessDenied' },
    });
    expect(one.said.join('\n')).toContain('refused for 1 of 3 buckets');
    const all = await run(
      hidden(() => true),
      's3_buckets',
    );
    expect(all.of('s3_buckets')).toMatchObject({ verdict: 'denied' });
    expect(all.of('s3_buckets').reason).toContain('s3:GetEncryptionConfiguration');
  });

  test('tell their region themselves where the list does not; one that is gone is left out', async () => {
    const buckets = ['old', 'gone', 'eu'].map((name) => `<Bucket><Name>${name}</Name></Bucket>`).join('');
    const { records } = await run(
      {
        's3:ListBuckets': () => ({
          xml: `<ListAllMyBucketsResult><Buckets>${buckets}</Buckets></ListAllMyBucketsResult>`,
        }),
        's3:GetBucketLocation': ({ input }) => {
          if (input.Bucket === 'gone') return { code: 'NoSuchBucket', status: 404 };
          return {
            xml:
              input.Bucket === 'old'
                ? '<LocationConstraint xmlns="s3"/>'
                : '<LocationConstraint xmlns="s3">EU</LocationConstraint>',
          };
        },
      },
      's3_buckets',
    );
    expect((await records('s3_buckets')).map(({ Name, _region }) => [Name, _region])).toEqual([
      ['old', 'us-east-1'],
      ['eu', 'eu-west-1'],
    ]);
  });
});

test('results of a rule that was deleted meanwhile are left out', async () => {
  const gone: Reply = (call) =>
    call.input.ConfigRuleName === 'rule-us-east-1-0'
      ? { code: 'NoSuchConfigRuleException' }
      : listed('EvaluationResults', 'NextToken', results)(call);
  const { of } = await run({ 'config:GetComplianceDetailsByConfigRule': gone }, 'config_compliance');
  expect(of('config_compliance')).toMatchObject({ verdict: 'complete', records: 15 });
});

describe('the collector runs', () => {
  async function datasets(env: Readonly<Record<string, string>>, only: readonly string[] = []) {
    const aws = await startAws(WORLD);
    const given = Object.fromEntries(Object.entries({ ...aws.env, ...env }).filter(([, value]) => value !== ''));
    const { summary } = await collectOnce({ env: given, only });
    return summary.datasets.map(({ resource }) => resource);
  }
  const KEYLESS = { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '' };
  const STATE = { STORE_AWS_S3_BUCKET: 'b', STORE_AWS_S3_ENDPOINT: 'http://127.0.0.1:1' };

  test('with an access key, unless that is a store’s', async () => {
    expect(await datasets({})).toHaveLength(12);
    expect(await datasets(KEYLESS)).toEqual([]);
    expect(await datasets(STATE)).toEqual([]);
  });

  test('with a region or a service beside a store’s key', async () => {
    expect(await datasets({ ...STATE, AWS_REGIONS: 'eu-central-1', AWS_SERVICES: 'iam' })).toEqual([
      'credential_report',
      'iam_users',
      'iam_password_policy',
    ]);
  });

  test('for the services and datasets that are chosen, parents unstored', async () => {
    const chosen = await datasets({ AWS_SERVICES: 'ec2;aws_iam_users,config_compliance' });
    expect(new Set(chosen)).toEqual(
      new Set(['iam_users', 'config_compliance', 'ec2_instances', 'ec2_security_groups']),
    );
    await expect(datasets({ AWS_SERVICES: 'ec2' }, ['aws.iam_users'])).rejects.toThrow(ConfigError);
  });

  test.each([
    [{ AWS_SECRET_ACCESS_KEY: '' }, /AWS_SECRET_ACCESS_KEY is missing/],
    [{ AWS_ENDPOINT_URL: 'http://aws.example' }, /unencrypted/],
    [{ AWS_SERVICES: 'lambda' }, /must be some of/],
    [{ AWS_REGIONS: 'everywhere' }, /names of regions/],
    [{ AWS_ACCOUNTS: '12345' }, /twelve digits/],
  ])('not with settings that cannot be right: %o', async (env, message) => {
    const aws = await startAws(WORLD);
    const given = Object.fromEntries(Object.entries({ ...aws.env, ...env }).filter(([, value]) => value !== ''));
    const { summary } = await collectOnce({ env: given, only: ['aws.iam_users'] });
    expect(summary.exit_code).toBe(2);
    expect(summary.problems.map((problem) => problem.message).join()).toMatch(message);
    expect(aws.calls).toEqual([]);
  });
});
