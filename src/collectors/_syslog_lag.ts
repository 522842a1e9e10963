import { closeLog, contentOf, type Known, openLog, planOf } from './_syslog_files.ts';
import type { Lag } from './collector.ts';

/** Bytes that are counted in lines; of more, only the bytes are told. */
const COUNTED = 2 ** 26;
const LF = 10;

/** How much of the logs was written behind what is known to be read, by what is there now. */
export async function lagOf(logs: readonly string[], known: Readonly<Record<string, readonly Known[]>>): Promise<Lag> {
  let [bytes, lines, newest, read] = [0, 0, 0, Number.POSITIVE_INFINITY];
  for (const log of logs) {
    const files = await openLog(log);
    try {
      for (const { file, from, place } of (await planOf(files, known[log] ?? [])).stretches) {
        bytes += file.size - from;
        newest = Math.max(newest, file.written);
        read = Math.min(read, place?.at ?? Number.POSITIVE_INFINITY);
        if (bytes > COUNTED || file.isPacked) continue;
        for await (const chunk of contentOf(file, from, file.size)) lines += linesIn(chunk);
      }
    } finally {
      await closeLog(files);
    }
  }
  const seconds = read === Number.POSITIVE_INFINITY ? {} : { seconds: Math.max(0, newest - read) / 1000 };
  return { bytes, ...(bytes > COUNTED ? {} : { lines }), ...(bytes === 0 ? { seconds: 0 } : seconds) };
}

function linesIn(chunk: Uint8Array): number {
  let lines = 0;
  for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, at + 1)) lines += 1;
  return lines;
}
