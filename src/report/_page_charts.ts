import { html, type Markup } from './_page_markup.ts';
import type { Moment } from './history.ts';

const WIDTH = 240;
const HEIGHT = 56;
const EDGE = 5;

/** A dataset's counts over time: a line on zero, crosses where a run went wrong; the same in words beside it. */
export function countsChart(tag: string, moments: readonly Moment[]): Markup {
  const whole = moments.filter(({ verdict }) => verdict === 'complete' || verdict === 'empty');
  const wrong = moments.filter((moment) => moment.wrong);
  const place = placing(moments);
  const points = whole.map((moment) => place(moment.at, moment.records));
  const line = points.map(([x, y]) => `${x},${y}`).join(' ');
  const last = whole.at(-1);
  const caption = last === undefined ? 'no run brought it whole' : `${counted(last.records)} records${changeOf(whole)}`;
  const faults = wrong.length === 0 ? '' : `, ${wrong.length} of ${moments.length} runs went wrong`;
  const label = `${tag}: records over ${moments.length} runs, ${caption}${faults}`;
  return html`<figure><figcaption><strong>${tag}</strong><br>${caption}${faults}</figcaption>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${label}">
<line class="ground" x1="0" x2="${WIDTH}" y1="${HEIGHT - EDGE}" y2="${HEIGHT - EDGE}"/>
${points.length > 1 ? html`<polyline class="curve" points="${line}"/>` : undefined}
${points.slice(-1).map(([x, y]) => html`<circle class="dot" cx="${x}" cy="${y}" r="3"/>`)}
${wrong.map(({ at }) => cross(place(at, 0)))}
</svg></figure>`;
}

type Point = readonly [x: number, y: number];

function placing(moments: readonly Moment[]): (at: string, records: number) => Point {
  const times = moments.map(({ at }) => Date.parse(at));
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const most = Math.max(1, ...moments.map(({ records }) => records));
  const round = (value: number) => Math.round(value * 10) / 10;
  return (at, records) => {
    const x = to === from ? 1 : (Date.parse(at) - from) / (to - from);
    return [
      round(EDGE + x * (WIDTH - 2 * EDGE)),
      round(HEIGHT - EDGE - (Math.min(records, most) / most) * (HEIGHT - 2 * EDGE)),
    ];
  };
}

function cross([x, y]: Point): Markup {
  return html`<path class="cross" d="M${x - 3} ${y - 3}l6 6m0 -6l-6 6"/>`;
}

function changeOf(whole: readonly Moment[]): string {
  const [first, last] = [whole[0], whole.at(-1)];
  if (first === undefined || last === undefined || first === last) return '';
  const change = last.records - first.records;
  if (change === 0) return `, as many as on ${first.at.slice(0, 10)}`;
  return `, ${counted(Math.abs(change))} ${change > 0 ? 'more' : 'fewer'} than on ${first.at.slice(0, 10)}`;
}

/** A number with its thousands apart. */
export function counted(value: number): string {
  return value.toLocaleString('en-GB');
}

/** A share of the largest as a bar; the number stands beside it. */
export function bar(value: number, most: number): Markup {
  const width = Math.round((value / Math.max(1, most)) * 100);
  return html`<svg class="bars" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
<rect class="bar" width="${width}" height="8"/></svg>`;
}
