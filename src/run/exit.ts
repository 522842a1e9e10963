/** Exit codes and what each says, the one that counts most first. */
export const exitCodes: ReadonlyMap<number, string> = new Map([
  [130, 'interrupted by SIGINT (Ctrl-C)'],
  [143, 'ended by SIGTERM'],
  [1, 'a defect of ours'],
  [8, 'another run of the same tenancy and collector is at work'],
  [2, 'usage or configuration; all problems are listed at once'],
  [124, '--deadline has passed; what came is kept'],
  [4, 'every active collector was refused its credentials'],
  [3, 'a dataset failed, was denied, restored or quarantined; the others are stored'],
  [6, 'everything was collected, but a store failed, or uploads wait for one'],
  [9, 'detect found what it looks for, and --fail-on-alert was asked'],
  [5, 'nothing is configured'],
  [0, 'every dataset is complete, or rightly empty, and stored'],
]);

/** The code of several runs together; 5 when there was none. A code that is not ours is a defect. */
export function worstCode(codes: readonly number[]): number {
  const known = codes.map((code) => (exitCodes.has(code) ? code : 1));
  return [...exitCodes.keys()].find((code) => known.includes(code)) ?? 5;
}
