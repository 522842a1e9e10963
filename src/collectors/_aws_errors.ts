import { CollectError, type ErrorCode } from '../errors.ts';

/** What was asked, for the sentence about why it failed. */
export interface Asked {
  /** As IAM calls the permission, such as `iam:ListUsers`. */
  readonly action: string;
  readonly region: string;
  /** Unknown before the first answer. */
  readonly account?: string;
}

/** What the SDK's errors say beside their message, which may quote the request and is never passed on. */
interface ServiceError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly code?: string;
}

interface Sentence {
  readonly code: ErrorCode;
  readonly says: string;
  readonly mend: string;
  readonly title?: string;
}

/** Heading of what an account or a region does not use. */
export const NOT_ENABLED = 'Not enabled';

/** Heading of a host that is not there: a service that a region does not have, or a network without DNS. */
export const NO_HOST = 'Host not found';

const UNKNOWN_KEY = new Set([
  'InvalidClientTokenId',
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'InvalidSignatureException',
  'IncompleteSignature',
  'IncompleteSignatureException',
  'UnrecognizedClientException',
  'AuthFailure',
  'InvalidToken',
  'InvalidSecurity',
  'MissingAuthenticationToken',
  'MissingAuthenticationTokenException',
  'NotAuthorized',
]);
const OVER = new Set(['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired']);
const CLOCK = new Set(['RequestExpired', 'RequestTimeTooSkewed']);
const NO_KEY = new Set(['CredentialsProviderError', 'TokenProviderError']);
const OFF = new Set(['OptInRequired', 'OptInRequiredException']);
const DENIED = new Set([
  'AccessDenied',
  'AccessDeniedException',
  'UnauthorizedOperation',
  'UnauthorizedException',
  'AuthorizationError',
  'Forbidden',
]);
const SLOW =
  /^(Throttl|TooManyRequests|RequestLimitExceeded|SlowDown|LimitExceeded|BandwidthLimitExceeded|RateExceeded)/;
const DEAD_TOKEN = /^(InvalidNextToken|NextTokenTimeout|InvalidPaginationToken|ExpiredNextToken)/;

/** AWS's own word for what went wrong, such as `AccessDenied`. */
export function nameOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.name : '';
}

/** Whether the credentials are known but not allowed. */
export function isDenial(thrown: unknown): boolean {
  return thrown instanceof CollectError ? thrown.code === 'denied' : DENIED.has(nameOf(thrown));
}

/** Whether an answer came that is cut off or none of AWS's: it may be another one when it is asked for again. */
export function isUnreadable(thrown: unknown): boolean {
  if (!(thrown instanceof Error) || thrown instanceof CollectError) return false;
  return (
    thrown instanceof SyntaxError || /parse error|Deserialization error|Unexpected (end|token)/i.test(thrown.message)
  );
}

/** An error of the SDK as a sentence that names action, region and account. */
export function explained(thrown: unknown, asked: Asked): CollectError {
  if (thrown instanceof CollectError) return thrown;
  const error: ServiceError = thrown instanceof Error ? thrown : new Error(String(thrown));
  const { code, says, mend, title } = ofIdentity(error, asked) ?? ofService(error, asked) ?? ofNetwork(error);
  const status = error.$metadata?.httpStatusCode;
  return new CollectError(code, `${placeOf(asked)}: ${says}`, {
    mend,
    ...(title === undefined ? {} : { title }),
    ...(status === undefined ? {} : { status }),
  });
}

/** What was asked and where, as a person would say it. */
export function placeOf({ action, region, account }: Asked): string {
  return `${action} in ${region}${account === undefined ? '' : ` of account ${account}`}`;
}

function ofIdentity({ name }: ServiceError, { account }: Asked): Sentence | undefined {
  if (OVER.has(name)) {
    const mend = 'get new credentials and set AWS_SESSION_TOKEN with its access key';
    return { code: 'credentials', says: `the temporary credentials have expired (${name})`, mend };
  }
  if (CLOCK.has(name)) {
    const says = `this machine’s clock is minutes off, or the request took as long (${name})`;
    return { code: 'credentials', says, mend: 'set the clock, best by NTP' };
  }
  if (NO_KEY.has(name)) {
    const mend = 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or attach a role';
    return { code: 'credentials', says: 'no AWS credentials were found', mend };
  }
  if (OFF.has(name) || (UNKNOWN_KEY.has(name) && account !== undefined)) {
    // What STS knows is not wrong: the region is off, or takes no session tokens of the global STS endpoint.
    const says = `the region does not take these credentials (${name})`;
    const mend = 'enable the region for the account, or leave it out of AWS_REGIONS';
    return { code: 'denied', says, mend, title: 'Region not usable' };
  }
  if (!UNKNOWN_KEY.has(name)) return undefined;
  const mend = 'correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN';
  return { code: 'credentials', says: `the access key or its secret is not accepted (${name})`, mend };
}

function ofService(error: ServiceError, { action }: Asked): Sentence | undefined {
  const { name, message } = error;
  const status = error.$metadata?.httpStatusCode;
  if (DENIED.has(name)) {
    // AWS mostly names the action that was refused, which may be another one.
    const needs = /perform: ([a-z0-9-]+:\w+)/.exec(message)?.[1] ?? action;
    return { code: 'denied', says: `these credentials lack ${needs} (${name})`, mend: `allow ${needs}` };
  }
  if (SLOW.test(name) || status === 429) {
    return { code: 'throttled', says: `AWS keeps asking to slow down (${name})`, mend: 'run again later' };
  }
  if (DEAD_TOKEN.test(name))
    return { code: 'expired', says: `the page token is not taken any more (${name})`, mend: 'run again' };
  if (isUnreadable(error)) {
    const mend = 'check AWS_ENDPOINT_URL and any proxy between';
    return { code: 'vendor', says: 'the answer is cut off, or none of AWS’s', mend };
  }
  if (status === undefined) return undefined;
  const mend = status >= 500 ? 'run again later' : 'check the AWS_* settings';
  return { code: 'vendor', says: `AWS answered ${status} ${name}`, mend };
}

function ofNetwork({ name, code }: ServiceError): Sentence {
  const mend = 'check the network, AWS_REGION, AWS_REGIONS and AWS_ENDPOINT_URL';
  if (name === 'TimeoutError' || code === 'ETIMEDOUT') {
    return { code: 'timeout', says: 'no answer came in time', mend };
  }
  if (code === 'ENOTFOUND') return { code: 'network', says: 'there is no such host', mend, title: NO_HOST };
  if (/CERT|UNABLE_TO_/.test(code ?? '')) {
    const authority = 'name a file with the certificate of its authority in NODE_EXTRA_CA_CERTS';
    return { code: 'network', says: `the certificate is not trusted (${code})`, mend: authority };
  }
  if (/^(E[A-Z_]+|HPE_\w+|UND_\w+)$/.test(code ?? '')) {
    return { code: 'network', says: `the connection failed (${code})`, mend };
  }
  return { code: 'defect', says: `the AWS SDK failed (${name})`, mend: 'report it with --verbose output' };
}
