const MIB = 2 ** 20;

/** By how many MiB this process grew, at most, while it did the work. */
export async function growthOf(what: string, work: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage.rss();
  let most = before;
  const sampler = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss());
  }, 20);
  const from = performance.now();
  try {
    await work();
  } finally {
    clearInterval(sampler);
  }
  const growth = Math.round((most - before) / MIB);
  process.stderr.write(`${what}: ${Math.round(performance.now() - from)} ms, RSS grew by ${growth} MiB\n`);
  return growth;
}
