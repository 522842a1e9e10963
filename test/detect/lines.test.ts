import { appendFile, mkdir, rename, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { zoneOf } from '../../src/collectors/_syslog.ts';
import { linesSource } from '../../src/detect/from_lines.ts';
import type { Json } from '../../src/json.ts';
import { temporaryFolder } from '../support/run.ts';

const SETTINGS = { zone: zoneOf('UTC'), year: 2026, most: 65_536 };

/** What is read behind a position: the texts, where one can stop behind each, and what could not be read. */
async function readFrom(pattern: string, position?: Json, between: (read: number) => Promise<void> = async () => {}) {
  const failed: string[] = [];
  const means = {
    signal: new AbortController().signal,
    scratch: '',
    failed: (_: string, thrown: unknown) => void failed.push(String(thrown)),
    warn: () => undefined,
  };
  const pieces: { readonly text: string; readonly position: Json | undefined }[] = [];
  const reading = linesSource([pattern], SETTINGS).read(position, means);
  for (let next = await reading.next(); ; next = await reading.next()) {
    const text = pieces.map((piece) => piece.text).join('');
    if (next.done === true) return { text, pieces, failed, end: next.value };
    pieces.push({ text: next.value.lines.toString(), position: await next.value.position() });
    await between(pieces.length);
  }
}

const linesOf = (name: string, count: number) =>
  Array.from({ length: count }, (_, n) => `Mar  1 10:00:00 web1 x: ${name} ${n} ${'x'.repeat(200)}\n`).join('');

/** A folder for a log, which is there. */
async function logIn(text: string): Promise<string> {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'logs'));
  const log = join(folder, 'logs', 'app.log');
  await writeFile(log, text);
  return log;
}

test('one can stop behind any piece that tells where: what comes then is the rest, also of compressed files', async () => {
  const log = await logIn(linesOf('old', 3000));
  const before = await readFrom(`${log}*`);
  await rename(log, `${log}.1`);
  await writeFile(log, linesOf('new', 3000));
  const known = (await readFrom(`${log}*`, before.end)).end;
  await appendFile(`${log}.1`, linesOf('late', 3000));
  await appendFile(log, linesOf('newer', 3000));
  await writeFile(`${log}.2.gz`, gzipSync(linesOf('packed', 3000)));
  await utimes(`${log}.2.gz`, 0, 0);
  const { text, pieces } = await readFrom(`${log}*`, known);
  expect(text).toBe(['packed', 'late', 'newer'].map((name) => linesOf(name, 3000)).join(''));
  let read = '';
  let stops = 0;
  for (const piece of pieces) {
    read += piece.text;
    if (piece.position === undefined) continue;
    stops += 1;
    expect(read + (await readFrom(`${log}*`, piece.position)).text === text, `behind ${read.length} bytes`).toBe(true);
  }
  expect(stops).toBeGreaterThan(4);
});

test('a file that cannot be read to its end keeps its place, though others of its log moved on', async () => {
  const log = await logIn(linesOf('old', 10));
  const before = await readFrom(log);
  await rename(log, `${log}.1`);
  await writeFile(log, linesOf('new', 10));
  const known = (await readFrom(log, before.end)).end;
  await appendFile(`${log}.1`, linesOf('late', 10));
  await appendFile(log, linesOf('newer', 10));
  const { size } = await stat(log);
  const { failed, end } = await readFrom(log, known, async (read) => {
    if (read === 1) await truncate(log, size - 1);
  });
  expect(failed).toEqual([expect.stringContaining('was cut off while it was read')]);
  await appendFile(log, '\n');
  expect((await readFrom(log, end)).text).toBe(linesOf('newer', 10));
});

test('half a line that is cut off while it is read is no line', async () => {
  const log = await logIn(`${linesOf('old', 2000)}half a line`);
  await utimes(log, 0, 0);
  const { text, failed } = await readFrom(log, undefined, async (read) => {
    if (read === 1) await truncate(log, 300_000);
  });
  expect(failed).toHaveLength(1);
  expect(linesOf('old', 2000).startsWith(text)).toBe(true);
});
