import { readFileSync, statSync, writeFileSync } from 'node:fs';
import type { Cards } from './cards.ts';

const CARDS = new URL('../rooms.json', import.meta.url);

/** Keeps the cards beside what was built. */
export function keepCards(cards: Cards): void {
  writeFileSync(CARDS, JSON.stringify(cards));
}

/** The cards, unless there are none or one of these files is younger. */
export function readCards(files: readonly URL[]): Cards | undefined {
  const made = statSync(CARDS, { throwIfNoEntry: false })?.mtimeMs;
  if (made === undefined || files.some((file) => statSync(file).mtimeMs > made)) return undefined;
  return JSON.parse(readFileSync(CARDS, 'utf8')) as Cards;
}
