import { CollectError, type ErrorCode } from '../errors.ts';

/** What was tried, for the sentence about why it failed. */
export interface Attempt {
  readonly bucket: string;
  readonly key?: string;
  /** Past participle: written, read, deleted. */
  readonly done: string;
  /** The permissions it takes. */
  readonly needs: readonly string[];
  /** What a refusal may mean as well. */
  readonly otherwise?: string;
  readonly region: string;
  /** Host of the endpoint, where one is set. */
  readonly host?: string;
}

/** What the SDK's errors say beside their message, which may quote the request and is never passed on. */
interface ServiceError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> };
  readonly Region?: string;
  readonly code?: string;
}

interface Sentence {
  readonly code: ErrorCode;
  readonly message: string;
  readonly mend: string;
}

const BAD_KEY: readonly string[] = ['InvalidAccessKeyId', 'SignatureDoesNotMatch', 'InvalidToken', 'InvalidSecurity'];
const EXPIRED: readonly string[] = ['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired'];
const NO_KEY: readonly string[] = ['CredentialsProviderError', 'TokenProviderError'];
const OTHER_REGION: readonly string[] = ['PermanentRedirect', 'TemporaryRedirect', 'AuthorizationHeaderMalformed'];

/** The name of a place as a person would look for it. */
export function placeOf(bucket: string, key: string): string {
  return `s3://${bucket}/${key}`;
}

/** The HTTP status an error came with; undefined when no answer came. */
export function statusOf(thrown: unknown): number | undefined {
  return (thrown as ServiceError | undefined)?.$metadata?.httpStatusCode;
}

/** S3's own word for what went wrong, such as NoSuchKey. */
function codeOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.name : '';
}

/** The region a bucket says it lies in. */
export function regionOf(thrown: unknown): string | undefined {
  const { $response, Region } = thrown as ServiceError;
  return $response?.headers?.['x-amz-bucket-region'] ?? Region;
}

/** Whether an object is not there; a missing bucket is no missing object. */
export function isMissing(thrown: unknown): boolean {
  return statusOf(thrown) === 404 && codeOf(thrown) !== 'NoSuchBucket';
}

/** Whether the bucket, or a compatible store, takes no ACL. */
export function refusesAcl(thrown: unknown): boolean {
  const code = codeOf(thrown);
  if (code === 'AccessControlListNotSupported') return true;
  return code === 'NotImplemented' && /acl/i.test((thrown as Error).message);
}

/** Whether the same request may succeed when it is sent again. */
export function mayPass(thrown: unknown): boolean {
  const status = statusOf(thrown);
  if (codeOf(thrown) === 'RequestTimeTooSkewed') return true;
  if (status === undefined) return isNetwork(thrown) || codeOf(thrown) === 'TimeoutError';
  return status === 408 || status === 429 || (status >= 500 && status !== 501);
}

function isNetwork(thrown: unknown): boolean {
  return /^(E[A-Z]|HPE_)/.test((thrown as ServiceError).code ?? '') || isCertificate(thrown);
}

function isCertificate(thrown: unknown): boolean {
  return /CERT|UNABLE_TO_/.test((thrown as ServiceError).code ?? '');
}

/** An SDK error as a sentence with what to do about it; what is none of the SDK's stays what it is. */
export function explained(thrown: unknown, attempt: Attempt): unknown {
  if (thrown instanceof CollectError || !(thrown instanceof Error)) return thrown;
  const sentence = ofIdentity(thrown, attempt) ?? ofPlace(thrown, attempt) ?? ofServer(thrown, attempt);
  if (sentence === undefined) return thrown;
  const status = statusOf(thrown);
  return new CollectError(sentence.code, sentence.message, {
    mend: sentence.mend,
    ...(status === undefined ? {} : { status }),
  });
}

function targetOf({ bucket, key }: Attempt): string {
  return key === undefined ? `the bucket '${bucket}'` : placeOf(bucket, key);
}

function ofIdentity(error: ServiceError, attempt: Attempt): Sentence | undefined {
  const { name } = error;
  const target = targetOf(attempt);
  if (BAD_KEY.includes(name)) {
    return {
      code: 'credentials',
      message: `${target} cannot be ${attempt.done}: the access key or its secret is not accepted (${name})`,
      mend: 'correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and check this machine’s clock',
    };
  }
  if (EXPIRED.includes(name)) {
    const message = `${target} cannot be ${attempt.done}: the temporary credentials have expired`;
    return { code: 'credentials', message, mend: 'get new ones and set AWS_SESSION_TOKEN with its access key' };
  }
  if (NO_KEY.includes(name)) {
    const message = `${target} cannot be ${attempt.done}: no AWS credentials were found`;
    return {
      code: 'credentials',
      message,
      mend: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or attach a role',
    };
  }
  if (name === 'RequestTimeTooSkewed') {
    const message = `${target} cannot be ${attempt.done}: this machine’s clock is more than 15 minutes off`;
    return { code: 'store', message, mend: 'set the clock, best by NTP' };
  }
  return undefined;
}

function ofPlace(error: ServiceError, attempt: Attempt): Sentence | undefined {
  const { bucket, region } = attempt;
  const status = statusOf(error);
  if (error.name === 'NoSuchBucket' || (status === 404 && attempt.key === undefined)) {
    const message = `the bucket '${bucket}' does not exist`;
    return { code: 'store', message, mend: 'create it, or correct STORE_AWS_S3_BUCKET' };
  }
  if (status === 301 || OTHER_REGION.includes(error.name)) {
    const message = `the bucket '${bucket}' lies in another region than ${region}`;
    return { code: 'store', message, mend: `set AWS_REGION to ${regionOf(error) ?? 'the bucket’s region'}` };
  }
  if (error.name === 'AccessDenied' || status === 403) {
    // AWS names the action that was refused; compatible stores do not.
    const refused = /perform: ([a-z]+:\w+)/.exec(error.message)?.[1];
    const needs = refused ?? attempt.needs.join(' or ');
    const { done, otherwise = '' } = attempt;
    const message = `${targetOf(attempt)} cannot be ${done}: these credentials lack ${needs}${otherwise}`;
    const acl = needs.includes('s3:PutObjectAcl') ? ', or set STORE_AWS_S3_ACL=none to send no ACL' : '';
    return { code: 'denied', message, mend: `allow ${refused ?? attempt.needs.join(' and ')}${acl}` };
  }
  if (error.name.startsWith('KMS.')) {
    const message = `${targetOf(attempt)} cannot be ${attempt.done}: its KMS key does not work (${error.name})`;
    return { code: 'store', message, mend: 'check the key, and STORE_AWS_S3_SSE' };
  }
  return undefined;
}

function ofServer(error: ServiceError, attempt: Attempt): Sentence | undefined {
  const status = statusOf(error);
  const target = targetOf(attempt);
  const server = attempt.host ?? `S3 in ${attempt.region}`;
  if (error.name === 'SlowDown' || status === 429 || status === 503) {
    const message = `${target} cannot be ${attempt.done}: ${server} keeps asking to slow down (${status})`;
    return { code: 'throttled', message, mend: 'run again later, or spread the keys over more prefixes' };
  }
  if (status !== undefined) {
    const message = `${target} cannot be ${attempt.done}: ${server} answered ${status} ${error.name}`;
    const mend =
      status >= 500 ? 'run again later' : 'check the STORE_AWS_S3_* settings against what this server offers';
    return { code: 'store', message, mend };
  }
  if (error.name === 'TimeoutError') {
    const message = `${target} cannot be ${attempt.done}: ${server} does not answer`;
    return { code: 'timeout', message, mend: 'check the network and STORE_AWS_S3_ENDPOINT' };
  }
  if (!isNetwork(error)) return undefined;
  const message = `${target} cannot be ${attempt.done}: no connection to ${server} (${error.code})`;
  const authority = 'name a file with the certificate of its authority in NODE_EXTRA_CA_CERTS';
  const mend = isCertificate(error) ? authority : 'check the network, AWS_REGION and STORE_AWS_S3_ENDPOINT';
  return { code: 'network', message, mend };
}
