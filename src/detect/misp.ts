import { isObject, type Json, type JsonObject, textAt } from '../json.ts';
import type { Entry } from './indicators.ts';

/** Entries of a MISP event, a list of events or an answer of its API; undefined when it is none. */
export function readMisp(json: unknown): Iterable<Entry> | undefined {
  const events = eventsOf(json);
  return events?.flatMap((event) => attributesOf(event).flatMap((attribute) => [...entriesOf(attribute, event)]));
}

function eventsOf(json: unknown): readonly JsonObject[] | undefined {
  if (Array.isArray(json)) {
    const events = json.map(eventsOf);
    return events.includes(undefined) ? undefined : events.flatMap((event) => event ?? []);
  }
  if (!isObject(json)) return undefined;
  if (json.response !== undefined) return eventsOf(json.response);
  if (isObject(json.Event)) return [json.Event];
  return Array.isArray(json.Attribute) ? [json] : undefined;
}

function attributesOf(event: JsonObject): readonly JsonObject[] {
  const of = (holder: JsonObject) => listOf(holder.Attribute);
  return [...of(event), ...listOf(event.Object).flatMap(of)];
}

function listOf(value: Json | undefined): readonly JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

/** Types by what their parts are; '' is not looked for. Types that are not here are no indicators for lines. */
const TYPES: Readonly<Record<string, readonly string[]>> = {
  ...{ 'ip-src': ['ip'], 'ip-dst': ['ip'], 'ip-src|port': ['ip', ''], 'ip-dst|port': ['ip', ''] },
  ...{ domain: ['domain'], hostname: ['domain'], 'domain|ip': ['domain', 'ip'], 'hostname|port': ['domain', ''] },
  ...{ url: ['url'], uri: ['string'], md5: ['hash'], sha1: ['hash'], sha256: ['hash'], sha512: ['hash'] },
  ...{ filename: ['string'], 'filename|md5': ['', 'hash'], 'filename|sha1': ['', 'hash'] },
  ...{ 'filename|sha256': ['', 'hash'], 'filename|sha512': ['', 'hash'], 'malware-sample': ['', 'hash'] },
  ...{ 'email-src': ['string'], 'email-dst': ['string'], email: ['string'], 'email-subject': ['string'] },
  ...{ 'user-agent': ['string'], mutex: ['string'], regkey: ['string'], 'pattern-in-file': ['string'] },
};

function* entriesOf(attribute: JsonObject, event: JsonObject): Generator<Entry> {
  const at = textAt(attribute, 'uuid') ?? `attribute ${textAt(attribute, 'id') ?? 'without id'}`;
  const kinds = TYPES[textAt(attribute, 'type') ?? ''];
  if (attribute.to_ids === false || attribute.deleted === true || kinds === undefined) {
    yield { text: '', at, skip: true };
    return;
  }
  const value = textAt(attribute, 'value') ?? '';
  const parts = kinds.length === 1 ? [value] : value.split('|');
  const note = textAt(attribute, 'comment') ?? textAt(event, 'info');
  if (parts.length < kinds.length) yield { text: '', at, wrong: 'it has fewer parts than its type names' };
  else for (const [n, type] of kinds.entries()) if (type !== '') yield { text: parts[n] ?? '', type, at, note };
}
