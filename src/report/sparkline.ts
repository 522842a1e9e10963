const LEVELS = '▁▂▃▄▅▆▇█';

/** Counts as a row of bars that stand on zero; × where there is none. */
export function sparkline(counts: readonly (number | undefined)[]): string {
  const most = Math.max(1, ...counts.map((count) => count ?? 0));
  return counts
    .map((count) => (count === undefined ? '×' : (LEVELS[Math.round((count / most) * (LEVELS.length - 1))] ?? '')))
    .join('');
}
