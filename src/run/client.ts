import type { Dispatcher } from 'undici';
import { headroomOf } from '../config/program.ts';
import { Client, type ClientSettings } from '../http/client.ts';
import { createDispatcher } from '../http/dispatcher.ts';
import type { ActiveCollector, Plan } from './activate.ts';

/** What a run adds to the program's settings. */
export interface ClientBounds {
  readonly version: string;
  /** Seconds from the plan's start. */
  readonly deadline: number;
  /** Folder for what does not fit in memory. */
  readonly scratch: string;
}

/** How the program reaches the network; it is to be closed. */
export function dispatcherOf(program: Plan['program']): Dispatcher {
  return createDispatcher({
    httpProxy: program.HTTP_PROXY,
    httpsProxy: program.HTTPS_PROXY,
    noProxy: program.NO_PROXY,
    caFile: program.CYBER_COLLECT_CA_FILE,
    clientCert: program.CYBER_COLLECT_CLIENT_CERT,
    clientKey: program.CYBER_COLLECT_CLIENT_KEY,
    headersTimeout: program.CYBER_COLLECT_HEADERS_TIMEOUT,
    bodyTimeout: program.CYBER_COLLECT_BODY_TIMEOUT,
    connections: program.CYBER_COLLECT_REQUESTS,
  });
}

/** The program's settings as the HTTP kit takes them. The dispatcher is to be closed. */
export function clientSettings(
  { program, at }: Pick<Plan, 'program' | 'at'>,
  { version, deadline, scratch }: ClientBounds,
): ClientSettings {
  return {
    dispatcher: dispatcherOf(program),
    scratch,
    userAgent: `cyber-collect/${version}`,
    concurrency: program.CYBER_COLLECT_REQUESTS,
    headroom: headroomOf('', program.CYBER_COLLECT_HEADROOM),
    maxBody: program.CYBER_COLLECT_MAX_BODY_MIB * 2 ** 20,
    maxRecord: program.CYBER_COLLECT_MAX_RECORD_MIB * 2 ** 20,
    maxPages: program.CYBER_COLLECT_MAX_PAGES,
    allowHttp: program.CYBER_COLLECT_ALLOW_HTTP,
    deadline: at.getTime() + deadline * 1000,
  };
}

/** A collector's client. One for a collector that speaks to no API leads nowhere. */
export function clientOf({ collector, settings }: ActiveCollector, client: ClientSettings, { program }: Plan): Client {
  const headroom = headroomOf(collector.name, program.CYBER_COLLECT_HEADROOM);
  const options = collector.http?.(settings) ?? { baseUrl: new URL(`https://${collector.name}.invalid`) };
  return new Client(options, { ...client, headroom }, collector.errors ?? []);
}
