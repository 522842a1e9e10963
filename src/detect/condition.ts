import { ANY, wildcardTest } from './wildcards.ts';

/** An event: a log line or a record of a dataset. */
export type Event = Readonly<Record<string, unknown>>;

/** Whether an event is as a part of a rule says; where it is, the fields that are so are added to `told`. */
export type Holds = (event: Event, told?: Set<string>) => boolean;

/** Holds where all of them do. */
export function every(parts: readonly Holds[]): Holds {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  return (event, told) => {
    if (!parts.every((part) => part(event))) return false;
    if (told !== undefined) for (const part of parts) part(event, told);
    return true;
  };
}

/** Holds where one of them does. */
export function some(parts: readonly Holds[]): Holds {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  return (event, told) => {
    if (told === undefined) return parts.some((part) => part(event));
    return parts.filter((part) => part(event, told)).length > 0;
  };
}

function not(part: Holds): Holds {
  return (event) => !part(event);
}

const MOST_DEPTH = 100;

/** What a condition is read from. */
interface Reader {
  readonly tokens: string[];
  readonly searches: ReadonlyMap<string, Holds>;
  depth: number;
}

/**
 * Reads a condition such as `1 of selection* and not filter` over the searches of a rule.
 * @throws {SyntaxError} with what is wrong with it
 */
export function conditionOf(text: string, searches: ReadonlyMap<string, Holds>): Holds {
  const reader: Reader = { tokens: text.match(/[()|]|[^\s()|]+/g) ?? [], searches, depth: 0 };
  const held = either(reader);
  const [rest] = reader.tokens;
  if (rest === '|') throw new SyntaxError('an aggregation over several events is not supported');
  if (rest?.toLowerCase() === 'near') throw new SyntaxError("'near' is not supported");
  if (rest !== undefined) throw new SyntaxError(`the condition has '${rest}' where 'and' or 'or' is expected`);
  return held;
}

function either(reader: Reader): Holds {
  const parts = [both(reader)];
  while (taken(reader, 'or')) parts.push(both(reader));
  return some(parts);
}

function both(reader: Reader): Holds {
  const parts = [single(reader)];
  while (taken(reader, 'and')) parts.push(single(reader));
  return every(parts);
}

function single(reader: Reader): Holds {
  reader.depth += 1;
  if (reader.depth > MOST_DEPTH) throw new SyntaxError(`the condition is nested deeper than ${MOST_DEPTH}`);
  const held = taken(reader, 'not') ? not(single(reader)) : operand(reader);
  reader.depth -= 1;
  return held;
}

function operand(reader: Reader): Holds {
  const token = reader.tokens.shift();
  if (token === undefined) throw new SyntaxError('the condition ends where a search is expected');
  if (token === '(') {
    const held = either(reader);
    if (!taken(reader, ')')) throw new SyntaxError('the condition opens a bracket and does not close it');
    return held;
  }
  if (taken(reader, 'of')) return quantified(token, reader);
  const held = reader.searches.get(token);
  if (held !== undefined) return held;
  if (token === '|') throw new SyntaxError('an aggregation over several events is not supported');
  throw new SyntaxError(`the condition names '${token}', which the detection does not define`);
}

function quantified(quantity: string, { tokens, searches }: Reader): Holds {
  const pattern = tokens.shift() ?? '';
  if (!/^(1|any|all)$/i.test(quantity)) throw new SyntaxError(`'${quantity} of' is not supported, only 1, any and all`);
  const isHidden = (name: string) => name.startsWith('_') && !pattern.startsWith('_');
  const isMeant = pattern.toLowerCase() === 'them' ? () => true : named(pattern);
  const parts = [...searches].filter(([name]) => isMeant(name) && !isHidden(name)).map(([, held]) => held);
  if (parts.length === 0) throw new SyntaxError(`'${quantity} of ${pattern}' means no search of the detection`);
  return quantity.toLowerCase() === 'all' ? every(parts) : some(parts);
}

function named(pattern: string): (name: string) => boolean {
  return wildcardTest(pattern.split(/(\*)/).flatMap((part) => (part === '' ? [] : [part === '*' ? ANY : part])));
}

function taken(reader: Reader, word: string): boolean {
  if (reader.tokens[0]?.toLowerCase() !== word) return false;
  reader.tokens.shift();
  return true;
}
