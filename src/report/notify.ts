import { createHmac } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Dispatcher } from 'undici';
import type { programShape } from '../config/program.ts';
import { assertEncrypted, type Values } from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import type { Log } from './log.ts';
import { openMail } from './mail.ts';
import { details, headline, isWorth, type News } from './news.ts';
import type { Redactor } from './redact.ts';

/** What telling needs. */
export interface NotifyMeans {
  readonly program: Values<typeof programShape>;
  readonly redactor: Redactor;
  readonly log: Log;
  /** How the network is reached. */
  readonly dispatcher: Dispatcher;
}

/** Tells whoever is configured; of what is routine, the heartbeat alone. Never throws: who is not reached is one warning. */
export type Notify = (news: News, routine?: boolean) => Promise<void>;

/** Someone who is told. */
export interface Channel {
  readonly name: string;
  wants(news: News, routine: boolean): boolean;
  /** Tells it, and gives up when the signal says so. */
  send(news: News, signal: AbortSignal): Promise<void>;
}

/** Milliseconds within which everyone is told, all at once; a run waits no longer than that. */
const PATIENCE = 5000;

/**
 * Everyone who is to be told of runs.
 * @throws {CollectError} config where a package that this needs is not installed
 */
export async function openNotify(means: NotifyMeans): Promise<Notify> {
  const { log } = means;
  const mail = await openMail(means);
  const channels = [slack(means), webhook(means), heartbeat(means), mail].filter((channel) => channel !== undefined);
  return async (news, routine = false) => {
    const signal = AbortSignal.timeout(PATIENCE);
    const wanted = channels.filter((channel) => channel.wants(news, routine));
    await Promise.all(
      wanted.map(async (channel) => {
        try {
          await withinTime(channel.send(news, signal), signal);
        } catch (error) {
          log('WARNING', 'notify.failed', `${channel.name} was not told: ${whyOf(error)}`);
        }
      }),
    );
  };
}

/** Whatever takes longer than it may is left behind. */
async function withinTime(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const gone = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  await Promise.race([work, gone]);
}

/** Codes alone: a message may repeat a URL, or what a server wrote. */
function whyOf(error: unknown): string {
  if (error instanceof CollectError) return error.message;
  if ((error as Error).name === 'TimeoutError') return `it took longer than ${PATIENCE / 1000} s`;
  const { code, name, responseCode } = error as { code?: unknown; name?: string; responseCode?: number };
  const said = responseCode === undefined ? '' : ` (${responseCode})`;
  return `${typeof code === 'string' ? code : name}${said}`;
}

function slack({ program, redactor, dispatcher }: NotifyMeans): Channel | undefined {
  const url = program.SLACK_WEBHOOK_URL;
  if (url === undefined) return undefined;
  return {
    name: 'Slack',
    wants: (news, routine) => !routine && isWorth(news, program.NOTIFY_ON),
    async send(news, signal) {
      const text = redactor.redact([headline(news), ...details(news)].join('\n'));
      // Unescaped, a vendor's text could call a whole channel: https://api.slack.com/reference/surfaces/formatting
      const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
      await post(new URL(url), { dispatcher, signal, body: JSON.stringify({ text: escaped }) });
    },
  };
}

function webhook({ program, redactor, dispatcher }: NotifyMeans): Channel | undefined {
  const { NOTIFY_WEBHOOK_URL: url, NOTIFY_WEBHOOK_SECRET: key } = program;
  if (url === undefined) return undefined;
  return {
    name: 'the webhook',
    wants: (news, routine) => !routine && isWorth(news, program.NOTIFY_ON),
    async send(news, signal) {
      const to = assertEncrypted(new URL(url), program.CYBER_COLLECT_ALLOW_HTTP);
      const body = redactor.redact(JSON.stringify({ event: news.event, text: headline(news), ...factsOf(news) }));
      const id = `${news.event}.${news.event === 'run.finished' ? news.summary.run_id : news.at}`;
      await post(to, { dispatcher, signal, body, headers: signed(id, body, key) });
    },
  };
}

/** Indicators and rules in one message. */
const MOST_FOUND = 100;

function factsOf(news: News): object {
  if (news.event === 'run.started')
    return { tenancy: news.tenancy, version: news.version, collectors: news.collectors };
  if (news.event === 'alerts.raised') {
    const { event: _, by, ...facts } = news;
    return { ...facts, by: by.slice(0, MOST_FOUND) };
  }
  const { summary, change } = news;
  const wrong = change.wrong.map(({ key: _, ...facts }) => facts);
  return { tenancy: summary.tenancy, version: summary.version, ...change, wrong, run: summary };
}

/** The headers of https://www.standardwebhooks.com: what came twice has one id, what is old one can tell. */
function signed(id: string, body: string, key: string | undefined): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp };
  if (key === undefined) return headers;
  const bytes = key.startsWith('whsec_') ? Buffer.from(key.slice('whsec_'.length), 'base64') : Buffer.from(key);
  const signature = createHmac('sha256', bytes).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { ...headers, 'webhook-signature': `v1,${signature}` };
}

/** Milliseconds between two heartbeats of rounds; who watches them limits how many it takes. */
const BETWEEN = 60_000;

/** Asked for whatever NOTIFY_ON says: what watches it counts on it. */
function heartbeat({ program, dispatcher }: NotifyMeans): Channel | undefined {
  const { NOTIFY_HEARTBEAT_URL: url, NOTIFY_HEARTBEAT_FAIL: suffix } = program;
  if (url === undefined) return undefined;
  let last = 0;
  return {
    name: 'the heartbeat',
    wants(news, routine) {
      if (news.event !== 'run.finished' || (news.summary.exit_code !== 0 && suffix === 'none')) return false;
      return !routine || Date.now() - last >= BETWEEN;
    },
    async send(news, signal) {
      last = Date.now();
      const to = assertEncrypted(new URL(url), program.CYBER_COLLECT_ALLOW_HTTP);
      const good = news.event === 'run.finished' && news.summary.exit_code === 0;
      await call(good ? to : withSuffix(to, suffix), { dispatcher, signal });
    },
  };
}

function withSuffix(url: URL, suffix: string): URL {
  const to = new URL(url);
  const [path = '', query] = suffix.split('?', 2);
  to.pathname = `${to.pathname.replace(/\/$/, '')}${path}`;
  for (const [name, value] of new URLSearchParams(query)) to.searchParams.set(name, value);
  return to;
}

interface Call {
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

function post(url: URL, { headers = {}, ...options }: Call & { readonly body: string }): Promise<void> {
  return call(url, { ...options, headers: { 'content-type': 'application/json', ...headers } });
}

const TRIES = 2;
const PAUSE = 500;

/** @throws when there was no good answer at the second try, either */
async function call(url: URL, { dispatcher, signal, body, headers = {} }: Call): Promise<void> {
  const options = body === undefined ? { method: 'GET' as const } : { method: 'POST' as const, body };
  for (let nth = 1; ; nth += 1) {
    try {
      const { request } = await import('undici');
      const answer = await request(url, { ...options, headers, dispatcher, signal });
      await answer.body.dump();
      if (answer.statusCode < 300) return;
      throw new CollectError('network', `it answered ${answer.statusCode}`, { status: answer.statusCode });
    } catch (error) {
      const status = error instanceof CollectError ? (error.status ?? 0) : 500;
      if (signal.aborted || nth === TRIES || (status < 500 && status !== 429)) throw error;
      await pause(PAUSE, undefined, { signal });
    }
  }
}
