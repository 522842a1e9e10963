import { rawValue, withoutMember } from '../http/fields.ts';
import { secondsAt } from './_times.ts';
import type { Dataset } from './store.ts';

/** How records become events. */
export interface Making {
  readonly host: string | undefined;
  readonly source: string | undefined;
  readonly sourcetype: string | undefined;
  readonly index: string | undefined;
  /** Dotted path of the one text that is the event. */
  readonly single: string | undefined;
  /** Dotted path of the time. */
  readonly time: string | undefined;
  /** Dotted paths of what is indexed beside the event. */
  readonly indexed: readonly string[];
  /** Whether these are taken out of the event. */
  readonly remove: boolean;
}

/** What was met on the way, for the operator. */
export interface Oddities {
  /** Records sent whole, as they have no text where the one should be. */
  whole: number;
  /** Records without a time that can be read. */
  timeless: number;
  /** Events longer than Splunk keeps unless told. */
  long: number;
}

const OPEN_OBJECT = 0x7b;
const CLOSE = Buffer.from('}');
const QUOTE = 0x22;
const TRUNCATE = 10_000; // bytes; props.conf

/** Makes events of records: their own bytes, and beside them what they are part of. */
export function eventsOf(
  { metadata }: Dataset,
  making: Making,
  met: Oddities,
): (record: Buffer, number: number) => Buffer {
  const { tenancy, tag, upload_id, timestamp, records } = metadata;
  const { host, source, sourcetype, index } = making;
  const outer = JSON.stringify({ host, source, sourcetype, index }).slice(1, -1);
  const upload = { tenancy, tag, id: upload_id, timestamp, records: String(records) };
  const fields = Object.entries(upload).map(([name, value]) => `"upload_${name}":${JSON.stringify(value)}`);
  const before = `${outer === '' ? '' : `${outer},`}"fields":{${fields.join(',')},"upload_record":"`;
  const started = Date.parse(timestamp) / 1000;
  const paths = making.indexed.map((name) => ({ name, path: name.split('.') }));
  const single = making.single?.split('.');
  const timed = making.time?.split('.');
  return (record, number) => {
    const time = timed === undefined ? started : secondsAt(record, timed);
    if (time === undefined) met.timeless += 1;
    const found = paths.flatMap(({ name, path }) => {
      const value = indexable(rawValue(record, path));
      return value === undefined ? [] : [{ path, text: `,${JSON.stringify(name)}:${value}` }];
    });
    const kept = making.remove
      ? found.reduce<Uint8Array>((left, { path }) => withoutMember(left, path), record)
      : record;
    const text = single === undefined ? undefined : textOf(rawValue(record, single));
    if (single !== undefined && text === undefined) met.whole += 1;
    const event = text ?? whole(kept);
    if (event.length > TRUNCATE) met.long += 1;
    const indexed = found.map((one) => one.text).join('');
    return Buffer.concat([
      Buffer.from(`{"time":${time ?? started},${before}${number}"${indexed}},"event":`),
      event,
      CLOSE,
    ]);
  };
}

/** Splunk takes objects and texts that are not empty; what else a record can be goes as its JSON text. */
function whole(record: Uint8Array): Uint8Array {
  if (record[0] === OPEN_OBJECT) return record;
  return Buffer.from(JSON.stringify(Buffer.from(record).toString('utf8')));
}

function textOf(raw: Uint8Array | undefined): Uint8Array | undefined {
  if (raw?.[0] !== QUOTE) return undefined;
  return Buffer.from(raw).toString('utf8').slice(1, -1).trim() === '' ? undefined : raw;
}

/** A value as an indexed field: a text or a list of texts; undefined where there is nothing to index. */
function indexable(raw: Uint8Array | undefined): string | undefined {
  if (raw === undefined) return undefined;
  const json = Buffer.from(raw).toString('utf8');
  if (json === 'null') return undefined;
  if (json.startsWith('"')) return json;
  if (!json.startsWith('[')) return JSON.stringify(json);
  const items = JSON.parse(json) as readonly unknown[];
  return items.every((item) => typeof item === 'string') ? json : JSON.stringify(json);
}
