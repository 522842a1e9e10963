import { rawMembers } from '../http/fields.ts';
import { secondsAt } from './_times.ts';
import type { Dataset } from './store.ts';

/** How records become rows. */
export interface Making {
  /** Dotted path of the time. */
  readonly time: string | undefined;
  /** The record as the one column `Record`. */
  readonly wrap: boolean;
}

/** A row, or why there is none. */
export interface Row {
  readonly bytes: Buffer;
  /** Length of its longest value. */
  readonly longest: number;
  /** Two members of the record would be one column. */
  readonly clash: boolean;
}

/** Values that are longer are cut without a word. */
export const MOST_VALUE = 65_536;

const RESERVED = new Set(['_ResourceId', 'id', '_SubscriptionId', 'TenantId', 'Type', 'UniqueId', 'Title']);
const MOST_NAME = 45;
const OPEN_OBJECT = 0x7b;
const TIME = 'TimeGenerated';
const OWN = ['UploadTenancy', 'UploadTag', 'UploadId', 'UploadTime', 'UploadRecords', 'UploadRecord'];

/** Makes rows of records: their members as columns, the upload they are part of, and the time that each row must have. */
export function rowsOf({ metadata }: Dataset, { time, wrap }: Making): (record: Buffer, number: number) => Row {
  const { tenancy, tag, upload_id, timestamp, records } = metadata;
  const upload = { UploadTenancy: tenancy, UploadTag: tag, UploadId: upload_id, UploadTime: timestamp };
  const facts = `${JSON.stringify(upload).slice(1, -1)},"UploadRecords":${records},"UploadRecord":`;
  const path = time?.split('.');
  return (record, number) => {
    const { members, longest, clash, timed } = wrap || record[0] !== OPEN_OBJECT ? wrapped(record) : columns(record);
    const seconds = path === undefined ? undefined : secondsAt(record, path);
    const at = seconds === undefined ? timestamp : new Date(seconds * 1000).toISOString();
    const own = `{${timed ? '' : `"${TIME}":"${at}",`}${facts}${number}`;
    return { bytes: Buffer.concat([Buffer.from(own), ...members, Buffer.from('}')]), longest, clash };
  };
}

interface Columns {
  /** Each begins with a comma. */
  readonly members: readonly Uint8Array[];
  readonly longest: number;
  readonly clash: boolean;
  readonly timed: boolean;
}

function wrapped(record: Buffer): Columns {
  return { members: [Buffer.from(',"Record":'), record], longest: record.length, clash: false, timed: false };
}

function columns(record: Buffer): Columns {
  const members: Uint8Array[] = [];
  const names = new Set<string>(OWN);
  let longest = 0;
  let clash = false;
  for (const { key, value } of rawMembers(record)) {
    const name = columnOf(key);
    clash ||= names.has(name);
    names.add(name);
    longest = Math.max(longest, value.length);
    members.push(Buffer.from(`,"${name}":`), value);
  }
  return { members, longest, clash, timed: names.has(TIME) };
}

/** A column's name: letters, digits and `_`, a letter first, none that Azure keeps for itself. */
function columnOf(key: string): string {
  if (RESERVED.has(key) && /^[A-Za-z]/.test(key)) return `${key}_`;
  const plain = key.replaceAll(/[^A-Za-z0-9_]/g, '_');
  return (/^[A-Za-z]/.test(plain) ? plain : `x${plain.startsWith('_') ? '' : '_'}${plain}`).slice(0, MOST_NAME);
}
