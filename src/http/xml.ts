import { SaxesParser } from 'saxes';
import { CollectError } from '../errors.ts';
import { isObject, type Json, type JsonObject } from '../json.ts';
import type { BodyFacts, RecordOptions, Split, Splitter } from './records.ts';

/** Where the records stand in an XML body, and what shape they get. */
export interface XmlOptions {
  /** Names from the root to the element that is a record, with slashes. */
  readonly record: string;
  /** The element that every good answer has, with or without records; by default the one around the records. */
  readonly within?: string;
  /** Names of elements that are arrays even where there is one. */
  readonly lists?: readonly string[];
  /** Most characters outside the records, which are kept until the body ends. */
  readonly maxOutside?: number;
}

interface Element {
  readonly name: string;
  readonly path: string;
  readonly content: JsonObject;
  text: string;
}

const NEW_LINE = Uint8Array.of(0x0a);
const MAX_RECORD = 64 * 2 ** 20;
const MAX_OUTSIDE = 64 * 2 ** 20;
/** What an element takes beside its text. */
const OF_ELEMENT = 16;
const MAX_DEPTH = 100;

/**
 * Takes the records out of an XML body as it streams by. An element becomes its trimmed text, or null without any; with
 * attributes or elements in it an object: `@name` for an attribute, the element's name for what is in it, `#text` for
 * text beside. Elements of `lists` are arrays whatever their number, others where they are repeated. Entities beyond XML's
 * own five are refused, and a document type that declares anything; nothing outside is ever looked up.
 */
export function xmlRecords(xml: XmlOptions): Split {
  return (options) => new XmlSplitter(xml, options);
}

class XmlSplitter implements Splitter {
  readonly #xml: XmlOptions;
  readonly #options: Pick<RecordOptions, 'edit' | 'maxRecord'>;
  readonly #within: string;
  readonly #parser = new SaxesParser({ xmlns: false, position: false });
  readonly #decoder = new TextDecoder('utf-8', { fatal: true });
  readonly #root: Element = { name: '', path: '', content: Object.create(null), text: '' };
  readonly #open: Element[] = [this.#root];
  #lines: Uint8Array[] = [];
  #records = 0;
  #found = false;
  #since = 0; // bytes read since a record ended
  #outside = 0; // characters kept that belong to no record
  #inside = false; // a record

  constructor(xml: XmlOptions, options: Pick<RecordOptions, 'edit' | 'maxRecord'>) {
    this.#xml = xml;
    this.#options = options;
    this.#within = xml.within ?? xml.record.replace(/\/[^/]*$/, '');
    this.#parser.on('error', refuse);
    this.#parser.on('doctype', (text) => {
      if (text.includes('[')) throw new CollectError('refused', 'the answer declares a document type of its own');
    });
    this.#parser.on('xmldecl', ({ encoding = 'utf-8' }) => {
      if (!/^(utf-8|us-ascii)$/i.test(encoding)) throw new CollectError('vendor', 'the answer is not in UTF-8');
    });
    this.#parser.on('opentag', ({ name, attributes }) => this.#begin(name, attributes));
    this.#parser.on('text', (text) => this.#add(text));
    this.#parser.on('cdata', (text) => this.#add(text));
    this.#parser.on('closetag', () => this.#close());
  }

  write(chunk: Uint8Array): readonly Uint8Array[] {
    this.#since += chunk.length;
    this.#parse(() => this.#decoder.decode(chunk, { stream: true }));
    // What came in one chunk may hold the ends of several records.
    if (this.#since > (this.#options.maxRecord ?? MAX_RECORD) + chunk.length) this.#refuseSize();
    const lines = this.#lines;
    this.#lines = [];
    return lines;
  }

  end(): BodyFacts {
    this.#parse(() => this.#decoder.decode());
    this.#parser.close();
    return { records: this.#records, body: this.#root.content, found: this.#found };
  }

  #parse(decode: () => string): void {
    let text: string;
    try {
      text = decode();
    } catch {
      throw new CollectError('vendor', 'the answer is not in UTF-8');
    }
    this.#parser.write(text);
  }

  #begin(name: string, attributes: Readonly<Record<string, string>>): void {
    const parent = this.#open.at(-1) ?? this.#root;
    const path = parent.path === '' ? name : `${parent.path}/${name}`;
    if (this.#open.length > MAX_DEPTH) throw new CollectError('vendor', 'the answer is nested too deep');
    if (path === this.#within) this.#found = true;
    if (path === this.#xml.record) this.#inside = true;
    this.#count(name.length + OF_ELEMENT);
    const content: JsonObject = Object.create(null);
    for (const [key, value] of Object.entries(attributes)) {
      this.#count(key.length + value.length);
      content[`@${key}`] = value;
    }
    this.#open.push({ name, path, content, text: '' });
  }

  #add(text: string): void {
    const element = this.#open.at(-1);
    if (element !== undefined) element.text += text;
    this.#count(text.length);
  }

  /** Each piece outside the records may be small: it is all of them together that must fit in memory. */
  #count(characters: number): void {
    if (this.#inside) return;
    this.#outside += characters;
    const { maxOutside = MAX_OUTSIDE } = this.#xml;
    if (this.#outside > maxOutside)
      throw new CollectError('refused', `more than ${maxOutside} characters stand outside the records`);
  }

  #close(): void {
    const element = this.#open.pop() ?? this.#root;
    const parent = this.#open.at(-1) ?? this.#root;
    const value = jsonOf(element);
    if (element.path === this.#xml.record) this.#take(value);
    else put(parent.content, element.name, value, this.#xml.lists?.includes(element.name) === true);
  }

  #take(value: Json): void {
    const { edit, maxRecord = MAX_RECORD } = this.#options;
    const record = Buffer.from(JSON.stringify(isObject(value) ? value : { '#text': value }));
    if (record.length > maxRecord) this.#refuseSize();
    this.#lines.push(edit?.(record) ?? record, NEW_LINE);
    this.#records += 1;
    this.#since = 0;
    this.#inside = false;
  }

  #refuseSize(): never {
    const most = Math.round((this.#options.maxRecord ?? MAX_RECORD) / 2 ** 20);
    throw new CollectError('refused', `a record is larger than ${most} MiB`, {
      mend: 'raise CYBER_COLLECT_MAX_RECORD_MIB if the vendor really sends such records',
    });
  }
}

/** The parser's own error may quote the body. */
function refuse(): never {
  throw new CollectError('vendor', 'the answer is no XML, or ends in the middle');
}

function jsonOf({ content, text }: Element): Json {
  const trimmed = text.trim();
  if (Object.keys(content).length === 0) return trimmed === '' ? null : trimmed;
  return trimmed === '' ? content : { ...content, '#text': trimmed };
}

function put(content: JsonObject, name: string, value: Json, list: boolean): void {
  const held = content[name];
  if (held === undefined) content[name] = list ? [value] : value;
  else if (Array.isArray(held)) held.push(value);
  else content[name] = [held, value];
}
