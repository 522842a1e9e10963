import { tagOf } from '../collectors/collector.ts';

/** The names by which a dataset can be asked for. */
export function namesFor(collector: string, resource: string): readonly string[] {
  return [collector, `${collector}.${resource}`, tagOf(collector, resource)];
}

/** The patterns of a repeated, comma-separated flag. */
export function patternsOf(values: readonly string[]): readonly string[] {
  return values
    .flatMap((value) => value.split(/[,;]/))
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

/** Whether a pattern, perhaps with `*` and `?`, names a dataset. */
export function selects(pattern: string, collector: string, resource: string): boolean {
  const regexp = globOf(pattern);
  return namesFor(collector, resource).some((name) => regexp.test(name));
}

function globOf(pattern: string): RegExp {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${source}$`, 'i');
}

/** The known word nearest to a mistyped one, if any is near. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

/** How many letters apart two words are. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
