/** Any value JSON can say. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** A JSON object. */
export type JsonObject = { [key: string]: Json };

/** Whether a value is a JSON object (not null, not an array). */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The value at a dotted path (`meta.pagination.total`), or undefined. A key that itself holds dots
 * (`@odata.nextLink`) is found before the path is split.
 */
export function at(value: unknown, path: string): Json | undefined {
  if (path === '') return value as Json;
  if (!isObject(value)) return undefined;
  if (path in value) return value[path];
  const dot = path.indexOf('.');
  return dot < 0 ? undefined : at(value[path.slice(0, dot)], path.slice(dot + 1));
}

/** The value at a path as non-empty text; numbers become their digits. */
export function textAt(value: unknown, path: string): string | undefined {
  const found = at(value, path);
  if (typeof found === 'number') return String(found);
  return typeof found === 'string' && found !== '' ? found : undefined;
}

/** The value at a path as a finite number; text of digits counts. */
export function numberAt(value: unknown, path: string): number | undefined {
  const found = at(value, path);
  if (typeof found === 'string' && /^\d+$/.test(found)) return Number(found);
  return typeof found === 'number' && Number.isFinite(found) ? found : undefined;
}
