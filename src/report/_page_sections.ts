import type { DatasetStanding, Standing } from '../run/standing.ts';
import { bar, counted, countsChart } from './_page_charts.ts';
import { type Content, html, type Markup, momentOf, tableOf } from './_page_markup.ts';
import { driftText } from './drift.ts';
import type { Told } from './history.ts';
import type { ReportFacts, Section } from './page.ts';
import { ageOf } from './tables.ts';

/** A dataset with the tenancy it is of. */
type Row = DatasetStanding & { readonly tenancy: string };

function rowsOf(standings: readonly Standing[]): readonly Row[] {
  return standings.flatMap(({ tenancy, datasets }) => datasets.map((dataset) => ({ ...dataset, tenancy })));
}

/** How old the last good upload of each dataset is, the oldest first. */
export function freshness({ standings, maxAge }: ReportFacts): Section {
  const age = ({ age_s }: Row) => age_s ?? Number.POSITIVE_INFINITY;
  const rows = rowsOf(standings)
    .toSorted((a, b) => (age(a) === age(b) ? 0 : age(b) - age(a)))
    .map((dataset) => {
      const { tag, tenancy, age_s, goodAt, moments, wrongSince } = dataset;
      const last = moments.at(-1);
      const late = age_s === undefined || (maxAge !== undefined && age_s > maxAge);
      const text = age_s === undefined ? 'never' : `${ageOf(age_s)} ago`;
      return [
        tag,
        tenancy,
        html`<span class="${late ? 'bad' : 'good'}">${text}${late && age_s !== undefined ? ', too old' : ''}</span>`,
        goodAt === undefined ? '' : momentOf(goodAt),
        verdictOf(last?.verdict ?? '', wrongSince),
        counted(last?.records ?? 0),
      ];
    });
  const heads = ['Dataset', 'Tenancy', 'Last good', 'Run of', 'Newest run', 'Records'];
  return {
    id: 'freshness',
    title: 'Freshness',
    content: tableOf('Age of the last good upload, oldest first', heads, rows, [5]),
  };
}

function verdictOf(verdict: string, wrongSince: string | undefined): Markup {
  if (wrongSince === undefined) return html`<span class="good">${verdict}</span>`;
  const whole = verdict === 'complete' || verdict === 'empty';
  const words = whole ? `${verdict}, but a store failed` : verdict;
  return html`<span class="bad">${words}, since ${momentOf(wrongSince)}</span>`;
}

/** What is wrong now: why, since when, and what to do. */
export function failures({ standings, problems }: ReportFacts): Section {
  const datasets = rowsOf(standings).filter(({ wrongSince }) => wrongSince !== undefined);
  const rows = datasets
    .toSorted((a, b) => ((a.wrongSince ?? '') < (b.wrongSince ?? '') ? -1 : 1))
    .flatMap((dataset) => {
      const { tag, tenancy, wrongSince, title, reason, mend, stores } = dataset;
      const since = momentOf(wrongSince ?? '');
      const why: Content[][] =
        reason === undefined ? [] : [[tag, tenancy, since, `${title ?? 'Failed'}: ${reason}`, mend ?? '']];
      const lost = stores.flatMap((store) =>
        store.error === undefined ? [] : [[tag, tenancy, since, failureOf(store), store.mend ?? '']],
      );
      return [...why, ...lost];
    });
  const recorded = standings.flatMap(({ tenancy, last }) =>
    (last?.problems ?? []).map(({ id, where, message, mend }) => [
      where,
      tenancy,
      momentOf(last?.started_at ?? ''),
      `${id}: ${message}`,
      mend,
    ]),
  );
  const now = problems.map(({ id, where, message, mend }) => [where, '', 'now', `${id}: ${message}`, mend]);
  const all = [...rows, ...recorded, ...now];
  const heads = ['What', 'Tenancy', 'Since', 'Cause', 'What to do'];
  const content =
    all.length === 0
      ? html`<p class="good">Nothing is wrong.</p>`
      : tableOf('What is wrong, the oldest first', heads, all);
  return { id: 'failures', title: 'Failures', content };
}

function failureOf({ store, error = '', waits }: Told): string {
  return `${store} did not take it: ${error}${waits ? ' (it waits in the outbox)' : ''}`;
}

/** Which dataset came to which store, and what is configured but never came. */
export function coverage({ standings, configured }: ReportFacts): Section {
  const rows = rowsOf(standings);
  const seen = new Set(rows.filter(({ tenancy }) => tenancy === configured?.tenancy).map(({ tag }) => tag));
  const missing = (configured?.chosen ?? []).filter((tag) => !seen.has(tag));
  const told = rows.flatMap(({ stores }) => stores.map(({ store }) => store));
  const stores = [...new Set([...told, ...(configured?.stores ?? [])])].sort();
  const switched = ({ tag, tenancy }: Row): Content => {
    if (tenancy !== configured?.tenancy) return 'not known here';
    return configured.tags.includes(tag) ? 'yes' : html`<span class="warn">not now</span>`;
  };
  const table = tableOf(
    'What the newest run of each dataset did with it',
    ['Dataset', 'Tenancy', 'Configured', ...stores],
    [
      ...missing.map((tag) => [
        tag,
        configured?.tenancy,
        html`<span class="bad">yes, but never run</span>`,
        ...stores.map(() => '–'),
      ]),
      ...rows.map((row) => [row.tag, row.tenancy, switched(row), ...stores.map((store) => cellOf(row, store))]),
    ],
  );
  const behind = standings.flatMap(({ tenancy, stores: waiting }) =>
    waiting.map(({ store, uploads, bytes, oldest }) => [
      store,
      tenancy,
      uploads,
      `${(bytes / 2 ** 20).toFixed(1)} MiB`,
      momentOf(oldest),
    ]),
  );
  const outbox =
    behind.length === 0
      ? undefined
      : tableOf('Uploads that wait for stores', ['Store', 'Tenancy', 'Uploads', 'Size', 'Oldest'], behind, [2, 3]);
  return { id: 'coverage', title: 'Coverage', content: [table, outbox] };
}

function cellOf({ stores, moments }: Row, name: string): Content {
  const found = stores.find(({ store }) => store === name);
  if (found === undefined) return moments.at(-1)?.verdict === 'empty' ? 'nothing new' : '–';
  if (found.error === undefined) return html`<span class="good">stored</span>`;
  return found.waits ? html`<span class="warn">waits</span>` : html`<span class="bad">failed</span>`;
}

/** What the newest run of each dataset cost: requests, tries again, waits, time. */
export function effort({ standings }: ReportFacts): Section {
  const rows = rowsOf(standings).flatMap(({ tag, tenancy, moments }) => {
    const last = moments.at(-1);
    return last === undefined ? [] : [{ tag, tenancy, ...last }];
  });
  const most = Math.max(...rows.map(({ duration_ms }) => duration_ms));
  const seconds = (ms: number) => (ms / 1000).toFixed(1);
  const cells = rows
    .toSorted((a, b) => b.duration_ms - a.duration_ms)
    .map(({ tag, tenancy, requests, retries, waited_ms, duration_ms }) => [
      tag,
      tenancy,
      counted(requests),
      retries === 0 ? '0' : html`<span class="warn">${counted(retries)}</span>`,
      seconds(waited_ms),
      seconds(duration_ms),
      bar(duration_ms, most),
    ]);
  const sum = (pick: (row: (typeof rows)[number]) => number) => rows.reduce((total, row) => total + pick(row), 0);
  const [requests, retries] = [sum((row) => row.requests), sum((row) => row.retries)];
  const waited = seconds(sum((row) => row.waited_ms));
  const total = `${counted(requests)} requests, ${counted(retries)} of them tries again; ${waited} s spent waiting.`;
  const heads = ['Dataset', 'Tenancy', 'Requests', 'Tried again', 'Waited, s', 'Took, s', 'Share of the longest'];
  return {
    id: 'effort',
    title: 'Requests, retries and waits',
    content: [
      html`<p>${total}</p>`,
      tableOf('Newest run of each dataset, the longest first', heads, cells, [2, 3, 4, 5]),
    ],
  };
}

/** Which fields came, went or changed their type, the newest first. */
export function drifts({ standings }: ReportFacts): Section {
  const all = rowsOf(standings).flatMap(({ tag, tenancy, drifts: found }) =>
    found.map((one) => ({ tag, tenancy, ...one })),
  );
  const rows = all
    .toSorted((a, b) => (a.at === b.at ? 0 : a.at < b.at ? 1 : -1))
    .map(({ tag, tenancy, at, drift }) => [tag, tenancy, momentOf(at), driftText(drift)]);
  const content =
    rows.length === 0
      ? html`<p>No dataset changed its fields in the runs that were read.</p>`
      : tableOf('Changes of fields, the newest first', ['Dataset', 'Tenancy', 'Run of', 'Change'], rows);
  return { id: 'drift', title: 'Schema drift', content };
}

const ALERTS = /(^|_)(alert|detection|incident|finding|threat|vulnerabilit)(s|y|ies)?(_|$)/;

/** Datasets of alerts, detections and findings: how many, and how many more or fewer than before. */
export function alerts({ standings }: ReportFacts): Section | undefined {
  const rows = rowsOf(standings).filter(({ resource }) => ALERTS.test(resource));
  if (rows.length === 0) return undefined;
  const charts = rows.map(({ tag, moments }) => countsChart(tag, moments));
  const cells = rows.map(({ tag, tenancy, moments }) => {
    const whole = moments.filter(({ verdict }) => verdict === 'complete' || verdict === 'empty');
    const [last, before] = [whole.at(-1), whole.at(-2)];
    const change = last === undefined || before === undefined ? '' : signed(last.records - before.records);
    return [tag, tenancy, last === undefined ? 'never whole' : counted(last.records), change];
  });
  const heads = ['Dataset', 'Tenancy', 'Records', 'Since the run before'];
  const content = [
    tableOf('Datasets of alerts, detections and findings', heads, cells, [2, 3]),
    html`<div class="charts">${charts}</div>`,
  ];
  return { id: 'alerts', title: 'Alerts', content };
}

function signed(change: number): string {
  return change > 0 ? `+${counted(change)}` : counted(change);
}
