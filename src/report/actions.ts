import type { RunSummary } from '../run/summary.ts';
import { printable } from './log.ts';
import { headline } from './news.ts';
import type { Change } from './standing.ts';
import { table } from './tables.ts';

/** GitHub shows ten of a step. */
const MOST = 10;
/** Bytes; GitHub drops a summary of more than a MiB. */
const LARGEST = 1_000_000;

/** What is wrong, as lines that GitHub Actions shows beside a job: https://docs.github.com/actions (workflow commands). */
export function annotations({ tenancy }: RunSummary, { wrong }: Change): readonly string[] {
  const shown = wrong.length > MOST ? wrong.slice(0, MOST - 1) : wrong;
  const lines = shown.map(({ severity, what, message, mend }) => {
    const text = mend === undefined ? message : `${message}. To mend: ${mend}`;
    const title = inProperty(`cyber-collect ${tenancy}: ${what}`);
    return `::${severity === 'WARNING' ? 'warning' : 'error'} title=${title}::${inMessage(text)}`;
  });
  if (shown.length === wrong.length) return lines;
  return [...lines, `::error title=${inProperty(`cyber-collect ${tenancy}`)}::${wrong.length - shown.length} more`];
}

function inMessage(text: string): string {
  return printable(text).replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}

function inProperty(text: string): string {
  return inMessage(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
}

/** A run as Markdown for the page of a job. */
export function stepSummary(summary: RunSummary, change: Change): string {
  const rows = summary.datasets.map(({ tag, verdict, records, requests, duration_ms, stores }) => [
    tag,
    verdict,
    String(records),
    String(requests),
    `${(duration_ms / 1000).toFixed(1)} s`,
    stores.map(({ store, error }) => (error === undefined ? store : `${store} FAILED`)).join(', '),
  ]);
  const wrong = change.wrong.map(({ what, message, mend, since }) => {
    const age = since === summary.started_at ? 'new' : `since ${since}`;
    return `- **${inMarkdown(what)}**: ${inMarkdown(message)} (${age})${mend === undefined ? '' : `. To mend: ${inMarkdown(mend)}`}`;
  });
  const mended = change.mended.map(({ what, since }) => `- **${inMarkdown(what)}**: mended (was so since ${since})`);
  const head = `## ${inMarkdown(headline({ event: 'run.finished', summary, change }))}`;
  const list = [...wrong, ...mended];
  const short = [head, ...(list.length === 0 ? [] : [list.join('\n')])].join('\n\n');
  const heads = ['Dataset', 'Verdict', 'Records', 'Requests', 'Time', 'Stores'];
  const whole = `${short}\n\n${table(heads, rows, 'markdown')}\n\n`;
  if (Buffer.byteLength(whole) <= LARGEST) return whole;
  return Buffer.byteLength(short) <= LARGEST ? `${short}\n\n` : `${head}\n\n`;
}

/** Text from elsewhere that stays text: no link, no tag, no new paragraph. */
function inMarkdown(text: string): string {
  return printable(text)
    .replace(/\s+/g, ' ')
    .replace(/[\\`*_[\]<>|~#!@]/g, (found) => (found === '<' ? '&lt;' : found === '@' ? '&#64;' : `\\${found}`));
}
