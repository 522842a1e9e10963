import type { Meter } from '../http/client.ts';
import type { Paint } from './colour.ts';
import { printable } from './log.ts';

/** What progress is told by. */
export interface Count extends Meter {
  readonly pages: number;
  readonly records: number;
  readonly expected?: number | undefined;
}

/** Shows what is under way. */
export interface Progress {
  begin(tag: string, count: Count): void;
  end(tag: string, verdict: string): void;
  /** Runs a writer of other lines so that they do not mix with the display. */
  around(write: () => void): void;
  stop(): void;
}

/** No display. */
export const silent: Progress = {
  begin: () => undefined,
  end: () => undefined,
  around: (write) => write(),
  stop: () => undefined,
};

const REDRAW = 120;
const PLAIN_EVERY = 15_000;
const MOST_LINES = 16;

/** Lines that are redrawn on a terminal, or said again now and then elsewhere. */
export function createProgress(
  stream: NodeJS.WriteStream,
  tty: boolean,
  paint: Paint,
  say: (line: string) => void,
): Progress {
  const active = new Map<string, { readonly count: Count; readonly since: number }>();
  let drawn = 0;
  const clear = () => {
    if (drawn > 0) stream.write(`\u001b[${drawn}A\u001b[0J`);
    drawn = 0;
  };
  const draw = () => {
    clear();
    const lines = [...active].slice(0, MOST_LINES).map(([tag, { count, since }]) => line(tag, count, since));
    if (active.size > MOST_LINES) lines.push(`... and ${active.size - MOST_LINES} more`);
    const width = stream.columns ?? 80;
    for (const text of lines) stream.write(`${paint.dim('>')} ${printable(text).slice(0, width - 3)}\n`);
    drawn = lines.length;
  };
  const plain = () => {
    for (const [tag, { count, since }] of active) say(line(tag, count, since));
  };
  const timer = setInterval(tty ? draw : plain, tty ? REDRAW : PLAIN_EVERY);
  timer.unref();
  return {
    begin(tag, count) {
      active.set(tag, { count, since: Date.now() });
    },
    end(tag) {
      active.delete(tag);
    },
    around(write) {
      if (tty) clear();
      write();
    },
    stop() {
      clearInterval(timer);
      if (tty) clear();
    },
  };
}

function line(tag: string, count: Count, since: number): string {
  const seconds = Math.max(0.001, (Date.now() - since) / 1000);
  const rate = count.records / seconds;
  const of = count.expected === undefined ? '' : ` of ${count.expected}`;
  const left =
    count.expected === undefined || rate === 0 ? '' : `, ${Math.ceil((count.expected - count.records) / rate)} s left`;
  const wait = Math.ceil(((count.waitingUntil ?? 0) - Date.now()) / 1000);
  const waiting = wait > 0 ? `, waiting ${wait} s for the vendor's limit` : '';
  return `${tag}: ${count.records}${of} records, ${count.pages} pages, ${Math.round(rate)}/s${left}${waiting}`;
}
