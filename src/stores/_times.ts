import { rawValue } from '../http/fields.ts';

/** The seconds since 1970 at a path of keys: of a number, of digits, or of an ISO date, in UTC where it names no zone. */
export function secondsAt(record: Buffer, path: readonly string[]): number | undefined {
  const raw = rawValue(record, path);
  if (raw === undefined) return undefined;
  const json = Buffer.from(raw).toString('utf8');
  const text = json.startsWith('"') ? String(JSON.parse(json)).trim() : json;
  const seconds = /^\d+(\.\d+)?$/.test(text) ? secondsOf(Number(text)) : dateOf(text) / 1000;
  return Number.isFinite(seconds) ? Math.round(seconds * 1000) / 1000 : undefined;
}

/** What would be in the year 5138 is milliseconds. */
function secondsOf(number: number): number {
  return number < 1e11 ? number : number / 1000;
}

function dateOf(text: string): number {
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return Number.NaN;
  const zoned = /(Z|[+-]\d{2}:?\d{2})$/i.test(text) || text.length === 10;
  return Date.parse(zoned ? text : `${text.replace(' ', 'T')}Z`);
}
