/** Rows of the first table below a heading, without its head. */
export function rowsBelow(page: string, heading: string): readonly (readonly string[])[] {
  const lines = page.split('\n');
  const from = lines.findIndex((line) => /^#+ /.test(line) && line.replace(/^#+ /, '') === heading);
  const table = lines.slice(from + 1).findIndex((line) => line.startsWith('|'));
  if (from < 0 || table < 0) throw new Error(`there is no table below ${heading}`);
  const rest = lines.slice(from + 1 + table);
  const end = rest.findIndex((line) => !line.startsWith('|'));
  return rest.slice(2, end < 0 ? undefined : end).map((line) =>
    line
      .slice(1, -1)
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim()),
  );
}
