import type { Context, Meter, Span as OpenSpan, Tracer } from '@opentelemetry/api';
import type { programShape } from '../config/program.ts';
import { assertEncrypted, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { RunSummary } from '../run/summary.ts';
import type { Log } from './log.ts';
import type { Redactor } from './redact.ts';
import type { Standing } from './standing.ts';
import { type Attributes, type Span, unfollowed } from './trace.ts';

/** Traces and metrics for an OpenTelemetry collector. */
export interface Telemetry {
  begin(name: string, attributes: Attributes): Span;
  /** Counts a run that has ended, and sends what there is. */
  record(summary: RunSummary, standing: Standing): Promise<void>;
  close(): Promise<void>;
}

/** What telemetry needs. */
export interface TelemetryMeans {
  readonly program: Values<typeof programShape>;
  readonly version: string;
  readonly redactor: Redactor;
  readonly log: Log;
}

const NONE: Telemetry = { begin: () => unfollowed, record: async () => undefined, close: async () => undefined };

/**
 * Telemetry to wherever `OTEL_EXPORTER_OTLP_ENDPOINT` says, or to nowhere.
 * @throws {CollectError} config where the packages are not installed
 */
export async function openTelemetry(means: TelemetryMeans): Promise<Telemetry> {
  const { program, log } = means;
  const traces = endpointOf(program, 'TRACES');
  const metrics = endpointOf(program, 'METRICS');
  if (traces === undefined && metrics === undefined) return NONE;
  if (program.OTEL_EXPORTER_OTLP_PROTOCOL === 'grpc') {
    const mend = 'set OTEL_EXPORTER_OTLP_PROTOCOL=http/json and the endpoint of OTLP over HTTP, often port 4318';
    log('WARNING', 'telemetry.failed', `telemetry is off: OTLP over gRPC is not spoken. To mend: ${mend}`);
    return NONE;
  }
  return start(means, await packages(), { traces, metrics });
}

type Signal = 'TRACES' | 'METRICS';

/** Where a signal goes: to its own endpoint, or below that of all. */
function endpointOf(program: TelemetryMeans['program'], signal: Signal): string | undefined {
  if (program.OTEL_SDK_DISABLED || program[`OTEL_${signal}_EXPORTER`] !== 'otlp') return undefined;
  const own = program[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`];
  const all = program.OTEL_EXPORTER_OTLP_ENDPOINT;
  return own ?? (all === undefined ? undefined : `${all.replace(/\/$/, '')}/v1/${signal.toLowerCase()}`);
}

/** The packages that telemetry needs with these settings. */
export function telemetryPackages(program: TelemetryMeans['program']): readonly string[] {
  const isOn = endpointOf(program, 'TRACES') !== undefined || endpointOf(program, 'METRICS') !== undefined;
  return isOn && program.OTEL_EXPORTER_OTLP_PROTOCOL !== 'grpc' ? PACKAGES.map((name) => `@opentelemetry/${name}`) : [];
}

const PACKAGES = [
  'api',
  'resources',
  'sdk-trace-base',
  'sdk-metrics',
  'exporter-trace-otlp-http',
  'exporter-metrics-otlp-http',
];

async function packages() {
  try {
    const [api, resources, sdkTrace, sdkMetrics, traceExporter, metricExporter] = await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/resources'),
      import('@opentelemetry/sdk-trace-base'),
      import('@opentelemetry/sdk-metrics'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/exporter-metrics-otlp-http'),
    ]);
    return { api, resources, sdkTrace, sdkMetrics, traceExporter, metricExporter };
  } catch (cause) {
    const all = PACKAGES.map((name) => `@opentelemetry/${name}`).join(' ');
    const message = 'OTEL_EXPORTER_OTLP_ENDPOINT is set, but telemetry needs @opentelemetry/*, which is not installed';
    throw new CollectError('config', message, { mend: `npm install ${all}`, cause });
  }
}

type Packages = Awaited<ReturnType<typeof packages>>;

interface Endpoints {
  readonly traces: string | undefined;
  readonly metrics: string | undefined;
}

function start(means: TelemetryMeans, otel: Packages, { traces, metrics }: Endpoints): Telemetry {
  const { program, redactor, version, log } = means;
  let warned = false;
  /** One warning, however many sendings fail. */
  const warn = (error: unknown) => {
    if (warned) return;
    warned = true;
    const { code, name } = error as { code?: unknown; name?: string };
    log('WARNING', 'telemetry.failed', `the OpenTelemetry collector was not told: ${code ?? name ?? 'no answer'}`);
  };
  const resource = otel.resources.defaultResource().merge(otel.resources.resourceFromAttributes(ownFacts(means)));
  const timeoutMillis = program.OTEL_EXPORTER_OTLP_TIMEOUT;
  const options = (url: string, signal: Signal) => ({ url, timeoutMillis, headers: headersFor(means, url, signal) });
  const tracers =
    traces === undefined ? undefined : tracing(otel, resource, options(traces, 'TRACES'), timeoutMillis, warn);
  const meters = metrics === undefined ? undefined : metering(otel, resource, options(metrics, 'METRICS'), warn);
  const counts = meters === undefined ? undefined : instruments(meters.getMeter('cyber-collect', version));
  const within = (work: Promise<unknown>) => withinTime(work, timeoutMillis + SLACK).catch(warn);
  return {
    begin(name, attributes) {
      if (tracers === undefined) return unfollowed;
      const tracer = tracers.getTracer('cyber-collect', version);
      return spanOf(otel.api, { tracer, redactor }, name, attributes, parentOf(otel.api, program.TRACEPARENT));
    },
    async record(summary, standing) {
      counts?.(summary, standing);
      await within(Promise.all([tracers?.forceFlush(), meters?.forceFlush()]));
    },
    async close() {
      // Whoever did not answer is not waited for again.
      if (!warned) await within(Promise.all([tracers?.shutdown(), meters?.shutdown()]));
    },
  };
}

/** Milliseconds beyond the time limit of one sending. */
const SLACK = 500;

async function withinTime(work: Promise<unknown>, limit: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new CollectError('timeout', 'telemetry took too long')), limit);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What tells this program from others: `OTEL_RESOURCE_ATTRIBUTES` over our own, `OTEL_SERVICE_NAME` over both. */
function ownFacts({ program, version }: TelemetryMeans): Readonly<Record<string, string>> {
  const { OTEL_RESOURCE_ATTRIBUTES: told, OTEL_SERVICE_NAME: name } = program;
  const own = { 'service.name': 'cyber-collect', 'service.version': version };
  return { ...own, ...pairsOf(told), ...(name === undefined ? {} : { 'service.name': name }) };
}

/** `key=value,other=value`, percent-encoded. */
function pairsOf(text = ''): Readonly<Record<string, string>> {
  const pairs = text.split(',').map((pair) => /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(pair));
  return Object.fromEntries(
    pairs.flatMap((pair) => (pair === null ? [] : [[decoded(pair[1] ?? ''), decoded(pair[2] ?? '')]])),
  );
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @throws {CollectError} refused where credentials would go unencrypted */
function headersFor({ program, redactor }: TelemetryMeans, url: string, signal: Signal) {
  const own = program[`OTEL_EXPORTER_OTLP_${signal}_HEADERS`];
  const headers = { ...pairsOf(program.OTEL_EXPORTER_OTLP_HEADERS), ...pairsOf(own) };
  for (const value of Object.values(headers)) redactor.add(value);
  if (Object.keys(headers).length > 0) assertEncrypted(new URL(url), program.CYBER_COLLECT_ALLOW_HTTP);
  return headers;
}

interface Sending {
  readonly url: string;
  readonly timeoutMillis: number;
  readonly headers: Record<string, string>;
}

type Resource = ReturnType<Packages['resources']['defaultResource']>;

function tracing(
  { sdkTrace, traceExporter }: Packages,
  resource: Resource,
  options: Sending,
  exportTimeoutMillis: number,
  warn: (error: unknown) => void,
) {
  const exporter = new traceExporter.OTLPTraceExporter(options);
  const send = exporter.export.bind(exporter);
  exporter.export = (spans, done) =>
    send(spans, (result) => {
      if (result.code !== 0) warn(result.error);
      done(result);
    });
  const processor = new sdkTrace.BatchSpanProcessor(exporter, { exportTimeoutMillis });
  return new sdkTrace.BasicTracerProvider({ resource, spanProcessors: [processor] });
}

/** Sent when a run has ended, not by the clock. */
const NEVER = 2 ** 31 - 1;

function metering(
  { sdkMetrics, metricExporter }: Packages,
  resource: Resource,
  options: Sending,
  warn: (error: unknown) => void,
) {
  const exporter = new metricExporter.OTLPMetricExporter(options);
  const send = exporter.export.bind(exporter);
  exporter.export = (metrics, done) =>
    send(metrics, (result) => {
      if (result.code !== 0) warn(result.error);
      done(result);
    });
  const exportTimeoutMillis = options.timeoutMillis;
  const reader = new sdkMetrics.PeriodicExportingMetricReader({
    exporter,
    exportIntervalMillis: NEVER,
    exportTimeoutMillis,
  });
  return new sdkMetrics.MeterProvider({ resource, readers: [reader] });
}

type Api = Packages['api'];

function spanOf(
  api: Api,
  means: { readonly tracer: Tracer; readonly redactor: Redactor },
  name: string,
  attributes: Attributes,
  parent: Context,
): Span {
  const { tracer, redactor } = means;
  const clean = (facts: Attributes) => {
    const named = Object.entries(facts).map(([key, value]) => [
      `cyber_collect.${key}`,
      typeof value === 'string' ? redactor.redact(value) : value,
    ]);
    return Object.fromEntries(named) as Attributes;
  };
  const span: OpenSpan = tracer.startSpan(name, { attributes: clean(attributes) }, parent);
  const here = api.trace.setSpan(parent, span);
  return {
    begin: (inner, facts) => spanOf(api, means, inner, facts, here),
    end(facts = {}, error) {
      span.setAttributes(clean(facts));
      if (error !== undefined) span.setStatus({ code: api.SpanStatusCode.ERROR, message: redactor.redact(error) });
      span.end();
    },
  };
}

/** The work of another program that this run is a part of, as https://www.w3.org/TR/trace-context/ writes it. */
function parentOf(api: Api, traceparent: string | undefined): Context {
  const [, traceId, spanId, flags] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent ?? '') ?? [];
  if (traceId === undefined || spanId === undefined) return api.ROOT_CONTEXT;
  const traceFlags = Number.parseInt(flags ?? '', 16);
  return api.trace.setSpanContext(api.ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true });
}

/** What is counted of each run. */
function instruments(meter: Meter): (summary: RunSummary, standing: Standing) => void {
  const counter = (name: string, unit: string, description: string) =>
    meter.createCounter(`cyber_collect.${name}`, { unit, description });
  const runs = counter('runs', '{run}', 'Runs, by exit code');
  const datasets = counter('datasets', '{dataset}', 'Datasets, by verdict');
  const records = counter('records', '{record}', 'Records that came');
  const leftOut = counter('left_out', '{record}', 'Records that the settings left out');
  const requests = counter('requests', '{request}', 'Requests sent to vendors');
  const retries = counter('retries', '{request}', 'Requests sent again');
  const waited = counter('waited', 's', 'Spent waiting for limits or between tries');
  const received = counter('received', 'By', 'Bytes that vendors sent');
  const took = meter.createHistogram('cyber_collect.dataset.duration', {
    unit: 's',
    description: 'Time a dataset took',
  });
  const success = meter.createGauge('cyber_collect.dataset.last_success', {
    unit: 's',
    description: 'Start of the last run that brought the dataset whole, in seconds since 1970',
  });
  const lag = meter.createGauge('cyber_collect.dataset.lag', {
    unit: 'By',
    description: 'Bytes written behind what was read',
  });
  const backlog = meter.createGauge('cyber_collect.store.outbox', {
    unit: '{upload}',
    description: 'Uploads that wait for a store',
  });
  return ({ tenancy, exit_code, datasets: results, stores }, standing) => {
    runs.add(1, { tenancy, exit_code });
    for (const { tag, collector, resource, verdict, ...result } of results) {
      const labels = { tenancy, collector, resource, dataset: tag };
      datasets.add(1, { ...labels, verdict });
      records.add(result.records, labels);
      leftOut.add(result.left_out ?? 0, labels);
      if (result.lag !== undefined) lag.record(result.lag.bytes, labels);
      requests.add(result.requests, labels);
      retries.add(result.retries, labels);
      waited.add(result.waited_ms / 1000, labels);
      received.add(result.bytes, labels);
      took.record(result.duration_ms / 1000, labels);
    }
    for (const [dataset, { collector, resource, success: at }] of Object.entries(standing.datasets)) {
      if (at !== undefined) success.record(Date.parse(at) / 1000, { tenancy, collector, resource, dataset });
    }
    for (const { store, uploads } of stores) backlog.record(uploads, { tenancy, store });
  };
}
