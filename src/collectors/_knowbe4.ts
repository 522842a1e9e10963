import { paginator } from '../http/paginate.ts';
import { type RecordOptions, RecordSplitter, type Splitter } from '../http/records.ts';
import { at, isObject, textAt } from '../json.ts';

const OPEN_ARRAY = 0x5b;
const BLANK = new Set([0x20, 0x09, 0x0a, 0x0d]);

/**
 * The vendor is moving from page numbers to cursors: an answer that tells of its `pagination` is followed by its cursor,
 * any other by page numbers, until a page is empty.
 */
export const either = paginator('cursor or page number, as the answer is', ({ url, body, records }) => {
  if (isObject(at(body, 'pagination'))) {
    const next = textAt(body, 'pagination.nextCursor') ?? textAt(body, 'pagination.next_cursor');
    return next === undefined ? undefined : { query: { cursor: next } };
  }
  if (records === 0) return undefined;
  return { query: { cursor: undefined, page: Number(url.searchParams.get('page') ?? 1) + 1 } };
});

/** Takes the records out of a bare list, or out of `data` in an envelope: the first byte tells. */
export function eitherBody(bounds: Pick<RecordOptions, 'edit' | 'maxRecord'>): Splitter {
  let splitter: RecordSplitter | undefined;
  return {
    write(chunk) {
      const first = chunk.find((byte) => !BLANK.has(byte));
      if (splitter === undefined && first === undefined) return [];
      splitter ??= new RecordSplitter({ ...bounds, path: first === OPEN_ARRAY ? '' : 'data' });
      return splitter.write(chunk);
    },
    end: () => (splitter ?? new RecordSplitter({ ...bounds, path: '' })).end(),
  };
}
