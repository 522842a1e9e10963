import { randomUUID } from 'node:crypto';
import {
  assertEncrypted,
  baseUrl,
  choice,
  flag,
  integer,
  optional,
  secret,
  setting,
  type Values,
} from '../config/setting.ts';
import { CollectError } from '../errors.ts';
import { type Auth, clientCredentials } from '../http/auth.ts';
import { textAt } from '../json.ts';
import { parseTemplate, type TemplateValues } from '../templating/template.ts';
import { assertIntact, type Batch, batchesOf, bodyOf, sendAll } from './_batches.ts';
import {
  isPassing,
  type Judged,
  networkAliases,
  networkShape,
  type Reply,
  refused,
  type Sender,
  senderOf,
} from './_send.ts';
import { MOST_VALUE, rowsOf } from './_sentinel.ts';
import { type Dataset, defineStore, namesOf, type OpenContext } from './store.ts';

const ENV = {
  STORE_SENTINEL_DCE: setting('URL of the data collection endpoint, or the logs ingestion endpoint of the rule itself'),
  STORE_SENTINEL_DCR_ID: setting('Immutable ID of the data collection rule, which begins with dcr-'),
  STORE_SENTINEL_DCS: setting('Stream of the rule, a template; a name without Custom- or Microsoft- gets Custom-'),
  STORE_SENTINEL_TENANT_ID: setting('Directory (tenant) ID'),
  STORE_SENTINEL_CLIENT_ID: setting('Application (client) ID'),
  STORE_SENTINEL_CLIENT_SECRET: secret('Client secret'),
  STORE_SENTINEL_CLOUD: setting('Cloud', choice(['public', 'government', 'china'], 'public')),
  STORE_SENTINEL_AUTHORITY: setting('Base URL of the login service; unset = the cloud’s', optional()),
  STORE_SENTINEL_BATCH_SIZE: setting(
    'Records of a call, at most; a call also stays below 1 MB',
    integer(50, 1, 100_000),
  ),
  STORE_SENTINEL_CONCURRENCY: setting('Calls at once', integer(4, 1, 64)),
  STORE_SENTINEL_GZIP: setting('Compress calls', flag(true)),
  STORE_SENTINEL_TIME_COLUMN: setting(
    'Field with the time of a record, for TimeGenerated; unset = the start of the run',
    optional(),
  ),
  STORE_SENTINEL_WRAP: setting('Send each record as one dynamic column, Record, so that one table fits all', flag()),
  STORE_SENTINEL_CUT: setting('Send values of more than 64 KB too, which Azure Monitor cuts', flag()),
  ...networkShape,
} as const;

type Settings = Values<typeof ENV>;

const CLOUDS = {
  public: { login: 'https://login.microsoftonline.com', audience: 'https://monitor.azure.com' },
  government: { login: 'https://login.microsoftonline.us', audience: 'https://monitor.azure.us' },
  china: { login: 'https://login.chinacloudapi.cn', audience: 'https://monitor.azure.cn' },
} as const;

const TRIES = 8;
const MOST_CALL = 972_800; // of 1 MiB, counted before compression
const LARGE = 60_000; // no smaller record can break a limit

export default defineStore({
  name: 'sentinel',
  title: 'Microsoft Sentinel and Azure Monitor Logs',
  docs: 'https://learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview',
  env: ENV,
  aliases: networkAliases,
  example: {
    STORE_SENTINEL_DCE: 'https://acme-ab12.westeurope-1.ingest.monitor.azure.com',
    STORE_SENTINEL_DCR_ID: 'dcr-00000000000000000000000000000000',
    STORE_SENTINEL_DCS: 'Custom-Inventory',
    STORE_SENTINEL_WRAP: 'true',
  },
  targets(settings, _kind, names) {
    authOf(settings);
    return [placeOf(urlOf(settings, names), names)];
  },
  async open(settings, context) {
    const sender = await senderOf({
      network: settings,
      auth: authOf(settings),
      gzip: settings.STORE_SENTINEL_GZIP,
      concurrency: settings.STORE_SENTINEL_CONCURRENCY,
      tries: TRIES,
      timeout: 60,
    });
    return {
      write: (dataset) => write(sender, settings, dataset, context),
      check: () => probe(sender, settings, context),
      close: () => sender.close(),
    };
  },
});

function urlOf(settings: Settings, names: TemplateValues): URL {
  const url = assertEncrypted(baseUrl(settings.STORE_SENTINEL_DCE), settings.CYBER_COLLECT_ALLOW_HTTP);
  const rule = settings.STORE_SENTINEL_DCR_ID;
  if (!/^dcr-[0-9a-z]+$/i.test(rule)) {
    throw new CollectError('config', 'STORE_SENTINEL_DCR_ID is no immutable ID of a data collection rule', {
      mend: 'copy immutableId, dcr-..., from the JSON view of the rule',
    });
  }
  const named = parseTemplate(settings.STORE_SENTINEL_DCS).render(names);
  const stream = /^(Custom|Microsoft)-/.test(named) ? named : `Custom-${named}`;
  const base = url.pathname.replace(/\/$/, '');
  url.pathname = `${base}/dataCollectionRules/${rule}/streams/${encodeURIComponent(stream)}`;
  url.searchParams.set('api-version', '2023-01-01');
  return url;
}

function placeOf(url: URL, { tag, tenancy }: TemplateValues): string {
  return `${url.origin}${url.pathname} (${tag} of ${tenancy})`;
}

/** An app with a secret proves itself by one form. */
function authOf(settings: Settings): Auth {
  const { login, audience } = CLOUDS[settings.STORE_SENTINEL_CLOUD];
  const base = baseUrl(settings.STORE_SENTINEL_AUTHORITY ?? login);
  const { href } = assertEncrypted(base, settings.CYBER_COLLECT_ALLOW_HTTP);
  const tenant = encodeURIComponent(settings.STORE_SENTINEL_TENANT_ID);
  return clientCredentials({
    path: `${href.replace(/\/$/, '')}/${tenant}/oauth2/v2.0/token`,
    form: {
      grant_type: 'client_credentials',
      client_id: settings.STORE_SENTINEL_CLIENT_ID,
      client_secret: settings.STORE_SENTINEL_CLIENT_SECRET,
      scope: `${audience}/.default`,
    },
  });
}

async function write(sender: Sender, settings: Settings, dataset: Dataset, context: OpenContext) {
  const names = namesOf(dataset, context);
  const url = urlOf(settings, names);
  const rows = rowsOf(dataset, { time: settings.STORE_SENTINEL_TIME_COLUMN, wrap: settings.STORE_SENTINEL_WRAP });
  let cut = 0;
  await assertIntact(dataset, (record, number) => {
    if (settings.STORE_SENTINEL_WRAP && record.length < LARGE) return;
    const row = rows(record, number);
    if (row.clash) throw clashing(number);
    if (record.length < LARGE) return;
    if (row.bytes.length + 2 > MOST_CALL) throw tooLarge(number);
    if (row.longest > MOST_VALUE && !settings.STORE_SENTINEL_CUT) throw tooLong(number);
    if (row.longest > MOST_VALUE) cut += 1;
  });
  await dataset.confirm();
  const bounds = { count: settings.STORE_SENTINEL_BATCH_SIZE, bytes: MOST_CALL - 2 };
  const batches = batchesOf(dataset, bounds, (record, number) => rows(record, number).bytes);
  const width = {
    batches: settings.STORE_SENTINEL_CONCURRENCY,
    bytes: MOST_CALL * settings.STORE_SENTINEL_CONCURRENCY,
  };
  await sendAll(batches, width, (batch, signal) => post(sender, url, batch, signal));
  if (cut > 0) context.warn(`${dataset.tag}: records with a value over 64 KB, which Azure Monitor cuts: ${cut}`);
  return { at: placeOf(url, names), records: dataset.metadata.records };
}

async function post(sender: Sender, url: URL, batch: Batch, signal?: AbortSignal): Promise<'taken' | 'halve'> {
  const message = {
    url,
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-ms-client-request-id': randomUUID() },
    body: bodyOf(batch, ',', '[', ']'),
    judge: (reply: Reply) => judged(reply, `POST ${url.pathname}`, batch),
  } as const;
  return (await sender.send(message, signal)).judged;
}

/** A call without records is answered like any other, and adds nothing. */
async function probe(sender: Sender, settings: Settings, { tenancy, at }: OpenContext): Promise<void> {
  const uuid = '00000000-0000-4000-8000-000000000000';
  await post(sender, urlOf(settings, { uuid, tag: 'cyber_collect_probe', tenancy, at }), []);
}

function judged({ status, json }: Reply, what: string, batch: Batch): Judged {
  if (status >= 200 && status < 300) return 'taken';
  if (status === 413) return 'halve';
  if (status === 401) return 'credentials';
  if (status === 403) {
    return new CollectError('denied', `${what} was answered with 403`, {
      status,
      mend: 'give the app the role Monitoring Metrics Publisher on the rule; that takes up to half an hour to work',
    });
  }
  if (status === 404) {
    const mend = 'check STORE_SENTINEL_DCE (of the region of the rule), STORE_SENTINEL_DCR_ID and STORE_SENTINEL_DCS';
    return refused(what, status, undefined, mend);
  }
  if (isPassing(status)) return 'again';
  const code = textAt(json, 'error.code') ?? '';
  const said = /^[A-Za-z]{1,60}$/.test(code) ? ` (${code})` : '';
  const which =
    batch.length === 0 ? '' : `one of the records ${batch[0]?.number} to ${batch.at(-1)?.number} was refused`;
  return refused(what, status, `${which}${said}`, 'declare the columns of the stream as the records have them');
}

function clashing(number: number): CollectError {
  return new CollectError('store', `record ${number} has two fields that would be one column`, {
    mend: 'set STORE_SENTINEL_WRAP=true, which sends each record as one column',
  });
}

function tooLarge(number: number): CollectError {
  return new CollectError('store', `record ${number} is larger than the 1 MB that Azure Monitor takes`, {
    mend: 'nothing was sent; leave the resource out with --exclude',
  });
}

function tooLong(number: number): CollectError {
  return new CollectError('store', `record ${number} holds a value of more than 64 KB, which Azure Monitor would cut`, {
    mend: 'nothing was sent; set STORE_SENTINEL_CUT=true if cut values will do',
  });
}
