import { createHash } from 'node:crypto';
import type { Problem } from '../errors.ts';
import type { DatasetStanding, Standing } from '../run/standing.ts';
import { counted, countsChart } from './_page_charts.ts';
import { detections } from './_page_detections.ts';
import { type Content, html, type Markup, momentOf, piece, sourceOf, tableOf } from './_page_markup.ts';
import { alerts, coverage, drifts, effort, failures, freshness } from './_page_sections.ts';
import { STYLE } from './_page_style.ts';
import type { TenancyDetections } from './detected.ts';
import type { RunFacts } from './history.ts';

/** What is switched on now. */
export interface Configured {
  readonly tenancy: string;
  readonly tags: readonly string[];
  /** Those of them that the report is of. */
  readonly chosen: readonly string[];
  readonly stores: readonly string[];
}

/** What a report is made of. */
export interface ReportFacts {
  /** When it is made: ISO 8601, UTC. */
  readonly at: string;
  readonly version: string;
  readonly standings: readonly Standing[];
  readonly configured: Configured | undefined;
  /** What is wrong with the configuration now. */
  readonly problems: readonly Problem[];
  /** Seconds from which on a dataset is too old. */
  readonly maxAge: number | undefined;
  /** What `detect` found. */
  readonly detected: readonly TenancyDetections[];
}

/** A part of the page: undefined where there is nothing to show. */
export interface Section {
  readonly id: string;
  readonly title: string;
  readonly content: Content;
}

/** The report as one HTML page that asks nothing of any other place and runs no script. */
export function pageOf(facts: ReportFacts): string {
  const all = [freshness, failures, counts, coverage, effort, drifts, alerts, detections].map((section) =>
    section(facts),
  );
  const sections = all.filter((section) => section !== undefined);
  const style = `style-src 'sha256-${hashOf(STYLE)}'`;
  const policy = `default-src 'none'; ${style}; img-src data:; base-uri 'none'; form-action 'none'`;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${titleOf(facts)}</title>
<style>${piece(STYLE)}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<h1>${titleOf(facts)}</h1>
<p class="soft">Made ${momentOf(facts.at)} UTC from the run records, with cyber-collect ${facts.version}.</p>
<nav aria-label="Sections"><ul>
${sections.map(({ id, title }) => html`<li><a href="#${id}">${title}</a></li>`)}
</ul></nav>
</header>
<main id="content" tabindex="-1">
${overview(facts)}
${sections.map(
  ({ id, title, content }) =>
    html`<section aria-labelledby="${id}"><h2 id="${id}">${title}</h2>\n${content}\n</section>\n`,
)}
</main>
<footer><p>Times are UTC. Ages count from the start of the run that brought the data.
Counts are those that each run recorded.</p></footer>
</body>
</html>
`;
  return sourceOf(page);
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64');
}

function titleOf({ standings }: ReportFacts): string {
  const [only] = standings;
  return `Security data${standings.length === 1 ? ` of ${only?.tenancy}` : ''}: what was collected`;
}

function overview({ standings, maxAge }: ReportFacts): Markup {
  const all = standings.flatMap(({ datasets }) => datasets);
  const wrong = all.filter(({ wrongSince }) => wrongSince !== undefined);
  const late = all.filter(({ age_s }) => age_s === undefined || (maxAge !== undefined && age_s > maxAge));
  const waiting = standings.flatMap(({ stores }) => stores).reduce((sum, { uploads }) => sum + uploads, 0);
  const tile = (count: number, words: string, kind: string) =>
    html`<li><strong class="${count > 0 ? kind : 'good'}">${count}</strong>${words}</li>`;
  return html`<ul class="tiles" aria-label="Overview">
<li><strong>${all.length}</strong>datasets</li>
${tile(wrong.length, 'with something wrong', 'bad')}
${tile(late.length, maxAge === undefined ? 'never came whole' : 'too old, or never whole', 'bad')}
${tile(waiting, 'uploads wait for stores', 'warn')}
</ul>
${runs(standings)}`;
}

function runs(standings: readonly Standing[]): Markup {
  const rows = standings.map(({ tenancy, last, runs, unreadable }) => [
    tenancy,
    last === undefined ? 'none that can be read' : momentOf(last.started_at),
    last === undefined ? '' : tookOf(last),
    last === undefined ? '' : codeOf(last.exit_code),
    runs,
    unreadable.length === 0
      ? 'none'
      : unreadable.map(({ path, finding }) => html`<div class="bad">${path} ${finding}</div>`),
  ]);
  return tableOf(
    'Last run of each tenancy',
    ['Tenancy', 'Started', 'Took', 'Ended with', 'Records read', 'Damaged'],
    rows,
    [4],
  );
}

function tookOf({ started_at, finished_at }: RunFacts): string {
  const seconds = Math.round((Date.parse(finished_at) - Date.parse(started_at)) / 1000);
  return Number.isNaN(seconds) ? '' : `${counted(seconds)} s`;
}

const CODES: Readonly<Record<number, string>> = {
  0: 'complete',
  1: 'a defect of the program',
  2: 'wrong usage or configuration',
  3: 'incomplete data',
  4: 'refused credentials',
  5: 'nothing configured',
  6: 'a store that failed',
  8: 'another run under way',
  9: 'alerts',
  124: 'the deadline passed',
  130: 'interrupted',
  143: 'interrupted',
};

function codeOf(code: number): Markup {
  return html`<span class="${code === 0 ? 'good' : 'bad'}">exit code ${code}: ${CODES[code] ?? 'unknown'}</span>`;
}

function counts({ standings }: ReportFacts): Section {
  const charts = (datasets: readonly DatasetStanding[]) =>
    datasets.map(({ tag, moments }) => countsChart(tag, moments));
  const content = standings.map(
    ({ tenancy, datasets }) => html`<h3>${tenancy}</h3><div class="charts">${charts(datasets)}</div>`,
  );
  return {
    id: 'counts',
    title: 'Counts over time',
    content: [html`<p class="soft">Each chart stands on zero. A cross is a run that went wrong.</p>`, content],
  };
}
