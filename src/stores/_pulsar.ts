import { readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import { Agent, type Dispatcher, WebSocket } from 'undici';
import { programShape } from '../config/program.ts';
import { assertEncrypted, baseUrl, integer, optional, secret, setting, type Values } from '../config/setting.ts';
import { CollectError, type ErrorCode } from '../errors.ts';
import { isObject, type Json, type JsonObject, numberAt } from '../json.ts';

/** What reaches a cluster, whether to write or to read. */
export const pulsarShape = {
  STORE_PULSAR_URL: setting(
    'Address of the WebSocket service, such as wss://broker.acme.com:8443; ws, wss, http, https',
  ),
  STORE_PULSAR_TOKEN: secret('Token (JWT), where the cluster asks for one', optional()),
  STORE_PULSAR_SEND_TIMEOUT_MS: setting(
    'Milliseconds without an answer after which a connection is given up and made anew',
    integer(30_000, 100, 600_000),
  ),
  STORE_PULSAR_CA_BUNDLE: setting('PEM file of certificate authorities to trust beside the built-in ones', optional()),
  CYBER_COLLECT_ALLOW_HTTP: programShape.CYBER_COLLECT_ALLOW_HTTP,
} as const;

/** Their values. */
export type PulsarSettings = Values<typeof pulsarShape>;

/** A topic by its parts. */
export interface Topic {
  readonly domain: 'persistent' | 'non-persistent';
  readonly tenant: string;
  readonly namespace: string;
  readonly name: string;
}

/** What a socket tells. */
export interface Listener {
  message(message: JsonObject): void;
  /** Told once; no message comes behind it. */
  closed(error: CollectError): void;
}

/** An open connection to a topic. */
export interface Socket {
  send(text: string): void;
  /** Ends the connection in order, or at once where the other side does not answer; never told to the listener. */
  close(): Promise<void>;
}

/** A socket's place on the service. */
export interface Endpoint {
  readonly kind: 'producer' | 'consumer' | 'reader';
  readonly topic: Topic;
  /** Of a consumer. */
  readonly subscription?: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** What of a subscription is not acknowledged. */
export interface Backlog {
  /** A broker counts entries, each of which is a message or a batch of them. */
  readonly entries: number;
  /** Since the oldest of them was published, where the broker tells. */
  readonly seconds?: number;
}

/** A cluster's WebSocket service. */
export interface Pulsar {
  /** Host and port, as a person would look for it. */
  readonly host: string;
  /** Milliseconds without an answer after which a connection is given up. */
  readonly timeout: number;
  /** @throws {CollectError} with the status where the service refuses */
  connect(endpoint: Endpoint, listener: Listener): Promise<Socket>;
  /** How many partitions a topic has, 0 for none; undefined where the address does not tell. */
  partitions(topic: Topic): Promise<number | undefined>;
  /** What waits for a subscription; undefined where the address, or the token's role, does not tell. */
  backlog(topic: Topic, subscription: string): Promise<Backlog | undefined>;
  close(): Promise<void>;
}

/**
 * The parts of a topic's name; a short name is one of the tenant `public` and the namespace `default`.
 * @throws {CollectError} config
 */
export function topicOf(name: string): Topic {
  const part = '([A-Za-z0-9_=:.%-]+)';
  const full = new RegExp(`^(?:(persistent|non-persistent)://)?${part}/${part}/${part}$`).exec(name);
  if (full !== null) {
    const [, domain = 'persistent', tenant = '', namespace = '', topic = ''] = full;
    return { domain: domain as Topic['domain'], tenant, namespace, name: topic };
  }
  if (new RegExp(`^${part}$`).test(name)) {
    return { domain: 'persistent', tenant: 'public', namespace: 'default', name };
  }
  throw new CollectError('config', `'${name}' is no topic`, {
    mend: 'write it as persistent://tenant/namespace/topic',
  });
}

/** The full name of a topic. */
export function nameOf({ domain, tenant, namespace, name }: Topic): string {
  return `${domain}://${tenant}/${namespace}/${name}`;
}

/** The service's address over HTTP. */
function originOf(settings: PulsarSettings): URL {
  const given = settings.STORE_PULSAR_URL;
  if (/^pulsar(\+ssl)?:/i.test(given)) {
    throw new CollectError('config', 'STORE_PULSAR_URL is the address of the binary protocol', {
      mend: 'set it to the WebSocket service: wss://broker:8443, ws://broker:8080, or of Astra Streaming wss://host:8001',
    });
  }
  const url = baseUrl(given.replace(/^ws(s?):\/\//i, 'http$1://'));
  return assertEncrypted(url, settings.CYBER_COLLECT_ALLOW_HTTP);
}

/**
 * Checks the settings that lead to a cluster.
 * @throws {CollectError} config
 */
export function assertPulsar(settings: PulsarSettings): void {
  originOf(settings);
}

/** A cluster, connected to on use. */
export function pulsarOf(settings: PulsarSettings): Pulsar {
  const origin = originOf(settings);
  const agent = new Agent({ connect: { timeout: CONNECT_MS, ...authoritiesOf(settings) }, headersTimeout: CONNECT_MS });
  const token = settings.STORE_PULSAR_TOKEN;
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return {
    host: origin.host,
    timeout: settings.STORE_PULSAR_SEND_TIMEOUT_MS,
    connect: (endpoint, listener) => connect({ origin, agent, headers }, endpoint, listener),
    partitions: (topic) => partitionsOf({ origin, agent, headers }, topic),
    backlog: (topic, subscription) => backlogOf({ origin, agent, headers }, topic, subscription),
    close: () => agent.destroy(),
  };
}

const CONNECT_MS = 30_000;
const CLOSE_MS = 2000;
/** Milliseconds that a question which need not be answered may take. */
const ASKED_MS = 5000;

function authoritiesOf({ STORE_PULSAR_CA_BUNDLE: path }: PulsarSettings): { readonly ca?: string[] } {
  if (path === undefined) return {};
  try {
    return { ca: [...rootCertificates, readFileSync(path, 'utf8')] };
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new CollectError('config', `STORE_PULSAR_CA_BUNDLE: ${path} cannot be read (${code})`, {
      mend: 'set it to the PEM file of the authority that signed the certificate of the cluster',
    });
  }
}

interface Way {
  readonly origin: URL;
  readonly agent: Agent;
  readonly headers: Readonly<Record<string, string>>;
}

/** What was seen of an attempt to connect. */
interface Attempt {
  status?: number;
  fault?: Error;
}

async function connect({ origin, agent, headers }: Way, endpoint: Endpoint, listener: Listener): Promise<Socket> {
  const attempt: Attempt = {};
  const place = `${origin.host} ${nameOf(endpoint.topic)}`;
  const dispatcher = agent.compose(watching(attempt));
  const socket = new WebSocket(urlOf(origin, endpoint), { headers, dispatcher });
  let opened = false;
  let closing = false;
  const gone = new Promise<void>((resolve) => {
    socket.addEventListener('close', ({ code, reason }) => {
      resolve();
      if (opened && !closing) listener.closed(closedBy(place, code, reason));
      closing = true;
    });
  });
  socket.addEventListener('error', () => undefined); // a close follows, with what there is to tell
  socket.addEventListener('message', ({ data }) => {
    if (closing) return;
    const message = messageOf(data);
    if (message !== undefined) return listener.message(message);
    closing = true;
    socket.close(1000);
    listener.closed(new CollectError('store', `${place}: the service sent what is no JSON object`));
  });
  await Promise.race([new Promise((resolve) => socket.addEventListener('open', resolve)), gone]);
  if (socket.readyState !== socket.OPEN) throw refusal(place, attempt);
  opened = true;
  return {
    send: (text) => socket.send(text),
    async close() {
      closing = true;
      socket.close(1000);
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise((resolve) => {
        timer = setTimeout(resolve, CLOSE_MS);
      });
      await Promise.race([gone, late]);
      clearTimeout(timer);
    },
  };
}

function urlOf(origin: URL, { kind, topic, subscription, parameters }: Endpoint): URL {
  const { domain, tenant, namespace, name } = topic;
  const words = [kind, domain, tenant, namespace, name, ...(subscription === undefined ? [] : [subscription])];
  const url = new URL(`${origin.pathname}/ws/v2/${words.map(encodeURIComponent).join('/')}`.replace('//', '/'), origin);
  url.protocol = origin.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = new URLSearchParams(parameters).toString();
  return url;
}

/** Sees the status of a refusal, which a WebSocket does not tell. */
function watching(attempt: Attempt): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (options, handler) =>
    dispatch(options, {
      onRequestStart: (...seen) => handler.onRequestStart?.(...seen),
      onRequestUpgrade: (...seen) => handler.onRequestUpgrade?.(...seen),
      onResponseStart: (controller, status, ...seen) => {
        attempt.status = status;
        handler.onResponseStart?.(controller, status, ...seen);
      },
      onResponseData: (...seen) => handler.onResponseData?.(...seen),
      onResponseEnd: (...seen) => handler.onResponseEnd?.(...seen),
      onResponseError: (controller, fault) => {
        attempt.fault = fault;
        handler.onResponseError?.(controller, fault);
      },
    });
}

function messageOf(data: unknown): JsonObject | undefined {
  try {
    const message = JSON.parse(String(data)) as Json;
    return isObject(message) ? message : undefined;
  } catch {
    return undefined;
  }
}

/** What the administration says of a topic; undefined where there is none, as behind a WebSocket proxy of its own. */
async function asked({ origin, agent, headers }: Way, topic: Topic, what: string) {
  const { domain, tenant, namespace, name } = topic;
  const words = [domain, tenant, namespace, name].map(encodeURIComponent).join('/');
  try {
    const { statusCode, body } = await agent.request({
      origin: origin.origin,
      path: `${origin.pathname}/admin/v2/${words}/${what}`.replace('//', '/'),
      method: 'GET',
      headers,
      headersTimeout: ASKED_MS,
    });
    return { status: statusCode, found: (await body.json()) as Json };
  } catch {
    return undefined;
  }
}

async function partitionsOf(way: Way, topic: Topic): Promise<number | undefined> {
  const { status, found } = (await asked(way, topic, 'partitions')) ?? {};
  if (status === 404) return 0;
  return status === 200 && isObject(found) && typeof found.partitions === 'number' ? found.partitions : undefined;
}

async function backlogOf(way: Way, topic: Topic, subscription: string): Promise<Backlog | undefined> {
  for (const what of ['stats?', 'partitioned-stats?perPartition=false&']) {
    const { status, found } = (await asked(way, topic, `${what}getEarliestTimeInBacklog=true`)) ?? {};
    if (status === 404) continue;
    const subscriptions = status === 200 && isObject(found) && isObject(found.subscriptions) ? found.subscriptions : {};
    const own = subscriptions[subscription];
    const entries = numberAt(own, 'msgBacklog');
    if (entries === undefined) return undefined;
    const since = numberAt(own, 'earliestMsgPublishTimeInBacklog') ?? 0;
    return since > 0 ? { entries, seconds: Math.max(0, Math.round((Date.now() - since) / 1000)) } : { entries };
  }
  return undefined;
}

// What can go wrong

type Sentence = readonly [code: ErrorCode, what: string, mend: string];

const REFUSALS: Readonly<Record<number, Sentence>> = {
  400: ['config', 'refuses a parameter', 'report it with the version of the cluster'],
  401: ['credentials', 'does not accept the token', 'set STORE_PULSAR_TOKEN'],
  403: ['denied', 'lacks a permission of this token', 'grant the role produce, and to drain consume, on the topic'],
  404: ['config', 'has no such topic, namespace or service', 'check STORE_PULSAR_URL and the topic, or create it'],
  409: ['store', 'says the name is in use by another connection', 'wait until that has ended'],
  429: ['throttled', 'is asked too often', 'wait, or raise the limits of the cluster'],
  503: [
    'store',
    'takes no more: its backlog is full or it is overloaded',
    'drain the topic or raise its backlog quota',
  ],
};

/** Why there is no connection. */
function refusal(place: string, { status, fault }: Attempt): CollectError {
  if (status !== undefined) {
    const [code, what, mend] = REFUSALS[status] ?? ['store', 'fails', 'look into the log of its broker'];
    return new CollectError(code, `${place}: the service ${what} (HTTP ${status})`, { mend, status });
  }
  const inner = (fault as { cause?: { code?: string } } | undefined)?.cause;
  const code = (fault as { code?: string } | undefined)?.code ?? inner?.code ?? 'no connection';
  if (/CERT|SELF_SIGNED|UNABLE_TO_|TLS|SSL/.test(code)) {
    return new CollectError('refused', `${place}: the certificate is not trusted (${code})`, {
      mend: 'set STORE_PULSAR_CA_BUNDLE to the PEM file of its authority',
    });
  }
  const kind = /TIMEOUT/.test(code) ? 'timeout' : 'network';
  return new CollectError(kind, `${place}: the connection failed (${code})`, {
    mend: 'check STORE_PULSAR_URL, that the service runs, and the firewall',
  });
}

const TOO_LARGE = 1009;

function closedBy(place: string, code: number, reason: string): CollectError {
  if (code === TOO_LARGE) {
    return new CollectError('refused', `${place}: the service takes no message of that size (WebSocket ${code})`, {
      mend: 'raise webSocketMaxTextFrameSize of the service to 1048576 or more',
    });
  }
  const said = /time/i.test(reason) ? 'the service closed an idle connection' : 'the connection broke';
  return new CollectError('network', `${place}: ${said} (WebSocket ${code})`, {
    mend: 'check the network and the log of the broker',
  });
}

/** Whether an error of the service may be gone by and by. */
export function isPassing({ code, status }: CollectError): boolean {
  if (status !== undefined) return status === 409 || status === 429 || status >= 500;
  return code === 'network' || code === 'timeout' || code === 'throttled' || code === 'store';
}

/** Where a message stands in its topic. */
export interface Position {
  /** -1 where the broker did not store it, as it knew it already. */
  readonly ledger: bigint;
  readonly entry: bigint;
  /** Undefined in a topic without partitions. */
  readonly partition: number | undefined;
  /** Its place in the batch that the entry is, and the size of that. */
  readonly index: number;
  readonly batch: number;
}

/** Reads a message id: base64 of a protocol buffer of ledger, entry, partition, index and size of the batch. */
export function positionOf(id: string): Position {
  const bytes = Buffer.from(id, 'base64');
  const fields = new Map<number, bigint>();
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; at < bytes.length; shift += 7n) {
      const byte = bytes[at] ?? 0;
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    return BigInt.asIntN(64, value);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    if ((tag & 7) === 0) fields.set(tag >> 3, varint());
    else if ((tag & 7) === 2) at += Number(varint());
    else break;
  }
  const number = (field: number, fallback: number) => Number(fields.get(field) ?? fallback);
  const partition = number(3, -1);
  return {
    ledger: fields.get(1) ?? 0n,
    entry: fields.get(2) ?? 0n,
    partition: partition < 0 ? undefined : partition,
    index: number(4, -1),
    batch: number(6, 0),
  };
}
