import { resolve } from 'node:path';
import type { Json, JsonObject } from '../json.ts';

/** Some events, each a line of its own. */
export interface Piece {
  /** The texts to be searched, each ended by a line feed. */
  readonly lines: Buffer;
  /** They were counted before, and are looked at again to be sure. */
  readonly again?: true;
  /** The event of a line: its number in this piece, and the bytes it takes, without the line feed. */
  eventAt(line: number, start: number, end: number): Event;
  /** Where one goes on behind this piece; undefined where one cannot stop yet. */
  position(): Promise<Json | undefined>;
}

/** An event in which something was found. */
export interface Event {
  /** As a table of log lines has it: device_name, date, event_id and data are always there. */
  readonly device_name: string;
  readonly date: string;
  /** A UUID of version 1 that is always the same for this event. */
  readonly event_id: string;
  readonly data: string;
  /** What it is known by: the same whenever, and from wherever, it is read. */
  readonly key: string;
  /** Everything that is known of it. */
  readonly record: JsonObject;
  /** The field that byte belongs to, and where in the text of the line it begins. */
  fieldAt(byte: number): { readonly name: string; readonly start: number };
}

/** Where events come from. */
export interface Source {
  /** What tells it from others: the same for the same events. */
  readonly place: string;
  /** Whether it goes on until somebody ends it. */
  readonly live: boolean;
  /** What is new behind a position; returns the position behind all of it. */
  read(position: Json | undefined, means: ReadMeans): AsyncGenerator<Piece, Json | undefined>;
  close?(): Promise<void>;
}

/** What reading may need. */
export interface ReadMeans {
  readonly signal: AbortSignal;
  /** A folder for what has to lie on disk meanwhile. */
  readonly scratch: string;
  /** Something could not be read, and is read another time. */
  failed(where: string, thrown: unknown): void;
  /** Something odd that does not stop it. */
  warn(message: string): void;
}

/** The place of files that patterns name: the same in whatever order they are given, and from whatever folder. */
export function placeOf(kind: string, patterns: readonly string[]): string {
  const paths = patterns.map((pattern) => resolve(pattern));
  return `${kind} ${paths.sort().join(' ')}`;
}
