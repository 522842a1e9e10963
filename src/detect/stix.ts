import { isObject, type JsonObject, textAt } from '../json.ts';
import type { Entry } from './indicators.ts';

/** Entries of a STIX 2.1 bundle, or undefined when it is none. */
export function readStix(json: unknown, now: Date): Iterable<Entry> | undefined {
  const one = isObject(json) && json.type === 'indicator' ? [json] : undefined;
  const objects = isObject(json) && json.type === 'bundle' ? json.objects : one;
  if (!Array.isArray(objects)) return undefined;
  return objects.filter(isObject).flatMap((object) => (object.type === 'indicator' ? [...entriesOf(object, now)] : []));
}

function* entriesOf(object: JsonObject, now: Date): Generator<Entry> {
  const at = textAt(object, 'id') ?? 'an indicator without id';
  const note = textAt(object, 'name') ?? textAt(object, 'description');
  const until = Date.parse(textAt(object, 'valid_until') ?? '');
  if (object.revoked === true || until <= now.getTime()) {
    yield { text: '', at, skip: true };
    return;
  }
  const language = textAt(object, 'pattern_type') ?? 'stix';
  if (language !== 'stix') {
    yield { text: '', at, wrong: `its pattern is of type ${language.slice(0, 20)}, of which only stix is read` };
    return;
  }
  const terms = termsOf(textAt(object, 'pattern') ?? '');
  if (typeof terms === 'string') yield { text: '', at, wrong: terms };
  else for (const term of terms) yield { ...term, at, note };
}

type Term = Pick<Entry, 'text' | 'type'>;

const TYPES: readonly (readonly [RegExp, string])[] = [
  [/^(ipv4-addr|ipv6-addr):value$/, 'ip'],
  [/^network-traffic:(src|dst)_ref\.value$/, 'ip'],
  [/^domain-name:value$/, 'domain'],
  [/^url:value$/, 'url'],
  [/^(file|artifact):hashes\..+$/, 'hash'],
  [/^(file:name|directory:path|process:command_line|email-addr:value|user-account:user_id|mutex:name)$/, 'string'],
  [/^(windows-registry-key:key|user-agent:value|email-message:subject)$/, 'string'],
];

const TERM =
  /^\s*([\w-]+:[\w.\-'"[\]*]+)\s*(=|IN|ISSUBSET|MATCHES|LIKE|!=|[<>]=?|NOT|ISSUPERSET)\s*(\(?\s*'(?:[^'\\]|\\.)*'(?:\s*,\s*'(?:[^'\\]|\\.)*')*\s*\)?)\s*/i;

/** The alternatives of a pattern; what needs several things at once cannot be told from one line. */
function termsOf(pattern: string): readonly Term[] | string {
  const terms: Term[] = [];
  let rest = pattern.trim();
  let before = '[';
  while (rest !== '') {
    const open = /^[[(\s]*/.exec(rest)?.[0] ?? '';
    const match = TERM.exec(rest.slice(open.length));
    if (match === null) return 'its pattern is not understood';
    const term = termOf(match[1] ?? '', (match[2] ?? '').toUpperCase(), match[3] ?? '');
    if (typeof term === 'string') return term;
    terms.push(...term);
    rest = rest.slice(open.length + match[0].length);
    const close = /^[\])\s]*/.exec(rest)?.[0] ?? '';
    rest = rest.slice(close.length);
    before = /^(OR|AND|FOLLOWEDBY)\b\s*/i.exec(rest)?.[0] ?? '';
    if (/^(AND|FOLLOWEDBY)/i.test(before)) return 'its pattern asks for several things at once';
    if (rest !== '' && before === '') return 'its pattern is qualified by times or counts';
    rest = rest.slice(before.length);
  }
  return before === '' && terms.length > 0 ? terms : 'its pattern is not understood';
}

function termOf(path: string, operator: string, literals: string): readonly Term[] | string {
  const type = TYPES.find(([known]) => known.test(path))?.[1];
  if (type === undefined) return 'its pattern is about something that is not looked for in lines';
  const values = [...literals.matchAll(/'((?:[^'\\]|\\.)*)'/g)].map(([, text = '']) => text.replace(/\\(.)/g, '$1'));
  switch (operator) {
    case '=':
    case 'IN':
      return values.map((text) => ({ text, type }));
    case 'ISSUBSET':
      return values.map((text) => ({ text, type: 'range' }));
    case 'MATCHES':
      return values.map((text) => ({ text, type: 'regex' }));
    default:
      return 'its pattern compares by other means than =, IN, ISSUBSET and MATCHES';
  }
}
