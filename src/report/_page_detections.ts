import { bar, counted } from './_page_charts.ts';
import { type Content, html, type Markup, momentOf, tableOf } from './_page_markup.ts';
import type { Day, TenancyDetections } from './detected.ts';
import type { ReportFacts, Section } from './page.ts';

/** Rows of a table. */
const MOST = 50;

/** What `detect` found: by indicator or rule, over time, and the newest alerts. */
export function detections({ detected }: ReportFacts): Section | undefined {
  if (detected.length === 0) return undefined;
  const content = detected.map(
    (one) => html`<h3>${one.tenancy}</h3>
<p class="soft">Last looked at ${momentOf(one.at)}.</p>
${most(one)}
${newest(one)}
${days(one)}`,
  );
  return { id: 'detections', title: 'Indicators and rules', content };
}

function most({ tenancy, by }: TenancyDetections): Markup {
  if (by.length === 0) return html`<p class="good">Nothing was found.</p>`;
  const rows = by
    .slice(0, MOST)
    .map(({ indicator, kind, list, level, alerts, at }) => [
      indicator,
      kind,
      list,
      level ?? '',
      counted(alerts),
      momentOf(at),
    ]);
  const heads = ['Indicator or rule', 'Kind', 'List or title', 'Level', 'Alerts', 'Last found'];
  return tableOf(`What was found most in ${tenancy}`, heads, rows, [4]);
}

function newest({ tenancy, newest: alerts }: TenancyDetections): Markup | undefined {
  if (alerts.length === 0) return undefined;
  const rows = alerts
    .slice(0, MOST)
    .map(({ at, date, device_name, indicator, list, text }) => [
      momentOf(at),
      date,
      device_name,
      indicator,
      list,
      html`<code>${text}</code>`,
    ]);
  const heads = ['Found', 'Date of the event', 'Device', 'Indicator or rule', 'List or title', 'Beginning of the text'];
  return tableOf(`Newest alerts of ${tenancy}`, heads, rows);
}

/** Alerts as bars; events and counts in numbers. */
function days({ tenancy, days: all }: TenancyDetections): Markup {
  const names = [...new Set(all.flatMap(({ counts }) => Object.keys(counts)))];
  const peak = Math.max(1, ...all.map(({ alerts }) => alerts));
  const row = ({ day, events, alerts, counts }: Day): readonly Content[] => [
    day,
    counted(events),
    html`${counted(alerts)} ${bar(alerts, peak)}`,
    ...names.map((name) => counted(counts[name] ?? 0)),
  ];
  const numbers = names.map((_, n) => n + 3);
  const heads = ['Day', 'Events', 'Alerts', ...names];
  return tableOf(`Days of ${tenancy}, the newest first`, heads, all.toReversed().map(row), [1, 2, ...numbers]);
}
