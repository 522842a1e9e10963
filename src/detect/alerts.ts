import { createHash } from 'node:crypto';
import type { Counters } from './counters.ts';
import type { Hit, Matcher } from './matcher.ts';
import type { Event, Piece } from './source.ts';

/** Something that an event fits. */
export interface Rule {
  readonly id: string;
  readonly title: string;
  readonly level?: string;
  /** The fields that fit, or undefined. */
  matches(event: Readonly<Record<string, unknown>>): readonly string[] | undefined;
}

/** What is looked for. */
export interface Search {
  readonly matcher: Matcher;
  readonly rules: readonly Rule[];
  readonly counters: Counters;
}

/** What was found in an event: a record of the dataset syslog_alerts. */
export interface Alert {
  /** The same for the same event and indicator, whenever it is found. */
  readonly alert_id: string;
  readonly device_name: string;
  readonly date: string;
  readonly event_id: string;
  readonly data: string;
  /** The indicator as it is compared, or the id of the rule. */
  readonly indicator: string;
  readonly kind: string;
  /** The list the indicator stands in, and where in it. */
  readonly list?: string;
  readonly line?: string;
  /** What the list says of it. */
  readonly note?: string;
  /** The title of the rule, and how bad it is. */
  readonly title?: string;
  readonly level?: string;
  /** Where it was found; of an indicator one field, and the characters of it. */
  readonly field: string;
  readonly from?: number;
  readonly to?: number;
  readonly matched?: string;
}

/** Alerts that were told before. */
export interface Told {
  /** Whether this one was; from now on it is. */
  has(id: string): boolean;
}

/** What a piece came to. */
export interface Finding {
  readonly events: number;
  readonly alerts: readonly Alert[];
}

const LF = 10;
/** Characters of what matched. */
const MOST_MATCHED = 1000;

/** Searches a piece, and adds to the counts what it holds; an alert is told once, however often it is found. */
export function findIn(piece: Piece, { matcher, rules, counters }: Search, told: Told, counts: Counts): Finding {
  const { lines } = piece;
  if (piece.again !== true) counters.count(lines, counts);
  const alerts: Alert[] = [];
  const tell = (alert: Alert) => {
    if (!told.has(alert.alert_id)) alerts.push(alert);
  };
  const hits = matcher.find(lines);
  let next = 0;
  let line = 0;
  for (let start = 0; start < lines.length; line += 1) {
    const feed = lines.indexOf(LF, start);
    const end = feed < 0 ? lines.length : feed;
    if (rules.length > 0 || (hits[next]?.start ?? lines.length) < end) {
      const event = piece.eventAt(line, start, end);
      for (let hit = hits[next]; hit !== undefined && hit.start < end; hit = hits[next]) {
        tell(alertOf(event, hit, lines.subarray(start, end), start));
        next += 1;
      }
      for (const alert of byRules(event, rules)) tell(alert);
    }
    start = end + 1;
  }
  return { events: piece.again === true ? 0 : line, alerts };
}

/** Counts by name. */
export type Counts = Record<string, number>;

function alertOf(event: Event, { indicator, start, end }: Hit, line: Buffer, offset: number): Alert {
  const { name, start: begin } = event.fieldAt(start - offset);
  const { kind, value, list, at, note } = indicator;
  const matched = line.toString('utf8', start - offset, end - offset);
  const from = charactersOf(line.toString('utf8', begin, start - offset));
  return {
    ...headOf(event, [kind, value, list]),
    ...{ indicator: value, kind, list, line: at.replace(/^line /, '') },
    ...(note === undefined ? {} : { note }),
    ...{ field: name, from, to: from + charactersOf(matched), matched: matched.slice(0, MOST_MATCHED) },
  };
}

function charactersOf(text: string): number {
  let count = text.length;
  for (let at = 0; at < text.length; at += 1) if (isHigh(text.charCodeAt(at))) count -= 1;
  return count;
}

/** Whether a unit is the first of the two that a character beyond U+FFFF takes. */
function isHigh(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xdc00;
}

function* byRules(event: Event, rules: readonly Rule[]): Generator<Alert> {
  for (const rule of rules) {
    const fields = rule.matches(event.record);
    if (fields === undefined) continue;
    yield {
      ...headOf(event, ['rule', rule.id, '']),
      ...{ indicator: rule.id, kind: 'rule', title: rule.title },
      ...(rule.level === undefined ? {} : { level: rule.level }),
      field: fields.join(','),
    };
  }
}

function headOf({ key, device_name, date, event_id, data }: Event, what: readonly string[]) {
  const alert_id = createHash('sha256')
    .update([key, ...what].join('\n'))
    .digest('hex')
    .slice(0, 32);
  return { alert_id, device_name, date, event_id, data };
}
