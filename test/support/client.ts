import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { Client, type ClientSettings, type Http, type HttpOptions, type Meter } from '../../src/http/client.ts';
import { createDispatcher, type NetworkSettings } from '../../src/http/dispatcher.ts';
import type { Page } from '../../src/http/page.ts';
import type { Rule } from '../../src/http/retry.ts';
import { type FakeClock, fakeClock } from './clock.ts';

/** What a test may choose of a client. */
export interface ClientChoice extends Partial<Omit<ClientSettings, 'dispatcher' | 'scratch' | 'clock'>> {
  readonly http?: Partial<HttpOptions>;
  readonly rules?: readonly Rule[];
  readonly network?: Partial<NetworkSettings>;
  readonly signal?: AbortSignal;
  /** The machine's clock instead of one whose waits cost no time. */
  readonly realClock?: true;
  readonly clock?: FakeClock;
}

/** A client of the kit and what can be seen of it. */
export interface OpenClient {
  readonly http: Http;
  readonly meter: Meter;
  readonly clock: FakeClock;
  readonly scratch: string;
  /** Names of the files in the scratch folder. */
  scratched(): Promise<readonly string[]>;
}

/** A client over the real network stack; closed when the test is over. */
export async function openClient(baseUrl: URL, choice: ClientChoice = {}): Promise<OpenClient> {
  const { http, rules = [], network, signal = new AbortController().signal, realClock, ...settings } = choice;
  const clock = choice.clock ?? fakeClock();
  const scratch = await mkdtemp(join(tmpdir(), 'cyber-collect-http-'));
  const dispatcher = createDispatcher({ headersTimeout: 10, bodyTimeout: 10, connections: 16, ...network });
  onTestFinished(async () => {
    await dispatcher.destroy();
    await rm(scratch, { recursive: true, force: true });
  });
  const { clock: _, ...plain } = settings;
  const client = new Client(
    { baseUrl, ...http },
    {
      dispatcher,
      scratch,
      userAgent: 'cyber-collect/test',
      concurrency: 8,
      headroom: 0,
      maxBody: 64 * 2 ** 20,
      maxRecord: 2 ** 20,
      maxPages: 1000,
      allowHttp: false,
      ...plain,
      ...(realClock === true ? {} : { clock }),
    },
    rules,
  );
  const meter: Meter = { requests: 0, retries: 0, waited_ms: 0, bytes: 0 };
  return { http: client.http(meter, signal), meter, clock, scratch, scratched: () => readdir(scratch) };
}

/** The text of a page's lines; the page is used up. */
export async function textOf(page: Page): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const lines of page.lines()) parts.push(...lines);
  return Buffer.concat(parts).toString();
}

/** The records of a page. */
export async function recordsOf(page: Page): Promise<readonly unknown[]> {
  const lines = (await textOf(page)).split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line));
}

/** The records of a list, page by page. */
export async function listed(pages: AsyncIterable<Page>): Promise<readonly (readonly unknown[])[]> {
  const out: (readonly unknown[])[] = [];
  for await (const page of pages) out.push(await recordsOf(page));
  return out;
}
