import type { z } from 'zod';
import { configProblem, type Problem } from '../errors.ts';
import { choice, duration, flag, integer, list, optional, secret, setting, text, type Values } from './setting.ts';

const SHARE = /^(?:([a-z][a-z0-9_]*)=)?(\d|[1-8]\d|90)$/;

/** `10`, `10,okta=30`: percents from 0 to 90, of all collectors and of one. */
function headroom(): z.ZodType<string> {
  return text('10').refine(areShares, { message: `must be ${SHARES}` });
}

/** What shares of limits look like. */
export const SHARES = 'a percentage of 90 at most, or one per collector as in 10,okta=30';

/** Whether a text says shares of limits. */
export function areShares(value: string): boolean {
  return value.split(',').every((share) => SHARE.test(share.trim()));
}

/** The share of a vendor's limit that is left to others, 0 to 0.9; what stands last counts. */
export function headroomOf(collector: string, shares: string): number {
  const matches = shares.split(',').map((share) => SHARE.exec(share.trim()));
  const own =
    matches.findLast((match) => match?.[1] === collector) ?? matches.findLast((match) => match?.[1] === undefined);
  return Number(own?.[2] ?? 0) / 100;
}

/** A URL of one of some protocols; what is said of another does not repeat it. */
function url(...protocols: readonly string[]): z.ZodType<string | undefined> {
  const isOne = (value: string) => URL.canParse(value) && protocols.includes(new URL(value).protocol);
  const message = `must be a URL that begins with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`;
  return optional().refine((value) => value === undefined || isOne(value), { message });
}

/** Variables of the program itself, whatever is collected or stored. */
export const programShape = {
  TENANCY: setting('Name of the tenant or organisation, the value of %TENANCY', text('default')),
  CYBER_COLLECT_CONFIG: setting(
    'Configuration file; unless told, cyber-collect.config.json, .yaml, .yml, .ts or .js of the working directory',
    optional(),
  ),
  CYBER_COLLECT_STATE: setting('Folder of the working state: spool, run records, locks', text('.cyber-collect')),
  CYBER_COLLECT_STATE_S3: setting(
    'Bucket and prefix, s3://bucket/prefix, of what machines that forget must know, and of locks between machines',
    optional().refine((value) => value === undefined || /^s3:\/\/[^/\s]+(\/[^\s]*)?$/.test(value), {
      message: 'must be s3://bucket or s3://bucket/prefix',
    }),
  ),
  CYBER_COLLECT_LOCK_POSTGRES: secret(
    'Connection string of a PostgreSQL server that keeps the locks, where runs are on several machines',
    optional(),
  ),
  COLLECTORS_PATH: setting(
    'Folders of collectors of your own, files called src_NAME.js or .ts, separated by commas',
    list().optional(),
  ),
  STORES_PATH: setting(
    'Folders of stores of your own, files called store_NAME.js or .ts, separated by commas',
    list().optional(),
  ),
  CYBER_COLLECT_QUEUE: secret(
    'Where the runs of a fleet are queued: redis://, rediss:// or postgres://; for the commands fleet and worker alone',
    optional(),
  ),
  CYBER_COLLECT_ALLOW_READABLE_SECRETS: setting('Take secrets out of files that everyone can read', flag()),
  CYBER_COLLECT_ALLOW_HTTP: setting('Allow plain http:// to hosts other than loopback', flag()),
  CYBER_COLLECT_CA_FILE: setting('PEM file of certificate authorities to trust beside the built-in ones', optional()),
  CYBER_COLLECT_CLIENT_CERT: setting('PEM file of a client certificate for gateways that ask for one', optional()),
  CYBER_COLLECT_CLIENT_KEY: setting('PEM file of the client certificate’s private key', optional()),
  CYBER_COLLECT_REQUESTS: setting('Requests at once to one vendor', integer(8, 1, 256)),
  CYBER_COLLECT_HEADERS_TIMEOUT: setting('Seconds to wait for an answer’s headers', integer(60, 1, 3600)),
  CYBER_COLLECT_BODY_TIMEOUT: setting('Seconds of silence allowed inside a body', integer(300, 1, 3600)),
  CYBER_COLLECT_MAX_BODY_MIB: setting('Largest body accepted, in MiB after decompression', integer(4096, 1)),
  CYBER_COLLECT_MAX_RECORD_MIB: setting('Largest record accepted, in MiB', integer(64, 1, 512)),
  CYBER_COLLECT_MAX_PAGES: setting('Most pages of one list', integer(1_000_000, 1)),
  CYBER_COLLECT_HEADROOM: setting(
    'Share of a vendor’s rate limit left to your other tools, in percent; for one collector as okta=30',
    headroom(),
  ),
  CYBER_COLLECT_RESUME_HOURS: setting(
    'Hours within which a run goes on where an interrupted one stopped; 0 never',
    integer(6, 0, 168),
  ),
  CYBER_COLLECT_OUTBOX_MIB: setting('Most that may wait for stores that are down, in MiB', integer(10_240, 0)),
  CYBER_COLLECT_SHRINK_RECORDS: setting('A dataset that lost at least this many records is held back', integer(5, 1)),
  CYBER_COLLECT_SHRINK_PERCENT: setting(
    '... if that is also at least this share of it, in percent',
    integer(20, 1, 100),
  ),
  CYBER_COLLECT_WATCH_CONFIG: setting('File of the bridges of watch, such as config.json', optional()),
  CYBER_COLLECT_WATCH_EVERY: setting('How long watch waits behind a run, such as 1h', duration().optional()),
  CYBER_COLLECT_WATCH_FAIL_EVERY: setting(
    'How long watch waits behind a run that was not complete, such as 5m',
    duration().optional(),
  ),
  CYBER_COLLECT_WATCH_CRON: setting('When watch runs, as a cron expression', optional()),
  CYBER_COLLECT_WATCH_TIME_ZONE: setting('Time zone of cron expressions, such as Europe/Madrid', optional()),
  HTTP_PROXY: setting('Proxy for http:// requests', optional()),
  HTTPS_PROXY: setting('Proxy for https:// requests', optional()),
  NO_PROXY: setting('Hosts that are reached without the proxy', optional()),
  CYBER_COLLECT_PROMETHEUS_FILE: setting(
    'File that each run replaces with its metrics, for Prometheus’ textfile collector, as /var/lib/node_exporter/%TENANCY.prom',
    optional(),
  ),
  OTEL_EXPORTER_OTLP_ENDPOINT: setting(
    'OpenTelemetry collector that gets traces and metrics as OTLP over HTTP (JSON), such as https://collector:4318',
    url('https:', 'http:'),
  ),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: setting('Whole URL for traces, where it is another', url('https:', 'http:')),
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: setting('Whole URL for metrics, where it is another', url('https:', 'http:')),
  OTEL_EXPORTER_OTLP_HEADERS: secret('Headers for the collector: key=value, separated by commas', optional()),
  OTEL_EXPORTER_OTLP_TRACES_HEADERS: secret('Further headers for traces', optional()),
  OTEL_EXPORTER_OTLP_METRICS_HEADERS: secret('Further headers for metrics', optional()),
  OTEL_EXPORTER_OTLP_PROTOCOL: setting(
    'How the collector is spoken to; grpc switches telemetry off',
    text('http/json'),
  ),
  OTEL_EXPORTER_OTLP_TIMEOUT: setting(
    'Milliseconds for one sending; a run waits so long at most',
    integer(4000, 1, 10_000),
  ),
  OTEL_TRACES_EXPORTER: setting('none switches traces off', text('otlp')),
  OTEL_METRICS_EXPORTER: setting('none switches metrics off', text('otlp')),
  OTEL_SDK_DISABLED: setting('Switches telemetry off', flag()),
  OTEL_SERVICE_NAME: setting('Name of this program in telemetry; cyber-collect unless told', optional()),
  OTEL_RESOURCE_ATTRIBUTES: setting('Further attributes of telemetry: key=value, separated by commas', optional()),
  TRACEPARENT: setting('W3C trace context of what the run is a part of', optional()),
  SLACK_WEBHOOK_URL: secret('Slack incoming webhook that is told of start, errors and completion', optional()),
  NOTIFY_ON: setting(
    'When to tell Slack, the webhook and e-mail: always, of problems, or on change of what is wrong',
    choice(['always', 'problems', 'change'], 'always'),
  ),
  NOTIFY_WEBHOOK_URL: secret('Webhook that is told of runs as JSON', url('https:', 'http:')),
  NOTIFY_WEBHOOK_SECRET: secret(
    'Key that signs what the webhook is told, as Standard Webhooks do: HMAC-SHA256; whsec_... is base64',
    optional(),
  ),
  NOTIFY_SMTP_URL: secret(
    'Mail server, smtps://user:password@host or smtp://user:password@host:587',
    url('smtps:', 'smtp:'),
  ),
  NOTIFY_EMAIL_FROM: setting('Sender of e-mail about runs', optional()),
  NOTIFY_EMAIL_TO: setting('Who gets e-mail about runs, separated by commas', list().optional()),
  NOTIFY_HEARTBEAT_URL: secret(
    'URL that is asked for at the end of each run, so that its silence tells of runs that did not happen',
    url('https:', 'http:'),
  ),
  NOTIFY_HEARTBEAT_FAIL: setting(
    'What is added to it when a run is not complete: a path, or a query as in ?status=down; none asks for nothing',
    text('/fail').refine((value) => /^(none|[/?]\S*)$/.test(value), { message: 'must be /path, ?query or none' }),
  ),
} as const;

/** Settings that are right each by itself, and wrong together. */
export function contradictions(program: Values<typeof programShape>): readonly Problem[] {
  const missing = (['NOTIFY_EMAIL_FROM', 'NOTIFY_EMAIL_TO'] as const).filter(
    (name) => (program[name] ?? '').length === 0,
  );
  if (program.NOTIFY_SMTP_URL === undefined || missing.length === 0) return [];
  const names = missing.join(' and ');
  return [configProblem('NOTIFY_SMTP_URL', `e-mail needs ${names}, too`, `set ${names}`)];
}

/** Other names the program's variables go by. */
export const programAliases: Readonly<Record<string, string>> = {
  http_proxy: 'HTTP_PROXY',
  https_proxy: 'HTTPS_PROXY',
  no_proxy: 'NO_PROXY',
  SLACK_WEBHOOK: 'SLACK_WEBHOOK_URL',
};
