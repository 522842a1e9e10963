import { createHash } from 'node:crypto';
import { CollectError } from '../errors.ts';

/** The table beside the datasets' own that lists every upload, also those without records. */
export const UPLOADS = 'cyber_collect_uploads';

/**
 * The tag as a table's name.
 * @throws {CollectError} config
 */
export function tableOf(tag: string): string {
  if (/^[a-z][a-z0-9_]{0,62}$/.test(tag) && tag !== UPLOADS) return tag;
  throw new CollectError('config', `'${tag}' is no name for a table`, {
    mend: 'use a tag of at most 63 lower-case letters, digits and underscores',
  });
}

/** How records lie in tables: whole, with a column for each key, or both. */
export const LAYOUTS = ['raw', 'typed', 'both'] as const;

/** The table of a tag that has a column for each key, beside the one of whole records. */
export function typedOf(tag: string): string {
  return tag.length <= 57 ? `${tag}_typed` : `${tag.slice(0, 48)}_${shortHash(tag)}_typed`;
}

/** The view of a tag's newest upload; a long tag is cut and told apart by a hash, as names end at 63 bytes. */
export function latestOf(tag: string): string {
  if (tag.length <= 56) return `${tag}_latest`;
  return `${tag.slice(0, 47)}_${shortHash(tag)}_latest`;
}

function shortHash(tag: string): string {
  return createHash('sha256').update(tag).digest('hex').slice(0, 8);
}

/** An SQL identifier, quoted. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** The error for a spool that is not what was collected. */
export function damaged(tag: string, found: string): CollectError {
  return new CollectError('store', `the spool of ${tag} is damaged: ${found} are there`, { mend: 'run again' });
}
