import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SpoolWriter } from '../../src/envelope/spool.ts';
import { Journal } from '../../src/run/journal.ts';
import { failureOf } from '../support/failure.ts';

const ONE = { bytes: 8, records: 1 };
const TWO = { bytes: 16, records: 2 };

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-takeover-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('a run that was frozen writes nothing into the spool that another has taken over', async () => {
  const path = join(folder, 'okta_users.ndjson');
  const frozen = await SpoolWriter.create(path);
  await frozen.write([Buffer.from('{"n":1}\n{"n":2}\n')]);
  await frozen.flush();
  const seen: string[] = [];
  const other = await SpoolWriter.resume(path, ONE, async (chunk) => void seen.push(Buffer.from(chunk).toString()));
  expect(seen.join('')).toBe('{"n":1}\n');
  await frozen.write([Buffer.from('{"n":"thawed"}\n')]);
  await frozen.flush();
  await other.write([Buffer.from('{"n":3}\n')]);
  const spool = await other.finish(2);
  await frozen.pause();
  expect(await readFile(spool.path, 'utf8')).toBe('{"n":1}\n{"n":3}\n');
  expect(spool.bytes).toBe(16);
});

test('a run that is stopped while it takes over leaves what there was to the next one', async () => {
  const path = join(folder, 'okta_groups.ndjson');
  const first = await SpoolWriter.create(path);
  await first.write([Buffer.from('{"n":1}\n{"n":2}\n')]);
  await first.flush();
  await first.pause();
  const stopped = async () => {
    throw new Error('stopped');
  };
  await expect(SpoolWriter.resume(path, TWO, stopped)).rejects.toThrow('stopped');
  const next = await SpoolWriter.resume(path, ONE, async () => undefined);
  await next.write([Buffer.from('{"n":3}\n')]);
  expect(await readFile((await next.finish(2)).path, 'utf8')).toBe('{"n":1}\n{"n":3}\n');
});

test('a spool that holds other records than it was left with is not gone on with', async () => {
  const path = join(folder, 'okta_apps.ndjson');
  const first = await SpoolWriter.create(path);
  await first.write([Buffer.from('{"n":1}\n{"n":2}\n')]);
  await first.flush();
  await first.pause();
  const failure = await failureOf(SpoolWriter.resume(path, { bytes: 16, records: 3 }, async () => undefined));
  expect(failure.code).toBe('expired');
});

test('nor into its journal', async () => {
  const path = join(folder, 'okta_users.journal');
  const upload = { upload_id: 'u', timestamp: '2026-01-01T00:00:00Z' };
  const mark = (records: number) => ({ bytes: 8, records, pages: 1, next: null, at: 0 });
  const frozen = await Journal.open(path, upload);
  frozen.mark(mark(1));
  const other = await Journal.open(path, { upload_id: 'v', timestamp: '2026-01-02T00:00:00Z' });
  expect(other.left).toEqual({ ...upload, mark: mark(1) });
  frozen.mark(mark(99));
  other.mark(mark(2));
  frozen.close();
  other.close();
  const last = await Journal.open(path, upload);
  expect(last.left.mark).toEqual(mark(2));
  last.close();
});
