import type { RunSummary } from '../run/summary.ts';
import type { Found } from './detected.ts';
import { printable } from './log.ts';
import type { Change } from './standing.ts';

/** What there is to tell of a run. */
export type News =
  | {
      readonly event: 'run.started';
      readonly tenancy: string;
      readonly version: string;
      readonly at: string;
      readonly collectors: readonly string[];
    }
  | { readonly event: 'run.finished'; readonly summary: RunSummary; readonly change: Change }
  | {
      readonly event: 'alerts.raised';
      readonly tenancy: string;
      readonly version: string;
      readonly at: string;
      /** Where the events were read. */
      readonly source: string;
      readonly events: number;
      readonly alerts: number;
      /** The most frequent first. */
      readonly by: readonly Found[];
    };

/** When there is something to tell. */
export type Occasion = 'always' | 'problems' | 'change';

/** Whether news is worth telling. */
export function isWorth(news: News, occasion: Occasion): boolean {
  if (occasion === 'always' || news.event === 'alerts.raised') return true;
  if (news.event === 'run.started') return false;
  return occasion === 'change' ? news.change.changed : news.change.wrong.length > 0;
}

/** What is wrong at most at once; a whole tenancy without credentials has hundreds. */
const MOST = 30;
/** Characters of one line. */
const LONGEST = 600;

/** The news in one sentence. */
export function headline(news: News): string {
  if (news.event === 'run.started') {
    const names = news.collectors.join(', ');
    return `cyber-collect starts for ${news.tenancy}: ${names === '' ? 'nothing is configured' : names}`;
  }
  if (news.event === 'alerts.raised') {
    return `cyber-collect detect for ${news.tenancy}: ${news.alerts} alerts in ${news.events} events of ${news.source}`;
  }
  const { tenancy, exit_code, datasets } = news.summary;
  const good = datasets.filter(({ verdict }) => verdict === 'complete' || verdict === 'empty').length;
  return `cyber-collect ended for ${tenancy} with exit code ${exit_code}: ${good} of ${datasets.length} datasets complete`;
}

/** What is wrong, since when, and what to do; then what no longer is. A line each. */
export function details(news: News): readonly string[] {
  if (news.event === 'run.started') return [];
  if (news.event === 'alerts.raised') return found(news.by).map(oneLine);
  const { summary, change } = news;
  const lines = change.wrong.map(({ what, message, mend, since }) => {
    const age = since === summary.started_at ? 'new' : `since ${since}`;
    return `- ${what}: ${message} (${age})${mend === undefined ? '' : `. To mend: ${mend}`}`;
  });
  const more = lines.length > MOST ? [`- ... and ${lines.length - MOST} more`] : [];
  const mended = change.mended.map(({ what, since }) => `- ${what}: mended (was so since ${since})`);
  return [...lines.slice(0, MOST), ...more, ...mended.slice(0, MOST)].map(oneLine);
}

/** Names and numbers alone: texts of events are for the stores. */
function found(by: readonly Found[]): readonly string[] {
  const lines = by.map(({ indicator, kind, list, level, alerts }) => {
    const where = list === '' ? '' : `, ${list}`;
    return `- ${indicator} (${kind}${where}${level === undefined ? '' : `, ${level}`}): ${alerts}`;
  });
  const more = lines.length > MOST ? [`- ... and ${lines.length - MOST} more`] : [];
  return [...lines.slice(0, MOST), ...more];
}

function oneLine(text: string): string {
  const line = printable(text).replace(/\s+/g, ' ');
  return line.length > LONGEST ? `${line.slice(0, LONGEST)}...` : line;
}
