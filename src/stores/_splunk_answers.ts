import { CollectError } from '../errors.ts';
import { numberAt } from '../json.ts';
import type { Batch } from './_batches.ts';
import { isPassing, type Judged, type Reply, refused } from './_send.ts';

const BUSY = new Set([24, 25]); // taken, with a queue or the acknowledgements almost full
const WRONG_TOKEN = new Set([1, 2, 3, 4, 21, 22]);
const WRONG_EVENT: Readonly<Record<number, string>> = {
  6: 'not in the format of an event',
  12: 'without an event',
  13: 'a blank event',
  15: 'with fields that cannot be indexed',
};
const WRONG_SETTING: Readonly<Record<number, readonly [string, string]>> = {
  7: ['the token may not write to that index', 'set STORE_SPLUNK_INDEX to an index that the token allows'],
  10: ['the token wants acknowledgements', 'set STORE_SPLUNK_ACK=true'],
  11: ['the channel is not valid', 'tell the makers of whatever stands between, as the channel is a UUID'],
  14: ['the token has no acknowledgements', 'unset STORE_SPLUNK_ACK, or turn indexer acknowledgement on for the token'],
};
const NO_DATA = 5;

/** What Splunk's answer to a portion means (its codes: Troubleshoot HTTP Event Collector). */
export function judged({ status, json }: Reply, what: string, batch: Batch, ack: boolean): Judged {
  const code = numberAt(json, 'code');
  if (status === 413) return 'halve';
  if (status >= 200 && status < 300) {
    if (code !== undefined && code !== 0 && !BUSY.has(code)) return refused(what, status, `code ${code}`);
    if (ack && numberAt(json, 'ackId') === undefined) return settingError(what, status, 14);
    return code !== undefined && BUSY.has(code) ? 'slow' : 'taken';
  }
  if (code !== undefined && WRONG_TOKEN.has(code)) return 'credentials';
  if (status === 401) return 'credentials';
  if (status === 403)
    return new CollectError('denied', `${what} was answered with 403`, { status, mend: 'allow it there' });
  if (code !== undefined && code in WRONG_SETTING) return settingError(what, status, code);
  if (code !== undefined && code in WRONG_EVENT)
    return eventError(status, code, numberAt(json, 'invalid-event-number'), batch);
  if (status === 404 || status === 405) {
    return refused(what, status, undefined, 'end STORE_SPLUNK_URL in /services/collector/event, or leave its path out');
  }
  return isPassing(status) ? 'again' : refused(what, status, code === undefined ? undefined : `code ${code}`);
}

/** What the answer to a request without events means: the token is looked at first. */
export function judgedEmpty(reply: Reply, what: string): Judged {
  if (numberAt(reply.json, 'code') === NO_DATA) return 'taken';
  return judged(reply, what, [], false);
}

function settingError(what: string, status: number, code: number): CollectError {
  const [because, mend] = WRONG_SETTING[code] ?? [`code ${code}`, 'look the code up'];
  return new CollectError('config', `${what} was answered with ${status}: ${because}`, { status, mend });
}

/** `invalid-event-number` counts from 0, the first that is wrong. */
function eventError(status: number, code: number, index: number | undefined, batch: Batch): CollectError {
  const record = batch[index ?? (batch.length === 1 ? 0 : -1)];
  const from = batch[0]?.number;
  const which = record === undefined ? `a record from ${from} on` : `record ${record.number}`;
  return new CollectError('store', `${which} was refused: ${WRONG_EVENT[code]} (code ${code})`, {
    status,
    mend: 'earlier records are there, known by upload_id; leave the resource out with --exclude',
  });
}
