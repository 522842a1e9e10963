import { printable } from './log.ts';

const MARKUP = Symbol('markup');

/** A piece of HTML that was made here; text from elsewhere is never one. */
export interface Markup {
  readonly [MARKUP]: string;
}

/** What may stand in a template: text is escaped, pieces are put in as they are. */
export type Content = string | number | Markup | readonly Content[] | undefined;

/** A piece of HTML from a template. */
export function html(parts: TemplateStringsArray, ...values: readonly Content[]): Markup {
  return piece(parts.map((part, n) => `${part}${n < values.length ? textOf(values[n]) : ''}`).join(''));
}

/** The source of a piece. */
export function sourceOf(markup: Markup): string {
  return markup[MARKUP];
}

/** A piece that is written as it is: for constants of this program alone. */
export function piece(source: string): Markup {
  return { [MARKUP]: source };
}

function textOf(value: Content): string {
  if (value === undefined) return '';
  if (typeof value === 'string' || typeof value === 'number') return escaped(String(value));
  return MARKUP in value ? value[MARKUP] : value.map(textOf).join('');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text that neither is markup nor turns what stands around it the other way. */
function escaped(text: string): string {
  return printable(text)
    .replace(/[\u202a-\u202e\u2066-\u2069]/g, '?')
    .replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}

/** A moment of a record: to the minute, UTC; what is none as it stands there. */
export function momentOf(at: string): Markup {
  const time = Date.parse(at);
  if (Number.isNaN(time)) return html`${at}`;
  return html`<time datetime="${at}">${new Date(time).toISOString().slice(0, 16).replace('T', ' ')}</time>`;
}

/** A table with a caption, which may be wider than the page; cells are text or pieces. */
export function tableOf(
  caption: string,
  headings: readonly string[],
  rows: readonly (readonly Content[])[],
  numbers: readonly number[] = [],
): Markup {
  const kind = (n: number) => piece(numbers.includes(n) ? ' class="number"' : '');
  const cells = (row: readonly Content[]) =>
    row.map((cell, n) => (n === 0 ? html`<th scope="row">${cell}</th>` : html`<td${kind(n)}>${cell}</td>`));
  return html`<div class="wide" role="region" tabindex="0" aria-label="${caption}"><table>
<caption>${caption}</caption>
<thead><tr>${headings.map((heading, n) => html`<th scope="col"${kind(n)}>${heading}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${cells(row)}</tr>\n`)}</tbody>
</table></div>`;
}
