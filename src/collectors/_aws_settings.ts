import { awsIdentity, awsShape } from '../config/aws.ts';
import { programShape } from '../config/program.ts';
import {
  assertEncrypted,
  baseUrl,
  integer,
  list,
  optional,
  secret,
  setting,
  type Values,
  waking,
} from '../config/setting.ts';

/** The resources, and the AWS service that each is read from. */
const SERVICES: Readonly<Record<string, string>> = {
  credential_report: 'iam',
  iam_users: 'iam',
  iam_password_policy: 'iam',
  securityhub_findings: 'securityhub',
  guardduty_findings: 'guardduty',
  inspector2_findings: 'inspector2',
  config_rules: 'config',
  config_compliance: 'config',
  ec2_instances: 'ec2',
  ec2_security_groups: 'ec2',
  s3_buckets: 's3',
  organizations_accounts: 'organizations',
};

/** Whether a word of AWS_SERVICES names a resource: by its service, its name or its tag. */
function names(word: string, resource: string): boolean {
  return [SERVICES[resource], resource, `aws_${resource}`].includes(word.toLowerCase());
}

/** The variables of the collector. */
export const awsEnv = {
  ...awsShape,
  AWS_REGIONS: waking(
    setting(
      'Regions to read, such as eu-central-1,us-east-1; unset = every one that is enabled',
      list()
        .refine((regions) => regions.every((one) => /^[a-z]{2,}(-[a-z]+)+-\d+$/.test(one)), 'must be names of regions')
        .default([]),
    ),
  ),
  AWS_SERVICES: waking(
    setting(
      'What to read, by service or dataset, such as iam,ec2,securityhub_findings; unset = all',
      list()
        .refine((words) => words.every((word) => Object.keys(SERVICES).some((one) => names(word, one))), {
          message: `must be some of ${[...new Set(Object.values(SERVICES))].join(', ')}, or names of datasets`,
        })
        .default([]),
    ),
  ),
  AWS_ACCOUNTS: setting(
    'Accounts to read: their ids, or organization for every active one; unset = that of the credentials',
    list()
      .refine((words) => words.every((word) => /^(\d{12}|organization)$/.test(word)), {
        message: 'must be ids of twelve digits, or organization',
      })
      .default([]),
  ),
  AWS_ACCOUNTS_ROLE: setting('Role to assume in each other account, by its name', optional()),
  AWS_ACCOUNTS_EXTERNAL_ID: secret('External id that the role asks for', optional()),
  AWS_ENDPOINT_URL: setting('Base URL of all AWS APIs, for gateways and tests; unset = AWS', optional()),
  AWS_MAX_ATTEMPTS: setting('Tries of a call, at most', integer(8, 1, 20)),
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
} as const;

/** The values of the variables. */
export type AwsSettings = Values<typeof awsEnv>;

/** Whether the settings want a resource. */
export function wants(resource: string): (settings: AwsSettings) => boolean {
  return ({ AWS_SERVICES }) => AWS_SERVICES.length === 0 || AWS_SERVICES.some((word) => names(word, resource));
}

/**
 * Base URL of the APIs, or of the one that is asked first.
 * @throws {CollectError} config, refused
 */
export function endpointOf(settings: AwsSettings): URL {
  const { region } = awsIdentity(settings);
  const url = baseUrl(settings.AWS_ENDPOINT_URL ?? `https://sts.${region}.amazonaws.com`);
  return assertEncrypted(url, settings.CYBER_COLLECT_ALLOW_HTTP);
}
