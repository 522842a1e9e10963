import { describe, expect, onTestFinished, test } from 'vitest';
import type { FaultName } from '../../src/simulator/faults.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { formsOf } from '../support/forms.ts';
import { runIn } from '../support/notified.ts';
import { temporaryFolder } from '../support/run.ts';
import { json, serve } from '../support/server.ts';

async function vendorWith(fault?: FaultName) {
  const faults = fault === undefined ? {} : { faults: [{ name: fault, resource: 'groups' }] };
  const vendor = await startVendor(okta, { scale: 20, pageSize: 10, ...faults });
  onTestFinished(() => vendor.close());
  return vendor;
}

type Attribute = { readonly key: string; readonly value: Readonly<Record<string, unknown>> };

interface SpanSent {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code: number; readonly message?: string };
}

interface MetricSent {
  readonly name: string;
  readonly sum?: { readonly dataPoints: readonly Point[] };
  readonly gauge?: { readonly dataPoints: readonly Point[] };
}

interface Point {
  readonly attributes: readonly Attribute[];
  readonly asDouble?: number;
  readonly asInt?: number | string;
}

interface Scope {
  readonly spans?: readonly SpanSent[];
  readonly metrics?: readonly MetricSent[];
}

interface Resources {
  readonly resource: { readonly attributes: readonly Attribute[] };
  readonly scopeSpans?: readonly Scope[];
  readonly scopeMetrics?: readonly Scope[];
}

interface Sent {
  readonly resourceSpans?: readonly Resources[];
  readonly resourceMetrics?: readonly Resources[];
}

/** An OpenTelemetry collector that keeps what it got. */
async function collector(status = 200) {
  const server = await serve((_, response) => json(response, {}, status));
  const sent = (path: string) =>
    server.received.filter(({ url }) => url.pathname === path).map(({ body }) => JSON.parse(body) as Sent);
  return {
    ...server,
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: server.origin.href },
    resources: () => sent('/v1/traces').flatMap(({ resourceSpans = [] }) => resourceSpans),
    spans: () =>
      sent('/v1/traces')
        .flatMap(({ resourceSpans = [] }) => resourceSpans)
        .flatMap(({ scopeSpans = [] }) => scopeSpans)
        .flatMap(({ spans = [] }) => spans),
    metrics: () =>
      sent('/v1/metrics')
        .flatMap(({ resourceMetrics = [] }) => resourceMetrics)
        .flatMap(({ scopeMetrics = [] }) => scopeMetrics)
        .flatMap(({ metrics = [] }) => metrics),
  };
}

const attributeOf = (attributes: readonly Attribute[], key: string) =>
  Object.values(attributes.find((attribute) => attribute.key === key)?.value ?? {})[0];

describe('traces', () => {
  test('a span each for the run, its collectors, datasets and stores, one within the other', async () => {
    const [bad, otel] = [await vendorWith('403'), await collector()];
    const parent = `00-${'a1'.repeat(16)}-${'b2'.repeat(8)}-01`;
    const env = {
      ...{ ...bad.env, ...otel.env, TRACEPARENT: parent },
      OTEL_SERVICE_NAME: 'nightly',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=prod,team=a%2Cb',
    };
    expect((await runIn(await temporaryFolder(), env)).code).toBe(3);
    const spans = otel.spans();
    const byId = new Map(spans.map((span) => [span.spanId, span]));
    const path = (span: SpanSent): string => {
      const above = byId.get(span.parentSpanId ?? '');
      return above === undefined ? span.name : `${path(above)} > ${span.name}`;
    };
    expect(spans.map(path).sort()).toEqual([
      'run',
      'run > collector okta',
      'run > collector okta > dataset okta_groups',
      'run > collector okta > dataset okta_users',
      'run > collector okta > dataset okta_users > store file',
    ]);
    expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set(['a1'.repeat(16)]));
    expect(spans.find(({ name }) => name === 'run')?.parentSpanId).toBe('b2'.repeat(8));
    const users = spans.find(({ name }) => name === 'dataset okta_users');
    expect(Number(attributeOf(users?.attributes ?? [], 'cyber_collect.records'))).toBe(20);
    expect(users?.status.code).toBe(0);
    const groups = spans.find(({ name }) => name === 'dataset okta_groups');
    expect(groups?.status).toMatchObject({ code: 2, message: expect.stringContaining('403') });
    expect(attributeOf(groups?.attributes ?? [], 'cyber_collect.verdict')).toBe('denied');
    for (const { startTimeUnixNano, endTimeUnixNano } of spans)
      expect(BigInt(endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(startTimeUnixNano));
    const facts = otel.resources()[0]?.resource.attributes ?? [];
    const named = ['service.name', 'deployment.environment', 'team'].map((key) => attributeOf(facts, key));
    expect(named).toEqual(['nightly', 'prod', 'a,b']);
  });

  test('headers go with it; neither they nor the vendor’s token are told', async () => {
    const [bad, otel] = [await vendorWith('401-forever'), await collector()];
    const env = { ...bad.env, ...otel.env, OTEL_EXPORTER_OTLP_HEADERS: 'x-api-key=canary%20otel-key' };
    const { said, unredacted } = await runIn(await temporaryFolder(), env);
    expect(otel.received.length).toBeGreaterThan(1);
    for (const { headers } of otel.received) expect(headers['x-api-key']).toBe('canary otel-key');
    const everything = [...otel.received.map(({ body }) => body), said, ...unredacted].join('\n');
    const secrets = ['canary otel-key', bad.env.OKTA_TOKEN ?? ''].flatMap(formsOf);
    expect(secrets.filter((form) => everything.includes(form))).toEqual([]);
  });
});

describe('metrics', () => {
  test('count what the run did, by dataset', async () => {
    const [good, otel] = [await vendorWith(), await collector()];
    expect((await runIn(await temporaryFolder(), { ...good.env, ...otel.env })).code).toBe(0);
    const points = (name: string) => {
      const found = otel.metrics().find((metric) => metric.name === `cyber_collect.${name}`);
      const all = found?.sum?.dataPoints ?? found?.gauge?.dataPoints ?? [];
      return all.map(({ attributes, asDouble, asInt }) => [
        attributeOf(attributes, 'dataset') ?? attributeOf(attributes, 'store'),
        Number(asInt ?? asDouble),
      ]);
    };
    const truth = [
      ['okta_users', good.truth('users').length],
      ['okta_groups', good.truth('groups').length],
    ];
    expect(points('records')).toEqual(truth);
    expect(points('runs')).toEqual([[undefined, 1]]);
    expect(points('store.outbox')).toEqual([['file', 0]]);
    for (const [, value] of points('received')) expect(value).toBeGreaterThan(500);
    for (const [, value] of points('dataset.last_success'))
      expect(Math.abs(Number(value) - Date.now() / 1000)).toBeLessThan(60);
  });

  test.each([
    ['none of a signal is sent', { OTEL_TRACES_EXPORTER: 'none' }, ['/v1/metrics']],
    ['nothing is sent', { OTEL_SDK_DISABLED: 'true' }, []],
    ['grpc is not spoken', { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }, []],
  ])('%s where the settings say so', async (_, settings, paths) => {
    const [good, otel] = [await vendorWith(), await collector()];
    expect((await runIn(await temporaryFolder(), { ...good.env, ...otel.env, ...settings })).code).toBe(0);
    expect([...new Set(otel.received.map(({ url }) => url.pathname))]).toEqual(paths);
  });
});

describe('a collector', () => {
  test.each([
    ['that is down', async () => 'http://127.0.0.1:1'],
    ['that refuses', async () => (await collector(400)).origin.href],
    ['that never answers', async () => (await serve(() => undefined)).origin.href],
  ])('%s is one warning, a few seconds and no other exit code', async (_, endpoint) => {
    const good = await vendorWith();
    const env = { ...good.env, OTEL_EXPORTER_OTLP_ENDPOINT: await endpoint(), OTEL_EXPORTER_OTLP_TIMEOUT: '2000' };
    const { code, ms, said } = await runIn(await temporaryFolder(), env);
    expect(code).toBe(0);
    expect(said.match(/OpenTelemetry collector was not told/g)).toHaveLength(1);
    expect(ms).toBeLessThan(9000);
  });

  test('gets no header over plain http', async () => {
    const good = await vendorWith();
    const settings = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://otel.example:4318',
      OTEL_EXPORTER_OTLP_HEADERS: 'k=canary',
    };
    expect((await runIn(await temporaryFolder(), { ...good.env, ...settings })).code).toBe('refused');
    expect(good.requests).toEqual([]);
  });
});
