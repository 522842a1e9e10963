import { type Received, type ScriptedServer, serve } from './server.ts';

/** One call as AWS would see it. */
export interface AwsCall {
  /** Such as `iam:ListUsers`. */
  readonly action: string;
  readonly region: string;
  /** Whose credentials signed it. */
  readonly account: string;
  /** Form, query or JSON body. */
  readonly input: Readonly<Record<string, unknown>>;
  /** How often this action was asked here with this input, from 1. */
  readonly nth: number;
}

/** An answer: what stands inside of it, or an error, or something that is no whole answer. */
export type AwsAnswer =
  | { readonly json: unknown }
  | { readonly xml: string }
  | { readonly code: string; readonly status?: number; readonly message?: string }
  | { readonly body: string; readonly status?: number }
  | { readonly cut: AwsAnswer }
  | 'reset';

/** Answers by action. What has no answer fails the test. */
export type AwsScript = Readonly<Record<string, (call: AwsCall) => AwsAnswer>>;

/** An AWS on this machine. */
export interface LoopbackAws {
  readonly env: Readonly<Record<string, string>>;
  readonly calls: readonly AwsCall[];
  /** What was asked though nothing answers it. */
  readonly unexpected: readonly string[];
}

/** The account whose access key the variables hold. */
export const OWN = '111122223333';

/** The answer to GetCallerIdentity, and regions that are enabled or not. */
export function ground(regions: Readonly<Record<string, boolean>>): AwsScript {
  const items = Object.entries(regions).map(([name, on]) => {
    const status = on ? 'opt-in-not-required' : 'not-opted-in';
    return `<item><regionName>${name}</regionName><optInStatus>${status}</optInStatus></item>`;
  });
  return {
    'sts:GetCallerIdentity': ({ account }) => ({
      xml: `<Account>${account}</Account><Arn>arn:aws:iam::${account}:user/reader</Arn><UserId>AIDA</UserId>`,
    }),
    'ec2:DescribeRegions': () => ({ xml: `<regionInfo>${items.join('')}</regionInfo>` }),
  };
}

/** Credentials of a role whose access key tells the account. */
export function assumed(account: string): AwsAnswer {
  const until = new Date(Date.now() + 3_600_000).toISOString();
  return {
    xml: `<Credentials><AccessKeyId>ASIA${account}</AccessKeyId><SecretAccessKey>secret-of-${account}</SecretAccessKey>
<SessionToken>token-of-${account}</SessionToken><Expiration>${until}</Expiration></Credentials>`,
  };
}

/** Serves AWS until the test is over. */
export async function startAws(script: AwsScript): Promise<LoopbackAws> {
  const calls: AwsCall[] = [];
  const unexpected: string[] = [];
  const times = new Map<string, number>();
  const server: ScriptedServer = await serve((received, response) => {
    const { action, input } = actionOf(received);
    const [, id = '', region = '', service = ''] =
      /Credential=([^/]+)\/\d+\/([^/]+)\/([^/]+)\//.exec(received.headers.authorization ?? '') ?? [];
    const account = /^ASIA(\d{12})$/.exec(id)?.[1] ?? OWN;
    const key = JSON.stringify([action, region, account, input]);
    times.set(key, (times.get(key) ?? 0) + 1);
    const call: AwsCall = { action, region, account, input, nth: times.get(key) ?? 0 };
    calls.push(call);
    const answer = script[action]?.(call);
    if (answer === undefined) {
      unexpected.push(`${action} (${service}) ${received.method} ${received.url.pathname}${received.url.search}`);
      response.writeHead(501).end();
      return;
    }
    if (answer === 'reset') {
      response.socket?.destroy();
      return;
    }
    const whole = 'cut' in answer ? textOf(action, answer.cut) : textOf(action, answer);
    // Without a length, so that only the answer itself can tell that it is cut.
    const text = 'cut' in answer ? whole.text.slice(0, Math.floor(whole.text.length * 0.7)) : whole.text;
    const type = whole.text.startsWith('<html')
      ? 'text/html'
      : whole.text.startsWith('<')
        ? 'text/xml'
        : 'application/json';
    const named = 'code' in answer ? { 'x-amzn-errortype': answer.code } : {};
    response.writeHead(whole.status, { 'content-type': type, connection: 'close', ...named });
    response.end(text);
  });
  return {
    calls,
    unexpected,
    env: {
      AWS_ENDPOINT_URL: server.origin.origin,
      AWS_ACCESS_KEY_ID: 'AKIAREADER',
      AWS_SECRET_ACCESS_KEY: 'canary-secret-key',
      AWS_MAX_ATTEMPTS: '3',
    },
  };
}

const REST: readonly (readonly [RegExp, string])[] = [
  [/^POST \/findings$/, 'securityhub:GetFindings'],
  [/^GET \/detector$/, 'guardduty:ListDetectors'],
  [/^POST \/detector\/\w+\/findings$/, 'guardduty:ListFindings'],
  [/^POST \/detector\/\w+\/findings\/get$/, 'guardduty:GetFindings'],
  [/^POST \/status\/batch\/get$/, 'inspector2:BatchGetAccountStatus'],
  [/^POST \/findings\/list$/, 'inspector2:ListFindings'],
  [/^GET \/$/, 's3:ListBuckets'],
];

const OF_BUCKET: readonly (readonly [string, string])[] = [
  ['location', 's3:GetBucketLocation'],
  ['publicAccessBlock', 's3:GetPublicAccessBlock'],
  ['policyStatus', 's3:GetBucketPolicyStatus'],
  ['encryption', 's3:GetBucketEncryption'],
  ['versioning', 's3:GetBucketVersioning'],
  ['logging', 's3:GetBucketLogging'],
];

const VERSIONS: Readonly<Record<string, string>> = { '2011-06-15': 'sts', '2010-05-08': 'iam', '2016-11-15': 'ec2' };

function actionOf({ method, url, headers, body }: Received): Pick<AwsCall, 'action' | 'input'> {
  const target = headers['x-amz-target'];
  if (typeof target === 'string') {
    const [service = '', name = ''] = target.split('.');
    const of = service.startsWith('AWSOrganizations') ? 'organizations' : 'config';
    return { action: `${of}:${name}`, input: JSON.parse(body) };
  }
  const form = new URLSearchParams(headers['content-type']?.startsWith('application/x-www-form') ? body : '');
  const { Action, Version, ...fields } = Object.fromEntries(form);
  if (Action !== undefined) return { action: `${VERSIONS[Version ?? '']}:${Action}`, input: fields };
  const asked = `${method} ${url.pathname}`;
  const rest = REST.find(([pattern]) => pattern.test(asked))?.[1];
  const query = Object.fromEntries(url.searchParams);
  const parsed = body.startsWith('{') ? (JSON.parse(body) as Record<string, unknown>) : {};
  if (rest !== undefined) return { action: rest, input: { ...query, ...parsed } };
  const ofBucket = OF_BUCKET.find(([name]) => url.searchParams.has(name))?.[1];
  return { action: ofBucket ?? asked, input: { Bucket: url.pathname.replaceAll('/', ''), ...query } };
}

function textOf(action: string, answer: AwsAnswer): { readonly status: number; readonly text: string } {
  const [service = '', name = ''] = action.split(':');
  if (answer === 'reset' || 'cut' in answer) throw new Error('nothing to cut');
  if ('body' in answer) return { status: answer.status ?? 200, text: answer.body };
  if ('json' in answer) return { status: 200, text: JSON.stringify(answer.json) };
  if ('xml' in answer) {
    if (service === 's3') return { status: 200, text: answer.xml };
    const inner = service === 'ec2' ? answer.xml : `<${name}Result>${answer.xml}</${name}Result>`;
    return { status: 200, text: `<${name}Response><requestId>r</requestId>${inner}</${name}Response>` };
  }
  const { code, status = 400, message = 'not told' } = answer;
  const error = `<Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  if (service === 's3') return { status, text: error };
  if (service === 'ec2') return { status, text: `<Response><Errors>${error}</Errors></Response>` };
  if (service === 'sts' || service === 'iam') return { status, text: `<ErrorResponse>${error}</ErrorResponse>` };
  return { status, text: JSON.stringify({ __type: code, message }) };
}
