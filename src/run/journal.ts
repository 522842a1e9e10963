import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { copyFile, rename, stat, truncate } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Spool } from '../envelope/spool.ts';
import { isObject, type Json } from '../json.ts';
import type { DatasetResult } from './summary.ts';

/** How far reading a dataset has come: what its spool holds up to there, and where the list goes on. */
export interface Mark {
  /** Of the spool. */
  readonly bytes: number;
  readonly records: number;
  readonly pages: number;
  readonly expected?: number | undefined;
  readonly next: Json;
  /** Epoch milliseconds. */
  readonly at: number;
}

/** A dataset that was read whole. */
export interface Whole {
  readonly spool: Spool;
  readonly pages: number;
  readonly expected?: number | undefined;
  /** Records that the settings leave out. */
  readonly left_out?: number;
  /** Where reading events goes on next time. */
  readonly cursor?: Json;
}

/** What an interrupted run left of a dataset. */
export interface Left {
  readonly upload_id: string;
  /** When that run began. */
  readonly timestamp: string;
  readonly mark?: Mark;
  readonly whole?: Whole;
  readonly result?: DatasetResult;
}

/** A line of the journal: what the dataset is, a mark, or that what came before does not count. */
type Line = Partial<Omit<Left, 'result'> & { readonly result: DatasetResult; readonly again: true }>;

/**
 * Remembers how far a dataset has come, a line at a time, so that a run that is killed can go on. What a process has
 * written stays when it is killed; a line that was half written is forgotten.
 */
export class Journal {
  readonly left: Left;
  #last: Mark | undefined;
  readonly #file: number;

  private constructor(file: number, left: Left) {
    this.#file = file;
    this.left = left;
  }

  /**
   * Opens the journal at a path; a new one is of this upload. What was there is copied, unless it is of no use: a run
   * that was taken over may still have it open.
   */
  static async open(
    path: string,
    upload: Pick<Left, 'upload_id' | 'timestamp'>,
    useful: (left: Left) => boolean = () => true,
  ): Promise<Journal> {
    const left = await wholeOrNothing(path, await readJournal(path));
    const found = left !== undefined && useful(left) ? left : undefined;
    if (found !== undefined) await replaceByCopy(path);
    else rmSync(path, { force: true });
    const journal = new Journal(openSync(path, 'a', 0o600), found ?? upload);
    if (found === undefined) journal.#write(upload);
    return journal;
  }

  /** The mark before this one. */
  get last(): Mark | undefined {
    return this.#last;
  }

  mark(mark: Mark): void {
    this.#last = mark;
    this.#write({ mark });
  }

  /** The dataset is read from the start. */
  again(): void {
    this.#last = undefined;
    this.#write({ again: true });
  }

  whole(whole: Whole): void {
    this.#write({ whole });
  }

  result(result: DatasetResult): void {
    this.#write({ result });
  }

  close(): void {
    closeSync(this.#file);
  }

  #write(line: Line): void {
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
  }
}

async function replaceByCopy(path: string): Promise<void> {
  await copyFile(path, `${path}.new`);
  await rename(`${path}.new`, path);
}

/** Where the spool lies now; without the claim that it was read whole, where it does not. */
async function wholeOrNothing(path: string, left: Left | undefined): Promise<Left | undefined> {
  if (left?.whole === undefined) return left;
  const spool = { ...left.whole.spool, path: join(dirname(path), basename(left.whole.spool.path)) };
  const size = await stat(spool.path).then(
    (found) => found.size,
    () => -1,
  );
  return size === spool.bytes
    ? { ...left, whole: { ...left.whole, spool } }
    : { upload_id: left.upload_id, timestamp: left.timestamp };
}

async function readJournal(path: string): Promise<Left | undefined> {
  const text = textIn(path);
  const end = text.lastIndexOf('\n') + 1;
  if (end < text.length) await truncate(path, Buffer.byteLength(text.slice(0, end)));
  let left: Left | undefined;
  for (const part of text.slice(0, end).split('\n')) {
    const line = lineOf(part);
    if (line?.again === true && left !== undefined) left = { upload_id: left.upload_id, timestamp: left.timestamp };
    else if (line !== undefined) left = { ...(left ?? { upload_id: '', timestamp: '' }), ...line };
  }
  return left;
}

function textIn(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function lineOf(text: string): Line | undefined {
  try {
    const line: unknown = JSON.parse(text);
    return isObject(line) ? (line as unknown as Line) : undefined;
  } catch {
    return undefined;
  }
}
