/** Exit codes, the one that counts most first. */
const ORDER = [130, 143, 1, 8, 2, 124, 4, 3, 6, 5, 0];

/** The code of several runs together; 5 when there was none. A code that is not ours is a defect. */
export function worstCode(codes: readonly number[]): number {
  const known = codes.map((code) => (ORDER.includes(code) ? code : 1));
  return ORDER.find((code) => known.includes(code)) ?? 5;
}
