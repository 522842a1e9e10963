/** Exit codes and what each says, the one that counts most first. */
export const exitCodes: ReadonlyMap<number, string> = new Map([
  [130, 'SIGINT; nothing is left half written, the next run goes on. A second signal ends at once'],
  [143, 'SIGTERM; the same'],
  [1, 'a defect of ours'],
  [8, 'another run of the same tenancy and collector holds the lock'],
  [2, 'usage or configuration; the problems are listed, all at once'],
  [124, '--deadline passed (6 hours unless set); the next run goes on'],
  [4, 'every active collector was refused its credentials'],
  [3, 'a dataset failed, was denied, restored or quarantined'],
  [6, 'collected, but a store failed, or uploads wait for one'],
  [5, 'nothing is configured'],
  [0, 'every dataset is complete and stored'],
]);

/** The code of several runs together; 5 when there was none. A code that is not ours is a defect. */
export function worstCode(codes: readonly number[]): number {
  const known = codes.map((code) => (exitCodes.has(code) ? code : 1));
  return [...exitCodes.keys()].find((code) => known.includes(code)) ?? 5;
}
