import { CollectError } from '../errors.ts';
import { optional, secret, setting, text, type Values, waking } from './setting.ts';

/** The AWS variables that the S3 store and the AWS collector share. */
export const awsShape = {
  AWS_ACCESS_KEY_ID: waking(
    secret(
      'Access key id; unset = what the AWS SDK finds: profile, web identity, container or instance role',
      optional(),
    ),
    ['STORE_AWS_S3_BUCKET', 'CYBER_COLLECT_STATE_S3'],
  ),
  AWS_SECRET_ACCESS_KEY: secret('Secret of the access key', optional()),
  AWS_SESSION_TOKEN: secret('Session token, where the access key is a temporary one', optional()),
  AWS_PROFILE: setting('Profile of the shared AWS files, where no access key is set', optional()),
  AWS_REGION: setting('Region', text('us-east-1')),
} as const;

/** Other names the AWS variables go by. */
export const awsAliases: Readonly<Record<string, string>> = { AWS_DEFAULT_REGION: 'AWS_REGION' };

/** Who to be, as every AWS client of the SDK takes it. */
export interface AwsIdentity {
  readonly region: string;
  readonly credentials?: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  };
  readonly profile?: string;
}

/**
 * The identity that the variables describe; without an access key the SDK's own chain finds one.
 * @throws {CollectError} config when only half of an access key is set
 */
export function awsIdentity(settings: Values<typeof awsShape>): AwsIdentity {
  const region = settings.AWS_REGION;
  const accessKeyId = settings.AWS_ACCESS_KEY_ID;
  const secretAccessKey = settings.AWS_SECRET_ACCESS_KEY;
  const sessionToken = settings.AWS_SESSION_TOKEN;
  if (accessKeyId !== undefined && secretAccessKey !== undefined) {
    return {
      region,
      credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
    };
  }
  if (accessKeyId !== undefined || secretAccessKey !== undefined) {
    const missing = accessKeyId === undefined ? 'AWS_ACCESS_KEY_ID' : 'AWS_SECRET_ACCESS_KEY';
    throw new CollectError('config', `${missing} is missing, the other half of the access key is set`, {
      mend: `set ${missing}`,
    });
  }
  return settings.AWS_PROFILE === undefined ? { region } : { region, profile: settings.AWS_PROFILE };
}
